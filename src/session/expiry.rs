//! Deadlines: pure functions of a record and a time.
//!
//! The absolute deadline counts from the last authentication (from the beginning, while nobody authenticated) and never
//! moves by rotation.

use std::sync::Arc;
use std::time::Duration;

use super::record::{EndReason, Lasting, Record, State};
use super::subject::is_same;
use crate::clock::Timestamp;

/// How long sessions last; a route may make them shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Longest time without real use.
    pub idle: Duration,
    /// Longest time since authentication, or since the beginning.
    pub absolute: Duration,
    /// How long one may last whose app asks for more than that, as for who wants to be remembered; none: no longer. What is shorter
    /// here than above counts as what is above.
    pub longest: Option<Span>,
}

/// How long a session lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Longest time without real use.
    pub idle: Duration,
    /// Longest time since authentication, or since the beginning.
    pub absolute: Duration,
}

impl Deadlines {
    /// How long a session lasts that began then, and of which its app has asked this.
    pub fn granted(&self, lasting: Lasting, ends_at: Option<Timestamp>, began: Timestamp) -> Span {
        let all = Span { idle: self.idle, absolute: self.absolute };
        let most = self
            .longest
            .map_or(all, |most| Span { idle: most.idle.max(all.idle), absolute: most.absolute.max(all.absolute) });
        match lasting {
            Lasting::Idle(seconds) => {
                let idle = Duration::from_secs(seconds.into());
                if idle > all.idle { Span { idle: idle.min(most.idle), ..most } } else { Span { idle, ..all } }
            }
            Lasting::Until if ends_at.is_some_and(|end| end > began.after(all.absolute)) => most,
            Lasting::Default | Lasting::Until | Lasting::Browser => all,
        }
    }
}

fn granted(record: &Record, deadlines: &Deadlines) -> Span {
    deadlines.granted(record.lasting, record.ends_at, began(record))
}

/// From when its age counts.
pub fn began(record: &Record) -> Timestamp {
    record.authenticated_at.unwrap_or(record.created_at)
}

/// Whether a session is over at `now`, and why. A deadline belongs to the session: the moment it is reached, it is over.
pub fn ended(record: &Record, deadlines: &Deadlines, now: Timestamp) -> Option<EndReason> {
    if let State::Ended { why, .. } = record.state {
        return Some(why);
    }
    if record.ends_at.is_some_and(|end| now >= end) {
        return Some(EndReason::Expired);
    }
    if now >= absolute_deadline(record, deadlines) {
        return Some(EndReason::Absolute);
    }
    (now >= record.last_seen.after(granted(record, deadlines).idle)).then_some(EndReason::Idle)
}

/// When the session is over however much it is used.
pub fn absolute_deadline(record: &Record, deadlines: &Deadlines) -> Timestamp {
    let by_age = began(record).after(granted(record, deadlines).absolute);
    record.ends_at.map_or(by_age, |end| end.min(by_age))
}

/// What a login leaves of what was asked for before it: nobody is remembered who did not ask for that. Who only proves again who he is
/// goes on being remembered.
pub fn after_login(record: &Record, subject: Option<&Arc<str>>, deadlines: &Deadlines) -> Lasting {
    let before = record.subject.as_deref().filter(|_| record.authenticated_at.is_some());
    let is_again = before.zip(subject).is_some_and(|(before, now)| is_same(before, now));
    match record.lasting {
        Lasting::Until => Lasting::Default,
        Lasting::Idle(seconds) if !is_again && Duration::from_secs(seconds.into()) > deadlines.idle => Lasting::Default,
        lasting @ (Lasting::Idle(_) | Lasting::Browser | Lasting::Default) => lasting,
    }
}

/// Whether others must not go on serving what it was before: its client was moved aside just now, or it is over at once.
pub fn is_taken_away(record: &Record, now: Timestamp) -> bool {
    const AT_ONCE: Duration = Duration::from_secs(2);
    // Once, and not with every later change.
    matches!(record.state, State::Quarantined { since } if now.since(since) <= AT_ONCE)
        || record.ends_at.is_some_and(|end| end <= now.after(AT_ONCE))
}

