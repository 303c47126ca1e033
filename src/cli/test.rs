//! `portcullis test`: plays scenarios, and tells what was otherwise than expected.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use portcullis::clock::{Clock as _, SystemClock};
use portcullis::rules::diagnostic::Fault;
use portcullis::rules::{Changed, Explained, Mutation};
use portcullis::scenario::{Coverage, Covered, Failed, Played, Scenarios};

use super::junit::{Broken, junit};
use super::{Exit, Format, Streams, TestArgs};

/// How deep folders are searched for scenarios.
const FOLDERS_DEEP: usize = 8;

/// Everything that came of one file.
pub(super) struct FileResult {
    pub(super) file: PathBuf,
    pub(super) played: Vec<Played>,
    coverage: Coverage,
    mutants: usize,
    pub(super) survivors: Vec<Mutation>,
    warnings: Vec<Fault>,
}

pub(super) fn run(args: &TestArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let mut files = Vec::new();
    for path in &args.paths {
        let before = files.len();
        find(path, FOLDERS_DEEP, &mut files)?;
        if files.len() == before {
            let what = if path.exists() { "no scenarios in" } else { "there is no file" };
            writeln!(streams.err, "portcullis: {what} {}", path.display())?;
            return Ok(Exit::BadConfiguration);
        }
    }
    let (mut results, mut broken) = (Vec::new(), Vec::new());
    for file in files {
        match play(&file, args) {
            Ok(result) => results.push(result),
            Err(faults) => {
                for fault in &faults {
                    writeln!(streams.err, "{fault}\n")?;
                }
                broken.push(Broken { file, faults });
            }
        }
    }
    match args.format {
        Format::Human => tell(&results, args, streams)?,
        Format::Json => writeln!(streams.out, "{:#}", as_json(&results, args))?,
    }
    if let Some(path) = &args.junit
        && let Err(why) = fs::write(path, junit(&results, &broken, args))
    {
        writeln!(streams.err, "portcullis: {} can not be written: {why}", path.display())?;
        return Ok(Exit::Runtime);
    }
    let failed = results.iter().any(|result| result.is_failure(args));
    Ok(if !broken.is_empty() {
        Exit::BadConfiguration
    } else if failed {
        Exit::Runtime
    } else {
        Exit::Done
    })
}

impl FileResult {
    fn is_failure(&self, args: &TestArgs) -> bool {
        self.played.iter().any(|played| played.failed.is_some())
            || !self.survivors.is_empty()
            || (args.coverage && self.own_rules().any(|(_, seen)| !seen.is_full()))
    }

    /// Rules of one's own: those of packs are tested with the program.
    pub(super) fn own_rules(&self) -> impl Iterator<Item = (&String, &Covered)> {
        let is_pack = |name: &str| portcullis::rules::Pack::ALL.iter().any(|pack| name.starts_with(pack.family()));
        self.coverage.iter().filter(move |(name, _)| !is_pack(name))
    }
}

/// Files of scenarios at a path: itself, or all below it.
fn find(path: &Path, deep: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    if !path.is_dir() || deep == 0 {
        return Ok(());
    }
    let mut inside = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    inside.sort();
    for path in inside {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_hidden = name.starts_with('.') || matches!(name, "target" | "node_modules");
        if path.is_dir() && !is_hidden {
            find(&path, deep - 1, files)?;
        } else if name.ends_with(".toml")
            && path.is_file()
            && fs::read_to_string(&path).is_ok_and(|text| Scenarios::is_one(&text))
        {
            files.push(path);
        }
    }
    Ok(())
}

fn play(file: &Path, args: &TestArgs) -> Result<FileResult, Vec<Fault>> {
    let scenarios = Scenarios::load(file, SystemClock::new().now()).map_err(|faults| faults.0)?;
    let fault = |why: String| vec![Fault::new(portcullis::rules::diagnostic::Level::Fault, "", why)];
    let warnings = scenarios.warnings.clone();
    let (played, coverage) = scenarios.play().map_err(|error| fault(error.to_string()))?;
    let is_sound = played.iter().all(|played| played.failed.is_none());
    let (mut mutants, mut survivors) = (0, Vec::new());
    if args.mutate && is_sound {
        let shows = io::stderr().is_terminal();
        let found = scenarios.mutate(Changed::Own, |done, all| {
            if shows {
                progress(file, done, all);
            }
        });
        (mutants, survivors) = found.map_err(|error| fault(error.to_string()))?;
    }
    Ok(FileResult { file: file.to_owned(), played, coverage, mutants, survivors, warnings })
}

