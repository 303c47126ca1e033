//! Stories of an app in Rust behind the layer, without a server.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use portcullis::clock::{ManualClock, Timestamp};
use portcullis::engine::control::Command;
use portcullis::engine::{Guard, Refusal, Selection};
use portcullis::entropy::InsecureSeededEntropy;
use portcullis::event::Kind;
use portcullis::event::field::Revoker;
use portcullis::event::queue::{EventQueue, Settings, Writer};
use portcullis::event::sink::{Collector, TRACING_TARGET};
use portcullis::layer::{
    ClientAddr, GuardBody, GuardBuilder, GuardLayer, GuardService, Looks, SessionEnd, WasCut, subject, tell,
};
use portcullis::store::memory::MemoryStore;
use tower_layer::Layer;
use tower_service::Service;

const ALICE_UA: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";
const HOME: &str = "203.0.113.10";
const ABROAD: &str = "192.0.2.200";

/// A body that says one thing, and then either ends or waits for ever.
enum Text {
    Whole(Option<Bytes>),
    Endless,
}

impl Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Endless => Poll::Pending,
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Whole(text) => http_body::SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Endless => http_body::SizeHint::default(),
        }
    }
}

/// An app that shows what it was given and logs everybody in who asks.
#[derive(Clone, Default)]
struct App {
    end: Arc<std::sync::Mutex<Option<SessionEnd>>>,
}

impl Service<Request<()>> for App {
    type Response = Response<Text>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Text>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let header = |name: &str| request.headers().get(name).map_or("-", |value| value.to_str().unwrap());
        let seen = format!("{} cookie={}", subject(request.headers()).unwrap_or("stranger"), header("cookie"));
        let text = Bytes::from(seen);
        let length = text.len();
        let mut response = Response::new(Text::Whole(Some(text)));
        let headers = response.headers_mut();
        match request.uri().path() {
            "/login" => {
                headers.append("set-cookie", "sessionid=secret-of-the-app; HttpOnly; Path=/".parse().unwrap());
                tell(headers, &Command::Login { subject: Some("alice".into()) }).unwrap();
            }
            "/visit" => {
                headers.append("set-cookie", "sessionid=anonymous; HttpOnly; Path=/".parse().unwrap());
            }
            "/logout" => tell(headers, &Command::Logout).unwrap(),
            "/stream" => *response.body_mut() = Text::Endless,
            "/socket" => {
                *self.end.lock().unwrap() = request.extensions().get::<SessionEnd>().cloned();
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            }
            _ => {}
        }
        if matches!(response.body(), Text::Whole(_)) && response.status() == StatusCode::OK {
            response.headers_mut().insert("content-length", length.into());
        }
        std::future::ready(Ok(response))
    }
}

/// The app behind the guard, and everything around it.
struct World {
    clock: Arc<ManualClock>,
    guard: Arc<Guard<MemoryStore>>,
    app: App,
    service: GuardService<MemoryStore, App>,
    events: Collector,
    _writer: Option<Writer>,
}

/// A client with its one cookie.
#[derive(Clone)]
struct Client {
    address: &'static str,
    agent: &'static str,
    cookie: Option<String>,
}

impl Client {
    fn new(address: &'static str, agent: &'static str) -> Self {
        Self { address, agent, cookie: None }
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Pin<Box<GuardBody<Text>>>,
}

impl Answer {
    fn text(&mut self) -> String {
        let mut cx = Context::from_waker(Waker::noop());
        match self.body.as_mut().poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap(),
            Poll::Ready(Some(Err(error))) => panic!("{error}"),
            Poll::Ready(None) => String::new(),
            Poll::Pending => panic!("the body waits"),
        }
    }

    /// The error that a stream ended with, if it did.
    fn end(&mut self) -> Option<portcullis::layer::BoxError> {
        let mut cx = Context::from_waker(Waker::noop());
        match self.body.as_mut().poll_frame(&mut cx) {
            Poll::Pending => None,
            Poll::Ready(Some(Err(error))) => Some(error),
            Poll::Ready(_) => panic!("the stream ended without an error"),
        }
    }
}

impl World {
    fn new() -> Self {
        Self::with(|layer| layer)
    }

