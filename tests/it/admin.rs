//! Stories of an operator and a running guard, over a unix socket and a loopback port.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use portcullis::admin::{Address, Client, ClientError, PolicyStanding, Query, Server, Settings, StateWord, Token};
use portcullis::clock::{ManualClock, Timestamp};
use portcullis::connection::Scheme;
use portcullis::connection::print::Print;
use portcullis::delivery;
use portcullis::engine::cut::Cut;
use portcullis::engine::{AnsweredBy, ClientStanding, Decision, Guard, Selection};
use portcullis::entropy::OsEntropy;
use portcullis::event::encode::Encoder;
use portcullis::event::queue::{EventQueue, EventSender, Writer};
use portcullis::event::sink::{Collector, Filter};
use portcullis::event::{Event, Kind};
use portcullis::layer::GuardBuilder;
use portcullis::proxy::ExchangeFigures;
use portcullis::rules::load::{Input, RulesText, compile};
use portcullis::rules::{Pack, RuleSet};
use portcullis::session::id::Ref;
use portcullis::signal::SignalKind;
use portcullis::store::memory::MemoryStore;
use portcullis::store::metered::Operation;
use portcullis::verdict::{Action, Mode};
use tokio::sync::oneshot;

const CHROME: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";
const PATIENCE: Duration = Duration::from_secs(30);

/// A guard with its API, and all that belongs to it.
struct World {
    clock: Arc<ManualClock>,
    guard: Arc<Guard<MemoryStore>>,
    standing: PolicyStanding,
    address: Address,
    token_file: PathBuf,
    events: Collector,
    stop: Option<oneshot::Sender<()>>,
    serving: tokio::task::JoinHandle<()>,
    _writer: Writer,
    _folder: tempfile::TempDir,
}

enum Over {
    Tcp,
    Unix,
}

/// The baseline, a rule beside it, and one that is off.
fn rules() -> Arc<RuleSet> {
    let text = "version = 1\nname = \"shop\"\n\
        [[rule]]\nid = \"on\"\nwhen = 'request.path == \"/on\"'\nthen = \"deny\"\n\
        [[rule]]\nid = \"off\"\nwhen = 'request.path == \"/off\"'\nthen = \"deny\"\nmode = \"off\"\n";
    let files = [RulesText { path: PathBuf::from("shop.toml"), text: text.to_owned() }];
    let open = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let now = Timestamp::from_secs(1_800_000_000);
    let compiled = compile(&Input { packs: &[vec![Pack::Baseline1]], files: &files, open: &open, now });
    compiled.unwrap_or_else(|faults| panic!("{faults}")).sets.remove(0)
}

/// So many rules of the baseline act or report.
fn baseline() -> u64 {
    portcullis::rules::load::packs(&[Pack::Baseline1]).rules().len() as u64
}

