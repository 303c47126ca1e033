//! Whole stories: honest people must not be troubled, thieves must be.

use super::tests::{ANDROID, BLINK, Client, FIREFOX, LINUX, WINDOWS, at_home};
use super::*;
use crate::facts::geo::NetworkKind::{Hosting, Mobile, Residential, Sase, Tor, Unknown, Vpn};
use crate::facts::geo::{Place, Position};
use crate::fingerprint::Wire;

/// A session as the engine would keep it: requests below quarantine are remembered, and the past is stored between any two.
struct Session {
    contexts: Contexts,
    start: Timestamp,
}

impl Session {
    fn of(owner: &Client) -> Self {
        let start = Timestamp::from_secs(1_795_000_000);
        Self { contexts: Contexts::bind(owner.seen(), start), start }
    }

    fn request(&mut self, secs: u64, client: &Client, id: IdEvidence) -> (Level, Points) {
        let mut stored = Vec::new();
        self.contexts.encode(&mut stored);
        self.contexts = Contexts::decode(&stored).unwrap();
        let fingerprint = client.seen();
        let now = self.start.after(std::time::Duration::from_secs(secs));
        let input = DetectorInput { id, ..DetectorInput::new(now, &fingerprint, &self.contexts) };
        let scoring = Scoring::default();
        let found = assess(&input, &scoring);
        let level = scoring.thresholds.level(found.risk, Sensitivity::Usual);
        let holding = if id == IdEvidence::None { Holding::Head } else { Holding::Other };
        let visit = found.visit(&input, &scoring, holding);
        if level < Level::Quarantine {
            self.contexts.note(&visit);
        }
        (level, found.risk)
    }

    /// A request with the newest tag.
    fn head(&mut self, secs: u64, client: &Client) -> (Level, Points) {
        self.request(secs, client, IdEvidence::None)
    }

    /// A request with a stale tag, the first in a long time.
    fn stale(&mut self, secs: u64, client: &Client) -> (Level, Points) {
        self.request(secs, client, IdEvidence::Stale { previous: None, behind: 2 })
    }
}

const CALM: (Level, Points) = (Level::Calm, Points::ZERO);

fn on_cell() -> Client {
    at_home().agent(ANDROID).without_hints().on("198.51.100.7", 3320, "DE", Mobile)
}

#[test]
fn a_dual_stack_host_flips_between_families() {
    let mut session = Session::of(&at_home());
    let v6 = at_home().on("2001:db8:1:2::1", 3320, "DE", Unknown);
    let both = [v6, at_home()];
    for (secs, client) in (0..20).zip(both.iter().cycle()) {
        assert_eq!(session.head(secs, client), CALM);
    }
    // The same without any database.
    let bare = |ip| Client { place: Place::default(), ip, ..at_home() };
    let mut session = Session::of(&bare("203.0.113.7"));
    assert_eq!(session.head(1, &bare("2001:db8:1:2::1")), CALM);
}

#[test]
fn addresses_move_within_their_prefix() {
    let mut session = Session::of(&at_home());
    assert_eq!(session.head(1, &Client { ip: "203.0.113.250", ..at_home() }), CALM);
    let mut session = Session::of(&Client { ip: "2001:db8:1:2::1", ..at_home() });
    assert_eq!(session.head(1, &Client { ip: "2001:db8:1:2:99::1", ..at_home() }), CALM);
    assert_eq!(session.head(2, &Client { ip: "2001:db8:1:77::1", ..at_home() }), CALM);
}

#[test]
fn a_telephone_changes_addresses_within_minutes() {
    let mut session = Session::of(&on_cell());
    for (secs, ip) in [(60, "198.51.100.9"), (120, "192.0.2.4"), (180, "203.0.113.9"), (240, "198.51.100.7")] {
        assert_eq!(session.head(secs, &Client { ip, ..on_cell() }), CALM);
    }
}

