//! Those who are measured: how each is configured, started and looked at before the clock runs.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::load::{Load, ask};
use super::process::{Process, until};

/// Octets of the app's answers.
pub(crate) const APP_BODY_BYTES: usize = 80;

/// What the app calls its own session.
const APP_COOKIE_BYTES: usize = 200;

/// Those who are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
    Bare,
    Off,
    On,
    Journal,
    Dead,
    Live,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] =
        [Self::Nginx, Self::Haproxy, Self::Bare, Self::Off, Self::On, Self::Journal, Self::Dead, Self::Live];

    /// Those that are measured if nothing else is asked for.
    pub(crate) const USUAL: [Self; 5] = [Self::Nginx, Self::Haproxy, Self::Bare, Self::Off, Self::On];

    /// Whether one request of fifty tells an event.
    pub(crate) const fn tells(self) -> bool {
        matches!(self, Self::Journal | Self::Dead | Self::Live)
    }

    /// As it is written on the command line.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Bare => "bare",
            Self::Off => "off",
            Self::On => "on",
            Self::Journal => "journal",
            Self::Dead => "dead",
            Self::Live => "live",
        }
    }

    /// As it is written in the table.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Nginx => "nginx `proxy_pass`, keep-alive upstream, 2 workers",
            Self::Haproxy => "haproxy, 2 threads",
            Self::Bare => "bare hyper + hyper-util client, mimalloc, no guard",
            Self::Off => "Portcullis, guard off",
            Self::On => "Portcullis, guard on (known session)",
            Self::Journal => "the same, one of fifty tells an event: a journal, no sink over the network",
            Self::Dead => "the same, with a sink whose receiver is dead",
            Self::Live => "the same, with a sink that is alive",
        }
    }
}

/// One who is measured, running.
pub(crate) struct Contender {
    pub(crate) kind: Kind,
    process: Process,
    address: SocketAddr,
}

impl Contender {
    pub(crate) fn start(kind: Kind, scratch: &Path, app: SocketAddr) -> Self {
        let (process, address) = match kind {
            Kind::Nginx => nginx(scratch, "proxy", 2, |port| proxy_conf(port, app)),
            Kind::Haproxy => haproxy(scratch, app),
            Kind::Bare | Kind::Off | Kind::On | Kind::Journal | Kind::Dead | Kind::Live => own(kind, app),
        };
        Self { kind, process, address }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn cpu(&self) -> Duration {
        self.process.cpu()
    }

    /// Makes sure that it does what it is measured for.
    pub(crate) fn check(&self) {
        let (head, body) = ask(self.address, "GET /", &[], "");
        assert!(head.starts_with("HTTP/1.1 200") && body.contains("hello"), "{:?} answers {head} {body}", self.kind);
        if self.kind != Kind::On && !self.kind.tells() {
            return;
        }
        let cookie = log_in(self.address, 0);
        let seen = app_sees(self.address, &cookie);
        assert!(seen.contains("sessionid=") && !seen.contains("portcullis="), "the app sees the cookies {seen:?}");
        let seen = app_sees(self.address, "sessionid=chosen-by-the-client");
        assert!(!seen.contains("sessionid="), "the app sees a cookie that the client chose: {seen:?}");
    }

    /// The load for it. All are sent requests of the same length: each with a session cookie as the guard issues it, and
    /// to the guard with one that it issued a moment ago, so that no successor becomes due while it is measured.
    pub(crate) fn load(&self, scratch: &Path, sessions: usize) -> Load {
        let cookies: Vec<String> = (0..sessions)
            .map(|at| match self.kind {
                // An id that was never issued.
                _ if self.kind.tells() && at % 50 == 0 => foreign_cookie(at),
                Kind::On | Kind::Journal | Kind::Dead | Kind::Live => log_in(self.address, at),
                _ => foreign_cookie(at),
            })
            .collect();
        Load::new(scratch, self.address, &cookies)
    }
}

/// What the requests of the load carry too: with other ones the same cookie would look stolen.
pub(crate) const BROWSER: [(&str, &str); 3] = [
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "en-GB,en;q=0.5"),
];

/// What the app is sent as `Cookie` when it is asked with this one.
fn app_sees(address: SocketAddr, cookie: &str) -> String {
    ask(address, "GET /whoami", &[BROWSER.as_slice(), &[("Cookie", cookie)]].concat(), "").1
}

/// A cookie of the same length for whoever has no sessions.
pub(crate) fn foreign_cookie(at: usize) -> String {
    format!("portcullis={at:0>43}.{at:0>22}")
}

