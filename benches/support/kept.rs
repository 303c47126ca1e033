//! Events in a journal, and sinks that send them on.

use std::io::Read as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use portcullis::clock::{Clock, SystemClock};
use portcullis::delivery::{BATCH_DEFAULT, Delivery, Setup, Sink as Remote, TIMEOUT_DEFAULT, Target};
use portcullis::entropy::OsEntropy;
use portcullis::event::encode::{Encoder, FACILITY_DEFAULT, Format, Message};
use portcullis::event::journal::{self, Journal};
use portcullis::event::queue::{EventQueue, EventSender, RepeatSettings, Settings, Writer};
use portcullis::event::sink::Filter;
use tokio::sync::watch;

/// Places of the queue.
pub(crate) const PLACES: usize = 1 << 15;

/// A guard's events in a journal.
pub(crate) struct Kept {
    folder: tempfile::TempDir,
    pub(crate) events: EventSender,
    pub(crate) writer: Writer,
    durable: watch::Receiver<u64>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Kept {
    pub(crate) fn start(sync: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let settings = journal::Settings { path, bytes_max: 8 << 30, age_max: None, sync, chain: true };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let journal = Journal::open(settings, Encoder::default(), clock.clone(), &OsEntropy).unwrap();
        let durable = journal.durable();
        let repeat = RepeatSettings { window: Duration::ZERO, ..RepeatSettings::default() };
        let settings = Settings { places: PLACES, repeat, ..Settings::default() };
        let (events, writer) = EventQueue::start(&settings, clock.clone(), vec![Box::new(journal)]).unwrap();
        Self { folder, events, writer, durable, clock }
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("events.jsonl")
    }

    /// A sink that sends them on to a syslog server.
    pub(crate) fn delivery(&self, address: &str) -> Delivery {
        let setup = Setup {
            journal: self.path(),
            durable: self.durable.clone(),
            events: self.events.clone(),
            clock: self.clock.clone(),
            entropy: Arc::new(OsEntropy),
        };
        let sink = Remote {
            name: "siem".to_owned(),
            target: Target::Syslog(address.parse().unwrap()),
            encoder: Encoder::new(Format::Syslog { facility: FACILITY_DEFAULT, message: Message::Json }),
            filter: Filter::default(),
            batch: BATCH_DEFAULT,
            timeout: TIMEOUT_DEFAULT,
        };
        Delivery::start(vec![sink], &setup).unwrap()
    }
}

/// A port that refuses everybody, as long as this is kept: it is bound and not listened on.
pub(crate) fn nobody() -> (socket2::Socket, String) {
    let dead = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    dead.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let address = format!("tcp://{}", dead.local_addr().unwrap().as_socket().unwrap());
    (dead, address)
}

/// A receiver that reads what it is sent.
pub(crate) fn somebody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        for mut stream in listener.incoming().map_while(Result::ok) {
            while stream.read(&mut bytes).is_ok_and(|count| count > 0) {}
        }
    });
    address
}
