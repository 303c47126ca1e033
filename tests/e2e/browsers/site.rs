//! A site that asks its browser for all that browsers can do: pictures, films, frames, workers, sockets, streams, downloads.
//!
//! It knows one user. Every answer that matters says for whom the site took the request, so that a page can tell whether the
//! guard took its session away.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use portcullis::entropy::{OsEntropy, random};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Whom the site knows.
pub(super) const USER: &str = "alice";
/// The user's password. It protects nothing.
pub(super) const PASSWORD: &str = "open";

type Sessions = Mutex<HashMap<String, &'static str>>;

/// A running site, ended when it is dropped.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Site {
    pub(super) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { address, _stop: stop }
    }
}

async fn serve(listener: TcpListener) {
    let sessions = Arc::new(Sessions::default());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let sessions = sessions.clone();
        let service = service_fn(move |request| {
            let sessions = sessions.clone();
            async move { Ok::<_, Infallible>(answer(&sessions, request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async { drop(connection.with_upgrades().await) });
    }
}

async fn answer(sessions: &Sessions, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let user = user_of(sessions, request.headers());
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let text = |kind, text: &'static str| content(kind, "no-cache", text);
    match (request.method(), path.as_str()) {
        (&Method::POST, "/login") => log_in(sessions, request).await,
        (&Method::POST, "/logout") => log_out(sessions, request.headers()),
        (_, "/") => {
            let page = include_str!("site/page.html").replace("USER", user.unwrap_or("nobody"));
            content("text/html; charset=utf-8", "no-store", page)
        }
        (_, "/login") => text("text/html; charset=utf-8", include_str!("site/login.html")),
        (_, "/frame") => text("text/html; charset=utf-8", include_str!("site/frame.html")),
        (_, "/visit.js") => text("text/javascript", include_str!("site/visit.js")),
        (_, "/part.js") => text("text/javascript", include_str!("site/part.js")),
        (_, "/worker.js") => text("text/javascript", include_str!("site/worker.js")),
        (_, "/service.js") => text("text/javascript", include_str!("site/service.js")),
        (_, "/module.js") => text("text/javascript", include_str!("site/module.js")),
        (_, "/style.css") => content("text/css", "public, max-age=60", include_str!("site/style.css")),
        (_, "/picture" | "/favicon.ico") => {
            let picture =
                r#"<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>"#;
            let keep = if query.contains("fresh") { "no-store" } else { "public, max-age=60" };
            content("image/svg+xml", keep, picture)
        }
        (_, "/film.wav") => film(request.headers()),
        (_, "/beacon") => content("text/plain", "no-store", ""),
        (_, "/slow") => {
            let ms = query.trim_start_matches("ms=").split('&').next().and_then(|ms| ms.parse().ok());
            tokio::time::sleep(Duration::from_millis(ms.unwrap_or(0))).await;
            whose(user)
        }
        (_, "/me") => whose(user),
        (_, "/events") => content("text/event-stream", "no-store", format!("data: {}\n\n", user.unwrap_or("nobody"))),
        (_, "/download") => {
            let mut answer = content("application/octet-stream", "no-store", vec![7; 100_000]);
            answer.headers_mut().insert("content-disposition", "attachment; filename=notes.bin".parse().unwrap());
            answer
        }
        (_, "/socket") => socket(user, request),
        _ => status(StatusCode::NOT_FOUND),
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::default()).unwrap()
}

fn content(kind: &str, keep: &str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let response = Response::builder().header("content-type", kind).header("cache-control", keep);
    response.body(Full::new(body.into())).unwrap()
}

fn whose(user: Option<&str>) -> Response<Full<Bytes>> {
    content("application/json", "no-store", serde_json::json!({ "user": user }).to_string())
}

fn session_of(headers: &HeaderMap) -> Option<String> {
    let pairs = headers.get("cookie")?.to_str().ok()?.split("; ");
    pairs.filter_map(|pair| pair.strip_prefix("sessionid=")).next().map(str::to_owned)
}

fn user_of(sessions: &Sessions, headers: &HeaderMap) -> Option<&'static str> {
    sessions.lock().unwrap().get(&session_of(headers)?).copied()
}

/// The form of the login; with `remember` the session outlives the browser.
async fn log_in(sessions: &Sessions, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8_lossy(&body);
    let has = |pair: String| body.split('&').any(|found| found == pair);
    if !has(format!("username={USER}")) || !has(format!("password={PASSWORD}")) {
        return content("text/html", "no-store", "wrong");
    }
    let id = u128::from_ne_bytes(random(&OsEntropy).unwrap());
    sessions.lock().unwrap().insert(format!("{id:032x}"), USER);
    let life = if has("remember=yes".to_owned()) { "; Max-Age=86400" } else { "" };
    let mut answer = status(StatusCode::SEE_OTHER);
    answer.headers_mut().insert("location", "/".parse().unwrap());
    let cookie = format!("sessionid={id:032x}; Path=/; HttpOnly{life}");
    answer.headers_mut().insert("set-cookie", cookie.parse().unwrap());
    answer
}

fn log_out(sessions: &Sessions, headers: &HeaderMap) -> Response<Full<Bytes>> {
    sessions.lock().unwrap().remove(&session_of(headers).unwrap_or_default());
    let mut answer = status(StatusCode::SEE_OTHER);
    answer.headers_mut().insert("location", "/login".parse().unwrap());
    answer.headers_mut().insert("set-cookie", "sessionid=; Path=/; Max-Age=0".parse().unwrap());
    answer
}

/// Half a minute of silence; a part of it is given to whoever asks for one.
fn film(headers: &HeaderMap) -> Response<Full<Bytes>> {
    const RATE: u32 = 48_000;
    let sound = vec![128; 30 * usize::try_from(RATE).unwrap()];
    let length = u32::try_from(sound.len()).unwrap();
    let mut film = b"RIFF".to_vec();
    film.extend((36 + length).to_le_bytes());
    film.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    film.extend(RATE.to_le_bytes());
    film.extend(RATE.to_le_bytes());
    film.extend(b"\x01\0\x08\0data");
    film.extend(length.to_le_bytes());
    film.extend(sound);
    let whole = film.len();
    let range = headers.get("range").and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    let Some((from, to)) = range else {
        let mut answer = content("audio/wav", "no-store", film);
        answer.headers_mut().insert("accept-ranges", "bytes".parse().unwrap());
        return answer;
    };
    let from = from.parse::<usize>().unwrap_or(0).min(whole - 1);
    let to = to.parse::<usize>().map_or(whole, |to| to + 1).clamp(from + 1, whole);
    let mut answer = content("audio/wav", "no-store", film[from..to].to_vec());
    *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    let range = format!("bytes {from}-{}/{whole}", to - 1);
    answer.headers_mut().insert("content-range", range.parse().unwrap());
    answer
}

/// A WebSocket that answers its first message with the user.
fn socket(user: Option<&'static str>, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(key) = request.headers().get("sec-websocket-key") else { return status(StatusCode::BAD_REQUEST) };
    let seed = [key.as_bytes(), b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let accept = STANDARD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &seed));
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let mut stream = TokioIo::new(upgraded);
        let mut head = [0; 6];
        if stream.read_exact(&mut head).await.is_err() {
            return;
        }
        let mut text = vec![0; usize::from(head[1] & 0x7f)];
        drop(stream.read_exact(&mut text).await);
        let user = user.unwrap_or("nobody").as_bytes();
        let length = u8::try_from(user.len()).unwrap();
        drop(stream.write_all(&[&[0x81, length], user].concat()).await);
        // It stays open until the browser closes it.
        while stream.read(&mut head).await.is_ok_and(|count| count > 0) {}
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", accept)
        .body(Full::default())
        .unwrap()
}
