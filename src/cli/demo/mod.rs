//! `portcullis demo`: a weak sample app, the same app with the guard in front, and attacks against both.
//!
//! First the play: every attack is played on both, over loopback, with a clock that is moved instead of waited for. Then
//! a new guard with the machine's clock takes the place of the first, and both go on serving, so that a person can try.

mod app;
mod attacks;
mod client;
mod guarded;
mod guessing;
mod page;
mod play;
mod ports;
mod table;
mod users;

#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use portcullis::clock::{Clock, ManualClock, SystemClock};
use portcullis::entropy::{EntropyError, OsEntropy};
use portcullis::event::encode::{Colour, Encoder, Format};
use portcullis::event::sink::{Collector, StreamSink};
use portcullis::rules::Enforcement;
use tokio::signal::unix::{SignalKind, signal};

use super::{DemoArgs, Exit, Streams};
use app::{App, Habits};
use attacks::Act;
use client::Site;
use guarded::{ABSOLUTE, GRACE, GuardedError, IDLE, Parts, ROTATE_EVERY};
use play::{Reported, Row, Stage, Verdict};
use ports::{PortError, Ports};
use table::{Printer, whole};
use users::Users;

/// How long the events of an act may take to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// More than the play takes, by its own clock.
const PLAY_MAX: Duration = Duration::from_secs(30 * 3600);

