//! Durable sessions in one file, with redb.
