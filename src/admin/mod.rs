//! The running guard answers its operator.
