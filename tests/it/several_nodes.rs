//! Several guards before one app, as programs of their own that share a real store: to users and to thieves they are one.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::e2e::process::Process;
use crate::support::databases::Server;
use crate::support::origin::{Act, Origin, raw};
use crate::support::redis::{Redis, Watched, is_installed};
use crate::support::running::until;
use crate::support::wire::{Reply, Wire};

/// The keys that all nodes have, the way from the app to them, and where they keep their sessions.
pub(crate) struct Nodes {
    pub(crate) origin: Origin,
    pub(crate) folder: TempDir,
    store: String,
    more: &'static str,
}

/// A running guard.
pub(crate) struct Node {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

/// A browser: an address, and the cookies it was given.
#[derive(Clone)]
pub(crate) struct Browser {
    ip: String,
    pub(crate) cookies: BTreeMap<String, String>,
}

const LOGGED_IN: &str =
    "HTTP/1.1 303 See Other\r\nLocation: /\r\nSet-Cookie: sessionid=of-alice\r\nContent-Length: 0\r\n\r\n";
const WRONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong";

impl Nodes {
    pub(crate) fn before(store: String, more: &'static str) -> Self {
        Self { origin: Origin::start(), folder: tempfile::tempdir().unwrap(), store, more }
    }

    /// Starts one more. They have their configuration and their keys in one place.
    pub(crate) fn start(&self) -> Node {
        let Self { origin, folder, store, more } = self;
        let app = origin.address();
        let text = format!(
            r#"version = 1
[[listen]]
address = "127.0.0.1:0"
[upstream]
url = "http://{app}"
[client]
trusted_proxies = ["127.0.0.0/8"]
[session]
shield = ["sessionid"]
insecure_http_cookie = true
per_subject_max = {{ sessions = 3, on_limit = "evict_oldest" }}
[[login]]
route = "POST /login"
subject = "form:user"
success = {{ status = 303, location = "/" }}
limit = {{ per_client = "off", per_subject = "6/10m burst 6", delay_max = "0s" }}
[[logout]]
route = "POST /logout"
[store]
{store}
[keys]
file = "keys.toml"
[admin]
address = "off"
[[events.sink]]
type   = "stdout"
format = "json"
{more}"#
        );
        let config = folder.path().join("portcullis.toml");
        if !config.exists() {
            fs::write(&config, text).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("run").arg("--config").arg(&config).current_dir(folder.path());
        let mut process = Process::start(&mut command, folder.path().join("complaints.txt"));
        let started = process.event("guard.started");
        let address = started["listen"].as_str().unwrap().parse().unwrap();
        Node { process, address }
    }

    /// What the app saw of the cookies of the last request.
    pub(crate) fn last_cookie(&self) -> Option<String> {
        self.origin.seen().last().unwrap().header("cookie").map(str::to_owned)
    }
}

impl Node {
    /// Has it read its files again, and waits until it has.
    pub(crate) fn reload(&mut self) {
        let revision = |line: &str| {
            let event: Value = serde_json::from_str(line).ok()?;
            event["revision"].as_u64().filter(|_| event["event"] == "policy.reloaded")
        };
        let before = self.process.lines().iter().filter_map(|line| revision(line)).max();
        self.process.hang_up();
        self.process.line("a reload", |line| revision(line).filter(|revision| Some(*revision) > before));
    }
}

impl Browser {
    pub(crate) fn at(ip: impl Into<String>) -> Self {
        Self { ip: ip.into(), cookies: BTreeMap::new() }
    }

