//! The acts. Each is a sequence of requests over loopback, and what counts is what the client got in the end.
//!
//! An attack also counts as one that worked if it keeps the owner out.

use std::time::Duration;

use http::StatusCode;
use portcullis::entropy::random;

use super::app;
use super::client::{Browser, Looks};
use super::guarded::{ABSOLUTE, IDLE};
use super::play::{Outcome, PlayError, Seen, Stage};

/// What is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    OrdinaryVisit,
    FixationOwnId,
    FixationInventedId,
    ReadByScript,
    StolenElsewhere,
    StolenSameBrowser,
    ThiefBesideOwner,
    FromBeforeLogin,
    AfterLogout,
    LeftAlone,
    KeptAlive,
    GuessingOneAddress,
    GuessingManyAddresses,
}

impl Act {
    /// In the order of the table. Guessing comes last: it leaves a throttled login behind.
    pub(super) const ALL: [Self; 13] = [
        Self::OrdinaryVisit,
        Self::FixationOwnId,
        Self::FixationInventedId,
        Self::ReadByScript,
        Self::StolenElsewhere,
        Self::StolenSameBrowser,
        Self::ThiefBesideOwner,
        Self::FromBeforeLogin,
        Self::AfterLogout,
        Self::LeftAlone,
        Self::KeptAlive,
        Self::GuessingOneAddress,
        Self::GuessingManyAddresses,
    ];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::OrdinaryVisit => "ordinary visit",
            Self::FixationOwnId => "fixation: an id the site gave the attacker",
            Self::FixationInventedId => "fixation: an id the attacker made up",
            Self::ReadByScript => "cookie sent away by a script on the page",
            Self::StolenElsewhere => "stolen cookie, another machine",
            Self::StolenSameBrowser => "stolen cookie, another country, same browser",
            Self::ThiefBesideOwner => "thief beside the owner, same machine (fork)",
            Self::FromBeforeLogin => "retired cookie, from before a new login",
            Self::AfterLogout => "retired cookie, after logout",
            Self::LeftAlone => "session left alone (idle end)",
            Self::KeptAlive => "session kept alive for ever (absolute end)",
            Self::GuessingOneAddress => "login flood, one address",
            Self::GuessingManyAddresses => "login flood, 250 addresses",
        }
    }

    pub(super) async fn play(self, stage: &Stage<'_>) -> Result<Outcome, PlayError> {
        // Nothing of one act lives on in the next: limits have recovered and sessions are over.
        stage.wait(Duration::from_secs(3600));
        match self {
            Self::OrdinaryVisit => ordinary_visit(stage).await,
            Self::FixationOwnId => fixation(stage, Planted::OwnId).await,
            Self::FixationInventedId => fixation(stage, Planted::InventedId).await,
            Self::ReadByScript => read_by_script(stage).await,
            Self::StolenElsewhere => stolen(stage, elsewhere()).await,
            Self::StolenSameBrowser => stolen(stage, Looks { agent: FIREFOX, language: GERMAN, ..elsewhere() }).await,
            Self::ThiefBesideOwner => beside_the_owner(stage).await,
            Self::FromBeforeLogin => retired(stage, Retired::ByLogin).await,
            Self::AfterLogout => retired(stage, Retired::ByLogout).await,
            Self::LeftAlone => left_alone(stage).await,
            Self::KeptAlive => kept_alive(stage).await,
            Self::GuessingOneAddress => super::guessing::flood(stage, 1).await,
            Self::GuessingManyAddresses => super::guessing::flood(stage, 250).await,
        }
    }
}

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0";
const CHROME: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";
const GERMAN: &str = "de,en;q=0.7";

/// The owner's browser at home.
pub(super) fn home() -> Looks {
    Looks { address: "203.0.113.10".to_owned(), agent: FIREFOX, language: GERMAN }
}

/// The same browser on a phone's network.
fn on_the_road() -> Looks {
    Looks { address: "192.0.2.71".to_owned(), ..home() }
}

