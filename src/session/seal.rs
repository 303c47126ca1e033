//! The sealed form of a jar and of a record.
