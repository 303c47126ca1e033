//! Rotation under random interleavings: jars with requests in parallel, slow and out of order, lost answers, restarts.
//!
//! Time is virtual and every choice follows from a seed, which a failure prints; `PORTCULLIS_SEED=<n>` plays it again.
//! What is expected comes from a model of its own, which knows of a cookie only where it was handed out: an honest jar is
//! always served, two jars are found, the dead stay dead.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use portcullis::clock::Timestamp;
use portcullis::engine::Selection;
use portcullis::event::{Kind, Revoker};
use portcullis::session::id::SessionDigest;

use crate::support::world::{Ask, Browser, Flight, Page, Started, World, hours, minutes, rules, seconds};

/// A generator of 64 bits (SplitMix64), so that a seed means the same for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn millis(&mut self, max: u64) -> Duration {
        Duration::from_millis(self.below(max.max(1)))
    }

    /// Mostly short, seldom long, and never longer than `longest`.
    fn delay(&mut self, longest: Duration) -> Duration {
        let longest = u64::try_from(longest.as_millis()).unwrap();
        match self.below(100) {
            0 => self.millis(longest),
            1..10 => self.millis(longest.min(5_000)),
            _ => self.millis(longest.min(300)),
        }
    }
}

/// How rough the world is.
#[derive(Clone, Copy)]
struct Weather {
    /// The longest time from a request's start, when its cookies are fixed, to us: below the grace.
    start: Duration,
    /// The longest time the app takes.
    app: Duration,
    /// The longest time from us to the jar.
    way_back: Duration,
    /// One answer in so many is lost.
    lost: u64,
    /// One burst in so many is followed by a restart of the store.
    restart: u64,
}

const HONEST: Weather = Weather { start: seconds(55), app: minutes(20), way_back: seconds(4), lost: 30, restart: 40 };

/// What happens next.
enum Next {
    Burst(usize),
    Start(usize),
    Arrive(usize, Started),
    Answer(usize, Flight),
    Land(usize, Page),
}

struct Sim {
    world: World,
    random: Random,
    weather: Weather,
    jars: Vec<Browser>,
    /// What is to come, by time and then by order of invention.
    queue: BinaryHeap<Reverse<(Timestamp, u64)>>,
    events: BTreeMap<u64, Next>,
    invented: u64,
    /// The longest pause between two bursts of a jar.
    pause: Duration,
    served: usize,
    strangers: usize,
    generations: BTreeMap<SessionDigest, u32>,
    /// Prints the seed if the story fails.
    _seed: Seed,
}

struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("this was PORTCULLIS_SEED={}", self.0);
        }
    }
}

impl Sim {
    fn new(seed: u64, weather: Weather, pause: Duration) -> Self {
        let long = rules().idle(hours(2)).absolute(hours(48));
        let world = World::seeded(long, seed);
        let alice = world.browser("alice");
        alice.logs_in("alice").ok();
        Self {
            world,
            random: Random(seed),
            weather,
            jars: vec![alice],
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            invented: 0,
            pause,
            served: 0,
            strangers: 0,
            generations: BTreeMap::new(),
            _seed: Seed(seed),
        }
    }

    fn later(&mut self, span: Duration, next: Next) {
        self.invented += 1;
        self.queue.push(Reverse((self.world.now().after(span), self.invented)));
        self.events.insert(self.invented, next);
    }

    /// Plays until this time has passed, or until `done`.
    fn plays(&mut self, span: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.world.now().after(span);
        while let Some(Reverse((at, number))) = self.queue.pop() {
            if at > end || done(self) {
                self.queue.push(Reverse((at, number)));
                break;
            }
            self.world.after(at.since(self.world.now()));
            if let Some(next) = self.events.remove(&number) {
                self.happens(next);
            }
        }
    }

    fn happens(&mut self, next: Next) {
        match next {
            Next::Burst(jar) => {
                for _ in 0..=self.random.below(10) {
                    let soon = self.random.millis(1500);
                    self.later(soon, Next::Start(jar));
                }
                let pause = self.random.delay(self.pause).max(self.random.millis(60_000));
                self.later(pause, Next::Burst(jar));
                if self.random.one_in(self.weather.restart) {
                    self.restarts();
                }
            }
            Next::Start(jar) => {
                let ask = match self.random.below(3) {
                    0 => Ask::page("/account"),
                    1 => Ask::image("/account"),
                    _ => Ask::fetch("/account"),
                };
                let started = self.jars[jar].starts(ask);
                let delay = self.random.delay(self.weather.start);
                self.later(delay, Next::Arrive(jar, started));
            }
            Next::Arrive(jar, started) => {
                let flight = started.arrives();
                let delay = self.random.delay(self.weather.app);
                self.later(delay, Next::Answer(jar, flight));
                if self.random.one_in(16) {
                    self.looks_at_generations();
                }
            }
            Next::Answer(jar, flight) => {
                let page = flight.lands_unseen();
                if page.serving().is_some() {
                    self.served += 1
                } else {
                    self.strangers += 1
                }
                if !self.random.one_in(self.weather.lost) {
                    let delay = self.random.delay(self.weather.way_back);
                    self.later(delay, Next::Land(jar, page));
                }
            }
            Next::Land(jar, page) => self.jars[jar].keeps(&page),
        }
    }

