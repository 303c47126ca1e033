//! Every key of `portcullis.toml`: one table, from which the JSON Schema and the tables of the manual are made.
//!
//! The reader asks for each key by its name and does not know this table. Tests hold the two together: the keys, the words,
//! the limits and the defaults here are those that the reader knows.

use Fallback::{Absent, Required, Told, Value};
use Kind::{
    Date, Duration, Factor, Flag, List, NamesOrTables, OneOrList, OneOrMore, Path, PathsOrTables, Points, Rate, Size,
    Table as Inner, TableOrOff, Tables, Text, Time, Version, Whole, Word,
};

/// A table of the file.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its keys, joined by dots; empty for the whole file.
    pub path: &'static str,
    /// What it stands under in the manual.
    pub heading: &'static str,
    /// What it is for, in a sentence.
    pub about: &'static str,
    /// What may stand in it, in the order of the manual.
    pub keys: &'static [Key],
}

/// A key of a table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// What holds without it.
    pub fallback: Fallback,
    /// What it means, as it stands in the manual.
    pub meaning: &'static str,
}

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// The number of the format: 1.
    Version,
    /// `true` or `false`.
    Flag,
    /// A whole number between two, both included.
    Whole(u64, u64),
    /// Points of risk, at least one.
    Points,
    /// A number from 0.01 to 1.
    Factor,
    /// A size, `"64KiB"`, between two in bytes.
    Size(u64, u64),
    /// A duration, `"30m"`.
    Duration,
    /// A duration that is not zero.
    Time,
    /// A rate, `"10/1m burst 3"`, or `"off"`.
    Rate,
    /// One of some words.
    Word(&'static [&'static str]),
    /// A text of some form.
    Text(Form),
    /// A path, relative to the folder of the file.
    Path,
    /// A date without quotes.
    Date,
    /// A list.
    List(&'static Self),
    /// One value, or a list.
    OneOrList(&'static Self),
    /// One value, or a list that is not empty.
    OneOrMore(&'static Self),
    /// A table, which stands in [`TABLES`] under its own path.
    Table,
    /// A list of tables, `[[key]]`.
    Tables,
    /// A table, or the word `"off"`.
    TableOrOff,
    /// A list of names of some form, and of tables.
    NamesOrTables(Form),
    /// A list of paths, and of tables.
    PathsOrTables,
}

/// A form of texts.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// The word for it in the manual.
    pub word: &'static str,
    /// A pattern that every good text fits. It is for editors: `check` may know more.
    pub pattern: &'static str,
    /// A good text.
    pub example: &'static str,
}

/// What holds without a key.
#[derive(Clone, Copy, Debug)]
pub enum Fallback {
    /// Nothing: it must be there.
    Required,
    /// This value, as it is written but for quotes.
    Value(&'static str),
    /// What no value can say.
    Told(&'static str),
    /// The values that its own keys have without it.
    Absent,
}

impl Kind {
    /// The word for it in the manual.
    pub fn word(self) -> String {
        let word = match self {
            Self::Version | Self::Whole(..) => "number",
            Self::Flag => "bool",
            Self::Points => "points",
            Self::Factor => "0.01 to 1",
            Self::Size(..) => "size",
            Self::Duration | Self::Time => "duration",
            Self::Rate => "rate",
            Self::Word(_) => "word",
            Self::Text(form) => form.word,
            Self::Path => "path",
            Self::Date => "date",
            Self::List(of) => return format!("list of {}s", of.word()),
            Self::OneOrList(of) | Self::OneOrMore(of) => return format!("{} or list", of.word()),
            Self::Table => "table",
            Self::Tables => "tables",
            Self::TableOrOff => "table or `\"off\"`",
            Self::NamesOrTables(_) | Self::PathsOrTables => "list",
        };
        word.to_owned()
    }
}

impl Table {
    /// The table of a path.
    pub fn find(path: &str) -> Option<&'static Self> {
        TABLES.iter().find(|table| table.path == path)
    }

    /// The path of a key of it.
    pub fn path_of(&self, key: &Key) -> String {
        if self.path.is_empty() { key.name.to_owned() } else { [self.path, ".", key.name].concat() }
    }
}

/// What is called an instance.
const NAME: Form = Form { word: "text", pattern: "^[A-Za-z0-9._-]{1,64}$", example: "edge-1" };
/// An address and a port.
const SOCKET: Form =
    Form { word: "address", pattern: r"^([0-9.]+|\[[0-9A-Fa-f:.%]+\]):[0-9]+$", example: "127.0.0.1:8080" };
/// A network.
const NETWORK: Form = Form { word: "network", pattern: "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$", example: "10.0.0.0/8" };
/// The name of a header.
const HEADER: Form =
    Form { word: "text", pattern: "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", example: "CloudFront-Viewer-JA4-Fingerprint" };
/// Where an app listens.
const LOCATION: Form = Form {
    word: "address",
    pattern: r"^([Hh][Tt][Tt][Pp][Ss]?://[^/?#@\s]+/?|unix:.+)$",
    example: "http://127.0.0.1:8000",
};
/// What `Host` the app sees.
const HOST: Form = Form { word: "text", pattern: r"^[^@/?#\s]+$", example: "pass" };
/// A path to ask for.
const HEALTH: Form = Form { word: "text", pattern: "^/[!\"$-~]*$", example: "/healthz" };
/// The name of our own cookie.
const COOKIE: Form = Form { word: "text", pattern: "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", example: "__Host-portcullis" };
/// The name of a cookie of the app, or the beginning of several.
const COOKIES: Form = Form { word: "name", pattern: r"^[!#$%&'+.^_`|~0-9A-Za-z-]+\*?$", example: "sessionid" };
/// Two programs that share sessions.
const COMPANIONS: Form = Form { word: "pair", pattern: r"^ *[a-z ]+\+[a-z ]+$", example: "okhttp + webview" };
/// A host name with a dot in it.
const DOMAIN: Form = Form { word: "text", pattern: r"^([A-Za-z0-9.-]+\.[A-Za-z0-9.-]+)?$", example: "example.com" };
/// Which requests.
const ROUTE: Form = Form {
    word: "route",
    pattern: concat!(
        "^((GET|HEAD|POST|PUT|DELETE|PATCH|OPTIONS|QUERY|PROPFIND|PROPPATCH|MKCOL|COPY|MOVE|LOCK|UNLOCK|REPORT|SEARCH) )",
        "?/"
    ),
    example: "POST /login",
};
/// Which paths.
const PATH_PATTERN: Form = Form { word: "path pattern", pattern: "^/", example: "/login" };
/// Where the name of a subject stands.
const SUBJECT: Form = Form {
    word: "text",
    pattern: "^(none|form:.+|json:/.*|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+)$",
    example: "form:username",
};
/// A public key of minisign.
const MINISIGN: Form = Form {
    word: "key",
    pattern: "^RW[A-Za-z0-9+/]{54}$",
    example: "RWQBAgMEBQYHCAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
};
/// The way to a field of a record.
const FIELD: Form = Form { word: "text", pattern: r"^[^.]+(\.[^.]+){0,7}$", example: "country.code" };
/// Where the guard listens for its operator.
const ADMIN: Form = Form {
    word: "address",
    pattern: r"^(off|unix:.+|([0-9.]+|\[[0-9A-Fa-f:.%]+\]):[0-9]+)$",
    example: "unix:portcullis-data/admin.sock",
};

/// The modes of rules.
const MODES: &[&str] = &["off", "observe", "enforce"];
/// The packs that come with the program.
const PACKS: &[&str] = &["baseline@1", "strict@1", "observe@1"];
/// What a network may be used for.
const NETWORKS: &[&str] = &["hosting", "vpn", "relay", "tor", "sase", "mobile", "corporate", "residential"];
const STORE_URL: Form = Form { word: "URL", pattern: "^[a-z+]+://.+", example: "redis://127.0.0.1:6379/0" };
const VARIABLE: Form = Form { word: "name of a variable", pattern: "^[^=]+$", example: "PORTCULLIS_STORE" };
const SINK_NAME: Form = Form { word: "name", pattern: "^[a-z0-9_-]{1,32}$", example: "siem" };
const KIND: Form = Form { word: "kind", pattern: r"^[a-z0-9_.]*\*?$", example: "session.*" };
const TAG: Form = Form { word: "text", pattern: "", example: "shop" };
const SYSLOG: Form =
    Form { word: "address", pattern: r"^((tcp|tls|udp)://[^/?#@\s]+|unix:.+)$", example: "tcp://logs.example.net:514" };
const SINK_URL: Form =
    Form { word: "URL", pattern: r"^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@\s]+", example: "https://logs.example.net/" };
const SERVER: Form = Form { word: "server", pattern: r"^(tls://)?[^/?#@\s]+$", example: "tls://logs.example.net:9093" };
const USER: Form = Form { word: "text", pattern: "", example: "portcullis" };
const TOPIC: Form = Form { word: "topic", pattern: "^[A-Za-z0-9._-]{1,249}$", example: "portcullis" };
const NATS_SUBJECT: Form =
    Form { word: "subject", pattern: r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", example: "portcullis.events" };
const LABEL: Form = Form { word: "label", pattern: "^[A-Za-z_][A-Za-z0-9_]*=.+$", example: "env=prod" };
const FINGERPRINT: Form = Form {
    word: "fingerprint",
    pattern: "^[Ss][Hh][Aa]-256:[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31}$",
    example: "sha-256:2c:26:b4:6b:68:ff:c6:8f:f9:9b:45:3c:1d:30:41:34:13:42:2d:70:64:83:bf:a0:f9:8a:5e:88:62:66:e7:ae",
};
const TENANT: Form = Form { word: "text", pattern: r"^[!-~]+$", example: "shop" };
const STORE_PREFIX: Form = Form { word: "prefix", pattern: "^[a-z][a-z0-9_]{0,30}$", example: "portcullis" };

/// What is done while the store can not be asked.
const ON_OUTAGE: &[&str] = &["deny", "anonymous"];

macro_rules! tables {
    ($($(#[doc = $about:literal])+ $path:literal under $heading:literal {
        $($(#[doc = $meaning:literal])+ $name:literal: $kind:expr, $fallback:expr;)+
    })+) => {
        /// Every table of the file, in the order of the manual.
        pub const TABLES: &[Table] = &[$(Table {
            path: $path,
            heading: $heading,
            about: concat!($($about,)+).trim_ascii_start(),
            keys: &[$(Key {
                name: $name,
                kind: $kind,
                fallback: $fallback,
                meaning: concat!($($meaning,)+).trim_ascii_start(),
            },)+],
        },)+];
    };
}

tables! {
    /// Everything that a guard is told.
    "" under "Top level" {
        /// version of this file's format
        "version": Version, Value("1");
        /// what this instance is called in `Via`, `Proxy-Status` and events; give each instance of a chain its own
        "name": Text(NAME), Value("portcullis");
        /// see `[[listen]]`
        "listen": Tables, Told("one");
        /// see `[client]`
        "client": Inner, Absent;
        /// see `[upstream]`
        "upstream": Inner, Absent;
        /// see `[session]`
        "session": Inner, Absent;
        /// see `[store]`
        "store": Inner, Absent;
        /// see `[keys]`
        "keys": Inner, Absent;
        /// see `[[login]]`
        "login": Tables, Told("none");
        /// see `[[logout]]`
        "logout": Tables, Told("none");
        /// see `[[route]]`
        "route": Tables, Told("none");
        /// see `[rules]`
        "rules": Inner, Absent;
        /// see `[limits]`
        "limits": Inner, Absent;
        /// see `[geo]`
        "geo": Inner, Absent;
        /// see `[events]`
        "events": Inner, Absent;
        /// see `[admin]`
        "admin": Inner, Absent;
    }
    /// Where clients connect; without any, on `127.0.0.1:8080`.
    "listen" under "`[[listen]]`" {
        /// IP address and port: `"127.0.0.1:8080"`, `"[::]:8443"`
        "address": Text(SOCKET), Required;
        /// certificate and key, see below; they are read again when the files change
        "tls": Inner, Told("none");
        /// HTTP/2: chosen by ALPN over TLS; on a plain port only with prior knowledge
        "http2": Flag, Told("with `tls`");
        /// `off`, or `required`: every connection begins with a PROXY protocol header (v1 or v2) and comes from a trusted proxy
        "proxy_protocol": Word(&["off", "required"]), Value("off");
    }
    /// The certificate of a listener, and its key; both are read again when the files change.
    "listen.tls" under "`listen.tls`" {
        /// the chain in PEM, the server's own certificate first
        "cert": Path, Required;
        /// the private key in PEM
        "key": Path, Required;
    }
    /// The client side of the proxy: whom to believe, and how much a client may send and how slowly.
    "client" under "`[client]`" {
        /// whose `X-Forwarded-For`, `Forwarded`, `X-Forwarded-Proto` and PROXY headers are believed; read from the right, stopping at the first address that is not in the list
        "trusted_proxies": List(&Text(NETWORK)), Value("[]");
        /// in which header these proxies state the JA4 of a client whose TLS ends at them: `"CloudFront-Viewer-JA4-Fingerprint"`. Its version and ciphers count; from anybody else it is ignored
        "ja4_header": Text(HEADER), Told("none");
        /// measure how much later clients answer within TLS than within TCP, which shows somebody in between (`network.relay`); only in a program that was built with the feature `relay-rtt`
        "relay_rtt": Flag, Value("false");
        /// octets of one request head, and of one trailer section; more is 431
        "header_bytes_max": Size(1024, 1 << 20), Value("32KiB");
        /// lines of one request head; more is 431
        "headers_max": Whole(8, 1000), Value("100");
        /// octets of the request target; more is 414
        "uri_bytes_max": Size(256, 64 << 10), Value("8KiB");
        /// header names with `_`, which many apps take for `-`: `drop` them with an event, or `reject` the request
        "underscore_headers": Word(&["drop", "reject"]), Value("drop");
        /// from the first octet of a head to its last, and for a TLS handshake; then 408
        "header_timeout": Time, Value("10s");
        /// longest silence inside a body, in either direction
        "body_timeout": Time, Value("30s");
        /// octets a second below which a body is too slow, once it has taken ten seconds
        "body_rate_min": Size(0, 1 << 20), Value("128B");
        /// connections open at once; more are closed unread
        "connections_max": Whole(1, 10_000_000), Value("20000");
        /// how long a connection may lie idle between requests
        "idle_connection": Time, Value("60s");
        /// how long a WebSocket or an event stream may be silent
        "tunnel_idle": Time, Value("10m");
        /// how long requests may still run after the signal to stop
        "drain_timeout": Duration, Value("30s");
        /// requests at once on one HTTP/2 connection
        "http2_streams_max": Whole(1, 10_000), Value("100");
        /// HTTP/2 frames that carry no request, allowed per ten seconds
        "http2_glitches_max": Whole(1, 1_000_000), Value("1000");
    }
    /// Where the app is, and how long it may take.
    "upstream" under "`[upstream]`" {
        /// `"http://host:port"`, `"https://host:port"` or `"unix:/path"`; several are balanced
        "url": OneOrMore(&Text(LOCATION)), Told("required, or `--upstream`");
        /// PEM file of the authorities to trust behind `https`
        "ca": Path, Told("the system's");
        /// how one of several is chosen: `least_busy` or `round_robin`
        "balance": Word(&["least_busy", "round_robin"]), Value("least_busy");
        /// what `Host` the app sees: `pass` is the client's; a name replaces it, and the client's goes into `X-Forwarded-Host`
        "host": Text(HOST), Value("pass");
        /// time to open a connection, TLS included; then 504
        "connect_timeout": Time, Value("2s");
        /// time to the head of the answer, and the longest silence inside it; then 504
        "response_timeout": Time, Value("60s");
        /// requests at once, for each location
        "connections_max": Whole(1, 1_000_000), Value("512");
        /// how long a request waits for one of them; then 503
        "queue_timeout": Duration, Value("1s");
        /// how long an unused connection is kept
        "idle_timeout": Time, Value("30s");
        /// octets of a response head
        "header_bytes_max": Size(1024, 1 << 20), Value("64KiB");
        /// asks the app whether it is well, see below
        "health": Inner, Told("none");
    }
    /// Asks the app whether it is well.
    "upstream.health" under "`upstream.health`" {
        /// the path to ask for; any status below 500 is well
        "path": Text(HEALTH), Required;
        /// how often
        "every": Time, Value("5s");
    }
    /// Which cookies are guarded, and how long a session lasts.
    "session" under "`[session]`" {
        /// name of the guard's own cookie; with `domain` it must begin with `__Secure-`
        "cookie": Text(COOKIE), Value("__Host-portcullis");
        /// `session`: the cookie ends with the browser. `app`: it lasts as long as the longest shielded cookie, and never beyond `absolute`
        "persist": Word(&["session", "app"]), Value("session");
        /// the app's cookies that the client never sees: names, or `{ name, kind }`; `*` at the end stands for any ending
        "shield": NamesOrTables(COOKIES), Told("those of all presets");
        /// the app's cookies that pass, and are accepted only beside the session they were set for
        "bind": List(&Text(COOKIES)), Value("[]");
        /// whether it is remembered, as a keyed hash, from which devices and countries a subject logged in during thirty days: one of these devices costs nothing at the next login, and a new country is told (`login.geo_deviation`). Guards that share a store keep it there. With `false` nothing is kept over a restart, for login limits neither
        "remember_devices": Flag, Value("true");
        /// ask browsers for the exact versions of themselves and their machine (`Accept-CH`), which tell two of one version apart; Chromium alone answers
        "accept_ch": Flag, Value("false");
        /// what is added to the app's other cookies, see below
        "harden": Inner, Told("nothing");
        /// longest time without real use
        "idle": Time, Value("30m");
        /// longest time since authentication, or since the beginning if nobody signed in
        "absolute": Time, Value("12h");
        /// age at which the head is offered a successor
        "rotate_every": Time, Value("2m");
        /// how long a superseded tag is served without being evidence
        "grace": Time, Value("60s");
        /// `lax`, `strict`, `none`, or `app`: the loosest of the shielded cookies
        "same_site": Word(&["lax", "strict", "none", "app"]), Value("lax");
        /// shares the cookie with all hosts below this name; `check` says what that costs
        "domain": Text(DOMAIN), Told("none");
        /// for development over plain http: the cookie is called `portcullis` and lacks Secure
        "insecure_http_cookie": Flag, Value("false");
        /// how many sessions a subject may have, see below
        "per_subject_max": Inner, Told("no limit");
        /// until then an app cookie from before the guard is taken into a new session, once per value
        "adopt_until": Date, Told("unset");
        /// how long a quarantined client may take to sign in and get the old session replaced
        "quarantine_max": Time, Value("10m");
    }
    /// A cookie of the app that the client never sees.
    "session.shield" under "An entry of `session.shield`" {
        /// the cookie's name
        "name": Text(COOKIES), Required;
        /// `id`: the value names a session that the app keeps, and a new value means a new session. `state`: the session is in the cookie itself and its value changes all the time
        "kind": Word(&["id", "state"]), Value("id");
    }
    /// What is added to the other cookies of the app.
    "session.harden" under "`session.harden`" {
        /// adds `Secure` where it is missing
        "secure": Flag, Value("false");
        /// adds `HttpOnly` where it is missing
        "http_only": Flag, Value("false");
        /// adds `SameSite` where it is missing: `lax`, `strict` or `none`
        "same_site": Word(&["lax", "strict", "none"]), Told("none");
    }
    /// How many sessions a subject may have.
    "session.per_subject_max" under "`session.per_subject_max`" {
        /// how many
        "sessions": Whole(1, 1_000_000), Required;
        /// at the limit: `evict_oldest`, `refuse` the new one, or `report` only
        "on_limit": Word(&["evict_oldest", "refuse", "report"]), Value("evict_oldest");
    }
    /// Where sessions are kept, and what is done while they can not be asked for.
    "store" under "`[store]`" {
        /// `embedded`: one file on this machine. `file`: a file for each session. `memory`: gone after a restart. For several
        /// guards: `redis`, `postgres` or `mysql`, with a `url`; `sqlite` for several on one machine. `sealed`: each client
        /// carries its own, in cookies
        "kind": Word(&["memory", "embedded", "file", "redis", "postgres", "mysql", "sqlite", "sealed"]), Value("embedded");
        /// for `sealed`: where it is remembered which sessions have ended
        "ended": Word(&["embedded", "redis", "postgres", "mysql", "sqlite"]), Value("embedded");
        /// folder of a store on this machine, and of what is known of devices (`devices`, sealed with the keys)
        "path": Path, Value("portcullis-data");
        /// where Redis or the database is, such as `redis://127.0.0.1:6379/0` or `postgres://name@host/database`
        "url": Text(STORE_URL), Absent;
        /// in place of `url`: the environment variable that holds it, for one with a password
        "url_env": Text(VARIABLE), Absent;
        /// how long a session is served without asking Redis or the database again; without it they are asked for every request
        "cache": Time, Absent;
        /// how long Redis or the database may take to answer
        "timeout": Time, Value("2s");
        /// what the names of keys in Redis begin with; the table of a database is this and `_sessions`. Of the store `sealed` both are
        /// this and `_ended`
        "prefix": Text(STORE_PREFIX), Value("portcullis");
        /// how many replicas of Redis must have a login, a new id or an end before it is answered, so that none is lost with the primary;
        /// when they do not have it within three quarters of `timeout`, the store counts as out for this request
        "replicas": Whole(0, 9), Value("0");
        /// while the store cannot be asked: `deny` requests that show a session, or serve them as a stranger's (`anonymous`)
        "on_outage": Word(ON_OUTAGE), Value("deny");
    }
    /// Where the keys of tags, jars and hashes are kept.
    "keys" under "`[keys]`" {
        /// keys of tags, jars and hashes; made on the first run, readable by its owner alone
        "file": Path, Told("`keys.toml` in `portcullis-data`");
    }
    /// One way to sign in: list all of them.
    "login" under "`[[login]]`" {
        /// the request that carries the credentials; with a method, else each look at the form is an attempt
        "route": Text(ROUTE), Required;
        /// what the answer looks like when they were right; everything that is given must hold
        "success": Inner, Told("see below");
        /// who signs in: `form:NAME`, `json:/POINTER`, `header:NAME`, or `none`
        "subject": Text(SUBJECT), Value("none");
        /// how often it may be tried; `"off"` turns both limits and the delay off
        "limit": TableOrOff, Told("see below");
    }
    /// What the answer looks like when the credentials were right; everything that is given must hold.
    "login.success" under "`login.success`" {
        /// one of these
        "status": OneOrMore(&Whole(100, 599)), Value("[302, 303]");
        /// `Location` leads to one of these
        "location": OneOrList(&Text(PATH_PATTERN)), Told("any");
        /// `Location` leads to none of these
        "location_not": OneOrList(&Text(PATH_PATTERN)), Told("none");
        /// the app sets a cookie of this name
        "set_cookie": Text(COOKIES), Told("none");
    }
    /// How often a login may be tried.
    "login.limit" under "`login.limit`" {
        /// attempts of one client, whatever the name
        "per_client": Rate, Value("10/1m burst 3");
        /// attempts on one name, whatever the client; those whose name only the app can read are counted for each network
        "per_subject": Rate, Value("5/5m burst 3");
        /// the longest delay after failures; `"0s"` turns the delay off, an hour is the most
        "delay_max": Duration, Value("30s");
        /// a device from which this name has signed in before has a count of its own; `counted` treats it like any other
        "known_device": Word(&["exempt from per_subject", "counted"]), Value("exempt from per_subject");
    }
    /// A request that signs out.
    "logout" under "`[[logout]]`" {
        /// the request that signs out; its session ends unless the answer is an error (400 and above)
        "route": Text(ROUTE), Required;
    }
    /// What differs on some paths; the first one that matches is meant.
    "route" under "`[[route]]`" {
        /// which requests
        "path": Text(ROUTE), Required;
        /// `off`, `observe` or `enforce`; never higher than that of `[rules]`
        "mode": Word(MODES), Told("that of `[rules]`");
        /// the packs in force here
        "packs": List(&Word(PACKS)), Told("those of `[rules]`");
        /// a shorter idle timeout here; past it the client has to sign in again before it gets here
        "idle": Time, Told("that of `[session]`");
        /// a shorter absolute timeout here
        "absolute": Time, Told("that of `[session]`");
        /// authentication must be younger than that, else the request goes on as a stranger's; a person who goes there by hand or by a link of the site is asked to sign in again
        "fresh": Time, Told("none");
        /// less risk is enough for a quarantine
        "sensitive": Flag, Value("false");
        /// requests here keep no session alive, unless they change something (`POST` and the like): polling
        "passive": Flag, Value("false");
        /// requests of one client here
        "limit": Rate, Told("none");
        /// as there
        "on_outage": Word(ON_OUTAGE), Told("that of `[store]`");
    }
    /// Which evidence is weighed, and what follows.
    "rules" under "`[rules]`" {
        /// `baseline@1`, `strict@1`, `observe@1`; in force wherever no route names others
        "packs": List(&Word(PACKS)), Value("[\"baseline@1\"]");
        /// rules of your own: `rules/*.toml`; one `*` in the name; the folder must be there; files of scenarios are left out
        "files": List(&Path), Value("[]");
        /// public keys of minisign: with any, each rules file, and each file of a set, needs a signature by one of them; see `rules/README.md`
        "signed_by": List(&Text(MINISIGN)), Value("[]");
        /// the highest counter of each signed file that was in force; read and written only with `signed_by`
        "counters": Path, Told("`rules.counters` beside the keys");
        /// where what rules see is recorded: `{ path, max_bytes }`, addresses and subjects as `[events.privacy]` shows them; see `rules/README.md`; counts from the next start
        "record": Inner, Told("off");
        /// programs of one app that share sessions on one network, such as its native part and the browser inside it: `"okhttp + webview"`
        "companions": List(&Text(COMPANIONS)), Value("[]");
        /// the ceiling for all routes: `off`, `observe` or `enforce`
        "mode": Word(MODES), Value("enforce");
        /// see `[rules.risk]`
        "risk": Inner, Absent;
    }
    /// From how many points on what is done.
    "rules.risk" under "`[rules.risk]`" {
        /// from here on the evidence is reported
        "observe": Points, Value("20");
        /// from here on a successor is offered at once
        "rotate": Points, Value("35");
        /// from here on the request goes on without credentials
        "quarantine": Points, Value("50");
        /// from here on the session ends
        "terminate": Points, Value("100");
        /// the time in which points halve
        "half_life": Time, Value("15m");
        /// what `quarantine` is multiplied by on sensitive routes
        "sensitive_factor": Factor, Value("0.6");
    }
    /// Where what rules see is recorded, for `portcullis replay` and `explain`.
    "rules.record" under "`rules.record`" {
        /// the file; others on the machine cannot read it
        "path": Path, Required;
        /// octets of it and of the one before, which is kept when it is begun anew
        "max_bytes": Size(64 << 10, 1 << 40), Value("64MiB");
    }
    /// Requests, sessions and guesses above which the answer is 429; `"off"` turns a limit off.
    "limits" under "`[limits]`" {
        /// requests of one client: an IPv4 address or an IPv6 /64
        "client": Rate, Value("100/1s burst 200");
        /// requests of one network: an IPv4 /24 or an IPv6 /48
        "prefix": Rate, Value("off");
        /// requests of one session
        "session": Rate, Value("50/1s burst 100");
        /// requests of one subject, over all its sessions
        "subject": Rate, Value("off");
        /// new anonymous sessions of one network
        "anonymous_sessions": Rate, Value("600/1m");
        /// unknown, forged and malformed session ids of one client
        "guesses": Rate, Value("30/1m burst 60");
        /// clients, sessions and so on that each limit can tell apart; 16 bytes each
        "keys_max": Whole(1000, 100_000_000), Value("1000000");
    }
    /// What is known of addresses: databases that tell country, network and position, and lists that tell what networks are
    /// used for. All of them are read again when their files are replaced.
    "geo" under "`[geo]`" {
        /// databases in MaxMind's format (country, city, ASN, anonymous IP), asked in this order: paths, or `{ path, fields }`
        "databases": PathsOrTables, Value("[]");
        /// see `[[geo.list]]`
        "list": Tables, Told("none");
        /// entries of one list; a longer one is a fault
        "entries_max": Whole(1, 10_000_000), Value("1000000");
        /// takes the networks of Zscaler, Netskope and Cisco Umbrella for gateways that inspect TLS (`sase`)
        "built_in": Flag, Value("true");
    }
    /// A database whose fields do not stand where most have them.
    "geo.databases" under "`geo.databases`" {
        /// the file
        "path": Path, Required;
        /// where it has its fields, see below
        "fields": Inner, Told("where MaxMind, DB-IP, IPinfo and ip-location-db have them");
    }
    /// Where the records of one database have a field: keys joined by dots, a number is a place in a list (`as.0.number`). A
    /// field that is named stands there and nowhere else.
    "geo.databases.fields" under "`geo.databases.fields`" {
        /// the two letters of the country
        "country": Text(FIELD), Told("the usual");
        /// the number of the autonomous system
        "asn": Text(FIELD), Told("the usual");
        /// degrees north, a number of any type or a text
        "latitude": Text(FIELD), Told("the usual");
        /// degrees east
        "longitude": Text(FIELD), Told("the usual");
        /// the radius in kilometres in which the address probably is
        "radius": Text(FIELD), Told("the usual");
        /// what the network is used for: our words, or MaxMind's of `connection_type` and `user_type`
        "kind": Text(FIELD), Told("the usual");
    }
    /// A list of networks that are all used for the same. What it says holds against what databases say; of several lists
    /// `tor` goes before `relay`, `sase`, `vpn`, `hosting`, and that before the rest.
    "geo.list" under "`[[geo.list]]`" {
        /// the file
        "path": Path, Required;
        /// what its networks are used for
        "kind": Word(NETWORKS), Required;
        /// `plain`: a network, an address or an AS number on each line, comments behind `#` or `;`. `csv`: the first column is one of these; of relays the second is the country. `asn`: AS numbers with or without `AS`. `auto`: `csv` if the first line has a comma, else `plain`
        "format": Word(&["auto", "plain", "csv", "asn"]), Value("auto");
    }
    /// What is told of events, and where.
    "events" under "`[events]`" {
        /// events that may wait to be written
        "queue": Whole(64, 1 << 24), Value("8192");
        /// see `events.repeat`
        "repeat": Inner, Absent;
        /// see `[events.privacy]`
        "privacy": Inner, Absent;
        /// see `[[events.sink]]`
        "sink": Tables, Told("one");
        /// see `events.journal`
        "journal": Inner, Told("none");
    }
    /// Events on disk, in order, so that none is lost and a change is noticed; counts from the next start.
    "events.journal" under "`events.journal`" {
        /// the file; others on the machine cannot read it. Older parts stand beside it, by the number of their first event
        "path": Path, Required;
        /// octets that are kept; the oldest events go first
        "max_bytes": Size(1 << 20, 1 << 44), Value("2GiB");
        /// how long events are kept, at the least; without it as long as there is room
        "max_age": Time, Absent;
        /// how long an event may wait until it is on disk, whatever happens; `"0s"` is for not at all
        "sync": Duration, Value("1s");
        /// whether each line has a hash over itself and all before it, and seals are made, for `portcullis events verify`
        "chain": Flag, Value("true");
    }
    /// How storms of one event are cut short.
    "events.repeat" under "`events.repeat`" {
        /// time in which events of one kind and source are counted together; `"0s"` writes all
        "window": Duration, Value("60s");
        /// how many of them are written before the rest becomes one `events.repeated`
        "first": Whole(1, 1_000_000), Value("3");
    }
    /// How plainly addresses and subjects are shown.
    "events.privacy" under "`[events.privacy]`" {
        /// addresses in `full`, `truncate` (/24, /48), or as a `pseudonym` (keyed hash)
        "ip": Word(&["full", "truncate", "pseudonym"]), Value("full");
        /// subjects as they are (`plain`) or as a keyed hash (`hmac`)
        "subject": Word(&["plain", "hmac"]), Value("plain");
    }
    /// Where events are written; without any, to standard output as JSON lines.
    "events.sink" under "`[[events.sink]]`" {
        /// `stdout`, `file`, or one that sends to another program from the journal: `syslog`, `journald`, `webhook`, `loki`, `otlp`, or in a program that was built with these features `kafka`, `nats`
        "type": Word(&["stdout", "file", "syslog", "journald", "webhook", "loki", "otlp", "kafka", "nats"]), Required;
        /// what it is called in messages, in metrics and on the command line; how far it has come is kept under this name
        "name": Text(SINK_NAME), Told("its type");
        /// the file of `file`, opened again on SIGHUP and when it was renamed; the socket of `journald`
        "path": Path, Told("required for `file`");
        /// `json`, `human` (for people), `ecs` (Elastic Common Schema 9.4), `ocsf` (1.8), `cef` or `syslog` (RFC 5424, with the JSON line as its message). Of a `syslog` sink it is the form of the message: `json`, `ecs`, `ocsf` or `cef`; of a `webhook` `json`, `ecs` or `ocsf`
        "format": Word(&["json", "human", "ecs", "ocsf", "cef", "syslog"]), Value("json");
        /// the mildest severity written: `info`, `notice`, `warn` or `critical`
        "min": Word(&["info", "notice", "warn", "critical"]), Value("info");
        /// the kinds written, such as `login.failed`; `session.*` is for all that begin so
        "kinds": OneOrList(&Text(KIND)), Told("all");
        /// words of rules, of which an event must have one
        "tags": OneOrList(&Text(TAG)), Told("any or none");
        /// see `events.sink.privacy`
        "privacy": Inner, Absent;
        /// where a syslog server is: `tcp://` (octet counting), `tls://`, `udp://` with a host and perhaps a port, or `unix:` and a socket
        "address": Text(SYSLOG), Told("required for `syslog`");
        /// under which facility messages are logged
        "facility": Word(&["user", "daemon", "auth", "authpriv", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"]), Value("authpriv");
        /// where a `webhook`, `loki` or `otlp` takes events; without a path at `/loki/api/v1/push` and `/v1/logs`
        "url": Text(SINK_URL), Told("required for these");
        /// the variable with the secret that a `webhook` is signed with (Standard Webhooks): `whsec_` and base64; while one is replaced both, with a space between them
        "secret_env": Text(VARIABLE), Told("this or `secret_file` for `webhook`");
        /// the same in a file
        "secret_file": Path, Told("none");
        /// servers of `kafka` (brokers, port 9092) or `nats` (port 4222), of which one is enough: `host:port`, with `tls://` in front of all of them or none
        "servers": OneOrMore(&Text(SERVER)), Told("required for these");
        /// where records go in `kafka`; the topic must be there
        "topic": Text(TOPIC), Told("required for `kafka`");
        /// what subjects of `nats` begin with; the kind of the event comes behind it, and a stream of JetStream must take them
        "subject": Text(NATS_SUBJECT), Told("required for `nats`");
        /// as whom to sign in to `kafka` or `nats`, with the password in `auth_env` or `auth_file`
        "user": Text(USER), Told("none");
        /// how `kafka` is shown the password (SASL): `scram-sha-512`, `scram-sha-256`, or `plain` within TLS
        "mechanism": Word(&["scram-sha-512", "scram-sha-256", "plain"]), Value("scram-sha-512");
        /// the variable with what is sent as `Authorization`, such as `Bearer` and a token; for `kafka` and `nats` the password of `user`; for `nats` without one a token, the seed of a key, or what stands in a `.creds` file
        "auth_env": Text(VARIABLE), Told("none");
        /// the same in a file
        "auth_file": Path, Told("none");
        /// whether `url` may lead to a private address, and may be without TLS; whether `servers` may be without TLS
        "allow_private": Flag, Value("false");
        /// labels that events get in Loki beside `event`, `severity`, `action` and `node`
        "labels": OneOrList(&Text(LABEL)), Told("none");
        /// the tenant in Loki (`X-Scope-OrgID`)
        "tenant": Text(TENANT), Told("none");
        /// the authorities that the receiver's certificate must be signed by, as PEM
        "ca": Path, Told("those of the system");
        /// in place of `ca`: the SHA-256 of the receiver's certificate, which is believed then whoever signed it and whatever name stands in
        /// it, as `openssl x509 -fingerprint -sha256` tells it with `sha-256:` in front; several while it is replaced
        "fingerprint": OneOrList(&Text(FINGERPRINT)), Told("none");
        /// a certificate that the receiver is shown, as PEM
        "cert": Path, Told("none");
        /// its key, as PEM
        "key": Path, Told("none");
        /// the most events that are sent at once; a `webhook` has one in each request
        "batch": Whole(1, 1000), Value("100");
        /// how long the receiver may take for them
        "timeout": Time, Value("10s");
    }
    /// How plainly this sink shows addresses and subjects; what the journal hides it can not show.
    "events.sink.privacy" under "`events.sink.privacy`" {
        /// as in `[events.privacy]`
        "ip": Word(&["full", "truncate", "pseudonym"]), Told("as there");
        /// as in `[events.privacy]`
        "subject": Word(&["plain", "hmac"]), Told("as there");
    }
    /// How `portcullis sessions` reaches the running guard.
    "admin" under "`[admin]`" {
        /// `"unix:/path"`, a loopback address with a port, or `"off"`; never the public listener
        "address": Text(ADMIN), Value("unix:portcullis-data/admin.sock");
        /// the token that must be shown on a loopback address; made when it is first needed, readable by its owner alone
        "token_file": Path, Value("portcullis-data/admin.token");
    }
}
