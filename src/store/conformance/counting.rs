//! Cases of the counters of a store that several guards share. A store without counters passes them.

use std::sync::Arc;
use std::time::Duration;

use super::concurrent::TASKS;
use super::{NOW, Outcome, must, together};
use crate::store::Store;
use crate::store::counters::{Counters, Effect, Key, Question};

const WITHIN: Duration = Duration::from_secs(60);

const fn question(key: u64, over: u32) -> Question {
    Question { key: Key::from_u64(key), over, within: WITHIN, effect: Effect::Obeyed }
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
        let found = ask(counters, question(1, 3), secs).await?;
        must!(found == over, "at {secs} s there are {}more than three within a minute", if over { "" } else { "not " });
    }
    must!(!ask(counters, question(2, 3), 200).await?, "keys are counted apart");
    must!(ask(counters, question(3, 0), 200).await?, "over 0, the first is one too many");
    let now = NOW.after(Duration::from_secs(300));
    let both = [question(4, 0), question(5, 1), question(6, 0)];
    let answers = counters.ask(&both, now).await?;
    must!(answers == [true, false, true], "answers come in the order of their questions, not {answers:?}");
    must!(counters.ask(&[], now).await?.is_empty(), "no question has no answer");
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
                Some(counters) => ask(counters, question(1, OVER), 0).await,
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
