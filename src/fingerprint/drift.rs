//! Which components moved between two fingerprints, and how far.
//!
//! This is observation without judgement: how many points a movement is worth is the business of `signal`. What is unknown
//! on either side did not move. A change that follows from another one (hints that move with the version) is told once.

use std::cmp::Ordering;

use super::{Exact, Fingerprint, MobileHint, Prefix};
use crate::facts::geo::{NetworkKind, Place};
use crate::facts::order::HeaderOrder;
use crate::facts::user_agent::{DeviceClass, Family, Os, UserAgent};

/// Versions that a browser may go up between two visits without being remarkable: two months of Chrome.
pub const VERSIONS_UP_MAX: u16 = 4;

/// Whether a component moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moved {
    /// It is the same, or unknown on one side.
    #[default]
    No,
    /// It is another.
    Yes,
}

/// How the system moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OsDrift {
    /// It did not.
    #[default]
    Same,
    /// The same browser asks for desktop pages, or no longer does: Android then calls itself Linux, iOS macOS. On the same
    /// network any such pair may be the device emulation of a developer.
    DesktopToggle,
    /// It is another.
    Changed,
}

/// How the major version moved, in one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VersionDrift {
    /// It did not.
    #[default]
    Same,
    /// Up by at most [`VERSIONS_UP_MAX`]: an update.
    Up,
    /// Up by more.
    Jump,
    /// Down.
    Down,
}

/// How the languages moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LanguageDrift {
    /// They did not.
    #[default]
    Same,
    /// The first language is the same, the rest of the list is not.
    List,
    /// The first language is another, or the header came or went.
    Changed,
}

/// How the device moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceDrift {
    /// The program.
    pub family: Moved,
    /// Its system.
    pub os: OsDrift,
    /// Its major version.
    pub version: VersionDrift,
    /// Its languages.
    pub language: LanguageDrift,
    /// The platform hint, while the user agent's system stayed.
    pub platform: Moved,
    /// The mobile hint, while the user agent's device class stayed.
    pub mobile: Moved,
    /// The Chromium version hint, while the user agent's version stayed.
    pub hint_version: Moved,
    /// The exact versions that are told to whoever asks, while the major version stayed.
    pub exact: ExactDrift,
    /// The machine that is told to whoever asks.
    pub machine: Moved,
    /// How it looks on the wire, and a gateway that inspects TLS speaks for one of the two: then it is told here, and not below.
    pub gateway: Moved,
    /// The core key of TLS, while the version did not go up.
    pub tls: Moved,
    /// Traits of TLS that are weak by themselves.
    pub soft: Moved,
    /// The settings of HTTP/2.
    pub http2: Moved,
    /// The order of headers.
    pub order: Moved,
    /// The class of the first packet.
    pub syn: Moved,
}

impl DeviceDrift {
    /// Whether any part of how it looks on the wire moved that tells one engine from another.
    pub fn engine_moved(&self) -> bool {
        self.tls == Moved::Yes || self.http2 == Moved::Yes || self.order == Moved::Yes
    }
}

/// How the exact versions moved: of the platform, and of Chromium within one major version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExactDrift {
    /// They did not, or one side is unknown.
    #[default]
    Same,
    /// Up: an update.
    Up,
    /// One of them went down, which no update does.
    Down,
}

/// How the prefix moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrefixDrift {
    /// It did not, or is unknown.
    #[default]
    Same,
    /// Another /64 of the same /48.
    Site,
    /// From IPv4 to IPv6 or back, which a dual-stack host does between any two requests.
    FamilyFlip,
    /// It is another.
    Elsewhere,
}

/// How the country moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CountryDrift {
    /// It did not, or is unknown.
    #[default]
    Same,
    /// It is another, but one of the networks hides where its users are.
    Hidden,
    /// It is another.
    Changed,
}

/// How the network moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkDrift {
    /// The prefix.
    pub prefix: PrefixDrift,
    /// The line, of two that do not move and belong to one operator.
    pub line: Moved,
    /// The autonomous system.
    pub asn: Moved,
    /// The country.
    pub country: CountryDrift,
    /// Into a network of another, telling kind: hosting, VPN or Tor.
    pub into: Option<NetworkKind>,
}

/// How far one fingerprint is from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// The device.
    pub device: DeviceDrift,
    /// The network.
    pub network: NetworkDrift,
    /// Somebody stands in between who ends the connections of the client.
    pub relayed: Moved,
}

