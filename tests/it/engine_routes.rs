//! Routes: what a laxer one may not be used for, and what part of a page may not do to the session.

use http::Method;
use portcullis::engine::{RefusalKind, Selection};
use portcullis::event::{Event, Kind, Revoker};
use portcullis::rules::Use;
use portcullis::verdict::Mode;

use crate::support::world::browser::OURS;
use crate::support::world::{AppAnswer, Ask, Rules, World, logged_in, minutes, rules};

// ---- a laxer route -------------------------------------------------------------------------------------------------

#[test]
fn a_stale_tag_is_neither_healed_nor_spent_on_a_laxer_route() {
    for mode in [Mode::Off, Mode::Observe] {
        let (world, alice) = logged_in(rules().route("/static/**", |route| route.mode = mode));
        // Two old cookies of hers, both stale by now.
        let old = alice.outgrows(3);
        world.told();
        let thief = world.browser("thief");
        for cookie in &old {
            thief.holds(OURS, cookie).visits("/static/logo.svg").ok().sets_nothing_of_ours();
        }
        assert_eq!(world.told(), Vec::<&str>::new(), "what it tells is not spent there");
        thief.holds(OURS, &old[0]).visits("/account").ok();
        assert_eq!(world.told(), ["session.tag_stale"]);
        thief.holds(OURS, &old[1]).visits("/account").is_stranger();
        assert!(world.told().contains(&"session.tag_fork"));
    }
}

#[test]
fn no_spelling_of_a_path_picks_a_laxer_route() {
    let lax = |route: &mut portcullis::rules::Route| route.mode = Mode::Off;
    let (_, alice) = logged_in(rules().route("/public/**", lax));
    for path in ["/public/..;/account", "/public/%2e%2e/account", "/public%2f..%2faccount", "/public/\\..\\..\\account"]
    {
        let page = alice.asks(Ask::page(&path.replace('\\', "%5c")));
        page.is_refused(400, RefusalKind::AmbiguousPath);
    }
    // Both readings are of one route: nothing depends on which the app chooses.
    alice.visits("/public/a%2fb").is("alice");
    alice.visits("/account").is("alice");
    let (_, alice) = logged_in(rules());
    alice.visits("/public/..;/account").ok();
}

// ---- freshness -----------------------------------------------------------------------------------------------------

fn fresh_admin() -> Rules {
    rules().route("/admin/**", |route| route.fresh = Some(minutes(15)))
}

#[test]
fn part_of_a_page_logs_nobody_out_of_a_fresh_route() {
    let (world, alice) = logged_in(fresh_admin());
    world.after(minutes(16));
    let before = world.session();
    for ask in [
        Ask::image("/admin/chart.png"),
        Ask::image("/admin/chart.png").cross_site(),
        Ask::fetch("/admin/numbers"),
        Ask::prefetch("/admin/x"),
        Ask::page("/admin/x").header("sec-fetch-dest", "iframe"),
        Ask::page("/admin/x").cross_site().header("sec-fetch-user", "?0"),
        Ask::form("/admin/x", "").cross_site(),
        Ask::socket("/admin/live"),
    ] {
        alice.asks(ask).is_stranger().sets_nothing_of_ours();
        assert_eq!(world.told(), ["stepup.required"]);
    }
    assert_eq!(world.session(), before);
    // Nor does another credential help where the session does not.
    let with_token = Ask::fetch("/admin/numbers").header("authorization", "Bearer a-stolen-token");
    assert_eq!(alice.asks(with_token).is_stranger().header_at_app("authorization"), None);
    alice.visits("/account").is("alice");
    alice.visits("/admin/x").is_stranger().sets_ours();
    assert!(world.told().contains(&"session.quarantined"));
    alice.logs_in("alice").ok();
    alice.visits("/admin/x").is("alice");
}

#[test]
fn a_bound_cookie_stays_behind_with_its_session_and_is_no_foreign_one() {
    let (world, alice) = logged_in(fresh_admin().bind("csrf"));
    world.answers(AppAnswer::ok().set_cookie("csrf=bound-to-alice; Path=/"));
    alice.visits("/").ok();
    world.answers(AppAnswer::ok());
    world.after(minutes(16));
    world.told();
    assert_eq!(alice.fetches("/admin/numbers").app_cookies(), "");
    assert_eq!(world.told(), ["stepup.required"], "it is where it belongs");
    assert_eq!(alice.visits("/").app_cookies(), "csrf=bound-to-alice; sessionid=app-session-0001");
}

