//! Stories of apps in Rust and their sessions, through the layer and without a server.

mod carried;
mod concurrent;
mod devices;
mod django;
mod endings;
mod expiry;
mod fresh;
mod kept;
mod order;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use portcullis::layer::{Level, SaveError, Saved, Session, Standing, WriteError};
use serde::{Deserialize, Serialize};

use world::{Client, World, ok};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cart {
    items: BTreeMap<String, u32>,
    note: Option<String>,
}

#[tokio::test]
async fn values_of_every_type_come_back_on_the_next_request() {
    let world = World::new();
    let mut alice = Client::at_home();
    let cart = Cart { items: [("apple".to_owned(), 3)].into(), note: Some("ripe".to_owned()) };
    world
        .visit(&mut alice, {
            let cart = cart.clone();
            async move |session: Session| {
                session.insert("cart", &cart).unwrap();
                session.insert("n", &-5i64).unwrap();
                session.insert("by number", &BTreeMap::from([(7u32, 'x')])).unwrap();
                session.insert("nothing", &None::<u8>).unwrap();
                ok()
            }
        })
        .await;
    world
        .visit(&mut alice, async move |session: Session| {
            assert_eq!(session.get::<Cart>("cart").unwrap(), Some(cart));
            assert_eq!(session.get("n").unwrap(), Some(-5i64));
            assert_eq!(session.get("by number").unwrap(), Some(BTreeMap::from([(7u32, 'x')])));
            assert_eq!(session.get::<Option<u8>>("nothing").unwrap(), Some(None));
            assert_eq!(session.get::<u8>("absent").unwrap(), None);
            assert_eq!(session.keys(), ["by number", "cart", "n", "nothing"]);
            let error = session.get::<String>("n").unwrap_err();
            assert!(error.to_string().contains("`n`"), "{error}");
            ok()
        })
        .await;
}

#[tokio::test]
async fn changes_within_a_value_are_seen_without_a_flag() {
    let world = World::new();
    let mut alice = Client::at_home();
    world
        .visit(&mut alice, async |session: Session| {
            session.update("cart", |cart: &mut Cart| *cart.items.entry("apple".into()).or_default() += 1).unwrap();
            ok()
        })
        .await;
    let writes = world.writes();
    world
        .visit(&mut alice, async |session: Session| {
            session.update("cart", |cart: &mut Cart| *cart.items.entry("apple".into()).or_default() += 1).unwrap();
            assert!(session.is_modified());
            session.update("cart", |cart: &mut Cart| *cart.items.entry("pear".into()).or_default() += 2).unwrap();
            ok()
        })
        .await;
    assert_eq!(world.writes(), writes + 1, "one request writes once");
    world
        .visit(&mut alice, async |session: Session| {
            let cart: Cart = session.get("cart").unwrap().unwrap();
            assert_eq!(cart.items, BTreeMap::from([("apple".to_owned(), 2), ("pear".to_owned(), 2)]));
            // As it was: nothing to write.
            session.update("cart", |cart: &mut Cart| cart.note = None).unwrap();
            session.insert("cart", &cart).unwrap();
            assert!(!session.is_modified());
            ok()
        })
        .await;
    assert_eq!(world.writes(), writes + 1);
}

#[tokio::test]
async fn entries_are_changed_or_filled() {
    let world = World::new();
    let mut alice = Client::at_home();
    world
        .visit(&mut alice, async |session: Session| {
            let first = session.entry::<u32>("n").and_modify(|n| *n += 1).unwrap().or_insert(&10).unwrap();
            let second = session.entry::<u32>("n").and_modify(|n| *n += 1).unwrap().or_insert(&10).unwrap();
            assert_eq!((first, second), (10, 11));
            assert!(session.entry::<Vec<u8>>("list").or_default().unwrap().is_empty());
            assert!(session.set_default("list", &vec![1u8]).unwrap().is_empty());
            session.alter("n", |n: Option<u32>| n.filter(|n| *n < 11)).unwrap();
            assert!(!session.contains("n"));
            assert!(matches!(session.update("list", |_: &mut u8| ()), Err(WriteError::Read(_))));
            ok()
        })
        .await;
}

