//! What the transport told us about a connection, kept for every request on it.

pub mod proxy_protocol;