#[expect(clippy::print_stderr, reason = "progress is for a terminal alone")]
fn progress(file: &Path, done: usize, all: usize) {
    eprint!("\r{}: {done} of {all} changes", file.display());
}

fn tell(results: &[FileResult], args: &TestArgs, streams: &mut Streams<'_>) -> io::Result<()> {
    let colours = io::stdout().is_terminal();
    let paint =
        |text: &str, code: &str| if colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() };
    let (mut good, mut bad) = (0, 0);
    for result in results {
        writeln!(streams.out, "{}", result.file.display())?;
        for played in &result.played {
            match &played.failed {
                None => {
                    good += 1;
                    writeln!(streams.out, "  {}  {}", paint("ok", "32"), played.name)?;
                }
                Some(failed) => {
                    bad += 1;
                    writeln!(streams.out, "  {}  {}", paint("FAILED", "31;1"), played.name)?;
                    tell_failed(failed, &paint, streams)?;
                }
            }
        }
        for warning in &result.warnings {
            writeln!(streams.out, "  {}", warning.headline())?;
        }
        if args.coverage {
            tell_coverage(result, streams)?;
        }
        for survivor in &result.survivors {
            let Mutation { rule, what, place, .. } = survivor;
            let mark = paint("UNTESTED", "33;1");
            writeln!(streams.out, "  {mark}  {rule}: no scenario notices if {what} ({place})")?;
        }
        if args.mutate && result.mutants > 0 {
            let killed = result.mutants - result.survivors.len();
            writeln!(streams.out, "  {killed} of {} small changes to the rules are noticed", result.mutants)?;
        }
    }
    writeln!(streams.out, "{good} passed, {bad} failed")
}

fn tell_failed(failed: &Failed, paint: &impl Fn(&str, &str) -> String, streams: &mut Streams<'_>) -> io::Result<()> {
    writeln!(streams.out, "    step {} ({}): {}", failed.step, failed.place, failed.sent)?;
    for difference in &failed.differences {
        let (expected, found) = (paint(&difference.expected, "32"), paint(&difference.found, "31"));
        writeln!(streams.out, "      {:<8} expected {expected}, found {found}", difference.what)?;
    }
    if !failed.matched.is_empty() {
        writeln!(streams.out, "      matched  {}", failed.matched.join(", "))?;
    }
    if let Some(risk) = &failed.risk {
        writeln!(streams.out, "      risk     {risk}")?;
    }
    for explained in &failed.explained {
        tell_explained(explained, streams)?;
    }
    Ok(())
}

/// A rule with every comparison, its value and what came of it.
fn tell_explained(explained: &Explained, streams: &mut Streams<'_>) -> io::Result<()> {
    let Explained { rule, place, outcome, compared, excused } = explained;
    let place = place.as_deref().map_or_else(String::new, |place| format!(" ({place})"));
    let excused = if *excused { ", and a tune excused it" } else { "" };
    writeln!(streams.out, "      {rule}{place} is {}{excused}:", word(*outcome))?;
    for one in compared {
        writeln!(streams.out, "        {:<7} {}  [{} is {}]", word(one.outcome), one.text, one.field, one.value)?;
    }
    Ok(())
}

const fn word(outcome: Option<bool>) -> &'static str {
    match outcome {
        Some(true) => "true",
        Some(false) => "false",
        None => "unknown",
    }
}

fn tell_coverage(result: &FileResult, streams: &mut Streams<'_>) -> io::Result<()> {
    let all = result.own_rules().count();
    let full = result.own_rules().filter(|(_, seen)| seen.is_full()).count();
    writeln!(streams.out, "  {full} of {all} rules were seen to match and to pass")?;
    for (name, seen) in result.own_rules().filter(|(_, seen)| !seen.is_full()) {
        let what = match (seen.matched, seen.passed) {
            (0, _) => "never matched",
            _ => "matched every time",
        };
        writeln!(streams.out, "    {name} {what} ({})", seen.place.as_deref().unwrap_or("?"))?;
    }
    Ok(())
}