#[tokio::test]
async fn a_session_has_a_largest_size_and_says_so() {
    let world = World::with(|builder| builder.data_bytes_max(1000));
    let mut alice = Client::at_home();
    world
        .visit(&mut alice, async |session: Session| {
            session.insert("a", &"x".repeat(900)).unwrap();
            let error = session.insert("b", &"x".repeat(100)).unwrap_err();
            assert!(error.to_string().contains("1000"), "{error}");
            assert!(session.update("b", |text: &mut String| text.push_str(&"x".repeat(100))).is_err());
            assert!(!session.contains("b") && session.contains("a"));
            session.insert("a", "").unwrap();
            session.insert("b", &"x".repeat(100)).unwrap();
            assert!(matches!(session.insert("", &1), Err(WriteError::Key)));
            assert!(matches!(session.insert(&"k".repeat(256), &1), Err(WriteError::Key)));
            assert!(matches!(session.insert("map", &BTreeMap::from([((1, 2), 3)])), Err(WriteError::Encode { .. })));
            ok()
        })
        .await;
}

#[tokio::test]
async fn large_values_take_less_room_in_the_store_than_in_the_app() {
    let world = World::new();
    let mut alice = Client::at_home();
    let text = "the same words again and again ".repeat(1000);
    let written = text.clone();
    world
        .visit(&mut alice, async move |session: Session| {
            session.insert("text", &written).unwrap();
            ok()
        })
        .await;
    let stored = world.records().await.pop().unwrap();
    assert!(stored.data.len() < 1000, "{}", stored.data.len());
    world
        .visit(&mut alice, async move |session: Session| {
            assert_eq!(session.get::<String>("text").unwrap(), Some(text));
            ok()
        })
        .await;
}

#[tokio::test]
async fn what_is_stored_is_sealed_and_opens_for_its_cookie_alone() {
    let world = World::new();
    let mut alice = Client::at_home();
    world
        .visit(&mut alice, async |session: Session| {
            session.insert("card", "4111 1111 1111 1111").unwrap();
            ok()
        })
        .await;
    let record = world.records().await.pop().unwrap();
    for secret in ["card", "4111"] {
        assert!(!record.encode().windows(secret.len()).any(|part| part == secret.as_bytes()));
    }
    // The data of one session do not open in another, whoever moves them.
    let mut bob = Client::at_home();
    world
        .visit(&mut bob, async |session: Session| {
            session.insert("mine", &1).unwrap();
            ok()
        })
        .await;
    let own = world.records().await.into_iter().find(|other| other.digest != record.digest).unwrap();
    world.overwrite(portcullis::session::record::Record { data: record.data.clone(), ..(*own).clone() }).await;
    world
        .visit(&mut bob, async |session: Session| {
            assert!(session.is_empty());
            ok()
        })
        .await;
}

#[tokio::test]
async fn an_app_that_must_know_before_it_answers_saves() {
    let world = World::new();
    let mut alice = Client::at_home();
    world
        .visit(&mut alice, async |session: Session| {
            session.insert("a", &1).unwrap();
            assert_eq!(session.save().await.unwrap(), Saved::WithAnswer, "the session begins with the answer");
            ok()
        })
        .await;
    world
        .visit(&mut alice, async |session: Session| {
            session.insert("a", &2).unwrap();
            assert_eq!(session.save().await.unwrap(), Saved::Now);
            assert!(!session.is_modified());
            session.insert("b", &3).unwrap();
            StatusCode::INTERNAL_SERVER_ERROR
        })
        .await;
    world
        .visit(&mut alice, async |session: Session| {
            assert_eq!((session.get("a").unwrap(), session.get::<u8>("b").unwrap()), (Some(2), None));
            ok()
        })
        .await;
}

#[tokio::test]
async fn a_handle_that_outlives_its_answer_still_saves() {
    let world = World::new();
    let mut alice = Client::at_home();
    let kept = world.keep_handle(&mut alice, |session| session.insert("a", &1).unwrap()).await;
    assert_eq!(kept.standing(), Standing::Session);
    kept.insert("b", &2).unwrap();
    assert_eq!(kept.save().await.unwrap(), Saved::Now);
    world
        .visit(&mut alice, async |session: Session| {
            assert_eq!(session.get("b").unwrap(), Some(2));
            session.log_out();
            ok()
        })
        .await;
    kept.insert("b", &3).unwrap();
    assert!(matches!(kept.save().await, Err(SaveError::Ended)));
    assert!(world.records().await.is_empty(), "it does not come back");
}

