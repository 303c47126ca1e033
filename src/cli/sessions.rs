//! `portcullis sessions`: asks the running guard for its sessions, and ends them.

mod stats;

use std::io::{self, BufRead, IsTerminal as _};
use std::path::PathBuf;

use portcullis::admin::{Address, Client, ClientError, Query, SessionView, Sessions, Token};
use portcullis::clock::{Clock as _, SystemClock, Timestamp};
use portcullis::config::resolve::Overrides;
use portcullis::config::{AdminAddress, Faults, Location, Request, settings_of};
use portcullis::engine::Selection;
use portcullis::session::id::Ref;
use portcullis::store::PAGE_MAX;

use super::{Exit, Format, SessionsAction, SessionsArgs, Streams};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    Config(#[from] Faults),
    #[error("{0}")]
    Usage(String),
    #[error("the configuration turns the admin API off ([admin] address = \"off\")")]
    Off,
    #[error("nothing was ended")]
    Declined,
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Failure {
    const fn exit(&self) -> Exit {
        match self {
            Self::Config(_) => Exit::BadConfiguration,
            Self::Usage(_) => Exit::Usage,
            Self::Client(_) | Self::Off | Self::Declined | Self::Io(_) => Exit::Runtime,
        }
    }
}

/// Who can be asked whether it is meant.
enum Asked<'a> {
    /// A person at a terminal.
    Person(&'a mut dyn BufRead),
    /// Nobody.
    Nobody,
}

pub(super) fn run(args: &SessionsArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let mut input = io::stdin().lock();
    let asked = if input.is_terminal() { Asked::Person(&mut input) } else { Asked::Nobody };
    run_with(args, asked, streams)
}

fn run_with(args: &SessionsArgs, asked: Asked<'_>, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(perform(args, asked, streams)) {
        Ok(()) => Ok(Exit::Done),
        // What reads the answer is gone (`| head`): that is how it ends.
        Err(Failure::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(failure) => {
            writeln!(streams.err, "portcullis: {failure}")?;
            Ok(failure.exit())
        }
    }
}

async fn perform(args: &SessionsArgs, asked: Asked<'_>, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let now = SystemClock::new().now();
    // What was typed is read first: a misspelt ref is told whether a guard runs or not.
    match &args.action {
        SessionsAction::List { subject, reference, ended, limit } => {
            let reference = reference.as_deref().map(parse).transpose()?;
            let query = Query { subject: subject.clone(), reference, with_ended: *ended, ..Query::default() };
            let found = gather(&client(args)?, query, *limit).await?;
            list(&found, args.format, now, streams)
        }
        SessionsAction::Show { reference } => {
            let reference = parse(reference)?;
            show(&client(args)?.session(reference).await?, args.format, now, streams)
        }
        SessionsAction::Revoke { reference, subject, all, yes } => {
            let which = match (reference, subject, all) {
                (Some(reference), ..) => Selection::Ref(parse(reference)?),
                (None, Some(subject), _) => Selection::Subject(subject.as_str().into()),
                (None, None, true) => Selection::All,
                (None, None, false) => return Err(Failure::Usage("say which: a REF, --subject or --all".to_owned())),
            };
            let client = client(args)?;
            if !yes && let Asked::Person(input) = asked {
                confirm(&client, &which, input, streams).await?;
            }
            let revoked = client.revoke(&which).await?;
            let unseen = if revoked.unseen { ", and those that the guard has not seen" } else { "" };
            let told = format!("{} ended{unseen}", sessions(revoked.revoked));
            tell(args.format, &serde_json::to_value(revoked).map_err(io::Error::from)?, &told, streams)
        }
        SessionsAction::Stats { limit } => {
            let limit = limit.and_then(|limit| usize::try_from(limit).ok());
            let found = client(args)?.stats(limit).await?;
            match args.format {
                Format::Json => writeln!(streams.out, "{}", serde_json::to_string(&found).map_err(io::Error::from)?)?,
                Format::Human => stats::human(&found, streams.out)?,
            }
            Ok(())
        }
        SessionsAction::ClearExpired => {
            let client = client(args)?;
            let mut removed = 0;
            loop {
                let cleared = client.clear_expired().await?;
                removed += cleared.removed;
                if !cleared.more {
                    break;
                }
            }
            tell(
                args.format,
                &serde_json::json!({ "removed": removed }),
                &format!("{removed} records removed"),
                streams,
            )
        }
    }
}

fn parse(text: &str) -> Result<Ref, Failure> {
    Ref::parse(text).ok_or_else(|| Failure::Usage(format!("`{}` is no ref: 32 hex digits, as in events", clean(text))))
}

// Reaching the guard -------------------------------------------------------------------------------------------------

fn client(args: &SessionsArgs) -> Result<Client, Failure> {
    let (address, token_file) = match &args.admin {
        Some(text) => {
            let address = text.parse().map_err(|error| Failure::Usage(format!("--admin: {error}")))?;
            let token_file = match (&address, &args.token_file) {
                (Address::Tcp(_), None) => configured(args)?.1,
                (_, file) => file.clone().unwrap_or_default(),
            };
            (address, token_file)
        }
        None => {
            let (address, token_file) = configured(args)?;
            let address = match address {
                AdminAddress::Tcp(address) => Address::Tcp(address),
                AdminAddress::Unix(path) => Address::Unix(path),
                AdminAddress::Off => return Err(Failure::Off),
            };
            (address, args.token_file.clone().unwrap_or(token_file))
        }
    };
    let token = match &address {
        Address::Tcp(_) => Some(Token::read(&token_file).map_err(ClientError::from)?),
        Address::Unix(_) => None,
    };
    Ok(Client::try_new(address, token)?)
}

/// What the configuration says of the admin API.
fn configured(args: &SessionsArgs) -> Result<(AdminAddress, PathBuf), Failure> {
    // Which app is guarded makes no difference here, and may be said to `run` alone.
    let overrides = Overrides { upstream: Some(Location::Unix(PathBuf::from("app.sock"))), ..Overrides::default() };
    let request = Request { file: args.config.clone(), preset: None, overrides };
    let admin = settings_of(&request, SystemClock::new().now())?.admin;
    Ok((admin.address, admin.token_file))
}

/// All pages, up to so many sessions. `next` of the answer tells that there are more.
async fn gather(client: &Client, mut query: Query, limit: usize) -> Result<Sessions, Failure> {
    let mut found = Sessions::default();
    loop {
        query.max = Some(limit.saturating_sub(found.sessions.len()).clamp(1, PAGE_MAX));
        let page = client.sessions(&query).await?;
        found.sessions.extend(page.sessions);
        found.policy = page.policy;
        found.next.clone_from(&page.next);
        if page.next.is_none() || found.sessions.len() >= limit {
            return Ok(found);
        }
        query.after = page.next;
    }
}

/// Asks a person before more than one session is ended. Of everybody's there may be more than the guard has seen.
async fn confirm(
    client: &Client,
    which: &Selection,
    input: &mut dyn BufRead,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let (query, whose) = match which {
        Selection::Ref(_) => return Ok(()),
        Selection::Subject(subject) => {
            let query = Query { subject: Some(subject.as_ref().to_owned()), ..Query::default() };
            (query, format!(" of {}", clean(subject)))
        }
        Selection::All => (Query::default(), ", of everybody".to_owned()),
    };
    let found = gather(client, query, PAGE_MAX).await?;
    let count = found.sessions.len();
    let is_few = count < 2 && found.next.is_none();
    let more = if found.next.is_some() { "more than " } else { "" };
    match which {
        Selection::All if is_few => write!(streams.err, "End every session of everybody? [y/N] ")?,
        _ if is_few => return Ok(()),
        _ => write!(streams.err, "End {more}{}{whose}? [y/N] ", sessions(count))?,
    }
    streams.err.flush()?;
    let mut answer = String::new();
    io::Read::take(input, 64).read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::Declined) }
}

