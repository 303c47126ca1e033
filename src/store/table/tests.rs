//! Room, time and undoing; what callers see is tested by the conformance suite.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::session::id::Ref;
use crate::session::record::{Lasting, State};
use crate::session::tag::{Tag, Tags};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn at(seconds: u64) -> Timestamp {
    NOW.after(Duration::from_secs(seconds))
}

fn digest(nth: u64) -> SessionDigest {
    SessionDigest(crate::secret::sha256(&nth.to_be_bytes()))
}

fn anonymous(nth: u64, removable: u64) -> Record {
    Record {
        digest: digest(nth),
        reference: Ref([0; 16]),
        version: 0,
        created_at: NOW,
        id_since: NOW,
        authenticated_at: None,
        last_seen: NOW,
        ends_at: None,
        lasting: Lasting::Default,
        removable_at: at(removable),
        subject: None,
        tags: Tags::new(Tag::from_bytes([0; 16]), NOW),
        forks: 0,
        state: State::Live,
        jar: Box::default(),
        data: Box::default(),
        bound: Box::default(),
        history: Box::default(),
    }
}

fn session(nth: u64, removable: u64) -> Record {
    Record { authenticated_at: Some(NOW), subject: Some("ann".into()), ..anonymous(nth, removable) }
}

fn table(sessions_max: usize) -> Table {
    Table::new(NonZeroUsize::new(sessions_max).unwrap())
}

/// Creates at a time, and publishes.
fn create(table: &mut Table, record: Record, now: u64) -> Result<(), Full> {
    let answer = table.create(record, None, at(now));
    table.publish_open();
    answer.map(|answer| assert!(matches!(answer, Creation::Created(Created::Done { .. }))))
}

fn there(table: &Table, all: std::ops::Range<u64>) -> Vec<u64> {
    all.filter(|nth| table.shards.get(&digest(*nth)).is_some()).collect()
}

/// Sweeps until there is nothing more; how many went.
fn sweep(table: &mut Table, now: Timestamp) -> usize {
    let mut gone = 0;
    loop {
        let swept = table.sweep(now, 100);
        table.publish_open();
        match swept {
            Swept::All(removed) => return gone + removed,
            Swept::Some(removed) => gone += removed,
        }
    }
}

#[test]
fn a_full_store_throws_out_what_is_over_then_what_is_anonymous() {
    let mut table = table(4);
    create(&mut table, anonymous(0, 500), 0).unwrap();
    create(&mut table, session(1, 10), 0).unwrap();
    create(&mut table, anonymous(2, 400), 0).unwrap();
    create(&mut table, session(3, 5000), 0).unwrap();
    // The one whose time is over goes, though somebody authenticated in it.
    create(&mut table, anonymous(4, 600), 20).unwrap();
    assert_eq!(there(&table, 0..5), [0, 2, 3, 4]);
    // Then the anonymous ones, the one that would be over first before the others.
    create(&mut table, session(5, 5000), 20).unwrap();
    assert_eq!(there(&table, 0..6), [0, 3, 4, 5]);
    create(&mut table, session(6, 5000), 20).unwrap();
    create(&mut table, session(7, 5000), 20).unwrap();
    assert_eq!(there(&table, 0..8), [3, 5, 6, 7]);
    // Then nothing, for nobody.
    assert!(create(&mut table, anonymous(8, 9000), 20).is_err());
    assert!(create(&mut table, session(9, 9000), 20).is_err());
    assert_eq!(there(&table, 0..10), [3, 5, 6, 7]);
    assert_eq!(table.count(), 4);
}

#[test]
fn a_session_in_use_is_not_the_one_that_goes() {
    let mut table = table(3);
    for nth in 0..3 {
        create(&mut table, anonymous(nth, 100 + nth), 0).unwrap();
    }
    for used in [0, 1] {
        let seen = Record { last_seen: at(50), removable_at: at(150 + used), ..anonymous(used, 0) };
        assert!(matches!(table.commit_published(seen), Commit::Done(_)));
    }
    create(&mut table, anonymous(3, 160), 60).unwrap();
    assert_eq!(there(&table, 0..4), [0, 1, 3]);
    create(&mut table, anonymous(4, 160), 60).unwrap();
    assert_eq!(there(&table, 0..5), [1, 3, 4]);
}

