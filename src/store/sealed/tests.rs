//! Nodes that share what is remembered, clients that go from one to the other, and what fails in the middle.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::secret::{KeyId, MasterKey};
use crate::session::carried::CLOCKS_APART_MAX;
use crate::session::record::DecodeError;
use crate::session::tag::Tag;
use crate::store::OnLimit;
use crate::store::conformance::schedules::{
    Every, Gaps, Looks, Yields, every_schedule_of_two_has_an_order, play, schedules_of_three_have_an_order,
};
use crate::store::conformance::{self, Case, anonymous, session};
use crate::store::hooked::{Call, Hook, Hooked};
use crate::store::row::tests::ring;
use crate::store::shared::Shared;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const MANY: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

type Node = SealedStore<Shared<MemoryStore>>;

fn at(now: Timestamp) -> Arc<ManualClock> {
    Arc::new(ManualClock::new(now))
}

fn sealed<E: Store>(ended: E) -> SealedStore<E> {
    SealedStore::new(ended, MANY, ring(&[1]), at(NOW))
}

/// A node of those that share what is remembered.
fn node(ended: &Shared<MemoryStore>) -> Node {
    sealed(ended.clone())
}

fn under(ids: &[u8]) -> KeySet {
    ids.iter().map(|id| KeyId(*id)).fold(KeySet::default(), KeySet::with)
}

/// A client shows this state.
fn shows<E: Store>(store: &SealedStore<E>, record: &Record, origin: Origin) -> bool {
    store.take_in(record.clone(), origin, NOW).unwrap()
}

fn nodes() -> (Shared<MemoryStore>, Node, Node) {
    let ended = Shared::new(MemoryStore::default());
    let (one, two) = (node(&ended), node(&ended));
    (ended, one, two)
}

fn ending(why: EndReason) -> Ending {
    Ending { why, now: NOW, tombstone_until: NOW.after(Duration::from_secs(600)) }
}

fn rotation<'a>(old: &'a Record, new: Record) -> Rotate<'a> {
    let tombstone_until = NOW.after(Duration::from_secs(600));
    Rotate { old: &old.digest, version: old.version, new, also_end: None, limit: None, now: NOW, tombstone_until }
}

async fn create<E: Store>(store: &SealedStore<E>, record: &Record) {
    let created = store.create(record.clone(), None, NOW).await.unwrap();
    assert!(matches!(created, Creation::Created(Created::Done { .. })), "{created:?}");
}

/// A client goes from one node to the other with what it carries.
fn carry<E: Store>(from: &Node, to: &SealedStore<E>, digest: &SessionDigest) -> Record {
    let (record, origin) = from.give_out(digest).unwrap();
    assert!(shows(to, &record, origin));
    record.as_ref().clone()
}

