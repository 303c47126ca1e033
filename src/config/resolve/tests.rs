//! Every key of the manual is read, and every kind of mistake is told with its place.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::GeoList;
use crate::config::{
    Activity, Balance, Http2, OnOutage, Pack, ProxyProtocol, Rulebook, Sensitivity, SinkFormat, SinkTarget, StoreKind,
    SubjectSource, UnderscoreHeaders,
};
use crate::event::Severity;
use crate::event::encode::{IpPrivacy, SubjectPrivacy};
use crate::facts::geo::{Field, Fields, NetworkKind};
use crate::facts::networks::{BuiltIn, ListFormat};
use crate::limit::KnownDevice;
use crate::proxy::RelayRtt;
use crate::session::cookie::{Add, CookieKind, GuardCookie, GuardSameSite, GuardTransport, Persist, SameSite};
use crate::store::OnLimit;

/// 2026-11-21
const NOW: Timestamp = Timestamp::from_secs(1_795_257_972);

fn resolve_text(text: &str) -> Result<Resolved, Faults> {
    resolve(&Input { file: Some((Path::new("etc/p.toml"), text)), ..Input::default() }, NOW)
}

fn app(text: &str) -> Result<Resolved, Faults> {
    resolve_text(&format!("{text}\n[upstream]\nurl = \"http://127.0.0.1:8000\"\n"))
}

/// The example of the manual, with what this version does not have yet left out.
const FULL: &str = r#"
#:schema ./schema/portcullis.json
version = 1
name    = "edge-1"

[[listen]]
address = "127.0.0.1:8080"
[[listen]]
address = "0.0.0.0:8443"
tls     = { cert = "tls/cert.pem", key = "tls/key.pem" }
http2   = true
proxy_protocol = "required"

[client]
trusted_proxies  = ["10.0.0.0/8", "192.0.2.1"]
ja4_header       = "CloudFront-Viewer-JA4-Fingerprint"
relay_rtt        = false
header_bytes_max = "16KiB"
headers_max      = 90
uri_bytes_max    = "4KiB"
underscore_headers = "reject"
header_timeout   = "11s"
body_timeout     = "31s"
body_rate_min    = "64B"
connections_max  = 10_000
idle_connection  = "61s"
tunnel_idle      = "5m"
drain_timeout    = "32s"
http2_streams_max  = 50
http2_glitches_max = 500

[upstream]
url             = ["http://127.0.0.1:8000", "https://app.example", "unix:run/app.sock"]
ca              = "tls/ca.pem"
balance         = "round_robin"
host            = "app.example:8443"
connect_timeout = "3s"
response_timeout = "61s"
connections_max = 511
queue_timeout   = "2s"
idle_timeout    = "29s"
header_bytes_max = "32KiB"
health          = { path = "/healthz", every = "6s" }

[session]
cookie       = "__Secure-guard"
shield       = ["sessionid", { name = "laravel_session", kind = "state" }, { name = "remember_*" }]
bind         = ["sso_*"]
harden       = { secure = true, http_only = true, same_site = "lax" }
idle         = "20m"
absolute     = "8h"
rotate_every = "3m"
grace        = "50s"
same_site    = "app"
persist      = "app"
domain       = "shop.example"
insecure_http_cookie = false
per_subject_max = { sessions = 5, on_limit = "refuse" }
adopt_until  = 2026-12-01
quarantine_max = "9m"

[store]
kind = "embedded"
path = "data"
on_outage = "anonymous"

[keys]
file = "data/keys.toml"

[[login]]
route   = "POST /accounts/login/"
success = { status = [302, 303], location = "/", location_not = ["/accounts/login/*"], set_cookie = "sessionid" }
subject = "form:username"
limit   = { per_client = "11/1m burst 3", per_subject = "5/5m burst 2", delay_max = "20s", known_device = "counted" }
[[login]]
route   = "POST /api/login"
success = { status = 200 }
subject = "json:/user/name"
limit   = "off"
[[login]]
route   = "POST /sso"
subject = "header:X-User"
[[login]]
route   = "POST /code"
subject = "none"

[[logout]]
route = "POST /accounts/logout/"

