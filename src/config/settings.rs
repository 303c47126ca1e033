//! Everything a guard is told, as plain data.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::geo::Geo;
use super::network::{Client, Listen, Upstream};
use super::policy::{Limits, Login, Route, Rules};
use super::sink::EventSink;
use crate::clock::Timestamp;
use crate::event::encode::Privacy;
use crate::event::journal;
use crate::event::queue::RepeatSettings;
use crate::facts::route::RoutePattern;
use crate::limit::LimitSettings;
use crate::rules::{ExactHints, Memory};
use crate::session::cookie::{CookiePattern, GuardCookieSettings, Hardening, Persist, ShieldName};
use crate::session::expiry::Deadlines;
use crate::store::SubjectLimit;

/// Everything a guard is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What this instance is called in `Via`, `Proxy-Status` and events.
    pub name: String,
    /// Where to listen; never empty.
    pub listen: Vec<Listen>,
    /// The client side of the proxy.
    pub client: Client,
    /// The upstream side; its list of locations is never empty.
    pub upstream: Upstream,
    /// Cookies and deadlines.
    pub session: Session,
    /// Where sessions are kept.
    pub store: Store,
    /// The file with the keys.
    pub keys_file: PathBuf,
    /// How logins are recognised.
    pub logins: Vec<Login>,
    /// Which requests log out.
    pub logouts: Vec<RoutePattern>,
    /// What is judged, and what follows.
    pub rules: Rules,
    /// Rates by client, session and so on.
    pub limits: Limits,
    /// What differs on some paths; the first that matches is meant.
    pub routes: Vec<Route>,
    /// What is known of addresses.
    pub geo: Geo,
    /// Where events go.
    pub events: Events,
    /// How a running guard is talked to.
    pub admin: Admin,
    /// Whether deadlines and limits act too, or only report (`run --observe`).
    pub enforcement: Enforcement,
}

impl Settings {
    /// The sections of `newer` that a running guard does not take over: it has opened what they name.
    pub fn kept_until_restart(&self, newer: &Self) -> Vec<&'static str> {
        let all = [
            ("listen", self.listen == newer.listen),
            ("store", self.store.kind == newer.store.kind),
            ("events", self.events == newer.events),
            ("admin", self.admin == newer.admin),
            ("name", self.name == newer.name),
            ("rules.record", self.rules.record == newer.rules.record),
        ];
        all.into_iter().filter(|(_, is_same)| !is_same).map(|(section, _)| section).collect()
    }

    /// The files besides rules that a change of should be noticed: certificates, databases, lists, keys.
    pub fn files(&self) -> Vec<PathBuf> {
        let tls = self.listen.iter().filter_map(|listen| listen.tls.as_ref());
        tls.flat_map(|tls| [tls.cert.clone(), tls.key.clone()])
            .chain(self.geo.files().cloned())
            .chain([self.keys_file.clone()])
            .chain(self.upstream.ca.clone())
            .collect()
    }

    /// Where the counters of signed rules are kept.
    pub fn counters(&self) -> PathBuf {
        self.rules.counters.clone().unwrap_or_else(|| self.keys_file.with_file_name("rules.counters"))
    }

    /// The limits of the whole guard, those of routes and logins included, in the order of
    /// [`routes`](Self::routes) and [`logins`](Self::logins).
    pub fn limit_settings(&self) -> LimitSettings {
        LimitSettings {
            client: self.limits.client,
            prefix: self.limits.prefix,
            session: self.limits.session,
            subject: self.limits.subject,
            anonymous_sessions: self.limits.anonymous_sessions,
            guesses: self.limits.guesses,
            routes: self.routes.iter().map(|route| route.limit).collect(),
            logins: self.logins.iter().map(|login| login.limit).collect(),
            keys_max: self.limits.keys_max,
        }
    }
}

/// Whether deadlines and limits act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforcement {
    /// They do.
    #[default]
    Full,
    /// They are reported, and nothing is refused or ended by them.
    ReportOnly,
}

/// `[session]`: cookies and deadlines.
#[derive(Clone, Debug)]
pub struct Session {
    /// Our own cookie.
    pub cookie: GuardCookieSettings,
    /// Whether it outlives the browser's session.
    pub persist: Persist,
    /// The app's cookies that the client never sees.
    pub shield: Vec<ShieldName>,
    /// The app's cookies that pass, bound to ours.
    pub bind: Vec<CookiePattern>,
    /// What is remembered of subjects.
    pub memory: Memory,
    /// Whether browsers are asked for exact versions.
    pub hints: ExactHints,
    /// What is added to the app's other cookies.
    pub harden: Hardening,
    /// How long sessions last.
    pub deadlines: Deadlines,
    /// Age of the head at which a successor is offered.
    pub rotate_every: Duration,
    /// How long a superseded tag is served without evidence.
    pub grace: Duration,
    /// How many sessions a subject may have.
    pub per_subject_max: Option<SubjectLimit>,
    /// Until when app cookies from before the guard are taken over.
    pub adopt_until: Option<Timestamp>,
    /// How long a quarantine lasts at most.
    pub quarantine_max: Duration,
}

