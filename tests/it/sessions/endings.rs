//! What an app asks to end, ends: however often it asks, whatever else fails, and nothing in the name of who was not let in.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Response, StatusCode};
use portcullis::engine::control::Command;
use portcullis::event::Kind;
use portcullis::layer::{EndedDevice, Expiry, LEFT_MAX, LogInError, SaveError, Saved, Session};
use portcullis::rules::Pack;

use super::order::{is_pending, subjects, two_devices};
use super::world::{Client, Empty, Failing, World, ok};
use crate::support::world::rules;

#[tokio::test]
async fn asking_twice_ends_as_much_as_asking_once() {
    let ways: [fn(&Session); 4] = [
        |session| {
            session.log_out_everywhere();
            session.log_out_everywhere();
        },
        |session| {
            session.log_out_everywhere();
            session.log_out_others();
        },
        |session| {
            session.log_out_others();
            session.log_out();
        },
        |session| {
            session.log_out();
            session.log_out_others();
        },
    ];
    for (nth, ask) in ways.into_iter().enumerate() {
        let (world, mut laptop, _) = two_devices().await;
        world
            .visit(&mut laptop, async move |session: Session| {
                ask(&session);
                ok()
            })
            .await;
        assert!(world.records().await.is_empty(), "{nth}");
    }
    let (world, mut laptop, _) = two_devices().await;
    world.log_in(&mut Client::abroad(None), "bob").await;
    world
        .visit(&mut laptop, async |session: Session| {
            session.log_out_everywhere();
            session.log_in("bob").unwrap();
            session.log_out_others();
            ok()
        })
        .await;
    assert_eq!(subjects(&world).await, ["bob"], "both of hers, and his other one");
}

#[tokio::test]
async fn an_answer_that_fails_ends_the_owners_sessions_whoever_was_to_be_logged_in_after_that() {
    for next in ["alice", "bob"] {
        let (world, mut laptop, _) = two_devices().await;
        let answer = world.visit(&mut laptop, async move |session: Session| {
            session.log_out_others();
            session.log_in(next).unwrap();
            StatusCode::INTERNAL_SERVER_ERROR
        });
        answer.await;
        assert_eq!(subjects(&world).await, ["alice"], "{next}: the thief is out, and nobody is in");
    }
}

#[tokio::test]
async fn whoever_a_rule_keeps_out_ends_nobodys_sessions() {
    let rule = "version = 1\nname = \"shop\"\n[[rule]]\nid = \"late\"\nwhen = 'response.status == 418'\nthen = \"terminate\"\n";
    let (world, mut laptop, _) = two_devices().await;
    world.guard.replace_policy(rules().file(&[Pack::Baseline1], rule).finish().0);
    let mut stuffer = Client::abroad(None);
    world
        .visit(&mut stuffer, async |session: Session| {
            session.log_in("alice").unwrap();
            session.log_out_others();
            StatusCode::IM_A_TEAPOT
        })
        .await;
    assert_eq!(subjects(&world).await, ["alice", "alice"], "he had her password, and was not let in");
    world
        .visit(&mut laptop, async |session: Session| {
            session.log_out_others();
            StatusCode::IM_A_TEAPOT
        })
        .await;
    assert!(world.records().await.is_empty(), "her own wish holds, and the rule ends this one too");
}

/// The client of a page goes away, and a task that has the handle goes on.
#[tokio::test]
async fn a_handle_whose_client_left_knows_that_there_is_no_answer() {
    let (world, laptop, _) = two_devices().await;
    let kept = Arc::new(Mutex::new(None));
    let keep = kept.clone();
    world
        .leave(&laptop, Method::GET, async move |session: Session| {
            *keep.lock().unwrap() = Some(session);
            std::future::pending::<StatusCode>().await
        })
        .await;
    let kept: Session = kept.lock().unwrap().take().unwrap();
    assert_eq!(kept.log_in("bob"), Err(LogInError::Answered));
    kept.log_out();
    assert_eq!(kept.save().await.unwrap(), Saved::Now);
    assert_eq!(world.records().await.len(), 1);
}

#[tokio::test]
async fn after_the_answer_nothing_is_said_to_be_kept_that_is_not() {
    let (world, mut laptop, _) = two_devices().await;
    let kept = world.keep_handle(&mut laptop, |_| ()).await;
    kept.log_out();
    kept.insert("a", &1).unwrap();
    assert!(matches!(kept.save().await, Err(SaveError::NotKept)), "there is no session to keep it in");
    assert_eq!(world.records().await.len(), 1, "and it is logged out all the same");
}

#[tokio::test]
async fn whoever_was_thrown_out_throws_out_nobody() {
    let (world, mut laptop, mut phone) = two_devices().await;
    let thief = world.keep_handle(&mut phone, |_| ()).await;
    let owner = world.keep_handle(&mut laptop, |_| ()).await.reference().unwrap();
    world
        .visit(&mut laptop, async |session: Session| {
            session.log_out_others();
            ok()
        })
        .await;
    thief.log_out_others();
    assert!(matches!(thief.save().await, Err(SaveError::Ended)));
    assert_eq!(thief.end_device(owner).await.unwrap(), EndedDevice::NotFound);
    assert_eq!(world.records().await.len(), 1);
}

