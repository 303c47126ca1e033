//! Stories: who sends what, when, from where and with what. Time is in seconds from the login.

use super::dice::Dice;
use super::world::{Addresses, Device, Kind, Net, Person};

/// Who sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Owner,
    /// The owner, through the proxy of a phisher who stands in the middle.
    Phished,
    Thief,
}

/// One request of a story.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) t: f64,
    pub(super) who: Who,
    pub(super) kind: Kind,
    pub(super) net: Net,
    pub(super) device: Device,
}

/// How the thief came to the cookies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Loot {
    /// A copy of the jar as it was so many seconds before its first use.
    Copy(f64),
    /// The jar itself: he sits on the machine.
    Jar,
}

/// A story.
#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) events: Vec<Event>,
    pub(super) loot: Loot,
}

/// What people do in a time: a page every 45 seconds on average, with some parts.
pub(super) fn browse(dice: &mut Dice, span: f64) -> Vec<(f64, Kind)> {
    let mut all = Vec::new();
    let mut t = 0.0;
    while t < span {
        all.push((t, if dice.chance(0.03) { Kind::Sensitive } else { Kind::Page }));
        for _ in 0..dice.whole(0, 4) {
            let kind =
                dice.weighted(&[(Kind::Part, 0.85), (Kind::Media, 0.06), (Kind::Socket, 0.04), (Kind::Worker, 0.05)]);
            all.push((t + dice.between(0.05, 2.0), kind));
        }
        t += dice.exponential(45.0);
    }
    sorted(all)
}

/// The same every so many days.
pub(super) fn browse_daily(dice: &mut Dice, days: impl Iterator<Item = u32>, span: f64) -> Vec<(f64, Kind)> {
    let mut all = Vec::new();
    for day in days {
        all.extend(browse(dice, span).into_iter().map(|(t, kind)| (t + f64::from(day) * DAY, kind)));
    }
    sorted(all)
}

pub(super) const DAY: f64 = 86_400.0;

pub(super) fn sorted(mut all: Vec<(f64, Kind)>) -> Vec<(f64, Kind)> {
    all.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    all
}

/// The requests of one party.
pub(super) fn cast(
    stream: Vec<(f64, Kind)>,
    who: Who,
    mut net: impl FnMut(f64) -> Net,
    device: impl Fn(f64) -> Device,
) -> Vec<Event> {
    stream.into_iter().map(|(t, kind)| Event { t, who, kind, net: net(t), device: device(t) }).collect()
}

pub(super) fn in_order(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by(|a, b| a.t.total_cmp(&b.t));
    events
}

/// Which of two it is, if it changes at these moments.
pub(super) fn turns<T: Copy>(moments: &[f64], both: (T, T)) -> impl Fn(f64) -> T {
    move |t| if moments.iter().filter(|moment| **moment < t).count() % 2 == 0 { both.0 } else { both.1 }
}

/// What stories are made with.
pub(super) struct Maker {
    pub(super) dice: Dice,
    pub(super) addresses: Addresses,
    pub(super) person: Person,
}

impl Maker {
    pub(super) fn new(seed: u64, story: u32) -> Self {
        let mut dice = Dice::new(seed, u64::from(story));
        let mut addresses = Addresses::of(story);
        let person = Person::new(&mut dice, &mut addresses);
        Self { dice, addresses, person }
    }
}
