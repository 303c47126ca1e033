//! Where event lines go.
