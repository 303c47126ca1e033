//! The fields that rules may read: one table, from which the checker, the JSON Schema, `portcullis fields`, `explain` and
//! the manual are made.
//!
//! A field is known or unknown for a request. Unknown never counts as a match, unless a rule says `unknown = "fire"`.

use std::fmt;

use crate::facts::user_agent::{DeviceClass, Family, Os};
use crate::signal::SignalKind;

/// What kind of value a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A span of time.
    Duration,
    /// A text.
    Text,
    /// A list of texts.
    Texts,
    /// An address.
    Ip,
}

impl Type {
    /// The word for it in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "a bool",
            Self::Int => "an int",
            Self::Duration => "a duration",
            Self::Text => "a string",
            Self::Texts => "a list of strings",
            Self::Ip => "an ip",
        }
    }

    /// The word for it in `[facts]` and tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Duration => "duration",
            Self::Text => "string",
            Self::Texts => "strings",
            Self::Ip => "ip",
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// When a field is known at the earliest. A rule runs in the latest phase of the fields that it reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// From the request alone, before the store is asked.
    #[default]
    Client,
    /// With the session.
    Session,
    /// When the points are added up.
    Risk,
    /// With the app's answer.
    Response,
}

impl Phase {
    /// The word for it in tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Session => "session",
            Self::Risk => "risk",
            Self::Response => "response",
        }
    }
}

/// How texts of a field are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Byte for byte.
    Exact,
    /// ASCII letters of either case are one.
    Ignored,
    /// So they are, and where whole texts are compared a slash at the end is overlooked: an app may do so too.
    Path,
}

macro_rules! fields {
    ($($(#[doc = $doc:literal])+ $field:ident = $name:literal: $kind:ident in $phase:ident $(($attribute:ident))? $(as $unit:literal)?,
        unknown $unknown:literal, $example:literal;)+) => {
        /// A field.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Field {
            $($(#[doc = $doc])+ $field,)+
            /// `signal.*`: the points that a detector gives this request; 0 if it saw nothing.
            Signal(SignalKind),
            /// `facts.*`: declared by the host in `[facts]`, by its place there.
            Host(u16),
        }

        impl Field {
            /// All that are always there, without signals and the host's.
            pub const PLAIN: &[Self] = &[$(Self::$field,)+];

            fn plain_name(self) -> &'static str {
                match self {
                    $(Self::$field => $name,)+
                    Self::Signal(_) | Self::Host(_) => "",
                }
            }

            fn plain_of(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$field),)+
                    _ => None,
                }
            }

            fn plain_type(self) -> Type {
                match self {
                    $(Self::$field => Type::$kind,)+
                    Self::Signal(_) | Self::Host(_) => Type::Int,
                }
            }

            fn plain_phase(self) -> Phase {
                match self {
                    $(Self::$field => Phase::$phase,)+
                    Self::Signal(_) => Phase::Session,
                    Self::Host(_) => Phase::Client,
                }
            }

            fn plain_doc(self) -> &'static str {
                match self {
                    $(Self::$field => concat!($($doc,)+).trim_ascii_start(),)+
                    Self::Signal(_) | Self::Host(_) => "",
                }
            }

            fn plain_unit(self) -> Option<&'static str> {
                match self {
                    $($(Self::$field => Some($unit),)?)+
                    Self::Signal(_) => Some("points"),
                    _ => None,
                }
            }

            fn plain_unknown(self) -> &'static str {
                match self {
                    $(Self::$field => $unknown,)+
                    Self::Signal(_) => "never",
                    Self::Host(_) => "if the host does not tell it",
                }
            }

            fn plain_example(self) -> &'static str {
                match self {
                    $(Self::$field => $example,)+
                    Self::Signal(_) | Self::Host(_) => "",
                }
            }

            /// How its texts are compared.
            pub const fn case(self) -> Case {
                match self {
                    $($(Self::$field => fields!(@case $attribute),)?)+
                    _ => Case::Exact,
                }
            }
        }
    };
    (@case ignore_case) => { Case::Ignored };
    (@case path) => { Case::Path };
}

