//! Which address a request came from, when proxies stand in between.
