//! Every way in which a few operations can take turns, where a store waits for another one behind it: instead of chance.
//!
//! A store that keeps what others know too ([`cached`](crate::store::cached), [`sealed`](crate::store::sealed)) goes wrong, if it
//! does, where one operation waits and another comes in between. A step goes from one question to the store behind to the next
//! one; with [`Gaps::Both`] a question and what is done with its answer are two. Two operations are played in every order of their
//! steps, three in many that are drawn with a seed.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

pub(in crate::store) use super::Looks;
use super::order::{self, Ask, Model, Operation, STEPS_MAX, Verdict};
use super::{Dice, Fault, Scene};
use crate::store::hooked::{Call, Hook};
use crate::store::{Store, StoreError};

/// Sessions there are in the beginning; the next number is that of a new one.
const SESSIONS: u64 = 4;

/// What is done: to a session of Ann, to her other one, to that of nobody, to a new one, and to all of hers. Which these are a
/// cache learns at the end, and serves them until then.
fn asks(looks: Looks) -> Vec<Ask> {
    let rotate = |old, also| Ask::Rotate { old, version: 0, new: SESSIONS, value: 90, also };
    let all_of_ann = |except| Ask::RevokeSubject { subject: "ann", except };
    [
        Ask::Load { nth: 0 },
        Ask::Commit { nth: 0, version: 0, value: 70 },
        Ask::Create { nth: SESSIONS, value: 80 },
        rotate(0, None),
        rotate(3, Some(1)),
        Ask::Revoke { nth: 0 },
        Ask::Load { nth: SESSIONS },
        Ask::Revoke { nth: SESSIONS },
    ]
    .into_iter()
    .chain([all_of_ann(None), all_of_ann(Some(0))].into_iter().filter(|_| looks == Looks::Stored))
    .collect()
}

/// Where other operations may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Gaps {
    /// Before each thing that is asked of the store behind.
    Before,
    /// And before its answer arrives.
    Both,
}

/// Lets others go first.
#[derive(Debug)]
pub(in crate::store) struct Yields(pub(in crate::store) Gaps);

impl Hook for Yields {
    async fn before(&self, _: Call<'_>) -> Result<(), StoreError> {
        Turn::default().await;
        Ok(())
    }

    async fn after(&self, _: Call<'_>) {
        if self.0 == Gaps::Both {
            Turn::default().await;
        }
    }
}

/// Ready when it is polled again.
#[derive(Default)]
pub(in crate::store) struct Turn {
    was_asked: bool,
}

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.was_asked, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Who goes next, step by step.
pub(in crate::store) trait Schedule {
    /// One of so many.
    fn choose(&mut self, of: usize) -> usize;
}

/// All schedules, one after the other.
#[derive(Debug, Default)]
pub(in crate::store) struct Every {
    choices: Vec<(usize, usize)>,
    at: usize,
}

impl Every {
    /// Goes on to the next one; false when there is none.
    pub(in crate::store) fn next(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, of)) = self.choices.pop() {
            if chosen + 1 < of {
                self.choices.push((chosen + 1, of));
                return true;
            }
        }
        false
    }
}

impl Schedule for Every {
    fn choose(&mut self, of: usize) -> usize {
        let at = self.at;
        self.at += 1;
        match self.choices.get(at) {
            Some((chosen, before)) => {
                assert_eq!(*before, of, "what is played must not hang on chance");
                *chosen
            }
            None => {
                self.choices.push((0, of));
                0
            }
        }
    }
}

impl Schedule for Dice {
    fn choose(&mut self, of: usize) -> usize {
        usize::try_from(self.roll(of as u64)).unwrap()
    }
}

