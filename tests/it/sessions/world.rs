//! The guard around an app that is written anew for every request.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use portcullis::clock::{ManualClock, Timestamp};
use portcullis::engine::Guard;
use portcullis::entropy::InsecureSeededEntropy;
use portcullis::event::Kind;
use portcullis::event::queue::{EventQueue, Settings, Writer};
use portcullis::event::sink::Collector;
use portcullis::layer::{ClientAddr, GuardBuilder, GuardLayer, Session};
use portcullis::session::id::SessionDigest;
use portcullis::session::record::{DecodeError, Record};
use portcullis::store::memory::MemoryStore;
use portcullis::store::shared::Shared;
use portcullis::store::{
    Carrier, Commit, Creation, Durability, Ending, Filter, Page, Proof, Reads, Rotate, Rotation, Store, StoreError,
    SubjectLimit,
};
use tower_layer::Layer as _;
use tower_service::Service;

use super::kept::{Below, Kept};
use crate::support::stored::ring;

const UA: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";

/// An answer without a body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Empty;

impl Body for Empty {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(0)
    }
}

macro_rules! kept {
    ($self:ident, $store:ident => $call:expr) => {
        match &$self.inner {
            Kept::Any($store) => $call,
            Kept::Carried($store) => $call,
            Kept::Cached($store) => $call,
        }
    };
}

/// A store that counts, and that can be out of reach.
#[derive(Debug)]
pub(super) struct Counting {
    inner: Kept,
    loads: AtomicUsize,
    writes: AtomicUsize,
    is_out: AtomicBool,
    is_unreadable: AtomicBool,
}

impl Counting {
    fn new(inner: Kept) -> Self {
        Self {
            inner,
            loads: AtomicUsize::default(),
            writes: AtomicUsize::default(),
            is_out: AtomicBool::default(),
            is_unreadable: AtomicBool::default(),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.is_out.load(Ordering::SeqCst) { Err(StoreError::io("out of reach")) } else { Ok(()) }
    }

    fn read(&self) -> Result<(), StoreError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.check()?;
        if self.is_unreadable.load(Ordering::SeqCst) {
            return Err(StoreError::Decode(DecodeError::Damaged));
        }
        Ok(())
    }

    fn write(&self) -> Result<(), StoreError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.check()
    }
}

impl Store for Counting {
    async fn create(&self, r: Record, limit: Option<SubjectLimit>, now: Timestamp) -> Result<Creation, StoreError> {
        self.write()?;
        kept!(self, store => store.create(r, limit, now).await)
    }

    async fn load(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        self.read()?;
        kept!(self, store => store.load(digest).await)
    }

    async fn load_fresh(&self, digest: &SessionDigest) -> Result<Option<Arc<Record>>, StoreError> {
        self.read()?;
        kept!(self, store => store.load_fresh(digest).await)
    }

    fn reads(&self) -> Reads {
        kept!(self, store => store.reads())
    }

    fn proof(&self) -> Proof {
        kept!(self, store => store.proof())
    }

    async fn commit(&self, record: Record, durability: Durability) -> Result<Commit, StoreError> {
        self.write()?;
        // Others may run before it is done.
        tokio::task::yield_now().await;
        kept!(self, store => store.commit(record, durability).await)
    }

    async fn rotate(&self, rotate: Rotate<'_>) -> Result<Rotation, StoreError> {
        self.write()?;
        kept!(self, store => store.rotate(rotate).await)
    }

    async fn revoke(&self, digest: &SessionDigest, ending: Ending) -> Result<Option<Arc<Record>>, StoreError> {
        self.write()?;
        kept!(self, store => store.revoke(digest, ending).await)
    }

    async fn revoke_subject(
        &self,
        subject: &str,
        except: Option<&SessionDigest>,
        ending: Ending,
    ) -> Result<Vec<Arc<Record>>, StoreError> {
        self.write()?;
        kept!(self, store => store.revoke_subject(subject, except, ending).await)
    }

    async fn list(&self, filter: &Filter, after: Option<SessionDigest>, max: usize) -> Result<Page, StoreError> {
        self.check()?;
        kept!(self, store => store.list(filter, after, max).await)
    }

    async fn clear_expired(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
        kept!(self, store => store.clear_expired(now, max).await)
    }

    fn carrier(&self) -> Option<&dyn Carrier> {
        kept!(self, store => store.carrier())
    }
}

/// A guard, its time, its events.
pub(super) struct World {
    pub(super) clock: Arc<ManualClock>,
    pub(super) guard: Arc<Guard<Counting>>,
    layer: GuardLayer<Counting>,
    events: Collector,
    _writer: Writer,
    _below: Below,
}

/// A client with its one cookie, and with those in which it carries the state of its session.
#[derive(Clone)]
pub(super) struct Client {
    address: &'static str,
    agent: &'static str,
    pub(super) cookie: Option<String>,
    pub(super) carried: BTreeMap<String, String>,
}

impl Client {
    pub(super) fn at_home() -> Self {
        Self { address: "203.0.113.10", agent: UA, cookie: None, carried: BTreeMap::new() }
    }

