//! NATS and Kafka take what the guard sends.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::events;
use crate::events::world::{LOGGED_IN, WRONG, World};

/// A login, and one that fails; gives what is in the journal then.
fn happens(world: &World) -> Vec<Value> {
    let mut guard = world.start();
    assert_eq!(world.logs_in(&guard, WRONG), 401);
    let (status, cookie) = world.tries(&guard, LOGGED_IN);
    assert_eq!(status, 303);
    fs::write(world.folder().join("cookie"), cookie.unwrap()).unwrap();
    assert!(guard.process.terminate().success());
    events(&fs::read_to_string(world.journal()).unwrap())
}

/// Nothing of what was sent is a secret.
fn tells_no_secret(world: &World, text: &str) {
    let cookie = fs::read_to_string(world.folder().join("cookie")).unwrap();
    for secret in world.secrets().into_iter().chain(cookie.split('.').map(str::to_owned)) {
        assert!(!text.contains(&secret), "{secret} is told: {text}");
    }
}

/// Number and kind of each.
fn named(events: impl IntoIterator<Item = Value>) -> BTreeSet<(u64, String)> {
    let name = |event: Value| (event["seq"].as_u64().unwrap(), event["event"].as_str().unwrap().to_owned());
    events.into_iter().map(name).collect()
}

#[cfg(feature = "nats")]
mod nats {
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::time::Duration;

