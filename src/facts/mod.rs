//! Everything known of one request before any judgement, borrowed from it.

pub mod client_ip;
pub mod geo;
pub mod headers;
pub mod hop;
pub mod networks;
pub mod order;
mod pattern;
pub mod readings;
pub mod route;
pub mod seen;
pub mod user_agent;
