//! Cases about how many sessions a subject may have.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::concurrent::TASKS;
use super::{
    Dice, NOW, Outcome, anonymous, create, digest, ended, ending, limit, live, must, rotation, session, together,
};
use crate::session::record::{EndReason, Record};
use crate::store::{Created, Creation, OnLimit, Rotate, Rotation, Store};

const MAX: u32 = 5;

/// A session of ann that was used so many seconds ago.
fn used(nth: u64, ago: u64) -> Record {
    Record { last_seen: NOW.before(Duration::from_secs(ago)), ..session(nth, "ann") }
}

pub(super) async fn a_limit_refuses<S: Store>(store: Arc<S>) -> Outcome {
    let limit = limit(2, OnLimit::Refuse);
    for nth in 1..=2 {
        let answer = store.create(session(nth, "ann"), limit, NOW).await?;
        let expected = u32::try_from(nth).unwrap_or(0);
        must!(
            matches!(&answer, Creation::Created(Created::Done { evicted, live, .. }) if evicted.is_empty() && *live == expected),
            "up to the limit sessions are created and counted: {answer:?}"
        );
    }
    let answer = store.create(session(3, "ann"), limit, NOW).await?;
    must!(matches!(answer, Creation::Created(Created::Refused)), "one too many is refused: {answer:?}");
    must!(store.load(&digest(3)).await?.is_none(), "what is refused is not stored");
    create(&*store, anonymous(4)).await?;
    let answer = store.rotate(rotation(&anonymous(4), session(5, "ann"), limit)).await?;
    must!(matches!(answer, Rotation::Created(Created::Refused)), "a login that is one too many is refused: {answer:?}");
    must!(ended(&*store, &digest(4)).await?.is_none(), "a refused login leaves the session that it came from");
    must!(live(&*store, "ann").await?.len() == 2, "the others go on");
    let other = store.create(session(6, "bob"), limit, NOW).await?;
    must!(matches!(other, Creation::Created(Created::Done { live: 1, .. })), "each subject has his own: {other:?}");
    let nobody = store.create(anonymous(7), limit, NOW).await?;
    must!(matches!(nobody, Creation::Created(Created::Done { live: 0, .. })), "nobody has no limit: {nobody:?}");
    Ok(())
}

pub(super) async fn a_limit_evicts_the_one_used_least_recently<S: Store>(store: Arc<S>) -> Outcome {
    for (nth, ago) in [(1, 30), (2, 50), (3, 10), (4, 40)] {
        create(&*store, used(nth, ago)).await?;
    }
    let answer = store.create(session(5, "ann"), limit(4, OnLimit::EvictOldest), NOW).await?;
    let Creation::Created(Created::Done { evicted, live: 4, .. }) = &answer else {
        return Err(super::Fault::Answer(format!("the new one is created, and four are left: {answer:?}")));
    };
    must!(evicted.len() == 1 && evicted.iter().all(|record| **record == used(2, 50)), "the oldest ends: {evicted:?}");
    must!(ended(&*store, &digest(2)).await? == Some(EndReason::Evicted), "it says why it ended");
    create(&*store, anonymous(6)).await?;
    let answer = store.rotate(rotation(&anonymous(6), session(7, "ann"), limit(2, OnLimit::EvictOldest))).await?;
    let Rotation::Created(Created::Done { evicted, live: 2, .. }) = &answer else {
        return Err(super::Fault::Answer(format!("the new one is created, and two are left: {answer:?}")));
    };
    must!(evicted.len() == 3, "a limit that was lowered ends as many as it must: {evicted:?}");
    let left: Vec<_> = live(&*store, "ann").await?.iter().map(|record| record.digest).collect();
    must!(left.len() == 2 && left.contains(&digest(5)) && left.contains(&digest(7)), "the youngest are left: {left:?}");
    Ok(())
}

pub(super) async fn a_limit_reports<S: Store>(store: Arc<S>) -> Outcome {
    for nth in 1..=4 {
        let answer = store.create(session(nth, "ann"), limit(2, OnLimit::Report), NOW).await?;
        let expected = u32::try_from(nth).unwrap_or(0);
        must!(
            matches!(&answer, Creation::Created(Created::Done { evicted, live, .. }) if evicted.is_empty() && *live == expected),
            "all are created, none ends, and the number is told: {answer:?}"
        );
    }
    must!(live(&*store, "ann").await?.len() == 4, "all live");
    Ok(())
}

