//! Cases about many sessions: those of a subject, pages, removal.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::{KEPT, NOW, Outcome, anonymous, create, digest, ended, ending, limit, live, load, must, rotation, session};
use crate::session::record::{EndReason, Record};
use crate::store::{Commit, Created, Creation, Durability, Filter, OnLimit, PAGE_MAX, Store};

pub(super) async fn all_sessions_of_a_subject_end_but_one<S: Store>(store: Arc<S>) -> Outcome {
    for nth in 1..=40 {
        create(&*store, session(nth, if nth % 2 == 0 { "ann" } else { "bob" })).await?;
    }
    create(&*store, anonymous(41)).await?;
    store.revoke(&digest(4), ending(EndReason::Logout)).await?;
    let last = store.revoke_subject("ann", Some(&digest(2)), ending(EndReason::Revoked)).await?;
    let names: HashSet<_> = last.iter().map(|record| record.digest).collect();
    must!(names.len() == 18 && last.len() == 18, "the last records of all others are given: {}", last.len());
    must!(last.iter().all(|record| !record.is_ended()), "they are given as they were");
    for nth in 1..=40 {
        let expected = match nth {
            2 => None,
            4 => Some(EndReason::Logout),
            nth if nth % 2 == 0 => Some(EndReason::Revoked),
            _ => None,
        };
        let found = ended(&*store, &digest(nth)).await?;
        must!(found == expected, "session {nth} must have ended by {expected:?}, not by {found:?}");
    }
    must!(live(&*store, "ann").await?.len() == 1, "one is left");
    must!(live(&*store, "bob").await?.len() == 20, "others keep theirs");
    let last = store.revoke_subject("ann", None, ending(EndReason::Revoked)).await?;
    must!(last.len() == 1, "without an exception that one ends too");
    let last = store.revoke_subject("nobody", None, ending(EndReason::Revoked)).await?;
    must!(last.is_empty(), "a subject without sessions has none to end");
    Ok(())
}

pub(super) async fn spellings_of_a_subject_are_one<S: Store>(store: Arc<S>) -> Outcome {
    let spellings = ["Ann", "ann", " ANN ", "\u{ff21}nn"];
    for (nth, spelling) in (1..).zip(spellings) {
        let answer = store.create(session(nth, spelling), limit(9, OnLimit::Refuse), NOW).await?;
        let expected = u32::try_from(nth).unwrap_or(0);
        let counted = matches!(&answer, Creation::Created(Created::Done { live, .. }) if *live == expected);
        must!(counted, "each spelling counts as the same subject: {answer:?}");
        let kept = load(&*store, &digest(nth)).await?;
        must!(kept.subject.as_deref() == Some(spelling), "a record keeps its spelling, not {:?}", kept.subject);
    }
    create(&*store, session(5, "anne")).await?;
    let answer = store.create(session(6, "aNN"), limit(4, OnLimit::Refuse), NOW).await?;
    must!(matches!(answer, Creation::Created(Created::Refused)), "no spelling is a way past the limit: {answer:?}");
    must!(live(&*store, "ann").await?.len() == 4, "all spellings are listed together");
    store.revoke(&digest(2), ending(EndReason::Logout)).await?;
    must!(live(&*store, "Ann").await?.len() == 3, "the one that ended is counted no more");
    let with_ended = Filter { subject: Some("ANN".into()), with_ended: true, ..Filter::default() };
    must!(store.list(&with_ended, None, 9).await?.records.len() == 4, "with those that ended, too");
    let ended = store.revoke_subject("aNn", Some(&digest(1)), ending(EndReason::Revoked)).await?;
    must!(ended.len() == 2, "a revocation ends all spellings but the exception: {}", ended.len());
    must!(live(&*store, "ann").await?.len() == 1 && live(&*store, "anne").await?.len() == 1, "and nobody else's");
    Ok(())
}

pub(super) async fn pages_give_every_session_once<S: Store>(store: Arc<S>) -> Outcome {
    let mut expected: Vec<_> = (0..230).map(digest).collect();
    for nth in 0..230 {
        create(&*store, session(nth, if nth % 3 == 0 { "ann" } else { "bob" })).await?;
    }
    expected.sort_unstable();
    let of_ann = Filter { subject: Some("ann".into()), ..Filter::default() };
    let ann: Vec<_> = expected.iter().filter(|name| (0..230).step_by(3).any(|nth| digest(nth) == **name)).collect();
    for (filter, expected) in [(Filter::default(), expected.iter().collect()), (of_ann, ann)] {
        for max in [1, 7, 77, 230, 231, usize::MAX] {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = store.list(&filter, after, max).await?;
                must!(page.records.len() <= max.min(PAGE_MAX), "a page is no longer than asked");
                must!(page.next.is_none() || page.records.len() == max, "only a full page is followed by another");
                seen.extend(page.records.iter().map(|record| record.digest));
                must!(seen.len() <= expected.len(), "pages come to an end");
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            must!(seen.iter().collect::<Vec<_>>() == expected, "pages of {max} give every session once and in order");
        }
    }
    Ok(())
}

