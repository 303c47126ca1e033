//! A cookie jar with a past: what it held at any time of the last day, as copies and crashes need it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;

/// How far back a jar remembers.
const PAST: Duration = Duration::from_secs(24 * 3600);
/// Versions that it keeps at most.
const VERSIONS_MAX: usize = 1024;

/// Cookies by their names.
type Cookies = Arc<BTreeMap<String, String>>;

/// The cookies of one client, with those that are still on their way to it.
#[derive(Clone, Debug, Default)]
pub struct Jar {
    /// From when each version holds, in order of time.
    versions: Vec<(Timestamp, Cookies)>,
}

impl Jar {
    /// What it holds at a time.
    pub fn at(&self, now: Timestamp) -> Cookies {
        let found = self.versions.iter().rev().find(|(since, _)| *since <= now);
        found.map(|(_, cookies)| cookies.clone()).unwrap_or_default()
    }

    /// The `Cookie` header of a request at a time; empty if it holds nothing.
    pub fn line(&self, now: Timestamp) -> String {
        let pairs: Vec<String> = self.at(now).iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    /// Takes in lines of `Set-Cookie` that arrive at a time. Those that arrive later stay later.
    pub fn store(&mut self, lines: &[String], arrives: Timestamp) {
        if lines.is_empty() {
            return;
        }
        let at = self.versions.partition_point(|(since, _)| *since <= arrives);
        let before = self.at(arrives);
        self.versions.insert(at, (arrives, Arc::new(with(&before, lines))));
        for (_, later) in self.versions.iter_mut().skip(at.saturating_add(1)) {
            *later = Arc::new(with(later, lines));
        }
        self.forget(arrives);
    }

    /// A jar that holds what this one held then.
    #[must_use]
    pub fn copy(&self, as_of: Timestamp, now: Timestamp) -> Self {
        Self { versions: vec![(now, self.at(as_of))] }
    }

    /// Holds again what it held then: its writes since were lost in a crash. What was on its way arrives nowhere.
    pub fn roll_back(&mut self, as_of: Timestamp, now: Timestamp) {
        let before = self.at(as_of);
        self.versions.retain(|(since, _)| *since <= now);
        self.versions.push((now, before));
    }

    /// Everything is forgotten.
    pub fn clear(&mut self) {
        self.versions.clear();
    }

    fn forget(&mut self, now: Timestamp) {
        let old = |(since, _): &(Timestamp, Cookies)| now.since(*since) > PAST;
        let past = self.versions.iter().take_while(|version| old(version)).count().saturating_sub(1);
        let many = self.versions.len().saturating_sub(VERSIONS_MAX);
        self.versions.drain(..past.max(many));
    }
}

fn with(before: &BTreeMap<String, String>, lines: &[String]) -> BTreeMap<String, String> {
    let mut cookies = before.clone();
    for line in lines {
        let mut parts = line.split(';');
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { continue };
        let is_gone = parts.any(|part| part.trim().eq_ignore_ascii_case("max-age=0"));
        if is_gone {
            cookies.remove(name.trim());
        } else {
            cookies.insert(name.trim().to_owned(), value.trim().to_owned());
        }
    }
    cookies
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + secs)
    }

    fn store(jar: &mut Jar, line: &str, secs: u64) {
        jar.store(&[line.to_owned()], at(secs));
    }

    #[test]
    fn cookies_arrive_when_they_do_and_the_past_is_kept() {
        let mut jar = Jar::default();
        store(&mut jar, "a=1; Path=/", 10);
        store(&mut jar, "b=2", 20);
        store(&mut jar, "a=3", 15);
        let line = |secs| jar.line(at(secs));
        assert_eq!([line(9), line(10), line(15), line(20)], ["", "a=1", "a=3", "a=3; b=2"]);
        assert_eq!(jar.copy(at(12), at(30)).line(at(31)), "a=1");
        store(&mut jar, "a=; Max-Age=0", 40);
        assert_eq!(jar.line(at(40)), "b=2");
        jar.roll_back(at(16), at(50));
        assert_eq!([jar.line(at(49)), jar.line(at(50))], ["b=2", "a=3"]);
        jar.clear();
        assert_eq!(jar.line(at(60)), "");
    }

    #[test]
    fn it_grows_no_further_than_a_day_and_a_thousand_versions() {
        let mut jar = Jar::default();
        for secs in 0..5000 {
            store(&mut jar, &format!("a={secs}"), secs);
        }
        assert_eq!(jar.versions.len(), VERSIONS_MAX);
        store(&mut jar, "a=late", 5000 + 2 * 86_400);
        assert!(jar.versions.len() <= 2);
        assert_eq!(jar.line(at(5000 + 3 * 86_400)), "a=late");
    }
}
