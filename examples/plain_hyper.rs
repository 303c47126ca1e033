//! A counter of visits in plain hyper, without a framework.
//!
//!     cargo run --features proxy --example plain_hyper
//!
//! and then <http://127.0.0.1:3001>, again and again.
#![cfg_attr(not(test), expect(clippy::print_stdout, clippy::print_stderr, reason = "an example has no log"))]

use std::convert::Infallible;
use std::error::Error;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use portcullis::engine::Guard;
use portcullis::layer::{ClientAddr, GuardBuilder, GuardLayer, Session, tend};
use portcullis::store::memory::MemoryStore;
use tokio::net::TcpListener;
use tower_layer::Layer as _;
use tower_service::Service;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let guard = Arc::new(GuardBuilder::in_memory().insecure_http().build()?);
    tokio::spawn(tend(&guard));
    let listener = TcpListener::bind("127.0.0.1:3001").await?;
    println!("http://{}", listener.local_addr()?);
    serve(listener, guard).await?;
    Ok(())
}

/// Serves the counter behind a guard.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, guard: Arc<Guard<MemoryStore>>) -> std::io::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        let service = Addressed { peer, inner: GuardLayer::new(guard.clone()).layer(Counter) };
        tokio::spawn(async move {
            let served = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
                .await;
            if let Err(error) = served {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

/// Tells the guard where a request comes from.
#[derive(Clone)]
struct Addressed<S> {
    peer: SocketAddr,
    inner: S,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for Addressed<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> S::Future {
        request.extensions_mut().insert(ClientAddr(self.peer.ip()));
        self.inner.call(request)
    }
}

/// The app.
#[derive(Clone)]
struct Counter;

impl Service<Request<Incoming>> for Counter {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Full<Bytes>>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        ready(Ok(visit(&request).unwrap_or_else(|error| {
            eprintln!("{error}");
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        })))
    }
}

fn visit(request: &Request<Incoming>) -> Result<Response<Full<Bytes>>, Box<dyn Error>> {
    let session = Session::of(request.extensions()).ok_or("not behind the guard")?;
    session.update("visits", |visits: &mut u64| *visits += 1)?;
    let visits: u64 = session.get("visits")?.unwrap_or_default();
    Ok(Response::new(Full::from(format!("visit {visits}\n"))))
}
