//! Limits of guards that share a store: they hold for all of them together.

use std::time::Duration;

use portcullis::engine::{LIMITS_EVERY, RefusalKind};
use portcullis::event::Kind;
use portcullis::limit::{LimitSettings, LoginLimit};
use portcullis::secret::{KeyId, Keyring, MasterKey};

use crate::support::world::browser::Browser;
use crate::support::world::{ABROAD, HOME, Rules, World, keys, minutes, rate, rules, seconds};

/// Two guards that count together.
fn nodes(rules: impl Fn() -> Rules) -> [World; 2] {
    let nodes = [1, 2].map(|seed| World::seeded(rules(), seed));
    nodes[1].store().counts_in(nodes[0].store().shares_counts());
    nodes
}

fn with_limits(change: impl Fn(&mut LimitSettings) + Copy) -> [World; 2] {
    let nodes = nodes(|| rules().limits(change));
    // The first time they only see that they are not alone.
    share(&nodes);
    nodes
}

/// Some time goes by, and the guards tell each other what was taken.
fn share(nodes: &[World]) {
    for world in nodes {
        world.after(LIMITS_EVERY);
    }
    // Twice: the first learns of the second only after that one has told.
    for world in nodes.iter().chain(nodes) {
        world.run(world.guard().share_limits(LIMITS_EVERY)).unwrap();
    }
}

fn is_refused(page: &crate::support::world::browser::Page) -> bool {
    page.refused.is_some()
}

#[test]
fn attempts_on_a_subject_are_counted_over_all_nodes() {
    let nodes = nodes(|| rules().login_throttle());
    let guess = |n: usize| {
        let eve = nodes[n % 2].browser("eve").at(&format!("192.0.2.{n}"));
        is_refused(&eve.tries("alice", &format!("guess-number-{n}")))
    };
    let refused: Vec<bool> = (0..8).map(guess).collect();
    assert_eq!(refused, [false, false, false, true, true, true, true, true]);
    assert!(nodes.iter().all(|world| world.told().contains(&"rate.limited")));
    // When the time is over, on one node of them.
    nodes.iter().for_each(|world| _ = world.after(seconds(61)));
    let later: Vec<bool> = (8..11).map(guess).collect();
    assert_eq!(later.iter().filter(|refused| !**refused).count(), 1);
}

#[test]
fn attempts_of_a_client_are_counted_over_all_nodes() {
    let nodes = nodes(|| rules().login_throttle());
    let guess = |n: usize| {
        let page = nodes[n % 2].browser("eve").at(ABROAD).tries(&format!("user-{n}"), "a-wrong-guess");
        is_refused(&page)
    };
    assert_eq!((0..6).map(guess).collect::<Vec<_>>(), [false, false, false, true, true, true]);
    nodes[1].browser("home").logs_in("dave").ok().sets_ours();
}

#[test]
fn a_delay_grows_with_failures_on_whatever_node_and_is_forgiven_on_all() {
    let delays = LoginLimit { per_client: None, per_subject: None, ..LoginLimit::default() };
    let nodes = nodes(|| rules().limits(|limits| limits.logins = vec![delays]));
    let from = |n: usize| nodes[n % 2].browser("eve").at(&format!("192.0.2.{n}"));
    for n in 0..5 {
        if n > 3 {
            nodes.iter().for_each(|world| _ = world.after(seconds(1)));
        }
        from(n).tries("alice", "a-wrong-guess").ok();
    }
    for n in 5..7 {
        let page = from(n).logs_in("alice").is_refused(429, RefusalKind::Throttled);
        assert_eq!(page.header("retry-after"), Some("2"));
    }
    nodes.iter().for_each(|world| _ = world.after(seconds(2)));
    from(8).logs_in("alice").ok().sets_ours();
    // Had the other node remembered its own, it would have to be waited for there.
    for _ in 0..3 {
        from(9).tries("alice", "a-wrong-guess").ok();
    }
}

