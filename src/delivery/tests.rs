//! Sinks over receivers that are slow, away, or talk nonsense: in virtual time.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::standing::Counted;
use super::transport::Transport;
use super::worker::{Common, Worker};
use super::*;
use crate::clock::{Clock as _, ManualClock, Timestamp};
use crate::entropy::InsecureSeededEntropy;
use crate::event::journal::{self, Journal};
use crate::event::queue::{EventQueue, Flushed, RepeatSettings, Settings as QueueSettings, Writer};
use crate::event::sink::Collector;
use crate::event::{Kind, LoginFailed, Scene, SessionCreated, Severity};
use crate::verdict::Text;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);

/// What a receiver does with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Take,
    /// Writes it to a connection.
    Write,
    /// Takes it, and the answer is lost.
    TakeAndFail,
    Fail,
    Hang,
    Refuse,
    /// Takes none of it, and says how many it did not take.
    Reject,
    Forbid,
    WantNoMore,
}

/// What a receiver has got: numbers and ids of events, how large batches were, how often it was asked.
#[derive(Debug, Default)]
struct Got {
    events: Vec<(u64, String)>,
    batches: Vec<usize>,
}

type Script = Box<dyn FnMut(&[Item], Duration) -> Does + Send>;

/// A receiver that does as it is told.
struct Receiver {
    got: Arc<Mutex<Got>>,
    script: Arc<Mutex<Script>>,
    begun: Instant,
    closed: watch::Receiver<u32>,
}

impl Transport for Receiver {
    async fn send(&mut self, items: &[Item]) -> Result<Receipt, Failure> {
        self.closed.mark_unchanged();
        let does = (self.script.lock())(items, self.begun.elapsed());
        self.got.lock().batches.push(items.len());
        if matches!(does, Does::Take | Does::Write | Does::TakeAndFail) {
            self.got.lock().events.extend(items.iter().map(|item| (item.record.seq, item.record.id())));
        }
        match does {
            Does::Take => Ok(Receipt::Taken("200 OK".into())),
            Does::Write => Ok(Receipt::Written),
            Does::TakeAndFail => Err(Failure::again("no answer that can be read")),
            Does::Fail => Err(Failure::again("connection refused")),
            Does::Forbid => Err(Failure::Again { why: "403 Forbidden".to_owned(), after: None, is_answer: true }),
            Does::Hang => std::future::pending().await,
            Does::Reject => Ok(Receipt::Partly(items.len() as u64)),
            Does::Refuse => Err(Failure::Refused { why: "400 Bad Request".into() }),
            Does::WantNoMore => Err(Failure::Gone { why: "410 Gone".into() }),
        }
    }

    async fn lost(&mut self) -> Failure {
        if self.closed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        Failure::again("it closed the connection")
    }
}

/// A guard with a journal.
struct World {
    _folder: tempfile::TempDir,
    settings: journal::Settings,
    clock: Arc<ManualClock>,
    events: EventSender,
    told: Collector,
    writer: Writer,
    durable: watch::Receiver<u64>,
}

