//! The one integration binary: every module of tests is listed here.
#![cfg(test)] // clippy then knows that all of it is tests

mod proxy_basic;
mod proxy_deadlines;
mod proxy_framing;
#[path = "../e2e/mod.rs"]
mod e2e;
mod layer;
mod support;
mod tidy;
