//! One test for each row of the table of weights.

use super::*;
use crate::facts::geo::{Country, NetworkKind, Place};
use crate::facts::user_agent::UserAgentCache;
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
}

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

    pub(super) fn seen(&self) -> Fingerprint {
        let mut lines = self.hints.clone();
        lines.extend([("user-agent", self.agent.as_str()), ("accept-language", self.language)]);
        lines.retain(|(_, value)| !value.is_empty());
        let cache = UserAgentCache::new([3; 16]);
        Fingerprint::observe(
            &crate::facts::seen::SeenHeaders::of(&headers(&lines)),
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
fn another_network() {
    use NetworkKind::{Hosting, Tor, Unknown, Vpn};
    let on = |asn, country, kind| at_home().on("198.51.100.7", asn, country, kind);
    check(&on(3320, "DE", Unknown), &[]);
    check(&on(9, "DE", Unknown), &["network.asn 10 3320>9"]);
    check(&on(9, "US", Unknown), &["network.asn 10 3320>9", "network.country 22 DE>US"]);
    check(&on(9, "DE", Hosting), &["network.asn 10 3320>9", "network.hosting 20 unknown>hosting"]);
    check(&on(9, "US", Vpn), &["network.asn 10 3320>9", "network.country 11 DE>US", "network.vpn 10 unknown>vpn"]);
    check(&on(9, "US", Tor), &["network.asn 10 3320>9", "network.country 11 DE>US", "network.tor 15 unknown>tor"]);
}

#[test]
fn a_new_device_on_a_new_network() {
    let away = |client: Client, kind| client.on("198.51.100.7", 9, "DE", kind);
    let both = ["device.os 60 windows>linux", "network.asn 10 3320>9", "interaction 22 >new device on a new network"];
    check(&away(at_home().agent(LINUX).without_hints(), NetworkKind::Unknown), &both);
    // Too little of the one, and a gateway that changes both.
    check(&away(at_home().speaks("ru"), NetworkKind::Unknown), &["device.language 12 de>ru", "network.asn 10 3320>9"]);
    check(&away(at_home().agent(LINUX).without_hints(), NetworkKind::Sase), &both[..2]);
}

#[test]
fn two_devices_in_turn() {
    let (owner, other) = (at_home().seen(), at_home().agent(FIREFOX).without_hints().seen());
    let mut contexts = Contexts::bind(owner, at(0));
    let scoring = Scoring { half_life: HalfLife::default(), ..Scoring::default() };
    let first = DetectorInput::new(at(10), &other, &contexts);
    let visit = assess(&first, &scoring).visit(&first, &scoring, Holding::Other);
    contexts.note(&visit);
    let back = DetectorInput::new(at(20), &owner, &contexts);
    let found = assess(&back, &scoring);
    assert_eq!(told(&found), ["concurrency 55 firefox windows>chrome windows"]);
    let visit = found.visit(&back, &scoring, Holding::Other);
    assert_eq!((visit.context_points, visit.session_points), (Points::ZERO, Points::whole(55)));
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
    let first = IdEvidence::Stale { previous: None };
    let again = IdEvidence::Stale { previous: Some(at(1000 - 299)) };
    let later = IdEvidence::Stale { previous: Some(at(1000 - 300)) };
    let device = ["id.stale 65 chrome 150 windows>curl 8 unknown"];
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
    // The holder may be reached over IPv6 now.
    check_id(&at_home().on("2001:db8::1", 3320, "DE", NetworkKind::Unknown), first, &expected);
}

#[test]
fn a_fork() {
    let previous = Some(at(990));
    check_id(&at_home(), IdEvidence::Fork { previous, earlier: 0 }, &["id.fork 55 >two cookie jars"]);
    check_id(&at_home(), IdEvidence::Fork { previous, earlier: 1 }, &["id.fork 100 >two cookie jars"]);
    let tool = at_home().agent("curl/8.5.0").without_hints();
    let expected = ["id.stale 65 chrome 150 windows>curl 8 unknown", "id.fork 55 >two cookie jars"];
    check_id(&tool, IdEvidence::Fork { previous, earlier: 0 }, &expected);
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
        let scene = Scene { input: &input, weights: &scoring.weights, bound: Some(&bound), drift };
        let raised = DETECTORS.iter().filter_map(|detect| detect(&scene)).count();
        prop_assert_eq!(raised == 0, scene.is_quiet());
        prop_assert!(!same || scene.is_quiet());
    }
}
