//! From a verdict to what is done about it.