/// When it is over if it is not used again.
pub fn deadline(record: &Record, deadlines: &Deadlines) -> Timestamp {
    absolute_deadline(record, deadlines).min(record.last_seen.after(granted(record, deadlines).idle))
}

/// Whether a session lasts longer than before because the app has asked for it.
pub fn is_renewed(before: &Record, after: &Record, deadlines: &Deadlines) -> bool {
    (before.lasting, before.ends_at) != (after.lasting, after.ends_at)
        && deadline(before, deadlines) < deadline(after, deadlines)
}

/// Whether the subject authenticated recently enough for a route that asks for it. A session whose login nobody told us of
/// is as fresh as it is young: it was in it that somebody logged in. A visitor's, whose id never changed, is not asked.
pub fn is_fresh(record: &Record, within: Duration, now: Timestamp) -> bool {
    is_visitor(record) || now.since(began(record)) < within
}

/// Whether nobody can have logged in: an app gives a new id at every login, and this one never changed.
pub fn is_visitor(record: &Record) -> bool {
    record.authenticated_at.is_none() && record.id_since == record.created_at
}

/// Whether `last_seen` is due to be written: writing each use would cost a store write per request.
pub fn touch_is_due(record: &Record, every: Duration, deadlines: &Deadlines, now: Timestamp) -> bool {
    // With a short idle timeout a coarse time would end sessions early: at most a tenth of it may be lost.
    now.since(record.last_seen) >= every.min(granted(record, deadlines).idle / 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::id::{Ref, SessionDigest};
    use crate::session::tag::{Tag, Tags};

    const DEADLINES: Deadlines =
        Deadlines { idle: Duration::from_secs(1800), absolute: Duration::from_secs(43200), longest: None };
    const WEEK: u32 = 604_800;

    fn record(created: u64, authenticated: Option<u64>, seen: u64) -> Record {
        Record {
            digest: SessionDigest([0; 32]),
            reference: Ref([0; 16]),
            version: 0,
            created_at: Timestamp::from_secs(created),
            id_since: Timestamp::from_secs(created),
            authenticated_at: authenticated.map(Timestamp::from_secs),
            last_seen: Timestamp::from_secs(seen),
            ends_at: None,
            lasting: Lasting::Default,
            removable_at: Timestamp::EPOCH,
            subject: None,
            tags: Tags::new(Tag::from_bytes([0; 16]), Timestamp::EPOCH),
            forks: 0,
            state: State::Live,
            jar: Box::default(),
            data: Box::default(),
            bound: Box::default(),
            history: Box::default(),
        }
    }

    #[test]
    fn a_session_ends_at_its_deadlines_to_the_second() {
        let check = |record: &Record, at: u64, expected: Option<EndReason>| {
            assert_eq!(ended(record, &DEADLINES, Timestamp::from_secs(at)), expected, "at {at}");
        };
        let idle = record(0, None, 1000);
        check(&idle, 2799, None);
        check(&idle, 2800, Some(EndReason::Idle));
        let busy = record(0, None, 43199);
        check(&busy, 43199, None);
        check(&busy, 43200, Some(EndReason::Absolute));
        let short = Record { lasting: Lasting::Idle(300), ..record(0, None, 1000) };
        check(&short, 1299, None);
        check(&short, 1300, Some(EndReason::Idle));
        check(&Record { lasting: Lasting::Idle(9000), ..idle.clone() }, 2800, Some(EndReason::Idle));
        let authenticated = record(0, Some(1000), 44000);
        check(&authenticated, 44199, None);
        check(&authenticated, 44200, Some(EndReason::Absolute));
        let asked = Record { ends_at: Some(Timestamp::from_secs(44100)), ..authenticated };
        check(&asked, 44099, None);
        check(&asked, 44100, Some(EndReason::Expired));
        let over = asked.ended(Timestamp::from_secs(1), EndReason::Logout, Timestamp::EPOCH);
        check(&over, 2, Some(EndReason::Logout));
    }

    #[test]
    fn a_session_lasts_longer_if_its_app_asks_for_it_and_the_policy_lets_it() {
        let weeks = |weeks: u32| Duration::from_secs((WEEK * weeks).into());
        let deadlines = Deadlines { longest: Some(Span { idle: weeks(2), absolute: weeks(8) }), ..DEADLINES };
        let end = |lasting, ends_at: Option<u64>, seen: u64, deadlines: &Deadlines| {
            let record = Record { lasting, ends_at: ends_at.map(Timestamp::from_secs), ..record(0, Some(1000), seen) };
            deadline(&record, deadlines).as_secs()
        };
        let week = u64::from(WEEK);
        assert_eq!(end(Lasting::Default, None, 5000, &deadlines), 6800, "nobody asked");
        assert_eq!(end(Lasting::Browser, None, 5000, &deadlines), 6800);
        assert_eq!(end(Lasting::Idle(WEEK), None, 5000, &deadlines), 5000 + week);
        assert_eq!(end(Lasting::Idle(3 * WEEK), None, 5000, &deadlines), 5000 + 2 * week, "no more than that");
        assert_eq!(end(Lasting::Idle(WEEK), None, 8 * week, &deadlines), 1000 + 8 * week);
        assert_eq!(end(Lasting::Idle(600), None, 44_000, &deadlines), 44_200, "who asks for less gets less");
        assert_eq!(end(Lasting::Until, Some(week), 5000, &deadlines), week);
        assert_eq!(end(Lasting::Until, Some(9 * week), 8 * week, &deadlines), 1000 + 8 * week);
        assert_eq!(
            end(Lasting::Until, Some(9000), 5000, &deadlines),
            6800,
            "a date within the day is an end, and no more"
        );
        let less = Span { idle: Duration::from_secs(60), absolute: Duration::from_secs(60) };
        let absurd = Deadlines { longest: Some(less), ..DEADLINES };
        for deadlines in [&DEADLINES, &absurd] {
            assert_eq!(end(Lasting::Idle(WEEK), None, 5000, deadlines), 6800);
            assert_eq!(end(Lasting::Until, Some(week), 44_000, deadlines), 44_200);
        }
    }

    #[test]
    fn the_deadline_is_the_earliest_of_all() {
        let authenticated = record(0, Some(1000), 44000);
        assert_eq!(deadline(&authenticated, &DEADLINES), Timestamp::from_secs(44200));
        assert_eq!(deadline(&record(0, None, 5), &DEADLINES), Timestamp::from_secs(1805));
    }

    #[test]
    fn what_is_moved_aside_or_over_at_once_is_taken_away() {
        let at = |secs: u64| Timestamp::from_secs(secs);
        let aside = Record { state: State::Quarantined { since: at(100) }, ..record(0, Some(0), 100) };
        assert!(is_taken_away(&aside, at(100)) && is_taken_away(&aside, at(102)) && !is_taken_away(&aside, at(103)));
        let over = |ends: u64| Record { ends_at: Some(at(ends)), ..record(0, Some(0), 100) };
        assert!(is_taken_away(&over(90), at(100)) && is_taken_away(&over(102), at(100)));
        assert!(!is_taken_away(&over(103), at(100)) && !is_taken_away(&record(0, Some(0), 100), at(100)));
    }

    #[test]
    fn only_a_recent_authentication_is_fresh() {
        let within = Duration::from_secs(900);
        assert!(is_fresh(&record(0, Some(1000), 0), within, Timestamp::from_secs(1899)));
        assert!(!is_fresh(&record(0, Some(1000), 0), within, Timestamp::from_secs(1900)));
        assert!(is_fresh(&record(0, None, 0), within, Timestamp::from_secs(9000)));
        let renewed = Record { id_since: Timestamp::from_secs(500), ..record(0, None, 0) };
        assert!(is_fresh(&renewed, within, Timestamp::from_secs(899)));
        assert!(!is_fresh(&renewed, within, Timestamp::from_secs(900)));
    }

    #[test]
    fn use_is_written_rarely_but_never_at_the_cost_of_a_short_idle_timeout() {
        let every = Duration::from_secs(60);
        let check = |idle: u64, at: u64, due: bool| {
            let deadlines = Deadlines { idle: Duration::from_secs(idle), ..DEADLINES };
            assert_eq!(touch_is_due(&record(0, None, 0), every, &deadlines, Timestamp::from_secs(at)), due);
        };
        check(1800, 59, false);
        check(1800, 60, true);
        check(100, 9, false);
        check(100, 10, true);
    }
}
