//! What evidence is worth, when it fades, and what it takes to act: the table of defaults.
//!
//! All of it is policy. The defaults were chosen so that no single change of network, and no update of a browser, reaches
//! `quarantine`, while another program on another network reaches `terminate` at once.

use super::{Companions, SignalKind};
use crate::history::{HalfLife, Points};

/// Points for each kind of evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Another program.
    pub family: Points,
    /// Another system.
    pub os: Points,
    /// The same browser asks for desktop pages, or stopped doing so.
    pub desktop_site: Points,
    /// The version went down, or up by more than an update.
    pub version: Points,
    /// The version went up by a few.
    pub version_up: Points,
    /// Another first language, or none any more.
    pub language: Points,
    /// The rest of the language list.
    pub language_list: Points,
    /// The platform hint contradicts a user agent that stayed.
    pub hint_platform: Points,
    /// The version hint contradicts a user agent that stayed.
    pub hint_version: Points,
    /// The mobile hint contradicts a user agent that stayed.
    pub hint_mobile: Points,
    /// An exact version of browser or platform went down.
    pub hint_exact: Points,
    /// It went up.
    pub hint_exact_up: Points,
    /// Another machine, by what it tells when asked.
    pub hint_machine: Points,
    /// TLS is spoken in another way, and the version did not go up.
    pub tls: Points,
    /// Traits of it that are weak by themselves; nothing unless something else of the device moved.
    pub tls_soft: Points,
    /// HTTP/2 is spoken in another way.
    pub http2: Points,
    /// The headers come in another order.
    pub order: Points,
    /// All of these together, if a gateway inspects the TLS of one of the two.
    pub gateway: Points,
    /// The first packet is of another kind of system.
    pub syn: Points,
    /// Another fixed line of the same operator.
    pub line: Points,
    /// Another autonomous system.
    pub asn: Points,
    /// Another country; half of it if one of the networks hides where its users are.
    pub country: Points,
    /// Faster than anybody travels, between fixed lines whose places are known.
    pub travel: Points,
    /// Into a network of servers.
    pub hosting: Points,
    /// Answers within TLS come much later than they did, and those within TCP do not.
    pub relay: Points,
    /// Into a VPN or public proxy.
    pub vpn: Points,
    /// Into Tor.
    pub tor: Points,
    /// A new device and a new network in one step.
    pub interaction: Points,
    /// How much of its own evidence each of the two must have for that.
    pub interaction_device: Points,
    /// See [`interaction_device`](Self::interaction_device).
    pub interaction_network: Points,
    /// Two devices take turns.
    pub concurrency: Points,
    /// A stale tag from another device than the holder of the newest.
    pub stale_device: Points,
    /// A stale tag from another autonomous system than the holder's.
    pub stale_asn: Points,
    /// A stale tag from another prefix than the holder's.
    pub stale_prefix: Points,
    /// A stale tag from where the holder is.
    pub stale_same: Points,
    /// Two stale tags in turn: two live cookie jars.
    pub fork: Points,
    /// And again.
    pub fork_again: Points,
    /// A login by what can not be the program that it claims to be.
    pub login_contradiction: Points,
    /// A login from a network of servers.
    pub login_hosting: Points,
    /// A tag that no key of ours signed.
    pub forged: Points,
    /// A session id that was never issued, or is long gone.
    pub never_issued: Points,
    /// An app cookie that a shield should have kept from the client.
    pub planted: Points,
    /// The same, on a request that logs in.
    pub planted_at_login: Points,
    /// Each ten wrong ids of one client.
    pub guessing: Points,
    /// Where that ends.
    pub guessing_max: Points,
    /// Our cookie more than once, or without a value we could have made.
    pub cookie_ambiguous: Points,
    /// A name that some parsers take for ours.
    pub cookie_look_alike: Points,
    /// Forms of the `Cookie` header that no browser sends.
    pub cookie_odd: Points,
    /// A bound app cookie without its session, or with another.
    pub cookie_unbound: Points,
}

