//! rsyslog and syslog-ng take what the guard sends.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;

use super::{Server, contrib, events, program, unpacked};
use crate::events::world::{LOGGED_IN, WRONG, World};
use crate::support::running::until;
use crate::support::stored::free_port;

/// A collector that runs, with a folder of its own.
struct Collector {
    folder: PathBuf,
    tcp: u16,
    tls: u16,
    /// What it says in its log of a client without a certificate.
    refusal: &'static str,
    _server: Server,
}

/// An authority, and a certificate of it for both sides.
pub(super) fn certificates(folder: &Path) {
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.2".to_owned()]).unwrap();
    // With the name of its authority it would look as if it had signed itself.
    params.distinguished_name.push(DnType::CommonName, "localhost");
    let certificate = params.signed_by(&key, &issuer).unwrap();
    for (name, text) in [("ca.pem", ca.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())] {
        fs::write(folder.join(name), text).unwrap();
    }
}

/// A folder below that of the world, with certificates.
fn folder(world: &World, name: &str) -> PathBuf {
    let folder = world.folder().join(name);
    fs::create_dir(&folder).unwrap();
    certificates(&folder);
    folder
}

fn rsyslog(program: &Path, world: &World) -> Collector {
    let folder = folder(world, "rsyslog");
    let at = |name: &str| folder.join(name).display().to_string();
    let (tcp, tls) = (at("tcp.port"), at("tls.port"));
    let config = contrib(
        "rsyslog/portcullis.conf",
        &[
            ("/etc/rsyslog.d/ca.pem", &at("ca.pem")),
            ("/etc/rsyslog.d/cert.pem", &at("cert.pem")),
            ("/etc/rsyslog.d/key.pem", &at("key.pem")),
            ("port=\"5514\"", &format!("port=\"0\" listenPortFileName=\"{tcp}\"")),
            ("port=\"6514\"", &format!("address=\"127.0.0.1\" port=\"0\" listenPortFileName=\"{tls}\"")),
            ("/var/log/portcullis/collected.jsonl", &at("collected.jsonl")),
        ],
    );
    fs::write(at("rsyslog.conf"), format!("global(workDirectory=\"{}\")\n{config}", folder.display())).unwrap();
    let mut command = Command::new(program);
    command.args(["-n", "-f", &at("rsyslog.conf"), "-i", &at("pid")]);
    let log = fs::File::create(at("log")).unwrap();
    let server = Server(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    let port = |file: &str| fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u16>().ok());
    until("rsyslog listens", || port(&tcp).is_some() && port(&tls).is_some());
    let (tcp, tls) = (port(&tcp).unwrap(), port(&tls).unwrap());
    Collector { folder, tcp, tls, refusal: "certificate", _server: server }
}

fn syslog_ng(program: &Path, world: &World) -> Collector {
    let folder = folder(world, "syslog-ng");
    let at = |name: &str| folder.join(name).display().to_string();
    let (tcp, tls) = (free_port(), free_port());
    let config = contrib(
        "syslog-ng/portcullis.conf",
        &[
            ("/etc/syslog-ng/ca.pem", &at("ca.pem")),
            ("/etc/syslog-ng/cert.pem", &at("cert.pem")),
            ("/etc/syslog-ng/key.pem", &at("key.pem")),
            ("port(5514)", &format!("port({tcp})")),
            ("port(6514)", &format!("ip(\"127.0.0.1\") port({tls})")),
            ("/var/log/portcullis/collected.jsonl", &at("collected.jsonl")),
        ],
    );
    fs::write(at("conf"), format!("@version: current\n{config}")).unwrap();
    let mut command = Command::new(program);
    command.args([
        "-F",
        "-e",
        "--no-caps",
        "-f",
        &at("conf"),
        "-R",
        &at("persist"),
        "-c",
        &at("ctl"),
        "-p",
        &at("pid"),
    ]);
    if program.starts_with(unpacked()) {
        // It looks for what belongs to it where it would be installed.
        let lib = unpacked().join("lib");
        let inside = |folder: &Path| -> Vec<PathBuf> {
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
        };
        let own = lib.join("syslog-ng");
        let modules = inside(&own).into_iter().find(|path| path.join("libaffile.so").exists()).expect("its modules");
        command.arg("--module-path").arg(modules);
        let libraries = inside(&lib).into_iter().chain([own]).chain(inside(&unpacked().join("../lib")));
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap());
    }
    let log = fs::File::create(at("log")).unwrap();
    let server = Server(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    let listens = |port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
    until("syslog-ng listens", || listens(tcp) && listens(tls));
    Collector { folder, tcp, tls, refusal: "peer did not return a certificate", _server: server }
}