    pub(crate) fn asks(&mut self, node: SocketAddr, line: &str, form: &str) -> Reply {
        let pairs: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookie = if pairs.is_empty() { String::new() } else { format!("Cookie: {}\r\n", pairs.join("; ")) };
        let ip = &self.ip;
        let head = format!(
            "{line} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: Browser/1.0\r\nX-Forwarded-For: {ip}\r\n{cookie}\
             Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Site: same-origin\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        let reply = Wire::connect(node).send(head).reply();
        for line in reply.all("set-cookie") {
            match line.split(';').next().unwrap().split_once('=').unwrap() {
                (name, "") => drop(self.cookies.remove(name)),
                (name, value) => drop(self.cookies.insert(name.to_owned(), value.to_owned())),
            }
        }
        reply
    }

    pub(crate) fn fetches(&mut self, node: SocketAddr, path: &str) -> Reply {
        self.asks(node, &format!("GET {path}"), "")
    }

    pub(crate) fn logs_in(&mut self, nodes: &Nodes, node: SocketAddr, user: &str) -> u16 {
        nodes.origin.next(raw(LOGGED_IN));
        self.asks(node, "POST /login", &format!("user={user}&password=right")).status
    }

    /// Whether the app is called in the name of its session.
    pub(crate) fn is_known(&mut self, nodes: &Nodes, node: SocketAddr) -> bool {
        let reply = self.fetches(node, "/account");
        reply.status == 200 && nodes.last_cookie().as_deref() == Some("sessionid=of-alice")
    }
}

/// What holds of two nodes over whatever store.
fn they_are_one(store: String) {
    let nodes = Nodes::before(store, "");
    let (one, other) = (nodes.start(), nodes.start());
    they_know_the_same_sessions(&nodes, [&one, &other]);
    logins_at_once_keep_the_limit(&nodes, [one.address, other.address]);
    of_two_who_change_one_id_one_does(&nodes, [one.address, other.address]);
    guesses_are_counted_together(&nodes, [one.address, other.address]);
}

/// What one began the other goes on with, and what one ended is over at the other.
pub(crate) fn they_know_the_same_sessions(nodes: &Nodes, [one, other]: [&Node; 2]) {
    let mut alice = Browser::at("203.0.113.7");
    assert_eq!(alice.logs_in(nodes, one.address, "alice"), 303);
    assert!(alice.is_known(nodes, other.address), "what one began the other goes on with");
    let stolen = alice.clone();
    alice.asks(one.address, "POST /logout", "");
    let (mut late, mut at_once) = (stolen.clone(), stolen);
    assert!(!late.is_known(nodes, other.address) && !at_once.is_known(nodes, one.address), "logged out is logged out");
}

/// Twenty logins of one subject at once, half of them at each node: three sessions are left of them.
fn logins_at_once_keep_the_limit(nodes: &Nodes, each: [SocketAddr; 2]) {
    nodes.origin.always(raw(LOGGED_IN));
    let start = Barrier::new(20);
    let browsers: Vec<Browser> = std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..20)
            .map(|n: usize| {
                let start = &start;
                scope.spawn(move || {
                    let mut browser = Browser::at(format!("203.0.113.{}", n + 20));
                    start.wait();
                    let reply = browser.asks(each[n % 2], "POST /login", &format!("user=carol-{}&password=x", n % 4));
                    assert_eq!(reply.status, 303);
                    browser
                })
            })
            .collect();
        tasks.into_iter().map(|task| task.join().unwrap()).collect()
    });
    nodes.origin.always(raw(WRONG));
    for subject in 0..4 {
        let his = browsers.iter().skip(subject).step_by(4);
        let known = his.filter(|browser| (*browser).clone().is_known(nodes, each[0])).count();
        assert_eq!(known, 3, "of five sessions of carol-{subject}");
    }
}

/// A login within a session gives a new id. Of two at once over one session, one at each node, no old id is left, and what is
/// left is known to both nodes.
pub(crate) fn of_two_who_change_one_id_one_does(nodes: &Nodes, each: [SocketAddr; 2]) {
    for round in 0..5 {
        let mut dave = Browser::at(format!("198.51.100.{round}"));
        assert_eq!(dave.logs_in(nodes, each[0], &format!("dave-{round}")), 303);
        let before = dave.clone();
        nodes.origin.always(raw(LOGGED_IN));
        let start = Barrier::new(2);
        let after: Vec<Browser> = std::thread::scope(|scope| {
            let tasks = each.map(|node| {
                let (mut browser, start) = (before.clone(), &start);
                scope.spawn(move || {
                    start.wait();
                    browser.asks(node, "POST /login", &format!("user=dave-{round}&password=right"));
                    browser
                })
            });
            tasks.into_iter().map(|task| task.join().unwrap()).collect()
        });
        nodes.origin.always(raw(WRONG));
        let is_known = |browser: &Browser| each.map(|node| browser.clone().is_known(nodes, node));
        assert_eq!(is_known(&before), [false, false], "the id of before opens nothing");
        let alive: Vec<_> = after.iter().filter(|browser| browser.cookies != before.cookies).map(is_known).collect();
        assert!(alive.contains(&[true, true]), "{alive:?}");
        assert!(alive.iter().all(|[one, other]| one == other), "{alive:?}");
    }
}