    use async_nats::jetstream::stream::{Config, Stream};
    use async_nats::{Client, ConnectOptions, jetstream};
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ClientConfig, RootCertStore};

    use super::*;
    use crate::events::programs::collect::certificates;
    use crate::events::programs::{Server, program};
    use crate::support::running::until;
    use crate::support::stored::free_port;

    /// A server that wants TLS with a certificate, and a user.
    struct Nats {
        port: u16,
        client: Client,
        runtime: tokio::runtime::Runtime,
        _server: Server,
    }

    impl Nats {
        fn start(folder: &Path) -> Option<Self> {
            let program = program("nats-server")?;
            fs::create_dir_all(folder).unwrap();
            certificates(folder);
            let at = |name: &str| folder.join(name).display().to_string();
            let mut command = Command::new(program);
            command.args(["-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", &at("."), "-js", "-sd", &at("store")]);
            command.args(["--tls", "--tlscert", &at("cert.pem"), "--tlskey", &at("key.pem")]);
            command.args(["--tlsverify", "--tlscacert", &at("ca.pem"), "--user", "guard", "--pass", "of-nats"]);
            let log = fs::File::create(at("log")).unwrap();
            let server = Server(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
            let port = || -> Option<u16> {
                let mut files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
                let file = files.find(|path| path.extension().is_some_and(|ending| ending == "ports"))?;
                let ports: Value = serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
                ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()
            };
            until("NATS listens", || port().is_some());
            let port = port().unwrap();
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let client = runtime.block_on(Self::connect(folder, port));
            Some(Self { port, client, runtime, _server: server })
        }

        async fn connect(folder: &Path, port: u16) -> Client {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(folder.join("ca.pem")).unwrap()).unwrap();
            let own = CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap();
            let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
            let config = config.with_root_certificates(roots).with_client_auth_cert(vec![own], key).unwrap();
            let options = ConnectOptions::new().require_tls(true).tls_client_config(config);
            let options = options.user_and_password("guard".to_owned(), "of-nats".to_owned());
            options.connect(format!("tls://localhost:{port}")).await.unwrap()
        }

        /// A stream that takes all that guards send below `portcullis`.
        fn stream(&self) -> Stream {
            let subjects = vec!["portcullis.>".to_owned()];
            let config = Config { name: "GUARDS".to_owned(), subjects, ..Config::default() };
            let _inside = self.runtime.enter();
            let context = jetstream::new(self.client.clone());
            self.runtime.block_on(context.create_stream(config)).unwrap()
        }

        fn messages(&self, stream: &Stream) -> u64 {
            self.runtime.block_on(stream.get_info()).unwrap().state.messages
        }
    }

    fn sink(name: &str, folder: &Path, port: u16, more: &str) -> String {
        let at = |name: &str| folder.join(name).display().to_string();
        let (ca, cert, key) = (at("ca.pem"), at("cert.pem"), at("key.pem"));
        format!(
            "[[events.sink]]\nname = \"{name}\"\ntype = \"nats\"\nservers = \"tls://localhost:{port}\"\n\
             ca = \"{ca}\"\ncert = \"{cert}\"\nkey = \"{key}\"\nuser = \"guard\"\n{more}\n"
        )
    }

    #[test]
    fn a_stream_of_nats_has_each_event_once_however_often_it_is_sent() {
        let world = World::new();
        let folder = world.folder().join("nats");
        let Some(nats) = Nats::start(&folder) else { return };
        for (file, password) in [("right", "of-nats"), ("wrong", "of-nobody")] {
            fs::write(world.folder().join(file), password).unwrap();
        }
        let journal = "journal = { path = \"data/events.jsonl\", sync = \"0s\" }\n[[events.sink]]\ntype = \"stdout\"\n";
        let good = sink("stream", &folder, nats.port, "auth_file = \"right\"\nsubject = \"portcullis.events\"");
        let wrong = sink("stranger", &folder, nats.port, "auth_file = \"wrong\"\nsubject = \"portcullis.events\"");
        let nowhere = sink("nowhere", &folder, nats.port, "auth_file = \"right\"\nsubject = \"elsewhere\"");
        world.configure(&format!("{journal}{good}"));
        let stream = nats.stream();
        let journal_has = named(happens(&world));
        let count = nats.messages(&stream);
        let mut found = Vec::new();
        for number in 1..=count {
            let message = nats.runtime.block_on(stream.get_raw_message(number)).unwrap();
            let event: Value = serde_json::from_slice(&message.payload).unwrap();
            tells_no_secret(&world, &event.to_string());
            assert_eq!(message.subject.as_str(), format!("portcullis.events.{}", event["event"].as_str().unwrap()));
            let id = message.headers.get("Nats-Msg-Id").unwrap().as_str();
            assert!(id.ends_with(&format!("-{}", event["seq"])), "{id}: {event}");
            found.push(event);
        }
        assert_eq!((found.len(), named(found)), (journal_has.len(), journal_has));
        // Sent again it is not kept again.
        let (code, out, err) = world.says(&["replay", "--sink", "stream", "--from", "1"]);
        assert_eq!((code, nats.messages(&stream)), (0, count), "{out}{err}");
        let (code, out, err) = world.says(&["test-sink", "stream"]);
        assert!(code == 0 && out.contains(&format!("it is number {} in the stream GUARDS", count + 1)), "{out}{err}");
        // What does not work is said.
        world.configure(&format!("{journal}{wrong}{nowhere}"));
        for (sink, why) in [
            ("stranger", "authorization violation"),
            ("nowhere", "no stream of JetStream takes messages of this subject"),
        ] {
            let (code, out, err) = world.says(&["test-sink", sink]);
            assert!(code == 1 && err.contains(why), "{out}{err}");
            assert!(
                [&out, &err].iter().all(|text| !text.contains("of-nats") && !text.contains("of-nobody")),
                "{out}{err}"
            );
        }
        // One server of two is enough.
        let two = good.replace("servers = ", &format!("servers = [\"tls://localhost:{}\", ", free_port()));
        let two = two.replacen("\"\nca", "\"]\nca", 1);
        world.configure(&format!("{journal}{two}"));
        let (code, out, err) = world.says(&["test-sink", "stream"]);
        assert!(code == 0, "{two}{out}{err}");
        drop(nats.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), nats.client.drain()).await }));
    }
}

#[cfg(feature = "kafka")]
mod kafka {
    use std::collections::BTreeMap;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::path::Path;
    use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

    use super::*;
    use crate::e2e::process::Process;
    use crate::events::programs::collect::certificates;
    use crate::events::programs::{Server, python};

    /// The cluster that librdkafka has inside, and somebody who reads from it.
    struct Kafka {
        brokers: Vec<String>,
        input: ChildStdin,
        output: BufReader<ChildStdout>,
        _server: Server,
    }

