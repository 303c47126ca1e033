//! Signals and the detectors that raise them.
//!
//! A [`Detector`] looks at a [`Scene`] and may raise a [`Signal`]; it has no state and can not fail. [`assess`] runs the list
//! of them and adds up the risk. What to do about it is for rules to say. A request that looks like one before it, with the
//! newest tag, runs none of them: it costs a few comparisons and no allocation.

mod companions;
mod drift;
mod engine;
mod fixation;
mod fork;
mod guessing;
mod login;
mod place;
mod protocol;
mod replay;
mod weights;

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::fingerprint::Fingerprint;
use crate::fingerprint::drift::{DeviceDrift, Drift, NetworkDrift, PrefixDrift, drift as drift_between};
use crate::history::{Contexts, Holding, LoginDoubt, Match, Points, Standing, Visit};

pub use companions::{Companions, CompanionsError};
pub use login::doubt as login_doubt;
pub(crate) use place::Travel;
pub use protocol::{CookieFinding, CookieFindings};
pub use weights::{Level, Scoring, Sensitivity, Thresholds, Weights};

/// To whom the points of a signal stick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The context of the request: a device on a network.
    Context,
    /// The whole session: the evidence does not tell its holders apart.
    Session,
    /// This request alone: there may be no session, or not one that could be blamed.
    Request,
}

macro_rules! signal_kinds {
    ($(#[doc = $doc:literal] $kind:ident = $name:literal, $scope:ident;)+) => {
        /// What was seen. The names are stable: rules, events and metrics use them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum SignalKind {
            $(#[doc = $doc] $kind,)+
        }

        impl SignalKind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// The stable name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }

            /// What was seen, in a few words.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$kind => $doc.trim().trim_end_matches('.'),)+
                }
            }

            /// To whom its points stick.
            pub const fn scope(self) -> Scope {
                match self {
                    $(Self::$kind => Scope::$scope,)+
                }
            }
        }
    };
}

signal_kinds! {
    /// Another program.
    DeviceFamily = "device.family", Context;
    /// Another system.
    DeviceOs = "device.os", Context;
    /// The same browser asks for desktop pages, or stopped doing so.
    DeviceDesktopSite = "device.desktop_site", Context;
    /// Another version.
    DeviceVersion = "device.version", Context;
    /// Other languages.
    DeviceLanguage = "device.language", Context;
    /// Client hints that contradict a user agent which stayed.
    DeviceHints = "device.hints", Context;
    /// TLS is spoken in another way, though the program was not updated.
    DeviceTls = "device.tls", Context;
    /// Weak traits of TLS differ.
    DeviceTlsSoft = "device.tls_soft", Context;
    /// HTTP/2 is spoken in another way.
    DeviceHttp2 = "device.http2", Context;
    /// The headers come in the order of another engine.
    DeviceOrder = "device.order", Context;
    /// The first packet is of another kind of system.
    DeviceSyn = "device.syn", Context;
    /// Another fixed line of the same operator.
    NetworkLine = "network.line", Context;
    /// Another autonomous system.
    NetworkAsn = "network.asn", Context;
    /// Another country.
    NetworkCountry = "network.country", Context;
    /// Faster than anybody travels.
    NetworkTravel = "network.travel", Context;
    /// Into a network of servers.
    NetworkHosting = "network.hosting", Context;
    /// Into a VPN or public proxy.
    NetworkVpn = "network.vpn", Context;
    /// Into Tor.
    NetworkTor = "network.tor", Context;
    /// Somebody stands between us and the client, and ends its connections.
    NetworkRelay = "network.relay", Context;
    /// A new device and a new network in one step.
    Interaction = "interaction", Context;
    /// A new device and a new network in one step, and the one is an older version or the other abroad, of servers, or Tor.
    InteractionFar = "interaction.far", Context;
    /// Two devices take turns.
    Concurrency = "concurrency", Session;
    /// Two devices take turns that differ in program or system and in how they speak TLS.
    ConcurrencyDevices = "concurrency.devices", Session;
    /// A login by what can not be the program that it claims to be.
    LoginContradiction = "login.contradiction", Session;
    /// A login from a network of servers.
    LoginHosting = "login.hosting", Session;
    /// A tag that was superseded longer than the grace ago.
    IdStale = "id.stale", Context;
    /// The same, on another device than the holder of the newest tag.
    IdStaleDevice = "id.stale_device", Context;
    /// Two stale tags in turn: two live cookie jars.
    IdFork = "id.fork", Session;
    /// A tag that no key of ours signed.
    IdForged = "id.forged", Request;
    /// A session id that was never issued, or is long gone.
    IdNeverIssued = "id.never_issued", Request;
    /// An app cookie that a shield should have kept from the client.
    IdPlanted = "id.planted", Request;
    /// Many wrong ids from one client.
    IdGuessing = "id.guessing", Request;
    /// A `Cookie` header that no browser sends.
    ProtocolCookie = "protocol.cookie", Request;
}

