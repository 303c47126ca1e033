//! Whose request is it: from the cookie a client shows to the session behind it, with what its tag tells.

use std::sync::Arc;
use std::time::Duration;

use super::admit::Request;
use super::change::{due_end, is_enforced, removable_at};
use super::facts::Seen;
use super::{Guard, Known, RETRIES, WRITERS_MAX};
use crate::clock::Timestamp;
use crate::enforce::{self, Offer, Plan, Serve};
use crate::event;
use crate::event::field::{Cause, Release, Rotation};
use crate::history::SEEN_EVERY;
use crate::limit::ClientKey;
use crate::rules::Enforcement;
use crate::session::expiry;
use crate::session::id::{Presented, SessionDigest};
use crate::session::record::{DecodeError, EndReason, Record, State};
use crate::session::tag::{Staleness, Standing, Tag, Tags};
use crate::signal::IdEvidence;
use crate::store::{Commit, Durability, Ending, Reads, Store, StoreError};
use crate::verdict::{Action, Mode, Reason, Text, Verdict};

/// What was found under the cookie that a client showed. The known session, which is nearly always the case, is not boxed.
pub(super) enum Found {
    /// It showed none, or one that can not be ours.
    Fresh,
    /// No session goes by it, or its tag was never issued: which of the two.
    Unknown(IdEvidence),
    /// An id that was replaced less than the grace ago: a request that was under way.
    Replaced,
    /// The session is over.
    Ended,
    /// A session, with the verdict on this use of it.
    Known(Known, Judged),
    /// The store does not answer.
    Outage(StoreError),
}

/// A verdict on a session's use, and what follows for the session whatever the mode is.
#[derive(Debug)]
pub(super) struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// Who is to log in again, if the verdict is a quarantine.
    pub scope: Scope,
    /// Whether the client was under quarantine before this request.
    pub before: Before,
    /// What the verdict rests on.
    pub cause: Cause,
    /// Whether it is obeyed.
    pub mode: Mode,
    /// What the verdict would be if rules that are only observed were obeyed too.
    pub would: Option<Box<Verdict>>,
    /// What rules on the answer want to know of the request.
    pub seen: Option<Box<Seen>>,
    /// Whether the session is in use in two places.
    pub places: InUse,
}

/// Where a session is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum InUse {
    /// In one place, as far as is known.
    #[default]
    Here,
    /// Over two connections in turn.
    InTurn,
    /// Its newest tag was shown elsewhere a moment ago, and this is where its owner logged in.
    Elsewhere,
}

/// Whom a quarantine moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Scope {
    /// The client of this request: the evidence tells it from the holder.
    #[default]
    Client,
    /// Everybody who shows this session.
    Everybody,
    /// Nobody: this request alone goes without credentials.
    Request,
}

/// Whether a quarantine is new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Before {
    /// It is, if there is one.
    #[default]
    Free,
    /// The client was moved before.
    Quarantined,
}

/// What the tag of a request says about its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TagEvidence {
    /// Nothing.
    Clean,
    /// It is stale, since then if that is known.
    Stale(Option<Timestamp>),
    /// It is the second stale tag in turn.
    Fork,
}

