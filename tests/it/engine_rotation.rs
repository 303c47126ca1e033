//! Tags: offered, adopted, superseded, stale, forked, forged. One honest jar never suffers; two live jars are found.

use portcullis::event::{Cause, Event, Kind, Rotation};
use portcullis::history::Points;
use portcullis::secret::{KeyId, Keyring, MasterKey};

use crate::support::world::browser::OURS;
use crate::support::world::{self, ABROAD, AppAnswer, Ask, Browser, Flight, MOBILE, World, minutes, rules, seconds};

/// Alice has just logged in, under the rules that everybody has.
fn logged_in() -> (World, Browser) {
    world::logged_in(rules())
}

fn split(cookie: &str) -> (&str, &str) {
    cookie.split_once('.').unwrap()
}

#[test]
fn a_successor_is_offered_when_the_head_is_old_enough() {
    let (world, alice) = logged_in();
    let first = alice.ours().unwrap();
    world.after(seconds(119));
    alice.visits("/account").is("alice").sets_nothing_of_ours();
    world.after(seconds(1));
    alice.fetches("/account").is("alice").sets_ours();
    let second = alice.ours().unwrap();
    assert_eq!(split(&first).0, split(&second).0, "the id stays");
    assert_ne!(split(&first).1, split(&second).1, "the tag does not");
    assert_eq!(world.told(), Vec::<&str>::new(), "an offer is no rotation");

    alice.visits("/account").is("alice").sets_nothing_of_ours();
    let told = world.told_of(Kind::SessionRotated);
    assert!(
        matches!(told.event, Event::SessionRotated(event) if event.why == Rotation::Tag && event.previous.is_none())
    );
}

#[test]
fn each_answer_has_a_successor_of_its_own() {
    let (world, alice) = logged_in();
    world.after(minutes(2));
    let flights: Vec<_> = (0..5).map(|_| alice.sends(Ask::fetch("/account"))).collect();
    let mut lines: Vec<_> = flights.into_iter().map(|flight| flight.lands().is("alice").sets_ours().ours()).collect();
    lines.dedup();
    assert_eq!(lines.len(), 5);
}

#[test]
fn only_proper_answers_carry_a_successor() {
    let (world, alice) = logged_in();
    world.after(minutes(5));
    let check = |ask: Ask, answer: AppAnswer, carries: bool| {
        world.answers(answer.clone());
        let page = alice.sends(ask).lands_unseen();
        assert_eq!(page.ours().len(), usize::from(carries), "{answer:?}");
        if !carries {
            let line = |page: &world::browser::Page| page.header("cache-control").map(str::to_owned);
            let before = answer.headers.get("cache-control").map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(line(&page), before, "the answer is not touched");
        }
    };
    let page = || Ask::page("/x");
    check(page(), AppAnswer::ok(), true);
    check(page(), AppAnswer::status(404), true);
    check(page(), AppAnswer::redirect("/y"), true);
    check(Ask::image("/x"), AppAnswer::ok(), true);
    check(Ask::form("/x", "a=b"), AppAnswer::ok(), true);
    check(page(), AppAnswer::ok().header("cache-control", "private"), true);
    check(page(), AppAnswer::ok().header("cache-control", "max-age=0"), true);
    check(page(), AppAnswer::ok().header("cache-control", "public"), false);
    check(page(), AppAnswer::ok().header("cache-control", "max-age=60"), false);
    check(page(), AppAnswer::ok().header("cache-control", "s-maxage=60, immutable"), false);
    check(page(), AppAnswer::ok().header("expires", "Sat, 21 Nov 2026 11:46:12 GMT"), false);
    check(page(), AppAnswer::ok().header("content-disposition", "attachment; filename=x"), false);
    check(page(), AppAnswer::ok().header("content-type", "application/octet-stream"), false);
    check(page(), AppAnswer::status(304), false);
    check(page().header("range", "bytes=0-99"), AppAnswer::status(206), false);
    check(Ask::prefetch("/x"), AppAnswer::ok(), false);
    check(Ask::socket("/x"), AppAnswer::status(101), false);
}

