//! The one integration binary: every module of tests is listed here.
#![cfg(test)] // clippy then knows that all of it is tests

mod admin;
mod attacks;
mod demo;
mod docs;
mod drive;
#[path = "../e2e/mod.rs"]
mod e2e;
mod engine_counts;
mod engine_deadlines;
mod engine_events;
mod engine_jar;
mod engine_limits;
mod engine_login;
mod engine_modes;
mod engine_quarantine;
mod engine_rotation;
mod engine_routes;
mod engine_rules;
mod engine_together;
mod events;
mod examples;
mod fields_page;
mod geo_real;
mod layer;
mod migrate;
mod model_rotation;
mod presets;
mod program;
mod proxy_basic;
mod proxy_deadlines;
mod proxy_forward;
mod proxy_framing;
mod proxy_gate;
mod proxy_guard;
mod proxy_http2;
mod proxy_prints;
mod proxy_threads;
mod proxy_tls;
mod proxy_upgrade;
mod proxy_upstream;
mod recording;
mod rules_files;
mod rules_program;
mod schema;
mod scripts;
#[cfg(all(feature = "redis", feature = "sql"))]
mod sealed;
mod service;
mod sessions;
#[cfg(all(feature = "redis", feature = "sql"))]
mod several_nodes;
mod signed_rules;
mod simulate;
mod soak;
mod stats;
#[cfg(any(feature = "redis", feature = "sql"))]
mod store_cached;
mod store_conformance;
mod store_crash;
#[cfg(feature = "redis")]
mod store_redis;
#[cfg(feature = "sql")]
mod store_sql;
mod support;
mod tidy;
