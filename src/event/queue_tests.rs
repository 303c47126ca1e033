//! Tests of the queue and its writer: nothing is lost without being counted, and nobody waits.

use std::sync::mpsc;

use crate::verdict::Text;

use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::event::encode::Encoder;
use crate::event::field::Rotation;
use crate::event::kinds::{
    CookieDuplicate, GuardStarted, GuardStopped, LoginFailed, SessionCreated, SessionRotated, SessionUnknownId,
};
use crate::event::sink::{Collector, StreamSink};
use crate::event::{ClientView, Severity};

/// Far beyond what any of this takes: a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(60);

fn start(settings: &Settings, sinks: Vec<Box<dyn Sink>>) -> (EventSender, Writer) {
    EventQueue::start(settings, Arc::new(SystemClock::new()), sinks).unwrap()
}

fn plain(places: usize) -> Settings {
    Settings { places, repeat: RepeatSettings { window: Duration::ZERO, first: 0 }, ..Settings::default() }
}

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

/// A sink that says when it was given something and holds the writer until it is let go.
struct Gate {
    entered: mpsc::Sender<()>,
    opened: mpsc::Receiver<()>,
}

impl Gate {
    fn new() -> (Self, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (entered, has_entered) = mpsc::channel();
        let (open, opened) = mpsc::channel();
        (Self { entered, opened }, has_entered, open)
    }
}

