//! The command line: what may be said, and which file does it.
//!
//! Commands write to the streams they are given and return how to exit, so that tests can run them.

mod check;
mod completions;
mod demo;
mod diff;
mod drive;
mod events;
mod events_args;
mod explain;
mod fields;
mod fmt;
mod init;
mod journal;
mod junit;
mod keygen;
mod migrate;
mod replay;
mod rules_files;
mod run;
mod schema;
mod sessions;
mod simulate;
mod sinks;
mod test;
mod version;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use portcullis::config::resolve::Overrides;
use portcullis::config::{Enforcement, Location, Preset, Request};

pub(crate) use events_args::{EventsAction, EventsArgs, JournalArgs};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for is done.
    Done,
    /// Something went wrong while doing it.
    Runtime,
    /// The command line makes no sense.
    Usage,
    /// Something was checked, and is not as it should be.
    Findings,
    /// The configuration is wrong.
    BadConfiguration,
}

impl Exit {
    /// The worse of both.
    pub(crate) const fn worse(self, other: Self) -> Self {
        if other as u8 > self as u8 { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Runtime => 1,
            Exit::Usage => 2,
            Exit::Findings => 3,
            Exit::BadConfiguration => 64,
        })
    }
}

/// Where a command writes: answers to `out`, everything else to `err`.
pub(crate) struct Streams<'a> {
    /// What was asked for.
    pub(crate) out: &'a mut dyn Write,
    /// What went wrong, and progress.
    pub(crate) err: &'a mut dyn Write,
}

/// A session guard: it stands in front of a web app, owns the session cookie, and notices when someone else uses it.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  See what it does, in a minute:
    portcullis demo
  Guard the app on port 8000 and answer on port 8080:
    portcullis run --upstream http://127.0.0.1:8000
  The same, but only report what would be done:
    portcullis run --upstream http://127.0.0.1:8000 --observe
  Write a configuration for Django and check it:
    portcullis init --preset django
    portcullis check

Exit codes: 0 done, 1 something went wrong, 2 wrong usage, 64 wrong configuration";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show attacks on a weak sample app, and the same attacks with the guard in front of it
    Demo(DemoArgs),
    /// Guard an app
    ///
    /// Without a configuration it needs nothing but --upstream: it answers on 127.0.0.1:8080, shields the session cookies
    /// that the presets know by name, keeps sessions in ./portcullis-data, and writes events as JSON lines to standard
    /// output.
    Run(RunArgs),
    /// Write a configuration with comments
    Init(InitArgs),
    /// Tell everything that is wrong with a configuration or with rules
    Check(CheckArgs),
    /// Play scenarios: tests for rules
    Test(TestArgs),
    /// Tell every field that rules may read
    Fields(FieldsArgs),
    /// Write the JSON Schema of rules files, of scenarios or of the configuration, for editors
    Schema(SchemaArgs),
    /// Write conditions of rules files as they are written here; everything else, comments too, stays as it is
    Fmt(FmtArgs),
    /// Tell what a change of rules means: what becomes weaker, what stronger
    Diff(DiffArgs),
    /// Tell why rules matched or did not, comparison by comparison
    Explain(ExplainArgs),
    /// Play other rules over recorded requests: who would have been logged out
    Replay(ReplayArgs),
    /// Tell how often a policy troubles honest people and catches thieves, in simulation
    Simulate(SimulateArgs),
    /// Run the engine on standard input, one JSON object a line, with a clock of its own
    Drive(DriveArgs),
    /// Say which alarms were right, and see how often each signal is
    Events(EventsArgs),
    /// Look at and end the sessions of a running guard
    Sessions(SessionsArgs),
    /// Copy the sessions of one store into another, so that nobody has to sign in again
    ///
    /// Sessions keep their ids, and with them the cookies of their clients; what has ended stays ended. It may be done again: what is
    /// there already, the same or in a later state, is left alone. A store on this machine can be copied while no guard has
    /// it open; stores in Redis or a database can be copied while guards use them, and again when the last one has stopped.
    Migrate(MigrateArgs),
    /// Make a new key the current one; the previous ones are kept
    Keygen(KeygenArgs),
    /// Write completions for a shell
    Completions(CompletionsArgs),
    /// Tell the version
    Version(VersionArgs),
}

