//! How long sessions last, and what their cookies say of it.

use std::time::Duration;

use http::StatusCode;
use portcullis::event::Kind;
use portcullis::layer::{Expiry, Session, Standing};
use portcullis::session::cookie::Persist;
use portcullis::session::expiry::{Deadlines, Span};

use super::world::{Client, World, ok};

const MINUTE: Duration = Duration::from_secs(60);

/// A world in which a session lasts an hour without use, and a day in all.
fn world() -> World {
    let deadlines = Deadlines { idle: 60 * MINUTE, absolute: 24 * 60 * MINUTE, longest: None };
    World::with(|builder| builder.deadlines(deadlines).persist(Persist::Absolute))
}

async fn expiring(world: &World, expiry: Expiry) -> (Client, Option<String>) {
    let mut alice = Client::at_home();
    let answer = world.visit(&mut alice, async move |session: Session| {
        session.insert("a", &1).unwrap();
        session.set_expiry(expiry);
        assert_eq!(session.expiry(), expiry);
        ok()
    });
    let line = answer.await.cookie_line();
    (alice, line)
}

async fn lives(world: &World, client: &mut Client) -> bool {
    let kept = world.keep_handle(client, |_| ()).await;
    kept.standing() == Standing::Session
}

#[tokio::test]
async fn seconds_count_from_the_last_use() {
    let world = world();
    let (mut alice, _) = expiring(&world, Expiry::AfterIdle(10 * MINUTE)).await;
    for _ in 0..4 {
        world.clock.advance(9 * MINUTE);
        assert!(lives(&world, &mut alice).await);
    }
    world.clock.advance(10 * MINUTE);
    assert!(!lives(&world, &mut alice).await);
}

#[tokio::test]
async fn that_a_session_lasts_longer_is_told_and_that_it_ends_sooner_is_not() {
    let world = world();
    let (mut alice, _) = expiring(&world, Expiry::AfterIdle(10 * MINUTE)).await;
    let renewed = async |alice: &mut Client, expiry: Expiry| {
        let told = |world: &World| world.kinds().iter().filter(|kind| **kind == Kind::SessionRenewed).count();
        let before = told(&world);
        let visit = world.visit(alice, async move |session: Session| {
            session.set_expiry(expiry);
            ok()
        });
        visit.await;
        told(&world) - before
    };
    assert_eq!(renewed(&mut alice, Expiry::AfterIdle(10 * MINUTE)).await, 0);
    assert_eq!(renewed(&mut alice, Expiry::AfterIdle(20 * MINUTE)).await, 1);
    assert_eq!(renewed(&mut alice, Expiry::AfterIdle(5 * MINUTE)).await, 0);
    assert_eq!(renewed(&mut alice, Expiry::Default).await, 1);
    // A handle that is kept after the answer too.
    let kept = world.keep_handle(&mut alice, |session| session.set_expiry(Expiry::AfterIdle(MINUTE))).await;
    kept.set_expiry(Expiry::AfterIdle(30 * MINUTE));
    kept.save().await.unwrap();
    assert_eq!(world.kinds().iter().filter(|kind| **kind == Kind::SessionRenewed).count(), 3);
    // And a session that gets a new id with it.
    let visit = world.visit(&mut alice, async |session: Session| {
        session.set_expiry(Expiry::AfterIdle(40 * MINUTE));
        session.cycle_id();
        ok()
    });
    visit.await;
    assert_eq!(world.kinds().iter().filter(|kind| **kind == Kind::SessionRenewed).count(), 4);
}

#[tokio::test]
async fn a_date_is_an_end_however_much_the_session_is_used() {
    let world = world();
    let ends = portcullis::clock::Clock::now(&*world.clock).after(15 * MINUTE);
    let (mut alice, line) = expiring(&world, Expiry::At(ends)).await;
    assert!(line.unwrap().ends_with("Max-Age=900"));
    world.clock.advance(14 * MINUTE);
    assert!(lives(&world, &mut alice).await);
    world.clock.advance(MINUTE);
    assert!(!lives(&world, &mut alice).await);
}

#[tokio::test]
async fn until_the_browser_closes_the_cookie_has_no_age() {
    let world = world();
    let (_, line) = expiring(&world, Expiry::AtBrowserClose).await;
    assert!(!line.unwrap().contains("Max-Age"));
    let (mut alice, line) = expiring(&world, Expiry::Default).await;
    assert!(line.unwrap().ends_with("Max-Age=86400"));
    let answer = world.visit(&mut alice, async |session: Session| {
        assert!(!session.expires_at_browser_close());
        session.set_expiry(Expiry::AtBrowserClose);
        assert!(session.expires_at_browser_close());
        ok()
    });
    let line = answer.await.cookie_line().unwrap();
    assert!(!line.contains("Max-Age"), "the browser is told at once: {line}");
    let answer = world.visit(&mut alice, async |session: Session| {
        assert_eq!(session.expiry(), Expiry::AtBrowserClose);
        session.set_expiry(Expiry::Default);
        ok()
    });
    assert!(answer.await.cookie_line().unwrap().contains("Max-Age"));
}

#[tokio::test]
async fn an_expiry_makes_a_session_shorter_and_never_longer_than_the_guard_lets_it() {
    let world = world();
    let (mut alice, _) = expiring(&world, Expiry::AfterIdle(100 * 60 * MINUTE)).await;
    world
        .visit(&mut alice, async |session: Session| {
            assert_eq!(session.expiry_age(), 60 * MINUTE);
            ok()
        })
        .await;
    world.clock.advance(60 * MINUTE);
    assert!(!lives(&world, &mut alice).await);
    let far = portcullis::clock::Clock::now(&*world.clock).after(100 * 60 * MINUTE);
    let (_, line) = expiring(&world, Expiry::At(far)).await;
    assert!(line.unwrap().ends_with("Max-Age=86400"));
}

