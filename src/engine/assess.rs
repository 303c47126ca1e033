//! Weighing the evidence: what the detectors make of a request, what the policy makes of that, and what the session
//! remembers of it.

use super::admit::Request;
use super::judge::SessionSeen;
use super::recognise::{Draft, Judged, Scope, TagEvidence, edit, gate};
use super::{Admission, Guard};
use crate::enforce::Serve;
use crate::event::field::Cause;
use crate::history::{Change, Contexts, Holding, Visit};
use crate::session::record::Record;
use crate::session::tag::{Dated, Standing, Tag};
use crate::signal::{self, DetectorInput, IdEvidence, SignalKind};
use crate::store::{Durability, Store};
use crate::verdict::{Mode, Verdict};

/// Below so much risk it is a rule that asks for something, and not the evidence.
const QUIET_RISK: f32 = 1.0;

impl<S: Store> Guard<S> {
    /// Judges the use of a session and writes into the draft what is to be remembered of it.
    ///
    /// A request that is held back is not remembered: its client would become known by trying long enough. In `observe`
    /// mode nothing is, because what enforcement reads must not depend on it. As long as a shared store is to be asked
    /// something, nothing is written, and what comes back is not to be used.
    pub(super) fn assess(
        &self,
        request: &Request<'_>,
        stored: &Record,
        draft: &mut Draft,
        (tag, standing, evidence): (Tag, Standing, TagEvidence),
    ) -> Judged {
        let mode = request.mode();
        if mode == Mode::Off {
            return gate(request, stored, Judged::calm(mode));
        }
        let mut contexts = remembered(stored);
        let mut input = DetectorInput::new(request.now, &request.fingerprint, &contexts);
        input.id = id_evidence(stored, evidence);
        request.odd.put(&mut input);
        let scoring = &request.policy.scoring;
        let assessment = signal::assess(&input, scoring);
        let forks = draft.as_ref().map_or(stored.forks, |(record, _)| record.forks);
        let tags = &stored.tags;
        let adopted = standing.is_adopted().then(|| (tag.generation(), request.now));
        let head = adopted.unwrap_or_else(|| (tags.head().generation(), tags.since()));
        let session = SessionSeen { record: stored, contexts: &contexts, forks, head };
        let held = self.held_of_session(request, session);
        let told = |verdict: &Verdict| {
            let mut judged = Judged { verdict: verdict.clone(), ..Judged::calm(mode) };
            held.iter().for_each(|held| judged.hold_to(held));
            gate(request, stored, judged).action()
        };
        let (judgement, seen) = self.judge_session(request, session, &assessment, &told);
        if request.is_asking() {
            return Judged::calm(mode);
        }
        let holding = match standing {
            Standing::Head | Standing::Successor | Standing::Sibling | Standing::Ahead => Holding::Head,
            Standing::Grace | Standing::Stale { .. } | Standing::Forged => Holding::Other,
        };
        let visit = Visit {
            now: request.now,
            fingerprint: request.fingerprint,
            holding,
            context_points: judgement.context_points,
            session_points: judgement.session_points,
            half_life: scoring.half_life,
        };
        let forked = evidence == TagEvidence::Fork;
        let elsewhere = assessment.signals.iter().any(|signal| {
            signal.kind == SignalKind::IdStale
                && signal.points >= scoring.weights.stale_asn.min(scoring.weights.stale_device)
        });
        let by_rule = judgement.verdict.rule.is_some() && judgement.verdict.risk < QUIET_RISK;
        let mut judged = Judged {
            verdict: judgement.verdict,
            would: judgement.would,
            seen,
            scope: if forked && !elsewhere { Scope::Everybody } else { Scope::Client },
            cause: if forked {
                Cause::Fork
            } else if by_rule {
                Cause::Rule
            } else {
                Cause::Risk
            },
            ..Judged::calm(mode)
        };
        held.iter().for_each(|held| judged.hold_to(held));
        let judged = gate(request, stored, judged);
        if mode == Mode::Enforce && judged.plan(standing).serve == Serve::Session {
            let durability = match contexts.note(&visit) {
                Change::None => None,
                Change::Seen => Some(Durability::Soon),
                Change::Material => Some(Durability::Durable),
            };
            if let Some(durability) = durability {
                edit(draft, stored, durability).history = contexts.encoded();
            }
        }
        judged
    }

    /// Binds a session to the client that has just begun it or logged in.
    pub(super) fn trust(&self, admission: &Admission, record: &mut Record) {
        record.history = Contexts::bind(admission.fingerprint, admission.now).encoded();
    }
}

impl Contexts {
    fn encoded(&self) -> Box<[u8]> {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        bytes.into_boxed_slice()
    }
}

/// A history that can not be read is one that never was: everything is new then, and said to be.
fn remembered(stored: &Record) -> Contexts {
    let mut contexts = Contexts::default();
    if contexts.read(&stored.history).is_err() {
        tracing::trace!("a history could not be read");
    }
    contexts
}

fn id_evidence(stored: &Record, evidence: TagEvidence) -> IdEvidence {
    let previous = stored.tags.stale().last().map(|Dated { at, .. }| *at);
    match evidence {
        TagEvidence::Clean => IdEvidence::None,
        TagEvidence::Stale(_) => IdEvidence::Stale { previous },
        TagEvidence::Fork => IdEvidence::Fork { previous, earlier: stored.forks.into() },
    }
}
