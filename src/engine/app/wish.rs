//! What an app asks of its session beside its data, and what became of that when it answers.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::engine::control::Command;
use crate::session::data::Edits;
use crate::session::record::Lasting;

/// What the app asks for beside its data.
#[derive(Clone, Debug, Default)]
pub(super) struct Wish {
    pub login: Option<Arc<str>>,
    pub new_id: Option<Command>,
    pub logout: bool,
    /// Whose other sessions end, whatever is asked for after it: but not in the name of somebody who is not let in after all.
    pub revoke: Vec<Revoke>,
    /// The data begin anew: they are not those of the session that was there.
    pub begins_anew: bool,
}

/// Somebody whose other sessions end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Revoke {
    pub subject: Arc<str>,
    pub(super) name: Name,
}

/// In whose name sessions are to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// Of whom the session is already.
    Owner,
    /// Of whoever is to be logged in with the answer.
    Login,
}

impl Revoke {
    /// Those that hold though nobody is let in with the answer.
    pub(super) fn of_owners(all: &[Self]) -> Vec<Self> {
        all.iter().filter(|one| one.name == Name::Owner).cloned().collect()
    }
}

/// What became of a handle while the app made its answer.
#[derive(Debug, Default)]
pub(in crate::engine) struct Wishes {
    /// What it asks for, as if it stood in control headers.
    pub commands: Vec<Command>,
    /// Whose other sessions end.
    pub revoke: Vec<Revoke>,
    /// Whether it was logged out.
    pub is_logout: bool,
    /// An expiry was saved before the answer.
    pub was_expiry_saved: bool,
    /// Changes of its data.
    pub edits: Option<Edits>,
    /// The changes are over nothing, and not over what the session had.
    pub begins_anew: bool,
    /// How long it shall last, and its end if it has one.
    pub lasting: Option<(Lasting, Option<Timestamp>)>,
    /// Whether the answer depends on the session.
    pub was_accessed: bool,
}

impl Wishes {
    /// What of them ends something, where nobody is let in.
    pub(in crate::engine) fn endings(&self) -> Self {
        let Self { revoke, is_logout, was_accessed, .. } = self;
        let revoke = Revoke::of_owners(revoke);
        Self { revoke, is_logout: *is_logout, was_accessed: *was_accessed, ..Self::default() }
    }

    /// Whether nothing is to be written.
    pub(in crate::engine) fn is_nothing(&self) -> bool {
        self.edits.is_none()
            && self.lasting.is_none()
            && self.commands.is_empty()
            && self.revoke.is_empty()
            && !self.was_expiry_saved
    }

    /// Whether there is something that only a session can keep.
    pub(in crate::engine) fn needs_session(&self) -> bool {
        self.edits.as_ref().is_some_and(|edits| !edits.is_empty())
    }
}