    fn with(change: impl FnOnce(GuardLayer<MemoryStore>) -> GuardLayer<MemoryStore>) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
        let events = Collector::new();
        let (sender, writer) =
            EventQueue::start(&Settings::default(), clock.clone(), vec![Box::new(events.clone())]).unwrap();
        Self::told((clock, events), Some(writer), |builder| builder.events(sender), change)
    }

    /// A world whose guard tells its events as `tell` says.
    fn told(
        (clock, events): (Arc<ManualClock>, Collector),
        writer: Option<Writer>,
        tell: impl FnOnce(GuardBuilder<MemoryStore>) -> GuardBuilder<MemoryStore>,
        change: impl FnOnce(GuardLayer<MemoryStore>) -> GuardLayer<MemoryStore>,
    ) -> Self {
        let guard = GuardBuilder::in_memory()
            .shield("sessionid")
            .clock(clock.clone())
            .entropy(Arc::new(InsecureSeededEntropy::new(7)))
            .trusted_proxies(std::iter::once("10.0.0.0/8".parse().unwrap()).collect());
        let guard = Arc::new(tell(guard).build().unwrap());
        let app = App::default();
        let service = change(GuardLayer::new(guard.clone())).layer(app.clone());
        Self { clock, guard, app, service, events, _writer: writer }
    }

    async fn call(&mut self, request: Request<()>) -> Answer {
        std::future::poll_fn(|cx| self.service.poll_ready(cx)).await.unwrap();
        let (parts, body) = self.service.call(request).await.unwrap().into_parts();
        Answer { status: parts.status, headers: parts.headers, body: Box::pin(body) }
    }

    /// A request of a client, who keeps the cookie it is given.
    async fn get(&mut self, client: &mut Client, path: &str) -> Answer {
        self.send(client, path, &[]).await
    }

    async fn send(&mut self, client: &mut Client, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header("host", "example.com")
            .header("user-agent", client.agent)
            .header("accept-language", "de")
            .extension(ClientAddr(client.address.parse::<IpAddr>().unwrap()));
        for (name, value) in
            client.cookie.iter().map(|cookie| ("cookie", cookie.as_str())).chain(headers.iter().copied())
        {
            request = request.header(name, value);
        }
        let answer = self.call(request.body(()).unwrap()).await;
        for line in answer.headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            let pair = line.split(';').next().unwrap();
            if let Some(value) = pair.strip_prefix("__Host-portcullis=") {
                client.cookie = (!value.is_empty()).then(|| pair.to_owned());
            }
        }
        answer
    }

    fn kinds(&self) -> Vec<Kind> {
        self.guard.events().flush(Duration::from_secs(30));
        self.events.kinds()
    }
}

#[tokio::test]
async fn a_login_through_the_layer_gives_a_session_and_hides_the_apps_cookie() {
    let mut world = World::new();
    let mut alice = Client::new(HOME, ALICE_UA);
    assert_eq!(world.get(&mut alice, "/").await.text(), "stranger cookie=-");
    assert_eq!(alice.cookie, None, "a visitor who was given nothing costs no record");
    let answer = world.get(&mut alice, "/login").await;
    assert!(alice.cookie.is_some());
    assert!(!answer.headers.contains_key("portcullis-session"));
    let lines: Vec<_> = answer.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap()).collect();
    assert!(lines.iter().all(|line| !line.contains("secret-of-the-app")), "{lines:?}");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(world.get(&mut alice, "/").await.text(), "alice cookie=sessionid=secret-of-the-app");
    assert!(world.kinds().contains(&Kind::SessionAuthenticated));
}

#[tokio::test]
async fn an_id_from_before_the_login_is_worth_nothing_after_it() {
    let mut world = World::new();
    let mut mallory = Client::new(HOME, ALICE_UA);
    world.get(&mut mallory, "/visit").await;
    let planted = mallory.cookie.clone().unwrap();
    let mut alice = Client { cookie: Some(planted.clone()), ..Client::new(HOME, ALICE_UA) };
    world.get(&mut alice, "/login").await;
    assert_ne!(alice.cookie.as_ref(), Some(&planted));
    assert_eq!(world.get(&mut alice, "/").await.text(), "alice cookie=sessionid=secret-of-the-app");
    world.clock.advance(Duration::from_secs(120));
    assert_eq!(world.get(&mut mallory, "/").await.text(), "stranger cookie=-");
    assert!(world.kinds().contains(&Kind::SessionRotatedIdReuse));
    // An id that was never issued is not adopted either.
    let made_up = format!("__Host-portcullis={}.{}", "A".repeat(43), "A".repeat(22));
    let mut victim = Client { cookie: Some(made_up.clone()), ..Client::new(HOME, ALICE_UA) };
    world.get(&mut victim, "/login").await;
    assert_ne!(victim.cookie, Some(made_up));
}

#[tokio::test]
async fn a_stolen_cookie_from_another_device_and_network_shows_the_app_a_stranger() {
    let mut world = World::new();
    let mut alice = Client::new(HOME, ALICE_UA);
    world.get(&mut alice, "/login").await;
    world.clock.advance(Duration::from_secs(60));
    let mut thief = Client { cookie: alice.cookie.clone(), ..Client::new(ABROAD, "curl/8.5.0") };
    let text = world.get(&mut thief, "/account").await.text();
    assert_eq!(text, "stranger cookie=-");
    assert!(world.kinds().contains(&Kind::SessionHijackSuspected));
}

