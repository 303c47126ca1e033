//! The control header: what an app that knows of the guard tells it on an answer.
//!
//! `Portcullis-Session: login; subject="42"`. The header is always taken off before the client sees the answer. One that
//! can not be read is not guessed at: it is reported, and nothing is done.

use std::time::Duration;

use http::HeaderMap;

use crate::session::record::SUBJECT_BYTES_MAX;

/// Name of the control header.
pub const HEADER: &str = "portcullis-session";
/// Most commands on one answer.
pub const COMMANDS_MAX: usize = 4;

/// What the app asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Somebody logged in: a new session id.
    Login {
        /// Who.
        subject: Option<Box<str>>,
    },
    /// He logged out: the session ends.
    Logout,
    /// He was given more rights: a new session id.
    Elevate,
    /// He proved again who he is: a new session id, deadlines begin anew.
    Reauthenticated,
    /// A new session id, for a reason of the app's own.
    Rotate,
    /// Sessions of the same subject end.
    Revoke(Scope),
    /// The session ends after so long, whatever else happens.
    Expire {
        /// How long.
        within: Duration,
    },
}

/// Which sessions of the subject end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All but this one.
    Others,
    /// This one too.
    All,
}

/// A control header could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Not visible ASCII.
    #[error("Portcullis-Session holds bytes outside visible ASCII")]
    NotAscii,
    /// No such command.
    #[error(
        "Portcullis-Session names no known command: login, logout, elevate, reauthenticated, rotate, revoke, expire"
    )]
    UnknownCommand,
    /// A parameter is missing, doubled, unknown to the command or malformed.
    #[error("Portcullis-Session has a parameter that its command does not take or that can not be read")]
    Parameter,
    /// More commands than one answer may carry.
    #[error("Portcullis-Session carries more than {COMMANDS_MAX} commands")]
    TooMany,
}

/// Takes every `Portcullis-*` header off an answer and gives the commands among them.
///
/// # Errors
/// [`ControlError`] when a command can not be read; the headers are gone then too.
pub fn take(headers: &mut HeaderMap) -> Result<Vec<Command>, ControlError> {
    if !headers.keys().any(|name| is_ours(name.as_str())) {
        return Ok(Vec::new());
    }
    let commands = headers.get_all(HEADER).iter().map(|value| parse(value.as_bytes())).take(COMMANDS_MAX + 1).collect();
    let ours: Vec<_> = headers.keys().filter(|name| is_ours(name.as_str())).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
    match commands {
        Ok(commands) => {
            let commands: Vec<Command> = commands;
            if commands.len() > COMMANDS_MAX { Err(ControlError::TooMany) } else { Ok(commands) }
        }
        Err(error) => Err(error),
    }
}

/// Whether a header name belongs to the guard, in either spelling: gateways of apps turn `-` into `_` and back.
pub fn is_ours(name: &str) -> bool {
    let Some(head) = name.as_bytes().first_chunk::<11>() else { return false };
    head.iter()
        .zip(b"portcullis-")
        .all(|(byte, ours)| byte.eq_ignore_ascii_case(ours) || (*ours == b'-' && *byte == b'_'))
}

/// Reads one command with its parameters.
///
/// # Errors
/// [`ControlError`].
pub fn parse(value: &[u8]) -> Result<Command, ControlError> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
    let text = text.ok_or(ControlError::NotAscii)?;
    let (name, rest) = text.split_once(';').map_or((text, ""), |(name, rest)| (name, rest));
    let mut parameters = Parameters::parse(rest)?;
    let command = match name.trim_matches(' ') {
        "login" => Command::Login { subject: parameters.take("subject").map(subject).transpose()? },
        "logout" => Command::Logout,
        "elevate" => Command::Elevate,
        "reauthenticated" => Command::Reauthenticated,
        "rotate" => Command::Rotate,
        "revoke" => Command::Revoke(match parameters.take("scope").as_deref() {
            Some("others") => Scope::Others,
            Some("all") | None => Scope::All,
            Some(_) => return Err(ControlError::Parameter),
        }),
        "expire" => {
            let seconds = parameters.take("in").and_then(|text| text.parse::<u32>().ok());
            Command::Expire { within: Duration::from_secs(seconds.ok_or(ControlError::Parameter)?.into()) }
        }
        _ => return Err(ControlError::UnknownCommand),
    };
    if parameters.0.is_empty() { Ok(command) } else { Err(ControlError::Parameter) }
}

fn subject(text: String) -> Result<Box<str>, ControlError> {
    if text.is_empty() || text.len() > SUBJECT_BYTES_MAX { Err(ControlError::Parameter) } else { Ok(text.into()) }
}

