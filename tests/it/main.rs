//! The one integration binary: every module of tests is listed here.

mod proxy_basic;
mod proxy_deadlines;
mod proxy_forward;
mod proxy_framing;
mod proxy_gate;
mod proxy_http2;
mod proxy_tls;
mod proxy_upgrade;
mod proxy_upstream;
mod support;
