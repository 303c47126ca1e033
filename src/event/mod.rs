//! Security events: one typed record of what happened.
//!
//! An [`Event`] says what is special to its kind, its [`Scene`] who, where and what was decided; together they are a
//! [`Record`], the one thing that log line, metric and export are made of. A request gives them to an
//! [`EventSender`] and never waits for whoever reads them.

mod decode;
pub mod encode;
pub mod field;
#[cfg(unix)]
pub mod journal;
pub mod kinds;
mod meta;
pub mod queue;
mod repeat;
pub mod scene;
pub mod severity;
pub mod sink;
mod writer;

pub use decode::Unreadable;
pub use field::{
    AtLimit, Cause, ClientText, Context, Dependency, Ending, LimitKey, Release, Revoker, Rotation, Sign, Value,
};
pub use kinds::*;
pub use queue::{EventQueue, EventSender, Writer};
pub use scene::{ClientView, Scene, SessionHash, TraceId, method_word};
pub use severity::Severity;

use crate::clock::Timestamp;
use crate::verdict::{Action, Text};

/// The version of the record: it grows when a key changes its meaning, not when one is added.
pub const RECORD_VERSION: u16 = 1;

/// One event as it goes through the queue and out.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// [`RECORD_VERSION`].
    pub v: u16,
    /// Its place in the stream, given by the writer: without gaps, those that were dropped have none.
    pub seq: u64,
    /// When it happened.
    pub ts: Timestamp,
    /// Which node of the guard it is from.
    pub node: Option<Text>,
    /// Who, where, and what was decided.
    pub scene: Scene,
    /// What happened.
    pub event: Event,
}

impl Record {
    /// A record that has no place in a stream yet.
    pub const fn new(ts: Timestamp, scene: Scene, event: Event) -> Self {
        Self { v: RECORD_VERSION, seq: 0, ts, node: None, scene, event }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        severity(&self.scene, &self.event)
    }

    /// Its names in the OWASP logging vocabulary: those of the table, unless the event knows better.
    pub fn vocabulary(&self) -> &'static [&'static str] {
        match &self.event {
            Event::SessionAuthenticated(event) if event.failures.is_some_and(|failures| failures > 0) => {
                &["authn_login_successafterfail"]
            }
            Event::SessionRotated(event) if event.why == Rotation::Elevation => {
                &["authn_token_created", "authz_change"]
            }
            event => event.kind().meta().vocabulary,
        }
    }
}

/// How bad an event is: what the table says, unless the event knows better.
fn severity(scene: &Scene, event: &Event) -> Severity {
    let usual = event.kind().meta().severity;
    match event {
        // A change of rights is one, even when it only shows as a new id.
        Event::SessionRotated(event) if event.why == Rotation::Elevation => Severity::Warn,
        // A download manager or a restored browser does this all day.
        Event::SessionTagStale(event) if event.context == Some(Context::Same) => Severity::Notice,
        // A mismatch is as bad as what it led to.
        Event::BindingMismatchUa(_)
        | Event::BindingMismatchIp(_)
        | Event::BindingMismatchAsn(_)
        | Event::BindingMismatchCountry(_)
        | Event::BindingMismatchTls(_)
            if scene.would.unwrap_or(scene.action) >= Action::Quarantine =>
        {
            Severity::Critical
        }
        Event::EventsRepeated(event) => event.of.meta().severity,
        _ => usual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_events_know_better_how_bad_they_are() {
        let check = |scene: &Scene, event: Event, expected| {
            let shown = format!("{event:?}");
            assert_eq!(Record::new(Timestamp::EPOCH, scene.clone(), event).severity(), expected, "{shown}");
        };
        let calm = Scene::default();
        let acted = Scene { action: Action::Terminate, ..Scene::default() };
        let watched = Scene { would: Some(Action::Quarantine), ..Scene::default() };
        check(&calm, SessionRotated { why: Rotation::Tag, previous: None }.into(), Severity::Info);
        check(&calm, SessionRotated { why: Rotation::Elevation, previous: None }.into(), Severity::Warn);
        check(&calm, SessionTagStale { age_ms: None, context: Some(Context::Same) }.into(), Severity::Notice);
        check(&calm, SessionTagStale { age_ms: Some(1), context: Some(Context::Device) }.into(), Severity::Warn);
        check(&calm, SessionTagStale { age_ms: Some(1), context: None }.into(), Severity::Warn);
        check(&calm, BindingMismatchUa {}.into(), Severity::Warn);
        check(&acted, BindingMismatchUa {}.into(), Severity::Critical);
        check(&watched, BindingMismatchUa {}.into(), Severity::Critical);
        let (first, last) = (Timestamp::EPOCH, Timestamp::EPOCH);
        check(
            &calm,
            EventsRepeated { of: Kind::CookieDuplicate, count: 1, first, last, clients: 1 }.into(),
            Severity::Critical,
        );
    }

    #[test]
    fn a_record_stays_small_enough_to_be_copied() {
        assert!(size_of::<Record>() <= 896, "{}", size_of::<Record>());
    }
}
