//! Session ids, their digests, and the public reference of a session.