/// Another browser on another machine, far away.
pub(super) fn elsewhere() -> Looks {
    Looks { address: "198.51.100.7".to_owned(), agent: CHROME, language: "en-US,en;q=0.9" }
}

fn worked(how: impl Into<String>) -> Result<Outcome, PlayError> {
    Ok(Outcome::Worked(how.into()))
}

fn stopped(how: impl Into<String>) -> Result<Outcome, PlayError> {
    Ok(Outcome::Stopped(how.into()))
}

/// Logs in, reads for a while, changes the network, opens a page of three parts, changes the password, logs out.
async fn ordinary_visit(stage: &Stage<'_>) -> Result<Outcome, PlayError> {
    let mut visitor = Browser::new(home());
    visitor.get(stage.site, "/").await?;
    stage.must_log_in(&mut visitor).await?;
    for looks in [home(), on_the_road(), home()] {
        visitor.looks = looks;
        for _ in 0..4 {
            stage.wait(Duration::from_secs(10));
            if stage.look(&mut visitor).await? != Seen::Account {
                return stopped("the visitor was thrown out while reading");
            }
        }
    }
    stage.wait(Duration::from_secs(20));
    let pages = visitor.get_three(stage.site, "/account").await?;
    if pages.iter().any(|page| stage.seen(page) != Seen::Account) {
        return stopped("one of three requests at once failed");
    }
    let password = &stage.owner()?.password;
    if visitor.post(stage.site, "/password", &[("new", password)]).await?.status != StatusCode::OK {
        return stopped("the visitor could not change the password");
    }
    visitor.post(stage.site, "/logout", &[]).await?;
    match stage.look(&mut visitor).await? {
        Seen::Account => stopped("the visitor could not log out"),
        Seen::Other => worked("logged in, read 15 pages on two networks, changed the password, logged out"),
    }
}

/// What an attacker puts into the browser of somebody who has not logged in yet.
#[derive(Clone, Copy)]
enum Planted {
    OwnId,
    InventedId,
}

/// Both sat at the same machine with the same browser: only the id can tell them apart.
async fn fixation(stage: &Stage<'_>, planted: Planted) -> Result<Outcome, PlayError> {
    let mut attacker = Browser::new(home());
    match planted {
        Planted::OwnId => drop(attacker.get(stage.site, "/").await?),
        Planted::InventedId => {
            let bytes: [u8; 8] = random(stage.entropy)?;
            attacker.plant(app::COOKIE, &format!("mallory{:016x}", u64::from_be_bytes(bytes)));
        }
    }
    let mut victim = Browser::new(home());
    victim.copy_jar(&attacker);
    stage.must_log_in(&mut victim).await?;
    match stage.persist(&mut attacker).await? {
        Seen::Account => worked("the attacker reads the victim's account with the id he planted"),
        Seen::Other => aftermath(stage, victim, attacker).await,
    }
}

/// A script on the page sends away what it can read; the attacker shows it from the same machine.
async fn read_by_script(stage: &Stage<'_>) -> Result<Outcome, PlayError> {
    let owner = stage.owner_logged_in(home()).await?;
    let mut thief = Browser::new(home());
    thief.copy_readable(&owner);
    match stage.persist(&mut thief).await? {
        Seen::Account => worked("the script's cookie opens the account"),
        Seen::Other => aftermath(stage, owner, thief).await,
    }
}

async fn stolen(stage: &Stage<'_>, looks: Looks) -> Result<Outcome, PlayError> {
    let owner = stage.owner_logged_in(home()).await?;
    let mut thief = Browser::new(looks);
    thief.copy_jar(&owner);
    match stage.persist(&mut thief).await? {
        Seen::Account => worked("the copied cookie opens the account"),
        Seen::Other => aftermath(stage, owner, thief).await,
    }
}

