//! The one integration binary: every module of tests is listed here.
#![cfg(test)] // clippy then knows that all of it is tests

#[path = "../e2e/mod.rs"]
mod e2e;
mod support;
mod tidy;