[rules]
packs = ["baseline@1"]
files = ["rules/*.toml"]
signed_by = ["RWQBAgMEBQYHCAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"]
counters = "state/rules.counters"
mode  = "observe"
[rules.risk]
observe    = 21
rotate     = 36
quarantine = 51
terminate  = 101
half_life  = "14m"
sensitive_factor = 0.5

[limits]
client  = "101/1s burst 200"
prefix  = "1000/1s"
session = "50/1s burst 99"
subject = "off"
anonymous_sessions = "600/1m"
guesses = "20/1m"
keys_max = 1000000

[[route]]
path   = "/admin/**"
packs  = ["baseline@1", "strict@1"]
idle   = "10m"
absolute = "1h"
fresh  = "15m"
limit  = "20/1s burst 40"
on_outage = "deny"
[[route]]
path   = "GET /account/**"
sensitive = true
[[route]]
path   = "/poll"
mode   = "off"
passive = true

[geo]
databases = ["/var/lib/GeoIP/GeoLite2-City.mmdb", { path = "asn.mmdb", fields = { asn = "as.0.number" } }]
entries_max = 5000
built_in = false
[[geo.list]]
path = "tor.txt"
kind = "tor"
format = "plain"

[events]
queue   = 4096
repeat  = { window = "30s", first = 4 }
journal = { path = "data/journal.jsonl", max_bytes = "1GiB", max_age = "90d", sync = "250ms", chain = false }
[events.privacy]
ip = "truncate"
subject = "hmac"
[[events.sink]]
type   = "stdout"
format = "human"
[[events.sink]]
type   = "file"
path   = "data/events.jsonl"
format = "json"
min    = "warn"

[admin]
address = "127.0.0.1:9090"
token_file = "data/admin.token"
"#;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn every_key_of_the_wire_is_read() {
    let settings = resolve_text(FULL).unwrap().settings;
    assert_eq!(settings.name, "edge-1");
    let [plain, tls] = settings.listen.as_slice() else { panic!("{:?}", settings.listen) };
    assert_eq!(*plain, Listen::plain("127.0.0.1:8080".parse().unwrap()));
    assert_eq!(tls.tls.as_ref().unwrap().cert, Path::new("etc/tls/cert.pem"));
    assert_eq!((tls.http2, tls.proxy_protocol), (Http2::On, ProxyProtocol::Required));
    let client = settings.client;
    let networks: Vec<String> = client.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.0.2.1/32"]);
    assert_eq!(client.ja4_header.as_ref().map(http::HeaderName::as_str), Some("cloudfront-viewer-ja4-fingerprint"));
    assert_eq!((client.header_bytes_max, client.headers_max, client.uri_bytes_max), (16 << 10, 90, 4 << 10));
    assert_eq!(client.underscore_headers, UnderscoreHeaders::Reject);
    let times =
        [client.header_timeout, client.body_timeout, client.idle_connection, client.tunnel_idle, client.drain_timeout];
    assert_eq!(times.map(|time| time.as_secs()), [11, 31, 61, 300, 32]);
    assert_eq!((client.body_rate_min, client.connections_max), (64, 10_000));
    assert_eq!((client.http2_streams_max, client.http2_glitches_max), (50, 500));
    let app = settings.upstream;
    assert_eq!(
        app.locations,
        [
            Location::Tcp { host: "127.0.0.1".to_owned(), port: 8000 },
            Location::Tls { host: "app.example".to_owned(), port: 443 },
            Location::Unix("etc/run/app.sock".into()),
        ]
    );
    assert_eq!(
        (app.ca, app.balance, app.host),
        (Some("etc/tls/ca.pem".into()), Balance::RoundRobin, Some("app.example:8443".to_owned()))
    );
    assert_eq!(
        [app.connect_timeout, app.response_timeout, app.queue_timeout, app.idle_timeout].map(|t| t.as_secs()),
        [3, 61, 2, 29]
    );
    assert_eq!((app.connections_max, app.header_bytes_max), (511, 32 << 10));
    assert_eq!(app.health.map(|health| (health.path, health.every)), Some(("/healthz".to_owned(), secs(6))));
}

