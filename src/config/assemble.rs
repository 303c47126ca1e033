//! From settings to the parts that run: the policy, the proxy's settings, the sinks. Pure: nothing is opened here.

use super::{
    Activity, Balance, Enforcement, Http2, Location, OnOutage, Pack, ProxyProtocol, Route, Rulebook, Sensitivity,
    Settings, SubjectSource, UnderscoreHeaders,
};
use crate::history::{HalfLife, Points};
use crate::proxy;
use crate::rules::{self, CookiePolicy, PathCheck, Policy, SessionPolicy};
use crate::session::cookie::{CookieNames, GuardCookie, GuardCookieError, PatternError};
use crate::signal::{Scoring, Thresholds};
use crate::verdict::Mode;

/// Settings that were checked could not be put together: a fault of `check`.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// The guard's cookie.
    #[error(transparent)]
    Cookie(#[from] GuardCookieError),
    /// A cookie's name.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// How often real use is written at most.
const TOUCH_EVERY: std::time::Duration = std::time::Duration::from_secs(60);
/// How long tombstones are kept.
pub const TOMBSTONES: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

impl Settings {
    /// The policy of these settings with these rules.
    ///
    /// # Errors
    /// When the names of cookies do not go together, which `check` has told before.
    pub fn policy(&self, revision: u64, rules: &Rulebook) -> Result<Policy, AssembleError> {
        let session = &self.session;
        let names = CookieNames::try_new(&session.cookie.name, session.shield.clone(), session.bind.clone())?;
        Ok(Policy {
            revision,
            mode: self.rules.mode,
            enforcement: match self.enforcement {
                Enforcement::Full => rules::Enforcement::Full,
                Enforcement::ReportOnly => rules::Enforcement::ReportOnly,
            },
            session: SessionPolicy {
                deadlines: session.deadlines,
                rotate_every: session.rotate_every,
                grace: session.grace,
                quarantine_max: session.quarantine_max,
                touch_every: TOUCH_EVERY,
                tombstones: TOMBSTONES,
                per_subject_max: session.per_subject_max,
                adopt_until: session.adopt_until,
                memory: session.memory,
                data_bytes_max: crate::session::data::DATA_BYTES_MAX_DEFAULT,
            },
            cookies: CookiePolicy {
                guard: GuardCookie::try_new(&session.cookie)?,
                persist: session.persist,
                names,
                binds: if session.bind.is_empty() { rules::Binds::Nothing } else { rules::Binds::Some },
                hints: session.hints,
                hardening: session.harden,
            },
            logins: self.logins.iter().map(|login| self.login(login)).collect(),
            logouts: self.logouts.clone(),
            routes: self.routes.iter().map(|route| Self::route(route, rules)).collect(),
            rules: rules.of(&self.rules.packs),
            scoring: self.scoring(),
            on_outage: outage(self.store.on_outage),
            path_check: PathCheck::Protected,
            trusted_proxies: self.client.trusted_proxies.iter().copied().collect(),
        })
    }

    /// The lists of packs that are in force somewhere, that of `[rules]` first.
    pub fn pack_lists(&self) -> Vec<Vec<Pack>> {
        let mut lists = vec![self.rules.packs.clone()];
        for packs in self.routes.iter().filter_map(|route| route.packs.as_ref()) {
            if !lists.contains(packs) {
                lists.push(packs.clone());
            }
        }
        lists
    }

    fn scoring(&self) -> Scoring {
        let risk = &self.rules.risk;
        let points = |whole: u32| Points::hundredths(whole.saturating_mul(100));
        // Between 0 and 1 by the check of the configuration, so that a percentage fits.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=100")]
        let sensitive_percent = (risk.sensitive_factor * 100.0).round().clamp(0.0, 100.0) as u32;
        Scoring {
            thresholds: Thresholds {
                observe: points(risk.observe),
                rotate: points(risk.rotate),
                quarantine: points(risk.quarantine),
                terminate: points(risk.terminate),
                sensitive_percent,
            },
            half_life: HalfLife::new(risk.half_life),
            companions: self.rules.companions.clone(),
            ..Scoring::default()
        }
    }

    fn login(&self, login: &super::Login) -> rules::Login {
        rules::Login {
            route: login.route.clone(),
            success: rules::Success {
                status: login.success.status.iter().filter_map(|s| http::StatusCode::from_u16(*s).ok()).collect(),
                location: login.success.location.clone(),
                location_not: login.success.location_not.clone(),
                sets_cookie: login.success.set_cookie.clone(),
            },
            subject: match &login.subject {
                SubjectSource::Form(field) => rules::SubjectSource::Form(field.as_str().into()),
                SubjectSource::Json(pointer) => rules::SubjectSource::Json(pointer.as_str().into()),
                SubjectSource::Header(name) => rules::SubjectSource::Header(name.clone()),
                SubjectSource::None => rules::SubjectSource::None,
            },
        }
    }

    fn route(route: &Route, rules: &Rulebook) -> rules::Route {
        rules::Route {
            pattern: route.pattern.clone(),
            template: route.pattern.to_string().into(),
            mode: route.mode.unwrap_or(Mode::Enforce),
            rules: route.packs.as_deref().map(|packs| rules.of(packs)),
            idle: route.idle,
            absolute: route.absolute,
            fresh: route.fresh,
            sensitivity: match route.sensitivity {
                Sensitivity::Sensitive => crate::signal::Sensitivity::Sensitive,
                Sensitivity::Ordinary => crate::signal::Sensitivity::Usual,
            },
            limit: if route.limit.is_some() { rules::Limited::Yes } else { rules::Limited::No },
            on_outage: route.on_outage.map(outage),
            use_: match route.activity {
                Activity::Usual => rules::Use::Real,
                Activity::Passive => rules::Use::Passive,
            },
        }
    }

    /// The settings of the proxy. `handed` are listening sockets that were opened for us; they are taken in order.
    pub fn proxy(&self, handed: Vec<std::net::TcpListener>) -> proxy::Settings {
        let mut handed = handed.into_iter();
        let listen = self.listen.iter().map(|listen| proxy::Listen {
            source: match handed.next() {
                Some(socket) => proxy::Source::Handed(socket.into()),
                None => proxy::Source::Address(listen.address),
            },
            tls: listen.tls.as_ref().map(|tls| proxy::TlsFiles { cert: tls.cert.clone(), key: tls.key.clone() }),
            http2: match listen.http2 {
                Http2::Off => proxy::Http2::Off,
                Http2::On => proxy::Http2::On,
            },
            proxy_protocol: match listen.proxy_protocol {
                ProxyProtocol::Off => proxy::ProxyProtocol::Off,
                ProxyProtocol::Required => proxy::ProxyProtocol::Required,
            },
        });
        proxy::Settings {
            listen: listen.collect(),
            threads: proxy::Settings::threads(),
            name: self.name.clone(),
            client: self.proxy_client(),
            upstream: self.proxy_upstream(),
        }
    }

    fn proxy_client(&self) -> proxy::Client {
        let client = &self.client;
        proxy::Client {
            trusted_proxies: client.trusted_proxies.iter().copied().collect(),
            ja4_header: client.ja4_header.clone(),
            relay_rtt: client.relay_rtt,
            aliases: match client.underscore_headers {
                UnderscoreHeaders::Drop => proxy::Aliases::Drop,
                UnderscoreHeaders::Reject => proxy::Aliases::Reject,
            },
            limits: proxy::Limits {
                header_bytes_max: client.header_bytes_max,
                headers_max: client.headers_max,
                uri_bytes_max: client.uri_bytes_max,
                connections_max: client.connections_max,
                body_rate_min: u64::try_from(client.body_rate_min).unwrap_or(u64::MAX),
                http2_streams_max: client.http2_streams_max,
                http2_glitches_max: client.http2_glitches_max,
                ..proxy::Limits::default()
            },
            timeouts: proxy::Timeouts {
                header: client.header_timeout,
                body: client.body_timeout,
                idle: client.idle_connection,
                tunnel_idle: client.tunnel_idle,
                drain: client.drain_timeout,
            },
        }
    }

    fn proxy_upstream(&self) -> proxy::Upstream {
        let upstream = &self.upstream;
        proxy::Upstream {
            locations: upstream.locations.iter().map(|location| self.location(location)).collect(),
            balance: match upstream.balance {
                Balance::LeastBusy => proxy::Balance::LeastBusy,
                Balance::RoundRobin => proxy::Balance::RoundRobin,
            },
            host: upstream.host.clone().map_or(proxy::Host::Pass, proxy::Host::Fixed),
            connect_timeout: upstream.connect_timeout,
            response_timeout: upstream.response_timeout,
            connections_max: upstream.connections_max,
            queue_timeout: upstream.queue_timeout,
            idle_timeout: upstream.idle_timeout,
            header_bytes_max: upstream.header_bytes_max,
            health: upstream
                .health
                .as_ref()
                .map(|health| proxy::Health { path: health.path.clone(), every: health.every }),
        }
    }

    fn location(&self, location: &Location) -> proxy::Location {
        match location {
            Location::Tcp { host, port } => proxy::Location::Tcp { host: host.clone(), port: *port },
            Location::Tls { host, port } => {
                proxy::Location::Tls { host: host.clone(), port: *port, ca: self.upstream.ca.clone() }
            }
            Location::Unix(path) => proxy::Location::Unix(path.clone()),
        }
    }
}

const fn outage(on_outage: OnOutage) -> rules::OnOutage {
    match on_outage {
        OnOutage::Deny => rules::OnOutage::Deny,
        OnOutage::Anonymous => rules::OnOutage::Anonymous,
    }
}
