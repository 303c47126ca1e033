//! What comes first when an app asks for several things at once, and what holds when something fails in between.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use http::{Method, Response, StatusCode};
use portcullis::event::Kind;
use portcullis::layer::{EndedDevice, Expiry, LogInError, SaveError, Saved, Session, Standing};
use portcullis::session::record::{Record, State};
use portcullis::store::{Proof, Store as _};
use tokio::time::Instant;

use super::world::{Client, Empty, World, ok};
use crate::support::stored::PATIENCE;

/// Alice at her laptop and her phone.
pub(super) async fn two_devices() -> (Arc<World>, Client, Client) {
    let world = Arc::new(World::new());
    let (mut laptop, mut phone) = (Client::at_home(), Client::abroad(None));
    world.log_in(&mut laptop, "alice").await;
    world.log_in(&mut phone, "alice").await;
    (world, laptop, phone)
}

pub(super) async fn subjects(world: &World) -> Vec<String> {
    let mut all: Vec<String> =
        world.records().await.iter().map(|record| record.subject.as_deref().unwrap_or("-").to_owned()).collect();
    all.sort();
    all
}

#[tokio::test]
async fn a_logout_everywhere_is_one_whatever_is_written_after_it() {
    let (world, mut laptop, _) = two_devices().await;
    world
        .visit(&mut laptop, async |session: Session| {
            session.log_out_everywhere();
            session.push_message(portcullis::layer::Level::Info, "Good bye").unwrap();
            ok()
        })
        .await;
    assert_eq!(subjects(&world).await, ["-"], "a visitor with a message is left");
    world
        .visit(&mut laptop, async |session: Session| {
            assert_eq!(session.take_messages().unwrap().len(), 1);
            ok()
        })
        .await;

    let (world, mut laptop, _) = two_devices().await;
    let mut bob = Client::abroad(None);
    world.log_in(&mut bob, "bob").await;
    world
        .visit(&mut laptop, async |session: Session| {
            session.log_out_everywhere();
            session.log_in("bob").unwrap();
            ok()
        })
        .await;
    assert_eq!(subjects(&world).await, ["bob", "bob"], "it was alice who was meant");
}

#[tokio::test]
async fn other_sessions_end_though_something_else_is_a_conflict() {
    let (world, mut laptop, _) = two_devices().await;
    let (inner, other) = (world.clone(), laptop.clone());
    let answer = world.visit(&mut laptop, async move |session: Session| {
        session.insert("k", &1).unwrap();
        session.log_out_others();
        inner
            .visit(&mut other.clone(), async |session: Session| {
                session.insert("k", &2).unwrap();
                ok()
            })
            .await;
        ok()
    });
    assert_eq!(answer.await.status, StatusCode::CONFLICT);
    assert_eq!(world.records().await.len(), 1, "the password was changed, and the phone is out");
}

#[tokio::test]
async fn an_answer_that_fails_ends_what_it_ended_and_nothing_in_the_name_of_who_was_not_let_in() {
    let (world, mut laptop, _) = two_devices().await;
    world
        .visit(&mut laptop, async |session: Session| {
            session.log_out_others();
            StatusCode::INTERNAL_SERVER_ERROR
        })
        .await;
    assert_eq!(subjects(&world).await, ["alice"]);
    let mut mallory = Client::abroad(None);
    world
        .visit(&mut mallory, async |session: Session| {
            session.log_in("alice").unwrap();
            session.log_out_others();
            StatusCode::INTERNAL_SERVER_ERROR
        })
        .await;
    assert_eq!(subjects(&world).await, ["alice"]);
}

#[tokio::test]
async fn nobody_proves_again_who_he_is_before_he_has_said_it() {
    let world = World::new();
    let mut visitor = Client::at_home();
    for _ in 0..2 {
        world
            .visit(&mut visitor, async |session: Session| {
                session.insert("a", &1).unwrap();
                session.reauthenticated();
                assert_eq!(session.authenticated_at(), None);
                ok()
            })
            .await;
    }
    assert_eq!(world.records().await[0].authenticated_at, None);
    // Of two reasons for a new id the stronger one counts.
    world.log_in(&mut visitor, "alice").await;
    world.clock.advance(Duration::from_secs(100));
    world
        .visit(&mut visitor, async |session: Session| {
            session.reauthenticated();
            session.cycle_id();
            ok()
        })
        .await;
    let now = portcullis::clock::Clock::now(&*world.clock);
    assert_eq!(world.records().await[0].authenticated_at, Some(now));
}

