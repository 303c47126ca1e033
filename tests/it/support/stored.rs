//! What the stories of stores have in common: keys, sessions, and servers that may not be there.

use std::sync::Arc;
use std::time::Duration;

use portcullis::clock::Timestamp;
use portcullis::entropy::OsEntropy;
use portcullis::secret::{KeyId, Keyring, MasterKey, sha256};
use portcullis::session::id::{Ref, SessionDigest};
use portcullis::session::record::{Lasting, Record, State};
use portcullis::session::tag::{Tag, Tags};
use portcullis::store::row::Rows;

/// When all of it begins.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A slow machine must not fail what is not about time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A ring of keys with these ids, the first of which is the current one.
pub(crate) fn ring(ids: &[u8]) -> Keyring {
    let keys: Vec<_> = ids.iter().map(|id| MasterKey::new(KeyId(*id), [*id; 32])).collect();
    let (current, previous) = keys.split_first().unwrap();
    Keyring::new(current, previous)
}

/// What seals the records of a store, under a ring of keys with these ids.
pub(crate) fn rows(ids: &[u8]) -> Rows {
    Rows::new(ring(ids), Arc::new(OsEntropy))
}

/// The digest of the nth session.
pub(crate) fn digest(nth: u64) -> SessionDigest {
    SessionDigest(sha256(&nth.to_be_bytes()))
}

/// The nth session, of a subject.
pub(crate) fn session(nth: u64, subject: &str) -> Record {
    let mut reference = [7; 16];
    reference[..8].copy_from_slice(&nth.to_be_bytes());
    Record {
        digest: digest(nth),
        reference: Ref(reference),
        version: 0,
        created_at: NOW,
        id_since: NOW,
        authenticated_at: Some(NOW),
        last_seen: NOW,
        ends_at: None,
        lasting: Lasting::Default,
        removable_at: NOW.after(Duration::from_secs(3600)),
        subject: Some(subject.into()),
        tags: Tags::new(Tag::from_bytes([1; 16]), NOW),
        forks: 0,
        state: State::Live,
        jar: Box::new([2; 200]),
        data: Box::new([4; 30]),
        bound: Box::default(),
        history: Box::new([3; 60]),
    }
}

/// Tells that a story is skipped, since a server is not installed; where everything must be tested that is a failure.
pub(crate) fn skipped<T>(name: &str) -> Option<T> {
    let must = std::env::var_os("PORTCULLIS_TEST_ALL").is_some();
    assert!(!must, "{name} is not installed: run tests/install");
    eprintln!("skipped: {name} is not installed (run tests/install)");
    None
}

/// A port that nobody has just now. Somebody else may take it before the server does, but nobody takes ports in turn.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}
