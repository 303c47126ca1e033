//! The guard as a reverse proxy.
