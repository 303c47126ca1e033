//! The app's cookies: kept from the client, given back to the app, bound to ours, taken over.

use portcullis::event::{Event, Kind};
use portcullis::secret::{KeyId, Keyring, MasterKey};
use portcullis::session::cookie::{Add, CookieKind, Hardening, SameSite};

use crate::support::world::browser::OURS;
use crate::support::world::{AppAnswer, Ask, START, World, hours, minutes, rate, rules, seconds};

fn shop() -> World {
    World::new(rules())
}

#[test]
fn a_shield_hides_the_apps_cookie_and_gives_it_back() {
    let world = shop();
    let alice = world.browser("alice");
    let page = alice.visits("/cart").ok().sets_ours();
    assert_eq!(page.set_cookies().len(), 1, "the app's own cookie is not among them");
    assert_eq!(alice.cookie("sessionid"), None);
    assert_eq!(alice.visits("/cart").ok().app_cookies(), "sessionid=app-session-0001");
    alice.logs_in("alice").ok().sets_ours();
    let page = alice.visits("/account").ok().is("alice");
    assert_eq!(page.app_cookies(), "sessionid=app-session-0002");
    assert_eq!(page.set_cookies(), Vec::<String>::new());
}

#[test]
fn a_visitor_who_was_given_nothing_costs_no_record() {
    let world = shop();
    let alice = world.browser("alice");
    for path in ["/", "/about", "/account"] {
        alice.visits(path).ok().sets_nothing_of_ours();
    }
    assert_eq!(world.store().writes(), 0);
    assert_eq!(world.told(), Vec::<&str>::new());
}

#[test]
fn a_shielded_cookie_that_the_client_sends_is_dropped_reported_and_expired() {
    let world = shop();
    let eve = world.browser("eve");
    eve.holds("sessionid", "planted-by-somebody").holds("theme", "dark");
    let page = eve.visits("/account").ok().is_stranger();
    assert_eq!(page.app_cookies(), "theme=dark");
    assert_eq!(page.set_cookies(), ["sessionid=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"]);
    assert_eq!(world.told(), ["cookie.shielded"]);
    assert_eq!(eve.cookie("sessionid"), None);
    assert_eq!(world.store().writes(), 0);
}

#[test]
fn session_fixation_with_the_apps_id_plants_nothing() {
    let world = shop();
    let alice = world.browser("alice");
    alice.holds("sessionid", "planted-by-somebody");
    alice.logs_in("alice").ok().sets_ours();
    assert_eq!(alice.visits("/account").is("alice").app_cookies(), "sessionid=app-session-0001");
}

#[test]
fn a_leftover_with_a_prefixed_name_is_expired_in_a_way_that_browsers_obey() {
    let world = World::new(rules().shield("__Host-sid", CookieKind::Id));
    let alice = world.browser("alice");
    alice.holds("__Host-sid", "left-over");
    let lines = alice.visits("/").ok().set_cookies();
    assert_eq!(lines, ["__Host-sid=; Path=/; Secure; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"]);
}

#[test]
fn a_leftover_makes_no_cacheable_answer_uncacheable() {
    let world = shop();
    world.answers(AppAnswer::ok().header("cache-control", "public, max-age=600"));
    let alice = world.browser("alice");
    alice.holds("sessionid", "left-over");
    let page = alice.asks(Ask::image("/static/logo.png")).ok();
    assert_eq!(page.header("cache-control"), Some("public, max-age=600"));
    assert_eq!(page.set_cookies(), Vec::<String>::new());
}

#[test]
fn deleting_our_cookie_never_turns_protection_off() {
    let world = shop();
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    let app_value = alice.visits("/account").is("alice").app_cookie("sessionid").unwrap();
    alice.forgets(OURS).holds("sessionid", &app_value);
    alice.visits("/account").is_stranger();
}

