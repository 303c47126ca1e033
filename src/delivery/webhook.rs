//! Standard Webhooks: each event a request of its own, signed, with an id that stays the same.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;

use super::Secret;
use super::http::{Endpoint, Http};
use super::transport::{Failure, Item, Receipt, Transport};
use crate::clock::Clock;

/// How a secret begins.
const PREFIX: &str = "whsec_";
/// Bytes of a key: from 24 to 64, as the standard has it.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Keys that requests are signed with.
#[derive(Clone)]
pub(super) struct Keys(Vec<hmac::Key>);

/// A secret of a webhook can not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected \"whsec_\" and the base64 of 24 to 64 random octets, as `echo whsec_$(head -c32 /dev/urandom | base64)` makes it; while one is replaced, both with a space between them"
)]
pub struct NoKey;

impl Keys {
    pub(super) fn read(secret: &Secret) -> Result<Self, NoKey> {
        let mut keys = Vec::new();
        for word in secret.expose().split_whitespace() {
            let bytes = STANDARD.decode(word.strip_prefix(PREFIX).ok_or(NoKey)?).ok().ok_or(NoKey)?;
            if !KEY_BYTES.contains(&bytes.len()) {
                return Err(NoKey);
            }
            keys.push(hmac::Key::new(hmac::HMAC_SHA256, &bytes));
        }
        if keys.is_empty() { Err(NoKey) } else { Ok(Self(keys)) }
    }

    /// The signatures of a request, one for each key.
    fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        let signatures = self.0.iter().map(|key| {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{id}.{seconds}.").as_bytes());
            context.update(body);
            format!("v1,{}", STANDARD.encode(context.sign()))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }
}

/// A way to a webhook.
pub(super) struct Webhook {
    http: Http,
    keys: Keys,
    clock: Arc<dyn Clock>,
}

impl Webhook {
    pub(super) fn new(endpoint: &Endpoint, secret: &Secret, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let keys = Keys::read(secret).map_err(|why| why.to_string())?;
        Ok(Self { http: Http::new(endpoint)?, keys, clock })
    }
}

impl Transport for Webhook {
    fn tell_answers(&mut self) {
        self.http.tell_answers();
    }

    fn batch_max(&self) -> usize {
        1
    }

    async fn send(&mut self, items: &[Item]) -> Result<Receipt, Failure> {
        let mut receipt = Receipt::Taken(String::new());
        for Item { record, line, .. } in items {
            let id = record.id();
            let seconds = self.clock.now().as_secs();
            let mut body = format!("{{\"type\":\"{}\",\"timestamp\":\"{}\",\"data\":", record.event.kind(), record.ts)
                .into_bytes();
            body.extend_from_slice(line);
            body.push(b'}');
            let signature = self.keys.sign(&id, seconds, &body);
            let headers = [
                (HeaderName::from_static("webhook-id"), id),
                (HeaderName::from_static("webhook-timestamp"), seconds.to_string()),
                (HeaderName::from_static("webhook-signature"), signature),
            ];
            receipt = self.http.post("application/json", &headers, body).await?.receipt;
        }
        Ok(receipt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_the_standard_has_it() {
        let read = |text: &str| Keys::read(&Secret::new(text.to_owned())).map(|keys| keys.0.len());
        let key = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        assert_eq!(read(&key(24)), Ok(1));
        assert_eq!(read(&format!("{} {}\n", key(32), key(64))), Ok(2));
        for text in ["", "whsec_", "hello", &STANDARD.encode([7; 32]), &key(23), &key(65), "whsec_%%%"] {
            assert_eq!(read(text), Err(NoKey), "{text}");
        }
    }

    /// The example of the standard's own library.
    #[test]
    fn a_signature_is_that_of_the_standard() {
        let keys = Keys::read(&Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned())).unwrap();
        let signed = keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
