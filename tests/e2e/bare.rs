//! The apps without the guard: they work, and the attacks that they are open to succeed.
//!
//! Without this the stories of the guarded apps would show nothing: an attack that fails anyway is no proof.

use super::app::{App, DJANGO, EXPRESS};
use super::stories::{all_tabs_at_once, fixation_works, late_save_revives, ordinary_visit, sign_out, signed_in, user};
use crate::support::browser::{Browser, Client};

#[test]
fn both_shops_work() {
    for app in [App::shared(&DJANGO), App::shared(&EXPRESS)].into_iter().flatten() {
        let browser = ordinary_visit(app, app.address());
        assert_eq!(user(app, &mut browser.stolen_by(Client::script())), None);
    }
}

#[test]
fn django_guards_its_forms_and_its_admin() {
    let Some(app) = App::shared(&DJANGO) else { return };
    let mut visitor = Browser::new(Client::chrome(), app.address());
    assert!(visitor.visit("/admin/").text().contains("Log in"), "the admin asks for a login");
    visitor.post("/cart/", &[("item", "no token")]).expect_status(403);
    let mut alice = signed_in(app, app.address(), Client::chrome());
    assert!(alice.visit("/admin/").text().contains("Site administration"));
}

#[test]
fn a_stolen_cookie_opens_the_bare_shops() {
    for app in [App::shared(&DJANGO), App::shared(&EXPRESS)].into_iter().flatten() {
        let alice = signed_in(app, app.address(), Client::chrome());
        let mut thief = alice.stolen_by(Client::script());
        assert_eq!(user(app, &mut thief).as_deref(), Some("alice"), "{}", app.kind.name);
    }
}

#[test]
fn fixation_works_on_bare_express_and_not_on_bare_django() {
    if let Some(app) = App::shared(&EXPRESS) {
        assert!(fixation_works(app, app.address(), app.kind.cookie));
    }
    if let Some(app) = App::shared(&DJANGO) {
        assert!(!fixation_works(app, app.address(), app.kind.cookie));
    }
}

#[test]
fn a_late_save_revives_a_session_of_bare_express_and_not_of_bare_django() {
    if let Some(app) = App::shared(&EXPRESS) {
        assert!(late_save_revives(app, app.address()));
    }
    if let Some(app) = App::shared(&DJANGO) {
        assert!(!late_save_revives(app, app.address()));
    }
}

#[test]
fn many_tabs_work_at_once() {
    for app in [App::shared(&DJANGO), App::shared(&EXPRESS)].into_iter().flatten() {
        let mut alice = signed_in(app, app.address(), Client::chrome());
        let answers = all_tabs_at_once(app, &alice, 4, 10);
        assert!(answers.iter().all(|answer| *answer == (200, true)), "{answers:?}");
        sign_out(app, &mut alice);
    }
}

#[test]
fn an_app_that_went_down_comes_back_with_its_sessions() {
    let Some(mut app) = App::start_on_unix_socket(&DJANGO) else { return };
    let url = app.url();
    app.go_down();
    app.come_back();
    assert_eq!(app.url(), url);
    assert!(url.starts_with("unix:/"));
}
