//! The one integration binary: every module of tests is listed here.
