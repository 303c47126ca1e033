//! The guard as a tower layer.
