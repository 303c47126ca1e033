//! What `portcullis test --junit` writes: the XML that CI systems read.
//!
//! Each scenario is a test case. A rule that was not seen both ways and a change that nothing notices are failures of their
//! own; a file that can not be read is an error, so that no CI takes it for a file without scenarios.

use std::path::PathBuf;

use portcullis::rules::Mutation;
use portcullis::rules::diagnostic::Fault;
use portcullis::scenario::Failed;

use super::TestArgs;
use super::test::FileResult;

/// A file that could not be played.
pub(super) struct Broken {
    pub(super) file: PathBuf,
    pub(super) faults: Vec<Fault>,
}

/// The test cases of one file.
struct Suite {
    file: String,
    cases: String,
    tests: usize,
    failures: usize,
    errors: usize,
}

impl Suite {
    fn new(file: &std::path::Path) -> Self {
        let file = escaped(&file.display().to_string());
        Self { file, cases: String::new(), tests: 0, failures: 0, errors: 0 }
    }

    /// Adds a case: what was wrong with it, by the name of its element.
    fn case(&mut self, name: &str, wrong: Option<(&str, &str)>) {
        self.tests += 1;
        let open = format!("    <testcase classname=\"{}\" name=\"{}\"", self.file, escaped(name));
        match wrong {
            None => self.cases.push_str(&format!("{open}/>\n")),
            Some((element, why)) => {
                let why = escaped(why);
                self.cases.push_str(&format!("{open}><{element} message=\"{why}\"/></testcase>\n"));
            }
        }
    }

    fn judge(&mut self, name: &str, failure: Option<&str>) {
        self.failures += usize::from(failure.is_some());
        self.case(name, failure.map(|why| ("failure", why)));
    }

    fn write(&self, out: &mut String) {
        let Self { file, cases, tests, failures, errors } = self;
        let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\"");
        out.push_str(&format!("  <testsuite name=\"{file}\" {counts}>\n{cases}  </testsuite>\n"));
    }
}

/// The whole document.
pub(super) fn junit(results: &[FileResult], broken: &[Broken], args: &TestArgs) -> String {
    let played = results.iter().map(|result| {
        let mut suite = Suite::new(&result.file);
        for played in &result.played {
            suite.judge(&played.name, played.failed.as_ref().map(summary).as_deref());
        }
        for (name, seen) in result.own_rules().filter(|_| args.coverage) {
            let why = format!("matched {} times, passed {} times", seen.matched, seen.passed);
            suite.judge(&format!("coverage of {name}"), (!seen.is_full()).then_some(&why));
        }
        for Mutation { rule, what, place, .. } in &result.survivors {
            suite.judge(&format!("{rule}: {what}"), Some(&format!("no scenario notices ({place})")));
        }
        suite
    });
    let unplayed = broken.iter().map(|Broken { file, faults }| {
        let mut suite = Suite::new(file);
        let why: Vec<String> = faults.iter().map(Fault::headline).collect();
        suite.errors = 1;
        suite.case("the file can be played", Some(("error", &why.join("; "))));
        suite
    });
    let suites: Vec<Suite> = played.chain(unplayed).collect();
    let sum = |of: fn(&Suite) -> usize| suites.iter().map(of).sum::<usize>();
    let (tests, failures, errors) = (sum(|one| one.tests), sum(|one| one.failures), sum(|one| one.errors));
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    out.push_str(&format!("<testsuites tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\">\n"));
    suites.iter().for_each(|suite| suite.write(&mut out));
    out + "</testsuites>\n"
}

fn summary(failed: &Failed) -> String {
    let differences =
        failed.differences.iter().map(|one| format!("{}: expected {}, found {}", one.what, one.expected, one.found));
    format!("step {} ({}): {}", failed.step, failed.place, differences.collect::<Vec<_>>().join("; "))
}