/// Two jars with one cookie, on one machine, in one browser: they differ in nothing but that there are two.
///
/// No guard can know at the thief's first request. It must know soon, and keep him out.
async fn beside_the_owner(stage: &Stage<'_>) -> Result<Outcome, PlayError> {
    const ROUNDS: u64 = 12;
    const PAUSE: Duration = Duration::from_secs(10);
    let mut owner = stage.owner_logged_in(home()).await?;
    let mut thief = Browser::new(home());
    thief.copy_jar(&owner);
    for round in 1..=ROUNDS {
        stage.wait(PAUSE);
        if stage.look(&mut owner).await? != Seen::Account {
            // A person who is asked to log in does so.
            stage.must_log_in(&mut owner).await?;
        }
        stage.wait(PAUSE);
        if stage.look(&mut thief).await? != Seen::Account {
            let seconds = round * 2 * PAUSE.as_secs();
            return Ok(match aftermath(stage, owner, thief).await? {
                Outcome::Stopped(then) => Outcome::Stopped(format!(
                    "found out at the thief's request {round}, after {seconds} s; then {then}"
                )),
                harm @ Outcome::Worked(_) => harm,
            });
        }
    }
    worked(format!("the thief goes in and out beside the owner, {ROUNDS} times so far"))
}

#[derive(Clone, Copy)]
enum Retired {
    ByLogin,
    ByLogout,
}

/// Somebody kept a copy of a cookie that has had its time, and shows it on the same machine with the same browser.
async fn retired(stage: &Stage<'_>, how: Retired) -> Result<Outcome, PlayError> {
    let mut owner = stage.owner_logged_in(home()).await?;
    let mut thief = Browser::new(home());
    thief.copy_jar(&owner);
    match how {
        Retired::ByLogin => stage.must_log_in(&mut owner).await?,
        Retired::ByLogout => drop(owner.post(stage.site, "/logout", &[]).await?),
    }
    match (stage.persist(&mut thief).await?, how) {
        (Seen::Account, Retired::ByLogin) => worked("the copy from before opens the account"),
        (Seen::Account, Retired::ByLogout) => worked("the account is open after the logout"),
        (Seen::Other, _) => aftermath(stage, owner, thief).await,
    }
}

/// The owner walks away from a shared machine; someone else sits down at the same browser.
async fn left_alone(stage: &Stage<'_>) -> Result<Outcome, PlayError> {
    let mut browser = stage.owner_logged_in(home()).await?;
    stage.wait(IDLE + Duration::from_secs(30));
    match stage.look(&mut browser).await? {
        Seen::Account => worked("the account is still open"),
        Seen::Other => stopped(format!("over after {} s without use", IDLE.as_secs())),
    }
}

/// The same browser is used every half minute, so no idle timeout ends it.
async fn kept_alive(stage: &Stage<'_>) -> Result<Outcome, PlayError> {
    const EVERY: Duration = Duration::from_secs(30);
    let mut browser = stage.owner_logged_in(home()).await?;
    let mut open = Duration::ZERO;
    while open <= ABSOLUTE + EVERY {
        stage.wait(EVERY);
        open += EVERY;
        if stage.look(&mut browser).await? == Seen::Other {
            return if open < ABSOLUTE {
                Err(PlayError::Unexpected { step: "the session is kept in use", status: StatusCode::SEE_OTHER })
            } else {
                stopped(format!("over after {} s, however much it is used", open.as_secs()))
            };
        }
    }
    worked("the account stays open as long as anyone likes")
}

/// After an attack that failed: the owner must get in, by logging in again at worst, and the attacker still not.
async fn aftermath(stage: &Stage<'_>, mut owner: Browser, mut attacker: Browser) -> Result<Outcome, PlayError> {
    let then = match stage.look(&mut owner).await? {
        Seen::Account => "no account for the attacker; the owner goes on undisturbed",
        Seen::Other => {
            let page = stage.log_in(&mut owner, &stage.owner()?.password).await?;
            if page.location() != Some("/account") || stage.look(&mut owner).await? == Seen::Other {
                return worked("the owner can not get in any more");
            }
            "no account for the attacker; the owner logs in again and goes on"
        }
    };
    match stage.persist(&mut attacker).await? {
        Seen::Account => worked("the attacker got in after the owner"),
        Seen::Other => stopped(then),
    }
}
