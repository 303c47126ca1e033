//! A file of scenarios as it is read.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use crate::clock::Timestamp;
use crate::config::resolve::{Input, Overrides, read_routes, resolve};
use crate::config::{Location, Rulebook, Settings};
use crate::connection::print::{Http2Print, Ja4, Print, RttGap, SynClass, TlsPrint};
use crate::event::Kind;
use crate::facts::geo::{Country, NetworkKind, Place, Position};
use crate::fingerprint::Wire;
use crate::net::Asn;
use crate::rules::diagnostic::{Fault, Level, Spot, nearest};
use crate::rules::page::{Entry, Reader, Source, Value, page_of};
use crate::rules::{HostFacts, OwnedValue, Pack};
use crate::verdict::Action;

/// When a scenario begins if it does not say: 2026-01-05T12:00:00Z, a Monday.
const START: Timestamp = Timestamp::from_secs(1_767_614_400);

/// Most times that a step is repeated.
const TIMES_MAX: u64 = 10_000;

#[derive(Debug)]
pub(super) struct ScenarioFile {
    pub(super) settings: Settings,
    pub(super) clients: BTreeMap<String, Visitor>,
    pub(super) scenarios: Vec<Scenario>,
}

/// A made-up client.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    pub(super) ip: IpAddr,
    pub(super) place: Place,
    pub(super) print: Print,
    pub(super) city: Option<Box<str>>,
    /// Whose order its headers have; none for a program that is no browser.
    pub(super) engine: Option<Engine>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

/// Engines of browsers, as far as the order of their headers goes. That of WebKit is like that of Firefox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Chromium,
    Firefox,
}

#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) name: String,
    pub(super) spot: Spot,
    pub(super) start: Timestamp,
    pub(super) steps: Vec<Step>,
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) spot: Spot,
    pub(super) after: Duration,
    pub(super) client: String,
    /// Whose cookies it shows, instead of its own.
    pub(super) session_of: Option<String>,
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: String,
    pub(super) facts: HostFacts,
    pub(super) times: u64,
    pub(super) app: App,
    pub(super) expect: Expect,
}

