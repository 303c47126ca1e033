//! What is done about evidence: quarantine and the way out of it, the end of a session, refusals.

use portcullis::connection::print::{Http2Print, Print, PseudoOrder, TlsPrint};
use portcullis::engine::Guard;
use portcullis::event::{Event, Kind, Release};
use portcullis::history::Points;
use portcullis::rules::Enforcement;
use portcullis::session::cookie::CookieKind;
use portcullis::session::record::State;
use portcullis::store::OnLimit;
use portcullis::verdict::{Action, Mode};

use crate::support::world::browser::{CURL, OURS};
use crate::support::world::{
    ABROAD, AppAnswer, Ask, Browser, Ledger, MOBILE, NEIGHBOUR, Rules, World, minutes, rate, rules, seconds,
};

/// Alice is logged in; a thief abroad has a copy of her cookies. By her browser's looks: enough for a quarantine and not
/// for more.
fn theft(rules: Rules) -> (World, Browser, Browser) {
    let world = World::new(rules);
    let (alice, thief) = (world.browser("alice"), world.browser("thief").at(ABROAD));
    alice.logs_in("alice").ok();
    thief.steals_from(&alice);
    world.told();
    (world, alice, thief)
}

fn live(world: &World, subject: &str) -> usize {
    world.sessions().iter().filter(|record| record.subject.as_deref() == Some(subject)).count()
}

#[test]
fn a_stolen_cookie_used_abroad() {
    let (world, alice, thief) = theft(rules());
    let before = world.session();
    world.after(minutes(1));
    thief.fetches("/account").is_stranger().sets_nothing_of_ours();
    let told = world.events_told();
    let names: Vec<_> = told.iter().map(|told| told.event.kind().as_str()).collect();
    assert_eq!(names, ["binding.mismatch.country", "session.hijack_suspected", "session.quarantined"]);
    let scene = &told[1].scene;
    assert_eq!((scene.action, scene.would, scene.mode), (Action::Quarantine, None, Mode::Enforce));
    assert_eq!(scene.client.country, Some(*b"RU"));
    assert_eq!(scene.bound.country, Some(*b"DE"));
    assert!(scene.reasons.iter().any(|reason| reason.kind.as_str() == "network.country"));
    assert_eq!(world.session(), before, "the owner's record is as it was");
    alice.visits("/account").is("alice").sets_nothing_of_ours();
    assert_eq!(world.told(), Vec::<&str>::new());
}

#[test]
fn another_program_abroad_ends_the_session() {
    let (world, alice, thief) = theft(rules());
    let script = world.browser("script").at(ABROAD).with_agent(CURL);
    script.steals_from(&thief);
    script.visits("/account").is_stranger().clears_ours();
    assert_eq!(script.ours(), None);
    let told = world.told();
    assert!(told.contains(&"session.hijack_suspected") && told.contains(&"session.terminated"), "{told:?}");
    assert_eq!(world.sessions().len(), 0);
    alice.visits("/account").is_stranger();
    alice.logs_in("alice").ok();
    alice.visits("/account").is("alice");
}

#[test]
fn a_new_session_after_an_end_is_not_cleared_with_the_old_one() {
    let (world, _, thief) = theft(rules());
    let script = world.browser("script").at(ABROAD).with_agent(CURL);
    script.steals_from(&thief);
    world.answers(AppAnswer::ok().set_cookie("sessionid=a-new-visitor; Path=/; HttpOnly"));
    script.visits("/").ok().sets_ours();
    assert_eq!(script.visits("/").ok().app_cookies(), "sessionid=a-new-visitor");
}

#[test]
fn an_honest_move_asks_for_nothing() {
    let (_, alice, _) = theft(rules());
    alice.moves_to(NEIGHBOUR).visits("/account").is("alice");
    alice.moves_to(MOBILE).visits("/account").is("alice");
    alice.moves_to(NEIGHBOUR).visits("/account").is("alice");
}

#[test]
fn a_quarantined_client_is_given_a_place_to_log_in_and_its_login_lifts_it() {
    let (world, alice, _) = theft(rules());
    let old = world.session();
    alice.moves_to(ABROAD);
    alice.visits("/account").is_stranger().sets_ours();
    assert!(world.told().contains(&"session.created"));
    let held = world.sessions().into_iter().find(|record| record.digest != old.digest).unwrap();
    assert!(matches!(&held.state, State::Held { from, .. } if **from == old.digest));

    // Her shop is a stranger's shop now, with a basket of its own.
    alice.visits("/cart").ok().sets_nothing_of_ours();
    assert_eq!(alice.visits("/account").ok().app_cookies(), "sessionid=app-session-0002");
    world.told();
    alice.logs_in("alice").ok().sets_ours();
    let told = world.events_told();
    let released = told.iter().find(|told| told.event.kind() == Kind::SessionReleased).unwrap();
    assert!(matches!(&released.event, Event::SessionReleased(event) if event.how == Release::Login));
    assert_eq!(released.scene.reference, Some(old.reference));
    assert_eq!(live(&world, "alice"), 1, "the old session ended with it");
    alice.visits("/account").is("alice").sets_nothing_of_ours();
    world.after(minutes(5));
    alice.visits("/account").is("alice");
}

