//! House rules that a program can check: who imports whom, no I/O in the inner rows, file lengths, docs that name real files.
//!
//! A rule is a pure function from text to [`Fault`]s. Each has two tests: one runs it over the repository, the other over a
//! made-up offender, so that a rule that has stopped seeing anything is noticed.

mod reading;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use reading::{
    code, code_without_tests, has_word, numbered, paths, slug, starts_a_path, tests_in, words_that_name_files,
};

/// The rows of `src/manual/architecture.md`: a module imports only from rows above its own.
const ROWS: &[&[&str]] = &[
    &["clock", "entropy", "figures", "net"],
    &["secret"],
    &["connection"],
    &["facts"],
    &["fingerprint"],
    &["session"],
    &["store"],
    &["limit", "history"],
    &["signal"],
    &["verdict"],
    &["rules"],
    &["enforce"],
    &["event"],
    &["engine"],
    &["layer"],
    &["proxy"],
    &["delivery"],
    &["admin"],
    &["config"],
    &["rehearsal"],
    &["scenario", "drive"],
    &["simulate"],
    &["manual"],
];

/// Rows (counted from 1) that compute and nothing else.
const PURE_ROWS: &[usize] = &[1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12];

/// What a pure row may not name.
const IO: &[&str] = &[
    "tokio::",
    "std::fs",
    "std::process",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os::unix::net",
    "std::thread::sleep",
];

/// Lines of code in one file, without tests, comments and blank lines.
const CODE_LINES_MAX: usize = 500;

/// Tables that are longer than [`CODE_LINES_MAX`], with their own limit.
const LONG_TABLES: &[(&str, usize)] = &[];

/// Pages whose backticks and links must name things that exist.
const PAGES: &[&str] = &[
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benches/README.md",
    "rules/README.md",
    "contrib/README.md",
];

/// Files that a user of the program has, and the repository has not.
const FILES_OF_USERS: &[&str] = &["portcullis.toml", "keys.toml", "events.jsonl", "access.log", "app.js"];

/// One broken rule, at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    file: String,
    line: usize,
    what: String,
}

/// One text file of the repository.
#[derive(Clone, Debug)]
struct Source {
    /// Path from the root of the repository, with forward slashes.
    path: String,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    fn fault(&self, line: usize, what: impl Into<String>) -> Fault {
        Fault { file: self.path.clone(), line, what: what.into() }
    }

    /// The code without tests; nothing of a file that is all tests.
    fn code(&self) -> String {
        if self.path.ends_with("/tests.rs") { String::new() } else { code_without_tests(&self.text) }
    }

    /// The module directly under `src/`; none for lib.rs, main.rs, the command line and everything outside `src/`.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let first = inside.split('/').next()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (!matches!(name, "lib" | "main" | "cli")).then_some(name)
    }
}

// Rules --------------------------------------------------------------------------------------------------------------

/// A module imports only from rows above its own, never from its own row.
fn imports(source: &Source) -> Vec<Fault> {
    let Some(module) = source.module() else { return Vec::new() };
    let Some(own) = row(module) else {
        return vec![
            source.fault(1, format!("module `{module}` has no row; add it to the table in architecture.md and here")),
        ];
    };
    let mut faults = Vec::new();
    for (line, path) in paths(&source.code()) {
        if climbs_to_root(&source.path, &path) {
            faults.push(source.fault(line, format!("`{path}` leaves the module; write `crate::`")));
            continue;
        }
        let Some(other) = path.strip_prefix("crate::").and_then(|rest| rest.split("::").next()) else { continue };
        if other == module {
            continue;
        }
        match row(other) {
            Some(row) if row < own => {}
            Some(row) => {
                faults.push(source.fault(line, format!("`{module}` (row {own}) imports `{path}` (row {row})")));
            }
            None => faults.push(source.fault(line, format!("`{path}` is in no row; name the module that owns it"))),
        }
    }
    faults
}

/// Rows 1-6 and 8-12 do no I/O and never await.
fn io(source: &Source) -> Vec<Fault> {
    let is_pure = source.module().and_then(row).is_some_and(|row| PURE_ROWS.contains(&row));
    if !is_pure {
        return Vec::new();
    }
    let code = source.code();
    let mut faults = Vec::new();
    for (line, path) in paths(&code) {
        if IO.iter().any(|word| path.starts_with(word) || path == word.trim_end_matches("::")) {
            faults.push(source.fault(line, format!("`{path}` is I/O; this row only computes")));
        }
    }
    for (line, text) in numbered(&code) {
        if text.contains(".await") || text.contains("async fn ") {
            faults.push(source.fault(line, "this row never waits"));
        }
    }
    faults
}