    pub(super) fn at(address: &'static str) -> Self {
        Self { address, ..Self::at_home() }
    }

    fn request(&self, method: Method) -> Request<()> {
        let mut request = Request::builder()
            .method(method)
            .uri("/")
            .header("host", "example.com")
            .header("user-agent", self.agent)
            .extension(ClientAddr(self.address.parse::<IpAddr>().unwrap()));
        for cookie in self.cookie.iter().chain(self.carried.values()) {
            request = request.header("cookie", cookie);
        }
        request.body(()).unwrap()
    }

    /// Somebody else, with a cookie that is not his.
    pub(super) fn abroad(cookie: Option<String>) -> Self {
        Self { address: "192.0.2.200", agent: "curl/8.5.0", cookie, carried: BTreeMap::new() }
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

impl Answer {
    /// The line that sets or takes the guard's cookie, without its value.
    pub(super) fn cookie_line(&self) -> Option<String> {
        let mut lines = self.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap());
        let line = lines.find(|line| line.starts_with("__"))?;
        Some(line.split_once(';').map_or(String::new(), |(_, attributes)| attributes.trim().to_owned()))
    }

    pub(super) fn clears_cookie(&self) -> bool {
        self.cookie_line().is_some_and(|line| line.contains("Max-Age=0"))
    }
}

/// What most handlers answer.
pub(super) const fn ok() -> StatusCode {
    StatusCode::OK
}

/// What a handler may answer.
pub(super) trait Reply: Send {
    fn reply(self) -> Response<Empty>;
}

impl Reply for StatusCode {
    fn reply(self) -> Response<Empty> {
        let mut response = Response::new(Empty);
        *response.status_mut() = self;
        response
    }
}

impl Reply for Response<Empty> {
    fn reply(self) -> Response<Empty> {
        self
    }
}

/// A service that answers everything with 200.
#[derive(Clone)]
pub(super) struct Always;

impl Service<Request<()>> for Always {
    type Response = Response<Empty>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Empty>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        std::future::ready(Ok(Response::new(Empty)))
    }
}

/// An app that does something with the session, and fails.
#[derive(Clone)]
pub(super) struct Failing(pub(super) fn(&Session));

impl Service<Request<()>> for Failing {
    type Response = Response<Empty>;
    type Error = &'static str;
    type Future = std::future::Ready<Result<Response<Empty>, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        self.0(Session::of(request.extensions()).unwrap());
        std::future::ready(Err("overloaded"))
    }
}

/// A handler as a service that is called once.
struct Once<H>(Arc<Mutex<Option<H>>>);