// Telling ------------------------------------------------------------------------------------------------------------

fn tell(format: Format, json: &serde_json::Value, human: &str, streams: &mut Streams<'_>) -> Result<(), Failure> {
    match format {
        Format::Json => writeln!(streams.out, "{json}")?,
        Format::Human => writeln!(streams.out, "{human}")?,
    }
    Ok(())
}

fn list(found: &Sessions, format: Format, now: Timestamp, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let more = found.next.is_some();
    if format == Format::Json {
        writeln!(
            streams.out,
            "{}",
            serde_json::json!({ "sessions": found.sessions, "more": more, "policy": found.policy })
        )?;
        return Ok(());
    }
    if found.sessions.is_empty() {
        writeln!(streams.out, "no sessions")?;
    } else {
        table(found, now, streams)?;
    }
    if found.policy.stale {
        writeln!(streams.out, "{STALE}")?;
    }
    Ok(())
}

/// Told whenever the policy in force is not the newest.
const STALE: &str = "the policy in force is stale: a newer one was refused; the event policy.reload_failed tells why";

fn table(found: &Sessions, now: Timestamp, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let rows: Vec<Row> = found.sessions.iter().map(|session| Row::of(session, now)).collect();
    // As narrow as the names allow: the table fits 100 columns.
    let subject = rows.iter().map(|row| row.subject.chars().count()).max().unwrap_or_default().max("SUBJECT".len());
    let head = ["REF", "SUBJECT", "STATE", "SEEN", "RISK", "CLIENT"];
    let mut line = |[reference, name, state, seen, risk, client]: [&str; 6]| {
        let line = format!("{reference:32}  {name:subject$}  {state:11}  {seen:>5}  {risk:>5}  {client}");
        writeln!(streams.out, "{}", line.trim_end())
    };
    line(head)?;
    for row in &rows {
        line([row.reference, &row.subject, row.state, &row.seen, &row.risk, &row.client])?;
    }
    let hint = if found.next.is_some() { "; there are more (--limit)" } else { "" };
    writeln!(streams.out, "{}{hint}", sessions(rows.len()))?;
    Ok(())
}

