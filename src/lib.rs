//! Portcullis: a session guard.
//!
//! It stands in front of a web application, owns the only session cookie the browser ever sees, and decides for every
//! request whether the one who shows that cookie is still the one it was given to.

#[cfg(feature = "config")]
pub mod admin;
pub mod clock;
#[cfg(feature = "config")]
pub mod config;
pub mod connection;
#[cfg(feature = "proxy")]
pub mod delivery;
#[cfg(feature = "config")]
pub mod drive;
pub mod enforce;
pub mod engine;
pub mod entropy;
pub mod event;
pub mod facts;
pub mod figures;
pub mod fingerprint;
pub mod history;
#[cfg(feature = "layer")]
pub mod layer;
pub mod limit;
pub mod manual;
pub mod net;
#[cfg(feature = "proxy")]
pub mod proxy;
#[cfg(feature = "config")]
mod rehearsal;
pub mod rules;
#[cfg(feature = "config")]
pub mod scenario;
pub mod secret;
pub mod session;
pub mod signal;
#[cfg(feature = "config")]
pub mod simulate;
pub mod store;
pub mod verdict;