/// A file that does not fit a reader's head is two files.
fn length(source: &Source, tables: &[(&str, usize)]) -> Vec<Fault> {
    let max = tables.iter().find(|(path, _)| *path == source.path).map_or(CODE_LINES_MAX, |(_, max)| *max);
    let lines = source.code().lines().filter(|line| !line.trim().is_empty()).count();
    if lines > max { vec![source.fault(1, format!("{lines} lines of code; {max} is the limit"))] } else { Vec::new() }
}

/// A file opens by saying what it is.
fn opening(source: &Source) -> Vec<Fault> {
    if source.text.starts_with("//! ") {
        Vec::new()
    } else {
        vec![source.fault(1, "a file opens with `//!`: what it is")]
    }
}

/// What no source file may hold.
fn words(source: &Source) -> Vec<Fault> {
    let mut faults = Vec::new();
    let code = code(&source.text);
    for (line, text) in numbered(&code) {
        let packed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        if packed.contains("#[allow(") || packed.contains("#![allow(") {
            faults.push(
                source.fault(line, "write `#[expect(.., reason = \"..\")]`, which fails when it is needed no more"),
            );
        }
        if has_word(text, "todo!") || has_word(text, "unimplemented!") {
            faults.push(source.fault(line, "unfinished code"));
        }
    }
    faults
}

/// What no text file of the repository may hold, code or not.
fn leftovers(source: &Source) -> Vec<Fault> {
    // Put together here, so that this file does not hold them.
    let notes = ["TO", "FIX", "XX"].map(|start| {
        format!(
            "{start}{}",
            if start == "TO" {
                "DO"
            } else if start == "FIX" {
                "ME"
            } else {
                "X"
            }
        )
    });
    let homes = ["home", "root", "Users"].map(|folder| format!("/{folder}/"));
    let mut faults = Vec::new();
    for (line, text) in numbered(&source.text) {
        if let Some(note) = notes.iter().find(|note| has_word(text, note)) {
            faults.push(source.fault(line, format!("`{note}`: do it, or write an issue")));
        }
        if let Some(home) = homes.iter().find(|home| starts_a_path(text, home)) {
            faults.push(source.fault(line, format!("`{home}`: a path of one machine")));
        }
        if text.starts_with("<<<<<<< ") || text.starts_with(">>>>>>> ") {
            faults.push(source.fault(line, "an unfinished merge"));
        }
    }
    faults
}

/// No test is switched off.
fn ignored(source: &Source) -> Vec<Fault> {
    let code = code(&source.text);
    numbered(&code)
        .filter(|(_, code)| code.contains("#[ignore"))
        .map(|(line, _)| source.fault(line, "a test that is never run shows nothing"))
        .collect()
}

/// Every attack in the manual has a test of the same name.
fn attacks(manual: &Source, sources: &[Source]) -> Vec<Fault> {
    let tests: BTreeSet<String> = sources.iter().flat_map(tests_in).collect();
    let mut faults = Vec::new();
    for (line, text) in numbered(&manual.text) {
        let Some(heading) = text.strip_prefix("## ") else { continue };
        let name = slug(heading);
        if !tests.contains(&name) {
            faults.push(manual.fault(line, format!("no test is named `{name}`")));
        }
    }
    faults
}

/// Every file that a page names exists. `exists` gets a path from the root of the repository.
fn named_files(page: &Source, exists: impl Fn(&str) -> bool) -> Vec<Fault> {
    let folder = page.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut faults = Vec::new();
    for (line, word) in words_that_name_files(&page.text) {
        let places = [word.clone(), format!("{folder}/{word}"), format!("src/{word}"), format!("tests/{word}")];
        if !FILES_OF_USERS.contains(&word.as_str()) && !places.iter().any(|place| exists(place.trim_start_matches('/')))
        {
            faults.push(page.fault(line, format!("`{word}` does not exist")));
        }
    }
    faults
}

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module)).map(|index| index + 1)
}

/// Whether `super::` in the code of this file reaches the root of the crate.
fn climbs_to_root(file: &str, path: &str) -> bool {
    let supers = path.split("::").take_while(|part| *part == "super").count();
    let depth = file.trim_start_matches("src/").trim_end_matches("/mod.rs").trim_end_matches(".rs").split('/').count();
    supers >= depth
}

