//! The one integration binary: every module of tests is listed here.

mod proxy_basic;
mod proxy_deadlines;
mod proxy_framing;
mod support;
