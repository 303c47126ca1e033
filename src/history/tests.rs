//! What contexts remember, forget and keep apart.

use super::*;
use crate::facts::geo::{Place, Position};
use crate::facts::user_agent::{DeviceClass, UserAgent};
use crate::fingerprint::tests::any_fingerprint;
use crate::net::Asn;
use proptest::prelude::*;

const HALF: HalfLife = HalfLife::DEFAULT;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_795_000_000 + secs)
}

fn client(family: Family, os: Os, network: u8) -> Fingerprint {
    let hash = u32::from(family.number()) << 8 | os as u32;
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
    for network in 2..9 {
        contexts.note(&visit(owner(network), u64::from(network), 10));
    }
    contexts.note(&visit(owner(2), 100, 1));
    contexts.note(&visit(owner(9), 101, 10));
    let networks: Vec<u32> = contexts.known().iter().map(|known| known.fingerprint.place.asn.unwrap().0).collect();
    // 3 went: untrusted, and longest unused since 2 came back. The first stays, however long it was not used.
    assert_eq!(networks, [1, 2, 4, 5, 6, 7, 8, 9]);
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
fn risk_of_the_session_falls_on_everybody() {
    let mut contexts = Contexts::bind(owner(1), at(0));
    contexts.note(&Visit { session_points: Points::whole(55), ..visit(owner(1), 10, 0) });
    assert_eq!(risk(&contexts, &owner(1), 10), "55");
    assert_eq!(risk(&contexts, &thief(2), 10), "55");
}

#[test]
fn devices_that_take_turns_are_interleaved() {
    let mut contexts = Contexts::bind(owner(1), at(0));
    let between = |family, os| Some(Interleaving { family, os, wire: Wire::default() });
    assert_eq!(contexts.interleaving(&thief(2), at(10)), None);
    contexts.note(&visit(thief(2), 10, 30));
    assert_eq!(contexts.interleaving(&thief(2), at(11)), None);
    // The owner does not pay for a guest, wherever she is.
    assert_eq!(contexts.interleaving(&owner(1), at(1000)), None);
    assert_eq!(contexts.interleaving(&owner(4), at(1000)), None);
    contexts.note(&visit(owner(1), 1000, 0));
    assert_eq!(contexts.interleaving(&owner(1), at(1001)), None);
    assert_eq!(contexts.interleaving(&thief(3), at(1001)), between(Family::Chrome, Os::Windows));
    assert_eq!(contexts.interleaving(&thief(3), at(1000 + 1800)), None);
    // Of two whom the session was not given to neither is the guest.
    let phone = client(Family::Safari, Os::Ios, 5);
    contexts.note(&visit(phone, 1100, 12));
    contexts.note(&visit(thief(2), 1200, 30));
    assert_eq!(contexts.interleaving(&phone, at(1300)), between(Family::Firefox, Os::Linux));
}

#[test]
fn asking_for_desktop_pages_is_no_other_device() {
    let (mobile, desktop) = (client(Family::Chrome, Os::Android, 1), client(Family::Chrome, Os::Linux, 1));
    let mut contexts = Contexts::bind(mobile, at(0));
    contexts.note(&visit(desktop, 10, 12));
    contexts.note(&visit(mobile, 20, 0));
    assert_eq!(contexts.interleaving(&desktop, at(30)), None);
}

fn stored(contexts: &Contexts) -> Vec<u8> {
    let mut bytes = Vec::new();
    contexts.encode(&mut bytes);
    bytes
}

#[test]
fn a_device_that_no_context_has_is_not_read() {
    let mut bytes = stored(&Contexts::bind(owner(1), at(0)));
    assert!(Contexts::decode(&bytes).is_ok());
    // Two devices, the second a copy of the first.
    let device: Vec<u8> = bytes[14..14 + crate::fingerprint::stored::DEVICE_LEN].to_vec();
    bytes[9] += 1 << 4;
    bytes.splice(14..14, device);
    assert_eq!(Contexts::decode(&bytes), Err(DecodeError));
}

#[test]
fn the_stored_form_is_small() {
    // A session that stays where it began.
    assert_eq!(stored(&Contexts::bind(owner(1), at(0))).len(), 66);
    let at_home = Place { position: Position::new(52.5, 13.4, Some(20)), ..owner(1).place };
    let ja4 = Ja4::parse("t13d1516h2_8daaf6152771_02713d6af862");
    let mut contexts = Contexts::bind(Fingerprint { place: at_home, ..owner(1) }, at(0)).with_ja4(ja4);
    assert_eq!(stored(&contexts).len(), 93);
    // One device on eight networks.
    for network in 2..9 {
        contexts.note(&visit(owner(network), 10, 10));
    }
    assert_eq!((contexts.known().len(), stored(&contexts).len()), (8, 219));
    // However many devices and networks there are, it ends here.
    for network in 9..30 {
        let family = if network % 2 == 0 { Family::Other(u16::from(network)) } else { Family::Curl };
        contexts.note(&visit(Fingerprint { place: at_home, ..client(family, Os::Linux, network) }, 20, 10));
        assert!(stored(&contexts).len() <= ENCODED_MAX);
    }
    assert!(contexts.known().len() > 4);
    assert_eq!(contexts.ja4(), ja4);
}

#[test]
fn both_families_of_addresses_are_one_network() {
    let v4 = owner(1);
    let v6 = Fingerprint { prefix: Prefix::V6(0x2001_0db8_0001_0002), ..v4 };
    let mut contexts = Contexts::bind(v6, at(0));
    contexts.note(&visit(v4, 60, 0));
    contexts.note(&visit(v6, 120, 0));
    assert_eq!(contexts.known().len(), 1);
    let [context] = contexts.known() else { panic!("one context") };
    assert_eq!((context.fingerprint.prefix, context.other), (v4.prefix, v6.prefix));
    // Either prefix is known now, whatever a database says of it tomorrow.
    let moved = Place { asn: Some(Asn(9)), ..Place::default() };
    for known in [v4, v6] {
        let found = contexts.best_match(&Fingerprint { place: moved, ..known }).unwrap();
        assert!(found.drift.is_none());
    }
    assert_eq!(Contexts::decode(&stored(&contexts)), Ok(contexts));
}

#[test]
fn what_is_odd_about_a_login_is_kept_until_it_was_told() {
    let contradictions = [None, Some(Contradiction::Tls), Some(Contradiction::Http2), Some(Contradiction::Order)];
    for doubt in contradictions
        .into_iter()
        .flat_map(|contradiction| [false, true].map(|from_servers| LoginDoubt { contradiction, from_servers }))
    {
        let contexts = Contexts::bind(owner(1), at(0)).doubted(doubt);
        let mut contexts = Contexts::decode(&stored(&contexts)).unwrap();
        assert_eq!(contexts.doubt(), doubt);
        let expected = if doubt == LoginDoubt::default() { Change::None } else { Change::Material };
        assert_eq!(contexts.note(&visit(owner(1), 1, 0)), expected);
        assert_eq!(contexts.doubt(), LoginDoubt::default());
    }
}

#[test]
fn a_holder_is_elsewhere_by_line_or_operator() {
    let line = |network: u8, asn: u32, kind| {
        let place = Place { asn: Some(Asn(asn)), kind, ..Place::default() };
        Fingerprint { place, ..owner(network) }
    };
    use NetworkKind::{Mobile, Relay, Residential, Tor, Unknown};
    let check = |from: Fingerprint, to: Fingerprint, expected: bool| {
        let found = Contexts::bind(from, at(0)).holder_elsewhere(&to);
        assert_eq!(found, expected.then_some(at(0)));
    };
    check(line(1, 1, Residential), line(1, 2, Residential), false);
    check(line(1, 1, Residential), line(2, 1, Residential), true);
    check(line(1, 1, Residential), line(2, 2, Residential), true);
    check(line(1, 1, Residential), line(2, 2, Mobile), true);
    check(line(1, 1, Unknown), line(2, 2, Unknown), true);
    check(line(1, 1, Unknown), line(2, 1, Unknown), false);
    check(line(1, 1, Relay), line(2, 2, Relay), false);
    check(line(1, 1, Residential), line(2, 2, Tor), false);
}

#[test]
fn devices_that_speak_alike_are_one_under_any_system() {
    let speaks = |os, tls| Fingerprint { wire: Wire { tls, ..Wire::default() }, ..client(Family::Chrome, os, 1) };
    let check = |between: Fingerprint, expected: bool| {
        let mut contexts = Contexts::bind(speaks(Os::Windows, 7), at(0));
        contexts.note(&visit(between, 10, 12));
        contexts.note(&visit(speaks(Os::Windows, 7), 20, 0));
        assert_eq!(contexts.interleaving(&between, at(30)).is_some(), expected);
    };
    check(speaks(Os::Android, 7), false);
    check(speaks(Os::Android, 8), true);
    check(speaks(Os::Windows, 8), true);
    check(speaks(Os::Android, 0), true);
    let gateway = Place { kind: NetworkKind::Sase, ..Place::default() };
    check(Fingerprint { place: gateway, ..speaks(Os::Windows, 8) }, false);
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
        let bytes = stored(&contexts);
        prop_assert!(bytes.len() <= ENCODED_MAX);
        let read = Contexts::decode(&bytes).unwrap();
        prop_assert_eq!(read.known(), contexts.known());
        prop_assert_eq!((read.holder(), read.home(), read.session_risk), (contexts.holder(), contexts.home(), contexts.session_risk));
        // Turns of devices that no context is left of are forgotten, and nothing else is.
        prop_assert!(read.trace.iter().all(|turn| contexts.trace.contains(turn)));
        prop_assert_eq!(stored(&read), bytes.clone());
        let mut bytes = bytes;
        bytes.push(0);
        prop_assert_eq!(Contexts::decode(&bytes), Err(DecodeError));
        bytes.truncate(bytes.len() - 2);
        prop_assert_eq!(Contexts::decode(&bytes), Err(DecodeError));
    }

    #[test]
    fn decoding_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..ENCODED_MAX + 20), contexts in 0..16u8) {
        if let [version, count, ..] = &mut bytes[..] {
            (*version, *count) = (3, contexts << 4 | *count & 0xf);
        }
        if let Ok(mut found) = Contexts::decode(&bytes) {
            found.holder();
            found.note(&visit(owner(1), 0, 10));
            prop_assert!(found.known().len() <= CONTEXTS_MAX && stored(&found).len() <= ENCODED_MAX);
        }
    }

    /// What was written, with some octets changed: nearly always of the right form.
    #[test]
    fn damaged_histories_can_be_worked_with(contexts in any_contexts(), changes in proptest::collection::vec(any::<(u16, u8)>(), 1..4)) {
        let mut bytes = stored(&contexts);
        let length = bytes.len();
        changes.into_iter().for_each(|(at, value)| bytes[usize::from(at) % length] = value);
        if let Ok(mut found) = Contexts::decode(&bytes) {
            found.note(&visit(owner(1), 0, 10));
            prop_assert!(stored(&found).len() <= ENCODED_MAX);
        }
    }
}
