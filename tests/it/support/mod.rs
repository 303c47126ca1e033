//! What the stories are told with.

pub(crate) mod browser;
#[cfg(feature = "sql")]
pub(crate) mod databases;
pub(crate) mod http;
pub(crate) mod jar;
pub(crate) mod json_schema;
pub(crate) mod minisign;
pub(crate) mod namespace;
pub(crate) mod origin;
pub(crate) mod program;
pub(crate) mod receivers;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod running;
pub(crate) mod signal;
pub(crate) mod stored;
pub(crate) mod wire;
pub(crate) mod world;