/// A sink at work.
struct Sinking {
    got: Arc<Mutex<Got>>,
    standing: Arc<Standing>,
    stop: watch::Sender<Stopping>,
    close: watch::Sender<u32>,
    task: JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        Self::with_room(journal::BYTES_MAX_DEFAULT)
    }

    fn with_room(bytes_max: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let sync = Duration::ZERO;
        let settings = journal::Settings { path, bytes_max, age_max: None, sync, chain: true };
        let clock = Arc::new(ManualClock::new(NOW));
        let entropy = InsecureSeededEntropy::new(7);
        let journal = Journal::open(settings.clone(), Encoder::default(), clock.clone(), &entropy).unwrap();
        let (durable, first_seq, told) = (journal.durable(), journal.next_seq(), Collector::new());
        let repeat = RepeatSettings { window: Duration::ZERO, ..RepeatSettings::default() };
        let queue = QueueSettings { first_seq, repeat, places: 1 << 16, ..QueueSettings::default() };
        let sinks: Vec<Box<dyn crate::event::sink::Sink>> = vec![Box::new(journal), Box::new(told.clone())];
        let (events, writer) = EventQueue::start(&queue, clock.clone(), sinks).unwrap();
        Self { _folder: folder, settings, clock, events, told, writer, durable }
    }

    /// So many events more, on disk.
    fn tell(&self, count: u32) {
        for _ in 0..count {
            self.events.emit(self.clock.now(), Scene::default(), SessionCreated {});
        }
        self.flush();
    }

    fn flush(&self) {
        assert_eq!(self.events.flush(Duration::from_secs(20)), Flushed::All);
    }

    fn path(&self) -> PathBuf {
        self.settings.path.clone()
    }

    fn sink(&self, name: &str, script: impl FnMut(&[Item], Duration) -> Does + Send + 'static) -> Sinking {
        self.sink_with(name, Filter::default(), self.durable.clone(), script)
    }

    fn sink_with(
        &self,
        name: &str,
        filter: Filter,
        durable: watch::Receiver<u64>,
        script: impl FnMut(&[Item], Duration) -> Does + Send + 'static,
    ) -> Sinking {
        let setup = Setup {
            journal: self.path(),
            durable: durable.clone(),
            events: self.events.clone(),
            clock: self.clock.clone(),
            entropy: Arc::new(InsecureSeededEntropy::new(3)),
        };
        let (got, (close, closed)) = (Arc::<Mutex<Got>>::default(), watch::channel(0));
        let script: Script = Box::new(script);
        let receiver =
            Receiver { got: got.clone(), script: Arc::new(Mutex::new(script)), begun: Instant::now(), closed };
        let common = Common {
            name: name.to_owned(),
            encoder: Encoder::default(),
            filter,
            batch: BATCH_DEFAULT,
            timeout: TIMEOUT_DEFAULT,
        };
        let standing = Arc::new(Standing::new(name, durable));
        let counted = Counted::new(standing.clone(), setup.events.clone(), setup.clock.clone());
        let worker = Worker::new(&setup, common, receiver, counted).unwrap();
        let (stop, stopping) = watch::channel(Stopping::No);
        let task = tokio::spawn(worker.run(stopping));
        Sinking { got, standing, stop, close, task }
    }

    /// The kinds that were told of sinks, and what with.
    fn told(&self, kind: Kind) -> Vec<String> {
        self.flush();
        let records = self.told.records().into_iter().zip(self.told.lines());
        records.filter(|(record, _)| record.event.kind() == kind).map(|(_, line)| line).collect()
    }
}

impl Sinking {
    fn seqs(&self) -> Vec<u64> {
        self.got.lock().events.iter().map(|(seq, _)| *seq).collect()
    }

    fn calls(&self) -> usize {
        self.got.lock().batches.len()
    }

    /// All that is on disk, as far as the receiver takes it.
    async fn end(self) -> Arc<Mutex<Got>> {
        self.stop.send_replace(Stopping::Soon);
        self.task.await.unwrap();
        self.got
    }