/// What the app answers.
#[derive(Debug)]
pub(super) struct App {
    pub(super) status: u16,
    pub(super) login: Option<String>,
    pub(super) logout: bool,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

/// What the guard is expected to do; what is not said may be anything.
#[derive(Debug, Default)]
pub(super) struct Expect {
    pub(super) action: Option<Action>,
    pub(super) would: Option<Action>,
    pub(super) status: Option<u16>,
    pub(super) subject: Option<String>,
    pub(super) rules: Vec<String>,
    pub(super) not_rules: Vec<String>,
    pub(super) events: Vec<Kind>,
    pub(super) not_events: Vec<Kind>,
}

impl ScenarioFile {
    /// Rules that are expected to match, or not to, and that there are none of.
    pub(super) fn unknown_rules(&self, rulebook: &Rulebook) -> Vec<Fault> {
        let names: Vec<String> =
            rulebook.sets().flat_map(|(_, set)| set.rules()).map(|rule| rule.name.to_string()).collect();
        let steps = self.scenarios.iter().flat_map(|scenario| &scenario.steps);
        let expected = steps.flat_map(|step| {
            let all = step.expect.rules.iter().chain(&step.expect.not_rules);
            all.map(move |name| (name, &step.spot))
        });
        let unknown = expected.filter(|(name, _)| !names.contains(name));
        unknown
            .map(|(name, spot)| {
                let near =
                    nearest(name, names.iter().map(String::as_str)).map(|near| format!("did you mean \"{near}\"?"));
                Fault::new(Level::Fault, "expect", format!("no rule here is called \"{name}\""))
                    .at(Some(spot.clone()))
                    .with_help(near)
            })
            .collect()
    }
}

impl Expect {
    /// Whether anything is expected at all.
    const fn is_empty(&self) -> bool {
        let Self { action, would, status, subject, rules, not_rules, events, not_events } = self;
        action.is_none()
            && would.is_none()
            && status.is_none()
            && subject.is_none()
            && rules.is_empty()
            && not_rules.is_empty()
            && events.is_empty()
            && not_events.is_empty()
    }
}

pub(super) fn read(path: &Path, text: &str, now: Timestamp) -> (ScenarioFile, Vec<Fault>) {
    let source = Source::new(&path.to_string_lossy(), text);
    let base = path.parent().unwrap_or(Path::new(""));
    let mut file = ScenarioFile { settings: plain(now), clients: BTreeMap::new(), scenarios: Vec::new() };
    let mut faults = Vec::new();
    let more = page_of(&source, base, |reader| faults = read_all(reader, &mut file, now));
    faults.extend(more.into_told());
    (file, faults)
}

/// The settings of a guard that nobody configured: the defaults, with a login at `POST /login`.
fn plain(now: Timestamp) -> Settings {
    let text = "[[login]]\nroute = \"POST /login\"\nsubject = \"form:username\"\nlimit = \"off\"\n\
                [[logout]]\nroute = \"POST /logout\"\n[rules]\npacks = []\n\
                [limits]\nclient = \"off\"\nsession = \"off\"\nanonymous_sessions = \"off\"\nguesses = \"off\"\n";
    let overrides = Overrides { upstream: "http://127.0.0.1:1".parse::<Location>().ok(), ..Overrides::default() };
    let input = Input { file: Some((Path::new("defaults"), text)), preset: None, overrides: Some(&overrides) };
    resolve(&input, now).map_or_else(|faults| unreachable_settings(&faults), |resolved| resolved.settings)
}

/// The defaults above are without fault: no scenario without a `config` would pass otherwise.
#[cold]
fn unreachable_settings(faults: &dyn std::fmt::Display) -> Settings {
    tracing::error!("the settings of scenarios are wrong: {faults}");
    crate::config::resolve::defaults(Path::new(""))
}

fn read_all(reader: &Reader<'_>, file: &mut ScenarioFile, now: Timestamp) -> Vec<Fault> {
    let mut faults = Vec::new();
    match reader.value("version") {
        Some(version) if version.whole::<u64>(0..=u64::MAX).is_some_and(|version| version != 1) => {
            version.fault("this program reads version 1 of scenarios", None);
        }
        Some(_) => {}
        None => reader.missing("version", "version = 1"),
    }
    if let Some(path) = reader.path("config") {
        match crate::config::read_text(&path) {
            Ok(text) => {
                let overrides =
                    Overrides { upstream: "http://127.0.0.1:1".parse::<Location>().ok(), ..Overrides::default() };
                let input = Input { file: Some((&path, &text)), preset: None, overrides: Some(&overrides) };
                match resolve(&input, now) {
                    Ok(resolved) => file.settings = resolved.settings,
                    Err(mut wrong) => faults.append(&mut wrong.0),
                }
            }
            Err(why) => {
                faults.push(Fault::new(Level::Fault, "config", format!("{} can not be read: {why}", path.display())))
            }
        }
    }
    if let Some(value) = reader.value("rules") {
        let files = value.list("a list of rules files, such as [\"shop.toml\"]", |value| value.path());
        file.settings.rules.files = files.unwrap_or_default();
    }
    if let Some(value) = reader.value("packs") {
        let words = Pack::ALL.map(|pack| (pack.as_str(), pack));
        let packs = value.list("a list of packs, such as [\"baseline@1\"]", |value| value.word(&words));
        file.settings.rules.packs = packs.unwrap_or_default();
    }
    read_routes(reader, &mut file.settings);
    reader.table("client", |reader| {
        for entry in reader.entries() {
            if let Some(visitor) = entry.value.table(visitor).flatten() {
                file.clients.insert(entry.name.to_owned(), visitor);
            }
        }
    });
    let clients: Vec<String> = file.clients.keys().cloned().collect();
    if let Some(read) = reader.tables("scenario", |reader| scenario(reader, &clients)) {
        file.scenarios = read;
    }
    if file.scenarios.is_empty() {
        reader.missing("scenario", "[[scenario]] with a name and at least one [[scenario.step]]");
    }
    faults
}

fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
}