impl SignalKind {
    /// Whether it may end a session once there are points enough. Honest people as good as never do this; everything else is
    /// graded, and at most asks for a login.
    pub const fn is_conclusive(self) -> bool {
        matches!(self, Self::InteractionFar | Self::ConcurrencyDevices | Self::IdStaleDevice | Self::IdFork)
    }
}

/// A small text for events: a name, a number.
pub type Text = Cow<'static, str>;

/// Something that was seen, and what it is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// What.
    pub kind: SignalKind,
    /// How much.
    pub points: Points,
    /// How it was before; may be empty.
    pub before: Text,
    /// How it is now. Never an id, a cookie value or an address.
    pub after: Text,
}

impl Signal {
    /// A signal, unless it is worth nothing: a weight of zero turns it off.
    pub fn worth(kind: SignalKind, points: Points, before: impl Into<Text>, after: impl Into<Text>) -> Option<Self> {
        (points > Points::ZERO).then(|| Self { kind, points, before: before.into(), after: after.into() })
    }
}

/// The signals of one request.
pub type Signals = SmallVec<[Signal; 4]>;

/// What the id and tag of a request say about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdEvidence {
    /// Nothing: no cookie, or the head, a successor, or a tag within its grace.
    #[default]
    None,
    /// A superseded tag after its grace.
    Stale {
        /// When one was shown before.
        previous: Option<Timestamp>,
        /// Generations between it and the head.
        behind: u32,
    },
    /// A stale tag that differs from the last one.
    Fork {
        /// When a stale tag was shown before.
        previous: Option<Timestamp>,
        /// Forks of this session within a day, this one not counted.
        earlier: u32,
        /// Generations between it and the head.
        behind: u32,
    },
    /// A tag that was never issued for this id.
    Forged,
    /// An id that no session has.
    NeverIssued,
}

/// An app cookie that a shield should have kept from the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Planted {
    /// There was none.
    #[default]
    No,
    /// The client sent one.
    Sent,
    /// The client sent one with a request that logs in.
    AtLogin,
}

/// How the look of a client goes with what it claims to be, by what a guard knows of its own users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    /// It fits, or too little is known.
    #[default]
    Unknown,
    /// Many users have this program, and nobody of them speaks so.
    Never,
}

/// How often a client was wrong lately (within ten minutes, say).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ids that no session has. Honest after a store was lost.
    pub unknown: u32,
    /// Cookies of ours that have not the form of one.
    pub malformed: u32,
    /// Tags that no key of ours signed.
    pub forged: u32,
}

/// Everything that detectors may look at.
#[derive(Clone, Copy, Debug)]
pub struct DetectorInput<'a> {
    /// The time of the request.
    pub now: Timestamp,
    /// Its client.
    pub fingerprint: &'a Fingerprint,
    /// The past of its session; empty if it has none.
    pub contexts: &'a Contexts,
    /// What its id and tag say.
    pub id: IdEvidence,
    /// What is odd about the login of its session, if that has still to be said.
    pub doubt: LoginDoubt,
    /// An app cookie that should not be there.
    pub planted: Planted,
    /// What is wrong with its `Cookie` header.
    pub cookies: CookieFindings,
    /// How often its client was wrong lately.
    pub counts: Counts,
}

impl<'a> DetectorInput<'a> {
    /// A request with nothing odd about its cookies.
    pub fn new(now: Timestamp, fingerprint: &'a Fingerprint, contexts: &'a Contexts) -> Self {
        Self {
            now,
            fingerprint,
            contexts,
            id: IdEvidence::None,
            doubt: contexts.doubt(),
            planted: Planted::No,
            cookies: CookieFindings::default(),
            counts: Counts::default(),
        }
    }
}

/// What is new about a request, against the nearest known context.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// What is given.
    pub input: &'a DetectorInput<'a>,
    /// What evidence is worth.
    pub weights: &'a Weights,
    /// The nearest known context.
    pub bound: Option<&'a Fingerprint>,
    /// When it was used last.
    pub last_seen: Option<Timestamp>,
    /// Whether somebody authenticated in it.
    pub standing: Option<Standing>,
    /// How far it is.
    pub drift: Drift,
    /// Whether it is a companion of the holder of the newest tag.
    pub company: Company,
    /// Programs that share sessions.
    pub companions: &'a [Companions],
}

/// How far a client is from the holder of the newest tag, as stale tags and forks are judged by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Company {
    /// It is on its own.
    #[default]
    None,
    /// It is a companion of the holder, on the holder's network.
    OfHolder,
}

