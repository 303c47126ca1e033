//! Cases of the counters of a store that several guards share. A store without counters passes them.

use std::sync::Arc;
use std::time::Duration;

use super::concurrent::TASKS;
use super::{Dice, NOW, Outcome, must, together};
use crate::store::Store;
use crate::store::counters::{Counters, Effect, Key, Question};
use crate::store::debts::{Answer, Change, Debts, Growth, Pace, Step, Taken};

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

/// Steps on a few keys, as dice give them: of every kind, with times that go on.
fn some_changes(dice: &Dice, count: u64) -> Vec<Change> {
    let pace = Pace::new(Duration::from_millis(700 + 37 * dice.roll(40)), 1 + u32::try_from(dice.roll(4)).unwrap_or(0));
    let growth = Growth::up_to(Duration::from_secs(30));
    let one = |_| {
        let step = match dice.roll(8) {
            0 | 1 => Step::Take(pace),
            2 => {
                let count = u32::try_from(dice.roll(3)).unwrap_or(0);
                Step::Add(pace, Taken { count, within: Duration::from_millis(dice.roll(1000)) })
            }
            3 => Step::Wait(growth),
            4 => Step::Grow(growth),
            5 => Step::Forgive,
            6 => Step::Remember(NOW.after(Duration::from_secs(dice.roll(200)))),
            _ => Step::Recall,
        };
        Change { key: Key::from_u64(dice.roll(5)), step }
    };
    (0..count).map(one).collect()
}

pub(super) async fn numbers_change_as_they_must<S: Store>(store: Arc<S>) -> Outcome {
    let Some(counters) = store.counters() else { return Ok(()) };
    let (dice, model) = (Dice::new(11), Debts::default());
    let mut now = NOW;
    must!(counters.change(&[], now).await?.is_empty(), "no change has no answer");
    for round in 0..200 {
        let changes = some_changes(&dice, 1 + dice.roll(5));
        let expected = model.change(&changes, now);
        let found = counters.change(&changes, now).await?;
        must!(found == expected, "in round {round} {changes:?} give {expected:?}, not {found:?}");
        now = now.after(Duration::from_millis(dice.roll(1500)));
    }
    Ok(())
}

pub(super) async fn of_many_who_take_at_once_no_more_may_than_may<S: Store>(store: Arc<S>) -> Outcome {
    const BURST: u32 = 40;
    if store.counters().is_none() {
        return Ok(());
    }
    let changes = [
        Change { key: Key::from_u64(1), step: Step::Take(Pace::new(WITHIN, BURST)) },
        Change { key: Key::from_u64(2), step: Step::Remember(NOW.after(WITHIN)) },
    ];
    let taken = together(TASKS, |_| {
        let store = Arc::clone(&store);
        async move {
            let Some(counters) = store.counters() else { return Ok(false) };
            let answers = counters.change(&changes, NOW).await?;
            Ok(matches!(answers[..], [Answer::Done { .. }, Answer::Done { .. }]))
        }
    })
    .await?;
    let taken = taken.into_iter().filter(|taken| *taken).count();
    must!(u32::try_from(taken) == Ok(BURST), "of {TASKS} who take at once {BURST} may, not {taken}");
    Ok(())
}
