//! What of a client is compared: small, versioned components.

pub mod drift;
