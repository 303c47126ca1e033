//! What contexts remember, forget and keep apart.

use super::*;
use crate::facts::geo::Place;
use crate::facts::user_agent::{DeviceClass, UserAgent};
use crate::fingerprint::Prefix;
use crate::fingerprint::tests::any_fingerprint;
use crate::net::Asn;
use proptest::prelude::*;

const HALF: HalfLife = HalfLife::DEFAULT;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_795_000_000 + secs)
}

fn client(family: Family, os: Os, network: u8) -> Fingerprint {
    let hash = u64::from(family.number()) << 8 | os as u64;
    let agent = UserAgent { family, major: 150, os, device: DeviceClass::Desktop, hash };
    let place = Place { asn: Some(Asn(u32::from(network))), ..Place::default() };
    Fingerprint { agent, prefix: Prefix::V4([192, 0, network]), place, ..Fingerprint::default() }
}

fn owner(network: u8) -> Fingerprint {
    client(Family::Chrome, Os::Windows, network)
}

fn thief(network: u8) -> Fingerprint {
    client(Family::Firefox, Os::Linux, network)
}

fn visit(fingerprint: Fingerprint, secs: u64, points: u16) -> Visit {
    Visit {
        now: at(secs),
        fingerprint,
        holding: Holding::Other,
        context_points: Points::whole(points),
        session_points: Points::ZERO,
        half_life: HALF,
    }
}

fn risk(contexts: &Contexts, fingerprint: &Fingerprint, secs: u64) -> String {
    contexts.risk(contexts.best_match(fingerprint).as_ref(), fingerprint, at(secs), HALF).to_string()
}

#[test]
fn going_back_and_forth_between_known_contexts_is_nothing() {
    let mut contexts = Contexts::bind(owner(1), at(0));
    assert_eq!(contexts.note(&visit(owner(2), 10, 10)), Change::Material);
    for secs in 20..30 {
        assert_eq!(contexts.note(&visit(owner(1 + u8::from(secs % 2 == 0)), secs, 0)), Change::None);
    }
    assert_eq!(contexts.known().len(), 2);
    assert_eq!(contexts.best_match(&owner(2)).unwrap(), Match { index: 1, drift: Drift::default() });
}

#[test]
fn times_are_written_at_most_once_a_minute() {
    let mut contexts = Contexts::bind(owner(1), at(0));
    assert_eq!(contexts.note(&visit(owner(1), 59, 0)), Change::None);
    assert_eq!(contexts.note(&visit(owner(1), 60, 0)), Change::Seen);
    assert_eq!(contexts.note(&visit(owner(1), 61, 0)), Change::None);
    assert_eq!(contexts.known()[0].last_seen, at(60));
    assert_eq!(contexts.known()[0].first_seen, at(0));
}

#[test]
fn a_context_follows_its_client_within_a_network() {
    let mut contexts = Contexts::bind(owner(1), at(0));
    let moved = Fingerprint { prefix: Prefix::V4([198, 51, 100]), ..owner(1) };
    assert_eq!(contexts.note(&visit(moved, 60, 0)), Change::Seen);
    assert_eq!(contexts.known()[0].fingerprint.prefix, moved.prefix);
}

#[test]
fn the_risk_of_a_thief_is_not_the_owners() {
    let mut contexts = Contexts::bind(owner(1), at(0));
    contexts.note(&visit(thief(2), 10, 45));
    assert_eq!(risk(&contexts, &thief(2), 10), "45");
    assert_eq!(risk(&contexts, &owner(1), 10), "0");
    // Not even on a network that is new to the owner, whose device is known.
    assert_eq!(risk(&contexts, &owner(3), 10), "0");
    // A stranger, or the thief himself elsewhere, takes it over.
    assert_eq!(risk(&contexts, &thief(3), 10), "45");
    assert_eq!(risk(&contexts, &client(Family::Curl, Os::Unknown, 4), 10), "45");
}

#[test]
fn hopping_adds_up_even_past_the_limit_of_contexts() {
    let mut contexts = Contexts::bind(owner(1), at(0));
    for network in 2..14 {
        contexts.note(&visit(owner(network), 10, 10));
    }
    assert_eq!(contexts.known().len(), CONTEXTS_MAX);
    assert_eq!(risk(&contexts, &owner(99), 10), "120");
    // The one bound at authentication is still there, and clean.
    assert_eq!(contexts.known()[0].fingerprint, owner(1));
    assert_eq!(risk(&contexts, &owner(1), 10), "0");
}

#[test]
fn untrusted_contexts_make_room_first() {
    let mut contexts = Contexts::bind(owner(1), at(0));
    contexts.trust(&owner(2), at(1));
    for network in 3..9 {
        contexts.note(&visit(owner(network), u64::from(network), 10));
    }
    contexts.note(&visit(owner(3), 100, 1));
    contexts.note(&visit(owner(9), 101, 10));
    let networks: Vec<u32> = contexts.known().iter().map(|known| known.fingerprint.place.asn.unwrap().0).collect();
    // 4 went: untrusted, and longest unused since 3 came back.
    assert_eq!(networks, [1, 2, 3, 5, 6, 7, 8, 9]);
    for network in [3, 5, 6, 7, 8, 9] {
        contexts.trust(&owner(network), at(200));
    }
    contexts.note(&visit(owner(10), 300, 10));
    assert_eq!(contexts.known()[0].fingerprint, owner(1));
    assert!(contexts.best_match(&owner(2)).unwrap().drift != Drift::default());
}

