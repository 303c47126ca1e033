//! Cases of the counters of a store that several guards share. A store without counters passes them.

use std::sync::Arc;
use std::time::Duration;

use super::{NOW, Outcome, must, together};
use crate::store::Store;
use crate::store::counters::{Counters, Counting, Key, Question};

const WITHIN: Duration = Duration::from_secs(60);
const TASKS: u64 = 100;

const fn question(key: u64, over: u32, counting: Counting) -> Question {
    Question { key: Key::from_u64(key), over, within: WITHIN, counting }
}

async fn ask(counters: &dyn Counters, question: Question, secs: u64) -> Result<bool, super::Fault> {
    let now = NOW.after(Duration::from_secs(secs));
    let answers = counters.ask(&[question], now).await?;
    must!(answers.len() == 1, "one question has one answer, not {answers:?}");
    Ok(answers.first().is_some_and(|over| *over))
}

pub(super) async fn a_window_counts_what_is_in_it<S: Store>(store: Arc<S>) -> Outcome {
    let Some(counters) = store.counters() else { return Ok(()) };
    for (secs, over) in [(0, false), (10, false), (20, false), (59, true), (60, true), (69, true), (200, false)] {
        let found = ask(counters, question(1, 3, Counting::Count), secs).await?;
        must!(found == over, "at {secs} s there are {}more than three within a minute", if over { "" } else { "not " });
    }
    must!(!ask(counters, question(2, 3, Counting::Count), 200).await?, "keys are counted apart");
    must!(ask(counters, question(3, 0, Counting::Count), 200).await?, "over 0, the first is one too many");
    let now = NOW.after(Duration::from_secs(300));
    let both = [question(4, 0, Counting::Count), question(5, 1, Counting::Count), question(6, 0, Counting::Count)];
    let answers = counters.ask(&both, now).await?;
    must!(answers == [true, false, true], "answers come in the order of their questions, not {answers:?}");
    must!(counters.ask(&[], now).await?.is_empty(), "no question has no answer");
    Ok(())
}

pub(super) async fn a_look_counts_nothing<S: Store>(store: Arc<S>) -> Outcome {
    let Some(counters) = store.counters() else { return Ok(()) };
    for _ in 0..5 {
        must!(!ask(counters, question(1, 1, Counting::Look), 0).await?, "a look counts nothing");
    }
    must!(!ask(counters, question(1, 1, Counting::Count), 0).await?, "the first of two is none too many");
    must!(!ask(counters, question(1, 1, Counting::Look), 1).await?, "a look sees one, which is none too many");
    must!(ask(counters, question(1, 1, Counting::Count), 1).await?, "the second is one too many");
    must!(ask(counters, question(1, 1, Counting::Look), 59).await?, "a look sees both within the minute");
    must!(!ask(counters, question(1, 1, Counting::Look), 60).await?, "the first has left the window after a minute");
    Ok(())
}

pub(super) async fn all_that_are_counted_at_once_are_counted<S: Store>(store: Arc<S>) -> Outcome {
    const OVER: u32 = 40;
    if store.counters().is_none() {
        return Ok(());
    }
    let over = together(TASKS, |_| {
        let store = Arc::clone(&store);
        async move {
            match store.counters() {
                Some(counters) => ask(counters, question(1, OVER, Counting::Count), 0).await,
                None => Ok(false),
            }
        }
    })
    .await?;
    let over = u64::try_from(over.into_iter().filter(|over| *over).count()).unwrap_or(0);
    let expected = TASKS - u64::from(OVER);
    must!(over == expected, "of {TASKS} at once {expected} are beyond {OVER}, not {over}");
    Ok(())
}
