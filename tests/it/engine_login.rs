//! Logins and logouts: every way to recognise them, what they do to the id, and how attempts are limited.

use std::sync::Arc;

use portcullis::engine::RefusalKind;
use portcullis::event::{Event, Kind, Revoker, Rotation, Sign};
use portcullis::facts::route::{CaseSensitivity, PathPattern, RoutePattern};
use portcullis::rules::SubjectSource;
use portcullis::session::cookie::{CookieKind, CookiePattern};
use portcullis::session::record::Record;
use portcullis::store::OnLimit;

use crate::support::world::browser::OURS;
use crate::support::world::{ABROAD, AppAnswer, Ask, Browser, MOBILE, Rules, World, hours, minutes, rules, seconds};

fn shop() -> (World, Browser) {
    told_by(rules())
}

fn told_by(rules: Rules) -> (World, Browser) {
    let world = World::new(rules);
    let alice = world.browser("alice");
    (world, alice)
}

/// An app that answers `/control` with this command to the guard, and keeps a session of its own.
fn controlled(command: &'static str) -> (World, Browser) {
    let (world, alice) = shop();
    obeys(&world, command);
    (world, alice)
}

fn obeys(world: &World, command: &'static str) {
    world.app(move |request| match request.uri.path() {
        "/control" => AppAnswer::ok().control(command),
        "/begin" => AppAnswer::ok().set_cookie("sessionid=kept-by-the-guard; Path=/; HttpOnly"),
        _ => AppAnswer::ok(),
    });
}

fn id(cookie: &str) -> &str {
    cookie.split_once('.').unwrap().0
}

// ---- a new id ------------------------------------------------------------------------------------------------------

#[test]
fn session_fixation() {
    let (world, alice) = shop();
    let eve = world.browser("eve").at(ABROAD);
    eve.visits("/cart").ok().sets_ours();
    let planted = eve.ours().unwrap();
    alice.holds(OURS, &planted);
    alice.logs_in("alice").ok().sets_ours();
    assert_ne!(id(&alice.ours().unwrap()), id(&planted));
    alice.visits("/account").is("alice");
    for _ in 0..3 {
        eve.visits("/account").is_stranger().sets_nothing_of_ours();
        world.after(seconds(30));
    }
    assert!(world.told().contains(&"session.rotated_id_reuse"));
    eve.visits("/account").is_stranger();
}

#[test]
fn a_login_keeps_what_the_visitor_had_and_tells_who_he_is() {
    let (world, alice) = shop();
    alice.visits("/cart").ok();
    let before = world.session();
    alice.logs_in("alice").ok().sets_ours();
    let told = world.events_told();
    let names: Vec<_> = told.iter().map(|told| told.event.kind().as_str()).collect();
    assert_eq!(names, ["session.created", "session.rotated", "session.authenticated"]);
    assert!(matches!(&told[1].event, Event::SessionRotated(event) if event.why == Rotation::Login));
    assert!(matches!(&told[2].event, Event::SessionAuthenticated(event) if event.sign == Sign::Route));
    assert_eq!(told[2].scene.subject.as_deref(), Some("alice"));
    let after = world.session();
    assert_eq!((after.reference, after.created_at), (before.reference, before.created_at));
    assert_eq!(after.subject.as_deref(), Some("alice"));
    assert_eq!(after.authenticated_at, Some(world.now()));
    let page = alice.visits("/account").is("alice");
    assert_eq!(page.header_at_app("portcullis-subject"), Some("alice"));
    assert_eq!(page.header_at_app("portcullis-authenticated-at"), Some("1795257972"));
    assert_eq!(page.header_at_app("portcullis-risk"), Some("low"));
    assert_eq!(page.header_at_app("portcullis-ref").map(str::len), Some(32));
}

#[test]
fn a_failed_login_changes_nothing() {
    let (world, alice) = shop();
    alice.visits("/cart").ok();
    let before = world.session();
    world.told();
    alice.tries("alice", "wrong-password").ok().sets_nothing_of_ours();
    assert_eq!(world.session(), before);
    let told = world.told_of(Kind::LoginFailed);
    assert_eq!(told.scene.status, Some(200));
}

