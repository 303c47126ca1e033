//! Cases of one caller: creating, committing, rotating, ending.

use std::sync::Arc;

use super::{
    KEPT, NOW, Outcome, anonymous, create, created, digest, ended, ending, limit, load, must, rotation, session,
};
use crate::session::record::{EndReason, Record, State};
use crate::store::{Commit, Created, Creation, Durability, Filter, OnLimit, Rotate, Rotation, Store};

pub(super) async fn what_is_created_is_loaded<S: Store>(store: Arc<S>) -> Outcome {
    let record = session(1, "ann");
    create(&*store, Record { version: 7, ..record.clone() }).await?;
    let loaded = load(&*store, &record.digest).await?;
    must!(*loaded == record, "a record is loaded as it was created, with version 0, not {loaded:?}");
    must!(store.load(&digest(2)).await?.is_none(), "nothing is loaded under a digest that was never created");
    Ok(())
}

pub(super) async fn a_digest_is_created_once<S: Store>(store: Arc<S>) -> Outcome {
    create(&*store, session(1, "ann")).await?;
    let again = store.create(session(1, "eve"), None, NOW).await?;
    must!(matches!(again, Creation::Exists), "a digest that is taken is not created again: {again:?}");
    must!(*load(&*store, &digest(1)).await? == session(1, "ann"), "a refused creation changes nothing");
    store.revoke(&digest(1), ending(EndReason::Logout)).await?;
    let again = store.create(session(1, "eve"), None, NOW).await?;
    must!(matches!(again, Creation::Exists), "a tombstone's digest is taken: {again:?}");
    Ok(())
}

pub(super) async fn what_has_ended_is_created_as_a_tombstone<S: Store>(store: Arc<S>) -> Outcome {
    create(&*store, session(1, "ann")).await?;
    let why = EndReason::Logout;
    let tombstone = Record { version: 0, ..session(2, "ann").ended(NOW, why, NOW.after(KEPT)) };
    // A limit that is reached already, and one that would end the other session.
    let answer = store.create(tombstone.clone(), limit(1, OnLimit::Refuse), NOW).await?;
    let counted = matches!(&answer, Creation::Created(Created::Done { evicted, live: 1, .. }) if evicted.is_empty());
    must!(counted, "a tombstone is not one more session of its subject: {answer:?}");
    let other = Record { version: 0, ..session(3, "ann").ended(NOW, EndReason::Replaced, NOW.after(KEPT)) };
    store.create(other.clone(), limit(1, OnLimit::EvictOldest), NOW).await?;
    must!(ended(&*store, &digest(1)).await?.is_none(), "nobody ends for a tombstone");
    for made in [&tombstone, &other] {
        must!(*load(&*store, &made.digest).await? == *made, "it is loaded as it was created");
        must!(store.revoke(&made.digest, ending(EndReason::Revoked)).await?.is_none(), "it does not end again");
        let answer = store.commit(Record { state: State::Live, ..made.clone() }, Durability::Durable).await?;
        must!(matches!(answer, Commit::Gone), "no commit revives it: {answer:?}");
        let answer = store.create(session(2, "eve"), None, NOW).await?;
        must!(matches!(answer, Creation::Exists), "its digest is taken: {answer:?}");
        must!(*load(&*store, &made.digest).await? == *made, "it is as it was");
    }
    let listed = super::live(&*store, "ann").await?;
    must!(listed.len() == 1, "it is not listed with those that live: {listed:?}");
    let all = Filter { subject: Some("ann".into()), with_ended: true, ..Filter::default() };
    must!(store.list(&all, None, 10).await?.records.len() == 3, "it is listed with those that ended");
    let everything = store.list(&Filter::default(), None, 10).await?.records;
    must!(everything.len() == 1, "a list of all that live leaves it out too: {everything:?}");
    must!(store.revoke_subject("ann", None, ending(EndReason::Revoked)).await?.len() == 1, "one lived");
    must!(store.clear_expired(NOW.after(KEPT), 10).await? >= 2, "it is removed when its time is over");
    must!(store.load(&tombstone.digest).await?.is_none(), "it is gone then");
    Ok(())
}

