//! Real browsers and real thieves, over TLS, before the guard with the rules that it comes with.
//!
//! Browsers are installed by `tests/install`. Where they are missing a story is skipped with a note, unless
//! `PORTCULLIS_TEST_ALL` is set. `-- --nocapture` shows what the guard saw of each.

mod chromium;
mod firefox;
mod jars;
mod owners;
mod scene;
mod site;
mod thieves;
mod watch;

use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

/// How long a browser may take for one thing that it is told.
const PATIENCE: Duration = Duration::from_secs(400);

/// What a story does with a browser.
trait Browser {
    /// Opens a page and waits until it is loaded.
    fn go(&mut self, url: &str);

    /// What a script in the page gives, or what its promise does.
    fn try_run(&mut self, script: &str) -> Result<Value, String>;

    /// The value of a cookie.
    fn cookie(&mut self, name: &str) -> Option<String>;

    /// Ends it as its user does.
    fn close(&mut self);

    /// [`Self::try_run`] for what must work.
    #[track_caller]
    fn run(&mut self, script: &str) -> Value {
        self.try_run(script).unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Waits until it is so in the page, which may be on its way to another.
    #[track_caller]
    fn wait_for(&mut self, condition: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.try_run(condition) != Ok(Value::Bool(true)) {
            assert!(Instant::now() < end, "waited in vain for {condition}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// One browser after the other: two would take the machine from each other, and what is late is what is looked at here.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program that a story needs; none if it is not installed and need not be.
fn must_have<T>(what: &str, found: Option<T>) -> Option<T> {
    if found.is_none() {
        let must = std::env::var_os("PORTCULLIS_TEST_ALL").is_some();
        assert!(!must, "{what} is not installed: run tests/install");
        eprintln!("skipped: {what} is not installed (run tests/install)");
    }
    found
}

/// Waits until a program that was told to end has done so.
#[track_caller]
fn wait_for_end(child: &mut Child, what: &str) {
    let end = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "{what} does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}
