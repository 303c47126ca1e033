//! The judge must be able to fail: acts on an app that was mended, and on a "guarded" site that is not.

use std::sync::Arc;

use portcullis::clock::ManualClock;
use portcullis::entropy::OsEntropy;
use portcullis::event::sink::Collector;
use portcullis::rules::Enforcement;

use super::app::{AtLogin, AtLogout, Habits};
use super::attacks::Act;
use super::client::Site;
use super::guarded::{self, Parts};
use super::play::{Outcome, Row, Stage, Verdict};
use super::ports::Ports;
use super::start_app;
use super::users::Users;
use crate::cli::DemoArgs;

/// Plays an act on the app alone.
async fn alone(habits: Habits, act: Act) -> Outcome {
    let ports = Ports::take(&DemoArgs { once: true, ..DemoArgs::default() }).unwrap();
    let users = Users::generate(&OsEntropy).unwrap();
    start_app(&ports, users.clone(), habits).unwrap();
    let site = Site::new(ports.app.address);
    let clock = Arc::new(ManualClock::default());
    act.play(&Stage { site: &site, clock: &clock, users: &users, entropy: &OsEntropy }).await.unwrap()
}

fn works(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Worked(_))
}

#[tokio::test]
async fn every_act_works_on_the_weak_app() {
    for act in Act::ALL {
        let outcome = alone(Habits::default(), act).await;
        assert!(works(&outcome), "{}: {outcome:?}", act.title());
    }
}

#[tokio::test]
async fn fixation_fails_on_an_app_that_gives_a_new_id_at_login() {
    let habits = Habits { at_login: AtLogin::NewId, ..Habits::default() };
    let check = async |act: Act, expected| assert_eq!(works(&alone(habits, act).await), expected, "{}", act.title());
    check(Act::FixationOwnId, false).await;
    check(Act::FixationInventedId, false).await;
    check(Act::OrdinaryVisit, true).await;
    check(Act::AfterLogout, true).await;
    check(Act::ReadByScript, true).await;
}

#[tokio::test]
async fn a_cookie_is_dead_after_logout_on_an_app_that_ends_sessions() {
    let habits = Habits { at_logout: AtLogout::EndSession, ..Habits::default() };
    let check = async |act: Act, expected| assert_eq!(works(&alone(habits, act).await), expected, "{}", act.title());
    check(Act::AfterLogout, false).await;
    check(Act::OrdinaryVisit, true).await;
    check(Act::FixationOwnId, true).await;
}

#[tokio::test]
async fn a_guard_that_only_reports_is_found_out() {
    let ports = Ports::take(&DemoArgs { once: true, ..DemoArgs::default() }).unwrap();
    let users = Users::generate(&OsEntropy).unwrap();
    start_app(&ports, users.clone(), Habits::default()).unwrap();
    let clock = Arc::new(ManualClock::default());
    let guard = guarded::start(Parts {
        listener: ports.guarded.listener.clone(),
        app: ports.app.address,
        clock: clock.clone(),
        entropy: Arc::new(OsEntropy),
        sink: Box::new(Collector::new()),
        enforcement: Enforcement::ReportOnly,
    })
    .unwrap();
    let site = Site::new(ports.guarded.address);
    let stage = Stage { site: &site, clock: &clock, users: &users, entropy: &OsEntropy };
    for act in Act::ALL {
        let outcome = act.play(&stage).await.unwrap();
        // Shielding and new ids are no verdicts: they hold all the same.
        let holds = matches!(
            act,
            Act::FixationOwnId | Act::FixationInventedId | Act::ReadByScript | Act::FromBeforeLogin | Act::AfterLogout
        );
        assert_eq!(works(&outcome), !holds, "{}: {outcome:?}", act.title());
    }
    guard.stop().await;
}

#[tokio::test]
async fn a_guard_that_does_nothing_is_found_out() {
    let twice = async |act| Row {
        act,
        without: Ok(alone(Habits::default(), act).await),
        with: Ok(alone(Habits::default(), act).await),
        events: Vec::new(),
    };
    assert_eq!(twice(Act::OrdinaryVisit).await.verdict(), Verdict::AsExpected);
    assert_eq!(twice(Act::FixationOwnId).await.verdict(), Verdict::NotAsExpected);
    assert_eq!(Verdict::of(&[twice(Act::OrdinaryVisit).await, twice(Act::LeftAlone).await]), Verdict::NotAsExpected);
}
