//! `Cookie` headers that two programs read in two ways.

use portcullis::engine::RefusalKind;
use portcullis::event::Kind;
use portcullis::signal::Sensitivity;

use super::{APP_COOKIE, signed_in};
use crate::support::world::browser::OURS;
use crate::support::world::{Ask, World, minutes, rules};

#[test]
fn cookie_tossing() {
    let world = World::new(rules());
    let (alice, eve) = (signed_in(&world, "alice"), signed_in(&world, "eve"));
    let (hers, tossed) = (alice.ours().unwrap(), eve.ours().unwrap());
    for line in [format!("{OURS}={tossed}; {OURS}={hers}"), format!("{OURS}={hers}; theme=dark; {OURS}={tossed}")] {
        world.events_told();
        alice.asks(Ask::page("/account").header("cookie", &line)).is_stranger();
        world.told_of(Kind::CookieDuplicate);
    }
    // In two header lines it is no better.
    let twice = Ask::page("/account").header("cookie", &format!("{OURS}={tossed}"));
    alice.asks(twice.and_header("cookie", &format!("{OURS}={hers}"))).is_stranger();
    alice.visits("/account").ok().is("alice");
}

#[test]
fn cookie_prefix_look_alike() {
    let world = World::new(rules());
    let (alice, eve) = (signed_in(&world, "alice"), signed_in(&world, "eve"));
    let (hers, tossed) = (alice.ours().unwrap(), eve.ours().unwrap());
    for look_alike in ["__host-portcullis", "__HOST-PORTCULLIS", "%5F_Host-portcullis", "SessionID", "session%69d"] {
        world.events_told();
        let line = format!("theme=dark; {look_alike}={tossed}; {OURS}={hers}");
        let page = alice.asks(Ask::page("/account").header("cookie", &line)).ok().is("alice");
        assert!(!page.app_cookies().contains(look_alike), "{}", page.app_cookies());
        assert!(page.app_cookies().contains("theme=dark"), "{}", page.app_cookies());
        world.told_of(Kind::CookiePrefixVariant);
    }
}

#[test]
fn cookie_sandwich() {
    let world = World::new(rules());
    let alice = signed_in(&world, "alice");
    let hers = alice.ours().unwrap();
    // An old parser would take everything between the quotes for one value, and a page that shows it would show her cookies.
    for (front, back) in [("$Version=1; theme=\"dark", "last=x\""), ("theme=\"dark", "last=\"")] {
        world.events_told();
        let line = format!("{front}; {OURS}={hers}; {back}");
        let page = alice.asks(Ask::page("/account").header("cookie", &line));
        let seen = page.app_cookies();
        assert!(!seen.contains("theme") && !seen.contains('$'), "{seen}");
        assert!(seen.matches('"').count() < 2, "nothing stands between two quotes: {seen}");
        assert!(!seen.contains(&hers), "our own cookie never reaches the app");
        world.told_of(Kind::CookieLegacySyntax);
    }
    assert!(alice.visits("/account").ok().is("alice").app_cookie(APP_COOKIE).is_some());
}

#[test]
fn path_confusion() {
    let rules = rules().route("/admin/**", |route| {
        route.fresh = Some(minutes(15));
        route.sensitivity = Sensitivity::Sensitive;
    });
    let world = World::new(rules);
    let alice = signed_in(&world, "alice");
    alice.visits("/admin/users").ok().is("alice");
    world.after(minutes(16));
    // Her login is too old for the place; no spelling of it gets around that.
    for spelling in ["/admin/users", "/ADMIN/users", "//admin//users", "/%61dmin/users", "/admin/"] {
        let page = alice.visits(spelling);
        assert!(page.refused.is_some() || page.app_cookie(APP_COOKIE).is_none(), "{spelling}");
    }
    for spelling in [
        "/admin%2fusers",
        "/x/..;/admin/users",
        "/admin;x=1/users",
        "/admin\\users",
        "/x/%2e%2e/admin/users",
        "/%2561dmin/users",
    ] {
        let page = world.browser("visitor").visits(spelling);
        assert_eq!((page.status.as_u16(), page.refused), (400, Some(RefusalKind::AmbiguousPath)), "{spelling}");
    }
    world.told_of(Kind::HttpMalformed);
    // Where nothing is protected, an odd path is the app's own business.
    let bob = signed_in(&world, "bob");
    bob.visits("/shop;colour=red/7").ok().is("bob");
}
