//! Rules of an operator at work: in each phase, with counts, tunes and facts of a host, and without effect when observed.

use portcullis::engine::RefusalKind;
use portcullis::event::Kind;
use portcullis::rules::{HostFacts, Pack, load};
use portcullis::verdict::{Action, Mode, Text};

use crate::support::world::browser::OURS;
use crate::support::world::{
    ABROAD, AppAnswer, Ask, HOME, MOBILE, Page, SAME_OPERATOR, World, logged_in, minutes, rules, seconds,
};

/// A rules file named `shop` with these rules.
fn shop(body: &str) -> String {
    format!("version = 1\nname = \"shop\"\n{body}")
}

fn rule(id: &str, when: &str, more: &str) -> String {
    format!("[[rule]]\nid = \"{id}\"\nwhen = '''{when}'''\n{more}\n")
}

/// The world's rules with the baseline and this file.
fn with(body: &str) -> crate::support::world::Rules {
    rules().file(&[Pack::Baseline1], &shop(body))
}

#[test]
fn a_rule_of_the_request_alone_refuses_before_the_store_is_asked() {
    let world = World::new(with(&rule(
        "fence",
        "client.country == \"RU\" && request.path starts_with \"/admin\"",
        "then = \"deny\"",
    )));
    world.store().fails();
    let thief = world.browser("thief").at(ABROAD);
    thief.visits("/admin/users").is_refused(403, RefusalKind::Denied);
    let told = world.told_of(Kind::AuthzDenied);
    assert_eq!(told.scene.rule.unwrap().as_str(), "shop/fence");
    assert_eq!((told.scene.action, told.scene.mode), (Action::Deny, Mode::Enforce));
    thief.visits("/").is_stranger();
    world.browser("alice").at(HOME).visits("/admin/users").is_stranger();
}

#[test]
fn points_of_a_rule_join_those_of_the_detectors_and_do_not_pile_up() {
    let body = rule("far", "session.authenticated && changed.country", "score = 30\ntags = [\"hijack\"]");
    let (world, alice) = logged_in(with(&body));
    world.after(minutes(1));
    // ASN 10, country 19, hosting 22 and 30 of the rule: enough for a quarantine, however often it is asked.
    alice.moves_to(ABROAD);
    for _ in 0..5 {
        alice.fetches("/account").is_stranger();
    }
    let told = world.told_of(Kind::SessionHijackSuspected);
    assert!((told.scene.risk.unwrap() - 81.0).abs() < 0.1, "{:?}", told.scene.risk);
    assert!(told.scene.reasons.iter().any(|reason| reason.kind.as_str() == "shop/far"));
    // The words of every rule that had a part in it, those of the pack among them.
    let tags: Vec<&str> = told.scene.tags.iter().map(Text::as_str).collect();
    assert_eq!(tags, ["hijack"]);
    alice.moves_to(HOME);
    alice.visits("/account").is("alice");
}

#[test]
fn a_rule_asks_for_a_new_tag_when_the_head_is_old() {
    let body = "[set]\nsensitive = [\"/account/password\"]\n".to_owned()
        + &rule("fresh-id", "request.path in @sensitive && session.since_rotation > 30s", "then = \"rotate\"");
    let (world, alice) = logged_in(with(&body));
    world.after(seconds(20));
    alice.visits("/account/password").is("alice").sets_nothing_of_ours();
    world.after(seconds(20));
    alice.visits("/account").is("alice").sets_nothing_of_ours();
    alice.visits("/account/password").is("alice").sets_ours();
    assert_eq!(world.told_of(Kind::RuleMatched).scene.rule.unwrap().as_str(), "shop/fresh-id");
}

#[test]
fn failed_logins_of_a_network_are_counted_and_challenged() {
    let body = rule(
        "bruteforce",
        "login.attempt && response.status in [401, 403]",
        "count = { over = 3, within = \"10m\", per = \"client.prefix\" }\nthen = \"challenge\"",
    );
    let world = World::new(with(&body));
    let wrong = |_: &http::request::Parts| AppAnswer::status(401);
    let alice = world.browser("alice").at(MOBILE);
    alice.logs_in("alice").ok();
    world.app(wrong);
    let thief = world.browser("thief").at(ABROAD);
    for _ in 0..4 {
        assert_eq!(thief.tries("alice", "guess").status.as_u16(), 401);
    }
    thief.asks(thief.login_of("alice")).is_refused(303, RefusalKind::Challenge);
    // The page of the login is shown to whoever is asked to log in.
    assert_eq!(thief.visits("/login").header_at_app("cookie"), None);
    let other = world.browser("other").at("192.0.2.7");
    other.asks(other.login_of("bob")).is_refused(303, RefusalKind::Challenge);
    // Elsewhere it is as ever, and so it is here after ten minutes.
    world.reopens_the_shop();
    world.browser("bob").at(HOME).logs_in("bob").ok();
    world.after(minutes(11));
    other.logs_in("bob").ok();
}