fn as_json(results: &[FileResult], args: &TestArgs) -> serde_json::Value {
    let each = |result: &FileResult| {
        let scenarios: Vec<_> = result.played.iter().map(played_json).collect();
        let rules: Vec<_> = result
            .own_rules()
            .filter(|_| args.coverage)
            .map(|(name, seen)| serde_json::json!({"rule": name, "matched": seen.matched, "passed": seen.passed, "place": seen.place}))
            .collect();
        let untested: Vec<_> = result
            .survivors
            .iter()
            .map(|one| serde_json::json!({"rule": one.rule.as_str(), "change": one.what, "place": one.place}))
            .collect();
        serde_json::json!({
            "file": result.file.display().to_string(),
            "scenarios": scenarios,
            "coverage": rules,
            "mutants": result.mutants,
            "untested": untested,
        })
    };
    results.iter().map(each).collect::<Vec<_>>().into()
}

fn played_json(played: &Played) -> serde_json::Value {
    let failed = played.failed.as_ref().map(|failed| {
        let differences: Vec<_> = failed
            .differences
            .iter()
            .map(|one| serde_json::json!({"what": one.what, "expected": one.expected, "found": one.found}))
            .collect();
        serde_json::json!({
            "step": failed.step,
            "place": failed.place,
            "sent": failed.sent,
            "differences": differences,
            "matched": failed.matched,
            "risk": failed.risk,
        })
    });
    serde_json::json!({"name": played.name, "place": played.place, "passed": played.failed.is_none(), "failed": failed})
}

#[cfg(test)]
mod tests {
    use super::super::tests::say;
    use super::*;

    const RULES: &str = r#"
version = 1
name    = "shop"
[[rule]]
id    = "many"
when  = 'request.path == "/x"'
count = { over = 2, within = "10m", per = "client.ip" }
then  = "deny"
[[rule]]
id    = "resting"
when  = 'client.is_tor'
then  = "deny"
mode  = "off"
[[tune]]
rule   = "shop/many"
unless = 'client.country == "DE" || client.country == "FR"'
why    = "ours"
[[tune]]
rule   = "baseline/asn-changed"
unless = 'client.asn == 64500'
why    = "ours too"
"#;

    const SCENARIOS: &str = r#"
version = 1
rules   = ["shop.toml"]
packs   = ["baseline@1"]
[client.eve]
ip      = "203.0.113.10"
country = "NL"
[client.anna]
ip      = "203.0.113.11"
country = "DE"
[[scenario]]
name = "the third is refused"
[[scenario.step]]
client = "eve"
send   = "GET /x"
times  = 3
expect = { rules = ["shop/many"] }
[[scenario]]
name = "ours are not"
[[scenario.step]]
client = "anna"
send   = "GET /x"
times  = 3
expect = { not_rules = ["shop/many"] }
"#;

    /// Tunes and counts were left as they are: what nobody tested of them was called tested.
    #[test]
    fn what_no_scenario_notices_is_told_for_conditions_tunes_and_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (rules, scenarios) = (folder.path().join("shop.toml"), folder.path().join("shop.scenarios.toml"));
        fs::write(&rules, RULES).unwrap();
        fs::write(&scenarios, SCENARIOS).unwrap();
        let path = scenarios.to_str().unwrap();
        let (exit, out, _) = say(&["test", "--mutate", "--format", "json", path]);
        assert_eq!(exit, Exit::Runtime, "{out}");
        let told: serde_json::Value = serde_json::from_str(&out).unwrap();
        // One comparison, one more, one less, half the window, and three comparisons of tunes; none of a rule that is off.
        assert_eq!(told[0]["mutants"], 7);
        let untested: Vec<String> = (told[0]["untested"].as_array().unwrap().iter())
            .map(|one| format!("{}: {}", one["rule"].as_str().unwrap(), one["change"].as_str().unwrap()))
            .collect();
        let expected = [
            "baseline/asn-changed: in the `unless` of a tune `client.asn == 64500` is turned round",
            "shop/many: it counts over 1 instead of 2",
            "shop/many: it counts within 5m instead of 10m",
        ];
        assert_eq!(untested, expected);
        let place = told[0]["untested"][0]["place"].as_str().unwrap();
        assert!(place.ends_with("shop.toml:20:11"), "{place}");
        let (_, out, _) = say(&["test", "--mutate", path]);
        assert!(out.contains("4 of 7 small changes to the rules are noticed"), "{out}");
    }
}
