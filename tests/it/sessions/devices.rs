//! Where a subject is logged in, and ending what he does not know.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis::engine::Places;
use portcullis::event::Kind;
use portcullis::facts::geo::Place;
use portcullis::facts::user_agent::{Family, Os};
use portcullis::layer::{Current, Device, EndedDevice, Session, Standing};
use portcullis::session::id::Ref;

use super::world::{Client, World, ok};

async fn devices(world: &World, client: &mut Client) -> Vec<Device> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let out = found.clone();
    world
        .visit(client, async move |session: Session| {
            let all = session.devices().await.unwrap();
            *out.lock().unwrap() = all;
            ok()
        })
        .await;
    std::mem::take(&mut *found.lock().unwrap())
}

async fn end(world: &World, client: &mut Client, which: Ref) -> EndedDevice {
    let done = Arc::new(Mutex::new(EndedDevice::NotFound));
    let out = done.clone();
    world
        .visit(client, async move |session: Session| {
            let ended = session.end_device(which).await.unwrap();
            *out.lock().unwrap() = ended;
            ok()
        })
        .await;
    *done.lock().unwrap()
}

#[tokio::test]
async fn the_devices_page_shows_where_a_subject_is_logged_in() {
    // Of a network, whatever the address in it: a session keeps no more.
    let city = |ip: IpAddr| ip.to_string().starts_with("203.0.113.").then(|| "Utrecht".into());
    let places = Places::new(|_| Place::default()).with_cities(city);
    let world = World::with(|builder| builder.places(places));
    let (mut laptop, mut phone, mut bob) = (Client::at_home(), Client::abroad(None), Client::at_home());
    world.log_in(&mut bob, "bob").await;
    world.log_in(&mut laptop, "alice").await;
    world.clock.advance(Duration::from_secs(100));
    world.log_in(&mut phone, "alice").await;
    let seen = devices(&world, &mut laptop).await;
    assert_eq!(seen.len(), 2, "bob's is not hers: {seen:?}");
    let current: Vec<_> = seen.iter().map(|device| device.current).collect();
    assert_eq!(current, [Current::Yes, Current::No], "her own stands first");
    assert_eq!((seen[0].agent, seen[0].os), (Some(Family::Chrome), Some(Os::Linux)));
    assert_eq!(seen[1].agent, Some(Family::Curl));
    assert_eq!((seen[0].city.as_deref(), seen[1].city.as_deref()), (Some("Utrecht"), None));
    assert!(seen[0].last_use > seen[0].first_use);
}

#[tokio::test]
async fn a_subject_ends_one_of_his_sessions_and_nobody_elses() {
    let world = World::new();
    let (mut laptop, mut phone, mut bob) = (Client::at_home(), Client::abroad(None), Client::at_home());
    world.log_in(&mut laptop, "alice").await;
    world.log_in(&mut phone, "alice").await;
    world.log_in(&mut bob, "bob").await;
    let others = devices(&world, &mut bob).await[0].reference;
    let phones = devices(&world, &mut laptop).await.into_iter().find(|device| device.current == Current::No).unwrap();
    assert_eq!(end(&world, &mut laptop, others).await, EndedDevice::NotFound);
    assert_eq!(end(&world, &mut laptop, phones.reference).await, EndedDevice::Yes);
    assert_eq!(end(&world, &mut laptop, phones.reference).await, EndedDevice::NotFound);
    assert_eq!(devices(&world, &mut laptop).await.len(), 1);
    assert_eq!(devices(&world, &mut bob).await.len(), 1);
    world
        .visit(&mut phone, async |session: Session| {
            assert_eq!((session.standing(), session.subject()), (Standing::Visitor, None));
            ok()
        })
        .await;
    assert!(world.kinds().contains(&Kind::SessionRevoked));
    let own = devices(&world, &mut laptop).await[0].reference;
    assert_eq!(end(&world, &mut laptop, own).await, EndedDevice::WithAnswer);
    assert_eq!(laptop.cookie, None);
}

#[tokio::test]
async fn a_visitor_sees_his_own_session_alone() {
    let world = World::new();
    let (mut visitor, mut other) = (Client::at_home(), Client::at_home());
    assert_eq!(devices(&world, &mut visitor).await, []);
    for client in [&mut visitor, &mut other] {
        world.begin(client).await;
    }
    let seen = devices(&world, &mut visitor).await;
    assert_eq!((seen.len(), seen[0].current), (1, Current::Yes));
}

#[tokio::test]
async fn a_changed_password_ends_all_other_sessions() {
    let world = World::new();
    let (mut laptop, mut phone) = (Client::at_home(), Client::abroad(None));
    world.log_in(&mut laptop, "alice").await;
    world.log_in(&mut phone, "alice").await;
    world
        .visit(&mut laptop, async |session: Session| {
            session.log_out_others();
            session.reauthenticated();
            ok()
        })
        .await;
    assert_eq!(devices(&world, &mut laptop).await.len(), 1);
    assert_eq!(devices(&world, &mut phone).await, []);
}

#[tokio::test]
async fn a_logout_everywhere_ends_this_session_too() {
    let world = World::new();
    let (mut laptop, mut phone) = (Client::at_home(), Client::abroad(None));
    world.log_in(&mut laptop, "alice").await;
    world.log_in(&mut phone, "alice").await;
    let answer = world.visit(&mut laptop, async |session: Session| {
        session.log_out_everywhere();
        assert_eq!(session.subject(), None);
        ok()
    });
    assert!(answer.await.clears_cookie());
    assert!(world.records().await.is_empty());
}
