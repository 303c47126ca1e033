//! Real apps, unchanged, bare and behind the guard.
//!
//! `tests/install` fetches Django, Express, Taplo and minisign. Where they are missing a story is skipped with a note, unless
//! `PORTCULLIS_TEST_ALL` is set, as `make test` does: then it fails.

mod app;
mod bare;
mod browsers;
mod django;
mod editor;
mod express;
mod guard;
mod minisign;
pub(crate) mod process;
mod stories;