fields! {
    /// The method, such as `POST`.
    RequestMethod = "request.method": Text in Client, unknown "never", r#"request.method in ["PUT", "DELETE"]"#;
    /// The canonical path: decoded once, dots and doubled slashes resolved, without the query. Letters of either case are one, and `==` and `in` overlook a slash at the end, as routes do.
    RequestPath = "request.path": Text in Client (path), unknown "never", r#"request.path starts_with "/admin/""#;
    /// The path of the `[[route]]` that the request falls under, as it is written there and without the method.
    RequestRoute = "request.route": Text in Client, unknown "if it falls under none", r#"request.route == "/admin/**""#;
    /// The host asked for, without its port.
    RequestHost = "request.host": Text in Client (ignore_case), unknown "if the client names none", r#"request.host == "shop.example.com""#;
    /// `http` or `https`, as the client used it.
    RequestScheme = "request.scheme": Text in Client, unknown "never", r#"request.scheme == "http""#;
    /// Whether a person goes to a page.
    RequestIsNavigation = "request.is_navigation": Bool in Client, unknown "never", "request.is_navigation";
    /// Whether it does not count as use: polling, prefetches.
    RequestIsPassive = "request.is_passive": Bool in Client, unknown "never", "!request.is_passive";
    /// Whose page caused it, as the browser says (`Sec-Fetch-Site`): `none` is the address bar or a bookmark.
    RequestSite = "request.site": Text in Client, unknown "if the browser does not say, as over plain http", r#"request.site == "cross-site" && request.method == "POST""#;
    /// The host of the page that caused it (`Origin`), without its port; `null` where the browser hides it.
    RequestOrigin = "request.origin": Text in Client (ignore_case), unknown "without `Origin`, which most reading requests have not", "request.origin != request.host";
    /// The media type of the body, without parameters.
    RequestContentType = "request.content_type": Text in Client (ignore_case), unknown "without `Content-Type`", r#"request.content_type == "application/json""#;
    /// Bytes of the body, if the client tells them.
    RequestSize = "request.size": Int in Client as "bytes", unknown "without `Content-Length`", "request.size > 1000000";
    /// The address of the client, behind trusted proxies.
    ClientIp = "client.ip": Ip in Client, unknown "never", r#"client.ip not_in ["198.51.100.0/24", "2001:db8::/32"]"#;
    /// The network of that address: the first one of its /24 (IPv4) or /64 (IPv6).
    ClientPrefix = "client.prefix": Ip in Client, unknown "never", r#"client.prefix == "198.51.100.0""#;
    /// The number of the autonomous system of that address.
    ClientAsn = "client.asn": Int in Client as "AS number", unknown "without a database, or if it knows none", "client.asn in [64496, 64511]";
    /// Its country: two letters (ISO 3166-1).
    ClientCountry = "client.country": Text in Client (ignore_case), unknown "without a database, or if it knows none", r#"client.country not_in ["DE", "AT"]"#;
    /// Its city, in English.
    ClientCity = "client.city": Text in Client (ignore_case), unknown "without a database, or if it knows none", r#"client.city == "Berlin""#;
    /// Whether it belongs to Tor.
    ClientIsTor = "client.is_tor": Bool in Client, unknown "without a database that tells kinds of networks", "client.is_tor";
    /// Whether servers live there.
    ClientIsHosting = "client.is_hosting": Bool in Client, unknown "without a database that tells kinds of networks", "client.is_hosting";
    /// Whether it hides where its users are: VPN, relay, Tor.
    ClientIsAnonymous = "client.is_anonymous": Bool in Client, unknown "without a database that tells kinds of networks", "client.is_anonymous";
    /// The program, by the name of its family: `chrome`, `firefox`, `safari`, `curl` ...
    ClientUaFamily = "client.ua_family": Text in Client, unknown "never", r#"client.ua_family in ["curl", "python"]"#;
    /// Its major version.
    ClientUaMajor = "client.ua_major": Int in Client as "version", unknown "if the program does not tell it", "client.ua_major < 100";
    /// The system: `windows`, `macos`, `linux`, `android`, `ios`, `chromeos`, `bsd`, `other`.
    ClientOs = "client.os": Text in Client, unknown "if the program does not tell it", r#"client.os == "android""#;
    /// The kind of device: `desktop`, `mobile`, `tablet`, `bot`, `other`.
    ClientDevice = "client.device": Text in Client, unknown "never", r#"client.device == "bot""#;
    /// What `Accept-Language` asks for, such as `de-de`, in its order and without weights.
    ClientLanguages = "client.languages": Texts in Client (ignore_case), unknown "never", r#"client.languages contains "de""#;
    /// The JA4 of its TLS hello. One browser has several: for a first connection, for one that resumes it, for a WebSocket.
    ClientJa4 = "client.ja4": Text in Client, unknown "if TLS ends before us, and no trusted proxy tells it", "known(client.ja4)";
    /// `1.0`, `1.1` or `2`.
    ClientHttpVersion = "client.http_version": Text in Client, unknown "for versions besides these", r#"client.http_version == "1.0""#;
    /// The hour of the day, 0 to 23, in the zone of the file (`zone = "Europe/Berlin"`; UTC if there is none).
    TimeHour = "time.hour": Int in Client as "hours", unknown "never", "time.hour >= 22";
    /// The minute of the hour, 0 to 59.
    TimeMinute = "time.minute": Int in Client as "minutes", unknown "never", "time.minute < 30";
    /// `monday` to `sunday`, in the zone of the file.
    TimeWeekday = "time.weekday": Text in Client, unknown "never", r#"time.weekday in ["saturday", "sunday"]"#;
    /// Requests of this client in the last minute, this one included.
    RateClient = "rate.client": Int in Client as "requests", unknown "never", "rate.client > 300";
    /// Requests of its network in the last minute.
    RatePrefix = "rate.prefix": Int in Client as "requests", unknown "never", "rate.prefix > 1000";
    /// Requests of this session in the last minute.
    RateSession = "rate.session": Int in Session as "requests", unknown "without a session", "rate.session > 120";
    /// Requests of this subject in the last minute, over all of his sessions.
    RateSubject = "rate.subject": Int in Session as "requests", unknown "unless somebody has logged in", "rate.subject > 200";
    /// Whether the request attempts a login of the configuration.
    LoginAttempt = "login.attempt": Bool in Client, unknown "never", "login.attempt";
    /// Whether the request shows a session that is alive.
    SessionExists = "session.exists": Bool in Session, unknown "never", "!session.exists";
    /// Whether somebody has logged in to it.
    SessionAuthenticated = "session.authenticated": Bool in Session, unknown "never", "session.authenticated";
    /// Time since it began.
    SessionAge = "session.age": Duration in Session, unknown "without a session", "session.age > 8h";
    /// Time since it was used last.
    SessionIdle = "session.idle": Duration in Session, unknown "without a session", "session.idle > 15m";
    /// Age of its head: time since the last rotation of the tag.
    SessionSinceRotation = "session.since_rotation": Duration in Session, unknown "without a session", "session.since_rotation > 5m";
    /// Time since the login.
    SessionSinceAuthentication = "session.since_authentication": Duration in Session, unknown "unless somebody has logged in", "session.since_authentication > 1h";
    /// For whom it is authenticated.
    SessionSubject = "session.subject": Text in Session, unknown "unless somebody has logged in", r#"session.subject == "admin""#;
    /// Its public name.
    SessionRef = "session.ref": Text in Session, unknown "without a session", "known(session.ref)";
    /// Requests that the guard saw of it, this one included; kept in memory, so a restart begins anew.
    SessionRequests = "session.requests": Int in Session as "requests", unknown "without a session", "session.requests > 10000";
    /// Tags that it went through: it grows by one with each rotation.
    SessionRotations = "session.rotations": Int in Session as "tags", unknown "without a session", "session.rotations > 500";
    /// Forks so far: times that two live cookie jars were seen.
    SessionForks = "session.forks": Int in Session as "forks", unknown "without a session", "session.forks > 0";
    /// Contexts that it was seen in: a device on a network each.
    SessionContexts = "session.contexts_seen": Int in Session as "contexts", unknown "without a session", "session.contexts_seen > 4";
    /// Networks that it was seen in.
    SessionNetworks = "session.networks_seen": Int in Session as "networks", unknown "without a session", "session.networks_seen > 3";
    /// Devices that it was seen on.
    SessionDevices = "session.devices_seen": Int in Session as "devices", unknown "without a session", "session.devices_seen > 1";
    /// The program that the session is bound to: that of the login.
    BoundUaFamily = "session.bound.ua_family": Text in Session, unknown "without a session", "session.bound.ua_family == client.ua_family";
    /// Its major version then.
    BoundUaMajor = "session.bound.ua_major": Int in Session as "version", unknown "without a session, or if the program did not tell it", "session.bound.ua_major > client.ua_major";
    /// The system that the session is bound to.
    BoundOs = "session.bound.os": Text in Session, unknown "without a session, or if the program did not tell it", "session.bound.os != client.os";
    /// The kind of device that it is bound to.
    BoundDevice = "session.bound.device": Text in Session, unknown "without a session", r#"session.bound.device == "desktop""#;
    /// The first language that it is bound to.
    BoundLanguage = "session.bound.language": Text in Session, unknown "without a session, or if the client named none", r#"session.bound.language == "de""#;
    /// The network that it is bound to, as `client.prefix`.
    BoundPrefix = "session.bound.prefix": Ip in Session, unknown "without a session", "session.bound.prefix != client.prefix";
    /// The autonomous system that it is bound to.
    BoundAsn = "session.bound.asn": Int in Session as "AS number", unknown "without a session, or if no database knew it", "session.bound.asn == 64496";
    /// The country that it is bound to.
    BoundCountry = "session.bound.country": Text in Session (ignore_case), unknown "without a session, or if no database knew it", r#"session.bound.country == "DE""#;
    /// The JA4 of the TLS hello at the login.
    BoundJa4 = "session.bound.ja4": Text in Session, unknown "without a session, or if it was not known at the login", "session.bound.ja4 != client.ja4";
    /// Whether the program differs from the bound one.
    ChangedUaFamily = "changed.ua_family": Bool in Session, unknown "without a session", "changed.ua_family";
    /// Whether its version differs.
    ChangedUaMajor = "changed.ua_major": Bool in Session, unknown "without a session, or if either side is unknown", "changed.ua_major";
    /// Whether the system differs.
    ChangedOs = "changed.os": Bool in Session, unknown "without a session, or if either side is unknown", "changed.os";
    /// Whether the kind of device differs.
    ChangedDevice = "changed.device": Bool in Session, unknown "without a session", "changed.device";
    /// Whether the first language differs.
    ChangedLanguage = "changed.language": Bool in Session, unknown "without a session, or if either side is unknown", "changed.language";
    /// Whether the network differs.
    ChangedPrefix = "changed.prefix": Bool in Session, unknown "without a session", "changed.prefix";
    /// Whether the autonomous system differs.
    ChangedAsn = "changed.asn": Bool in Session, unknown "without a session, or if either side is unknown", "changed.asn";
    /// Whether the country differs.
    ChangedCountry = "changed.country": Bool in Session, unknown "without a session, or if either side is unknown", "changed.country";
    /// Whether the JA4 of the TLS hello differs, which it does in one browser too: see `signal.device.tls` for what does not.
    ChangedJa4 = "changed.ja4": Bool in Session, unknown "without a session, or if either side is unknown", "changed.ja4";
    /// Points of this request after all rules that give points, with what is left of earlier ones.
    Risk = "risk": Int in Risk as "points", unknown "never", "risk >= 35";
    /// The status of the answer.
    ResponseStatus = "response.status": Int in Response as "HTTP status", unknown "never", "response.status in [401, 403]";
    /// Whether the app sets a cookie with it.
    ResponseSetsCookie = "response.sets_cookie": Bool in Response, unknown "never", "response.sets_cookie";
    /// The media type of the answer, without parameters.
    ResponseContentType = "response.content_type": Text in Response (ignore_case), unknown "without `Content-Type`", r#"response.content_type == "text/csv""#;
    /// Whether a login was attempted and did not succeed.
    LoginFailed = "login.failed": Bool in Response, unknown "never", "login.failed";
    /// Whom the attempted login names, if anybody can tell.
    LoginSubject = "login.subject": Text in Response, unknown "without an attempt, or if only the app can read it", r#"login.subject == "admin""#;
    /// Whether a login succeeded.
    LoginSucceeded = "login.succeeded": Bool in Response, unknown "never", "login.succeeded";
}

