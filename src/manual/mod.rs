//! The manual, as a book inside the documentation of the crate.
//!
//! An operator begins with [`howto`] and looks things up in [`configuration`], [`fields`] and [`attacks`]; who changes the
//! code begins with [`architecture`] and [`glossary`]. The pages are Markdown files beside this one, and read well without
//! rustdoc. Tests read every example in them with the real configuration code and compare their tables with the values in the
//! code.

#[doc = include_str!("howto.md")]
pub mod howto {}

#[doc = include_str!("deploy.md")]
pub mod deploy {}

#[doc = include_str!("sessions.md")]
pub mod sessions {}

#[doc = include_str!("events.md")]
pub mod events {}

#[doc = include_str!("configuration.md")]
pub mod configuration {}

#[doc = include_str!("fields.md")]
pub mod fields {}

#[doc = include_str!("defaults.md")]
pub mod defaults {}

#[doc = include_str!("attacks.md")]
pub mod attacks {}

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("glossary.md")]
pub mod glossary {}

#[doc = include_str!("progress.md")]
pub mod progress {}
