//! Opens everything that a guard runs on, in the order in which it can fail for the least harm.

use std::io::IsTerminal;
use std::sync::Arc;

use portcullis::admin::{self, PolicyStanding};
use portcullis::clock::{Clock, Timestamp};
use portcullis::config::counters::{self, Kept, Remembered};
use portcullis::config::keys::{self, KeyFile, Origin};
use portcullis::config::{self, AdminAddress, Recorder, Settings, SinkTarget, Watched};
use portcullis::delivery::{self, Delivery};
use portcullis::engine::{Guard, Places, Setup};
use portcullis::entropy::OsEntropy;
use portcullis::event::encode::{Encoder, Format};
use portcullis::event::field::Dependency;
use portcullis::event::journal::Journal;
use portcullis::event::queue::{EventSender, Writer};
use portcullis::event::sink::{FileSink, ReopenHandle, Sink, StreamSink};
use portcullis::event::{EventQueue, Scene, kinds, queue};
use portcullis::limit::Limits;
use portcullis::proxy::{Guarded, Proxy};
use portcullis::secret::Keyring;
use portcullis::store::any::AnyStore;
use portcullis::verdict::Text;

use super::devices::Devices;
use super::{RunError, store};

/// Everything that runs.
pub(super) struct Running {
    pub(super) guard: Arc<Guard<AnyStore>>,
    pub(super) proxy: Proxy<Guarded<AnyStore>>,
    pub(super) writer: Writer,
    /// The sinks over the network.
    pub(super) delivery: Option<Delivery>,
    pub(super) reopen: Vec<ReopenHandle>,
    pub(super) events: EventSender,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) admin: Option<admin::Server<AnyStore>>,
    pub(super) standing: PolicyStanding,
    pub(super) recorder: Option<Arc<Recorder>>,
    /// The signed rules in force, which the reloader is not to forget.
    pub(super) remembered: Remembered,
    pub(super) devices: Option<Arc<Devices>>,
}

