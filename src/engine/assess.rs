//! Weighing the evidence: what the detectors make of a request, what the policy makes of that, and what the session
//! remembers of it.

use std::time::Duration;

use super::admit::Request;
use super::judge::SessionSeen;
use super::population::LEARN_AFTER;
use super::recognise::{Draft, InUse, Judged, Scope, TagEvidence, edit, gate};
use super::{Admission, Guard};
use crate::enforce::Serve;
use crate::event::field::Cause;
use crate::event::kinds as event;
use crate::fingerprint::drift::NetworkDrift;
use crate::history::{self, Change, Contexts, Holding, LoginDoubt, Match, Visit};
use crate::limit::{ClientKey, Device, Looks, PrefixKey};
use crate::rules::Memory;
use crate::session::record::Record;
use crate::session::tag::{Dated, Standing, Tag};
use crate::signal::{self, Assessment, DetectorInput, IdEvidence, Signal, SignalKind, Weights};
use crate::store::{Durability, Store};
use crate::verdict::{Mode, Text, Verdict};

/// A session that was used elsewhere so short a time ago is in use in two places.
const TWO_PLACES_WITHIN: Duration = Duration::from_secs(5 * 60);

/// So long after a login it is told with each request what was odd about it, where nothing is remembered.
const DOUBT_OBSERVED_FOR: Duration = Duration::from_secs(60);

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
        (tag, standing, evidence, lane): (Tag, Standing, TagEvidence, InUse),
    ) -> Judged {
        let mode = request.mode();
        if mode == Mode::Off {
            return gate(request, stored, Judged::calm(mode));
        }
        let mut contexts = remembered(stored);
        let scoring = &request.policy.scoring;
        let assessment = self.detect(request, stored, &contexts, id_evidence(stored, tag, evidence));
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
        let elsewhere = assessment.signals.iter().any(|signal| is_elsewhere(signal, &scoring.weights));
        let by_rule = judgement.verdict.rule.is_some() && judgement.verdict.risk < QUIET_RISK;
        let mut judged = Judged {
            verdict: judgement.verdict,
            would: judgement.would,
            seen,
            places: in_use(&contexts, request, assessment.found, lane),
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
            let change = contexts.note(&visit);
            if change == Change::Seen {
                self.learn(request, stored, judged.verdict.risk);
            }
            let durability = match change {
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

    /// What the detectors make of a request.
    fn detect(&self, request: &Request<'_>, stored: &Record, contexts: &Contexts, id: IdEvidence) -> Assessment {
        let mut input = DetectorInput::new(request.now, &request.fingerprint, contexts);
        input.id = id;
        let logged_in = stored.authenticated_at.unwrap_or(stored.created_at);
        if request.mode() == Mode::Observe && request.now.since(logged_in) > DOUBT_OBSERVED_FOR {
            input.doubt = LoginDoubt::default();
        }
        request.odd.put(&mut input);
        let assessment = signal::assess(&input, &request.policy.scoring);
        if !assessment.signals.is_empty() {
            self.notice_company(request, stored, contexts, &assessment);
        }
        assessment
    }

    /// Binds a session to the client that has just begun it or logged in.
    pub(super) fn bind(&self, admission: &Admission, record: &mut Record, bind: Bind) {
        let Admission { fingerprint, ask, now, .. } = admission;
        let contexts = Contexts::bind(*fingerprint, *now).with_ja4(ask.client.print.tls.and_then(|tls| tls.ja4));
        let doubt = match bind {
            Bind::Login(login) => self.login_doubt(admission, record.subject.as_deref(), login),
            Bind::Visit => LoginDoubt::default(),
        };
        record.history = contexts.doubted(doubt).encoded();
    }

    /// What is odd about a login. Nothing if the subject has just passed one that was asked for, or has logged in from this client
    /// before.
    fn login_doubt(&self, admission: &Admission, subject: Option<&str>, login: Login) -> LoginDoubt {
        let Admission { fingerprint, ask, now, .. } = admission;
        let pseudo = ask.client.print.http2.and_then(|http2| http2.pseudo);
        let looks = Looks {
            client: ClientKey::new(ask.client.ip),
            prefix: PrefixKey::new(ask.client.ip),
            agent: u64::from(fingerprint.wire.tls) << 32 | u64::from(fingerprint.agent.hash),
        };
        let subject = subject.filter(|_| admission.policy.session.memory == Memory::Devices);
        let is_known = subject.is_some_and(|subject| self.memory.find(subject, &looks, *now) != Device::Unknown);
        let doubt = if login == Login::Demanded || is_known {
            LoginDoubt::default()
        } else {
            signal::login_doubt(fingerprint, pseudo, self.population.fit(fingerprint))
        };
        if let Some(subject) = subject.filter(|_| doubt.is_none()) {
            self.memory.remember(subject, &looks, *now);
        }
        doubt
    }

    /// Counts the user whose session has been in use for long without a sign of theft: how his program speaks. Once a minute at
    /// most.
    fn learn(&self, request: &Request<'_>, stored: &Record, risk: f32) {
        let after = LEARN_AFTER.min(request.policy.session.deadlines.absolute / 2);
        let is_proven = stored.authenticated_at.is_some_and(|at| request.now.since(at) >= after);
        if let Some(subject) = stored.subject.as_ref().filter(|_| is_proven && risk < QUIET_RISK) {
            self.population.learn(&request.fingerprint, subject, request.now);
        }
    }

    /// Notices two programs that share sessions on one network. They may be the two parts of an app, which its operator knows.
    fn notice_company(&self, request: &Request<'_>, stored: &Record, contexts: &Contexts, assessment: &Assessment) {
        let is_other = assessment.signals.iter().any(|signal| signal.kind == SignalKind::DeviceFamily);
        let found = assessment.found.filter(|found| is_other && found.drift.network == NetworkDrift::default());
        let known = found.and_then(|found| contexts.known().get(found.index));
        let (Some(known), Some(subject)) = (known, &stored.subject) else { return };
        let (one, other) = (known.fingerprint.agent.family, request.fingerprint.agent.family);
        if let Some(users) = self.population.share(one, other, subject) {
            let pair = format!("{} + {}", one.name(), other.name());
            let fix = format!(
                "{pair} share the sessions of {users} users; if they are one app, set [rules] companions = [\"{pair}\"]"
            );
            self.tell(request, None, event::ConfigCompanions { fix: Text::from(fix) });
        }
    }
}

/// Why a session is bound to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bind {
    /// It begins.
    Visit,
    /// Somebody has logged in to it.
    Login(Login),
}

/// Why somebody has logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// By himself.
    Usual,
    /// His client was held back, and he is the one whose session that was.
    Demanded,
}