impl Drift {
    /// Whether nothing moved that is worth any points. Another prefix alone is nothing, and neither are traits of TLS that are weak
    /// by themselves.
    pub fn is_none(&self) -> bool {
        let network = NetworkDrift { prefix: PrefixDrift::Same, ..self.network };
        let device = DeviceDrift { soft: Moved::No, ..self.device };
        device == DeviceDrift::default() && network == NetworkDrift::default() && self.relayed == Moved::No
    }

    /// A number to find the nearest of several fingerprints by, and nothing else. In tenths of the default points.
    pub fn distance(&self) -> u32 {
        let Self { device, network, relayed } = self;
        let if_moved = |moved, far| if moved == Moved::Yes { far } else { 0 };
        let os = match device.os {
            OsDrift::Same => 0,
            OsDrift::DesktopToggle => 120,
            OsDrift::Changed => 600,
        };
        let version = match device.version {
            VersionDrift::Same => 0,
            VersionDrift::Up => 30,
            VersionDrift::Jump | VersionDrift::Down => 450,
        };
        let language = match device.language {
            LanguageDrift::Same => 0,
            LanguageDrift::List => 40,
            LanguageDrift::Changed => 120,
        };
        let exact = match device.exact {
            ExactDrift::Same => 0,
            ExactDrift::Up => 20,
            ExactDrift::Down => 220,
        };
        let hints = if_moved(device.platform, 220) + if_moved(device.hint_version, 220) + if_moved(device.mobile, 120);
        let wire = if_moved(device.gateway, 250)
            + if_moved(device.tls, 450)
            + if_moved(device.http2, 100)
            + if_moved(device.order, 100);
        let wire = wire + if_moved(device.soft, 10) + if_moved(device.syn, 120);
        let hints = hints + exact + if_moved(device.machine, 220) + wire;
        let prefix = match network.prefix {
            PrefixDrift::Same => 0,
            PrefixDrift::Site | PrefixDrift::FamilyFlip => 1,
            PrefixDrift::Elsewhere => 2,
        };
        let country = match network.country {
            CountryDrift::Same => 0,
            CountryDrift::Hidden => 110,
            CountryDrift::Changed => 220,
        };
        let line = if_moved(network.line, 30);
        let into = if network.into.is_some() { 150 } else { 0 };
        // Least of all: no other place where a client is known may take the one where the evidence is.
        let into = into + if_moved(*relayed, 1);
        let family = if_moved(device.family, 750);
        family + os + version + language + hints + prefix + line + if_moved(network.asn, 100) + country + into
    }
}

/// What moved from `bound` to `now`.
pub fn drift(bound: &Fingerprint, now: &Fingerprint) -> Drift {
    let network = if bound.same_network(now) { NetworkDrift::default() } else { network(bound, now) };
    let device = if bound.same_device(now) { DeviceDrift::default() } else { device(bound, now, near(bound, now)) };
    Drift { device, network, relayed: relayed(bound, now) }
}

/// On one network, or between lines that do not move: elsewhere others may stand in between, for everybody.
fn relayed(bound: &Fingerprint, now: &Fingerprint) -> Moved {
    let is_fixed = |kind| matches!(kind, NetworkKind::Residential | NetworkKind::Corporate);
    let comparable = (is_fixed(bound.place.kind) && is_fixed(now.place.kind))
        || (bound.same_network(now) && own_packets(bound.place.kind) && own_packets(now.place.kind));
    if comparable && now.is_relayed_since(bound) { Moved::Yes } else { Moved::No }
}

/// Whether packets from a network of this kind are those of its users, and no gateway ends their connections.
const fn own_packets(kind: NetworkKind) -> bool {
    !matches!(kind, NetworkKind::Relay | NetworkKind::Sase | NetworkKind::Tor | NetworkKind::Vpn | NetworkKind::Mobile)
}

/// Whether `now` is on a network where `bound` plausibly still is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nearness {
    Near,
    Far,
}

fn near(bound: &Fingerprint, now: &Fingerprint) -> Nearness {
    let same_asn = bound.place.asn.is_some() && bound.place.asn == now.place.asn;
    match prefix(bound.prefix, now.prefix) {
        PrefixDrift::Same | PrefixDrift::Site => Nearness::Near,
        PrefixDrift::FamilyFlip | PrefixDrift::Elsewhere if same_asn => Nearness::Near,
        PrefixDrift::FamilyFlip | PrefixDrift::Elsewhere => Nearness::Far,
    }
}