/// Guesses at one subject, at each node in turn and from everywhere.
fn guesses_are_counted_together(nodes: &Nodes, each: [SocketAddr; 2]) {
    nodes.origin.always(raw(WRONG));
    let guess = |n: usize| {
        Browser::at(format!("192.0.2.{n}")).asks(each[n % 2], "POST /login", &format!("user=bob&password={n}")).status
    };
    let answers: Vec<u16> = (0..10).map(guess).collect();
    assert_eq!(answers, [200, 200, 200, 200, 200, 200, 429, 429, 429, 429]);
    // Who has logged in from there before is spared, at whatever node.
    let mut bob = Browser::at("203.0.113.99");
    assert_eq!(bob.logs_in(nodes, each[0], "bob"), 429, "nobody knows this one");
    let mut carol = Browser::at("203.0.113.20");
    for n in 0..10 {
        Browser::at(format!("192.0.2.{n}")).asks(each[n % 2], "POST /login", &format!("user=carol-0&password={n}"));
    }
    assert_eq!(carol.logs_in(nodes, each[1], "carol-0"), 303);
}

#[test]
fn two_guards_over_one_redis_are_one() {
    let Some(redis) = Redis::start() else { return };
    they_are_one(format!("kind = \"redis\"\nurl = \"{}\"", redis.url));
}

#[test]
fn two_guards_over_one_postgres_are_one() {
    let Some(server) = Server::postgres() else { return };
    they_are_one(format!("kind = \"postgres\"\nurl = \"{}\"", server.url()));
}

#[test]
fn two_guards_over_one_mariadb_are_one() {
    let Some(server) = Server::mariadb() else { return };
    they_are_one(format!("kind = \"mysql\"\nurl = \"{}\"", server.url()));
}

/// With a cache, too: whoever was told that he is out is out everywhere.
fn a_logout_at_one_is_one_at_the_other(store: &str) {
    let nodes = Nodes::before(format!("{store}\ncache = \"50s\""), "");
    let running = [nodes.start(), nodes.start()];
    let both = running.each_ref().map(|node| node.address);
    // The first of them come before there is a lease.
    for nth in 0..8 {
        let (here, there) = (both[nth % 2], both[(nth + 1) % 2]);
        let mut alice = Browser::at("203.0.113.7");
        alice.logs_in(&nodes, here, &format!("alice-{nth}"));
        for node in [here, there, there] {
            assert!(alice.is_known(&nodes, node));
        }
        let stolen = alice.clone();
        alice.asks(here, "POST /logout", "");
        assert!(!stolen.clone().is_known(&nodes, there), "{nth}");
    }
}

#[test]
fn over_redis_a_logout_at_one_guard_with_a_cache_is_one_at_the_other() {
    let Some(redis) = Redis::start() else { return };
    a_logout_at_one_is_one_at_the_other(&format!("kind = \"redis\"\nurl = \"{}\"", redis.url));
}

#[test]
fn over_postgres_a_logout_at_one_guard_with_a_cache_is_one_at_the_other() {
    let Some(server) = Server::postgres() else { return };
    a_logout_at_one_is_one_at_the_other(&format!("kind = \"postgres\"\nurl = \"{}\"", server.url()));
}

#[test]
fn over_sqlite_a_logout_at_one_guard_with_a_cache_is_one_at_the_other() {
    a_logout_at_one_is_one_at_the_other("kind = \"sqlite\"");
}

/// One client has no more requests a minute because there are two guards.
#[test]
fn requests_of_a_client_are_counted_by_both_guards_together() {
    let Some(redis) = Redis::start() else { return };
    let store = format!("kind = \"redis\"\nurl = \"{}\"", redis.url);
    let nodes = Nodes::before(store, "[limits]\nclient = \"60/1m burst 300\"\n");
    let (one, other) = (nodes.start(), nodes.start());
    let mut eve = Browser::at("192.0.2.66");
    let mut wire = Wire::connect(one.address);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.66\r\n\r\n";
    let served = (0..400).take_while(|_| wire.send(request).reply().status == 200).count();
    assert!((300..400).contains(&served), "{served}");
    // Each answer takes its time, so that less than a burst goes through until the second guard has been told of the first.
    let slowly = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec();
    nodes.origin.always(Act::Slowly(vec![slowly], Duration::from_millis(20)));
    let served = (0..250).take_while(|_| eve.fetches(other.address, "/").status == 200).count();
    assert!(served < 250, "{served}");
    assert_eq!(Browser::at("192.0.2.67").fetches(other.address, "/").status, 200);
}