// The repository -----------------------------------------------------------------------------------------------------

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file that belongs to the project.
fn repository() -> Vec<Source> {
    let mut files = Vec::new();
    walk(&root(), &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn walk(folder: &Path, files: &mut Vec<Source>) {
    const NOT_OURS: &[&str] = &[
        "target",
        ".git",
        ".env",
        "node_modules",
        "unpacked",
        "portcullis-data",
        "corpus",
        "artifacts",
        "__pycache__",
        "LICENSE-APACHE",
    ];
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        if NOT_OURS.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            walk(&path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            files.push(Source { path, text });
        }
    }
}

fn rust() -> Vec<Source> {
    repository().into_iter().filter(|source| source.path.ends_with(".rs")).collect()
}

#[track_caller]
fn none(faults: impl IntoIterator<Item = Fault>) {
    let lines: Vec<String> =
        faults.into_iter().map(|Fault { file, line, what }| format!("{file}:{line}: {what}")).collect();
    assert!(lines.is_empty(), "\n{}", lines.join("\n"));
}

/// The rule finds exactly these, as `(line, part of the message)`.
#[track_caller]
fn check(faults: &[Fault], expected: &[(usize, &str)]) {
    let fits = faults.len() == expected.len()
        && faults.iter().zip(expected).all(|(fault, (line, part))| fault.line == *line && fault.what.contains(part));
    assert!(fits, "found {faults:#?}\nexpected {expected:#?}");
}

#[test]
fn modules_import_only_from_rows_above_their_own() {
    none(rust().iter().flat_map(imports));
}

#[test]
fn modules_that_import_downwards_or_sideways_are_found() {
    let facts = |text: &str| imports(&Source::new("src/facts/route.rs", text));
    check(&facts("use crate::net::IpPrefix;\nuse crate::facts::Facts;\nuse super::Facts;\n"), &[]);
    check(&facts("use crate::session::SessionId;\n"), &[(1, "(row 4) imports `crate::session::SessionId` (row 6)")]);
    check(
        &facts("use crate::{net, store::{Store, Found}};"),
        &[(1, "crate::store::Store"), (1, "crate::store::Found")],
    );
    check(&facts("fn f() {\n    crate::engine::run()\n}"), &[(2, "crate::engine::run")]);
    check(&facts("// crate::engine\n/// [`crate::engine`]\nconst A: &str = \"crate::engine\";"), &[]);
    check(&facts("fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::engine::Guard;\n}\n"), &[]);
    check(&facts("#[cfg(test)]\nmod tests {}\nuse crate::engine::Guard;\n"), &[(3, "crate::engine")]);
    check(&facts("use super::super::engine;"), &[(1, "leaves the module")]);
    check(&facts("use crate::unheard_of::Thing;"), &[(1, "in no row")]);
    check(&imports(&Source::new("src/net.rs", "use super::clock;")), &[(1, "leaves the module")]);
    check(&imports(&Source::new("src/net.rs", "use crate::clock::Timestamp;")), &[(1, "(row 1) imports")]);
    check(&imports(&Source::new("src/unheard_of/mod.rs", "")), &[(1, "has no row")]);
    check(&imports(&Source::new("src/main.rs", "use crate::cli;")), &[]);
}

#[test]
fn inner_rows_do_no_io() {
    none(rust().iter().flat_map(io));
}

#[test]
fn io_in_an_inner_row_is_found() {
    let session = |text: &str| io(&Source::new("src/session/id.rs", text));
    check(&session("use std::{fmt, fs::File};\n"), &[(1, "std::fs::File")]);
    check(&session("use std::fs;\n"), &[(1, "std::fs")]);
    check(&session("\nfn f() { tokio::spawn(x) }\n"), &[(2, "tokio::spawn")]);
    check(&session("use std::net::{IpAddr, TcpStream};\n"), &[(1, "std::net::TcpStream")]);
    check(&session("fn f() {\n    x\n        .await\n}\n"), &[(3, "never waits")]);
    check(&session("use std::net::IpAddr;\n// tokio::spawn\n#[cfg(test)]\nmod tests { use std::fs; }\n"), &[]);
    check(&io(&Source::new("src/store/embedded.rs", "use std::fs;")), &[]);
    check(&io(&Source::new("src/session/id/tests.rs", "use std::fs;")), &[]);
}

#[test]
fn files_fit_a_readers_head() {
    let sources = rust();
    none(sources.iter().filter(|source| source.path.starts_with("src/")).flat_map(|it| length(it, LONG_TABLES)));
}

#[test]
fn a_file_of_501_lines_is_found() {
    let long = |lines: usize| Source::new("src/long.rs", &"let a = 1;\n// why\n\n".repeat(lines));
    check(&length(&long(500), &[]), &[]);
    check(&length(&long(501), &[]), &[(1, "501 lines of code; 500 is the limit")]);
    check(&length(&long(501), &[("src/long.rs", 600)]), &[]);
    let tested = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "    let a = 1;\n".repeat(900));
    check(&length(&Source::new("src/tested.rs", &tested), &[]), &[]);
}

