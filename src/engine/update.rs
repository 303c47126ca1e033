//! Writing what an answer changed into its session.

use super::change::removable_at;
use super::cookies::Taken;
use super::recognise::{Draft, edit};
use super::settle::{Outcome, Unsettled};
use super::{Admission, Guard, Known, WRITERS_MAX};
use crate::event::kinds as event;
use crate::session::data::Edits;
use crate::session::expiry::is_renewed;
use crate::session::id::SessionId;
use crate::session::record::{EndReason, Record};
use crate::store::{Commit, Durability, Store, StoreError};

/// What became of a session that an answer was written into.
pub(super) enum Updated {
    /// It goes on.
    Kept,
    /// Nothing was left in it, and it has ended.
    Emptied,
}

impl<S: Store> Guard<S> {
    /// Writes what an answer changed in its session, over whatever others wrote meanwhile.
    pub(super) async fn update(
        &self,
        admission: &Admission,
        outcome: &Outcome,
        taken: &Taken,
        known: &Known,
    ) -> Result<Updated, Unsettled> {
        if taken.is_nothing() && outcome.ends_at.is_none() && outcome.app.is_nothing() {
            return Ok(Updated::Kept);
        }
        let mut stored = known.record.clone();
        for _ in 0..WRITERS_MAX {
            let mut draft: Draft = None;
            if outcome.app.edits.is_some() || outcome.app.lasting.is_some() {
                let writable = self.writable(&admission.policy, &known.record, stored).await?;
                stored = writable.ok_or(Unsettled::Ended)?;
            }
            self.update_data(outcome, (&known.id, &stored), &mut draft)?;
            self.update_jar(admission, taken, (&known.id, &stored), &mut draft)?;
            if let Some(bound) = self.bound_after(&stored, taken, admission.now) {
                edit(&mut draft, &stored, Durability::Durable).bound = bound;
            }
            if let Some(ends_at) = outcome.ends_at {
                edit(&mut draft, &stored, Durability::Durable).ends_at = Some(ends_at);
            }
            let is_emptied = outcome.app.edits.is_some() && draft.as_ref().map_or(&*stored, |(new, _)| new).is_bare();
            if is_emptied {
                // Over at once: whoever writes into it meanwhile finds that it has ended.
                edit(&mut draft, &stored, Durability::Durable).ends_at = Some(admission.now);
            }
            let Some((mut record, durability)) = draft else { return Ok(Updated::Kept) };
            record.removable_at = removable_at(&record, &admission.policy);
            match self.store.commit(*record, durability).await? {
                Commit::Done(_) if is_emptied => {
                    self.end_emptied(admission, known).await?;
                    return Ok(Updated::Emptied);
                }
                Commit::Done(record) => {
                    if is_renewed(&stored, &record, &admission.policy.session.deadlines) {
                        self.tell_about(admission, &record, event::SessionRenewed {});
                    }
                    if let Some(app) = &admission.app {
                        app.found(record);
                    }
                    return Ok(Updated::Kept);
                }
                Commit::Conflict(current) => stored = current,
                // The session ended, or goes on under another id: what this answer set belongs to nobody now.
                Commit::Gone if outcome.app.edits.is_some() => return Err(Unsettled::Ended),
                Commit::Gone => return Ok(Updated::Kept),
            }
        }
        Err(StoreError::io("a session changed too often while an answer was written into it").into())
    }

    /// Writes what an app in this process changed into a draft of its session.
    fn update_data(
        &self,
        outcome: &Outcome,
        (id, stored): (&SessionId, &Record),
        draft: &mut Draft,
    ) -> Result<(), Unsettled> {
        let wishes = &outcome.app;
        if wishes.edits.as_ref().is_some_and(Edits::is_modified) {
            let data = self.data_under(id, Some((id, stored)), wishes)?;
            edit(draft, stored, Durability::Durable).data = data;
        }
        if wishes.lasting.is_some_and(|lasting| lasting != (stored.lasting, stored.ends_at)) {
            edit(draft, stored, Durability::Durable).take_lasting(wishes);
        }
        Ok(())
    }

    /// Makes a tombstone of a session that nothing is left in, and that was ended when the last of it went.
    async fn end_emptied(&self, admission: &Admission, known: &Known) -> Result<(), StoreError> {
        let ending = self.ending(&admission.policy, EndReason::Expired, admission.now);
        if self.store.revoke(&known.digest, ending).await?.is_some() {
            self.streams.end(&known.digest);
        }
        Ok(())
    }
}