impl Scene<'_> {
    /// Of two companions on one network neither is a new device.
    fn with_companions(mut self) -> Self {
        let all = self.companions;
        if all.is_empty() {
            return self;
        }
        let now = self.input.fingerprint;
        let shares = |other: &Fingerprint| all.iter().any(|two| two.are(other.agent.family, now.agent.family));
        let network = NetworkDrift { prefix: PrefixDrift::Same, ..self.drift.network };
        let at_hand = network == NetworkDrift::default() && self.drift.network.prefix != PrefixDrift::Elsewhere;
        if at_hand && self.bound.is_some_and(shares) {
            self.drift.device = DeviceDrift::default();
        }
        let near = |holder: &Fingerprint| {
            holder.same_network(now) || drift_between(holder, now).network == NetworkDrift::default()
        };
        if self.input.contexts.holder().is_some_and(|holder| shares(holder) && near(holder)) {
            self.company = Company::OfHolder;
        }
        self
    }

    /// Whether there is nothing that any detector could raise a signal for.
    fn is_quiet(&self) -> bool {
        let DetectorInput { id, planted, cookies, counts, doubt, .. } = self.input;
        self.drift.is_none()
            && doubt.is_none()
            && *id == IdEvidence::None
            && *planted == Planted::No
            && cookies.is_empty()
            && *counts == Counts::default()
            && self.input.contexts.interleaving(self.input.fingerprint, self.input.now).is_none()
    }
}

/// Looks at a scene. Total: what it can not judge it says nothing about.
pub type Detector = fn(&Scene<'_>) -> Option<Signal>;

/// The detectors in the order in which their signals are told.
pub const DETECTORS: &[Detector] = &[
    drift::family,
    drift::system,
    drift::version,
    drift::language,
    drift::hints,
    engine::tls,
    engine::http2,
    engine::order,
    engine::soft,
    engine::syn,
    place::line,
    place::asn,
    place::country,
    place::travel,
    place::kind,
    place::relay,
    drift::interaction,
    fork::concurrency,
    login::contradiction,
    login::hosting,
    replay::stale,
    fork::fork,
    fixation::forged,
    fixation::never_issued,
    fixation::planted,
    guessing::guessing,
    protocol::cookies,
];

/// What was found out about a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assessment {
    /// What was seen.
    pub signals: Signals,
    /// The nearest known context.
    pub found: Option<Match>,
    /// The risk it came under: what was left of earlier points.
    pub before: Points,
    /// The risk now.
    pub risk: Points,
}

impl Assessment {
    /// The request as something to remember with [`Contexts::note`], if it is let through.
    pub fn visit(&self, input: &DetectorInput<'_>, scoring: &Scoring, holding: Holding) -> Visit {
        Visit {
            now: input.now,
            fingerprint: *input.fingerprint,
            holding,
            context_points: self.points(Scope::Context),
            session_points: self.points(Scope::Session),
            half_life: scoring.half_life,
        }
    }

    fn points(&self, scope: Scope) -> Points {
        self.signals.iter().filter(|signal| signal.kind.scope() == scope).map(|signal| signal.points).sum()
    }
}

/// Looks at a request with all detectors. Pure.
pub fn assess(input: &DetectorInput<'_>, scoring: &Scoring) -> Assessment {
    assess_with(input, scoring, DETECTORS)
}

/// Looks at a request with these detectors. Those beyond [`DETECTORS`] may look at the scene only: when there is nothing
/// new in it, none is asked.
pub fn assess_with(input: &DetectorInput<'_>, scoring: &Scoring, detectors: &[Detector]) -> Assessment {
    let found = input.contexts.best_match(input.fingerprint);
    let before = input.contexts.risk(found.as_ref(), input.fingerprint, input.now, scoring.half_life);
    let nearest = found.and_then(|found| input.contexts.known().get(found.index));
    let scene = Scene {
        input,
        weights: &scoring.weights,
        bound: nearest.map(|context| &context.fingerprint),
        last_seen: nearest.map(|context| context.last_seen),
        standing: nearest.map(|context| context.standing),
        drift: found.map(|found| found.drift).unwrap_or_default(),
        company: Company::None,
        companions: &scoring.companions,
    }
    .with_companions();
    if scene.is_quiet() {
        return Assessment { signals: Signals::new(), found, before, risk: before };
    }
    let signals: Signals = detectors.iter().filter_map(|detect| detect(&scene)).collect();
    let new: Points = signals.iter().map(|signal| signal.points).sum();
    Assessment { signals, found, before, risk: before.plus(new) }
}

#[cfg(test)]
mod stories;

#[cfg(test)]
mod tests;