/// A field that the host declares in `[facts]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFact {
    /// Its name, without `facts.`.
    pub name: Box<str>,
    /// Its type.
    pub kind: Type,
}

/// What a field is called, of which type, when known, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The name in rules.
    pub name: String,
    /// Its type.
    pub kind: Type,
    /// When it is known at the earliest.
    pub phase: Phase,
    /// What it means, in a sentence.
    pub doc: String,
    /// The words that it can be, if they are few.
    pub words: Vec<&'static str>,
    /// What is counted or measured, of whole numbers. A duration is written with its unit.
    pub unit: Option<&'static str>,
    /// When it is unknown, in a few words; `never` if it is always known.
    pub unknown: &'static str,
    /// A condition that reads it.
    pub example: String,
}

impl Field {
    /// All that a rule may read without a host.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::PLAIN.iter().copied().chain(SignalKind::ALL.iter().map(|kind| Self::Signal(*kind)))
    }

    /// Its name; `host` is what `[facts]` declares.
    pub fn name(self, host: &[HostFact]) -> String {
        match self {
            Self::Signal(kind) => format!("signal.{}", kind.name()),
            Self::Host(at) => {
                format!("facts.{}", host.get(usize::from(at)).map_or("?", |fact| &fact.name))
            }
            plain => plain.plain_name().to_owned(),
        }
    }

    /// The field of a name.
    pub fn parse(name: &str, host: &[HostFact]) -> Option<Self> {
        if let Some(signal) = name.strip_prefix("signal.") {
            return SignalKind::ALL.iter().copied().find(|kind| kind.name() == signal).map(Self::Signal);
        }
        if let Some(fact) = name.strip_prefix("facts.") {
            let at = host.iter().position(|declared| &*declared.name == fact)?;
            return u16::try_from(at).ok().map(Self::Host);
        }
        Self::plain_of(name)
    }

    /// Its type.
    pub fn kind(self, host: &[HostFact]) -> Type {
        match self {
            Self::Host(at) => host.get(usize::from(at)).map_or(Type::Text, |fact| fact.kind),
            plain => plain.plain_type(),
        }
    }

    /// Whether it is a clock on the wall of some zone, and no fact of a request.
    pub const fn is_clock(self) -> bool {
        matches!(self, Self::TimeHour | Self::TimeMinute | Self::TimeWeekday)
    }

    /// When it is known at the earliest.
    pub fn phase(self) -> Phase {
        self.plain_phase()
    }

    /// The words that it can be, if they are few.
    pub fn words(self) -> Vec<&'static str> {
        match self {
            Self::ClientOs | Self::BoundOs => {
                Os::ALL.map(Os::name).into_iter().filter(|name| *name != "unknown").collect()
            }
            Self::RequestSite => vec!["same-origin", "same-site", "cross-site", "none"],
            Self::ClientDevice | Self::BoundDevice => DeviceClass::ALL.map(DeviceClass::name).to_vec(),
            Self::ClientUaFamily | Self::BoundUaFamily => Family::names().collect(),
            Self::TimeWeekday => WEEKDAYS.to_vec(),
            Self::RequestScheme => vec!["http", "https"],
            Self::ClientHttpVersion => vec!["1.0", "1.1", "2"],
            _ => Vec::new(),
        }
    }

    /// Everything about it.
    pub fn describe(self) -> Described {
        let doc = match self {
            Self::Signal(kind) => format!("{}: the points of this signal, 0 if it was not raised.", kind.meaning()),
            plain => plain.plain_doc().to_owned(),
        };
        let example = match self {
            Self::Signal(_) => format!("{} > 0", self.name(&[])),
            plain => plain.plain_example().to_owned(),
        };
        Described {
            name: self.name(&[]),
            kind: self.kind(&[]),
            phase: self.phase(),
            doc,
            words: self.words(),
            unit: self.plain_unit(),
            unknown: self.plain_unknown(),
            example,
        }
    }
}

