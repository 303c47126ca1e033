//! The guard with the rules that it comes with, before the site, with TLS and a certificate of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis::clock::{Clock as _, SystemClock};
use portcullis::config::{Request, load};
use portcullis::engine::{Guard, Places, Setup};
use portcullis::entropy::OsEntropy;
use portcullis::event::queue::{Flushed, Settings};
use portcullis::event::sink::Collector;
use portcullis::event::{EventQueue, EventSender, Writer};
use portcullis::limit::Limits;
use portcullis::proxy::Guarded;
use portcullis::secret::{KeyId, Keyring, MasterKey};
use portcullis::store::SESSIONS_MAX_DEFAULT;
use portcullis::store::memory::MemoryStore;
use portcullis::verdict::Action;
use rcgen::PublicKeyData as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tempfile::TempDir;

use super::site::Site;
use super::watch::{Cookies, Watch, Watched};
use crate::support::running::Running;

/// What a browser may speak to the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Http {
    One,
    Two,
}

/// What is set for a story.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) http: Http,
    pub(super) rotate_every: &'static str,
    pub(super) grace: &'static str,
    pub(super) cookies: Cookies,
    /// Whether browsers are asked for exact versions of themselves.
    pub(super) accept_ch: bool,
}

impl Setting {
    /// As shipped.
    pub(super) const fn usual(http: Http) -> Self {
        Self { http, rotate_every: "2m", grace: "60s", cookies: Cookies::Arrive, accept_ch: false }
    }
}

/// What is told of an honest visit.
const CALM: &[&str] = &["session.created", "session.authenticated", "session.rotated", "session.logout"];

/// What may be told besides, if nothing more than that is done.
const SEEN: &[&str] = &["rule.matched", "binding.mismatch.ua"];

/// A running guard before a site.
pub(super) struct Scene {
    pub(super) watch: Watch,
    /// What browsers go by: the digest of the certificate's key.
    pub(super) key_digest: String,
    proxy: Running,
    collector: Collector,
    events: EventSender,
    folder: TempDir,
    _site: Site,
    _writer: Writer,
}

impl Scene {
    pub(super) fn set(setting: Setting) -> Self {
        let site = Site::start();
        let folder = tempfile::tempdir().unwrap();
        let key_digest = certificate(folder.path());
        let file = folder.path().join("portcullis.toml");
        fs::write(&file, configuration(&site, setting)).unwrap();
        let clock = Arc::new(SystemClock::new());
        let loaded = load(&Request { file: Some(file), ..Request::default() }, clock.now()).loaded.unwrap();
        let settings = &loaded.settings;
        let collector = Collector::new();
        let queue = Settings::default();
        let (events, writer) = EventQueue::start(&queue, clock.clone(), vec![Box::new(collector.clone())]).unwrap();
        let guard = Guard::new(Setup {
            store: MemoryStore::new(SESSIONS_MAX_DEFAULT),
            policy: settings.policy(1, &loaded.rules).unwrap(),
            keys: Keyring::new(&MasterKey::new(KeyId(1), [7; 32]), &[]),
            places: Places::unknown(),
            limits: Limits::new(&settings.limit_settings()),
            events: events.clone(),
            clock,
            entropy: Arc::new(OsEntropy),
        });
        let watch = Watch::default();
        let guarded = Guarded::new(Arc::new(guard.observed_by(Arc::new(watch.clone()))));
        let watched = Watched { guarded, watch: watch.clone(), cookies: setting.cookies };
        let proxy = Running::start_with(settings.proxy(Vec::new()), watched);
        Self { watch, key_digest, proxy, collector, events, folder, _site: site, _writer: writer }
    }

    /// Where a browser finds a page.
    pub(super) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.proxy.address.port())
    }

    /// Where the guard listens.
    pub(super) const fn address(&self) -> SocketAddr {
        self.proxy.address
    }

    /// What a client is that trusts the guard, and speaks this protocol.
    pub(super) fn trusting_client(&self, protocol: &str) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.folder.path().join("cert.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Arc::new(config)
    }

    /// A folder that goes with the scene.
    pub(super) fn folder(&self, name: &str) -> std::path::PathBuf {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Every event so far.
    pub(super) fn events(&self) -> Vec<Value> {
        assert_eq!(self.events.flush(Duration::from_secs(20)), Flushed::All);
        self.collector.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Whether an event of this name was told.
    pub(super) fn has_told(&self, name: &str) -> bool {
        self.events().iter().any(|event| event["event"] == name)
    }

    /// Asserts that nothing was raised that an owner would notice, and prints what was raised at all.
    #[track_caller]
    pub(super) fn expect_calm(&self, who: &str) {
        let events = self.events();
        let told = self.watch.told();
        println!("{who}:\n{told}");
        let is_calm = |event: &&Value| CALM.iter().any(|calm| event["event"] == *calm);
        let is_seen = |event: &&Value| {
            SEEN.iter().any(|seen| event["event"] == *seen)
                && ["allow", "observe"].iter().any(|action| event["action"] == *action)
        };
        let odd: Vec<_> = events.iter().filter(|event| !is_calm(event) && !is_seen(event)).collect();
        odd.iter().for_each(|event| println!("  {event}"));
        assert!(
            self.watch.strongest() <= Action::Observe && odd.is_empty(),
            "{who} was taken for a thief: {odd:#?}\n{told}"
        );
    }
}

/// Makes a certificate, and gives the digest of its key.
fn certificate(folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let key = made.signing_key.subject_public_key_info();
    STANDARD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key))
}

fn configuration(site: &Site, setting: Setting) -> String {
    let Setting { http, rotate_every, grace, accept_ch, .. } = setting;
    let http2 = http == Http::Two;
    let site = site.address;
    format!(
        r#"version = 1
[[listen]]
address = "127.0.0.1:0"
tls = {{ cert = "cert.pem", key = "key.pem" }}
http2 = {http2}
[upstream]
url = "http://{site}"
[session]
shield = ["sessionid"]
persist = "app"
rotate_every = "{rotate_every}"
grace = "{grace}"
accept_ch = {accept_ch}
[[login]]
route   = "POST /login"
success = {{ status = [303] }}
subject = "form:username"
[[logout]]
route = "POST /logout"
[limits]
client  = "off"
session = "off"
"#
    )
}
