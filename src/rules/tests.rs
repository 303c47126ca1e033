//! Mistakes in rules, and everything that is told about each.
//!
//! They stand in one file: a text, `--`, what is told, `====`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use super::diagnostic::Faults;
use super::load::{Compiled, Input, RulesText, compile};
use super::pack::Pack;
use super::value::Test;
use crate::clock::Timestamp;

/// Checks every block of a file against `told`. With `PORTCULLIS_BLESS` set, writes what is told into the file instead.
pub(crate) fn golden(file: &str, at_least: usize, told: impl Fn(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let blocks: Vec<&str> = text.split("\n====\n").map(str::trim).filter(|block| !block.is_empty()).collect();
    assert!(blocks.len() >= at_least, "{}", blocks.len());
    let mut blessed = String::new();
    for block in blocks {
        let (mistake, expected) = block.split_once("\n--\n").unwrap_or((block, ""));
        let told = told(mistake);
        if std::env::var_os("PORTCULLIS_BLESS").is_some() {
            blessed = format!("{blessed}{mistake}\n--\n{told}\n====\n");
        } else {
            assert_eq!(told, expected, "\n{mistake}");
        }
    }
    if !blessed.is_empty() {
        std::fs::write(path, blessed).unwrap();
    }
}

fn told(text: &str) -> String {
    let files = [RulesText { path: "rules/shop.toml".into(), text: text.to_owned() }];
    let open = |_: &Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    // 2026-11-21
    let now = Timestamp::from_secs(1_795_257_972);
    match compile(&Input { packs: &[vec![Pack::Baseline1]], files: &files, open: &open, now }) {
        Ok(compiled) => Faults(compiled.warnings).to_string(),
        Err(faults) => faults.to_string(),
    }
}

#[test]
fn every_mistake_in_rules_is_told_as_a_compiler_would() {
    golden("rules/mistakes.txt", 60, told);
}

#[test]
fn no_mistake_goes_unnoticed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/rules/mistakes.txt");
    let text = std::fs::read_to_string(path).unwrap();
    for block in text.split("\n====\n").map(str::trim).filter(|block| !block.is_empty()) {
        let (mistake, _) = block.split_once("\n--\n").unwrap_or((block, ""));
        assert!(!told(mistake).is_empty(), "{mistake}");
    }
}

/// A rules file that names `many.txt`, which has these entries.
fn with_set(text: &str, entries: impl Iterator<Item = String>) -> Result<Compiled, Faults> {
    let many: String = entries.map(|entry| entry + "\n").collect();
    let head = "version = 1\nname = \"shop\"\n[set]\nmany = { file = \"many.txt\" }\n";
    let files = [RulesText { path: "rules/shop.toml".into(), text: format!("{head}{text}") }];
    let open = |_: &Path| Ok(many.clone());
    compile(&Input { packs: &[Vec::new()], files: &files, open: &open, now: Timestamp::EPOCH })
}

#[test]
fn a_large_set_is_kept_once_however_many_rules_use_it() {
    let mut text = String::new();
    for at in 0..200 {
        let field = ["request.path", "request.content_type", "request.method"][at % 3];
        let when = format!("{field} in @many && client.ua_major == {at} || {field} not_in @many && client.is_tor");
        writeln!(text, "[[rule]]\nid = \"r{at}\"\nwhen = '{when}'\nthen = \"observe\"").unwrap();
    }
    text += "[[tune]]\nrule = \"shop/r1\"\nunless = 'request.content_type in @many'\nwhy = \"it is ours\"\n";
    // Methods are in capitals, and paths begin with a slash.
    let compiled = with_set(&text, (0..60_000).map(|at| format!("/ITEM{at}"))).unwrap();
    let (mut tables, mut uses) = (BTreeSet::new(), 0);
    for cond in compiled.sets[0].rules().iter().flat_map(|rule| rule.conditions()) {
        cond.leaves(&mut |leaf| {
            if let Test::OneOf(table) = &leaf.test {
                uses += 1;
                assert_eq!(table.len(), 60_000);
                tables.insert((leaf.case as u8, Arc::as_ptr(table)));
            }
        });
    }
    assert_eq!(uses, 401);
    // One that is compared letter by letter, and one in small letters for both of the others.
    assert_eq!(tables.len(), 3, "two pointers, of which one is of two kinds of fields");
    assert_eq!(tables.iter().map(|(_, table)| table).collect::<BTreeSet<_>>().len(), 2);
}

#[test]
fn what_is_wrong_with_a_large_set_is_told_once_and_not_without_end() {
    let mut text = String::new();
    for at in 0..200 {
        writeln!(text, "[[rule]]\nid = \"r{at}\"\nwhen = 'client.ip in @many'\nthen = \"deny\"").unwrap();
    }
    let faults = with_set(&text, (0..60_000).map(|at| format!("300.0.0.{at}"))).unwrap_err();
    assert_eq!(faults.0.len(), 21);
    assert!(faults.to_string().contains("59980 more of its entries are wrong"), "{faults}");
}