/// A browser under another name on a rented desktop: held back after its login, and let in after the one that this asks for.
#[test]
fn who_passes_the_login_that_was_asked_for_is_believed() {
    let world = World::new(rules());
    let http2 = Http2Print { key: 7, pseudo: Some(PseudoOrder(*b"mpas")) };
    let alice = world.browser("alice").at(ABROAD).speaking(Print { http2: Some(http2), ..Print::default() });
    alice.logs_in("alice").ok().sets_ours();
    alice.visits("/account").is_stranger().sets_ours();
    alice.logs_in("alice").ok().sets_ours();
    alice.visits("/account").is("alice");
    // In the same session somebody else is not.
    alice.logs_in("bob").ok().sets_ours();
    alice.visits("/account").is_stranger();
}

/// Both what limits and what detection know of devices: a rented desktop whose login was asked for and passed, and a home.
#[test]
fn a_known_device_is_known_after_a_restart() {
    let world = World::new(rules().login_throttle());
    let http2 = Http2Print { key: 7, pseudo: Some(PseudoOrder(*b"mpas")) };
    let rented =
        |world: &World| world.browser("alice").at(ABROAD).speaking(Print { http2: Some(http2), ..Print::default() });
    let alice = rented(&world);
    for _ in 0..2 {
        alice.logs_in("alice").ok();
        alice.visits("/account");
    }
    alice.visits("/account").is("alice");
    world.browser("bob").logs_in("bob").ok();
    let sealed = world.guard().seal_devices().unwrap();
    assert!(sealed.len() > 100 && !sealed.windows(5).any(|part| part == b"alice"));

    let after = |know: &mut dyn FnMut(&mut Guard<Ledger>)| {
        let world = World::made(rules().login_throttle(), 2, |mut guard| {
            know(&mut guard);
            guard
        });
        let alice = rented(&world);
        alice.logs_in("alice").ok();
        let is_believed = alice.visits("/account").serving() == Some("alice");
        let eve = world.browser("eve").at(NEIGHBOUR).with_agent("curl/8");
        for guess in 0..40 {
            eve.tries("bob", &format!("guess-number-{guess}"));
            world.after(seconds(5));
        }
        let is_let_in = !world.browser("bob").logs_in("bob").ours().is_empty();
        (is_believed, is_let_in)
    };
    assert_eq!(after(&mut |_| {}), (false, false));
    assert_eq!(after(&mut |guard| guard.recall_devices(&mut sealed.clone()).unwrap()), (true, true));
    let refuses = |guard: &mut Guard<Ledger>, sealed: &[u8]| guard.recall_devices(&mut sealed.to_vec()).unwrap_err();
    let changed: Vec<Vec<u8>> = [0, 1, 40, sealed.len() - 1]
        .map(|at| {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            changed
        })
        .into();
    let nothing = after(&mut |guard| {
        for changed in &changed {
            refuses(guard, changed);
        }
        refuses(guard, &sealed[..sealed.len() - 1]);
        refuses(guard, b"");
    });
    assert_eq!(nothing, (false, false), "what is not ours is not believed");
}

/// Where rules only observe, nothing is remembered: what was odd about a login would be told for ever.
#[test]
fn what_is_odd_about_a_login_is_observed_for_a_minute() {
    let world = World::new(rules().observed());
    let http2 = Http2Print { key: 7, pseudo: Some(PseudoOrder(*b"mpas")) };
    let alice = world.browser("alice").at(ABROAD).speaking(Print { http2: Some(http2), ..Print::default() });
    alice.logs_in("alice").ok().sets_ours();
    let tells = || {
        alice.visits("/account").is("alice");
        format!("{:?}", world.events_told()).contains("login.contradiction")
    };
    assert!(tells());
    world.after(seconds(61));
    assert!(!tells());
}