impl Sink for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn take(&mut self, _: &Record) -> io::Result<()> {
        // Once the test let go of its ends, the gate stands open.
        if self.entered.send(()).is_ok() && self.opened.recv().is_err() {
            return Ok(());
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn keeps(&self) -> bool {
        true
    }
}

#[test]
fn events_are_written_in_order_and_numbered() {
    let kept = Collector::new();
    let settings = Settings { first_seq: 100, node: Some(Text::of("edge-1")), ..plain(0) };
    let (sender, writer) = start(&settings, vec![Box::new(kept.clone())]);
    sender.emit(
        at(1),
        Scene::default(),
        GuardStarted { version: Text::of("0.1.0"), listen: Text::of("127.0.0.1:8080") },
    );
    sender.emit(at(2), Scene::default(), SessionCreated {});
    assert_eq!(sender.flush(LONG), Flushed::All);
    assert_eq!(kept.kinds(), [Kind::GuardStarted, Kind::SessionCreated]);
    sender.emit(at(3), Scene::default(), GuardStopped {});
    assert_eq!(writer.stop(LONG), Flushed::All);
    let records = kept.records();
    assert_eq!(records.iter().map(|r| r.seq).collect::<Vec<_>>(), [100, 101, 102]);
    assert!(records.iter().all(|r| r.node == Some(Text::of("edge-1"))));
    // After the end events are dropped, and nobody waits for them.
    sender.emit(at(4), Scene::default(), SessionCreated {});
    assert_eq!(sender.flush(LONG), Flushed::All);
    assert_eq!(
        sender.count(Kind::SessionCreated),
        Count { kind: Kind::SessionCreated, emitted: 2, dropped: 1, folded: 0, lost: 0 }
    );
}

#[test]
fn a_null_sender_throws_everything_away() {
    let sender = EventSender::null();
    sender.emit(at(1), Scene::default(), SessionCreated {});
    assert_eq!((sender.flush(LONG), sender.depth()), (Flushed::All, 0));
    assert!(sender.counters().is_empty());
}

#[test]
fn a_flood_of_bulk_leaves_room_for_what_matters_and_every_drop_is_told() {
    let kept = Collector::new();
    let (gate, entered, open) = Gate::new();
    let (sender, _writer) = start(&plain(64), vec![Box::new(kept.clone()), Box::new(gate)]);
    sender.emit(
        at(1),
        Scene::default(),
        GuardStarted { version: Text::of("0.1.0"), listen: Text::of("127.0.0.1:8080") },
    );
    entered.recv().unwrap();
    // The writer is held; 64 places are free: 48 for bulk, 60 for warnings, all for the critical ones.
    for _ in 0..1000 {
        sender.emit(at(2), Scene::default(), SessionCreated {});
    }
    assert_eq!(sender.depth(), 48);
    for _ in 0..100 {
        sender.emit(at(3), Scene::default(), LoginFailed {});
    }
    assert_eq!(sender.depth(), 60);
    for _ in 0..10 {
        sender.emit(at(4), Scene::default(), CookieDuplicate { count: 2 });
    }
    assert_eq!(sender.depth(), 64);
    drop((entered, open));
    assert_eq!(sender.flush(LONG), Flushed::All);

    let kinds = kept.kinds();
    let written = |kind| kinds.iter().filter(|written| **written == kind).count();
    assert_eq!(written(Kind::SessionCreated), 48);
    assert_eq!(written(Kind::LoginFailed), 12);
    assert_eq!(written(Kind::CookieDuplicate), 4);
    let told: Vec<_> = kept
        .records()
        .into_iter()
        .filter_map(|record| match record.event {
            Event::EventsDropped(e) => Some((e.bulk, e.high, e.kinds.to_string())),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(952, 94, "session.created=952 login.failed=88 cookie.duplicate=6".to_owned())]);
    assert_eq!(sender.count(Kind::LoginFailed).dropped, 88);
    // Told once: nothing was dropped since.
    assert_eq!(sender.flush(LONG), Flushed::All);
    assert_eq!(kept.kinds().len(), kinds.len());
}

#[test]
fn many_threads_lose_nothing_that_is_not_counted() {
    let kept = Collector::new();
    let (sender, writer) = start(&plain(256), vec![Box::new(kept.clone())]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let sender = sender.clone();
            scope.spawn(move || {
                for i in 0..2000 {
                    sender.emit(at(i), Scene::default(), SessionRotated { why: Rotation::Tag, previous: None });
                    if i % 10 == thread {
                        sender.emit(at(i), Scene::default(), LoginFailed {});
                    }
                }
            });
        }
    });
    assert_eq!(writer.stop(LONG), Flushed::All);
    let records = kept.records();
    let dropped: u64 = records
        .iter()
        .filter_map(|record| match &record.event {
            Event::EventsDropped(e) => Some(e.bulk + e.high),
            _ => None,
        })
        .sum();
    for (kind, emitted) in [(Kind::SessionRotated, 8000), (Kind::LoginFailed, 800)] {
        let written = records.iter().filter(|record| record.event.kind() == kind).count();
        let count = sender.count(kind);
        assert_eq!(count.emitted, emitted);
        assert_eq!(u64::try_from(written).unwrap() + count.dropped, emitted);
    }
    assert_eq!(sender.counters().iter().map(|count| count.dropped).sum::<u64>(), dropped);
    assert!(records.iter().zip(1..).all(|(record, seq)| record.seq == seq));
}

#[test]
fn a_storm_becomes_a_summary_and_its_events_are_counted_as_folded() {
    let kept = Collector::new();
    let (sender, writer) = start(&Settings::default(), vec![Box::new(kept.clone())]);
    let client = ClientView { ip: Some("192.0.2.1".parse().unwrap()), ..ClientView::default() };
    let scene = Scene { client, ..Scene::default() };
    for i in 0..20 {
        sender.emit(at(i), scene.clone(), SessionUnknownId {});
    }
    assert_eq!(sender.flush(LONG), Flushed::All);
    assert_eq!(kept.kinds(), [Kind::SessionUnknownId; 3]);
    sender.emit(at(61), scene, LoginFailed {});
    assert_eq!(sender.flush(LONG), Flushed::All);
    assert_eq!(kept.kinds()[3..], [Kind::EventsRepeated, Kind::LoginFailed]);
    assert_eq!(sender.count(Kind::SessionUnknownId).folded, 17);
    assert_eq!(sender.count(Kind::EventsRepeated).emitted, 1);
    drop(writer);
}

#[test]
fn a_summary_is_written_at_the_end_even_if_its_window_is_open() {
    let kept = Collector::new();
    let (sender, writer) = start(&Settings::default(), vec![Box::new(kept.clone())]);
    for _ in 0..5 {
        sender.emit(at(1), Scene::default(), LoginFailed {});
    }
    assert_eq!(writer.stop(LONG), Flushed::All);
    assert_eq!(kept.kinds()[3..], [Kind::EventsRepeated]);
}