/// The words of `time.weekday`, Monday first.
pub const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_field_is_found_by_its_name_and_says_what_it_is() {
        let mut names = BTreeSet::new();
        for field in Field::all() {
            let about = field.describe();
            assert_eq!(Field::parse(&about.name, &[]), Some(field));
            assert!(names.insert(about.name.clone()), "{} is there twice", about.name);
            assert!(about.doc.ends_with('.') && about.doc.len() > 10, "{about:?}");
        }
        assert!(Field::parse("client.nose", &[]).is_none());
    }

    #[test]
    fn a_changed_field_has_a_bound_one_beside_it() {
        for field in Field::all() {
            if let Some(part) = field.name(&[]).strip_prefix("changed.") {
                assert!(Field::parse(&format!("session.bound.{part}"), &[]).is_some(), "{part}");
            }
        }
    }

    #[test]
    fn fields_of_the_host_are_by_declaration() {
        let host = [HostFact { name: "plan".into(), kind: Type::Text }];
        let field = Field::parse("facts.plan", &host).unwrap();
        assert_eq!(
            (field.name(&host).as_str(), field.kind(&host), field.phase()),
            ("facts.plan", Type::Text, Phase::Client)
        );
        assert_eq!(Field::parse("facts.plans", &host), None);
    }
}