#[test]
fn every_key_of_sessions_is_read() {
    let settings = resolve_text(FULL).unwrap().settings;
    let session = settings.session;
    assert_eq!(
        (session.cookie.name.as_str(), session.cookie.domain.as_deref()),
        ("__Secure-guard", Some("shop.example"))
    );
    assert_eq!((session.cookie.same_site, session.cookie.transport), (GuardSameSite::App, GuardTransport::Secure));
    let shield: Vec<_> = session.shield.iter().map(|name| (name.pattern.to_string(), name.kind)).collect();
    let expected =
        [("sessionid", CookieKind::Id), ("laravel_session", CookieKind::State), ("remember_*", CookieKind::Id)];
    assert_eq!(shield, expected.map(|(name, kind)| (name.to_owned(), kind)));
    assert_eq!(session.bind.iter().map(ToString::to_string).collect::<Vec<_>>(), ["sso_*"]);
    assert_eq!(
        (session.harden.secure, session.harden.http_only, session.harden.same_site),
        (Add::IfAbsent, Add::IfAbsent, Some(SameSite::Lax))
    );
    let times = [
        session.deadlines.idle,
        session.deadlines.absolute,
        session.rotate_every,
        session.grace,
        session.quarantine_max,
    ];
    assert_eq!(times.map(|time| time.as_secs()), [1200, 28_800, 180, 50, 540]);
    assert_eq!(session.persist, Persist::App);
    assert_eq!(session.per_subject_max.map(|limit| (limit.sessions.get(), limit.on_limit)), Some((5, OnLimit::Refuse)));
    assert_eq!(session.adopt_until.unwrap().to_string(), "2026-12-01T00:00:00.000Z");
    assert_eq!(
        (settings.store.kind, settings.store.on_outage),
        (StoreKind::Embedded("etc/data".into()), OnOutage::Anonymous)
    );
    assert_eq!(settings.keys_file, Path::new("etc/data/keys.toml"));
}

#[test]
fn every_key_of_the_policy_is_read() {
    let settings = resolve_text(FULL).unwrap().settings;
    assert_eq!(settings.rules.signed_by.len(), 1);
    assert_eq!(settings.counters(), Path::new("etc/state/rules.counters"));
    assert_eq!(app("").unwrap().settings.counters(), Path::new("etc/portcullis-data/rules.counters"));
    assert_eq!(app("[keys]\nfile = \"x/k\"").unwrap().settings.counters(), Path::new("etc/x/rules.counters"));
    let [first, api, sso, code] = settings.logins.as_slice() else { panic!("{:?}", settings.logins) };
    assert_eq!(first.route.to_string(), "POST /accounts/login/");
    assert_eq!((first.success.status.as_slice(), first.success.location.len()), ([302, 303].as_slice(), 1));
    assert_eq!(first.success.location_not[0].to_string(), "/accounts/login/*");
    assert_eq!(first.success.set_cookie.as_ref().unwrap().to_string(), "sessionid");
    let limit = first.limit;
    assert_eq!(
        [limit.per_client, limit.per_subject].map(|rate| rate.unwrap().to_string()),
        ["11/1m burst 3", "5/5m burst 2"]
    );
    assert_eq!((limit.delay_max, limit.known_device), (secs(20), KnownDevice::Counted));
    assert_eq!(
        (api.success.status.as_slice(), api.limit.per_client, api.limit.delay_max),
        ([200].as_slice(), None, Duration::ZERO)
    );
    let subjects = [first, api, sso, code].map(|login| login.subject.clone());
    let header = http::HeaderName::from_static("x-user");
    assert_eq!(
        subjects,
        [
            SubjectSource::Form("username".to_owned()),
            SubjectSource::Json("/user/name".to_owned()),
            SubjectSource::Header(header),
            SubjectSource::None,
        ]
    );
    assert_eq!(sso.limit, crate::limit::LoginLimit::default());
    assert_eq!(settings.logouts.iter().map(ToString::to_string).collect::<Vec<_>>(), ["POST /accounts/logout/"]);
    assert_eq!((settings.rules.packs.as_slice(), settings.rules.mode), ([Pack::Baseline1].as_slice(), Mode::Observe));
    assert_eq!(settings.rules.files, [Path::new("etc/rules/*.toml")]);
    let risk = settings.rules.risk;
    assert_eq!([risk.observe, risk.rotate, risk.quarantine, risk.terminate], [21, 36, 51, 101]);
    assert_eq!((risk.half_life, risk.sensitive_factor.to_string().as_str()), (secs(840), "0.5"));
    let files: Vec<_> = settings.geo.files().collect();
    assert_eq!(
        files,
        [Path::new("/var/lib/GeoIP/GeoLite2-City.mmdb"), Path::new("etc/asn.mmdb"), Path::new("etc/tor.txt")]
    );
    let asn = Fields::default().with(Field::Asn, "as.0.number".parse().unwrap());
    assert_eq!(settings.geo.databases.get(1).map(|file| &file.fields), Some(&asn));
    let tor = GeoList { path: "etc/tor.txt".into(), kind: NetworkKind::Tor, format: ListFormat::Plain };
    assert_eq!((settings.geo.lists, settings.geo.entries_max, settings.geo.built_in), (vec![tor], 5000, BuiltIn::Off));
}