impl<S: Store> Guard<S> {
    /// Finds the session, notes what its tag tells, weighs the evidence and commits what changed by it.
    pub(super) async fn recognise(&self, request: &Request<'_>, presented: Presented) -> Found {
        let digest = presented.id.digest();
        let (mut stored, mut reads) = match self.first_look(request, &presented, &digest).await {
            Ok(Some(found)) => found,
            Ok(None) => return self.unknown(request, &presented),
            Err(error) => return self.not_found(request, error),
        };
        let place = ClientKey::new(request.client.ip);
        let comes_back = |connection| self.in_turn.comes_back(digest.spread(), place, connection, request.now);
        let mut lane = None;
        for attempt in 0..=WRITERS_MAX {
            if let Some(over) = self.over(request, &stored).await {
                return over;
            }
            let authentic = || presented.tag.is_authentic(&self.keys.load(), &presented.id);
            let standing = stored.tags.standing(&presented.tag, authentic, request.policy.session.grace, request.now);
            if standing == Standing::Forged {
                return self.forged(request);
            }
            // It stands in the record, and was made under none of our keys: one that was burnt, or by whoever can write there.
            if standing == Standing::Head && !self.believes_records() && !authentic() {
                self.tell_burnt(request);
                return Found::Ended;
            }
            let standing = request.seen_on(standing);
            // Once for a request, however often it is judged, and not for one who only knows the id.
            let lane = *lane.get_or_insert_with(|| match request.client.connection.is_some_and(comes_back) {
                true => InUse::InTurn,
                false => InUse::Here,
            });
            let mut draft = None;
            let evidence = note_stale(&stored, &mut draft, presented.tag, standing, request.now);
            let with = (presented.tag, standing, evidence, lane);
            let mut judged = self.assess(request, &stored, &mut draft, with);
            while request.is_asking() {
                Box::pin(self.ask_for(request)).await;
                judged = self.assess(request, &stored, &mut draft, with);
            }
            // What speaks against a request may have been settled on another node meanwhile.
            if std::mem::replace(&mut reads, Reads::Present) == Reads::Cached && judged.verdict.action > Action::Observe
            {
                match self.look_again(request, &digest, &mut stored).await {
                    None => continue,
                    Some(over) => return over,
                }
            }
            self.note_use(request, &presented, (&stored, standing), &judged, &mut draft);
            let known = |record| Known { id: presented.id.clone(), digest, tag: presented.tag, record, standing };
            // Others may be faster again and again. Then this request is judged by what is stored, and writes nothing,
            // unless it moves everybody.
            let tries = if judged.moves_everybody(standing) { WRITERS_MAX } else { RETRIES };
            let Some((mut draft, durability)) = draft.filter(|_| attempt < tries) else {
                return Found::Known(known(stored), judged);
            };
            draft.removable_at = removable_at(&draft, &request.policy);
            match Box::pin(self.store.commit(*draft, durability)).await {
                Ok(Commit::Done(record)) => {
                    self.tell_tag(request, &record, standing, evidence);
                    return Found::Known(known(record), judged);
                }
                Ok(Commit::Conflict(record)) => stored = record,
                Ok(Commit::Gone) => match self.look_again(request, &digest, &mut stored).await {
                    None => {}
                    Some(over) => return over,
                },
                Err(error) => return Found::Outage(error),
            }
        }
        // The last attempt writes nothing, so it does not come here.
        Found::Ended
    }

    /// Notes what this use of a session changes in it.
    fn note_use(
        &self,
        request: &Request<'_>,
        presented: &Presented,
        (stored, standing): (&Record, Standing),
        judged: &Judged,
        draft: &mut Draft,
    ) {
        match judged.plan(standing).serve {
            Serve::Session => {
                if standing.is_adopted() {
                    edit(draft, stored, Durability::Durable).tags.adopt(presented.tag, request.now);
                }
                touch(request, stored, draft);
                if draft.is_some() {
                    self.reseal(&presented.id, stored, request.now, draft);
                }
            }
            // One that moves everybody is a state of the session, and written with what it rests on.
            Serve::Quarantined if judged.moves_everybody(standing) => {
                edit(draft, stored, Durability::Durable).state = State::Quarantined { since: request.now };
            }
            // A request that is held back leaves the session as it was, for its other holder.
            _ => {}
        }
    }

    /// The session to begin with, and whether it may be old: it is not where that must not be.
    async fn first_look(
        &self,
        request: &Request<'_>,
        presented: &Presented,
        digest: &SessionDigest,
    ) -> Result<Option<(Arc<Record>, Reads)>, StoreError> {
        let found = self.store.load(digest).await?;
        let reads = self.store.reads();
        if reads == Reads::Cached && found.as_ref().is_some_and(|found| !self.may_answer(request, found, presented)) {
            return Ok(self.store.load_fresh(digest).await?.map(|found| (found, Reads::Present)));
        }
        Ok(found.map(|found| (found, reads)))
    }

