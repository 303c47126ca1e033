//! `portcullis check`: everything that is wrong with a configuration, at once.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use portcullis::clock::{Clock as _, SystemClock};
use portcullis::config::resolve::{FILE_NAME, Overrides};
use portcullis::config::{Fault, Level, Request, SignedFile, load, read_text};
use portcullis::rules::Pack;
use portcullis::rules::diagnostic::Renderer;
use portcullis::rules::load::{Input, compile};
use toml::de::DeTable;

use super::{CheckArgs, Exit, Format, Streams, rules_files};

pub(super) fn run(args: &CheckArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let mut all = Vec::new();
    for path in &args.paths {
        let file = file(path);
        let Checked { found, signed } = check(&file, args);
        if args.format == Format::Human {
            for SignedFile { path, counter, .. } in signed {
                writeln!(streams.out, "{}: signed, counter {counter}", path.display())?;
            }
            tell(&file, &found, streams)?;
        }
        all.extend(found);
    }
    if args.format == Format::Json {
        let list: Vec<_> = all.iter().map(Fault::to_json).collect();
        writeln!(streams.out, "{:#}", serde_json::Value::from(list))?;
    }
    let bad = all.iter().any(|fault| fault.level == Level::Fault || args.deny_warnings);
    Ok(if bad { Exit::BadConfiguration } else { Exit::Done })
}

/// The file that is meant: of a folder, the configuration in it, unless it is one of rules files.
fn file(path: &Path) -> PathBuf {
    let config = path.join(FILE_NAME);
    let holds_rules =
        || rules_files::at(path).is_ok_and(|files| files.iter().any(|file| is_rules(&file.path, &file.text)));
    if path.is_dir() && (config.is_file() || !holds_rules()) { config } else { path.to_owned() }
}

/// Tables of a configuration, and those of scenarios: what has one is no rules file.
const OTHERS: [&str; 15] = [
    "listen", "client", "upstream", "session", "store", "keys", "login", "logout", "route", "rules", "limits", "geo",
    "events", "admin", "scenario",
];

/// Whether a text is one of rules, by its keys: a configuration may have a name too.
fn is_rules(path: &Path, text: &str) -> bool {
    let (table, _) = DeTable::parse_recoverable(text);
    let has = |key: &str| table.get_ref().contains_key(key);
    let is_named = has("name") && path.file_name().is_none_or(|name| name != FILE_NAME);
    // What has rules is hardly meant for anything else, and is told which of its tables do not belong there.
    if has("rule") || has("tune") {
        return !has("upstream") && !has("scenario");
    }
    (is_named || ["set", "let", "facts"].into_iter().any(has)) && !OTHERS.into_iter().any(has)
}

/// Checks rules by themselves, with all packs in reach of their tunes.
fn check_rules(path: &Path) -> Vec<Fault> {
    let files = match rules_files::at(path) {
        Ok(files) => files,
        Err(why) => return vec![Fault::new(Level::Fault, "", format!("{} can not be read: {why}", path.display()))],
    };
    let now = SystemClock::new().now();
    match compile(&Input { packs: &[Pack::ALL.to_vec()], files: &files, open: &read_text, now }) {
        Ok(compiled) => compiled.warnings,
        Err(faults) => faults.0,
    }
}

/// What came of checking.
struct Checked {
    found: Vec<Fault>,
    signed: Vec<SignedFile>,
}

fn check(file: &Path, args: &CheckArgs) -> Checked {
    if file.is_dir() || read_text(file).is_ok_and(|text| is_rules(file, &text)) {
        return Checked { found: check_rules(file), signed: Vec::new() };
    }
    let overrides = Overrides { upstream: args.upstream.clone(), ..Overrides::default() };
    let request = Request { file: Some(file.to_owned()), preset: args.preset, overrides };
    match load(&request, SystemClock::new().now()).loaded {
        Ok(loaded) => Checked { found: loaded.warnings, signed: loaded.rules.signed().to_vec() },
        Err(faults) => Checked { found: faults.0, signed: Vec::new() },
    }
}