/// What a script reads, or a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Human,
    /// For scripts
    Json,
}

/// `portcullis demo`
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct DemoArgs {
    /// Play the attacks and stop; exit with 0 only if each of them worked on the bare app and failed on the guarded one
    #[arg(long)]
    pub(crate) once: bool,
    /// Where the guarded app answers, on this machine alone [default: 8080, or a free port]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Where the bare app answers, on this machine alone [default: 8081, or a free port]
    #[arg(long, value_name = "PORT")]
    pub(crate) app_port: Option<u16>,
}

/// `portcullis run`
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArgs {
    /// The app: http://HOST:PORT, https://HOST:PORT or unix:/PATH
    #[arg(long, value_name = "URL")]
    pub(crate) upstream: Option<Location>,
    /// Where to answer [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// What the app is made with: which cookies and login routes to know
    #[arg(long, value_name = "NAME", value_parser = presets())]
    pub(crate) preset: Option<Preset>,
    /// The configuration [default: portcullis.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Report what would be done, and do nothing of it
    #[arg(long)]
    pub(crate) observe: bool,
}

const RUN_EXAMPLES: &str = "\
Examples:
  portcullis run --upstream http://127.0.0.1:8000
  portcullis run --upstream unix:/run/app.sock --preset rails --listen 127.0.0.1:80
  portcullis run --config /etc/portcullis/portcullis.toml

SIGHUP reads the configuration again, SIGTERM finishes the running requests and stops.";

impl RunArgs {
    /// What is to be loaded.
    pub(crate) fn request(&self) -> Request {
        Request {
            file: self.config.clone(),
            preset: self.preset,
            overrides: Overrides {
                upstream: self.upstream.clone(),
                listen: self.listen,
                enforcement: if self.observe { Enforcement::ReportOnly } else { Enforcement::Full },
            },
        }
    }
}

/// `portcullis init`
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// What the app is made with
    #[arg(long, value_name = "NAME", value_parser = presets())]
    pub(crate) preset: Option<Preset>,
    /// The folder to write into; what is there is never overwritten
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) folder: PathBuf,
}

/// `portcullis check`
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Configurations, rules files, or folders with a portcullis.toml or with rules files
    #[arg(value_name = "FILE|DIR", default_value = "portcullis.toml")]
    pub(crate) paths: Vec<PathBuf>,
    /// The preset that is to lie under them, as in `run --preset`
    #[arg(long, value_name = "NAME", value_parser = presets())]
    pub(crate) preset: Option<Preset>,
    /// The app, for a configuration that leaves it to `run --upstream`
    #[arg(long, value_name = "URL")]
    pub(crate) upstream: Option<Location>,
    /// Count warnings as faults
    #[arg(long)]
    pub(crate) deny_warnings: bool,
    /// How to tell them
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// `portcullis test`
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Files of scenarios, or folders with such files
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    pub(crate) paths: Vec<PathBuf>,
    /// Tell which rules were seen to match and to pass; one that was not seen both ways is a failure
    #[arg(long)]
    pub(crate) coverage: bool,
    /// Change your own rules a little, one change after another: each comparison turned round, those of tunes too; one more
    /// and one less counted, and within half of the window. A change that no scenario notices is a failure
    #[arg(long)]
    pub(crate) mutate: bool,
    /// Write what came of it as JUnit XML too
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// How to tell it
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// `portcullis fields`
#[derive(Debug, Args)]
pub(crate) struct FieldsArgs {
    /// Only fields whose name holds this
    #[arg(value_name = "TEXT", default_value = "")]
    pub(crate) like: String,
    /// How to tell them
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// `portcullis schema`
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Of which file
    #[arg(value_enum, default_value_t)]
    pub(crate) of: SchemaOf,
}

/// Which file a schema is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaOf {
    /// rules/*.toml
    #[default]
    Rules,
    /// Files of scenarios
    Scenarios,
    /// portcullis.toml
    Config,
}

