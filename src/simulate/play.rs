//! Stories played through the engine: many at once, in one virtual time, as a guard would meet them.
//!
//! A jar gets its cookies as late as the network brings them, loses one in 250, and one browser in 500 crashes and goes back half
//! a minute. Who is asked to log in again does so if he is the owner, and goes on; a thief can not.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::hash::{Hash as _, Hasher as _};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode, Version};

use super::dice::Dice;
use super::honest::{self, Life};
use super::story::{Event, Loot, Story, Who};
use super::thefts::{self, Theft};
use super::world::{Device, Kind, Net, headers};
use super::{Plan, Sees};
use crate::clock::Timestamp;
use crate::connection::ConnectionId;
use crate::connection::print::{Print, RttGap};
use crate::drive::{App, Attention, DriveError, Driver, Jar, START, Visitor, head};
use crate::facts::geo::Place;
use crate::verdict::Action;

/// What a story is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Honest(Life),
    Theft(Theft),
}

impl Subject {
    pub(super) fn story(self, seed: u64, number: u32) -> Story {
        match self {
            Self::Honest(life) => honest::story(life, seed, number),
            Self::Theft(theft) => thefts::story(theft, seed, number),
        }
    }
}

/// A story to be played.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) subject: Subject,
    pub(super) number: u32,
    /// When it begins, in seconds of the world.
    pub(super) start: f64,
}

/// How a theft was noticed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Caught {
    /// The requests of the thief until then.
    pub(super) requests: u32,
    /// The time since the first of them.
    pub(super) seconds: f64,
}

/// What came of a story.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) subject: Subject,
    /// Whether an honest session was ended.
    pub(super) ended: bool,
    /// Whether an honest user was asked to log in again.
    pub(super) asked: bool,
    pub(super) caught: Option<Caught>,
}

/// How cookies fare.
#[derive(Clone, Copy, Debug)]
pub(super) struct Luck {
    pub(super) lost: f64,
    pub(super) crash: f64,
}

/// A story under way.
struct Running {
    job: Job,
    story: Story,
    at: usize,
    dice: Dice,
    jars: [Jar; 2],
    thief: Option<Jar>,
    /// When the thief came, and his requests so far.
    thief_since: f64,
    thief_requests: u32,
    crash: Option<f64>,
    outcome: Outcome,
}

/// Whether a story goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Event,
    End,
}

/// The headers of a kind of request by a device, made once.
type Wardrobe = HashMap<(String, u8), Vec<(HeaderName, HeaderValue)>>;

/// Plays stories beside each other, and tells what came of each, in the order of the jobs.
pub(super) fn play(plan: &Plan<'_>, jobs: &[Job], seed: u64) -> Result<Vec<Outcome>, DriveError> {
    let driver = Driver::new(plan.settings, plan.rules, seed, Attention::Outcome)?;
    let mut stories: Vec<Option<Running>> = Vec::with_capacity(jobs.len());
    let mut agenda = BinaryHeap::with_capacity(jobs.len());
    for (at, job) in jobs.iter().enumerate() {
        agenda.push(Reverse((moment(job.start), at)));
        stories.push(None);
    }
    let mut outcomes: Vec<Option<Outcome>> = vec![None; jobs.len()];
    let mut stage = Stage { plan, driver, wardrobe: Wardrobe::new(), busy: Dice::new(seed, u64::MAX - 1) };
    while let Some(Reverse((_, at))) = agenda.pop() {
        let (Some(slot), Some(job)) = (stories.get_mut(at), jobs.get(at)) else { continue };
        let running = slot.get_or_insert_with(|| Running::new(*job, plan));
        let next = stage.step(running);
        match (next, running.next_at()) {
            (Next::Event, Some(t)) => agenda.push(Reverse((t, at))),
            _ => {
                if let Some(outcome) = outcomes.get_mut(at) {
                    *outcome = Some(running.outcome);
                }
                // Its jars and requests are not needed any more.
                *slot = None;
            }
        }
    }
    Ok(outcomes.into_iter().flatten().collect())
}

fn moment(seconds: f64) -> Timestamp {
    START.after(Duration::from_secs_f64(seconds.max(0.0)))
}

