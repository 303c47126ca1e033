//! Verdicts: ordered actions with their reasons.