/// `portcullis fmt`
#[derive(Debug, Args)]
pub(crate) struct FmtArgs {
    /// Rules files, or folders with rules files
    #[arg(value_name = "FILE|DIR", default_value = "rules")]
    pub(crate) paths: Vec<PathBuf>,
    /// Change nothing; exit with 1 if anything would be
    #[arg(long)]
    pub(crate) check: bool,
}

/// `portcullis diff`
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The configuration or rules as they were: a portcullis.toml, a rules file or a folder
    #[arg(value_name = "OLD")]
    pub(crate) old: PathBuf,
    /// The same as they are to be
    #[arg(value_name = "NEW")]
    pub(crate) new: PathBuf,
    /// How to tell it
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// Which rules are meant.
#[derive(Debug, Args)]
pub(crate) struct RulesChoice {
    /// The configuration with the rules [default: portcullis.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A rules file, or a folder of them, instead of those that the configuration names
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) rules: Option<PathBuf>,
}

/// `portcullis explain`
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["request", "event"])))]
pub(crate) struct ExplainArgs {
    /// A recorded request: a file of `[rules] record`, or one line of it
    #[arg(long, value_name = "FILE")]
    pub(crate) request: Option<PathBuf>,
    /// Which line of that file [default: the last]
    #[arg(long, value_name = "N", requires = "request")]
    pub(crate) line: Option<usize>,
    /// The number of an event (`seq`) in the file of --events
    #[arg(long, value_name = "SEQ", requires = "events")]
    pub(crate) event: Option<u64>,
    /// A file of events, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub(crate) events: Option<PathBuf>,
    /// Only this rule
    #[arg(long, value_name = "NAME", requires = "request")]
    pub(crate) rule: Option<String>,
    /// Which rules.
    #[command(flatten)]
    pub(crate) choice: RulesChoice,
}

/// `portcullis replay`
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// A recording, as `[rules] record` writes it; the one before it (FILE.1) is played first, if it is there
    #[arg(long, value_name = "FILE")]
    pub(crate) events: PathBuf,
    /// What `portcullis events label` has written: how many of those who would have been held back were thieves
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
    /// Which rules.
    #[command(flatten)]
    pub(crate) choice: RulesChoice,
    /// How to tell it
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// `portcullis simulate`
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// What all randomness follows from; the same seed gives the same figures
    #[arg(long, value_name = "N", default_value_t = 11)]
    pub(crate) seed: u64,
    /// How many honest sessions there are
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) sessions: usize,
    /// How many sessions are stolen in each way [default: a tenth of a way's share, at least 100]
    #[arg(long, value_name = "N")]
    pub(crate) thefts: Option<usize>,
    /// The policy that is tried: a configuration [default: portcullis.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// A rougher world: wrong countries, inspecting gateways, more lost cookies and crashes
    #[arg(long)]
    pub(crate) rough: bool,
    /// What the guard is told of its clients
    #[arg(long, value_enum, default_value_t)]
    pub(crate) sees: Sees,
    /// Leave out the simple checks that the policy is compared with
    #[arg(long)]
    pub(crate) alone: bool,
    /// How to tell it
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// What a simulated guard is told of its clients.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Sees {
    /// TLS ends at the guard, and it has databases of networks
    #[default]
    Everything,
    /// Nothing of TLS, HTTP/2 and packets: they are those of a CDN
    BehindCdn,
    /// Nothing of networks but addresses
    NoGeo,
    /// Everything, and how much later its clients answer within TLS than within TCP (`client.relay_rtt`)
    RelayRtt,
}

/// `portcullis drive`
#[derive(Debug, Args)]
pub(crate) struct DriveArgs {
    /// The policy: a configuration [default: portcullis.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// What all randomness follows from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal
    #[default]
    Auto,
    /// Yes
    Always,
    /// No
    Never,
}

/// Whether an event was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Label {
    /// Somebody else had the session.
    True,
    /// It was its owner.
    False,
}

/// `portcullis sessions`
#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub(crate) action: SessionsAction,
    /// The configuration of the running guard, which says how to reach it [default: portcullis.toml, if it is there]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// How to reach it: HOST:PORT or unix:/PATH [default: as the configuration says]
    #[arg(long, value_name = "ADDR", global = true)]
    pub(crate) admin: Option<String>,
    /// The file with the operator's token [default: as the configuration says]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// How to tell them
    #[arg(long, value_enum, default_value_t, global = true)]
    pub(crate) format: Format,
}

