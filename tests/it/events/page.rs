//! The table of all kinds in the manual, made from the one in the code.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use portcullis::event::Kind;
use portcullis::event::kinds::VOCABULARY_EXTENSIONS;

/// What the table stands behind.
const MARK: &str = "<!-- made from src/event/kinds.rs -->\n";

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
        writeln!(made, "| `{kind}` | {severity} | {what} | {} | {} |", fields.join(", "), words.join(", ")).unwrap();
    }
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap();
    assert!(page == made, "run the tests with PORTCULLIS_BLESS=1");
}