#[tokio::test]
async fn somebody_of_whom_nobody_knows_who_he_is_proves_himself_again_too() {
    let world = World::new();
    let mut alice = Client::at_home();
    world
        .visit(&mut alice, async |_: Session| {
            let mut response = Response::new(Empty);
            portcullis::layer::tell(response.headers_mut(), &Command::Login { subject: None }).unwrap();
            response
        })
        .await;
    world.clock.advance(Duration::from_secs(1000));
    let now = world.guard.now();
    world
        .visit(&mut alice, async move |session: Session| {
            assert!(session.subject().is_none() && session.authenticated_at().unwrap() < now);
            session.reauthenticated();
            ok()
        })
        .await;
    assert_eq!(world.records().await[0].authenticated_at, Some(now));
}

#[tokio::test]
async fn an_expiry_that_is_set_while_another_is_saved_is_still_to_be_saved() {
    let (world, mut laptop, _) = two_devices().await;
    let kept = world.keep_handle(&mut laptop, |_| ()).await;
    kept.set_expiry(Expiry::AfterIdle(Duration::from_secs(900)));
    {
        let mut saving = pin!(kept.save());
        assert!(is_pending(saving.as_mut()));
        kept.set_expiry(Expiry::AfterIdle(Duration::from_secs(60)));
        saving.await.unwrap();
    }
    assert_eq!(kept.expiry(), Expiry::AfterIdle(Duration::from_secs(60)));
    kept.save().await.unwrap();
    world
        .visit(&mut laptop, async |session: Session| {
            assert_eq!(session.expiry(), Expiry::AfterIdle(Duration::from_secs(60)));
            ok()
        })
        .await;
}

#[tokio::test]
async fn an_error_of_the_app_is_no_answer_and_what_was_ended_has_ended() {
    let (world, laptop, _) = two_devices().await;
    let login = rules().finish().0;
    world.guard.replace_policy(login);
    let fails = |session: &Session| session.log_out();
    assert!(world.fails(&laptop, "/login", Failing(fails)).await.is_err());
    assert_eq!(world.records().await.len(), 1);
    assert!(!world.kinds().contains(&Kind::LoginFailed), "nobody knows whether the password was wrong");
}

/// A client that begins and leaves again and again does not take all of the app.
#[tokio::test]
async fn of_one_client_no_more_than_an_eighth_goes_on_without_it() {
    let (world, laptop, _) = two_devices().await;
    let mut others = Vec::new();
    for address in ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"] {
        let mut other = Client::at(address);
        world.begin(&mut other).await;
        others.push(other);
    }
    let running = Arc::new(AtomicUsize::new(0));
    struct Runs(Arc<AtomicUsize>);
    impl Drop for Runs {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let leave = async |client: &Client| {
        // Slowly enough for the limits of requests.
        world.clock.advance(Duration::from_secs(1));
        running.fetch_add(1, Ordering::SeqCst);
        let runs = Runs(running.clone());
        world
            .leave(client, Method::POST, async move |_: Session| {
                let _runs = runs;
                std::future::pending::<StatusCode>().await
            })
            .await;
    };
    for _ in 0..LEFT_MAX / 8 + 20 {
        leave(&laptop).await;
    }
    assert_eq!(running.load(Ordering::SeqCst), LEFT_MAX / 8);
    // Clients share counts by chance: not all of these with that one.
    for other in &others {
        leave(other).await;
    }
    assert!(running.load(Ordering::SeqCst) > LEFT_MAX / 8, "others find room");
}

/// A second factor was asked for after the password, and was wrong.
#[tokio::test]
async fn nobody_is_thrown_out_in_the_name_of_somebody_who_was_not_let_in_after_all() {
    let (world, mut laptop, _) = two_devices().await;
    let stranger = |handler: fn(&Session)| {
        let world = &world;
        async move {
            let mut stranger = Client::abroad(None);
            world
                .visit(&mut stranger, async move |session: Session| {
                    handler(&session);
                    ok()
                })
                .await;
        }
    };
    stranger(|session| {
        session.log_in("alice").unwrap();
        session.log_out_others();
        session.log_out();
    })
    .await;
    stranger(|session| {
        session.log_in("alice").unwrap();
        session.log_out_others();
        session.log_in("bob").unwrap();
    })
    .await;
    assert_eq!(subjects(&world).await.iter().filter(|subject| *subject == "alice").count(), 2);
    // Who ends all of his own has to be nobody afterwards.
    stranger(|session| {
        session.log_in("alice").unwrap();
        session.log_out_everywhere();
    })
    .await;
    assert_eq!(subjects(&world).await, ["bob"]);
    let was = world.visit(&mut laptop, async |session: Session| {
        assert_eq!(session.subject(), None);
        ok()
    });
    was.await;
}

/// A step looks at the session while a save makes room for what another wrote: it must not wait for itself.
#[tokio::test]
async fn a_step_may_look_at_the_session_when_it_is_saved() {
    let world = World::new();
    let mut client = Client::at_home();
    world.begin(&mut client).await;
    world
        .visit(&mut client, async |session: Session| {
            session.insert("b", &4).unwrap();
            ok()
        })
        .await;
    world
        .visit(&mut client, async |session: Session| {
            let own = session.clone();
            // It comes to what it was, and is done again over what another may write.
            session.update("b", move |b: &mut u32| *b = own.get::<u32>("a").unwrap().unwrap_or_default() * 4).unwrap();
            session.set_expiry(Expiry::AfterIdle(Duration::from_secs(300)));
            assert!(session.save().await.is_ok());
            ok()
        })
        .await;
}
