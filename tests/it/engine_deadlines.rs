//! When sessions end by time: idle, absolute, by the app's word; what counts as use; fresh routes; streams.

use std::sync::Arc;

use portcullis::engine::Selection;
use portcullis::event::{Cause, Event, Kind, Release, Revoker};
use portcullis::rules::Use;
use portcullis::secret::{KeyId, Keyring, MasterKey};
use portcullis::session::cookie::Persist;
use portcullis::session::record::{Record, State};
use portcullis::verdict::Mode;

use crate::support::world::browser::OURS;
use crate::support::world::{AppAnswer, Ask, Browser, Rules, World, hours, logged_in, minutes, rules, seconds};

#[test]
fn a_session_ends_when_it_is_not_used() {
    let (world, alice) = logged_in(rules());
    world.after(minutes(30).saturating_sub(seconds(1)));
    alice.visits("/account").is("alice");
    world.after(minutes(30).saturating_sub(seconds(1)));
    alice.visits("/account").is("alice");
    world.after(minutes(30));
    world.told();
    alice.visits("/account").is_stranger().sets_nothing_of_ours();
    assert_eq!(world.told(), ["session.expired.idle"]);
    alice.visits("/account").is_stranger();
    assert_eq!(world.told(), Vec::<&str>::new(), "an honest jar goes on showing it");
    alice.logs_in("alice").ok();
    alice.visits("/account").is("alice");
}

#[test]
fn a_session_ends_however_much_it_is_used() {
    let (world, alice) = logged_in(rules());
    for _ in 0..72 {
        world.after(minutes(10).saturating_sub(seconds(1)));
        alice.visits("/account").is("alice");
    }
    world.after(seconds(72));
    world.told();
    alice.visits("/account").is_stranger();
    assert_eq!(world.told(), ["session.expired.absolute"]);
}

#[test]
fn only_a_login_moves_the_absolute_end() {
    let (world, alice) = logged_in(rules().absolute(hours(1)).idle(hours(1)));
    world.after(minutes(59));
    world.answers(AppAnswer::ok().control("elevate"));
    alice.visits("/").ok().sets_ours();
    world.answers(AppAnswer::ok().control("rotate"));
    alice.visits("/").ok().sets_ours();
    world.after(minutes(1));
    world.reopens_the_shop();
    alice.visits("/account").is_stranger();

    let (world, alice) = logged_in(rules().absolute(hours(1)).idle(hours(1)));
    world.after(minutes(59));
    alice.logs_in("alice").ok();
    world.after(minutes(59));
    alice.visits("/account").is("alice");
}

#[test]
fn what_the_browser_does_by_itself_is_no_use() {
    let passive = rules().route("/poll", |route| route.use_ = Use::Passive);
    let (world, alice) = logged_in(passive);
    world.after(minutes(15));
    for ask in [Ask::prefetch("/account"), Ask::background("/sw.js"), Ask::fetch("/poll")] {
        alice.asks(ask).ok();
    }
    world.after(minutes(15));
    alice.visits("/account").is_stranger();
}

#[test]
fn what_a_person_does_is_use() {
    for ask in [Ask::page("/account"), Ask::fetch("/api"), Ask::form("/x", "a=b"), Ask::plain("/x")] {
        let (world, alice) = logged_in(rules());
        world.after(minutes(15));
        alice.asks(ask).ok();
        world.after(minutes(15));
        alice.visits("/account").is("alice");
    }
    let (world, alice) = logged_in(rules());
    world.after(minutes(15));
    alice.asks(Ask::form("/x", "a=b").header("sec-purpose", "prefetch")).ok();
    world.after(minutes(15));
    alice.visits("/account").is("alice");
}

#[test]
fn our_cookie_lasts_as_long_as_the_apps_if_it_is_asked_to() {
    let world = World::new(rules().with(|policy| policy.cookies.persist = Persist::App));
    world.answers(AppAnswer::ok().set_cookie("sessionid=x-y-z; Path=/; Max-Age=3600; HttpOnly"));
    let page = world.browser("alice").visits("/").ok();
    assert!(page.ours()[0].ends_with("; Max-Age=3600"), "{:?}", page.ours());
    world.answers(AppAnswer::ok().set_cookie("sessionid=x-y-z; Path=/; Max-Age=31536000; HttpOnly"));
    let page = world.browser("bob").visits("/").ok();
    assert!(page.ours()[0].ends_with("; Max-Age=43200"), "never beyond the absolute end: {:?}", page.ours());
}

#[test]
fn what_is_over_is_swept_away() {
    let (world, alice) = logged_in(rules());
    world.browser("bob").visits("/cart").ok();
    alice.logs_out().ok();
    let count = || world.run(world.store().everything()).len();
    assert_eq!(count(), 2);
    assert_eq!(world.run(world.guard().clear_expired()).unwrap(), 0);
    world.after(hours(2));
    assert_eq!(world.run(world.guard().clear_expired()).unwrap(), 2);
    assert_eq!(count(), 0);
}

