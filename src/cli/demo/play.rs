//! The play: every act on the app alone, then on the guarded app, judged by what the client saw.

use std::time::Duration;

use http::StatusCode;
use portcullis::clock::ManualClock;
use portcullis::entropy::{Entropy, EntropyError};
use portcullis::event::Kind;

use super::attacks::Act;
use super::client::{Browser, ClientError, Looks, Page, Site};
use super::page;
use super::users::{User, Users};

/// An act could not be played: something went wrong that is neither an attack nor its failure.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlayError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    #[error("{step}: the answer was {status}")]
    Unexpected { step: &'static str, status: StatusCode },
    #[error("the sample app has no user for this")]
    NoUser,
}

/// How an act ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Who acted got what he wanted.
    Worked(String),
    /// He did not.
    Stopped(String),
}

/// What a client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The account.
    Account,
    /// Anything else.
    Other,
}

/// Where an act is played.
pub(super) struct Stage<'a> {
    pub(super) site: &'a Site,
    pub(super) clock: &'a ManualClock,
    pub(super) users: &'a Users,
    pub(super) entropy: &'a dyn Entropy,
}

/// An act and how it ended on both stages.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) act: Act,
    pub(super) without: Result<Outcome, PlayError>,
    pub(super) with: Result<Outcome, PlayError>,
    /// What the guard reported meanwhile.
    pub(super) events: Vec<Reported>,
}

/// An event as the guard wrote it.
#[derive(Clone, Debug)]
pub(super) struct Reported {
    pub(super) kind: Kind,
    pub(super) line: String,
}

/// Whether a row, or all of them, ended as they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    AsExpected,
    NotAsExpected,
}

impl Row {
    /// An attack must have worked on the app alone and failed on the guarded one. Ordinary use must have worked on both.
    pub(super) fn verdict(&self) -> Verdict {
        match (self.act, &self.without, &self.with) {
            (Act::OrdinaryVisit, Ok(Outcome::Worked(_)), Ok(Outcome::Worked(_))) => Verdict::AsExpected,
            (Act::OrdinaryVisit, _, _) => Verdict::NotAsExpected,
            (_, Ok(Outcome::Worked(_)), Ok(Outcome::Stopped(_))) => Verdict::AsExpected,
            _ => Verdict::NotAsExpected,
        }
    }
}

impl Verdict {
    /// Of all rows. No row at all proves nothing.
    pub(super) fn of(rows: &[Row]) -> Self {
        if !rows.is_empty() && rows.iter().all(|row| row.verdict() == Self::AsExpected) {
            Self::AsExpected
        } else {
            Self::NotAsExpected
        }
    }
}

impl Stage<'_> {
    /// The one whose account it is about.
    pub(super) fn owner(&self) -> Result<&User, PlayError> {
        self.users.find("alice").ok_or(PlayError::NoUser)
    }

    /// Lets time pass for the guard. The app alone knows no time.
    pub(super) fn wait(&self, span: Duration) {
        self.clock.advance(span);
    }

    /// Opens the login page and sends the form.
    pub(super) async fn log_in(&self, browser: &mut Browser, password: &str) -> Result<Page, PlayError> {
        browser.get(self.site, "/login").await?;
        let form = [("user", self.owner()?.name), ("password", password)];
        Ok(browser.post(self.site, "/login", &form).await?)
    }

    /// The owner, logged in: an act that can not get so far is not played.
    pub(super) async fn owner_logged_in(&self, looks: Looks) -> Result<Browser, PlayError> {
        let mut owner = Browser::new(looks);
        self.must_log_in(&mut owner).await?;
        Ok(owner)
    }

    /// Logs the owner in on this browser.
    pub(super) async fn must_log_in(&self, owner: &mut Browser) -> Result<(), PlayError> {
        let page = self.log_in(owner, &self.owner()?.password).await?;
        if page.location() != Some("/account") {
            return Err(PlayError::Unexpected { step: "the owner logs in", status: page.status });
        }
        let page = owner.get(self.site, "/account").await?;
        match self.seen(&page) {
            Seen::Account => Ok(()),
            Seen::Other => Err(PlayError::Unexpected { step: "the owner opens the account", status: page.status }),
        }
    }

    /// What a browser sees of the owner's account now.
    pub(super) async fn look(&self, browser: &mut Browser) -> Result<Seen, PlayError> {
        Ok(self.seen(&browser.get(self.site, "/account").await?))
    }

    /// Whether a page shows the owner's account.
    pub(super) fn seen(&self, page: &Page) -> Seen {
        let heading = self.owner().map(|owner| page::account_heading(owner.name));
        match heading {
            Ok(heading) if page.text.contains(&heading) => Seen::Account,
            _ => Seen::Other,
        }
    }

    /// Tries at once, after the grace, and after a minute.
    pub(super) async fn persist(&self, thief: &mut Browser) -> Result<Seen, PlayError> {
        for pause in [0, 20, 40] {
            self.wait(Duration::from_secs(pause));
            if self.look(thief).await? == Seen::Account {
                return Ok(Seen::Account);
            }
        }
        Ok(Seen::Other)
    }
}