/// Parameters of a command: `name=token` or `name="quoted \" string"`, each name once (as in RFC 9651, which also allows
/// more than is needed here).
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn parse(mut rest: &str) -> Result<Self, ControlError> {
        let mut all: Vec<(String, String)> = Vec::new();
        loop {
            rest = rest.trim_start_matches(' ');
            if rest.is_empty() {
                return Ok(Self(all));
            }
            let (name, after) = rest.split_once('=').ok_or(ControlError::Parameter)?;
            let known = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
            if !known || all.len() >= COMMANDS_MAX || all.iter().any(|(other, _)| other == name) {
                return Err(ControlError::Parameter);
            }
            let (value, after) = Self::value(after)?;
            all.push((name.to_owned(), value));
            rest = match after.trim_start_matches(' ').strip_prefix(';') {
                Some(next) => next,
                None if after.trim_matches(' ').is_empty() => "",
                None => return Err(ControlError::Parameter),
            };
        }
    }

    fn value(text: &str) -> Result<(String, &str), ControlError> {
        let Some(quoted) = text.strip_prefix('"') else {
            let end = text.find([';', ' ']).unwrap_or(text.len());
            let (value, after) = text.split_at_checked(end).ok_or(ControlError::Parameter)?;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@:/+".contains(&byte);
            return if !value.is_empty() && value.bytes().all(plain) {
                Ok((value.to_owned(), after))
            } else {
                Err(ControlError::Parameter)
            };
        };
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => return Ok((value, quoted.get(at + 1..).unwrap_or_default())),
                '\\' => match chars.next() {
                    Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                    _ => return Err(ControlError::Parameter),
                },
                other => value.push(other),
            }
        }
        Err(ControlError::Parameter)
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.swap_remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_command_of_the_manual_is_read() {
        let check = |text: &str, expected: Command| assert_eq!(parse(text.as_bytes()), Ok(expected), "{text}");
        check(r#"login; subject="42""#, Command::Login { subject: Some("42".into()) });
        check(r#"login;subject="a \"b\" \\; c""#, Command::Login { subject: Some(r#"a "b" \; c"#.into()) });
        check("login; subject=alice@example.com", Command::Login { subject: Some("alice@example.com".into()) });
        check("login", Command::Login { subject: None });
        check("logout", Command::Logout);
        check("elevate", Command::Elevate);
        check("reauthenticated", Command::Reauthenticated);
        check("rotate", Command::Rotate);
        check("revoke; scope=others", Command::Revoke(Scope::Others));
        check("revoke", Command::Revoke(Scope::All));
        check("expire; in=1800", Command::Expire { within: Duration::from_secs(1800) });
    }

    #[test]
    fn what_can_not_be_read_does_nothing() {
        let check = |text: &str, expected: ControlError| assert_eq!(parse(text.as_bytes()), Err(expected), "{text}");
        check("", ControlError::UnknownCommand);
        check("Login", ControlError::UnknownCommand);
        check("login logout", ControlError::UnknownCommand);
        check("login; subject", ControlError::Parameter);
        check(r#"login; subject="42"#, ControlError::Parameter);
        check(r#"login; subject="42" x"#, ControlError::Parameter);
        check(r#"login; subject="1"; subject="2""#, ControlError::Parameter);
        check(r#"login; subject="""#, ControlError::Parameter);
        check(&format!("login; subject={}", "a".repeat(257)), ControlError::Parameter);
        check("logout; subject=1", ControlError::Parameter);
        check("revoke; scope=none", ControlError::Parameter);
        check("expire", ControlError::Parameter);
        check("expire; in=-1", ControlError::Parameter);
        check("login; subject=\"\u{fc}\"", ControlError::NotAscii);
        check("login\t", ControlError::NotAscii);
    }

    #[test]
    fn every_header_of_ours_is_taken_off_in_either_spelling() {
        let mut headers = HeaderMap::new();
        headers.append("portcullis-session", "logout".parse().unwrap());
        headers.append("portcullis_session", "login; subject=eve".parse().unwrap());
        headers.append("portcullis-risk", "0".parse().unwrap());
        headers.append("x-portcullis", "stays".parse().unwrap());
        assert_eq!(take(&mut headers), Ok(vec![Command::Logout]));
        assert_eq!(headers.len(), 1);
        headers.append("portcullis-session", "nonsense".parse().unwrap());
        assert_eq!(take(&mut headers), Err(ControlError::UnknownCommand));
        assert_eq!(headers.len(), 1);
        for _ in 0..=COMMANDS_MAX {
            headers.append("portcullis-session", "rotate".parse().unwrap());
        }
        assert_eq!(take(&mut headers), Err(ControlError::TooMany));
    }

    proptest! {
        #[test]
        fn a_quoted_subject_reads_back(subject in "[ -~]{1,60}") {
            let quoted = subject.replace('\\', "\\\\").replace('"', "\\\"");
            let read = parse(format!("login; subject=\"{quoted}\"").as_bytes());
            prop_assert_eq!(read, Ok(Command::Login { subject: Some(subject.into()) }));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            drop(parse(&bytes));
        }
    }
}