fn prefix(bound: Prefix, now: Prefix) -> PrefixDrift {
    match (bound, now) {
        (Prefix::V4(a), Prefix::V4(b)) if a != b => PrefixDrift::Elsewhere,
        (Prefix::V6(a), Prefix::V6(b)) if a >> 16 != b >> 16 => PrefixDrift::Elsewhere,
        (Prefix::V6(a), Prefix::V6(b)) if a != b => PrefixDrift::Site,
        (Prefix::V4(_), Prefix::V6(_)) | (Prefix::V6(_), Prefix::V4(_)) => PrefixDrift::FamilyFlip,
        _ => PrefixDrift::Same,
    }
}

fn network(bound: &Fingerprint, now: &Fingerprint) -> NetworkDrift {
    let prefix = prefix(bound.prefix, now.prefix);
    if prefix == PrefixDrift::Site {
        return NetworkDrift { prefix, ..NetworkDrift::default() };
    }
    let (from, to) = (bound.place, now.place);
    if from.kind == NetworkKind::Tor && to.kind == NetworkKind::Tor {
        // One network, that sends its users out somewhere else every ten minutes.
        return NetworkDrift { prefix, ..NetworkDrift::default() };
    }
    // A relay sends its users out through whichever operator it likes, but in their own region.
    let asn = if to.kind == NetworkKind::Relay { Moved::No } else { moved(from.asn, to.asn) };
    let country = match moved(from.country, to.country) {
        Moved::No => CountryDrift::Same,
        Moved::Yes if from.kind.hides_place() || to.kind.hides_place() => CountryDrift::Hidden,
        Moved::Yes => CountryDrift::Changed,
    };
    let telling = matches!(to.kind, NetworkKind::Hosting | NetworkKind::Vpn | NetworkKind::Tor);
    let into = (telling && from.kind != to.kind).then_some(to.kind);
    let fixed = |place: &Place| place.kind == NetworkKind::Residential;
    let one_operator = from.asn.is_some() && from.asn == to.asn;
    let line = if prefix == PrefixDrift::Elsewhere && one_operator && fixed(&from) && fixed(&to) {
        Moved::Yes
    } else {
        Moved::No
    };
    NetworkDrift { prefix, line, asn, country, into }
}

fn moved<T: PartialEq>(from: Option<T>, to: Option<T>) -> Moved {
    match (from, to) {
        (Some(from), Some(to)) if from != to => Moved::Yes,
        _ => Moved::No,
    }
}

fn device(bound: &Fingerprint, now: &Fingerprint, nearness: Nearness) -> DeviceDrift {
    let (from, to) = (&bound.agent, &now.agent);
    let family = if from.is_same_program(to) { Moved::No } else { Moved::Yes };
    let os = if bound.wire.tls_differs(&now.wire) { other_os(from, to) } else { os(from, to, nearness) };
    let version = if family == Moved::Yes { VersionDrift::Same } else { version(from, to) };
    let language = if bound.language == now.language {
        LanguageDrift::Same
    } else if bound.language.primary == now.language.primary && bound.language.is_absent() == now.language.is_absent() {
        LanguageDrift::List
    } else {
        LanguageDrift::Changed
    };
    let drift = DeviceDrift { family, os, version, language, ..DeviceDrift::default() };
    with_wire(with_hints(drift, bound, now), bound, now)
}

/// Browsers change how they speak TLS when they are updated, and then only. What stands between a client and us may answer
/// for its packets: a class is compared only where that is not so.
fn with_wire(drift: DeviceDrift, bound: &Fingerprint, now: &Fingerprint) -> DeviceDrift {
    if [bound, now].iter().any(|one| one.agent.family == Family::AppleMedia) {
        // The player of the system speaks for itself, whichever browser shows the page.
        return drift;
    }
    let (from, to) = (&bound.wire, &now.wire);
    let if_so = |is_so| if is_so { Moved::Yes } else { Moved::No };
    let updated = drift.version == VersionDrift::Up;
    let found = DeviceDrift {
        tls: if_so(!updated && from.tls_differs(to)),
        soft: if_so(!updated && from.soft_differs(to)),
        http2: if_so(from.http2_differs(to)),
        order: if_so(order_moved(drift.language, from.order, to.order)),
        syn: if_so(from.syn_differs(to) && own_packets(bound.place.kind) && own_packets(now.place.kind)),
        ..drift
    };
    let inspected = bound.place.kind == NetworkKind::Sase || now.place.kind == NetworkKind::Sase;
    if inspected && found.engine_moved() {
        let no = Moved::No;
        return DeviceDrift { gateway: Moved::Yes, tls: no, soft: no, http2: no, order: no, ..found };
    }
    found
}

