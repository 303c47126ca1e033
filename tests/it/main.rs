//! The one integration binary: every module of tests is listed here.
#![cfg(test)] // clippy then knows that all of it is tests

mod engine_jar;
mod proxy_basic;
mod proxy_deadlines;
mod proxy_framing;
#[path = "../e2e/mod.rs"]
mod e2e;
mod support;
mod tidy;
