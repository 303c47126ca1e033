//! One story for each heading of `src/manual/attacks.md`, under the heading's name.
//!
//! Most begin with what the attacker hopes for: a copied cookie that works, an owner who is served. A story that could not
//! show its attack working would not show that it is stopped.

mod cookies;
mod logins;
mod sessions;
mod theft;
mod wire;

use std::time::Duration;

use crate::support::world::browser::{Browser, Page};
use crate::support::world::{World, minutes, seconds};

/// The app's own session cookie.
const APP_COOKIE: &str = "sessionid";

/// How old a head gets before a successor is offered, and a little more.
const ROTATION: Duration = minutes(2);

/// The time in which a superseded tag is no evidence, and a little more.
const GRACE: Duration = seconds(61);

/// Somebody at home who has signed in.
#[track_caller]
fn signed_in(world: &World, name: &str) -> Browser {
    let browser = world.browser(name);
    browser.logs_in(name).ok().sets_ours();
    browser.visits("/account").ok().is(name);
    browser
}

/// The browser is used until its jar has moved on to another tag.
#[track_caller]
fn moves_on(world: &World, browser: &Browser) {
    let before = browser.ours();
    for _ in 0..2 {
        world.after(ROTATION);
        browser.visits("/account").ok();
    }
    browser.visits("/account").ok();
    assert_ne!(browser.ours(), before);
}

/// The request reached the app, and nothing of the owner's did with it.
#[track_caller]
fn is_shut_out(page: &Page) {
    assert_eq!(page.refused, None);
    assert_eq!((page.app_cookie(APP_COOKIE), page.header_at_app("portcullis-subject")), (None, None));
}
