//! Two requests of one session at once. The second is made while the first is being answered.

use std::sync::Arc;

use http::StatusCode;
use portcullis::engine::Selection;
use portcullis::event::Kind;
use portcullis::event::field::Revoker;
use portcullis::layer::{SaveError, Session, Standing, TransactError};
use portcullis::session::data::Lost;

use super::world::{Client, World, ok};

/// A world in which alice has a session with `a = 1`.
async fn begun() -> (Arc<World>, Client) {
    let world = Arc::new(World::new());
    let mut alice = Client::at_home();
    world.begin(&mut alice).await;
    (world, alice)
}

/// What is stored under a key by now.
async fn stored(world: &World, client: &Client, key: &'static str) -> Option<u32> {
    let found = Arc::new(std::sync::Mutex::new(None));
    let out = found.clone();
    world
        .visit(&mut client.clone(), async move |session: Session| {
            *out.lock().unwrap() = session.get(key).unwrap();
            ok()
        })
        .await;
    found.lock().unwrap().take()
}

/// What another request does, while this one is under way.
async fn meanwhile(world: &World, client: &Client, work: fn(&Session)) -> StatusCode {
    let mut client = client.clone();
    let answer = world.visit(&mut client, async move |session: Session| {
        work(&session);
        ok()
    });
    answer.await.status
}

#[tokio::test]
async fn two_requests_that_write_different_keys_both_win() {
    let (world, mut alice) = begun().await;
    let (inner, other) = (world.clone(), alice.clone());
    let answer = world.visit(&mut alice, async move |session: Session| {
        session.insert("b", &2).unwrap();
        assert_eq!(meanwhile(&inner, &other, |session| session.insert("c", &3).unwrap()).await, ok());
        ok()
    });
    assert_eq!(answer.await.status, ok());
    for (key, value) in [("a", 1), ("b", 2), ("c", 3)] {
        assert_eq!(stored(&world, &alice, key).await, Some(value));
    }
}

#[tokio::test]
async fn two_requests_that_write_the_same_key_are_a_conflict_that_is_told() {
    let (world, mut alice) = begun().await;
    let (inner, other) = (world.clone(), alice.clone());
    let answer = world.visit(&mut alice, async move |session: Session| {
        session.insert("a", &2).unwrap();
        session.insert("b", &2).unwrap();
        meanwhile(&inner, &other, |session| session.insert("a", &3).unwrap()).await;
        ok()
    });
    assert_eq!(answer.await.status, StatusCode::CONFLICT, "the client must not believe that it was kept");
    assert_eq!(stored(&world, &alice, "a").await, Some(3));
    assert_eq!(stored(&world, &alice, "b").await, None, "all of it or nothing");
    assert!(world.kinds().contains(&Kind::SessionWriteRefused), "and the operator sees why");
}

#[tokio::test]
async fn a_conflict_is_seen_by_an_app_that_saves() {
    let (world, mut alice) = begun().await;
    let (inner, other) = (world.clone(), alice.clone());
    let answer = world.visit(&mut alice, async move |session: Session| {
        session.remove("a");
        meanwhile(&inner, &other, |session| session.insert("a", &3).unwrap()).await;
        match session.save().await {
            Err(SaveError::Lost(Lost::Conflict(keys))) => assert_eq!(keys.concat(), "a"),
            other => panic!("{other:?}"),
        }
        session.discard();
        assert_eq!(session.get("a").unwrap(), Some(3), "it sees what the other one wrote");
        ok()
    });
    assert_eq!(answer.await.status, ok());
}

#[tokio::test]
async fn a_change_in_place_is_done_again_over_what_another_request_wrote() {
    let (world, mut alice) = begun().await;
    let (inner, other) = (world.clone(), alice.clone());
    world
        .visit(&mut alice, async move |session: Session| {
            session.update("a", |a: &mut u32| *a += 10).unwrap();
            assert_eq!(session.set_default("d", &5).unwrap(), 5);
            meanwhile(&inner, &other, |session| {
                session.update("a", |a: &mut u32| *a += 100).unwrap();
                session.set_default("d", &6).unwrap();
            })
            .await;
            ok()
        })
        .await;
    assert_eq!(stored(&world, &alice, "a").await, Some(111));
    assert_eq!(stored(&world, &alice, "d").await, Some(6), "the one that was first stays");
}