/// What to do with sessions. They are named by their ref, which stands in every event; never by the cookie.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionsAction {
    /// List sessions
    List {
        /// Only those of this subject
        #[arg(long, value_name = "NAME")]
        subject: Option<String>,
        /// Only the one of this ref
        #[arg(long = "ref", value_name = "REF")]
        reference: Option<String>,
        /// Also those that ended, as long as they are remembered
        #[arg(long)]
        ended: bool,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Show all that is known of one session
    Show {
        /// The ref of the session
        #[arg(value_name = "REF")]
        reference: String,
    },
    /// End sessions at once; whoever uses them has to log in again
    Revoke {
        /// The ref of the session
        #[arg(value_name = "REF", required_unless_present_any = ["subject", "all"])]
        reference: Option<String>,
        /// All sessions of this subject
        #[arg(long, value_name = "NAME", conflicts_with_all = ["reference", "all"])]
        subject: Option<String>,
        /// Every session of everybody
        #[arg(long, conflicts_with = "reference")]
        all: bool,
        /// Do not ask before more than one is ended, or everybody's
        #[arg(long, short)]
        yes: bool,
    },
    /// Remove the records of sessions that have ended
    ClearExpired,
    /// Tell how many sessions there are, how old and how large, whose, and what their store costs
    ///
    /// The guard looks at every record once, in small steps, while it goes on serving. Figures of the store count since the
    /// guard started.
    Stats {
        /// Look at no more records than so many [default: 1000000]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        limit: Option<u32>,
    },
}

/// `portcullis migrate`
#[derive(Debug, Args)]
#[command(after_help = MIGRATE_EXAMPLE)]
pub(crate) struct MigrateArgs {
    /// The configuration with the old store; `[store]`, `[session]` and `[keys]` of it are read
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
    /// The configuration with the new store; its key file must have the keys of the old one
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// Change no session; only tell what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How to tell it
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

const MIGRATE_EXAMPLE: &str = "\
Example, as the user that the guard runs as and while none runs (a socket of systemd would start it again):
  portcullis migrate --from portcullis.toml --to new.toml --dry-run &&
  portcullis migrate --from portcullis.toml --to new.toml &&
  mv new.toml portcullis.toml

Make all copies within a day: a session that ended is known to have ended for so long.";

/// `portcullis keygen`
#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// The key file [default: as the configuration says]
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub(crate) file: Option<PathBuf>,
    /// The configuration that names the key file [default: portcullis.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Make a key that is understood and not used yet: for several guards, before any of them uses it
    #[arg(long, conflicts_with = "promote")]
    pub(crate) stage: bool,
    /// Make the staged key the current one
    #[arg(long)]
    pub(crate) promote: bool,
}

/// `portcullis completions`
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// `portcullis version`
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// How to tell it
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

fn presets() -> impl TypedValueParser<Value = Preset> {
    PossibleValuesParser::new(Preset::ALL.map(Preset::as_str)).try_map(|name| name.parse::<Preset>())
}

/// Reads the command line. What is wrong with it, or the help that was asked for, is written, and how to exit returned.
pub(crate) fn parse(
    words: impl IntoIterator<Item = OsString>,
    streams: &mut Streams<'_>,
) -> io::Result<Result<Cli, Exit>> {
    let told = match Cli::try_parse_from(words) {
        Ok(cli) => return Ok(Ok(cli)),
        Err(told) => told,
    };
    let to = if told.use_stderr() { &mut streams.err } else { &mut streams.out };
    write!(to, "{}", told.render())?;
    Ok(Err(if told.exit_code() == 0 { Exit::Done } else { Exit::Usage }))
}

