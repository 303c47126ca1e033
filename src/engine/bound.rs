//! Bound cookies: the app's own, good only beside the session they were set for.

use smallvec::SmallVec;

use super::admit::{Decided, Request};
use super::cookies::Taken;
use super::{Guard, Holder};
use crate::clock::Timestamp;
use crate::event::kinds as event;
use crate::secret::{Keyring, Purpose, Secret};
use crate::session::cookie::{CookieFinding, CookiePair, Scan, SetCookie};
use crate::session::id::Ref;
use crate::session::record::{BoundCookie, BoundValue, Record};
use crate::store::Store;
use crate::verdict::Text;

/// How many values of a bound cookie are remembered.
const BOUND_VALUES_MAX: usize = 8;
/// How many of them are looked at in one request: each is compared with every value that a session remembers of its name.
const BOUND_PAIRS_MAX: usize = 2 * BOUND_COOKIES_MAX;
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
            .enumerate()
            .filter(|(at, bound)| {
                *at >= BOUND_PAIRS_MAX || !record.is_some_and(|record| is_bound(&keys, request, record, bound.pair))
            })
            .map(|(_, bound)| (bound.index, Text::from(&*String::from_utf8_lossy(bound.pair.name))))
            .collect();
        for (index, cookie) in foreign {
            scan.withhold(index);
            if record.is_some() {
                self.tell(request, None, event::CookieBoundElsewhere { cookie });
            } else {
                self.tell(request, None, event::CookieMissingCompanion { cookie });
            }
        }
        if scan.findings().iter().any(|finding| finding == CookieFinding::DuplicateBound)
            && let Some(record) = record
        {
            one_of_each(&keys, record, scan);
        }
    }

    /// Whether the answer gives a bound cookie that scripts can not read a new value: what an app does when somebody
    /// proved who he is.
    pub(super) fn sets_bound_ticket(&self, record: &Record, taken: &Taken) -> bool {
        let keys = self.keys.load();
        taken.bound.iter().filter(|set| set.is_ticket).any(|set| {
            set.value.as_ref().is_some_and(|value| {
                let digest = bound_digest(&keys, &record.reference, name_of(&set.key), value.expose());
                record.bound.iter().all(|cookie| cookie.present() != Some(&digest))
            })
        })
    }

    /// What is known of bound cookies after the answer gave them values; none if it was known before. Many apps set the
    /// same value with every answer.
    pub(super) fn bound_after(&self, record: &Record, taken: &Taken, now: Timestamp) -> Option<Box<[BoundCookie]>> {
        let keys = self.keys.load();
        let mut changed: Option<Vec<BoundCookie>> = None;
        for BoundSet { key, value, .. } in &taken.bound {
            let all = changed.as_deref().unwrap_or(&record.bound);
            let known = all.iter().position(|cookie| cookie.name.as_bytes() == &**key);
            let Some(value) = value else {
                if let Some(at) = known.filter(|at| all.get(*at).is_some_and(|cookie| cookie.present().is_some())) {
                    let all = changed.get_or_insert_with(|| record.bound.to_vec());
                    all.get_mut(at).into_iter().for_each(|cookie| cookie.retire(now));
                }
                continue;
            };
            let digest = bound_digest(&keys, &record.reference, name_of(key), value.expose());
            let same = known.and_then(|at| all.get(at)).is_some_and(|cookie| cookie.present() == Some(&digest));
            if same {
                continue;
            }
            let makes_room = match known {
                None if all.len() >= BOUND_COOKIES_MAX => match room_for(all, key) {
                    None => continue,
                    room => room,
                },
                _ => None,
            };
            let all = changed.get_or_insert_with(|| record.bound.to_vec());
            let at = known.unwrap_or_else(|| {
                if let Some(old) = makes_room {
                    all.remove(old);
                }
                all.push(BoundCookie { name: String::from_utf8_lossy(key).into(), values: Vec::new() });
                all.len() - 1
            });
            if let Some(cookie) = all.get_mut(at) {
                cookie.replace(digest, now);
            }
        }
        changed.map(Vec::into_boxed_slice)
    }
}

/// Which of too many gives way to a new one: one without a value, or the first of the same name. Those of other names, the
/// ticket of a login perhaps, do not.
fn room_for(all: &[BoundCookie], key: &[u8]) -> Option<usize> {
    let unused = all.iter().position(|cookie| cookie.present().is_none());
    unused.or_else(|| all.iter().position(|cookie| name_of(cookie.name.as_bytes()) == name_of(key)))
}

/// Of several values of one bound cookie the app sees those that are present: which of them it would take is not known.
fn one_of_each(keys: &Keyring, record: &Record, scan: &mut Scan<'_>) {
    let all: SmallVec<[_; 8]> = scan.bound().collect();
    let repeats =
        all.iter().filter(|one| all.iter().any(|other| other.index != one.index && other.pair.name == one.pair.name));
    for cookie in repeats {
        let parts: [&[u8]; 4] = [&record.reference.0, cookie.pair.name, b"=", cookie.pair.value];
        let mut earlier = all.iter().take_while(|other| other.index != cookie.index);
        let is_repeated = earlier.any(|other| other.pair == cookie.pair);
        let mut present = record.bound_as(cookie.pair.name).filter_map(BoundCookie::present);
        if is_repeated || !present.any(|now| keys.verify(Purpose::Bind, &parts, now)) {
            scan.withhold(cookie.index);
        }
    }
}

fn bound_digest(keys: &Keyring, reference: &Ref, name: &[u8], value: &[u8]) -> [u8; 16] {
    let (_, mac) = keys.mac(Purpose::Bind, &[&reference.0, name, b"=", value]);
    mac.first_chunk().copied().unwrap_or_default()
}

/// A bound cookie that an answer sets or deletes.
#[derive(Debug)]
pub(super) struct BoundSet {
    /// Its name, and where it goes unless that is everywhere: cookies of one name may live side by side.
    key: Box<[u8]>,
    /// None if it is deleted.
    pub(super) value: Option<Secret<Vec<u8>>>,
    /// Scripts can not read it.
    is_ticket: bool,
}

impl BoundSet {
    pub(super) fn of(set: &SetCookie<'_>, now: Timestamp) -> Self {
        let mut key = set.pair.name.to_vec();
        if let Some(domain) = set.domain.filter(|domain| !domain.is_empty()) {
            key.extend_from_slice(b";domain=");
            key.extend(domain.to_ascii_lowercase());
        }
        if let Some(path) = set.path.filter(|path| *path != b"/") {
            key.extend_from_slice(b";path=");
            key.extend_from_slice(path);
        }
        let value = (!set.deletes(now)).then(|| Secret::new(set.pair.value.to_vec()));
        Self { key: key.into(), value, is_ticket: set.http_only }
    }
}

/// The name in a key.
fn name_of(key: &[u8]) -> &[u8] {
    key.split(|byte| *byte == b';').next().unwrap_or(key)
}

impl Record {
    /// The bound cookies of a name.
    fn bound_as<'r>(&'r self, name: &'r [u8]) -> impl Iterator<Item = &'r BoundCookie> {
        self.bound.iter().filter(move |cookie| name_of(cookie.name.as_bytes()) == name)
    }
}

fn is_bound(keys: &Keyring, request: &Request<'_>, record: &Record, pair: CookiePair<'_>) -> bool {
    let grace = request.policy.session.grace;
    record.bound_as(pair.name).flat_map(|cookie| &cookie.values).any(|value| {
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
