//! The table of all kinds in the manual, made from the one in the code.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use portcullis::event::Kind;
use portcullis::event::kinds::VOCABULARY_EXTENSIONS;

/// What the table stands behind.
const MARK: &str = "<!-- made from src/event/kinds.rs -->\n";

/// The program without its tests and without what only lists kinds: who builds an event there tells it.
fn tellers() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        const LISTS: [&str; 5] =
            ["event/encode", "event/kinds.rs", "event/mod.rs", "event/decode.rs", "event/queue_tests.rs"];
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut text = String::new();
        let mut folders = vec![src.clone()];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                let name = path.strip_prefix(&src).unwrap().to_str().unwrap();
                if LISTS.contains(&name) || name.ends_with("tests.rs") {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else if name.ends_with(".rs") {
                    let code = fs::read_to_string(&path).unwrap();
                    text += code.split("\nmod tests {").next().unwrap();
                }
            }
        }
        text
    })
}

/// Whether something in the program tells events of this kind.
fn is_told(kind: Kind) -> bool {
    tellers().contains(&format!("{kind:?} {{"))
}

/// What nothing tells can wake nobody and ban nobody.
#[test]
fn files_for_other_programs_wait_for_nothing_that_is_never_told() {
    let contrib = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib");
    let mut folders = vec![contrib];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap().replace('\\', "");
            let dead = Kind::ALL.iter().filter(|kind| !is_told(**kind) && text.contains(kind.as_str()));
            found.extend(dead.map(|kind| format!("{}: {kind}", path.display())));
        }
    }
    assert_eq!(found, [] as [String; 0]);
}

#[test]
fn the_table_of_kinds_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/manual/events.md");
    let page = fs::read_to_string(&path).unwrap();
    let (head, _) = page.split_once(MARK).expect("the mark of the table");
    let mut made = format!(
        "{head}{MARK}\n| Event | Severity | What happened | Its own fields | OWASP vocabulary |\n|---|---|---|---|---|\n"
    );
    for kind in Kind::ALL {
        let meta = kind.meta();
        let fields: Vec<String> = meta.fields.iter().map(|(name, _)| format!("`{name}`")).collect();
        let word = |word: &&str| {
            let mark = if VOCABULARY_EXTENSIONS.contains(word) { "*" } else { "" };
            format!("{word}{mark}")
        };
        let words: Vec<String> = meta.vocabulary.iter().map(word).collect();
        let (severity, what) = (meta.severity, meta.doc);
        let what = if is_told(*kind) { what.to_owned() } else { format!("{what} Not told by this version.") };
        writeln!(made, "| `{kind}` | {severity} | {what} | {} | {} |", fields.join(", "), words.join(", ")).unwrap();
    }
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap();
    assert!(page == made, "run the tests with PORTCULLIS_BLESS=1");
}
