//! Which components moved between two fingerprints, and how far.
