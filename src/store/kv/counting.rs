//! Counts of rules and limits that all guards share: one script for all that is asked at once.
//!
//! Each key is a list of its last `over` + 1 times, which the server drops when its window is over. How many keys there are has
//! a limit, as in [`Windows`](crate::store::counters::Windows), and keys of rules that are only observed have one of their own.

use std::time::Duration;

use super::RedisStore;
use super::link::{Again, LinkError};
use super::scripts::{Answer, COUNT, DEBTS};
use crate::clock::Timestamp;
use crate::store::counters::{Answered, Counters, Effect, Question};
use crate::store::debts::{self, Change, Changed, KEYS_MAX, Step, Taken};

/// Most keys of rules that are obeyed: some 50 MB of the server's memory with a handful of times each.
const OBEYED_MAX: &str = "200000";
/// Most keys of rules that are only observed.
const OBSERVED_MAX: &str = "50000";
/// Longest window that is told, in milliseconds: up to here scripts count exactly.
const WITHIN_MAX: u64 = 1 << 53;

impl Counters for RedisStore {
    fn ask<'a>(&'a self, questions: &'a [Question], now: Timestamp) -> Answered<'a> {
        Box::pin(async move { Ok(self.count(questions, now).await?) })
    }

    fn change<'a>(&'a self, changes: &'a [Change], now: Timestamp) -> Changed<'a> {
        Box::pin(async move { Ok(self.change_all(changes, now).await?) })
    }
}

impl RedisStore {
    async fn change_all(&self, changes: &[Change], now: Timestamp) -> Result<Vec<debts::Answer>, LinkError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let (now, most) = (now.as_millis().to_string(), KEYS_MAX.to_string());
        let steps: Vec<[Vec<u8>; 4]> = changes.iter().map(step).collect();
        let mut args: Vec<&[u8]> = vec![now.as_bytes(), most.as_bytes()];
        args.extend(steps.iter().flatten().map(Vec::as_slice));
        let mut answer = Answer::list(self.link.run(&DEBTS, &self.names.debts, &args, Again::MayNot).await?)?;
        let mut answers = Vec::with_capacity(changes.len());
        while !answer.is_read() {
            let (is_refused, millis) = (answer.number()? == 1, answer.millis()?);
            answers.push(if is_refused {
                debts::Answer::Refused { wait: Duration::from_millis(millis) }
            } else {
                debts::Answer::Done { until: Timestamp::from_millis(millis) }
            });
        }
        Ok(answers)
    }

    async fn count(&self, questions: &[Question], now: Timestamp) -> Result<Vec<bool>, LinkError> {
        if questions.is_empty() {
            return Ok(Vec::new());
        }
        let now = now.as_millis().to_string();
        let asked: Vec<[Vec<u8>; 4]> = questions.iter().map(arguments).collect();
        let mut args: Vec<&[u8]> =
            vec![&self.names.window, now.as_bytes(), OBEYED_MAX.as_bytes(), OBSERVED_MAX.as_bytes()];
        args.extend(asked.iter().flatten().map(Vec::as_slice));
        let answer = self.link.run(&COUNT, &self.names.counted, &args, Again::MayNot).await?;
        let mut answer = Answer::list(answer)?;
        questions.iter().map(|_| Ok(answer.number()? == 1)).collect()
    }
}

fn arguments(question: &Question) -> [Vec<u8>; 4] {
    let within = u64::try_from(question.within.as_millis()).unwrap_or(WITHIN_MAX).clamp(1, WITHIN_MAX);
    let set: &[u8] = match question.effect {
        Effect::Obeyed => b"1",
        Effect::Observed => b"2",
    };
    [
        question.key.as_u64().to_be_bytes().to_vec(),
        u64::from(question.over).saturating_add(1).to_string().into_bytes(),
        within.to_string().into_bytes(),
        set.to_vec(),
    ]
}

/// A change as `debts.lua` reads it.
fn step(change: &Change) -> [Vec<u8>; 4] {
    let (name, first, second) = match change.step {
        Step::Take(pace) => ("take", pace.interval().to_string(), pace.burst().to_string()),
        Step::Add(pace, Taken { count, within }) => {
            let within = within.as_micros();
            ("add", pace.interval().to_string(), format!("{count} {} {within}", pace.burst()))
        }
        Step::Wait(growth) => ("wait", growth.delay_max_ms().to_string(), String::new()),
        Step::Grow(growth) => ("grow", growth.level_max().to_string(), String::new()),
        Step::Forgive => ("forgive", String::new(), String::new()),
        Step::Remember(until) => ("keep", until.as_millis().to_string(), String::new()),
        Step::Recall => ("recall", String::new(), String::new()),
    };
    [change.key.as_u64().to_be_bytes().to_vec(), name.into(), first.into_bytes(), second.into_bytes()]
}