#[test]
fn a_verdict_on_an_answer_acts_on_it_or_on_what_follows() {
    for (then, status) in [("terminate", 200), ("throttle", 429), ("deny", 200), ("quarantine", 200)] {
        let body =
            rule("teapot", "response.status == 418 && request.path == \"/account\"", &format!("then = \"{then}\""));
        let (world, alice) = logged_in(with(&body));
        world.answers(AppAnswer::status(418));
        let page = alice.fetches("/account");
        match then {
            "terminate" => {
                page.clears_ours();
                assert_eq!(world.sessions().len(), 0);
            }
            "throttle" => {
                page.is_refused(status, RefusalKind::Throttled);
            }
            _ => {
                page.sets_nothing_of_ours();
            }
        }
        world.reopens_the_shop();
        let next = alice.fetches("/basket");
        match then {
            "deny" => {
                next.is_refused(403, RefusalKind::Denied);
                world.after(minutes(11));
                alice.fetches("/basket");
            }
            "quarantine" => assert_eq!(next.serving(), None),
            _ => {}
        }
    }
}

/// What asks for a wait, and how the answer looks: refused by the request alone, with its session, on what follows an answer.
const WAITS: [(&str, &str); 4] = [
    ("request.path == \"/account\"", "deny"),
    ("session.authenticated && request.path == \"/account\"", "deny"),
    ("session.authenticated && request.path == \"/account\"", "terminate"),
    ("response.status == 200 && request.path == \"/account\"", "terminate"),
];

#[test]
fn an_answer_waits_for_its_event_if_a_rule_says_so_and_not_for_ever() {
    for ((when, then), (sync, unkept)) in WAITS
        .into_iter()
        .flat_map(|wait| [("", 0), ("sync = \"later\"", 0), ("sync = \"before-reply\"", 1)].map(|said| (wait, said)))
    {
        let (world, alice) = logged_in(with(&rule("wait", when, &format!("then = \"{then}\"\n{sync}"))));
        // Other rules and other requests wait for nothing.
        world.while_the_disk_hangs(|| alice.visits("/basket").is("alice"));
        assert_eq!(world.unkept(), 0, "{when} {then} {sync}");
        let page = world.while_the_disk_hangs(|| alice.fetches("/account"));
        if then == "deny" {
            page.is_refused(403, RefusalKind::Denied);
        } else {
            page.clears_ours();
        }
        assert_eq!(world.unkept(), unkept, "{when} {then} {sync}");
        let kind = if then == "deny" { Kind::AuthzDenied } else { Kind::SessionTerminated };
        let told = world.told_of(kind).scene;
        assert_eq!((told.action.as_str(), told.rule.unwrap().as_str()), (then, "shop/wait"));
    }
}

#[test]
fn a_verdict_that_holds_and_one_that_is_only_observed_wait_as_their_rule_says() {
    let on_answer = "response.status == 418";
    let (world, alice) = logged_in(with(&rule("held", on_answer, "then = \"deny\"\nsync = \"before-reply\"")));
    world.answers(AppAnswer::status(418));
    world.while_the_disk_hangs(|| alice.fetches("/account"));
    // Who is served does not wait. The request that it holds for does.
    assert_eq!(world.unkept(), 0);
    world.while_the_disk_hangs(|| alice.fetches("/basket")).is_refused(403, RefusalKind::Denied);
    assert_eq!(world.unkept(), 1);
    let observed =
        rule("seen", "request.path == \"/\"", "then = \"deny\"\nsync = \"before-reply\"\nmode = \"observe\"");
    let world = World::new(with(&observed));
    world.while_the_disk_hangs(|| world.browser("bob").visits("/").is_stranger());
    assert_eq!(world.unkept(), 0);
}

