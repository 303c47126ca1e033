//! Requests: put together before the clock runs, as a server would have read them.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::header::{ACCEPT, ACCEPT_LANGUAGE, COOKIE, HOST, SET_COOKIE, USER_AGENT};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};

/// Fields that can be added to a request before its map must grow: a server has read into it.
const ROOM: usize = 8;

/// Which session is meant, for the handler of a login.
pub const NUMBER: &str = "x-number";

/// A request of the client of this number.
pub fn request(method: Method, path: &'static str, number: usize, cookie: Option<&str>) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap();
    let headers = request.headers_mut();
    headers.reserve(ROOM);
    let lines = [
        (HOST, "shop.example"),
        (USER_AGENT, "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        (ACCEPT, "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        (ACCEPT_LANGUAGE, "en-GB,en;q=0.5"),
    ];
    headers.extend(lines.map(|(name, value)| (name, HeaderValue::from_static(value))));
    if let Some(cookie) = cookie {
        headers.insert(COOKIE, cookie.parse().unwrap());
    }
    let ip = Ipv4Addr::from_bits(0x0a00_0000 | u32::try_from(number).unwrap());
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from((ip, 40_000))));
    request
}

/// A login of the client of this number.
pub fn login(number: usize) -> Request<Body> {
    let mut request = request(Method::POST, "/login", number, None);
    request.headers_mut().insert(NUMBER, number.into());
    request
}

/// The cookie that an answer sets, as the client would send it back.
pub fn cookie(response: &Response<Body>) -> Box<str> {
    let mut lines = response.headers().get_all(SET_COOKIE).iter();
    let (line, more) = (lines.next(), lines.next());
    assert_eq!(response.status(), StatusCode::OK, "a login failed: {response:?}");
    let line = line.filter(|_| more.is_none()).unwrap_or_else(|| panic!("not one cookie: {response:?}"));
    line.to_str().unwrap().split(';').next().unwrap().into()
}

/// What an answer says. Its body is there at once.
pub fn text(response: &mut Response<Body>) -> Bytes {
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = Bytes::new();
    loop {
        match Pin::new(response.body_mut()).poll_frame(&mut cx) {
            Poll::Ready(Some(frame)) => all = frame.unwrap().into_data().unwrap(),
            Poll::Ready(None) => return all,
            Poll::Pending => panic!("an answer waits for something"),
        }
    }
}

/// Numbers below `count` in a random order, always the same.
pub fn shuffled(count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..u32::try_from(count).unwrap()).collect();
    let mut state: u64 = 0x5eed;
    for at in (1..count).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pick = (state >> 33) % (at as u64 + 1);
        order.swap(at, usize::try_from(pick).unwrap());
    }
    order
}
