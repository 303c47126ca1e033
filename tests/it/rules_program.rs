//! Rules files under a running guard: changed in every way that files are changed, under load, without a request lost.

mod under_load;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use portcullis::admin::{Address, Client};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, RootCertStore};
use tokio::time::Instant;

use crate::support::jar::Jar;
use crate::support::minisign::Signer;
use crate::support::origin::{Origin, raw};
use crate::support::signal;
use crate::support::wire::Wire;
use under_load::{App, Browser, InFlight, Load};

/// So many rules has the baseline.
fn baseline() -> u64 {
    use portcullis::rules::{Pack, load};
    load::packs(&[Pack::Baseline1]).rules().len() as u64
}

const PATIENCE: Duration = Duration::from_secs(60);

struct Started {
    child: Child,
    events: Receiver<serde_json::Value>,
}

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Started {
    fn start(config: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(["run", "--config", config.to_str().unwrap()]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, events) = channel();
        std::thread::spawn(move || {
            let parsed = output.lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
            parsed.into_iter().all(|event| send.send(event).is_ok())
        });
        Self { child, events }
    }

    /// The next event of a kind.
    #[track_caller]
    fn event(&self, kind: &str) -> serde_json::Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {kind} among what was told");
            let event = self.events.recv_timeout(left).unwrap_or_else(|_| panic!("no {kind}"));
            if event["event"] == kind {
                return event;
            }
        }
    }
}

/// So many rules, of which one refuses a path that tells which version is in force.
fn rules(count: usize, version: usize) -> String {
    let mut text = format!(
        "version = 1\nname = \"load\"\n[[rule]]\nid = \"marker\"\nwhen = 'request.path == \"/version-{version}\"'\nthen = \"deny\"\n"
    );
    for at in 1..count {
        text += &format!(
            "[[rule]]\nid = \"r{at}\"\nwhen = 'request.path starts_with \"/nowhere/{at}\" && client.asn == {at}'\nscore = 5\n"
        );
    }
    text
}

fn status(address: std::net::SocketAddr, path: &str) -> String {
    let mut wire = Wire::connect(address);
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    wire.reply().head.lines().next().unwrap_or_default().to_owned()
}

/// Puts rules in the place of others in one of the ways in which that is done.
type Way<'a> = (&'a str, Box<dyn Fn(usize) + 'a>);

