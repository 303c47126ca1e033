//! What app and guard tell each other, in headers that no client ever sees or writes.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::engine::control::{self, Command, Scope};
use crate::session::record::SUBJECT_BYTES_MAX;

/// Something can not be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TellError {
    /// The subject does not fit into a header.
    #[error("a subject must be 1 to {SUBJECT_BYTES_MAX} visible ASCII characters")]
    Subject,
}

/// Tells the guard something on an answer: that somebody logged in, logged out, gained rights. The guard takes it off
/// before the client sees the answer. At most [`control::COMMANDS_MAX`] on one answer.
///
/// ```
/// # use portcullis::layer::tell;
/// # use portcullis::engine::control::Command;
/// let mut response = http::Response::new(());
/// tell(response.headers_mut(), &Command::Login { subject: Some("42".into()) })?;
/// assert_eq!(response.headers()["portcullis-session"], "login; subject=\"42\"");
/// # Ok::<(), portcullis::layer::TellError>(())
/// ```
///
/// # Errors
/// [`TellError`]; nothing was told then. A login that can not be told must not be answered as if it had worked.
pub fn tell(headers: &mut HeaderMap, command: &Command) -> Result<(), TellError> {
    let text = match command {
        Command::Login { subject: None } => "login".to_owned(),
        Command::Login { subject: Some(subject) } => format!("login; subject=\"{}\"", quoted(subject)?),
        Command::Logout => "logout".to_owned(),
        Command::Elevate => "elevate".to_owned(),
        Command::Reauthenticated => "reauthenticated".to_owned(),
        Command::Rotate => "rotate".to_owned(),
        Command::Revoke(Scope::Others) => "revoke; scope=others".to_owned(),
        Command::Revoke(Scope::All) => "revoke; scope=all".to_owned(),
        Command::Expire { within } => format!("expire; in={}", within.as_secs().min(u64::from(u32::MAX))),
    };
    let value = HeaderValue::try_from(text).ok().ok_or(TellError::Subject)?;
    headers.append(HeaderName::from_static(control::HEADER), value);
    Ok(())
}

/// Whom a request behind the layer is authenticated for; nobody where the guard is one
/// [without such headers](crate::engine::Guard::without_identity_headers). Of a request that did not come through it, this is what its
/// client says.
pub fn subject(headers: &HeaderMap) -> Option<&str> {
    std::str::from_utf8(headers.get("portcullis-subject")?.as_bytes()).ok()
}

fn quoted(subject: &str) -> Result<String, TellError> {
    let fits = (1..=SUBJECT_BYTES_MAX).contains(&subject.len()) && subject.bytes().all(|b| (0x20..0x7f).contains(&b));
    if fits { Ok(subject.replace('\\', "\\\\").replace('"', "\\\"")) } else { Err(TellError::Subject) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn check(command: &Command) {
        let mut headers = HeaderMap::new();
        tell(&mut headers, command).unwrap();
        assert_eq!(control::take(&mut headers), Ok(vec![command.clone()]));
        assert!(headers.is_empty());
    }

    #[test]
    fn what_is_told_is_understood() {
        check(&Command::Login { subject: None });
        check(&Command::Logout);
        check(&Command::Elevate);
        check(&Command::Reauthenticated);
        check(&Command::Rotate);
        check(&Command::Revoke(Scope::Others));
        check(&Command::Revoke(Scope::All));
        check(&Command::Expire { within: Duration::from_secs(1800) });
    }

    #[test]
    fn a_subject_that_no_header_carries_is_refused() {
        for subject in ["", "a\r\nportcullis-session: logout", "jos\u{e9}", &"x".repeat(SUBJECT_BYTES_MAX + 1)] {
            let mut headers = HeaderMap::new();
            let told = tell(&mut headers, &Command::Login { subject: Some(subject.into()) });
            assert_eq!((told, headers.is_empty()), (Err(TellError::Subject), true), "{subject:?}");
        }
    }

    proptest! {
        #[test]
        fn every_ascii_subject_is_understood(subject in "[ -~]{1,256}") {
            check(&Command::Login { subject: Some(subject.into()) });
        }
    }
}