/// Sends it a login over TCP and over TLS, and over TLS without a certificate.
fn takes_events(world: &World, collector: &Collector) {
    let at = |name: &str| collector.folder.join(name).display().to_string();
    world.configure(&format!(
        r#"journal = {{ path = "data/events.jsonl", sync = "0s" }}
[[events.sink]]
type = "stdout"
[[events.sink]]
name = "plain"
type = "syslog"
address = "tcp://127.0.0.1:{tcp}"
[[events.sink]]
name = "over-tls"
type = "syslog"
address = "tls://localhost:{tls}"
ca = "{ca}"
cert = "{cert}"
key = "{key}"
# One that shows no certificate.
[[events.sink]]
name = "stranger"
type = "syslog"
address = "tls://localhost:{tls}"
ca = "{ca}"
format = "ecs"
"#,
        tcp = collector.tcp,
        tls = collector.tls,
        ca = at("ca.pem"),
        cert = at("cert.pem"),
        key = at("key.pem"),
    ));
    let mut guard = world.start();
    assert_eq!(world.logs_in(&guard, WRONG), 401);
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    assert!(guard.process.terminate().success());
    // Whole lines: it may be writing one.
    let text = || fs::read_to_string(at("collected.jsonl")).unwrap_or_default();
    let collected = || events(text().rsplit_once('\n').map_or("", |(lines, _)| lines));
    let ends = || collected().iter().filter(|event| event["event"] == "guard.stopped").count();
    until("both sinks have told the end", || ends() == 2);
    // What came is what the journal has, over each way.
    let journal = fs::read_to_string(world.journal()).unwrap();
    for event in events(&journal) {
        let of = |found: &&Value| found["seq"] == event["seq"] && found["event"] == event["event"];
        assert!(collected().iter().filter(of).count() >= 2, "{event}");
    }
    // What the stranger sent did not.
    let complaints = || fs::read_to_string(at("log")).unwrap();
    until("the stranger is turned away", || complaints().contains(collector.refusal));
    assert!(collected().iter().all(|event| event["@timestamp"].is_null()), "{:?}", collected());
}

#[test]
fn rsyslog_takes_events_over_tcp_and_tls_and_writes_down_what_the_guard_wrote() {
    let Some(rsyslogd) = program("rsyslogd") else { return };
    let world = World::new();
    takes_events(&world, &rsyslog(&rsyslogd, &world));
}

#[test]
fn syslog_ng_takes_events_over_tcp_and_tls_and_writes_down_what_the_guard_wrote() {
    let Some(server) = program("syslog-ng") else { return };
    let world = World::new();
    takes_events(&world, &syslog_ng(&server, &world));
}

/// Every kind as RFC 5424, as rsyslog reads it: header, structured data and message.
#[test]
fn rsyslog_reads_every_kind_as_rfc_5424_has_it() {
    let Some(rsyslog) = program("rsyslogd") else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let property = |name: &str| format!("property(outname=\"{name}\" name=\"{name}\" format=\"jsonf\") ");
    let names =
        ["app-name", "msgid", "syslogseverity", "syslogfacility-text", "hostname", "protocol-version", "procid", "msg"];
    let properties = names.map(property).join("constant(value=\",\") ");
    let config = format!(
        r#"global(workDirectory="{work}" maxMessageSize="64k")
module(load="imtcp")
module(load="mmpstrucdata")
input(type="imtcp" address="127.0.0.1" port="0" listenPortFileName="{port}")
template(name="all" type="list") {{
    constant(value="{{")
    property(outname="time" name="timereported" dateformat="rfc3339" format="jsonf") constant(value=",")
    constant(value="\"sd\":") property(name="$!rfc5424-sd") constant(value=",")
    {properties}
    constant(value="}}\n")
}}
action(type="mmpstrucdata")
action(type="omfile" file="{out}" template="all")
"#,
        work = folder.path().display(),
        port = at("port"),
        out = at("out"),
    );
    fs::write(at("conf"), config).unwrap();
    let log = fs::File::create(at("log")).unwrap();
    let mut command = Command::new(&rsyslog);
    command.args(["-n", "-f", &at("conf"), "-i", &at("pid")]).stdout(Stdio::null()).stderr(log);
    let _server = Server(command.spawn().unwrap());
    let port = || fs::read_to_string(at("port")).ok().and_then(|text| text.trim().parse::<u16>().ok());
    until("rsyslog listens", || port().is_some());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let [lines, events] = ["events.syslog", "events.jsonl"].map(|name| fs::read_to_string(root.join(name)).unwrap());
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port().unwrap())).unwrap();
    for line in lines.lines() {
        stream.write_all(format!("{} {line}", line.len()).as_bytes()).unwrap();
    }
    let count = lines.lines().count();
    let read = || fs::read_to_string(at("out")).unwrap_or_default();
    until("rsyslog wrote all of them", || read().lines().count() == count);
    for (told, event) in read().lines().zip(events.lines()) {
        let told: Value = serde_json::from_str(told).unwrap_or_else(|error| panic!("{error}: {told}"));
        let event: Value = serde_json::from_str(event).unwrap();
        assert_eq!((&told["app-name"], &told["msgid"]), (&"portcullis".into(), &event["event"]));
        assert_eq!((&told["syslogfacility-text"], &told["protocol-version"]), (&"authpriv".into(), &"1".into()));
        let severity = match event["severity"].as_str().unwrap() {
            "critical" => "2",
            "warn" => "4",
            "notice" => "5",
            _ => "6",
        };
        assert_eq!(told["syslogseverity"], severity, "{told}");
        assert_eq!((&told["time"], &told["procid"]), (&event["ts"], &"-".into()));
        assert_eq!(told["sd"]["meta"]["sequenceid"], event["seq"].to_string(), "{told}");
        assert_eq!(told["sd"]["origin"]["software"], "Portcullis", "{told}");
        let message: Value = serde_json::from_str(told["msg"].as_str().unwrap()).unwrap();
        assert_eq!(message, event);
    }
}
