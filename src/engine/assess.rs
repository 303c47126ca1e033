//! Weighing the evidence: what the detectors make of a request, what the policy makes of that, and what the session
//! remembers of it.

use std::time::Duration;

use super::admit::Request;
use super::judge::SessionSeen;
use super::recognise::{Draft, InUse, Judged, Scope, TagEvidence, edit, gate};
use super::{Admission, Guard, Holder};
use crate::enforce::Serve;
use crate::event::field::Cause;
use crate::history::{Change, Contexts, Holding, Visit};
use crate::limit::Device;
use crate::session::record::Record;
use crate::session::tag::{Dated, Standing, Tag};
use crate::signal::{self, DetectorInput, IdEvidence, SignalKind};
use crate::store::{Durability, Store};
use crate::verdict::{Mode, Verdict};

/// A session that was used elsewhere so short a time ago is in use in two places.
const TWO_PLACES_WITHIN: Duration = Duration::from_secs(5 * 60);

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
        input.id = id_evidence(stored, tag, evidence);
        input.pseudo = request.client.print.http2.and_then(|http2| http2.pseudo);
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
            signal.kind == SignalKind::IdStaleDevice
                || (signal.kind == SignalKind::IdStale && signal.points >= scoring.weights.stale_asn)
        });
        let by_rule = judgement.verdict.rule.is_some() && judgement.verdict.risk < QUIET_RISK;
        let mut judged = Judged {
            verdict: judgement.verdict,
            would: judgement.would,
            seen,
            places: match contexts.holder_elsewhere(&request.fingerprint) {
                Some(elsewhere) if request.now.since(elsewhere.last_seen) < TWO_PLACES_WITHIN => InUse::Elsewhere,
                _ => InUse::Here,
            },
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
    pub(super) fn bind(&self, admission: &Admission, record: &mut Record, bind: Bind) {
        let Admission { fingerprint, ask, now, .. } = admission;
        let contexts = Contexts::bind(*fingerprint, *now).with_ja4(ask.client.print.tls.and_then(|tls| tls.ja4));
        let pseudo = ask.client.print.http2.and_then(|http2| http2.pseudo);
        let is_odd = bind == Bind::Login && !admission.is_known() && signal::is_suspicious_login(fingerprint, pseudo);
        record.history = if is_odd { contexts.unjudged() } else { contexts }.encoded();
    }
}

/// Why a session is bound to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bind {
    /// It begins.
    Visit,
    /// Somebody has logged in to it.
    Login,
}

impl Admission {
    /// Whether its client needs no look at how it logs in: it has just passed one that was asked for, or the subject has logged in
    /// from it before.
    fn is_known(&self) -> bool {
        let knows = |attempt: &super::Attempt| attempt.device != Device::Unknown;
        matches!(self.holder, Holder::Quarantined(_)) || self.ask.login.as_ref().is_some_and(knows)
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
pub(super) fn remembered(stored: &Record) -> Contexts {
    let mut contexts = Contexts::default();
    if contexts.read(&stored.history).is_err() {
        tracing::trace!("a history could not be read");
    }
    contexts
}

fn id_evidence(stored: &Record, tag: Tag, evidence: TagEvidence) -> IdEvidence {
    let behind = stored.tags.head().generation().saturating_sub(tag.generation());
    let previous = stored.tags.stale().last().map(|Dated { at, .. }| *at);
    match evidence {
        TagEvidence::Clean => IdEvidence::None,
        TagEvidence::Stale(_) => IdEvidence::Stale { previous, behind },
        TagEvidence::Fork => IdEvidence::Fork { previous, earlier: stored.forks.into(), behind },
    }
}