#[tokio::test]
async fn a_logout_ends_the_session_and_its_streams() {
    let mut world = World::new();
    let mut alice = Client::new(HOME, ALICE_UA);
    world.get(&mut alice, "/login").await;
    let before = alice.clone();
    let mut stream = world.get(&mut alice, "/stream").await;
    assert!(stream.end().is_none());
    world.get(&mut alice, "/logout").await;
    assert_eq!(alice.cookie, None);
    assert!(stream.end().unwrap().is::<WasCut>());
    let mut late = before;
    assert_eq!(world.get(&mut late, "/").await.text(), "stranger cookie=-");
}

#[tokio::test]
async fn a_revoked_session_ends_its_tunnel() {
    let mut world = World::new();
    let mut alice = Client::new(HOME, ALICE_UA);
    world.get(&mut alice, "/login").await;
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    let answer = world.send(&mut alice, "/socket", &upgrade).await;
    assert_eq!(answer.status, StatusCode::SWITCHING_PROTOCOLS);
    let end = world.app.end.lock().unwrap().clone().unwrap();
    let mut waiting = pin!(end.ended());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    world.guard.revoke(&Selection::Subject("alice".into()), Revoker::Admin).await.unwrap();
    assert!(waiting.as_mut().poll(&mut cx).is_ready());
}

#[tokio::test]
async fn a_stream_where_a_tunnel_was_asked_for_is_cut_like_any_other() {
    let mut world = World::new();
    let mut alice = Client::new(HOME, ALICE_UA);
    world.get(&mut alice, "/login").await;
    let mut stream = world.send(&mut alice, "/stream", &[("upgrade", "websocket")]).await;
    assert!(stream.end().is_none());
    world.guard.revoke(&Selection::All, Revoker::Admin).await.unwrap();
    assert!(stream.end().unwrap().is::<WasCut>());
}

#[tokio::test]
async fn headers_of_the_guard_that_a_client_sends_never_reach_the_app() {
    let mut world = World::new();
    let mut mallory = Client::new(HOME, ALICE_UA);
    let forged = [("portcullis-subject", "root"), ("portcullis_subject", "root")];
    assert_eq!(world.send(&mut mallory, "/", &forged).await.text(), "stranger cookie=-");
    assert!(world.kinds().contains(&Kind::HeaderSpoofed));
}

#[tokio::test]
async fn an_app_that_reads_its_session_can_do_without_headers_and_still_gets_no_forged_ones() {
    let guard =
        GuardBuilder::in_memory().insecure_http().shield("sessionid").build().unwrap().without_identity_headers();
    let mut service = GuardLayer::new(Arc::new(guard)).layer(App::default());
    let mut call = async |path: &str, cookie: &str| {
        let request = Request::get(path).header("cookie", cookie).header("portcullis-subject", "root");
        let mut request = request.body(()).unwrap();
        request.extensions_mut().insert(ClientAddr(HOME.parse().unwrap()));
        let (parts, body) = service.call(request).await.unwrap().into_parts();
        Answer { status: parts.status, headers: parts.headers, body: Box::pin(body) }
    };
    let answer = call("/login", "a=b").await;
    let line = answer.headers.get_all("set-cookie").iter().next().unwrap().to_str().unwrap().to_owned();
    let cookie = line.split(';').next().unwrap();
    assert!(cookie.starts_with("portcullis="), "{line}");
    assert_eq!(call("/", cookie).await.text(), "stranger cookie=sessionid=secret-of-the-app");
}