#[test]
fn a_login_that_redirects_back_to_the_form_is_none() {
    let (world, alice) = shop();
    world.answers(AppAnswer::redirect("https://shop.example.com/login?error=1"));
    alice.logs_in("alice").sets_nothing_of_ours();
    assert_eq!(world.told(), ["login.failed"]);
}

#[test]
fn of_two_logins_at_once_the_second_one_counts_too() {
    let (world, alice) = shop();
    alice.visits("/cart").ok();
    let (one, two) = (alice.sends(alice.login_of("alice")), alice.sends(alice.login_of("alice")));
    // The browser gave up the first one when the button was pressed again.
    one.lands_unseen().ok();
    two.lands().ok().sets_ours();
    alice.visits("/account").is("alice");
    assert!(world.sessions().len() <= 2);
}

#[test]
fn a_login_with_an_id_that_was_just_replaced_is_not_lost() {
    let (world, alice) = shop();
    alice.visits("/cart").ok();
    alice.sends(alice.login_of("alice")).lands_unseen().ok();
    alice.visits("/account").is_stranger().sets_nothing_of_ours();
    alice.logs_in("alice").ok().sets_ours();
    alice.visits("/account").is("alice");
    assert!(!world.told().contains(&"session.rotated_id_reuse"), "it was a request that was under way");
}

#[test]
fn a_request_under_way_during_a_login_reaches_the_app_without_cookies() {
    let (world, alice) = shop();
    alice.visits("/cart").ok();
    let anonymous = alice.ours().unwrap();
    let early = alice.sends(Ask::fetch("/account"));
    alice.logs_in("alice").ok();
    let kept = alice.ours().unwrap();
    world.after(seconds(59));
    alice.holds(OURS, &anonymous);
    let late = alice.fetches("/cart").is_stranger();
    assert_eq!(late.set_cookies(), Vec::<String>::new(), "its shielded cookie is dropped and none of ours is set");
    alice.holds(OURS, &kept);
    early.lands().sets_nothing_of_ours();
    alice.visits("/account").is("alice");
}

#[test]
fn an_answer_admitted_under_another_id_never_writes_the_jar() {
    let (world, alice) = shop();
    world.app(|request| match request.uri.path() {
        "/late" => AppAnswer::ok().set_cookie("sessionid=of-the-old-id; Path=/; HttpOnly"),
        "/login" => AppAnswer::redirect("/").set_cookie("sessionid=of-the-login; Path=/; HttpOnly"),
        "/begin" => AppAnswer::ok().set_cookie("sessionid=of-the-visit; Path=/; HttpOnly"),
        _ => AppAnswer::ok(),
    });
    alice.visits("/begin").ok();
    let late = alice.sends(Ask::fetch("/late"));
    alice.logs_in("alice").ok();
    late.lands().sets_nothing_of_ours();
    assert_eq!(alice.visits("/").app_cookies(), "sessionid=of-the-login");
}

#[test]
fn the_app_changing_its_id_cookie_gives_a_new_id_and_is_no_login() {
    let (world, alice) = shop();
    let mut count = 0;
    world.app(move |request| {
        count += 1;
        let fresh = AppAnswer::ok().set_cookie(&format!("sessionid=value-{count}; Path=/; HttpOnly"));
        if request.uri.path() == "/elevate" { fresh } else { AppAnswer::ok() }
    });
    alice.visits("/elevate").ok().sets_ours();
    let first = alice.ours().unwrap();
    alice.visits("/elevate").ok().sets_ours();
    assert_ne!(id(&alice.ours().unwrap()), id(&first));
    assert_eq!(world.told(), ["session.created", "session.rotated"]);
    assert!(!world.session().is_authenticated());
}

#[test]
fn a_state_cookie_that_changes_gives_no_new_id() {
    let (world, alice) = told_by(rules().shield("state", CookieKind::State));
    let mut count = 0;
    world.app(move |_| {
        count += 1;
        AppAnswer::ok().set_cookie(&format!("state=value-{count}; Path=/; HttpOnly"))
    });
    alice.visits("/").ok().sets_ours();
    alice.visits("/").ok().sets_nothing_of_ours();
}