#[test]
fn a_lost_set_cookie_logs_nobody_out() {
    let (world, alice) = logged_in();
    for _ in 0..20 {
        world.after(minutes(3));
        alice.sends(Ask::page("/account")).lands_unseen().is("alice").sets_ours();
    }
    assert_eq!(world.told(), Vec::<&str>::new());
}

#[test]
fn of_parallel_answers_the_jar_may_keep_any() {
    let (world, alice) = logged_in();
    world.after(minutes(2));
    let (one, two) = (alice.sends(Ask::fetch("/account")), alice.sends(Ask::fetch("/account")));
    one.lands().is("alice").sets_ours();
    let kept = alice.ours().unwrap();
    alice.visits("/account").is("alice");
    two.lands().is("alice");
    assert_eq!(alice.ours().unwrap(), kept, "the head has moved on, and the late answer does not throw the jar back");
}

#[test]
fn a_sibling_that_the_jar_kept_is_adopted() {
    let (world, alice) = logged_in();
    world.after(minutes(2));
    let (one, two) = (alice.sends(Ask::fetch("/account")), alice.sends(Ask::fetch("/account")));
    let (one, two) = (one.is_answered(), two.is_answered());
    one.lands().is("alice").sets_ours();
    let first = alice.ours().unwrap();
    two.lands().is("alice").sets_ours();
    let second = alice.ours().unwrap();
    alice.holds(OURS, &first).visits("/account").is("alice");
    world.after(minutes(30).saturating_sub(seconds(1)));
    alice.holds(OURS, &second).visits("/account").is("alice");
    let told = world.told();
    assert_eq!(told, ["session.rotated", "session.rotated"]);
}

/// Parallel answers offered three successors and the jar kept the last; the requests that it sent with each of them arrive
/// in another order. Adopting them as they came left the jar with a superseded tag.
#[test]
fn requests_that_overtake_each_other_leave_no_jar_behind() {
    let (world, alice) = logged_in();
    world.after(minutes(2));
    let answers: Vec<_> = (0..3).map(|_| alice.sends(Ask::fetch("/account")).is_answered()).collect();
    let mut started = Vec::new();
    for answer in answers.into_iter().map(Flight::lands_unseen).collect::<Vec<_>>() {
        alice.keeps(&answer);
        started.push(alice.starts(Ask::fetch("/account")));
    }
    for late in started.into_iter().rev() {
        late.arrives().lands().is("alice");
        world.after(seconds(19));
    }
    for _ in 0..5 {
        world.after(minutes(1));
        alice.fetches("/account").is("alice");
    }
    assert!(!world.told().contains(&"session.tag_stale"));
}

#[test]
fn a_superseded_tag_is_served_for_the_grace_and_given_no_successor() {
    let (world, alice) = logged_in();
    world.after(minutes(2));
    let old = alice.ours().unwrap();
    alice.visits("/account").sets_ours();
    alice.visits("/account").is("alice");
    let new = alice.ours().unwrap();
    world.told();
    alice.holds(OURS, &old);
    for _ in 0..3 {
        alice.fetches("/account").is("alice").sets_nothing_of_ours();
        world.after(seconds(19));
    }
    assert_eq!(alice.ours().unwrap(), old, "and its jar is not cleared");
    assert_eq!(world.told(), Vec::<&str>::new());
    alice.holds(OURS, &new).visits("/account").is("alice");
}

