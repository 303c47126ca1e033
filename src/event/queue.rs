//! The way of an event: two bounded lanes to a writer thread.