fn visitor(reader: &Reader<'_>) -> Option<Visitor> {
    let ip = match reader.value("ip") {
        Some(value) => value.parsed("an address", |text| text.parse::<IpAddr>()),
        None => {
            reader.missing("ip", "ip = \"203.0.113.10\"");
            None
        }
    };
    let country = reader.value("country").and_then(|value| {
        value.parsed("two letters", |text| Country::parse(text).ok_or("expected two letters, such as \"DE\""))
    });
    let kind = reader.value("network").and_then(|value| {
        value.parsed("a kind of network", |text| {
            NetworkKind::parse(text).ok_or("expected residential, mobile, corporate, hosting, vpn, relay, tor or sase")
        })
    });
    let place = Place {
        country,
        asn: reader.whole("asn", 1..=u32::MAX.into()).map(Asn),
        kind: kind.unwrap_or_default(),
        position: position(reader),
    };
    let city = reader.value("city").and_then(|value| value.text("a name")).map(Into::into);
    let text = |key, default: &'static str| {
        reader.value(key).and_then(|value| value.text("a string")).map_or(default.to_owned(), ToOwned::to_owned)
    };
    let agent = text("ua", BROWSER);
    let languages = text("languages", "en");
    let engine = reader.word("engine", &[("chromium", Engine::Chromium), ("firefox", Engine::Firefox)]);
    let engine = engine.or_else(|| engine_of(&agent));
    // Each engine has its own order, which the guard knows.
    let lines = match engine {
        Some(Engine::Chromium) => [("accept-encoding", "gzip"), ("accept-language", languages.as_str())],
        Some(Engine::Firefox) => [("accept-language", languages.as_str()), ("accept-encoding", "gzip")],
        None => [("accept-language", languages.as_str()), ("accept-encoding", "")],
    };
    let mut headers: Vec<_> = [("user-agent", agent.as_str())]
        .into_iter()
        .chain(lines)
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(name, value)| header(name, value))
        .collect();
    headers.extend(reader.value("headers").map(|value| read_headers(&value)).unwrap_or_default());
    Some(Visitor { ip: ip?, place, print: print(reader), city, engine, headers })
}

/// Whose order the headers of a client have that does not say: that of the browser which it claims to be.
fn engine_of(agent: &str) -> Option<Engine> {
    let is_browser = agent.starts_with("Mozilla/");
    is_browser.then(|| if agent.contains("Chrome/") { Engine::Chromium } else { Engine::Firefox })
}

/// `tls = "chrome-142"`, `ja4 = "t13d..."`, `tls_soft = 3`, `http2 = "1:65536;...|m,a,s,p"`, `syn = "windows"`,
/// `rtt_gap_ms = 80`: how a client looks on the wire. What `tls` and `syn` say is only told apart.
fn print(reader: &Reader<'_>) -> Print {
    let word = |key| reader.value(key).and_then(|value| value.text("a string"));
    let ja4 = reader.value("ja4").and_then(|value| {
        value.parsed("a JA4", |text| {
            Ja4::parse(text).ok_or("expected 36 characters, such as \"t13d1516h2_8daaf6152771_02713d6af862\"")
        })
    });
    let core = word("tls").or(ja4.as_ref().map(Ja4::as_str));
    let soft = reader.whole("tls_soft", 0..=Wire::SOFT_MASK.into());
    if let (None, Some(value)) = (core, reader.peek("tls_soft")) {
        value.fault("traits of TLS need `tls` or `ja4`", None);
    }
    Print {
        tls: core.map(|core| TlsPrint::named(core, soft.unwrap_or_default(), ja4)),
        http2: word("http2").map(Http2Print::of_text),
        syn: word("syn").map(SynClass::named),
        rtt_gap: reader.whole("rtt_gap_ms", 0..=10_000).map(Duration::from_millis).map(RttGap::of),
    }
}

/// `lat = 52.5`, `lon = 13.4`, and `radius_km = 20`: how sure that is.
fn position(reader: &Reader<'_>) -> Option<Position> {
    let degrees = |key, most: f64| reader.value(key).map(|value| value.real(-most..=most));
    let radius = reader.whole("radius_km", 1..=20_000);
    match (degrees("lat", 90.0), degrees("lon", 180.0)) {
        (Some(latitude), Some(longitude)) => Position::new(latitude?, longitude?, radius),
        (None, None) => {
            if let Some(value) = reader.peek("radius_km") {
                value.fault("a radius needs `lat` and `lon`", None);
            }
            None
        }
        (Some(_), None) => {
            reader.missing("lon", "lon = 13.4");
            None
        }
        (None, Some(_)) => {
            reader.missing("lat", "lat = 52.5");
            None
        }
    }
}

/// What a client is that does not say.
const BROWSER: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";

fn read_headers(value: &Value<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let read = value.table(|reader| {
        let each = |entry: Entry<'_>| {
            let text = entry.value.text("a string")?;
            let read = header(entry.name, text);
            if read.is_none() {
                entry.value.fault("no header can be like this", None);
            }
            read
        };
        reader.entries().into_iter().filter_map(each).collect::<Vec<_>>()
    });
    read.unwrap_or_default()
}

fn scenario(reader: &Reader<'_>, clients: &[String]) -> Option<Scenario> {
    let Some(value) = reader.value("name") else {
        reader.missing("name", "a sentence that says what is expected");
        return None;
    };
    let name = value.text("a sentence")?.to_owned();
    let spot = reader.source().spot(value.span());
    let start = reader.value("start").and_then(|value| value.date()).unwrap_or(START);
    let steps = reader.tables("step", |reader| step(reader, clients)).unwrap_or_default();
    if steps.is_empty() {
        reader.missing("step", "at least one [[scenario.step]]");
    } else if steps.iter().all(|step| step.expect.is_empty()) {
        value.fault(
            "nothing is expected of this scenario, so it can not fail",
            Some("give a step expect = { ... }".to_owned()),
        );
    }
    Some(Scenario { name, spot, start, steps })
}

