//! Thieves with the owner's cookie, at the owner's address, with all of the owner's headers in their order.
//!
//! Those that speak HTTP/2 in a way of their own are moved at once. A program that imitates a current Chromium is not told from a
//! real one, and is found by tags once its owner is there.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::connection::print::Print;
use portcullis::verdict::Action;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::time::Instant;

use super::chromium::Chromium;
use super::owners::{Stay, log_in};
use super::scene::{Http, Scene, Setting};
use super::watch::{Asked, COOKIE};
use super::{Browser, alone, must_have};

/// The newest Chromium that curl_cffi imitates.
const NEWEST: &str = "chrome152";

/// What the thief has of the owner: each header of the last page that was asked for.
type Loot = Vec<(String, String)>;

/// A Chromium whose user has logged in, and what a thief got of it.
fn robbed(scene: &Scene) -> Option<(Chromium, Loot)> {
    let mut owner = Chromium::start(scene, &scene.folder("owner"), &["--accept-lang=de-DE,de,en"])?;
    log_in(&mut owner, scene, Stay::UntilClosed);
    let page: Asked = scene.watch.asked().into_iter().rfind(|asked| asked.path == "/").unwrap();
    let cookie = owner.cookie(COOKIE).unwrap();
    // What the proxy put on top is not the browser's; what names the connection the thief's program writes itself.
    let not_his =
        |name: &str| name.starts_with("x-forwarded") || ["host", "forwarded", "via", "cookie"].contains(&name);
    let mut loot: Loot = page.headers.into_iter().filter(|(name, _)| !not_his(name)).collect();
    loot.push(("cookie".to_owned(), format!("{COOKIE}={cookie}")));
    Some((owner, loot))
}

/// What came of one theft.
#[derive(Debug)]
struct Theft {
    #[expect(dead_code, reason = "it is shown when something is wrong")]
    name: &'static str,
    /// For whom the site took the thief.
    user: String,
    action: Action,
    reasons: Vec<(String, f32)>,
    version: Version,
    /// How the thief and the owner look on the wire.
    prints: [Print; 2],
}

/// Robs an owner anew, and has one thief ask for one page.
fn theft(name: &'static str, http: Http, ask: impl FnOnce(&Scene, &Loot) -> Option<String>) -> Option<Theft> {
    let scene = Scene::set(Setting::usual(http));
    let (_owner, loot) = robbed(&scene)?;
    let owners = scene.watch.asked().last()?.print;
    scene.watch.forget();
    let user = ask(&scene, &loot)?;
    let asked = scene.watch.asked();
    assert_eq!(asked.len(), 1, "{name}: {asked:?}");
    println!("{name} was taken for {user}\n{}", scene.watch.told());
    let (action, version) = (scene.watch.strongest(), asked[0].version);
    let prints = [asked[0].print, owners];
    Some(Theft { name, user, action, reasons: scene.watch.forget(), version, prints })
}

impl Theft {
    /// Points for a signal.
    fn points(&self, signal: &str) -> f32 {
        self.reasons.iter().find(|(name, _)| name == signal).map_or(0.0, |(_, points)| *points)
    }
}

/// What a program says that is given the loot on its standard input.
fn run(command: &mut Command, loot: &Loot) -> String {
    let mut child = start(command, loot);
    let mut said = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{command:?}");
    said.trim().to_owned()
}

fn start(command: &mut Command, loot: &Loot) -> Child {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(json!(loot).to_string().as_bytes()).unwrap();
    child
}

fn file(path: &str) -> Option<std::path::PathBuf> {
    Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e").join(path)).filter(|path| path.exists())
}

/// The thief that is written in Python.
fn python(program: &str, scene: &Scene) -> Option<Command> {
    // The list of what was installed names it only if it was.
    let installed = std::fs::read_to_string(file(".env/installed.txt")?).unwrap();
    let python = must_have("curl_cffi", Some(file(".env/bin/python")?).filter(|_| installed.contains("curl_cffi")))?;
    let mut command = Command::new(python);
    command.arg(file("thieves/thief.py")?).args([program, &scene.url("/")]).env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command)
}

fn by_python(program: &'static str, http: Http) -> Option<Theft> {
    theft(program, http, |scene, loot| Some(run(&mut python(program, scene)?, loot)))
}

fn by_curl(http: Http, flag: &str) -> Option<Theft> {
    theft("curl", http, |scene, loot| curl(scene, loot, flag))
}

fn curl(scene: &Scene, loot: &Loot, flag: &str) -> Option<String> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--insecure", flag]);
    loot.iter().for_each(|(name, value)| _ = command.arg("-H").arg(format!("{name}: {value}")));
    let output = command.arg(scene.url("/")).output().ok();
    Some(user_of(&String::from_utf8(must_have("curl", output)?.stdout).unwrap()))
}

/// Whom a page names.
fn user_of(page: &str) -> String {
    let (_, rest) = page.split_once("id=\"user\">").unwrap_or_else(|| panic!("no page of the site: {page}"));
    rest.split('<').next().unwrap().to_owned()
}

fn by_node(http: Http) -> Option<Theft> {
    theft("node", http, |scene, loot| {
        let mut command = Command::new(must_have("node", Some("node"))?);
        command.arg(file("thieves/thief.mjs")?).arg(scene.url("/"));
        command.env("NODE_TLS_REJECT_UNAUTHORIZED", "0").stderr(Stdio::null());
        Some(run(&mut command, loot))
    })
}