/// Does what was asked for.
pub(crate) fn perform(cli: &Cli, streams: &mut Streams<'_>) -> io::Result<Exit> {
    match &cli.command {
        Command::Init(args) => init::run(args, streams),
        Command::Check(args) => check::run(args, streams),
        Command::Test(args) => test::run(args, streams),
        Command::Fields(args) => fields::run(args, streams),
        Command::Schema(args) => schema::run(*args, streams),
        Command::Fmt(args) => fmt::run(args, streams),
        Command::Diff(args) => diff::run(args, streams),
        Command::Explain(args) => explain::run(args, streams),
        Command::Replay(args) => replay::run(args, streams),
        Command::Drive(args) => drive::run(args, &mut io::stdin().lock(), streams),
        Command::Simulate(args) => simulate::run(args, streams),
        Command::Events(args) => events::run(args, streams),
        Command::Keygen(args) => keygen::run(args, streams),
        Command::Migrate(args) => migrate::run(args, streams),
        Command::Completions(args) => completions::run(args, streams),
        Command::Version(args) => version::run(args, streams),
        Command::Run(args) => match run::run(args.request()) {
            Ok(()) => Ok(Exit::Done),
            Err(run::RunError::Config(faults)) => {
                writeln!(streams.err, "{faults}")?;
                Ok(Exit::BadConfiguration)
            }
            Err(error) => {
                writeln!(streams.err, "portcullis: {error}")?;
                Ok(Exit::Runtime)
            }
        },
        Command::Demo(args) => demo::run(args, streams),
        Command::Sessions(args) => sessions::run(args, streams),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// What a command line gives: how it exits, and both streams.
    pub(super) fn say(words: &[&str]) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut streams = Streams { out: &mut out, err: &mut err };
        let words = std::iter::once("portcullis").chain(words.iter().copied()).map(OsString::from);
        let exit = match parse(words, &mut streams).unwrap() {
            Ok(cli) => perform(&cli, &mut streams).unwrap(),
            Err(exit) => exit,
        };
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn request(words: &[&str]) -> Request {
        let words = ["portcullis", "run"].into_iter().chain(words.iter().copied());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Run(args) => args.request(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_holds() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_arguments_of_run_are_what_is_loaded() {
        let asked = request(&["--upstream", "http://app:8000", "--listen", "[::1]:80", "--preset", "php", "--observe"]);
        assert_eq!(asked.overrides.upstream, Some(Location::Tcp { host: "app".to_owned(), port: 8000 }));
        assert_eq!(asked.overrides.listen, Some("[::1]:80".parse().unwrap()));
        assert_eq!((asked.preset, asked.overrides.enforcement), (Some(Preset::Php), Enforcement::ReportOnly));
        assert_eq!(request(&["--config", "x.toml"]).file, Some("x.toml".into()));
    }

    #[test]
    fn nonsense_is_wrong_usage_and_says_what_is_right() {
        let cases: [(&[&str], &str); 7] = [
            (&[], "Usage:"),
            (&["chekc"], "check"),
            (&["run", "--upstream", "app:8000"], "http://app:8000"),
            (&["run", "--listen", "here"], "--listen"),
            (&["run", "--preset", "djnago"], "django"),
            (&["sessions", "revoke"], "REF"),
            (&["check", "--format", "yaml"], "json"),
        ];
        for (words, hint) in cases {
            let (exit, out, err) = say(words);
            assert_eq!((exit, out.as_str()), (Exit::Usage, ""), "{words:?}");
            assert!(err.contains(hint), "{words:?}: {err}");
        }
    }

    #[test]
    fn help_goes_to_standard_output_and_has_examples() {
        let (exit, out, err) = say(&["--help"]);
        assert_eq!((exit, err.as_str()), (Exit::Done, ""));
        for word in [
            "Examples:",
            "demo",
            "run",
            "init",
            "check",
            "sessions",
            "migrate",
            "keygen",
            "completions",
            "version",
            "64",
        ] {
            assert!(out.contains(word), "{word}: {out}");
        }
        for command in ["demo", "run", "init", "check", "sessions", "migrate", "keygen", "completions", "version"] {
            assert_eq!(say(&[command, "--help"]).0, Exit::Done, "{command}");
        }
        assert!(say(&["run", "--help"]).1.contains("SIGHUP"));
    }

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let codes = [(Exit::Done, 0), (Exit::Runtime, 1), (Exit::Usage, 2), (Exit::BadConfiguration, 64)];
        for (exit, code) in codes {
            assert_eq!(ExitCode::from(exit), ExitCode::from(code));
        }
    }
}
