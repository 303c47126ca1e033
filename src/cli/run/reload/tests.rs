//! Reloads as they come: by a signal, by a change, by time.

use std::cell::RefCell;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::sync::mpsc::channel;

use portcullis::clock::ManualClock;
use portcullis::verdict::Mode;

use super::*;

/// 2026-11-21
const NOW: Timestamp = Timestamp::from_secs(1_795_257_972);
const DAY: Duration = Duration::from_secs(86_400);
const PATIENCE: Duration = Duration::from_secs(60);

/// A guard that runs on a clock which stands still, and what reloads it.
struct World {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    running: Running,
    reloader: Reloader,
}

impl World {
    /// Each file is written below one folder; `rules/*.toml` are its rules.
    async fn start(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = "[[listen]]\naddress = \"127.0.0.1:0\"\n[upstream]\nurl = \"http://127.0.0.1:9\"\n\
            [admin]\naddress = \"off\"\n[store]\nkind = \"memory\"\n[rules]\nfiles = [\"rules/*.toml\"]\n\
            [[events.sink]]\ntype = \"file\"\npath = \"events.jsonl\"\n";
        for (name, text) in [&[("portcullis.toml", config)], files].concat() {
            write(folder.path(), name, text);
        }
        let request =
            config::Request { file: Some(folder.path().join("portcullis.toml")), ..config::Request::default() };
        let clock = Arc::new(ManualClock::new(NOW));
        let Attempt { loaded, mut watched } = config::load(&request, NOW);
        let loaded = loaded.unwrap_or_else(|faults| panic!("{faults}"));
        let started = (loaded.settings.clone(), loaded.rules.expires());
        let running = Running::start(loaded, &mut watched, clock.clone()).await.unwrap();
        let reloader = Reloader::new(request, started, watched, &running);
        Self { folder, clock, running, reloader }
    }

    fn write(&self, name: &str, text: &str) {
        write(self.folder.path(), name, text);
    }

    fn rounds(&mut self, count: usize) {
        (0..count).for_each(|_| self.reloader.round(Round::Regular));
    }

    fn revision(&self) -> u64 {
        self.running.guard.policy().revision
    }

    /// How many events of a kind there were.
    fn told(&self, kind: &str) -> usize {
        self.events().matches(&format!("\"event\":\"{kind}\"")).count()
    }

    /// All events, a line each.
    fn events(&self) -> String {
        self.running.guard.events().flush(PATIENCE);
        fs::read_to_string(self.folder.path().join("events.jsonl")).unwrap()
    }