#[test]
fn other_cookies_pass_as_they_are() {
    let world = shop();
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    let ours = format!("{OURS}={}", alice.ours().unwrap());
    let odd = "a=1;b=2;  json={\"x\":[1, 2]}; pct=%41%zz; e=x=y==";
    let page = alice.asks(Ask::page("/account").header("cookie", &format!("{odd}; {ours}"))).is("alice");
    assert_eq!(page.app_cookies(), "a=1; b=2; json={\"x\":[1, 2]}; pct=%41%zz; e=x=y==; sessionid=app-session-0001");
    let stranger = world.browser("bob");
    assert_eq!(stranger.asks(Ask::page("/").header("cookie", odd)).app_cookies(), odd);
    let answer = AppAnswer::ok().set_cookie("theme=dark; Path=/").set_cookie("lang=de");
    world.answers(answer);
    assert_eq!(stranger.visits("/").set_cookies(), ["theme=dark; Path=/", "lang=de"]);
}

#[test]
fn crumbs_of_http2_are_joined_into_one_line() {
    let world = shop();
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    let ask = Ask::page("/account")
        .header("cookie", "a=1")
        .and_header("cookie", &format!("{OURS}={}", alice.ours().unwrap()))
        .and_header("cookie", "b=2");
    assert_eq!(alice.asks(ask).is("alice").app_cookies(), "a=1; b=2; sessionid=app-session-0001");
}

#[test]
fn our_cookie_twice_is_nobodys() {
    let world = shop();
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    world.told();
    let ours = alice.ours().unwrap();
    let ask = Ask::page("/account").header("cookie", &format!("{OURS}={ours}; x=1; {OURS}={ours}"));
    assert_eq!(alice.asks(ask).is_stranger().app_cookies(), "x=1");
    assert_eq!(world.told(), ["cookie.duplicate"]);
    alice.visits("/account").is("alice");
}

#[test]
fn look_alikes_nameless_and_legacy_cookies_never_reach_the_app() {
    let world = shop();
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    let ours = format!("{OURS}={}", alice.ours().unwrap());
    world.told();
    for (cookie, told) in [
        ("__HOST-PORTCULLIS=x", "cookie.prefix_variant"),
        ("SESSIONID=planted", "cookie.prefix_variant"),
        ("%73essionid=planted", "cookie.prefix_variant"),
        ("=sessionid=planted", "cookie.legacy_syntax"),
        ("sessionid", "cookie.legacy_syntax"),
        ("$Version=1", "cookie.legacy_syntax"),
        ("x=\"open", "cookie.legacy_syntax"),
        ("x=1, sessionid=planted", "cookie.legacy_syntax"),
    ] {
        let ask = Ask::page("/account").header("cookie", &format!("{cookie}; {ours}; a=b"));
        assert_eq!(alice.asks(ask).is("alice").app_cookies(), "a=b; sessionid=app-session-0001", "{cookie}");
        assert_eq!(world.told(), [told], "{cookie}");
    }
}

#[test]
fn a_cookie_of_ours_that_can_not_be_ours_is_a_strangers() {
    let world = shop();
    let eve = world.browser("eve");
    eve.holds(OURS, "guess");
    eve.visits("/account").is_stranger().sets_nothing_of_ours();
    assert_eq!(world.told(), ["cookie.tampered"]);
    eve.holds(OURS, &format!("{}.{}", "A".repeat(43), "A".repeat(22)));
    eve.visits("/account").is_stranger().sets_nothing_of_ours();
    assert_eq!(world.told(), ["session.unknown_id"]);
}

#[test]
fn a_digest_shown_as_an_id_opens_nothing() {
    use base64::Engine as _;
    let world = shop();
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    let digest = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(world.session().digest.0);
    let tag = alice.ours().unwrap().split_once('.').unwrap().1.to_owned();
    let eve = world.browser("eve");
    eve.holds(OURS, &format!("{digest}.{tag}"));
    eve.visits("/account").is_stranger();
}

#[test]
fn the_app_can_not_set_our_cookie() {
    let world = shop();
    world.answers(AppAnswer::ok().set_cookie(&format!("{OURS}=forged; Path=/; Secure")).set_cookie("a=b"));
    let alice = world.browser("alice");
    assert_eq!(alice.visits("/").ok().set_cookies(), ["a=b"]);
    assert_eq!(world.told(), ["header.spoofed"]);
}