#[test]
fn a_device_that_is_known_to_one_node_is_known_to_all() {
    let nodes = nodes(|| rules().login_throttle());
    let alice = nodes[0].browser("alice");
    alice.logs_in("alice").ok();
    for (n, guess) in (0..30).enumerate() {
        nodes[n % 2].browser("eve").at(&format!("192.0.2.{n}")).tries("alice", &format!("guess-number-{guess}"));
    }
    nodes[1].browser("stranger").at("198.51.100.1").logs_in("alice").is_refused(429, RefusalKind::Throttled);
    // The same browser at the same address, without its cookie.
    nodes[1].browser("alice").logs_in("alice").ok().sets_ours();
}

#[test]
fn devices_that_look_like_a_known_one_share_a_count_over_all_nodes() {
    let nodes = nodes(|| rules().login_throttle());
    nodes[0].browser("alice").logs_in("alice").ok();
    let guess = |n: usize| {
        let one = nodes[n % 2].browser("one of many").at(&format!("203.0.113.{}", n % 100 + 100));
        !is_refused(&one.tries("alice", &format!("guess-number-{n}")))
    };
    let reached = (0..200).filter(|n| guess(*n)).count();
    assert!(reached <= 3 + 3, "{reached}");
}

#[test]
fn a_guard_counts_logins_for_itself_while_the_store_does_not() {
    let nodes = nodes(|| rules().login_throttle());
    nodes.iter().for_each(|world| world.store().counts_fail(true));
    let guess = |n: usize| {
        let eve = nodes[0].browser("eve").at(&format!("192.0.2.{n}"));
        is_refused(&eve.tries("alice", &format!("guess-number-{n}")))
    };
    nodes[0].store().changed();
    assert!(!guess(0));
    // Once before the attempt, and once to tell what came of it: nobody waits for a store that does not answer again and again.
    assert_eq!(nodes[0].store().changed(), 2);
    assert_eq!((1..5).map(guess).collect::<Vec<_>>(), [false, false, true, true]);
    assert!(nodes[0].told().contains(&"dependency.failed"));
    nodes.iter().for_each(|world| world.store().counts_fail(false));
    // What was let through meanwhile is remembered where it was.
    assert!(guess(6));
}

#[test]
fn a_client_has_no_more_requests_because_there_are_more_nodes() {
    let nodes = with_limits(|limits| limits.client = rate("10/1s burst 20"));
    let fetch = |n: usize| !is_refused(&nodes[n % 2].browser("eve").at(ABROAD).fetches("/"));
    // At first each node knows only what it has let through itself.
    assert_eq!((0..20).filter(|n| fetch(*n)).count(), 20);
    share(&nodes);
    let more = (0..40).filter(|n| fetch(*n)).count();
    assert!(more <= 2 * 3, "{more} after a quarter of a second");
    // In the long run it is the rate, and not twice as much.
    let mut served = 0;
    for _ in 0..40 {
        share(&nodes);
        served += (0..20).filter(|n| fetch(*n)).count();
    }
    assert!((80..=130).contains(&served), "{served} in ten seconds");
    assert!(fetch_from(&nodes[0], HOME), "others are not hit");
}

fn fetch_from(world: &World, ip: &str) -> bool {
    !is_refused(&world.browser("other").at(ip).fetches("/"))
}

#[test]
fn a_session_and_its_subject_have_one_limit_over_all_nodes() {
    let nodes = nodes(|| {
        rules().limits(|limits| {
            limits.client = None;
            limits.subject = rate("4/1s burst 8");
        })
    });
    share(&nodes);
    let browsers: Vec<Browser> = nodes.iter().map(|world| world.browser("alice")).collect();
    for browser in &browsers {
        browser.logs_in("alice").ok();
    }
    share(&nodes);
    let fetch = |n: usize| !is_refused(&browsers[n % 2].fetches("/account"));
    let served = (0..8).filter(|n| fetch(*n)).count();
    share(&nodes);
    let more = (0..20).filter(|n| fetch(*n)).count();
    assert!(served == 8 && more <= 2, "{served} and {more}");
}