impl Default for Weights {
    fn default() -> Self {
        let points = Points::whole;
        Self {
            family: points(75),
            os: points(60),
            desktop_site: points(12),
            version: points(45),
            version_up: points(3),
            language: points(12),
            language_list: points(4),
            hint_platform: points(22),
            hint_version: points(22),
            hint_mobile: points(12),
            hint_exact: points(22),
            hint_exact_up: points(2),
            hint_machine: points(22),
            tls: points(45),
            tls_soft: points(5),
            http2: points(30),
            order: points(30),
            gateway: points(18),
            syn: points(12),
            line: points(3),
            asn: points(10),
            country: points(19),
            travel: points(25),
            hosting: points(22),
            relay: points(22),
            vpn: points(10),
            tor: points(15),
            interaction: points(22),
            interaction_device: points(20),
            interaction_network: points(10),
            concurrency: points(55),
            stale_device: points(65),
            stale_asn: points(52),
            stale_prefix: points(25),
            stale_same: points(8),
            fork: points(55),
            fork_again: points(100),
            login_contradiction: points(40),
            login_hosting: points(15),
            forged: points(40),
            never_issued: points(5),
            planted: points(5),
            planted_at_login: points(20),
            guessing: points(20),
            guessing_max: points(100),
            cookie_ambiguous: points(10),
            cookie_look_alike: points(20),
            cookie_odd: points(5),
            cookie_unbound: points(10),
        }
    }
}

impl Weights {
    /// The most that one kind of evidence gives a request.
    pub fn most(&self, kind: SignalKind) -> Points {
        match kind {
            SignalKind::DeviceFamily => self.family,
            SignalKind::DeviceOs => self.os,
            SignalKind::DeviceDesktopSite => self.desktop_site,
            SignalKind::DeviceVersion => self.version.max(self.version_up),
            SignalKind::DeviceLanguage => self.language.max(self.language_list),
            SignalKind::DeviceHints => correlated([
                self.hint_platform,
                self.hint_version,
                self.hint_mobile,
                self.hint_exact.max(self.hint_exact_up),
                self.hint_machine,
            ]),
            SignalKind::DeviceTls => self.tls.max(self.gateway),
            SignalKind::DeviceTlsSoft => self.tls_soft,
            SignalKind::DeviceHttp2 => self.http2,
            SignalKind::DeviceOrder => self.order,
            SignalKind::DeviceSyn => self.syn,
            SignalKind::NetworkTravel => self.travel,
            SignalKind::LoginContradiction => self.login_contradiction,
            SignalKind::LoginHosting => self.login_hosting,
            SignalKind::NetworkLine => self.line,
            SignalKind::NetworkAsn => self.asn,
            SignalKind::NetworkCountry => self.country,
            SignalKind::NetworkHosting => self.hosting,
            SignalKind::NetworkVpn => self.vpn,
            SignalKind::NetworkTor => self.tor,
            SignalKind::NetworkRelay => self.relay,
            SignalKind::Interaction | SignalKind::InteractionFar => self.interaction,
            SignalKind::Concurrency | SignalKind::ConcurrencyDevices => self.concurrency,
            SignalKind::IdStale => self.stale_asn.max(self.stale_prefix).max(self.stale_same),
            SignalKind::IdStaleDevice => self.stale_device,
            SignalKind::IdFork => self.fork.max(self.fork_again),
            SignalKind::IdForged => self.forged,
            SignalKind::IdNeverIssued => self.never_issued,
            SignalKind::IdPlanted => self.planted.max(self.planted_at_login),
            SignalKind::IdGuessing => self.guessing_max.max(self.guessing),
            SignalKind::ProtocolCookie => [self.cookie_look_alike, self.cookie_odd, self.cookie_unbound]
                .into_iter()
                .fold(self.cookie_ambiguous, Points::max),
        }
    }
}

/// Evidence that has one cause counts once: the greatest, and this many per cent of the rest.
pub(super) const CORRELATED_REST_PERCENT: u32 = 30;