#[test]
fn of_rules_that_ask_for_the_same_one_that_waits_is_enough() {
    let plain = rule("plain", "request.path == \"/account\"", "then = \"deny\"");
    let waits = |when: &str, then: &str| rule("waits", when, &format!("then = \"{then}\"\nsync = \"before-reply\""));
    for (body, unkept) in [
        (plain.clone() + &waits("request.method == \"GET\"", "deny"), 1),
        (
            waits("session.authenticated", "deny")
                + &plain.replace("request.path", "session.authenticated && request.path"),
            1,
        ),
        // It would have ended the session, and what is done is something else.
        (plain + &waits("session.authenticated", "terminate"), 0),
    ] {
        let (world, alice) = logged_in(with(&body));
        world.while_the_disk_hangs(|| alice.fetches("/account")).is_refused(403, RefusalKind::Denied);
        assert_eq!(world.unkept(), unkept, "{body}");
    }
}

#[test]
fn a_rule_that_a_tune_made_milder_has_nobody_wait() {
    for then in ["observe", "rotate", "quarantine"] {
        let wait = rule("wait", "session.authenticated", "then = \"deny\"\nsync = \"before-reply\"");
        let tune = format!("[[tune]]\nrule = \"shop/wait\"\nthen = \"{then}\"\nwhy = \"to try it out\"\n");
        let (world, alice) = logged_in(with(&(wait + &tune)));
        world.while_the_disk_hangs(|| alice.fetches("/account"));
        assert_eq!(world.unkept(), 0, "{then}");
    }
}

#[test]
fn who_is_in_quarantine_is_told_of_if_more_is_done_to_him() {
    for (then, kind) in [("deny", Kind::AuthzDenied), ("terminate", Kind::SessionTerminated)] {
        let more = format!("then = \"{then}\"\nsync = \"before-reply\"");
        let held = rule("held", "request.path == \"/held\"", "then = \"quarantine\"");
        let (world, alice) =
            logged_in(with(&(held + &rule("more", "request.path == \"/account\" && session.exists", &more))));
        alice.visits("/held");
        world.told();
        alice.visits("/basket");
        assert_eq!(world.told(), Vec::<&str>::new(), "that it goes on is no news");
        world.while_the_disk_hangs(|| alice.fetches("/account"));
        assert_eq!(world.unkept(), 1, "{then}");
        assert_eq!(world.told_of(kind).scene.rule.unwrap().as_str(), "shop/more");
    }
}

#[test]
fn a_refusal_that_holds_waits_though_another_rule_asks_for_as_much_or_less() {
    let held = "then = \"deny\"\nper = \"client.ip\"\nsync = \"before-reply\"";
    let held = rule("held", "response.status == 418", held);
    for other in [
        rule("again", "response.status == 418", "then = \"deny\"\nper = \"client.ip\""),
        rule("both", "response.status == 418", "then = \"deny\""),
        rule("deny", "request.path == \"/basket\"", "then = \"deny\""),
        rule("later", "session.authenticated && request.path == \"/basket\"", "then = \"deny\""),
        rule("slow", "request.path == \"/basket\"", "then = \"throttle\""),
    ] {
        for body in [held.clone() + &other, other.clone() + &held] {
            let (world, alice) = logged_in(with(&body));
            world.answers(AppAnswer::status(418));
            alice.fetches("/account");
            world.while_the_disk_hangs(|| alice.fetches("/basket")).is_refused(403, RefusalKind::Denied);
            assert_eq!(world.unkept(), 1, "{body}");
        }
    }
}

#[test]
fn a_challenge_that_holds_for_a_session_ends_with_a_login() {
    let body = rule("odd", "response.status == 418", "then = \"challenge\"\nper = \"session.ref\"\nwithin = \"1h\"");
    let (world, alice) = logged_in(with(&body));
    world.answers(AppAnswer::status(418));
    alice.fetches("/account");
    world.reopens_the_shop();
    alice.fetches("/account").is_refused(401, RefusalKind::Challenge);
    world.after(seconds(5));
    alice.logs_in("alice").ok();
    alice.fetches("/account").is("alice");
}