#[test]
fn who_asks_for_little_is_told_to_nobody_and_what_is_told_is_told_once() {
    let nodes = with_limits(|limits| limits.client = rate("100/1s burst 200"));
    nodes[0].store().changed();
    nodes[0].browser("eve").at(ABROAD).fetches("/");
    share(&nodes);
    assert_eq!(nodes[0].store().changed(), 0, "one request of a hundred a second");
    for _ in 0..40 {
        nodes[0].browser("eve").at(ABROAD).fetches("/");
    }
    share(&nodes);
    assert_ne!(nodes[0].store().changed(), 0);
    assert_eq!(nodes[1].store().changed(), 0, "who has not been there is nothing to it");
    // When he owes nothing any more, nobody asks what others took.
    share(&nodes);
    nodes[0].store().changed();
    share(&nodes);
    assert_eq!(nodes[0].store().changed(), 0);
}

#[test]
fn limits_go_on_while_the_store_does_not_count_and_come_together_again() {
    let nodes = with_limits(|limits| limits.client = rate("1/1s burst 10"));
    let fetch = |n: usize| !is_refused(&nodes[n % 2].browser("eve").at(ABROAD).fetches("/"));
    nodes.iter().for_each(|world| world.store().counts_fail(true));
    assert_eq!((0..40).filter(|n| fetch(*n)).count(), 20, "each for itself");
    assert!(nodes[0].run(nodes[0].guard().share_limits(LIMITS_EVERY)).is_err());
    nodes.iter().for_each(|world| {
        world.store().counts_fail(false);
        world.after(minutes(1));
    });
    assert_eq!((0..10).filter(|n| fetch(*n)).count(), 10);
    share(&nodes);
    assert!((0..10).filter(|n| fetch(*n)).count() <= 1);
}

#[test]
fn nodes_with_another_key_count_apart_until_they_have_the_same() {
    let [one, other] = with_limits(|limits| limits.client = rate("1/1s burst 10"));
    let new = MasterKey::new(KeyId(2), [8; 32]);
    let both = || Keyring::new(&new, &[MasterKey::new(KeyId(1), [7; 32])]);
    one.guard().replace_keys(both());
    let nodes = [one, other];
    // A new key names everything anew; nothing that was counted before is found.
    share(&nodes);
    let fetch = |n: usize| !is_refused(&nodes[n % 2].browser("eve").at(ABROAD).fetches("/"));
    assert_eq!((0..10).filter(|n| fetch(*n)).count(), 10);
    share(&nodes);
    assert!((0..10).filter(|n| fetch(*n)).count() > 4, "they are apart");
    nodes[1].guard().replace_keys(both());
    share(&nodes);
    nodes.iter().for_each(|world| _ = world.after(Duration::from_secs(60)));
    assert_eq!((0..10).filter(|n| fetch(*n)).count(), 10);
    share(&nodes);
    assert!((0..10).filter(|n| fetch(*n)).count() <= 1, "they are one again");
    // A device that was remembered under the old key is known under the new.
    let world = World::seeded(rules().login_throttle(), 3);
    world.store().counts_in(nodes[0].store().shares_counts());
    world.guard().replace_keys(keys());
    world.browser("alice").logs_in("alice").ok();
    let fresh = World::seeded(rules().login_throttle(), 4);
    fresh.store().counts_in(nodes[0].store().shares_counts());
    fresh.guard().replace_keys(both());
    for n in 0..10 {
        fresh.browser("eve").at(&format!("192.0.2.{n}")).tries("alice", "a-wrong-guess");
    }
    fresh.browser("alice").logs_in("alice").ok().sets_ours();
    fresh.told_of(Kind::RateLimited);
}