pub(super) async fn a_commit_succeeds_over_its_version_alone<S: Store>(store: Arc<S>) -> Outcome {
    create(&*store, anonymous(1)).await?;
    let mut base = anonymous(1);
    for (version, durability) in [(1, Durability::Durable), (2, Durability::Soon), (3, Durability::Durable)] {
        let stale = base.clone();
        base.jar = vec![u8::try_from(version).unwrap_or(0); 50].into();
        let answer = store.commit(base.clone(), durability).await?;
        let Commit::Done(stored) = answer else { return Err(super::Fault::Answer(format!("not {answer:?}"))) };
        base.version = version;
        must!(*stored == base, "a commit answers with what is stored, its version one higher: {stored:?}");
        must!(*load(&*store, &digest(1)).await? == base, "a commit is seen by the next load");
        let late = store.commit(stale, durability).await?;
        must!(matches!(&late, Commit::Conflict(there) if **there == base), "a late commit conflicts: {late:?}");
        let ahead = store.commit(Record { version: version + 1, ..base.clone() }, durability).await?;
        must!(matches!(ahead, Commit::Conflict(_)), "a commit over a version that is not there conflicts: {ahead:?}");
        must!(*load(&*store, &digest(1)).await? == base, "a conflict changes nothing");
        let nowhere = store.commit(anonymous(2), durability).await?;
        must!(matches!(nowhere, Commit::Gone), "a commit to nothing is gone: {nowhere:?}");
    }
    must!(store.load(&digest(2)).await?.is_none(), "a commit to nothing creates nothing");
    Ok(())
}

pub(super) async fn a_commit_leaves_subject_and_reference_alone<S: Store>(store: Arc<S>) -> Outcome {
    create(&*store, session(1, "ann")).await?;
    let other = session(2, "eve");
    let changed = Record { subject: other.subject, reference: other.reference, ..session(1, "ann") };
    store.commit(changed, Durability::Durable).await?;
    let loaded = load(&*store, &digest(1)).await?;
    must!(loaded.subject.as_deref() == Some("ann"), "a commit does not change the subject: {:?}", loaded.subject);
    must!(loaded.reference == session(1, "ann").reference, "a commit does not change the reference");
    must!(super::live(&*store, "eve").await?.is_empty(), "a commit gives nobody a session");
    Ok(())
}

pub(super) async fn what_ended_stays_ended<S: Store>(store: Arc<S>) -> Outcome {
    create(&*store, session(1, "ann")).await?;
    let last = store.revoke(&digest(1), ending(EndReason::Logout)).await?;
    must!(last.as_deref() == Some(&session(1, "ann")), "revoking gives the last record: {last:?}");
    let tombstone = load(&*store, &digest(1)).await?;
    let expected = State::Ended { at: NOW, why: EndReason::Logout };
    must!(tombstone.state == expected, "a tombstone says when and why: {:?}", tombstone.state);
    must!(tombstone.jar.is_empty() && tombstone.history.is_empty(), "a tombstone keeps no cookies and no history");
    must!(tombstone.removable_at == ending(EndReason::Logout).tombstone_until, "a tombstone is kept as long as asked");
    for version in [0, tombstone.version] {
        for durability in [Durability::Durable, Durability::Soon] {
            let late = Record { version, ..session(1, "ann") };
            let answer = store.commit(late, durability).await?;
            must!(matches!(answer, Commit::Gone), "a late save does not revive a session: {answer:?}");
        }
        let answer = store.rotate(rotation(&Record { version, ..session(1, "ann") }, session(2, "ann"), None)).await?;
        must!(matches!(answer, Rotation::Gone), "what ended is not rotated: {answer:?}");
    }
    let again = store.revoke(&digest(1), ending(EndReason::Revoked)).await?;
    must!(again.is_none(), "a session ends once");
    must!(load(&*store, &digest(1)).await? == tombstone, "nothing changes a tombstone");
    must!(store.load(&digest(2)).await?.is_none(), "nothing came of it");
    must!(store.revoke(&digest(3), ending(EndReason::Revoked)).await?.is_none(), "what is not there does not end");
    Ok(())
}