pub(super) async fn only_what_lives_and_stays_counts<S: Store>(store: Arc<S>) -> Outcome {
    let limit = limit(2, OnLimit::Refuse);
    create(&*store, session(1, "ann")).await?;
    create(&*store, session(2, "ann")).await?;
    store.revoke(&digest(1), ending(EndReason::Logout)).await?;
    let answer = store.create(session(3, "ann"), limit, NOW).await?;
    must!(matches!(answer, Creation::Created(Created::Done { .. })), "what ended does not count: {answer:?}");
    let answer = store.rotate(rotation(&session(3, "ann"), session(4, "ann"), limit)).await?;
    must!(super::created(&answer), "a session that gets a new id does not count twice: {answer:?}");
    create(&*store, anonymous(5)).await?;
    let (second, held) = (digest(4), anonymous(5));
    let answer = store.rotate(Rotate { also_end: Some(&second), ..rotation(&held, session(6, "ann"), limit) }).await?;
    must!(super::created(&answer), "a session that ends in the same step does not count: {answer:?}");
    let later = NOW.after(super::KEPT);
    let answer = store.create(session(7, "ann"), limit, later).await?;
    must!(matches!(answer, Creation::Created(Created::Done { .. })), "what is over does not count: {answer:?}");
    Ok(())
}

pub(super) async fn logins_at_once_are_refused_beyond_the_limit<S: Store>(store: Arc<S>) -> Outcome {
    let (done, most) = logins(&store, OnLimit::Refuse).await?;
    must!(done == MAX, "of {TASKS} logins at once {MAX} succeed, not {done}");
    must!(most <= MAX, "never more than {MAX} live at once, not {most}");
    Ok(())
}

pub(super) async fn logins_at_once_never_exceed_the_limit<S: Store>(store: Arc<S>) -> Outcome {
    let (done, most) = logins(&store, OnLimit::EvictOldest).await?;
    must!(u64::from(done) == TASKS, "all {TASKS} logins succeed, not {done}");
    must!(most <= MAX, "never more than {MAX} live at once, not {most}");
    let left = u32::try_from(live(&*store, "ann").await?.len()).unwrap_or(u32::MAX);
    must!(left == MAX, "{MAX} are left, not {left}");
    Ok(())
}

/// Many logins at once, half of them out of an anonymous session. Gives how many succeeded, and the most that anybody
/// saw or was told of while they went on.
async fn logins<S: Store>(store: &Arc<S>, on_limit: OnLimit) -> Result<(u32, u32), super::Fault> {
    for nth in (0..TASKS).step_by(2) {
        create(&**store, anonymous(1000 + nth)).await?;
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (store, is_over) = (Arc::clone(store), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut most = 0;
            while !is_over.load(Ordering::Acquire) {
                most = most.max(store.list(&filter(), None, 1000).await?.records.len());
                tokio::task::yield_now().await;
            }
            Ok::<_, super::Fault>(u32::try_from(most).unwrap_or(u32::MAX))
        })
    };
    let logins = together(TASKS, |nth| {
        let store = Arc::clone(store);
        async move {
            Dice::new(nth).dawdle().await;
            let limit = limit(MAX, on_limit);
            let created = if nth % 2 == 0 {
                let old = anonymous(1000 + nth);
                match store.rotate(rotation(&old, session(nth, "ann"), limit)).await? {
                    Rotation::Created(created) => created,
                    other => return Err(super::Fault::Answer(format!("nobody else rotates it: {other:?}"))),
                }
            } else {
                match store.create(session(nth, "ann"), limit, NOW).await? {
                    Creation::Created(created) => created,
                    Creation::Exists => return Err(super::Fault::Answer("nobody else creates it".into())),
                }
            };
            Ok(match created {
                Created::Done { live, .. } => Some(live),
                Created::Refused => None,
            })
        }
    })
    .await;
    // The watcher must come to its end whatever they say.
    is_over.store(true, Ordering::Release);
    let (watched, told) = (watcher.await??, logins?);
    let done = u32::try_from(told.iter().flatten().count()).unwrap_or(u32::MAX);
    Ok((done, told.into_iter().flatten().fold(watched, u32::max)))
}

fn filter() -> crate::store::Filter {
    crate::store::Filter { subject: Some("ann".into()), ..Default::default() }
}
