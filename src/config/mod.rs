//! The configuration that runs: what `portcullis.toml` says, resolved.
//!
//! `raw` reads what was typed, [`resolve`](resolve::resolve) makes [`Settings`] of it and reports every fault at once,
//! [`load`] is the part that touches files, [`Watcher`] notices when one of them changes.

mod assemble;
mod fault;
mod files;
pub mod keys;
mod network;
mod policy;
mod preset;
mod raw;
mod reload;
pub mod resolve;
mod settings;

pub use assemble::AssembleError;
pub use fault::{Fault, Faults, Level, Spot};
pub use files::{Loaded, Request, load};
pub use network::{
    Balance, Client, Health, Http2, Listen, Location, ProxyProtocol, TlsFiles, UnderscoreHeaders, Upstream,
};
pub use policy::{Activity, Limits, Login, Pack, Risk, Route, Rules, Sensitivity, SubjectSource, Success};
pub use preset::{Preset, UnknownPreset};
pub use raw::FILE_BYTES_MAX;
pub use reload::{Change, POLL_EVERY, Watcher};
pub use settings::{
    Admin, AdminAddress, Enforcement, EventSink, Events, OnOutage, Session, Settings, SinkFormat, SinkTarget, Store,
    StoreKind,
};