#[test]
fn every_key_of_routes_limits_and_events_is_read() {
    let settings = resolve_text(FULL).unwrap().settings;
    let all = settings.limit_settings();
    let shown = |rate: Option<crate::limit::Rate>| rate.map_or_else(|| "off".to_owned(), |rate| rate.to_string());
    let rates = [all.client, all.prefix, all.session, all.subject, all.anonymous_sessions, all.guesses].map(shown);
    assert_eq!(rates, ["101/1s burst 200", "1000/1s", "50/1s burst 99", "off", "600/1m", "20/1m"]);
    assert_eq!((all.keys_max.get(), all.logins.len()), (1_000_000, 4));
    assert_eq!(all.routes.into_iter().map(shown).collect::<Vec<_>>(), ["20/1s burst 40", "off", "off"]);
    let [admin, account, poll] = settings.routes.as_slice() else { panic!("{:?}", settings.routes) };
    assert_eq!((admin.idle, admin.absolute, admin.fresh), (Some(secs(600)), Some(secs(3600)), Some(secs(900))));
    assert_eq!(
        (admin.packs.as_deref(), admin.on_outage),
        (Some([Pack::Baseline1, Pack::Strict1].as_slice()), Some(OnOutage::Deny))
    );
    assert_eq!((account.sensitivity, account.activity), (Sensitivity::Sensitive, Activity::Usual));
    assert_eq!(account.pattern.to_string(), "GET /account/**");
    assert_eq!((poll.mode, poll.activity), (Some(Mode::Off), Activity::Passive));
    let events = settings.events;
    assert_eq!((events.queue, events.repeat.window, events.repeat.first), (4096, secs(30), 4));
    assert_eq!((events.privacy.ip, events.privacy.subject), (IpPrivacy::Truncate, SubjectPrivacy::Hmac));
    let journal = events.journal.unwrap();
    assert_eq!((journal.path, journal.bytes_max), ("etc/data/journal.jsonl".into(), 1 << 30));
    assert_eq!((journal.age_max, journal.sync), (Some(secs(90 * 86_400)), Duration::from_millis(250)));
    assert!(!journal.chain);
    let [stdout, file] = events.sinks.as_slice() else { panic!("{:?}", events.sinks) };
    assert_eq!(
        (&stdout.target, stdout.format, stdout.filter.min),
        (&SinkTarget::Stdout, SinkFormat::Human, Severity::Info)
    );
    assert_eq!((&file.target, file.filter.min), (&SinkTarget::File("etc/data/events.jsonl".into()), Severity::Warn));
    assert_eq!(settings.admin.address, AdminAddress::Tcp("127.0.0.1:9090".parse().unwrap()));
    assert_eq!(settings.admin.token_file, Path::new("etc/data/admin.token"));
}

#[test]
fn the_full_example_warns_only_of_what_it_weakens() {
    let warnings = resolve_text(FULL).unwrap().warnings;
    let keys: Vec<&str> = warnings.iter().map(|fault| fault.key.as_str()).collect();
    let risk = ["rules.risk.observe", "rules.risk.rotate", "rules.risk.quarantine", "rules.risk.terminate"];
    let weak = [["session.domain", "store.on_outage", "login[1].limit", "rules.mode"], risk];
    assert_eq!(keys, weak.concat());
}