/// A page that asks for other languages than its browser, and a browser told to by its developer tools, put `Accept-Language`
/// in another place than the browser does by itself. What that header tells then is told as a language.
fn order_moved(language: LanguageDrift, from: HeaderOrder, to: HeaderOrder) -> bool {
    match language {
        LanguageDrift::Same => from.contradicts(to),
        LanguageDrift::List | LanguageDrift::Changed => from.site_before_dest.contradicts(to.site_before_dest),
    }
}

fn exact(from: Exact, to: Exact) -> ExactDrift {
    let pairs = [(from.platform_version, to.platform_version), (from.patch, to.patch)];
    let known = pairs.into_iter().filter(|(from, to)| *from != 0 && *to != 0);
    known.fold(ExactDrift::Same, |drift, (from, to)| match (from.cmp(&to), drift) {
        (Ordering::Greater, _) | (_, ExactDrift::Down) => ExactDrift::Down,
        (Ordering::Less, _) | (_, ExactDrift::Up) => ExactDrift::Up,
        (Ordering::Equal, ExactDrift::Same) => ExactDrift::Same,
    })
}

/// Hints that contradict a user agent which stayed as it was: the mark of a copied header.
fn with_hints(drift: DeviceDrift, bound: &Fingerprint, now: &Fingerprint) -> DeviceDrift {
    if drift.os != OsDrift::Same || drift.family == Moved::Yes || drift.version != VersionDrift::Same {
        return drift;
    }
    let (from, to) = (bound.hints, now.hints);
    let platform = moved(known(from.platform, Os::Unknown), known(to.platform, Os::Unknown));
    let mobile = match moved(known(from.mobile, MobileHint::Absent), known(to.mobile, MobileHint::Absent)) {
        Moved::Yes if bound.agent.device == now.agent.device => Moved::Yes,
        _ => Moved::No,
    };
    let hint_version = moved(known(from.major, 0), known(to.major, 0));
    let exact = exact(from.exact, to.exact);
    let machine = moved(known(from.exact.machine, 0), known(to.exact.machine, 0));
    DeviceDrift { platform, mobile, hint_version, exact, machine, ..drift }
}

fn known<T: PartialEq + Copy>(value: T, unknown: T) -> Option<T> {
    (value != unknown).then_some(value)
}

/// The system of what can not be one browser, since it speaks TLS in another way.
fn other_os(from: &UserAgent, to: &UserAgent) -> OsDrift {
    let unknown = from.os == Os::Unknown || to.os == Os::Unknown;
    // Another program that names no system (curl) has moved once, not twice.
    let excused = from.os == to.os || (unknown && !from.is_same_program(to));
    if excused { OsDrift::Same } else { OsDrift::Changed }
}

fn os(from: &UserAgent, to: &UserAgent, nearness: Nearness) -> OsDrift {
    if from.os == to.os || !from.is_same_program(to) {
        return other_os(from, to);
    }
    let handheld = |agent: &UserAgent| matches!(agent.device, DeviceClass::Mobile | DeviceClass::Tablet);
    let flipped =
        (handheld(from) && to.device == DeviceClass::Desktop) || (handheld(to) && from.device == DeviceClass::Desktop);
    let same_version = from.major == to.major || from.major == 0 || to.major == 0;
    if flipped && same_version && (nearness == Nearness::Near || toggles(from.os, to.os)) {
        OsDrift::DesktopToggle
    } else {
        OsDrift::Changed
    }
}

/// The systems that browsers trade for each other when asked for desktop pages.
pub(crate) const fn toggles(a: Os, b: Os) -> bool {
    matches!((a, b), (Os::Android, Os::Linux) | (Os::Linux, Os::Android) | (Os::Ios, Os::MacOs) | (Os::MacOs, Os::Ios))
}

fn version(from: &UserAgent, to: &UserAgent) -> VersionDrift {
    let (old, new) = (release(from), release(to));
    if from.major == 0 || to.major == 0 || old == new {
        VersionDrift::Same
    } else if new < old {
        VersionDrift::Down
    } else if new - old <= VERSIONS_UP_MAX {
        VersionDrift::Up
    } else {
        VersionDrift::Jump
    }
}

