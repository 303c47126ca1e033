//! One test for each row of the table of weights.

use super::*;
use crate::connection::print::{PseudoOrder, RttGap};
use crate::facts::geo::{Country, NetworkKind, Place};
use crate::facts::order::{First, HeaderOrder};
use crate::facts::user_agent::UserAgentCache;
use crate::fingerprint::Wire;
use crate::fingerprint::tests::{any_fingerprint, headers};
use crate::history::HalfLife;
use crate::net::Asn;
use proptest::prelude::*;

pub(super) const WINDOWS: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36";
pub(super) const LINUX: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36";
pub(super) const ANDROID: &str =
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Mobile Safari/537.36";
pub(super) const FIREFOX: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:153.0) Gecko/20100101 Firefox/153.0";

/// A client to change one thing of.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) agent: String,
    pub(super) language: &'static str,
    pub(super) hints: Vec<(&'static str, &'static str)>,
    pub(super) ip: &'static str,
    pub(super) place: Place,
    pub(super) wire: Wire,
}

/// A browser on the wire.
pub(super) const BLINK: Wire = Wire {
    tls: 7,
    http2: 8,
    soft: 0,
    syn: 1,
    order: HeaderOrder { site_before_dest: First::Yes, encoding_before_language: First::Yes },
};

pub(super) fn at_home() -> Client {
    Client {
        agent: WINDOWS.to_owned(),
        language: "de-DE,de;q=0.9",
        hints: vec![
            ("sec-ch-ua", r#""Chromium";v="150""#),
            ("sec-ch-ua-platform", r#""Windows""#),
            ("sec-ch-ua-mobile", "?0"),
        ],
        ip: "203.0.113.7",
        place: place(3320, "DE", NetworkKind::Unknown),
        wire: BLINK,
    }
}

pub(super) fn place(asn: u32, country: &str, kind: NetworkKind) -> Place {
    Place { asn: Some(Asn(asn)), country: Country::parse(country), kind, position: None }
}

impl Client {
    pub(super) fn agent(mut self, agent: &str) -> Self {
        self.agent = agent.to_owned();
        self
    }

    pub(super) fn without_hints(mut self) -> Self {
        self.hints.clear();
        self
    }

    fn hint(mut self, at: usize, value: &'static str) -> Self {
        self.hints[at].1 = value;
        self
    }

    pub(super) fn speaks(mut self, language: &'static str) -> Self {
        self.language = language;
        self
    }

    pub(super) fn on(mut self, ip: &'static str, asn: u32, country: &str, kind: NetworkKind) -> Self {
        (self.ip, self.place) = (ip, place(asn, country, kind));
        self
    }

    pub(super) fn wired(mut self, wire: Wire) -> Self {
        self.wire = wire;
        self
    }

    pub(super) fn seen(&self) -> Fingerprint {
        let mut lines = self.hints.clone();
        lines.extend([("user-agent", self.agent.as_str()), ("accept-language", self.language)]);
        lines.retain(|(_, value)| !value.is_empty());
        let cache = UserAgentCache::new([3; 16]);
        Fingerprint::observe(
            &crate::facts::seen::SeenHeaders::of(&headers(&lines)),
            self.wire,
            self.ip.parse().unwrap(),
            self.place,
            &cache,
        )
    }
}

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_795_000_000 + secs)
}

fn told(assessment: &Assessment) -> Vec<String> {
    let line = |signal: &Signal| format!("{} {} {}>{}", signal.kind.name(), signal.points, signal.before, signal.after);
    assessment.signals.iter().map(line).collect()
}

/// The signals of a client, in a session bound to the client at home.
#[track_caller]
fn check(client: &Client, expected: &[&str]) {
    let contexts = Contexts::bind(at_home().seen(), at(0));
    let fingerprint = client.seen();
    let found = assess(&DetectorInput::new(at(10), &fingerprint, &contexts), &Scoring::default());
    assert_eq!(told(&found), expected);
    let sum: Points = found.signals.iter().map(|signal| signal.points).sum();
    assert_eq!(found.risk, sum);
}