    fn mode(&self, rule: &str) -> Mode {
        let policy = self.running.guard.policy();
        policy.rules.rules().iter().find(|known| known.name.as_str() == rule).unwrap().mode
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A rule that refuses one path.
fn rule(path: &str) -> String {
    format!(
        "version = 1\nname = \"shop\"\n[[rule]]\nid = \"fence\"\nwhen = 'request.path == \"{path}\"'\nthen = \"deny\"\n"
    )
}

/// A database in which every address lies in one country.
fn database(country: &str) -> Vec<u8> {
    let text = |text: &str| [&[0x40 | u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // One node, of which both sides lead to the first record.
    let mut bytes = [[0, 0, 17].repeat(2), vec![0; 16]].concat();
    bytes.extend([vec![0xe1], text("country"), vec![0xe1], text("iso_code"), text(country)].concat());
    bytes.extend(b"\xab\xcd\xefMaxMind.com\xe9");
    for (name, value) in [
        ("binary_format_major_version", vec![0xa1, 2]),
        ("binary_format_minor_version", vec![0xa0]),
        ("build_epoch", vec![0x01, 0x02, 1]),
        ("database_type", text("Test")),
        ("description", vec![0xe0]),
        ("ip_version", vec![0xa1, 4]),
        ("languages", vec![0x00, 0x04]),
        ("node_count", vec![0xc1, 1]),
        ("record_size", vec![0xa1, 24]),
    ] {
        bytes.extend([text(name), value].concat());
    }
    bytes
}

/// The status of an answer.
fn status(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// The keys that the first run makes were taken for a change, and the guard loaded everything again.
#[tokio::test]
async fn what_the_guard_makes_itself_is_no_change() {
    let mut world = World::start(&[("rules/shop.toml", &rule("/a"))]).await;
    assert!(world.folder.path().join("portcullis-data/keys.toml").is_file());
    world.rounds(4);
    assert_eq!((world.revision(), world.told("policy.reloaded")), (1, 0));
    write(world.folder.path(), "portcullis-data/keys.toml", "damaged");
    world.rounds(2);
    assert_eq!(world.told("policy.reload_failed"), 1, "somebody else's change of them is one");
}

#[tokio::test]
async fn a_change_between_loading_and_watching_is_taken_over() {
    let mut world = World::start(&[("rules/shop.toml", &rule("/a"))]).await;
    world.write("rules/shop.toml", &rule("/b"));
    world.reloader.round(Round::Asked);
    // The same length, and within the same tick of the file system's clock.
    world.write("rules/shop.toml", &rule("/c"));
    world.rounds(2);
    assert_eq!((world.revision(), world.told("policy.reloaded")), (3, 2));
    world.rounds(4);
    assert_eq!(world.revision(), 3);
}

#[tokio::test]
async fn a_file_that_only_the_faulty_configuration_names_is_mended_without_touching_that() {
    let mut world = World::start(&[("rules/shop.toml", &rule("/a"))]).await;
    let config = fs::read_to_string(world.folder.path().join("portcullis.toml")).unwrap();
    world.write("portcullis.toml", &config.replace("rules/*.toml", "new/*.toml"));
    world.rounds(2);
    assert_eq!((world.revision(), world.told("policy.reload_failed")), (1, 1), "there is no such folder");
    world.write("new/shop.toml", "version = 1\nname = \"shop\"\n[[rule]]\n");
    world.rounds(2);
    assert_eq!((world.revision(), world.told("policy.reload_failed")), (1, 2));
    world.write("new/shop.toml", &rule("/b"));
    world.rounds(4);
    assert_eq!((world.revision(), world.told("policy.reload_failed")), (2, 2));
}

/// A newer database waited until the last rule was mended.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_newer_database_is_taken_over_beside_a_faulty_file() {
    let norway = rule("/a").replace("request.path == \"/a\"", "client.country == \"NO\"");
    for (faulty, text) in [("rules/shop.toml", "half a file"), ("portcullis.toml", "half a file")] {
        let mut world = World::start(&[("rules/shop.toml", &norway)]).await;
        let geo = world.folder.path().join("geo.mmdb");
        let put = |bytes: &[u8]| fs::write(geo.as_path(), bytes).unwrap();
        put(&database("SE"));
        let config = fs::read_to_string(world.folder.path().join("portcullis.toml")).unwrap();
        world.write("portcullis.toml", &(config + "[geo]\ndatabases = [\"geo.mmdb\"]\n"));
        world.reloader.round(Round::Asked);
        let address = world.running.proxy.local_addrs()[0];
        let serving = tokio::spawn(world.running.proxy.run(std::future::pending()));
        let rounds = |reloader: &mut Reloader| (0..2).for_each(|_| reloader.round(Round::Regular));
        write(world.folder.path(), faulty, text);
        rounds(&mut world.reloader);
        assert_eq!((status(address, "/"), world.running.guard.policy().revision), ("502".to_owned(), 2), "{faulty}");
        put(b"no database");
        rounds(&mut world.reloader);
        assert_eq!(status(address, "/"), "502", "the one before stays in use beside {faulty}");
        put(&database("NO"));
        rounds(&mut world.reloader);
        assert_eq!((status(address, "/"), world.running.guard.policy().revision), ("403".to_owned(), 2), "{faulty}");
        assert!(world.running.standing.is_stale(), "{faulty}");
        serving.abort();
    }
}

/// What lists say is followed as databases are.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_newer_list_is_taken_over_beside_a_faulty_file_and_a_faulty_list_is_not() {
    let tor = rule("/a").replace("request.path == \"/a\"", "client.is_tor");
    for (faulty, text) in [("rules/shop.toml", "half a file"), ("portcullis.toml", "half a file"), ("other.txt", "")] {
        let mut world = World::start(&[("rules/shop.toml", &tor)]).await;
        world.write("tor.txt", "192.0.2.1\n");
        let config = fs::read_to_string(world.folder.path().join("portcullis.toml")).unwrap();
        let list = "[[geo.list]]\npath = \"tor.txt\"\nkind = \"tor\"\n";
        world.write("portcullis.toml", &(config + list));
        world.reloader.round(Round::Asked);
        let address = world.running.proxy.local_addrs()[0];
        let serving = tokio::spawn(world.running.proxy.run(std::future::pending()));
        let rounds = |reloader: &mut Reloader| (0..2).for_each(|_| reloader.round(Round::Regular));
        write(world.folder.path(), faulty, text);
        rounds(&mut world.reloader);
        assert_eq!(status(address, "/"), "502", "{faulty}");
        write(world.folder.path(), "tor.txt", "127.0.0.1 is us\n");
        rounds(&mut world.reloader);
        assert!(world.running.standing.is_stale(), "{faulty}");
        assert_eq!(status(address, "/"), "502", "the one before stays in use beside {faulty}");
        write(world.folder.path(), "tor.txt", "127.0.0.1 # us\n");
        rounds(&mut world.reloader);
        assert_eq!(status(address, "/"), "403", "{faulty}");
        serving.abort();
    }
}

/// It answered "unknown" to everything, and rules on countries stopped to match without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_database_that_can_not_be_read_is_told_once_for_each_load() {
    let mut world = World::start(&[("rules/shop.toml", &rule("/a"))]).await;
    let mut damaged = database("SE");
    // The value of the only record is longer than the file.
    damaged[22] = 0x5f;
    fs::write(world.folder.path().join("geo.mmdb"), damaged).unwrap();
    let config = fs::read_to_string(world.folder.path().join("portcullis.toml")).unwrap();
    world.write("portcullis.toml", &(config + "[geo]\ndatabases = [\"geo.mmdb\"]\n"));
    world.reloader.round(Round::Asked);
    let address = world.running.proxy.local_addrs()[0];
    let serving = tokio::spawn(world.running.proxy.run(std::future::pending()));
    let (guard, file) = (world.running.guard.clone(), world.folder.path().join("events.jsonl"));
    let told = || {
        guard.events().flush(PATIENCE);
        fs::read_to_string(&file).unwrap().matches("geo.mmdb: ").count()
    };
    assert_eq!(told(), 0);
    for loads in 1..=2 {
        for _ in 0..3 {
            assert_eq!(status(address, "/"), "502");
        }
        assert_eq!(told(), loads);
        world.reloader.round(Round::Asked);
    }
    serving.abort();
}

thread_local! {
    /// What the program said of itself on this thread.
    static SAID: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes to [`SAID`].
struct Said;

impl std::io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        SAID.with_borrow_mut(|said| said.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// One subscriber for the whole process: whether anybody listens to a line is remembered for all threads, and one that listens
/// on a single thread is overlooked if another thread comes to that line first.
fn listen() {
    static LISTENS: Once = Once::new();
    LISTENS.call_once(|| {
        let subscriber = tracing_subscriber::fmt().with_writer(|| Said).with_ansi(false).finish();
        tracing::subscriber::set_global_default(subscriber).expect("the only one of these tests");
    });
}

/// They were told at start alone.
#[tokio::test]
async fn what_is_odd_about_a_new_configuration_is_told_once() {
    let mut world = World::start(&[("rules/shop.toml", &rule("/a"))]).await;
    listen();
    let text = || String::from_utf8(SAID.take()).unwrap();
    let tune = "[[tune]]\nrule = \"shop/fence\"\nmode = \"off\"\nexpires = 2026-11-01\nwhy = \"the move\"\n";
    world.write("rules/shop.toml", &(rule("/b") + tune));
    world.rounds(2);
    let first = text();
    assert!(first.contains("WARN") && first.contains("this tune of `shop/fence` has expired"), "{first}");
    assert_eq!(world.revision(), 2);
    world.rounds(4);
    assert_eq!(text(), "");
    // What is refused has warnings beside its faults, in the words of the refusal.
    world.write("rules/shop.toml", &(rule("/b") + tune + "[[rule]]\n"));
    world.rounds(2);
    assert!(!text().contains("WARN"));
}

#[tokio::test]
async fn a_tune_that_expires_while_the_guard_runs_is_out_of_force() {
    let tune = "[[tune]]\nrule = \"shop/fence\"\nmode = \"off\"\nexpires = 2026-12-01\nwhy = \"the move\"\n";
    let mut world = World::start(&[("rules/shop.toml", &(rule("/a") + tune))]).await;
    assert_eq!(world.mode("shop/fence"), Mode::Off);
    world.clock.advance(9 * DAY);
    world.rounds(3);
    assert_eq!((world.mode("shop/fence"), world.revision()), (Mode::Off, 1), "not yet");
    world.clock.advance(DAY);
    world.rounds(3);
    assert_eq!((world.mode("shop/fence"), world.revision()), (Mode::Enforce, 2), "once, and no more");
    assert_eq!(world.told("policy.reloaded"), 1);
}

#[tokio::test]
async fn a_tune_that_expires_beside_a_faulty_file_is_tried_again_every_minute() {
    let tune = "[[tune]]\nrule = \"shop/fence\"\nmode = \"off\"\nexpires = 2026-12-01\nwhy = \"the move\"\n";
    let mut world = World::start(&[("rules/shop.toml", &(rule("/a") + tune))]).await;
    let more = world.folder.path().join("rules/more.toml");
    fs::write(&more, "half a file").unwrap();
    world.clock.advance(10 * DAY);
    world.rounds(1);
    assert_eq!((world.mode("shop/fence"), world.told("policy.reload_failed")), (Mode::Off, 1));
    world.clock.advance(RETRY_EXPIRY - Duration::from_millis(1));
    world.rounds(3);
    assert_eq!(world.told("policy.reload_failed"), 1, "not at every look");
    world.clock.advance(Duration::from_millis(1));
    world.rounds(1);
    assert_eq!(world.told("policy.reload_failed"), 2, "but every minute");
    fs::remove_file(&more).unwrap();
    world.clock.advance(RETRY_EXPIRY);
    // One round: a change alone would need two.
    world.rounds(1);
    assert_eq!((world.mode("shop/fence"), world.revision()), (Mode::Enforce, 2));
}

/// Opening a pipe waited for its other end for ever, and nothing was reloaded any more.
#[tokio::test]
async fn a_pipe_or_a_device_among_the_files_is_refused_and_what_comes_next_is_taken_over() {
    let set = |path: &str| {
        let many = "[[rule]]\nid = \"many\"\nwhen = 'client.asn in @many'\nscore = 5\n";
        rule(path).replace("[[rule]]", "[set]\nmany = { file = \"many.txt\" }\n[[rule]]") + many
    };
    let start = [("rules/shop.toml", &*set("/a")), ("rules/many.txt", "64500\n")];
    for name in ["rules/more.toml", "rules/shop.toml", "rules/many.txt", "portcullis.toml"] {
        for pipe in [true, false] {
            let mut world = World::start(&start).await;
            let path = world.folder.path().join(name);
            let before = fs::read(&path).ok();
            drop(fs::remove_file(&path));
            if pipe {
                assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            } else {
                std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
            }
            world.rounds(4);
            assert_eq!((world.revision(), world.told("policy.reload_failed")), (1, 1), "{name}");
            assert!(world.running.standing.is_stale(), "{name}");
            assert!(world.events().contains(&format!("{name} can not be read: it is no plain file")), "{name}");
            fs::remove_file(&path).unwrap();
            before.iter().for_each(|before| fs::write(&path, before).unwrap());
            world.write("rules/shop.toml", &set("/b"));
            world.rounds(4);
            assert_eq!((world.revision(), world.told("policy.reloaded")), (2, 1), "{name}");
            assert!(!world.running.standing.is_stale(), "{name}");
        }
    }
}

/// Rules were read on a thread that also takes connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_are_taken_while_rules_are_read_and_a_signal_meanwhile_is_followed_next() {
    let World { folder, running, mut reloader, .. } = World::start(&[("rules/shop.toml", &rule("/none"))]).await;
    let put = |path: &str| write(folder.path(), "rules/shop.toml", &rule(path));
    // Reading takes until it may go on.
    let ((begins, begun), (go_on, waits)) = (channel(), channel::<()>());
    reloader.load = Box::new(move |request, now, remembered| {
        let attempt = config::load_again(request, now, remembered);
        // An error means the same: the test has ended.
        begins.send(()).unwrap_or_default();
        waits.recv().unwrap_or_default();
        attempt
    });
    let begun = || begun.recv_timeout(PATIENCE).unwrap();

    let (signals, guard) = (Signals::none(), running.guard.clone());
    let address = running.proxy.local_addrs()[0];
    let serving = tokio::spawn(running.proxy.run(std::future::pending()));
    put("/one");
    signals.hang_up();
    let following = tokio::spawn(reloader.follow(signals.clone()));
    begun();
    assert_eq!((status(address, "/none"), guard.policy().revision), ("403".to_owned(), 1));
    put("/two");
    signals.hang_up();
    signals.hang_up();
    assert_eq!((status(address, "/none"), guard.policy().revision), ("403".to_owned(), 1), "one at a time");
    go_on.send(()).unwrap();

    begun();
    assert_eq!((status(address, "/one"), guard.policy().revision), ("403".to_owned(), 2));
    put("/three");
    signals.hang_up();
    go_on.send(()).unwrap();

    begun();
    assert_eq!((status(address, "/two"), guard.policy().revision), ("403".to_owned(), 3));
    following.abort();
    serving.abort();
    drop(go_on);
}
