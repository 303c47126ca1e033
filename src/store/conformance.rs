//! What every store must do, as a suite that an author of a store can run.
