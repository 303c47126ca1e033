//! The guard in front of the sample app: the real proxy and the real engine, with clocks that run fast.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use portcullis::clock::Clock;
use portcullis::engine::{Guard, Places, Setup};
use portcullis::entropy::{Entropy, EntropyError};
use portcullis::event::queue::{EventQueue, EventSender, Settings as QueueSettings, Writer};
use portcullis::event::sink::Sink;
use portcullis::facts::geo::{Country, NetworkKind, Place};
use portcullis::facts::route::{CaseSensitivity, PathPattern, PatternError, RoutePattern};
use portcullis::limit::{LimitSettings, Limits, LoginLimit};
use portcullis::net::{Asn, IpPrefix, PrefixSet};
use portcullis::proxy::{Guarded, Listen, Location, Proxy, Settings, Source, StartError};
use portcullis::rules::{
    Binds, CookiePolicy, Enforcement, Limited, Login, OnOutage, PathCheck, Policy, Route, SessionPolicy, SubjectSource,
    Success, Use,
};
use portcullis::secret::Keyring;
use portcullis::session::cookie::{
    self, CookieKind, CookieNames, CookiePattern, GuardCookie, GuardCookieError, GuardCookieSettings, Hardening,
    Persist, ShieldName,
};
use portcullis::session::expiry::Deadlines;
use portcullis::signal::{Scoring, Sensitivity};
use portcullis::store::memory::MemoryStore;
use portcullis::verdict::Mode;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::app;

/// Without use a session ends after this; the default of `run` is 30 minutes.
pub(super) const IDLE: Duration = Duration::from_secs(2 * 60);
/// However much it is used it ends after this; the default is 12 hours.
pub(super) const ABSOLUTE: Duration = Duration::from_secs(10 * 60);
/// Age at which a tag gets a successor; the default is 2 minutes.
pub(super) const ROTATE_EVERY: Duration = Duration::from_secs(15);
/// How long a superseded tag is served without evidence; the default is 60 s, as saturated browsers need it.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// The password page asks for a login that is younger than this.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// How long requests may still run when the demo ends.
const DRAIN: Duration = Duration::from_secs(1);
/// The app tells `/Account` from `/account`.
const CASE: CaseSensitivity = CaseSensitivity::Exact;
/// How long the last events may take to be written.
const EVENTS_DEADLINE: Duration = Duration::from_secs(2);