#[test]
fn a_session_is_as_fresh_as_it_is_young_when_nobody_told_us_of_a_login() {
    // The app gives a new id at `/enter`, and the guard knows nothing of that page.
    let world = World::new(fresh_admin());
    let mut issued = 0;
    world.app(move |request| {
        if request.uri.path() != "/enter" {
            return AppAnswer::ok();
        }
        issued += 1;
        AppAnswer::ok().set_cookie(&format!("sessionid=app-session-{issued:04}; Path=/; HttpOnly"))
    });
    let alice = world.browser("alice");
    alice.visits("/enter").sets_ours();
    world.after(minutes(16));
    // A visitor, as far as anybody can tell: his basket is left where it is.
    assert_eq!(alice.visits("/admin/x").app_cookies(), "sessionid=app-session-0001");
    alice.visits("/enter").sets_ours();
    // Somebody may have logged in, in a session that is older than that; ids alone do not make it younger.
    alice.visits("/enter").sets_ours();
    assert_eq!(alice.visits("/admin/x").is_stranger().sets_ours().app_cookies(), "");
    alice.visits("/enter").ok();
    alice.visits("/enter").sets_ours();
    assert_ne!(alice.visits("/admin/x").app_cookies(), "");
}

#[test]
fn a_click_elsewhere_that_leads_to_a_fresh_route_asks_for_a_login() {
    let (world, alice) = logged_in(fresh_admin());
    world.after(minutes(16));
    // A page that sends its readers here by itself does nothing to them.
    let sent = Ask::page("/admin/x").cross_site().header("sec-fetch-user", "?0");
    alice.asks(sent).is_stranger().sets_nothing_of_ours();
    alice.visits("/account").is("alice");
    alice.asks(Ask::page("/admin/x").cross_site()).is_stranger().sets_ours();
    alice.logs_in("alice").ok();
    alice.visits("/admin/x").is("alice");
}

#[test]
fn what_changes_something_is_use_on_a_passive_route_too() {
    let (world, alice) = logged_in(rules().route("/poll", |route| route.use_ = Use::Passive));
    for _ in 0..4 {
        world.after(minutes(20));
        alice.asks(Ask::fetch("/poll").method(Method::POST)).is("alice");
    }
    world.after(minutes(20));
    alice.asks(Ask::fetch("/poll")).is("alice");
    world.after(minutes(20));
    alice.asks(Ask::fetch("/poll")).is_stranger();
}

// ---- faults of the store -------------------------------------------------------------------------------------------

#[test]
fn many_writers_of_one_session_all_get_through() {
    let (world, alice) = logged_in(rules().shield("basket", portcullis::session::cookie::CookieKind::Id));
    world.answers(AppAnswer::ok().set_cookie("basket=a-pear; Path=/"));
    world.store().others_write_first(40);
    alice.visits("/").ok();
    world.answers(AppAnswer::ok().control("rotate"));
    world.store().others_write_first(40);
    alice.visits("/").ok().sets_ours();
    world.answers(AppAnswer::ok());
    assert_eq!(alice.visits("/").ok().app_cookies(), "sessionid=app-session-0001; basket=a-pear");
}

#[test]
fn a_fork_and_its_quarantine_are_one_write() {
    let (world, alice) = logged_in(rules());
    let old = alice.outgrows(3);
    let thief = world.browser("thief");
    thief.holds(OURS, &old[0]).fetches("/account").ok();
    world.store().fails_after(1);
    thief.holds(OURS, &old[1]).fetches("/account").is_stranger();
    world.store().recovers();
    world.run(world.store().restarts());
    alice.fetches("/account").is_stranger();
}

#[test]
fn a_store_that_is_full_is_no_reason_to_turn_visitors_away() {
    let world = World::new(rules());
    world.store().shrinks_to(1);
    world.browser("first").logs_in("alice").ok().sets_ours();
    world.told();
    let visitor = world.browser("visitor");
    visitor.visits("/cart").ok().sets_nothing_of_ours();
    let told = world.told_of(Kind::DependencyFailed);
    assert!(matches!(&told.event, Event::DependencyFailed(event) if event.fault.as_str().contains("full")));
    visitor.logs_in("bob").is_refused(503, RefusalKind::Outage);
}

#[test]
fn an_operator_misses_no_session_that_gets_another_id_meanwhile() {
    for by_ref in [false, true] {
        let (world, _) = logged_in(rules());
        let which = if by_ref { Selection::Ref(world.session().reference) } else { Selection::All };
        world.store().sessions_slip_away(2);
        assert_eq!(world.run(world.guard().revoke(&which, Revoker::Admin)).unwrap(), 1);
        assert!(world.sessions().is_empty());
    }
}