#[tokio::test]
async fn a_transaction_is_done_again_until_it_holds() {
    let (world, mut alice) = begun().await;
    let (inner, other) = (world.clone(), alice.clone());
    let answer = world.visit(&mut alice, async move |session: Session| {
        assert_eq!(session.get("a").unwrap(), Some(1));
        meanwhile(&inner, &other, |session| session.insert("a", &20).unwrap()).await;
        let tries = std::sync::atomic::AtomicUsize::new(0);
        let done = session.transact(|session| {
            tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let a: u32 = session.get("a").unwrap().unwrap();
            session.insert("a", &(a + 1)).map(|()| a + 1)
        });
        assert_eq!(done.await.unwrap(), 21);
        assert_eq!(tries.into_inner(), 2);
        let failed = session.transact(|session| {
            session.insert("a", &0).unwrap();
            Err::<(), _>(std::fmt::Error)
        });
        assert!(matches!(failed.await, Err(TransactError::Work(_))));
        assert_eq!(session.get("a").unwrap(), Some(21), "what failed left nothing");
        ok()
    });
    assert_eq!(answer.await.status, ok());
    assert_eq!(stored(&world, &alice, "a").await, Some(21));
}

#[tokio::test]
async fn what_is_popped_at_once_goes_to_one() {
    let (world, mut alice) = begun().await;
    let (inner, other) = (world.clone(), alice.clone());
    let answer = world.visit(&mut alice, async move |session: Session| {
        assert_eq!(session.pop::<u32>("a").unwrap(), Some(1));
        assert_eq!(
            meanwhile(&inner, &other, |session| assert_eq!(session.pop::<u32>("a").unwrap(), Some(1))).await,
            ok()
        );
        ok()
    });
    assert_eq!(answer.await.status, StatusCode::CONFLICT);
    assert_eq!(stored(&world, &alice, "a").await, None);
}

