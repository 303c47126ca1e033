//! Shielded cookies from before the guard: taken over once, while that is allowed, and expired at the client.

use http::HeaderValue;

use super::admit::{ByClient, Request};
use super::{Admission, Guard, Holder, Leftover, Nobody};
use crate::clock::Timestamp;
use crate::event::kinds as event;
use crate::secret::{Purpose, Secret};
use crate::session::cookie::{self, GuardSeen, Scan};
use crate::session::id::{Ref, SessionDigest};
use crate::session::record::{EndReason, Lasting, Record, State};
use crate::session::tag::{FORK_WINDOW, Tag, Tags};
use crate::store::{Creation, Store, StoreError};
use crate::verdict::Text;

/// How many of them are looked at in one request.
const LEFTOVERS_MAX: usize = 8;

impl<S: Store> Guard<S> {
    /// What becomes of shielded cookies that the client itself sent, and in whose name the app is called then.
    pub(super) async fn leftovers(
        &self,
        request: &Request<'_>,
        scan: &Scan<'_>,
        mut holder: Holder,
    ) -> (Holder, Vec<Leftover>) {
        let mut leftovers = Vec::new();
        let until = request.policy.session.adopt_until.filter(|until| request.now < *until);
        let may_adopt = matches!((&holder, scan.guard()), (Holder::Stranger, GuardSeen::Missing));
        for sent in scan.shielded().take(LEFTOVERS_MAX) {
            let name: Box<[u8]> = sent.pair.name.into();
            let cookie = Text::from(&*String::from_utf8_lossy(&name));
            let adopts = until.filter(|_| may_adopt);
            if adopts.is_some() && !self.may_adopt(request) {
                continue;
            }
            let claimed = match adopts {
                Some(_) => self.store.load_fresh(&self.marker(sent.pair.name, sent.pair.value)).await,
                None => Ok(None),
            };
            match claimed {
                Ok(None) if adopts.is_some() => {
                    leftovers.push(Leftover::Adopt { name, value: Secret::new(sent.pair.value.to_vec()) });
                }
                // Sent before the answer that brings our cookie: a session begun now would take that cookie's place.
                Ok(Some(marker)) if request.now.since(marker.created_at) < request.policy.session.grace => {
                    self.tell(request, None, event::CookieShielded { cookie });
                    holder = Holder::Nobody(Nobody::HeldBack);
                    leftovers.clear();
                    break;
                }
                Ok(_) => {
                    self.tell(request, None, event::CookieShielded { cookie });
                    leftovers.push(Leftover::Expire { name });
                }
                // The client keeps it, to come again when the store answers.
                Err(error) => self.tell_outage(request, &error),
            }
        }
        (holder, leftovers)
    }

    /// Whether one more session may begin by taking over a cookie. Above the limit the cookie does not pass, and the
    /// client keeps it, to come again.
    fn may_adopt(&self, request: &Request<'_>) -> bool {
        let limited = self.limits.load().anonymous_session(request.client.ip, request.now);
        self.limited(request, limited, ByClient::Yes).is_ok()
    }

    /// Under what the store remembers a value that was taken over: a keyed digest of it.
    fn marker(&self, name: &[u8], value: &[u8]) -> SessionDigest {
        let (_, digest) = self.keys.load().mac(Purpose::Bind, &[b"adopt\0", name, b"=", value]);
        SessionDigest(digest)
    }

    /// Notes that the cookies which the request brought from before the guard are taken over, each value for the first and
    /// only time. That is done with the answer and when the session is there: what breaks off or fails before leaves the
    /// client as it was.
    pub(super) async fn claim(&self, admission: &Admission) -> Result<Claim, StoreError> {
        let Some(until) = admission.policy.session.adopt_until else { return Ok(Claim::TooLate) };
        let mut claim = Claim::Granted;
        for leftover in &admission.leftovers {
            let Leftover::Adopt { name, value } = leftover else { continue };
            let marker = adopted(self.marker(name, value.expose()), admission.now, until);
            if matches!(self.store.create(marker, None, admission.now).await?, Creation::Exists) {
                claim = Claim::TooLate;
            }
        }
        Ok(claim)
    }
}

/// Whether the cookies of a request are taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// They are, now.
    Granted,
    /// Another request with one of them was faster.
    TooLate,
}

/// What the store keeps of a cookie that was taken over: a record that is no session, until nobody may come with it again.
fn adopted(digest: SessionDigest, now: Timestamp, until: Timestamp) -> Record {
    Record {
        digest,
        reference: Ref([0; 16]),
        version: 0,
        created_at: now,
        id_since: now,
        authenticated_at: None,
        last_seen: now,
        ends_at: None,
        lasting: Lasting::Default,
        removable_at: until.after(FORK_WINDOW),
        subject: None,
        tags: Tags::new(Tag::from_bytes([0; 16]), now),
        forks: 0,
        state: State::Ended { at: now, why: EndReason::Replaced },
        jar: Box::default(),
        data: Box::default(),
        bound: Box::default(),
        history: Box::default(),
    }
}

impl Leftover {
    /// The line that expires the client's copy.
    pub(super) fn expiry_line(&self) -> Option<HeaderValue> {
        let (Self::Adopt { name, .. } | Self::Expire { name }) = self;
        cookie::expire_line(name)
    }
}
