//! How often a policy troubles honest people, and which thefts it catches: made-up sessions through the real engine.
//!
//! The figures rank policies; they do not predict what happens anywhere. How browsers and networks behave is measured or taken
//! from papers, how many people live how is assumed, and thieves are as bad as we can think of.

mod baseline;
mod dice;
mod honest;
mod play;
mod story;
mod tally;
mod thefts;
mod world;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::config::{Route, Rulebook, Sensitivity, Settings};
use crate::drive::DriveError;
use crate::facts::route::{CaseSensitivity, RoutePattern};
use crate::session::expiry::Deadlines;

pub use baseline::Check;
pub use honest::Life;
pub use tally::{LifeRow, Rate, Row, TheftRow};
pub use thefts::Theft;

use play::{Job, Luck, Outcome, Subject};
use story::DAY;

/// What a simulated guard is told of its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sees {
    /// TLS ends at the guard, and it has databases of networks.
    #[default]
    Everything,
    /// TLS, HTTP/2 and packets are those of a CDN.
    BehindCdn,
    /// Of networks it knows addresses alone.
    NoGeo,
    /// Everything, and how much later its clients answer within TLS than within TCP.
    RelayRtt,
}

/// How the world is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum World {
    /// As assumed.
    #[default]
    Usual,
    /// More lost cookies, and more crashes.
    Rough,
}

/// What is to be simulated.
#[derive(Clone, Copy, Debug)]
pub struct Simulation {
    /// What all randomness follows from.
    pub seed: u64,
    /// Honest sessions, by the shares of their lives, but at least [`LEAST`] of each.
    pub sessions: usize,
    /// Thefts of each kind.
    pub thefts: usize,
    /// How the world is.
    pub world: World,
    /// What the guard is told.
    pub sees: Sees,
    /// Whether the simple checks are tried as well.
    pub checks: Checks,
}

/// Whether the simple checks are tried as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// They are.
    Beside,
    /// They are not.
    None,
}

/// The fewest sessions of each life.
pub const LEAST: usize = 40;

/// Stories that are played beside each other.
const BLOCK: usize = 1000;

/// Days over which sessions begin.
const DAYS: f64 = 6.0;

/// The path of a page that is worth more, if the policy names none.
const SENSITIVE: &str = "/account/details";

/// What came of a simulation.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// The policy, and after it the simple checks.
    pub rows: Vec<Row>,
    /// Honest sessions that were played.
    pub sessions: usize,
    /// Thefts of each kind that were played.
    pub thefts: usize,
}

/// What stories are played with.
pub(crate) struct Plan<'p> {
    settings: &'p Settings,
    rules: &'p Rulebook,
    seed: u64,
    luck: Luck,
    sees: Sees,
    sensitive: String,
}

/// Plays a policy. `tell` hears how many stories of how many are done.
///
/// Deadlines are put off, since what ends by time is no false end: sessions are as long as their stories.
///
/// # Errors
/// When the settings do not go together, or the machine gives no thread.
pub fn simulate(
    settings: &Settings,
    rules: &Rulebook,
    simulation: &Simulation,
    tell: &(dyn Fn(usize, usize) + Sync),
) -> Result<Simulated, DriveError> {
    let (settings, sensitive) = prepared(settings);
    let luck = match simulation.world {
        World::Usual => Luck { lost: 0.004, crash: 0.002 },
        World::Rough => Luck { lost: 0.02, crash: 0.02 },
    };
    let plan = Plan { settings: &settings, rules, seed: simulation.seed, luck, sees: simulation.sees, sensitive };
    let jobs = jobs(simulation);
    let outcomes = play_all(&plan, &jobs, tell)?;
    let mut rows = vec![Row::of("this policy", &outcomes)];
    if simulation.checks == Checks::Beside {
        for check in Check::ALL {
            let outcomes: Vec<Outcome> = jobs.iter().map(|job| check.try_on(job, &plan)).collect();
            rows.push(Row::of(check.name(), &outcomes));
        }
    }
    let sessions = jobs.iter().filter(|job| matches!(job.subject, Subject::Honest(_))).count();
    Ok(Simulated { rows, sessions, thefts: simulation.thefts })
}

/// The settings with deadlines put off, and a path of a sensitive route. If there is no such route, there is one now.
fn prepared(settings: &Settings) -> (Settings, String) {
    let mut settings = settings.clone();
    let long = Duration::from_secs(400 * 86_400);
    settings.session.deadlines = Deadlines { idle: long, absolute: long, longest: None };
    for route in &mut settings.routes {
        (route.idle, route.absolute, route.fresh) = (None, None, None);
    }
    let named = settings.routes.iter().find(|route| route.sensitivity == Sensitivity::Sensitive);
    if let Some(route) = named {
        let path = route.pattern.path().as_str().replace("**", "x").replace('*', "x");
        return (settings, path);
    }
    if let (true, Ok(pattern)) =
        (settings.routes.is_empty(), RoutePattern::parse("/account/**", CaseSensitivity::default()))
    {
        settings.routes.push(Route { sensitivity: Sensitivity::Sensitive, ..Route::plain(pattern) });
    }
    (settings, SENSITIVE.to_owned())
}

/// The stories, in the order in which they are told apart.
fn jobs(simulation: &Simulation) -> Vec<Job> {
    let mut subjects = Vec::new();
    let shares: f64 = Life::ALL.iter().map(|life| life.share()).sum();
    for life in Life::ALL {
        #[expect(clippy::cast_precision_loss, reason = "no more sessions than fit")]
        let share = simulation.sessions as f64 * life.share() / shares;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
        let count = (share.round() as usize).max(LEAST.min(simulation.sessions));
        subjects.extend(std::iter::repeat_n(Subject::Honest(*life), count));
    }
    for theft in Theft::ALL {
        subjects.extend(std::iter::repeat_n(Subject::Theft(*theft), simulation.thefts));
    }
    let mut dice = dice::Dice::new(simulation.seed, u64::MAX);
    // Thefts come when the guard has seen some days.
    let start = |dice: &mut dice::Dice, subject| match subject {
        Subject::Honest(_) => dice.between(0.0, DAYS * DAY),
        Subject::Theft(_) => dice.between(DAYS / 2.0 * DAY, DAYS * DAY),
    };
    let numbered = subjects.into_iter().zip(1_u32..);
    let mut jobs: Vec<Job> =
        numbered.map(|(subject, number)| Job { subject, number, start: start(&mut dice, subject) }).collect();
    // Each block has some of all.
    for at in (1..jobs.len()).rev() {
        let last = u32::try_from(at).unwrap_or(u32::MAX);
        jobs.swap(at, usize::try_from(dice.whole(0, last)).unwrap_or(0));
    }
    jobs
}

fn play_all(plan: &Plan<'_>, jobs: &[Job], tell: &(dyn Fn(usize, usize) + Sync)) -> Result<Vec<Outcome>, DriveError> {
    let blocks: Vec<&[Job]> = jobs.chunks(BLOCK).collect();
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let found = Mutex::new(Vec::new());
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(block) = blocks.get(at) else { return };
            let outcomes = play::play(plan, block, plan.seed.wrapping_add(at as u64));
            found.lock().push((at, outcomes));
            tell(done.fetch_add(block.len(), Ordering::Relaxed) + block.len(), jobs.len());
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get).min(blocks.len());
    std::thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(work);
        }
        work();
    });
    let mut found = found.into_inner();
    found.sort_by_key(|(at, _)| *at);
    let mut all = Vec::with_capacity(jobs.len());
    for (_, outcomes) in found {
        all.extend(outcomes?);
    }
    Ok(all)
}
