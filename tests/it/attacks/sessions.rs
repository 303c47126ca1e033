//! Sessions that are planted, guessed, kept for ever, used after their end, or begun by the million.

use portcullis::engine::RefusalKind;
use portcullis::event::Kind;
use portcullis::event::encode::{Colour, Encoder, Format};

use super::{APP_COOKIE, GRACE, ROTATION, signed_in};
use crate::support::world::browser::OURS;
use crate::support::world::{AppAnswer, Ask, NEIGHBOUR, World, hours, minutes, rate, rules, seconds};

#[test]
fn session_fixation() {
    let world = World::new(rules());
    let eve = world.browser("eve").at(NEIGHBOUR);
    eve.visits("/cart").ok().sets_ours();
    let bait = eve.visits("/cart").app_cookie(APP_COOKIE).unwrap();
    let planted = eve.ours().unwrap();

    // Both cookies are planted, the guard's and the app's.
    let alice = world.browser("alice");
    alice.holds(OURS, &planted).holds(APP_COOKIE, &bait);
    alice.visits("/cart").ok();
    alice.logs_in("alice").ok().sets_ours();
    alice.visits("/account").ok().is("alice");
    assert_ne!(alice.ours().unwrap(), planted);
    world.told_of(Kind::CookieShielded);

    eve.visits("/account").is_stranger();
    world.after(GRACE);
    eve.holds(OURS, &planted).holds(APP_COOKIE, &bait);
    eve.visits("/account").is_stranger();
    world.told_of(Kind::SessionRotatedIdReuse);
    alice.visits("/account").ok().is("alice");
}

#[test]
fn session_id_guessing() {
    let world = World::new(rules().limits(|limits| limits.guesses = rate("30/1m burst 60")));
    let nobody = world.browser("nobody").visits("/account").outline();
    let eve = world.browser("eve");
    let tag = "A".repeat(22);
    for number in 0..60 {
        eve.holds(OURS, &format!("{number:0<43}.{tag}"));
        let page = eve.visits("/account").is_stranger().sets_nothing_of_ours();
        assert_eq!(page.outline(), nobody, "the answer tells her nothing");
    }
    world.told_of(Kind::SessionUnknownId);
    let refused = (60..70).map(|number| {
        eve.holds(OURS, &format!("{number:0<43}.{tag}"));
        eve.visits("/account")
    });
    let refused: Vec<_> = refused.filter(|page| page.refused == Some(RefusalKind::Throttled)).collect();
    assert!(!refused.is_empty() && refused.iter().all(|page| page.status == 429));
    assert!(world.sessions().is_empty(), "nothing was adopted");
}

#[test]
fn forged_tag() {
    let world = World::new(rules());
    let alice = signed_in(&world, "alice");
    let ours = alice.ours().unwrap();
    let (id, tag) = ours.split_once('.').unwrap();
    let before = world.session();
    let eve = world.browser("eve");
    let turned: String = tag.chars().rev().collect();
    for forged in ["A".repeat(22), turned] {
        world.events_told();
        eve.holds(OURS, &format!("{id}.{forged}"));
        eve.visits("/account").is_stranger().sets_nothing_of_ours();
        world.told_of(Kind::SessionTagForged);
    }
    assert_eq!(world.session(), before, "her session was not touched");
    alice.visits("/account").ok().is("alice");
}

#[test]
fn cookie_replayed_after_logout() {
    let world = World::new(rules());
    let alice = signed_in(&world, "alice");
    let copy = world.browser("a copy");
    copy.steals_from(&alice).visits("/account").ok().is("alice");
    let slow = alice.sends(Ask::page("/account"));
    alice.logs_out().ok().clears_ours();
    copy.visits("/account").is_stranger();
    world.told_of(Kind::SessionUseAfterExpire);
    // An answer that was under way tries to write into the session that is over.
    world.answers(AppAnswer::ok().set_cookie("sessionid=saved-too-late; Path=/"));
    slow.lands();
    world.after(seconds(5));
    assert_eq!(copy.visits("/account").is_stranger().app_cookie(APP_COOKIE), None);
    assert_eq!(alice.visits("/account").app_cookie(APP_COOKIE), None);
}

