//! The simple checks that many apps make, for comparison: a session is bound to something that must not change.

use super::dice::Dice;
use super::play::{Caught, Job, Outcome};
use super::story::{Event, Who};
use super::world::{Kind, Net};
use super::{Plan, Subject};
use crate::facts::geo::Position;
use crate::fingerprint::Prefix;

/// A simple check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Address and user agent must stay.
    AddressAndAgent,
    /// The user agent must stay.
    Agent,
    /// The network of the address (/24, /64) must stay.
    Network,
    /// The autonomous system must stay.
    Operator,
    /// The country must stay.
    Country,
    /// JA4 must stay.
    Ja4,
    /// Nobody is faster than an aeroplane, whatever the radius of a place.
    Travel,
}

impl Check {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::AddressAndAgent, Self::Agent, Self::Network, Self::Operator, Self::Country, Self::Ja4, Self::Travel];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AddressAndAgent => "address + user agent",
            Self::Agent => "user agent",
            Self::Network => "address /24, /64",
            Self::Operator => "operator (AS)",
            Self::Country => "country",
            Self::Ja4 => "JA4",
            Self::Travel => "impossible travel",
        }
    }

    /// What it makes of a story: it ends the session at the first request that is not as it must be.
    pub(super) fn try_on(self, job: &Job, plan: &Plan<'_>) -> Outcome {
        let story = job.subject.story(plan.seed, job.number);
        let mut outcome = Outcome { subject: job.subject, ended: false, asked: false, caught: None };
        let mut events = story.events.iter();
        let Some(first) = events.next() else { return outcome };
        let mut bound = Bound { first, last: *first, tls: TlsOf::new(plan.seed, job), ja4: None };
        bound.ja4 = Some(bound.tls.raw(first));
        let (mut since, mut requests) = (0.0, 0_u32);
        for event in events {
            if event.who == Who::Thief {
                if requests == 0 {
                    since = event.t;
                }
                requests += 1;
            }
            let differs = bound.differs(self, event);
            bound.last = *event;
            if !differs {
                continue;
            }
            if requests > 0 {
                outcome.caught = Some(Caught { requests, seconds: event.t - since });
            } else {
                // Whoever is phished is logged out again and again, and never learns why.
                outcome.ended = matches!(job.subject, Subject::Honest(_));
            }
            return outcome;
        }
        outcome
    }
}

struct Bound<'s> {
    first: &'s Event,
    last: Event,
    tls: TlsOf,
    ja4: Option<(u64, u8)>,
}

impl Bound<'_> {
    fn differs(&mut self, check: Check, event: &Event) -> bool {
        let agent = |event: &Event| {
            let device = &event.device;
            (device.browser, device.system, device.version)
        };
        let first = self.first;
        match check {
            Check::AddressAndAgent => agent(first) != agent(event) || first.net.ip != event.net.ip,
            Check::Agent => agent(first) != agent(event),
            Check::Network => Prefix::of(first.net.ip) != Prefix::of(event.net.ip),
            Check::Operator => first.net.place.asn != event.net.place.asn,
            Check::Country => first.net.place.country != event.net.place.country,
            Check::Ja4 => self.ja4 != Some(self.tls.raw(event)),
            Check::Travel => {
                let at = |net: &Net| net.place.position;
                let way = at(&self.last.net)
                    .zip(at(&event.net))
                    .map_or(0.0, |(from, to): (Position, Position)| from.kilometres_to(to));
                way > 50.0 && way / ((event.t - self.last.t).max(1.0) / 3600.0) > 900.0
            }
        }
    }
}

/// JA4 of the connections of a story: one browser has one for its first connection, one for those that resume it, and one
/// for WebSockets.
struct TlsOf {
    dice: Dice,
    seen: Vec<std::net::IpAddr>,
    resumed: bool,
}

impl TlsOf {
    fn new(seed: u64, job: &Job) -> Self {
        Self { dice: Dice::new(seed ^ 0x0071_5001, u64::from(job.number)), seen: Vec::new(), resumed: false }
    }

    fn raw(&mut self, event: &Event) -> (u64, u8) {
        let (engine, era) = event.device.tls;
        let key = (engine as u64) << 32 | u64::from(era);
        if event.kind == Kind::Socket {
            return (key, 2);
        }
        if !self.seen.contains(&event.net.ip) {
            self.seen.push(event.net.ip);
            self.resumed = false;
        } else if self.dice.chance(0.05) {
            self.resumed = true;
        }
        (key, u8::from(self.resumed))
    }
}
