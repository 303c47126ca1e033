//! What the stories are told with.

pub(crate) mod browser;
pub(crate) mod http;
pub(crate) mod jar;