#[test]
fn a_stated_ja4_is_believed_of_somebody() {
    let told = |client: &str| {
        let text = format!("[client]\n{client}\n[upstream]\nurl = \"http://127.0.0.1:8000\"");
        let read = resolve_text(&text).map_err(|faults| faults.to_string());
        read.map(|read| read.warnings.iter().any(|warning| warning.key == "client.ja4_header"))
    };
    assert_eq!(told("ja4_header = \"X-JA4\"\ntrusted_proxies = [\"10.0.0.0/8\"]"), Ok(false));
    assert_eq!(told("ja4_header = \"X-JA4\""), Ok(true), "nobody");
    let odd = told("ja4_header = \"X JA4\"\ntrusted_proxies = [\"10.0.0.0/8\"]").unwrap_err();
    assert!(odd.contains("expected the name of a header"), "{odd}");
}

#[test]
fn relays_are_measured_by_a_program_that_can() {
    let with = |value: &str| {
        let text = format!("[client]\nrelay_rtt = {value}\n[upstream]\nurl = \"http://127.0.0.1:8000\"");
        resolve_text(&text).map(|read| read.settings.client.relay_rtt).map_err(|faults| faults.to_string())
    };
    assert_eq!(with("false"), Ok(RelayRtt::Off));
    #[cfg(feature = "relay-rtt")]
    assert_eq!(with("true"), Ok(RelayRtt::Measured));
    #[cfg(not(feature = "relay-rtt"))]
    assert!(with("true").unwrap_err().contains("--features relay-rtt"));
    assert!(with("\"yes\"").unwrap_err().contains("true or false"));
}

#[test]
fn without_a_file_only_the_upstream_is_needed() {
    let upstream = "http://127.0.0.1:8000".parse().unwrap();
    let overrides = Overrides { upstream: Some(upstream), ..Overrides::default() };
    let Resolved { settings, warnings } =
        resolve(&Input { overrides: Some(&overrides), ..Input::default() }, NOW).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(settings.listen, [Listen::plain("127.0.0.1:8080".parse().unwrap())]);
    assert_eq!(settings.session.cookie.name, GuardCookie::NAME);
    assert_eq!(settings.store.kind, StoreKind::Embedded("portcullis-data".into()));
    assert_eq!(settings.rules.packs, [Pack::Baseline1]);
    for name in ["sessionid", "PHPSESSID", "connect.sid", "JSESSIONID", "wordpress_logged_in_x", "laravel_session"] {
        assert!(settings.session.shield.iter().any(|shield| shield.pattern.matches(name.as_bytes())), "{name}");
    }
    let nothing = resolve(&Input::default(), NOW).unwrap_err().to_string();
    assert!(nothing.contains("there is no app to guard") && nothing.contains("--upstream"), "{nothing}");
}

/// `strict@1` under `[rules]` did nothing where no route matched, and packs of a route could not do more than those of
/// `[rules]`.
#[test]
fn packs_hold_everywhere_but_where_a_route_names_others() {
    #[derive(Debug, PartialEq)]
    enum Strict {
        Yes,
        No,
    }
    use Strict::{No, Yes};
    let check = |text: &str, path: &str, mode: Mode, expected: Strict| {
        let settings = app(text).unwrap().settings;
        let policy = settings.policy(1, &Rulebook::packs_of(&settings)).unwrap();
        let route = policy.route(&http::Method::GET, path);
        assert_eq!(policy.mode_on(route), mode, "{text} {path}");
        let strict = policy.rules_on(route).rules().iter().any(|rule| rule.name.as_str() == "strict/little-risk");
        assert_eq!(if strict { Yes } else { No }, expected, "{text} {path}");
    };
    check("", "/x", Mode::Enforce, No);
    let strict = "[rules]\npacks = [\"baseline@1\", \"strict@1\"]\n[[route]]\npath = \"/soft/**\"\npacks = [\"baseline@1\"]\n\
                  [[route]]\npath = \"/idle\"\nidle = \"5m\"\n";
    check(strict, "/x", Mode::Enforce, Yes);
    check(strict, "/", Mode::Enforce, Yes);
    check(strict, "/idle", Mode::Enforce, Yes);
    check(strict, "/soft/x", Mode::Enforce, No);
    let watched = "[rules]\npacks = [\"observe@1\"]\n[[route]]\npath = \"/admin/**\"\npacks = [\"strict@1\"]\n";
    check(watched, "/x", Mode::Observe, No);
    check(watched, "/admin", Mode::Enforce, Yes);
    check("[rules]\npacks = [\"observe@1\"]\n", "/x", Mode::Observe, No);
    check("[rules]\npacks = []\n", "/x", Mode::Off, No);
    let ceiling = watched.replace("[rules]\n", "[rules]\nmode = \"observe\"\n");
    check(&ceiling, "/admin", Mode::Observe, Yes);
}