    impl Kafka {
        fn start(topic: &str) -> Option<Self> {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/kafka/cluster.py");
            let mut command = Command::new(python("confluent_kafka")?);
            command.arg(script).arg(topic).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child: Child = command.spawn().unwrap();
            let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
            let mut output = BufReader::new(output);
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            Some(Self { brokers: serde_json::from_str(&line).unwrap(), input, output, _server: Server(child) })
        }

        /// The next records of the topic.
        fn read(&mut self, count: usize) -> Vec<Value> {
            writeln!(self.input, "read {count}").unwrap();
            let mut line = || {
                let mut line = String::new();
                self.output.read_line(&mut line).unwrap();
                serde_json::from_str(&line).unwrap_or_else(|_| panic!("there are no {count} records"))
            };
            (0..count).map(|_| line()).collect()
        }
    }

    #[test]
    fn a_topic_of_kafka_has_each_event_in_order_for_each_session() {
        let Some(mut kafka) = Kafka::start("guards") else { return };
        let world = World::new();
        let servers = serde_json::to_string(&kafka.brokers[..1]).unwrap();
        let sink = |name: &str, topic: &str| {
            format!(
                "[[events.sink]]\nname = \"{name}\"\ntype = \"kafka\"\nservers = {servers}\nallow_private = true\ntopic = \"{topic}\"\n"
            )
        };
        let journal = "journal = { path = \"data/events.jsonl\", sync = \"0s\" }\n[[events.sink]]\ntype = \"stdout\"\n";
        world.configure(&format!("{journal}{}{}", sink("topic", "guards"), sink("nowhere", "elsewhere")));
        let journal_has = named(happens(&world));
        let records = kafka.read(journal_has.len());
        let mut partitions: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        let mut found = Vec::new();
        for record in &records {
            tells_no_secret(&world, &record.to_string());
            let event: Value = serde_json::from_str(record["value"].as_str().unwrap()).unwrap();
            let (partition, seq) = (record["partition"].as_u64().unwrap(), event["seq"].as_u64().unwrap());
            assert_eq!(record["headers"]["event"], event["event"]);
            assert!(record["headers"]["id"].as_str().unwrap().ends_with(&format!("-{seq}")), "{record}");
            // By session, or else by client.
            let whose = if event["ref"].is_null() { &event["ip"] } else { &event["ref"] };
            assert_eq!(&record["key"], whose);
            partitions.entry(record["key"].to_string()).or_default().insert(partition);
            assert!(last.insert(partition, seq).is_none_or(|before| before < seq), "{records:?}");
            found.push(event);
        }
        assert_eq!(named(found), journal_has);
        assert!(partitions.values().all(|of_one| of_one.len() == 1), "{partitions:?}");
        let (code, out, err) = world.says(&["test-sink", "topic"]);
        assert!(code == 0 && out.contains("all replicas in sync have 1 events in 1 partitions"), "{out}{err}");
        let told: Value = serde_json::from_str(kafka.read(1)[0]["value"].as_str().unwrap()).unwrap();
        assert!(out.contains(told["word"].as_str().unwrap()), "{out}: {told}");
        let (code, out, err) = world.says(&["test-sink", "nowhere"]);
        assert!(code == 1 && err.contains("there is no topic `elsewhere`"), "{out}{err}");
        // Its end is the end of the cluster; who is away is waited for.
        drop(kafka);
        let (code, out, err) = world.says(&["test-sink", "topic"]);
        assert!(code == 1 && !err.contains("panicked"), "{out}{err}");
    }