/// One of them is killed in the middle of it; nobody is logged out, and it comes back.
#[test]
fn a_guard_that_is_killed_takes_nobody_with_it() {
    let Some(server) = Server::postgres() else { return };
    let nodes = Nodes::before(format!("kind = \"postgres\"\nurl = \"{}\"", server.url()), "");
    let (mut one, other) = (nodes.start(), nodes.start());
    let mut browsers: Vec<_> = (0..10).map(|n| Browser::at(format!("203.0.113.{n}"))).collect();
    for (n, browser) in browsers.iter_mut().enumerate() {
        assert_eq!(browser.logs_in(&nodes, one.address, &format!("user-{n}")), 303);
    }
    // Requests that change their sessions are under way while it dies.
    nodes.origin.always(raw(LOGGED_IN));
    let address = one.address;
    let waiting: Vec<Wire> = (0..10)
        .map(|n| {
            let form = format!("user=later-{n}&password=x");
            let mut wire = Wire::connect(address);
            wire.send(format!(
                "POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
                form.len()
            ));
            wire
        })
        .collect();
    one.process.kill();
    drop(waiting);
    nodes.origin.always(raw(WRONG));
    for browser in &mut browsers {
        assert!(browser.is_known(&nodes, other.address));
    }
    let again = nodes.start();
    for browser in &mut browsers {
        assert!(browser.is_known(&nodes, again.address));
        let stolen = browser.clone();
        browser.asks(again.address, "POST /logout", "");
        assert!(!stolen.clone().is_known(&nodes, other.address));
    }
}

/// The primary of Redis is killed in the middle of it; what it had acknowledged to a replica is there, and nothing is served
/// in a name that nobody can vouch for.
#[test]
fn when_the_primary_of_redis_dies_both_guards_go_on_with_the_next() {
    if !is_installed() {
        return;
    }
    let mut servers = Watched::start();
    let unlimited = "[limits]\nclient = \"off\"\nsession = \"off\"\n";
    let nodes = Nodes::before(format!("kind = \"redis\"\nurl = \"{}\"", servers.url()), unlimited);
    let (one, other) = (nodes.start(), nodes.start());
    let (mut alice, mut bob) = (Browser::at("203.0.113.7"), Browser::at("203.0.113.8"));
    alice.logs_in(&nodes, one.address, "alice");
    bob.logs_in(&nodes, other.address, "bob");
    let out = bob.clone();
    bob.asks(one.address, "POST /logout", "");
    servers.wait_until_alike();
    servers.primary.kill();
    for node in [one.address, other.address] {
        until("the next primary", || {
            let status = alice.clone().fetches(node, "/account").status;
            assert!(matches!(status, 200 | 503), "{status}");
            status == 200
        });
        assert!(alice.is_known(&nodes, node));
        assert!(!out.clone().is_known(&nodes, node), "whoever was logged out stays so");
    }
    assert!(bob.logs_in(&nodes, one.address, "bob") == 303 && bob.is_known(&nodes, other.address));
}