impl<H> Clone for Once<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<H, F> Service<Request<()>> for Once<H>
where
    H: FnOnce(Session) -> F + Send,
    F: Future<Output: Reply> + Send + 'static,
{
    type Response = Response<Empty>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Empty>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let session = Session::of(request.extensions()).unwrap().clone();
        let handler = self.0.lock().unwrap().take().unwrap();
        let answer = handler(session);
        Box::pin(async move { Ok(answer.await.reply()) })
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)))
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub(super) fn with(change: impl FnOnce(GuardBuilder<Counting>) -> GuardBuilder<Counting>) -> Self {
        let clock = clock();
        let (kept, below) = Kept::asked(clock.clone());
        Self { _below: below, ..Self::over(kept, clock, change) }
    }

    /// One whose clients carry their sessions. Those that share what has ended are nodes of one guard, and each makes other ids.
    pub(super) fn carried(ended: &Shared<MemoryStore>, seed: u64) -> Self {
        let (clock, entropy) = (clock(), Arc::new(InsecureSeededEntropy::new(seed)));
        Self::over(Kept::carried(ended, clock.clone()), clock, |builder| builder.entropy(entropy))
    }

    fn over(
        kept: Kept,
        clock: Arc<ManualClock>,
        change: impl FnOnce(GuardBuilder<Counting>) -> GuardBuilder<Counting>,
    ) -> Self {
        let events = Collector::new();
        let (sender, writer) =
            EventQueue::start(&Settings::default(), clock.clone(), vec![Box::new(events.clone())]).unwrap();
        let builder = GuardBuilder::new(Counting::new(kept))
            .clock(clock.clone())
            .entropy(Arc::new(InsecureSeededEntropy::new(7)))
            .keys(ring(&[1]))
            .events(sender);
        let guard = Arc::new(change(builder).build().unwrap());
        Self { clock, layer: GuardLayer::new(guard.clone()), guard, events, _writer: writer, _below: Box::new(()) }
    }

    /// A request that is answered by this handler.
    pub(super) async fn visit<H, F>(&self, client: &mut Client, handler: H) -> Answer
    where
        H: FnOnce(Session) -> F + Send + 'static,
        F: Future<Output: Reply> + Send + 'static,
    {
        self.try_visit(client, handler).await.1
    }

    /// As [`visit`](Self::visit); tells also whether the handler was called.
    pub(super) async fn try_visit<H, F>(&self, client: &mut Client, handler: H) -> (bool, Answer)
    where
        H: FnOnce(Session) -> F + Send + 'static,
        F: Future<Output: Reply> + Send + 'static,
    {
        let handler = Arc::new(Mutex::new(Some(handler)));
        let mut service = self.layer.layer(Once(handler.clone()));
        let response = service.call(client.request(Method::GET)).await.unwrap();
        let (parts, _) = response.into_parts();
        let answer = Answer { status: parts.status, headers: parts.headers };
        for line in answer.headers.get_all("set-cookie") {
            let pair = line.to_str().unwrap().split(';').next().unwrap();
            let name = pair.split('=').next().unwrap();
            if name.starts_with("__") && name.ends_with(['1', '2', '3']) {
                client.carried.insert(name.to_owned(), pair.to_owned());
                client.carried.retain(|_, pair| !pair.ends_with('='));
            } else if name.starts_with("__") {
                client.cookie = (!pair.ends_with('=')).then(|| pair.to_owned());
            }
        }
        let was_called = handler.lock().unwrap().is_none();
        (was_called, answer)
    }

    /// A form that is sent to an app which fails.
    pub(super) async fn fails(&self, client: &Client, path: &'static str, app: Failing) -> Result<(), &'static str> {
        let mut request = client.request(Method::POST);
        *request.uri_mut() = http::Uri::from_static(path);
        self.layer.layer(app).call(request).await.map(drop)
    }

    /// A request whose client goes away once the handler waits for something.
    pub(super) async fn leave<H, F>(&self, client: &Client, method: Method, handler: H)
    where
        H: FnOnce(Session) -> F + Send + 'static,
        F: Future<Output: Reply> + Send + 'static,
    {
        let handler = Arc::new(Mutex::new(Some(handler)));
        let mut service = self.layer.layer(Once(handler.clone()));
        let mut answer = Box::pin(service.call(client.request(method)));
        while handler.lock().unwrap().is_some() {
            let polled = std::future::poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
            assert!(polled.is_pending());
            tokio::task::yield_now().await;
        }
    }

    /// A request that leaves `a = 1` in the session, which begins with it if there is none.
    pub(super) async fn begin(&self, client: &mut Client) {
        self.visit(client, async |session: Session| {
            session.insert("a", &1).unwrap();
            ok()
        })
        .await;
    }

    pub(super) async fn log_in(&self, client: &mut Client, subject: &'static str) -> Answer {
        self.visit(client, async move |session: Session| {
            session.log_in(subject).unwrap();
            ok()
        })
        .await
    }

    /// A request whose handle lives on, as that of a WebSocket does.
    pub(super) async fn keep_handle(&self, client: &mut Client, work: fn(&Session)) -> Session {
        let kept = Arc::new(Mutex::new(None));
        let keep = kept.clone();
        self.visit(client, async move |session: Session| {
            work(&session);
            *keep.lock().unwrap() = Some(session);
            ok()
        })
        .await;
        kept.lock().unwrap().take().unwrap()
    }

    pub(super) fn writes(&self) -> usize {
        self.guard.store().writes.load(Ordering::SeqCst)
    }

    pub(super) fn loads(&self) -> usize {
        self.guard.store().loads.load(Ordering::SeqCst)
    }

    pub(super) fn take_store_away(&self) {
        self.guard.store().is_out.store(true, Ordering::SeqCst);
    }

    /// Every record is damaged, or under a key that was burnt.
    pub(super) fn make_unreadable(&self) {
        self.guard.store().is_unreadable.store(true, Ordering::SeqCst);
    }

    pub(super) fn make_readable(&self) {
        self.guard.store().is_unreadable.store(false, Ordering::SeqCst);
    }

    pub(super) fn bring_store_back(&self) {
        self.guard.store().is_out.store(false, Ordering::SeqCst);
    }

    /// The live sessions.
    pub(super) async fn records(&self) -> Vec<Arc<Record>> {
        let store = self.guard.store();
        kept!(store, store => store.list(&Filter::default(), None, 100).await.unwrap().records)
    }

    /// Writes a record past the guard.
    pub(super) async fn overwrite(&self, record: Record) {
        let store = self.guard.store();
        let done = kept!(store, store => store.commit(record, Durability::Durable).await.unwrap());
        assert!(matches!(done, Commit::Done(_)));
    }

    /// Whether clients carry the sessions.
    pub(super) fn is_carried(&self) -> bool {
        matches!(self.guard.store().inner, Kept::Carried(_))
    }

    pub(super) fn use_keys(&self, ids: &[u8]) {
        match &self.guard.store().inner {
            Kept::Carried(store) => store.replace_keys(ring(ids)),
            Kept::Any(store) => store.replace_keys(ring(ids)),
            Kept::Cached(_) => {}
        }
        self.guard.replace_keys(ring(ids));
    }

    pub(super) fn kinds(&self) -> Vec<Kind> {
        self.guard.events().flush(Duration::from_secs(30));
        self.events.kinds()
    }
}