#[test]
fn a_line_that_no_browser_would_keep_is_not_passed_on() {
    let world = shop();
    world.answers(AppAnswer::ok().set_cookie(&format!("big={}", "x".repeat(5000))).set_cookie("a=b"));
    assert_eq!(world.browser("alice").visits("/").ok().set_cookies(), ["a=b"]);
}

#[test]
fn the_advice_is_given_that_a_shielded_cookie_should_be_http_only() {
    let world = shop();
    world.answers(AppAnswer::ok().set_cookie("sessionid=from-script; Path=/"));
    world.browser("alice").visits("/").ok().sets_ours();
    assert_eq!(world.told(), ["config.script_cookie", "session.created"]);
}

#[test]
fn the_advice_is_given_once_that_a_cookie_passes_unguarded() {
    let world = World::new(rules().bind("csrf"));
    let alice = world.browser("alice");
    world.answers(
        AppAnswer::ok()
            .set_cookie("remember_me=some-value; Path=/; HttpOnly")
            .set_cookie("csrf=some-value; Path=/; HttpOnly")
            .set_cookie("theme=dark-value; Path=/")
            .set_cookie("gone=; Path=/; HttpOnly; Max-Age=0"),
    );
    alice.visits("/").ok();
    let told = world.told_of(Kind::ConfigUnguardedCookie);
    assert!(matches!(&told.event, Event::ConfigUnguardedCookie(event) if event.cookie.as_str() == "remember_me"));
    alice.visits("/").ok();
    assert!(!world.told().contains(&"config.unguarded_cookie"));
}

#[test]
fn other_cookies_are_hardened_where_it_is_asked() {
    let hardening = Hardening { secure: Add::IfAbsent, http_only: Add::IfAbsent, same_site: Some(SameSite::Lax) };
    let world = World::new(rules().with(|policy| policy.cookies.hardening = hardening));
    world.answers(AppAnswer::ok().set_cookie("theme=dark").set_cookie("x=1; secure; samesite=None; HttpOnly"));
    let lines = world.browser("alice").visits("/").ok().set_cookies();
    assert_eq!(lines, ["theme=dark; Secure; HttpOnly; SameSite=Lax", "x=1; secure; samesite=None; HttpOnly"]);
}

// ---- inside the jar ------------------------------------------------------------------------------------------------

/// A world whose app sets these cookies once, at `/set`, and is asked for `path` afterwards.
#[track_caller]
fn check_jar(lines: &[&str], asks: &[(Ask, &str)]) {
    let world = World::new(rules().shield("one", CookieKind::Id).shield("two", CookieKind::Id));
    let mut set = AppAnswer::ok();
    for line in lines {
        set = set.set_cookie(line);
    }
    world.app(move |request| if request.uri.path() == "/a/set" { set.clone() } else { AppAnswer::ok() });
    let alice = world.browser("alice");
    alice.visits("/a/set").ok().sets_ours();
    for (ask, expected) in asks {
        assert_eq!(alice.asks(ask.clone()).ok().app_cookies(), *expected, "{lines:?}");
    }
}

#[test]
fn the_jar_honours_path() {
    check_jar(
        &["one=1; Path=/a; HttpOnly", "two=2; HttpOnly"],
        &[
            (Ask::page("/a"), "one=1; two=2"),
            (Ask::page("/a/b"), "one=1; two=2"),
            (Ask::page("/ab"), ""),
            (Ask::page("/"), ""),
        ],
    );
    check_jar(
        &["one=root; Path=/; HttpOnly", "one=deep; Path=/a/b; HttpOnly"],
        &[(Ask::page("/a/b/c"), "one=deep; one=root"), (Ask::page("/a"), "one=root")],
    );
}

#[test]
fn the_jar_honours_domain() {
    let elsewhere = |path: &str| Ask::page(path).header("host", "blog.example.com");
    check_jar(
        &["one=1; Path=/; Domain=example.com; HttpOnly", "two=2; Path=/; HttpOnly"],
        &[(Ask::page("/"), "one=1; two=2"), (elsewhere("/"), "one=1")],
    );
    let world = World::new(rules());
    world.answers(AppAnswer::ok().set_cookie("sessionid=1; Domain=evil.example; HttpOnly"));
    world.browser("alice").visits("/").ok().sets_nothing_of_ours();
}

