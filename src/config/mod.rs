//! The configuration that runs.
