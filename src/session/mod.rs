//! Sessions: ids, tags, records, deadlines, cookies.

pub mod carried;
pub mod cookie;
pub mod data;
pub mod expiry;
pub mod id;
pub mod jar;
pub mod record;
pub mod seal;
pub mod subject;
pub mod tag;
