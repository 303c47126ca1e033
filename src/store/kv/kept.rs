//! Changes that replicas must have before they count: those of many callers together, with one wait for all of them.
//!
//! `WAIT` holds up its connection, so there is one for nothing else. Whoever comes while a batch is under way is in the next one, and
//! who leaves before that has changed nothing.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, RedisResult, Value};
use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio::time::Instant;

use super::link::{Link, LinkError, was_refused};

/// Writes something that takes no room, also on a server that is full.
const WRITE: &str = "redis.call('DEL', KEYS[1]) return redis.call('SET', KEYS[1], '')";
/// How long a connection is kept to a server that no replica answers to: another one may be the primary by now.
const LEFT_EVERY: Duration = Duration::from_secs(1);

/// Whether a change may be left undone while replicas do not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Must {
    /// It ends something: better done and not sure to last than not done.
    BeDone,
    /// It gives something out that nobody should have then.
    Last,
}

/// The way to a server whose replicas are waited for.
#[derive(Debug)]
pub(super) struct Kept {
    link: Arc<Link>,
    /// The one for all that is not waited for. Both lead to the same server.
    other: Arc<Link>,
    replicas: NonZeroU32,
    /// A key for nothing but writing to.
    key: Vec<u8>,
    waiting: Mutex<Vec<Job>>,
    next: AtomicU64,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Whether there were too few the last time, and how many.
    is_short: AtomicBool,
    had: AtomicU32,
    is_looking: AtomicBool,
    left_at: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Job {
    nth: u64,
    command: Cmd,
    answer: oneshot::Sender<Result<Value, LinkError>>,
}

/// A place in the next batch, until it is taken.
struct Waiting<'a> {
    kept: &'a Kept,
    nth: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.kept.waiting.lock().retain(|job| job.nth != self.nth);
    }
}

impl Kept {
    pub(super) fn new(link: Arc<Link>, other: Arc<Link>, replicas: NonZeroU32, key: Vec<u8>) -> Self {
        Self {
            link,
            other,
            replicas,
            key,
            waiting: Mutex::default(),
            next: AtomicU64::new(0),
            turn: Arc::default(),
            is_short: AtomicBool::new(false),
            had: AtomicU32::new(0),
            is_looking: AtomicBool::new(false),
            left_at: Mutex::default(),
        }
    }

    /// Looks whether there are enough replicas.
    pub(super) async fn look(&self) {
        let _turn = self.turn.lock().await;
        let found = self.batch(&[]).await;
        self.note(found.map_or(0, |(_, had)| had));
    }

    /// Notes how many replicas had the last batch, and tells when that becomes too few or enough.
    fn note(&self, had: u32) {
        let wanted = self.replicas.get();
        self.had.store(had, Ordering::Relaxed);
        match (self.is_short.swap(had < wanted, Ordering::Relaxed), had < wanted) {
            (false, true) => {
                tracing::warn!(had, wanted, "too few replicas of Redis answer: nobody can log in until there are more");
            }
            (true, false) => tracing::info!(had, "enough replicas of Redis answer again"),
            _ => {}
        }
    }

    /// Looks again, if nobody does.
    fn look_again(self: &Arc<Self>) {
        if self.is_looking.swap(true, Ordering::Relaxed) {
            return;
        }
        let kept = Arc::clone(self);
        tokio::spawn(async move {
            kept.look().await;
            kept.is_looking.store(false, Ordering::Relaxed);
        });
    }

    fn waited(&self) -> Duration {
        (self.link.timeout() * 3 / 4).max(Duration::from_millis(1))
    }