#[test]
fn a_stale_tag_is_told_and_heals() {
    let (world, alice) = logged_in();
    world.after(minutes(2));
    let old = alice.ours().unwrap();
    alice.visits("/account").sets_ours();
    alice.visits("/account").is("alice");
    world.told();
    world.after(seconds(60));
    alice.holds(OURS, &old);
    alice.visits("/account").is("alice").sets_ours();
    assert_eq!(world.told(), ["session.tag_stale"]);
    alice.visits("/account").is("alice");
    assert_eq!(world.told(), ["session.rotated"]);
    for _ in 0..10 {
        world.after(minutes(3));
        alice.visits("/account").is("alice");
    }
    assert!(world.told().iter().all(|told| *told == "session.rotated"));
}

#[test]
fn a_browser_restored_from_yesterday_heals_too() {
    let world = World::new(rules().idle(minutes(60 * 48)).absolute(minutes(60 * 48)));
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    let yesterday = alice.ours().unwrap();
    for _ in 0..30 {
        world.after(minutes(10));
        alice.visits("/account").is("alice");
    }
    world.told();
    alice.holds(OURS, &yesterday).visits("/account").is("alice").sets_ours();
    assert_eq!(world.told(), ["session.tag_stale"], "stale, though it is older than all that are kept: not forged");
    alice.visits("/account").is("alice");
}

#[test]
fn a_program_that_keeps_showing_one_old_cookie_costs_a_write_a_minute() {
    let (world, alice) = logged_in();
    world.after(minutes(2));
    let old = alice.ours().unwrap();
    alice.visits("/account");
    alice.visits("/account").is("alice");
    world.after(seconds(60));
    alice.holds(OURS, &old);
    alice.sends(Ask::plain("/account")).lands_unseen().is("alice");
    world.store().writes();
    world.told();
    for _ in 0..50 {
        alice.sends(Ask::plain("/account")).lands_unseen().is("alice");
        world.after(seconds(1));
    }
    assert_eq!(world.store().writes(), 0);
    assert_eq!(world.told(), Vec::<&str>::new());
}

#[test]
fn a_forged_tag_is_an_unknown_cookie() {
    let (world, alice) = logged_in();
    let before = world.session();
    let ours = alice.ours().unwrap();
    let eve = world.browser("eve");
    eve.holds(OURS, &format!("{}.{}", split(&ours).0, "A".repeat(22)));
    eve.visits("/account").is_stranger().sets_nothing_of_ours();
    assert_eq!(world.told(), ["session.tag_forged"]);
    assert_eq!(world.session(), before, "nothing was changed");
    alice.visits("/account").is("alice");
}

#[test]
fn a_slow_answer_does_not_throw_the_jar_back() {
    let (world, alice) = logged_in();
    world.after(minutes(2));
    let slow = alice.sends(Ask::fetch("/account"));
    for _ in 0..12 {
        alice.visits("/account").is("alice");
        world.after(minutes(2));
    }
    let kept = alice.ours().unwrap();
    slow.lands().is("alice").sets_nothing_of_ours();
    assert_eq!(alice.ours().unwrap(), kept);
}

#[test]
fn a_slow_answer_does_not_overwrite_the_cookie_of_a_new_login() {
    let (world, alice) = logged_in();
    world.after(minutes(2));
    let slow = alice.sends(Ask::fetch("/account"));
    alice.logs_out().clears_ours();
    alice.logs_in("alice").ok().sets_ours();
    let kept = alice.ours().unwrap();
    slow.lands().sets_nothing_of_ours();
    assert_eq!(alice.ours().unwrap(), kept);
    alice.visits("/account").is("alice");
}

#[test]
fn a_store_that_lost_writes_follows_the_jar() {
    let (world, alice) = logged_in();
    let backup = world.store().backup();
    for _ in 0..3 {
        world.after(minutes(2));
        alice.visits("/account").sets_ours();
        alice.visits("/account").is("alice");
    }
    world.told();
    world.run(world.store().restores(backup));
    alice.visits("/account").is("alice");
    assert_eq!(world.told(), ["session.tag_ahead", "session.rotated"]);
    alice.visits("/account").is("alice").sets_nothing_of_ours();
}