#[test]
fn idle_session() {
    let world = World::new(rules().idle(minutes(30)));
    let alice = signed_in(&world, "alice");
    world.after(minutes(29));
    alice.visits("/account").ok().is("alice");
    // What her browser does without her is no use of the session.
    world.after(minutes(20));
    alice.asks(Ask::prefetch("/account")).ok().is("alice");
    alice.asks(Ask::background("/worker.js")).ok().is("alice");
    let found = world.browser("who finds her browser");
    found.steals_from(&alice);
    world.after(minutes(10));
    found.visits("/account").is_stranger();
    world.told_of(Kind::SessionExpiredIdle);
    // Her own browser shows it too. That is what happens every morning, and is told once.
    alice.visits("/account").is_stranger();
    assert!(!world.told().contains(&Kind::SessionExpiredIdle.as_str()));
}

#[test]
fn session_that_never_ends() {
    let world = World::new(rules().absolute(hours(12)));
    let thief = signed_in(&world, "alice");
    for _ in 0..(12 * 6 - 1) {
        world.after(minutes(10));
        thief.visits("/account").ok().is("alice");
    }
    let kept = thief.ours();
    world.after(minutes(10));
    thief.visits("/account").is_stranger();
    world.told_of(Kind::SessionExpiredAbsolute);
    assert!(kept.is_some());
}

#[test]
fn session_flooding() {
    let limited = rules().limits(|limits| limits.anonymous_sessions = rate("20/1m"));
    let world = World::new(limited);
    for number in 0..200 {
        world.browser(&format!("visitor {number}")).visits("/").ok().sets_nothing_of_ours();
    }
    assert_eq!(world.store().writes(), 0, "who was given nothing costs nothing");
    for number in 0..200 {
        world.browser(&format!("robot {number}")).visits("/cart").ok();
    }
    let kept = world.sessions().len();
    assert!((1..=21).contains(&kept), "{kept} sessions are kept");
    world.told_of(Kind::RateLimited);
    // Who signs in is let in all the same.
    signed_in(&world, "alice");
}

#[test]
fn websocket_after_logout() {
    let world = World::new(rules());
    let (alice, bob) = (signed_in(&world, "alice"), signed_in(&world, "bob"));
    world.answers(AppAnswer::status(101).endless());
    let streams: Vec<_> = [&alice, &bob].map(|browser| browser.asks(Ask::socket("/chat")).cut.unwrap()).into();
    assert!(streams.iter().all(|cut| !cut.is_done()));
    world.answers(AppAnswer::redirect("/"));
    alice.logs_out();
    let ended: Vec<bool> = streams.iter().map(portcullis::engine::cut::Cut::is_done).collect();
    assert_eq!(ended, [true, false], "hers ends and his goes on");
}

#[test]
fn log_forging() {
    let world = World::new(rules());
    let eve = world.browser("eve");
    let name = "eve%0A%7B%22event%22%3A%22session.revoked%22%7D%0D%1B%5B2J%E2%80%AE";
    eve.asks(Ask::form("/login", &format!("username={name}&password=wrong")));
    eve.holds("__HOST-portcullis", "x").visits("/a?%0aevent=guard.stopped").ok();
    let told = world.events_told();
    assert!(told.len() >= 2, "{told:?}");
    for format in [Format::Json, Format::Human(Colour::Never)] {
        let encoder = Encoder::new(format);
        for record in &told {
            let mut line = Vec::new();
            encoder.encode(record, &mut line);
            let line = String::from_utf8(line).unwrap();
            let line = line.strip_suffix('\n').unwrap_or(&line);
            let dangerous = line.chars().find(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(c));
            assert_eq!(dangerous, None, "{line:?}");
            if format == Format::Json {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(value["event"], record.event.kind().as_str());
            }
        }
    }
}

#[test]
fn cache_poisoning_with_a_session() {
    let world = World::new(rules());
    let alice = signed_in(&world, "alice");
    world.after(ROTATION);
    // A successor is due. It rides on no answer that a cache may keep.
    world.answers(AppAnswer::ok().header("cache-control", "public, max-age=600"));
    let page = alice.visits("/style").ok().sets_nothing_of_ours();
    assert_eq!(page.header("cache-control"), Some("public, max-age=600"));
    world.answers(AppAnswer::ok());
    alice.visits("/page").ok().sets_ours();
    // What must be set is set, and then the answer is not to be kept.
    world.events_told();
    let careless = AppAnswer::ok().header("cache-control", "public, max-age=600").header("expires", "0");
    world.answers(careless.set_cookie("sessionid=secret-of-alice; Path=/"));
    let page = world.browser("visitor").visits("/cart").ok().sets_ours();
    assert!(page.set_cookies().iter().all(|line| !line.contains("secret-of-alice")), "{:?}", page.set_cookies());
    world.told_of(Kind::ResponseCacheable);
}