#[test]
fn the_jar_honours_max_age_and_expires() {
    let world = World::new(rules().shield("one", CookieKind::Id).shield("two", CookieKind::Id).idle(hours(5)));
    world.app(|request| match request.uri.path() {
        "/set" => AppAnswer::ok()
            .set_cookie("sessionid=s; Path=/; HttpOnly")
            .set_cookie("one=1; Path=/; Max-Age=600; HttpOnly")
            .set_cookie("two=2; Path=/; Expires=Sat, 21 Nov 2026 11:46:12 GMT; HttpOnly"),
        _ => AppAnswer::ok(),
    });
    let alice = world.browser("alice");
    alice.visits("/set").ok();
    assert_eq!(alice.visits("/").app_cookies(), "sessionid=s; one=1; two=2");
    world.after(seconds(599));
    assert_eq!(alice.visits("/").app_cookies(), "sessionid=s; one=1; two=2");
    world.after(seconds(1));
    assert_eq!(alice.visits("/").app_cookies(), "sessionid=s; two=2");
    world.after(minutes(50));
    assert_eq!(alice.visits("/").app_cookies(), "sessionid=s");
}

#[test]
fn the_jar_honours_same_site() {
    check_jar(
        &["one=lax; Path=/; SameSite=Lax; HttpOnly", "two=strict; Path=/; SameSite=Strict; HttpOnly"],
        &[
            (Ask::page("/"), "one=lax; two=strict"),
            (Ask::page("/").cross_site(), "one=lax"),
            (Ask::form("/", "").cross_site(), ""),
            (Ask::fetch("/").cross_site(), ""),
            (Ask::plain("/"), "one=lax; two=strict"),
        ],
    );
    check_jar(
        &["one=none; Path=/; SameSite=None; Secure; HttpOnly", "two=unset; Path=/; HttpOnly"],
        &[(Ask::form("/", "").cross_site(), "one=none; two=unset"), (Ask::fetch("/").cross_site(), "one=none")],
    );
}

#[test]
fn a_new_value_takes_the_place_of_the_old_one_and_an_empty_jar_of_an_anonymous_session_stays() {
    let world = World::new(rules().shield("state", CookieKind::State));
    let mut count = 0;
    world.app(move |_| {
        count += 1;
        AppAnswer::ok().set_cookie(&format!("state=value-{count}; Path=/; HttpOnly"))
    });
    let alice = world.browser("alice");
    let first = alice.visits("/").ok().sets_ours().ours();
    for count in 1..5 {
        let page = alice.visits("/").ok().sets_nothing_of_ours();
        assert_eq!(page.app_cookies(), format!("state=value-{count}"));
    }
    assert_eq!(first.len(), 1, "a cookie of kind `state` changes with every answer, and our id does not");
    assert_eq!(world.told(), ["session.created"]);
}

#[test]
fn parallel_answers_that_write_different_cookies_both_survive() {
    let world = World::new(rules().shield("one", CookieKind::Id).shield("two", CookieKind::Id));
    world.app(|request| match request.uri.path() {
        "/one" => AppAnswer::ok().set_cookie("one=1; Path=/; HttpOnly"),
        "/two" => AppAnswer::ok().set_cookie("two=2; Path=/; HttpOnly"),
        "/begin" => AppAnswer::ok().set_cookie("sessionid=s; Path=/; HttpOnly"),
        _ => AppAnswer::ok(),
    });
    let alice = world.browser("alice");
    alice.visits("/begin").ok();
    let (one, two) = (alice.sends(Ask::fetch("/one")), alice.sends(Ask::fetch("/two")));
    one.lands().ok();
    two.lands().ok();
    assert_eq!(alice.visits("/").app_cookies(), "sessionid=s; one=1; two=2");
}