#[test]
fn a_tune_takes_points_off_and_only_when_it_is_known_to_apply() {
    let tune =
        "[[tune]]\nrule = \"baseline/country-changed\"\nunless = 'client.asn == 12389'\nwhy = \"branch office\"\n";
    let risk = |body: &str| {
        let (world, alice) = logged_in(with(body));
        alice.moves_to(ABROAD);
        alice.fetches("/account");
        world.told_of(Kind::BindingMismatchCountry).scene.risk.unwrap()
    };
    assert!((risk("") - 51.0).abs() < 0.1);
    let (world, alice) = logged_in(with(tune));
    alice.moves_to(ABROAD);
    alice.fetches("/account").is("alice");
    assert!((world.told_of(Kind::BindingMismatchAsn).scene.risk.unwrap() - 32.0).abs() < 0.1);
    // What the tune asks for is not known: the rule stands.
    let blind = tune.replace("client.asn == 12389", "client.ja4 == \"x\"");
    assert!((risk(&blind) - 51.0).abs() < 0.1);
    let off = tune.replace("unless = 'client.asn == 12389'", "mode = \"off\"");
    let (world, alice) = logged_in(with(&off));
    alice.moves_to(ABROAD);
    alice.fetches("/account").is("alice");
    assert!((world.told_of(Kind::BindingMismatchAsn).scene.risk.unwrap() - 32.0).abs() < 0.1);
}

#[test]
fn facts_of_a_host_are_read_by_their_type() {
    let body = "[facts]\nplan = \"string\"\nseats = \"int\"\n".to_owned()
        + &rule("trial", "facts.plan == \"trial\" && facts.seats > 5", "then = \"deny\"");
    let world = World::new(with(&body));
    let visit = |facts: HostFacts| {
        let mut ask = Ask::page("/");
        ask.facts = Some(facts);
        world.browser("alice").asks(ask)
    };
    visit(HostFacts::new().with("plan", "trial").with("seats", 6)).is_refused(403, RefusalKind::Denied);
    visit(HostFacts::new().with("plan", "trial").with("seats", 5)).is_stranger();
    visit(HostFacts::new().with("plan", "trial").with("seats", "6")).is_stranger();
    visit(HostFacts::new()).is_stranger();
}

#[test]
fn a_path_that_a_rule_could_read_in_two_ways_is_refused() {
    let world = World::new(with(&rule(
        "admin",
        "request.path starts_with \"/admin\" && client.country != \"DE\"",
        "then = \"deny\"",
    )));
    let thief = world.browser("thief").at(ABROAD);
    thief.visits("/admin").is_refused(403, RefusalKind::Denied);
    for odd in ["/x%2f..%2fadmin", "/%2561dmin", "/admin%00", "/a/..%2fadmin"] {
        let page = thief.visits(odd);
        assert!([400, 403].contains(&page.status.as_u16()), "{odd}: {}", page.status);
    }
    // An odd spelling that is the same to every rule goes through.
    thief.visits("/files/a;b=1/c").is_stranger();
}

#[test]
fn requests_of_a_minute_are_counted_for_rules_that_ask() {
    let body = rule("busy", "rate.session > 5 && session.requests > 5", "then = \"throttle\"");
    let (world, alice) = logged_in(with(&body));
    for _ in 0..5 {
        alice.fetches("/account").is("alice");
    }
    alice.fetches("/account").is_refused(429, RefusalKind::Throttled);
    world.after(minutes(3));
    alice.fetches("/account").is("alice");
}

#[test]
fn strangers_meet_rules_too() {
    let body =
        rule("outside", "!session.authenticated && request.path starts_with \"/intern\"", "then = \"challenge\"")
            + &rule("no-remember-me", "!session.exists && client.country == \"RU\"", "then = \"quarantine\"");
    let world = World::new(with(&body));
    let stranger = world.browser("stranger");
    stranger.fetches("/intern").is_refused(401, RefusalKind::Challenge);
    stranger.fetches("/").is_stranger();
    let abroad = world.browser("abroad").at(ABROAD);
    let page = abroad.asks(Ask::fetch("/").header("authorization", "Basic eDp5"));
    assert_eq!(page.header_at_app("authorization"), None, "a quarantine withholds every credential");
    assert_eq!(world.told_of(Kind::RuleMatched).scene.rule.unwrap().as_str(), "shop/no-remember-me");
}

