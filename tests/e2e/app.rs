//! Starts and stops the two shops.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::{env, fs};

use portcullis::entropy::{OsEntropy, random};
use tempfile::TempDir;

use super::process::Process;
use crate::support::browser::{Browser, Client};

/// Which app, and what a story must know to use it.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// The app's session cookie.
    pub(super) cookie: &'static str,
    pub(super) login: &'static str,
    pub(super) logout: &'static str,
    /// The page whose form signs out.
    pub(super) logout_page: &'static str,
    pub(super) me: &'static str,
    pub(super) cart: &'static str,
    pub(super) upload: &'static str,
    pub(super) slow: &'static str,
    pub(super) gate_arrived: &'static str,
    pub(super) gate_open: &'static str,
    program: &'static str,
    script: &'static str,
    needs: &'static str,
}

/// `tests/e2e/django_app`.
pub(super) static DJANGO: Kind = Kind {
    name: "django",
    cookie: "sessionid",
    login: "/accounts/login/",
    logout: "/accounts/logout/",
    logout_page: "/",
    me: "/me/",
    cart: "/cart/",
    upload: "/upload/",
    slow: "/slow/?gate=",
    gate_arrived: "/gate/arrived/?gate=",
    gate_open: "/gate/open/?gate=",
    program: "tests/e2e/.env/bin/python",
    script: "tests/e2e/django_app/serve.py",
    needs: "tests/e2e/.env/installed.txt",
};

/// `tests/e2e/express_app`.
pub(super) static EXPRESS: Kind = Kind {
    name: "express",
    cookie: "connect.sid",
    login: "/login",
    logout: "/logout",
    logout_page: "/",
    me: "/me",
    cart: "/cart",
    upload: "/upload",
    slow: "/slow?gate=",
    gate_arrived: "/gate/arrived?gate=",
    gate_open: "/gate/open?gate=",
    program: "node",
    script: "tests/e2e/express_app/server.js",
    needs: "tests/e2e/express_app/node_modules/installed.json",
};

/// Where an app listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A shop with its own database and users.
#[derive(Debug)]
pub(super) struct App {
    pub(super) kind: &'static Kind,
    pub(super) place: Place,
    pub(super) alice_password: String,
    pub(super) bob_password: String,
    secret_key: String,
    /// In a lock only so that a shared app may be looked at from every test's thread.
    process: Option<Mutex<Process>>,
    folder: TempDir,
}

impl App {
    /// Starts a shop on a free port; none if it is not installed and need not be.
    pub(super) fn start(kind: &'static Kind) -> Option<Self> {
        Self::prepare(kind).map(|mut app| {
            app.run("127.0.0.1:0");
            app
        })
    }

    /// Starts a shop on a unix socket, so that it can come back at the same place.
    pub(super) fn start_on_unix_socket(kind: &'static Kind) -> Option<Self> {
        Self::prepare(kind).map(|mut app| {
            app.place = Place::Unix(app.folder.path().join("app.sock"));
            app.come_back();
            app
        })
    }

    /// One shop of each kind for all stories that do not stop it. It ends with the test program, by its closed input.
    pub(super) fn shared(kind: &'static Kind) -> Option<&'static Self> {
        static DJANGO_APP: OnceLock<Option<App>> = OnceLock::new();
        static EXPRESS_APP: OnceLock<Option<App>> = OnceLock::new();
        let cell = if kind.name == DJANGO.name { &DJANGO_APP } else { &EXPRESS_APP };
        cell.get_or_init(|| Self::start(kind)).as_ref()
    }

    /// The app is gone, with whatever it was doing.
    pub(super) fn go_down(&mut self) {
        self.process = None;
    }

    /// The app is back at its unix socket, with the same database and key.
    #[track_caller]
    pub(super) fn come_back(&mut self) {
        let Place::Unix(socket) = &self.place else { panic!("only a unix socket is still free afterwards") };
        // Node refuses a socket file that a killed process has left.
        if socket.exists() {
            fs::remove_file(socket).unwrap();
        }
        let place = format!("unix:{}", socket.display());
        self.run(&place);
    }

    /// The address for a browser that goes around the guard.
    #[track_caller]
    pub(super) fn address(&self) -> SocketAddr {
        match self.place {
            Place::Tcp(address) => address,
            Place::Unix(_) => panic!("browsers know no unix sockets"),
        }
    }

    /// What the configuration of the guard calls this place.
    pub(super) fn url(&self) -> String {
        match &self.place {
            Place::Tcp(address) => format!("http://{address}"),
            Place::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// Waits until the slow request of this name has reached the app.
    pub(super) fn wait_for_slow_request(&self, gate: &str) {
        let mut observer = Browser::new(Client::script(), self.address());
        let answer = observer.get(&format!("{}{gate}", self.kind.gate_arrived)).expect_status(200);
        assert_eq!(answer.json()["arrived"], true, "the slow request never came");
    }

    /// Lets the slow request of this name go on.
    pub(super) fn finish_slow_request(&self, gate: &str) {
        Browser::new(Client::script(), self.address())
            .get(&format!("{}{gate}", self.kind.gate_open))
            .expect_status(200);
    }

    fn prepare(kind: &'static Kind) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        if !root.join(kind.needs).exists() {
            let must = env::var_os("PORTCULLIS_TEST_ALL").is_some();
            assert!(!must, "{} is not installed: run tests/install", kind.name);
            eprintln!("skipped: {} is not installed (run tests/install)", kind.name);
            return None;
        }
        Some(Self {
            kind,
            place: Place::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))),
            alice_password: secret(),
            bob_password: secret(),
            secret_key: secret(),
            process: None,
            folder: tempfile::tempdir().unwrap(),
        })
    }

    #[track_caller]
    fn run(&mut self, place: &str) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let in_environment = root.join(self.kind.program);
        let mut command =
            if in_environment.exists() { Command::new(in_environment) } else { Command::new(self.kind.program) };
        command
            .arg(root.join(self.kind.script))
            .arg(place)
            .env("APP_DATABASE", self.folder.path().join("db.sqlite3"))
            .env("APP_SECRET_KEY", &self.secret_key)
            .env("APP_ALICE_PASSWORD", &self.alice_password)
            .env("APP_BOB_PASSWORD", &self.bob_password)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let mut process = Process::start(&mut command, self.folder.path().join("complaints.txt"));
        let listening = process.line("its address", |line| line.strip_prefix("listening on ").map(str::to_owned));
        if let Ok(address) = listening.parse() {
            self.place = Place::Tcp(address);
        }
        self.process = Some(Mutex::new(process));
    }
}

/// A password of this run.
fn secret() -> String {
    let bytes: [u8; 16] = random(&OsEntropy).unwrap();
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// A name that no other story uses, for gates and carts in a shared app.
pub(super) fn unique(what: &str) -> String {
    static COUNT: Mutex<u32> = Mutex::new(0);
    let mut count = COUNT.lock().unwrap();
    *count += 1;
    format!("{what}-{count}")
}