#[test]
fn risk_below_a_quarantine_offers_a_successor_at_once() {
    let world = World::new(rules().with(|policy| policy.scoring.weights.asn = Points::whole(40)));
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    world.after(seconds(10));
    alice.visits("/account").is("alice").sets_nothing_of_ours();
    alice.moves_to(MOBILE).visits("/account").is("alice").sets_ours();
}

#[test]
fn whatever_a_browser_asks_for_has_the_whole_grace() {
    for (what, ask, late, is_stale) in [
        ("a page", Ask::page("/account"), 59, false),
        ("a page", Ask::page("/account"), 61, true),
        ("a form", Ask::form("/account", "a=b"), 59, false),
        ("a frame", Ask::page("/account").header("sec-fetch-dest", "iframe"), 59, false),
        ("a page ahead of time", Ask::prefetch("/account"), 59, false),
        ("a picture", Ask::image("/account"), 59, false),
        ("a script's request", Ask::fetch("/account"), 59, false),
        ("a script's request", Ask::fetch("/account"), 61, true),
    ] {
        let (world, alice) = logged_in();
        let waiting = alice.starts(ask);
        // Another answer brings the next tag meanwhile, and it is shown.
        world.after(minutes(2));
        alice.visits("/account").is("alice").sets_ours();
        alice.visits("/account").is("alice");
        world.after(seconds(late));
        waiting.arrives().lands_unseen().is("alice");
        let told = world.told();
        assert_eq!(told.contains(&"session.tag_stale"), is_stale, "{what}, {late} s: {told:?}");
    }
}

/// A session at risk is offered a successor with each answer. A record keeps eight superseded tags, and forgot those of requests
/// that were under way.
#[test]
fn a_session_at_risk_forgets_no_tag_in_its_grace() {
    let world = World::new(rules().with(|policy| policy.scoring.weights.asn = Points::whole(40)));
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    let late = alice.moves_to(MOBILE).starts(Ask::fetch("/account"));
    for _ in 0..55 {
        alice.visits("/account").is("alice");
        world.after(seconds(1));
    }
    late.arrives().lands_unseen().is("alice");
    let told = world.told();
    assert!(!told.contains(&"session.tag_stale"), "{told:?}");
    assert!(told.iter().filter(|told| **told == "session.rotated").count() >= 8, "{told:?}");
}

/// Whoever moves on fast enough would keep everybody else from being healed.
#[test]
fn a_jar_that_fell_behind_is_healed_however_many_tags_are_in_their_grace() {
    let world = World::new(rules().with(|policy| policy.scoring.weights.asn = Points::whole(40)));
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    let old = alice.ours().unwrap();
    world.after(minutes(2));
    alice.visits("/account").is("alice").sets_ours();
    alice.visits("/account").is("alice");
    world.after(minutes(2));
    alice.moves_to(MOBILE);
    for _ in 0..12 {
        alice.fetches("/account").is("alice");
        world.after(seconds(1));
    }
    alice.fetches("/account").is("alice").sets_nothing_of_ours();
    alice.holds(OURS, &old).fetches("/account").is("alice").sets_ours();
    assert!(world.told().contains(&"session.tag_stale"));
}

#[test]
fn keys_may_be_changed_while_sessions_live() {
    let (world, alice) = logged_in();
    let old = MasterKey::new(KeyId(1), [7; 32]);
    let new = MasterKey::new(KeyId(2), [8; 32]);
    world.after(minutes(2));
    let slow = alice.sends(Ask::fetch("/account"));
    world.guard().replace_keys(Keyring::new(&new, std::slice::from_ref(&old)));
    slow.lands().is("alice").sets_ours();
    alice.visits("/account").is("alice");
    world.after(minutes(3));
    alice.visits("/account").is("alice").sets_ours();
    alice.visits("/account").is("alice");
}

// ---- two jars ------------------------------------------------------------------------------------------------------

