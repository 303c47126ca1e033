//! The configuration that runs: what `portcullis.toml` says, resolved.
//!
//! `rules::page` reads what was typed, [`resolve`](resolve::resolve) makes [`Settings`] of it and reports every fault at once,
//! [`load`] is the part that touches files, [`Watcher`] notices when one of them changes.

mod assemble;
pub mod counters;
mod devices;
mod durable;
mod files;
mod geo;
mod hide;
pub mod keys;
mod network;
mod places;
mod policy;
mod preset;
mod reading;
mod record;
pub mod reference;
mod reload;
pub mod resolve;
mod rulebook;
mod schema;
mod settings;
mod signed;
mod sink;

pub use crate::rules::FILE_BYTES_MAX;
pub use crate::rules::Pack;
pub use crate::rules::diagnostic::{Fault, Faults, Level, Spot};
pub use assemble::{AssembleError, TOMBSTONES};
pub use devices::DeviceFile;
pub use files::{Attempt, Loaded, Request, inspect, load, load_again, settings_of};
pub use geo::{Geo, GeoFile, GeoList};
pub use network::{
    Balance, Client, Health, Http2, Listen, Location, ProxyProtocol, TlsFiles, UnderscoreHeaders, Upstream,
};
pub use places::{PlacesError, places};
pub use policy::{Activity, Limits, Login, Recording, Risk, Route, Rules, Sensitivity, SubjectSource, Success};
pub use preset::{Preset, UnknownPreset};
pub use reading::{read_bytes, read_named, read_text};
pub use record::Recorder;
pub use reload::{Change, POLL_EVERY, Watched, Watcher};
pub use rulebook::Rulebook;
pub(crate) use rulebook::is_scenarios;
pub use schema::schema;
pub use settings::{
    Admin, AdminAddress, Enforcement, Events, OnOutage, ServerKind, ServerUrl, Session, Settings, Store, StoreKind,
    StoreServer,
};
pub use signed::{NotAKey, RulesKey, SignedFile};
pub use sink::{Cluster, EventSink, HttpServer, Remote, RemoteKind, SecretError, SecretFrom, SinkFormat, SinkTarget};
