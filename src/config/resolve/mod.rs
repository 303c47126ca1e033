//! From what was typed to what runs: pure, and every fault at once.
//!
//! Defaults, then the preset, then the file, then the command line; what comes later replaces, key by key. A list and a
//! `[[table]]` are replaced as a whole, so that what a file says is all there is to read.

mod events;
mod geo;
mod policy;
mod routes;
mod session;
mod sinks;
mod store;
mod upstream;
mod weak;
mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use super::{
    Admin, AdminAddress, Client, Enforcement, Geo, Limits, Listen, Location, Preset, Rules, Settings, Upstream,
};
use crate::clock::Timestamp;
use crate::rules::diagnostic::{Fault, Faults, Level};
use crate::rules::page::{Notes, Reader, Spots, page};
use crate::verdict::Mode;

pub(super) use sinks::{SinkKeys, sink_kinds};
pub use upstream::LocationError;

/// The file that is read when no other is named, if it is there.
pub const FILE_NAME: &str = "portcullis.toml";

/// What is to be resolved.
#[derive(Clone, Copy, Debug, Default)]
pub struct Input<'a> {
    /// The file: as the user named it, and what is in it.
    pub file: Option<(&'a Path, &'a str)>,
    /// The preset under it.
    pub preset: Option<Preset>,
    /// What the command line says over it.
    pub overrides: Option<&'a Overrides>,
}

/// What the command line of `run` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--upstream`
    pub upstream: Option<Location>,
    /// `--listen`
    pub listen: Option<SocketAddr>,
    /// `--observe`: report only.
    pub enforcement: Enforcement,
}

/// Settings that can run.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The settings.
    pub settings: Settings,
    /// What is weak or odd about them.
    pub warnings: Vec<Fault>,
}

/// Resolves settings. `now` is for dates that lie behind or far ahead.
///
/// # Errors
/// When anything is wrong: all faults, and the warnings among them.
pub fn resolve(input: &Input<'_>, now: Timestamp) -> Result<Resolved, Faults> {
    let base = input.file.and_then(|(path, _)| path.parent()).unwrap_or(Path::new(""));
    let mut settings = defaults(base);
    let mut notes = Notes { faults: Vec::new(), spots: Spots::default() };
    if let Some(preset) = input.preset {
        add(&mut notes, read(&format!("preset {preset}"), preset.text(), base, &mut settings));
    }
    if let Some((path, text)) = input.file {
        add(&mut notes, read(&path.to_string_lossy(), text, base, &mut settings));
    }
    if let Some(overrides) = input.overrides {
        override_with(&mut settings, overrides);
    }
    let Notes { mut faults, spots } = notes;
    let broken = faults.iter().any(|fault| fault.level == Level::Fault);
    let mut weak = weak::review(&settings, &spots, now, if broken { weak::Read::InPart } else { weak::Read::All });
    // What could not be read has been told; that it is missing only follows from that.
    weak.retain(|weak| weak.key.is_empty() || !faults.iter().any(|fault| fault.key.starts_with(&weak.key)));
    faults.append(&mut weak);
    let faults = Faults::sorted(faults);
    if faults.is_fatal() { Err(faults) } else { Ok(Resolved { settings, warnings: faults.0 }) }
}

fn add(notes: &mut Notes, mut more: Notes) {
    notes.faults.append(&mut more.faults);
    notes.spots.append(more.spots);
}

fn read(name: &str, text: &str, base: &Path, settings: &mut Settings) -> Notes {
    page(name, text, base, |reader| apply(reader, settings))
}

/// Reads `[[login]]`, `[[logout]]` and `[[route]]`.
pub(crate) fn read_routes(reader: &Reader<'_>, settings: &mut Settings) {
    routes::logins(reader, &mut settings.logins);
    routes::logouts(reader, &mut settings.logouts);
    routes::routes(reader, &mut settings.routes);
}

/// What runs if nobody says anything. Paths are relative to the folder of the file.
pub(crate) fn defaults(base: &Path) -> Settings {
    Settings {
        name: "portcullis".to_owned(),
        listen: vec![Listen::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)))],
        client: Client::default(),
        upstream: Upstream::default(),
        session: session::defaults(),
        store: store::store_defaults(base),
        keys_file: base.join("portcullis-data/keys.toml"),
        logins: Vec::new(),
        logouts: Vec::new(),
        rules: Rules::default(),
        limits: Limits::default(),
        routes: Vec::new(),
        geo: Geo::default(),
        events: events::defaults(),
        admin: Admin {
            address: AdminAddress::Unix(base.join("portcullis-data/admin.sock")),
            token_file: base.join("portcullis-data/admin.token"),
        },
        enforcement: Enforcement::Full,
    }
}

/// Reads everything there is.
fn apply(reader: &Reader<'_>, settings: &mut Settings) {
    if let Some(version) = reader.value("version")
        && version.whole::<u64>(0..=u64::MAX).is_some_and(|version| version != 1)
    {
        version.fault("this program reads version 1 of the file", None);
    }
    if let Some(name) = reader.value("name") {
        let read = name.parsed("a name such as \"edge-1\"", |text| {
            let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
            let fits = plain && (1..=64).contains(&text.len());
            fits.then(|| text.to_owned()).ok_or("expected 1 to 64 letters, digits, `-`, `.` or `_`")
        });
        crate::rules::page::set(&mut settings.name, read);
    }
    wire::listen(reader, &mut settings.listen);
    reader.table("client", |reader| wire::client(reader, &mut settings.client));
    reader.table("upstream", |reader| upstream::read(reader, &mut settings.upstream));
    reader.table("session", |reader| session::read(reader, &mut settings.session));
    reader.table("store", |reader| store::store(reader, &mut settings.store));
    reader.table("keys", |reader| crate::rules::page::set(&mut settings.keys_file, reader.path("file")));
    read_routes(reader, settings);
    reader.table("rules", |reader| policy::rules(reader, &mut settings.rules));
    reader.table("limits", |reader| policy::limits(reader, &mut settings.limits));
    reader.table("geo", |reader| geo::geo(reader, &mut settings.geo));
    reader.table("events", |reader| events::read(reader, &mut settings.events));
    reader.table("admin", |reader| events::admin(reader, &mut settings.admin));
}

fn override_with(settings: &mut Settings, overrides: &Overrides) {
    if let Some(upstream) = &overrides.upstream {
        settings.upstream.locations = vec![upstream.clone()];
    }
    if let Some(listen) = overrides.listen {
        settings.listen = vec![Listen::plain(listen)];
    }
    settings.enforcement = overrides.enforcement;
    if overrides.enforcement == Enforcement::ReportOnly {
        settings.rules.mode = settings.rules.mode.min(Mode::Observe);
    }
}

#[cfg(test)]
mod tests;
