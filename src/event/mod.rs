//! Security events: one typed record of what happened.

pub mod encode;
pub mod queue;
pub mod sink;
