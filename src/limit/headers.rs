//! What a limited client is told: `Retry-After`, `RateLimit` and `RateLimit-Policy`.
//!
//! The two fields are those of draft-ietf-httpapi-ratelimit-headers-11: lists of names in quotes with parameters.
//! `q` requests in a window of `w` seconds; `r` are left, and no more than that may be made within `t` seconds. They are
//! sent with the refusal only, when `r` is 0 and `t` is the time until one is allowed again: a client that is not limited
//! need not know how close it came.

use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use super::Refusal;

/// `RateLimit-Policy`.
pub const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// `RateLimit`.
pub const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

impl Refusal {
    /// Puts the fields on an answer of status 429. A refusal by a growing delay has no rate to tell of, and is given
    /// `Retry-After` alone.
    pub fn put_headers(&self, headers: &mut HeaderMap) {
        let seconds = seconds(self.retry_after);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        let Some(rate) = self.rate else { return };
        let name = self.limit.as_str();
        let policy = format!("\"{name}\";q={};w={}", rate.quota(), rate.per().as_secs());
        let left = format!("\"{name}\";r=0;t={seconds}");
        for (header, value) in [(RATELIMIT_POLICY, policy), (RATELIMIT, left)] {
            // Both are quotes, lower-case letters and digits, so they are always values; nothing is lost if not.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(header, value);
            }
        }
    }
}

fn seconds(wait: Duration) -> u64 {
    super::keyed::whole_seconds(wait).as_secs()
}

#[cfg(test)]
mod tests {
    use super::super::{LimitName, Rate};
    use super::*;

    fn check(rate: Option<&str>, wait_ms: u64, expected: [Option<&str>; 3]) {
        let rate = rate.map(|text| Rate::parse(text).unwrap().unwrap());
        let refusal = Refusal { limit: LimitName::Client, rate, retry_after: Duration::from_millis(wait_ms) };
        let mut headers = HeaderMap::new();
        refusal.put_headers(&mut headers);
        let get = |name| headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!([get(RETRY_AFTER), get(RATELIMIT_POLICY), get(RATELIMIT)], expected);
    }

    #[test]
    fn a_refusal_tells_when_to_come_back_and_why() {
        let policy = Some("\"client\";q=100;w=1");
        check(Some("100/1s burst 200"), 1_000, [Some("1"), policy, Some("\"client\";r=0;t=1")]);
        check(Some("100/1s burst 200"), 1_001, [Some("2"), policy, Some("\"client\";r=0;t=2")]);
        check(Some("5/5m burst 3"), 42_000, [Some("42"), Some("\"client\";q=5;w=300"), Some("\"client\";r=0;t=42")]);
        check(None, 0, [Some("1"), None, None]);
    }
}
