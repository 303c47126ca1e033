//! The bounded recent past of a session: contexts seen, ids replaced.
