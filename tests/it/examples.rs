//! The examples, used as their readers would use them.
#![cfg(feature = "axum")]

#[path = "../../examples/grpc.rs"]
#[expect(dead_code, unreachable_pub, reason = "an example is a program of its own")]
mod grpc;
#[path = "../../examples/plain_hyper.rs"]
#[expect(dead_code, unreachable_pub, reason = "an example is a program of its own")]
mod plain_hyper;
#[path = "../../examples/shop.rs"]
#[expect(dead_code, unreachable_pub, reason = "an example is a program of its own")]
mod shop;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis::clock::{ManualClock, Timestamp};
use portcullis::engine::Guard;
use portcullis::layer::GuardBuilder;
use portcullis::store::memory::MemoryStore;
use tokio::net::TcpListener;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;

use crate::support::browser::{Browser, Client};

/// A guard, its time, and where an example listens.
struct Running {
    clock: Arc<ManualClock>,
    at: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Running {
    fn start<F>(serve: impl FnOnce(TcpListener, Arc<Guard<MemoryStore>>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
        let guard = GuardBuilder::in_memory().insecure_http().clock(clock.clone()).build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let at = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, Arc::new(guard)));
        Self { clock, at, _runtime: runtime }
    }

    fn shop() -> Self {
        Self::start(|listener, guard| async move {
            let app = shop::app(guard).into_make_service_with_connect_info::<SocketAddr>();
            axum::serve(listener, app).await.unwrap();
        })
    }
}

#[test]
fn the_shop_keeps_a_cart_through_the_login_and_shows_devices() {
    let shop = Running::shop();
    let mut laptop = Browser::new(Client::chrome(), shop.at);
    assert!(laptop.get("/").text().contains("Good day. <a"));
    assert_eq!(laptop.cookie("portcullis"), None, "who was given nothing has no session");
    laptop.post("/cart", &[("item", "<apple>")]).expect_status(303);
    laptop.post("/cart", &[("item", "<apple>")]).expect_status(303);
    let page = laptop.get("/").text();
    assert!(page.contains("<li>2 &lt;apple&gt;</li>") && page.contains("It is in your cart."), "{page}");
    assert!(!laptop.get("/").text().contains("It is in your cart."), "a message is shown once");

    let before = laptop.cookie("portcullis");
    laptop.post("/login", &[("name", "alice"), ("password", "guess")]).expect_status(401);
    assert_eq!(laptop.cookie("portcullis"), before);
    laptop.post("/login", &[("name", "alice"), ("password", "open sesame")]).expect_status(303);
    assert_ne!(laptop.cookie("portcullis"), before, "a new id with the login");
    let page = laptop.get("/").text();
    assert!(page.contains("Good day, alice.") && page.contains("2 &lt;apple&gt;"), "{page}");

    let mut phone = Browser::new(Client::firefox().at([127, 0, 0, 9]), shop.at);
    phone.post("/login", &[("name", "alice"), ("password", "open sesame")]).expect_status(303);
    let devices = laptop.get("/devices").text();
    assert!(
        devices.contains("chrome on linux") && devices.contains("firefox on windows") && devices.contains("this one"),
        "{devices}"
    );
    let which = devices.split("value=\"").nth(2).unwrap().split('"').next().unwrap();
    laptop.post("/devices", &[("which", which)]).expect_status(303);
    assert!(phone.get("/").text().contains("Log in"), "the phone is logged out");

    shop.clock.advance(Duration::from_secs(900));
    laptop.post("/password", &[]).expect_status(401);
    laptop.post("/login", &[("name", "alice"), ("password", "open sesame")]).expect_status(303);
    laptop.post("/password", &[]).expect_status(303);
    laptop.post("/logout", &[]).expect_status(303);
    assert_eq!(laptop.cookie("portcullis"), None);
}

#[test]
fn a_stolen_cookie_of_the_shop_sees_a_shop_without_a_cart() {
    let shop = Running::shop();
    let mut alice = Browser::new(Client::chrome(), shop.at);
    alice.post("/cart", &[("item", "apple")]);
    alice.post("/login", &[("name", "alice"), ("password", "open sesame")]);
    let mut thief = alice.stolen_by(Client::script().at([127, 0, 0, 66]));
    let page = thief.get("/").text();
    assert!(!page.contains("apple") && !page.contains("alice"), "{page}");
    assert!(alice.get("/").text().contains("1 apple"));
}

#[test]
fn the_counter_in_plain_hyper_counts() {
    let counter = Running::start(|listener, guard| async move { plain_hyper::serve(listener, guard).await.unwrap() });
    let mut alice = Browser::new(Client::chrome(), counter.at);
    let mut bob = Browser::new(Client::firefox(), counter.at);
    for nth in 1..4 {
        assert_eq!(alice.get("/").text(), format!("visit {nth}\n"));
    }
    assert_eq!(bob.get("/").text(), "visit 1\n");
}

#[test]
fn callers_of_the_grpc_service_are_known_by_their_cookie() {
    let desk = Running::start(|listener, guard| async move { grpc::serve(listener, guard).await.unwrap() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let channel = Endpoint::from_shared(format!("http://{}", desk.at)).unwrap().connect().await.unwrap();
        let mut client = Grpc::new(channel);
        let mut cookie: Option<String> = None;
        let mut greet = async |name: Option<&str>| {
            client.ready().await.unwrap();
            let mut request = tonic::Request::new(grpc::Visitor { name: name.map(str::to_owned) });
            if let Some(cookie) = &cookie {
                request.metadata_mut().insert("cookie", cookie.parse().unwrap());
            }
            let path = PathAndQuery::from_static("/shop.Desk/Greet");
            let codec = grpc::Json::<grpc::Visitor, grpc::Greeting>::default();
            let answer = client.unary(request, path, codec).await.unwrap();
            if let Some(line) = answer.metadata().get("set-cookie") {
                cookie = line.to_str().unwrap().split(';').next().map(str::to_owned);
            }
            answer.into_inner().text
        };
        assert_eq!(greet(None).await, "stranger, 1");
        assert_eq!(greet(None).await, "stranger, 2");
        assert_eq!(greet(Some("alice")).await, "alice, 3");
        assert_eq!(greet(None).await, "alice, 4");
    });
}
