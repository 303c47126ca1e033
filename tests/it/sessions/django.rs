//! What Django's documentation of sessions says, one story for each of it: what we do, and where we do otherwise.
//!
//! The table in the manual (`sessions`, "From Django") names each of these tests.

use std::time::Duration;

use http::{Response, StatusCode};
use portcullis::engine::Selection;
use portcullis::event::Kind;
use portcullis::event::field::Revoker;
use portcullis::layer::{Session, Standing};
use portcullis::session::cookie::{GuardCookieSettings, GuardSameSite, Persist, SameSite};

use super::world::{Client, Empty, World, ok};

#[tokio::test]
async fn django_a_session_is_a_dictionary() {
    let world = World::new();
    let mut alice = Client::at_home();
    world.begin(&mut alice).await;
    world
        .visit(&mut alice, async |session: Session| {
            assert!(session.contains("a") && !session.contains("b"));
            assert_eq!(session.get("b").unwrap().unwrap_or("red".to_owned()), "red");
            session.insert("b", "blue").unwrap();
            assert_eq!(session.pop::<String>("b").unwrap().as_deref(), Some("blue"));
            assert_eq!(session.pop::<String>("b").unwrap(), None);
            assert_eq!(session.set_default("c", &7).unwrap(), 7);
            assert_eq!(session.keys(), ["a", "c"]);
            session.clear();
            assert!(session.is_empty());
            ok()
        })
        .await;
}

#[tokio::test]
async fn django_no_cookie_is_sent_to_a_visitor_who_was_given_nothing() {
    let world = World::new();
    let mut alice = Client::at_home();
    let answer = world.visit(&mut alice, async |session: Session| {
        assert_eq!(session.get::<u8>("a").unwrap(), None);
        session.insert("a", &1).unwrap();
        session.remove("a");
        ok()
    });
    assert_eq!(answer.await.cookie_line(), None);
    assert_eq!(world.writes(), 0);
}

#[tokio::test]
async fn django_a_session_is_saved_only_when_it_was_modified() {
    let world = World::new();
    let mut alice = Client::at_home();
    world.begin(&mut alice).await;
    let writes = world.writes();
    let answer = world.visit(&mut alice, async |session: Session| {
        assert_eq!(session.get("a").unwrap(), Some(1));
        ok()
    });
    assert_eq!(answer.await.cookie_line(), None);
    assert_eq!(world.writes(), writes);
}

#[tokio::test]
async fn django_a_session_can_be_saved_with_every_request() {
    let world = World::with(portcullis::layer::GuardBuilder::save_every_request);
    let mut alice = Client::at_home();
    world.begin(&mut alice).await;
    for _ in 0..3 {
        let writes = world.writes();
        world.clock.advance(Duration::from_secs(1));
        world.visit(&mut alice, async |_: Session| ok()).await;
        assert_eq!(world.writes(), writes + 1);
        let now = portcullis::clock::Clock::now(&*world.clock);
        assert_eq!(world.records().await[0].last_seen, now);
    }
}

#[tokio::test]
async fn django_nothing_is_saved_with_an_answer_that_failed() {
    let world = World::new();
    let mut alice = Client::at_home();
    world.begin(&mut alice).await;
    let answer = world.visit(&mut alice, async |session: Session| {
        session.insert("a", &2).unwrap();
        session.log_in("alice").unwrap();
        StatusCode::INTERNAL_SERVER_ERROR
    });
    assert_eq!(answer.await.cookie_line(), None, "nobody was logged in");
    world
        .visit(&mut alice, async |session: Session| {
            assert_eq!((session.get("a").unwrap(), session.subject()), (Some(1), None));
            session.log_out();
            StatusCode::INTERNAL_SERVER_ERROR
        })
        .await;
    assert!(world.records().await.is_empty(), "what an answer ends, ends");
}