#[test]
fn home_and_cell_in_turn_are_new_once() {
    let home = on_cell().on("203.0.113.7", 7922, "DE", Residential);
    let mut session = Session::of(&home);
    assert_eq!(session.head(60, &on_cell()), (Level::Calm, Points::whole(10)));
    let both = [home, on_cell()];
    for (secs, client) in (120..7200).step_by(60).zip(both.iter().cycle()) {
        let (level, risk) = session.head(secs, client);
        assert!(level == Level::Calm && risk < Points::whole(10));
    }
}

#[test]
fn a_browser_updates_itself() {
    let mut session = Session::of(&at_home());
    let updated = Client {
        hints: vec![("sec-ch-ua", r#""Chromium";v="152""#), ("sec-ch-ua-platform", r#""Windows""#)],
        ..at_home().agent(&WINDOWS.replace("150", "152"))
    };
    assert_eq!(session.head(60, &updated), (Level::Calm, Points::whole(3)));
    // Two years of updates every two weeks.
    for (days, major) in (1..100).zip(153..) {
        let agent = WINDOWS.replace("150", &major.to_string());
        assert_eq!(session.head(days * 14 * 86400, &at_home().agent(&agent).without_hints()).0, Level::Calm);
    }
}

#[test]
fn workers_send_no_hints() {
    let mut session = Session::of(&at_home());
    for secs in 0..10 {
        assert_eq!(session.head(secs, &if secs % 2 == 0 { at_home() } else { at_home().without_hints() }), CALM);
    }
}

#[test]
fn hints_that_come_later_are_learnt() {
    let mut session = Session::of(&at_home().without_hints());
    assert_eq!(session.head(60, &at_home()), CALM);
    let copied = Client { hints: vec![("sec-ch-ua-platform", r#""Linux""#)], ..at_home() };
    assert_eq!(session.head(120, &copied), (Level::Observe, Points::whole(22)));
}

#[test]
fn desktop_pages_on_a_telephone() {
    let mut session = Session::of(&on_cell());
    let desktop = Client { agent: LINUX.to_owned(), ..on_cell() };
    assert_eq!(session.head(60, &desktop), (Level::Calm, Points::whole(12)));
    let both = [on_cell(), desktop];
    for (secs, client) in (61..90).zip(both.iter().cycle()) {
        let (level, risk) = session.head(secs, client);
        assert!(level == Level::Calm && risk <= Points::whole(12));
    }
}

#[test]
fn a_lost_answer_or_a_crash_shows_an_old_tag() {
    let mut session = Session::of(&at_home());
    assert_eq!(session.stale(600, &at_home()), (Level::Calm, Points::whole(8)));
}

#[test]
fn a_traveller_crosses_a_border() {
    let mut session = Session::of(&on_cell());
    let abroad = on_cell().on("192.0.2.7", 3215, "FR", Mobile);
    assert_eq!(session.head(3600, &abroad), (Level::Observe, Points::whole(29)));
    let (level, risk) = session.head(3 * 3600, &abroad);
    assert!(level == Level::Calm && risk < Points::whole(1));
}

#[test]
fn nobody_is_judged_by_a_database_that_is_gone() {
    let mut session = Session::of(&at_home());
    let unknown = Client { place: Place::default(), ip: "198.51.100.200", ..at_home() };
    assert_eq!(session.head(60, &unknown), CALM);
}

#[test]
fn a_cookie_copied_to_curl_abroad() {
    let mut session = Session::of(&at_home());
    let thief = at_home().agent("curl/8.5.0").without_hints().speaks("").on("192.0.2.1", 64500, "US", Unknown);
    assert_eq!(session.head(60, &thief), (Level::Terminate, Points::whole(75 + 12 + 10 + 19 + 22)));
    assert_eq!(session.head(61, &at_home()), CALM);
}

#[test]
fn a_script_with_all_headers_copied() {
    let script = Wire { tls: 70, http2: 80, ..BLINK };
    let mut session = Session::of(&at_home());
    // Next door, and from a line of the same operator.
    assert_eq!(session.head(60, &at_home().wired(script)), (Level::Quarantine, Points::whole(45 + 9)));
    let line = at_home().on("198.51.100.7", 3320, "DE", Residential).wired(script);
    assert_eq!(session.head(61, &line), (Level::Quarantine, Points::whole(45 + 9)));
    // And from another operator's.
    let away = at_home().on("198.51.100.7", 7922, "DE", Residential).wired(script);
    assert_eq!(session.head(62, &away), (Level::Quarantine, Points::whole(45 + 9 + 10 + 22)));
    assert_eq!(session.head(63, &at_home()), CALM);
}

#[test]
fn a_laptop_behind_an_inspecting_gateway() {
    let mut session = Session::of(&at_home());
    let gateway = Wire { tls: 70, http2: 80, syn: 9, ..BLINK };
    let inspected = at_home().on("198.51.100.7", 22616, "DE", Sase).wired(gateway);
    assert_eq!(session.head(60, &inspected), (Level::Observe, Points::whole(18 + 10)));
    let both = [at_home(), inspected];
    for (secs, client) in (61..90).zip(both.iter().cycle()) {
        let (level, risk) = session.head(secs, client);
        assert!(level <= Level::Observe && risk <= Points::whole(28), "{secs}: {risk}");
    }
}

#[test]
fn a_browser_that_loses_its_tls_to_a_websocket() {
    let mut session = Session::of(&at_home());
    let socket = Wire { http2: 0, soft: 4, ..BLINK };
    assert_eq!(session.head(60, &at_home().without_hints().wired(socket)), CALM);
    assert_eq!(session.head(61, &at_home()), CALM);
}

#[test]
fn the_player_of_a_telephone_speaks_for_itself() {
    let safari = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.4 Mobile/15E148 Safari/604.1";
    let player = "AppleCoreMedia/1.0.0.21F79 (iPhone; U; CPU OS 17_5 like Mac OS X; en_us)";
    let page = at_home().agent(safari).without_hints();
    let film = page.clone().agent(player).wired(Wire { tls: 70, http2: 80, ..BLINK });
    let mut session = Session::of(&page);
    let both = [film, page];
    for (secs, client) in (60..90).zip(both.iter().cycle()) {
        assert_eq!(session.head(secs, client), CALM, "{secs}");
    }
}

#[test]
fn an_exit_of_tor_follows_another() {
    let exit = |ip, asn, country| at_home().on(ip, asn, country, Tor);
    let mut session = Session::of(&exit("198.51.100.7", 6000, "NL"));
    for (secs, ip, asn, country) in [(600, "192.0.2.1", 6001, "RU"), (1200, "203.0.113.9", 6002, "US")] {
        assert_eq!(session.head(secs, &exit(ip, asn, country)), CALM);
    }
}

#[test]
fn nobody_is_in_two_countries_within_the_hour() {
    let fixed = |ip, asn, country, north, east| {
        let client = at_home().on(ip, asn, country, Residential);
        Client { place: Place { position: Position::new(north, east, Some(20)), ..client.place }, ..client }
    };
    let berlin = fixed("203.0.113.7", 3320, "DE", 52.5, 13.4);
    let mut session = Session::of(&berlin);
    let boston = fixed("192.0.2.7", 7922, "US", 42.4, -71.1);
    assert_eq!(session.head(3600, &boston), (Level::Quarantine, Points::whole(10 + 19 + 25)));
    // A flight later it is a journey.
    assert_eq!(session.head(9 * 3600, &boston), (Level::Observe, Points::whole(10 + 19)));
    // Where a telephone or a VPN comes out is nothing to go by.
    for kind in [Mobile, Vpn] {
        let place = Place { kind, ..boston.place };
        let mut session = Session::of(&berlin);
        assert!(session.head(3600, &Client { place, ..boston.clone() }).1 < Points::whole(40));
    }
}

#[test]
fn a_session_in_use_at_another_line_of_the_operator() {
    let mut session = Session::of(&at_home().on("203.0.113.7", 3320, "DE", Residential));
    let line = at_home().on("198.51.100.7", 3320, "DE", Residential);
    assert_eq!(session.head(60, &line), (Level::Calm, Points::whole(3)));
    // Its tag became old while another line held the newest one.
    let owner = at_home().on("203.0.113.7", 3320, "DE", Residential);
    assert_eq!(session.stale(300, &owner).1, Points::whole(8), "a copy that is a little behind, at home");
    let far = IdEvidence::Stale { previous: None, behind: 10 };
    assert_eq!(session.request(1200, &owner, far).0, Level::Quarantine);
}

#[test]
fn a_script_on_a_residential_exit() {
    let mut session = Session::of(&at_home());
    let thief = at_home().agent("python-requests/2.34.2").without_hints().on("192.0.2.1", 7922, "DE", Residential);
    assert_eq!(session.head(60, &thief).0, Level::Terminate);
}

#[test]
fn another_program_behind_the_same_address() {
    let mut session = Session::of(&at_home());
    assert_eq!(session.head(60, &at_home().agent(FIREFOX).without_hints()).0, Level::Quarantine);
    // It does not become known by trying again, however long.
    for hours in 1..10 {
        assert_eq!(session.head(hours * 3600, &at_home().agent(FIREFOX).without_hints()).0, Level::Quarantine);
    }
    assert_eq!(session.head(10 * 3600 + 1, &at_home()), CALM);
}

#[test]
fn a_vpn_in_the_same_country_with_all_headers_copied() {
    for (kind, risk) in [(Vpn, 20), (Hosting, 32), (Tor, 25)] {
        let mut session = Session::of(&at_home());
        let thief = at_home().on("192.0.2.1", 9009, "DE", kind);
        assert_eq!(session.head(60, &thief), (Level::Observe, Points::whole(risk)));
        // The owner moves the head on; what the thief has is then stale.
        session.head(200, &at_home());
        assert_eq!(session.stale(300, &thief).0, Level::Quarantine);
    }
}

#[test]
fn a_delayed_replay_of_a_stolen_jar() {
    let mut session = Session::of(&at_home());
    let thief = at_home().on("192.0.2.1", 7922, "DE", Residential);
    assert_eq!(session.stale(1800, &thief), (Level::Quarantine, Points::whole(62)));
}

#[test]
fn a_twin_beside_the_owner() {
    let mut session = Session::of(&at_home());
    assert_eq!(session.stale(200, &at_home()), (Level::Calm, Points::whole(8)));
    let previous = Some(session.start.after(std::time::Duration::from_secs(200)));
    assert_eq!(
        session.request(210, &at_home(), IdEvidence::Fork { previous, earlier: 0, behind: 2 }).0,
        Level::Quarantine
    );
    assert_eq!(
        session.request(220, &at_home(), IdEvidence::Fork { previous, earlier: 1, behind: 2 }).0,
        Level::Terminate
    );
}

#[test]
fn a_thief_who_hops_from_network_to_network() {
    let mut session = Session::of(&at_home());
    let ips = ["192.0.2.1", "198.51.100.1", "198.18.1.1", "198.18.2.1", "198.18.3.1"];
    let mut reached = Level::Calm;
    for (secs, ip) in (10..).zip(ips) {
        let asn = u32::try_from(secs).unwrap();
        reached = session.head(secs, &at_home().on(ip, asn, "DE", Unknown)).0;
    }
    assert_eq!(reached, Level::Rotate);
    let (level, _) = session.head(20, &at_home().on("198.18.4.1", 77, "DE", Vpn));
    assert_eq!(level, Level::Quarantine);
    assert_eq!(session.head(21, &at_home()), CALM);
}