#[test]
fn a_login_finds_room_in_a_store_full_of_logins() {
    let mut table = table(1);
    create(&mut table, session(0, 5000), 0).unwrap();
    for nth in 0..5 {
        let old = digest(nth);
        let rotate = Rotate {
            old: &old,
            version: 0,
            new: session(nth + 1, 5000),
            also_end: None,
            limit: None,
            now: at(0),
            tombstone_until: at(600),
        };
        assert!(matches!(table.rotate(rotate).unwrap(), Rotation::Created(Created::Done { live: 1, .. })));
        table.publish_open();
        assert_eq!(there(&table, 0..9), [nth + 1]);
    }
    let limit = Some(SubjectLimit { sessions: 1.try_into().unwrap(), on_limit: OnLimit::EvictOldest });
    let answer = table.create(session(6, 5000), limit, at(0)).unwrap();
    assert!(matches!(answer, Creation::Created(Created::Done { live: 1, .. })));
}

#[test]
fn a_flood_of_anonymous_sessions_takes_room_from_anonymous_ones_alone() {
    let mut table = table(20_000);
    for nth in 0..20_000 {
        let record = if nth % 100 == 0 { anonymous(nth, 7000) } else { session(nth, 7000) };
        create(&mut table, record, 0).unwrap();
    }
    for nth in 20_000..20_400 {
        create(&mut table, anonymous(nth, 7000), 1).unwrap();
    }
    let anonymous_left = there(&table, 20_000..20_400).len();
    assert_eq!(anonymous_left, 200);
    assert_eq!(there(&table, 0..20_000).len(), 19_800);
}

#[test]
fn a_sweep_holds_the_lock_for_a_bounded_number_of_records() {
    let mut table = table(100_000);
    for nth in 0..5000 {
        create(&mut table, anonymous(nth, 10), 0).unwrap();
        let used = Record { removable_at: at(10_000), last_seen: at(9), ..anonymous(nth, 0) };
        assert!(matches!(table.commit_published(used), Commit::Done(_)));
    }
    // All stand in a bucket that is due, and none of them is over: ten looks put them off, and then it is quiet.
    let looks = std::iter::repeat_with(|| table.sweep(at(20), 100)).take_while(|swept| *swept == Swept::Some(0));
    assert_eq!(looks.count(), 5000 / LOOK_MAX);
    assert_eq!(table.sweep(at(20), 100), Swept::All(0));
    assert_eq!(sweep(&mut table, at(10_000)), 5000);
    assert_eq!(table.count(), 0);
    assert_eq!(table.index.wheel(Class::Yielding).entries(), 0);
}

