//! Modes, outages, economy: what is observed changes nothing, what fails fails closed, and little is written.

use std::fmt::Write as _;

use portcullis::engine::{Decisions, Done, RefusalKind};
use portcullis::event::{Event, Kind};
use portcullis::rules::{OnOutage, Pack};
use portcullis::session::cookie::CookieKind;
use portcullis::session::record::Record;
use portcullis::signal::SignalKind;
use portcullis::verdict::Mode;
use proptest::prelude::*;

use crate::support::world::browser::{CURL, OURS};
use crate::support::world::{ABROAD, AppAnswer, Ask, MOBILE, Rules, World, logged_in, minutes, rules, seconds};

// ---- what is observed changes nothing ------------------------------------------------------------------------------

/// One step of the traffic that both worlds see.
#[derive(Clone, Debug)]
enum Step {
    Page(usize, &'static str),
    Fetch(usize, &'static str),
    LogIn(usize),
    LogOut(usize),
    Steal { thief: usize, from: usize },
    Move(usize, &'static str),
    Lose(usize),
    Hold(usize),
    Land,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..3_usize;
    let path = prop_oneof![Just("/account"), Just("/cart"), Just("/"), Just("/state")];
    prop_oneof![
        6 => (who.clone(), path.clone()).prop_map(|(who, path)| Step::Page(who, path)),
        4 => (who.clone(), path).prop_map(|(who, path)| Step::Fetch(who, path)),
        2 => who.clone().prop_map(Step::LogIn),
        1 => who.clone().prop_map(Step::LogOut),
        2 => (who.clone(), who.clone()).prop_map(|(thief, from)| Step::Steal { thief, from }),
        2 => (who.clone(), prop_oneof![Just(MOBILE), Just(ABROAD)]).prop_map(|(who, ip)| Step::Move(who, ip)),
        1 => who.clone().prop_map(Step::Lose),
        1 => who.prop_map(Step::Hold),
        1 => Just(Step::Land),
        4 => (1..400_u64).prop_map(Step::Wait),
    ]
}

/// Everything that clients see of a story, and everything that is stored at its end.
fn plays(rules: Rules, steps: &[Step]) -> (String, Vec<Record>) {
    plays_in(&world_of(rules), steps)
}

fn world_of(rules: Rules) -> World {
    World::seeded(rules.shield("state", CookieKind::State), 7)
}

fn plays_in(world: &World, steps: &[Step]) -> (String, Vec<Record>) {
    let browsers = [world.browser("alice"), world.browser("bob"), world.browser("script").with_agent(CURL)];
    let mut held = Vec::new();
    let mut seen = String::new();
    let user = |who: usize| ["alice", "bob", "alice"][who];
    for step in steps {
        let page = match step {
            Step::Page(who, path) => browsers[*who].visits(path),
            Step::Fetch(who, path) => browsers[*who].fetches(path),
            Step::LogIn(who) => browsers[*who].logs_in(user(*who)),
            Step::LogOut(who) => browsers[*who].logs_out(),
            Step::Lose(who) => browsers[*who].sends(Ask::page("/account")).lands_unseen(),
            Step::Land if !held.is_empty() => crate::support::world::Flight::lands(held.remove(0)),
            Step::Land => continue,
            Step::Hold(who) => {
                held.push(browsers[*who].sends(Ask::fetch("/account")));
                continue;
            }
            Step::Steal { thief, from } => {
                browsers[*thief].steals_from(&browsers[*from]);
                continue;
            }
            Step::Move(who, ip) => {
                browsers[*who].moves_to(ip);
                continue;
            }
            Step::Wait(span) => {
                world.after(seconds(*span));
                continue;
            }
        };
        writeln!(seen, "{step:?}: {}", page.outline()).unwrap();
    }
    let stored = world.run(world.store().everything());
    (seen, stored)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Invariant 6: with observed detectors, responses and the records that enforcement reads equal those without any.
    #[test]
    fn observed_verdicts_change_no_byte_and_no_record(steps in proptest::collection::vec(step(), 1..60)) {
        let (seen, stored) = plays(rules().observed(), &steps);
        let (expected, records) = plays(rules().without_detectors(), &steps);
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(stored, records);
    }
}

/// Rules of every phase and action that match much of the traffic, all of them observed.
const OBSERVED: &str = r#"
version = 1
name = "shadow"
mode = "observe"
[[rule]]
id = "deny-early"
when = 'client.country == "RU"'
then = "deny"
[[rule]]
id = "many"
when = 'request.path == "/account"'
count = { over = 1, within = "10m", per = "client.ip" }
then = "throttle"
[[rule]]
id = "points"
when = 'session.exists && rate.session > 2'
score = 60
[[rule]]
id = "moved"
when = 'changed.country || changed.ua_family'
then = "terminate"
[[rule]]
id = "rotate"
when = 'session.authenticated'
then = "rotate"
[[rule]]
id = "risky"
when = 'risk >= 10'
then = "quarantine"
[[rule]]
id = "answer-ends"
when = 'response.status == 302'
then = "terminate"
[[rule]]
id = "answer-holds"
when = 'response.status in [200, 302] && response.sets_cookie'
then = "deny"
per = "client.ip"
[[rule]]
id = "answer-rotates"
when = 'request.path == "/cart"'
count = { over = 0, within = "1h", per = "login.subject" }
unknown = "fire"
then = "rotate"
"#;

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// The same beside rules that are enforced: what is observed changes nothing about those.
    #[test]
    fn observed_rules_change_no_byte_and_no_record(steps in proptest::collection::vec(step(), 1..60)) {
        use portcullis::rules::Pack;
        let (seen, stored) = plays(rules().file(&[Pack::Baseline1], OBSERVED), &steps);
        let (expected, records) = plays(rules(), &steps);
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(stored, records);
    }

    /// Rules that are all observed are as good as none.
    #[test]
    fn rules_that_are_all_observed_are_as_good_as_none(steps in proptest::collection::vec(step(), 1..60)) {
        use portcullis::rules::Pack;
        let (seen, stored) = plays(rules().file(&[Pack::Observe1], OBSERVED), &steps);
        let (expected, records) = plays(rules().without_detectors(), &steps);
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(stored, records);
    }
}

/// Rules that count in every phase, by and for various things, obeyed and observed.
const COUNTED: &str = r#"
version = 1
name = "counted"
[[rule]]
id = "pages"
when = 'request.path == "/account" && rate.client > 1'
count = { over = 2, within = "10m", per = "client.ip" }
then = "throttle"
[[rule]]
id = "points"
when = 'session.exists && rate.session > 1'
count = { over = 2, within = "5m", per = "session.ref" }
score = 30
[[rule]]
id = "more-points"
when = 'session.authenticated'
count = { over = 3, within = "5m", per = "session.subject" }
score = 25
[[rule]]
id = "risky"
when = 'risk >= 30'
then = "rotate"
[[rule]]
id = "logins"
when = 'request.path != "/cart"'
count = { over = 1, within = "20m", per = "session.subject" }
unknown = "fire"
mode = "observe"
then = "terminate"
[[rule]]
id = "strangers"
when = '!session.exists'
count = { over = 4, within = "10m", per = "client.ip" }
then = "challenge"
[[rule]]
id = "answers"
when = 'response.status == 302'
count = { over = 1, within = "10m", per = "client.ip" }
then = "deny"
within = "1m"
"#;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A store that counts for several guards makes no difference to one.
    #[test]
    fn counts_of_a_shared_store_are_as_ones_own(steps in proptest::collection::vec(step(), 1..60)) {
        use portcullis::rules::Pack;
        let world = || world_of(rules().file(&[Pack::Baseline1], COUNTED));
        let (own, shared) = (world(), world());
        shared.store().shares_counts();
        let (seen, stored) = plays_in(&shared, &steps);
        let (expected, records) = plays_in(&own, &steps);
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(stored, records);
        prop_assert_eq!(shared.told(), own.told());
    }
}

/// Three people with accounts of their own, on machines of their own, through all weathers.
fn honest_step() -> impl Strategy<Value = Step> {
    let path = prop_oneof![Just("/account"), Just("/cart"), Just("/")];
    prop_oneof![
        6 => (0..3_usize, path.clone()).prop_map(|(who, path)| Step::Page(who, path)),
        3 => (0..3_usize, path).prop_map(|(who, path)| Step::Fetch(who, path)),
        2 => (0..3_usize).prop_map(Step::LogIn),
        1 => (0..3_usize).prop_map(Step::LogOut),
        1 => (0..3_usize).prop_map(Step::Lose),
        3 => (0..3_usize).prop_map(Step::Hold),
        2 => Just(Step::Land),
        4 => (1..600_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Nobody is ever served in another's name; and who saw himself logged in stays so until he logs out or goes idle.
    #[test]
    fn everybody_is_served_in_his_own_name(steps in proptest::collection::vec(honest_step(), 1..80)) {
        let world = World::seeded(rules().idle(minutes(60 * 24)).absolute(minutes(60 * 24 * 9)), 3);
        let names = ["alice", "bob", "carol"];
        let browsers = names.map(|name| world.browser(name));
        let mut logged_in = [false; 3];
        let mut held = Vec::new();
        for step in &steps {
            let (who, page) = match step {
                Step::Page(who, path) => (*who, browsers[*who].visits(path)),
                Step::Fetch(who, path) => (*who, browsers[*who].fetches(path)),
                Step::LogIn(who) => {
                    browsers[*who].logs_in(names[*who]).ok();
                    logged_in[*who] = true;
                    continue;
                }
                Step::LogOut(who) => {
                    browsers[*who].logs_out().ok();
                    logged_in[*who] = false;
                    continue;
                }
                Step::Lose(who) => (*who, browsers[*who].sends(Ask::page("/account")).lands_unseen()),
                Step::Hold(who) => {
                    held.push((*who, browsers[*who].starts(Ask::fetch("/account"))));
                    continue;
                }
                Step::Land if !held.is_empty() => {
                    let (who, started) = held.remove(0);
                    let page = started.arrives().lands();
                    prop_assert!(page.serving().is_none_or(|user| user == names[who]));
                    continue;
                }
                Step::Wait(span) => {
                    // What is under way arrives within the grace.
                    held.clear();
                    world.after(seconds(*span));
                    continue;
                }
                Step::Land | Step::Steal { .. } | Step::Move(..) => continue,
            };
            let expected = logged_in[who].then_some(names[who]);
            prop_assert_eq!(page.serving(), expected, "{:?}", step);
        }
    }
}

// ---- outage --------------------------------------------------------------------------------------------------------

#[test]
fn a_store_that_fails_denies() {
    let (world, alice) = logged_in(rules());
    world.store().fails();
    let page = alice.visits("/account").is_refused(503, RefusalKind::Outage).sets_nothing_of_ours();
    assert!(page.header("retry-after").is_some());
    let told = world.told_of(Kind::DependencyFailed);
    assert!(matches!(&told.event, Event::DependencyFailed(event) if event.what.as_str() == "store"));
    let visitor = world.browser("visitor");
    visitor.visits("/").ok();
    visitor.visits("/cart").is_refused(503, RefusalKind::Outage);
    world.store().recovers();
    alice.visits("/account").is("alice");
}

#[test]
fn a_store_that_fails_may_let_visitors_pass() {
    let (world, alice) = logged_in(rules().with(|policy| policy.on_outage = OnOutage::Anonymous));
    let kept = alice.ours().unwrap();
    world.store().fails();
    alice.visits("/account").is_stranger().sets_nothing_of_ours();
    let visitor = world.browser("visitor");
    assert_eq!(visitor.visits("/cart").ok().set_cookies(), Vec::<String>::new());
    visitor.logs_in("bob").is_refused(503, RefusalKind::Outage);
    alice.logs_out().ok().sets_nothing_of_ours();
    assert_eq!(alice.ours(), Some(kept));
    world.store().recovers();
    alice.visits("/account").is("alice");
}

#[test]
fn a_route_may_say_otherwise() {
    let rules = rules()
        .route("/static/**", |route| route.on_outage = Some(OnOutage::Anonymous))
        .with(|policy| policy.on_outage = OnOutage::Deny);
    let (world, alice) = logged_in(rules);
    world.store().fails();
    alice.visits("/static/x").is_stranger();
    alice.visits("/account").is_refused(503, RefusalKind::Outage);
}

#[test]
fn a_store_that_fails_between_the_halves() {
    let (world, alice) = logged_in(rules());
    world.after(minutes(3));
    let (page, login, logout) = (
        alice.sends(Ask::page("/account")),
        alice.sends(alice.login_of("alice")),
        alice.sends(Ask::form("/logout", "")),
    );
    world.store().fails();
    page.lands().is("alice").sets_nothing_of_ours();
    login.lands().is_refused(503, RefusalKind::Outage).sets_nothing_of_ours();
    logout.lands().is_refused(503, RefusalKind::Outage).sets_nothing_of_ours();
    world.store().recovers();
    assert!(alice.visits("/").ok().app_cookie("sessionid").is_some(), "who is told that he is not logged out, is not");
}

#[test]
fn a_full_store_serves_visitors_without_a_session_and_throws_out_no_user() {
    let world = World::new(rules());
    world.store().shrinks_to(3);
    let users: Vec<_> = ["alice", "bob", "carol"].into_iter().map(|name| (name, world.browser(name))).collect();
    world.browser("early").visits("/cart").ok().sets_ours();
    for (name, browser) in &users {
        browser.logs_in(name).ok().sets_ours();
    }
    assert_eq!(world.told().iter().filter(|told| **told == "dependency.failed").count(), 1, "a visitor made room");
    world.browser("visitor").visits("/cart").ok().sets_nothing_of_ours();
    world.told_of(Kind::DependencyFailed);
    world.browser("dave").logs_in("dave").is_refused(503, RefusalKind::Outage);
    for (name, browser) in &users {
        browser.visits("/account").is(name);
    }
}

#[test]
fn a_crash_loses_no_login_and_revives_no_logout() {
    let (world, alice) = logged_in(rules());
    let (bob, anonymous) = (world.browser("bob"), world.browser("anonymous"));
    bob.logs_in("bob").ok();
    anonymous.visits("/cart").ok();
    bob.logs_out().ok();
    bob.holds(OURS, &alice.ours().unwrap()).forgets(OURS);
    world.after(minutes(2));
    alice.visits("/account").sets_ours();
    alice.visits("/account").is("alice");
    world.run(world.store().restarts());
    alice.visits("/account").is("alice").sets_nothing_of_ours();
    assert!(anonymous.visits("/").app_cookie("sessionid").is_some());
    assert_eq!(world.sessions().len(), 2);
}

// ---- economy -------------------------------------------------------------------------------------------------------

#[test]
fn a_hundred_requests_in_a_minute_cost_at_most_one_write() {
    let (world, alice) = logged_in(rules());
    world.store().writes();
    for _ in 0..10 {
        world.after(minutes(2));
        alice.visits("/account").is("alice");
        alice.visits("/account").is("alice");
        world.store().writes();
        for _ in 0..100 {
            alice.fetches("/account").is("alice");
            world.after(seconds(60) / 100);
        }
        assert!(world.store().writes() <= 1);
    }
}

#[test]
fn a_use_is_written_without_haste_and_a_login_before_the_answer_leaves() {
    let (world, alice) = logged_in(rules());
    assert_eq!(world.store().durable_writes(), 1);
    world.after(minutes(1));
    alice.visits("/account").is("alice");
    assert_eq!((world.store().writes(), world.store().durable_writes()), (2, 0));
}

#[test]
fn churn_of_state_cookies_waits_and_id_cookies_do_not() {
    let world = World::new(rules().shield("state", CookieKind::State));
    let alice = world.browser("alice");
    world.answers(AppAnswer::ok().set_cookie("state=value-1; Path=/; HttpOnly"));
    alice.visits("/").ok();
    world.store().durable_writes();
    world.answers(AppAnswer::ok().set_cookie("state=value-2; Path=/; HttpOnly"));
    alice.visits("/").ok();
    assert_eq!(world.store().durable_writes(), 0);
    let both =
        AppAnswer::ok().set_cookie("sessionid=value-3; Path=/; HttpOnly").set_cookie("state=value-3; Path=/; HttpOnly");
    world.answers(both);
    alice.visits("/").ok();
    assert_eq!(world.store().durable_writes(), 1, "what must be safe is not put off by what may wait");
}

#[test]
fn a_cookie_whose_end_slides_is_not_written_with_every_answer() {
    let world = World::new(rules());
    let alice = world.browser("alice");
    world.answers(AppAnswer::ok().set_cookie("sessionid=the-same; Path=/; Max-Age=3600; HttpOnly"));
    alice.visits("/").ok();
    world.store().writes();
    for _ in 0..10 {
        world.after(seconds(5));
        alice.visits("/").ok();
    }
    assert_eq!(world.store().writes(), 0);
}

// ---- answers -------------------------------------------------------------------------------------------------------

#[test]
fn a_mandatory_cookie_goes_out_on_every_answer_and_no_cache_keeps_it() {
    let world = World::new(rules());
    let alice = world.browser("alice");
    world.answers(
        AppAnswer::ok()
            .set_cookie("sessionid=a-new-visitor; Path=/; HttpOnly")
            .header("cache-control", "public, max-age=600")
            .header("expires", "Sat, 21 Nov 2026 11:46:12 GMT")
            .header("cdn-cache-control", "max-age=600")
            .header("surrogate-control", "max-age=600")
            .header("x-accel-expires", "600"),
    );
    let page = alice.asks(Ask::prefetch("/")).ok().sets_ours();
    for name in ["expires", "cdn-cache-control", "surrogate-control", "x-accel-expires"] {
        assert_eq!(page.header(name), None);
    }
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(world.told(), ["session.created", "response.cacheable"]);
    world.answers(AppAnswer::status(304).control("logout"));
    alice.visits("/").clears_ours();
}

#[test]
fn no_successor_goes_out_on_an_answer_that_one_kind_of_cache_may_keep() {
    let world = World::new(rules());
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    world.after(minutes(3));
    for (name, value) in [("cdn-cache-control", "max-age=600"), ("surrogate-control", "max-age=600")] {
        world.answers(AppAnswer::ok().header(name, value));
        assert_eq!(alice.visits("/").ok().sets_nothing_of_ours().header(name), Some(value));
    }
    world.answers(AppAnswer::ok());
    alice.visits("/").ok().sets_ours();
}

#[test]
fn our_cookie_is_written_as_it_must_be() {
    let world = World::new(rules());
    let page = world.browser("alice").logs_in("alice").ok();
    let line = page.ours().remove(0);
    let (pair, attributes) = line.split_once("; ").unwrap();
    assert_eq!(attributes, "Secure; HttpOnly; SameSite=Lax; Path=/");
    let (name, value) = pair.split_once('=').unwrap();
    assert_eq!((name, value.len()), (OURS, 66));
}

#[test]
fn an_ambiguous_path_is_refused_where_it_matters() {
    let rules = rules().route("/admin/**", |route| route.fresh = Some(minutes(15)));
    let world = World::new(rules);
    let alice = world.browser("alice");
    alice.visits("/%61dmin/x").ok();
    alice.visits("/public/..%2fadmin/x").is_refused(400, RefusalKind::AmbiguousPath);
    alice.visits("/public/a;b").ok();
    assert_eq!(world.told(), ["http.malformed"]);
}

// ---- what is decided is counted ------------------------------------------------------------------------------------

#[test]
fn requests_verdicts_and_signals_are_counted_once_each() {
    let text = "version = 1\nname = \"shop\"\n\
        [[rule]]\nid = \"fence\"\nwhen = 'request.path == \"/fence\"'\nthen = \"deny\"\n\
        [[rule]]\nid = \"slow\"\nwhen = 'request.path == \"/state\"'\nthen = \"throttle\"\nmode = \"observe\"\n";
    let (world, alice) = logged_in(rules().file(&[Pack::Baseline1], text));
    let before = world.guard().decisions();
    let thief = world.browser("thief").at(ABROAD).with_agent(CURL);
    alice.fetches("/fence").is_refused(403, RefusalKind::Denied);
    alice.fetches("/state").is("alice");
    thief.steals_from(&alice);
    thief.fetches("/account").is_stranger();
    thief.fetches("/account").is_stranger();
    let after = world.guard().decisions();
    let more = |before: &[(Done, Mode, u64)], after: &[(Done, Mode, u64)]| {
        let both = before.iter().zip(after).filter(|(before, after)| before.2 < after.2);
        both.map(|(before, after)| (after.0.as_str(), after.1, after.2 - before.2)).collect::<Vec<_>>()
    };
    assert_eq!(
        more(&before.requests, &after.requests),
        [("allow", Mode::Enforce, 2), ("terminate", Mode::Enforce, 1), ("deny", Mode::Enforce, 1)]
    );
    let verdicts = |of: &Decisions| of.verdicts.iter().map(|of| (Done::Action(of.0), of.1, of.2)).collect::<Vec<_>>();
    let asked = more(&verdicts(&before), &verdicts(&after));
    assert!(
        asked.contains(&("deny", Mode::Enforce, 1)) && asked.contains(&("throttle", Mode::Observe, 1)),
        "{asked:?}"
    );
    assert!(asked.contains(&("terminate", Mode::Enforce, 1)), "{asked:?}");
    let of = |decisions: &Decisions, kind| decisions.signals.iter().find(|of| of.0 == kind).unwrap().1;
    assert_eq!(of(&before, SignalKind::DeviceFamily), 0);
    assert_eq!(of(&after, SignalKind::DeviceFamily), 1);

    // The session is over, and its client a stranger. What is refused since the store is out has its own word, and what is only
    // looked at another mode.
    world.store().fails();
    assert_eq!(alice.fetches("/account").status.as_u16(), 503);
    assert_eq!(more(&after.requests, &world.guard().decisions().requests), [("outage", Mode::Enforce, 1)]);
    // An answer that another one took the place of: its request went to the app.
    let (world, alice) = logged_in(rules().file(&[Pack::Baseline1], text));
    let before = world.guard().decisions();
    world.store().fails_after(0);
    assert_eq!(alice.logs_in("alice").status.as_u16(), 503);
    let after = world.guard().decisions();
    assert_eq!(more(&before.requests, &after.requests), [("allow", Mode::Enforce, 1)]);
    let replaced: Vec<_> = after.replaced.iter().filter(|of| of.1 > 0).collect();
    assert_eq!(replaced, [&(RefusalKind::Outage, 1)]);
    let (world, alice) = logged_in(rules().file(&[Pack::Baseline1], text).observed());
    let before = world.guard().decisions();
    alice.fetches("/fence").is("alice");
    let after = world.guard().decisions();
    assert_eq!(more(&before.requests, &after.requests), [("allow", Mode::Observe, 1)]);
    assert_eq!(more(&verdicts(&before), &verdicts(&after)), [("deny", Mode::Observe, 1)]);
}