/// Text for an attribute. XML 1.0 knows neither control characters nor U+FFFE and U+FFFF, escaped or not.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ if letter.is_control() => out.push(' '),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::super::Exit;
    use super::super::tests::say;

    const RULES: &str =
        "version = 1\nname = \"shop\"\n[[rule]]\nid = \"tor\"\nwhen = 'client.is_tor'\nthen = \"deny\"\n";
    const GOOD: &str = "[[scenario]]\nname = \"one & <two> \\\"three\\\" 'four' \\u0001\\u007f\\uFFFF \\u00e9\"\n\
        [[scenario.step]]\nclient = \"a\"\nsend = \"GET /\"\nexpect = { action = \"allow\" }\n";
    const HEAD: &str =
        "version = 1\nrules = [\"shop.toml\"]\n[client.a]\nip = \"203.0.113.10\"\nnetwork = \"residential\"\n";

    /// The elements of a document in their order, each with its attributes. Panics at what a strict reader refuses: a tag
    /// that is not closed, an attribute twice or without quotes, a bare `&` or `<`, a character that XML does not have.
    fn read(xml: &str) -> Vec<(String, Vec<(String, String)>)> {
        assert!(xml.chars().all(|c| c == '\n' || (c >= ' ' && !('\u{7f}'..='\u{9f}').contains(&c) && c < '\u{fffe}')));
        let mut rest = xml.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").unwrap();
        let (mut open, mut all) = (Vec::new(), Vec::new());
        while let Some(tag) = rest.trim_start().strip_prefix('<') {
            let (tag, behind) = tag.split_once('>').unwrap();
            assert!(!tag.contains('<'), "{tag}");
            rest = behind;
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name));
                continue;
            }
            let (tag, is_closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
            let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            let mut known: Vec<(String, String)> = Vec::new();
            while !attributes.trim().is_empty() {
                let (key, value) = attributes.trim_start().split_once("=\"").unwrap();
                let (value, more) = value.split_once('"').unwrap();
                assert!(known.iter().all(|(earlier, _)| earlier != key), "{key} twice");
                known.push((key.to_owned(), plain(value)));
                attributes = more;
            }
            all.push((name.to_owned(), known));
            if !is_closed {
                open.push(name.to_owned());
            }
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
        all
    }

    fn plain(value: &str) -> String {
        let mut parts = value.split('&');
        let mut out = parts.next().unwrap().to_owned();
        for part in parts {
            let (name, behind) = part.split_once(';').unwrap();
            let known = [("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"'), ("apos", '\'')];
            out.push(known.iter().find(|(known, _)| *known == name).unwrap().1);
            out += behind;
        }
        out
    }

    /// What another program's parser says, where there is one.
    fn is_well_formed(xml: &str) {
        let script = "import sys, xml.etree.ElementTree as e; e.fromstring(sys.stdin.buffer.read())";
        let python = Command::new("python3").args(["-c", script]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let Ok(mut python) = python else {
            eprintln!("skipped: no python3");
            return;
        };
        python.stdin.take().unwrap().write_all(xml.as_bytes()).unwrap();
        let output = python.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn of<'a>(attributes: &'a [(String, String)], key: &str) -> &'a str {
        attributes.iter().find(|(name, _)| name == key).map_or("-", |(_, value)| value)
    }

    #[test]
    fn ci_is_told_of_every_scenario_in_well_formed_xml() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let bad = "[[scenario]]\nname = \"never\"\n[[scenario.step]]\nclient = \"a\"\nsend = \"GET /x\"\n\
                   expect = { action = \"deny\", rules = [\"shop/tor\"] }\n";
        std::fs::write(file("shop.toml"), RULES).unwrap();
        std::fs::write(file("a.scenarios.toml"), format!("{HEAD}{GOOD}{bad}")).unwrap();
        std::fs::write(
            file("b.scenarios.toml"),
            format!("{HEAD}{}", GOOD.replace("action = \"allow\"", "subject = \"\"")),
        )
        .unwrap();
        std::fs::write(file("c.scenarios.toml"), format!("{HEAD}{}", GOOD.replace("expect", "exepct"))).unwrap();
        let all = folder.path().to_str().unwrap();
        let report = file("report.xml");
        let (exit, _, err) = say(&["test", all, "--coverage", "--mutate", "--junit", &report]);
        assert_eq!(exit, Exit::BadConfiguration, "{err}");
        let xml = std::fs::read_to_string(&report).unwrap();
        is_well_formed(&xml);
        let found = read(&xml);
        let counts: Vec<_> = found
            .iter()
            .filter(|(name, _)| name.starts_with("testsuite"))
            .map(|(_, with)| ["tests", "failures", "errors"].map(|key| of(with, key)).join(" "))
            .collect();
        // Of all; two scenarios and the coverage of a rule; a scenario, coverage, and a comparison; a file with a mistake.
        assert_eq!(counts, ["7 4 1", "3 2 0", "3 2 0", "1 0 1"], "{xml}");
        let cases: Vec<_> = found.iter().filter(|(name, _)| name == "testcase").collect();
        assert_eq!(cases.len(), 7);
        assert_eq!(of(&cases[0].1, "name"), "one & <two> \"three\" 'four'   \u{fffd} \u{e9}");
        assert!(of(&cases[0].1, "classname").ends_with("a.scenarios.toml"));
        let told = |element: &str, holds: &str| {
            found.iter().any(|(name, with)| name == element && of(with, "message").contains(holds))
        };
        assert!(told("failure", "action: expected deny, found allow") && told("failure", "a.scenarios.toml:"), "{xml}");
        assert!(told("failure", "matched 0 times, passed 1 times") && told("failure", "no scenario notices"), "{xml}");
        assert!(told("error", "`exepct` is not a setting"), "{xml}");
    }

    #[test]
    fn the_report_is_written_whatever_came_of_it_and_else_that_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(file("shop.toml"), RULES).unwrap();
        let (scenarios, report) = (file("a.scenarios.toml"), file("report.xml"));
        for (expected, exit, failures) in [("allow", Exit::Done, "0"), ("deny", Exit::Runtime, "1")] {
            std::fs::write(&scenarios, format!("{HEAD}{}", GOOD.replace("allow", expected))).unwrap();
            assert_eq!(say(&["test", &scenarios, "--junit", &report]).0, exit);
            let xml = std::fs::read_to_string(&report).unwrap();
            assert_eq!(of(&read(&xml)[0].1, "failures"), failures, "{xml}");
        }
        let nowhere = file("missing/report.xml");
        let (exit, _, err) = say(&["test", &scenarios, "--junit", &nowhere]);
        assert_eq!(exit, Exit::Runtime);
        assert!(err.starts_with(&format!("portcullis: {nowhere} can not be written: ")), "{err}");
    }
}