    /// As a crash ends it.
    async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// Lets so much time pass.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Something stands before the receiver that holds back what looks odd to it.
#[tokio::test(start_paused = true)]
async fn one_event_that_is_never_taken_does_not_keep_back_those_behind_it() {
    let world = World::new();
    let sink = world.sink("hook", |items, _| match items.iter().any(|item| [7, 30].contains(&item.record.seq)) {
        true => Does::Forbid,
        false => Does::Take,
    });
    world.tell(20);
    pass(Duration::from_secs(3600)).await;
    // Those that tell of it come, too.
    let told = world.told(Kind::DependencyFailed);
    assert!(told.iter().any(|line| line.contains("403 Forbidden") && line.contains("hook")), "{told:?}");
    world.tell(20);
    pass(Duration::from_secs(3600)).await;
    let seqs: BTreeSet<u64> = sink.seqs().into_iter().collect();
    let last = *seqs.last().unwrap();
    assert!(last > 40);
    assert_eq!((1..=last).filter(|seq| !seqs.contains(seq)).collect::<Vec<_>>(), [7, 30]);
    assert_eq!(sink.standing.lag(), 0);
    sink.end().await;
}

/// What is missing in the journal behind it is told, and nothing before that is left out without a word.
#[tokio::test(start_paused = true)]
async fn an_event_that_is_not_taken_is_not_lost_to_a_gap_behind_it() {
    let world = World::new();
    let sink = world.sink("hook", |_, at| if at < Duration::from_secs(3 * 3600) { Does::Forbid } else { Does::Take });
    world.tell(3);
    // Somebody takes lines out of the file.
    let text = std::fs::read_to_string(world.path()).unwrap();
    let left: Vec<_> =
        text.split_inclusive('\n').enumerate().filter(|(at, _)| *at != 1).map(|(_, line)| line).collect();
    std::fs::write(world.path(), left.concat()).unwrap();
    pass(Duration::from_secs(4 * 3600)).await;
    let seqs = sink.seqs();
    assert!(seqs.contains(&1) && seqs.contains(&3) && !seqs.contains(&2), "{seqs:?}");
    assert!(world.told(Kind::EventsGap).iter().any(|line| line.contains("hook")));
    sink.end().await;
}

/// It may be a password that is wrong: nothing is left out while nothing is taken.
#[tokio::test(start_paused = true)]
async fn of_a_receiver_that_forbids_everything_nothing_is_left_out() {
    let world = World::new();
    let sink = world.sink("hook", |_, at| if at < Duration::from_secs(3 * 3600) { Does::Forbid } else { Does::Take });
    world.tell(20);
    pass(Duration::from_secs(4 * 3600)).await;
    let seqs = sink.seqs();
    assert!((1..=20).all(|seq| seqs.contains(&seq)), "{seqs:?}");
    sink.end().await;
}

#[tokio::test(start_paused = true)]
async fn events_arrive_in_order_and_a_restart_goes_on_where_it_was() {
    let world = World::new();
    let sink = world.sink("siem", |_, _| Does::Take);
    world.tell(250);
    pass(Duration::from_secs(5)).await;
    assert_eq!(sink.seqs(), (1..=250).collect::<Vec<_>>());
    assert_eq!((sink.standing.lag(), sink.standing.delivered()), (0, 250));
    assert!(sink.got.lock().batches.iter().all(|batch| *batch <= BATCH_DEFAULT));
    sink.end().await;
    world.tell(30);
    let sink = world.sink("siem", |_, _| Does::Take);
    pass(Duration::from_secs(5)).await;
    let got = sink.end().await;
    assert_eq!(got.lock().events.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (251..=280).collect::<Vec<_>>());
    // One that was never here begins with what comes.
    let other = world.sink("other", |_, _| Does::Take);
    world.tell(2);
    pass(Duration::from_secs(5)).await;
    assert_eq!(other.seqs(), [281, 282]);
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_events_come_twice_rather_than_not_at_all() {
    let world = World::new();
    let sink = world.sink("siem", |_, _| Does::Take);
    world.tell(10);
    pass(Duration::from_secs(3)).await;
    world.tell(10);
    pass(Duration::from_millis(300)).await;
    assert_eq!(sink.seqs().len(), 20);
    let ids: BTreeSet<_> = sink.got.lock().events.iter().cloned().collect();
    sink.crash().await;
    let sink = world.sink("siem", |_, _| Does::Take);
    pass(Duration::from_secs(3)).await;
    assert_eq!(sink.seqs(), (11..=20).collect::<Vec<_>>(), "the first ten were written down");
    assert!(sink.got.lock().events.iter().all(|event| ids.contains(event)), "with the same ids");
}

#[tokio::test(start_paused = true)]
async fn only_what_is_on_disk_is_delivered() {
    let world = World::new();
    let (disk, durable) = watch::channel(0);
    let sink = world.sink_with("siem", Filter::default(), durable, |_, _| Does::Take);
    world.tell(9);
    pass(HOUR).await;
    assert!(sink.seqs().is_empty());
    disk.send_replace(4);
    pass(HOUR).await;
    assert_eq!(sink.seqs(), [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_away_for_an_hour_misses_nothing_and_is_not_hammered() {
    let world = World::new();
    let sink = world.sink("siem", |_, passed| if passed < HOUR { Does::Fail } else { Does::Take });
    let other = world.sink("other", |_, _| Does::Take);
    world.tell(500);
    pass(HOUR - Duration::from_secs(1)).await;
    assert!(other.seqs().len() >= 500, "the other one has all");
    assert_eq!((sink.seqs().len(), sink.standing.state()), (0, State::Failing));
    assert!(sink.calls() < 30, "asked {} times", sink.calls());
    assert_eq!(sink.got.lock().batches.last(), Some(&1), "one event is enough to find out");
    let failures = world.told(Kind::DependencyFailed);
    assert_eq!(failures.len(), 1, "it is told once: {failures:?}");
    assert!(failures[0].contains("siem: connection refused"), "{failures:?}");
    pass(Duration::from_secs(400)).await;
    let last = *world.durable.borrow();
    assert_eq!(sink.seqs(), (1..=last).collect::<Vec<_>>());
    assert_eq!((sink.standing.state(), sink.standing.lag()), (State::Working, 0));
    let restored = world.told(Kind::DependencyRestored);
    assert!(restored.len() == 1 && restored[0].contains("siem"), "{restored:?}");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_hangs_is_left_after_its_time_and_holds_up_nobody() {
    let world = World::new();
    let mut calls = 0;
    let slow = world.sink("slow", move |_, _| {
        calls += 1;
        if calls < 4 { Does::Hang } else { Does::Take }
    });
    let other = world.sink("other", |_, _| Does::Take);
    world.tell(100);
    pass(Duration::from_millis(500)).await;
    assert_eq!((slow.seqs().len(), other.seqs().len()), (0, 100));
    pass(Duration::from_secs(60)).await;
    assert_eq!(slow.standing.failures(), 3);
    assert!(slow.seqs().starts_with(&(1..=100).collect::<Vec<_>>()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_brings_events_again_with_their_ids() {
    let world = World::new();
    let mut calls = 0;
    let sink = world.sink("siem", move |_, _| {
        calls += 1;
        if calls % 2 == 1 { Does::TakeAndFail } else { Does::Take }
    });
    world.tell(3);
    pass(Duration::from_secs(60)).await;
    assert_eq!(sink.seqs(), [1, 2, 3, 1, 2, 3]);
    let got = sink.got.lock();
    assert_eq!(got.events[..3], got.events[3..]);
}

#[tokio::test(start_paused = true)]
async fn one_event_that_is_refused_is_left_out_alone_and_told() {
    let world = World::new();
    let has = |items: &[Item], seq| items.iter().any(|item| item.record.seq == seq);
    let sink = world.sink("siem", move |items, _| if has(items, 57) { Does::Refuse } else { Does::Take });
    world.tell(100);
    pass(Duration::from_secs(1)).await;
    let told = world.told(Kind::DependencyFailed);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("siem: event 57 was refused and left out: 400 Bad Request"), "{told:?}");
    pass(Duration::from_secs(5)).await;
    assert_eq!(sink.seqs(), (1..=101).filter(|seq| *seq != 57).collect::<Vec<_>>());
    assert_eq!((sink.standing.refused(), sink.standing.lag()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_refuses_everything_is_at_fault_itself() {
    let world = World::new();
    let sink = world.sink("siem", |_, passed| if passed < HOUR { Does::Refuse } else { Does::Take });
    world.tell(100);
    pass(HOUR - Duration::from_secs(1)).await;
    assert_eq!((sink.standing.refused(), sink.standing.state()), (3, State::Failing));
    assert!(sink.calls() < 40, "asked {} times", sink.calls());
    pass(Duration::from_secs(400)).await;
    world.flush();
    pass(Duration::from_secs(5)).await;
    let last = *world.durable.borrow();
    assert_eq!(sink.seqs(), (4..=last).collect::<Vec<_>>(), "the others were not given up");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_closes_at_once_fails_and_loses_nothing() {
    let world = World::new();
    let sink = world.sink("siem", |_, _| Does::Write);
    world.tell(5);
    for _ in 0..200 {
        pass(Duration::from_secs(2)).await;
        sink.close.send_modify(|closed| *closed += 1);
    }
    // A dozen times, and up to six events one by one each time.
    assert!(sink.calls() < 80, "asked {} times", sink.calls());
    assert_eq!((sink.standing.state(), sink.standing.delivered()), (State::Failing, 0));
    assert!(sink.standing.lag() >= 5);
    pass(HOUR).await;
    assert_eq!(sink.standing.state(), State::Working);
    assert_eq!(sink.standing.lag(), 0);
}

/// A balancer whose backend is dead may do the same, so nothing is believed that was not seen.
#[tokio::test(start_paused = true)]
async fn a_receiver_that_ends_idle_connections_is_told_and_loses_nothing() {
    let world = World::new();
    let sink = world.sink("siem", |_, _| Does::Write);
    world.tell(5);
    for _ in 0..10 {
        pass(Duration::from_secs(15)).await;
        sink.close.send_modify(|closed| *closed += 1);
        pass(Duration::from_millis(1)).await;
    }
    assert_eq!((sink.standing.state(), sink.standing.delivered()), (State::Failing, 0));
    assert!(sink.standing.lag() >= 5);
    assert_eq!(world.told(Kind::DependencyFailed).len(), 1);
    pass(HOUR).await;
    assert_eq!((sink.standing.state(), sink.standing.lag()), (State::Working, 0));
    assert!((1..=5).all(|seq| sink.seqs().contains(&seq)));
}

#[tokio::test(start_paused = true)]
async fn what_is_rejected_is_told_and_that_telling_begins_no_circle() {
    let world = World::new();
    let sink = world.sink("otlp", |_, _| Does::Reject);
    world.tell(7);
    for _ in 0..20 {
        pass(Duration::from_secs(5)).await;
        world.flush();
    }
    let told = world.told(Kind::DependencyFailed);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("otlp: 7 events of a batch were rejected"), "{told:?}");
    assert_eq!((sink.standing.refused(), sink.standing.delivered(), sink.standing.lag()), (8, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_the_journal_does_not_have_yet_is_told_and_left() {
    let world = World::new();
    world.tell(3);
    std::fs::write(cursor::path_of(&world.path(), "siem"), "{\"seq\":50000,\"file\":1,\"offset\":9}\n").unwrap();
    let sink = world.sink("siem", |_, _| Does::Take);
    pass(Duration::from_secs(5)).await;
    assert!(world.told(Kind::DependencyFailed)[0].contains("siem: it was at event 50000"));
    assert_eq!(sink.seqs()[..3], [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_wants_no_more_is_not_asked_until_the_next_start() {
    let world = World::new();
    let sink = world.sink("hook", |_, _| Does::WantNoMore);
    world.tell(3);
    pass(HOUR).await;
    assert_eq!((sink.calls(), sink.standing.state()), (1, State::Disabled));
    assert!(world.told(Kind::DependencyFailed)[0].contains("hook: 410 Gone; nothing is sent to it"));
    drop(sink.end().await);
    let sink = world.sink("hook", |_, _| Does::Take);
    pass(Duration::from_secs(5)).await;
    assert_eq!(sink.seqs()[..3], [1, 2, 3], "nothing is lost");
}

#[tokio::test(start_paused = true)]
async fn what_was_written_to_a_connection_that_closes_soon_is_written_again() {
    let world = World::new();
    let sink = world.sink("siem", |_, _| Does::Write);
    world.tell(5);
    pass(Duration::from_secs(40)).await;
    assert_eq!(sink.standing.lag(), 0, "it was open for long enough");
    world.tell(5);
    pass(Duration::from_secs(10)).await;
    sink.close.send_modify(|closed| *closed += 1);
    pass(Duration::from_secs(10)).await;
    assert_eq!(sink.seqs(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 6, 7, 8, 9, 10]);
    pass(Duration::from_secs(40)).await;
    sink.close.send_modify(|closed| *closed += 1);
    pass(Duration::from_secs(40)).await;
    assert_eq!(sink.seqs().len(), 15);
    assert_eq!(sink.standing.state(), State::Working);
}

#[tokio::test(start_paused = true)]
async fn a_sink_gets_what_it_asks_for_and_what_the_stream_tells_of_itself() {
    let world = World::new();
    let filter = Filter { min: Severity::Notice, kinds: vec!["login.*".to_owned()], tags: Vec::new() };
    let sink = world.sink_with("siem", filter, world.durable.clone(), |_, _| Does::Take);
    world.tell(3);
    world.events.emit(NOW, Scene::default(), LoginFailed {});
    world.clock.advance(Duration::from_secs(120));
    world.tell(1);
    pass(Duration::from_secs(2)).await;
    let kinds: Vec<_> = world.told.kinds();
    let expected = [Kind::LoginFailed, Kind::EventsSealed];
    let wanted: Vec<_> = (1..).zip(kinds).filter(|(_, kind)| expected.contains(kind)).map(|(seq, _)| seq).collect();
    assert!(wanted.len() >= 2, "{wanted:?}");
    assert_eq!(sink.seqs(), wanted);
    assert_eq!(sink.standing.lag(), 0, "what it does not want is behind it too");
}

#[test]
fn a_tag_and_a_kind_are_wanted_by_name() {
    let tagged = |tags: &[&str]| {
        let tags = tags.iter().map(|tag| Text::from(*tag)).collect();
        crate::event::Record::new(NOW, Scene { tags, ..Scene::default() }, SessionCreated {}.into())
    };
    let wants = |kinds: &[&str], tags: &[&str]| {
        let own = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
        Filter { kinds: own(kinds), tags: own(tags), ..Filter::default() }
    };
    assert!(wants(&[], &["shop", "admin"]).wants(&tagged(&["admin"])));
    assert!(!wants(&[], &["shop"]).wants(&tagged(&[])));
    assert!(wants(&["session.created"], &[]).wants(&tagged(&[])));
    assert!(wants(&["session.*"], &[]).wants(&tagged(&[])));
    assert!(!wants(&["session"], &[]).wants(&tagged(&[])));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fell_behind_what_is_kept_is_told_once_which_events_it_missed() {
    let world = World::with_room(journal::BYTES_MAX_MIN);
    let sink = world.sink("siem", |_, passed| if passed < HOUR { Does::Fail } else { Does::Take });
    for _ in 0..10 {
        world.tell(1000);
    }
    pass(Duration::from_secs(10)).await;
    let gaps = world.told(Kind::EventsGap);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let gap: serde_json::Value = serde_json::from_str(&gaps[0]).unwrap();
    assert_eq!((&gap["sink"], &gap["from_seq"]), (&"siem".into(), &1.into()));
    let to = gap["to_seq"].as_u64().unwrap();
    pass(2 * HOUR).await;
    assert_eq!(world.told(Kind::EventsGap).len(), 1, "however often it was tried");
    let last = *world.durable.borrow();
    assert_eq!(sink.seqs(), (to + 1..=last).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn at_the_end_what_is_on_disk_is_delivered_and_a_receiver_that_is_away_keeps_nobody() {
    let world = World::new();
    let sink = world.sink("siem", |_, _| Does::Take);
    let away = world.sink("away", |_, _| Does::Fail);
    world.tell(700);
    let got = sink.end().await;
    assert!(got.lock().events.len() >= 700);
    away.end().await;
    drop(world.writer);
}