/// The guarded side could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuardedError {
    #[error("a route of the demo is wrong")]
    Route(#[from] PatternError),
    #[error("a cookie name of the demo is wrong")]
    Name(#[from] cookie::PatternError),
    #[error("the cookie of the demo is wrong")]
    Cookie(#[from] GuardCookieError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    #[error("the thread that writes events can not be started")]
    Events(#[source] std::io::Error),
}

/// What the guarded side is made of.
pub(super) struct Parts {
    pub(super) listener: Arc<TcpListener>,
    pub(super) app: SocketAddr,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) sink: Box<dyn Sink>,
    pub(super) enforcement: Enforcement,
}

/// The guard while it serves.
pub(super) struct Running {
    pub(super) events: EventSender,
    writer: Writer,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

/// Puts a new guard, which knows of no session, in front of the app.
///
/// # Errors
/// When it can not be started.
pub(super) fn start(parts: Parts) -> Result<Running, GuardedError> {
    let Parts { listener, app, clock, entropy, sink, enforcement } = parts;
    let (events, writer) =
        EventQueue::start(&QueueSettings::default(), clock.clone(), vec![sink]).map_err(GuardedError::Events)?;
    let trusted: PrefixSet = std::iter::once(IpPrefix::around(IpAddr::V4(Ipv4Addr::LOCALHOST), 32)).collect();
    let guard = Guard::new(Setup {
        store: MemoryStore::default(),
        policy: policy(trusted.clone(), enforcement)?,
        keys: Keyring::generate(&entropy)?,
        places: Places::new(place),
        limits: Limits::new(&LimitSettings { logins: vec![LoginLimit::default()], ..LimitSettings::default() }),
        events: events.clone(),
        clock,
        entropy,
    });
    let upstream = Location::Tcp { host: app.ip().to_string(), port: app.port() };
    let mut settings = Settings::new(app, upstream);
    settings.listen = vec![Listen { source: Source::Handed(listener), ..Listen::plain(app) }];
    settings.client.trusted_proxies = trusted;
    settings.client.timeouts.drain = DRAIN;
    let proxy = Proxy::bind(settings, Guarded::new(Arc::new(guard)))?;
    let (stop, stopped) = oneshot::channel::<()>();
    // A sender that was dropped means the same as one that was used.
    let served = tokio::spawn(proxy.run(async move { drop(stopped.await) }));
    Ok(Running { events, writer, stop, served })
}

impl Running {
    /// Finishes what is in hand and writes the last events.
    pub(super) async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.served.await {
            tracing::error!(%error, "the proxy of the demo broke");
        }
        self.writer.stop(EVENTS_DEADLINE);
    }
}

fn policy(trusted_proxies: PrefixSet, enforcement: Enforcement) -> Result<Policy, GuardedError> {
    let route = |text| RoutePattern::parse(text, CASE);
    Ok(Policy {
        revision: 1,
        mode: Mode::Enforce,
        enforcement,
        session: SessionPolicy {
            deadlines: Deadlines { idle: IDLE, absolute: ABSOLUTE, longest: None },
            rotate_every: ROTATE_EVERY,
            grace: GRACE,
            quarantine_max: Duration::from_secs(10 * 60),
            touch_every: Duration::from_secs(60),
            tombstones: Duration::from_secs(3600),
            per_subject_max: None,
            adopt_until: None,
            memory: portcullis::rules::Memory::default(),
            data_bytes_max: portcullis::session::data::DATA_BYTES_MAX_DEFAULT,
        },
        cookies: cookies()?,
        logins: vec![Login {
            route: route("POST /login")?,
            success: Success {
                status: vec![StatusCode::SEE_OTHER],
                location_not: vec![PathPattern::parse("/login", CASE)?],
                ..Success::default()
            },
            subject: SubjectSource::Form("user".into()),
        }],
        logouts: vec![route("POST /logout")?],
        routes: vec![sensitive("/account", None)?, sensitive("/password", Some(FRESH))?],
        rules: portcullis::rules::load::packs(&[portcullis::rules::Pack::Baseline1]),
        scoring: Scoring::default(),
        on_outage: OnOutage::Deny,
        path_check: PathCheck::Protected,
        trusted_proxies,
    })
}

fn cookies() -> Result<CookiePolicy, GuardedError> {
    let guard = GuardCookie::try_new(&GuardCookieSettings::insecure_http())?;
    let shield = ShieldName { pattern: CookiePattern::parse(app::COOKIE)?, kind: CookieKind::Id };
    Ok(CookiePolicy {
        names: CookieNames::try_new(guard.name(), [shield], [])?,
        guard,
        persist: Persist::Session,
        binds: Binds::Nothing,
        hardening: Hardening::default(),
        hints: portcullis::rules::ExactHints::default(),
    })
}

fn sensitive(path: &str, fresh: Option<Duration>) -> Result<Route, PatternError> {
    Ok(Route {
        pattern: RoutePattern::parse(path, CASE)?,
        template: path.into(),
        mode: Mode::Enforce,
        rules: None,
        idle: None,
        absolute: None,
        fresh,
        sensitivity: Sensitivity::Sensitive,
        limit: Limited::No,
        on_outage: None,
        use_: Use::Real,
    })
}

/// Where the networks for documentation (RFC 5737) are in this play, with numbers for documentation (RFC 5398).
fn place(ip: IpAddr) -> Place {
    let IpAddr::V4(ip) = ip else { return Place::default() };
    let (country, asn, kind) = match ip.octets() {
        [203, 0, 113, _] => ("DE", 64_500, NetworkKind::Residential),
        [192, 0, 2, _] => ("DE", 64_501, NetworkKind::Mobile),
        [198, 51, 100, _] => ("BR", 64_502, NetworkKind::Hosting),
        _ => return Place::default(),
    };
    Place { country: Country::parse(country), asn: Some(Asn(asn)), kind, position: None }
}