impl Running {
    fn new(job: Job, plan: &Plan<'_>) -> Self {
        let story = job.subject.story(plan.seed, job.number);
        let mut dice = Dice::new(plan.seed ^ 0x5eed, u64::from(job.number));
        let crash = dice.chance(plan.luck.crash).then(|| dice.pick(&story.events).t);
        let outcome = Outcome { subject: job.subject, ended: false, asked: false, caught: None };
        let jars = [Jar::default(), Jar::default()];
        Self { job, story, at: 0, dice, jars, thief: None, thief_since: 0.0, thief_requests: 0, crash, outcome }
    }

    fn next_at(&self) -> Option<Timestamp> {
        self.story.events.get(self.at).map(|event| moment(self.job.start + event.t))
    }

    /// The jar of somebody. That of the thief is a copy, from when he first needs it.
    fn jar(&mut self, who: Who, now: Timestamp) -> &mut Jar {
        let [owner, phished] = &mut self.jars;
        match (who, self.story.loot) {
            (Who::Owner, _) | (Who::Thief, Loot::Jar) => owner,
            (Who::Phished, _) => phished,
            (Who::Thief, Loot::Copy(age)) => {
                let was_phished = self.story.events.first().is_some_and(|event| event.who == Who::Phished);
                let source = if was_phished { &*phished } else { &*owner };
                self.thief.get_or_insert_with(|| {
                    let then = Timestamp::from_millis(now.as_millis().saturating_sub(millis(age)));
                    source.copy(then, now)
                })
            }
        }
    }
}

fn millis(seconds: f64) -> u64 {
    u64::try_from(Duration::from_secs_f64(seconds.max(0.0)).as_millis()).unwrap_or(u64::MAX)
}

/// Ten minutes and some: what a program that was handed the cookies may be late.
const DOWNLOAD_LATE_MS: u64 = 300_000;
/// What a crash takes back.
const CRASH_MS: u64 = 30_000;

struct Stage<'p> {
    plan: &'p Plan<'p>,
    driver: Driver,
    wardrobe: Wardrobe,
    /// How busy machines are.
    busy: Dice,
}