fn step(reader: &Reader<'_>, clients: &[String]) -> Option<Step> {
    let client = |key: &'static str| {
        let value = reader.value(key)?;
        let name = value.text("the name of a client")?;
        if clients.iter().any(|known| known == name) {
            return Some(name.to_owned());
        }
        let near = nearest(name, clients.iter().map(String::as_str)).map(|near| format!("did you mean \"{near}\"?"));
        value.fault(&format!("there is no [client.{name}]"), near.or_else(|| Some("write one above".to_owned())));
        None
    };
    let who = client("client");
    if reader.value("client").is_none() {
        reader.missing("client", "client = \"alice\": one of [client]");
    }
    let session_of = client("session_of");
    let Some(send) = reader.value("send") else {
        reader.missing("send", "send = \"GET /account\"");
        return None;
    };
    let spot = reader.source().spot(send.span());
    let (method, target) = send.parsed("a request such as \"GET /account\"", |text| {
        let (method, target) = text.split_once(' ').ok_or("expected a method and a path, such as \"GET /account\"")?;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_odd| "this is no method")?;
        let fits = target.starts_with('/') && target.parse::<http::Uri>().is_ok();
        fits.then(|| (method, target.to_owned())).ok_or("expected a path that begins with `/`")
    })?;
    let app = reader.table("app", app).unwrap_or(App { status: 200, login: None, logout: false, headers: Vec::new() });
    let expect = reader.table("expect", expect).unwrap_or_default();
    Some(Step {
        spot,
        after: reader.duration("after").unwrap_or_default(),
        client: who?,
        session_of,
        method,
        target,
        headers: reader.value("headers").map(|value| read_headers(&value)).unwrap_or_default(),
        body: reader.value("body").and_then(|value| value.text("a string")).unwrap_or_default().to_owned(),
        facts: reader.value("facts").map(|value| facts(&value)).unwrap_or_default(),
        times: reader.whole("times", 1..=TIMES_MAX).unwrap_or(1),
        app,
        expect,
    })
}

fn facts(value: &Value<'_>) -> HostFacts {
    let read = value.table(|reader| {
        let mut facts = HostFacts::new();
        for entry in reader.entries() {
            if let Some(value) = fact(&entry.value) {
                facts = facts.with(entry.name, value);
            }
        }
        facts
    });
    read.unwrap_or_default()
}

/// A duration and an address are written as strings, as everywhere.
fn fact(value: &Value<'_>) -> Option<OwnedValue> {
    if value.is_number() {
        return value.whole::<i64>(0..=i64::MAX.unsigned_abs()).map(OwnedValue::Int);
    }
    if !value.is_text() {
        return value.flag().map(OwnedValue::Bool);
    }
    let text = value.text("a string")?;
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(OwnedValue::Ip(ip));
    }
    match crate::limit::parse_duration(text) {
        Ok(span) => Some(span.into()),
        Err(_) => Some(text.into()),
    }
}

fn app(reader: &Reader<'_>) -> App {
    let mut headers = reader.value("headers").map(|value| read_headers(&value)).unwrap_or_default();
    if let Some(value) = reader.value("set_cookie") {
        let lines = value.one_or_more("a Set-Cookie line", HeaderValue::from_str).unwrap_or_default();
        headers.extend(lines.into_iter().map(|line| (http::header::SET_COOKIE, line)));
    }
    App {
        status: reader.whole("status", 100..=599).unwrap_or(200),
        login: reader.value("login").and_then(|value| value.text("a subject")).map(ToOwned::to_owned),
        logout: reader.flag("logout").unwrap_or_default(),
        headers,
    }
}

