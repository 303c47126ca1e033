//! A copied cookie: from afar, beside its owner, from a twin, from yesterday, from the store; and the honest case that
//! looks like one.

use portcullis::connection::print::{Http2Print, Print, PseudoOrder};
use portcullis::event::Kind;
use portcullis::session::id::SessionDigest;

use super::{APP_COOKIE, GRACE, is_shut_out, moves_on, signed_in};
use crate::support::world::browser::{CURL, OURS};
use crate::support::world::{ABROAD, Ask, MOBILE, NEIGHBOUR, World, minutes, rules};

#[test]
fn stolen_cookie_from_another_machine() {
    let world = World::new(rules());
    let alice = signed_in(&world, "alice");
    // The same cookie in a browser like hers opens her account: the cookie alone says who somebody is.
    let twin = world.browser("twin");
    twin.steals_from(&alice).visits("/account").ok().is("alice");
    world.events_told();

    let thief = world.browser("thief").at(ABROAD).with_agent(CURL);
    thief.steals_from(&alice).visits("/account").is_stranger();
    let told = world.told();
    assert!(told.contains(&Kind::SessionTerminated.as_str()), "{told:?}");
    // Who copies her user agent too has only the network against him. That asks him to sign in, and leaves her in peace.
    let bob = signed_in(&world, "bob");
    let careful = world.browser("careful").at(ABROAD);
    careful.steals_from(&bob).visits("/account").is_stranger();
    world.told_of(Kind::SessionQuarantined);
    bob.visits("/account").ok().is("bob");
}

#[test]
fn login_through_the_proxy_of_a_phisher() {
    let world = World::new(rules());
    // On a server somewhere a program passes on what the victim's browser sends, headers and all. The login works, and the
    // cookies of it are the phisher's.
    let as_go = Http2Print { key: 7, pseudo: Some(PseudoOrder(*b"amps")) };
    let proxy = world.browser("proxy").at(ABROAD).speaking(Print { http2: Some(as_go), ..Print::default() });
    proxy.logs_in("alice").ok().sets_ours();
    let thief = world.browser("thief").at(MOBILE);
    thief.steals_from(&proxy);
    is_shut_out(&thief.visits("/account"));
    is_shut_out(&proxy.fetches("/account"));
    let suspected = world.told_of(Kind::SessionHijackSuspected);
    assert!(format!("{suspected:?}").contains("login.contradiction"), "{suspected:?}");
    is_shut_out(&thief.visits("/account"));
    // A session that was given up to it already does not make the proxy the client of the next victim, neither at once nor from then on.
    let burnt = proxy.ours().unwrap();
    for _ in 0..2 {
        proxy.holds(OURS, &burnt).logs_in("carol").ok().sets_ours();
        is_shut_out(&proxy.visits("/account"));
    }
    // At a desktop in a data centre there is only the network against the user, which troubles nobody.
    let as_chrome = Http2Print { key: 1, pseudo: Some(PseudoOrder(*b"masp")) };
    let bob = world.browser("bob").at(ABROAD).speaking(Print { http2: Some(as_chrome), ..Print::default() });
    bob.logs_in("bob").ok().sets_ours();
    bob.visits("/account").ok().is("bob");
}

#[test]
fn thief_beside_the_owner() {
    let world = World::new(rules());
    let alice = signed_in(&world, "alice");
    let thief = world.browser("thief").at(MOBILE);
    thief.steals_from(&alice).visits("/account").ok().is("alice");
    world.events_told();

    moves_on(&world, &alice);
    world.after(GRACE);
    thief.visits("/account").is_stranger();
    world.told_of(Kind::SessionHijackSuspected);
    is_shut_out(&thief.visits("/account"));
    alice.visits("/account").ok().is("alice");
}

