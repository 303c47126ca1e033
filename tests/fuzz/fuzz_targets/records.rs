//! What stores give back: a record, the contexts in it, a fingerprint, a jar. Bytes that are read are written as they are
//! meant, and whatever was in them can be worked with.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use portcullis::clock::Timestamp;
use portcullis::fingerprint::Fingerprint;
use portcullis::history::{CONTEXTS_MAX, Contexts, ENCODED_MAX, HalfLife, Holding, Points, TRACE_MAX, Visit};
use portcullis::session::jar::{Channel, CookieContext, JarView, SiteContext};
use portcullis::session::record::{EndReason, Record, SUBJECT_BYTES_MAX};
use portcullis::session::tag::{SUPERSEDED_MAX, Tag};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fuzz_target!(|input: &[u8]| {
    record(input);
    contexts(input);
    jar(input);
    if let Ok(read) = Fingerprint::decode(input) {
        let mut bytes = Vec::new();
        read.encode(&mut bytes);
        assert_eq!(Fingerprint::decode(&bytes), Ok(read));
        drop(format!("{read:?} {} {}", read.language, read.prefix));
        let past = Contexts::bind(read, NOW);
        assert!(past.best_match(&read).is_some_and(|found| found.drift.is_none()), "it is like itself");
    }
});

fn record(input: &[u8]) {
    let Ok(record) = Record::decode(input) else { return };
    let bytes = record.encode();
    assert_eq!(Record::decode(&bytes).as_ref(), Ok(&record));
    assert!(record.subject.as_ref().is_none_or(|subject| subject.len() <= SUBJECT_BYTES_MAX));
    assert!(record.tags.superseded().len() <= SUPERSEDED_MAX);
    assert!(record.size() >= record.jar.len());
    drop(format!("{record:?}"));

    let mut tags = record.tags.clone();
    let (head, next) = (*tags.head(), Tag::from_bytes([0; 16]));
    tags.standing(&next, || true, Duration::from_secs(60), NOW);
    for tag in [next, head, next] {
        tags.note_stale(tag, NOW);
        tags.adopt(tag, NOW);
        tags.standing(&head, || true, Duration::from_secs(60), NOW);
    }
    let ended = record.ended(NOW, EndReason::Revoked, NOW);
    assert_eq!(Record::decode(&ended.encode()), Ok(ended));
}

fn contexts(input: &[u8]) {
    let Ok(mut past) = Contexts::decode(input) else { return };
    read_back(&past);
    let known = past.known().first().map(|context| context.fingerprint).unwrap_or_default();
    for (holding, fingerprint) in
        [(Holding::Other, known), (Holding::Head, Fingerprint::default()), (Holding::Head, known)]
    {
        let found = past.best_match(&fingerprint);
        past.risk(found.as_ref(), &fingerprint, NOW, HalfLife::DEFAULT);
        past.interleaving(&fingerprint, NOW);
        let points = Points::whole(7);
        past.note(&Visit {
            now: NOW,
            fingerprint,
            holding,
            context_points: points,
            session_points: points,
            half_life: HalfLife::DEFAULT,
        });
        read_back(&past);
    }
}

fn read_back(past: &Contexts) {
    assert!(past.known().len() <= CONTEXTS_MAX && TRACE_MAX <= 3);
    let mut bytes = Vec::new();
    past.encode(&mut bytes);
    assert!(bytes.len() <= ENCODED_MAX);
    assert_eq!(Contexts::decode(&bytes).as_ref(), Ok(past));
}

fn jar(input: &[u8]) {
    let Ok(view) = JarView::decode(input) else { return };
    let mut bytes = Vec::new();
    view.to_jar().encode(&mut bytes);
    assert_eq!(bytes, input, "a jar has one spelling");
    let context = CookieContext { host: "h", path: "/", channel: Channel::Secure, site: SiteContext::SameSite };
    assert!(view.select(context, NOW).count() <= view.len());
    assert!(!view.is_empty() || (view.persistent_until(NOW), view.loosest_same_site()) == (None, None));
}
