//! Sessions whose state their clients carry: taken in before the store is asked, given out with an answer.

use http::header::{HeaderMap, HeaderValue};
use http::{StatusCode, response};

use super::admit::Request;
use super::settle::append;
use super::{Admission, Guard, cache};
use crate::event::kinds as event;
use crate::rules::Policy;
use crate::session::carried::{Carried, OpenError};
use crate::session::cookie::{CARRIED_COOKIES_MAX, Scan};
use crate::session::id::{Presented, SessionDigest, SessionId};
use crate::store::{Store, StoreError};
use crate::verdict::Text;

/// What a request showed of the state of a session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shown {
    /// Of which session, and which version of its record, if that is the present one.
    state: Option<(SessionDigest, u64)>,
    /// Which of the cookies came.
    came: [bool; CARRIED_COOKIES_MAX as usize],
}

impl Shown {
    /// Whether the cookie of that number came.
    fn has(&self, at: u8) -> bool {
        self.came.get(usize::from(at)).is_some_and(|came| *came)
    }
}

impl<S: Store> Guard<S> {
    /// Takes in what a client carries of the session that it shows, if this store has clients carry them.
    pub(super) fn take_in(
        &self,
        request: &Request<'_>,
        scan: &Scan<'_>,
        presented: Option<&Presented>,
    ) -> Result<Shown, StoreError> {
        let seen = scan.carried();
        let mut shown = Shown::default();
        for (at, came) in (0..).zip(&mut shown.came) {
            *came = seen.has(at);
        }
        let (Some(carrier), Some(presented)) = (self.store.carrier(), presented) else { return Ok(shown) };
        if !seen.has(0) {
            return Ok(shown);
        }
        let keys = self.keys.load();
        match Carried::open(&keys, &presented.id, seen.values(), request.now) {
            Ok((Carried { origin, record, .. }, key)) => {
                let state = (record.digest, record.version);
                let is_present = carrier.take_in(record, origin, request.now)?;
                // What is under a key that leaves the ring one day is sealed again.
                let is_current = keys.record_key().is_some_and(|(current, _)| current == key);
                shown.state = Some(state).filter(|_| is_present && is_current);
            }
            Err(OpenError::Aged) => {}
            Err(OpenError::Early) => {
                let fault = Text::of("the state of a session is from the future: do the clocks of all guards agree?");
                self.tell(request, None, event::CookieTampered { fault });
            }
            Err(OpenError::Damaged) => {
                self.tell(
                    request,
                    None,
                    event::CookieTampered { fault: Text::of("the state of a session does not open") },
                );
            }
        }
        Ok(shown)
    }

    /// Puts the state of a session on an answer that goes to its client, if it does not carry it already.
    pub(super) fn give_out(&self, admission: &Admission, id: &SessionId, response: &mut response::Parts) {
        let Some(carrier) = self.store.carrier() else { return };
        let digest = id.digest();
        let Some((record, origin)) = carrier.give_out(&digest) else { return };
        if admission.shown.state == Some((digest, record.version)) {
            return;
        }
        // As of when it was asked whether the session has ended.
        let carried = Carried { sealed_at: admission.asked, origin, record: record.as_ref().clone() };
        let values = match carried.seal(&self.keys.load(), &self.entropy, id) {
            Ok(values) => values,
            Err(error) => return self.tell_failed(admission, &StoreError::io(error)),
        };
        let (max_age, same_site) = self.cookie_terms(admission, id, &record);
        let guard = &admission.policy.cookies.guard;
        for (at, value) in (0..).zip(&values) {
            put(&mut response.headers, guard.set_carried_line(at, value, max_age, same_site));
        }
        for at in (0..CARRIED_COOKIES_MAX).skip(values.len()).filter(|at| admission.shown.has(*at)) {
            put(&mut response.headers, guard.clear_carried_line(at));
        }
    }

    /// Takes our cookies away from a client: that of the id, and those of the state.
    pub(super) fn clear(&self, policy: &Policy, shown: &Shown, headers: &mut HeaderMap) {
        let guard = &policy.cookies.guard;
        append(headers, guard.clear_line());
        // The answer may have given it some already.
        let is_carried = |at: &u8| self.store.carrier().is_some() || shown.has(*at);
        for at in (0..CARRIED_COOKIES_MAX).filter(is_carried) {
            put(headers, guard.clear_carried_line(at));
        }
    }

    /// The same on an answer that says nothing of the session: not on one that a cache may keep. It can wait, since this node
    /// knows the session.
    pub(super) fn give_out_later(&self, admission: &Admission, id: &SessionId, response: &mut response::Parts) {
        let has_cookies = !matches!(response.status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::NOT_MODIFIED);
        if has_cookies && !cache::is_cacheable(&response.headers, admission.now) {
            self.give_out(admission, id, response);
        }
    }
}

fn put(headers: &mut HeaderMap, line: Option<HeaderValue>) {
    if let Some(line) = line {
        append(headers, line);
    }
}