impl Contexts {
    fn encoded(&self) -> Box<[u8]> {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        bytes.into_boxed_slice()
    }
}

/// Whether a stale tag was shown by somebody who is not where its holder is.
fn is_elsewhere(signal: &Signal, weights: &Weights) -> bool {
    match signal.kind {
        SignalKind::IdStaleDevice => true,
        SignalKind::IdStale => signal.points >= weights.stale_asn,
        _ => false,
    }
}

/// Where the session is in use, seen from where its owner logged in. There alone is a new tag offered sooner: whoever has just
/// turned up would move on in step with the owner, and neither would ever fall behind.
fn in_use(contexts: &Contexts, request: &Request<'_>, found: Option<Match>, lane: InUse) -> InUse {
    let known = found.filter(|found| found.drift.is_none());
    let known = known.and_then(|found| contexts.known().get(found.index).map(|known| (found.index, known)));
    let Some((index, _)) = known.filter(|(_, known)| known.standing == history::Standing::Trusted) else {
        return InUse::Here;
    };
    let elsewhere = contexts.holder_elsewhere(&request.fingerprint).filter(|_| !contexts.is_holder(index));
    match elsewhere {
        Some(last_seen) if request.now.since(last_seen) < TWO_PLACES_WITHIN => InUse::Elsewhere,
        _ => lane,
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