// ---- routes --------------------------------------------------------------------------------------------------------

fn fresh_admin() -> Rules {
    rules().route("/admin/**", |route| route.fresh = Some(minutes(15)))
}

#[test]
fn a_fresh_route_asks_for_a_new_login_when_the_last_is_too_long_ago() {
    let (world, alice) = logged_in(fresh_admin());
    world.after(minutes(15).saturating_sub(seconds(1)));
    alice.visits("/admin/x").is("alice");
    world.after(seconds(1));
    world.told();
    let old = alice.ours().unwrap();
    alice.visits("/admin/x").is_stranger().sets_ours();
    let told = world.told_of(Kind::SessionQuarantined);
    assert!(matches!(&told.event, Event::SessionQuarantined(event) if event.why == Cause::Freshness));

    // Every presenter is asked, until the login.
    let tab = world.browser("another tab");
    tab.holds(OURS, &old);
    tab.fetches("/account").is_stranger();
    alice.logs_in("alice").ok().sets_ours();
    let told = world.told_of(Kind::SessionReleased);
    assert!(matches!(&told.event, Event::SessionReleased(event) if event.how == Release::Login));
    alice.visits("/admin/x").is("alice");
    tab.visits("/account").is_stranger();
}

#[test]
fn a_route_may_have_shorter_deadlines() {
    let (world, alice) = logged_in(rules().route("/admin/**", |route| route.idle = Some(minutes(10))));
    world.after(minutes(9));
    alice.visits("/admin/x").is("alice");
    world.after(minutes(11));
    alice.visits("/account").is("alice");
    world.after(minutes(11));
    alice.visits("/admin/x").is_stranger();

    let (world, alice) = logged_in(rules().route("/admin/**", |route| route.absolute = Some(minutes(20))));
    for _ in 0..3 {
        world.after(minutes(6));
        alice.visits("/admin/x").is("alice");
    }
    world.after(minutes(6));
    alice.visits("/admin/x").is_stranger();
}

#[test]
fn deadlines_of_a_route_hold_in_every_mode() {
    for mode in [Mode::Off, Mode::Observe] {
        let rules = rules().route("/admin/**", |route| {
            route.fresh = Some(minutes(15));
            route.mode = mode;
        });
        let (world, alice) = logged_in(rules);
        world.after(minutes(15));
        alice.visits("/admin/x").is_stranger();
    }
}

#[test]
fn reporting_only_ends_nothing() {
    let (world, alice) = logged_in(fresh_admin().report_only());
    world.after(minutes(31));
    alice.visits("/admin/x").is("alice");
    let told = world.events_told();
    let names: Vec<_> = told.iter().map(|told| told.event.kind().as_str()).collect();
    assert_eq!(names, ["session.expired.idle", "session.quarantined"]);
    assert_eq!(told[1].scene.mode, Mode::Observe);
    world.after(hours(20));
    world.run(world.guard().clear_expired()).unwrap();
    alice.visits("/account").is("alice");
}

// ---- quarantine by time --------------------------------------------------------------------------------------------

#[test]
fn a_quarantine_that_nobody_ends_ends_the_session() {
    let (world, alice) = logged_in(fresh_admin());
    world.after(minutes(16));
    let old = alice.ours().unwrap();
    alice.visits("/admin/x").is_stranger();
    let tab = world.browser("another tab");
    tab.holds(OURS, &old);
    world.after(minutes(10).saturating_sub(seconds(1)));
    tab.fetches("/account").is_stranger();
    world.told();
    world.after(seconds(1));
    tab.fetches("/account").is_stranger();
    let told = world.told_of(Kind::SessionReleased);
    assert!(matches!(&told.event, Event::SessionReleased(event) if event.how == Release::Time));
    tab.fetches("/account").is_stranger();
    let live: Vec<Arc<Record>> = world.sessions();
    assert!(live.iter().all(|record| matches!(record.state, State::Held { .. })));

    alice.logs_in("alice").ok();
    alice.visits("/admin/x").is("alice");
}

// ---- streams -------------------------------------------------------------------------------------------------------

fn streaming(rules: Rules) -> (World, Browser) {
    let (world, alice) = logged_in(rules);
    world.answers(AppAnswer::ok().endless());
    (world, alice)
}

#[test]
fn a_stream_is_cut_when_its_session_is_revoked() {
    let (world, alice) = streaming(rules());
    let cut = alice.asks(Ask::fetch("/events")).cut.unwrap();
    assert!(!cut.is_done());
    world.run(world.guard().revoke(&Selection::All, Revoker::Admin)).unwrap();
    assert!(cut.is_done());
}

