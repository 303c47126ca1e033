//! What stands before the guard and behind it while its rules change: an app that knows its users by its own cookie, and
//! clients of three kinds, each on one connection that is kept.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{PATIENCE, until};
use crate::support::jar::Jar;
use crate::support::wire::{Reply, Wire};

/// So long does a client read before it asks for more: all of them keep the guard at work, and leave it room to compile.
const READS: Duration = Duration::from_millis(2);

/// An app. `POST /login` signs in whom the form names; everything else tells who asks, and by which of its own cookies;
/// `/hold` does so when it is told to.
pub(super) struct App {
    pub(super) address: SocketAddr,
    holding: Arc<Holding>,
}

/// Requests that wait in the app.
#[derive(Default)]
struct Holding {
    held: Mutex<Held>,
    changed: Condvar,
}

#[derive(Default)]
struct Held {
    count: usize,
    /// How often they were let go.
    rounds: usize,
}

impl Holding {
    fn wait(&self) {
        let mut held = self.held.lock().unwrap();
        held.count += 1;
        self.changed.notify_all();
        let round = held.rounds;
        drop(self.changed.wait_while(held, |held| held.rounds == round));
    }
}

impl App {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, holding) = (listener.local_addr().unwrap(), Arc::new(Holding::default()));
        let (holds, logins) = (holding.clone(), Arc::new(AtomicUsize::new(0)));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (holding, logins) = (holds.clone(), logins.clone());
                std::thread::spawn(move || serve(&stream, &holding, &logins));
            }
        });
        Self { address, holding }
    }

    /// Waits until so many requests wait in the app.
    #[track_caller]
    fn holds(&self, count: usize) {
        let held = self.holding.held.lock().unwrap();
        let (held, waited) =
            self.holding.changed.wait_timeout_while(held, PATIENCE, |held| held.count < count).unwrap();
        assert!(!waited.timed_out(), "{} of {count} requests reached the app", held.count);
    }

    /// Answers them. Tells how many there were.
    fn lets_go(&self) -> usize {
        let mut held = self.holding.held.lock().unwrap();
        held.rounds += 1;
        self.holding.changed.notify_all();
        std::mem::take(&mut held.count)
    }
}

/// Serves until the other side closes.
fn serve(stream: &TcpStream, holding: &Holding, logins: &AtomicUsize) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body).ok()?;
        let answer = if head.starts_with("POST /login ") {
            let (form, at) = (String::from_utf8(body).unwrap(), logins.fetch_add(1, Ordering::Relaxed));
            let name = form.strip_prefix("user=").unwrap();
            format!(
                "HTTP/1.1 302 Found\r\nLocation: /account\r\nSet-Cookie: sid={name}-{at}; Path=/; HttpOnly\r\n\
                 Content-Length: 0\r\n\r\n"
            )
        } else {
            if head.starts_with("GET /hold ") {
                holding.wait();
            }
            let cookies = header("cookie").unwrap_or_default();
            let who = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("sid=")).unwrap_or("nobody");
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{who}", who.len())
        };
        let mut writer = stream;
        writer.write_all(answer.as_bytes()).ok()?;
    }
}

/// A browser on one connection.
pub(super) struct Browser {
    wire: Wire,
    jar: Jar,
    /// Every cookie of the guard that it was given.
    cookies: BTreeSet<String>,
}

const LINES: &str = "Host: a\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html\r\nAccept-Language: en\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Dest: document\r\n";

impl Browser {
    pub(super) fn connect(address: SocketAddr) -> Self {
        Self { wire: Wire::connect(address), jar: Jar::default(), cookies: BTreeSet::new() }
    }

    /// Sends a request, of which the answer is read later.
    fn send(&mut self, line: &str, more: &str) {
        let cookie = self.jar.header("/").map(|cookie| format!("Cookie: {cookie}\r\n")).unwrap_or_default();
        self.wire.send(format!("{line} HTTP/1.1\r\n{LINES}{cookie}{more}"));
    }

    /// Reads an answer, and keeps its cookies.
    fn answer(&mut self) -> Reply {
        let reply = self.wire.reply();
        reply.all("set-cookie").iter().for_each(|line| self.jar.take(line, "/"));
        self.cookies.extend(self.jar.get("portcullis").map(str::to_owned));
        reply
    }

    /// What the app says on a page.
    #[track_caller]
    fn page(&mut self, path: &str) -> String {
        self.send(&format!("GET {path}"), "\r\n");
        self.text()
    }

    #[track_caller]
    fn text(&mut self) -> String {
        let reply = self.answer();
        assert_eq!(reply.status, 200, "{}", reply.head);
        reply.text().to_owned()
    }