#[tokio::test]
async fn a_session_that_was_revoked_meanwhile_is_not_made_another_by_a_proof() {
    let (world, mut laptop, _) = two_devices().await;
    let inner = world.clone();
    let answer = world.visit(&mut laptop, async move |session: Session| {
        session.reauthenticated();
        let all = portcullis::engine::Selection::All;
        inner.guard.revoke(&all, portcullis::event::field::Revoker::Admin).await.unwrap();
        ok()
    });
    assert_eq!(answer.await.status, StatusCode::CONFLICT);
    assert!(world.records().await.is_empty());
}

#[tokio::test]
async fn another_spelling_is_another_person_where_data_are_concerned() {
    let (world, mut laptop, _) = two_devices().await;
    let mut other = Client::at_home();
    world.log_in(&mut other, "ALICE").await;
    let alices = world.records().await.into_iter().find(|record| record.subject.as_deref() == Some("alice")).unwrap();
    let which = alices.reference;
    world
        .visit(&mut other, async move |session: Session| {
            assert_eq!(session.devices().await.unwrap().len(), 1, "his own");
            assert_eq!(session.end_device(which).await.unwrap(), EndedDevice::NotFound);
            ok()
        })
        .await;
    world.begin(&mut laptop).await;
    let before = world.records().await.len();
    world.log_in(&mut laptop, "ALICE").await;
    world
        .visit(&mut laptop, async |session: Session| {
            assert!(session.is_empty());
            ok()
        })
        .await;
    assert_eq!(world.records().await.len(), before);
}

#[tokio::test]
async fn after_the_answer_a_handle_does_what_can_still_be_done() {
    let (world, mut laptop, mut phone) = two_devices().await;
    let kept = world.keep_handle(&mut laptop, |_| ()).await;
    assert_eq!(kept.log_in("bob"), Err(LogInError::Answered));
    world.begin(&mut laptop).await;
    assert_eq!(kept.get::<u8>("a").unwrap(), None, "as it was when it was read");
    assert_eq!(kept.reload().await.unwrap(), Standing::Session);
    assert_eq!(kept.get("a").unwrap(), Some(1));
    kept.log_out();
    assert_eq!(kept.save().await.unwrap(), Saved::Now);
    assert_eq!(world.records().await.len(), 1, "the phone's");
    assert_eq!(kept.reload().await.unwrap(), Standing::Nobody);
    assert!(matches!(kept.save().await, Err(SaveError::NotKept)));
    let kept = world.keep_handle(&mut phone, |_| ()).await;
    let own = kept.reference().unwrap();
    assert_eq!(kept.end_device(own).await.unwrap(), EndedDevice::Yes);
    assert!(world.records().await.is_empty());
    let visitor = world.keep_handle(&mut Client::at_home(), |_| ()).await;
    visitor.insert("a", &1).unwrap();
    assert!(matches!(visitor.save().await, Err(SaveError::NotKept)), "there is no answer to begin a session with");
}

#[tokio::test]
async fn what_is_changed_while_it_is_saved_is_not_lost_and_no_step_is_taken_twice() {
    let (world, mut laptop, _) = two_devices().await;
    let kept = world.keep_handle(&mut laptop, |_| ()).await;
    kept.update("n", |n: &mut u32| *n += 1).unwrap();
    // Each waits in the middle of its write.
    let mut saving = pin!(kept.save());
    assert!(is_pending(saving.as_mut()));
    let mut second = pin!(kept.save());
    assert!(is_pending(second.as_mut()));
    kept.update("m", |m: &mut u32| *m += 1).unwrap();
    kept.update("n", |n: &mut u32| *n += 10).unwrap();
    saving.await.unwrap();
    second.await.unwrap();
    // The same while nothing but an expiry is written.
    kept.set_expiry(Expiry::AfterIdle(Duration::from_secs(600)));
    let mut saving = pin!(kept.save());
    assert!(is_pending(saving.as_mut()));
    kept.insert("k", "kept").unwrap();
    saving.await.unwrap();
    kept.save().await.unwrap();
    world
        .visit(&mut laptop, async |session: Session| {
            assert_eq!((session.get("n").unwrap(), session.get("m").unwrap()), (Some(11), Some(1)));
            assert_eq!(session.get::<String>("k").unwrap().as_deref(), Some("kept"));
            ok()
        })
        .await;
}