    /// Puts the session in place as it is now; what was found if it is over.
    async fn look_again(
        &self,
        request: &Request<'_>,
        digest: &SessionDigest,
        stored: &mut Arc<Record>,
    ) -> Option<Found> {
        match self.store.load_fresh(digest).await {
            Ok(Some(record)) => *stored = record,
            Ok(None) => return Some(Found::Ended),
            Err(error) => return Some(self.not_found(request, error)),
        }
        None
    }

    /// What a store that failed means. A record that can not be read, since it is damaged or its key was burnt, will not be
    /// read by the next request either: its session is over, and its client a stranger who can log in. One that a newer
    /// program wrote is read by that, and later by this one.
    #[cold]
    fn not_found(&self, request: &Request<'_>, error: StoreError) -> Found {
        if matches!(error, StoreError::Decode(DecodeError::Damaged)) {
            self.tell_outage(request, &error);
            return Found::Ended;
        }
        Found::Outage(error)
    }

    /// The session as it is stored by now; none if it is not there, or can not be read and so serves nobody.
    pub(super) async fn load_readable(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        match self.store.load_fresh(digest).await {
            Err(StoreError::Decode(DecodeError::Damaged)) => Ok(None),
            found => found,
        }
    }

    /// Whether a record that may be old may answer: for its head alone, and not when it says that the session is over by
    /// now. Any other tag and any end is looked at in what is stored.
    fn may_answer(&self, request: &Request<'_>, record: &Record, presented: &Presented) -> bool {
        let keys = self.keys.load();
        let authentic = || presented.tag.is_authentic(&keys, &presented.id);
        let grace = request.policy.session.grace;
        record.tags.standing(&presented.tag, authentic, grace, request.now) == Standing::Head
            && !record.is_ended()
            && due_end(record, &request.policy, request.now).is_none()
    }

    /// A session whose tag we issued was one, and its record is gone: an honest jar that was left alone, not a guess.
    fn unknown(&self, request: &Request<'_>, presented: &Presented) -> Found {
        if presented.tag.is_authentic(&self.keys.load(), &presented.id) {
            return Found::Ended;
        }
        self.tell(request, None, event::SessionUnknownId {});
        Found::Unknown(IdEvidence::NeverIssued)
    }

    /// Its session is not named: the client has shown nothing that it could only have got from it.
    fn forged(&self, request: &Request<'_>) -> Found {
        self.tell(request, None, event::SessionTagForged {});
        Found::Unknown(IdEvidence::Forged)
    }

    /// Whether the session is over, by decision or by a deadline that has passed; if so it ends here.
    async fn over(&self, request: &Request<'_>, record: &Arc<Record>) -> Option<Found> {
        if let State::Ended { at, why } = record.state {
            let recent = request.now.since(at) < request.policy.session.grace;
            return Some(match why {
                EndReason::Replaced if recent => Found::Replaced,
                EndReason::Replaced => {
                    let ago_ms = millis(request.now.since(at));
                    self.tell(request, Some(record), event::SessionRotatedIdReuse { ago_ms });
                    Found::Ended
                }
                // An honest jar goes on showing a session that was left alone; its end was told when it came.
                EndReason::Idle | EndReason::Absolute | EndReason::Expired => Found::Ended,
                EndReason::Logout | EndReason::Revoked | EndReason::Evicted | EndReason::Terminated => {
                    let ago_ms = millis(request.now.since(at));
                    self.tell(request, Some(record), event::SessionUseAfterExpire { ended: why.into(), ago_ms });
                    Found::Ended
                }
            });
        }
        let why = due_end(record, &request.policy, request.now)?;
        if !is_enforced(why, &request.policy) {
            self.tell_expired(request, record, why);
            return None;
        }
        match Box::pin(self.store.revoke(&record.digest, self.ending(&request.policy, why, request.now))).await {
            Ok(Some(ended)) => {
                self.streams.end(&record.digest);
                self.tell_expired(request, &ended, why);
                Some(Found::Ended)
            }
            Ok(None) => Some(Found::Ended),
            Err(error) => Some(Found::Outage(error)),
        }
    }