#[test]
fn a_jar_that_is_full_leaves_the_cookie_out_and_says_so() {
    let world = World::new(rules().shield("c*", CookieKind::State));
    world.app(|_| (0..60).fold(AppAnswer::ok(), |answer, n| answer.set_cookie(&format!("c{n}=v; Path=/; HttpOnly"))));
    let alice = world.browser("alice");
    alice.visits("/").ok().sets_ours();
    assert_eq!(alice.visits("/").app_cookies().split("; ").count(), 50);
    assert!(world.told().contains(&"dependency.failed"));
}

// ---- bind ----------------------------------------------------------------------------------------------------------

/// The app gives `csrf` the value that the query names.
fn binding() -> World {
    let world = World::new(rules().bind("csrf"));
    world.app(|request| match request.uri.query() {
        Some(value) => AppAnswer::ok().set_cookie(&format!("csrf={value}; Path=/")),
        None => AppAnswer::ok(),
    });
    world
}

#[test]
fn a_bound_cookie_passes_beside_its_session_alone() {
    let world = binding();
    let (alice, eve) = (world.browser("alice"), world.browser("eve"));
    let lines = alice.visits("/?first-value").ok().set_cookies();
    assert_eq!(lines[0], "csrf=first-value; Path=/");
    assert_eq!(alice.visits("/").app_cookies(), "csrf=first-value");
    world.told();

    eve.holds("csrf", "first-value");
    assert_eq!(eve.visits("/").app_cookies(), "", "without our session");
    assert_eq!(world.told(), ["cookie.missing_companion"]);

    eve.forgets("csrf").visits("/?other-value").ok();
    world.told();
    eve.holds("csrf", "first-value");
    assert_eq!(eve.visits("/").app_cookies(), "", "beside another session");
    assert_eq!(world.told(), ["cookie.bound_elsewhere"]);

    alice.holds("csrf", "made-up-value");
    assert_eq!(alice.visits("/").app_cookies(), "");
    alice.forgets("csrf");
    assert_eq!(alice.visits("/").ok().app_cookies(), "", "its absence is no fault");
}

#[test]
fn a_replaced_value_of_a_bound_cookie_is_good_for_the_grace() {
    let world = binding();
    let alice = world.browser("alice");
    alice.visits("/?first-value").ok();
    alice.visits("/?second-value").ok();
    alice.holds("csrf", "first-value");
    world.after(seconds(59));
    assert_eq!(alice.visits("/").app_cookies(), "csrf=first-value");
    world.after(seconds(1));
    assert_eq!(alice.visits("/").app_cookies(), "");
    alice.holds("csrf", "second-value");
    assert_eq!(alice.visits("/").app_cookies(), "csrf=second-value");
}

#[test]
fn of_several_values_of_a_bound_cookie_the_present_one_passes() {
    let world = binding();
    let alice = world.browser("alice");
    alice.visits("/?first-value").ok();
    alice.visits("/?second-value").ok();
    let ours = format!("{OURS}={}", alice.ours().unwrap());
    let seen = |csrf: &str| {
        let cookies = format!("{csrf}; {ours}");
        alice.asks(Ask::page("/").header("cookie", &cookies)).app_cookies().to_owned()
    };
    assert_eq!(seen("csrf=first-value"), "csrf=first-value");
    assert_eq!(seen("csrf=first-value; csrf=second-value"), "csrf=second-value");
    assert_eq!(seen("csrf=second-value; csrf=first-value"), "csrf=second-value");
    assert_eq!(seen("csrf=second-value; csrf=second-value"), "csrf=second-value");
    assert_eq!(seen("csrf=first-value; csrf=first-value"), "");
}

#[test]
fn the_newest_bound_cookies_pass_however_many_there_were_and_drive_out_no_other() {
    let world = World::new(rules().bind("csrf").bind("token"));
    world.app(|request| match request.uri.path().strip_prefix("/item/") {
        Some(item) => AppAnswer::ok().set_cookie(&format!("csrf=of-item-{item}; Path=/item/{item}")),
        None => AppAnswer::ok().set_cookie("token=of-the-login; Path=/"),
    });
    let alice = world.browser("alice");
    alice.visits("/").ok();
    for item in 10..40 {
        alice.visits(&format!("/item/{item}")).ok();
        let cookies = format!("token=of-the-login; csrf=of-item-{item}");
        let all = format!("{cookies}; {OURS}={}", alice.ours().unwrap());
        assert_eq!(alice.asks(Ask::page("/").header("cookie", &all)).app_cookies(), cookies);
    }
    // A flood of them is not compared to its end.
    let ours = alice.ours().unwrap();
    let flood = format!("{}{OURS}={ours}", "csrf=of-item-39x; ".repeat(100) + "token=of-the-login; ");
    assert_eq!(alice.asks(Ask::page("/").header("cookie", &flood)).app_cookies(), "");
}

