//! What is odd about the cookies of a request: for the detectors that need no session.
//!
//! Honest clients do it too (a browser from before the guard still has the app's cookie), so no pack gives these signals points;
//! rules may. Wrong ids are counted only if a rule reads them.

use super::admit::{ByClient, Request};
use super::{Guard, Refusal};
use crate::event::{self, ClientText};
use crate::history::Contexts;
use crate::limit::ClientKey;
use crate::rules::count::{Counting, Key};
use crate::rules::scheme::Field;
use crate::rules::{Binds, Value};
use crate::session::cookie::{CookieFinding as Seen, GuardSeen, Scan};
use crate::session::id::Presented;
use crate::signal::{self, CookieFinding, CookieFindings, Counts, DetectorInput, IdEvidence, Planted, Signals};
use crate::store::Store;
use crate::verdict::Text;

/// What is odd about the cookies of a request. Nearly always nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Odd {
    planted: Planted,
    cookies: CookieFindings,
    counts: Counts,
}

/// A wrong id, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Unknown = 1,
    Malformed = 2,
    Forged = 3,
}

impl Odd {
    /// Lets the detectors see it.
    pub(super) const fn put(&self, input: &mut DetectorInput<'_>) {
        (input.planted, input.cookies, input.counts) = (self.planted, self.cookies, self.counts);
    }
}

impl<S: Store> Guard<S> {
    /// The one cookie of ours that the client showed, if it can be ours. Guessing is slowed down here.
    ///
    /// Each request that was not refused before comes by here once, so here it is counted.
    pub(super) fn presented(&self, request: &Request<'_>, scan: &Scan<'_>) -> Result<Option<Presented>, Refusal> {
        self.requests.add(ClientKey::new(request.client.ip).0, 0);
        let value = match scan.guard() {
            GuardSeen::Missing | GuardSeen::Several(_) => return Ok(None),
            GuardSeen::Once(value) => value,
        };
        match Presented::parse(value) {
            Some(presented) => Ok(Some(presented)),
            None => {
                self.tell(request, None, event::CookieTampered { fault: Text::of("not the form of an id and a tag") });
                self.count_guess(request).map(|()| None)
            }
        }
    }

    /// Counts an id that was never issued. Who shows too many is slowed down.
    pub(super) fn count_guess(&self, request: &Request<'_>) -> Result<(), Refusal> {
        self.limited(request, self.limits.load().guess(request.client.ip, request.now), ByClient::Yes)
    }

    /// Tells what is wrong with its cookies.
    pub(super) fn tell_findings(&self, request: &Request<'_>, scan: &Scan<'_>) {
        if !scan.findings().is_empty() {
            self.tell_found(request, scan);
        }
    }

    #[cold]
    fn tell_found(&self, request: &Request<'_>, scan: &Scan<'_>) {
        for finding in scan.findings().iter() {
            let fault = finding.as_str();
            match finding {
                Seen::Duplicate | Seen::DuplicateBound => {
                    self.tell(request, None, event::CookieDuplicate { count: 2 });
                }
                Seen::LookAlike | Seen::ShieldLookAlike => {
                    self.tell(request, None, event::CookiePrefixVariant { name: ClientText::new(fault) });
                }
                // Told one by one, with their names.
                Seen::ShieldedSent => {}
                _ => self.tell(request, None, event::CookieLegacySyntax { fault: Text::of(fault) }),
            }
        }
    }

    /// Looks at the cookies of a request.
    pub(super) fn odd(&self, request: &Request<'_>, scan: &Scan<'_>, presented: Option<&Presented>) -> Odd {
        let binds = request.policy.cookies.binds == Binds::Some && presented.is_none();
        let is_malformed = presented.is_none() && matches!(scan.guard(), GuardSeen::Once(_));
        if scan.findings().is_empty() && !binds && !is_malformed && !self.counts_wrong(request) {
            return Odd::default();
        }
        self.odd_slowly(request, scan, is_malformed)
    }