#[test]
fn files_open_by_saying_what_they_are() {
    none(rust().iter().flat_map(opening));
}

#[test]
fn a_file_without_an_opening_is_found() {
    check(&opening(&Source::new("src/a.rs", "//! What it is.\n")), &[]);
    check(&opening(&Source::new("src/a.rs", "use std::fmt;\n//! late\n")), &[(1, "opens with")]);
    check(&opening(&Source::new("src/a.rs", "")), &[(1, "opens with")]);
}

#[test]
fn lints_are_expected_with_a_reason_and_code_is_finished() {
    none(rust().iter().flat_map(words));
}

#[test]
fn allowed_lints_and_unfinished_code_are_found() {
    let words = |text: &str| words(&Source::new("src/a.rs", text));
    check(
        &words("#[allow(dead_code)]\n#![allow(unused)]\n# [ allow ( x ) ]\n"),
        &[(1, "expect"), (2, "expect"), (3, "expect")],
    );
    check(
        &words("fn f() {\n    todo!()\n}\nfn g() { unimplemented!(\"x\") }"),
        &[(2, "unfinished"), (4, "unfinished")],
    );
    check(&words("// todo!()\n#[expect(dead_code, reason = \"x\")]\nconst A: &str = \"todo!\";"), &[]);
}

#[test]
fn nothing_is_left_over_from_the_making() {
    none(repository().iter().flat_map(leftovers));
}

#[test]
fn leftovers_are_found() {
    let (note, home) = (["FIX", "ME"].concat(), ["/ho", "me/"].concat());
    let text =
        format!("fine\n// {note}: later\n see {home}someone/x\nhttps://example.com{home}page\n{note}D\n<<<<<<< ours\n");
    check(&leftovers(&Source::new("a.md", &text)), &[(2, "write an issue"), (3, "one machine"), (6, "merge")]);
}

#[test]
fn no_test_is_switched_off() {
    none(rust().iter().flat_map(ignored));
}

#[test]
fn a_test_that_is_switched_off_is_found() {
    let text = "#[test]\n#[ignore = \"slow\"]\nfn f() {}\n// #[ignore]\n";
    check(&ignored(&Source::new("tests/it/a.rs", text)), &[(2, "never run")]);
}

#[test]
fn every_attack_has_a_test_of_its_name() {
    let sources = repository();
    let manual = sources.iter().find(|source| source.path == "src/manual/attacks.md");
    let rust: Vec<Source> = sources.iter().filter(|source| source.path.ends_with(".rs")).cloned().collect();
    none(manual.map_or_else(Vec::new, |manual| attacks(manual, &rust)));
}

#[test]
fn an_attack_without_a_test_is_found() {
    let manual =
        Source::new("src/manual/attacks.md", "# Attacks\n\n## Session fixation\n\n## A stolen cookie, used abroad\n");
    let tested =
        Source::new("tests/it/a.rs", "#[test]\nfn session_fixation() {}\nfn a_stolen_cookie_used_abroad() {}\n");
    check(&attacks(&manual, &[tested]), &[(5, "a_stolen_cookie_used_abroad")]);
    let both = Source::new(
        "src/a.rs",
        "#[tokio::test]\nasync fn session_fixation() {}\n#[test]\nfn a_stolen_cookie_used_abroad() {}\n",
    );
    check(&attacks(&manual, &[both]), &[]);
}

#[test]
fn files_named_in_the_docs_exist() {
    let sources = repository();
    let pages = sources.iter().filter(|source| {
        PAGES.contains(&source.path.as_str())
            || (source.path.starts_with("src/manual/") && source.path.ends_with(".md"))
    });
    none(pages.flat_map(|page| named_files(page, |path| root().join(path).exists())));
}

#[test]
fn a_file_that_is_named_and_missing_is_found() {
    let page = "See `src/gone.rs`, `here.toml` and `tests/it`.\n`application/json` `/admin/x.rs` `rules/*.toml` `a::b.rs`\n\
                ```\n`src/in_a_block.rs`\n```\n[a](gone.md#part) [b](https://example.com/x.md) `portcullis.toml`\n";
    let exists = |path: &str| matches!(path, "docs/here.toml" | "tests/it");
    check(&named_files(&Source::new("docs/a.md", page), exists), &[(1, "src/gone.rs"), (6, "gone.md")]);
}
