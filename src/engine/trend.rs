//! How much happens on the whole site, beside what is usual there: attacks that are spread over so many clients that no limit and no
//! rule sees any of them (OWASP AppSensor, STE).

use std::time::Duration;

use parking_lot::Mutex;

use super::Guard;
use crate::clock::Timestamp;
use crate::event::{Kind, Scene, SiteTrend};
use crate::store::Store;
use crate::verdict::Text;

/// Of what there may be too much.
const WATCHED: [Kind; 5] =
    [Kind::LoginFailed, Kind::SessionCreated, Kind::SessionUnknownId, Kind::SessionHijackSuspected, Kind::AuthzDenied];

/// What is compared: so much time with spans of the same length before.
pub const TREND_SPAN: Duration = Duration::from_secs(10 * 60);

/// Spans that are usual: a day.
const USUAL: usize = 144;

/// Nothing is usual before so many of them: an hour.
const USUAL_LEAST: u64 = 6;

/// So many times what is usual is told.
const TIMES: u64 = 5;
/// Of less there is never too much.
pub const TREND_LEAST: u64 = 100;

/// What was counted.
#[derive(Debug)]
pub(super) struct Trends(Mutex<State>);

#[derive(Debug)]
struct State {
    /// When the present span began.
    since: Timestamp,
    /// Counts at that time.
    counts: [u64; WATCHED.len()],
    /// The latest spans, the oldest of which is overwritten next.
    spans: [[u64; WATCHED.len()]; USUAL],
    filled: u64,
}

impl Trends {
    pub(super) fn new(now: Timestamp) -> Self {
        let (counts, spans) = ([0; WATCHED.len()], [[0; WATCHED.len()]; USUAL]);
        Self(Mutex::new(State { since: now, counts, spans, filled: 0 }))
    }

    /// Ends a span if it is over, by what was counted since the start. Gives what there was too much of.
    fn look(&self, now: Timestamp, counts: [u64; WATCHED.len()]) -> Vec<SiteTrend> {
        let mut state = self.0.lock();
        let lasted = now.since(state.since);
        if lasted < TREND_SPAN {
            return Vec::new();
        }
        let mut span = [0; WATCHED.len()];
        let mut told = Vec::new();
        let known = state.filled.min(USUAL as u64);
        for (at, (kind, place)) in WATCHED.iter().zip(&mut span).enumerate() {
            let of = |all: &[u64; WATCHED.len()]| all.get(at).copied().unwrap_or(0);
            let count = of(&counts).saturating_sub(of(&state.counts));
            let usual = state.spans.iter().map(of).sum::<u64>().checked_div(known).unwrap_or(0);
            // After a pause of the machine the span is longer than the others, and says nothing.
            let is_span = lasted < 2 * TREND_SPAN;
            if is_span && known >= USUAL_LEAST && count >= TREND_LEAST && count > usual * TIMES {
                let percent = (count.saturating_mul(100) / usual.max(1)).saturating_sub(100);
                let percent = u32::try_from(percent).unwrap_or(u32::MAX);
                told.push(SiteTrend { what: Text::of(kind.as_str()), percent });
            }
            // What is too much does not become usual by happening.
            *place = if known >= USUAL_LEAST { count.min(usual * 2 + TREND_LEAST / 4) } else { count };
        }
        let next = usize::try_from(state.filled % USUAL as u64).unwrap_or(0);
        if let Some(oldest) = state.spans.get_mut(next) {
            *oldest = span;
        }
        state.filled += 1;
        (state.since, state.counts) = (now, counts);
        told
    }
}

impl<S: Store> Guard<S> {
    /// Tells of what there is far more on the whole site than is usual, for every [`TREND_SPAN`] anew. To be called at least that often;
    /// [`tend`](super::tend) does.
    pub fn look_for_trends(&self) {
        let now = self.clock.now();
        for trend in self.trends.look(now, WATCHED.map(|kind| self.events.count(kind).emitted)) {
            let scene = Scene { policy: Some(self.policy.load().revision), ..Scene::default() };
            self.events.emit(now, scene, trend);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Site {
        trends: Trends,
        now: Timestamp,
        counts: [u64; WATCHED.len()],
    }

    impl Site {
        fn new() -> Self {
            let now = Timestamp::from_secs(1_800_000_000);
            Self { trends: Trends::new(now), now, counts: [0; WATCHED.len()] }
        }

        /// A span with so many failed logins. Gives by how many percent that is too many.
        fn span(&mut self, failed: u64) -> Option<u32> {
            self.counts[0] += failed;
            assert!(self.trends.look(self.now, self.counts).is_empty(), "the span is not over");
            self.now = self.now.after(TREND_SPAN);
            let told = self.trends.look(self.now, self.counts);
            assert!(told.len() < 2 && told.iter().all(|trend| trend.what == *"login.failed"), "{told:?}");
            told.first().map(|trend| trend.percent)
        }
    }

    #[test]
    fn five_times_what_is_usual_is_told_and_nothing_in_the_first_hour() {
        let mut site = Site::new();
        for _ in 0..6 {
            assert_eq!(site.span(1000), None);
        }
        let mut site = Site::new();
        for _ in 0..12 {
            assert_eq!(site.span(40), None);
        }
        assert_eq!(site.span(200), None);
        let percent = site.span(250).unwrap();
        assert!((400..=525).contains(&percent), "{percent}");
        assert_eq!(site.span(40), None);
    }

    #[test]
    fn little_is_never_too_much_and_an_attack_does_not_become_usual_at_once() {
        let mut site = Site::new();
        for _ in 0..6 {
            site.span(0);
        }
        assert_eq!(site.span(99), None);
        for _ in 0..12 {
            assert!(site.span(5000).is_some_and(|percent| percent > 400), "two hours later it is an attack still");
        }
    }

    #[test]
    fn a_span_that_was_not_ended_in_time_says_nothing() {
        let mut site = Site::new();
        for _ in 0..12 {
            site.span(10);
        }
        site.counts[0] += 5000;
        site.now = site.now.after(TREND_SPAN * 20);
        assert!(site.trends.look(site.now, site.counts).is_empty());
        assert!(site.span(5000).is_some(), "the next one does");
    }
}
