//! PROXY protocol v1 and v2: read when a listener requires it, never guessed.