#[test]
fn bound_cookies_of_one_name_and_two_paths_are_two() {
    let world = binding();
    world.app(|request| match request.uri.path() {
        "/begin" => AppAnswer::ok()
            .set_cookie("csrf=for-all; Path=/")
            .set_cookie("csrf=for-the-admin; Path=/admin")
            .set_cookie("csrf=; Path=/old; Max-Age=0"),
        _ => AppAnswer::ok(),
    });
    let alice = world.browser("alice");
    alice.visits("/begin").ok();
    world.after(minutes(5));
    let ours = format!("{OURS}={}", alice.ours().unwrap());
    for sent in ["csrf=for-all", "csrf=for-the-admin", "csrf=for-the-admin; csrf=for-all"] {
        let page = alice.asks(Ask::page("/admin").header("cookie", &format!("{sent}; {ours}")));
        assert_eq!(page.app_cookies(), sent);
    }
}

#[test]
fn a_bound_cookie_that_is_set_to_the_same_value_again_is_not_written_again() {
    let world = binding();
    let alice = world.browser("alice");
    alice.visits("/?first-value").ok();
    world.store().writes();
    for _ in 0..20 {
        alice.visits("/?first-value").ok();
    }
    assert_eq!(world.store().writes(), 0);
}

#[test]
fn a_bound_cookie_stays_bound_when_the_id_changes() {
    let world = World::new(rules().bind("csrf"));
    let alice = world.browser("alice");
    world.answers(AppAnswer::ok().set_cookie("csrf=first-value; Path=/"));
    alice.visits("/").ok();
    world.reopens_the_shop();
    alice.logs_in("alice").ok();
    assert_eq!(alice.visits("/account").is("alice").app_cookies(), "csrf=first-value; sessionid=app-session-0001");
}

// ---- adoption ------------------------------------------------------------------------------------------------------

#[test]
fn a_cookie_from_before_the_guard_is_taken_over_once() {
    let world = World::new(rules().adopt_until(START.after(hours(24))));
    let (alice, eve) = (world.browser("alice"), world.browser("eve"));
    alice.holds("sessionid", "from-before");
    let page = alice.visits("/").ok();
    assert_eq!(page.app_cookies(), "sessionid=from-before");
    assert_eq!(page.ours().len(), 1);
    assert_eq!(alice.cookie("sessionid"), None, "the client's copy is expired");
    assert_eq!(world.told(), ["session.adopted", "session.created"]);
    assert_eq!(alice.visits("/").app_cookies(), "sessionid=from-before");
    let session = world.session();
    assert!(session.subject.is_none() && !session.is_authenticated());

    eve.holds("sessionid", "from-before");
    assert_eq!(eve.visits("/").is_stranger().app_cookies(), "");
    assert_eq!(world.told(), ["cookie.shielded"]);
}

#[test]
fn nothing_is_taken_over_beside_our_cookie_or_after_the_date() {
    let world = World::new(rules().adopt_until(START.after(hours(24))).idle(hours(48)).absolute(hours(96)));
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    alice.holds("sessionid", "planted-value");
    assert_eq!(alice.visits("/account").is("alice").app_cookies(), "sessionid=app-session-0001");
    world.after(hours(24));
    let bob = world.browser("bob");
    bob.holds("sessionid", "too-late-value");
    bob.visits("/").is_stranger();
}