fn expect(reader: &Reader<'_>) -> Expect {
    let actions = Action::ALL.map(|action| (action.as_str(), action));
    let words = |key: &'static str| {
        let value = reader.value(key)?;
        value.one_or_more("a name, or a list of them", |text| Ok::<_, std::convert::Infallible>(text.to_owned()))
    };
    let kinds = |key: &'static str| {
        let value = reader.value(key)?;
        let all: Vec<(&str, Kind)> = Kind::ALL.iter().map(|kind| (kind.as_str(), *kind)).collect();
        value.list("a list of kinds of events", |value| value.word_quietly(&all, "a kind of event"))
    };
    Expect {
        action: reader.word("action", &actions),
        would: reader.word("would", &actions),
        status: reader.whole("status", 100..=599),
        subject: reader.value("subject").and_then(|value| value.text("a subject")).map(ToOwned::to_owned),
        rules: words("rules").unwrap_or_default(),
        not_rules: words("not_rules").unwrap_or_default(),
        events: kinds("events").unwrap_or_default(),
        not_events: kinds("not_events").unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice(lines: &str) -> (Option<Visitor>, Vec<String>) {
        let text = format!("[client.alice]\nip = \"203.0.113.10\"\n{lines}");
        let (file, faults) = read(Path::new("s.toml"), &text, START);
        let own = faults.iter().filter(|fault| fault.key.starts_with("client"));
        (file.clients.get("alice").cloned(), own.map(Fault::headline).collect())
    }

    fn client(lines: &str) -> (Option<Position>, Vec<String>) {
        let (alice, told) = alice(lines);
        (alice.and_then(|alice| alice.place.position), told)
    }

    #[test]
    fn a_client_may_have_a_position() {
        let at = |radius| (Position::new(-52.5, 13.4, radius), Vec::new());
        assert_eq!(client("lat = -52.5\nlon = 13.4\nradius_km = 20\n"), at(Some(20)));
        assert_eq!(client("lat = -52.5\nlon = 13.4\n"), at(None));
        assert_eq!(client("lat = 52\nlon = -13\n").0, Position::new(52.0, -13.0, None));
        assert_eq!(client(""), (None, Vec::new()));
        for (wrong, told) in [
            ("lat = 52.5\n", "s.toml:2:1: error: client.alice: `lon` is missing"),
            ("lon = 13.4\nradius_km = 5\n", "s.toml:2:1: error: client.alice: `lat` is missing"),
            ("radius_km = 5\n", "s.toml:3:13: error: client.alice.radius_km: a radius needs `lat` and `lon`"),
            ("lat = 90.5\nlon = 0\n", "s.toml:3:7: error: client.alice.lat: expected a number from -90 to 90"),
            ("lat = \"x\"\nlon = 0\n", "s.toml:3:7: error: client.alice.lat: expected a number, found a string"),
        ] {
            assert_eq!(client(wrong), (None, vec![told.to_owned()]), "{wrong}");
        }
    }

    #[test]
    fn a_client_may_have_tls_and_traits_of_it() {
        let tls = |lines| {
            let (alice, told) = alice(lines);
            assert_eq!(told, Vec::<String>::new(), "{lines}");
            alice.and_then(|alice| alice.print.tls)
        };
        assert_eq!(tls(""), None);
        let named = |soft| Some(TlsPrint::named("chrome-142", soft, None));
        assert_eq!(tls("tls = \"chrome-142\"\n"), named(0));
        assert_eq!(tls("tls = \"chrome-142\"\ntls_soft = 15\n"), named(15));
        let ja4 = "t13d1516h2_8daaf6152771_02713d6af862";
        let of_ja4 = TlsPrint::named(ja4, 3, Ja4::parse(ja4));
        assert_eq!(tls(&format!("ja4 = \"{ja4}\"\ntls_soft = 3\n")), Some(of_ja4));
        for (wrong, told) in [
            ("tls_soft = 1\n", "traits of TLS need `tls` or `ja4`"),
            ("tls = \"x\"\ntls_soft = 16\n", "expected a whole number from 0 to 15"),
        ] {
            let (_, found) = alice(wrong);
            assert!(matches!(found.as_slice(), [one] if one.ends_with(told)), "{wrong}: {found:?}");
        }
    }

    #[test]
    fn headers_have_the_order_of_the_engine_that_is_claimed_or_said() {
        const GECKO: &str = "ua = \"Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0\"\n";
        let names = |lines: &str| {
            let (alice, told) = alice(lines);
            assert_eq!(told, Vec::<String>::new(), "{lines}");
            let headers = alice.map(|alice| alice.headers).unwrap_or_default();
            headers.iter().map(|(name, _)| name.as_str().to_owned()).collect::<Vec<_>>()
        };
        let chromium = ["user-agent", "accept-encoding", "accept-language"];
        let firefox = ["user-agent", "accept-language", "accept-encoding"];
        assert_eq!(names(""), chromium);
        assert_eq!(names("engine = \"firefox\"\n"), firefox);
        assert_eq!(names(GECKO), firefox);
        assert_eq!(names(&format!("{GECKO}engine = \"chromium\"\n")), chromium);
        assert_eq!(names("ua = \"curl/8.5.0\"\n"), ["user-agent", "accept-language"]);
    }
}
