//! Signals and the detectors that raise them.