impl Stage<'_> {
    /// How much later a client answers within TLS than within TCP: the way to whoever is behind an address, and what the
    /// machine there takes. One in two hundred looks up a certificate first.
    fn rtt_gap(&mut self, net: &Net) -> Option<RttGap> {
        if self.plan.sees != Sees::RelayRtt {
            return None;
        }
        let lookup = if self.busy.chance(0.005) { self.busy.between(20.0, 150.0) } else { 0.0 };
        let millis = net.beyond_ms + self.busy.exponential(4.0) + lookup;
        Some(RttGap::of(Duration::from_secs_f64(millis / 1000.0)))
    }

    fn step(&mut self, running: &mut Running) -> Next {
        let Some(event) = running.story.events.get(running.at).copied() else { return Next::End };
        let is_first = running.at == 0;
        running.at += 1;
        let now = moment(running.job.start + event.t);
        if running.crash.is_some_and(|crash| event.t >= crash) && event.who != Who::Thief {
            running.crash = None;
            let before = Timestamp::from_millis(now.as_millis().saturating_sub(CRASH_MS));
            running.jar(event.who, now).roll_back(before, now);
        }
        if event.who == Who::Thief && running.thief_requests == 0 {
            running.thief_since = event.t;
        }
        if event.who == Who::Thief {
            running.thief_requests += 1;
        }
        if is_first {
            self.log_in(running, &event, now);
        }
        let action = self.send(running, &event, now);
        if action < Action::Quarantine {
            return Next::Event;
        }
        self.held(running, &event, action, now)
    }

    /// Somebody was held back.
    fn held(&mut self, running: &mut Running, event: &Event, action: Action, now: Timestamp) -> Next {
        let caught = |requests, seconds| Some(Caught { requests, seconds });
        match event.who {
            Who::Phished => running.outcome.caught = caught(0, 0.0),
            Who::Thief => {
                running.outcome.caught = caught(running.thief_requests, event.t - running.thief_since);
            }
            Who::Owner if running.thief_requests > 0 => {
                running.outcome.caught = caught(running.thief_requests, event.t - running.thief_since);
            }
            Who::Owner if action >= Action::Terminate => running.outcome.ended = true,
            Who::Owner => {
                running.outcome.asked = true;
                self.log_in(running, event, now);
                return Next::Event;
            }
        }
        Next::End
    }

    fn send(&mut self, running: &mut Running, event: &Event, now: Timestamp) -> Action {
        let as_of = if event.kind == Kind::Download {
            Timestamp::from_millis(now.as_millis().saturating_sub(DOWNLOAD_LATE_MS))
        } else {
            now
        };
        let cookies = running.jar(event.who, now).line(as_of);
        let (path, status) = match event.kind {
            Kind::Page => ("/orders", StatusCode::OK),
            Kind::Sensitive => (self.plan.sensitive.as_str(), StatusCode::OK),
            Kind::Part => ("/api/items", StatusCode::OK),
            Kind::Media => ("/media/film.mp4", StatusCode::PARTIAL_CONTENT),
            Kind::Socket => ("/socket", StatusCode::SWITCHING_PROTOCOLS),
            Kind::Worker => ("/worker.js", StatusCode::OK),
            Kind::Download => ("/files/report.pdf", StatusCode::OK),
        };
        let app = App { status, ..App::default() };
        let (action, lines) = self.request((Method::GET, path), (running.job.number, event), &cookies, &app, now);
        let is_lost = running.dice.chance(self.plan.luck.lost);
        if event.kind != Kind::Download && !is_lost {
            self.deliver(running, event.who, &lines, now);
        }
        action
    }

    fn log_in(&mut self, running: &mut Running, event: &Event, now: Timestamp) {
        let cookies = running.jar(event.who, now).line(now);
        let login = Some(format!("user-{}", running.job.number));
        let app = App { status: StatusCode::SEE_OTHER, login, ..App::default() };
        let event = Event { kind: Kind::Page, ..*event };
        let (_, lines) = self.request((Method::POST, "/login"), (running.job.number, &event), &cookies, &app, now);
        // Nobody goes on before he is logged in.
        running.jar(event.who, now).store(&lines, now);
    }

    fn deliver(&self, running: &mut Running, who: Who, lines: &[String], now: Timestamp) {
        if !lines.is_empty() {
            let latency = Duration::from_millis(u64::from(running.dice.whole(30, 400)));
            running.jar(who, now).store(lines, now.after(latency));
        }
    }

    fn request(
        &mut self,
        (method, path): (Method, &str),
        (story, event): (u32, &Event),
        cookies: &str,
        app: &App,
        now: Timestamp,
    ) -> (Action, Vec<String>) {
        let Event { net, device, kind, .. } = event;
        let version = if *kind == Kind::Socket { Version::HTTP_11 } else { Version::HTTP_2 };
        let place = if self.plan.sees == Sees::NoGeo { Place::default() } else { net.place };
        let print = if self.plan.sees == Sees::BehindCdn { Print::default() } else { device.print(*kind) };
        let connection = (version == Version::HTTP_2).then(|| connection(story, event));
        let visitor = Visitor { ip: net.ip, place, print: Print { rtt_gap: self.rtt_gap(net), ..print }, connection };
        let dress = self.wardrobe.entry(outfit(device, *kind)).or_insert_with(|| headers(device, *kind));
        let parts = head(method, path.parse().unwrap_or_default(), version, dress, cookies);
        self.driver.set_time(now);
        let (came, lines) = self.driver.request(&visitor, parts, app);
        (came.action, lines)
    }
}

/// The connection that somebody has at that time: another one from another address, and a new one every ten minutes.
fn connection(story: u32, event: &Event) -> ConnectionId {
    let mut hasher = std::hash::DefaultHasher::new();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a span of a story")]
    (story, event.who as u8, event.net.ip, (event.t / 600.0) as u64).hash(&mut hasher);
    ConnectionId(hasher.finish())
}

/// What headers depend on.
fn outfit(device: &Device, kind: Kind) -> (String, u8) {
    (format!("{}\n{}\n{:?}", device.user_agent(), device.language, device.order), kind as u8)
}