#[test]
fn five_hundred_rules_change_under_load_without_a_request_lost() {
    let (folder, app) = (tempfile::tempdir().unwrap(), App::start());
    let root = folder.path();
    let config = root.join("portcullis.toml");
    fs::create_dir(root.join("rules")).unwrap();
    let file = root.join("rules/load.toml");
    fs::write(&file, rules(500, 0)).unwrap();
    let text = format!(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[upstream]\nurl = \"http://{}\"\n[admin]\naddress = \"off\"\n\
         [session]\nshield = [\"sid\"]\ninsecure_http_cookie = true\nrotate_every = \"20ms\"\n\
         [[login]]\nroute = \"POST /login\"\nsuccess = {{ status = 302, location = \"/account\" }}\nsubject = \"form:user\"\n\
         limit = \"off\"\n[limits]\nclient = \"off\"\nsession = \"off\"\nanonymous_sessions = \"off\"\n\
         [rules]\nfiles = [\"rules/*.toml\"]\n",
        app.address
    );
    fs::write(&config, text).unwrap();
    let guard = Started::start(&config);
    let address: std::net::SocketAddr = guard.event("guard.started")["listen"].as_str().unwrap().parse().unwrap();
    assert!(status(address, "/version-0").contains("403"));

    let load = Load::start(address);
    let mut members: Vec<(Browser, String)> = ["alice", "bob"]
        .map(|name| {
            let mut browser = Browser::connect(address);
            let who = browser.signs_in(name);
            (browser, who)
        })
        .into();
    let took_over = |version: usize, way: &str| {
        let told = guard.event("policy.reloaded");
        assert_eq!(told["rules"].as_u64(), Some(500 + baseline()), "{way}: {told}");
        assert!(told["changes"].as_str().unwrap().contains("load/marker: when changed"), "{way}: {told}");
        assert!(status(address, &format!("/version-{version}")).contains("403"), "{way}");
        assert!(status(address, &format!("/version-{}", version - 1)).contains("200"), "{way}");
    };
    // A ConfigMap: the file is a link through a folder that is a link, and that is swapped.
    let swap = |version: usize| {
        let data = root.join(format!("data-{version}"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("load.toml"), rules(500, version)).unwrap();
        symlink(&data, root.join("next")).unwrap();
        fs::rename(root.join("next"), root.join("current")).unwrap();
    };
    let ways: [Way<'_>; 5] = [
        (
            "`git checkout` takes the file away and writes a new one",
            Box::new(|version| {
                fs::remove_file(&file).unwrap();
                fs::write(&file, rules(500, version)).unwrap();
            }),
        ),
        (
            "an editor writes beside it and renames",
            Box::new(|version| {
                let beside = root.join("rules/.load.toml.swp");
                fs::write(&beside, rules(500, version)).unwrap();
                fs::rename(&beside, &file).unwrap();
            }),
        ),
        (
            "a volume is mounted in its place",
            Box::new(|version| {
                swap(version);
                symlink(root.join("current/load.toml"), root.join("link")).unwrap();
                fs::rename(root.join("link"), &file).unwrap();
            }),
        ),
        ("a ConfigMap is swapped", Box::new(swap)),
        (
            "half a file changes nothing but what is told; the other half makes it whole",
            Box::new(|version| {
                let whole = rules(500, version);
                fs::remove_file(&file).unwrap();
                fs::write(&file, whole.split_at(whole.len() / 2).0).unwrap();
                let failed = guard.event("policy.reload_failed");
                assert!(failed["fault"].as_str().unwrap().contains("load.toml"), "{failed}");
                assert!(status(address, "/version-4").contains("403"), "the last good rules stay in force");
                load.goes_on();
                fs::write(&file, whole).unwrap();
            }),
        ),
    ];
    for (version, (way, change)) in (1..).zip(&ways) {
        load.goes_on();
        let in_flight = InFlight::begin(&app, address, &mut members);
        change(version);
        took_over(version, way);
        load.goes_on();
        in_flight.end();
    }
    // A file that comes beside it is found too.
    fs::write(
        root.join("rules/more.toml"),
        "version = 1\nname = \"more\"\n[[rule]]\nid = \"m\"\nwhen = 'request.path == \"/more\"'\nthen = \"deny\"\n",
    )
    .unwrap();
    let told = guard.event("policy.reloaded");
    assert!(told["changes"].as_str().unwrap().contains("more/m: new; it asks for deny (stronger)"), "{told}");
    assert!(status(address, "/more").contains("403"));
    drop(ways);
    load.end();
    signal::send(&guard.child, "TERM");
}

/// What the guard's three windows say of its policy: the health, the metrics, the list of sessions.
fn is_stale(root: &Path) -> [bool; 3] {
    let client = Client::try_new(Address::Unix(root.join("admin.sock")), None).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (health, metrics) =
        runtime.block_on(async { (client.health().await.unwrap(), client.metrics().await.unwrap()) });
    let sessions = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["sessions", "list", "--config", root.join("portcullis.toml").to_str().unwrap()])
        .output()
        .unwrap();
    assert!(sessions.status.success(), "{sessions:?}");
    assert!(metrics.contains("\nportcullis_connections_open "), "{metrics}");
    [
        health.policy.stale,
        metrics.contains("\nportcullis_policy_stale 1\n"),
        String::from_utf8(sessions.stdout).unwrap().contains("the policy in force is stale"),
    ]
}

/// `sessions` could not be asked at all while the rules were faulty, which is when one wants to.
#[test]
fn a_refused_policy_is_seen_in_health_metrics_and_sessions_until_it_is_mended() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let root = folder.path();
    fs::create_dir(root.join("rules")).unwrap();
    fs::write(root.join("rules/load.toml"), rules(1, 0)).unwrap();
    let text = format!(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[upstream]\nurl = \"http://{}\"\n[admin]\naddress = \"unix:admin.sock\"\n\
         [rules]\nfiles = [\"rules/*.toml\"]\n",
        origin.address()
    );
    let config = root.join("portcullis.toml");
    fs::write(&config, &text).unwrap();
    let guard = Started::start(&config);
    guard.event("guard.started");
    assert_eq!(is_stale(root), [false; 3]);
    fs::write(root.join("rules/load.toml"), "half a file").unwrap();
    guard.event("policy.reload_failed");
    assert_eq!(is_stale(root), [true; 3]);
    fs::write(root.join("rules/load.toml"), rules(1, 1)).unwrap();
    guard.event("policy.reloaded");
    assert_eq!(is_stale(root), [false; 3]);
    signal::send(&guard.child, "TERM");
}