/// A program of our own, with the TLS of rustls and the HTTP/2 of hyper.
fn by_hyper() -> Option<Theft> {
    theft("hyper", Http::Two, |scene, loot| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let text = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(scene.address()).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(scene.trusting_client("h2"));
            let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
            let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
            let (mut sender, connection) = handshake.await.unwrap();
            tokio::spawn(async { drop(connection.await) });
            let mut request = Request::get(scene.url("/")).version(Version::HTTP_2);
            for (name, value) in loot {
                request = request.header(name, value);
            }
            let answer = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
            answer.into_body().collect().await.unwrap().to_bytes()
        });
        Some(user_of(&String::from_utf8_lossy(&text)))
    })
}

/// Another TLS is 45 points, another HTTP/2 nine on top of that, traits of TLS that differ over HTTP/2 five; 50 are a quarantine.
#[test]
fn thieves_over_http2_are_moved_at_their_first_request() {
    let _alone = alone();
    let thefts = [
        by_curl(Http::Two, "--http2"),
        by_python("httpx2", Http::Two),
        by_hyper(),
        by_python("chrome110", Http::Two),
        by_python("chrome131", Http::Two),
        by_python("chrome146", Http::Two),
    ];
    for theft in thefts.into_iter().flatten() {
        assert_eq!(theft.version, Version::HTTP_2, "{theft:?}");
        assert!(theft.action >= Action::Quarantine && theft.user == "nobody", "{theft:?}");
        assert!(theft.points("device.tls") >= 45.0, "{theft:?}");
    }
}

/// Over HTTP/1.1 there is nothing but TLS to go by when the headers are copied in their order: 45 points of 50. The thief is served
/// until the owner has been there; the next story goes on. A thief who does not copy the order is moved.
#[test]
fn thieves_over_http1_are_told_by_tls_alone() {
    let _alone = alone();
    let thefts = [
        by_curl(Http::Two, "--http1.1"),
        by_curl(Http::One, "--http1.1"),
        by_python("requests", Http::Two),
        by_python("httpx", Http::Two),
        by_node(Http::Two),
    ];
    for theft in thefts.into_iter().flatten() {
        assert_eq!(theft.version, Version::HTTP_11, "{theft:?}");
        assert_eq!((theft.points("device.tls"), theft.action), (45.0, Action::Rotate), "{theft:?}");
    }
    let unordered = theft("curl, headers in another order", Http::One, |scene, loot| {
        let loot: Loot = loot.iter().rev().cloned().collect();
        curl(scene, &loot, "--http1.1")
    });
    if let Some(theft) = unordered {
        assert!(theft.action >= Action::Quarantine && theft.user == "nobody", "{theft:?}");
    }
}

/// A thief whom TLS alone tells of is moved once he takes turns with the owner. She notices nothing.
#[test]
fn a_thief_over_http1_is_moved_when_he_comes_back_after_the_owner() {
    let _alone = alone();
    let scene = Scene::set(Setting::usual(Http::One));
    let Some((mut owner, loot)) = robbed(&scene) else { return };
    let Some(first) = curl(&scene, &loot, "--http1.1") else { return };
    assert_eq!(first, "alice");
    owner.go(&scene.url("/"));
    assert_eq!(owner.run("document.getElementById('user').textContent"), "alice");
    assert_eq!(curl(&scene, &loot, "--http1.1").unwrap(), "nobody");
    owner.go(&scene.url("/"));
    assert_eq!(owner.run("document.getElementById('user').textContent"), "alice");
    assert!(scene.has_told("session.quarantined"), "{}", scene.watch.told());
}

/// The newest target of curl_cffi shows the TLS and the HTTP/2 of a real Chromium. No fingerprint tells them apart, and none of
/// ours claims to; only if the installed Chromium is already a step ahead the parrot is moved.
#[test]
fn a_parrot_of_today_looks_like_its_owner() {
    let _alone = alone();
    let Some(theft) = by_python(NEWEST, Http::Two) else { return };
    let [parrot, owner] = theft.prints.map(|print| (print.tls.map(|tls| tls.core), print.http2));
    if parrot == owner {
        assert_eq!((theft.action, theft.user.as_str()), (Action::Allow, "alice"), "{theft:?}");
    } else {
        assert!(theft.action >= Action::Rotate, "{theft:?}");
    }
}

/// The newest target of curl_cffi beside an owner who is there.
#[test]
fn a_parrot_beside_its_owner_is_found_by_tags() {
    let _alone = alone();
    let setting = Setting { rotate_every: "5s", grace: "10s", ..Setting::usual(Http::Two) };
    let scene = Scene::set(setting);
    let Some((mut owner, loot)) = robbed(&scene) else { return };
    let Some(mut command) = python(NEWEST, &scene) else { return };
    owner.run("void busy({ seconds: 200, queue: 1, ms: 300, polls: true }), true");
    let begun = Instant::now();
    let mut thief = start(command.arg("1000"), &loot);
    while !scene.has_told("session.quarantined") && !scene.has_told("session.hijack_suspected") {
        assert!(begun.elapsed() < Duration::from_secs(100), "not found\n{}", scene.watch.told());
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("a parrot beside its owner was found after {:.1?}\n{}", begun.elapsed(), scene.watch.told());
    thief.kill().unwrap();
    thief.wait().unwrap();
}
