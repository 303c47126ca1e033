//! Changes that replicas must have before they count: those of many callers together, with one wait for all of them.
//!
//! `WAIT` holds up its connection, so there is one for nothing else. Whoever comes while a batch is under way is in the next one, and
//! who leaves before that has changed nothing.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, RedisResult, Value};
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::link::{Link, LinkError, was_refused};

/// Writes something that takes no room, also on a server that is full.
const WRITE: &str = "redis.call('DEL', KEYS[1]) return redis.call('SET', KEYS[1], '')";
/// How long replicas are waited for that did not answer the last time.
const SHORT: Duration = Duration::from_millis(50);

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
    link: Link,
    replicas: NonZeroU32,
    /// A key for nothing but writing to.
    key: Vec<u8>,
    waiting: Mutex<Vec<Job>>,
    next: AtomicU64,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Whether there were too few the last time.
    is_short: AtomicBool,
}

#[derive(Debug)]
struct Job {
    nth: u64,
    must: Must,
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
    pub(super) fn new(link: Link, replicas: NonZeroU32, key: Vec<u8>) -> Self {
        Self {
            link,
            replicas,
            key,
            waiting: Mutex::default(),
            next: AtomicU64::new(0),
            turn: Arc::default(),
            is_short: AtomicBool::new(false),
        }
    }

    /// Tells if there are too few replicas: nobody can log in then.
    pub(super) async fn look(&self) {
        let (wanted, found) = (self.replicas.get(), self.batch(&[], SHORT).await);
        let had = found.map_or(0, |(_, had)| had);
        self.is_short.store(had < wanted, Ordering::Relaxed);
        if had < wanted {
            tracing::warn!(had, wanted, "too few replicas of Redis answer: nobody can log in until there are more");
        }
    }

    /// Runs a script, and waits until the replicas have all that the server had done by then.
    pub(super) async fn run(self: &Arc<Self>, command: Cmd, must: Must) -> Result<Value, LinkError> {
        let (answer, mut heard) = oneshot::channel();
        let nth = self.next.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().push(Job { nth, must, command, answer });
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
        let mut waited = (self.link.timeout() * 3 / 4).max(Duration::from_millis(1));
        if self.is_short.load(Ordering::Relaxed) {
            waited = waited.min(SHORT);
            match self.batch(&[], waited).await {
                Ok((_, had)) if had >= self.replicas.get() => self.is_short.store(false, Ordering::Relaxed),
                found => {
                    let had = found.map_or(0, |(_, had)| had);
                    let (ends, others) = jobs.into_iter().partition(|job| job.must == Must::BeDone);
                    jobs = ends;
                    for job in others {
                        tell(job, Err(LinkError::NotDone { had, wanted: self.replicas.get() }));
                    }
                }
            }
        }
        // What one server has refused another one may do.
        for is_last in [false, true] {
            if jobs.is_empty() {
                return;
            }
            let (answers, had) = match self.batch(&jobs, waited).await {
                Ok(done) => done,
                Err(error) => {
                    let told = error.to_string();
                    jobs.into_iter().for_each(|job| tell(job, Err(LinkError::Failed(told.clone().into()))));
                    return;
                }
            };
            let wanted = self.replicas.get();
            self.is_short.store(had < wanted, Ordering::Relaxed);
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
    async fn batch(&self, jobs: &[Job], waited: Duration) -> Result<(Vec<RedisResult<Value>>, u32), LinkError> {
        let mut pipe = redis::pipe();
        pipe.ignore_errors();
        for job in jobs {
            pipe.add_command(job.command.clone());
        }
        // It is waited for what was last written by this connection, so something is: what was found may be newer than that.
        pipe.cmd("EVAL").arg(WRITE).arg(1).arg(self.key.as_slice());
        pipe.cmd("WAIT").arg(self.replicas.get()).arg(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
        let mut answers = self.link.send_all(&pipe).await?;
        let (had, written) = (answers.pop(), answers.pop());
        let is_lost = answers.iter().any(|answer| answer.as_ref().is_err_and(was_refused));
        let had = match (written, had) {
            (Some(Ok(_)), Some(Ok(Value::Int(had)))) => u32::try_from(had).unwrap_or(0),
            (Some(Err(error)), _) if !was_refused(&error) => return Err(error.into()),
            _ => 0,
        };
        if had == 0 || is_lost {
            // Somebody else may be the primary by now.
            self.link.leave();
        }
        Ok((answers, had))
    }
}

/// It fails if nobody waits for it any more.
fn tell(job: Job, answer: Result<Value, LinkError>) {
    drop(job.answer.send(answer));
}