/// A thief of whom TLS alone tells is served at first, and moves on with every answer. The owner's jar falls behind by that.
#[test]
fn an_owner_whose_jar_fell_behind_a_guest_goes_on() {
    let world = World::new(rules());
    let speaks = |core| Print { tls: Some(TlsPrint::named(core, 0, None)), ..Print::default() };
    let alice = world.browser("alice").speaking(speaks("one"));
    alice.logs_in("alice").ok();
    alice.visits("/account").is("alice");
    let guest = world.browser("guest").speaking(speaks("two"));
    guest.steals_from(&alice);
    for _ in 0..8 {
        guest.fetches("/account").is("alice").sets_ours();
        world.after(seconds(10));
    }
    alice.visits("/account").is("alice").sets_ours();
    guest.fetches("/account").is_stranger();
    alice.visits("/account").is("alice");
    alice.fetches("/account").is("alice");
}

#[test]
fn the_old_cookie_is_nobodys_after_the_new_login() {
    let (_, alice, thief) = theft(rules());
    alice.moves_to(ABROAD).visits("/account").is_stranger();
    alice.logs_in("alice").ok();
    thief.moves_to(NEIGHBOUR).visits("/account").is_stranger();
}

#[test]
fn a_login_as_somebody_else_leaves_the_owner_alone() {
    let (world, alice, thief) = theft(rules());
    let before = alice.visits("/account").is("alice").app_cookies();
    thief.visits("/account").is_stranger().sets_ours();
    thief.logs_in("mallory").ok().sets_ours();
    let page = thief.visits("/account").is("mallory");
    assert_ne!(page.app_cookies(), before);
    assert!(!world.told().contains(&"session.released"));
    assert_eq!(alice.visits("/account").is("alice").app_cookies(), before);
    assert_eq!((live(&world, "alice"), live(&world, "mallory")), (1, 1));
}

#[test]
fn a_login_without_the_held_cookie_lifts_it_too() {
    let (world, alice, _) = theft(rules().per_subject_max(1, OnLimit::Refuse));
    alice.moves_to(ABROAD);
    alice.fetches("/account").is_stranger();
    alice.logs_in("alice").ok().sets_ours();
    assert_eq!(live(&world, "alice"), 1);
    alice.visits("/account").is("alice");
}

#[test]
fn what_the_app_sets_meanwhile_goes_to_a_jar_of_the_client() {
    let (world, alice, thief) = theft(rules().shield("basket", CookieKind::State));
    world.app(|request| match request.uri.path() {
        "/basket" => AppAnswer::ok().set_cookie("basket=of-the-thief; Path=/; HttpOnly"),
        "/logout" => AppAnswer::redirect("/").set_cookie("sessionid=; Path=/; Max-Age=0"),
        _ => AppAnswer::ok(),
    });
    thief.fetches("/basket").is_stranger().sets_nothing_of_ours();
    thief.asks(Ask::form("/logout", "").header("sec-fetch-mode", "cors").header("sec-fetch-dest", "empty")).ok();
    thief.visits("/basket").sets_ours();
    assert_eq!(thief.visits("/").ok().app_cookies(), "basket=of-the-thief");
    assert_eq!(
        alice.visits("/").ok().app_cookies(),
        "sessionid=app-session-0001",
        "hers is untouched, and she is logged in"
    );
    assert_eq!(live(&world, "alice"), 1);
}

#[test]
fn a_new_id_does_not_lead_out_of_a_quarantine() {
    let (world, alice, _) = theft(rules());
    alice.moves_to(ABROAD).visits("/account").is_stranger().sets_ours();
    let mut count = 0;
    world.app(move |_| {
        count += 1;
        AppAnswer::ok().set_cookie(&format!("sessionid=visitor-{count:04}; Path=/; HttpOnly"))
    });
    for _ in 0..3 {
        alice.visits("/").ok();
    }
    world.reopens_the_shop();
    world.told();
    alice.logs_in("alice").ok();
    assert!(world.told().contains(&"session.released"), "the session it was moved away from is still known");
    assert_eq!(live(&world, "alice"), 1);
}

#[test]
fn every_credential_is_withheld() {
    let (world, alice, thief) = theft(rules().bind("csrf").shield("remember", CookieKind::Id));
    world.answers(
        AppAnswer::ok().set_cookie("csrf=bound-to-alice; Path=/").set_cookie("remember=her-token; Path=/; HttpOnly"),
    );
    alice.visits("/").ok();
    thief.steals_from(&alice);
    let ask = || Ask::fetch("/account").header("authorization", "Bearer a-stolen-token");
    let page = alice.asks(ask()).ok();
    assert_eq!(page.header_at_app("authorization"), Some("Bearer a-stolen-token"));
    assert_eq!(page.app_cookies(), "csrf=bound-to-alice; sessionid=app-session-0001; remember=her-token");
    thief.holds("theme", "dark");
    let page = thief.asks(ask()).is_stranger();
    assert_eq!(page.header_at_app("authorization"), None);
    assert_eq!(page.app_cookies(), "theme=dark");
}

