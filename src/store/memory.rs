//! Sessions in memory: fast, bounded, gone at exit.