pub(super) async fn filters_give_what_they_name<S: Store>(store: Arc<S>) -> Outcome {
    create(&*store, anonymous(1)).await?;
    create(&*store, session(2, "ann")).await?;
    create(&*store, session(3, "bob")).await?;
    let renewed = Record { reference: session(2, "ann").reference, ..session(4, "ann") };
    store.rotate(rotation(&session(2, "ann"), renewed, None)).await?;
    store.revoke(&digest(3), ending(EndReason::Revoked)).await?;
    let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
    let reference = Some(session(2, "ann").reference);
    let cases = [
        (Filter::default(), vec![1, 4]),
        (Filter { with_ended: true, ..Filter::default() }, vec![1, 2, 3, 4]),
        (Filter { subject: Some(Arc::clone(&ann)), ..Filter::default() }, vec![4]),
        (Filter { subject: Some(Arc::clone(&ann)), with_ended: true, reference: None }, vec![2, 4]),
        (Filter { subject: Some(Arc::clone(&bob)), ..Filter::default() }, vec![]),
        (Filter { subject: Some(Arc::clone(&bob)), with_ended: true, reference: None }, vec![3]),
        (Filter { reference, ..Filter::default() }, vec![4]),
        (Filter { reference, with_ended: true, subject: None }, vec![2, 4]),
        (Filter { reference, with_ended: true, subject: Some(ann) }, vec![2, 4]),
        (Filter { reference, with_ended: true, subject: Some(bob) }, vec![]),
        (Filter { reference: Some(anonymous(99).reference), ..Filter::default() }, vec![]),
    ];
    for (filter, expected) in cases {
        let mut expected: Vec<_> = expected.into_iter().map(digest).collect();
        expected.sort_unstable();
        let page = store.list(&filter, None, 10).await?;
        let found: Vec<_> = page.records.iter().map(|record| record.digest).collect();
        must!(found == expected && page.next.is_none(), "{filter:?} must give {expected:?}, not {found:?}");
    }
    Ok(())
}

pub(super) async fn nothing_is_removed_before_its_time<S: Store>(store: Arc<S>) -> Outcome {
    // Times close together and far apart, in milliseconds: what is due next second must not go with what is due now.
    let due: Vec<u64> = (0..100).map(|nth| nth * nth * 250).collect();
    for (nth, after) in (0..).zip(&due) {
        let removable_at = NOW.after(Duration::from_millis(*after));
        let record = if nth % 2 == 0 { anonymous(nth) } else { session(nth, "ann") };
        create(&*store, Record { removable_at, ..record }).await?;
    }
    must!(store.clear_expired(NOW.before(Duration::from_millis(1)), 1000).await? == 0, "nothing is due yet");
    let (mut now, mut left) = (NOW, due.len());
    while left > 0 {
        let expected = due.iter().filter(|after| NOW.after(Duration::from_millis(**after)) <= now).count();
        let mut gone = due.len() - left;
        must!(store.clear_expired(now, 0).await? == 0, "none are removed if none may be");
        loop {
            let removed = store.clear_expired(now, 3).await?;
            must!(removed <= 3, "no more are removed than asked: {removed}");
            gone += removed;
            if removed < 3 {
                break;
            }
        }
        must!(gone == expected, "{expected} are due by now, and {gone} are gone");
        for (nth, after) in (0..).zip(&due) {
            let is_there = store.load(&digest(nth)).await?.is_some();
            let is_due = NOW.after(Duration::from_millis(*after)) <= now;
            must!(is_there != is_due, "what is due is gone, and only that: session {nth}");
        }
        left = due.len() - gone;
        now = now.after(Duration::from_millis(60_001));
    }
    must!(live(&*store, "ann").await?.is_empty(), "a subject has no sessions that were removed");
    Ok(())
}

pub(super) async fn a_time_that_was_moved_counts<S: Store>(store: Arc<S>) -> Outcome {
    let at = |minutes: u64| NOW.after(Duration::from_secs(minutes * 60));
    for nth in 1..=4 {
        create(&*store, session(nth, "ann")).await?;
    }
    let moved = |nth: u64, minutes: u64| Record { removable_at: at(minutes), ..session(nth, "ann") };
    store.commit(moved(1, 300), Durability::Durable).await?;
    store.commit(moved(2, 300), Durability::Soon).await?;
    store.commit(moved(3, 5), Durability::Durable).await?;
    store.revoke(&digest(4), ending(EndReason::Revoked)).await?;
    must!(store.clear_expired(at(5), 10).await? == 1, "one was moved forward to five minutes");
    must!(store.load(&digest(3)).await?.is_none(), "it is gone");
    let late = store.commit(Record { version: 1, ..moved(3, 300) }, Durability::Durable).await?;
    must!(matches!(late, Commit::Gone), "what was removed does not come back: {late:?}");
    must!(store.clear_expired(at(10), 10).await? == 1, "the tombstone was kept for ten minutes");
    must!(store.load(&digest(4)).await?.is_none(), "it is gone");
    must!(store.clear_expired(NOW.after(KEPT), 10).await? == 0, "the others were put off");
    must!(store.clear_expired(at(299), 10).await? == 0, "the others were put off");
    load(&*store, &digest(1)).await?;
    must!(store.clear_expired(at(300), 10).await? == 2, "until now");
    Ok(())
}
