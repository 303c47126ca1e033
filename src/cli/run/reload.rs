//! Another configuration while the guard runs: by SIGHUP, or when a file changed. Requests in flight finish under the old
//! one, and a faulty file changes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis::admin::PolicyStanding;
use portcullis::clock::Timestamp;
use portcullis::config::{self, Change, Watcher};
use portcullis::engine::Guard;
use portcullis::event::kinds;
use portcullis::event::queue::EventSender;
use portcullis::event::sink::ReopenHandle;
use portcullis::limit::{LimitSettings, Limits};
use portcullis::proxy::{Guarded, Handle};
use portcullis::rules::diff;
use portcullis::store::any::AnyStore;
use portcullis::verdict::Text;

use super::signals::{self, Signals};
use super::{FLUSH_MAX, RunError, start};

/// Puts another configuration in force.
pub(super) struct Reloader {
    request: config::Request,
    watcher: Watcher,
    guard: Arc<Guard<AnyStore>>,
    proxy: Handle<Guarded<AnyStore>>,
    reopen: Vec<ReopenHandle>,
    events: EventSender,
    standing: PolicyStanding,
    /// What the guard was started with.
    started: config::Settings,
    /// The limits in force: new ones forget what was counted, so they come only when the settings differ.
    limits: LimitSettings,
    /// When something of the rules expires.
    expires: Option<Timestamp>,
}

/// Bytes of the changes that an event tells.
const CHANGES_MAX: usize = 1000;

/// How often files that can not be loaded are tried again when something in force has expired.
const RETRY_EXPIRY: Duration = Duration::from_secs(60);

impl Reloader {
    pub(super) fn new(
        request: config::Request,
        (started, watched, expires): (config::Settings, Vec<PathBuf>, Option<Timestamp>),
        guard: Arc<Guard<AnyStore>>,
        proxy: Handle<Guarded<AnyStore>>,
        reopen: Vec<ReopenHandle>,
        events: EventSender,
        standing: PolicyStanding,
    ) -> Self {
        let limits = started.limit_settings();
        Self {
            request,
            watcher: Watcher::new(watched),
            guard,
            proxy,
            reopen,
            events,
            standing,
            started,
            limits,
            expires,
        }
    }

    /// Follows signals and files until it is dropped.
    pub(super) async fn follow(mut self, signals: Signals) {
        let mut look = tokio::time::interval(config::POLL_EVERY);
        loop {
            let asked = tokio::select! {
                () = signals.hangup() => true,
                _ = look.tick() => false,
            };
            if asked {
                signals::tell_reloading();
                self.reopen();
            }
            // Files are read on this thread: they are small, local, and looked at every two seconds.
            let is_over = self.expires.is_some_and(|at| at <= start::now());
            if asked || is_over || self.watcher.look() == Change::Changed {
                self.reload();
            }
            if asked {
                // Whatever came of it, the guard serves.
                signals::tell_ready();
            }
        }
    }

    fn reopen(&self) {
        for handle in &self.reopen {
            handle.reopen();
        }
        self.events.flush(FLUSH_MAX);
    }

    fn reload(&mut self) {
        match self.load() {
            Ok(reloaded) => {
                self.standing.loaded();
                self.guard.report(None, reloaded);
            }
            Err(error) => {
                self.standing.refused();
                // An exception that has expired must not live on because the files can not be read just now.
                let again = start::now().after(RETRY_EXPIRY);
                self.expires = self.expires.map(|at| at.max(again));
                tracing::error!("the configuration was not reloaded, the one before stays in force: {error}");
                self.guard.report(None, kinds::PolicyReloadFailed { fault: Text::from(error.headline()) });
            }
        }
    }

    fn load(&mut self) -> Result<kinds::PolicyReloaded, RunError> {
        let loaded = config::load(&self.request, start::now())?;
        let settings = &loaded.settings;
        let revision = self.guard.policy().revision.saturating_add(1);
        // Everything that can fail comes before anything that is changed.
        let policy = settings.policy(revision, &loaded.rules)?;
        let keys = start::keyring(settings, start::now())?;
        let places = start::places(settings)?;
        self.proxy.reload(settings.proxy(Vec::new()))?;
        let limits = settings.limit_settings();
        if self.limits != limits {
            self.guard.replace_limits(Limits::new(&limits));
            self.limits = limits;
        }
        self.guard.replace_keys(keys);
        self.guard.replace_places(places);
        let before = self.guard.policy();
        let changes = diff::summary(&diff::policies(&before, &policy), CHANGES_MAX);
        let rules = u32::try_from(policy.rules.rules().len()).unwrap_or(u32::MAX);
        self.guard.replace_policy(policy);
        let kept = self.started.kept_until_restart(settings);
        if !kept.is_empty() {
            let sections = kept.join(" ");
            tracing::warn!(sections, "these settings have changed and count from the next start on");
            self.guard.report(None, kinds::ConfigNeedsRestart { sections: Text::from(sections) });
        }
        self.watcher.restart(loaded.watched);
        self.expires = loaded.rules.expires();
        Ok(kinds::PolicyReloaded { revision, rules, changes: Text::from(changes) })
    }
}