#[tokio::test]
async fn messages_are_shown_once() {
    let world = World::new();
    let mut alice = Client::at_home();
    world
        .visit(&mut alice, async |session: Session| {
            assert_eq!(session.take_messages().unwrap(), []);
            session.push_message(Level::Success, "saved").unwrap();
            session.push_message(Level::Error, format!("no {}", 7)).unwrap();
            ok()
        })
        .await;
    world
        .visit(&mut alice, async |session: Session| {
            let shown = session.take_messages().unwrap();
            let shown: Vec<_> = shown.iter().map(|message| (message.level, &*message.text)).collect();
            assert_eq!(shown, [(Level::Success, "saved"), (Level::Error, "no 7")]);
            assert_eq!(session.take_messages().unwrap(), []);
            for nth in 0..40 {
                session.push_message(Level::Info, nth.to_string()).unwrap();
            }
            ok()
        })
        .await;
    world
        .visit(&mut alice, async |session: Session| {
            let shown = session.take_messages().unwrap();
            assert_eq!((shown.len(), &*shown[0].text), (32, "8"), "the oldest went");
            ok()
        })
        .await;
    assert!(world.records().await.is_empty(), "nothing is left in the session");
}

#[tokio::test]
async fn a_key_that_was_replaced_still_opens_and_one_that_was_burnt_does_not() {
    let world = World::new();
    let mut alice = Client::at_home();
    world.begin(&mut alice).await;
    world.use_keys(&[2, 1]);
    world
        .visit(&mut alice, async |session: Session| {
            session.update("a", |a: &mut u32| *a += 1).unwrap();
            ok()
        })
        .await;
    // What was written since is under the new key, so the old one can go.
    world.clock.advance(Duration::from_secs(130));
    world.visit(&mut alice, async |_: Session| ok()).await;
    world.visit(&mut alice, async |_: Session| ok()).await;
    world.use_keys(&[2]);
    // What its client carries ends with the first of its keys, since whoever has that may have made it.
    let expected = if world.is_carried() { None } else { Some(2) };
    world
        .visit(&mut alice, async move |session: Session| {
            assert_eq!(session.get::<u32>("a").unwrap(), expected);
            ok()
        })
        .await;
    world.use_keys(&[3]);
    world
        .visit(&mut alice, async |session: Session| {
            assert!(session.is_empty());
            ok()
        })
        .await;
}

#[tokio::test]
async fn a_key_that_was_burnt_logs_everybody_out() {
    let world = World::new();
    let mut alice = Client::at_home();
    world.log_in(&mut alice, "alice").await;
    let subject = async |client: &mut Client| {
        let (tell, told) = std::sync::mpsc::channel();
        world
            .visit(client, async move |session: Session| {
                tell.send((session.subject(), session.require_fresh(Duration::from_secs(60)).is_ok())).unwrap();
                ok()
            })
            .await;
        told.recv().unwrap()
    };
    assert_eq!(subject(&mut alice.clone()).await, (Some("alice".into()), true));
    // One that was put in front of it changes nothing.
    world.use_keys(&[2, 1]);
    assert_eq!(subject(&mut alice.clone()).await, (Some("alice".into()), true));
    world.use_keys(&[3]);
    assert_eq!(subject(&mut alice).await, (None, false));
    // Who logs in again is known again.
    world.log_in(&mut alice, "alice").await;
    assert_eq!(subject(&mut alice).await, (Some("alice".into()), true));
}

#[tokio::test]
async fn a_stolen_cookie_gets_nothing_of_the_session() {
    let world = World::new();
    let mut alice = Client::at_home();
    world.log_in(&mut alice, "alice").await;
    world
        .visit(&mut alice, async |session: Session| {
            session.insert("card", "4111").unwrap();
            ok()
        })
        .await;
    let mut thief = Client::abroad(alice.cookie.clone());
    world
        .visit(&mut thief, async |session: Session| {
            assert_eq!((session.standing(), session.subject()), (Standing::Visitor, None));
            assert!(session.is_empty());
            session.insert("planted", &1).unwrap();
            ok()
        })
        .await;
    world
        .visit(&mut alice, async |session: Session| {
            assert_eq!(session.get::<String>("card").unwrap().as_deref(), Some("4111"));
            assert!(!session.contains("planted"));
            ok()
        })
        .await;
}