/// A session as one line of a table.
struct Row<'a> {
    reference: &'a str,
    subject: String,
    state: &'static str,
    seen: String,
    risk: String,
    client: String,
}

/// Longest subject in a table, in characters.
const SUBJECT_MAX: usize = 20;
/// Longest client in a table, in characters.
const CLIENT_MAX: usize = 17;

impl<'a> Row<'a> {
    fn of(session: &'a SessionView, now: Timestamp) -> Self {
        let client = session.client.as_ref().map(|client| {
            let words = [client.agent.as_deref(), client.os.as_deref(), client.country.as_deref()];
            words.into_iter().flatten().collect::<Vec<_>>().join(" ")
        });
        Self {
            reference: session.reference.get(..32).unwrap_or_default(),
            subject: shorten(&session.subject.as_deref().map_or_else(|| "-".to_owned(), clean), SUBJECT_MAX),
            state: session.state.as_str(),
            seen: ago(&session.last_seen, now),
            risk: format!("{:.1}", session.risk),
            client: shorten(&clean(&client.unwrap_or_else(|| "-".to_owned())), CLIENT_MAX),
        }
    }
}

fn show(session: &SessionView, format: Format, now: Timestamp, streams: &mut Streams<'_>) -> Result<(), Failure> {
    if format == Format::Json {
        writeln!(streams.out, "{}", serde_json::to_string(session).map_err(io::Error::from)?)?;
        return Ok(());
    }
    let mut line = |name: &str, value: &str| writeln!(streams.out, "{name:14}  {}", clean(value));
    let at = |time: &str| format!("{time}  ({} ago)", ago(time, now));
    line("ref", &session.reference)?;
    line("subject", session.subject.as_deref().unwrap_or("-"))?;
    match &session.ended {
        Some(ended) => line("state", &format!("ended by {}, {}", ended.why, at(&ended.at)))?,
        None => line("state", session.state.as_str())?,
    }
    line("began", &at(&session.created_at))?;
    line("authenticated", &session.authenticated_at.as_deref().map_or_else(|| "never".to_owned(), at))?;
    line("id since", &at(&session.id_since))?;
    line("last seen", &at(&session.last_seen))?;
    if session.ended.is_none() {
        line("ends", &format!("{}  (unless it is used)", session.ends_at))?;
        line("ends at latest", &session.ends_at_latest)?;
    }
    if let Some(client) = &session.client {
        let words = [
            client.agent.clone(),
            client.os.clone(),
            client.prefix.clone(),
            client.country.clone(),
            client.asn.map(|asn| format!("AS{asn}")),
        ];
        line("bound to", &words.into_iter().flatten().collect::<Vec<_>>().join(", "))?;
    }
    line("contexts", &session.contexts.to_string())?;
    line("generation", &session.generation.to_string())?;
    line("forks", &session.forks.to_string())?;
    line("risk", &session.risk.to_string())?;
    Ok(())
}