    /// Runs a script, and waits until the replicas have all that the server had done by then.
    pub(super) async fn run(self: &Arc<Self>, command: Cmd, must: Must) -> Result<Value, LinkError> {
        if must == Must::Last && self.is_short.load(Ordering::Relaxed) {
            self.look_again();
            let (had, wanted) = (self.had.load(Ordering::Relaxed), self.replicas.get());
            return Err(LinkError::NotDone { had, wanted });
        }
        let (answer, mut heard) = oneshot::channel();
        let nth = self.next.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().push(Job { nth, command, answer });
        let _place = Waiting { kept: self, nth };
        let late = || LinkError::Late(self.link.timeout());
        let done = async {
            tokio::select! {
                biased;
                done = &mut heard => return done.unwrap_or_else(|_| Err(late())),
                turn = Arc::clone(&self.turn).lock_owned() => self.begin(turn),
            }
            heard.await.unwrap_or_else(|_| Err(late()))
        };
        tokio::time::timeout(self.link.timeout(), done).await.unwrap_or_else(|_| Err(late()))
    }

    /// Does all that waits, whatever becomes of those who do.
    fn begin(self: &Arc<Self>, turn: OwnedMutexGuard<()>) {
        let jobs = std::mem::take(&mut *self.waiting.lock());
        if jobs.is_empty() {
            return;
        }
        let kept = Arc::clone(self);
        tokio::spawn(async move {
            kept.perform(jobs).await;
            drop(turn);
        });
    }

    async fn perform(&self, mut jobs: Vec<Job>) {
        // What one server has refused another one may do.
        for is_last in [false, true] {
            if jobs.is_empty() {
                return;
            }
            let (answers, had) = match self.batch(&jobs).await {
                Ok(done) => done,
                Err(error) => {
                    let told = error.to_string();
                    jobs.into_iter().for_each(|job| tell(job, Err(LinkError::Failed(told.clone().into()))));
                    return;
                }
            };
            let (wanted, waited) = (self.replicas.get(), self.waited());
            self.note(had);
            let mut refused = Vec::new();
            for (job, answer) in jobs.into_iter().zip(answers) {
                match answer {
                    Err(error) if !is_last && was_refused(&error) => refused.push(job),
                    Err(error) => tell(job, Err(error.into())),
                    Ok(_) if had < wanted => tell(job, Err(LinkError::Unkept { had, wanted, waited })),
                    Ok(answer) => tell(job, Ok(answer)),
                }
            }
            jobs = refused;
        }
    }

    /// Sends all of it, and gives the answers and how many replicas have it.
    async fn batch(&self, jobs: &[Job]) -> Result<(Vec<RedisResult<Value>>, u32), LinkError> {
        let mut pipe = redis::pipe();
        pipe.ignore_errors();
        for job in jobs {
            pipe.add_command(job.command.clone());
        }
        // It is waited for what was last written by this connection, so something is: what was found may be newer than that.
        pipe.cmd("EVAL").arg(WRITE).arg(1).arg(self.key.as_slice());
        pipe.cmd("WAIT").arg(self.replicas.get()).arg(u64::try_from(self.waited().as_millis()).unwrap_or(u64::MAX));
        let mut answers = self.link.send_all(&pipe).await?;
        let (had, written) = (answers.pop(), answers.pop());
        let is_lost = answers.iter().any(|answer| answer.as_ref().is_err_and(was_refused));
        let had = match (written, had) {
            (Some(Ok(_)), Some(Ok(Value::Int(had)))) => u32::try_from(had).unwrap_or(0),
            (Some(Err(error)), _) if !was_refused(&error) => return Err(error.into()),
            _ => 0,
        };
        if had == 0 || is_lost {
            self.leave();
        }
        Ok((answers, had))
    }

    /// Somebody else may be the primary by now.
    fn leave(&self) {
        let (now, mut left_at) = (Instant::now(), self.left_at.lock());
        if left_at.is_none_or(|left_at| now.duration_since(left_at) >= LEFT_EVERY) {
            *left_at = Some(now);
            self.link.leave();
            self.other.leave();
        }
    }
}

/// It fails if nobody waits for it any more.
fn tell(job: Job, answer: Result<Value, LinkError>) {
    drop(job.answer.send(answer));
}
