//! How many sessions there may be: of visitors behind one network, of one subject, in the store.

use http::StatusCode;

use super::{Admission, ClientStanding, Guard, Refusal, RefusalKind};
use crate::event::field::{AtLimit, Dependency, Revoker};
use crate::event::kinds as event;
use crate::rules::Enforcement;
use crate::session::record::Record;
use crate::store::{Created, OnLimit, Store, SubjectLimit};
use crate::verdict::{Mode, Text};

impl<S: Store> Guard<S> {
    /// Whether a new anonymous session may begin; above the limit the page is served and nothing is stored.
    pub(super) fn may_begin(&self, admission: &Admission) -> bool {
        match self.limits.load().anonymous_session(admission.ask.client.ip, admission.now) {
            Ok(()) => true,
            Err(limited) => {
                // Behind a proxy that nobody declared all visitors share one prefix.
                let report_only = admission.policy.enforcement == Enforcement::ReportOnly
                    || admission.ask.client.standing == ClientStanding::LooksLikeProxy;
                let mode = if report_only { Mode::Observe } else { Mode::Enforce };
                self.tell_session_limited(admission, &limited, mode);
                report_only
            }
        }
    }

    pub(super) fn limit_for(&self, admission: &Admission, record: &Record) -> Option<SubjectLimit> {
        let limit = admission.policy.session.per_subject_max?;
        record.subject.as_ref()?;
        let report_only = admission.policy.enforcement == Enforcement::ReportOnly;
        Some(if report_only { SubjectLimit { on_limit: OnLimit::Report, ..limit } } else { limit })
    }

    /// Tells that the store is full and visitors' sessions make room, once a minute.
    fn tell_crowded(&self, admission: &Admission) {
        if self.advised_crowded.is_due(admission.now) {
            let fault = Text::of("the store is full: visitors' sessions make room for new ones; raise sessions_max");
            self.report(None, event::DependencyFailed { what: Dependency::Store, fault });
        }
    }

    /// Tells what the limit of a subject did. A refusal, if it refused.
    pub(super) fn after_limit(
        &self,
        admission: &Admission,
        record: &Record,
        created: Created,
        limit: Option<SubjectLimit>,
    ) -> Option<Refusal> {
        if let Created::Done { displaced: 1.., .. } = created {
            self.tell_crowded(admission);
        }
        let limit = limit?;
        let tell = |done| {
            let told = event::SessionConcurrentLimit { max: limit.sessions.get(), done };
            self.tell_about(admission, record, told);
        };
        match created {
            Created::Refused => {
                tell(AtLimit::Refuse);
                Some(Refusal::new(StatusCode::FORBIDDEN, RefusalKind::TooManySessions))
            }
            Created::Done { evicted, live, .. } => {
                if limit.on_limit == OnLimit::Report && live > limit.sessions.get() {
                    tell(AtLimit::Report);
                }
                if !evicted.is_empty() {
                    tell(AtLimit::EvictOldest);
                }
                for old in evicted {
                    self.streams.end(&old.digest);
                    self.tell_about(admission, &old, event::SessionRevoked { by: Revoker::Limit });
                }
                None
            }
        }
    }
}