impl Running {
    pub(super) async fn start(
        loaded: config::Loaded,
        watched: &mut Watched,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RunError> {
        let settings = loaded.settings;
        let counters = counters::prepare(&settings, &loaded.rules, &Remembered::default(), &OsEntropy)?;
        let keys = key_file(&settings, clock.now(), watched)?;
        // The hashes in events are to stay the same over restarts, so they come from the file too.
        let hiding = Arc::new(keys.keyring());
        let Told { events, writer, delivery, reopen } = Told::start(&settings, &hiding, &clock)?;
        let mut guard = Guard::new(Setup {
            store: store::open(&settings, &keys, &clock).await?,
            policy: settings.policy(1, &loaded.rules)?,
            keys: keys.keyring(),
            places: places(&settings, &events, clock.clone())?,
            limits: Limits::new(&settings.limit_settings()),
            events: events.clone(),
            clock: clock.clone(),
            entropy: Arc::new(OsEntropy),
        });
        let devices = Devices::recall(&settings, &mut guard).map(Arc::new);
        let recorder = match &settings.rules.record {
            Some(record) => {
                let recorder = Recorder::start(&record.path, record.bytes_max, settings.events.privacy, hiding)
                    .map_err(RunError::system("the recording of [rules] can not begin"))?;
                Some(Arc::new(recorder))
            }
            None => None,
        };
        let guard = Arc::new(match &recorder {
            Some(recorder) => guard.observed_by(recorder.clone()),
            None => guard,
        });
        let handed = handed()?;
        if let Some(unused @ 1..) = handed.len().checked_sub(settings.listen.len()) {
            tracing::warn!(
                unused,
                "systemd handed over more sockets than there are [[listen]] sections: the last are closed"
            );
        }
        let proxy = Proxy::bind(settings.proxy(handed), Guarded::new(guard.clone()))?;
        let standing = PolicyStanding::default();
        let handle = proxy.handle();
        let admin = admin(&settings, &guard, &standing)?;
        let admin = admin.map(|admin| {
            let other = handle.clone();
            let admin = admin.with_connections(move || handle.connections()).with_exchanges(move || other.exchanges());
            admin.with_store(guard.store().kind())
        });
        let standings = delivery.as_ref().map_or_else(Vec::new, |delivery| delivery.standings().to_vec());
        let admin = admin.map(|admin| admin.with_sinks(standings));
        // Nothing can fail any more: these rules are in force.
        let (kept, remembered) = counters.keep()?;
        if kept == Kept::Written {
            watched.before_use(&settings.counters());
        }
        Ok(Self {
            guard,
            proxy,
            writer,
            delivery,
            reopen,
            events,
            clock,
            admin,
            standing,
            recorder,
            remembered,
            devices,
        })
    }
}

/// The place where operators talk to the guard, unless it is turned off.
fn admin(
    settings: &Settings,
    guard: &Arc<Guard<AnyStore>>,
    standing: &PolicyStanding,
) -> Result<Option<admin::Server<AnyStore>>, RunError> {
    let address = match &settings.admin.address {
        AdminAddress::Off => return Ok(None),
        AdminAddress::Tcp(address) => admin::Address::Tcp(*address),
        AdminAddress::Unix(path) => admin::Address::Unix(path.clone()),
    };
    let settings = admin::Settings { address, token_file: settings.admin.token_file.clone() };
    Ok(Some(admin::Server::bind(&settings, guard.clone(), standing.clone(), Arc::new(OsEntropy))?))
}

/// Listening sockets that systemd opened for us, in the order of its file. One of another kind is a fault: left out, it
/// would move those behind it to the wrong `[[listen]]`.
fn handed() -> Result<Vec<std::net::TcpListener>, RunError> {
    let mut handed = listenfd::ListenFd::from_env();
    let taken = (0..handed.len()).filter_map(|at| handed.take_tcp_listener(at).transpose());
    taken.collect::<Result<_, _>>().map_err(RunError::system("a socket handed over by systemd is not one for TCP"))
}

/// The keys of the file; made at the first run.
pub(super) fn key_file(settings: &Settings, now: Timestamp, watched: &mut Watched) -> Result<KeyFile, RunError> {
    let (file, origin) = keys::load_or_make(&settings.keys_file, &OsEntropy, now)?;
    if origin == Origin::Read {
        return Ok(file);
    }
    // That we made it ourselves is no change of it; that somebody else has changed it since is one.
    watched.before_use(&settings.keys_file);
    Ok(keys::read(&settings.keys_file)?)
}

/// What is known of addresses. That a database can not be read any more is told, once: rules on countries stop to match.
pub(super) fn places(settings: &Settings, events: &EventSender, clock: Arc<dyn Clock>) -> Result<Places, RunError> {
    let events = events.clone();
    let tell = move |path: &str, why: &dyn std::error::Error| {
        let why = why.to_string();
        tracing::warn!(path, why, "a lookup in a database of addresses failed: what it should know is unknown");
        let fault = Text::from(format!("{path}: {why}"));
        let event = kinds::DependencyFailed { what: Dependency::Geo, fault };
        events.emit(clock.now(), Scene::default(), event);
    };
    Ok(config::places(settings, tell)?)
}

/// The way of events.
struct Told {
    events: EventSender,
    writer: Writer,
    delivery: Option<Delivery>,
    reopen: Vec<ReopenHandle>,
}

impl Told {
    fn start(settings: &Settings, keys: &Arc<Keyring>, clock: &Arc<dyn Clock>) -> Result<Self, RunError> {
        let Local { mut sinks, reopen } = Local::open(settings, keys)?;
        let remote = remote(settings, keys)?;
        let mut kept = None;
        let mut first_seq = queue::Settings::default().first_seq;
        if let Some(settings_of) = &settings.events.journal {
            let encoder = Encoder::new(Format::Json).with_privacy(settings.events.privacy, keys.clone());
            let journal = Journal::open(settings_of.clone(), encoder, clock.clone(), &OsEntropy)?;
            first_seq = journal.next_seq();
            kept = Some((settings_of.path.clone(), journal.durable()));
            // First, so that what it has is never behind what others were told.
            sinks.insert(0, Box::new(journal));
        }
        let queue = queue::Settings {
            places: settings.events.queue,
            first_seq,
            repeat: settings.events.repeat,
            node: Some(Text::from(settings.name.as_str())),
        };
        let (events, writer) = EventQueue::start(&queue, clock.clone(), sinks)
            .map_err(RunError::system("the event writer can not start"))?;
        let delivery = match kept {
            Some((journal, durable)) if !remote.is_empty() => {
                let (events, clock, entropy) = (events.clone(), clock.clone(), Arc::new(OsEntropy));
                let setup = delivery::Setup { journal, durable, events, clock, entropy };
                Some(Delivery::start(remote, &setup)?)
            }
            _ => None,
        };
        Ok(Self { events, writer, delivery, reopen })
    }
}

/// The sinks that the writer of events writes to itself.
struct Local {
    sinks: Vec<Box<dyn Sink>>,
    reopen: Vec<ReopenHandle>,
}

impl Local {
    fn open(settings: &Settings, keys: &Arc<Keyring>) -> Result<Self, RunError> {
        let mut local = Self { sinks: Vec::new(), reopen: Vec::new() };
        let is_terminal = std::io::stdout().is_terminal();
        for sink in &settings.events.sinks {
            let encoder = |is_terminal| sink.encoder(settings.events.privacy, is_terminal, keys.clone());
            match &sink.target {
                SinkTarget::Stdout => {
                    local
                        .sinks
                        .push(Box::new(StreamSink::stdout(encoder(is_terminal)).with_filter(sink.filter.clone())));
                }
                SinkTarget::File(path) => {
                    let file = FileSink::open(path, encoder(false));
                    let file = file.map_err(RunError::system("an event file can not be opened"))?;
                    local.reopen.push(file.handle());
                    local.sinks.push(Box::new(file.with_name(&sink.name).with_filter(sink.filter.clone())));
                }
                SinkTarget::Remote(_) => {}
            }
        }
        Ok(local)
    }
}

/// The sinks that send to other programs.
fn remote(settings: &Settings, keys: &Arc<Keyring>) -> Result<Vec<delivery::Sink>, RunError> {
    let privacy = settings.events.privacy;
    let sinks = settings.events.sinks.iter().map(|sink| sink.remote(privacy, keys.clone()));
    Ok(sinks.filter_map(Result::transpose).collect::<Result<_, _>>()?)
}