/// Rules were in force, and told as refused, when their counters could not be put in place in the end.
#[test]
fn rules_whose_counters_can_not_be_kept_are_not_in_force() {
    let (folder, origin, signer) = (tempfile::tempdir().unwrap(), Origin::start(), Signer::new(1));
    let root = folder.path();
    fs::create_dir(root.join("rules")).unwrap();
    let sign = |version: usize| {
        let text = rules(1, version);
        let signature = signer.sign(text.as_bytes(), &format!("portcullis:counter={version} file=rules/load.toml"));
        fs::write(root.join("rules/load.toml"), &text).unwrap();
        fs::write(root.join("rules/load.toml.minisig"), signature).unwrap();
    };
    let text = format!(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[upstream]\nurl = \"http://{}\"\n[admin]\naddress = \"unix:admin.sock\"\n\
         [rules]\nfiles = [\"rules/*.toml\"]\nsigned_by = [\"{}\"]\n",
        origin.address(),
        signer.public()
    );
    let config = root.join("portcullis.toml");
    fs::write(&config, &text).unwrap();
    sign(1);
    let guard = Started::start(&config);
    let address: std::net::SocketAddr = guard.event("guard.started")["listen"].as_str().unwrap().parse().unwrap();
    let refused = |why: &str| while !guard.event("policy.reload_failed")["fault"].as_str().unwrap().contains(why) {};
    let files = || fs::read_dir(root.join("portcullis-data")).unwrap().count();
    let before = files();
    // Where only a folder can be, no file can: that is seen when it is put there, which even root can not.
    fs::write(&config, format!("{text}counters = \"portcullis-data/other/\"\n")).unwrap();
    sign(2);
    refused("other/ can not be written");
    assert!(status(address, "/version-1").contains("403") && status(address, "/version-2").contains("200"));
    assert_eq!((is_stale(root), files()), ([true; 3], before), "and no draft is left behind");
    fs::write(&config, format!("{text}counters = \"portcullis-data/other\"\n")).unwrap();
    let told = guard.event("policy.reloaded");
    assert_eq!(told["revision"].as_u64(), Some(2), "what was refused has no number: {told}");
    assert!(status(address, "/version-2").contains("403"));
    assert_eq!((is_stale(root), files()), ([false; 3], before + 1));
    signal::send(&guard.child, "TERM");
}

/// Writes a certificate and its key; gives the certificate.
fn certify(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

/// Whether a handshake with this certificate alone comes about.
fn shows(address: std::net::SocketAddr, certificate: &CertificateDer<'static>) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    connection.complete_io(&mut stream).is_ok()
}

/// Waits until something is so.
#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it never came: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Rules that are off were counted as well.
#[test]
fn a_reload_tells_how_many_rules_are_in_force() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let root = folder.path();
    let config = root.join("portcullis.toml");
    let text = format!(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[upstream]\nurl = \"http://{}\"\n[admin]\naddress = \"off\"\n\
         [rules]\nfiles = [\"load.toml\"]\n",
        origin.address()
    );
    fs::write(&config, &text).unwrap();
    fs::write(root.join("load.toml"), rules(3, 0)).unwrap();
    let guard = Started::start(&config);
    guard.event("guard.started");
    fs::write(root.join("load.toml"), rules(3, 1).replacen("score = 5", "score = 5\nmode = \"off\"", 1)).unwrap();
    let told = guard.event("policy.reloaded");
    assert_eq!(told["rules"].as_u64(), Some(baseline() + 2), "{told}");
    fs::write(&config, text + "mode = \"off\"\n").unwrap();
    let told = guard.event("policy.reloaded");
    assert_eq!(told["rules"].as_u64(), Some(0), "below a ceiling of off: {told}");
    signal::send(&guard.child, "TERM");
}

