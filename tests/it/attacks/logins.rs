//! Passwords that are guessed, and people who are kept out by guessing.

use portcullis::engine::RefusalKind;
use portcullis::event::Kind;

use super::signed_in;
use crate::support::world::{ABROAD, World, rules};

#[test]
fn login_flood() {
    let world = World::new(rules().login_throttle());
    let eve = world.browser("eve").at(ABROAD);
    let pages: Vec<_> = (0..100).map(|number| eve.tries("alice", &format!("guess-{number:05}"))).collect();
    let reached = pages.iter().filter(|page| page.refused.is_none()).count();
    assert!((3..=5).contains(&reached), "{reached} guesses reached the app");
    let last = pages.last().unwrap();
    assert_eq!((last.status.as_u16(), last.refused), (429, Some(RefusalKind::Throttled)));
    assert!(last.header("retry-after").is_some_and(|seconds| seconds != "0"));
    world.told_of(Kind::LoginFailed);

    // Many names from one client are no way around it, and neither is the right password among them.
    let mallory = world.browser("mallory").at("192.0.2.201");
    let reached = (0..100).filter(|number| mallory.tries(&format!("user{number}"), "123456").refused.is_none()).count();
    assert!(reached <= 5, "{reached} guesses reached the app");
    assert_eq!(mallory.logs_in("mallory").refused, Some(RefusalKind::Throttled));
}

#[test]
fn locking_a_user_out() {
    let world = World::new(rules().login_throttle());
    let alice = signed_in(&world, "alice");
    alice.logs_out().ok();
    for number in 1..200 {
        let robot = world.browser(&format!("robot {number}")).at(&format!("192.0.2.{number}"));
        robot.tries("alice", "keep-her-out");
    }
    // Her name is locked for strangers, not for the device that she has signed in from before.
    let stranger = world.browser("a new device").at("198.51.100.99");
    assert_eq!(stranger.logs_in("alice").refused, Some(RefusalKind::Throttled));
    alice.logs_in("alice").ok().sets_ours();
    alice.visits("/account").ok().is("alice");
}