    /// The program is killed and started again: what is under way never arrives.
    fn restarts(&mut self) {
        self.events.retain(|_, next| matches!(next, Next::Burst(_) | Next::Start(_)));
        self.world.run(self.world.store().restarts());
    }

    /// The generation of a session's head never decreases.
    fn looks_at_generations(&mut self) {
        for record in self.world.sessions() {
            let now = record.tags.head().generation();
            let before = self.generations.insert(record.digest, now).unwrap_or(0);
            assert!(now >= before, "from generation {before} back to {now}");
        }
    }

    fn told(&self, told: &[&str], kind: Kind) -> usize {
        told.iter().filter(|name| **name == kind.as_str()).count()
    }
}

/// So many seeds; one if one is named; more in a soak.
fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let named = std::env::var("PORTCULLIS_SEED").ok().map(|seed| seed.parse().unwrap());
    let count = if std::env::var_os("PORTCULLIS_SOAK").is_some() { count * 50 } else { count };
    let first = named.unwrap_or(1);
    first..named.map_or(count, |seed| seed) + 1
}

#[test]
fn one_honest_jar_is_always_served_and_never_suspected() {
    for seed in seeds(8) {
        let mut sim = Sim::new(seed, HONEST, minutes(15));
        sim.later(Duration::ZERO, Next::Burst(0));
        sim.plays(hours(8), |_| false);
        assert_eq!(sim.strangers, 0);
        assert!(sim.served > 500, "{}", sim.served);
        let told = sim.world.told();
        for kind in [
            Kind::SessionTagStale,
            Kind::SessionTagFork,
            Kind::SessionTagForged,
            Kind::SessionTagAhead,
            Kind::SessionHijackSuspected,
            Kind::SessionQuarantined,
            Kind::SessionTerminated,
            Kind::SessionUnknownId,
        ] {
            assert_eq!(sim.told(&told, kind), 0, "{kind}");
        }
        assert!(sim.told(&told, Kind::SessionRotated) > 20);
    }
}

/// A twin of the owner's machine takes a copy of the jar at a random time, and both go on.
#[test]
fn two_live_jars_are_found() {
    let mut found_after = Vec::new();
    for seed in seeds(24) {
        let weather = Weather { restart: 1_000, lost: 100, app: seconds(3), ..HONEST };
        let mut sim = Sim::new(seed, weather, seconds(45));
        sim.later(Duration::ZERO, Next::Burst(0));
        let quiet = Duration::from_secs(60 + sim.random.below(3600));
        sim.plays(quiet, |_| false);
        assert_eq!(sim.strangers, 0, "before the theft");
        let thief = sim.world.browser("thief");
        thief.steals_from(&sim.jars[0]);
        sim.jars.push(thief);
        let stolen_at = sim.world.now();
        sim.later(Duration::ZERO, Next::Burst(1));
        sim.plays(minutes(30), |sim| sim.strangers > 0);
        assert!(sim.strangers > 0, "two jars went on for half an hour");
        found_after.push(sim.world.now().since(stolen_at).as_secs());
        let told = sim.world.told();
        assert_eq!(sim.told(&told, Kind::SessionTagFork), 1, "{told:?}");
        assert_eq!(sim.told(&told, Kind::SessionTagForged), 0);
    }
    found_after.sort_unstable();
    let worst = found_after[found_after.len() - 1];
    println!("found after {} s in the middle, {worst} s at worst", found_after[found_after.len() / 2]);
    assert!(worst <= 900, "{found_after:?}");
}

/// Whatever is under way when a session ends, nothing is served in its name from then on.
#[test]
fn the_dead_stay_dead() {
    for seed in seeds(12) {
        let mut sim = Sim::new(seed, HONEST, minutes(5));
        sim.later(Duration::ZERO, Next::Burst(0));
        let quiet = Duration::from_secs(60 + sim.random.below(7200));
        sim.plays(quiet, |_| false);
        let copies: Vec<Browser> = (0..3).map(|n| copy(&sim, n)).collect();
        if sim.random.one_in(2) {
            sim.world.run(sim.world.guard().revoke(&Selection::All, Revoker::Admin)).unwrap();
        } else {
            sim.jars[0].logs_out().ok();
        }
        let dead: Vec<SessionDigest> =
            sim.world.run(sim.world.store().everything()).iter().map(|record| record.digest).collect();
        let served = sim.served;
        // Requests that we had let through before may still be answered; no later one.
        sim.events.retain(|_, next| !matches!(next, Next::Answer(..)));
        sim.plays(minutes(50), |_| false);
        assert_eq!(sim.served, served);
        for copy in &copies {
            copy.visits("/account").is_stranger();
        }
        let live = sim.world.sessions();
        assert!(live.iter().all(|record| !dead.contains(&record.digest)));
    }
}

fn copy(sim: &Sim, number: usize) -> Browser {
    let copy = sim.world.browser(&format!("copy {number}"));
    copy.steals_from(&sim.jars[0]);
    copy
}
