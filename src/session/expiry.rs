//! Deadlines: pure functions of a record and a time.