pub(super) async fn a_rotation_is_one_step<S: Store>(store: Arc<S>) -> Outcome {
    create(&*store, anonymous(1)).await?;
    let new = Record { reference: anonymous(1).reference, version: 9, ..session(2, "ann") };
    let answer = store.rotate(rotation(&anonymous(1), new.clone(), None)).await?;
    must!(created(&answer), "a session gets a new id: {answer:?}");
    let loaded = load(&*store, &digest(2)).await?;
    must!(*loaded == Record { version: 0, ..new }, "the new record is stored with version 0: {loaded:?}");
    must!(ended(&*store, &digest(1)).await? == Some(EndReason::Replaced), "the old id is dead at once");
    let late = store.commit(anonymous(1), Durability::Durable).await?;
    must!(matches!(late, Commit::Gone), "a late save does not undo a rotation: {late:?}");
    must!(super::live(&*store, "ann").await?.len() == 1, "the subject has one session");
    Ok(())
}

pub(super) async fn a_rotation_that_can_not_be_changes_nothing<S: Store>(store: Arc<S>) -> Outcome {
    create(&*store, anonymous(1)).await?;
    create(&*store, session(2, "ann")).await?;
    store.commit(anonymous(1), Durability::Durable).await?;
    let there = load(&*store, &digest(1)).await?;
    let late = store.rotate(rotation(&anonymous(1), session(3, "ann"), None)).await?;
    must!(matches!(&late, Rotation::Conflict(now) if *now == there), "a late rotation conflicts: {late:?}");
    must!(store.load(&digest(3)).await?.is_none(), "a conflict creates nothing");
    let taken = store.rotate(rotation(&there, session(2, "eve"), None)).await?;
    must!(matches!(taken, Rotation::Gone), "a digest that is taken is not given again: {taken:?}");
    let same = store.rotate(rotation(&there, session(1, "eve"), None)).await?;
    must!(matches!(same, Rotation::Gone), "a session does not get its own id: {same:?}");
    must!(*load(&*store, &digest(2)).await? == session(2, "ann"), "a refused rotation takes nothing away");
    must!(load(&*store, &digest(1)).await? == there, "a refused rotation leaves the old record");
    let nowhere = store.rotate(rotation(&anonymous(4), session(5, "ann"), None)).await?;
    must!(matches!(nowhere, Rotation::Gone), "nothing comes of nothing: {nowhere:?}");
    must!(store.load(&digest(5)).await?.is_none(), "nothing comes of nothing");
    Ok(())
}

pub(super) async fn a_rotation_can_end_a_second_session<S: Store>(store: Arc<S>) -> Outcome {
    for nth in 1..=2 {
        create(&*store, session(nth, "ann")).await?;
    }
    create(&*store, anonymous(3)).await?;
    let (second, held) = (digest(1), anonymous(3));
    let answer = store.rotate(Rotate { also_end: Some(&second), ..rotation(&held, session(4, "ann"), None) }).await?;
    must!(created(&answer), "a session gets a new id: {answer:?}");
    must!(ended(&*store, &digest(1)).await?.is_some(), "the second session ends with it");
    must!(ended(&*store, &digest(3)).await? == Some(EndReason::Replaced), "the old one is replaced");
    must!(super::live(&*store, "ann").await?.len() == 2, "others go on");
    // One that is gone already, or is the old one itself, is no obstacle.
    for (nth, also) in [(4, digest(1)), (5, digest(5)), (6, digest(99))] {
        let next = rotation(&session(nth, "ann"), session(nth + 1, "ann"), None).new;
        let old = session(nth, "ann");
        let answer = store.rotate(Rotate { also_end: Some(&also), ..rotation(&old, next, None) }).await?;
        must!(created(&answer), "a second session that can not end is no obstacle: {answer:?}");
    }
    must!(super::live(&*store, "ann").await?.len() == 2, "each rotation leaves one session for one");
    Ok(())
}