#[test]
fn places_to_log_in_are_limited_like_other_new_sessions() {
    let (world, _, thief) = theft(rules().limits(|limits| limits.anonymous_sessions = rate("3/1m burst 3")));
    let ours = thief.ours().unwrap();
    for _ in 0..20 {
        thief.holds(OURS, &ours).visits("/account").is_stranger();
    }
    assert_eq!(world.sessions().len(), 4);
}

#[test]
fn a_late_login_is_a_strangers() {
    let (world, alice, _) = theft(rules());
    alice.moves_to(ABROAD).visits("/account").is_stranger().sets_ours();
    world.after(minutes(10) + seconds(1));
    world.told();
    alice.logs_in("alice").ok();
    assert!(!world.told().contains(&"session.released"));
    assert_eq!(live(&world, "alice"), 2, "the old one goes on, for whoever holds it");
    alice.visits("/account").is("alice");
}

#[test]
fn sensitive_routes_ask_sooner() {
    let rules = rules()
        .route("/password", |route| route.sensitivity = portcullis::signal::Sensitivity::Sensitive)
        .with(|policy| policy.scoring.weights.asn = Points::whole(32));
    let (_, alice, _) = theft(rules);
    alice.moves_to(MOBILE);
    alice.fetches("/account").is("alice");
    alice.fetches("/password").is_stranger();
    alice.fetches("/account").is("alice");
}

#[test]
fn networks_alone_never_end_a_session() {
    let (world, alice, thief) = theft(rules().with(|policy| policy.scoring.weights.country = Points::whole(500)));
    thief.fetches("/account").is_stranger();
    assert!(!world.told().contains(&"session.terminated"));
    alice.visits("/account").is("alice");
}

#[test]
fn risk_fades() {
    let (world, alice, _) = theft(rules().with(|policy| policy.scoring.weights.asn = Points::whole(40)));
    alice.moves_to(MOBILE).fetches("/account").is("alice");
    assert_eq!(alice.fetches("/account").header_at_app("portcullis-risk"), Some("medium"));
    world.after(minutes(29));
    assert_eq!(alice.fetches("/account").is("alice").header_at_app("portcullis-risk"), Some("low"));
}

#[test]
fn what_is_only_observed_is_told_and_not_done() {
    for rules in [rules().observed(), rules().with(|policy| policy.enforcement = Enforcement::ReportOnly)] {
        let (world, _, thief) = theft(rules);
        thief.visits("/account").is("alice");
        let told = world.told_of(Kind::SessionHijackSuspected);
        assert_eq!(told.scene.mode, Mode::Observe);
        assert_eq!((told.scene.action, told.scene.would), (Action::Allow, Some(Action::Quarantine)));
    }
}

#[test]
fn a_quarantined_session_is_nobodys_on_any_route() {
    let rules = rules()
        .route("/static/**", |route| route.mode = Mode::Off)
        .route("/watched/**", |route| route.mode = Mode::Observe)
        .route("/admin/**", |route| route.fresh = Some(minutes(15)));
    let (world, alice, _) = theft(rules);
    world.after(minutes(16));
    let ours = alice.ours().unwrap();
    alice.visits("/admin/x").is_stranger();
    alice.holds(OURS, &ours);
    for path in ["/static/x", "/watched/x", "/account"] {
        alice.fetches(path).is_stranger();
    }
}

#[test]
fn a_held_session_gets_no_credential_back_before_its_login() {
    let (_, alice, thief) = theft(rules());
    let ask = || Ask::page("/account").header("authorization", "Bearer a-stolen-token");
    thief.asks(ask()).is_stranger().sets_ours();
    assert_eq!(thief.asks(ask()).is_stranger().header_at_app("authorization"), None);
    thief.logs_in("mallory").ok();
    assert_eq!(thief.asks(ask()).is("mallory").header_at_app("authorization"), Some("Bearer a-stolen-token"));
    assert_eq!(alice.asks(ask()).is("alice").header_at_app("authorization"), Some("Bearer a-stolen-token"));
}

#[test]
fn a_quarantined_client_does_not_use_up_the_owners_limit() {
    let (_, alice, thief) = theft(rules().limits(|limits| limits.session = rate("5/1m burst 5")));
    for _ in 0..20 {
        thief.fetches("/account").is_stranger();
    }
    for _ in 0..5 {
        alice.visits("/account").is("alice");
    }
}
