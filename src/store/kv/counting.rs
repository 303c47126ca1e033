//! Counts of rules that all guards share: one script for all questions of a request.
//!
//! Each key is a list of its last `over` + 1 times, which the server drops when its window is over. How many keys there are has
//! a limit, as in [`Windows`](crate::store::counters::Windows), and keys of rules that are only observed have one of their own.

use super::RedisStore;
use super::link::{Again, LinkError};
use super::scripts::{Answer, COUNT};
use crate::clock::Timestamp;
use crate::store::counters::{Answered, Counters, Effect, Question};

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
}

impl RedisStore {
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