#[test]
fn packs_alone_are_without_fault() {
    for pack in Pack::ALL {
        let set = load::packs(&[pack]);
        assert!(set.rules().len() >= 15, "{pack:?}");
        assert!(set.rules().iter().all(|rule| !rule.about.is_empty()));
    }
    assert_eq!(load::packs(&[Pack::Observe1]).mode(), Mode::Observe);
    assert_eq!(load::packs(&[Pack::Observe1, Pack::Baseline1]).mode(), Mode::Enforce);
    assert_eq!(load::packs(&[]).mode(), Mode::Off);
}

/// A challenge that held for a network let every password through that came with a session.
#[test]
fn a_challenge_of_a_network_is_not_got_around_with_a_session() {
    let body = rule(
        "bruteforce",
        "login.attempt && response.status == 401",
        "count = { over = 1, within = \"10m\", per = \"client.prefix\" }\nthen = \"challenge\"",
    );
    let world = World::new(with(&body));
    let eve = world.browser("eve").at(ABROAD);
    eve.logs_in("eve").ok();
    world.app(|_| AppAnswer::status(401));
    for _ in 0..2 {
        assert_eq!(eve.tries("alice", "guess").status.as_u16(), 401);
    }
    eve.asks(eve.login_of("alice")).is_refused(303, RefusalKind::Challenge);
}

/// An app that is not particular served `/Admin` and `/admin/`, which the rule did not know.
#[test]
fn a_path_is_compared_as_an_app_may_read_it() {
    let world = World::new(with(&rule("fence", "request.path == \"/intern\"", "then = \"deny\"")));
    for path in ["/intern", "/Intern", "/intern/", "/INTERN/"] {
        world.browser("alice").visits(path).is_refused(403, RefusalKind::Denied);
    }
    world.browser("alice").visits("/interna").is_stranger();
}

/// What can not be done to a stranger hid what could.
#[test]
fn an_end_without_a_session_hides_no_challenge() {
    let body = rule("end", "client.country == \"RU\"", "then = \"terminate\"")
        + &rule("fence", "!session.authenticated && request.path == \"/intern\"", "then = \"challenge\"");
    let world = World::new(with(&body));
    world.browser("eve").at(ABROAD).fetches("/intern").is_refused(401, RefusalKind::Challenge);
}

/// A logout whose answer was slowed down left the session alive.
#[test]
fn a_logout_counts_although_its_answer_is_slowed_down() {
    let body = rule("slow", "request.path == \"/logout\" && response.status == 302", "then = \"throttle\"");
    let (world, alice) = logged_in(with(&body));
    alice.logs_out().is_refused(429, RefusalKind::Throttled);
    assert_eq!(world.sessions().len(), 0);
}

/// The answer that ended its session was the one stream of it that went on.
#[test]
fn an_answer_that_ends_its_session_is_cut_with_it() {
    let body = rule("stream", "request.path == \"/events\" && response.status == 200", "then = \"terminate\"");
    let (world, alice) = logged_in(with(&body));
    world.answers(AppAnswer::ok().endless());
    let page = alice.asks(Ask::fetch("/events")).clears_ours();
    assert_eq!(page.ours().len(), 1, "it is cleared, and no successor beside that");
    assert!(page.cut.unwrap().is_done());
    assert_eq!(world.sessions().len(), 0);
}

/// Such clients were served as strangers, and no rule for strangers was asked.
#[test]
fn a_client_that_is_held_back_meets_the_rules_for_strangers() {
    let body = rule("hold", "session.authenticated && client.country == \"RU\"", "then = \"quarantine\"")
        + &rule("fence", "!session.authenticated && request.path == \"/intern\"", "then = \"deny\"");
    let (world, alice) = logged_in(with(&body));
    alice.moves_to(ABROAD);
    alice.fetches("/intern").is_refused(403, RefusalKind::Denied);
    alice.fetches("/").is_stranger();
    alice.moves_to(HOME);
    alice.fetches("/intern").is("alice");
    assert_eq!(world.sessions().len(), 1, "the owner's session is as it was");
}