/// Nothing acts any more, and nobody was told.
#[test]
fn a_route_for_all_paths_that_only_observes_is_told() {
    let check = |text: &str, is_told: bool| {
        let told = app(text).unwrap().warnings;
        assert_eq!(told.iter().any(|fault| fault.message.contains("no rule acts on any path")), is_told, "{text}");
    };
    let route = |path: &str| format!("[[route]]\npath = \"{path}\"\nmode = \"observe\"\n");
    check(&route("/**"), true);
    check(&route("GET /**"), false);
    check(&route("/a/**"), false);
    check(&route("/**").replace("observe", "enforce"), false);
    // That is told of all rules already.
    check(&format!("[rules]\nmode = \"observe\"\n{}", route("/**")), false);
}

#[test]
fn a_login_that_a_failure_could_pass_for_is_told() {
    let check = |login: &str, expected: &[&str]| {
        let told = app(&format!("[[login]]\nroute = \"POST /in\"\n{login}\n")).unwrap().warnings;
        let messages: Vec<String> = told.iter().map(|fault| format!("{}: {}", fault.key, fault.message)).collect();
        assert_eq!(messages.len(), expected.len(), "{login}: {messages:?}");
        assert!(messages.iter().zip(expected).all(|(told, part)| told.contains(part)), "{login}: {messages:?}");
    };
    let shows_again = "login[0].success: an app that answers 200 with the form to a wrong password";
    let leads_back = "add location_not = \"/in\" to `success`";
    check("subject = \"form:name\"\nsuccess = { status = 200 }", &[shows_again]);
    check("subject = \"form:name\"\nsuccess = { status = [302, 204] }", &[shows_again]);
    check("success = { status = 200 }", &[shows_again]);
    check("subject = \"form:name\"\nsuccess = { status = 302 }", &[leads_back]);
    check("subject = \"form:name\"", &[leads_back]);
    check("subject = \"form:name\"\nsuccess = { status = 200, set_cookie = \"in\" }", &[]);
    check("subject = \"form:name\"\nsuccess = { location_not = \"/in\" }", &[]);
    check("subject = \"form:name\"\nsuccess = { status = 200, location = \"/\" }", &[]);
    // An API tells by its status; a code is sent to a route of its own.
    check("subject = \"json:/name\"\nsuccess = { status = 200 }", &[]);
    check("", &[]);
    let any = app("[[login]]\nroute = \"/in\"\n").unwrap().warnings;
    assert_eq!(any.len(), 1);
    assert!(any[0].key == "login[0].route" && any[0].message.contains("write \"POST /in\""), "{}", any[0].message);
}

#[test]
fn what_comes_later_replaces_what_was_before() {
    let text = "[session]\nshield = [\"mine\"]\n[[logout]]\nroute = \"POST /bye\"\n";
    let overrides = Overrides {
        upstream: Some("unix:/x".parse().unwrap()),
        listen: Some("127.0.0.1:1".parse().unwrap()),
        enforcement: Enforcement::ReportOnly,
    };
    let input =
        Input { file: Some((Path::new("p.toml"), text)), preset: Some(Preset::Django), overrides: Some(&overrides) };
    let settings = resolve(&input, NOW).unwrap().settings;
    assert_eq!(settings.session.shield.len(), 1);
    assert_eq!(settings.logouts.len(), 1);
    // What the file does not say is the preset's.
    assert_eq!(settings.logins[0].route.to_string(), "POST /accounts/login/");
    assert_eq!(settings.listen[0].address.port(), 1);
    assert_eq!((settings.rules.mode, settings.enforcement), (Mode::Observe, Enforcement::ReportOnly));
}

