//! Pages of sessions, in the order of their digests.

use std::sync::Arc;

use super::RedisStore;
use super::link::Again;
use super::scripts::{Answer, LIST, digest_of};
use super::{head, set};
use crate::session::id::SessionDigest;
use crate::session::record::Record;
use crate::store::table::{matches, paged};
use crate::store::{Filter, PAGE_MAX, Page, StoreError};

/// Sets of the server to look into, and what the members in question begin with.
type Sources = Vec<(&'static str, Vec<u8>)>;

impl RedisStore {
    pub(super) async fn page(
        &self,
        filter: &Filter,
        after: Option<SessionDigest>,
        max: usize,
    ) -> Result<Page, StoreError> {
        let max = max.clamp(1, PAGE_MAX);
        let sources = self.sources(filter);
        let (mut found, mut after) = (Vec::new(), after);
        // One more than asked tells whether there is another page.
        while found.len() <= max {
            let (records, reached) = self.look(&sources, after, max.saturating_add(1), filter.with_ended).await?;
            found.extend(records.into_iter().filter(|record| matches(filter, record)));
            match reached {
                Some(digest) => after = Some(digest),
                None => break,
            }
        }
        Ok(paged(found, max))
    }

    /// Where to look: what is named by a subject or a reference is read as it is at one moment, for one script reads it all.
    fn sources(&self, filter: &Filter) -> Sources {
        if let Some(reference) = filter.reference {
            return vec![(set::REFERENCES, reference.0.to_vec())];
        }
        let Some(subject) = &filter.subject else { return vec![(set::DIGESTS, Vec::new())] };
        let mut sources = Sources::new();
        for name in self.rows.names(subject) {
            sources.push((set::SUBJECTS, name.0.to_vec()));
            if filter.with_ended {
                sources.push((set::ENDED, name.0.to_vec()));
            }
        }
        sources
    }

    /// Records that can be read, in order, and up to where these are all; none if there are no more.
    async fn look(
        &self,
        sources: &Sources,
        after: Option<SessionDigest>,
        most: usize,
        with_ended: bool,
    ) -> Result<(Vec<Arc<Record>>, Option<SessionDigest>), StoreError> {
        let most = most.to_string();
        let after = after.map_or_else(Vec::new, |digest| digest.0.to_vec());
        let ended: &[u8] = if with_ended { b"1" } else { b"0" };
        let mut args: Vec<&[u8]> = vec![&self.names.stem, &self.names.channel, &after, most.as_bytes(), ended];
        for (set, prefix) in sources {
            args.extend([set.as_bytes(), prefix.as_slice()]);
        }
        let mut answer = Answer::list(self.link.run(&LIST, &self.names.sets, &args, Again::May).await?)?;
        let reached = answer.bytes()?;
        let reached = if reached.is_empty() { None } else { Some(digest_of(&reached)?) };
        let mut sessions = answer.sessions()?;
        sessions.retain(|(digest, _)| reached.is_none_or(|reached| *digest <= reached));
        sessions.sort_unstable_by_key(|(digest, _)| *digest);
        let records = sessions.into_iter().filter(|(_, stored)| !stored.is_empty());
        // What can not be read is nobody's any more, and must not hide the others.
        Ok((records.filter_map(|(digest, stored)| head::read(&self.rows, &digest, stored).ok()).collect(), reached))
    }
}