    /// What asks for TLS and a password before it; it tells who came in, and how.
    fn gate(kafka: &Kafka, folder: &Path) -> Option<Process> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/kafka/gate.py");
        certificates(folder);
        let mut command = Command::new(python("scramp")?);
        command.arg(script).args(["cert.pem", "key.pem", "guard", "of-kafka"]).current_dir(folder);
        command.args(kafka.brokers.iter().map(|broker| broker.rsplit_once(':').unwrap().1));
        let mut gate = Process::start(&mut command, folder.join("gate.log"));
        gate.line("the gate", |line| (line == "{\"ready\": true}").then_some(()));
        Some(gate)
    }

    #[test]
    fn kafka_is_shown_a_password_within_tls_and_nothing_else_is_sent_to_a_stranger() {
        let Some(mut kafka) = Kafka::start("guards") else { return };
        let world = World::new();
        let folder = world.folder();
        let Some(mut gate) = gate(&kafka, folder) else { return };
        let port = kafka.brokers[0].rsplit_once(':').unwrap().1.to_owned();
        fs::create_dir(folder.join("elsewhere")).unwrap();
        certificates(&folder.join("elsewhere"));
        for (file, password) in [("right", "of-kafka"), ("wrong", "of-nobody")] {
            fs::write(folder.join(file), password).unwrap();
        }
        let sink = |name: &str, scheme: &str, rest: &str| {
            format!(
                "[[events.sink]]\nname = \"{name}\"\ntype = \"kafka\"\nservers = \"{scheme}127.0.0.2:{port}\"\n\
                 allow_private = true\ntopic = \"guards\"\n{rest}\n"
            )
        };
        let shows = |file: &str| format!("ca = \"ca.pem\"\nuser = \"guard\"\nauth_file = \"{file}\"\n");
        let by = |mechanism: &str| format!("{}mechanism = \"{mechanism}\"", shows("right"));
        let journal = "journal = { path = \"data/events.jsonl\", sync = \"0s\" }\n[[events.sink]]\ntype = \"stdout\"\n";
        world.configure(&format!("{journal}{}", sink("topic", "tls://", &shows("right"))));
        let journal_has = named(happens(&world));
        let records = kafka.read(journal_has.len());
        let events = records.iter().map(|record| serde_json::from_str(record["value"].as_str().unwrap()).unwrap());
        assert_eq!(named(events), journal_has);
        let came_by = |gate: &mut Process, mechanism: &str| {
            let said = format!("{{\"mechanism\": \"{mechanism}\"}}");
            gate.lines().iter().filter(|line| **line == said).count()
        };
        // The default, and to more than one broker.
        assert!(came_by(&mut gate, "SCRAM-SHA-512") > 1);

        let elsewhere = shows("right").replace("ca.pem", "elsewhere/ca.pem");
        world.configure(
            &[
                journal,
                &sink("sha256", "tls://", &by("scram-sha-256")),
                &sink("plain", "tls://", &by("plain")),
                &sink("wrong-scram", "tls://", &shows("wrong")),
                &sink("wrong-plain", "tls://", &by("plain").replace("right", "wrong")),
                &sink("nobody", "tls://", &shows("right").replace("\"guard\"", "\"nobody\"")),
                &sink("no-name", "tls://", "ca = \"ca.pem\""),
                &sink("authority", "tls://", &elsewhere),
                &sink("no-tls", "", "user = \"guard\"\nauth_file = \"right\""),
            ]
            .concat(),
        );
        for (name, mechanism) in [("sha256", "SCRAM-SHA-256"), ("plain", "PLAIN")] {
            let (code, out, err) = world.says(&["test-sink", name]);
            assert!(code == 0 && out.contains("all replicas in sync have 1 events"), "{name}: {out}{err}");
            assert!(came_by(&mut gate, mechanism) > 0, "{name}");
            kafka.read(1);
        }
        let before = gate.lines().len();
        let (wrong, closed) = ("SaslAuthenticationFailed", "eof");
        for (name, why) in [
            ("wrong-scram", wrong),
            ("wrong-plain", wrong),
            ("nobody", wrong),
            ("no-name", closed),
            ("authority", "certificate"),
            ("no-tls", closed),
        ] {
            let (code, out, err) = world.says(&["test-sink", name]);
            assert!(code == 1 && err.contains(why), "{name}: {out}{err}");
            assert!([&out, &err].iter().all(|text| !text.contains("of-kafka") && !text.contains("of-nobody")));
        }
        assert_eq!(gate.lines().len(), before, "nobody else came in");
    }
}
