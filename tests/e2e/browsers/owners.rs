//! Owners of sessions, and all that they may do without being taken for a thief.

use std::path::PathBuf;

use serde_json::json;

use super::chromium::{Chromium, user_agent};
use super::firefox::Firefox;
use super::scene::{Http, Scene, Setting};
use super::site::{PASSWORD, USER};
use super::watch::COOKIE;
use super::{Browser, alone};

/// Whether the site is to know its user again after the browser was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    UntilClosed,
    Remembered,
}

/// Logs in by the form of the site.
#[track_caller]
pub(super) fn log_in(browser: &mut impl Browser, scene: &Scene, stay: Stay) {
    browser.go(&scene.url("/login"));
    let remember = if stay == Stay::Remembered { "yes" } else { "" };
    let form = format!(
        "(form => {{ form.username.value = '{USER}'; form.password.value = '{PASSWORD}'; \
         form.remember.value = '{remember}'; form.querySelector('button').click(); return true; }})(document.forms[0])"
    );
    browser.run(&form);
    browser.wait_for(&format!(
        "document.readyState === 'complete' && document.getElementById('user').textContent === '{USER}'"
    ));
}

/// For whom the site takes the browser that goes there.
#[track_caller]
fn user(browser: &mut impl Browser, scene: &Scene) -> String {
    browser.go(&scene.url("/"));
    browser.run("document.getElementById('user').textContent").as_str().unwrap().to_owned()
}

/// Has the page do all that it can do, and asserts that all of it was done for its user.
#[track_caller]
fn visit(browser: &mut impl Browser, scene: &Scene) {
    assert_eq!(user(browser, scene), USER, "{}", scene.watch.told());
    let told = browser.run("visit()");
    let parts = told.as_object().unwrap();
    assert!(parts.len() > 10 && parts.values().all(|user| user == USER), "{told:#}\n{}", scene.watch.told());
}

/// Tags that are renewed within one story.
fn quick(http: Http) -> Setting {
    Setting { rotate_every: "500ms", ..Setting::usual(http) }
}

const GERMAN: &str = "--accept-lang=de-DE,de,en";

/// A Chromium whose user has logged in.
fn chromium(scene: &Scene, stay: Stay) -> Option<(Chromium, PathBuf)> {
    let profile = scene.folder("profile");
    let mut owner = Chromium::start(scene, &profile, &[GERMAN])?;
    log_in(&mut owner, scene, stay);
    Some((owner, profile))
}

fn chromium_goes_about_its_day(http: Http) {
    let _alone = alone();
    let scene = Scene::set(quick(http));
    let Some((mut owner, _)) = chromium(&scene, Stay::UntilClosed) else { return };
    // The second time all of it goes through the service worker.
    visit(&mut owner, &scene);
    visit(&mut owner, &scene);
    owner.pretend(json!({ "userAgent": user_agent(), "acceptLanguage": "fr-FR,fr" }));
    visit(&mut owner, &scene);
    scene.expect_calm(&format!("Chromium over {http:?}, whose user has learnt French"));
    assert!(scene.watch.adopted() > 0, "no tag was renewed");
}

/// Pages that translate themselves ask for a language of their own, and put the header for it where the browser does not.
#[track_caller]
fn translates(browser: &mut impl Browser, scene: &Scene, who: &str) {
    for _ in 0..3 {
        visit(browser, scene);
        assert_eq!(browser.run("translated()"), USER);
    }
    scene.expect_calm(who);
}

#[test]
fn a_page_that_translates_itself_is_no_thief() {
    let _alone = alone();
    let scene = Scene::set(quick(Http::Two));
    let Some((mut owner, _)) = chromium(&scene, Stay::UntilClosed) else { return };
    translates(&mut owner, &scene, "Chromium with a page that translates itself");
    let scene = Scene::set(quick(Http::Two));
    let Some((mut owner, _)) = firefox(&scene, Stay::UntilClosed) else { return };
    translates(&mut owner, &scene, "Firefox with a page that translates itself");
}

#[test]
fn a_chromium_is_no_thief_over_http2() {
    chromium_goes_about_its_day(Http::Two);
}

#[test]
fn a_chromium_is_no_thief_over_http1() {
    chromium_goes_about_its_day(Http::One);
}

/// The device toolbar of the developer tools, on and off again.
#[test]
fn a_chromium_that_pretends_to_be_a_telephone_is_no_thief() {
    let _alone = alone();
    let scene = Scene::set(quick(Http::Two));
    let Some((mut owner, _)) = chromium(&scene, Stay::UntilClosed) else { return };
    let agent = user_agent();
    for _ in 0..2 {
        visit(&mut owner, &scene);
        let mobile = agent.replace("X11; Linux x86_64", "Linux; Android 10; K").replace(" Safari/", " Mobile Safari/");
        let device = json!({ "brands": [], "fullVersionList": [], "platform": "Android", "platformVersion": "10",
                             "architecture": "", "model": "K", "mobile": true });
        owner.pretend(json!({ "userAgent": mobile, "userAgentMetadata": device }));
        visit(&mut owner, &scene);
        owner.pretend(json!({ "userAgent": "" }));
    }
    visit(&mut owner, &scene);
    scene.expect_calm("Chromium with the device toolbar");
}