/// What is wrong with a cookie is known without a session, and rules may read it.
#[test]
fn wrong_ids_and_odd_cookies_are_signals_for_rules() {
    let refuse = |id: &str, when: &str| rule(id, when, "then = \"deny\"");
    let body = refuse("forged", "signal.id.forged > 0")
        + &refuse("unknown", "signal.id.never_issued > 0 && request.path == \"/bank\"")
        + &refuse("planted", "signal.id.planted >= 20 && login.attempt")
        + &refuse("odd", "signal.protocol.cookie >= 10 && !session.exists")
        + &refuse("guesser", "signal.id.guessing >= 20 && request.path starts_with \"/account\"");
    let (world, alice) = logged_in(with(&body));
    let (id, tag) =
        alice.ours().and_then(|ours| ours.split_once('.').map(|(a, b)| (a.to_owned(), b.to_owned()))).unwrap();
    let refused_by = |page: Page| {
        page.is_refused(403, RefusalKind::Denied);
        world.told_of(Kind::AuthzDenied).scene.rule.unwrap().as_str().to_owned()
    };
    let eve = world.browser("eve").at(ABROAD);
    eve.holds(OURS, &format!("{id}.{}", "A".repeat(22)));
    assert_eq!(refused_by(eve.visits("/")), "shop/forged");
    eve.holds(OURS, &format!("{}.{tag}", "1".to_owned() + &"0".repeat(42)));
    assert_eq!(refused_by(eve.visits("/bank")), "shop/unknown");
    eve.visits("/").is_stranger();
    eve.holds(OURS, "no id at all");
    assert_eq!(refused_by(eve.visits("/")), "shop/odd");
    eve.forgets(OURS);
    eve.holds("sessionid", "brought-along-by-eve");
    assert_eq!(refused_by(eve.asks(eve.login_of("alice"))), "shop/planted");
    eve.forgets("sessionid");
    // One forged (four), three unknown, two malformed (two each): eleven wrong ones lately.
    eve.visits("/account").is_stranger();
    eve.holds(OURS, "no id again");
    refused_by(eve.visits("/"));
    eve.holds(OURS, &format!("{}.{tag}", "2".to_owned() + &"0".repeat(42)));
    eve.visits("/").is_stranger();
    eve.forgets(OURS);
    assert_eq!(refused_by(eve.visits("/account/orders")), "shop/guesser");
    // Who is wrong once in a while is not, and others are not at all.
    alice.visits("/account/orders").is("alice");
    world.after(minutes(21));
    eve.visits("/account/orders").is_stranger();
}

/// Beside a session such signs count for the request alone: they may be a victim's.
#[test]
fn odd_cookies_beside_a_session_leave_no_trace_in_it() {
    let body = rule("odd", "session.exists", "score = \"signal.protocol.cookie\"")
        + &rule("never", "session.exists && risk > 0", "then = \"deny\"");
    let (world, alice) = logged_in(with(&body));
    let before = world.session();
    let ours = alice.ours().unwrap();
    let odd = Ask::fetch("/account").header("cookie", &format!("{OURS}={ours}; $Version=1"));
    alice.asks(odd).is_refused(403, RefusalKind::Denied);
    alice.fetches("/account").is("alice");
    assert_eq!(world.session().history, before.history);
}

/// The head that the request itself brought counts: its age was told as that of the one before.
#[test]
fn a_tag_that_was_just_adopted_is_new_to_rules() {
    let body = rule("old-head", "request.path == \"/bank\" && session.since_rotation > 150s", "then = \"deny\"")
        + &rule("rotated", "request.path == \"/basket\" && session.rotations != 1", "then = \"deny\"");
    let (world, alice) = logged_in(with(&body));
    world.after(minutes(3));
    alice.fetches("/bank").is_refused(403, RefusalKind::Denied);
    alice.visits("/account").is("alice").sets_ours();
    alice.fetches("/bank").is("alice");
    alice.fetches("/basket").is("alice");
}

/// The network of the first context follows its client through an operator's network, and that of the login was gone.
#[test]
fn the_network_of_the_login_is_kept() {
    let body = rule("elsewhere", "request.path == \"/bank\" && changed.prefix", "then = \"deny\"")
        + &rule("home", "request.path == \"/basket\" && session.bound.prefix != \"203.0.113.0\"", "then = \"deny\"");
    let (world, alice) = logged_in(with(&body));
    alice.fetches("/bank").is("alice");
    alice.moves_to(SAME_OPERATOR);
    for _ in 0..3 {
        alice.fetches("/bank").is_refused(403, RefusalKind::Denied);
        alice.fetches("/basket").is("alice");
        world.after(minutes(2));
        alice.visits("/account").is("alice");
    }
    alice.moves_to(HOME).fetches("/bank").is("alice");
}
