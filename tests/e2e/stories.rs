//! What people and thieves do in a shop, told once for the bare app and for the guarded one.

use std::net::SocketAddr;
use std::thread;

use super::app::{App, unique};
use crate::support::browser::{Browser, Client};

/// The owner of most sessions.
pub(super) const ALICE: &str = "alice";

/// A browser that has signed in as Alice.
#[track_caller]
pub(super) fn signed_in(app: &App, at: SocketAddr, client: Client) -> Browser {
    let mut browser = Browser::new(client, at);
    sign_in(app, &mut browser, ALICE);
    assert_eq!(user(app, &mut browser).as_deref(), Some(ALICE));
    browser
}

/// Signs in through the app's own page.
#[track_caller]
pub(super) fn sign_in(app: &App, browser: &mut Browser, name: &str) {
    let password = if name == ALICE { &app.alice_password } else { &app.bob_password };
    browser.submit(app.kind.login, &[("username", name), ("password", password)]).expect_status(302);
}

/// Signs out through the app's own page.
#[track_caller]
pub(super) fn sign_out(app: &App, browser: &mut Browser) {
    browser.submit_to(app.kind.logout_page, app.kind.logout, &[]).expect_status(302);
}

/// Whom the app takes this browser for.
#[track_caller]
pub(super) fn user(app: &App, browser: &mut Browser) -> Option<String> {
    browser.get(app.kind.me).expect_status(200).json()["user"].as_str().map(str::to_owned)
}

/// Whom the app takes this browser for; none, too, if the guard lets nothing of it through.
pub(super) fn user_if_any(app: &App, browser: &mut Browser) -> Option<String> {
    let answer = browser.get(app.kind.me);
    if answer.status == 200 { answer.json()["user"].as_str().map(str::to_owned) } else { None }
}

/// What lies in the cart of this browser.
#[track_caller]
pub(super) fn cart(app: &App, browser: &mut Browser) -> Vec<String> {
    let answer = browser.get(app.kind.me).expect_status(200).json();
    answer["cart"].as_array().unwrap().iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Puts something into the cart.
#[track_caller]
pub(super) fn buy(app: &App, browser: &mut Browser, item: &str) {
    browser.submit(app.kind.cart, &[("item", item)]).expect_status(302);
}

/// A visitor fills a cart, signs in, keeps the cart, uploads a file and signs out.
#[track_caller]
pub(super) fn ordinary_visit(app: &App, at: SocketAddr) -> Browser {
    let mut browser = Browser::new(Client::chrome(), at);
    assert_eq!(user(app, &mut browser), None);
    buy(app, &mut browser, "lamp");
    sign_in(app, &mut browser, ALICE);
    assert_eq!(user(app, &mut browser).as_deref(), Some(ALICE));
    buy(app, &mut browser, "pen");
    assert_eq!(cart(app, &mut browser), ["lamp", "pen"]);

    let content: Vec<u8> = (0..=255_u8).cycle().take(300_000).collect();
    let answer = browser.upload(app.kind.upload, "file", "notes.bin", &content).expect_status(200).json();
    assert!(answer["size"].as_u64() >= Some(300_000), "{answer}");

    sign_out(app, &mut browser);
    assert_eq!(user(app, &mut browser), None);
    browser
}

/// Whether an attacker who planted his own session in the victim's browser is Alice after she has signed in.
///
/// `cookie` is the one he plants: the app's or the guard's.
#[track_caller]
pub(super) fn fixation_works(app: &App, at: SocketAddr, cookie: &str) -> bool {
    let mut attacker = Browser::new(Client::firefox(), at);
    buy(app, &mut attacker, "bait");
    // Behind the guard the attacker never sees the app's cookie; say that he once got one elsewhere.
    let planted = attacker.cookie(cookie).unwrap_or_else(|| {
        let mut elsewhere = Browser::new(Client::firefox(), app.address());
        buy(app, &mut elsewhere, "bait");
        elsewhere.cookie(cookie).expect("the app gives a cookie with the cart")
    });
    attacker.plant(cookie, &planted);

    let mut victim = Browser::new(Client::chrome(), at);
    victim.plant(cookie, &planted);
    sign_in(app, &mut victim, ALICE);
    assert_eq!(user(app, &mut victim).as_deref(), Some(ALICE), "the attack must not keep her out");
    user_if_any(app, &mut attacker).as_deref() == Some(ALICE)
}

/// Whether Alice is signed in again when a request that began before she signed out ends after it.
#[track_caller]
pub(super) fn late_save_revives(app: &App, at: SocketAddr) -> bool {
    let mut alice = signed_in(app, at, Client::chrome());
    let mut kept = alice.stolen_by(Client::chrome());
    let gate = unique("late-save");
    let slow_path = format!("{}{gate}", app.kind.slow);
    let mut slow_tab = alice.tab();
    let slow = thread::spawn(move || slow_tab.get(&slow_path).status);
    app.wait_for_slow_request(&gate);
    sign_out(app, &mut alice);
    app.finish_slow_request(&gate);
    let status = slow.join().unwrap();
    assert!(status < 500 || status == 503, "the slow request ended with {status}");
    user_if_any(app, &mut alice).is_some() || user_if_any(app, &mut kept).is_some()
}

/// Tabs of one browser that all ask at once; the statuses of all answers, and whether each was Alice's.
pub(super) fn all_tabs_at_once(app: &App, browser: &Browser, tabs: usize, requests: usize) -> Vec<(u16, bool)> {
    let me = app.kind.me;
    let threads: Vec<_> = (0..tabs)
        .map(|_| {
            let mut tab = browser.tab();
            thread::spawn(move || {
                let answers = (0..requests).map(|_| tab.get(me));
                answers.map(|answer| (answer.status, answer.text().contains(r#""alice""#))).collect::<Vec<_>>()
            })
        })
        .collect();
    threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
}
