//! User agents: family, major version, system.