#[tokio::test]
async fn without_an_address_or_with_two_hosts_nothing_is_served() {
    let mut world = World::new();
    let answer = world.call(Request::get("/").header("host", "a.example").body(()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    let mut client = Client::new(HOME, ALICE_UA);
    assert_eq!(world.send(&mut client, "/", &[("host", "b.example")]).await.status, StatusCode::BAD_REQUEST);
    assert!(world.kinds().contains(&Kind::HttpMalformed));
}

#[tokio::test]
async fn the_clients_address_is_found_where_the_host_says_and_behind_trusted_proxies() {
    let mut world =
        World::with(|layer| layer.with_client(|parts| parts.headers.get("x-socket")?.to_str().ok()?.parse().ok()));
    let mut ips = Vec::new();
    for (socket, forwarded) in [(HOME, "198.51.100.7"), ("10.1.1.1", "198.51.100.7")] {
        let request = Request::get("/login")
            .header("host", "example.com")
            .header("x-socket", socket)
            .header("x-forwarded-for", forwarded);
        assert_eq!(world.call(request.body(()).unwrap()).await.status, StatusCode::OK);
        world.guard.events().flush(Duration::from_secs(30));
        ips.push(world.events.drain().last().unwrap().scene.client.ip.unwrap().to_string());
    }
    assert_eq!(ips, [HOME, "198.51.100.7"]);
}

#[tokio::test]
async fn a_trusted_proxy_that_names_no_client_is_told_so_once_a_minute() {
    let mut world = World::new();
    let mut balancer = Client::new("10.1.1.1", ALICE_UA);
    for _ in 0..3 {
        let answer = world.send(&mut balancer, "/", &[("x-forwarded-for", "198.51.100.7:4711")]).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    assert_eq!(world.kinds().iter().filter(|kind| **kind == Kind::ConfigProxyHeader).count(), 1);
    world.clock.advance(Duration::from_secs(60));
    for header in [("forwarded", "for=_hidden"), ("x-forwarded-for", "198.51.100.7")] {
        world.send(&mut balancer, "/", &[header]).await;
    }
    assert_eq!(world.kinds().iter().filter(|kind| **kind == Kind::ConfigProxyHeader).count(), 2);
}

#[tokio::test]
async fn a_refusal_looks_as_the_host_wants_and_keeps_what_it_must_carry() {
    fn teapot(_: &Refusal, looks: Looks) -> Response<Bytes> {
        assert_eq!(looks, Looks::Html);
        Response::builder().status(418).header("x-own", "1").body(Bytes::from_static(b"no")).unwrap()
    }
    for change in [(|layer| layer) as fn(GuardLayer<MemoryStore>) -> _, |layer| layer.with_refusal(teapot)] {
        let mut world = World::with(change);
        let mut flood = Client::new(HOME, ALICE_UA);
        let mut refused = None;
        for _ in 0..300 {
            let answer = world.send(&mut flood, "/", &[("accept", "text/html")]).await;
            if answer.status != StatusCode::OK {
                refused = Some(answer);
                break;
            }
        }
        let mut refused = refused.expect("a flood is refused");
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.headers.contains_key("retry-after"));
        let own = refused.headers.contains_key("x-own");
        assert_eq!(refused.text().contains("<!doctype html>"), !own);
    }
}

// ---- events without a sink -----------------------------------------------------------------------------------------

/// What `tracing` was given under the target of events: the level, and the fields by their names.
#[derive(Default)]
struct Heard(std::sync::Mutex<Vec<(tracing::Level, BTreeMap<String, String>)>>);

struct Fields(BTreeMap<String, String>);

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

/// Hears events alone: everything else that is said in this process costs a comparison.
struct Listener(Arc<Heard>);

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == TRACING_TARGET
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        self.0.0.lock().unwrap().push((*event.metadata().level(), fields.0));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn a_guard_without_sinks_tells_its_events_by_tracing() {
    /// No other story has a client here.
    const HERE: &str = "203.0.113.234";
    let heard = Arc::new(Heard::default());
    tracing::subscriber::set_global_default(Listener(heard.clone())).unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
    let mut world = World::told((clock, Collector::new()), None, |builder| builder, |layer| layer);
    let mut alice = Client::new(HERE, ALICE_UA);
    world.get(&mut alice, "/login").await;
    let mut thief = Client { agent: "curl/8.5.0", ..alice.clone() };
    world.get(&mut thief, "/").await;
    world.guard.events().flush(Duration::from_secs(30));
    let heard = heard.0.lock().unwrap();
    let ours: Vec<_> = heard.iter().filter(|(_, fields)| fields["line"].contains(HERE)).collect();
    let of = |kind: &str| {
        ours.iter().find(|(_, fields)| fields["event"] == kind).unwrap_or_else(|| panic!("{kind}: {ours:?}"))
    };
    let (level, login) = of("session.authenticated");
    assert_eq!((*level, login["action"].as_str()), (tracing::Level::INFO, "allow"));
    assert_eq!(login["message"], "Someone logged in, and the session is theirs now.");
    let (level, theft) = of("session.hijack_suspected");
    assert_eq!((*level, theft["action"].as_str()), (tracing::Level::ERROR, "quarantine"));
    let line: serde_json::Value = serde_json::from_str(&theft["line"]).unwrap();
    assert_eq!(
        (&line["event"], line["ref"].as_str().unwrap()),
        (&"session.hijack_suspected".into(), theft["ref"].as_str())
    );
    let secret = alice.cookie.unwrap();
    assert!(!format!("{ours:?}").contains(secret.split_once('=').unwrap().1));
}
