//! An unchanged Django behind the guard.

use super::app::{App, DJANGO, unique};
use super::guard::{COOKIE, Guard, Pace};
use super::stories::{
    ALICE, all_tabs_at_once, buy, cart, fixation_works, late_save_revives, ordinary_visit, sign_in, sign_out,
    signed_in, user, user_if_any,
};
use crate::support::browser::{Browser, Client};

/// Signs of a theft: any of them must be reported.
#[test]
fn django_works_unchanged_behind_the_guard() {
    let Some(app) = App::shared(&DJANGO) else { return };
    let mut guard = Guard::in_front_of(app, Pace::Normal);
    let browser = ordinary_visit(app, guard.address);
    assert_eq!(browser.cookie(app.kind.cookie), None, "the browser never sees the app's session");

    let mut alice = signed_in(app, guard.address, Client::chrome());
    let me = alice.get("/me/").json();
    assert_eq!(me["guard"]["Portcullis-Subject"], ALICE);
    assert!(me["cookies"].as_array().unwrap().contains(&app.kind.cookie.into()), "the app sees its session: {me}");
    assert!(!me["cookies"].as_array().unwrap().contains(&COOKIE.into()), "and not the guard's: {me}");

    let group = unique("group");
    assert!(alice.visit("/admin/").text().contains("Site administration"));
    alice.submit("/admin/auth/group/add/", &[("name", &group)]).expect_status(302);
    assert!(alice.visit("/admin/auth/group/").text().contains(&group));
    alice.post("/cart/", &[("item", "no token")]).expect_status(403);

    let before = alice.stolen_by(Client::chrome());
    sign_out(app, &mut alice);
    assert_eq!(user_if_any(app, &mut alice), None);
    assert_eq!(user_if_any(app, &mut before.tab()), None, "the cookie of before is dead");
    let secrets = [&app.alice_password, &before.cookie(COOKIE).unwrap()];
    let output = guard.output();
    assert!(secrets.iter().all(|secret| !output.contains(secret.as_str())), "a secret is in the output");
    let seen = guard.events();
    for name in ["session.created", "session.rotated"] {
        assert!(seen.iter().any(|event| event == name), "{name} in {seen:?}");
    }
}

#[test]
fn fixation_with_djangos_cookie_fails() {
    let Some(app) = App::shared(&DJANGO) else { return };
    let guard = Guard::in_front_of(app, Pace::Normal);
    assert!(!fixation_works(app, guard.address, app.kind.cookie));

    // Nor does a planted cookie carry the attacker's cart into the victim's session.
    let mut attacker = Browser::new(Client::firefox(), app.address());
    buy(app, &mut attacker, "bait");
    let mut victim = Browser::new(Client::chrome(), guard.address);
    victim.plant(app.kind.cookie, &attacker.cookie(app.kind.cookie).unwrap());
    assert_eq!(cart(app, &mut victim), Vec::<String>::new());
}

#[test]
fn fixation_with_the_guards_own_cookie_fails() {
    let Some(app) = App::shared(&DJANGO) else { return };
    let guard = Guard::in_front_of(app, Pace::Normal);
    assert!(!fixation_works(app, guard.address, COOKIE));
}

#[test]
fn a_stolen_jar_is_of_no_use_to_another_client() {
    let Some(app) = App::shared(&DJANGO) else { return };
    let mut guard = Guard::in_front_of(app, Pace::Normal);
    let mut alice = signed_in(app, guard.address, Client::chrome());
    let mut thief = alice.stolen_by(Client::script());
    assert_eq!(user_if_any(app, &mut thief), None);
    guard.event("session.hijack_suspected");
    assert_eq!(user_if_any(app, &mut thief), None, "and not at the second try");
    assert_eq!(user(app, &mut alice).as_deref(), Some(ALICE), "she notices nothing");
}

#[test]
fn a_stolen_jar_used_beside_the_owner_is_noticed_even_from_a_twin() {
    let Some(app) = App::shared(&DJANGO) else { return };
    let mut guard = Guard::in_front_of(app, Pace::StaleAtOnce);
    let mut alice = signed_in(app, guard.address, Client::chrome());
    // The same machine, the same browser, the same address: nothing but the tags tells the two apart.
    let mut twin = alice.stolen_by(Client::chrome());
    let mut turns = 0;
    // The owner clicks more often than the thief. Were they to take turns with cookies that change at every click, each
    // would look like the other's parallel answer.
    let is_in = |browser: &mut _, clicks| (0..clicks).all(|_| user_if_any(app, browser).is_some());
    while is_in(&mut twin, 1) && is_in(&mut alice, 3) {
        turns += 1;
        assert!(turns < 20, "two live jars went unnoticed: {:?}", guard.events());
    }
    guard.event("session.tag_fork");
    assert_eq!(user_if_any(app, &mut twin), None);

    // The owner can prove who she is; the twin cannot.
    sign_in(app, &mut alice, ALICE);
    assert_eq!(user(app, &mut alice).as_deref(), Some(ALICE));
    assert_eq!(user_if_any(app, &mut twin), None);
}

