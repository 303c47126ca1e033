//! Another configuration while the guard runs: by SIGHUP, when a file changed, or when something in force has expired.
//! Requests in flight finish under the old one, and a faulty file changes nothing.
//!
//! Reading and compiling many rules takes its time, so all of it is done on a thread of its own, one reload after the
//! other: what is asked for meanwhile is done next.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use portcullis::admin::{self, PolicyStanding};
use portcullis::clock::{Clock, Timestamp};
use portcullis::config::counters::{self, Kept, Remembered};
use portcullis::config::{self, Attempt, Change, Watched, Watcher, keys};
use portcullis::engine::{Guard, Places};
use portcullis::entropy::OsEntropy;
use portcullis::event::kinds;
use portcullis::event::queue::EventSender;
use portcullis::event::sink::ReopenHandle;
use portcullis::limit::{LimitSettings, Limits};
use portcullis::proxy::{Guarded, Handle};
use portcullis::rules::diff;
use portcullis::store::any::AnyStore;
use portcullis::verdict::Text;
use tokio::time::MissedTickBehavior;

use super::signals::{self, Signals};
use super::start::{self, Running};
use super::{FLUSH_MAX, RunError};

/// How a configuration is loaded. A test has it take as long as it likes.
type Load = Box<dyn Fn(&config::Request, Timestamp, &Remembered) -> Attempt + Send>;

/// Puts another configuration in force.
pub(super) struct Reloader {
    request: config::Request,
    load: Load,
    watcher: Watcher,
    guard: Arc<Guard<AnyStore>>,
    proxy: Handle<Guarded<AnyStore>>,
    reopen: Vec<ReopenHandle>,
    events: EventSender,
    clock: Arc<dyn Clock>,
    standing: PolicyStanding,
    /// What the guard was started with.
    started: config::Settings,
    /// What is in force.
    settings: config::Settings,
    /// The limits in force: new ones forget what was counted, so they come only when the settings differ.
    limits: LimitSettings,
    /// The signed rules in force: their file alone could be taken away or put back to an older state.
    remembered: Remembered,
    /// When something of the rules expires.
    expires: Option<Timestamp>,
}

/// Why files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// It is time to.
    Regular,
    /// By SIGHUP: they are loaded, changed or not.
    Asked,
}

/// Bytes of the changes that an event tells.
const CHANGES_MAX: usize = 1000;

/// How often files that can not be loaded are tried again when something in force has expired.
const RETRY_EXPIRY: Duration = Duration::from_secs(60);

impl Reloader {
    /// Lets guard and store seal with another ring.
    fn replace_keys(&self, keys: &keys::KeyFile) {
        // The store first: what the guard writes under a new key it must be able to open.
        self.guard.store().replace_keys(keys.keyring());
        self.guard.replace_keys(keys.keyring());
    }

    pub(super) fn new(
        request: config::Request,
        (started, expires): (config::Settings, Option<Timestamp>),
        watched: Watched,
        running: &Running,
    ) -> Self {
        Self {
            request,
            load: Box::new(config::load_again),
            watcher: Watcher::new(watched),
            guard: running.guard.clone(),
            proxy: running.proxy.handle(),
            reopen: running.reopen.clone(),
            events: running.events.clone(),
            clock: running.clock.clone(),
            standing: running.standing.clone(),
            limits: started.limit_settings(),
            settings: started.clone(),
            started,
            remembered: running.remembered.clone(),
            expires,
        }
    }

