//! Bound cookies: the app's own, good only beside the session they were set for.

use smallvec::SmallVec;

use super::admit::{Decided, Request};
use super::cookies::Taken;
use super::{Guard, Holder};
use crate::clock::Timestamp;
use crate::event::kinds as event;
use crate::secret::{Keyring, Purpose};
use crate::session::cookie::{CookiePair, Scan};
use crate::session::id::Ref;
use crate::session::record::{BoundCookie, BoundValue, Record};
use crate::store::Store;
use crate::verdict::Text;

/// How many values of a bound cookie are remembered.
const BOUND_VALUES_MAX: usize = 8;
/// How many bound cookies a session remembers.
pub(super) const BOUND_COOKIES_MAX: usize = 8;

impl<S: Store> Guard<S> {
    /// Bound cookies pass only beside the session they were set for.
    pub(super) fn check_bound(&self, request: &Request<'_>, scan: &mut Scan<'_>, decided: &Decided) {
        if request.policy.cookies.binds == crate::rules::Binds::Nothing {
            return;
        }
        if decided.is_held_back() {
            scan.withhold_bound();
            return;
        }
        let record = match &decided.holder {
            Holder::Session(known) => Some(&*known.record),
            _ => None,
        };
        let keys = self.keys.load();
        let foreign: SmallVec<[_; 4]> = scan
            .bound()
            .filter(|bound| !record.is_some_and(|record| is_bound(&keys, request, record, bound.pair)))
            .map(|bound| (bound.index, Text::from(&*String::from_utf8_lossy(bound.pair.name))))
            .collect();
        for (index, cookie) in foreign {
            scan.withhold(index);
            if record.is_some() {
                self.tell(request, None, event::CookieBoundElsewhere { cookie });
            } else {
                self.tell(request, None, event::CookieMissingCompanion { cookie });
            }
        }
    }

    /// What is known of bound cookies after the answer gave them values; none if it was known before. Many apps set the
    /// same value with every answer.
    pub(super) fn bound_after(&self, record: &Record, taken: &Taken, now: Timestamp) -> Option<Box<[BoundCookie]>> {
        let keys = self.keys.load();
        let mut changed: Option<Vec<BoundCookie>> = None;
        for (name, value) in &taken.bound {
            let all = changed.as_deref().unwrap_or(&record.bound);
            let known = all.iter().position(|cookie| cookie.name.as_bytes() == &**name);
            let Some(value) = value else {
                if let Some(at) = known.filter(|at| all.get(*at).is_some_and(|cookie| cookie.present().is_some())) {
                    let all = changed.get_or_insert_with(|| record.bound.to_vec());
                    all.get_mut(at).into_iter().for_each(|cookie| cookie.retire(now));
                }
                continue;
            };
            let digest = bound_digest(&keys, &record.reference, name, value.expose());
            let same = known.and_then(|at| all.get(at)).is_some_and(|cookie| cookie.present() == Some(&digest));
            if same || known.is_none() && all.len() >= BOUND_COOKIES_MAX {
                continue;
            }
            let all = changed.get_or_insert_with(|| record.bound.to_vec());
            let at = known.unwrap_or_else(|| {
                all.push(BoundCookie { name: String::from_utf8_lossy(name).into(), values: Vec::new() });
                all.len() - 1
            });
            if let Some(cookie) = all.get_mut(at) {
                cookie.replace(digest, now);
            }
        }
        changed.map(Vec::into_boxed_slice)
    }
}

fn bound_digest(keys: &Keyring, reference: &Ref, name: &[u8], value: &[u8]) -> [u8; 16] {
    let (_, mac) = keys.mac(Purpose::Bind, &[&reference.0, name, b"=", value]);
    mac.first_chunk().copied().unwrap_or_default()
}

fn is_bound(keys: &Keyring, request: &Request<'_>, record: &Record, pair: CookiePair<'_>) -> bool {
    let Some(cookie) = record.bound.iter().find(|cookie| cookie.name.as_bytes() == pair.name) else { return false };
    let grace = request.policy.session.grace;
    cookie.values.iter().any(|value| {
        let alive = value.replaced_at.is_none_or(|at| request.now.since(Timestamp::from_millis(at)) < grace);
        alive && keys.verify(Purpose::Bind, &[&record.reference.0, pair.name, b"=", pair.value], &value.digest)
    })
}

impl BoundCookie {
    /// The value it has now.
    fn present(&self) -> Option<&[u8; 16]> {
        self.values.last().filter(|value| value.replaced_at.is_none()).map(|value| &value.digest)
    }

    /// The values so far are good for the grace and no longer.
    fn retire(&mut self, now: Timestamp) {
        for value in self.values.iter_mut().filter(|value| value.replaced_at.is_none()) {
            value.replaced_at = Some(now.as_millis());
        }
    }

    fn replace(&mut self, digest: [u8; 16], now: Timestamp) {
        self.values.retain(|value| value.digest != digest);
        self.retire(now);
        if self.values.len() >= BOUND_VALUES_MAX {
            self.values.remove(0);
        }
        self.values.push(BoundValue { digest, replaced_at: None });
    }
}