// ---- who it is -----------------------------------------------------------------------------------------------------

#[track_caller]
fn check_subject(source: SubjectSource, kind: &str, body: &str, expected: Option<&str>) {
    let (world, alice) = told_by(rules().subject_in(source));
    world.answers(AppAnswer::redirect("/"));
    alice.asks(Ask::page("/login").post(kind, body)).sets_ours();
    assert_eq!(world.session().subject.as_deref(), expected, "{body}");
    let unclear = world.told().contains(&"login.subject_unclear");
    assert_eq!(unclear, expected.is_none());
}

const FORM: &str = "application/x-www-form-urlencoded";

#[test]
fn the_subject_stands_in_a_form() {
    let form = |body, expected| check_subject(SubjectSource::Form("username".into()), FORM, body, expected);
    form("username=alice&password=x", Some("alice"));
    form("csrf=1&username=alice%40example.com", Some("alice@example.com"));
    form("username=alice&username=bob", None);
    form(&format!("username=alice&x={}", "y".repeat(70_000)), None);
}

#[test]
fn the_subject_stands_in_json() {
    let json =
        |body, expected| check_subject(SubjectSource::Json("/user/name".into()), "application/json", body, expected);
    json(r#"{"user": {"name": "alice"}}"#, Some("alice"));
    json(r#"{"user": {"name": 42}}"#, Some("42"));
    json(r#"{"user": {"name": "alice", "name": "bob"}}"#, None);
    json("{not json", None);
}

#[test]
fn the_subject_stands_in_a_multipart_form() {
    let part = |name: &str, value: &str| {
        format!("--xyz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let source = || SubjectSource::Form("username".into());
    let body = [part("csrf", "1"), part("username", "alice"), "--xyz--\r\n".into()].concat();
    check_subject(source(), "multipart/form-data; boundary=xyz", &body, Some("alice"));
    let body = [part("username", "alice"), part("username", "bob"), "--xyz--\r\n".into()].concat();
    check_subject(source(), "multipart/form-data; boundary=xyz", &body, None);
}

#[test]
fn the_subject_stands_in_a_header() {
    let (world, alice) = told_by(rules().subject_in(SubjectSource::Header("x-remote-user".parse().unwrap())));
    world.answers(AppAnswer::redirect("/"));
    alice.asks(Ask::form("/login", "").header("x-remote-user", "alice")).sets_ours();
    assert_eq!(world.session().subject.as_deref(), Some("alice"));
}

#[test]
fn only_the_body_of_a_login_is_looked_at() {
    let (world, alice) = shop();
    let looks = |ask: Ask| world.guard().peek(&alice.dresses(ask).1).is_some();
    assert!(looks(Ask::form("/login", "username=alice")));
    assert!(!looks(Ask::form("/upload", "username=alice")));
    assert!(!looks(Ask::page("/login")));
    world.reload(rules().subject_in(SubjectSource::None));
    assert!(!looks(Ask::form("/login", "username=alice")));
}

// ---- the control header --------------------------------------------------------------------------------------------

#[test]
fn the_app_tells_of_a_login() {
    let (world, alice) = controlled(r#"login; subject="42""#);
    alice.visits("/begin").ok();
    let before = alice.ours().unwrap();
    let page = alice.fetches("/control").ok().sets_ours();
    assert_eq!(page.header("portcullis-session"), None);
    assert_ne!(id(&alice.ours().unwrap()), id(&before));
    assert_eq!(world.session().subject.as_deref(), Some("42"));
    assert_eq!(alice.visits("/").app_cookies(), "sessionid=kept-by-the-guard");
    alice.holds(OURS, &before).visits("/").is_stranger();
}

#[test]
fn an_app_that_leaves_the_name_to_the_login_form_gets_it() {
    let (world, alice) = shop();
    world.answers(AppAnswer::ok().control("login"));
    alice.logs_in("alice").ok().sets_ours();
    assert_eq!(world.session().subject.as_deref(), Some("alice"));
}

#[test]
fn re_authentication_and_elevation_give_a_new_id() {
    for (command, resets) in [("reauthenticated", true), ("elevate", false), ("rotate", false)] {
        let (world, alice) = shop();
        alice.logs_in("alice").ok();
        let before = alice.ours().unwrap();
        let since = world.session().authenticated_at;
        world.told();
        world.after(hours(1).saturating_sub(minutes(40)));
        obeys(&world, command);
        alice.visits("/control").ok().sets_ours();
        let session = world.session();
        assert_eq!(session.subject.as_deref(), Some("alice"), "{command}");
        assert_eq!(session.authenticated_at != since, resets, "{command}");
        alice.visits("/").ok();
        alice.holds(OURS, &before).visits("/").is_stranger();
        assert!(world.told().contains(&"session.rotated"));
    }
}

#[test]
fn the_app_ends_sessions() {
    let (world, alice) = shop();
    let (phone, other) = (world.browser("phone").at(MOBILE), world.browser("bob"));
    for browser in [&alice, &phone] {
        browser.logs_in("alice").ok();
    }
    other.logs_in("bob").ok();
    world.told();
    obeys(&world, "revoke; scope=others");
    alice.visits("/control").ok().sets_nothing_of_ours();
    let told = world.told_of(Kind::SessionRevoked);
    assert!(matches!(&told.event, Event::SessionRevoked(event) if event.by == Revoker::App));
    phone.visits("/").is_stranger();
    assert_eq!(world.sessions().len(), 2);
    obeys(&world, "revoke");
    world.after(minutes(2));
    alice.visits("/control").ok().clears_ours();
    alice.visits("/").is_stranger();
    assert_eq!(world.sessions().len(), 1, "bob's");
}

#[test]
fn revoke_ends_a_session_that_has_no_subject_too() {
    let (world, alice) = controlled("revoke; scope=all");
    alice.visits("/begin").ok();
    alice.visits("/control").ok().clears_ours();
    assert_eq!(world.sessions().len(), 0);
}

#[test]
fn the_app_sets_an_end() {
    let (world, alice) = shop();
    alice.logs_in("alice").ok();
    obeys(&world, "expire; in=600");
    alice.visits("/control").ok();
    world.reopens_the_shop();
    world.after(seconds(599));
    assert!(alice.visits("/").ok().app_cookie("sessionid").is_some());
    world.after(seconds(1));
    alice.visits("/account").is_stranger();
}

#[test]
fn control_headers_are_taken_off_in_both_spellings_also_when_malformed() {
    let (world, alice) = shop();
    alice.logs_in("alice").ok();
    world.told();
    world.answers(
        AppAnswer::ok()
            .control("no such command")
            .header("portcullis_session", "logout")
            .header("Portcullis-Risk", "9"),
    );
    let page = alice.visits("/").ok();
    assert!(page.headers.keys().all(|name| !name.as_str().starts_with("portcullis")), "{:?}", page.headers);
    assert_eq!(world.told(), ["header.spoofed"]);
    world.reopens_the_shop();
    alice.visits("/cart").ok();
    assert_eq!(world.sessions().len(), 1, "nothing was done");
}

#[test]
fn a_client_can_not_speak_for_the_guard() {
    let (world, alice) = shop();
    for (name, value) in [("Portcullis-Subject", "admin"), ("portcullis_subject", "admin"), ("PORTCULLIS-Made-Up", "x")]
    {
        let page = alice.asks(Ask::page("/").header(name, value)).is_stranger();
        assert_eq!(page.header_at_app(name), None);
        assert_eq!(world.told(), ["header.spoofed"]);
    }
    alice.logs_in("alice").ok();
    let page = alice.asks(Ask::page("/account").header("portcullis-subject", "admin")).is("alice");
    assert_eq!(page.header_at_app("portcullis-subject"), Some("alice"));
}

// ---- logout --------------------------------------------------------------------------------------------------------

#[test]
fn a_logout_by_route_ends_the_session() {
    let (world, alice) = shop();
    alice.logs_in("alice").ok();
    let before = alice.ours().unwrap();
    world.told();
    alice.logs_out().ok().clears_ours();
    assert_eq!(alice.ours(), None);
    let told = world.told_of(Kind::SessionLogout);
    assert!(matches!(&told.event, Event::SessionLogout(event) if event.sign == Sign::Route));
    alice.holds(OURS, &before).visits("/account").is_stranger().sets_nothing_of_ours();
    assert_eq!(world.told(), ["session.use_after_expire"]);
    assert_eq!(world.sessions().len(), 0);
}

#[test]
fn a_logout_that_the_app_refuses_is_none() {
    let (world, alice) = shop();
    alice.logs_in("alice").ok();
    world.answers(AppAnswer::status(403));
    alice.logs_out().sets_nothing_of_ours();
    assert_eq!(world.sessions().len(), 1);
}

#[test]
fn a_logout_by_deleting_the_apps_cookie_or_by_header_ends_the_session() {
    for (answer, sign) in [
        (AppAnswer::ok().set_cookie("sessionid=; Path=/; Max-Age=0"), Sign::Cookie),
        (AppAnswer::ok().set_cookie("sessionid=x; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT"), Sign::Cookie),
        (AppAnswer::ok().control("logout"), Sign::Header),
    ] {
        let (world, alice) = shop();
        alice.logs_in("alice").ok();
        world.answers(answer);
        alice.visits("/goodbye").ok().clears_ours();
        let told = world.told_of(Kind::SessionLogout);
        assert!(matches!(&told.event, Event::SessionLogout(event) if event.sign == sign));
        assert_eq!(world.sessions().len(), 0);
    }
}

#[test]
fn deleting_one_of_several_cookies_is_no_logout() {
    let (world, alice) = told_by(rules().shield("remember", CookieKind::Id));
    world.app(|request| match request.uri.path() {
        "/begin" => AppAnswer::ok()
            .set_cookie("sessionid=the-session; Path=/; HttpOnly")
            .set_cookie("remember=the-token; Path=/; HttpOnly"),
        "/forget" => AppAnswer::ok().set_cookie("remember=; Path=/; Max-Age=0"),
        _ => AppAnswer::ok(),
    });
    alice.visits("/begin").ok();
    alice.visits("/forget").ok();
    assert_eq!(alice.visits("/").app_cookies(), "sessionid=the-session");
    assert_eq!(world.sessions().len(), 1);
}

#[test]
fn a_message_that_is_shown_once_is_no_login_and_its_end_no_logout() {
    let (world, alice) = told_by(rules().shield("flash", CookieKind::Id).bind("token"));
    world.app(|request| match request.uri.path() {
        "/login" => AppAnswer::redirect("/").set_cookie("token=of-alice; Path=/").control("login; subject=\"alice\""),
        "/save" => AppAnswer::redirect("/").set_cookie("flash=saved; Path=/; HttpOnly"),
        _ => AppAnswer::ok().set_cookie("flash=; Path=/; Max-Age=0").serving(Some("alice")),
    });
    alice.logs_in("alice").ok();
    world.after(seconds(5));
    alice.visits("/save").ok();
    alice.visits("/").ok();
    assert_eq!(world.sessions().len(), 1);
    assert_eq!(alice.visits("/").header_at_app("portcullis-subject"), Some("alice"));
}

#[test]
fn a_late_answer_under_a_replaced_id_takes_nothing_from_the_next_one() {
    let (world, alice) = told_by(rules().shield("remember", CookieKind::Id));
    world.app(|request| match request.uri.path() {
        "/begin" => AppAnswer::ok().set_cookie("remember=no-longer-good; Path=/; HttpOnly"),
        "/slow" => AppAnswer::ok().set_cookie("remember=; Path=/; Max-Age=0"),
        "/others" => AppAnswer::ok().control("revoke; scope=others"),
        "/login" => AppAnswer::redirect("/").set_cookie("sessionid=of-alice; Path=/; HttpOnly"),
        _ => AppAnswer::ok(),
    });
    alice.visits("/begin").ok();
    let slow = alice.sends(Ask::fetch("/slow")).is_answered();
    alice.logs_in("alice").ok().sets_ours();
    slow.lands().sets_nothing_of_ours();
    assert_eq!(alice.visits("/").app_cookies(), "remember=no-longer-good; sessionid=of-alice");

    let second = world.browser("alice at work").at(MOBILE);
    second.logs_in("alice").ok();
    let others = alice.sends(Ask::fetch("/others")).is_answered();
    world.app(|_| AppAnswer::ok().control("rotate"));
    alice.visits("/").ok().sets_ours();
    others.lands();
    assert_eq!(world.sessions().len(), 1, "hers alone");
    assert_eq!(alice.visits("/").header_at_app("portcullis-subject"), Some("alice"));
}

#[test]
fn who_asks_for_the_end_gets_it_though_the_id_was_renewed_meanwhile() {
    for command in ["logout", "revoke; scope=all"] {
        let (world, alice) = shop();
        alice.logs_in("alice").ok();
        world.browser("alice at work").at(MOBILE).logs_in("alice").ok();
        world.app(move |_| AppAnswer::ok().control(command));
        let end = alice.sends(Ask::fetch("/end")).is_answered();
        world.app(|_| AppAnswer::ok().control("rotate"));
        alice.visits("/").ok().sets_ours();
        end.lands().clears_ours();
        let left = if command == "logout" { 1 } else { 0 };
        assert_eq!(world.sessions().len(), left, "{command}");
    }
}

#[test]
fn another_ticket_in_a_session_that_lost_its_own_is_a_login() {
    let (world, alice) = told_by(rules().shield("auth", CookieKind::Id));
    world.app(|request| match (request.method.as_str(), request.uri.path()) {
        ("POST", "/login") => AppAnswer::redirect("/").set_cookie("auth=of-somebody; Path=/; HttpOnly"),
        (_, "/expire") => AppAnswer::ok().set_cookie("auth=; Path=/; Max-Age=0"),
        _ => AppAnswer::ok().set_cookie("sessionid=of-the-browser; Path=/; HttpOnly"),
    });
    alice.visits("/").ok();
    alice.logs_in("alice").ok();
    alice.visits("/expire").ok();
    alice.logs_in("bob").ok().sets_ours();
    assert_eq!(world.session().subject.as_deref(), Some("bob"));
}

#[test]
fn who_is_logged_in_and_sent_on_from_the_form_has_proved_nothing() {
    let (world, mallory) = shop();
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    mallory.logs_in("mallory").ok();
    world.after(minutes(20));
    let before = world.sessions();
    world.told();
    // As Devise and Laravel do: somebody is logged in, so the password is not looked at.
    world.app(|_| AppAnswer::redirect("/"));
    mallory.logs_in("alice").ok().sets_ours();
    let mallorys = |sessions: Vec<Arc<Record>>| {
        sessions.into_iter().find(|session| session.subject.as_deref() != Some("alice")).unwrap()
    };
    let (old, new) = (mallorys(before), mallorys(world.sessions()));
    assert_eq!(new.subject.as_deref(), Some("mallory"));
    assert_eq!(new.authenticated_at, old.authenticated_at);
    assert_ne!(new.digest, old.digest, "a login form may have been filled in after all");
    assert_eq!(world.told(), ["session.rotated"]);
    assert_eq!(world.sessions().iter().filter(|session| session.subject.as_deref() == Some("alice")).count(), 1);
    // An app that lets one user in over another gives him another session.
    world.reopens_the_shop();
    mallory.logs_in("bob").ok().sets_ours();
    mallory.visits("/account").is("bob");
    assert!(world.sessions().iter().any(|session| session.subject.as_deref() == Some("bob")));
}

#[test]
fn a_logout_while_a_slow_request_is_under_way_stays_one() {
    let (world, alice) = shop();
    alice.logs_in("alice").ok();
    let before = alice.ours().unwrap();
    world.after(minutes(3));
    world.app(|request| match request.uri.path() {
        "/slow" => AppAnswer::ok().set_cookie("sessionid=the-slow-one; Path=/; HttpOnly").serving(Some("alice")),
        _ => AppAnswer::redirect("/").set_cookie("sessionid=; Path=/; Max-Age=0"),
    });
    let slow = alice.sends(Ask::fetch("/slow")).is_answered();
    alice.logs_out().clears_ours();
    let ended = world.run(world.store().everything());
    let page = slow.lands();
    assert_eq!(page.set_cookies(), Vec::<String>::new());
    assert_eq!(world.run(world.store().everything()), ended, "the answer writes nothing");
    assert_eq!(alice.ours(), None);
    world.reopens_the_shop();
    alice.holds(OURS, &before).visits("/account").is_stranger();
    assert_eq!(world.sessions().len(), 0, "a late save never revives");
}

#[test]
fn an_operator_ends_sessions() {
    use portcullis::engine::Selection;
    let (world, alice) = shop();
    alice.logs_in("alice").ok();
    let slow = alice.sends(Ask::fetch("/account"));
    let ended = world.run(world.guard().revoke(&Selection::Subject("alice".into()), Revoker::Admin)).unwrap();
    assert_eq!(ended, 1);
    slow.lands().sets_nothing_of_ours();
    alice.visits("/account").is_stranger();
}

// ---- how many ------------------------------------------------------------------------------------------------------

fn many_logins(world: &World, count: usize) -> Vec<Browser> {
    let browsers: Vec<_> = (0..count).map(|n| world.browser(&format!("device {n}"))).collect();
    let flights: Vec<_> = browsers.iter().map(|browser| browser.sends(browser.login_of("alice"))).collect();
    flights.into_iter().for_each(|flight| drop(flight.lands()));
    browsers
}

fn logged_in(browsers: &[Browser]) -> usize {
    browsers.iter().filter(|browser| browser.visits("/account").app_cookie("sessionid").is_some()).count()
}

#[test]
fn fifty_logins_at_once_never_pass_the_limit() {
    for (on_limit, told_kind) in
        [(OnLimit::Refuse, "session.concurrent_limit"), (OnLimit::EvictOldest, "session.revoked")]
    {
        let world = World::new(rules().per_subject_max(5, on_limit));
        let browsers = many_logins(&world, 50);
        assert_eq!(world.sessions().len(), 5);
        assert_eq!(logged_in(&browsers), 5);
        assert_eq!(world.told().iter().filter(|told| **told == told_kind).count(), 45);
    }
}

#[test]
fn fifty_logins_on_many_threads_never_pass_the_limit() {
    use portcullis::engine::{AnsweredBy, Decision};
    for on_limit in [OnLimit::Refuse, OnLimit::EvictOldest] {
        let world = World::new(
            rules().subject_in(SubjectSource::Header("x-user".parse().unwrap())).per_subject_max(5, on_limit),
        );
        let guard = world.guard().clone();
        let device = world.browser("device");
        let requests: Vec<_> =
            (0..50).map(|_| device.dresses(Ask::form("/login", "").header("x-user", "alice"))).collect();
        std::thread::scope(|scope| {
            for (client, mut parts, _) in requests {
                let guard = guard.clone();
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(async {
                        let Decision::Forward(admission) = guard.admit(client, &mut parts, None).await else { return };
                        let (mut answer, ()) = http::Response::new(()).into_parts();
                        answer.status = http::StatusCode::FOUND;
                        answer.headers.insert("location", "/account".parse().unwrap());
                        guard.settle(admission, AnsweredBy::App, &mut answer).await;
                    });
                });
            }
        });
        assert_eq!(world.sessions().len(), 5);
    }
}

#[test]
fn a_refused_login_is_answered_by_the_guard() {
    let world = World::new(rules().per_subject_max(1, OnLimit::Refuse));
    let (first, second) = (world.browser("first"), world.browser("second"));
    first.logs_in("alice").ok();
    second.logs_in("alice").is_refused(403, RefusalKind::TooManySessions).sets_nothing_of_ours();
    second.visits("/account").is_stranger();
    first.visits("/account").is("alice");
    first.logs_in("alice").ok().sets_ours();
    second.logs_in("bob").ok();
}

#[test]
fn the_oldest_session_makes_room() {
    let world = World::new(rules().per_subject_max(2, OnLimit::EvictOldest));
    let browsers: Vec<_> = (0..3).map(|n| world.browser(&format!("device {n}"))).collect();
    for browser in &browsers {
        browser.logs_in("alice").ok();
        world.after(minutes(2));
    }
    browsers[0].visits("/account").is_stranger();
    browsers[1].visits("/account").is("alice");
    browsers[2].visits("/account").is("alice");
}

#[test]
fn a_limit_may_only_be_reported() {
    for rules in
        [rules().per_subject_max(2, OnLimit::Report), rules().per_subject_max(2, OnLimit::Refuse).report_only()]
    {
        let world = World::new(rules);
        let browsers = many_logins(&world, 4);
        assert_eq!(logged_in(&browsers), 4);
        assert_eq!(world.told().iter().filter(|told| **told == "session.concurrent_limit").count(), 2);
    }
}

// ---- what a login and a logout look like ---------------------------------------------------------------------------

#[test]
fn a_location_is_relative_to_the_path_that_was_asked_for() {
    let rules = rules().with(|policy| {
        policy.logins[0].route = RoutePattern::parse("POST /app/login", CaseSensitivity::Ignore).unwrap();
        policy.logins[0].success.location_not =
            vec![PathPattern::parse("/app/login", CaseSensitivity::Ignore).unwrap()];
    });
    for (location, is_login) in [("login", false), ("?error=1", false), ("./login", false), ("home", true)] {
        let world = World::new(rules.clone());
        world.answers(AppAnswer::redirect(location).set_cookie("sessionid=a-new-value; Path=/"));
        world.browser("alice").asks(Ask::form("/app/login", "username=alice&password=a-wrong-guess")).ok();
        assert_eq!(world.told().contains(&"session.authenticated"), is_login, "{location}");
    }
}

#[test]
fn deleting_the_ticket_of_a_login_is_a_logout_whatever_else_is_kept() {
    // As WordPress does: the ticket goes, a test cookie and the basket stay.
    let rules = rules().shield("wordpress_*", CookieKind::State).shield("basket", CookieKind::State).with(|policy| {
        policy.logins[0].success.sets_cookie = Some(CookiePattern::parse("wordpress_logged_in_*").unwrap());
        policy.logouts.clear();
    });
    let world = World::new(rules);
    let alice = world.browser("alice");
    let sets = |answer: AppAnswer, name: &str| answer.set_cookie(&format!("{name}=some-value; Path=/; HttpOnly"));
    let deletes = |name: &str| AppAnswer::ok().set_cookie(&format!("{name}=; Path=/; Max-Age=0"));
    world.answers(sets(sets(AppAnswer::ok(), "basket"), "wordpress_test_cookie"));
    alice.visits("/").sets_ours();
    world.answers(sets(AppAnswer::redirect("/"), "wordpress_logged_in_12ab"));
    alice.asks(alice.login_of("alice")).sets_ours();
    assert!(world.told().contains(&"session.authenticated"));
    world.answers(deletes("wordpress_test_cookie"));
    alice.visits("/").ok().sets_nothing_of_ours();
    // A change of the password: the ticket goes and comes in one answer.
    world.after(minutes(1));
    world.answers(sets(deletes("wordpress_logged_in_12ab"), "wordpress_logged_in_12ab"));
    alice.visits("/wp-admin/profile.php").ok();
    assert_eq!(world.sessions().len(), 1);
    world.answers(deletes("wordpress_logged_in_12ab"));
    alice.visits("/wp-login.php?action=logout").clears_ours();
    assert!(world.told().contains(&"session.logout"));
}

#[test]
fn a_cookie_that_is_deleted_and_set_on_one_answer_gives_a_new_id() {
    let (world, alice) = shop();
    alice.visits("/cart").sets_ours();
    let before = alice.ours().unwrap();
    world.answers(
        AppAnswer::ok()
            .set_cookie("sessionid=; Path=/; Max-Age=0")
            .set_cookie("sessionid=another-value; Path=/; HttpOnly"),
    );
    alice.visits("/").sets_ours();
    assert_ne!(id(&before), id(&alice.ours().unwrap()));
}

#[test]
fn a_login_counts_from_its_answer() {
    let (world, alice) = shop();
    let flight = alice.sends(alice.login_of("alice"));
    world.after(minutes(9));
    flight.lands().sets_ours();
    assert_eq!(world.session().authenticated_at, Some(world.now()));
}