/// The joint worth of evidence that has one cause.
pub(super) fn correlated<const N: usize>(parts: [Points; N]) -> Points {
    let greatest = parts.into_iter().max().unwrap_or_default();
    let all: Points = parts.into_iter().sum();
    let rest = Points::hundredths(all.as_hundredths().saturating_sub(greatest.as_hundredths()));
    greatest.plus(rest.percent(CORRELATED_REST_PERCENT))
}

/// What each part of evidence that has one cause is worth, so that together they are [`correlated`].
pub(super) fn shares<const N: usize>(parts: [Points; N]) -> [Points; N] {
    let greatest = parts.iter().enumerate().rev().max_by_key(|(_, points)| **points).map_or(0, |(at, _)| at);
    let mut at = 0;
    parts.map(|points| {
        let share = if at == greatest { points } else { points.percent(CORRELATED_REST_PERCENT) };
        at += 1;
        share
    })
}

/// Whether a route asks for more than usual care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sensitivity {
    /// It does not.
    Usual,
    /// It is marked `sensitive`.
    Sensitive,
}

/// How much risk there is, by the thresholds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Below all thresholds.
    #[default]
    Calm,
    /// Worth telling.
    Observe,
    /// A new tag is offered at once, so that proof comes quickly.
    Rotate,
    /// The client is asked to authenticate.
    Quarantine,
    /// The session ends.
    Terminate,
}

/// Points at which each level begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Worth telling.
    pub observe: Points,
    /// Offer a new tag.
    pub rotate: Points,
    /// Ask the client to authenticate.
    pub quarantine: Points,
    /// End the session.
    pub terminate: Points,
    /// What is left of `quarantine`, and of nothing else, on a sensitive route.
    pub sensitive_percent: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            observe: Points::whole(20),
            rotate: Points::whole(35),
            quarantine: Points::whole(50),
            terminate: Points::whole(100),
            sensitive_percent: 60,
        }
    }
}

impl Thresholds {
    /// The highest level that so much risk reaches.
    pub fn level(&self, risk: Points, sensitivity: Sensitivity) -> Level {
        let quarantine = match sensitivity {
            Sensitivity::Usual => self.quarantine,
            Sensitivity::Sensitive => self.quarantine.percent(self.sensitive_percent),
        };
        let levels = [
            (self.terminate, Level::Terminate),
            (quarantine, Level::Quarantine),
            (self.rotate, Level::Rotate),
            (self.observe, Level::Observe),
        ];
        levels.into_iter().find(|(from, _)| risk >= *from).map_or(Level::Calm, |(_, level)| level)
    }
}

/// Everything about scoring that a policy may set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scoring {
    /// Points for each kind of evidence.
    pub weights: Weights,
    /// Points at which to act.
    pub thresholds: Thresholds,
    /// How fast points fade.
    pub half_life: HalfLife,
    /// Programs that share sessions.
    pub companions: Vec<Companions>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_begin_at_their_thresholds() {
        let thresholds = Thresholds::default();
        let check = |hundredths, usual, sensitive| {
            let risk = Points::hundredths(hundredths);
            assert_eq!(thresholds.level(risk, Sensitivity::Usual), usual, "{risk}");
            assert_eq!(thresholds.level(risk, Sensitivity::Sensitive), sensitive, "{risk}");
        };
        check(1999, Level::Calm, Level::Calm);
        check(2000, Level::Observe, Level::Observe);
        check(2999, Level::Observe, Level::Observe);
        check(3000, Level::Observe, Level::Quarantine);
        check(3500, Level::Rotate, Level::Quarantine);
        check(5000, Level::Quarantine, Level::Quarantine);
        check(9999, Level::Quarantine, Level::Quarantine);
        check(10_000, Level::Terminate, Level::Terminate);
    }

    #[test]
    fn correlated_evidence_counts_once_and_a_little() {
        let check =
            |parts: [u16; 3], expected: &str| assert_eq!(correlated(parts.map(Points::whole)).to_string(), expected);
        check([0, 0, 0], "0");
        check([12, 0, 0], "12");
        check([12, 22, 22], "32.2");
    }
}