#[tokio::test]
async fn django_an_answer_that_depends_on_the_session_varies_by_cookie() {
    let world = World::new();
    let mut alice = Client::at_home();
    let vary = async |handler: fn(&Session), said: Option<&'static str>| {
        let mut client = alice.clone();
        let answer = world.visit(&mut client, async move |session: Session| {
            handler(&session);
            let mut response = Response::new(Empty);
            if let Some(said) = said {
                response.headers_mut().insert("vary", said.parse().unwrap());
            }
            response
        });
        let headers = answer.await.headers;
        headers.get_all("vary").iter().map(|line| line.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(vary(|_| (), None).await, [""; 0]);
    assert_eq!(vary(|session| drop(session.get::<u8>("a")), None).await, ["Cookie"]);
    assert_eq!(vary(|session| drop(session.subject()), None).await, ["Cookie"]);
    assert_eq!(vary(|session| drop(session.keys()), Some("Accept, cookie")).await, ["Accept, cookie"]);
    assert_eq!(vary(|session| drop(session.keys()), Some("Accept")).await, ["Accept", "Cookie"]);
    world.begin(&mut alice).await;
}

#[tokio::test]
async fn django_a_session_in_which_nothing_is_left_loses_its_cookie_and_its_record() {
    let world = World::new();
    let mut alice = Client::at_home();
    world.begin(&mut alice).await;
    let answer = world.visit(&mut alice, async |session: Session| {
        session.remove("a");
        ok()
    });
    assert!(answer.await.clears_cookie());
    assert!(world.records().await.is_empty());
    // Somebody who is logged in stays so, whatever is in his session.
    world.log_in(&mut alice, "alice").await;
    world.begin(&mut alice).await;
    let answer = world.visit(&mut alice, async |session: Session| {
        session.clear();
        ok()
    });
    assert!(!answer.await.clears_cookie());
    assert_eq!(world.records().await.len(), 1);
}

#[tokio::test]
async fn django_flush_ends_the_session_and_takes_its_cookie() {
    let world = World::new();
    let mut alice = Client::at_home();
    world.begin(&mut alice).await;
    let mut old = alice.clone();
    let answer = world.visit(&mut alice, async |session: Session| {
        session.flush();
        assert!(session.is_empty());
        ok()
    });
    assert!(answer.await.clears_cookie());
    world
        .visit(&mut old, async |session: Session| {
            assert!(session.is_empty() && session.standing() == Standing::Visitor);
            ok()
        })
        .await;
}

#[tokio::test]
async fn django_what_is_written_after_a_flush_belongs_to_a_new_session() {
    let world = World::new();
    let mut alice = Client::at_home();
    world.begin(&mut alice).await;
    let (old, reference) = (alice.clone(), world.records().await[0].reference);
    world
        .visit(&mut alice, async |session: Session| {
            session.flush();
            session.insert("b", &2).unwrap();
            ok()
        })
        .await;
    assert_ne!(alice.cookie, old.cookie);
    let records = world.records().await;
    assert!(records.len() == 1 && records[0].reference != reference, "another session, by every name");
    world
        .visit(&mut alice, async |session: Session| {
            assert_eq!((session.get::<u8>("a").unwrap(), session.get("b").unwrap()), (None, Some(2)));
            ok()
        })
        .await;
}

#[tokio::test]
async fn django_cycle_key_gives_a_new_id_and_keeps_the_data() {
    let world = World::new();
    let mut alice = Client::at_home();
    world.begin(&mut alice).await;
    let mut old = alice.clone();
    world
        .visit(&mut alice, async |session: Session| {
            session.cycle_id();
            session.insert("b", &2).unwrap();
            ok()
        })
        .await;
    assert_ne!(alice.cookie, old.cookie);
    world
        .visit(&mut alice, async |session: Session| {
            assert_eq!((session.get("a").unwrap(), session.get("b").unwrap()), (Some(1), Some(2)));
            ok()
        })
        .await;
    world.clock.advance(Duration::from_secs(61));
    world
        .visit(&mut old, async |session: Session| {
            assert!(session.is_empty());
            ok()
        })
        .await;
}

#[tokio::test]
async fn django_a_login_keeps_what_a_visitor_collected_under_a_new_id() {
    let world = World::new();
    let mut alice = Client::at_home();
    world.begin(&mut alice).await;
    let old = alice.clone();
    world.log_in(&mut alice, "alice").await;
    assert_ne!(alice.cookie, old.cookie);
    world
        .visit(&mut alice, async |session: Session| {
            assert_eq!((session.get("a").unwrap(), session.subject().as_deref()), (Some(1), Some("alice")));
            assert_eq!(session.authenticated_at(), Some(session.expiry_date().before(Duration::from_secs(1800))));
            ok()
        })
        .await;
    // The same subject again: his data stay.
    world.log_in(&mut alice, "alice").await;
    world
        .visit(&mut alice, async |session: Session| {
            assert_eq!(session.get("a").unwrap(), Some(1));
            ok()
        })
        .await;
}

#[tokio::test]
async fn django_another_subject_does_not_see_what_the_one_before_had() {
    let world = World::new();
    let mut alice = Client::at_home();
    world.log_in(&mut alice, "alice").await;
    world.begin(&mut alice).await;
    world
        .visit(&mut alice, async |session: Session| {
            session.log_in("bob").unwrap();
            assert!(session.is_empty(), "at once, before anything of it could be shown");
            session.insert("b", &2).unwrap();
            ok()
        })
        .await;
    world
        .visit(&mut alice, async |session: Session| {
            assert_eq!(session.subject().as_deref(), Some("bob"));
            assert_eq!((session.get::<u8>("a").unwrap(), session.get("b").unwrap()), (None, Some(2)));
            ok()
        })
        .await;
}

#[tokio::test]
async fn django_a_login_after_a_flush_begins_a_session_of_its_own() {
    let world = World::new();
    let mut alice = Client::at_home();
    world.log_in(&mut alice, "alice").await;
    let reference = world.records().await[0].reference;
    world
        .visit(&mut alice, async |session: Session| {
            session.flush();
            session.log_in("alice").unwrap();
            session.insert("b", &2).unwrap();
            assert_eq!(session.subject().as_deref(), Some("alice"));
            ok()
        })
        .await;
    let records = world.records().await;
    assert!(records.len() == 1 && records[0].reference != reference);
    assert_eq!(records[0].subject.as_deref(), Some("alice"));
    assert!(world.kinds().contains(&Kind::SessionLogout));
}

#[tokio::test]
async fn django_test_cookies_tell_whether_a_browser_keeps_cookies() {
    let world = World::new();
    let mut alice = Client::at_home();
    world
        .visit(&mut alice, async |session: Session| {
            assert!(!session.test_cookie_worked());
            session.set_test_cookie().unwrap();
            ok()
        })
        .await;
    world
        .visit(&mut Client::at_home(), async |session: Session| {
            assert!(!session.test_cookie_worked());
            ok()
        })
        .await;
    world
        .visit(&mut alice, async |session: Session| {
            assert!(session.test_cookie_worked());
            session.delete_test_cookie();
            ok()
        })
        .await;
    assert_eq!(alice.cookie, None);
}

#[tokio::test]
async fn django_a_session_that_vanished_is_an_error_and_does_not_come_back() {
    let world = std::sync::Arc::new(World::new());
    let mut alice = Client::at_home();
    world.begin(&mut alice).await;
    let inner = world.clone();
    let answer = world.visit(&mut alice, async move |session: Session| {
        session.insert("a", &2).unwrap();
        inner.guard.revoke(&Selection::All, Revoker::Admin).await.unwrap();
        ok()
    });
    assert_eq!(answer.await.status, StatusCode::CONFLICT);
    assert!(world.records().await.is_empty());
}

#[tokio::test]
async fn django_an_id_that_was_made_up_is_not_adopted() {
    let world = World::new();
    let made_up = format!("__Host-portcullis={}.{}", "A".repeat(43), "A".repeat(22));
    let mut alice = Client::at_home();
    alice.cookie = Some(made_up.clone());
    world.begin(&mut alice).await;
    assert_ne!(alice.cookie, Some(made_up));
}

#[tokio::test]
async fn django_the_cookie_has_the_attributes_that_were_set() {
    let line = async |settings: GuardCookieSettings, persist: Persist| {
        let world = World::with(|builder| builder.cookie(settings).persist(persist));
        let mut alice = Client::at_home();
        let answer = world.visit(&mut alice, async |session: Session| {
            session.insert("a", &1).unwrap();
            ok()
        });
        answer.await.cookie_line().unwrap()
    };
    let default = GuardCookieSettings::default();
    assert_eq!(line(default.clone(), Persist::Session).await, "Secure; HttpOnly; SameSite=Lax; Path=/");
    assert_eq!(line(default.clone(), Persist::Absolute).await, "Secure; HttpOnly; SameSite=Lax; Path=/; Max-Age=43200");
    let shared = GuardCookieSettings {
        name: "__Secure-shop".to_owned(),
        domain: Some("example.com".to_owned()),
        same_site: GuardSameSite::Fixed(SameSite::Strict),
        ..default.clone()
    };
    assert_eq!(line(shared, Persist::Session).await, "Secure; HttpOnly; SameSite=Strict; Path=/; Domain=example.com");
    let embedded = GuardCookieSettings {
        same_site: GuardSameSite::Fixed(SameSite::None),
        partition: portcullis::session::cookie::Partition::BySite,
        ..default.clone()
    };
    assert_eq!(line(embedded, Persist::Session).await, "Secure; HttpOnly; SameSite=None; Path=/; Partitioned");
    let below = GuardCookieSettings { name: "__Secure-shop".to_owned(), path: "/shop".to_owned(), ..default };
    assert_eq!(line(below, Persist::Session).await, "Secure; HttpOnly; SameSite=Lax; Path=/shop");
}

#[tokio::test]
async fn django_sessions_that_are_over_are_cleared_from_the_store() {
    let world = World::new();
    for _ in 0..3 {
        world.begin(&mut Client::at_home()).await;
    }
    assert_eq!(world.guard.clear_expired().await.unwrap(), 0);
    world.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(world.guard.clear_expired().await.unwrap(), 3);
}

#[tokio::test]
async fn django_visitors_are_served_while_the_store_is_out_and_nobody_is_taken_for_another() {
    let world = World::new();
    let mut alice = Client::at_home();
    world.log_in(&mut alice, "alice").await;
    world.take_store_away();
    let (was_called, answer) = world.try_visit(&mut alice, async |_: Session| ok()).await;
    assert!(!was_called && answer.status == StatusCode::SERVICE_UNAVAILABLE);
    let loads = world.loads();
    let mut visitor = Client::at_home();
    let answer = world.visit(&mut visitor, async |session: Session| {
        assert!(session.is_empty());
        ok()
    });
    assert_eq!((answer.await.status, world.loads()), (ok(), loads), "who has no session needs no store");
    // To whom something was given that could not be kept, that is told.
    let mut visitor = Client::at_home();
    let answer = world.visit(&mut visitor, async |session: Session| {
        session.insert("a", &1).unwrap();
        ok()
    });
    assert_eq!(answer.await.status, StatusCode::SERVICE_UNAVAILABLE);
    world.bring_store_back();
    world
        .visit(&mut alice, async |session: Session| {
            assert_eq!(session.subject().as_deref(), Some("alice"));
            ok()
        })
        .await;
}