/// Of many that are to be ended one can not be: the others are, their streams with them, and all of it is told.
#[test]
fn one_session_that_can_not_be_ended_keeps_none_of_the_others() {
    let (world, alice) = streaming(rules());
    let hers = alice.asks(Ask::fetch("/events")).cut.unwrap();
    let kept = world.session().digest;
    let others: Vec<_> = (0..40)
        .map(|nth| {
            let name = format!("user-{nth}");
            let browser = world.browser(&name);
            world.reopens_the_shop();
            browser.logs_in(&name).ok();
            world.answers(AppAnswer::ok().endless());
            browser.asks(Ask::fetch("/events")).cut.unwrap()
        })
        .collect();
    world.store().keeps(kept);
    let error = world.run(world.guard().revoke(&Selection::All, Revoker::Admin)).unwrap_err();
    assert!(error.to_string().contains("does not let go"), "{error}");
    assert!(others.iter().all(|cut| cut.is_done()) && !hers.is_done());
    let live: Vec<_> = world.sessions().into_iter().filter(|record| !record.is_ended()).collect();
    assert!(matches!(live.as_slice(), [record] if record.digest == kept));
    assert_eq!(world.told().iter().filter(|kind| **kind == "session.revoked").count(), 40);
}

#[test]
fn a_stream_is_cut_when_the_key_of_its_session_is_burnt() {
    let key = |number: u8| MasterKey::new(KeyId(number), [number + 6; 32]);
    let (world, alice) = streaming(rules());
    let cut = alice.asks(Ask::fetch("/events")).cut.unwrap();
    world.guard().replace_keys(Keyring::new(&key(2), &[key(1)]));
    world.run(world.guard().sweep_streams()).unwrap();
    assert!(!cut.is_done(), "a key in front of it changes nothing");
    world.guard().replace_keys(Keyring::new(&key(3), &[]));
    world.run(world.guard().sweep_streams()).unwrap();
    assert!(cut.is_done());
}

#[test]
fn a_socket_is_cut_at_logout_and_no_other() {
    let (world, alice) = streaming(rules());
    let bob = world.browser("bob");
    world.reopens_the_shop();
    bob.logs_in("bob").ok();
    world.answers(AppAnswer::status(101).endless());
    let (hers, his) = (alice.asks(Ask::socket("/ws")).cut.unwrap(), bob.asks(Ask::socket("/ws")).cut.unwrap());
    world.answers(AppAnswer::ok());
    alice.logs_out().ok();
    assert!(hers.is_done());
    assert!(!his.is_done());
}

#[test]
fn a_stream_is_cut_at_the_end_of_its_session_or_when_another_node_ended_it() {
    let (world, alice) = streaming(rules());
    let cut = alice.asks(Ask::fetch("/events")).cut.unwrap();
    world.after(minutes(29));
    world.run(world.guard().sweep_streams()).unwrap();
    assert!(!cut.is_done());
    world.after(minutes(1));
    world.run(world.guard().sweep_streams()).unwrap();
    assert!(cut.is_done());

    let (world, alice) = streaming(rules().report_only());
    let cut = alice.asks(Ask::fetch("/events")).cut.unwrap();
    world.after(hours(13));
    world.run(world.guard().sweep_streams()).unwrap();
    assert!(!cut.is_done(), "where deadlines are only reported, nothing is cut by them");
}

#[test]
fn a_stream_is_cut_when_its_session_is_quarantined_or_gets_another_id() {
    let (world, alice) = streaming(fresh_admin());
    let cut = alice.asks(Ask::fetch("/events")).cut.unwrap();
    world.after(minutes(16));
    alice.visits("/admin/x").ok();
    assert!(cut.is_done());

    let (world, alice) = streaming(rules());
    let cut = alice.asks(Ask::fetch("/events")).cut.unwrap();
    world.answers(AppAnswer::ok().control("elevate"));
    alice.visits("/").ok();
    assert!(cut.is_done());
}

#[test]
fn a_stream_goes_on_when_the_app_renews_the_id_and_still_ends_with_its_session() {
    let (world, alice) = streaming(rules());
    let cut = alice.asks(Ask::fetch("/events")).cut.unwrap();
    world.answers(AppAnswer::ok().control("rotate"));
    alice.visits("/").ok().sets_ours();
    assert!(!cut.is_done());
    world.answers(AppAnswer::ok());
    alice.logs_out().ok();
    assert!(cut.is_done());
}

#[test]
fn a_short_answer_needs_no_knife_and_a_strangers_has_none() {
    let (world, alice) = logged_in(rules());
    assert!(alice.visits("/account").cut.is_none());
    world.answers(AppAnswer::ok().endless());
    assert!(world.browser("stranger").fetches("/events").cut.is_none());
    let mut long = AppAnswer::ok().endless();
    long.headers.insert("content-length", "9000000".parse().unwrap());
    world.answers(long);
    assert!(alice.visits("/big").cut.is_some());
}