/// The primary of Redis is killed while users log in and out at both guards: whoever was told that he is out stays so, and whoever
/// was told that he is in, too.
#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_primary_of_redis_dies_under_load() {
    const USERS: usize = 48;
    if !is_installed() {
        return;
    }
    let mut servers = Watched::start();
    let store = format!("kind = \"redis\"\nurl = \"{}\"\nreplicas = 1", servers.url());
    let nodes = Nodes::before(store, "[limits]\nclient = \"off\"\nsession = \"off\"\n");
    let running = [nodes.start(), nodes.start()];
    let both = running.each_ref().map(|node| node.address);
    nodes.origin.always(Act::To(|line| if line.starts_with("POST /login ") { LOGGED_IN } else { WRONG }));
    let (done, tried) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // Each logs in at one of them and out at the other, every second one comes back; again and again where he is told to.
    let does = |user: usize| {
        let mut browser = Browser::at(format!("203.0.113.{user}"));
        let (mut past, mut attempts) = (Vec::new(), 0);
        for (n, line) in ["POST /login", "POST /logout", "POST /login"].into_iter().take(2 + user % 2).enumerate() {
            until("an answer that is none of an outage", || {
                let before = browser.clone();
                // As somebody else each time, for attempts on one subject are counted.
                attempts += 1;
                tried.fetch_add(1, Ordering::Relaxed);
                let form = format!("user=user-{user}-{attempts}&password=right");
                let status = browser.asks(both[(user + n) % 2], line, &form).status;
                assert!(matches!(status, 200 | 303 | 503), "{line}: {status}");
                if status == 503 {
                    browser = before;
                    return false;
                }
                // Whether a logout that failed had come to something is not known: then this one is a stranger's.
                if n == 1 {
                    past.push(before);
                }
                true
            });
            done.fetch_add(1, Ordering::Relaxed);
        }
        (browser, past, user % 2 == 1)
    };
    let users = std::thread::scope(|scope| {
        let each = |first: usize| scope.spawn(move || (first..USERS).step_by(4).map(does).collect::<Vec<_>>());
        let workers: Vec<_> = (0..4).map(each).collect();
        until("some of it to be done", || done.load(Ordering::Relaxed) >= USERS / 2);
        // What is done from here on only the one has that dies, and nobody may be told that it is done.
        servers.replica.freeze();
        let before = tried.load(Ordering::Relaxed);
        until("more to be tried", || tried.load(Ordering::Relaxed) >= before + 16);
        servers.primary.kill();
        servers.replica.thaw();
        // Somebody must keep what the next one is told.
        servers.give_the_next_primary_a_replica();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(users.len(), USERS);
    for (mut browser, past, is_back) in users {
        for node in both {
            for out in &past {
                assert_eq!(out.clone().fetches(node, "/account").status, 200);
                assert_ne!(
                    nodes.last_cookie().as_deref(),
                    Some("sessionid=of-alice"),
                    "whoever was logged out stays so"
                );
            }
            assert_eq!(browser.is_known(&nodes, node), is_back);
        }
    }
}

/// While the database is out sessions are refused or served as strangers', as their route says; strangers notice nothing. When it is
/// back all is as before.
#[test]
fn while_the_store_is_out_a_route_denies_or_serves_strangers() {
    let Some(mut server) = Server::postgres() else { return };
    let store = format!("kind = \"postgres\"\nurl = \"{}\"\ntimeout = \"500ms\"", server.url());
    let nodes = Nodes::before(store, "[[route]]\npath = \"/news\"\non_outage = \"anonymous\"\n");
    let (one, other) = (nodes.start(), nodes.start());
    let mut alice = Browser::at("203.0.113.7");
    alice.logs_in(&nodes, one.address, "alice");
    let seen = nodes.origin.seen().len();
    server.stop();
    for node in [one.address, other.address] {
        assert_eq!(alice.fetches(node, "/account").status, 503);
        assert_eq!(alice.fetches(node, "/news").status, 200);
        assert_eq!(nodes.last_cookie(), None, "the app is called in nobody's name");
        assert_eq!(Browser::at("203.0.113.9").fetches(node, "/account").status, 200);
    }
    assert_eq!(nodes.origin.seen().len(), seen + 4, "what was denied never came to the app");
    server.start_again();
    for node in [one.address, other.address] {
        until("the store to be back", || alice.clone().fetches(node, "/account").status == 200);
        assert!(alice.is_known(&nodes, node));
    }
}

/// A key is staged, learned by one node after the other, and used by one node after the other: whichever has it already, everybody
/// is known to both. In the end the old one is not needed any more.
#[test]
fn keys_are_replaced_while_both_run() {
    let Some(redis) = Redis::start() else { return };
    let nodes = Nodes::before(format!("kind = \"redis\"\nurl = \"{}\"", redis.url), "");
    let mut both = [nodes.start(), nodes.start()];
    let mut alice = Browser::at("203.0.113.7");
    alice.logs_in(&nodes, both[0].address, "alice");
    let mut bob = Browser::at("203.0.113.8");
    for word in ["--stage", "--promote"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        let ended = command.args(["keygen", word]).current_dir(nodes.folder.path()).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        for n in 0..2 {
            both[n].reload();
            assert_eq!(bob.logs_in(&nodes, both[n].address, "bob"), 303);
            for node in &both {
                assert!(alice.is_known(&nodes, node.address) && bob.is_known(&nodes, node.address), "{word} {n}");
            }
        }
    }
    let file = nodes.folder.path().join("keys.toml");
    let keys = fs::read_to_string(&file).unwrap();
    let (second, _) = keys.match_indices("[[key]]").nth(1).unwrap();
    fs::write(&file, keys.split_at(second).0).unwrap();
    both.iter_mut().for_each(Node::reload);
    for node in &both {
        assert!(bob.is_known(&nodes, node.address), "what began after the promotion is under the new key");
    }
}