#[test]
fn every_preset_is_without_fault() {
    let overrides = Overrides { upstream: Some("unix:/x".parse().unwrap()), ..Overrides::default() };
    for preset in Preset::ALL {
        let input = Input { file: None, preset: Some(preset), overrides: Some(&overrides) };
        let Resolved { settings, warnings } =
            resolve(&input, NOW).unwrap_or_else(|faults| panic!("{preset}\n{faults}"));
        assert!(warnings.is_empty(), "{preset}: {warnings:?}");
        assert!(
            !settings.session.shield.is_empty() && !settings.logins.is_empty() && !settings.routes.is_empty(),
            "{preset}"
        );
    }
}

#[test]
fn the_name_of_our_cookie_goes_with_its_attributes() {
    let check = |text: &str, expected: &str| {
        let settings = app(&format!("[session]\n{text}")).unwrap().settings;
        assert_eq!(settings.session.cookie.name, expected, "{text}");
    };
    check("", "__Host-portcullis");
    check("domain = \"\"", "__Host-portcullis");
    check("domain = \"shop.example\"", "__Secure-portcullis");
    check("insecure_http_cookie = true", "portcullis");
    check("insecure_http_cookie = true\ncookie = \"sid\"", "sid");
    check("cookie = \"__Host-sid\"", "__Host-sid");
}

#[test]
fn every_mistake_is_told_with_its_place_and_what_was_expected() {
    crate::rules::tests::golden("config/mistakes.txt", 60, told);
}

fn told(text: &str) -> String {
    match app(text) {
        Ok(resolved) => Faults(resolved.warnings).to_string(),
        Err(faults) => faults.to_string(),
    }
}

#[test]
fn a_fault_in_a_preset_would_name_the_preset() {
    let mut settings = defaults(Path::new(""));
    let notes = read("preset x", "[session]\nidle = 1", Path::new(""), &mut settings);
    assert!(notes.faults[0].headline().starts_with("preset x:2:8: error"), "{}", notes.faults[0]);
}

