//! Rate limits by key, bounded in memory.