#[tokio::test]
async fn who_asks_to_be_remembered_is_and_nobody_else() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let longest = Some(Span { idle: 14 * DAY, absolute: 90 * DAY });
    let deadlines = Deadlines { idle: 60 * MINUTE, absolute: DAY, longest };
    let world = World::with(|builder| builder.deadlines(deadlines).persist(Persist::Absolute));
    let (mut alice, mut bob) = (Client::at_home(), Client::at("203.0.113.11"));
    for (client, is_remembered) in [(&mut alice, true), (&mut bob, false)] {
        let answer = world.visit(client, async move |session: Session| {
            session.log_in(if is_remembered { "alice" } else { "bob" }).unwrap();
            if is_remembered {
                session.set_expiry(Expiry::AfterIdle(14 * DAY));
                assert_eq!(session.expiry_age(), 14 * DAY);
            }
            ok()
        });
        let (line, days) = (answer.await.cookie_line().unwrap(), if is_remembered { 90 } else { 1 });
        assert!(line.ends_with(&format!("Max-Age={}", days * DAY.as_secs())), "{line}");
    }
    // A cart that is kept for long makes nobody remembered who logs in with it.
    let mut carol = Client::at("203.0.113.12");
    let visit = world.visit(&mut carol, async move |session: Session| {
        session.insert("cart", &1).unwrap();
        session.set_expiry(Expiry::AfterIdle(14 * DAY));
        ok()
    });
    visit.await;
    let visit = world.visit(&mut carol, async |session: Session| {
        session.log_in("carol").unwrap();
        ok()
    });
    visit.await;
    let visit = world.visit(&mut carol, async |session: Session| {
        assert_eq!((session.expiry(), session.expiry_age()), (Expiry::Default, 60 * MINUTE));
        ok()
    });
    visit.await;
    // Who proves again who he is goes on being remembered, and nobody else in his place.
    let mut dave = Client::at("203.0.113.13");
    for (subject, wishes, expiry) in [
        ("dave", Some(Expiry::AfterIdle(14 * DAY)), Expiry::AfterIdle(14 * DAY)),
        ("dave", None, Expiry::AfterIdle(14 * DAY)),
        ("erin", None, Expiry::Default),
    ] {
        let visit = world.visit(&mut dave, async move |session: Session| {
            session.log_in(subject).unwrap();
            if let Some(wish) = wishes {
                session.set_expiry(wish);
            }
            ok()
        });
        visit.await;
        let visit = world.visit(&mut dave, async move |session: Session| {
            assert_eq!((session.subject().as_deref(), session.expiry()), (Some(subject), expiry));
            ok()
        });
        visit.await;
    }
    for nth in 0..100 {
        world.clock.advance(20 * 60 * MINUTE);
        assert!(lives(&world, &mut alice).await, "{nth}");
        assert!(!lives(&world, &mut bob).await);
    }
    let kept = world.keep_handle(&mut alice, |_| ()).await;
    assert!(kept.require_fresh(60 * MINUTE).is_err(), "who was remembered has not just logged in");
    for _ in 0..8 {
        world.clock.advance(20 * 60 * MINUTE);
        world.visit(&mut alice, async |_: Session| ok()).await;
    }
    assert!(!lives(&world, &mut alice).await, "three months are over");
}

#[tokio::test]
async fn age_and_date_tell_when_the_session_ends_if_it_is_not_used() {
    let world = world();
    let mut alice = Client::at_home();
    let now = portcullis::clock::Clock::now(&*world.clock);
    world
        .visit(&mut alice, async move |session: Session| {
            assert_eq!(session.expiry_age(), 60 * MINUTE);
            session.set_expiry(Expiry::AfterIdle(5 * MINUTE));
            assert_eq!((session.expiry_age(), session.expiry_date()), (5 * MINUTE, now.after(5 * MINUTE)));
            session.set_expiry(Expiry::At(now.after(7 * MINUTE)));
            assert_eq!(session.expiry_age(), 7 * MINUTE);
            session.set_expiry(Expiry::Default);
            session.insert("a", &1).unwrap();
            ok()
        })
        .await;
    world.clock.advance(45 * MINUTE);
    for _ in 0..31 {
        assert!(lives(&world, &mut alice).await);
        world.clock.advance(45 * MINUTE);
    }
    // 24 hours are over now, with the last of them used.
    assert!(!lives(&world, &mut alice).await);
}

#[tokio::test]
async fn an_expiry_of_a_visitor_outlives_his_login_and_an_end_does_not() {
    let world = world();
    let ends = portcullis::clock::Clock::now(&*world.clock).after(15 * MINUTE);
    for (expiry, after) in [
        (Expiry::AfterIdle(5 * MINUTE), Expiry::AfterIdle(5 * MINUTE)),
        (Expiry::AtBrowserClose, Expiry::AtBrowserClose),
        (Expiry::At(ends), Expiry::Default),
    ] {
        let (mut alice, _) = expiring(&world, expiry).await;
        world.log_in(&mut alice, "alice").await;
        world
            .visit(&mut alice, async move |session: Session| {
                assert_eq!(session.expiry(), after);
                ok()
            })
            .await;
    }
}

#[tokio::test]
async fn an_expiry_on_an_answer_that_failed_is_not_kept() {
    let world = world();
    let (mut alice, _) = expiring(&world, Expiry::Default).await;
    world
        .visit(&mut alice, async |session: Session| {
            session.set_expiry(Expiry::AfterIdle(MINUTE));
            StatusCode::BAD_GATEWAY
        })
        .await;
    world.clock.advance(5 * MINUTE);
    assert!(lives(&world, &mut alice).await);
}