    #[cold]
    fn odd_slowly(&self, request: &Request<'_>, scan: &Scan<'_>, is_malformed: bool) -> Odd {
        if is_malformed {
            self.count_wrong(request, Wrong::Malformed);
        }
        let mut odd = Odd { counts: self.wrong_of(request), ..Odd::default() };
        let unbound = matches!(scan.guard(), GuardSeen::Missing) && scan.bound().next().is_some();
        let more = [(is_malformed, CookieFinding::Malformed), (unbound, CookieFinding::Unbound)];
        let of_scan = scan.findings().iter().filter_map(finding);
        odd.cookies = of_scan.chain(more.into_iter().filter_map(|(is_so, found)| is_so.then_some(found))).collect();
        if scan.findings().iter().any(|found| found == Seen::ShieldedSent) {
            let logs_in = request.policy.login(&request.parts.method, &request.path.path).is_some();
            odd.planted = if logs_in { Planted::AtLogin } else { Planted::Sent };
        }
        odd
    }

    /// The signals of a request without a session.
    pub(super) fn signals_of_stranger(&self, request: &Request<'_>, id: IdEvidence) -> Signals {
        if request.odd == Odd::default() && id == IdEvidence::None {
            return Signals::new();
        }
        self.look_at_stranger(request, id)
    }

    #[cold]
    fn look_at_stranger(&self, request: &Request<'_>, id: IdEvidence) -> Signals {
        let nothing = Contexts::default();
        let mut input = DetectorInput::new(request.now, &request.fingerprint, &nothing);
        input.id = id;
        request.odd.put(&mut input);
        // An id that was just found wrong counts too.
        input.counts = self.wrong_of(request);
        signal::assess(&input, &request.policy.scoring).signals
    }

    /// Counts an id that no session goes by.
    pub(super) fn count_wrong_id(&self, request: &Request<'_>, id: IdEvidence) {
        match id {
            IdEvidence::NeverIssued => self.count_wrong(request, Wrong::Unknown),
            IdEvidence::Forged => self.count_wrong(request, Wrong::Forged),
            IdEvidence::None | IdEvidence::Stale { .. } | IdEvidence::Fork { .. } => {}
        }
    }

    fn counts_wrong(&self, request: &Request<'_>) -> bool {
        self.needs(request.rules().reads().guesses)
    }

    fn count_wrong(&self, request: &Request<'_>, wrong: Wrong) {
        if self.counts_wrong(request)
            && let Some(key) = key(request, wrong)
        {
            self.wrong.count(key, request.now);
        }
    }

    /// How often the client was wrong lately, if a rule asks.
    fn wrong_of(&self, request: &Request<'_>) -> Counts {
        if !self.counts_wrong(request) {
            return Counts::default();
        }
        let of = |wrong| key(request, wrong).map_or(0, |key| self.wrong.ask(key, request.now, Counting::Look).lately);
        Counts { unknown: of(Wrong::Unknown), malformed: of(Wrong::Malformed), forged: of(Wrong::Forged) }
    }
}

fn key(request: &Request<'_>, wrong: Wrong) -> Option<Key> {
    Key::new(wrong as u64, Field::ClientIp, &Value::Ip(request.client.ip))
}

/// A finding in the words of the detectors.
const fn finding(seen: Seen) -> Option<CookieFinding> {
    Some(match seen {
        Seen::Duplicate | Seen::DuplicateBound => CookieFinding::Repeated,
        Seen::LookAlike | Seen::ShieldLookAlike => CookieFinding::LookAlike,
        Seen::Nameless => CookieFinding::Nameless,
        Seen::LegacyAttribute | Seen::NameSyntax | Seen::OpenQuote | Seen::Sandwich | Seen::Smuggled => {
            CookieFinding::OldSyntax
        }
        // The first is a signal of its own; many cookies are no sign of anything.
        Seen::ShieldedSent | Seen::TooManyPairs | Seen::TooManyBytes => return None,
    })
}