/// Whether a task can go on.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Plays tasks step by step, as a schedule says, and gives what they answer. Who lets the runtime go first comes after all
/// who do not.
pub(in crate::store) async fn play<T>(
    tasks: Vec<Pin<Box<dyn Future<Output = T> + '_>>>,
    schedule: &mut dyn Schedule,
) -> Vec<T> {
    let flags: Vec<_> = tasks.iter().map(|_| Arc::new(Flag(AtomicBool::new(true)))).collect();
    let wakers: Vec<Waker> = flags.iter().map(|flag| Waker::from(flag.clone())).collect();
    let mut answers: Vec<Option<T>> = tasks.iter().map(|_| None).collect();
    // A budget that runs out would be one more step.
    let mut tasks: Vec<_> = tasks.into_iter().map(tokio::task::coop::unconstrained).collect();
    let mut was_stuck = false;
    while answers.iter().any(Option::is_none) {
        let ready: Vec<usize> =
            (0..tasks.len()).filter(|task| answers[*task].is_none() && flags[*task].0.load(Ordering::SeqCst)).collect();
        if ready.is_empty() {
            assert!(!was_stuck, "all wait for one another");
            was_stuck = true;
            tokio::task::yield_now().await;
            continue;
        }
        was_stuck = false;
        let task = ready[if ready.len() == 1 { 0 } else { schedule.choose(ready.len()) }];
        flags[task].0.store(false, Ordering::SeqCst);
        if let Poll::Ready(answer) = pin!(&mut tasks[task]).poll(&mut Context::from_waker(&wakers[task])) {
            answers[task] = Some(answer);
        }
    }
    answers.into_iter().flatten().collect()
}

/// Plays operations over a new store, and looks for an order.
async fn check<S: Store>(store: S, looks: Looks, asks: &[&Ask], schedule: &mut dyn Schedule) {
    let scene = Scene { store: Arc::new(store), looks, seed: 1, clock: Arc::default(), fresh: Arc::default() };
    let mut model = Model::default();
    for nth in 0..SESSIONS {
        super::create(&*scene.store, scene.record(nth, 0, nth)).await.unwrap();
        model.begin(nth, nth);
    }
    scene.fresh.store(SESSIONS, Ordering::SeqCst);
    let one = async |task: usize, ask: &Ask| -> Result<Operation, Fault> {
        let asked = scene.clock.fetch_add(1, Ordering::SeqCst);
        let answer = scene.ask(ask, &Dice::new(0)).await?;
        let answered = scene.clock.fetch_add(1, Ordering::SeqCst);
        Ok(Operation { task: task as u64, asked, answered, ask: ask.clone(), answer })
    };
    let tasks = asks
        .iter()
        .enumerate()
        .map(|(task, ask)| Box::pin(one(task, ask)) as Pin<Box<dyn Future<Output = Result<Operation, Fault>>>>);
    let mut history: Vec<Operation> =
        play(tasks.collect(), schedule).await.into_iter().map(|operation| operation.unwrap()).collect();
    // What is there afterwards.
    let looks = (0..=SESSIONS).map(|nth| Ask::Load { nth });
    for ask in looks.chain([Ask::RevokeSubject { subject: "ann", except: None }]) {
        history.push(one(asks.len(), &ask).await.unwrap());
    }
    let verdict = order::check(&history, &model, STEPS_MAX);
    assert_eq!(verdict, Verdict::Order, "these answers have no order:{}", order::lines(&history));
}

/// Two operations in every order of their steps. Gives how many there are.
pub(in crate::store) fn every_schedule_of_two_has_an_order<S: Store>(looks: Looks, make: impl Fn() -> S) -> usize {
    let asks = asks(looks);
    let mut played = 0;
    runtime().block_on(async {
        for (one, other) in asks.iter().flat_map(|one| asks.iter().map(move |other| (one, other))) {
            let mut every = Every::default();
            loop {
                check(make(), looks, &[one, other], &mut every).await;
                played += 1;
                if !every.next() {
                    break;
                }
            }
        }
    });
    played
}

/// Three operations in so many orders of their steps that are drawn with a seed.
pub(in crate::store) fn schedules_of_three_have_an_order<S: Store>(looks: Looks, make: impl Fn() -> S, drawn: u64) {
    let asks = asks(looks);
    runtime().block_on(async {
        for one in &asks {
            for other in &asks {
                for third in &asks {
                    for seed in 0..drawn {
                        check(make(), looks, &[one, other, third], &mut Dice::new(seed)).await;
                    }
                }
            }
        }
    });
}

pub(in crate::store) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

#[tokio::test]
async fn every_schedule_is_played_once() {
    let mut every = Every::default();
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let told = std::cell::RefCell::new(String::new());
        let task = |name: char| {
            let told = &told;
            Box::pin(async move {
                for _ in 0..3 {
                    told.borrow_mut().push(name);
                    Turn::default().await;
                }
            }) as Pin<Box<dyn Future<Output = ()> + '_>>
        };
        play(vec![task('a'), task('b')], &mut every).await;
        seen.insert(told.take());
        if !every.next() {
            break;
        }
    }
    // Six letters, of which three are alike each.
    assert_eq!(seen.len(), 20, "{seen:?}");
}
