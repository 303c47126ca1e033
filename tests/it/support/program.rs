//! The program, run to its end.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// How it ended, and what it said.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs it with these words, in a folder without anything in it, and gives it a text to read.
pub(crate) fn program_reads(words: &[&str], text: &str) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(words).current_dir(folder.path());
    let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // What it does not read, because it ended, is of no use to it.
    drop(program.stdin.take().unwrap().write_all(text.as_bytes()));
    let ended = program.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: ended.status.code(), out: text(ended.stdout), err: text(ended.stderr) }
}