#[test]
fn times_that_are_moved_forward_again_and_again_do_not_pile_up() {
    let mut table = table(10);
    create(&mut table, anonymous(0, 2_000_000), 0).unwrap();
    for nth in 0..20_000 {
        let sooner = Record { version: nth, removable_at: at(1_999_999 - 10 * nth), ..anonymous(0, 0) };
        assert!(matches!(table.commit_published(sooner), Commit::Done(_)));
        sweep(&mut table, NOW);
    }
    assert!(table.index.wheel(Class::Yielding).entries() < 5000);
    assert_eq!(sweep(&mut table, at(2_000_000)), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Create(u64, bool, u64),
    Commit(u64, u64),
    Revoke(u64),
    RevokeAll,
    Rotate(u64, u64),
    Sweep(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let nth = 0..30_u64;
    prop_oneof![
        (nth.clone(), any::<bool>(), 0..200_u64).prop_map(|(nth, known, due)| Step::Create(nth, known, due)),
        (nth.clone(), 0..20_000_u64).prop_map(|(nth, due)| Step::Commit(nth, due)),
        nth.clone().prop_map(Step::Revoke),
        Just(Step::RevokeAll),
        (nth.clone(), nth).prop_map(|(old, new)| Step::Rotate(old, new)),
        (0..200_u64).prop_map(Step::Sweep),
    ]
}

fn take(table: &mut Table, step: &Step) {
    let ending = Ending { why: EndReason::Revoked, now: NOW, tombstone_until: at(60) };
    match *step {
        Step::Create(nth, known, due) => {
            let record = if known { session(nth, due) } else { anonymous(nth, due) };
            let limit = Some(SubjectLimit { sessions: 3.try_into().unwrap(), on_limit: OnLimit::EvictOldest });
            drop(table.create(record, limit, NOW));
        }
        Step::Commit(nth, due) => {
            let Some(record) = table.latest(&digest(nth)) else { return };
            if table.next_version(Record { removable_at: at(due), ..(*record).clone() }).is_ok() {
                let (before, after) =
                    table.next_version(Record { removable_at: at(due), ..(*record).clone() }).unwrap();
                table.stage(Some(before), Some(after));
            }
        }
        Step::Revoke(nth) => drop(table.revoke(&digest(nth), ending)),
        Step::RevokeAll => drop(table.revoke_subject("ann", None, ending)),
        Step::Rotate(old, new) => {
            let Some(record) = table.latest(&digest(old)) else { return };
            drop(table.rotate(Rotate {
                old: &digest(old),
                version: record.version,
                new: session(new, 150),
                also_end: Some(&digest(old + 1)),
                limit: None,
                now: NOW,
                tombstone_until: at(60),
            }));
        }
        Step::Sweep(now) => drop(table.sweep(at(now), 5)),
    }
}

/// Everything that can be seen of a table.
fn picture(table: &Table) -> (usize, Vec<u64>, Vec<(SessionDigest, u64, bool)>) {
    let mut records = Vec::new();
    table.shards.for_each(|record| records.push((record.digest, record.version, record.is_ended())));
    records.sort_unstable();
    let of_ann = table.index.sessions("ann");
    (table.count(), of_ann, records)
}

/// What the index says must follow from the records.
fn assert_sound(table: &Table) {
    let (count, of_ann, records) = picture(table);
    assert_eq!(count, records.len());
    let mut all = Vec::new();
    table.shards.for_each(|record| all.push(record));
    let ann_s = all.iter().filter(|record| record.subject.is_some() && !record.is_ended());
    let mut expected: Vec<_> = ann_s.map(|record| record.digest.spread()).collect();
    expected.sort_unstable();
    assert_eq!(of_ann, expected);
    // At the third time it is at hand, and the next step finds it there.
    for record in &all {
        for _ in 0..3 {
            assert_eq!(table.shards.get(&record.digest).as_deref(), Some(record));
        }
    }
    assert_eq!(there(table, 0..64).len(), count);
}

proptest! {
    #[test]
    fn the_index_agrees_with_the_records_and_no_record_stays_for_ever(
        steps in proptest::collection::vec(step(), 0..60),
        max in 1..12_usize,
    ) {
        let mut table = table(max);
        for step in &steps {
            take(&mut table, step);
            table.publish_open();
            assert_sound(&table);
            prop_assert!(table.count() <= max);
        }
        sweep(&mut table, Timestamp::from_millis(u64::MAX));
        prop_assert_eq!(table.count(), 0);
    }
}

#[cfg(feature = "embedded")]
proptest! {
    #[test]
    fn what_is_undone_was_never_there(
        before in proptest::collection::vec(step(), 0..30),
        writing in proptest::collection::vec(step(), 0..15),
        open in proptest::collection::vec(step(), 0..15),
    ) {
        let mut table = table(12);
        for step in &before {
            take(&mut table, step);
            table.publish_open();
        }
        let picture_before = picture(&table);
        for step in &writing {
            take(&mut table, step);
        }
        table.begin_writing();
        for step in &open {
            take(&mut table, step);
        }
        table.undo_open();
        table.undo_writing();
        prop_assert_eq!(picture(&table), picture_before);
        assert_sound(&table);
        sweep(&mut table, Timestamp::from_millis(u64::MAX));
        prop_assert_eq!(table.count(), 0);
    }

    #[test]
    fn writing_in_batches_ends_where_publishing_at_once_does(
        batches in proptest::collection::vec(proptest::collection::vec(step(), 0..10), 0..6),
    ) {
        let (mut staged, mut at_once) = (table(12), table(12));
        for batch in &batches {
            // The next batch is decided while this one is written.
            staged.begin_writing();
            for step in batch {
                take(&mut staged, step);
                take(&mut at_once, step);
                at_once.publish_open();
            }
            staged.publish_written();
        }
        staged.begin_writing();
        staged.publish_written();
        prop_assert_eq!(picture(&staged), picture(&at_once));
        assert_sound(&staged);
        sweep(&mut staged, Timestamp::from_millis(u64::MAX));
        prop_assert_eq!(staged.count(), 0);
    }
}