pub(super) fn is_pending(work: Pin<&mut impl Future>) -> bool {
    work.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[tokio::test]
async fn what_ends_sessions_is_not_lost_after_the_answer_and_nothing_else_is_pretended() {
    let (world, mut laptop, _) = two_devices().await;
    let kept = world.keep_handle(&mut laptop, |_| ()).await;
    let login = kept.authenticated_at();
    world.clock.advance(Duration::from_secs(100));
    kept.reauthenticated();
    assert_eq!(kept.authenticated_at(), login, "there is no answer that could give a new id");
    kept.log_out_others();
    kept.insert("a", &1).unwrap();
    assert_eq!(kept.save().await.unwrap(), Saved::Now);
    assert_eq!(world.records().await.len(), 1, "the phone is out");
    assert_eq!(kept.get("a").unwrap(), Some(1));
    kept.log_out_everywhere();
    kept.save().await.unwrap();
    assert!(world.records().await.is_empty());
}

#[tokio::test]
async fn a_record_that_can_not_be_read_is_a_session_that_is_over() {
    let (world, mut laptop, _) = two_devices().await;
    world.make_unreadable();
    let answer = world.visit(&mut laptop, async |session: Session| {
        assert_eq!((session.standing(), session.subject()), (Standing::Visitor, None));
        ok()
    });
    assert_eq!(answer.await.status, ok(), "nobody is locked out for as long as his cookie lasts");
    world.log_in(&mut laptop, "alice").await;
    world.make_readable();
    world
        .visit(&mut laptop, async |session: Session| {
            assert_eq!(session.subject().as_deref(), Some("alice"));
            ok()
        })
        .await;
    assert!(world.kinds().contains(&Kind::DependencyFailed));
}

#[tokio::test]
async fn a_step_may_look_at_the_session() {
    let world = World::new();
    world
        .visit(&mut Client::at_home(), async |session: Session| {
            session.insert("a", &2).unwrap();
            let own = session.clone();
            session.update("b", move |b: &mut u32| *b = own.get::<u32>("a").unwrap().unwrap() * 2).unwrap();
            assert_eq!(session.get("b").unwrap(), Some(4));
            ok()
        })
        .await;
}

#[tokio::test]
async fn a_session_that_was_emptied_and_saved_ends_too() {
    let world = World::new();
    let mut alice = Client::at_home();
    world.begin(&mut alice).await;
    let answer = world.visit(&mut alice, async |session: Session| {
        session.clear();
        session.save().await.unwrap();
        ok()
    });
    assert!(answer.await.clears_cookie());
    assert!(world.records().await.is_empty());
}

#[tokio::test]
async fn what_can_not_be_opened_is_not_written_over() {
    let world = World::new();
    let mut alice = Client::at_home();
    world.log_in(&mut alice, "alice").await;
    let write = async |session: Session| {
        session.update("n", |n: &mut u32| *n += 1).unwrap();
        ok()
    };
    // Written under a key that another node has already, by a client whose cookie is of before.
    world.use_keys(&[2, 1]);
    world.visit(&mut alice, write).await;
    world.use_keys(&[1]);
    let mut before = alice.clone();
    let answer = world.visit(&mut alice, write).await;
    // Where the record is under the key as well, nothing is known of the session.
    let is_closed = world.guard.store().proof() == Proof::Key;
    assert_eq!(answer.status, if is_closed { ok() } else { StatusCode::SERVICE_UNAVAILABLE });
    world.use_keys(&[2, 1]);
    world
        .visit(&mut before, async |session: Session| {
            assert_eq!((session.subject().as_deref(), session.get("n").unwrap()), (Some("alice"), Some(1)));
            ok()
        })
        .await;
    // Who logs in again gets in.
    world.use_keys(&[3]);
    world.log_in(&mut alice, "alice").await;
    assert_eq!(world.visit(&mut alice, write).await.status, ok());
}

#[tokio::test]
async fn a_failed_transaction_leaves_the_session_as_it_was() {
    let world = World::new();
    let mut alice = Client::at_home();
    world
        .visit(&mut alice, async |session: Session| {
            session.insert("cart", &1).unwrap();
            let failed = session.transact(|session| {
                session.insert("cart", &0).unwrap();
                session.log_in("mallory").unwrap();
                Err::<(), _>(std::fmt::Error)
            });
            assert!(failed.await.is_err());
            assert_eq!((session.get("cart").unwrap(), session.subject()), (Some(1), None));
            ok()
        })
        .await;
    world
        .visit(&mut alice, async |session: Session| {
            assert_eq!(session.get("cart").unwrap(), Some(1));
            ok()
        })
        .await;
}

#[tokio::test]
async fn what_is_written_into_a_session_that_was_held_back_meanwhile_is_not_kept() {
    let (world, mut laptop, _) = two_devices().await;
    let inner = world.clone();
    let (called, answer) = world
        .try_visit(&mut laptop, async move |session: Session| {
            session.insert("k", &1).unwrap();
            // Another request of this session gave the thief away.
            let now = inner.guard.now();
            let records = inner.records().await;
            let record = records.iter().find(|record| Some(record.reference) == session.reference()).unwrap();
            let state = State::Quarantined { since: now };
            inner.overwrite(Record { state, ..Record::clone(record) }).await;
            ok()
        })
        .await;
    assert!(called);
    assert_eq!(answer.status, StatusCode::CONFLICT);
    let records = world.records().await;
    let held: Vec<_> = records.iter().filter(|record| matches!(record.state, State::Quarantined { .. })).collect();
    assert!(matches!(held[..], [record] if record.data.is_empty()), "{held:?}");
}

#[tokio::test]
async fn a_call_that_failed_as_grpc_tells_it_is_like_any_that_failed() {
    let failed = || {
        let mut response = Response::new(Empty);
        response.headers_mut().insert("grpc-status", "13".parse().unwrap());
        response
    };
    let (world, mut laptop, _) = two_devices().await;
    world
        .visit(&mut laptop, async move |session: Session| {
            session.insert("k", &1).unwrap();
            failed()
        })
        .await;
    let mut eve = Client::abroad(None);
    let answer = world
        .visit(&mut eve, async move |session: Session| {
            session.log_in("eve").unwrap();
            failed()
        })
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(subjects(&world).await, ["alice", "alice"], "nobody was let in");
    world
        .visit(&mut laptop, async |session: Session| {
            assert_eq!(session.get::<u8>("k").unwrap(), None);
            let mut response = Response::new(Empty);
            response.headers_mut().insert("grpc-status", "0".parse().unwrap());
            session.insert("k", &2).unwrap();
            response
        })
        .await;
    world
        .visit(&mut laptop, async |session: Session| {
            assert_eq!(session.get::<u8>("k").unwrap(), Some(2));
            ok()
        })
        .await;
}

/// Whoever goes away in the middle of a logout is logged out all the same. A page that nobody waits for any more changes nothing.
#[tokio::test]
async fn a_client_that_goes_away_is_logged_out_all_the_same() {
    for (method, left) in [(Method::POST, &["alice"][..]), (Method::GET, &["alice", "alice"])] {
        let (world, laptop, _) = two_devices().await;
        let (go_on, waits) = tokio::sync::oneshot::channel::<()>();
        world
            .leave(&laptop, method.clone(), async move |session: Session| {
                session.log_out();
                waits.await.unwrap();
                ok()
            })
            .await;
        // The handler of a page is gone, and nobody is there to be told.
        assert_eq!(go_on.send(()).is_ok(), method == Method::POST);
        // A store on disk takes its time.
        let end = Instant::now() + PATIENCE;
        while method == Method::POST && subjects(&world).await != left {
            assert!(Instant::now() < end, "she is logged in still");
            tokio::task::yield_now().await;
        }
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(subjects(&world).await, left, "{method}");
    }
}
