//! `[rules]` and `[limits]`.

use std::num::NonZeroUsize;

use crate::config::{Limits, Pack, Recording, Risk, Rules, RulesKey};
use crate::rules::page::{Reader, Value, set};
use crate::signal::Companions;
use crate::verdict::Mode;

/// The words of `mode`.
pub(super) const MODES: [(&str, Mode); 3] =
    [("off", Mode::Off), ("observe", Mode::Observe), ("enforce", Mode::Enforce)];

pub(super) fn rules(reader: &Reader<'_>, rules: &mut Rules) {
    set(&mut rules.packs, packs(reader));
    if let Some(value) = reader.value("files") {
        set(&mut rules.files, value.list("a list of paths, such as [\"rules/*.toml\"]", |value| value.path()));
    }
    if let Some(value) = reader.value("signed_by") {
        set(&mut rules.signed_by, signers(&value));
    }
    if let Some(counters) = reader.path("counters") {
        rules.counters = Some(counters);
    }
    if let Some(value) = reader.value("companions") {
        let pair = "two programs in quotes, such as \"okhttp + webview\"";
        let pairs = value.list("a list of pairs of programs, such as [\"okhttp + webview\"]", |value| {
            value.parsed(pair, str::parse::<Companions>)
        });
        set(&mut rules.companions, pairs);
    }
    set(&mut rules.mode, reader.word("mode", &MODES));
    reader.table("risk", |reader| risk(reader, &mut rules.risk));
    if let Some(record) = reader.table("record", record).flatten() {
        rules.record = Some(record);
    }
}

/// `signed_by = ["RW..."]`
fn signers(value: &Value<'_>) -> Option<Vec<RulesKey>> {
    let mut known: Vec<RulesKey> = Vec::new();
    value.list("a list of public keys of minisign", |value| {
        let key: RulesKey = value.parsed("a public key of minisign in quotes", str::parse)?;
        if known.contains(&key) {
            value.fault("this key is listed already", None);
        }
        known.push(key.clone());
        Some(key)
    })
}

/// `record = { path = "portcullis-data/facts.jsonl", max_bytes = "64MiB" }`
fn record(reader: &Reader<'_>) -> Option<Recording> {
    let path = reader.path("path");
    if path.is_none() {
        reader.missing("path", "path = \"portcullis-data/facts.jsonl\"");
    }
    let bytes = reader.size("max_bytes", 64 * 1024..=1 << 40).unwrap_or(64 * 1024 * 1024);
    Some(Recording { path: path?, bytes_max: u64::try_from(bytes).unwrap_or(u64::MAX) })
}

/// `packs = ["baseline@1"]`
pub(super) fn packs(reader: &Reader<'_>) -> Option<Vec<Pack>> {
    let words = Pack::ALL.map(|pack| (pack.as_str(), pack));
    reader.value("packs")?.list("a list of packs, such as [\"baseline@1\"]", |value| value.word(&words))
}

fn risk(reader: &Reader<'_>, risk: &mut Risk) {
    let points = 1..=1_000_000;
    set(&mut risk.observe, reader.whole("observe", points.clone()));
    set(&mut risk.rotate, reader.whole("rotate", points.clone()));
    set(&mut risk.quarantine, reader.whole("quarantine", points.clone()));
    set(&mut risk.terminate, reader.whole("terminate", points));
    set(&mut risk.half_life, reader.some_time("half_life"));
    set(&mut risk.sensitive_factor, reader.value("sensitive_factor").and_then(|value| value.real(0.01..=1.0)));
}

pub(super) fn limits(reader: &Reader<'_>, limits: &mut Limits) {
    set(&mut limits.client, reader.rate("client"));
    set(&mut limits.prefix, reader.rate("prefix"));
    set(&mut limits.session, reader.rate("session"));
    set(&mut limits.subject, reader.rate("subject"));
    set(&mut limits.anonymous_sessions, reader.rate("anonymous_sessions"));
    set(&mut limits.guesses, reader.rate("guesses"));
    set(&mut limits.keys_max, reader.whole("keys_max", 1_000..=100_000_000).and_then(NonZeroUsize::new));
}
