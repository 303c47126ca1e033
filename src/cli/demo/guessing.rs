//! Guessing passwords: a list that holds the right one, a patient attacker, and an owner who wants to get in meanwhile.

use std::time::Duration;

use http::StatusCode;

use super::attacks::{elsewhere, home};
use super::client::{Browser, Looks};
use super::play::{Outcome, PlayError, Seen, Stage};

/// Where in the attacker's list the right password stands.
const PLACE: u32 = 300;
/// How long he tries: once a second.
const SECONDS: u32 = 400;
/// When the owner, who has logged in on her machine before, logs in again.
const OWNER_AT: u32 = 200;
const TICK: Duration = Duration::from_secs(1);

/// Guesses from so many addresses. A guess that is refused unread (429) is tried again.
pub(super) async fn flood(stage: &Stage<'_>, addresses: u32) -> Result<Outcome, PlayError> {
    drop(stage.owner_logged_in(home()).await?);
    let mut attacker = Browser::new(elsewhere());
    let mut guesses = 0;
    for second in 0..SECONDS {
        stage.wait(TICK);
        if second == OWNER_AT && owner_returns(stage).await? == Seen::Other {
            return Ok(Outcome::Worked("the owner is locked out".to_owned()));
        }
        attacker.looks = Looks { address: format!("198.51.100.{}", 1 + second % addresses), ..elsewhere() };
        let right = guesses + 1 == PLACE;
        let guess = if right { stage.owner()?.password.clone() } else { format!("guess-{guesses}") };
        attacker.clear();
        let form = [("user", stage.owner()?.name), ("password", guess.as_str())];
        let page = attacker.post(stage.site, "/login", &form).await?;
        guesses += u32::from(page.status != StatusCode::TOO_MANY_REQUESTS);
        if right && page.location() == Some("/account") && stage.look(&mut attacker).await? == Seen::Account {
            return Ok(Outcome::Worked(format!("in after {guesses} guesses")));
        }
    }
    let done = format!("{guesses} guesses in {SECONDS} s reached the app; the owner got in meanwhile");
    Ok(Outcome::Stopped(done))
}

/// The owner on the machine she has used before, with an empty jar.
async fn owner_returns(stage: &Stage<'_>) -> Result<Seen, PlayError> {
    let mut owner = Browser::new(home());
    stage.log_in(&mut owner, &stage.owner()?.password).await?;
    stage.look(&mut owner).await
}
