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
    ($($(#[doc = $doc:literal])+ $field:ident = $name:literal: $kind:ident in $phase:ident $(($attribute:ident))?;)+) => {
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
    RequestMethod = "request.method": Text in Client;
    /// The canonical path: decoded once, dots and doubled slashes resolved, without the query. Letters of either case are one, and `==` and `in` overlook a slash at the end, as routes do.
    RequestPath = "request.path": Text in Client (path);
    /// The path of the `[[route]]` that the request falls under, as it is written there and without the method; unknown if it falls under none.
    RequestRoute = "request.route": Text in Client;
    /// The host asked for, without its port.
    RequestHost = "request.host": Text in Client (ignore_case);
    /// `http` or `https`, as the client used it.
    RequestScheme = "request.scheme": Text in Client;
    /// Whether a person goes to a page.
    RequestIsNavigation = "request.is_navigation": Bool in Client;
    /// Whether it does not count as use: polling, prefetches.
    RequestIsPassive = "request.is_passive": Bool in Client;
    /// The media type of the body, without parameters.
    RequestContentType = "request.content_type": Text in Client (ignore_case);
    /// Bytes of the body, if the client tells them.
    RequestSize = "request.size": Int in Client;
    /// The address of the client, behind trusted proxies.
    ClientIp = "client.ip": Ip in Client;
    /// The network of that address: the first one of its /24 (IPv4) or /64 (IPv6).
    ClientPrefix = "client.prefix": Ip in Client;
    /// The number of the autonomous system of that address.
    ClientAsn = "client.asn": Int in Client;
    /// Its country: two letters (ISO 3166-1).
    ClientCountry = "client.country": Text in Client (ignore_case);
    /// Its city, in English.
    ClientCity = "client.city": Text in Client (ignore_case);
    /// Whether it belongs to Tor; unknown where no database tells kinds of networks.
    ClientIsTor = "client.is_tor": Bool in Client;
    /// Whether servers live there.
    ClientIsHosting = "client.is_hosting": Bool in Client;
    /// Whether it hides where its users are: VPN, relay, Tor.
    ClientIsAnonymous = "client.is_anonymous": Bool in Client;
    /// The program, by the name of its family: `chrome`, `firefox`, `safari`, `curl` ...
    ClientUaFamily = "client.ua_family": Text in Client;
    /// Its major version.
    ClientUaMajor = "client.ua_major": Int in Client;
    /// The system: `windows`, `macos`, `linux`, `android`, `ios`, `chromeos`, `other`.
    ClientOs = "client.os": Text in Client;
    /// The kind of device: `desktop`, `mobile`, `tablet`, `bot`, `other`.
    ClientDevice = "client.device": Text in Client;
    /// What `Accept-Language` asks for, such as `de-de`, in its order and without weights.
    ClientLanguages = "client.languages": Texts in Client (ignore_case);
    /// The fingerprint of its TLS hello; unknown where TLS does not end here.
    ClientJa4 = "client.ja4": Text in Client;
    /// `1.0`, `1.1` or `2`.
    ClientHttpVersion = "client.http_version": Text in Client;
    /// The hour of the day, 0 to 23, in the zone of the file (`zone = "Europe/Berlin"`; UTC if there is none).
    TimeHour = "time.hour": Int in Client;
    /// The minute of the hour, 0 to 59.
    TimeMinute = "time.minute": Int in Client;
    /// `monday` to `sunday`, in the zone of the file.
    TimeWeekday = "time.weekday": Text in Client;
    /// Requests of this client in the last minute, this one included.
    RateClient = "rate.client": Int in Client;
    /// Requests of its network in the last minute.
    RatePrefix = "rate.prefix": Int in Client;
    /// Requests of this session in the last minute.
    RateSession = "rate.session": Int in Session;
    /// Requests of this subject in the last minute, over all of his sessions.
    RateSubject = "rate.subject": Int in Session;
    /// Whether the request attempts a login of the configuration.
    LoginAttempt = "login.attempt": Bool in Client;
    /// Whether the request shows a session that is alive.
    SessionExists = "session.exists": Bool in Session;
    /// Whether somebody has logged in to it.
    SessionAuthenticated = "session.authenticated": Bool in Session;
    /// Time since it began.
    SessionAge = "session.age": Duration in Session;
    /// Time since it was used last.
    SessionIdle = "session.idle": Duration in Session;
    /// Age of its head: time since the last rotation of the tag.
    SessionSinceRotation = "session.since_rotation": Duration in Session;
    /// Time since the login.
    SessionSinceAuthentication = "session.since_authentication": Duration in Session;
    /// For whom it is authenticated.
    SessionSubject = "session.subject": Text in Session;
    /// Its public name.
    SessionRef = "session.ref": Text in Session;
    /// Requests that the guard saw of it, this one included; kept in memory, so a restart begins anew.
    SessionRequests = "session.requests": Int in Session;
    /// Tags that it went through: it grows by one with each rotation.
    SessionRotations = "session.rotations": Int in Session;
    /// Forks so far: times that two live cookie jars were seen.
    SessionForks = "session.forks": Int in Session;
    /// Contexts that it was seen in: a device on a network each.
    SessionContexts = "session.contexts_seen": Int in Session;
    /// Networks that it was seen in.
    SessionNetworks = "session.networks_seen": Int in Session;
    /// Devices that it was seen on.
    SessionDevices = "session.devices_seen": Int in Session;
    /// The program that the session is bound to: that of the login.
    BoundUaFamily = "session.bound.ua_family": Text in Session;
    /// Its major version then.
    BoundUaMajor = "session.bound.ua_major": Int in Session;
    /// The system that the session is bound to.
    BoundOs = "session.bound.os": Text in Session;
    /// The kind of device that it is bound to.
    BoundDevice = "session.bound.device": Text in Session;
    /// The first language that it is bound to.
    BoundLanguage = "session.bound.language": Text in Session;
    /// The network that it is bound to, as `client.prefix`.
    BoundPrefix = "session.bound.prefix": Ip in Session;
    /// The autonomous system that it is bound to.
    BoundAsn = "session.bound.asn": Int in Session;
    /// The country that it is bound to.
    BoundCountry = "session.bound.country": Text in Session (ignore_case);
    /// The fingerprint of the TLS hello that it is bound to.
    BoundJa4 = "session.bound.ja4": Text in Session;
    /// Whether the program differs from the bound one.
    ChangedUaFamily = "changed.ua_family": Bool in Session;
    /// Whether its version differs.
    ChangedUaMajor = "changed.ua_major": Bool in Session;
    /// Whether the system differs.
    ChangedOs = "changed.os": Bool in Session;
    /// Whether the kind of device differs.
    ChangedDevice = "changed.device": Bool in Session;
    /// Whether the first language differs.
    ChangedLanguage = "changed.language": Bool in Session;
    /// Whether the network differs.
    ChangedPrefix = "changed.prefix": Bool in Session;
    /// Whether the autonomous system differs.
    ChangedAsn = "changed.asn": Bool in Session;
    /// Whether the country differs.
    ChangedCountry = "changed.country": Bool in Session;
    /// Whether the fingerprint of the TLS hello differs.
    ChangedJa4 = "changed.ja4": Bool in Session;
    /// Points of this request after all rules that give points, with what is left of earlier ones.
    Risk = "risk": Int in Risk;
    /// The status of the answer.
    ResponseStatus = "response.status": Int in Response;
    /// Whether the app sets a cookie with it.
    ResponseSetsCookie = "response.sets_cookie": Bool in Response;
    /// The media type of the answer, without parameters.
    ResponseContentType = "response.content_type": Text in Response (ignore_case);
    /// Whether a login was attempted and did not succeed.
    LoginFailed = "login.failed": Bool in Response;
    /// Whom the attempted login names, if anybody can tell.
    LoginSubject = "login.subject": Text in Response;
    /// Whether a login succeeded.
    LoginSucceeded = "login.succeeded": Bool in Response;
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

    /// Whether anything fills it in this version. A rule that reads another is told so.
    pub const fn is_filled(self) -> bool {
        !matches!(self, Self::ClientJa4 | Self::BoundJa4 | Self::ChangedJa4)
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
        Described { name: self.name(&[]), kind: self.kind(&[]), phase: self.phase(), doc, words: self.words() }
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