#[tokio::test]
async fn what_two_write_alike_without_a_look_is_no_conflict() {
    let (world, mut alice) = begun().await;
    let (inner, other) = (world.clone(), alice.clone());
    let answer = world.visit(&mut alice, async move |session: Session| {
        session.insert("language", "en").unwrap();
        session.remove("a");
        let write = |session: &Session| {
            session.insert("language", "en").unwrap();
            session.clear();
            session.insert("language", "en").unwrap();
        };
        assert_eq!(meanwhile(&inner, &other, write).await, ok());
        ok()
    });
    assert_eq!(answer.await.status, ok());
    assert_eq!(stored(&world, &alice, "a").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_claims_in_transactions_one_is_granted() {
    let (world, alice) = begun().await;
    let granted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (world, mut alice, granted) = (world.clone(), alice.clone(), granted.clone());
            tokio::spawn(async move {
                let claim = async move |session: Session| {
                    let claimed = session.transact(|session| {
                        let is_free = !session.contains("claimed");
                        if is_free {
                            session.insert("claimed", &true)?;
                        }
                        Ok::<_, portcullis::layer::WriteError>(is_free)
                    });
                    granted.fetch_add(claimed.await.unwrap().into(), std::sync::atomic::Ordering::SeqCst);
                    ok()
                };
                world.visit(&mut alice, claim).await
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().status, ok());
    }
    assert_eq!(granted.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_requests_at_once_no_count_is_lost() {
    let (world, alice) = begun().await;
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (world, mut alice) = (world.clone(), alice.clone());
            tokio::spawn(async move {
                let answer = world.visit(&mut alice, async |session: Session| {
                    session.update("a", |a: &mut u32| *a += 1).unwrap();
                    tokio::task::yield_now().await;
                    ok()
                });
                assert_eq!(answer.await.status, ok());
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(stored(&world, &alice, "a").await, Some(51));
}

#[tokio::test]
async fn a_late_save_does_not_bring_a_logged_out_session_back() {
    let (world, mut alice) = begun().await;
    let (inner, other) = (world.clone(), alice.clone());
    let answer = world.visit(&mut alice, async move |session: Session| {
        session.insert("a", &2).unwrap();
        meanwhile(&inner, &other, Session::log_out).await;
        assert!(matches!(session.save().await, Err(SaveError::Ended)));
        ok()
    });
    assert_eq!(answer.await.status, StatusCode::CONFLICT);
    assert!(world.records().await.is_empty());
    world
        .visit(&mut alice, async |session: Session| {
            assert_eq!(session.standing(), Standing::Visitor);
            ok()
        })
        .await;
}

#[tokio::test]
async fn what_was_written_before_a_login_elsewhere_does_not_reach_the_session_after_it() {
    let (world, mut alice) = begun().await;
    let (inner, mut other) = (world.clone(), alice.clone());
    let answer = world.visit(&mut alice, async move |session: Session| {
        session.insert("planted", &1).unwrap();
        inner.log_in(&mut other, "alice").await;
        ok()
    });
    assert_eq!(answer.await.status, StatusCode::CONFLICT);
    let records = world.records().await;
    assert_eq!((records.len(), records[0].subject.as_deref()), (1, Some("alice")));
}

#[tokio::test]
async fn a_request_with_an_id_that_was_just_replaced_is_told_that_nothing_is_kept() {
    let (world, mut alice) = begun().await;
    let mut late = alice.clone();
    world.log_in(&mut alice, "alice").await;
    let answer = world.visit(&mut late, async |session: Session| {
        assert_eq!(session.standing(), Standing::Nobody);
        session.insert("b", &1).unwrap();
        assert!(matches!(session.save().await, Err(SaveError::NotKept)));
        ok()
    });
    assert_eq!(answer.await.status, StatusCode::CONFLICT);
    let answer = world.visit(&mut late, async |_: Session| ok()).await;
    assert_eq!((answer.status, answer.cookie_line()), (ok(), None));
}

#[tokio::test]
async fn a_session_that_is_emptied_while_another_request_writes_into_it_is_over_for_both_or_lives_with_the_value() {
    let (world, mut alice) = begun().await;
    let (inner, other) = (world.clone(), alice.clone());
    let answer = world.visit(&mut alice, async move |session: Session| {
        session.insert("b", &2).unwrap();
        meanwhile(&inner, &other, Session::clear).await;
        ok()
    });
    assert_eq!(answer.await.status, StatusCode::CONFLICT, "it ended before this was written");
    assert!(world.records().await.is_empty());

    let (world, mut alice) = begun().await;
    let (inner, other) = (world.clone(), alice.clone());
    let answer = world.visit(&mut alice, async move |session: Session| {
        session.clear();
        meanwhile(&inner, &other, |session| session.insert("b", &2).unwrap()).await;
        ok()
    });
    assert!(!answer.await.clears_cookie());
    assert_eq!(stored(&world, &alice, "b").await, Some(2));
}

#[tokio::test]
async fn a_session_that_is_revoked_while_it_is_used_stays_revoked() {
    let (world, mut alice) = begun().await;
    world.log_in(&mut alice, "alice").await;
    let inner = world.clone();
    let answer = world.visit(&mut alice, async move |session: Session| {
        session.insert("b", &2).unwrap();
        inner.guard.revoke(&Selection::Subject("alice".into()), Revoker::Admin).await.unwrap();
        session.cycle_id();
        ok()
    });
    assert_eq!(answer.await.status, StatusCode::CONFLICT);
    assert!(world.records().await.is_empty());
    assert!(world.kinds().contains(&Kind::SessionRevoked));
}