#[test]
fn another_program() {
    check(&at_home().agent(FIREFOX).without_hints(), &["device.family 75 chrome>firefox"]);
    check(&at_home().agent("curl/8.5.0").without_hints(), &["device.family 75 chrome>curl"]);
    check(&at_home().agent("").without_hints(), &["device.family 75 chrome>absent"]);
}

#[test]
fn another_system() {
    check(&at_home().agent(LINUX).without_hints(), &["device.os 60 windows>linux"]);
}

#[test]
fn desktop_pages() {
    check(&at_home().agent(ANDROID), &["device.desktop_site 12 windows>android"]);
}

#[test]
fn another_version() {
    let version = |major| at_home().agent(&WINDOWS.replace("150", major));
    check(&version("152"), &["device.version 3 150>152"]);
    check(&version("160"), &["device.version 45 150>160"]);
    check(&version("149"), &["device.version 45 150>149"]);
}

#[test]
fn other_languages() {
    check(&at_home().speaks("ru,en;q=0.5"), &["device.language 12 de>ru"]);
    check(&at_home().speaks(""), &["device.language 12 de>absent"]);
    check(&at_home().speaks("de-DE,de;q=0.9,en;q=0.8"), &["device.language 4 de>de"]);
}

#[test]
fn hints_that_contradict_the_user_agent() {
    check(&at_home().hint(1, "\"Linux\""), &["device.hints 22 windows>linux"]);
    check(&at_home().hint(0, r#""Chromium";v="148""#), &["device.hints 22 150>148"]);
    check(&at_home().hint(2, "?1"), &["device.hints 12 mobile>not mobile"]);
    // One cause, so the greatest and 30 % of the rest.
    let all = at_home().hint(0, r#""Chromium";v="148""#).hint(1, "\"Linux\"").hint(2, "?1");
    check(&all, &["device.hints 32.2 windows>linux"]);
}

#[test]
fn exact_hints() {
    let with = |value| {
        let mut client = at_home();
        client.hints.push(("sec-ch-ua-platform-version", value));
        client
    };
    let contexts = Contexts::bind(with("\"15.0.0\"").seen(), at(0));
    let check = |value, expected: &[&str]| {
        let fingerprint = with(value).seen();
        let found = assess(&DetectorInput::new(at(10), &fingerprint, &contexts), &Scoring::default());
        assert_eq!(told(&found), expected);
    };
    check("\"15.0.0\"", &[]);
    check("\"19.0.0\"", &["device.hints 2 >a newer build"]);
    check("\"10.0.0\"", &["device.hints 22 >an older build"]);
}

#[test]
fn another_engine() {
    let wired = |wire| at_home().wired(wire);
    let tls = "device.tls 45 00000007>00000070";
    check(&wired(Wire { tls: 0x70, ..BLINK }), &[tls]);
    check(&wired(Wire { http2: 0x80, ..BLINK }), &["device.http2 30 0008>0080"]);
    let firefox = HeaderOrder { site_before_dest: First::No, encoding_before_language: First::No };
    let order = "the order of another engine";
    check(&wired(Wire { order: firefox, ..BLINK }), &[&format!("device.order 30 >{order}")]);
    // One cause, so the greatest and 30 % of the rest.
    let all = Wire { tls: 0x70, http2: 0x80, order: firefox, ..BLINK };
    check(&wired(all), &[tls, "device.http2 9 0008>0080", &format!("device.order 9 >{order}")]);
    check(&wired(Wire { soft: 5, ..BLINK }), &[]);
    check(&wired(Wire { soft: 5, tls: 0x70, ..BLINK }), &[tls, "device.tls_soft 5 0000>0101"]);
    check(&wired(Wire { syn: 9, ..BLINK }), &["device.syn 12 1>9"]);
    check(&wired(Wire::default()), &[]);
    let gateway = wired(all).on("198.51.100.7", 9, "DE", NetworkKind::Sase);
    check(&gateway, &["device.tls 18 unknown>sase", "network.asn 10 3320>9"]);
}

#[test]
fn somebody_in_between_is_known_by_answers_that_come_late() {
    let slow = |millis| Some(RttGap::of(std::time::Duration::from_millis(millis)));
    let contexts = Contexts::bind(at_home().seen().with_rtt_gap(slow(8)), at(0));
    let told_of = |fingerprint: &Fingerprint| {
        let found = assess(&DetectorInput::new(at(10), fingerprint, &contexts), &Scoring::default());
        told(&found)
    };
    // From the owner's own address, through a program on the owner's machine.
    assert_eq!(told_of(&at_home().seen().with_rtt_gap(slow(88))), ["network.relay 22 8 ms>88 ms"]);
    for harmless in [None, slow(0), slow(44)] {
        assert_eq!(told_of(&at_home().seen().with_rtt_gap(harmless)), [""; 0]);
    }
    // Where others end the connections of everybody it says nothing.
    for kind in [NetworkKind::Mobile, NetworkKind::Relay, NetworkKind::Vpn] {
        let there = at_home().on("198.51.100.7", 9, "DE", kind).seen().with_rtt_gap(slow(88));
        assert!(!told_of(&there).iter().any(|line| line.starts_with("network.relay")), "{kind:?}");
    }
    // What is known of a client is the shortest gap, and somebody in between is told once.
    let mut contexts = contexts.clone();
    let relayed = at_home().seen().with_rtt_gap(slow(88));
    let mut tell = |fingerprint: &Fingerprint, second| {
        let input = DetectorInput::new(at(second), fingerprint, &contexts);
        let found = assess(&input, &Scoring::default());
        contexts.note(&found.visit(&input, &Scoring::default(), Holding::Other));
        found.signals.len()
    };
    assert_eq!([tell(&relayed, 100), tell(&relayed, 200)], [1, 0]);
    assert_eq!([tell(&at_home().seen().with_rtt_gap(slow(0)), 300), tell(&relayed, 400)], [0, 0]);
    // However far it is then.
    assert_eq!([150, 450, 900].map(|millis| tell(&at_home().seen().with_rtt_gap(slow(millis)), 500)), [0; 3]);
    assert_eq!(contexts.known()[0].fingerprint.rtt_gap, slow(0));
}

#[test]
fn another_place_of_the_owner_hides_nobody_in_between() {
    let slow = |millis| Some(RttGap::of(std::time::Duration::from_millis(millis)));
    for operator in [0, 9] {
        let home = || at_home().on("203.0.113.7", operator, "DE", NetworkKind::Residential).seen();
        let mut contexts = Contexts::bind(home().with_rtt_gap(slow(8)), at(0));
        let outside = at_home().on("198.51.100.7", operator, "DE", NetworkKind::Mobile).seen();
        for fingerprint in [outside, home().with_rtt_gap(slow(88))] {
            let input = DetectorInput::new(at(10), &fingerprint, &contexts);
            let found = assess(&input, &Scoring::default());
            let expected = fingerprint != outside;
            assert_eq!(told(&found).iter().any(|line| line.starts_with("network.relay")), expected);
            contexts.note(&found.visit(&input, &Scoring::default(), Holding::Head));
        }
    }
    // The native part of an app that takes its time is no new device on a new network.
    let companions = Scoring { companions: vec!["chrome + okhttp".parse().unwrap()], ..Scoring::default() };
    let contexts = Contexts::bind(at_home().seen().with_rtt_gap(slow(5)), at(0));
    let native = at_home().agent("okhttp/5.1.0").without_hints().seen().with_rtt_gap(slow(60));
    let found = assess(&DetectorInput::new(at(10), &native, &contexts), &companions);
    assert_eq!(told(&found), ["network.relay 22 4 ms>60 ms"]);
}

#[test]
fn another_line_of_the_operator() {
    let contexts = Contexts::bind(at_home().on("203.0.113.7", 9, "DE", NetworkKind::Residential).seen(), at(0));
    let fingerprint = at_home().on("198.51.100.7", 9, "DE", NetworkKind::Residential).seen();
    let found = assess(&DetectorInput::new(at(10), &fingerprint, &contexts), &Scoring::default());
    assert_eq!(told(&found), ["network.line 3 >another line of the same operator"]);
}

/// The signals of the first request after a login.
#[track_caller]
fn check_login(client: &Client, pseudo: &[u8; 4], expected: &[&str]) {
    check_doubt(client, login_doubt(&client.seen(), Some(PseudoOrder(*pseudo)), Fit::Unknown), expected);
}

#[track_caller]
fn check_doubt(client: &Client, doubt: LoginDoubt, expected: &[&str]) {
    let mut contexts = Contexts::bind(client.seen(), at(0)).doubted(doubt);
    // It is said of whoever comes first, and then of nobody.
    let thief = client.clone().on("192.0.2.7", 9, "DE", NetworkKind::Residential).seen();
    for (fingerprint, is_first) in [(client.seen(), true), (thief, true), (client.seen(), false)] {
        let input = DetectorInput::new(at(1), &fingerprint, &contexts);
        let found = assess(&input, &Scoring::default());
        let told: Vec<_> = told(&found).into_iter().filter(|line| line.starts_with("login.")).collect();
        assert_eq!(told, if is_first { expected } else { &[] });
        let visit = found.visit(&input, &Scoring::default(), Holding::Other);
        if fingerprint == thief {
            contexts.note(&visit);
        }
    }
}

#[test]
fn a_login_by_what_can_not_be_the_browser_it_claims_to_be() {
    let contradiction = |claimed, found| format!("login.contradiction 40 {claimed}>{found}");
    let http2 = "HTTP/2 of another engine";
    check_login(&at_home(), b"masp", &[]);
    check_login(&at_home(), b"amps", &[&contradiction("chrome", http2)]);
    let other = HeaderOrder { site_before_dest: First::No, ..BLINK.order };
    let disguised = at_home().wired(Wire { order: other, ..BLINK });
    check_login(&disguised, b"masp", &[&contradiction("chrome", "headers in the order of another engine")]);
    // In the order of Chromium, which is right for it and wrong for Firefox.
    check_login(
        &at_home().agent(FIREFOX).without_hints(),
        b"mpas",
        &[&contradiction("firefox", "headers in the order of another engine")],
    );
    let order = HeaderOrder { site_before_dest: First::No, encoding_before_language: First::No };
    let firefox = at_home().agent(FIREFOX).without_hints().wired(Wire { order, ..BLINK });
    check_login(&firefox, b"mpas", &[]);
    check_login(&firefox, b"masp", &[&contradiction("firefox", http2)]);
    // All browsers of iOS are of one engine, and of a tool nothing is known.
    let ios = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/150.0.0.0 Mobile/15E148 Safari/604.1";
    check_login(&at_home().agent(ios).without_hints().wired(Wire { order, ..BLINK }), b"mspa", &[]);
    check_login(&at_home().agent("curl/8.5.0").without_hints(), b"mspa", &[]);
    // A gateway speaks for itself.
    check_login(&at_home().on("198.51.100.7", 9, "DE", NetworkKind::Sase), b"amps", &[]);
    // What a guard knows of its own users.
    let never = login_doubt(&at_home().seen(), None, Fit::Never);
    check_doubt(&at_home(), never, &[&contradiction("chrome", "TLS that no user of it has")]);
    let servers = at_home().on("198.51.100.7", 9, "DE", NetworkKind::Hosting);
    check_login(&servers, b"amps", &[&contradiction("chrome", http2), "login.hosting 15 >9"]);
}

#[test]
fn another_network() {
    use NetworkKind::{Hosting, Tor, Unknown, Vpn};
    let on = |asn, country, kind| at_home().on("198.51.100.7", asn, country, kind);
    check(&on(3320, "DE", Unknown), &[]);
    check(&on(9, "DE", Unknown), &["network.asn 10 3320>9"]);
    check(&on(9, "US", Unknown), &["network.asn 10 3320>9", "network.country 19 DE>US"]);
    check(&on(9, "DE", Hosting), &["network.asn 10 3320>9", "network.hosting 22 unknown>hosting"]);
    check(&on(9, "US", Vpn), &["network.asn 10 3320>9", "network.country 9.5 DE>US", "network.vpn 10 unknown>vpn"]);
    check(&on(9, "US", Tor), &["network.asn 10 3320>9", "network.country 9.5 DE>US", "network.tor 15 unknown>tor"]);
}

#[test]
fn a_new_device_on_a_new_network() {
    let away = |client: Client, kind| client.on("198.51.100.7", 9, "DE", kind);
    let both = ["device.os 60 windows>linux", "network.asn 10 3320>9", "interaction 22 >new device on a new network"];
    check(&away(at_home().agent(LINUX).without_hints(), NetworkKind::Unknown), &both);
    // Abroad, among servers, in Tor, or with an older version it may end the session.
    let far = "interaction.far 22 >new device on a new network, far away";
    check(
        &at_home().agent(LINUX).without_hints().on("198.51.100.7", 9, "US", NetworkKind::Unknown),
        &["device.os 60 windows>linux", "network.asn 10 3320>9", "network.country 19 DE>US", far],
    );
    let older = at_home().agent(&WINDOWS.replace("150", "149")).without_hints();
    check(&away(older, NetworkKind::Unknown), &["device.version 45 150>149", "network.asn 10 3320>9", far]);
    // Too little of the one, and a gateway that changes both.
    check(&away(at_home().speaks("ru"), NetworkKind::Unknown), &["device.language 12 de>ru", "network.asn 10 3320>9"]);
    check(&away(at_home().agent(LINUX).without_hints(), NetworkKind::Sase), &both[..2]);
}

#[test]
fn two_devices_in_turn() {
    let (owner, guest) = (at_home().seen(), at_home().agent(FIREFOX).without_hints().seen());
    let scoring = Scoring { half_life: HalfLife::default(), ..Scoring::default() };
    // Owner, guest, owner, guest: what is said of the last two.
    let taking_turns = |owner: Fingerprint, guest: Fingerprint| {
        let mut contexts = Contexts::bind(owner, at(0));
        let mut last = Vec::new();
        for (now, who) in [(10, guest), (20, owner), (30, guest)] {
            let input = DetectorInput::new(at(now), &who, &contexts);
            let found = assess(&input, &scoring);
            let visit = found.visit(&input, &scoring, Holding::Other);
            last.push((told(&found), visit.session_points));
            contexts.note(&visit);
        }
        last.split_off(1)
    };
    // The guest pays, and not the owner who is back.
    let both = |kind: &str| {
        let line = format!("{kind} 55 chrome windows>firefox windows");
        vec![(vec![], Points::ZERO), (vec![line], Points::whole(55))]
    };
    assert_eq!(taking_turns(owner, guest), both("concurrency"));
    // If they speak in two ways too, there is no doubt.
    let guest = Fingerprint { wire: Wire { tls: 70, ..BLINK }, ..guest };
    assert_eq!(taking_turns(owner, guest), both("concurrency.devices"));
}

/// The signals of a client with this id, in a session whose newest tag the client at home holds.
#[track_caller]
fn check_id(client: &Client, id: IdEvidence, expected: &[&str]) {
    let contexts = Contexts::bind(at_home().seen(), at(0));
    let fingerprint = client.seen();
    let input = DetectorInput { id, ..DetectorInput::new(at(1000), &fingerprint, &contexts) };
    let stale: Vec<_> = told(&assess(&input, &Scoring::default()));
    let ids: Vec<_> = stale.iter().filter(|line| line.starts_with("id.")).collect();
    assert_eq!(ids, expected);
}

#[test]
fn a_stale_tag() {
    let first = IdEvidence::Stale { previous: None, behind: 1 };
    let again = IdEvidence::Stale { previous: Some(at(1000 - 299)), behind: 1 };
    let later = IdEvidence::Stale { previous: Some(at(1000 - 300)), behind: 1 };
    let device = ["id.stale_device 65 chrome 150 windows>curl 8 unknown"];
    check_id(&at_home().agent("curl/8.5.0").without_hints(), again, &device);
    let network = at_home().on("198.51.100.7", 9, "DE", NetworkKind::Unknown);
    check_id(&network, again, &["id.stale 52 3320>9"]);
    let prefix = at_home().on("198.51.100.7", 3320, "DE", NetworkKind::Unknown);
    let expected = ["id.stale 25 the holder's prefix>another prefix"];
    check_id(&prefix, first, &expected);
    check_id(&prefix, again, &[]);
    check_id(&prefix, later, &expected);
    let expected = ["id.stale 8 >the holder's device and network"];
    check_id(&at_home(), first, &expected);
    check_id(&at_home(), again, &[]);
    check_id(&at_home(), later, &expected);
    // A long way behind, another prefix is another line.
    let far = IdEvidence::Stale { previous: Some(at(900)), behind: 4 };
    check_id(&prefix, far, &["id.stale 52 the holder's line>another line, 4 tags behind"]);
    // The holder may be reached over IPv6 now.
    check_id(&at_home().on("2001:db8::1", 3320, "DE", NetworkKind::Unknown), first, &expected);
}

#[test]
fn a_copy_of_the_jar_at_home_while_the_holder_is_out() {
    let mut contexts = Contexts::bind(at_home().seen(), at(0));
    let out = at_home().on("198.51.100.7", 9, "DE", NetworkKind::Mobile).seen();
    contexts.note(&Visit {
        now: at(100),
        fingerprint: out,
        holding: Holding::Head,
        context_points: Points::ZERO,
        session_points: Points::ZERO,
        half_life: HalfLife::default(),
    });
    let home = at_home().seen();
    let check = |behind, expected: &[&str]| {
        let id = IdEvidence::Stale { previous: None, behind };
        let input = DetectorInput { id, ..DetectorInput::new(at(1000), &home, &contexts) };
        assert_eq!(told(&assess(&input, &Scoring::default())), expected);
    };
    check(3, &["id.stale 8 >the holder's device and network"]);
    check(4, &["id.stale 52 9>3320"]);
}

#[test]
fn a_fork() {
    let previous = Some(at(990));
    check_id(&at_home(), IdEvidence::Fork { previous, earlier: 0, behind: 1 }, &["id.fork 55 >two cookie jars"]);
    check_id(&at_home(), IdEvidence::Fork { previous, earlier: 1, behind: 1 }, &["id.fork 100 >two cookie jars"]);
    let tool = at_home().agent("curl/8.5.0").without_hints();
    let expected = ["id.stale_device 65 chrome 150 windows>curl 8 unknown", "id.fork 55 >two cookie jars"];
    check_id(&tool, IdEvidence::Fork { previous, earlier: 0, behind: 1 }, &expected);
}

#[test]
fn ids_that_were_not_issued() {
    check_id(&at_home(), IdEvidence::Forged, &["id.forged 40 >a tag never issued"]);
    check_id(&at_home(), IdEvidence::NeverIssued, &["id.never_issued 5 >an id that no session has"]);
}

/// The signals of a client without a session.
#[track_caller]
fn check_stranger(change: impl FnOnce(&mut DetectorInput<'_>), expected: &[&str]) {
    let (fingerprint, contexts) = (at_home().seen(), Contexts::default());
    let mut input = DetectorInput::new(at(0), &fingerprint, &contexts);
    change(&mut input);
    let found = assess(&input, &Scoring::default());
    assert_eq!(told(&found), expected);
    assert_eq!(found.visit(&input, &Scoring::default(), Holding::Other).context_points, Points::ZERO);
}

#[test]
fn planted_app_cookies() {
    check_stranger(|input| input.planted = Planted::Sent, &["id.planted 5 >a shielded cookie"]);
    check_stranger(|input| input.planted = Planted::AtLogin, &["id.planted 20 >a shielded cookie at login"]);
}

#[test]
fn many_wrong_ids() {
    let check = |unknown, malformed, forged, expected: &[&str]| {
        check_stranger(|input| input.counts = Counts { unknown, malformed, forged }, expected);
    };
    check(9, 0, 0, &[]);
    check(10, 0, 0, &["id.guessing 20 >10 unknown, 0 malformed, 0 forged"]);
    check(0, 5, 0, &["id.guessing 20 >0 unknown, 5 malformed, 0 forged"]);
    check(0, 0, 3, &["id.guessing 20 >0 unknown, 0 malformed, 3 forged"]);
    check(u32::MAX, 1, 1, &["id.guessing 100 >4294967295 unknown, 1 malformed, 1 forged"]);
}

#[test]
fn odd_cookies() {
    use CookieFinding::{LookAlike, Malformed, Nameless, OldSyntax, Repeated, Unbound};
    let check = |findings: &[CookieFinding], expected: &str| {
        check_stranger(|input| input.cookies = findings.iter().copied().collect(), &[expected]);
    };
    check(&[Repeated], "protocol.cookie 10 >repeated");
    check(&[Malformed], "protocol.cookie 10 >malformed");
    check(&[LookAlike], "protocol.cookie 20 >look-alike");
    check(&[Nameless], "protocol.cookie 5 >nameless");
    check(&[OldSyntax], "protocol.cookie 5 >old syntax");
    check(&[Unbound], "protocol.cookie 10 >unbound");
    check(&[Repeated, LookAlike], "protocol.cookie 23 >repeated, look-alike");
}

#[test]
fn a_weight_of_zero_turns_a_signal_off() {
    let contexts = Contexts::bind(at_home().seen(), at(0));
    let fingerprint = at_home().agent(FIREFOX).without_hints().seen();
    let scoring = Scoring { weights: Weights { family: Points::ZERO, ..Weights::default() }, ..Scoring::default() };
    assert_eq!(told(&assess(&DetectorInput::new(at(1), &fingerprint, &contexts), &scoring)), [""; 0]);
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = SignalKind::ALL.iter().map(|kind| kind.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), SignalKind::ALL.len());
}

proptest! {
    /// The shortcut of `assess_with` leaves nothing out.
    #[test]
    fn a_quiet_scene_has_no_signals(bound in any_fingerprint(), now in any_fingerprint(), same in any::<bool>()) {
        let now = if same { bound } else { now };
        let contexts = Contexts::bind(bound, at(0));
        let input = DetectorInput::new(at(10), &now, &contexts);
        let drift = contexts.best_match(&now).unwrap().drift;
        let scoring = Scoring::default();
        let scene = Scene {
            input: &input,
            weights: &scoring.weights,
            bound: Some(&bound),
            last_seen: Some(at(0)),
            standing: Some(Standing::Trusted),
            drift,
            company: Company::None,
            companions: &[],
        };
        let raised = DETECTORS.iter().filter_map(|detect| detect(&scene)).count();
        prop_assert_eq!(raised == 0, scene.is_quiet());
        prop_assert!(!same || scene.is_quiet());
    }
}