/// What was renewed waited until the last rule was mended: a key that was taken away for its theft stayed in use.
#[test]
fn certificates_and_keys_are_renewed_beside_faulty_rules() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let root = folder.path();
    let config = root.join("portcullis.toml");
    fs::create_dir(root.join("rules")).unwrap();
    fs::write(root.join("rules/load.toml"), rules(1, 0)).unwrap();
    let old = certify(root);
    let text = format!(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n\
         tls = {{ cert = \"cert.pem\", key = \"key.pem\" }}\n[upstream]\nurl = \"http://{}\"\n[admin]\naddress = \"off\"\n\
         [session]\nshield = [\"sid\"]\n[rules]\nfiles = [\"rules/*.toml\"]\n",
        origin.address()
    );
    fs::write(&config, text).unwrap();
    let guard = Started::start(&config);
    let listen = guard.event("guard.started")["listen"].as_str().unwrap().to_owned();
    let [plain, tls]: [std::net::SocketAddr; 2] =
        listen.split(' ').map(|address| address.parse().unwrap()).collect::<Vec<_>>().try_into().unwrap();
    assert!(shows(tls, &old));
    origin.next(raw("HTTP/1.1 200 OK\r\nSet-Cookie: sid=abc; Path=/\r\nContent-Length: 0\r\n\r\n"));
    let mut jar = Jar::default();
    let reply = Wire::connect(plain).send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply();
    reply.all("set-cookie").iter().for_each(|line| jar.take(line, "/"));
    let cookie = jar.header("/").unwrap();
    // Whether the app sees the session that the cookie is of.
    let is_good = || {
        Wire::connect(plain).send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n")).reply();
        origin.seen().last().unwrap().header("cookie").is_some_and(|seen| seen.contains("sid=abc"))
    };
    assert!(is_good());

    fs::write(root.join("rules/load.toml"), "half a file").unwrap();
    guard.event("policy.reload_failed");
    let new = certify(root);
    until("the new certificate", || shows(tls, &new));
    assert!(!shows(tls, &old) && is_good());
    // Other keys, with which nothing of before can be read.
    let keys = root.join("portcullis-data/keys.toml");
    fs::remove_file(&keys).unwrap();
    let mut keygen = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    assert!(keygen.args(["keygen", keys.to_str().unwrap()]).output().unwrap().status.success());
    until("the new keys", || !is_good());
    assert!(status(plain, "/version-0").contains("403"), "the last good rules stay in force");
    signal::send(&guard.child, "TERM");
}

#[test]
fn signed_rules_take_over_only_forwards_through_every_start() {
    let (folder, origin, signer) = (tempfile::tempdir().unwrap(), Origin::start(), Signer::new(1));
    let root = folder.path();
    let file = root.join("rules/load.toml");
    fs::create_dir(root.join("rules")).unwrap();
    let sign = |version: usize, counter: u64| {
        let text = rules(1, version);
        fs::write(&file, &text).unwrap();
        let signature = signer.sign(text.as_bytes(), &format!("portcullis:counter={counter} file=rules/load.toml"));
        fs::write(root.join("rules/load.toml.minisig"), signature).unwrap();
    };
    let text = format!(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[upstream]\nurl = \"http://{}\"\n[admin]\naddress = \"off\"\n\
         [events]\nrepeat = {{ first = 1000 }}\n[rules]\nfiles = [\"rules/*.toml\"]\nsigned_by = [\"{}\"]\n",
        origin.address(),
        signer.public()
    );
    let config = root.join("portcullis.toml");
    fs::write(&config, text).unwrap();
    let counters = root.join("portcullis-data/rules.counters");
    let kept = |counter: u64| fs::read_to_string(&counters).unwrap().contains(&format!("\n{counter} "));

    sign(1, 11);
    let guard = Started::start(&config);
    let address: std::net::SocketAddr = guard.event("guard.started")["listen"].as_str().unwrap().parse().unwrap();
    assert!(status(address, "/version-1").contains("403") && kept(11));
    sign(2, 12);
    guard.event("policy.reloaded");
    assert!(status(address, "/version-2").contains("403") && kept(12));
    // A file and its signature are two: between them another fault may be told first.
    let refused = |why: &str| while !guard.event("policy.reload_failed")["fault"].as_str().unwrap().contains(why) {};
    sign(1, 11);
    refused("is outdated: its counter is 11, and 12 was in force");
    sign(1, 12);
    refused("is outdated: another content with the counter 12 was in force");
    assert!(status(address, "/version-2").contains("403") && kept(12), "the last good rules stay in force");
    sign(2, 12);
    guard.event("policy.reloaded");
    // The signature alone.
    sign(2, 13);
    guard.event("policy.reloaded");
    assert!(kept(13));
    // Their file alone brings nothing back, and is missed.
    let copy = fs::read(&counters).unwrap();
    fs::remove_file(&counters).unwrap();
    refused("are gone; put back a copy");
    sign(1, 11);
    fs::write(&counters, copy).unwrap();
    refused("is outdated: its counter is 11, and 13 was in force");
    sign(2, 13);
    guard.event("policy.reloaded");
    assert!(status(address, "/version-2").contains("403") && kept(13));
    signal::send(&guard.child, "TERM");
    drop(guard);

    let refused_at_start = |why: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        let output = command.args(["run", "--config", config.to_str().unwrap()]).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{told}");
        assert!(told.contains(why), "{told}");
    };
    sign(2, 12);
    refused_at_start("is outdated: its counter is 12, and 13 was in force");
    sign(2, 13);
    fs::write(&counters, "damaged").unwrap();
    refused_at_start("are damaged; put back a copy");
    assert_eq!(fs::read_to_string(&counters).unwrap(), "damaged");
}