#[test]
fn many_faults_are_told_in_the_order_of_the_file() {
    let text =
        "[limits]\nclient = 1\n[session]\nidle = 1\nabsolut = 1\n[client]\nheaders_max = 0\n[upstream]\nurl = 1\n";
    let faults = resolve_text(text).unwrap_err();
    let lines: Vec<usize> = faults.0.iter().map(|fault| fault.spot.as_ref().unwrap().line).collect();
    assert_eq!(lines, [2, 4, 5, 7, 9]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// A byte less, a byte more or a byte changed anywhere in a good file: an answer, never a panic.
    #[test]
    fn a_mutated_file_never_panics(at in 0..FULL.len(), kind in 0..4u8, with in any::<char>()) {
        let mut text: Vec<char> = FULL.chars().collect();
        match kind {
            0 => drop(text.remove(at)),
            1 => text.insert(at, with),
            2 => text[at] = with,
            _ => text.truncate(at),
        }
        let text: String = text.into_iter().collect();
        if let Err(faults) = resolve_text(&text) {
            prop_assert!(faults.is_fatal());
            prop_assert!(!faults.to_string().is_empty());
        }
    }

    #[test]
    fn noise_never_panics(text in "[\\[\\]{}=\"'a-z0-9.,#\n \\\\é-]{0,200}") {
        drop(resolve_text(&text));
    }

    /// Every value of the full example replaced by one of another type.
    #[test]
    fn a_value_of_any_type_in_any_place_never_panics(line in 0usize..200, with in prop::sample::select(vec![
        "1", "-1", "1.5", "true", "\"\"", "\"x\"", "[]", "[1]", "{}", "{ a = 1 }", "2026-01-01", "inf", "nan", "[[]]",
        "9223372036854775808", "0xffffffffffffffffffff",
    ])) {
        let lines: Vec<String> = FULL.lines().enumerate().map(|(at, text)| match text.split_once('=') {
            Some((key, _)) if at == line => format!("{key}= {with}"),
            _ => text.to_owned(),
        }).collect();
        drop(resolve_text(&lines.join("\n")));
    }
}

#[cfg(all(feature = "redis", feature = "sql"))]
#[test]
fn stores_in_servers_are_read() {
    use crate::config::{ServerKind, ServerUrl, StoreServer};
    let read = |text: &str| {
        let text = format!("[store]\n{text}\n[upstream]\nurl = \"http://127.0.0.1:8000\"");
        resolve_text(&text).map(|read| read.settings.store.kind).map_err(|faults| faults.to_string())
    };
    let server = |kind, url: &str| StoreServer {
        kind,
        url: ServerUrl::Given(url.to_owned()),
        timeout: Duration::from_secs(2),
        cache: None,
        prefix: "portcullis".to_owned(),
        replicas: 0,
        folder: "etc/portcullis-data".into(),
    };
    let url = "redis+sentinel://10.0.0.1,10.0.0.2/main/0";
    assert_eq!(
        read(&format!(
            "kind = \"redis\"\nurl = \"{url}\"\ncache = \"10s\"\ntimeout = \"1s\"\nprefix = \"shop\"\nreplicas = 2"
        )),
        Ok(StoreKind::Server(StoreServer {
            cache: Some(Duration::from_secs(10)),
            timeout: Duration::from_secs(1),
            prefix: "shop".to_owned(),
            replicas: 2,
            ..server(ServerKind::Redis, url)
        }))
    );
    let database = "postgres://guard:secret@db.example/guard";
    assert_eq!(
        read(&format!("kind = \"postgres\"\nurl = \"{database}\"\npath = \"data\"")),
        Ok(StoreKind::Server(StoreServer { folder: "etc/data".into(), ..server(ServerKind::Postgres, database) }))
    );
    assert_eq!(
        read("kind = \"mysql\"\nurl_env = \"STORE\""),
        Ok(StoreKind::Server(StoreServer { url: ServerUrl::Env("STORE".to_owned()), ..server(ServerKind::Mysql, "") }))
    );
    assert_eq!(read("kind = \"file\""), Ok(StoreKind::File("etc/portcullis-data".into())));
    let sqlite = server(ServerKind::Sqlite, "sqlite://etc/portcullis-data/sessions.sqlite");
    assert_eq!(read("kind = \"sqlite\""), Ok(StoreKind::Server(sqlite)));
    let sealed = |ended| Ok(StoreKind::Sealed(Box::new(ended)));
    assert_eq!(read("kind = \"sealed\""), sealed(StoreKind::Embedded("etc/portcullis-data".into())));
    let ended = StoreKind::Server(server(ServerKind::Redis, url));
    assert_eq!(read(&format!("kind = \"sealed\"\nended = \"redis\"\nurl = \"{url}\"")), sealed(ended));
    for (text, told) in [
        ("kind = \"redis\"", "`url` is missing"),
        ("kind = \"mysql\"\nurl = \"mysql://h\"\nreplicas = 1", "replicas are waited for in Redis"),
        ("kind = \"sealed\"\nended = \"redis\"", "`url` is missing"),
        ("kind = \"sealed\"\nended = \"file\"", "expected one of \"embedded\""),
        ("kind = \"redis\"\nurl = \"postgres://h\"", "begins with `redis://`"),
        ("kind = \"mysql\"\nurl = \"mysql://h\"\nurl_env = \"X\"", "either `url` or `url_env`"),
        ("kind = \"sqlite\"\nurl = \"sqlite://x\"", "sessions.sqlite"),
        ("kind = \"redis\"\nurl = \"redis://h\"\ncache = \"60s\"", "shorter than `session.grace`"),
        ("kind = \"redis\"\nurl = \"redis://h\"\nprefix = \"Shop\"", "small letters"),
    ] {
        let fault = read(text).unwrap_err();
        assert!(fault.contains(told), "{fault}");
    }
    let shown = format!("{:?}", read(&format!("kind = \"postgres\"\nurl = \"{database}\"")));
    assert!(!shown.contains("secret"), "{shown}");
    let fault = read("kind = \"redis\"\nurl = \"http://guard:secret@h\"").unwrap_err();
    assert!(!fault.contains("secret"), "{fault}");
}
