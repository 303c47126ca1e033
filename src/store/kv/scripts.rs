//! The scripts, and how their answers are read.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use redis::{Cmd, Value};

use super::link::LinkError;
use crate::session::id::SessionDigest;

/// A script that the server runs in one step.
#[derive(Debug)]
pub(super) struct Script {
    text: &'static str,
    /// What the server calls it: SHA-1 of the text, in hex. It protects nothing.
    name: String,
}

macro_rules! scripts {
    ($($(#[doc = $doc:literal])+ $name:ident = $($file:literal)+;)+) => {
        $($(#[doc = $doc])+ pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!($(include_str!($file)),+)));)+
    };
}

scripts! {
    /// Creates a session.
    CREATE = "common.lua" "create.lua";
    /// Replaces a session.
    COMMIT = "common.lua" "commit.lua";
    /// Gives a session a new id.
    ROTATE = "common.lua" "rotate.lua";
    /// Ends a session.
    REVOKE = "common.lua" "revoke.lua";
    /// Ends the sessions of a subject.
    REVOKE_SUBJECT = "common.lua" "revoke_subject.lua";
    /// Looks sessions up in order.
    LIST = "common.lua" "list.lua";
    /// Removes what is over.
    CLEAR = "common.lua" "clear.lua";
    /// Counts matches of rules.
    COUNT = "count.lua";
    /// Changes numbers that guards share.
    DEBTS = "debts.lua";
    /// Leases of nodes with a cache.
    LEASES = "leases.lua";
}

impl Script {
    fn new(text: &'static str) -> Self {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        Self { text, name: hash.as_ref().iter().flat_map(|byte| hex(*byte)).collect() }
    }

    /// The command that runs it, if the server knows it already.
    pub(super) fn by_name(&self, keys: &[Vec<u8>], args: &[&[u8]]) -> Cmd {
        command("EVALSHA", &self.name, keys, args)
    }

    /// The command that runs it, and lets the server know it.
    pub(super) fn in_full(&self, keys: &[Vec<u8>], args: &[&[u8]]) -> Cmd {
        command("EVAL", self.text, keys, args)
    }
}

/// A byte in two digits.
pub(super) fn hex(byte: u8) -> [char; 2] {
    [byte >> 4, byte & 0xf].map(|half| char::from_digit(half.into(), 16).unwrap_or('0'))
}

fn command(verb: &str, script: &str, keys: &[Vec<u8>], args: &[&[u8]]) -> Cmd {
    let mut command = redis::cmd(verb);
    command.arg(script).arg(keys.len());
    for key in keys {
        command.arg(key.as_slice());
    }
    for arg in args {
        command.arg(*arg);
    }
    command
}

/// What a script answered, read from front to back.
#[derive(Debug)]
pub(super) struct Answer(std::vec::IntoIter<Value>);

impl Answer {
    /// An answer that is a list.
    pub(super) fn list(value: Value) -> Result<Self, LinkError> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            _ => Err(LinkError::Answer),
        }
    }

    /// The next text or bytes.
    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, LinkError> {
        match self.0.next() {
            Some(Value::BulkString(bytes)) => Ok(bytes),
            _ => Err(LinkError::Answer),
        }
    }

    /// The next number.
    pub(super) fn number(&mut self) -> Result<u32, LinkError> {
        match self.0.next() {
            Some(Value::Int(number)) => u32::try_from(number).ok().ok_or(LinkError::Answer),
            _ => Err(LinkError::Answer),
        }
    }

    /// The next number that counts milliseconds.
    pub(super) fn millis(&mut self) -> Result<u64, LinkError> {
        match self.0.next() {
            Some(Value::Int(number)) => u64::try_from(number).ok().ok_or(LinkError::Answer),
            _ => Err(LinkError::Answer),
        }
    }

    /// Whether all was read.
    pub(super) fn is_read(&self) -> bool {
        self.0.len() == 0
    }

    /// All further pairs of a digest and what is stored under it.
    pub(super) fn sessions(mut self) -> Result<Vec<(SessionDigest, Vec<u8>)>, LinkError> {
        let mut sessions = Vec::with_capacity(self.0.len() / 2);
        while self.0.len() > 0 {
            sessions.push((digest_of(&self.bytes()?)?, self.bytes()?));
        }
        Ok(sessions)
    }
}

/// A digest as it stands in an answer.
pub(super) fn digest_of(bytes: &[u8]) -> Result<SessionDigest, LinkError> {
    bytes.try_into().ok().map(SessionDigest).ok_or(LinkError::Answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_called_by_its_sha1() {
        let script = Script::new("return 1");
        assert_eq!(script.name, "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        let packed = script.by_name(&[b"key".to_vec()], &[b"a", b""]).get_packed_command();
        let expected =
            format!("*5\r\n$7\r\nEVALSHA\r\n$40\r\n{}\r\n$1\r\n1\r\n$3\r\nkey\r\n$1\r\na\r\n$0\r\n\r\n", script.name);
        assert_eq!(packed, expected.replacen("*5", "*6", 1).as_bytes());
    }

    #[test]
    fn an_answer_of_another_kind_is_refused() {
        assert!(Answer::list(Value::Int(1)).is_err());
        let answer = |values: Vec<Value>| Answer::list(Value::Array(values)).unwrap();
        assert!(answer(vec![Value::Nil]).bytes().is_err());
        assert!(answer(vec![Value::Int(-1)]).number().is_err());
        assert!(answer(vec![]).bytes().is_err());
        let text = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        assert!(answer(vec![text(&[1; 32])]).sessions().is_err(), "a digest without a value");
        assert!(answer(vec![text(&[1; 31]), text(b"")]).sessions().is_err(), "no digest");
        assert_eq!(
            answer(vec![text(&[1; 32]), text(b"x")]).sessions().unwrap(),
            [(SessionDigest([1; 32]), b"x".to_vec())]
        );
    }
}