/// Why a session ended; none if it lives.
async fn end<E: Store>(store: &SealedStore<E>, digest: &SessionDigest) -> Option<EndReason> {
    match store.load(digest).await.unwrap().unwrap().state {
        State::Ended { why, .. } => Some(why),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms() {
    for case in Case::ALL {
        let ended = Shared::new(MemoryStore::default());
        conformance::run_case(*case, node(&ended)).await.unwrap();
    }
}

#[tokio::test]
async fn a_session_is_taken_in_by_a_node_that_does_not_know_it() {
    let (_, one, two) = nodes();
    let ann = session(1, "ann");
    create(&one, &ann).await;
    assert_eq!(two.load(&ann.digest).await.unwrap(), None);
    let carried = carry(&one, &two, &ann.digest);
    assert_eq!(two.load(&ann.digest).await.unwrap().as_deref(), Some(&carried));
    assert_eq!(two.list(&Filter::default(), None, 10).await.unwrap().records.len(), 1);
}

#[tokio::test]
async fn the_later_state_counts() {
    let (_, one, two) = nodes();
    let ann = session(1, "ann");
    create(&one, &ann).await;
    carry(&one, &two, &ann.digest);
    let older = two.load(&ann.digest).await.unwrap().unwrap();
    let newer = Record { data: Box::new([5; 9]), ..ann.clone() };
    assert!(matches!(two.commit(newer, Durability::Soon).await.unwrap(), Commit::Done(_)));
    // What is older is not taken in, wherever it comes from.
    assert!(!shows(&two, &older, Origin::default()));
    assert_eq!(two.load(&ann.digest).await.unwrap().unwrap().version, 1);
    carry(&two, &one, &ann.digest);
    let there = one.load(&ann.digest).await.unwrap().unwrap();
    assert_eq!((there.version, there.data.len()), (1, 9));
}

#[tokio::test]
async fn what_ended_on_one_node_serves_on_none() {
    let (_, one, two) = nodes();
    let ann = session(1, "ann");
    create(&one, &ann).await;
    let carried = carry(&one, &two, &ann.digest);
    assert!(one.revoke(&ann.digest, ending(EndReason::Logout)).await.unwrap().is_some());
    assert_eq!(end(&two, &ann.digest).await, Some(EndReason::Logout));
    let change = two.commit(carried.clone(), Durability::Durable).await.unwrap();
    assert!(matches!(change, Commit::Gone), "{change:?}");
    assert!(two.revoke(&ann.digest, ending(EndReason::Revoked)).await.unwrap().is_none());
    // Nor on one that starts later, and is shown an old state.
    let three = node(one.ended());
    assert_eq!(three.load(&ann.digest).await.unwrap(), None, "without a state");
    shows(&three, &carried, Origin::default());
    assert_eq!(end(&three, &ann.digest).await, Some(EndReason::Logout));
    shows(&three, &Record { version: 99, ..carried }, Origin::default());
    assert_eq!(end(&three, &ann.digest).await, Some(EndReason::Logout));
    assert!(three.give_out(&ann.digest).is_none());
}

/// A node may be asked to end what it does not know: an operator has the name from an event.
#[tokio::test]
async fn a_session_can_be_ended_where_nobody_knows_it() {
    let (_, one, two) = nodes();
    let ann = session(1, "ann");
    create(&one, &ann).await;
    let ended = two.revoke(&ann.digest, ending(EndReason::Revoked)).await.unwrap();
    assert!(ended.is_none(), "its record is not here");
    assert_eq!(end(&one, &ann.digest).await, Some(EndReason::Revoked));
}

#[tokio::test]
async fn an_id_that_was_replaced_on_one_node_is_replaced_on_all() {
    let (_, one, two) = nodes();
    let (before, held, after, late) = (anonymous(1), anonymous(2), session(3, "ann"), session(4, "ann"));
    create(&one, &before).await;
    create(&one, &held).await;
    let seen = carry(&one, &two, &before.digest);
    carry(&one, &two, &held.digest);
    let rotate = Rotate { also_end: Some(&held.digest), ..rotation(&before, after.clone()) };
    assert!(matches!(one.rotate(rotate).await.unwrap(), Rotation::Created(_)));
    assert_eq!(end(&two, &before.digest).await, Some(EndReason::Replaced));
    assert_eq!(end(&two, &held.digest).await, Some(EndReason::Revoked));
    // The other node is as late as can be: it has looked already.
    let three = node(one.ended());
    shows(&three, &seen, Origin::default());
    let rotated = three.rotate(rotation(&seen, late.clone())).await.unwrap();
    assert!(matches!(rotated, Rotation::Gone), "{rotated:?}");
    assert_eq!(three.load(&late.digest).await.unwrap(), None);
    assert_eq!(end(&one, &after.digest).await, None);
}

#[tokio::test]
async fn all_sessions_of_a_subject_end_wherever_they_are_carried() {
    let (_, one, two) = nodes();
    let (phone, laptop, bob) = (session(1, "ann"), session(2, "ANN"), session(3, "bob"));
    for record in [&phone, &laptop, &bob] {
        create(&one, record).await;
    }
    carry(&one, &two, &laptop.digest);
    let unseen = one.give_out(&phone.digest).unwrap();
    let ended = two.revoke_subject("Ann", Some(&laptop.digest), ending(EndReason::Revoked)).await.unwrap();
    assert!(ended.is_empty(), "of those it knows none but the one that stays: {ended:?}");
    assert_eq!(end(&one, &phone.digest).await, Some(EndReason::Revoked));
    assert_eq!((end(&one, &laptop.digest).await, end(&one, &bob.digest).await), (None, None));
    let three = node(one.ended());
    shows(&three, &unseen.0, unseen.1);
    assert_eq!(end(&three, &phone.digest).await, Some(EndReason::Revoked));
    // Who logs in afterwards is in, and what stayed goes on under another id, also after the next end of all others.
    let (tablet, laptop_after) = (session(5, "ann"), session(6, "ann"));
    create(&three, &tablet).await;
    let carried = carry(&two, &three, &laptop.digest);
    assert!(matches!(three.rotate(rotation(&carried, laptop_after.clone())).await.unwrap(), Rotation::Created(_)));
    assert_eq!((end(&three, &tablet.digest).await, end(&three, &laptop_after.digest).await), (None, None));
    let ended = three.revoke_subject("ann", Some(&laptop_after.digest), ending(EndReason::Revoked)).await.unwrap();
    assert_eq!(ended.iter().map(|record| record.digest).collect::<Vec<_>>(), [tablet.digest]);
    assert_eq!(
        (end(&three, &tablet.digest).await, end(&three, &laptop_after.digest).await),
        (Some(EndReason::Revoked), None)
    );
    let ended = one.revoke_subject("ann", None, ending(EndReason::Revoked)).await.unwrap();
    assert!(ended.is_empty(), "{ended:?}");
    assert_eq!(end(&three, &laptop_after.digest).await, Some(EndReason::Revoked));
}

/// The number of an epoch that was forgotten does not come again.
#[tokio::test]
async fn an_end_of_all_counts_after_an_earlier_one_was_forgotten() {
    let (ended, one, _) = nodes();
    assert!(one.revoke_subject("ann", None, ending(EndReason::Revoked)).await.unwrap().is_empty());
    let later = NOW.after(CARRIED_AGE_MAX * 2);
    let ann = Record { last_seen: later, removable_at: later.after(CARRIED_AGE_MAX), ..session(1, "ann") };
    create(&one, &ann).await;
    let (record, origin) = one.give_out(&ann.digest).unwrap();
    assert_eq!(origin.epochs.of_subject, NOW.as_millis());
    one.clear_expired(later, 1000).await.unwrap();
    assert_eq!(ended.store().count(), 0);
    let two = node(&ended);
    shows(&two, &record, origin);
    assert_eq!(end(&two, &ann.digest).await, None);
    let why = Ending { now: later, tombstone_until: later, why: EndReason::Revoked };
    assert_eq!(two.revoke_subject("ann", None, why).await.unwrap().len(), 1);
    let three = node(&ended);
    shows(&three, &record, origin);
    assert_eq!(end(&three, &ann.digest).await, Some(EndReason::Revoked));
}

#[tokio::test]
async fn all_sessions_of_everybody_end_wherever_they_are_carried() {
    let (_, one, two) = nodes();
    let (ann, bob, visitor, later) = (session(1, "ann"), session(2, "bob"), anonymous(3), session(4, "ann"));
    for record in [&ann, &bob, &visitor] {
        create(&one, record).await;
    }
    assert!(two.end_all(ending(EndReason::Revoked)).await.unwrap().is_empty(), "it knows none");
    for record in [&ann, &bob, &visitor] {
        assert_eq!(end(&one, &record.digest).await, Some(EndReason::Revoked));
    }
    create(&one, &later).await;
    assert_eq!(end(&one, &later.digest).await, None);
    let rotated = one.rotate(rotation(&later, session(5, "ann"))).await.unwrap();
    assert!(matches!(rotated, Rotation::Created(_)));
    assert_eq!(end(&one, &session(5, "ann").digest).await, None);
    let ended = one.end_all(ending(EndReason::Revoked)).await.unwrap();
    assert_eq!(ended.iter().map(|record| record.digest).collect::<Vec<_>>(), [session(5, "ann").digest]);
    assert_eq!(end(&one, &session(5, "ann").digest).await, Some(EndReason::Revoked));
}

/// What a node has in memory is as old as what a client shows.
#[tokio::test]
async fn a_session_that_was_not_used_for_a_day_is_over() {
    let ended = Shared::new(MemoryStore::default());
    let clock = at(NOW);
    let one = SealedStore::new(ended.clone(), MANY, ring(&[1]), clock.clone());
    let ann = Record { removable_at: NOW.after(30 * CARRIED_AGE_MAX), ..session(1, "ann") };
    create(&one, &ann).await;
    clock.set(NOW.after(CARRIED_AGE_MAX - Duration::from_millis(1)));
    assert!(one.load(&ann.digest).await.unwrap().is_some() && one.give_out(&ann.digest).is_some());
    clock.set(NOW.after(CARRIED_AGE_MAX));
    assert!(one.load(&ann.digest).await.unwrap().is_none() && one.give_out(&ann.digest).is_none());
    assert!(matches!(one.commit(ann.clone(), Durability::Durable).await.unwrap(), Commit::Gone));
    assert!(matches!(one.rotate(rotation(&ann, session(2, "ann"))).await.unwrap(), Rotation::Gone));
    assert!(one.list(&Filter::default(), None, 9).await.unwrap().records.is_empty());
    assert!(one.revoke_subject("ann", None, ending(EndReason::Revoked)).await.unwrap().is_empty());
}

/// Whoever had the key may have made sessions of his own, and had them sealed under others since.
#[tokio::test]
async fn what_was_made_under_a_key_ends_with_it() {
    let (_, one, _) = nodes();
    one.replace_keys(ring(&[2, 1]));
    let (ann, forged, cycled, login) = (session(1, "ann"), session(2, "ann"), session(3, "ann"), session(4, "ann"));
    create(&one, &ann).await;
    shows(&one, &forged, Origin { keys: under(&[1]), ..Origin::default() });
    assert!(matches!(one.rotate(rotation(&forged, cycled.clone())).await.unwrap(), Rotation::Created(_)));
    let visitor = Record { authenticated_at: None, ..session(5, "ann") };
    shows(&one, &visitor, Origin { keys: under(&[1]), ..Origin::default() });
    assert!(matches!(one.rotate(rotation(&visitor, login.clone())).await.unwrap(), Rotation::Created(_)));
    // An honest state does not wash a forged one.
    shows(&one, &cycled, Origin { keys: under(&[2]), ..Origin::default() });
    let carried = [&ann, &cycled, &login].map(|record| one.give_out(&record.digest).unwrap());
    assert_eq!(carried.each_ref().map(|(_, origin)| origin.keys), [under(&[2]), under(&[1, 2]), under(&[2])]);
    // A key of the same id may be another one.
    one.replace_keys(Keyring::new(&MasterKey::new(KeyId(2), [2; 32]), &[MasterKey::new(KeyId(1), [9; 32])]));
    assert!(one.load(&cycled.digest).await.unwrap().is_none());
    one.replace_keys(ring(&[2]));
    assert!(one.load(&cycled.digest).await.unwrap().is_none() && one.give_out(&cycled.digest).is_none());
    // Nor does it come back, though it was sealed under the new key since.
    let comes_back = carried.each_ref().map(|(record, origin)| shows(&one, record, *origin));
    assert_eq!(comes_back, [true, false, true]);
    assert!(one.load(&cycled.digest).await.unwrap().is_none());
    assert_eq!((end(&one, &ann.digest).await, end(&one, &login.digest).await), (None, None));
}

/// What was taken over from before the guard must not be taken over again, and what is out must be seen.
#[tokio::test]
async fn who_asks_for_what_is_stored_now_learns_of_ends_that_this_node_has_not_seen() {
    let (_, one, two) = nodes();
    let marker = Record { version: 0, ..anonymous(1).ended(NOW, EndReason::Replaced, NOW) };
    assert!(matches!(one.create(marker.clone(), None, NOW).await.unwrap(), Creation::Created(_)));
    let found = two.load_fresh(&marker.digest).await.unwrap().unwrap();
    assert!(found.is_replaced() && found.created_at == NOW);
    assert!(matches!(two.create(marker, None, NOW).await.unwrap(), Creation::Exists));
    assert!(two.load_fresh(&anonymous(9).digest).await.unwrap().is_none());
}

#[tokio::test]
async fn ends_are_remembered_as_long_as_a_state_may_be_shown_and_no_longer() {
    let (ended, one, _) = nodes();
    let ann = session(1, "ann");
    create(&one, &ann).await;
    one.revoke(&ann.digest, ending(EndReason::Logout)).await.unwrap();
    let last = NOW.after(CARRIED_AGE_MAX).after(2 * CLOCKS_APART_MAX);
    let just_before = Timestamp::from_millis(last.as_millis() - 1);
    one.clear_expired(just_before, 1000).await.unwrap();
    let two = node(&ended);
    shows(&two, &ann, Origin::default());
    assert_eq!(end(&two, &ann.digest).await, Some(EndReason::Logout));
    one.clear_expired(last, 1000).await.unwrap();
    assert_eq!(ended.store().count(), 0);
    assert_eq!(one.load(&ann.digest).await.unwrap(), None);
}

#[tokio::test]
async fn a_session_that_is_held_back_is_held_back_on_every_node() {
    let (_, one, two) = nodes();
    let ann = session(1, "ann");
    create(&one, &ann).await;
    carry(&one, &two, &ann.digest);
    let held = State::Quarantined { since: NOW };
    let change = one.commit(Record { state: held.clone(), ..ann.clone() }, Durability::Durable).await.unwrap();
    assert!(matches!(change, Commit::Done(_)));
    let there = two.load(&ann.digest).await.unwrap().unwrap();
    assert_eq!(there.state, held);
    // A change that was made of what it was before comes too late.
    let late = two.rotate(rotation(&ann, session(3, "ann"))).await.unwrap();
    assert!(matches!(&late, Rotation::Conflict(there) if there.state == held), "{late:?}");
    // One that is made of it keeps it, and so does what its client carries from then on.
    let there = two.load(&ann.digest).await.unwrap().unwrap();
    let change = two.commit(there.as_ref().clone(), Durability::Soon).await.unwrap();
    assert!(matches!(change, Commit::Done(_)));
    assert_eq!(two.give_out(&ann.digest).unwrap().0.state, held);
    // A login ends it, with the session.
    let after = session(2, "ann");
    let there = two.load(&ann.digest).await.unwrap().unwrap();
    assert!(matches!(two.rotate(rotation(&there, after.clone())).await.unwrap(), Rotation::Created(_)));
    assert_eq!((end(&one, &ann.digest).await, end(&two, &after.digest).await), (Some(EndReason::Replaced), None));
}

#[tokio::test]
async fn an_end_of_all_is_found_by_nodes_with_one_of_the_keys() {
    let ended = Shared::new(MemoryStore::default());
    let with = |ids: &[u8]| SealedStore::new(ended.clone(), MANY, ring(ids), at(NOW));
    for (made, ends, looks) in [(&[1][..], &[2, 1][..], &[1][..]), (&[2, 1], &[1, 2], &[2]), (&[1], &[1], &[2, 1])] {
        let (here, ann) = (with(made), session(u64::from(looks[0]) * 10 + ends.len() as u64, "ann"));
        create(&here, &ann).await;
        let (record, origin) = here.give_out(&ann.digest).unwrap();
        with(ends).revoke_subject("ann", None, ending(EndReason::Revoked)).await.unwrap();
        let there = with(looks);
        assert!(shows(&there, &record, Origin { keys: under(looks), ..origin }));
        assert_eq!(end(&there, &ann.digest).await, Some(EndReason::Revoked), "{made:?} {ends:?} {looks:?}");
    }
}

#[tokio::test]
async fn what_ended_elsewhere_does_not_count_for_a_limit() {
    let (_, one, two) = nodes();
    let limit = Some(SubjectLimit { sessions: 1.try_into().unwrap(), on_limit: OnLimit::Refuse });
    let (first, second, third) = (session(1, "ann"), session(2, "ann"), session(3, "ann"));
    create(&one, &first).await;
    carry(&one, &two, &first.digest);
    assert!(matches!(two.create(second.clone(), limit, NOW).await.unwrap(), Creation::Created(Created::Refused)));
    one.revoke(&first.digest, ending(EndReason::Logout)).await.unwrap();
    assert!(matches!(two.create(second.clone(), limit, NOW).await.unwrap(), Creation::Created(Created::Done { .. })));
    one.revoke_subject("ann", None, ending(EndReason::Revoked)).await.unwrap();
    let visitor = anonymous(4);
    create(&two, &visitor).await;
    let rotated = two.rotate(Rotate { limit, ..rotation(&visitor, third) }).await.unwrap();
    assert!(matches!(rotated, Rotation::Created(Created::Done { .. })), "{rotated:?}");
}

#[tokio::test]
async fn what_does_not_fit_into_cookies_is_refused_and_changes_nothing() {
    let (_, one, _) = nodes();
    let filled = |record: Record, bytes: usize| {
        let mut record = Record { data: vec![7; bytes].into(), ..record };
        let over = record.encode().len() - record.history.len() - bytes;
        record.data = vec![7; bytes - over].into();
        record
    };
    let is_too_large = |error: StoreError| matches!(error, StoreError::TooLarge { max: CARRIED_BYTES_FILLED_MAX, .. });
    let ann = session(1, "ann");
    let (full, large) = (CARRIED_BYTES_FILLED_MAX, CARRIED_BYTES_FILLED_MAX + 1);
    assert!(is_too_large(one.create(filled(ann.clone(), large), None, NOW).await.unwrap_err()));
    create(&one, &ann).await;
    assert!(is_too_large(one.commit(filled(ann.clone(), large), Durability::Durable).await.unwrap_err()));
    assert!(is_too_large(one.rotate(rotation(&ann, filled(session(2, "ann"), large))).await.unwrap_err()));
    assert_eq!(one.load(&ann.digest).await.unwrap().as_deref(), Some(&ann));
    // A full one has room for what the guard notes in it.
    let change = one.commit(filled(ann.clone(), full), Durability::Durable).await.unwrap();
    let Commit::Done(there) = change else { panic!("{change:?}") };
    let mut noted =
        Record { history: vec![7; 400].into(), state: State::Quarantined { since: NOW }, ..there.as_ref().clone() };
    for generation in 1..=20 {
        noted.tags.adopt(Tag::from_bytes([generation; 16]), NOW.after(Duration::from_secs(generation.into())));
        noted.tags.note_stale(Tag::from_bytes([100 + generation; 16]), NOW);
    }
    let change = one.commit(noted, Durability::Durable).await.unwrap();
    assert!(matches!(&change, Commit::Done(there) if there.encode().len() > full), "{change:?}");
}

/// What happens before a mark is looked for.
enum Before {
    /// Nothing.
    Nothing,
    /// Before so many more looks, another node ends all sessions of Ann.
    Ends(usize, Box<Node>),
    /// It hangs.
    Hangs,
    /// It hangs after so many more.
    HangsAfter(usize),
}

/// Remembers nothing while it is out, may be slow, and can not read what is under a key that has left.
struct Flaky {
    is_out: AtomicBool,
    before: parking_lot::Mutex<Before>,
    unreadable: parking_lot::Mutex<Vec<SessionDigest>>,
}

fn flaky(memory: Shared<MemoryStore>) -> Hooked<Flaky> {
    let before = parking_lot::Mutex::new(Before::Nothing);
    let hook = Flaky { is_out: AtomicBool::new(false), before, unreadable: parking_lot::Mutex::default() };
    Hooked { memory, hook }
}

impl Flaky {
    async fn look(&self) {
        let before = std::mem::replace(&mut *self.before.lock(), Before::Nothing);
        match before {
            Before::Nothing => {}
            Before::Ends(0, other) => {
                other.revoke_subject("ann", None, ending(EndReason::Revoked)).await.unwrap();
            }
            Before::Ends(more, other) => *self.before.lock() = Before::Ends(more - 1, other),
            Before::HangsAfter(more) if more > 0 => *self.before.lock() = Before::HangsAfter(more - 1),
            Before::Hangs | Before::HangsAfter(_) => {
                *self.before.lock() = Before::Hangs;
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Hook for Flaky {
    async fn before(&self, call: Call<'_>) -> Result<(), StoreError> {
        if matches!(call, Call::Load(_) | Call::Create) {
            self.look().await;
        }
        match call {
            Call::Load(digest) if self.unreadable.lock().contains(digest) => Err(DecodeError::Damaged.into()),
            // It answers what is asked, and can not write.
            Call::Create | Call::Change if self.is_out.load(Ordering::SeqCst) => Err(StoreError::io("out")),
            _ => Ok(()),
        }
    }
}

/// An end that nobody would remember is none: the caller is told, and tries again.
#[tokio::test]
async fn what_can_not_be_remembered_did_not_happen() {
    let one = sealed(flaky(Shared::new(MemoryStore::default())));
    let (ann, older, held) = (session(1, "ann"), session(2, "ann"), anonymous(3));
    for record in [&ann, &older, &held] {
        create(&one, record).await;
    }
    one.ended().hook.is_out.store(true, Ordering::SeqCst);
    assert!(one.revoke(&ann.digest, ending(EndReason::Logout)).await.is_err());
    assert!(one.revoke_subject("ann", None, ending(EndReason::Revoked)).await.is_err());
    let limit = Some(SubjectLimit { sessions: 1.try_into().unwrap(), on_limit: OnLimit::EvictOldest });
    let after = session(4, "ann");
    let rotate = Rotate { limit, also_end: Some(&held.digest), ..rotation(&ann, after.clone()) };
    assert!(one.rotate(rotate.clone()).await.is_err());
    assert!(one.create(session(5, "ann"), limit, NOW).await.is_err());
    for record in [&ann, &older, &held] {
        assert_eq!(one.load(&record.digest).await.unwrap().as_deref(), Some(record));
    }
    for gone in [after.digest, session(5, "ann").digest] {
        assert_eq!(one.load(&gone).await.unwrap(), None);
    }
    assert_eq!(
        one.list(&Filter { subject: Some("ann".into()), ..Filter::default() }, None, 9).await.unwrap().records.len(),
        2
    );
    one.ended().hook.is_out.store(false, Ordering::SeqCst);
    assert!(matches!(one.rotate(rotate).await.unwrap(), Rotation::Created(Created::Done { .. })));
    assert_eq!(end(&one, &older.digest).await, Some(EndReason::Evicted));
    assert_eq!(end(&one, &held.digest).await, Some(EndReason::Revoked));
}

/// A place that is full forgets no end of a session that somebody authenticated in, and that of a visitor's for it.
#[tokio::test]
async fn what_remembers_and_is_full_says_so() {
    let ended = Shared::new(MemoryStore::new(2.try_into().unwrap()));
    let one = node(&ended);
    let (visitor, ann, bob, eve) = (anonymous(1), session(2, "ann"), session(3, "bob"), session(4, "eve"));
    for record in [&visitor, &ann, &bob, &eve] {
        create(&one, record).await;
    }
    for record in [&visitor, &ann, &bob] {
        assert!(one.revoke(&record.digest, ending(EndReason::Logout)).await.unwrap().is_some());
    }
    let one_more = one.revoke(&eve.digest, ending(EndReason::Logout)).await;
    assert!(matches!(one_more, Err(StoreError::Full)), "{one_more:?}");
    for record in [&ann, &bob] {
        let two = node(&ended);
        shows(&two, record, Origin::default());
        assert_eq!(end(&two, &record.digest).await, Some(EndReason::Logout));
    }
}

/// Who goes away in the middle leaves things as they were.
#[tokio::test]
async fn a_change_that_is_broken_off_is_taken_back() {
    let one = sealed(flaky(Shared::new(MemoryStore::default())));
    let (before, after) = (session(1, "ann"), session(2, "ann"));
    create(&one, &before).await;
    let mut was_done = false;
    for looks in 0..20 {
        *one.ended().hook.before.lock() = Before::HangsAfter(looks);
        let mut rotated = Box::pin(one.rotate(rotation(&before, after.clone())));
        let polled = std::future::poll_fn(|cx| Poll::Ready(rotated.as_mut().poll(cx))).await;
        drop(rotated);
        *one.ended().hook.before.lock() = Before::Nothing;
        if polled.is_ready() {
            assert!(looks > 4, "it was broken off at every look");
            was_done = true;
            break;
        }
        assert_eq!(one.load(&before.digest).await.unwrap().as_deref(), Some(&before), "{looks}");
        assert_eq!(one.load(&after.digest).await.unwrap(), None);
    }
    assert!(was_done);
}

/// Whenever another node ends all sessions of a subject while one of them gets a new id, none of them is left.
#[tokio::test]
async fn no_session_slips_past_an_end_of_all_by_getting_a_new_id() {
    let mut was_late = false;
    for looks in 0..12 {
        let ended = Shared::new(MemoryStore::default());
        let one = sealed(flaky(ended.clone()));
        let (before, after) = (session(1, "ann"), session(2, "Ann"));
        create(&one, &before).await;
        *one.ended().hook.before.lock() = Before::Ends(looks, Box::new(node(&ended)));
        let rotated = one.rotate(rotation(&before, after.clone())).await.unwrap();
        if matches!(*one.ended().hook.before.lock(), Before::Ends(..)) {
            was_late = true;
            break;
        }
        assert_eq!(one.load(&before.digest).await.unwrap().map(|record| record.is_ended()), Some(true), "{looks}");
        let left = one.load(&after.digest).await.unwrap();
        assert!(left.is_none_or(|record| record.is_ended()), "{looks}: {rotated:?}");
    }
    assert!(was_late, "the end came at every moment there is");
}

/// While what remembers does not answer, nobody waits for those before him for ever.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_for_his_turn() {
    let one = Arc::new(sealed(flaky(Shared::new(MemoryStore::default()))));
    let ann = session(1, "ann");
    create(&one, &ann).await;
    *one.ended().hook.before.lock() = Before::Hangs;
    let (first, digest) = (one.clone(), ann.digest);
    let hangs = tokio::spawn(async move { first.revoke(&digest, ending(EndReason::Logout)).await });
    tokio::task::yield_now().await;
    let answer = one.commit(ann, Durability::Durable).await;
    assert!(answer.is_err_and(|error| error.to_string().contains("take too long")));
    hangs.abort();
}

#[test]
fn whatever_comes_between_has_an_order() {
    let played = every_schedule_of_two_has_an_order(Looks::Stored, || sealed(Hooked::new(Yields(Gaps::Before))));
    assert!(played > 500, "{played}");
    schedules_of_three_have_an_order(Looks::Stored, || sealed(Hooked::new(Yields(Gaps::Both))), 100);
}

/// A key was staged, somebody was ended everywhere, and then the key of that moment was taken out: what it says can not be read.
#[tokio::test]
async fn an_end_of_all_that_can_not_be_read_ends_all_and_keeps_nobody_from_logging_in() {
    let ended = Shared::new(MemoryStore::default());
    let one = sealed(flaky(ended.clone()));
    let (ann, bob) = (session(1, "ann"), session(2, "bob"));
    for whose in [Whose::Subject("ann"), Whose::Everybody] {
        one.next_epoch(whose, None, ending(EndReason::Revoked)).await.unwrap();
    }
    create(&one, &ann).await;
    create(&one, &bob).await;
    let burn = |whose: Whose<'_>, place| one.ended().hook.unreadable.lock().extend(one.names(whose, place));
    burn(Whose::Subject("ann"), 0);
    assert_eq!(end(&one, &ann.digest).await, Some(EndReason::Revoked), "it may have ended");
    assert_eq!(end(&one, &bob.digest).await, None);
    let login = session(3, "ann");
    create(&one, &login).await;
    assert_eq!(end(&one, &login.digest).await, None);
    assert_eq!(one.revoke_subject("ann", None, ending(EndReason::Revoked)).await.unwrap().len(), 1);
    let (rotated, visitor) = (session(5, "ann"), anonymous(4));
    create(&one, &visitor).await;
    burn(Whose::Subject("ann"), 1);
    assert!(matches!(one.rotate(rotation(&visitor, rotated.clone())).await.unwrap(), Rotation::Created(_)));
    assert_eq!(end(&one, &rotated.digest).await, None);
    // The same for what ended everybody.
    burn(Whose::Everybody, 0);
    for record in [&bob, &rotated] {
        assert_eq!(end(&one, &record.digest).await, Some(EndReason::Revoked));
    }
    let later = session(6, "bob");
    create(&one, &later).await;
    assert_eq!(end(&one, &later.digest).await, None);
    assert_eq!(one.end_all(ending(EndReason::Revoked)).await.unwrap().len(), 1);
    assert_eq!(end(&one, &later.digest).await, Some(EndReason::Revoked));
}

#[tokio::test]
async fn a_node_that_knows_as_many_as_it_can_says_so() {
    let one = SealedStore::new(Shared::new(MemoryStore::default()), NonZeroUsize::MIN, ring(&[1]), at(NOW));
    create(&one, &session(1, "ann")).await;
    let error = one.take_in(session(2, "bob"), Origin::default(), NOW).unwrap_err();
    assert!(matches!(error, StoreError::Full), "{error}");
    assert!(one.give_out(&session(2, "bob").digest).is_none());
}

/// In whatever order: who logs in while everybody is ended is in, or out, on this node as on every other.
#[tokio::test]
async fn who_comes_while_everybody_is_ended_is_the_same_to_all_nodes() {
    let mut every = Every::default();
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let one = sealed(Hooked::new(Yields(Gaps::Both)));
        let (before, after) = (session(1, "ann"), session(2, "bob"));
        create(&one, &before).await;
        let login = async { create(&one, &after).await };
        let ends = async { drop(one.end_all(ending(EndReason::Revoked)).await.unwrap()) };
        play(vec![Box::pin(login), Box::pin(ends)], &mut every).await;
        assert_eq!(end(&one, &before.digest).await, Some(EndReason::Revoked));
        let here = end(&one, &after.digest).await;
        let there = node(&one.ended().memory);
        shows(&there, &after, one.began.get(&after.digest));
        assert_eq!(end(&there, &after.digest).await, here);
        seen.insert(here.is_some());
        if !every.next() {
            break;
        }
    }
    assert_eq!(seen.len(), 2, "it was in, and it was out");
}
