//! From a verdict to what is done about it.
//!
//! The mode governs verdicts only: ids, tags, deadlines and cookie hygiene are no verdicts and hold in every mode.

use crate::session::tag::Standing;
use crate::verdict::{Action, Mode};

/// What is done about a request whose session is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In whose name the app is called, if it is.
    pub serve: Serve,
    /// Whether the answer offers a successor.
    pub offer: Offer,
}

/// In whose name the app is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serve {
    /// The session's.
    Session,
    /// A stranger's, who is given a place to log in again.
    Quarantined,
    /// A stranger's: the session ends.
    Ended,
    /// Nobody's: 429.
    Throttled,
    /// Nobody's: 401 or the login page.
    Challenged,
    /// Nobody's: 403.
    Denied,
}

/// Whether an answer offers a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// When the head is old enough.
    WhenDue,
    /// When it is old enough for a session that is perhaps in two jars.
    Soon,
    /// Whatever its age: the evidence asks for proof, or the jar is behind.
    AtOnce,
    /// Not: the tag is superseded, or there is no session.
    Never,
}

impl Plan {
    /// The plan for a request without a session.
    pub const fn stranger() -> Self {
        Self { serve: Serve::Session, offer: Offer::Never }
    }
}

/// What to do. In `observe` mode the plan is that of `allow`.
///
/// A superseded tag in its grace gets no successor: a late request would overwrite the jar with an old lineage, and a
/// thief could ride on the grace. A stale one gets one, so that an honest jar heals, but only below a quarantine.
pub fn plan(action: Action, mode: Mode, standing: Standing) -> Plan {
    let action = if mode == Mode::Enforce { action } else { Action::Allow };
    let serve = match action {
        Action::Allow | Action::Observe | Action::Rotate => Serve::Session,
        Action::Throttle => Serve::Throttled,
        Action::Quarantine => Serve::Quarantined,
        Action::Challenge => Serve::Challenged,
        Action::Terminate => Serve::Ended,
        Action::Deny => Serve::Denied,
    };
    let offer = match standing {
        _ if serve != Serve::Session => Offer::Never,
        Standing::Grace | Standing::Forged => Offer::Never,
        Standing::Stale { .. } => Offer::AtOnce,
        _ if action == Action::Rotate => Offer::AtOnce,
        Standing::Head | Standing::Successor | Standing::Sibling | Standing::Ahead => Offer::WhenDue,
    };
    Plan { serve, offer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observed_verdicts_do_nothing() {
        for action in Action::ALL {
            for mode in [Mode::Off, Mode::Observe] {
                assert_eq!(plan(action, mode, Standing::Head), plan(Action::Allow, Mode::Enforce, Standing::Head));
            }
        }
    }

    #[test]
    fn a_successor_is_offered_by_standing_and_never_beside_a_quarantine() {
        let check = |action, standing, expected| assert_eq!(plan(action, Mode::Enforce, standing).offer, expected);
        let stale = Standing::Stale { since: None };
        check(Action::Allow, Standing::Head, Offer::WhenDue);
        check(Action::Rotate, Standing::Head, Offer::AtOnce);
        check(Action::Allow, Standing::Grace, Offer::Never);
        check(Action::Rotate, Standing::Grace, Offer::Never);
        check(Action::Observe, stale, Offer::AtOnce);
        check(Action::Quarantine, stale, Offer::Never);
        check(Action::Terminate, Standing::Head, Offer::Never);
    }
}