/// The demo could not go on.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Port(#[from] PortError),
    #[error(transparent)]
    Guarded(#[from] GuardedError),
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    #[error("the sample app could not be started")]
    App(#[source] io::Error),
    #[error("the demo could not be started")]
    Runtime(#[source] io::Error),
    #[error("the output could not be written")]
    Output(#[from] io::Error),
}

/// Plays and serves. Colours are for a terminal alone.
pub(super) fn run(args: &DemoArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let plain = !io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = if plain { Colour::Never } else { Colour::Always };
    match demo(args, colour, streams.out) {
        Ok(Verdict::AsExpected) => Ok(Exit::Done),
        Ok(Verdict::NotAsExpected) => Ok(Exit::Runtime),
        // Whoever reads has seen enough.
        Err(DemoError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::Runtime),
        Err(error) => {
            writeln!(streams.err, "portcullis demo: {}", whole(&error))?;
            Ok(Exit::Runtime)
        }
    }
}

fn demo(args: &DemoArgs, colour: Colour, out: &mut dyn Write) -> Result<Verdict, DemoError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(DemoError::Runtime)?.block_on(play_and_serve(args, colour, out))
}

async fn play_and_serve(args: &DemoArgs, colour: Colour, out: &mut dyn Write) -> Result<Verdict, DemoError> {
    let ports = Ports::take(args)?;
    let users = Users::generate(&OsEntropy)?;
    start_app(&ports, users.clone(), Habits::default())?;
    let mut printer = Printer::new(out, colour);
    introduce(&mut printer, &ports)?;
    let rows = play(&ports, &users, &mut printer, colour).await?;
    printer.story(&rows)?;
    printer.sum(&rows)?;
    if !args.once {
        serve(&ports, &users, &mut printer, colour).await?;
    }
    Ok(Verdict::of(&rows))
}

fn start_app(ports: &Ports, users: Users, habits: Habits) -> Result<(), DemoError> {
    let app = Arc::new(App::new(users, habits, Arc::new(OsEntropy)));
    let socket = ports.app.listener.try_clone().map_err(DemoError::App)?;
    tokio::spawn(app::serve(app, socket).map_err(DemoError::App)?);
    Ok(())
}

fn introduce(printer: &mut Printer<'_>, ports: &Ports) -> io::Result<()> {
    for port in [&ports.guarded, &ports.app] {
        if let Some(taken) = port.instead_of {
            printer
                .say(&format!("Port {taken} is taken by another program; using {} instead.", port.address.port()))?;
        }
    }
    printer.say(&format!(
        "A weak sample app without a guard ({}) and with it ({}), and attacks against both.",
        ports.app.address, ports.guarded.address
    ))?;
    printer.say(&format!(
        "Its clocks run fast: idle end {} s, absolute end {} s, a new tag every {} s, grace {} s.",
        IDLE.as_secs(),
        ABSOLUTE.as_secs(),
        ROTATE_EVERY.as_secs(),
        GRACE.as_secs()
    ))?;
    printer.say("Clients speak from addresses for documentation; which country those are in is made up.")
}

/// Plays every act on both. The guard of the play ends with it.
async fn play(ports: &Ports, users: &Users, printer: &mut Printer<'_>, colour: Colour) -> Result<Vec<Row>, DemoError> {
    // So that the play, which takes hours by its own clock, ends before now.
    let clock = Arc::new(ManualClock::new(SystemClock::new().now().before(PLAY_MAX)));
    let collector = Collector::with_encoder(Encoder::new(Format::Human(colour)));
    let guard = guarded::start(Parts {
        listener: ports.guarded.listener.clone(),
        app: ports.app.address,
        clock: clock.clone(),
        entropy: Arc::new(OsEntropy),
        sink: Box::new(collector.clone()),
        enforcement: Enforcement::Full,
    })?;
    let (without, with) = (Site::new(ports.app.address), Site::new(ports.guarded.address));
    let stage = |site| Stage { site, clock: &clock, users, entropy: &OsEntropy };
    let (without, with) = (stage(&without), stage(&with));
    let mut rows = Vec::new();
    printer.head()?;
    for act in Act::ALL {
        let on_app = act.play(&without).await;
        collector.drain();
        let on_guarded = act.play(&with).await;
        guard.events.flush(FLUSH_TIMEOUT);
        let row = Row { act, without: on_app, with: on_guarded, events: reported(&collector) };
        printer.row(&row)?;
        rows.push(row);
    }
    guard.stop().await;
    Ok(rows)
}

fn reported(collector: &Collector) -> Vec<Reported> {
    let lines = collector.lines().into_iter();
    collector.kinds().into_iter().zip(lines).map(|(kind, line)| Reported { kind, line }).collect()
}

/// Serves both until somebody ends it.
async fn serve(ports: &Ports, users: &Users, printer: &mut Printer<'_>, colour: Colour) -> Result<(), DemoError> {
    // Asked for first: from here on a signal ends the demo in order.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DemoError::Runtime)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(DemoError::Runtime)?;
    let guard = guarded::start(Parts {
        listener: ports.guarded.listener.clone(),
        app: ports.app.address,
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(OsEntropy),
        sink: Box::new(StreamSink::stdout(Encoder::new(Format::Human(colour)))),
        enforcement: Enforcement::Full,
    })?;
    invite(printer, ports, users)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    guard.stop().await;
    Ok(())
}

/// Tells what can be tried.
fn invite(printer: &mut Printer<'_>, ports: &Ports, users: &Users) -> io::Result<()> {
    // Browsers keep cookies by host, whatever the port: two names keep the two apart.
    let without = format!("http://localhost:{}", ports.app.address.port());
    let with = format!("http://{}", ports.guarded.address);
    printer.say("\nTry it yourself; Ctrl-C ends it. What the guard reports appears below.\n")?;
    printer.say(&format!("  without the guard   {without}"))?;
    printer.say(&format!("  with the guard      {with}\n"))?;
    for user in users.all() {
        printer.say(&format!("  log in as {:6} password {}", user.name, user.password))?;
    }
    printer.say(&format!(
        "
Log in on both, then for example:
  - Copy the cookie from the browser's developer tools and show it with another program:
      curl -s -b 'sid=...' {without}/account | grep -o 'Balance of [a-z]*'
      curl -s -b 'portcullis=...' {with}/account | grep -o 'Balance of [a-z]*'
  - Do the same after logging out, or after {idle} s without a click.
  - Put the cookie into a second browser profile and use both in turn.
  - Before logging in, set the cookie sid to a value of your own, log in, and show that value with curl.
  - Guess passwords:
      for i in $(seq 12); do curl -s -o /dev/null -w '%{{http_code}}\\n' -d 'user=alice&password=x' {with}/login; done
",
        idle = IDLE.as_secs()
    ))
}