    /// Signs in. Gives what the app says to whom it knows now, and says for as long as the session is kept.
    #[track_caller]
    pub(super) fn signs_in(&mut self, name: &str) -> String {
        let form = format!("user={name}");
        let lines = "Origin: http://a\r\nContent-Type: application/x-www-form-urlencoded\r\n";
        self.send("POST /login", &format!("{lines}Content-Length: {}\r\n\r\n{form}", form.len()));
        let reply = self.answer();
        assert_eq!((reply.status, reply.header("location")), (302, Some("/account")), "{}", reply.head);
        let who = self.page("/account");
        assert!(who.starts_with(&format!("{name}-")), "{name} is {who} to the app");
        who
    }
}

/// Browsers that ask all the time, and how many rounds each of them has done.
pub(super) struct Load {
    browsers: Vec<(String, Arc<AtomicUsize>, JoinHandle<()>)>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Members who signed in once and stay; visitors who are new each time; guests who sign in each time.
    pub(super) fn start(address: SocketAddr) -> Self {
        let mut load = Self { browsers: Vec::new(), stop: Arc::default() };
        for at in 0..4 {
            let name = format!("member{at}");
            let mut browser = Browser::connect(address);
            let who = browser.signs_in(&name);
            let given = browser.cookies.len();
            let reads =
                move |browser: &mut Browser, _| assert_eq!(browser.page("/account"), who, "the session is kept");
            load.add(name, browser, reads, move |browser| {
                assert!(browser.cookies.len() > given + 5, "its tag was hardly ever rotated");
            });
        }
        for at in 0..2 {
            let visits = |browser: &mut Browser, _| {
                browser.jar = Jar::default();
                assert_eq!(browser.page("/"), "nobody");
            };
            load.add(format!("visitor{at}"), Browser::connect(address), visits, |_| {});
        }
        for at in 0..2 {
            let signs_in = move |browser: &mut Browser, round: usize| {
                browser.jar = Jar::default();
                let who = browser.signs_in(&format!("guest{at}x{round}"));
                assert_eq!(browser.page("/account"), who, "the session is kept");
            };
            load.add(format!("guest{at}"), Browser::connect(address), signs_in, |_| {});
        }
        load
    }

    fn add(
        &mut self,
        name: String,
        mut browser: Browser,
        round: impl Fn(&mut Browser, usize) + Send + 'static,
        end: impl FnOnce(&Browser) + Send + 'static,
    ) {
        let (stop, rounds) = (self.stop.clone(), Arc::new(AtomicUsize::new(0)));
        let done = rounds.clone();
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                round(&mut browser, done.load(Ordering::Relaxed));
                done.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(READS);
            }
            end(&browser);
        });
        self.browsers.push((name, rounds, thread));
    }

    /// Waits until each of them has asked anew and was answered.
    #[track_caller]
    pub(super) fn goes_on(&self) {
        let done = |rounds: &AtomicUsize| rounds.load(Ordering::Relaxed);
        let before: Vec<usize> = self.browsers.iter().map(|(_, rounds, _)| done(rounds)).collect();
        for ((name, rounds, thread), before) in self.browsers.iter().zip(before) {
            // The round that was under way may have begun before.
            until(name, || thread.is_finished() || done(rounds) > before + 1);
            assert!(!thread.is_finished(), "{name} was not answered as it should be");
        }
    }

    /// Ends it. Every answer was as expected, or this panics.
    #[track_caller]
    pub(super) fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for (name, _, thread) in self.browsers {
            assert!(thread.join().is_ok(), "{name} was not answered as it should be");
        }
    }
}

/// Requests that are in the app from before the files change until the new rules are in force: those of members, and of
/// somebody new.
pub(super) struct InFlight<'a> {
    app: &'a App,
    members: &'a mut [(Browser, String)],
    stranger: Browser,
}

impl<'a> InFlight<'a> {
    #[track_caller]
    pub(super) fn begin(app: &'a App, address: SocketAddr, members: &'a mut [(Browser, String)]) -> Self {
        let mut stranger = Browser::connect(address);
        stranger.send("GET /hold", "\r\n");
        members.iter_mut().for_each(|(member, _)| member.send("GET /hold", "\r\n"));
        app.holds(members.len() + 1);
        Self { app, members, stranger }
    }

    /// They are still there, are answered when the app wants, and the sessions go on.
    #[track_caller]
    pub(super) fn end(mut self) {
        assert_eq!(self.app.lets_go(), self.members.len() + 1, "in flight all the while");
        assert_eq!(self.stranger.text(), "nobody");
        for (member, who) in self.members {
            assert_eq!(member.text(), *who);
            assert_eq!(member.page("/account"), *who, "and the session goes on");
        }
    }
}