#[test]
fn taking_over_is_limited_like_other_new_sessions_and_loses_no_cookie() {
    let limited = rules().limits(|limits| {
        limits.anonymous_sessions = rate("2/1m burst 2");
    });
    let world = World::new(limited.adopt_until(START.after(hours(24))));
    for name in ["a", "b"] {
        let browser = world.browser(name);
        browser.holds("sessionid", &format!("from-before-{name}"));
        assert_eq!(browser.visits("/").ok().ours().len(), 1);
    }
    world.told();
    let late = world.browser("late");
    late.holds("sessionid", "from-before-late");
    late.visits("/").is_stranger().sets_nothing_of_ours();
    assert_eq!(world.told(), ["rate.limited"]);
    assert_eq!(late.cookie("sessionid").as_deref(), Some("from-before-late"), "it may come again");
    world.after(minutes(1));
    assert_eq!(late.visits("/").ok().app_cookies(), "sessionid=from-before-late");
}

#[test]
fn a_request_under_way_while_its_cookie_is_taken_over_spoils_nothing() {
    let world = World::new(rules().adopt_until(START.after(hours(24))));
    world.app(|request| match request.headers.get("cookie") {
        Some(_) => AppAnswer::ok(),
        None => AppAnswer::ok().set_cookie("sessionid=for-a-stranger; Path=/; HttpOnly"),
    });
    let alice = world.browser("alice");
    alice.holds("sessionid", "from-before");
    let first = alice.sends(Ask::page("/")).lands_unseen().sets_ours();
    let second = alice.visits("/frame");
    assert_eq!((second.app_cookies(), second.set_cookies()), (String::new(), Vec::new()));
    alice.keeps(&first);
    assert_eq!(alice.visits("/").app_cookies(), "sessionid=from-before");
    // Whoever comes with it later is a stranger, and his copy is expired.
    world.after(minutes(1));
    let eve = world.browser("eve");
    eve.holds("sessionid", "from-before");
    eve.visits("/").is_stranger();
    assert_eq!(eve.cookie("sessionid"), None);
}

#[test]
fn an_app_cookie_is_named_in_events_and_its_value_never() {
    let world = shop();
    let eve = world.browser("eve");
    eve.holds("sessionid", "a-secret-value");
    eve.visits("/").ok();
    let told = world.told_of(Kind::CookieShielded);
    let Event::CookieShielded(event) = told.event else { panic!("another event") };
    assert_eq!(event.cookie.as_str(), "sessionid");
}

#[test]
fn two_requests_with_one_cookie_from_before_take_it_over_once() {
    let world = World::new(rules().adopt_until(START.after(hours(24))));
    let alice = world.browser("alice");
    alice.holds("sessionid", "from-before");
    let (page, part) = (alice.sends(Ask::page("/")), alice.sends(Ask::fetch("/numbers")));
    let part = part.lands();
    assert_eq!((part.app_cookies().as_str(), part.ours().len()), ("sessionid=from-before", 1));
    let page = page.lands().sets_nothing_of_ours();
    assert_eq!(page.app_cookies(), "sessionid=from-before", "it was under way already");
    assert_eq!(world.sessions().len(), 1);
    assert_eq!(alice.visits("/").app_cookies(), "sessionid=from-before");
}

#[test]
fn a_cookie_from_before_outlives_a_request_that_breaks_off_and_a_store_that_fails() {
    let world = World::new(rules().adopt_until(START.after(hours(24))));
    let alice = world.browser("alice");
    alice.holds("sessionid", "from-before");
    drop(alice.sends(Ask::page("/")));
    world.store().fails();
    alice.visits("/").is_stranger().sets_nothing_of_ours();
    world.store().recovers();
    assert_eq!(alice.cookie("sessionid").as_deref(), Some("from-before"));
    // The store fails when the answer is there, before and after the session was written.
    for writes in [0, 1] {
        let flight = alice.sends(Ask::page("/"));
        world.store().fails_after(writes);
        flight.lands();
        world.store().recovers();
        assert_eq!(alice.cookie("sessionid").as_deref(), Some("from-before"));
    }
    assert_eq!(alice.visits("/").ok().app_cookies(), "sessionid=from-before");
    assert_eq!(alice.visits("/").app_cookies(), "sessionid=from-before");
}

// ---- what the app did and what is left of it -----------------------------------------------------------------------

