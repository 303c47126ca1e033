//! Paths and the patterns over them: the canonical form is its own, and no way in which an app might read a path leads
//! round a protected route unseen. The first line of the input is a path, the others are route patterns.
#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;
use portcullis::facts::readings::{Readings, readings};
use portcullis::facts::route::{CanonicalPath, CaseSensitivity, PATTERN_BYTES_MAX, RoutePattern, canonical_path};
use portcullis_fuzz::first_line;

/// Longest path that is read in every way; their number grows with its tricks.
const READ_BYTES_MAX: usize = 60;

/// Steps of one reading.
const STEPS_MAX: usize = 4;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = str::from_utf8(input) else { return };
    let (raw, rest) = first_line(text);
    let read = canonical_path(raw);
    assert!(read.path.len() <= raw.len() * 3 + 1);
    if read.hostile.is_none() {
        assert!(raw == "*" || read.path.starts_with('/'));
        assert!(!read.path.contains("//"));
        assert_eq!(canonical_path(&read.path).path, read.path);
    }
    if let Some(Readings::These(all)) = read.hostile.map(|trick| readings(raw, trick)) {
        assert!(all.len() <= 64 && all.iter().all(|path| path.starts_with('/') && !path.contains("//")));
    }
    if raw.len() <= READ_BYTES_MAX {
        nothing_leads_round(raw, &read);
    }
    rest.lines().take(8).for_each(|line| pattern(line, &read));
});

fn pattern(text: &str, read: &CanonicalPath<'_>) {
    for case in [CaseSensitivity::Ignore, CaseSensitivity::Exact] {
        let Ok(pattern) = RoutePattern::parse(text, case) else { continue };
        assert!(text.len() <= PATTERN_BYTES_MAX + "PROPPATCH ".len());
        assert_eq!(pattern.to_string(), text);
        assert_eq!(RoutePattern::parse(&pattern.to_string(), case).as_ref(), Ok(&pattern));
        let matches = |path: &str| pattern.matches(pattern.method().unwrap_or(&Method::GET), path);
        // A slash at the end makes no difference.
        if read.hostile.is_none() && read.path.len() > 1 && read.path != "*" {
            let path = read.path.strip_suffix('/').unwrap_or(&read.path);
            assert_eq!(matches(path), matches(&format!("{path}/")));
        }
        let literal = pattern.path().as_str();
        // Brackets may be around what may be missing, and then they are no part of a path.
        if !literal.contains(['*', '(']) {
            assert!(matches(literal), "a plain pattern matches itself");
        }
    }
}

fn nothing_leads_round(raw: &str, read: &CanonicalPath<'_>) {
    if !as_apps_read(raw).iter().any(|path| is_admin(path)) {
        return;
    }
    let admin = RoutePattern::parse("/admin/**", CaseSensitivity::Ignore).unwrap();
    let seen = admin.matches(&Method::GET, &read.path)
        || match read.hostile.map(|trick| readings(raw, trick)) {
            None => false,
            Some(Readings::Any) => true,
            Some(Readings::These(all)) => all.iter().any(|path| admin.matches(&Method::GET, path)),
        };
    assert!(seen, "{raw:?} is {read:?}");
}

fn is_admin(path: &str) -> bool {
    let path = path.to_lowercase();
    path == "/admin" || path.starts_with("/admin/")
}

/// How apps of different makes might understand one path: every order of some steps, each of which may come again.
fn as_apps_read(raw: &str) -> Vec<String> {
    let steps: [fn(&str) -> String; 6] =
        [decoded, without_parameters, |path| path.replace('\\', "/"), cut, resolved, local];
    let mut all = vec![raw.to_owned()];
    let mut latest = all.clone();
    for _ in 0..STEPS_MAX {
        latest = latest.iter().flat_map(|path| steps.iter().map(move |step| step(path))).collect();
        latest.sort_unstable();
        latest.dedup();
        latest.retain(|path| !all.contains(path));
        all.extend(latest.iter().cloned());
    }
    all
}

fn decoded(path: &str) -> String {
    percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
}

fn without_parameters(path: &str) -> String {
    path.split('/').map(|word| word.split(';').next().unwrap_or_default()).collect::<Vec<_>>().join("/")
}

/// What a program in C sees.
fn cut(path: &str) -> String {
    path.split('\0').next().unwrap_or_default().to_owned()
}

/// Dots resolved and slashes merged.
fn resolved(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    for word in path.split('/') {
        match word {
            "" | "." => {}
            ".." => drop(out.pop()),
            _ => out.push(word),
        }
    }
    format!("/{}", out.join("/"))
}

/// `//host/path` taken for a URL without a scheme.
fn local(path: &str) -> String {
    match path.strip_prefix("//") {
        Some(rest) => rest.split_once('/').map_or_else(|| "/".to_owned(), |(_, path)| format!("/{path}")),
        None => path.to_owned(),
    }
}