    fn tell_expired(&self, request: &Request<'_>, record: &Arc<Record>, why: EndReason) {
        match why {
            EndReason::Idle => {
                let idle_ms = millis(request.now.since(record.last_seen));
                self.tell(request, Some(record), event::SessionExpiredIdle { idle_ms });
            }
            EndReason::Terminated => self.tell(request, Some(record), event::SessionReleased { how: Release::Time }),
            _ => {
                let age_ms = millis(request.now.since(record.authenticated_at.unwrap_or(record.created_at)));
                self.tell(request, Some(record), event::SessionExpiredAbsolute { age_ms });
            }
        }
    }

    /// How a session ends now.
    pub(super) fn ending(&self, policy: &crate::rules::Policy, why: EndReason, now: Timestamp) -> Ending {
        Ending { why, now, tombstone_until: now.after(policy.session.tombstones) }
    }

    fn tell_tag(&self, request: &Request<'_>, record: &Arc<Record>, standing: Standing, evidence: TagEvidence) {
        if standing == Standing::Ahead {
            self.tell(request, Some(record), event::SessionTagAhead { generations: None });
        }
        if standing.is_adopted() && record.tags.since() == request.now {
            self.tell(request, Some(record), event::SessionRotated { why: Rotation::Tag, previous: None });
        }
        match evidence {
            TagEvidence::Clean => {}
            TagEvidence::Stale(since) => {
                let age_ms = since.map(|at| millis(request.now.since(at)));
                self.tell(request, Some(record), event::SessionTagStale { age_ms, context: None });
            }
            TagEvidence::Fork => {
                self.tell(request, Some(record), event::SessionTagFork { count: record.forks.into(), context: None });
            }
        }
    }
}

/// How long after a stale tag another sign of two jars is looked for.
const SUSPECTED_FOR: Duration = Duration::from_secs(10 * 60);

/// What of the age at which a tag is renewed is left meanwhile.
pub(super) const SUSPECTED_PART: u32 = 4;

/// Whether a stale tag was shown lately.
pub(super) fn is_suspected(tags: &Tags, now: Timestamp) -> bool {
    tags.stale().last().is_some_and(|stale| now.since(stale.at) < SUSPECTED_FOR)
}

/// A record that is being changed, and how soon the change must be safe. Most requests change none.
pub(super) type Draft = Option<(Box<Record>, Durability)>;

/// The draft to write on: the one begun already, or a copy of what is stored.
pub(super) fn edit<'d>(draft: &'d mut Draft, stored: &Record, durability: Durability) -> &'d mut Record {
    let (record, least) = draft.get_or_insert_with(|| (Box::new(stored.clone()), Durability::Soon));
    if durability == Durability::Durable {
        *least = Durability::Durable;
    }
    record
}

/// Notes a stale tag in its session, and what it means. A jar that keeps showing one is written down now and then.
fn note_stale(stored: &Record, draft: &mut Draft, tag: Tag, standing: Standing, now: Timestamp) -> TagEvidence {
    let Standing::Stale { since } = standing else { return TagEvidence::Clean };
    if stored.tags.stale().last().is_some_and(|last| last.tag == tag && now.since(last.at) < SEEN_EVERY) {
        return TagEvidence::Stale(since);
    }
    let record = edit(draft, stored, Durability::Durable);
    match record.tags.note_stale(tag, now) {
        Staleness::Single => TagEvidence::Stale(since),
        Staleness::Fork => {
            record.forks = record.forks.saturating_add(1);
            TagEvidence::Fork
        }
    }
}

