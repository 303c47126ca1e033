//! Where sessions are kept: the trait every store implements.

pub mod conformance;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod memory;
