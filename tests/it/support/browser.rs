//! A browser for stories: a cookie jar, forms, redirects, and an identity that the test chooses.
//!
//! Tabs of one browser share its jar and send at the same time. A copied jar is the theft: the same cookies in the hands
//! of another client.

use std::fmt::Write;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use super::http::{Connection, Response};
use super::jar::Jar;

/// Who asks: what a server can see of a client apart from its cookies.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) address: Ipv4Addr,
    pub(crate) user_agent: &'static str,
    pub(crate) accept_language: Option<&'static str>,
    /// `Sec-CH-UA`, `-Mobile` and `-Platform`; not every browser sends them.
    pub(crate) hints: Option<[&'static str; 3]>,
}

impl Client {
    /// Chrome on Linux.
    pub(crate) const fn chrome() -> Self {
        Self {
            address: Ipv4Addr::new(127, 10, 0, 1),
            user_agent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
            accept_language: Some("de-DE,de;q=0.9,en;q=0.8"),
            hints: Some([r#""Chromium";v="142", "Google Chrome";v="142", "Not_A Brand";v="99""#, "?0", r#""Linux""#]),
        }
    }

    /// Firefox on Windows.
    pub(crate) const fn firefox() -> Self {
        Self {
            address: Ipv4Addr::new(127, 20, 0, 1),
            user_agent: "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0",
            accept_language: Some("en-US,en;q=0.5"),
            hints: None,
        }
    }

    /// A script, from far away.
    pub(crate) const fn script() -> Self {
        Self { address: Ipv4Addr::new(127, 200, 7, 1), user_agent: "curl/8.5.0", accept_language: None, hints: None }
    }

    /// The same client at another address.
    pub(crate) const fn at(mut self, address: [u8; 4]) -> Self {
        let [a, b, c, d] = address;
        self.address = Ipv4Addr::new(a, b, c, d);
        self
    }
}

/// What becomes of the cookies that an answer sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SetCookies {
    Kept,
    Lost,
}

/// One tab of a browser.
#[derive(Debug)]
pub(crate) struct Browser {
    pub(crate) client: Client,
    server: SocketAddr,
    jar: Arc<Mutex<Jar>>,
    idle: Option<Connection>,
}

impl Browser {
    /// A browser that was never used, for the site at `server`.
    pub(crate) fn new(client: Client, server: SocketAddr) -> Self {
        Self { client, server, jar: Arc::default(), idle: None }
    }

    /// Another tab: the same jar, a connection of its own.
    pub(crate) fn tab(&self) -> Self {
        Self { client: self.client.clone(), server: self.server, jar: Arc::clone(&self.jar), idle: None }
    }

    /// The jar as it is now, copied into another client's browser.
    pub(crate) fn stolen_by(&self, client: Client) -> Self {
        Self { client, server: self.server, jar: Arc::new(Mutex::new(self.jar())), idle: None }
    }

    /// The same browser after the site has moved to another port; cookies know no ports.
    pub(crate) fn now_at(&mut self, server: SocketAddr) {
        self.server = server;
        self.idle = None;
    }

    /// The jar as it is now.
    pub(crate) fn jar(&self) -> Jar {
        self.jar.lock().unwrap().clone()
    }

    /// The value of a cookie.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        self.jar().get(name).map(str::to_owned)
    }

    /// Puts a cookie into the jar, as an attacker could from a neighbouring host.
    pub(crate) fn plant(&self, name: &str, value: &str) {
        self.jar.lock().unwrap().plant(name, value);
    }

    /// Navigates; redirects are not followed.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.try_get(path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// [`Self::get`] where the server may be away.
    pub(crate) fn try_get(&mut self, path: &str) -> io::Result<Response> {
        self.exchange("GET", path, None, SetCookies::Kept)
    }