fn sessions(count: usize) -> String {
    if count == 1 { "1 session".to_owned() } else { format!("{count} sessions") }
}

/// How long ago a time was, roughly: `12s`, `3m`, `5h`, `9d`.
fn ago(time: &str, now: Timestamp) -> String {
    let millis = time.parse::<jiff::Timestamp>().ok().and_then(|time| u64::try_from(time.as_millisecond()).ok());
    let Some(time) = millis.map(Timestamp::from_millis) else { return "?".to_owned() };
    match now.since(time).as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// The text without anything that could move the cursor or hide: a subject is what a client typed. A letter stays, of
/// whatever script.
fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for char in text.chars() {
        if char == ' ' || char.is_ascii_graphic() || char.is_alphanumeric() {
            clean.push(char);
        } else {
            clean.extend(char.escape_unicode());
        }
    }
    clean
}

fn shorten(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    short.push('~');
    short
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::sync::Arc;

    use clap::Parser as _;
    use portcullis::admin::{ClientView, EndView, PolicyStanding, PolicyView, Server, Settings, StateWord};
    use portcullis::connection::Scheme;
    use portcullis::connection::print::Print;
    use portcullis::engine;
    use portcullis::entropy::OsEntropy;
    use portcullis::layer::GuardBuilder;

    use super::super::tests::say;
    use super::super::{Cli, Command};
    use super::*;

    const REF: &str = "0123456789abcdef0123456789abcdef";

    fn session() -> SessionView {
        let time = "2026-11-21T10:46:12.000Z".to_owned();
        SessionView {
            reference: REF.to_owned(),
            subject: Some("alice".to_owned()),
            state: StateWord::Live,
            ended: None,
            created_at: time.clone(),
            authenticated_at: Some(time.clone()),
            id_since: time.clone(),
            last_seen: time.clone(),
            ends_at: time.clone(),
            ends_at_latest: time,
            client: Some(ClientView {
                agent: Some("chrome".to_owned()),
                os: Some("linux".to_owned()),
                prefix: Some("203.0.113.0/24".to_owned()),
                country: Some("DE".to_owned()),
                asn: Some(3320),
            }),
            contexts: 1,
            generation: 4,
            forks: 0,
            risk: 12.5,
        }
    }

    fn written(write: impl FnOnce(&mut Streams<'_>) -> Result<(), Failure>) -> String {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        write(&mut Streams { out: &mut out, err: &mut err }).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn now() -> Timestamp {
        let time: jiff::Timestamp = "2026-11-21T10:49:12.000Z".parse().unwrap();
        Timestamp::from_millis(u64::try_from(time.as_millisecond()).unwrap())
    }

    #[test]
    fn a_table_fits_100_columns_and_shows_nothing_that_moves_the_cursor() {
        let evil = SessionView {
            subject: Some(format!("\u{1b}[2J\u{202e}{}", "x".repeat(200))),
            state: StateWord::Quarantined,
            risk: 123.45,
            client: Some(ClientView {
                agent: Some("a very long name of a browser".to_owned()),
                ..session().client.unwrap()
            }),
            ..session()
        };
        let sessions = vec![session(), evil];
        let found = Sessions { sessions, next: Some("more".to_owned()), ..Sessions::default() };
        let table = written(|streams| list(&found, Format::Human, now(), streams));
        assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
        assert!(
            table.chars().all(|char| char == '\n' || !char.is_control()) && !table.contains('\u{202e}'),
            "{table:?}"
        );
        let first: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(first, [REF, "alice", "live", "3m", "12.5", "chrome", "linux", "DE"]);
        assert!(table.ends_with("2 sessions; there are more (--limit)\n"));
        let json = written(|streams| list(&found, Format::Json, now(), streams));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((json["sessions"][0]["ref"].as_str(), json["more"].as_bool()), (Some(REF), Some(true)));
    }

    #[test]
    fn a_stale_policy_is_told_with_every_list() {
        for sessions in [vec![], vec![session()]] {
            let policy = |stale| PolicyView { revision: 3, stale, rules: 16 };
            let found = |stale| Sessions { sessions: sessions.clone(), policy: policy(stale), next: None };
            let told = |stale, format| written(|streams| list(&found(stale), format, now(), streams));
            assert!(told(true, Format::Human).lines().last().unwrap().contains("the policy in force is stale"));
            assert!(!told(false, Format::Human).contains("stale"));
            let json: serde_json::Value = serde_json::from_str(&told(true, Format::Json)).unwrap();
            assert_eq!(json["policy"], serde_json::json!({ "revision": 3, "stale": true, "rules": 16 }));
        }
    }

    #[test]
    fn one_session_is_shown_with_all_that_is_known() {
        let text = written(|streams| show(&session(), Format::Human, now(), streams));
        for part in [REF, "alice", "live", "(3m ago)", "chrome, linux, 203.0.113.0/24, DE, AS3320", "12.5"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let ended = EndView { why: "logout".to_owned(), at: session().last_seen };
        let over = SessionView { state: StateWord::Ended, ended: Some(ended), client: None, ..session() };
        let text = written(|streams| show(&over, Format::Human, now(), streams));
        assert!(text.contains("ended by logout") && !text.contains("unless"), "{text}");
    }

    #[test]
    fn without_a_guard_it_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let admin = format!("unix:{}", folder.path().join("admin.sock").display());
        let (exit, out, err) = say(&["sessions", "list", "--admin", &admin]);
        assert_eq!((exit, out.as_str()), (Exit::Runtime, ""));
        assert!(err.contains("no guard answers") && err.contains(&admin), "{err}");
    }

    #[test]
    fn what_can_not_be_meant_is_wrong_usage() {
        for words in [
            &["sessions", "show", "alice"][..],
            &["sessions", "list", "--ref", "12"],
            &["sessions", "list", "--admin", "example.com"],
            &["sessions", "revoke", "--all", "--subject", "alice"],
            &["sessions", "revoke", REF, "--all"],
            &["sessions", "stats", "--limit", "0"],
        ] {
            assert_eq!(say(words).0, Exit::Usage, "{words:?}");
        }
        let (exit, _, err) = say(&["sessions", "list", "--admin", "192.0.2.1:9", "--token-file", "/dev/null"]);
        assert_eq!(exit, Exit::Runtime, "{err}");
    }

    /// A guard on a loopback port where somebody is logged in so often; its address and its token's file.
    async fn guard(folder: &std::path::Path, logins: usize) -> (String, PathBuf) {
        let settings =
            Settings { address: Address::Tcp("127.0.0.1:0".parse().unwrap()), token_file: folder.join("admin.token") };
        let guard = Arc::new(GuardBuilder::in_memory().build().unwrap());
        for _ in 0..logins {
            let client = engine::Client {
                ip: "203.0.113.10".parse().unwrap(),
                scheme: Scheme::Https,
                standing: engine::ClientStanding::Own,
                print: Print::default(),
                order: None,
                connection: None,
                located: None,
            };
            let (mut request, ()) = http::Request::get("/").body(()).unwrap().into_parts();
            let engine::Decision::Forward(admission) = guard.admit(client, &mut request, None).await else { panic!() };
            let answer = http::Response::builder().header("portcullis-session", "login; subject=\"alice\"");
            let (mut answer, ()) = answer.body(()).unwrap().into_parts();
            guard.settle(admission, engine::AnsweredBy::App, &mut answer).await;
        }
        let server = Server::bind(&settings, guard, PolicyStanding::default(), Arc::new(OsEntropy)).unwrap();
        let address = server.address().to_string();
        tokio::spawn(server.run(std::future::pending()));
        (address, settings.token_file)
    }

    #[test]
    fn a_running_guard_answers_to_its_token_alone() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (admin, token) = runtime.block_on(guard(folder.path(), 0));
        let ask = |words: &[&str], token: &str| {
            let all = [&["sessions"], words, &["--admin", &admin, "--token-file", token]].concat();
            say(&all)
        };
        let token = token.to_str().unwrap();
        assert_eq!(ask(&["list"], token), (Exit::Done, "no sessions\n".to_owned(), String::new()));
        assert_eq!(ask(&["revoke", "--all", "--yes"], token).1, "0 sessions ended\n");
        assert_eq!(ask(&["clear-expired", "--format", "json"], token).1, "{\"removed\":0}\n");
        let (exit, out, err) = ask(&["stats"], token);
        assert_eq!((exit, err.as_str()), (Exit::Done, ""));
        assert!(out.starts_with("0 live, 0 quarantined, 0 held, 0 ended") && out.contains("0 requests"), "{out}");
        let json: serde_json::Value = serde_json::from_str(&ask(&["stats", "--format", "json"], token).1).unwrap();
        assert_eq!((&json["records"], &json["cut"]), (&0.into(), &serde_json::Value::Null));
        let (exit, _, err) = ask(&["show", REF], token);
        assert!(exit == Exit::Runtime && err.contains("no session of this ref"), "{err}");
        let wrong = folder.path().join("wrong");
        std::fs::write(&wrong, "x".repeat(43)).unwrap();
        let (exit, _, err) = ask(&["list"], wrong.to_str().unwrap());
        assert!(exit == Exit::Runtime && err.contains("does not know this token"), "{err}");
        let (exit, _, err) = ask(&["list"], folder.path().join("missing").to_str().unwrap());
        assert!(exit == Exit::Runtime && err.contains("token file"), "{err}");
    }

    #[test]
    fn a_person_is_asked_before_more_than_one_session_ends() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (admin, token) = runtime.block_on(guard(folder.path(), 3));
        let revoke = |whose: &[&str], answer: &str| {
            let words = [&["portcullis", "sessions", "revoke"], whose, &["--admin", &admin, "--token-file"]].concat();
            let words = words.into_iter().map(OsString::from).chain([token.clone().into()]);
            let Command::Sessions(args) = Cli::try_parse_from(words).unwrap().command else { panic!("sessions") };
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut streams = Streams { out: &mut out, err: &mut err };
            let mut input = answer.as_bytes();
            let exit = run_with(&args, Asked::Person(&mut input), &mut streams).unwrap();
            (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
        };
        let alice = &["--subject", "alice"];
        for answer in ["n\n", "", "yeah\n", &"y".repeat(100)] {
            let (exit, out, err) = revoke(alice, answer);
            assert_eq!((exit, out.as_str()), (Exit::Runtime, ""), "{answer:?}");
            assert!(err.starts_with("End 3 sessions of alice? [y/N] ") && err.contains("nothing was ended"), "{err}");
        }
        assert!(revoke(&["--all"], "n\n").2.starts_with("End 3 sessions, of everybody? "));
        assert_eq!(revoke(alice, "y\n").1, "3 sessions ended\n");
        assert_eq!(revoke(alice, "").1, "0 sessions ended\n", "there is nothing to ask");
        assert!(revoke(&["--all"], "n\n").2.starts_with("End every session of everybody? "), "there may be others");
    }
}