#[test]
fn an_answer_whose_shielded_cookie_was_taken_off_stays_private() {
    let check = |answer: AppAnswer, expected: Option<&str>| {
        let world = World::new(rules());
        let alice = world.browser("alice");
        alice.logs_in("alice").ok();
        world.answers(answer);
        let page = alice.visits("/").ok();
        assert_eq!(page.header("cache-control"), expected);
    };
    let sets = || AppAnswer::ok().set_cookie("sessionid=app-session-0001; Path=/; HttpOnly");
    check(sets(), Some("private"));
    check(sets().header("cache-control", "no-cache"), Some("no-cache"));
    check(sets().header("cache-control", "public, max-age=60"), Some("private, max-age=60"));
    check(AppAnswer::ok().header("cache-control", "public, max-age=60"), Some("public, max-age=60"));
    check(AppAnswer::ok(), None);
}

#[test]
fn a_deleted_bound_cookie_is_good_for_the_grace_and_no_longer() {
    let world = binding();
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    world.answers(AppAnswer::ok().set_cookie("csrf=first-value; Path=/"));
    alice.visits("/").ok();
    let kept = alice.cookie("csrf").unwrap();
    world.answers(AppAnswer::ok().set_cookie("csrf=; Path=/; Max-Age=0"));
    alice.visits("/").ok();
    assert_eq!(alice.cookie("csrf"), None);
    world.answers(AppAnswer::ok());
    alice.holds("csrf", &kept);
    assert_eq!(alice.visits("/").app_cookie("csrf").as_deref(), Some("first-value"));
    world.after(seconds(60));
    assert_eq!(alice.visits("/").app_cookie("csrf"), None);
    assert!(world.told().contains(&"cookie.bound_elsewhere"));
}

#[test]
fn a_jar_is_sealed_under_the_new_key_before_the_old_one_leaves() {
    let key = |number: u8| MasterKey::new(KeyId(number), [number + 6; 32]);
    let world = World::new(rules());
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    world.guard().replace_keys(Keyring::new(&key(2), &[key(1)]));
    world.after(minutes(2));
    alice.visits("/account").is("alice").sets_ours();
    world.guard().replace_keys(Keyring::new(&key(2), &[]));
    alice.visits("/account").is("alice");

    // One that was not used in between can not be opened any more, and that is said.
    world.guard().replace_keys(Keyring::new(&key(3), &[]));
    world.told();
    assert_eq!(alice.visits("/account").app_cookies(), "");
    let told = world.told_of(Kind::DependencyFailed);
    assert!(matches!(&told.event, Event::DependencyFailed(event) if event.fault.as_str().contains("key")));
}

#[test]
fn a_cookie_that_no_browser_would_keep_is_told() {
    let world = shop();
    let alice = world.browser("alice");
    world.answers(AppAnswer::ok().set_cookie("sessionid=a-stray-value; Path=/; Domain=elsewhere.example"));
    alice.visits("/").ok().sets_nothing_of_ours();
    let told = world.told_of(Kind::DependencyFailed);
    assert!(matches!(&told.event, Event::DependencyFailed(event) if event.fault.as_str().contains("Domain")));
}

#[test]
fn browsers_are_asked_for_exact_versions_with_pages_over_https_where_it_is_wanted() {
    use portcullis::rules::ExactHints;
    let asked = |hints, ask: Ask| {
        let world = World::new(rules().with(|policy| policy.cookies.hints = hints));
        let page = world.browser("alice").asks(ask).ok();
        page.headers().get("accept-ch").map(|line| line.to_str().unwrap().to_owned())
    };
    let line = asked(ExactHints::Asked, Ask::page("/")).unwrap();
    for hint in ["Full-Version-List", "Platform-Version", "Model", "Arch", "Bitness"] {
        assert!(line.contains(&format!("Sec-CH-UA-{hint}")), "{line}");
    }
    assert_eq!(asked(ExactHints::Asked, Ask::fetch("/")), None);
    assert_eq!(asked(ExactHints::Asked, Ask::page("/").over_http()), None);
    assert_eq!(asked(ExactHints::Unasked, Ask::page("/")), None);
}