/// Logs in through the guard; gives the guard's cookie.
pub(crate) fn log_in(address: SocketAddr, at: usize) -> String {
    let headers = [BROWSER.as_slice(), &[("Content-Type", "application/x-www-form-urlencoded")]].concat();
    let (head, _) = ask(address, "POST /login", &headers, &format!("username=user{at}&password=x"));
    let cookie = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let pair = value.split(';').next()?;
        (name.eq_ignore_ascii_case("set-cookie") && pair.starts_with("portcullis=")).then(|| pair.to_owned())
    });
    cookie.unwrap_or_else(|| panic!("no cookie of the guard on the answer to a login: {head}"))
}

/// The app: an nginx that answers 80 bytes.
pub(crate) fn app(scratch: &Path) -> Contender {
    let value = "v".repeat(APP_COOKIE_BYTES);
    let hello = format!("{:.<APP_BODY_BYTES$}", "hello");
    let (process, address) = nginx(scratch, "app", 1, |port| {
        format!(
            "server {{
                listen 127.0.0.1:{port};
                default_type text/plain;
                location / {{ return 200 '{hello}'; }}
                location = /whoami {{ return 200 '$http_cookie'; }}
                location = /login {{
                    add_header Set-Cookie 'sessionid={value}; Path=/; HttpOnly; SameSite=Lax' always;
                    return 302 /;
                }}
            }}"
        )
    });
    Contender { kind: Kind::Nginx, process, address }
}

/// The least that makes nginx a proxy with kept connections: more headers would only make it dearer.
fn proxy_conf(port: u16, app: SocketAddr) -> String {
    format!(
        "upstream app {{ server {app}; keepalive 256; keepalive_requests 1000000000; }}
        server {{
            listen 127.0.0.1:{port};
            location / {{
                proxy_pass http://app;
                proxy_http_version 1.1;
                proxy_set_header Connection '';
                proxy_set_header Host $http_host;
            }}
        }}"
    )
}

fn nginx(scratch: &Path, name: &str, workers: usize, server: impl Fn(u16) -> String) -> (Process, SocketAddr) {
    let address = free_address();
    let dir = scratch.join(name);
    fs::create_dir(&dir).unwrap();
    let dir_text = dir.display();
    // As root it would hand its directories to another user, who may not enter ours.
    let user = if is_root() { "user root;" } else { "" };
    let text = format!(
        "{user}
        daemon off; worker_processes {workers}; pid {dir_text}/pid; error_log stderr error;
        events {{ worker_connections 4096; }}
        http {{
            access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
            client_body_temp_path {dir_text}; proxy_temp_path {dir_text}; fastcgi_temp_path {dir_text};
            uwsgi_temp_path {dir_text}; scgi_temp_path {dir_text};
            {}
        }}",
        server(address.port())
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, text).unwrap();
    let process = Process::start(Command::new(program("nginx")).arg("-e").arg("stderr").arg("-c").arg(file));
    wait_for(address);
    (process, address)
}

fn haproxy(scratch: &Path, app: SocketAddr) -> (Process, SocketAddr) {
    let address = free_address();
    let file = scratch.join("haproxy.cfg");
    let text = format!(
        "global\n nbthread 2\n maxconn 4096\n\
         defaults\n mode http\n option http-keep-alive\n http-reuse always\n\
         \x20timeout connect 5s\n timeout client 60s\n timeout server 60s\n timeout http-keep-alive 1h\n\
         frontend in\n bind {address}\n default_backend app\n\
         backend app\n server app {app}\n"
    );
    fs::write(&file, text).unwrap();
    let process = Process::start(Command::new(program("haproxy")).arg("-db").arg("-q").arg("-f").arg(file));
    wait_for(address);
    (process, address)
}

/// This program again, as one of our own.
fn own(kind: Kind, app: SocketAddr) -> (Process, SocketAddr) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["serve", kind.word(), &app.to_string()]).stdout(Stdio::piped());
    let mut process = Process::start(&mut command);
    let address = process.first_line();
    let address = address.parse().unwrap_or_else(|_| panic!("{kind:?} did not start"));
    (process, address)
}

/// Debian keeps servers where a user's `PATH` may not lead.
fn program(name: &str) -> String {
    let path = format!("/usr/sbin/{name}");
    if Path::new(&path).exists() { path } else { name.to_owned() }
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|text| {
        text.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
    })
}

/// An address that was free a moment ago, for programs that do not choose one themselves.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn wait_for(address: SocketAddr) {
    let there = until(Duration::from_secs(10), || TcpStream::connect(address).ok());
    assert!(there.is_some(), "nobody listens at {address}");
}