/// Versions counted without gaps: after Safari 18 came 26.
fn release(agent: &UserAgent) -> u16 {
    match agent.family {
        Family::Safari if agent.major >= 26 => agent.major - 7,
        _ => agent.major,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::headers;
    use super::*;
    use crate::facts::geo::{Country, Place};
    use crate::facts::order::First;
    use crate::facts::user_agent::UserAgentCache;
    use crate::fingerprint::Wire;
    use crate::net::Asn;

    const WINDOWS: &str =
        "(Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36";
    const ANDROID: &str =
        "(Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Mobile Safari/537.36";
    const LINUX: &str = "(X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36";
    const MAC: &str =
        "(Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.4 Safari/605.1.15";
    const IPHONE: &str = "(iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.4 Mobile/15E148 Safari/604.1";

    fn client(agent: &str, extra: &[(&str, &str)], ip: &str) -> Fingerprint {
        let agent = if agent.starts_with('(') { format!("Mozilla/5.0 {agent}") } else { agent.to_owned() };
        let mut lines = vec![("user-agent", agent.as_str()), ("accept-language", "de")];
        lines.retain(|(name, value)| !value.is_empty() && !extra.iter().any(|(other, _)| other == name));
        lines.extend(extra.iter().filter(|(_, value)| !value.is_empty()));
        let cache = UserAgentCache::new([1; 16]);
        Fingerprint::observe(
            &crate::facts::seen::SeenHeaders::of(&headers(&lines)),
            Wire::default(),
            ip.parse().unwrap(),
            Place::default(),
            &cache,
        )
    }

    const HOME: &str = "203.0.113.7";
    const AWAY: &str = "198.51.100.7";

    #[track_caller]
    fn check_device(from: (&str, &[(&str, &str)], &str), to: (&str, &[(&str, &str)], &str), expected: DeviceDrift) {
        let found = drift(&client(from.0, from.1, from.2), &client(to.0, to.1, to.2));
        assert_eq!(found.device, expected);
    }

    const NONE: DeviceDrift = DeviceDrift {
        family: Moved::No,
        os: OsDrift::Same,
        version: VersionDrift::Same,
        language: LanguageDrift::Same,
        platform: Moved::No,
        mobile: Moved::No,
        hint_version: Moved::No,
        exact: ExactDrift::Same,
        machine: Moved::No,
        gateway: Moved::No,
        tls: Moved::No,
        soft: Moved::No,
        http2: Moved::No,
        order: Moved::No,
        syn: Moved::No,
    };

    #[test]
    fn versions_and_families() {
        let at = |major: &str| WINDOWS.replace("150", major);
        let up = DeviceDrift { version: VersionDrift::Up, ..NONE };
        let down = DeviceDrift { version: VersionDrift::Down, ..NONE };
        let jump = DeviceDrift { version: VersionDrift::Jump, ..NONE };
        check_device((WINDOWS, &[], HOME), (&at("152"), &[], HOME), up);
        check_device((WINDOWS, &[], HOME), (&at("154"), &[], HOME), up);
        check_device((WINDOWS, &[], HOME), (&at("155"), &[], HOME), jump);
        check_device((WINDOWS, &[], HOME), (&at("149"), &[], HOME), down);
        // After Safari 18 came 26: one step.
        check_device((MAC, &[], HOME), (&MAC.replace("18.4", "26.0"), &[], HOME), up);
        // The same major in another build is nothing.
        check_device((WINDOWS, &[], HOME), (&WINDOWS.replace("150.0.0.0", "150.0.1.2"), &[], HOME), NONE);
        // A program without a system has moved once; its version is not compared with another program's.
        check_device((WINDOWS, &[], HOME), ("curl/8.5.0", &[], HOME), DeviceDrift { family: Moved::Yes, ..NONE });
        check_device((WINDOWS, &[], HOME), ("", &[], HOME), DeviceDrift { family: Moved::Yes, ..NONE });
        let player = "AppleCoreMedia/1.0.0.21F79 (iPhone; U; CPU OS 17_5 like Mac OS X; en_us)";
        check_device((IPHONE, &[], HOME), (player, &[], HOME), NONE);
        check_device((player, &[], HOME), (IPHONE, &[], HOME), NONE);
        let tablet = "AppleCoreMedia/1.0.0.21F79 (iPad; U; CPU OS 17_5 like Mac OS X; en_us)";
        check_device((MAC, &[], HOME), (tablet, &[], HOME), DeviceDrift { os: OsDrift::DesktopToggle, ..NONE });
        let elsewhere = DeviceDrift { family: Moved::Yes, os: OsDrift::Changed, ..NONE };
        check_device((WINDOWS, &[], HOME), (player, &[], HOME), elsewhere);
        let both = DeviceDrift { family: Moved::Yes, os: OsDrift::Changed, ..NONE };
        check_device((WINDOWS, &[], HOME), (MAC, &[], HOME), both);
    }

    #[test]
    fn desktop_pages_are_a_toggle_and_another_system_is_not() {
        let toggle = DeviceDrift { os: OsDrift::DesktopToggle, ..NONE };
        let changed = DeviceDrift { os: OsDrift::Changed, ..NONE };
        check_device((ANDROID, &[], HOME), (LINUX, &[], HOME), toggle);
        check_device((LINUX, &[], HOME), (ANDROID, &[], AWAY), toggle);
        check_device((IPHONE, &[], HOME), (MAC, &[], AWAY), toggle);
        // The emulation of a developer, in place; elsewhere it is another machine.
        check_device((WINDOWS, &[], HOME), (ANDROID, &[], HOME), toggle);
        check_device((WINDOWS, &[], HOME), (ANDROID, &[], AWAY), changed);
        check_device((WINDOWS, &[], HOME), (LINUX, &[], HOME), changed);
        let newer = DeviceDrift { version: VersionDrift::Up, ..changed };
        check_device((ANDROID, &[], HOME), (&LINUX.replace("150", "151"), &[], HOME), newer);
        // Its hints follow and are not told again.
        let from: &[_] = &[("sec-ch-ua-platform", "\"Android\""), ("sec-ch-ua-mobile", "?1")];
        let to: &[_] = &[("sec-ch-ua-platform", "\"Linux\""), ("sec-ch-ua-mobile", "?0")];
        check_device((ANDROID, from, HOME), (LINUX, to, HOME), toggle);
    }

    #[test]
    fn languages() {
        let list = DeviceDrift { language: LanguageDrift::List, ..NONE };
        let changed = DeviceDrift { language: LanguageDrift::Changed, ..NONE };
        check_device((WINDOWS, &[], HOME), (WINDOWS, &[("accept-language", "de-DE,de;q=0.9")], HOME), list);
        check_device((WINDOWS, &[], HOME), (WINDOWS, &[("accept-language", "ru")], HOME), changed);
        check_device((WINDOWS, &[], HOME), (WINDOWS, &[("accept-language", "")], HOME), changed);
        check_device(
            (WINDOWS, &[("accept-language", "")], HOME),
            (WINDOWS, &[("accept-language", "*")], HOME),
            changed,
        );
    }

    #[test]
    fn hints_that_contradict_a_copied_user_agent() {
        let from: &[_] = &[
            ("sec-ch-ua", r#""Chromium";v="150""#),
            ("sec-ch-ua-platform", "\"Windows\""),
            ("sec-ch-ua-mobile", "?0"),
        ];
        let to: &[_] =
            &[("sec-ch-ua", r#""Chromium";v="148""#), ("sec-ch-ua-platform", "\"Linux\""), ("sec-ch-ua-mobile", "?1")];
        let all = DeviceDrift { platform: Moved::Yes, mobile: Moved::Yes, hint_version: Moved::Yes, ..NONE };
        check_device((WINDOWS, from, HOME), (WINDOWS, to, HOME), all);
        // Absent is no evidence, either way.
        check_device((WINDOWS, from, HOME), (WINDOWS, &[], HOME), NONE);
        check_device((WINDOWS, &[], HOME), (WINDOWS, to, HOME), NONE);
        // They move with an update, which is told as the update.
        let newer = WINDOWS.replace("150", "151");
        check_device((WINDOWS, from, HOME), (&newer, to, HOME), DeviceDrift { version: VersionDrift::Up, ..NONE });
    }

    #[test]
    fn exact_hints_go_up_and_not_down() {
        fn with<'h>(platform: &'h str, patch: &'h str) -> [(&'h str, &'h str); 2] {
            [("sec-ch-ua-platform-version", platform), ("sec-ch-ua-full-version-list", patch)]
        }
        let patch = |last: &str| format!(r#""Chromium";v="150.0.8000.{last}""#);
        let check = |from: [&str; 2], to: [&str; 2], expected| {
            let (old, new) = (patch(from[1]), patch(to[1]));
            let expected = DeviceDrift { exact: expected, ..NONE };
            check_device((WINDOWS, &with(from[0], &old), HOME), (WINDOWS, &with(to[0], &new), HOME), expected);
        };
        check(["\"15.0.0\"", "7"], ["\"15.0.0\"", "7"], ExactDrift::Same);
        check(["\"15.0.0\"", "7"], ["\"15.0.0\"", "9"], ExactDrift::Up);
        check(["\"15.0.0\"", "7"], ["\"19.0.0\"", "7"], ExactDrift::Up);
        check(["\"15.0.0\"", "7"], ["\"15.0.0\"", "6"], ExactDrift::Down);
        check(["\"15.0.0\"", "7"], ["\"10.0.0\"", "9"], ExactDrift::Down);
        check(["\"15.0.0\"", "7"], ["\"\"", "x"], ExactDrift::Same);
        let machine: &[_] = &[("sec-ch-ua-model", "\"Pixel 9\"")];
        let other: &[_] = &[("sec-ch-ua-model", "\"SM-S911B\"")];
        check_device((ANDROID, machine, HOME), (ANDROID, other, HOME), DeviceDrift { machine: Moved::Yes, ..NONE });
    }

    #[test]
    fn on_the_wire() {
        use NetworkKind::{Mobile, Residential, Sase, Vpn};
        let bound = Wire { tls: 1, http2: 2, soft: 3, syn: 4, ..Wire::default() };
        let other = Wire { tls: 9, http2: 9, soft: 9, syn: 9, ..bound };
        let at = |wire, kind| Fingerprint { wire, place: place(1, "DE", kind), ..client(WINDOWS, &[], HOME) };
        let check = |from: Fingerprint, to: Fingerprint, expected| assert_eq!(drift(&from, &to).device, expected);
        let all = DeviceDrift { tls: Moved::Yes, soft: Moved::Yes, http2: Moved::Yes, syn: Moved::Yes, ..NONE };
        check(at(bound, Residential), at(other, Residential), all);
        // What stands in between may have sent the first packet.
        for kind in [Mobile, Vpn] {
            check(at(bound, Residential), at(other, kind), DeviceDrift { syn: Moved::No, ..all });
        }
        // A gateway speaks for itself.
        check(at(bound, Residential), at(other, Sase), DeviceDrift { gateway: Moved::Yes, ..NONE });
        check(at(bound, Residential), at(bound, Sase), NONE);
        // Nothing is known of a connection that ended before us.
        check(at(bound, Residential), at(Wire::default(), Residential), NONE);
        // An update may change TLS; a step back may not.
        let version = |major| Fingerprint { wire: other, ..client(&WINDOWS.replace("150", major), &[], HOME) };
        let from = Fingerprint { wire: bound, ..client(WINDOWS, &[], HOME) };
        let updated = DeviceDrift { tls: Moved::No, soft: Moved::No, version: VersionDrift::Up, ..all };
        check(from, version("151"), updated);
        check(from, version("149"), DeviceDrift { version: VersionDrift::Down, ..all });
        // Another system that speaks in another way is no switch for desktop pages.
        let phone = Fingerprint { wire: bound, ..client(ANDROID, &[], HOME) };
        let desktop = |wire| Fingerprint { wire, ..client(LINUX, &[], HOME) };
        check(phone, desktop(bound), DeviceDrift { os: OsDrift::DesktopToggle, ..NONE });
        check(phone, desktop(Wire { tls: 9, ..bound }), DeviceDrift { os: OsDrift::Changed, tls: Moved::Yes, ..NONE });
        // Weak traits alone are nothing.
        let soft = drift(&from, &Fingerprint { wire: Wire { soft: 1, ..bound }, ..from });
        assert!(soft.device.soft == Moved::Yes && soft.is_none());
    }

    /// A Chromium that asks for another language by its developer tools, or by a script of the page, used to look like another
    /// engine: it then sends `Accept-Language` first.
    #[test]
    fn a_language_that_is_asked_for_by_hand_moves_its_header() {
        let order = |site_before_dest, encoding_before_language| Wire {
            order: HeaderOrder { site_before_dest, encoding_before_language },
            ..Wire::default()
        };
        let (own, by_hand, firefox) =
            (order(First::Yes, First::Yes), order(First::Yes, First::No), order(First::No, First::No));
        let asks = |wire, language| Fingerprint { wire, ..client(WINDOWS, &[("accept-language", language)], HOME) };
        let check = |to: Fingerprint, expected| assert_eq!(drift(&asks(own, "de,en"), &to).device, expected);
        check(asks(by_hand, "fr"), DeviceDrift { language: LanguageDrift::Changed, ..NONE });
        check(asks(by_hand, "de"), DeviceDrift { language: LanguageDrift::List, ..NONE });
        check(asks(by_hand, "de,en"), DeviceDrift { order: Moved::Yes, ..NONE });
        check(asks(firefox, "fr"), DeviceDrift { language: LanguageDrift::Changed, order: Moved::Yes, ..NONE });
    }

    fn place(asn: u32, country: &str, kind: NetworkKind) -> Place {
        Place { asn: (asn != 0).then_some(Asn(asn)), country: Country::parse(country), kind, position: None }
    }

    #[track_caller]
    fn check_network(from: (&str, Place), to: (&str, Place), expected: NetworkDrift) {
        let at = |(ip, place): (&str, Place)| Fingerprint { place, ..client(WINDOWS, &[], ip) };
        assert_eq!(drift(&at(from), &at(to)).network, expected);
    }

    #[test]
    fn networks() {
        use NetworkKind::{Hosting, Relay, Residential, Tor, Unknown, Vpn};
        let none = NetworkDrift::default();
        let home = place(3320, "DE", Unknown);
        let away = place(7922, "US", Unknown);
        // Within a prefix nothing moved, even if a database has changed its mind.
        check_network((HOME, home), ("203.0.113.200", away), none);
        check_network(("2001:db8:1:2::1", home), ("2001:db8:1:2:ffff::2", away), none);
        let site = NetworkDrift { prefix: PrefixDrift::Site, ..none };
        check_network(("2001:db8:1:2::1", home), ("2001:db8:1:3::1", away), site);
        let elsewhere = NetworkDrift { prefix: PrefixDrift::Elsewhere, ..none };
        check_network(("2001:db8:1:2::1", home), ("2001:db8:2:2::1", home), elsewhere);
        check_network((HOME, home), (AWAY, home), elsewhere);
        let flip = NetworkDrift { prefix: PrefixDrift::FamilyFlip, ..none };
        check_network((HOME, home), ("2001:db8::1", home), flip);
        check_network((HOME, home), ("2001:db8::1", Place::default()), flip);
        let asn = NetworkDrift { asn: Moved::Yes, ..elsewhere };
        check_network((HOME, home), (AWAY, place(1, "DE", Unknown)), asn);
        check_network((HOME, home), (AWAY, away), NetworkDrift { country: CountryDrift::Changed, ..asn });
        let hidden = NetworkDrift { country: CountryDrift::Hidden, into: Some(Vpn), ..asn };
        check_network((HOME, home), (AWAY, place(9, "US", Vpn)), hidden);
        check_network((HOME, home), (AWAY, place(9, "DE", Hosting)), NetworkDrift { into: Some(Hosting), ..asn });
        check_network((HOME, home), (AWAY, place(9, "DE", Tor)), NetworkDrift { into: Some(Tor), ..asn });
        check_network((HOME, home), (AWAY, place(9, "DE", Relay)), elsewhere);
        // Back out of a VPN nothing telling was entered.
        check_network(
            (HOME, place(9, "US", Vpn)),
            (AWAY, place(9, "DE", Unknown)),
            NetworkDrift { country: CountryDrift::Hidden, ..elsewhere },
        );
        let one = DeviceDrift::default();
        assert_eq!(one, NONE);
        // From one exit of Tor to the next, and from one line to another of the same operator.
        check_network((HOME, place(9, "US", Tor)), (AWAY, place(8, "DE", Tor)), elsewhere);
        let line = |asn| place(asn, "DE", Residential);
        check_network((HOME, line(9)), (AWAY, line(9)), NetworkDrift { line: Moved::Yes, ..elsewhere });
        check_network((HOME, line(9)), (AWAY, line(8)), asn);
        // Unknown is no change.
        check_network((HOME, home), (AWAY, Place::default()), elsewhere);
        check_network((HOME, Place::default()), (AWAY, away), elsewhere);
    }

    #[test]
    fn the_nearer_of_two_has_the_smaller_distance() {
        let home = client(WINDOWS, &[], HOME);
        let distance = |to: &Fingerprint| drift(&home, to).distance();
        let far = [
            home,
            client(WINDOWS, &[], AWAY),
            client(&WINDOWS.replace("150", "151"), &[], HOME),
            client(WINDOWS, &[("accept-language", "de-AT")], HOME),
            client(WINDOWS, &[("accept-language", "ru")], HOME),
            client(LINUX, &[], HOME),
            client("curl/8.5.0", &[], HOME),
            client(MAC, &[], AWAY),
        ];
        assert!(far.iter().map(distance).is_sorted_by(|a, b| a < b));
        assert!(drift(&home, &far[1]).is_none());
        assert!(far[2..].iter().all(|other| !drift(&home, other).is_none()));
    }
}