#[test]
fn a_retired_cookie_is_noticed() {
    let Some(app) = App::shared(&DJANGO) else { return };
    let mut guard = Guard::in_front_of(app, Pace::StaleAtOnce);
    let mut alice = signed_in(app, guard.address, Client::chrome());
    let mut old = alice.stolen_by(Client::firefox().at([127, 99, 1, 1]));
    for _ in 0..4 {
        assert_eq!(user(app, &mut alice).as_deref(), Some(ALICE));
    }
    assert_eq!(user_if_any(app, &mut old), None, "from another client it is worth nothing");
    // Events are written a moment after the answer, so this one is waited for.
    guard.event("session.tag_stale");
}

#[test]
fn the_cookie_of_before_the_login_is_dead_after_it() {
    let Some(app) = App::shared(&DJANGO) else { return };
    let guard = Guard::in_front_of(app, Pace::Normal);
    let mut alice = Browser::new(Client::chrome(), guard.address);
    buy(app, &mut alice, "lamp");
    let mut before = alice.stolen_by(Client::chrome());
    sign_in(app, &mut alice, ALICE);
    assert_ne!(alice.cookie(COOKIE), before.cookie(COOKIE));
    assert_eq!(user_if_any(app, &mut before), None);
    assert_eq!(user(app, &mut alice).as_deref(), Some(ALICE));
}

#[test]
fn no_request_fails_while_tags_rotate() {
    let Some(app) = App::shared(&DJANGO) else { return };
    let guard = Guard::in_front_of(app, Pace::RotatesAlways);
    let alice = signed_in(app, guard.address, Client::chrome());
    let first = alice.cookie(COOKIE);
    let answers = all_tabs_at_once(app, &alice, 8, 25);
    assert_eq!(answers.len(), 200);
    assert!(answers.iter().all(|answer| *answer == (200, true)), "{answers:?}");
    assert_ne!(alice.cookie(COOKIE), first, "the tag did rotate");
}

#[test]
fn a_lost_set_cookie_logs_nobody_out() {
    let Some(app) = App::shared(&DJANGO) else { return };
    for pace in [Pace::RotatesAlways, Pace::StaleAtOnce] {
        let guard = Guard::in_front_of(app, pace);
        let mut alice = signed_in(app, guard.address, Client::chrome());
        for _ in 0..10 {
            alice.get_losing_cookies("/me/").expect_status(200);
            assert_eq!(user(app, &mut alice).as_deref(), Some(ALICE), "{pace:?}");
        }
    }
}

#[test]
fn logout_holds_while_a_slow_request_is_in_flight() {
    let Some(app) = App::shared(&DJANGO) else { return };
    let guard = Guard::in_front_of(app, Pace::RotatesAlways);
    assert!(!late_save_revives(app, guard.address));
}

#[test]
fn sessions_survive_a_crash_of_the_guard_and_ended_ones_stay_ended() {
    let Some(app) = App::shared(&DJANGO) else { return };
    let mut guard = Guard::in_front_of(app, Pace::RotatesAlways);
    let mut alice = signed_in(app, guard.address, Client::chrome());
    let mut gone = signed_in(app, guard.address, Client::firefox());
    let mut ended = gone.stolen_by(Client::firefox());
    sign_out(app, &mut gone);
    let mut revoked = Browser::new(Client::firefox(), guard.address);
    sign_in(app, &mut revoked, "bob");
    guard.revokes_sessions_of("bob");
    guard.crash_and_restart();
    for browser in [&mut alice, &mut ended, &mut revoked] {
        browser.now_at(guard.address);
    }
    assert_eq!(user_if_any(app, &mut revoked), None);
    assert_eq!(user(app, &mut alice).as_deref(), Some(ALICE));
    assert_eq!(user_if_any(app, &mut ended), None);
    assert!(guard.stop().success(), "an orderly end is exit code 0");
}

#[test]
fn the_app_may_go_down_and_come_back() {
    let Some(mut app) = App::start_on_unix_socket(&DJANGO) else { return };
    let guard = Guard::in_front_of(&app, Pace::Normal);
    let mut alice = signed_in(&app, guard.address, Client::chrome());
    app.go_down();
    let answer = alice.get("/me/");
    assert!(matches!(answer.status, 502 | 503), "{answer:?}");
    assert!(!answer.text().contains("app.sock"), "nothing of the inside is told: {}", answer.text());
    app.come_back();
    assert_eq!(user(&app, &mut alice).as_deref(), Some(ALICE));
}