fn tell(file: &Path, found: &[Fault], streams: &mut Streams<'_>) -> io::Result<()> {
    let renderer = if io::stdout().is_terminal() { Renderer::styled() } else { Renderer::plain() };
    for fault in found {
        writeln!(streams.out, "{}\n", fault.render(&renderer))?;
    }
    let count = |level, one: &str| match found.iter().filter(|fault| fault.level == level).count() {
        0 => None,
        1 => Some(format!("1 {one}")),
        n => Some(format!("{n} {one}s")),
    };
    let counts = [count(Level::Fault, "error"), count(Level::Warning, "warning")];
    let counts = counts.into_iter().flatten().collect::<Vec<_>>().join(" and ");
    let counts = if counts.is_empty() { "nothing wrong" } else { &counts };
    writeln!(streams.out, "{}: {counts}", file.display())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::say;
    use super::*;

    const GOOD: &str = "[upstream]\nurl = \"http://127.0.0.1:8000\"\n";

    fn checked(text: &str, more: &[&str]) -> (Exit, String) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE_NAME), text).unwrap();
        let path = folder.path().to_str().unwrap();
        let (exit, out, err) = say(&[["check", path].as_slice(), more].concat());
        assert_eq!(err, "");
        (exit, out.replace(path, "DIR"))
    }

    #[test]
    fn a_good_file_is_good() {
        assert_eq!(checked(GOOD, &[]), (Exit::Done, "DIR/portcullis.toml: nothing wrong\n".to_owned()));
        assert_eq!(checked(GOOD, &["--format", "json", "--deny-warnings"]), (Exit::Done, "[]\n".to_owned()));
        assert_eq!(checked("", &["--upstream", "unix:/x", "--preset", "django"]).0, Exit::Done);
    }

    #[test]
    fn faults_and_warnings_are_told_and_counted() {
        let (exit, out) =
            checked("[session]\nidle = \"2h\"\ngrace = 1\nabsolut = \"1h\"\n[upstream]\nurl = \"x://y\"\n", &[]);
        assert_eq!(exit, Exit::BadConfiguration);
        assert!(out.contains("warning: session.idle: 2h") && out.contains("--> DIR/portcullis.toml:2:8"), "{out}");
        assert!(out.contains("did you mean `absolute`?"), "{out}");
        assert!(out.ends_with("DIR/portcullis.toml: 3 errors and 1 warning\n"), "{out}");
    }

    #[test]
    fn warnings_are_faults_if_denied() {
        let weak = format!("[session]\nidle = \"2h\"\n{GOOD}");
        assert_eq!(checked(&weak, &[]).0, Exit::Done);
        assert_eq!(checked(&weak, &["--deny-warnings"]).0, Exit::BadConfiguration);
    }

    #[test]
    fn scripts_get_a_list() {
        let (exit, out) = checked("[session]\nidel = 1\n", &["--format", "json"]);
        assert_eq!(exit, Exit::BadConfiguration);
        let list: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(list[0]["line"], 2);
        assert_eq!(list[0]["help"], "did you mean `idle`?");
    }

    #[test]
    fn rules_files_are_checked_by_themselves_too() {
        let folder = tempfile::tempdir().unwrap();
        let rule = |name: &str, when: &str| {
            format!("version = 1\nname = \"{name}\"\n[[rule]]\nid = \"a\"\nwhen = '{when}'\nthen = \"deny\"\n")
        };
        let (one, two) = (folder.path().join("one.toml"), folder.path().join("two.toml"));
        fs::write(&one, rule("one", "client.is_tor")).unwrap();
        fs::write(&two, rule("two", "client.is_tot")).unwrap();
        assert_eq!(say(&["check", one.to_str().unwrap()]).0, Exit::Done);
        for path in [two.to_str().unwrap(), folder.path().to_str().unwrap()] {
            let (exit, out, _) = say(&["check", path]);
            assert_eq!(exit, Exit::BadConfiguration);
            assert!(out.contains("there is no field `client.is_tot`") && out.ends_with(": 1 error\n"), "{out}");
        }
    }

    /// Only `[[rule]]` at the beginning of a line told a rules file; others were taken for configurations without an app.
    #[test]
    fn a_rules_file_is_told_by_its_keys() {
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, text: &str, expected: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            let (_, out, _) = say(&["check", path.to_str().unwrap()]);
            let last = out.rsplit_once(": ").map(|(_, last)| last.trim());
            assert_eq!(last, Some(expected), "{text}: {out}");
            fs::remove_file(path).unwrap();
        };
        const HEAD: &str = "version = 1\nname = \"shop\"\n";
        let rules = |more: &str, expected: &str| check("shop.toml", &format!("{HEAD}{more}"), expected);
        rules("", "nothing wrong");
        rules("rule = [{ id = \"a\", when = 'client.is_tor', then = \"deny\" }]", "nothing wrong");
        rules("[let]\nfar = 'client.is_tor'", "1 warning");
        rules("[set]\noffice = [\"192.0.2.0/24\"]", "1 warning");
        rules("[[rule]\nid = \"a\"", "2 errors");
        check("shop.toml", "version = 1\n[let]\nfar = 'client.is_tor'", "1 error");
        check("edge.toml", &format!("{HEAD}[upstream]\nurl = \"http://127.0.0.1:8000\""), "nothing wrong");
        check(FILE_NAME, HEAD, "1 error");
        check("edge.toml", "version = 1", "1 error");
    }

    #[test]
    fn several_files_are_checked_in_one_go() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<String> = ["a.toml", "b.toml", "none.toml"]
            .iter()
            .map(|name| folder.path().join(name).to_str().unwrap().to_owned())
            .collect();
        fs::write(&paths[0], GOOD).unwrap();
        fs::write(&paths[1], "x = 1").unwrap();
        let (exit, out, _) = say(&["check", &paths[0], &paths[1], &paths[2]]);
        assert_eq!(exit, Exit::BadConfiguration);
        assert!(out.contains("a.toml: nothing wrong") && out.contains("b.toml: 1 error\n"), "{out}");
        assert!(out.contains("there is no file") && out.contains("portcullis init"), "{out}");
    }
}