/// Each fault kept its whole line: 8000 keys in one line of 63 KB took half a gigabyte to tell. And 400,000 lines that are no
/// TOML took half a minute, each looked for among those before it.
#[test]
fn of_very_many_faults_some_are_told_and_each_keeps_little_of_its_line() {
    let keys: String = (0..8000).map(|at| format!("k{at} = 1, ")).collect();
    let rules = |when: &dyn Fn(usize) -> String| -> String {
        (0..900).map(|at| format!("[[rule]]\nid = \"r{at}\"\nwhen = '{}'\nthen = \"deny\"\n", when(at))).collect()
    };
    for (text, last) in [
        (format!("rule = [{{ id = \"a\", {keys} }}]"), "error: and 7802 more errors"),
        // A thousand of them are looked at.
        (format!("let = {{ {keys} }}"), "error: and 801 more errors"),
        (keys.replace(", ", "\n"), "error: and 7800 more errors"),
        ("=\n".repeat(100_000), "error: and 99800 more errors"),
        (rules(&|at| format!("client.no{at}")), "error: and 700 more errors"),
        (rules(&|at| format!("client.asn == {at} && client.asn > {at}")), "warning: and 700 more warnings"),
    ] {
        let text = format!("version = 1\nname = \"shop\"\n{text}");
        let files = [RulesText { path: "rules/shop.toml".into(), text }];
        let open = |_: &Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
        let compiled = compile(&Input { packs: &[Vec::new()], files: &files, open: &open, now: Timestamp::EPOCH });
        let told = compiled.map_or_else(|faults| faults.0, |compiled| compiled.warnings);
        assert_eq!((told.len(), told.last().unwrap().headline().as_str()), (201, last));
        let spots = told.iter().flat_map(|fault| fault.spot.iter().chain(fault.also.iter().map(|also| &also.spot)));
        let kept: usize = spots.map(|spot| spot.text.len() + spot.source_line.len()).sum();
        assert!(kept < 50_000, "{kept} bytes for {last}");
    }
}

/// Every rule kept the whole line that its name stands in, in each list of packs again.
#[test]
fn rules_in_one_line_keep_little_of_it_and_share_it_among_lists_of_packs() {
    let rule = |at| format!("{{ id = \"r{at}\", when = 'request.path == \"/{at}\"', then = \"deny\" }}");
    let rules: Vec<String> = (0..1000).map(rule).collect();
    let text = format!("version = 1\nname = \"shop\"\nrule = [{}]", rules.join(", "));
    let files = [RulesText { path: "rules/shop.toml".into(), text }];
    let open = |_: &Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    let packs = [Vec::new(), vec![Pack::Baseline1]];
    let compiled = compile(&Input { packs: &packs, files: &files, open: &open, now: Timestamp::EPOCH }).unwrap();
    let spots = |set: usize| compiled.sets[set].rules().iter().rev().take(1000).map(|rule| rule.spot.as_ref().unwrap());
    let kept: usize = spots(0).map(|spot| spot.text.len() + spot.source_line.len()).sum();
    assert!(kept < 120_000, "{kept} bytes");
    assert!(spots(0).zip(spots(1)).all(|(one, other)| Arc::ptr_eq(&one.source_line, &other.source_line)));
}

fn with_rules(count: usize, when: impl Fn(usize) -> String) -> Result<Compiled, Faults> {
    let mut text = "version = 1\nname = \"shop\"\n".to_owned();
    for at in 0..count {
        writeln!(text, "[[rule]]\nid = \"r{at}\"\nwhen = '{}'\nthen = \"deny\"", when(at)).unwrap();
    }
    let files = [RulesText { path: "rules/shop.toml".into(), text }];
    let open = |_: &Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    compile(&Input { packs: &[Vec::new(), vec![Pack::Baseline1]], files: &files, open: &open, now: Timestamp::EPOCH })
}

/// A thousand times the same small pattern took 331 MB.
#[test]
fn a_pattern_is_kept_once_however_many_rules_ask_it() {
    let field = |at: usize| ["request.path", "client.ua_family", "request.method"][at % 3];
    let when = |at| format!("{} matches \"^.[a-z]+\" && client.ua_major == {at}", field(at));
    let compiled = with_rules(600, when).unwrap();
    let (mut patterns, mut uses) = (BTreeSet::new(), 0);
    for cond in compiled.sets.iter().flat_map(|set| set.rules()).flat_map(|rule| rule.conditions()) {
        cond.leaves(&mut |leaf| {
            if let Test::Matches(pattern) = &leaf.test {
                uses += 1;
                patterns.insert(Arc::as_ptr(&pattern.0));
            }
        });
    }
    assert_eq!((uses, patterns.len()), (1200, 2), "one with regard to the case of letters, and one without");
}

#[test]
fn patterns_of_all_rules_have_a_limit_together_which_is_told_once() {
    let full = |count: usize, pattern: &dyn Fn(usize) -> String| {
        let found = with_rules(count, |at| format!("request.path matches \"{}\"", pattern(at)));
        found.map_or_else(|faults| faults.to_string(), |_| String::new())
    };
    // Each of the first takes an eighth of a MiB, each of the others little.
    assert_eq!(full(100, &|at| format!("x[a-z]{{1,300}}{at}")), "");
    assert_eq!(full(900, &|at| format!("^/a/{at}/b")), "");
    let told = full(200, &|at| format!("x[a-z]{{1,300}}{at}"));
    assert_eq!(told.matches("error: ").count(), 1, "{told}");
    assert!(told.contains("shop/r128: the patterns of all rules take more than 16 MiB"), "{told}");
    // Nor is without end looked at those that are too large by themselves.
    let told = full(200, &|at| format!("[a-z]{{9{at:03}}}"));
    assert!(told.contains("the patterns of all rules take more than 16 MiB"), "{told}");
    assert!(told.matches("this pattern is too large").count() < 70, "{told}");
}