#[test]
fn a_chromium_that_was_closed_is_no_thief_when_it_comes_back() {
    let _alone = alone();
    // The one that is remembered has been set to another language meanwhile.
    for (stay, again, expected) in [
        (Stay::Remembered, &["--accept-lang=fr-FR,fr"][..], USER),
        (Stay::UntilClosed, &[GERMAN, "--restore-last-session"], USER),
        (Stay::UntilClosed, &[GERMAN], "nobody"),
    ] {
        let scene = Scene::set(quick(Http::Two));
        let Some((mut owner, profile)) = chromium(&scene, stay) else { return };
        visit(&mut owner, &scene);
        owner.close();
        let mut owner = Chromium::start(&scene, &profile, again).unwrap();
        assert_eq!(user(&mut owner, &scene), expected, "{stay:?} {again:?}");
        if expected != USER {
            log_in(&mut owner, &scene, stay);
        }
        visit(&mut owner, &scene);
        scene.expect_calm(&format!("Chromium that was closed: {stay:?}, {again:?}"));
    }
}

/// Exact versions come with some requests and not with others, and after the browser was closed not before it is asked again.
#[test]
fn a_chromium_that_is_asked_for_exact_versions_is_no_thief() {
    let _alone = alone();
    let scene = Scene::set(Setting { accept_ch: true, ..quick(Http::Two) });
    let Some((mut owner, profile)) = chromium(&scene, Stay::Remembered) else { return };
    visit(&mut owner, &scene);
    visit(&mut owner, &scene);
    let told = |name: &str| {
        let asked = scene.watch.asked();
        let tell = asked.iter().filter(|asked| asked.headers.iter().any(|(found, _)| found == name)).count();
        println!("{name} came with {tell} of {} requests", asked.len());
        tell > 0 && tell < asked.len()
    };
    assert!(told("sec-ch-ua-full-version-list") && told("sec-ch-ua-platform-version"));
    owner.close();
    let mut owner = Chromium::start(&scene, &profile, &[GERMAN]).unwrap();
    visit(&mut owner, &scene);
    visit(&mut owner, &scene);
    scene.expect_calm("Chromium that is asked for exact versions");
}

/// A Firefox whose user has logged in.
fn firefox(scene: &Scene, stay: Stay) -> Option<(Firefox, PathBuf)> {
    let profile = scene.folder("profile");
    let mut owner = Firefox::start(&profile, &[])?;
    log_in(&mut owner, scene, stay);
    assert!(owner.cookie(COOKIE).is_some());
    Some((owner, profile))
}

fn firefox_goes_about_its_day(http: Http) {
    let _alone = alone();
    let scene = Scene::set(quick(http));
    let Some((mut owner, _)) = firefox(&scene, Stay::UntilClosed) else { return };
    visit(&mut owner, &scene);
    visit(&mut owner, &scene);
    owner.prefer("intl.accept_languages", Some("fr-FR, fr"));
    visit(&mut owner, &scene);
    scene.expect_calm(&format!("Firefox over {http:?}, whose user has learnt French"));
    assert!(scene.watch.adopted() > 0, "no tag was renewed");
}

#[test]
fn a_firefox_is_no_thief_over_http2() {
    firefox_goes_about_its_day(Http::Two);
}

#[test]
fn a_firefox_is_no_thief_over_http1() {
    firefox_goes_about_its_day(Http::One);
}

#[test]
fn a_firefox_that_pretends_to_be_a_telephone_is_no_thief() {
    let _alone = alone();
    let scene = Scene::set(quick(Http::Two));
    let Some((mut owner, _)) = firefox(&scene, Stay::UntilClosed) else { return };
    let agent = owner.run("navigator.userAgent").as_str().unwrap().to_owned();
    let version = agent.rsplit_once('/').unwrap().1.to_owned();
    let mobile = format!("Mozilla/5.0 (Android 14; Mobile; rv:{version}) Gecko/{version} Firefox/{version}");
    for _ in 0..2 {
        visit(&mut owner, &scene);
        owner.prefer("general.useragent.override", Some(&mobile));
        visit(&mut owner, &scene);
        owner.prefer("general.useragent.override", None);
    }
    visit(&mut owner, &scene);
    scene.expect_calm("Firefox with the user agent of a telephone, now and then");
}

#[test]
fn a_firefox_that_was_closed_is_no_thief_when_it_comes_back() {
    let _alone = alone();
    let (restored, empty) = (("browser.startup.page", "3"), ("browser.startup.page", "0"));
    for (stay, again, expected) in
        [(Stay::Remembered, empty, USER), (Stay::UntilClosed, restored, USER), (Stay::UntilClosed, empty, "nobody")]
    {
        let scene = Scene::set(quick(Http::Two));
        let Some((mut owner, profile)) = firefox(&scene, stay) else { return };
        visit(&mut owner, &scene);
        owner.close();
        let mut owner = Firefox::start(&profile, &[again]).unwrap();
        assert_eq!(user(&mut owner, &scene), expected, "{stay:?} {again:?}");
        if expected != USER {
            log_in(&mut owner, &scene, stay);
        }
        visit(&mut owner, &scene);
        scene.expect_calm(&format!("Firefox that was closed: {stay:?}, {again:?}"));
    }
}
