//! What is told of what happens: which kinds of events, and what they say.

use std::net::IpAddr;
use std::time::Duration;

use portcullis::connection::print::{Print, TlsPrint};
use portcullis::engine::{NAMES_MAX, Places};
use portcullis::event::{Event, Kind, Record as Told, TraceId};
use portcullis::facts::geo::{Country, NetworkKind, Place, Position};
use portcullis::limit::LoginLimit;
use portcullis::net::Asn;
use portcullis::rules::{Memory, Pack};
use portcullis::verdict::{Action, Mode};

use crate::support::world::browser::CURL;
use crate::support::world::{ABROAD, AppAnswer, Ask, HOME, MOBILE, NEIGHBOUR, World, logged_in, minutes, rules};

fn kinds(told: &[Told]) -> Vec<Kind> {
    told.iter().map(|told| told.event.kind()).collect()
}

/// Only the one of that kind.
fn only(told: &[Told], kind: Kind) -> Told {
    let mut found = told.iter().filter(|told| told.event.kind() == kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind} in {:?}", kinds(told))).clone();
    assert!(found.next().is_none(), "{kind} is told twice");
    first
}

// ---- what moved ----------------------------------------------------------------------------------------------------

#[test]
fn what_a_client_says_of_itself_and_how_it_speaks_are_told_apart() {
    let speaks = |core| Print { tls: Some(TlsPrint::named(core, 0, None)), ..Print::default() };
    let world = World::new(rules());
    let alice = world.browser("alice").speaking(speaks("one"));
    alice.logs_in("alice").ok();
    world.events_told();
    world.browser("guest").speaking(speaks("two")).steals_from(&alice).fetches("/account");
    let told = kinds(&world.events_told());
    assert!(told.contains(&Kind::BindingMismatchTls) && !told.contains(&Kind::BindingMismatchUa), "{told:?}");
    world.browser("thief").with_agent(CURL).speaking(speaks("one")).steals_from(&alice).fetches("/account");
    let told = kinds(&world.events_told());
    assert!(told.contains(&Kind::BindingMismatchUa) && !told.contains(&Kind::BindingMismatchTls), "{told:?}");
}

/// Berlin and Sydney, on lines that do not move.
fn far_apart(ip: IpAddr) -> Place {
    let at = |country, asn, latitude, longitude| Place {
        country: Country::parse(country),
        asn: Some(Asn(asn)),
        kind: NetworkKind::Residential,
        position: Some(Position { latitude, longitude, radius_km: 20 }),
    };
    match ip.to_string().as_str() {
        HOME => at("DE", 3320, 5252, 1340),
        _ => at("AU", 1221, -3387, 15121),
    }
}

#[test]
fn a_way_that_nobody_makes_in_that_time_is_told_with_its_length() {
    let world = World::new(rules());
    world.guard().replace_places(Places::new(far_apart));
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    world.after(minutes(20));
    world.events_told();
    alice.moves_to(ABROAD).fetches("/account");
    let told = world.events_told();
    let Event::SessionImpossibleTravel(travel) = only(&told, Kind::SessionImpossibleTravel).event else { panic!() };
    assert!((16_000..16_200).contains(&travel.km), "{travel:?}");
    assert_eq!(travel.minutes, 20);
}