    /// Follows signals and files until it is dropped.
    pub(super) async fn follow(self, signals: Signals) {
        let reloader = Arc::new(Mutex::new(self));
        let mut look = tokio::time::interval(config::POLL_EVERY);
        // Two looks that find the same are to be some time apart.
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let round = tokio::select! {
                () = signals.hangup() => Round::Asked,
                _ = look.tick() => Round::Regular,
            };
            if round == Round::Asked {
                signals::tell_reloading();
            }
            let working = reloader.clone();
            let done = tokio::task::spawn_blocking(move || working.lock().round(round)).await;
            if let Err(error) = done {
                tracing::error!(%error, "a reload ended in the middle: this is a bug");
                reloader.lock().standing.refused();
            }
            if round == Round::Asked {
                // Whatever came of it, the guard serves.
                signals::tell_ready();
            }
        }
    }

    fn round(&mut self, round: Round) {
        if round == Round::Asked {
            self.reopen();
        }
        let is_over = self.expires.is_some_and(|at| at <= self.guard.now());
        if round == Round::Asked || is_over || self.watcher.look() == Change::Changed {
            self.reload();
        }
    }

    fn reopen(&self) {
        for handle in &self.reopen {
            handle.reopen();
        }
        self.events.flush(FLUSH_MAX);
    }

    fn reload(&mut self) {
        let Attempt { loaded, mut watched } = (self.load)(&self.request, self.guard.now(), &self.remembered);
        let done = loaded.map_err(RunError::from).and_then(|loaded| self.put_in_force(&loaded, &mut watched));
        if done.is_err() {
            self.renew(&mut watched);
        }
        // After a failure too: what is to be mended may be in files that only the new configuration names.
        self.watcher = Watcher::new(watched);
        match done {
            Ok(reloaded) => {
                self.standing.loaded();
                self.guard.report(None, reloaded);
            }
            Err(error) => {
                self.standing.refused();
                // An exception that has expired must not live on because the files can not be read just now.
                let again = self.guard.now().after(RETRY_EXPIRY);
                self.expires = self.expires.map(|at| at.max(again));
                tracing::error!("the configuration was not reloaded, the one before stays in force: {error}");
                self.guard.report(None, kinds::PolicyReloadFailed { fault: Text::from(error.headline()) });
            }
        }
    }

    /// Reads what is no policy again under the settings in force: a key that was rotated or a newer database must not wait
    /// until somebody has mended a rule. Certificates of listeners are followed by the proxy, whatever else happens.
    fn renew(&self, watched: &mut Watched) {
        let settings = &self.settings;
        // The faulty configuration may name others.
        settings.files().iter().for_each(|path| watched.before_use(path));
        let renewed: [Result<(), RunError>; 3] = [
            keys::read(&settings.keys_file).map(|keys| self.replace_keys(&keys)).map_err(Into::into),
            self.places(settings).map(|places| self.guard.replace_places(places)),
            self.proxy.reload(settings.proxy(Vec::new())).map_err(Into::into),
        ];
        for error in renewed.into_iter().filter_map(Result::err) {
            tracing::error!("what was read before stays in use: {error}");
        }
    }

    fn places(&self, settings: &config::Settings) -> Result<Places, RunError> {
        start::places(settings, &self.events, self.clock.clone())
    }

    fn put_in_force(
        &mut self,
        loaded: &config::Loaded,
        watched: &mut Watched,
    ) -> Result<kinds::PolicyReloaded, RunError> {
        let settings = &loaded.settings;
        let revision = self.guard.policy().revision.saturating_add(1);
        // Everything that can fail comes before anything that is changed.
        let policy = settings.policy(revision, &loaded.rules)?;
        let keys = start::key_file(settings, self.guard.now(), watched)?;
        let places = self.places(settings)?;
        let proxy = self.proxy.clone();
        let proxied = proxy.prepare(settings.proxy(Vec::new()))?;
        let counters = counters::prepare(settings, &loaded.rules, &self.remembered, &OsEntropy)?;
        // The last of it: kept for rules that are refused all the same, they would refuse those in force at the next start.
        let (kept, remembered) = counters.keep()?;
        if kept == Kept::Written {
            watched.before_use(&settings.counters());
        }
        self.remembered = remembered;
        proxied.put_in_force();
        let limits = settings.limit_settings();
        if self.limits != limits {
            self.guard.replace_limits(Limits::new(&limits));
            self.limits = limits;
        }
        self.replace_keys(&keys);
        self.guard.replace_places(places);
        let before = self.guard.policy();
        let changes = diff::summary(&diff::policies(&before, &policy), CHANGES_MAX);
        let rules = u32::try_from(admin::rules_in_force(&policy)).unwrap_or(u32::MAX);
        self.guard.replace_policy(policy);
        super::warn(&loaded.warnings);
        let kept = self.started.kept_until_restart(settings);
        if !kept.is_empty() {
            let sections = kept.join(" ");
            tracing::warn!(sections, "these settings have changed and count from the next start on");
            self.guard.report(None, kinds::ConfigNeedsRestart { sections: Text::from(sections) });
        }
        self.expires = loaded.rules.expires();
        self.settings = settings.clone();
        Ok(kinds::PolicyReloaded { revision, rules, changes: Text::from(changes) })
    }
}

#[cfg(test)]
mod tests;
