//! Policy: routes, logins, thresholds, modes.