#[test]
fn the_holder_is_followed_through_evictions() {
    let mut contexts = Contexts::bind(owner(1), at(0));
    assert_eq!(contexts.holder(), Some(&owner(1)));
    for network in 2..9 {
        let holding = if network == 8 { Holding::Head } else { Holding::Other };
        contexts.note(&Visit { holding, ..visit(owner(network), u64::from(network), 10) });
    }
    assert_eq!(contexts.holder(), Some(&owner(8)));
    for network in 9..15 {
        contexts.note(&visit(owner(network), u64::from(network), 10));
        assert_eq!(contexts.holder(), Some(&owner(8)));
    }
    contexts.note(&visit(owner(15), 15, 10));
    assert_eq!(contexts.holder(), None);
}

#[test]
fn risk_of_the_session_falls_on_everybody_until_somebody_authenticates() {
    let mut contexts = Contexts::bind(owner(1), at(0));
    contexts.note(&Visit { session_points: Points::whole(55), ..visit(owner(1), 10, 0) });
    assert_eq!(risk(&contexts, &owner(1), 10), "55");
    assert_eq!(risk(&contexts, &thief(2), 10), "55");
    contexts.trust(&owner(1), at(20));
    assert_eq!(risk(&contexts, &owner(1), 20), "0");
}

#[test]
fn devices_that_take_turns_are_interleaved() {
    let mut contexts = Contexts::bind(owner(1), at(0));
    let between = Some(Interleaving { family: Family::Firefox, os: Os::Linux });
    assert_eq!(contexts.interleaving(&thief(2), at(10)), None);
    contexts.note(&visit(thief(2), 10, 30));
    assert_eq!(contexts.interleaving(&thief(2), at(11)), None);
    assert_eq!(contexts.interleaving(&owner(1), at(1000)), between);
    assert_eq!(contexts.interleaving(&owner(1), at(10 + 1800)), None);
    contexts.note(&visit(owner(1), 1000, 0));
    assert_eq!(contexts.interleaving(&owner(1), at(1001)), None);
    assert!(contexts.interleaving(&thief(3), at(1001)).is_some());
}

#[test]
fn asking_for_desktop_pages_is_no_other_device() {
    let (mobile, desktop) = (client(Family::Chrome, Os::Android, 1), client(Family::Chrome, Os::Linux, 1));
    let mut contexts = Contexts::bind(mobile, at(0));
    contexts.note(&visit(desktop, 10, 12));
    assert_eq!(contexts.interleaving(&mobile, at(20)), None);
}

#[test]
fn the_stored_form_is_small() {
    let length = |contexts: &Contexts| {
        let mut bytes = Vec::new();
        contexts.encode(&mut bytes);
        bytes.len()
    };
    assert_eq!(length(&Contexts::bind(owner(1), at(0))), 71);
    assert_eq!(ENCODED_MAX, 407);
}

/// Visits of up to twelve clients at any times, as a client could make them.
fn any_contexts() -> impl Strategy<Value = Contexts> {
    let visits = (any_fingerprint(), any::<u32>(), 0..600u16, 0..600u16, any::<bool>());
    proptest::collection::vec(visits, 0..14).prop_map(|visits| {
        let mut contexts = Contexts::default();
        for (fingerprint, secs, context, session, head) in visits {
            contexts.note(&Visit {
                now: Timestamp::from_secs(u64::from(secs)),
                session_points: Points::whole(session),
                holding: if head { Holding::Head } else { Holding::Other },
                ..visit(fingerprint, 0, context)
            });
        }
        contexts
    })
}

proptest! {
    #[test]
    fn what_was_stored_comes_back(contexts in any_contexts()) {
        let mut bytes = Vec::new();
        contexts.encode(&mut bytes);
        prop_assert!(bytes.len() <= ENCODED_MAX);
        prop_assert_eq!(Contexts::decode(&bytes), Ok(contexts));
        bytes.push(0);
        prop_assert_eq!(Contexts::decode(&bytes), Err(DecodeError));
        bytes.truncate(bytes.len() - 2);
        prop_assert_eq!(Contexts::decode(&bytes), Err(DecodeError));
    }

    #[test]
    fn decoding_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..ENCODED_MAX + 20), contexts in 0..16u8, turns in 0..5u8) {
        if let [version, count, _, _, _, _, _, _, trace, ..] = &mut bytes[..] {
            (*version, *count, *trace) = (VERSION, contexts << 4 | *count & 0xf, turns);
            let length = HEADER_LEN + usize::from(contexts) * CONTEXT_LEN + usize::from(turns) * TURN_LEN;
            bytes.resize(length, 0);
            let found = Contexts::decode(&bytes);
            prop_assert_eq!(found.is_ok(), usize::from(contexts) <= CONTEXTS_MAX && usize::from(turns) <= TRACE_MAX);
            if let Ok(mut found) = found {
                found.holder();
                found.note(&visit(owner(1), 0, 10));
                prop_assert!(found.known().len() <= CONTEXTS_MAX);
            }
        } else {
            prop_assert_eq!(Contexts::decode(&bytes), Err(DecodeError));
        }
    }
}

#[test]
fn a_history_from_before_the_network_of_the_login_was_kept_is_read() {
    let contexts = Contexts::bind(owner(1), at(100));
    let mut old = Vec::new();
    contexts.encode(&mut old);
    old[0] = 1;
    old.drain(9..18);
    let read = Contexts::decode(&old).unwrap();
    assert_eq!((read.known(), read.home()), (contexts.known(), contexts.home()));
}
