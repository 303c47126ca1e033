//! Sessions of an app that their clients carry.

use std::time::Duration;

use http::StatusCode;
use portcullis::layer::{Expiry, SaveError, Session};
use portcullis::store::StoreError;
use portcullis::store::memory::MemoryStore;
use portcullis::store::shared::Shared;

use super::world::{Client, World, ok};

/// Two nodes, which share what has ended and nothing else.
fn nodes() -> [World; 2] {
    let ended = Shared::new(MemoryStore::default());
    [1, 2].map(|seed| World::carried(&ended, seed))
}

async fn reads(world: &World, client: &mut Client) -> (Option<String>, Option<u32>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    world
        .visit(client, async move |session: Session| {
            let subject = session.subject().map(|subject| subject.to_string());
            sender.send((subject, session.get("a").unwrap())).unwrap();
            ok()
        })
        .await;
    receiver.recv().unwrap()
}

async fn writes(world: &World, client: &mut Client, value: u32) {
    world
        .visit(client, async move |session: Session| {
            session.insert("a", &value).unwrap();
            ok()
        })
        .await;
}

async fn logs_in(world: &World, client: &mut Client) {
    world
        .visit(client, async |session: Session| {
            session.log_in("ann").unwrap();
            ok()
        })
        .await;
}

#[tokio::test]
async fn a_session_that_its_client_carries_is_as_any_other() {
    let [one, two] = nodes();
    let mut client = Client::at_home();
    writes(&one, &mut client, 1).await;
    assert_eq!(client.carried.len(), 1);
    assert_eq!(reads(&two, &mut client).await, (None, Some(1)));
    logs_in(&two, &mut client).await;
    assert_eq!(reads(&one, &mut client).await, (Some("ann".to_owned()), Some(1)));
    writes(&one, &mut client, 2).await;
    let copy = client.clone();
    two.visit(&mut client, async |session: Session| {
        assert_eq!(session.get::<u32>("a").unwrap(), Some(2));
        session.log_out();
        ok()
    })
    .await;
    assert!(client.cookie.is_none() && client.carried.is_empty(), "{:?}", client.carried);
    for world in [&one, &two] {
        assert_eq!(reads(world, &mut copy.clone()).await, (None, None), "a logout holds against copies");
    }
}

/// Django's signed cookies are known for it: what a browser sent back once, it may send back again.
#[tokio::test]
async fn an_old_state_does_not_come_back_where_a_newer_one_was_seen() {
    let [one, two] = nodes();
    let mut client = Client::at_home();
    writes(&one, &mut client, 1).await;
    let old = client.clone();
    writes(&one, &mut client, 2).await;
    assert_eq!(reads(&one, &mut old.clone()).await, (None, Some(2)));
    // What the manual says that it can not do.
    assert_eq!(reads(&two, &mut old.clone()).await, (None, Some(1)));
    assert_eq!(reads(&two, &mut client).await, (None, Some(2)));
    assert_eq!(reads(&two, &mut old.clone()).await, (None, Some(2)));
}

#[tokio::test]
async fn an_end_of_all_sessions_reaches_those_that_no_node_knows() {
    let ended = Shared::new(MemoryStore::default());
    let [mut laptop, mut phone] = [Client::at_home(), Client::at_home()];
    let one = World::carried(&ended, 1);
    for client in [&mut laptop, &mut phone] {
        logs_in(&one, client).await;
    }
    let two = World::carried(&ended, 2);
    two.visit(&mut laptop, async |session: Session| {
        session.log_out_others();
        ok()
    })
    .await;
    for world in [&one, &two, &World::carried(&ended, 3)] {
        assert_eq!(reads(world, &mut phone.clone()).await.0, None);
        assert_eq!(reads(world, &mut laptop.clone()).await.0.as_deref(), Some("ann"));
    }
}

#[tokio::test]
async fn an_expiry_goes_with_the_session() {
    let [one, two] = nodes();
    let mut client = Client::at_home();
    one.visit(&mut client, async |session: Session| {
        session.insert("a", &1).unwrap();
        session.set_expiry(Expiry::AfterIdle(Duration::from_secs(120)));
        ok()
    })
    .await;
    let later = |seconds| {
        for world in [&one, &two] {
            world.clock.advance(Duration::from_secs(seconds));
        }
    };
    later(119);
    assert_eq!(reads(&two, &mut client.clone()).await, (None, Some(1)));
    later(1);
    assert_eq!(reads(&one, &mut client).await, (None, None));
}

#[tokio::test]
async fn what_does_not_fit_into_cookies_is_a_typed_error() {
    let [one, _] = nodes();
    let mut client = Client::at_home();
    writes(&one, &mut client, 1).await;
    let answer = one
        .visit(&mut client, async |session: Session| {
            // Nothing that could be compressed.
            let mut state = 7_u32;
            let noise: Vec<u32> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state
            })
            .take(3000)
            .collect();
            session.insert("a", &noise).unwrap();
            let error = session.save().await.unwrap_err();
            assert!(matches!(error, SaveError::Store(StoreError::TooLarge { .. })), "{error}");
            session.discard();
            session.insert("a", &5).unwrap();
            ok()
        })
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(reads(&one, &mut client).await, (None, Some(5)));
}