/// `[store]`: where sessions are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Which store.
    pub kind: StoreKind,
    /// What happens while it can not be asked.
    pub on_outage: OnOutage,
}

/// Which store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// In memory: a restart logs everyone out.
    Memory,
    /// In one file, in a folder of this machine.
    Embedded(PathBuf),
    /// In a file for each session, in a folder of this machine.
    File(PathBuf),
    /// In Redis or in a database.
    Server(StoreServer),
    /// In cookies of its client; where it is remembered which have ended. That is embedded or a server.
    Sealed(Box<Self>),
}

impl StoreKind {
    /// The folder of this machine in which the store is, or what is kept beside it.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Memory => None,
            Self::Embedded(folder) | Self::File(folder) => Some(folder),
            Self::Server(server) => Some(&server.folder),
            Self::Sealed(ended) => ended.folder(),
        }
    }

    /// What is asked over a connection.
    pub fn server(&self) -> Option<&StoreServer> {
        match self {
            Self::Memory | Self::Embedded(_) | Self::File(_) => None,
            Self::Server(server) => Some(server),
            Self::Sealed(ended) => ended.server(),
        }
    }
}

/// What a store is kept in that is asked over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// Redis or Valkey.
    Redis,
    /// PostgreSQL.
    Postgres,
    /// MySQL or MariaDB.
    Mysql,
    /// SQLite: a file of this machine.
    Sqlite,
}

impl ServerKind {
    /// How its URLs begin; for Redis a `+` and what kind of server it is may follow.
    pub const fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::Redis => &["redis", "rediss", "valkey", "valkeys"],
            Self::Postgres => &["postgres", "postgresql"],
            Self::Mysql => &["mysql", "mariadb"],
            Self::Sqlite => &["sqlite"],
        }
    }

    /// Whether a URL is one of its.
    pub fn is_named_by(self, url: &str) -> bool {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        self.schemes().contains(&scheme.split('+').next().unwrap_or_default())
    }

    /// The schemes as they stand in messages. A URL itself does not, since it may hold a password.
    pub fn expected(self) -> String {
        let schemes: Vec<String> = self.schemes().iter().map(|scheme| format!("`{scheme}://`")).collect();
        format!("the URL of this store begins with {}", schemes.join(" or "))
    }
}

/// A store that is asked over a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreServer {
    /// What it is kept in.
    pub kind: ServerKind,
    /// Where it is.
    pub url: ServerUrl,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// How long a session is served without asking it again; none: it is asked for every request.
    pub cache: Option<Duration>,
    /// What the names of its keys or tables begin with.
    pub prefix: String,
    /// How many replicas of Redis must have new sessions, new ids and ends before they are acknowledged.
    pub replicas: u32,
    /// The folder of what is kept beside it: known devices, the keys unless they are elsewhere.
    pub folder: PathBuf,
}

/// Where a server is. It may hold a password, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub enum ServerUrl {
    /// At this URL.
    Given(String),
    /// At the URL in the environment variable of this name.
    Env(String),
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given(..)"),
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
        }
    }
}

/// What happens while the store can not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOutage {
    /// Requests are refused.
    Deny,
    /// They reach the app as a stranger's.
    Anonymous,
}

/// `[events]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// Events that can wait to be written.
    pub queue: usize,
    /// How storms are cut short.
    pub repeat: RepeatSettings,
    /// How plainly addresses and subjects are shown.
    pub privacy: Privacy,
    /// Where they are kept on disk, in order.
    pub journal: Option<journal::Settings>,
    /// Where they go.
    pub sinks: Vec<EventSink>,
}

/// `[admin]`: how a running guard is talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens for that.
    pub address: AdminAddress,
    /// The file with the token that must be shown.
    pub token_file: PathBuf,
}

/// Where the guard listens for its operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// Nowhere.
    Off,
    /// `127.0.0.1:9090`
    Tcp(SocketAddr),
    /// `unix:/run/portcullis.sock`
    Unix(PathBuf),
}