/// Writes the use of a session, when it is due.
fn touch(request: &Request<'_>, stored: &Record, draft: &mut Draft) {
    let session = &request.policy.session;
    if request.is_use() && expiry::touch_is_due(stored, session.touch_every, &session.deadlines, request.now) {
        edit(draft, stored, Durability::Soon).last_seen = request.now;
    }
}

/// What deadlines of the route and the state of the session ask for, whoever the client is. They are no verdicts, so they
/// hold in every mode; `run --observe` alone only reports them.
pub(super) fn gate(request: &Request<'_>, record: &Record, judged: Judged) -> Judged {
    let enforced = request.policy.enforcement == Enforcement::Full;
    if matches!(record.state, State::Quarantined { .. }) && enforced {
        let judged = Judged { before: Before::Quarantined, scope: Scope::Everybody, ..judged };
        return judged.demand("session.quarantined", Mode::Enforce);
    }
    // A visitor has nothing to log in again for, and must not lose his basket.
    let Some(route) = request.route().filter(|_| !expiry::is_visitor(record)) else { return judged };
    let stale = route.fresh.is_some_and(|within| !expiry::is_fresh(record, within, request.now));
    let late = expiry::ended(record, &request.policy.deadlines_on(Some(route)), request.now).is_some();
    if !stale && !late {
        return judged;
    }
    // A picture in a comment or a page that sends its readers here must not log anybody out: only who goes there is moved.
    let scope = if request.is_own_visit() { Scope::Everybody } else { Scope::Request };
    let judged = Judged { cause: Cause::Freshness, scope, ..judged };
    let why = if stale { "session.not_fresh" } else { "session.over_on_route" };
    judged.demand(why, if enforced { Mode::Enforce } else { Mode::Observe })
}

impl Judged {
    /// Nothing speaks against the request.
    pub(super) fn calm(mode: Mode) -> Self {
        Self {
            verdict: Verdict::default(),
            scope: Scope::Client,
            before: Before::Free,
            cause: Cause::Risk,
            mode,
            would: None,
            seen: None,
            places: InUse::Here,
        }
    }

    /// What is done, rules that are only observed left out.
    pub(super) fn action(&self) -> Action {
        if self.mode == Mode::Enforce { self.verdict.action } else { Action::Allow }
    }

    /// What is done about it.
    pub(super) fn plan(&self, standing: Standing) -> Plan {
        let plan = enforce::plan(self.verdict.action, self.mode, standing);
        // Whoever is there may be one person on two networks; two jars show themselves by their tags, so these are renewed.
        let offer = match (plan.offer, self.places, self.mode) {
            (Offer::WhenDue, InUse::Elsewhere, Mode::Enforce) if standing == Standing::Head => Offer::AtOnce,
            (Offer::WhenDue, InUse::InTurn, Mode::Enforce) if standing == Standing::Head => Offer::Soon,
            (offer, ..) => offer,
        };
        Plan { offer, ..plan }
    }

    /// Whether it begins a quarantine of everybody who shows the session.
    pub(super) fn moves_everybody(&self, standing: Standing) -> bool {
        self.scope == Scope::Everybody && self.before == Before::Free && self.plan(standing).serve == Serve::Quarantined
    }

    /// A new login is asked for. What was only observed is not enforced by that.
    fn demand(mut self, why: &'static str, mode: Mode) -> Self {
        if self.mode < mode {
            (self.verdict, self.mode) = (Verdict::default(), mode);
        }
        self.strengthen(Action::Quarantine, why);
        self
    }

    /// Makes the verdict at least `action`, for a reason that has no points.
    fn strengthen(&mut self, action: Action, why: &'static str) {
        self.verdict.action = self.verdict.action.max(action);
        self.verdict.add(Reason::new(Text::of(why), 0.0));
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