#[test]
fn a_summary_comes_by_the_clock_when_nothing_else_happens() {
    let kept = Collector::new();
    let clock = Arc::new(ManualClock::new(at(1)));
    let (gate, entered, open) = Gate::new();
    let own: Arc<dyn Clock> = clock.clone();
    let sinks: Vec<Box<dyn Sink>> = vec![Box::new(kept.clone()), Box::new(gate)];
    let (sender, _writer) = EventQueue::start(&Settings::default(), own, sinks).unwrap();
    for _ in 0..5 {
        sender.emit(at(1), Scene::default(), LoginFailed {});
    }
    for _ in 0..3 {
        entered.recv().unwrap();
        open.send(()).unwrap();
    }
    clock.advance(Duration::from_secs(60));
    // The fourth thing that reaches the sink is the summary, and no event was needed for it.
    entered.recv().unwrap();
    assert_eq!(kept.kinds().last(), Some(&Kind::EventsRepeated));
    drop((entered, open));
}

#[test]
fn a_sink_gets_only_what_it_wants() {
    struct Strict(Collector);
    impl Sink for Strict {
        fn name(&self) -> &'static str {
            "strict"
        }
        fn wants(&self, record: &Record) -> bool {
            record.severity() == Severity::Critical
        }
        fn take(&mut self, record: &Record) -> io::Result<()> {
            self.0.take(record)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (all, few) = (Collector::new(), Collector::new());
    let (sender, _writer) = start(&plain(64), vec![Box::new(all.clone()), Box::new(Strict(few.clone()))]);
    sender.emit(at(1), Scene::default(), LoginFailed {});
    sender.emit(at(1), Scene::default(), CookieDuplicate { count: 2 });
    assert_eq!(sender.flush(LONG), Flushed::All);
    assert_eq!(all.kinds().len(), 2);
    assert_eq!(few.kinds(), [Kind::CookieDuplicate]);
}

#[test]
fn a_sink_that_fails_is_told_of_once_and_stops_no_other() {
    struct Broken(mpsc::Receiver<()>);
    impl Sink for Broken {
        fn name(&self) -> &'static str {
            "broken"
        }
        fn take(&mut self, _: &Record) -> io::Result<()> {
            // Broken until the test sends something.
            self.0.try_recv().map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let kept = Collector::new();
    let (mend, broken) = mpsc::channel();
    let (sender, _writer) = start(&plain(64), vec![Box::new(Broken(broken)), Box::new(kept.clone())]);
    let emit = |expected| {
        sender.emit(at(1), Scene::default(), LoginFailed {});
        assert_eq!(sender.flush(LONG), expected);
    };
    emit(Flushed::Failed);
    emit(Flushed::Failed);
    assert_eq!(kept.kinds(), [Kind::LoginFailed, Kind::DependencyFailed, Kind::LoginFailed]);
    assert!(kept.lines()[1].contains("broken: "), "{}", kept.lines()[1]);
    mend.send(()).unwrap();
    emit(Flushed::All);
    emit(Flushed::Failed);
    let expected = [Kind::LoginFailed, Kind::DependencyRestored, Kind::LoginFailed, Kind::DependencyFailed];
    assert_eq!(kept.kinds()[3..], expected);
}

/// A file on a disk that is full until the test says otherwise.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<(bool, Vec<u8>)>>);

impl io::Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (has_room, written) = &mut *self.0.lock();
        if !*has_room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_a_file_could_not_take_is_counted_by_kind_and_told_by_its_numbers() {
    let (kept, disk) = (Collector::new(), Disk::default());
    let file = StreamSink::new("audit", disk.clone(), Encoder::default());
    let (sender, _writer) = start(&plain(64), vec![Box::new(file), Box::new(kept.clone())]);
    let emit = |event: Event, expected| {
        sender.emit(at(1), Scene::default(), event);
        assert_eq!(sender.flush(LONG), expected);
    };
    emit(LoginFailed {}.into(), Flushed::Failed);
    emit(CookieDuplicate { count: 2 }.into(), Flushed::Failed);
    emit(LoginFailed {}.into(), Flushed::Failed);
    disk.0.lock().0 = true;
    emit(SessionCreated {}.into(), Flushed::All);
    let lost = |kind| sender.counters().into_iter().find(|count| count.kind == kind).unwrap().lost;
    let counted = [Kind::LoginFailed, Kind::CookieDuplicate, Kind::DependencyFailed, Kind::SessionCreated].map(lost);
    assert_eq!(counted, [2, 1, 1, 0], "that it failed could not be told there either");
    let records = kept.records();
    let gap = records.iter().find_map(|record| match &record.event {
        Event::EventsGap(gap) => Some((gap.sink.as_str().to_owned(), gap.from_seq, gap.to_seq)),
        _ => None,
    });
    let seq = |nth: usize| records[nth].seq;
    assert_eq!(gap, Some(("audit".to_owned(), seq(0), seq(3))));
    let text = String::from_utf8(disk.0.lock().1.clone()).unwrap();
    let kinds = ["session.created", "dependency.restored", "events.gap"];
    assert!(text.lines().count() == 3 && kinds.iter().all(|kind| text.contains(kind)), "{text}");
}

#[test]
fn a_sink_that_is_stuck_holds_up_neither_requests_nor_the_end() {
    let (gate, entered, open) = Gate::new();
    let (sender, writer) = start(&plain(64), vec![Box::new(gate)]);
    sender.emit(at(1), Scene::default(), LoginFailed {});
    entered.recv().unwrap();
    sender.emit(at(1), Scene::default(), LoginFailed {});
    assert_eq!(sender.flush(Duration::from_millis(1)), Flushed::NotInTime);
    assert_eq!(writer.stop(Duration::from_millis(1)), Flushed::NotInTime);
    drop((entered, open));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

#[test]
fn awaited_events_are_written_one_by_one_when_they_are_said_to_be() {
    let kept = Collector::new();
    let clock = Arc::new(ManualClock::new(at(1)));
    let (sender, _writer) = EventQueue::start(&Settings::default(), clock, vec![Box::new(kept.clone())]).unwrap();
    let runtime = runtime();
    let first = usize::try_from(AWAITED_FIRST).unwrap();
    for count in 1..=20 {
        let ticket = sender.emit_awaited(at(1), Scene::default(), LoginFailed {});
        assert_eq!(runtime.block_on(sender.kept(ticket, LONG)), Flushed::All);
        // Of very many it is the count that is kept.
        let written = |kind| kept.kinds().into_iter().filter(|written| *written == kind).count();
        assert_eq!(written(Kind::LoginFailed), count.min(first));
        // Beside them others are folded as ever.
        sender.emit(at(1), Scene::default(), SessionUnknownId {});
        assert_eq!(sender.flush(LONG), Flushed::All);
        assert_eq!(written(Kind::SessionUnknownId), count.min(3));
    }
    assert_eq!((sender.unkept(), sender.count(Kind::LoginFailed).folded), (0, 20 - u64::from(AWAITED_FIRST)));
}

#[test]
fn all_who_wait_are_let_go_together_and_at_the_end_of_the_writer() {
    let (gate, entered, open) = Gate::new();
    let (sender, writer) = start(&plain(64), vec![Box::new(gate)]);
    let emit = || sender.emit_awaited(at(1), Scene::default(), LoginFailed {});
    let first = emit();
    entered.recv().unwrap();
    let both = first.and(emit()).and(emit());
    let ended = std::thread::spawn(move || {
        drop((entered, open));
        writer.stop(LONG)
    });
    let (one, two) = (sender.kept(both, LONG), sender.kept(first, LONG));
    let kept = runtime().block_on(async { tokio::join!(one, two) });
    assert_eq!(kept, (Flushed::All, Flushed::All));
    assert_eq!(ended.join().unwrap(), Flushed::All);
    // Nobody writes it any more, and nobody waits.
    assert_eq!(runtime().block_on(sender.kept(emit(), LONG)), Flushed::Failed);
    assert_eq!(sender.unkept(), 1);
}

#[test]
fn an_awaited_event_has_the_last_place_and_who_waits_for_a_stuck_sink_is_let_go() {
    let (gate, entered, open) = Gate::new();
    let (sender, _writer) = start(&plain(64), vec![Box::new(gate)]);
    sender.emit(at(1), Scene::default(), SessionCreated {});
    entered.recv().unwrap();
    for _ in 0..100 {
        sender.emit(at(1), Scene::default(), SessionCreated {});
    }
    assert_eq!(sender.depth(), 48);
    let tickets: Vec<_> = (0..17).map(|_| sender.emit_awaited(at(1), Scene::default(), SessionCreated {})).collect();
    assert_eq!(sender.depth(), 64);
    let time = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let kept: Vec<_> = tickets.iter().map(|ticket| time.block_on(sender.kept(*ticket, LONG))).collect();
    assert_eq!(kept[..16], [Flushed::NotInTime; 16]);
    assert_eq!((kept[16], sender.unkept()), (Flushed::Failed, 17));
    assert_eq!(time.block_on(sender.kept(tickets[0].and(tickets[16]), LONG)), Flushed::Failed);
    drop((entered, open));
}

/// A sink that keeps what it is given, but for what it is told not to.
struct Shelf {
    keeps: bool,
    fails: mpsc::Receiver<()>,
}

impl Sink for Shelf {
    fn name(&self) -> &'static str {
        "shelf"
    }
    fn take(&mut self, _: &Record) -> io::Result<()> {
        if self.fails.try_recv().is_ok() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn keeps(&self) -> bool {
        self.keeps
    }
}

#[test]
fn kept_is_what_a_sink_has_that_keeps_it_whatever_becomes_of_the_others() {
    let runtime = runtime();
    let (fail_shelf, fails) = mpsc::channel();
    let (fail_screen, screen_fails) = mpsc::channel();
    let shelf = Shelf { keeps: true, fails };
    let screen = Shelf { keeps: false, fails: screen_fails };
    let (sender, _writer) = start(&plain(64), vec![Box::new(shelf), Box::new(screen)]);
    let emit = || sender.emit_awaited(at(1), Scene::default(), LoginFailed {});
    let kept = |ticket| runtime.block_on(sender.kept(ticket, LONG));
    fail_screen.send(()).unwrap();
    assert_eq!(kept(emit()), Flushed::All);
    // The first of two is lost, and the second one is not.
    fail_shelf.send(()).unwrap();
    let first = emit();
    // Whoever asks first is told of the failure: that may be the turn of the event.
    assert_ne!(sender.flush(LONG), Flushed::NotInTime);
    assert_eq!(kept(first.and(emit())), Flushed::Failed);
    assert_eq!((kept(emit()), sender.unkept()), (Flushed::All, 1));
    // Where nothing is kept, nothing is on disk.
    let (_, never) = mpsc::channel();
    let (sender, _writer) = start(&plain(64), vec![Box::new(Shelf { keeps: false, fails: never })]);
    let ticket = sender.emit_awaited(at(1), Scene::default(), LoginFailed {});
    assert_eq!(runtime.block_on(sender.kept(ticket, LONG)), Flushed::Failed);
}

#[test]
fn a_sink_that_panics_leaves_nobody_waiting() {
    struct Bad;
    impl Sink for Bad {
        fn name(&self) -> &'static str {
            "bad"
        }
        fn take(&mut self, _: &Record) -> io::Result<()> {
            std::panic::resume_unwind(Box::new("bad"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (sender, writer) = start(&plain(64), vec![Box::new(Bad)]);
    sender.emit(at(1), Scene::default(), LoginFailed {});
    let ticket = sender.emit_awaited(at(1), Scene::default(), LoginFailed {});
    assert_eq!(runtime().block_on(sender.kept(ticket, LONG)), Flushed::Failed);
    sender.flush(LONG);
    assert_eq!(writer.stop(LONG), Flushed::NotInTime);
}
