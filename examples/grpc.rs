//! A gRPC service in tonic whose callers log in and are known from then on, by a cookie in the metadata.
//!
//!     cargo run --features axum --example grpc
//!
//! Messages are JSON, so that there is nothing to generate; with protocol buffers the layer is put on in the same way.
#![cfg_attr(not(test), expect(clippy::print_stdout, reason = "an example has no log"))]

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _};
use portcullis::connection::Scheme;
use portcullis::engine::Guard;
use portcullis::layer::{GuardBuilder, GuardLayer, Session, tend};
use portcullis::store::memory::MemoryStore;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::server::{TcpConnectInfo, TcpIncoming};
use tonic::{Request, Response, Status};
use tower_service::Service;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let guard = Arc::new(GuardBuilder::in_memory().insecure_http().build()?);
    tokio::spawn(tend(&guard));
    let listener = TcpListener::bind("127.0.0.1:3002").await?;
    println!("grpc on {}", listener.local_addr()?);
    serve(listener, guard).await
}

/// Serves the desk behind a guard.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, guard: Arc<Guard<MemoryStore>>) -> Result<(), Box<dyn Error>> {
    let guarded = GuardLayer::new(guard)
        .with_scheme(Scheme::Http)
        .with_client(|parts| Some(parts.extensions.get::<TcpConnectInfo>()?.remote_addr()?.ip()));
    tonic::transport::Server::builder()
        .layer(guarded)
        .add_service(Desk)
        .serve_with_incoming(TcpIncoming::from(listener))
        .await?;
    Ok(())
}

/// Who comes to the desk.
#[derive(Debug, Serialize, Deserialize)]
pub struct Visitor {
    /// His name, if he gives one.
    pub name: Option<String>,
}

/// What he is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct Greeting {
    /// The words.
    pub text: String,
}

/// `shop.Desk`, with the method `Greet`: who gives a name is logged in, and known from then on.
#[derive(Clone)]
struct Desk;

impl NamedService for Desk {
    const NAME: &'static str = "shop.Desk";
}

fn greet(session: &Session, visitor: &Visitor) -> Result<Greeting, Status> {
    if let Some(name) = &visitor.name {
        session.log_in(name).map_err(|error| Status::invalid_argument(error.to_string()))?;
    }
    session
        .update("greetings", |greetings: &mut u32| *greetings += 1)
        .map_err(|error| Status::internal(error.to_string()))?;
    let greetings = session.get::<u32>("greetings").ok().flatten().unwrap_or_default();
    let name = session.subject().unwrap_or_else(|| "stranger".into());
    Ok(Greeting { text: format!("{name}, {greetings}") })
}

// ---- what `tonic-build` would generate ----------------------------------------------------------------------------------

struct Greet(Option<Session>);

impl UnaryService<Visitor> for Greet {
    type Response = Greeting;
    type Future = Ready<Result<Response<Greeting>, Status>>;

    fn call(&mut self, request: Request<Visitor>) -> Self::Future {
        let session = self.0.as_ref().ok_or_else(|| Status::internal("not behind the guard"));
        ready(session.and_then(|session| greet(session, request.get_ref())).map(Response::new))
    }
}

impl Service<http::Request<Body>> for Desk {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            if request.uri().path() != "/shop.Desk/Greet" {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            let session = Session::of(request.extensions()).cloned();
            Ok(Grpc::new(Json::default()).unary(Greet(session), request).await)
        })
    }
}

/// Messages as JSON.
#[derive(Debug)]
pub struct Json<E, D>(PhantomData<fn(E) -> D>);

impl<E, D> Default for Json<E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E: Serialize + Send + 'static, D: DeserializeOwned + Send + 'static> Codec for Json<E, D> {
    type Encode = E;
    type Decode = D;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<E: Serialize, D> Encoder for Json<E, D> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, item: E, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        serde_json::to_writer(buffer.writer(), &item).map_err(|error| Status::internal(error.to_string()))
    }
}

impl<E, D: DeserializeOwned> Decoder for Json<E, D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        if !buffer.has_remaining() {
            return Ok(None);
        }
        let read = serde_json::from_reader(buffer.reader());
        read.map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}