/// A thief on the same machine, with the same looks: nothing but the tags tells the two apart.
fn twin(world: &World, alice: &Browser) -> Browser {
    let thief = world.browser("thief");
    thief.steals_from(alice);
    thief
}

/// Both use the session every half minute; gives how long it took until somebody was asked to log in again.
fn until_found(world: &World, alice: &Browser, thief: &Browser) -> u64 {
    for half_minutes in 1..60 {
        world.after(seconds(30));
        for browser in [alice, thief] {
            if browser.visits("/").ok().app_cookie("sessionid").is_none() {
                return half_minutes * 30;
            }
        }
    }
    panic!("nothing was found");
}

#[test]
fn a_thief_active_beside_the_owner() {
    let (world, alice) = logged_in();
    let thief = twin(&world, &alice);
    let found_after = until_found(&world, &alice, &thief);
    assert!(found_after <= 600, "found after {found_after} s");
    let told = world.events_told();
    let of = |kind: Kind| told.iter().filter(|told| told.event.kind() == kind).count();
    assert_eq!((of(Kind::SessionTagFork), of(Kind::SessionHijackSuspected), of(Kind::SessionQuarantined)), (1, 1, 1));
    let quarantined = told.iter().find(|told| told.event.kind() == Kind::SessionQuarantined).unwrap();
    assert!(matches!(&quarantined.event, Event::SessionQuarantined(event) if event.why == Cause::Fork));
    assert_eq!(quarantined.scene.subject.as_deref(), Some("alice"));

    // Nobody can be told from nobody: both see a login page, and the one who knows the password goes on.
    alice.visits("/account").is_stranger();
    thief.visits("/account").is_stranger();
    alice.logs_in("alice").ok().sets_ours();
    alice.visits("/account").is("alice");
    thief.visits("/account").is_stranger();
    let told = world.told();
    assert!(told.contains(&"session.released") && told.contains(&"session.rotated"), "{told:?}");
}

#[test]
fn a_second_fork_ends_the_session() {
    let (world, alice) = logged_in();
    // Old tags are shown in turn, as two rolled-back jars would.
    let old = alice.outgrows(4);
    world.told();
    let thief = world.browser("thief");
    let show = |tag: usize| thief.holds(OURS, &old[tag]).sends(Ask::fetch("/account")).lands_unseen();
    show(0);
    show(1).is_stranger();
    assert!(world.told().contains(&"session.quarantined"));
    show(2).is_stranger().clears_ours();
    assert!(world.told().contains(&"session.terminated"));
    alice.visits("/account").is_stranger();
}

#[test]
fn a_thief_who_is_told_from_the_owner_moves_nothing() {
    let (world, alice) = logged_in();
    world.after(minutes(2));
    alice.visits("/account").sets_ours();
    let thief = twin(&world, &alice).at(ABROAD);
    let before = world.session();
    thief.fetches("/account").is_stranger().sets_nothing_of_ours();
    let after = world.session();
    assert_eq!(after.tags, before.tags, "a successor in the hands of one who is held back is not adopted");
    assert_eq!(after.last_seen, before.last_seen, "nor is the session kept alive");
    assert_eq!(after.history, before.history);
    alice.visits("/account").is("alice");
}

#[test]
fn requests_in_flood_are_judged_like_single_ones() {
    let (world, alice) = logged_in();
    let thief = twin(&world, &alice).at(ABROAD);
    world.after(minutes(2));
    alice.visits("/account");
    alice.visits("/account").is("alice");
    world.after(minutes(2));
    // The stolen tag is stale now: each of these wants to write, and none may slip through.
    let guard = world.guard().clone();
    let requests: Vec<_> = (0..64).map(|_| thief.dresses(Ask::fetch("/account"))).collect();
    let served: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = requests
            .into_iter()
            .map(|(client, mut parts, _)| {
                let guard = guard.clone();
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    drop(runtime.block_on(guard.admit(client, &mut parts, None)));
                    usize::from(parts.headers.contains_key("cookie"))
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(served, 0);
}
