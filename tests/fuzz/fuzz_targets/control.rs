//! The control header of an app: what is read means one thing, and no header of ours ever goes on to the client. Each
//! line of the input is a command, and all of them together are the headers of an answer.
#![no_main]

use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use portcullis::engine::control::{COMMANDS_MAX, Command, Scope, is_ours, parse, take};
use portcullis::session::record::SUBJECT_BYTES_MAX;
use portcullis_fuzz::{headers, headers_named, lines};

fuzz_target!(|input: &[u8]| {
    let read: Vec<_> = lines(input).map(parse).collect();
    for command in read.iter().flatten() {
        if let Command::Login { subject: Some(subject) } = command {
            assert!((1..=SUBJECT_BYTES_MAX).contains(&subject.len()));
        }
        assert_eq!(parse(written(command).as_bytes()).as_ref(), Ok(command));
    }

    let mut answer = headers_named("portcullis-session", input);
    if let Ok(commands) = take(&mut answer) {
        let expected: Vec<_> = read.into_iter().flatten().collect();
        assert!(commands.len() <= COMMANDS_MAX && expected.ends_with(&commands));
    }
    assert!(answer.is_empty());

    let before = headers(input);
    let mut answer = before.clone();
    let result = take(&mut answer);
    assert!(answer.keys().all(|name| !is_ours(name.as_str())));
    let mut others = HeaderMap::new();
    before.iter().filter(|(name, _)| !is_ours(name.as_str())).for_each(|(name, value)| {
        others.append(name, value.clone());
    });
    assert_eq!(answer, others, "the app's own headers stay");
    assert!(before.contains_key("portcullis-session") || result == Ok(Vec::new()));
});

fn written(command: &Command) -> String {
    match command {
        Command::Login { subject: None } => "login".to_owned(),
        Command::Login { subject: Some(subject) } => {
            format!("login; subject=\"{}\"", subject.replace('\\', "\\\\").replace('"', "\\\""))
        }
        Command::Logout => "logout".to_owned(),
        Command::Elevate => "elevate".to_owned(),
        Command::Reauthenticated => "reauthenticated".to_owned(),
        Command::Rotate => "rotate".to_owned(),
        Command::Revoke(Scope::Others) => "revoke; scope=others".to_owned(),
        Command::Revoke(Scope::All) => "revoke; scope=all".to_owned(),
        Command::Expire { within } => format!("expire; in={}", within.as_secs()),
    }
}