impl World {
    fn start(over: &Over) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
        let events = Collector::new();
        let (sender, writer) = EventQueue::start(
            &portcullis::event::queue::Settings::default(),
            clock.clone(),
            vec![Box::new(events.clone())],
        )
        .unwrap();
        let guard = GuardBuilder::in_memory().shield("sessionid").clock(clock.clone()).events(sender).build().unwrap();
        let guard = Arc::new(guard);
        let mut policy = guard.policy().as_ref().clone();
        policy.rules = rules();
        guard.replace_policy(policy);
        let settings = Settings {
            address: match over {
                Over::Tcp => Address::Tcp("127.0.0.1:0".parse().unwrap()),
                Over::Unix => Address::Unix(folder.path().join("admin.sock")),
            },
            token_file: folder.path().join("admin.token"),
        };
        let standing = PolicyStanding::default();
        let server = Server::bind(&settings, guard.clone(), standing.clone(), Arc::new(OsEntropy)).unwrap();
        let address = server.address().clone();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.run(async { drop(stopped.await) }));
        let (token_file, stop) = (settings.token_file, Some(stop));
        Self { clock, guard, standing, address, token_file, events, stop, serving, _writer: writer, _folder: folder }
    }

    fn client(&self) -> Client {
        let token = matches!(self.address, Address::Tcp(_)).then(|| Token::read(&self.token_file).unwrap());
        Client::try_new(self.address.clone(), token).unwrap()
    }

    fn tcp(&self) -> SocketAddr {
        match &self.address {
            Address::Tcp(address) => *address,
            Address::Unix(_) => panic!("not a port"),
        }
    }

    fn token(&self) -> String {
        std::fs::read_to_string(&self.token_file).unwrap().trim_end().to_owned()
    }

    /// A request through the guard, and the app's answer to it back through the guard.
    async fn visit(&self, cookie: Option<&str>, answer: Response<()>) -> (Response<()>, Option<Cut>) {
        let request = Request::post("/login")
            .header("host", "example.com")
            .header("user-agent", CHROME)
            .header("accept-language", "de");
        let request = cookie.iter().fold(request, |request, cookie| request.header("cookie", *cookie));
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let ip: IpAddr = "203.0.113.10".parse().unwrap();
        let client = portcullis::engine::Client {
            ip,
            scheme: Scheme::Https,
            standing: ClientStanding::Own,
            print: Print::default(),
            order: None,
            connection: None,
            located: None,
        };
        let Decision::Forward(admission) = self.guard.admit(client, &mut parts, None).await else {
            panic!("not admitted");
        };
        let (mut parts, ()) = answer.into_parts();
        let settled = self.guard.settle(admission, AnsweredBy::App, &mut parts).await;
        (Response::from_parts(parts, ()), settled.cut)
    }

    /// Logs somebody in; gives the cookie.
    async fn login(&self, subject: &str) -> String {
        let answer = Response::builder()
            .header("set-cookie", "sessionid=secret-of-the-app; HttpOnly; Path=/")
            .header("portcullis-session", format!("login; subject=\"{subject}\""))
            .header("content-length", "0")
            .body(())
            .unwrap();
        let (answer, _) = self.visit(None, answer).await;
        let line = answer.headers()["set-cookie"].to_str().unwrap();
        line.split(';').next().unwrap().to_owned()
    }

    /// What an event of the API says: the verb, the target, the status.
    fn told(&self) -> Vec<(String, Option<String>, u16)> {
        self.guard.events().flush(PATIENCE);
        let actions = self.events.records().into_iter().filter_map(|record| match record.event {
            Event::AdminAction(action) => Some((
                action.verb.as_str().to_owned(),
                // A subject is shown as plainly as subjects are.
                record
                    .scene
                    .subject
                    .map(|subject| format!("subject {subject}"))
                    .or(action.target.map(|target| target.as_str().to_owned())),
                record.scene.status.unwrap(),
            )),
            _ => None,
        });
        actions.collect()
    }

    /// Octets sent as they are, and all that comes back.
    async fn raw(&self, request: String) -> String {
        let address = self.address.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let mut answer = Vec::new();
            match address {
                Address::Tcp(address) => {
                    let mut stream = TcpStream::connect(address).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.write_all(request.as_bytes()).unwrap();
                    stream.read_to_end(&mut answer).unwrap();
                }
                Address::Unix(path) => {
                    let mut stream = UnixStream::connect(path).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.write_all(request.as_bytes()).unwrap();
                    stream.read_to_end(&mut answer).unwrap();
                }
            }
            String::from_utf8(answer).unwrap()
        });
        asked.await.unwrap()
    }

    async fn stop(mut self) {
        self.stop.take();
        tokio::time::timeout(PATIENCE, &mut self.serving).await.unwrap().unwrap();
        if let Address::Unix(path) = &self.address {
            assert!(!path.exists(), "the socket file stays behind");
        }
    }
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_listed_shown_and_ended_over_both_sockets() {
    for over in [Over::Unix, Over::Tcp] {
        let world = World::start(&over);
        let cookie = world.login("alice").await;
        world.login("alice").await;
        world.login("b\u{f6}b/../x?y").await;
        let client = world.client();

        let alices = client.sessions(&Query { subject: Some("alice".to_owned()), ..Query::default() }).await.unwrap();
        assert_eq!((alices.sessions.len(), alices.next), (2, None));
        let all = client.sessions(&Query::default()).await.unwrap().sessions;
        assert_eq!(all.len(), 3);
        let first = &alices.sessions[0];
        let reference = Ref::parse(&first.reference).unwrap();
        let shown = client.session(reference).await.unwrap();
        assert_eq!(&shown, first);
        assert_eq!((shown.state, shown.subject.as_deref(), shown.contexts), (StateWord::Live, Some("alice"), 1));
        let bound = shown.client.unwrap();
        let bound = [bound.agent.unwrap(), bound.os.unwrap(), bound.prefix.unwrap()];
        assert_eq!(bound, ["chrome", "linux", "203.0.113.0/24"]);
        assert_eq!(shown.authenticated_at.as_deref(), Some("2027-01-15T08:00:00.000Z"));
        assert_eq!(shown.ends_at, "2027-01-15T08:30:00.000Z");
        assert_eq!(shown.ends_at_latest, "2027-01-15T20:00:00.000Z");

        assert_eq!(client.revoke(&Selection::Ref(reference)).await.unwrap().revoked, 1);
        let again = client.revoke(&Selection::Ref(reference)).await;
        assert!(matches!(again, Err(ClientError::Refused { status, .. }) if status == 404));
        let over = client.session(reference).await.unwrap();
        assert_eq!((over.state, over.ended.unwrap().why.as_str()), (StateWord::Ended, "revoked"));
        assert_eq!(client.sessions(&Query::default()).await.unwrap().sessions.len(), 2);
        let ended = Query { with_ended: true, ..Query::default() };
        assert_eq!(client.sessions(&ended).await.unwrap().sessions.len(), 3);

        let odd = Selection::Subject("b\u{f6}b/../x?y".into());
        // A header carries bytes, so the guard learned the subject or did not; either way nobody else is ended.
        assert!(client.revoke(&odd).await.unwrap().revoked <= 1);
        assert_eq!(client.revoke(&Selection::Subject("nobody".into())).await.unwrap().revoked, 0);
        assert_eq!(client.revoke(&Selection::Subject("alice".into())).await.unwrap().revoked, 1);
        world.login("carol").await;
        assert!(client.revoke(&Selection::All).await.unwrap().revoked >= 1);
        assert_eq!(client.sessions(&Query::default()).await.unwrap().sessions, []);
        assert!(client.session(Ref([7; 16])).await.is_err());

        let answer = Response::builder().header("content-length", "0").body(()).unwrap();
        world.visit(Some(&cookie), answer).await;
        world.guard.events().flush(PATIENCE);
        assert!(world.events.kinds().contains(&Kind::SessionUseAfterExpire));
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_follow_each_other_without_naming_a_record() {
    let world = World::start(&Over::Unix);
    for at in 0..25 {
        world.login(&format!("user{at}")).await;
    }
    let client = world.client();
    let mut found = Vec::new();
    let mut query = Query { max: Some(10), ..Query::default() };
    for expected in [10, 10, 5] {
        let page = client.sessions(&query).await.unwrap();
        assert_eq!(page.sessions.len(), expected);
        found.extend(page.sessions.into_iter().filter_map(|session| session.subject));
        query.after = page.next;
    }
    assert_eq!(query.after, None);
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 25);
    let forged = Query { after: Some("AAAA".to_owned()), ..Query::default() };
    assert!(matches!(client.sessions(&forged).await, Err(ClientError::Refused { status, .. }) if status == 400));
    // A mark is sealed: two of the same place have nothing in common.
    let mark = async || {
        let page = client.sessions(&Query { max: Some(3), ..Query::default() }).await.unwrap();
        page.next.unwrap()
    };
    assert_ne!(mark().await, mark().await);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_are_over_by_time_are_not_listed_and_can_be_cleared() {
    let world = World::start(&Over::Unix);
    world.login("alice").await;
    let client = world.client();
    world.clock.advance(Duration::from_secs(30 * 60));
    assert_eq!(client.sessions(&Query::default()).await.unwrap().sessions, []);
    let ended = client.sessions(&Query { with_ended: true, ..Query::default() }).await.unwrap().sessions;
    assert_eq!(ended[0].ended.as_ref().unwrap().why, "idle");
    assert_eq!(ended[0].ended.as_ref().unwrap().at, "2027-01-15T08:30:00.000Z");
    world.clock.advance(Duration::from_secs(3 * 24 * 3600));
    let cleared = client.clear_expired().await.unwrap();
    assert_eq!((cleared.removed, cleared.more), (1, false));
    assert_eq!(client.clear_expired().await.unwrap().removed, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_who_ends_a_session_cuts_its_streams() {
    let world = World::start(&Over::Tcp);
    let cookie = world.login("alice").await;
    let (_, cut) = world.visit(Some(&cookie), Response::new(())).await;
    let cut = cut.expect("an answer without a length may run for ever");
    assert!(!cut.is_done());
    world.client().revoke(&Selection::Subject("alice".into())).await.unwrap();
    assert!(cut.is_done());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_lets_in_and_nothing_else_does() {
    let world = World::start(&Over::Tcp);
    let wrong = Client::try_new(world.address.clone(), Token::parse(&"x".repeat(43))).unwrap();
    assert!(matches!(wrong.health().await, Err(ClientError::WrongToken(_))));
    assert!(matches!(wrong.version().await, Err(ClientError::WrongToken(_))));
    let without = Client::try_new(world.address.clone(), None).unwrap();
    assert!(matches!(without.version().await, Err(ClientError::NoToken(_))));
    let (host, token) = (world.tcp(), world.token());
    let ask = async |head: &str| status(&world.raw(format!("GET /v1/version HTTP/1.1\r\n{head}\r\n")).await);
    assert_eq!(ask(&format!("Host: {host}\r\nAuthorization: Bearer {token}\r\n")).await, 200);
    let port = host.port();
    let rebound = format!("Host: evil.example:{port}\r\nAuthorization: Bearer {token}\r\n");
    assert_eq!(ask(&rebound).await, 421);
    let page = format!("Host: {host}\r\nOrigin: http://{host}\r\nAuthorization: Bearer {token}\r\n");
    assert_eq!(ask(&page).await, 403);
    assert_eq!(ask(&format!("Authorization: Bearer {token}\r\n")).await, 400);
    assert!(world.told().iter().any(|(verb, _, status)| verb == "refused" && *status == 421));
    // A token is for this machine.
    let abroad = Address::Tcp("192.0.2.1:9090".parse().unwrap());
    assert!(matches!(Client::try_new(abroad, Token::parse(&token)), Err(ClientError::NotLoopback(_))));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_or_too_large_is_refused_in_json() {
    let world = World::start(&Over::Unix);
    let ask = async |line: &str, rest: &str| {
        let answer = world.raw(format!("{line} HTTP/1.1\r\nHost: localhost\r\n{rest}")).await;
        assert!(answer.to_ascii_lowercase().contains("cache-control: no-store"), "{answer}");
        assert!(!answer.to_ascii_lowercase().contains("access-control"), "{answer}");
        (status(&answer), answer)
    };
    let (code, answer) = ask("PUT /v1/sessions", "\r\n").await;
    assert!(code == 405 && answer.contains("allow: GET, DELETE"), "{answer}");
    assert!(answer.contains("application/problem+json") && answer.contains("\"status\":405"), "{answer}");
    assert_eq!(ask("GET /", "\r\n").await.0, 404);
    assert_eq!(ask("DELETE /v1/sessions", "\r\n").await.0, 400);
    assert_eq!(ask("POST /v1/clear-expired", "Content-Length: 2\r\n\r\n{}").await.0, 200);
    assert_eq!(ask("POST /v1/clear-expired", "Content-Length: 5000\r\n\r\n").await.0, 413);
    world.stop().await;
}

/// The answer to a body that was sent in full was lost now and then: the socket was closed with some of it unread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_too_large_is_always_told_so() {
    for over in [Over::Tcp, Over::Unix] {
        let world = World::start(&over);
        let host = match &world.address {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(_) => "localhost".to_owned(),
        };
        let token = if matches!(over, Over::Tcp) { world.token() } else { "none".to_owned() };
        let head = format!("POST /v1/clear-expired HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n");
        let body = "x".repeat(200_000);
        let known = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        for request in [known, chunked] {
            for _ in 0..10 {
                assert_eq!(status(&world.raw(request.clone()).await), 413);
            }
        }
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_and_no_event_holds_a_secret() {
    let world = World::start(&Over::Tcp);
    let cookie = world.login("alice").await;
    let (host, token) = (world.tcp(), world.token());
    let head = format!("Host: {host}\r\nAuthorization: Bearer {token}\r\n\r\n");
    let mut answers = String::new();
    for line in ["GET /v1/sessions?max=1&ended=yes", "GET /v1/health", "GET /v1/version", "DELETE /v1/sessions?all=yes"]
    {
        answers += &world.raw(format!("{line} HTTP/1.1\r\n{head}")).await;
    }
    world.guard.events().flush(PATIENCE);
    answers += &world.events.lines().join("\n");
    let (_, value) = cookie.split_once('=').unwrap();
    let (id, tag) = value.split_once('.').unwrap();
    let digest = portcullis::session::id::Presented::parse(value.as_bytes()).unwrap().id.digest().0;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for secret in [id, tag, "secret-of-the-app", &token, &hex(&digest), &hex(&digest[..8])] {
        assert!(!answers.contains(secret), "{secret} in {answers}");
    }
    assert!(answers.contains("\"subject\":\"alice\""), "{answers}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_use_is_told() {
    let world = World::start(&Over::Unix);
    world.login("alice").await;
    let client = world.client();
    client.health().await.unwrap();
    let session = client.sessions(&Query::default()).await.unwrap().sessions.remove(0);
    client.session(Ref::parse(&session.reference).unwrap()).await.unwrap();
    client.revoke(&Selection::Subject("alice".into())).await.unwrap();
    client.revoke(&Selection::Ref(Ref([1; 16]))).await.unwrap_err();
    client.clear_expired().await.unwrap();
    let target = |target: &str| Some(target.to_owned());
    assert_eq!(
        world.told(),
        [
            ("sessions.list".to_owned(), None, 200),
            ("sessions.show".to_owned(), target(&session.reference), 200),
            ("sessions.revoke_subject".to_owned(), target("subject alice"), 200),
            ("sessions.revoke".to_owned(), target(&"01".repeat(16)), 404),
            ("sessions.clear_expired".to_owned(), None, 200),
        ]
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_tells_of_a_policy_that_is_not_the_newest() {
    let world = World::start(&Over::Unix);
    let client = world.client();
    let health = client.health().await.unwrap();
    assert!(health.store && !health.policy.stale);
    assert_eq!(health.policy.revision, 1);
    assert_eq!(health.policy.rules as u64, baseline() + 1, "the one that is off is not in force");
    world.standing.refused();
    let stale = "\nportcullis_policy_stale 1\n";
    assert!(client.health().await.unwrap().policy.stale);
    assert!(client.sessions(&Query::default()).await.unwrap().policy.stale);
    assert!(client.metrics().await.unwrap().contains(stale));
    world.standing.loaded();
    assert!(!client.sessions(&Query::default()).await.unwrap().policy.stale);
    assert!(!client.metrics().await.unwrap().contains(stale));
    assert!(!client.health().await.unwrap().policy.stale);
    let version = client.version().await.unwrap();
    assert_eq!(
        (version.name.as_str(), version.version.as_str(), version.api),
        ("portcullis", env!("CARGO_PKG_VERSION"), 1)
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_that_is_not_there_is_told_as_such() {
    let world = World::start(&Over::Unix);
    let client = world.client();
    world.stop().await;
    assert!(matches!(client.version().await, Err(ClientError::NotRunning(_))));
}

/// The labels that there are: each has values from a fixed list.
const LABELS: [&str; 12] =
    ["kind", "version", "operation", "outcome", "le", "sink", "action", "mode", "signal", "status", "fault", "why"];

/// What Prometheus reads: the samples of each metric, with their labels, after its help and its type.
fn samples(text: &str) -> BTreeMap<String, Vec<(String, u64)>> {
    let is_name =
        |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && name.starts_with("portcullis_");
    let mut found: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    let (mut helped, mut typed, mut is_histogram) = (String::new(), String::new(), false);
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(is_name(name) && !words.contains('\\') && !found.contains_key(name), "{line}");
            name.clone_into(&mut helped);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, helped, "{line}");
            let expected = match name {
                name if name.ends_with("_wait_seconds") => "histogram",
                name if name.ends_with("_total") => "counter",
                _ => "gauge",
            };
            assert_eq!(kind, expected, "{line}");
            name.clone_into(&mut typed);
            is_histogram = kind == "histogram";
            found.insert(typed.clone(), Vec::new());
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
                None => (series, ""),
            };
            let part = name.strip_prefix(&*typed).unwrap_or_else(|| panic!("{line}"));
            let parts: &[&str] = if is_histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(parts.contains(&part), "{line}");
            for label in labels.split(',').filter(|label| !label.is_empty()) {
                let (label, word) = label.split_once("=\"").unwrap();
                let word = word.strip_suffix('"').unwrap();
                assert!(LABELS.contains(&label), "{line}");
                assert!(word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+".contains(&b)), "{line}");
            }
            if part == "_sum" {
                assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
                continue;
            }
            let labels = &[part, labels].concat();
            let samples = found.get_mut(&typed).unwrap();
            assert!(samples.iter().all(|(known, _)| known != labels), "twice: {line}");
            samples.push((labels.clone(), value.parse().unwrap()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_what_prometheus_reads_and_grow_with_no_client() {
    let world = World::start(&Over::Tcp);
    let before = samples(&world.client().metrics().await.unwrap());
    for at in 0..20 {
        world.login(&format!("subject-{at}")).await;
    }
    world.guard.events().flush(PATIENCE);
    let after = samples(&world.client().metrics().await.unwrap());
    let shape = |samples: &BTreeMap<String, Vec<(String, u64)>>| -> Vec<String> {
        let series = |(name, of): (&String, &Vec<(String, u64)>)| {
            of.iter().map(|(labels, _)| format!("{name}{labels}")).collect::<Vec<_>>()
        };
        samples.iter().flat_map(series).collect()
    };
    assert_eq!(shape(&before), shape(&after));
    let of = |name: &str, labels: &str| after[name].iter().find(|(known, _)| known == labels).unwrap().1;
    assert_eq!(of("portcullis_build_info", &format!("version=\"{}\"", env!("CARGO_PKG_VERSION"))), 1);
    assert_eq!((of("portcullis_policy_revision", ""), of("portcullis_policy_stale", "")), (1, 0));
    assert_eq!(of("portcullis_policy_rules", ""), baseline() + 1, "the one that is off is not in force");
    assert_eq!(of("portcullis_start_time_seconds", ""), 1_800_000_000);
    assert_eq!(of("portcullis_events_waiting", ""), 0);
    assert_eq!(of("portcullis_events_total", "kind=\"session.created\""), 20);
    assert_eq!(of("portcullis_events_dropped_total", "kind=\"session.created\""), 0);
    for name in ["portcullis_events_total", "portcullis_events_dropped_total", "portcullis_events_folded_total"] {
        let kinds: Vec<String> = Kind::ALL.iter().map(|kind| format!("kind=\"{}\"", kind.as_str())).collect();
        assert_eq!(after[name].iter().map(|(labels, _)| labels.clone()).collect::<Vec<_>>(), kinds);
    }
    assert!(!after.contains_key("portcullis_connections_open"), "no proxy runs here");
    assert_eq!(of("portcullis_requests_total", "action=\"allow\",mode=\"enforce\""), 20);
    assert_eq!(of("portcullis_requests_total", "action=\"deny\",mode=\"enforce\""), 0);
    assert_eq!(after["portcullis_requests_total"].len(), (Action::ALL.len() + 1) * Mode::ALL.len());
    assert_eq!(after["portcullis_signals_total"].len(), SignalKind::ALL.len());
    assert_eq!(of("portcullis_sessions_active", ""), 20);
    assert!(!after.contains_key("portcullis_upstream_wait_seconds"), "no proxy runs here");
    assert_eq!(of("portcullis_store_requests_total", ""), 20);
    assert_eq!(of("portcullis_store_calls_total", "operation=\"create\",outcome=\"done\""), 20);
    let waits = &after["portcullis_store_wait_seconds"];
    for operation in Operation::ALL.map(Operation::as_str) {
        let of = format!("operation=\"{operation}\"");
        let buckets: Vec<u64> =
            waits.iter().filter(|(l, _)| l.starts_with("_bucket") && l.contains(&of)).map(|w| w.1).collect();
        let count = waits.iter().find(|(labels, _)| *labels == format!("_count{of}")).unwrap().1;
        assert!(
            buckets.len() == 11 && buckets.is_sorted() && buckets.last() == Some(&count),
            "{operation}: {buckets:?}"
        );
    }
    // Fewer when one ends.
    assert_eq!(world.client().revoke(&Selection::Subject("subject-3".into())).await.unwrap().revoked, 1);
    let then = samples(&world.client().metrics().await.unwrap());
    assert_eq!(then["portcullis_sessions_active"], [(String::new(), 19)]);
    // Who may not ask for sessions may not ask for figures.
    let answer = world.raw(format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", world.tcp())).await;
    assert_eq!(status(&answer), 401);
    let lines = [format!("Host: {}", world.tcp()), format!("Authorization: Bearer {}", world.token())].join("\r\n");
    let answer = world.raw(format!("GET /metrics HTTP/1.1\r\n{lines}\r\n\r\n")).await;
    assert!(status(&answer) == 200 && answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_is_in_the_manual_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Unix(folder.path().join("admin.sock"));
    let settings = Settings { address: address.clone(), token_file: PathBuf::new() };
    let guard = Arc::new(GuardBuilder::in_memory().build().unwrap());
    let server = Server::bind(&settings, guard, PolicyStanding::default(), Arc::new(OsEntropy)).unwrap();
    // Nobody is there to take events, and there are five.
    let (_durable, durable) = tokio::sync::watch::channel(5);
    let setup = delivery::Setup {
        journal: folder.path().join("events.jsonl"),
        durable: durable.clone(),
        events: EventSender::null(),
        clock: Arc::new(ManualClock::new(Timestamp::EPOCH)),
        entropy: Arc::new(OsEntropy),
    };
    let sink = delivery::Sink {
        name: "siem".to_owned(),
        target: delivery::Target::Journald(folder.path().join("nobody")),
        encoder: Encoder::default(),
        filter: Filter::default(),
        batch: 1,
        timeout: PATIENCE,
    };
    let sinks = delivery::Delivery::start(vec![sink], &setup).unwrap();
    let server = server
        .with_connections(|| 3)
        .with_exchanges(ExchangeFigures::default)
        .with_store("memory")
        .with_sinks(sinks.standings().to_vec());
    tokio::spawn(server.run(std::future::pending()));
    let text = Client::try_new(address, None).unwrap().metrics().await.unwrap();
    assert_eq!(samples(&text)["portcullis_connections_open"], [(String::new(), 3)]);
    let siem = |value: u64| [("sink=\"siem\"".to_owned(), value)];
    assert_eq!(samples(&text)["portcullis_events_sink_lag"], siem(0), "it begins with the next event");
    assert_eq!(samples(&text)["portcullis_events_sink_failing"], siem(0));
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/manual/howto.md")).unwrap();
    let rows = manual.lines().filter_map(|line| line.strip_prefix("| `portcullis_"));
    let told: BTreeSet<String> = rows.map(|row| format!("portcullis_{}", row.split('`').next().unwrap())).collect();
    assert_eq!(told, samples(&text).into_keys().collect());
}