#[test]
fn twin_browser_on_the_same_network() {
    let world = World::new(rules());
    let alice = signed_in(&world, "alice");
    let twin = world.browser("twin").at(NEIGHBOUR);
    twin.steals_from(&alice).visits("/account").ok().is("alice");
    let begun = world.now();
    // Both are used. Whoever is behind shows a stale tag, and is healed once.
    let mut caught = false;
    for _ in 0..6 {
        for browser in [&alice, &twin] {
            world.after(GRACE);
            let pages = [browser.visits("/account"), browser.visits("/account")];
            caught |= pages.iter().any(|page| page.app_cookie(APP_COOKIE).is_none());
        }
        if caught {
            break;
        }
    }
    assert!(caught, "the twin was never noticed");
    assert!(world.now().since(begun) <= minutes(10), "{:?}", world.now().since(begun));
    world.told_of(Kind::SessionTagFork);
    // Nobody can say who is the owner, so both have to sign in, and only she can.
    is_shut_out(&twin.visits("/account"));
    alice.logs_in("alice").ok().sets_ours();
    alice.visits("/account").ok().is("alice");
    is_shut_out(&twin.visits("/account"));
}

#[test]
fn retired_cookie() {
    let world = World::new(rules());
    let alice = world.browser("alice");
    alice.visits("/cart").ok().sets_ours();
    let visitor = world.browser("a copy of the visitor's cookie");
    visitor.steals_from(&alice);
    alice.logs_in("alice").ok().sets_ours();
    let user = world.browser("a copy of the user's cookie").at(MOBILE);
    user.steals_from(&alice);
    for _ in 0..5 {
        moves_on(&world, &alice);
    }
    world.events_told();

    visitor.visits("/account").is_stranger();
    world.told_of(Kind::SessionRotatedIdReuse);
    user.visits("/account").is_stranger();
    world.told_of(Kind::SessionTagStale);
    alice.visits("/account").ok().is("alice");
}

#[test]
fn session_store_theft() {
    let world = World::new(rules());
    let alice = signed_in(&world, "alice");
    let ours = alice.ours().unwrap();
    let (id, tag) = ours.split_once('.').unwrap();
    let app_cookie = alice.visits("/account").app_cookie(APP_COOKIE).unwrap();
    let records = world.run(world.store().everything());
    let live = world.session();
    assert!(!records.is_empty() && !live.jar.is_empty());
    for record in &records {
        let stored = String::from_utf8_lossy(&record.encode()).into_owned();
        for secret in [id, app_cookie.as_str()] {
            assert!(!stored.contains(secret), "the store holds {secret}");
        }
    }
    // What the store does hold, a digest and a tag, opens nothing.
    let SessionDigest(digest) = live.digest;
    let thief = world.browser("thief");
    thief.holds(OURS, &format!("{}.{tag}", base64url(&digest)));
    thief.visits("/account").is_stranger();
    world.told_of(Kind::SessionUnknownId);
    alice.visits("/account").ok().is("alice");
}

#[test]
fn lost_set_cookie() {
    let world = World::new(rules());
    let alice = signed_in(&world, "alice");
    world.events_told();
    let mut lost = 0;
    for _ in 0..8 {
        world.after(minutes(3));
        let page = alice.sends(Ask::page("/account")).lands_unseen().ok().is("alice");
        lost += page.ours().len();
        alice.visits("/account").ok().is("alice");
    }
    assert!(lost >= 3, "{lost} cookies were lost");
    // A browser that crashed comes back with the cookie of some minutes ago. It is served, and its jar heals.
    let before = alice.ours().unwrap();
    for _ in 0..3 {
        moves_on(&world, &alice);
    }
    world.after(GRACE);
    alice.holds(OURS, &before);
    alice.visits("/account").ok().is("alice").sets_ours();
    world.after(GRACE);
    alice.visits("/account").ok().is("alice");
    let told = world.told();
    for alarm in [Kind::SessionTagFork, Kind::SessionHijackSuspected, Kind::SessionQuarantined, Kind::SessionTerminated]
    {
        assert!(!told.contains(&alarm.as_str()), "{told:?}");
    }
}

fn base64url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