    /// Navigates, but the answer's `Set-Cookie` lines are lost on the way.
    #[track_caller]
    pub(crate) fn get_losing_cookies(&mut self, path: &str) -> Response {
        self.exchange("GET", path, None, SetCookies::Lost).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// Navigates and follows redirects.
    #[track_caller]
    pub(crate) fn visit(&mut self, path: &str) -> Response {
        let first = self.get(path);
        self.follow(first)
    }

    /// Follows redirects within the site.
    #[track_caller]
    pub(crate) fn follow(&mut self, mut response: Response) -> Response {
        for _ in 0..10 {
            let Some(to) = response.header("location").filter(|_| matches!(response.status, 301..=308)) else {
                return response;
            };
            let site = format!("http://{}", self.server);
            let to = to.strip_prefix(&site).unwrap_or(to).to_owned();
            assert!(to.starts_with('/'), "redirected off the site: {to}");
            response = self.get(&to);
        }
        panic!("redirected in circles");
    }

    /// Posts a form; redirects are not followed.
    #[track_caller]
    pub(crate) fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        let body = form(fields);
        self.exchange("POST", path, Some(("application/x-www-form-urlencoded", body.as_bytes())), SetCookies::Kept)
            .unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// Opens a page and submits its form to itself: these fields beside the hidden ones that the page holds.
    #[track_caller]
    pub(crate) fn submit(&mut self, page: &str, fields: &[(&str, &str)]) -> Response {
        self.submit_to(page, page, fields)
    }

    /// [`Self::submit`] for a form whose action is another path.
    #[track_caller]
    pub(crate) fn submit_to(&mut self, page: &str, action: &str, fields: &[(&str, &str)]) -> Response {
        let hidden = hidden_fields(&self.get(page).expect_status(200).text());
        let hidden = hidden.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let all: Vec<(&str, &str)> = hidden.chain(fields.iter().copied()).collect();
        self.post(action, &all)
    }

    /// Opens a page and submits its form with a file.
    #[track_caller]
    pub(crate) fn upload(&mut self, path: &str, field: &str, file: &str, content: &[u8]) -> Response {
        const BOUNDARY: &str = "----boundary7d1f3a";
        let mut body = Vec::new();
        for (name, value) in hidden_fields(&self.get(path).expect_status(200).text()) {
            let part = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            body.extend(part.into_bytes());
        }
        let part = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{file}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        body.extend(part.into_bytes());
        body.extend(content);
        body.extend(format!("\r\n--{BOUNDARY}--\r\n").into_bytes());
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        self.exchange("POST", path, Some((&kind, &body)), SetCookies::Kept)
            .unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// Sends a request and hands over the connection with the answer's body unread: event streams, WebSockets.
    #[track_caller]
    pub(crate) fn open(&self, path: &str, more_headers: &str) -> (Response, Connection) {
        let mut connection = Connection::open(self.client.address, self.server).unwrap();
        connection.send(&self.head("GET", path, None, more_headers), b"").unwrap();
        let response = connection.read_head().unwrap();
        (response, connection)
    }

    fn exchange(
        &mut self,
        method: &str,
        path: &str,
        body: Option<(&str, &[u8])>,
        cookies: SetCookies,
    ) -> io::Result<Response> {
        let head = self.head(method, path, body, "");
        let content = body.map_or(&b""[..], |(_, content)| content);
        // The server may close an idle connection at any time; like a browser we then ask once more, on a new one.
        let on_idle = self.idle.take().map(|mut idle| (idle.send(&head, content).and_then(|()| idle.read()), idle));
        let (response, connection) = match on_idle {
            Some((Ok(response), idle)) => (response, idle),
            Some((Err(error), idle)) if method != "GET" || idle.has_begun => return Err(error),
            _ => {
                let mut connection = Connection::open(self.client.address, self.server)?;
                connection.send(&head, content)?;
                (connection.read()?, connection)
            }
        };
        self.idle = Some(connection).filter(|connection| connection.is_reusable);
        if cookies == SetCookies::Kept {
            let mut jar = self.jar.lock().unwrap();
            for line in response.all("set-cookie") {
                jar.take(line, without_query(path));
            }
        }
        Ok(response)
    }

    fn head(&self, method: &str, path: &str, body: Option<(&str, &[u8])>, more_headers: &str) -> String {
        let Client { user_agent, accept_language, hints, .. } = &self.client;
        let server = self.server;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {server}\r\n");
        if !more_headers.contains("Connection:") {
            head += "Connection: keep-alive\r\n";
        }
        if let Some((kind, content)) = body {
            write!(
                head,
                "Content-Length: {}\r\nContent-Type: {kind}\r\nOrigin: http://{server}\r\nReferer: http://{server}{path}\r\n",
                content.len()
            )
            .unwrap();
        }
        if let Some([brands, mobile, platform]) = hints {
            write!(head, "sec-ch-ua: {brands}\r\nsec-ch-ua-mobile: {mobile}\r\nsec-ch-ua-platform: {platform}\r\n")
                .unwrap();
        }
        write!(head, "User-Agent: {user_agent}\r\n").unwrap();
        head += "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";
        if let Some(language) = accept_language {
            head += "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\n";
            write!(head, "Accept-Language: {language}\r\n").unwrap();
        }
        if let Some(cookies) = self.jar.lock().unwrap().header(without_query(path)) {
            write!(head, "Cookie: {cookies}\r\n").unwrap();
        }
        head + more_headers + "\r\n"
    }
}

fn without_query(path: &str) -> &str {
    path.split('?').next().unwrap_or(path)
}

fn form(fields: &[(&str, &str)]) -> String {
    let encode =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

/// `<input type="hidden" name=".." value="..">` of a page, in order, each name once.
fn hidden_fields(page: &str) -> Vec<(String, String)> {
    let attribute = |tag: &str, name: &str| {
        let (_, rest) = tag.split_once(&format!("{name}=\""))?;
        rest.split('"').next().map(str::to_owned)
    };
    let mut fields: Vec<(String, String)> = Vec::new();
    for tag in page.split("<input").skip(1).filter_map(|rest| rest.split('>').next()) {
        if attribute(tag, "type").as_deref() != Some("hidden") {
            continue;
        }
        let (Some(name), value) = (attribute(tag, "name"), attribute(tag, "value").unwrap_or_default()) else {
            continue;
        };
        if fields.iter().all(|(known, _)| *known != name) {
            fields.push((name, value));
        }
    }
    fields
}

#[test]
fn hidden_fields_of_a_page_are_found() {
    let page = r#"<form><input type="hidden" name="token" value="a1"><input name="q"><input type="hidden" name="next"></form>
                  <form><input type="hidden" name="token" value="a2"></form>"#;
    let fields = hidden_fields(page);
    assert_eq!(fields, [("token".into(), "a1".into()), ("next".into(), String::new())]);
    assert_eq!(form(&[("a b", "ü&=")]), "a%20b=%C3%BC%26%3D");
}