#[test]
fn an_event_says_what_the_session_is_bound_to_and_which_trace_it_belongs_to() {
    let (world, alice) = logged_in(rules());
    let thief = world.browser("thief").at(ABROAD).with_agent(CURL);
    thief.steals_from(&alice);
    let traced = |trace: &str| Ask::fetch("/account").header("traceparent", trace);
    thief.asks(traced("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    let scene = only(&world.events_told(), Kind::SessionHijackSuspected).scene;
    assert_eq!(scene.client.ip, Some(ABROAD.parse().unwrap()));
    assert_eq!(scene.bound.ip, Some("203.0.113.0".parse().unwrap()), "the network that the session is bound to");
    let trace = TraceId(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
    assert_eq!(scene.trace, Some(trace));
    // Of an answer too, and what is no trace is none.
    alice
        .asks(alice.login_of("alice").header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    assert_eq!(only(&world.events_told(), Kind::SessionAuthenticated).scene.trace, Some(trace));
    alice.asks(alice.login_of("alice").header("traceparent", "' OR 1=1"));
    assert_eq!(only(&world.events_told(), Kind::SessionAuthenticated).scene.trace, None);
}

// ---- logins --------------------------------------------------------------------------------------------------------

#[test]
fn a_login_from_a_new_country_is_told_and_from_a_known_one_is_not() {
    let remembers = || rules().with(|policy| policy.session.memory = Memory::Devices);
    let world = World::new(remembers());
    let told = |ip: &str| {
        let browser = world.browser("alice").at(ip);
        browser.logs_in("alice").ok();
        kinds(&world.events_told()).contains(&Kind::LoginGeoDeviation)
    };
    assert!(!told(HOME), "the first login is from somewhere");
    assert!(!told(MOBILE), "another network of the same country");
    assert!(told(ABROAD));
    assert!(!told(ABROAD) && !told(HOME), "she has been there before");
    world.after(minutes(31 * 24 * 60));
    assert!(!told(ABROAD), "after a month nothing is known of her");
    assert!(told(HOME));

    // Another guard over the same counts knows it too.
    let (one, other) = (World::new(remembers()), World::new(remembers()));
    other.store().counts_in(one.store().shares_counts());
    one.browser("alice").at(HOME).logs_in("alice").ok();
    other.browser("alice").at(HOME).logs_in("alice").ok();
    other.browser("alice").at(ABROAD).logs_in("alice").ok();
    one.events_told();
    one.browser("alice").at(ABROAD).logs_in("alice").ok();
    assert!(kinds(&other.events_told()).contains(&Kind::LoginGeoDeviation));
    assert!(!kinds(&one.events_told()).contains(&Kind::LoginGeoDeviation));

    // Where nothing of people is to be remembered, nothing is.
    let world = World::new(rules().with(|policy| policy.session.memory = Memory::Nothing));
    for ip in [HOME, ABROAD] {
        world.browser("alice").at(ip).logs_in("alice").ok();
    }
    assert!(!kinds(&world.events_told()).contains(&Kind::LoginGeoDeviation));
}

/// A world in which logins may fail as often as they like.
fn without_login_limits() -> World {
    let unlimited =
        LoginLimit { per_client: None, per_subject: None, delay_max: Duration::ZERO, ..LoginLimit::default() };
    World::new(rules().limits(|limits| limits.logins = vec![unlimited]))
}

#[test]
fn many_names_that_one_client_fails_with_are_told_once() {
    let world = without_login_limits();
    let eve = world.browser("eve").at(ABROAD);
    for nth in 0..2 * NAMES_MAX {
        eve.tries(&format!("user-{nth}"), "Password1").ok();
    }
    let told = only(&world.events_told(), Kind::LoginManyUsernames);
    let Event::LoginManyUsernames(names) = told.event else { panic!() };
    assert_eq!((names.count, told.scene.client.ip), (20, Some(ABROAD.parse().unwrap())));
    // Somebody who tries one name all day is another case, and so are people behind a proxy that nobody declared.
    let mallory = world.browser("mallory").at(NEIGHBOUR);
    let crowd = world.browser("crowd").at(MOBILE).behind_an_undeclared_proxy();
    for nth in 0..2 * NAMES_MAX {
        mallory.tries("alice", &format!("guess-{nth}")).ok();
        crowd.tries(&format!("user-{nth}"), "Password1").ok();
    }
    assert!(!kinds(&world.events_told()).contains(&Kind::LoginManyUsernames));
}

#[test]
fn what_happens_far_more_than_usual_on_the_whole_site_is_told() {
    let world = without_login_limits();
    let span = |failures: usize| {
        for nth in 0..failures {
            world
                .browser("somebody")
                .at(&format!("198.51.100.{}", nth % 200))
                .tries(&format!("user-{nth}"), "guess")
                .ok();
        }
        world.after(minutes(10));
        world.guard().look_for_trends();
        world.events_told().into_iter().find(|told| told.event.kind() == Kind::SiteTrend)
    };
    for _ in 0..7 {
        assert!(span(10).is_none());
    }
    let told = span(120).unwrap();
    let Event::SiteTrend(trend) = told.event else { panic!() };
    assert_eq!((trend.what.as_str(), trend.percent), ("login.failed", 1100));
    assert!(span(10).is_none());
}

// ---- what rules have seen ------------------------------------------------------------------------------------------

fn traps(rules_text: &str) -> crate::support::world::Rules {
    rules().file(&[Pack::Baseline1], &format!("version = 1\nname = \"traps\"\n{rules_text}"))
}

#[test]
fn a_rule_has_an_event_of_its_own_besides_what_is_done() {
    let world = World::new(traps(
        "[[rule]]\nid = \"trap\"\nwhen = 'request.path == \"/old-admin\"'\nthen = \"deny\"\nevent = \"honeypot.hit\"\n\
         [[rule]]\nid = \"listed\"\nwhen = 'client.asn == 12389'\nthen = \"observe\"\nevent = \"reputation.hit\"\n\
         [[rule]]\nid = \"tool\"\nwhen = 'client.ua_family == \"curl\"'\nthen = \"observe\"\nevent = \"tool.detected\"\n\
         mode = \"observe\"\n\
         [[rule]]\nid = \"forged\"\nwhen = 'request.site == \"cross-site\" && request.method == \"POST\"'\nthen = \"deny\"\n\
         event = \"csrf.blocked\"\n\
         [[rule]]\nid = \"origin\"\nwhen = 'request.origin != request.host && request.method == \"PUT\"'\nthen = \"deny\"\n\
         event = \"origin.blocked\"\n",
    ));
    let eve = world.browser("eve").at(ABROAD).with_agent(CURL);
    eve.visits("/");
    let told = world.events_told();
    assert_eq!(kinds(&told), [Kind::ReputationHit, Kind::ToolDetected]);
    let (listed, tool) = (&told[0], &told[1]);
    assert!(matches!(&listed.event, Event::ReputationHit(hit) if hit.list == *"traps/listed"));
    assert_eq!((listed.scene.action, listed.scene.mode), (Action::Observe, Mode::Enforce));
    assert!(matches!(&tool.event, Event::ToolDetected(tool) if tool.tool == *"curl"));
    assert_eq!((tool.scene.mode, tool.scene.would), (Mode::Observe, Some(Action::Observe)));

    eve.visits("/old-admin").is_refused(403, portcullis::engine::RefusalKind::Denied);
    let told = world.events_told();
    let hit = only(&told, Kind::HoneypotHit);
    assert!(matches!(&hit.event, Event::HoneypotHit(hit) if hit.trap == *"traps/trap"));
    assert_eq!((hit.scene.action, hit.scene.rule.unwrap().as_str()), (Action::Deny, "traps/trap"));
    only(&told, Kind::AuthzDenied);

    let alice = world.browser("alice");
    alice.asks(Ask::form("/profile", "name=eve").cross_site());
    let told = world.events_told();
    assert!(matches!(&only(&told, Kind::CsrfBlocked).event, Event::CsrfBlocked(csrf) if csrf.fault == *"traps/forged"));
    let asks = |origin: &str| {
        alice.asks(Ask::fetch("/api").method(http::Method::PUT).header("origin", origin));
        let told = world.events_told();
        kinds(&told).contains(&Kind::OriginBlocked).then(|| only(&told, Kind::OriginBlocked).event)
    };
    let Some(Event::OriginBlocked(blocked)) = asks("https://evil.example:8443") else { panic!() };
    assert_eq!(blocked.origin.unwrap().as_str(), "https://evil.example:8443");
    assert!(asks("https://shop.example.com.").is_none(), "a dot at the end is the same host");
    let Some(Event::OriginBlocked(blocked)) = asks("null") else { panic!() };
    assert_eq!(blocked.origin.unwrap().as_str(), "null");
    assert!(asks("no origin at all").is_none(), "what can not be read is unknown to rules");
}

#[test]
fn what_a_rule_counts_on_answers_is_told_by_its_number() {
    let world = World::new(traps(
        "[[rule]]\nid = \"looking\"\nwhen = 'response.status == 404'\n\
         count = { over = 4, within = \"1m\", per = \"client.ip\" }\nthen = \"deny\"\nevent = \"probe.404_burst\"\n",
    ));
    world.answers(AppAnswer::status(404));
    let eve = world.browser("eve").at(ABROAD);
    for nth in 0..4 {
        eve.visits(&format!("/backup-{nth}.zip"));
    }
    assert_eq!(kinds(&world.events_told()), []);
    eve.visits("/backup.zip");
    let told = world.events_told();
    assert_eq!(kinds(&told), [Kind::Probe404Burst], "and nothing else that says the same");
    assert!(matches!(&told[0].event, Event::Probe404Burst(burst) if burst.count == 5));
    // What holds against her afterwards is told as what it is.
    eve.visits("/").is_refused(403, portcullis::engine::RefusalKind::Denied);
    assert_eq!(kinds(&world.events_told()), [Kind::AuthzDenied]);
}

#[test]
fn what_rules_have_seen_is_told_once_whoever_else_refuses() {
    let trap = |id: &str, when: &str, then: &str, event: &str| {
        format!("[[rule]]\nid = \"{id}\"\nwhen = '{when}'\nthen = \"{then}\"\nevent = \"{event}\"\n")
    };
    // The evidence ends the session, and then the rule refuses its client as a stranger.
    let tool = trap("tool", "client.ua_family == \"curl\"", "challenge", "tool.detected");
    let (world, alice) = logged_in(traps(&tool));
    world.browser("thief").at(ABROAD).with_agent(CURL).steals_from(&alice).fetches("/account");
    let told = world.events_told();
    only(&told, Kind::ToolDetected);
    only(&told, Kind::SessionTerminated);

    // One rule refuses; what the others have seen is told with it.
    let rules = trap("trap", "request.path == \"/old-admin\"", "deny", "honeypot.hit")
        + &trap("listed", "client.asn == 12389", "observe", "reputation.hit")
        + &trap("forged", "request.method == \"POST\"", "deny", "csrf.blocked");
    let world = World::new(traps(&rules));
    let eve = world.browser("eve").at(ABROAD);
    eve.asks(Ask::form("/old-admin", "a=b")).is_refused(403, portcullis::engine::RefusalKind::Denied);
    let told = world.events_told();
    for kind in [Kind::HoneypotHit, Kind::ReputationHit, Kind::CsrfBlocked, Kind::AuthzDenied] {
        only(&told, kind);
    }

    // A client that is in quarantine already.
    let trap_for_all = trap("trap", "request.path == \"/old-admin\"", "observe", "honeypot.hit");
    let held = "[[rule]]\nid = \"held\"\nwhen = 'session.authenticated && request.path == \"/account\"'\nthen = \"quarantine\"\n";
    let (world, alice) = logged_in(traps(&(trap_for_all + held)));
    alice.fetches("/account");
    world.events_told();
    alice.fetches("/old-admin");
    only(&world.events_told(), Kind::HoneypotHit);

    // An action that can do nothing to a stranger.
    let rules = trap("trap", "request.path == \"/old-admin\"", "terminate", "honeypot.hit");
    let world = World::new(traps(&rules));
    world.browser("eve").at(ABROAD).visits("/old-admin").is_stranger();
    let hit = only(&world.events_told(), Kind::HoneypotHit);
    assert_eq!(hit.scene.action, Action::Allow);
}

#[test]
fn a_stolen_session_at_a_trap_is_told_as_both() {
    let (world, alice) = logged_in(traps(
        "[[rule]]\nid = \"trap\"\nwhen = 'request.path == \"/old-admin\" && session.authenticated'\nthen = \"terminate\"\n\
         event = \"honeypot.hit\"\n",
    ));
    let reference = world.session().reference;
    alice.visits("/old-admin");
    let told = world.events_told();
    assert_eq!(only(&told, Kind::HoneypotHit).scene.reference, Some(reference));
    only(&told, Kind::SessionTerminated);
}
