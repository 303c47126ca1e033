//! Limits: login attempts, requests, new sessions, guesses, and what would be a way around them.

use portcullis::engine::RefusalKind;
use portcullis::event::{Event, Kind};
use portcullis::limit::LoginLimit;
use portcullis::verdict::{Action, Mode};

use crate::support::world::browser::OURS;
use crate::support::world::{ABROAD, Ask, NEIGHBOUR, World, hours, minutes, rate, rules, seconds};

fn id(cookie: &str) -> &str {
    cookie.split_once('.').unwrap().0
}

#[test]
fn a_login_flood_is_slowed_down_more_and_more() {
    let delays = LoginLimit { per_client: None, per_subject: None, ..LoginLimit::default() };
    let world = World::new(rules().limits(|limits| limits.logins = vec![delays]));
    let eve = world.browser("eve").at(ABROAD);
    for _ in 0..3 {
        eve.tries("alice", "a-wrong-guess").ok();
    }
    let mut waits = Vec::new();
    for _ in 0..7 {
        eve.tries("alice", "a-wrong-guess").ok();
        let page = eve.logs_in("alice").is_refused(429, RefusalKind::Throttled);
        waits.push(page.header("retry-after").unwrap().parse::<u64>().unwrap());
        world.after(seconds(waits[waits.len() - 1]));
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    let told = world.told();
    assert!(told.contains(&"login.failed") && told.contains(&"login.failed_max"), "{told:?}");
}

#[test]
fn attempts_are_counted_per_client_and_per_subject() {
    let world = World::new(rules().login_throttle());
    let eve = world.browser("eve").at(ABROAD);
    for name in ["alice", "bob", "carol"] {
        eve.tries(name, "a-wrong-guess").ok();
    }
    eve.tries("dave", "a-wrong-guess").is_refused(429, RefusalKind::Throttled);
    world.browser("home").logs_in("dave").ok().sets_ours();
    for n in 0..2 {
        world.browser("many").at(&format!("198.51.100.{n}")).tries("alice", "a-wrong-guess").ok();
    }
    world.browser("many").at("198.51.100.9").tries("alice", "a-wrong-guess").is_refused(429, RefusalKind::Throttled);
}

#[test]
fn a_known_device_is_not_locked_out_by_an_attacker() {
    let world = World::new(rules().login_throttle());
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    alice.logs_out().ok();
    let (eve, neighbour) =
        (world.browser("eve").at(ABROAD), world.browser("mallory").at(NEIGHBOUR).with_agent("curl/8"));
    for guess in 0..40 {
        eve.tries("alice", &format!("guess-number-{guess}"));
        neighbour.tries("alice", &format!("guess-number-{guess}"));
        world.after(seconds(5));
    }
    eve.logs_in("alice").is_refused(429, RefusalKind::Throttled);
    alice.logs_in("alice").ok().sets_ours();
    alice.visits("/account").is("alice");
}

#[test]
fn anonymous_sessions_are_limited_and_the_page_is_served() {
    let world = World::new(rules().limits(|limits| limits.anonymous_sessions = rate("3/1m burst 3")));
    for n in 0..3 {
        world.browser(&format!("visitor {n}")).visits("/cart").ok().sets_ours();
    }
    world.told();
    let late = world.browser("late");
    late.visits("/cart").ok().sets_nothing_of_ours();
    assert_eq!(late.visits("/cart").ok().set_cookies(), Vec::<String>::new());
    assert_eq!(world.told(), ["rate.limited", "session.id_harvest", "rate.limited", "session.id_harvest"]);
    assert_eq!(world.sessions().len(), 3);
    late.logs_in("alice").ok().sets_ours();
}

#[test]
fn behind_a_proxy_that_nobody_declared_anonymous_sessions_are_only_reported() {
    let world = World::new(rules().limits(|limits| limits.anonymous_sessions = rate("3/1m burst 3")));
    for n in 0..6 {
        let visitor = world.browser(&format!("visitor {n}")).behind_an_undeclared_proxy();
        visitor.visits("/cart").ok().sets_ours();
    }
    assert_eq!(world.sessions().len(), 6);
    assert_eq!(world.told().iter().filter(|told| **told == "rate.limited").count(), 3);
}

#[test]
fn guessing_ids_is_slowed_down() {
    let world = World::new(rules().limits(|limits| limits.guesses = rate("5/1m burst 5")));
    let eve = world.browser("eve").at(ABROAD);
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    let ours = alice.ours().unwrap();
    for n in 0..5 {
        eve.holds(OURS, &format!("{n}{}.{}", "A".repeat(42), "A".repeat(22)));
        eve.visits("/account").is_stranger();
    }
    eve.holds(OURS, &format!("{}.{}", id(&ours), "A".repeat(22)));
    eve.visits("/account").is_refused(429, RefusalKind::Throttled);
    let told = world.told_of(Kind::SessionIdBruteforce);
    assert_eq!((told.scene.action, told.scene.mode), (Action::Throttle, Mode::Enforce));
    eve.forgets(OURS).visits("/").ok();
    alice.visits("/account").is("alice");
}

#[test]
fn rates_of_clients_sessions_and_routes_are_kept() {
    let world =
        World::new(rules().route("/api/**", |route| route.limit = portcullis::rules::Limited::Yes).limits(|limits| {
            limits.client = rate("100/1s burst 100");
            limits.session = rate("10/1s burst 10");
            limits.routes = vec![rate("2/1s burst 2")];
        }));
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    world.after(seconds(10));
    alice.fetches("/api/x").ok();
    alice.fetches("/api/x").ok();
    let page = alice.fetches("/api/x").is_refused(429, RefusalKind::Throttled);
    assert!(page.header("retry-after").is_some() && page.header("ratelimit-policy").is_some());
    for _ in 0..8 {
        alice.fetches("/").ok();
    }
    alice.fetches("/").is_refused(429, RefusalKind::Throttled);
    world.told();
    let other = world.browser("other").at(ABROAD);
    for _ in 0..100 {
        other.fetches("/").ok();
    }
    other.fetches("/").is_refused(429, RefusalKind::Throttled);
    assert_eq!(world.told_of(Kind::RateLimited).scene.mode, Mode::Enforce);
}

// ---- ways around a limit -------------------------------------------------------------------------------------------

/// Tries the same login from many addresses of one network; gives how many reached the app.
fn tried_from_everywhere(world: &World, login: &Ask) -> usize {
    let from = |n: usize| world.browser("one of many").at(&format!("198.51.100.{n}"));
    (0..20).filter(|n| from(*n).asks(login.clone()).refused.is_none()).count()
}

#[test]
fn a_subject_that_only_the_app_can_read_is_no_way_around_its_limit() {
    let form = |body: &str| Ask::form("/login", body);
    for (at, login) in [
        form("username=alice&password=guess-1"),
        // To PHP, ASP.NET and others each of these is `username` once more.
        form("username=decoy-1&%20username=alice&password=guess-1"),
        form("username=decoy-1&Username=alice&password=guess-1"),
        form("username=decoy-1&username%00=alice&password=guess-1"),
        form("username=decoy-1&username[]=alice&password=guess-1"),
        form("nothing we can read").header("content-encoding", "gzip"),
        form("{\"username\":\"alice\"}").header("content-type", "application/json"),
        form("username=decoy-1&x=1;username=alice&password=guess-1"),
        form("username=decoy-1&password=guess-1")
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-16"),
        form("username=alice").header("content-type", "text/plain"),
    ]
    .into_iter()
    .enumerate()
    {
        let is_known = at == 0 || at == 6;
        let world = World::new(rules().login_throttle());
        assert_eq!(tried_from_everywhere(&world, &login), 3);
        assert!(world.told().contains(&"rate.limited"));
        // Whose subject is known is counted wherever it is tried from; otherwise nobody uses up another network's count.
        let elsewhere = world.browser("elsewhere").at(ABROAD).asks(login);
        assert_eq!(elsewhere.refused.is_some(), is_known);
    }
}

#[test]
fn another_spelling_of_a_name_is_no_known_device_of_it() {
    let world = World::new(rules().login_throttle());
    let mallory = world.browser("mallory").at(ABROAD);
    let guess = |n: usize| mallory.tries("alice", &format!("guess-number-{n}")).refused.is_none();
    // In an app that tells `ALICE` from `alice` he may have an account of that name.
    mallory.logs_in("ALICE").ok();
    world.after(minutes(10));
    let reached = (0..30).filter(|n| guess(*n)).count();
    assert!(reached <= 3, "{reached}");
}

#[test]
fn clients_that_look_like_a_known_device_share_a_count_in_the_end() {
    let world = World::new(rules().login_throttle());
    world.browser("alice").logs_in("alice").ok();
    let from = |n: usize| world.browser("one of many").at(&format!("203.0.113.{}", n + 100));
    let guess = |n: usize| from(n % 100).tries("alice", &format!("guess-number-{n}")).refused.is_none();
    let reached = (0..200).filter(|n| guess(*n)).count();
    assert!(reached <= 3 + 3, "{reached}");
}

#[test]
fn the_limit_of_a_subject_holds_behind_an_undeclared_proxy_too() {
    let world = World::new(rules().login_throttle());
    let tries = |name: &str| {
        let browser = world.browser("anybody").at("10.0.0.1").behind_an_undeclared_proxy();
        browser.tries(name, "a-wrong-guess").refused.is_none()
    };
    let reached = (0..20).filter(|_| tries("alice")).count();
    assert_eq!(reached, 3, "for everybody behind the proxy the client's limit is only reported");
    assert!(tries("bob"));
    let told = world.events_told();
    let of_subject = |told: &&portcullis::event::Record| {
        matches!(&told.event, Event::RateLimited(event) if event.key.as_str() == "subject")
            || matches!(&told.event, Event::LoginFailedMax(event) if event.key.as_str() == "subject")
    };
    assert_eq!(told.iter().filter(of_subject).map(|told| told.scene.mode).collect::<Vec<_>>(), [Mode::Enforce; 17]);
}

#[test]
fn a_neighbour_with_the_same_browser_uses_up_nothing_of_a_known_device() {
    let world = World::new(rules().login_throttle());
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    alice.logs_out().ok();
    let mallory = world.browser("mallory").at(NEIGHBOUR);
    let guess = |n: usize| mallory.tries("alice", &format!("guess-number-{n}")).refused.is_some();
    let refused = (0..40).filter(|n| guess(*n)).count();
    assert!(refused > 30, "{refused}");
    alice.logs_in("alice").ok().sets_ours();
}

#[test]
fn a_jar_that_was_left_alone_too_long_is_no_guess() {
    let world = World::new(rules().limits(|limits| limits.guesses = rate("1/1m burst 1")));
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    world.after(hours(48));
    world.run(world.guard().clear_expired()).unwrap();
    assert!(world.run(world.store().everything()).is_empty());
    world.told();
    for _ in 0..5 {
        alice.visits("/account").is_stranger();
    }
    assert_eq!(world.told(), Vec::<&str>::new());
}
