//! `portcullis replay`: other rules over recorded requests.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use portcullis::rules::RuleSet;
use portcullis::rules::recorded::Line;
use portcullis::rules::replay::{Hit, Replay, Replayed};
use portcullis::signal::Scoring;
use portcullis::verdict::Action;

use super::explain::{Trouble, rules};
use super::{Exit, Format, ReplayArgs, Streams};

pub(super) fn run(args: &ReplayArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let (set, scoring) = match rules(&args.choice) {
        Ok(found) => found,
        Err(Trouble::Rules(faults)) => {
            writeln!(streams.err, "{faults}")?;
            return Ok(Exit::BadConfiguration);
        }
        Err(Trouble::Io(error)) => return Err(error),
        Err(Trouble::Said(what)) => {
            writeln!(streams.err, "portcullis: {what}")?;
            return Ok(Exit::Runtime);
        }
    };
    let (replayed, odd) = match replay(&args.events, &set, &scoring) {
        Ok(found) => found,
        Err(why) => {
            writeln!(streams.err, "portcullis: {} can not be read: {why}", args.events.display())?;
            return Ok(Exit::Runtime);
        }
    };
    if odd > 0 {
        writeln!(streams.err, "portcullis: {odd} lines could not be read and were left out")?;
    }
    match args.format {
        Format::Human => tell(&replayed, streams)?,
        Format::Json => writeln!(streams.out, "{:#}", as_json(&replayed))?,
    }
    Ok(Exit::Done)
}

/// Plays a recording, and counts the lines that are none.
fn replay(file: &Path, set: &RuleSet, scoring: &Scoring) -> io::Result<(Replayed, usize)> {
    let mut replay = Replay::new(set, scoring);
    let mut odd = 0;
    let mut older = file.to_owned().into_os_string();
    older.push(".1");
    for path in [Path::new(&older), file] {
        if path != file && !path.is_file() {
            continue;
        }
        for line in BufReader::new(fs::File::open(path)?).lines() {
            match Line::parse(&line?, set.host()) {
                Ok(line) => replay.play(&line),
                Err(_) => odd += 1,
            }
        }
    }
    Ok((replay.finish(), odd))
}

/// What an action does to somebody, strongest first.
const WORDS: [(Action, &str); 5] = [
    (Action::Terminate, "ended"),
    (Action::Deny, "refused"),
    (Action::Challenge, "challenged"),
    (Action::Quarantine, "asked to log in again in"),
    (Action::Throttle, "slowed down"),
];

fn tell(replayed: &Replayed, streams: &mut Streams<'_>) -> io::Result<()> {
    let days = span_in_words(replayed);
    let (sessions, subjects) = replayed.met(Action::Terminate);
    let plural = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    writeln!(
        streams.out,
        "this change would have ended {} of {} in the last {days}",
        plural(sessions, "session"),
        plural(subjects, "subject")
    )?;
    for (action, word) in WORDS.into_iter().skip(1) {
        let (sessions, subjects) = replayed.met(action);
        let nameless = replayed.hits.iter().filter(|hit| hit.action == action && hit.session.is_none()).count();
        if sessions > 0 {
            let (sessions, subjects) = (plural(sessions, "session"), plural(subjects, "subject"));
            writeln!(streams.out, "and {word} {sessions} of {subjects}")?;
        }
        if nameless > 0 {
            writeln!(streams.out, "and {word} {} without a session", plural(nameless, "client"))?;
        }
    }
    if replayed.spared > 0 {
        writeln!(streams.out, "{} held back then would not be", plural(replayed.spared, "request"))?;
    }
    writeln!(streams.out, "({} played)", plural(replayed.requests, "request"))?;
    for Hit { at, action, rule, session, subject, request, .. } in &replayed.hits {
        let (session, subject) = (session.as_deref().unwrap_or("-"), subject.as_deref().unwrap_or("-"));
        writeln!(streams.out, "  {at}  {action:<10}  {session}  {subject}  {request}  by {rule}")?;
    }
    Ok(())
}

fn span_in_words(replayed: &Replayed) -> String {
    let Some((first, last)) = replayed.span else { return "0 days".to_owned() };
    let hours = last.since(first).as_secs().div_ceil(3600).max(1);
    match hours {
        1 => "hour".to_owned(),
        2..48 => format!("{hours} hours"),
        _ => format!("{} days", hours.div_ceil(24)),
    }
}

fn as_json(replayed: &Replayed) -> serde_json::Value {
    let hits: Vec<_> = replayed
        .hits
        .iter()
        .map(|hit| {
            serde_json::json!({
                "at": hit.at.to_string(),
                "action": hit.action.as_str(),
                "then": hit.then.as_str(),
                "rule": hit.rule,
                "session": hit.session,
                "subject": hit.subject,
                "request": hit.request,
            })
        })
        .collect();
    let (sessions, subjects) = replayed.met(Action::Terminate);
    serde_json::json!({
        "requests": replayed.requests,
        "from": replayed.span.map(|(first, _)| first.to_string()),
        "to": replayed.span.map(|(_, last)| last.to_string()),
        "ended": { "sessions": sessions, "subjects": subjects },
        "spared": replayed.spared,
        "hits": hits,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::say;
    use super::*;

    #[test]
    fn a_replay_tells_whom_a_change_would_have_logged_out() {
        let folder = tempfile::tempdir().unwrap();
        let (rules, facts) = (folder.path().join("shop.toml"), folder.path().join("facts.jsonl"));
        let rule = "version = 1\nname = \"shop\"\n[[rule]]\nid = \"tor\"\nwhen = 'session.authenticated && client.is_tor'\nthen = \"terminate\"\n\
                    [[rule]]\nid = \"many\"\nwhen = 'response.status == 404'\ncount = { over = 2, within = \"1h\", per = \"client.ip\" }\nthen = \"deny\"\n";
        fs::write(&rules, rule).unwrap();
        let line = |at: u64, session: &str, subject: &str, tor: bool| {
            format!(
                "{{\"v\":1,\"at\":{at},\"phase\":\"risk\",\"action\":\"allow\",\"before\":0,\"facts\":{{\"session.authenticated\":true,\"client.is_tor\":{tor},\"session.ref\":\"{session}\",\"session.subject\":\"{subject}\",\"client.ip\":\"192.0.2.9\"}}}}\n"
            )
        };
        let day = 86_400_000;
        let older = line(0, "s1", "alice", true);
        let mut newer =
            line(day, "s1", "alice", true) + &line(2 * day, "s2", "alice", true) + &line(6 * day, "s3", "bob", false);
        for at in 0..3 {
            newer += &line(6 * day + at, "s3", "bob", false)
                .replace("\"risk\"", "\"response\"")
                .replace("\"facts\":{", "\"facts\":{\"response.status\":404,");
        }
        newer += &line(6 * day + 1000, "s4", "carol", false);
        newer += "not a line\n";
        fs::write(folder.path().join("facts.jsonl.1"), older).unwrap();
        fs::write(&facts, newer).unwrap();
        let (rules, facts) = (rules.to_str().unwrap(), facts.to_str().unwrap());
        let (exit, out, err) = say(&["replay", "--events", facts, "--rules", rules]);
        assert_eq!(exit, Exit::Done);
        assert!(err.contains("1 lines could not be read"), "{err}");
        assert!(out.starts_with("this change would have ended 2 sessions of 1 subject in the last 7 days\nand refused 1 session of 1 subject\n"), "{out}");
        assert!(
            out.contains("s2  alice")
                && out.contains("by shop/tor")
                && out.contains("s4  carol")
                && out.contains("by shop/many"),
            "{out}"
        );
        let (_, json, _) = say(&["replay", "--events", facts, "--rules", rules, "--format", "json"]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((json["ended"]["sessions"].as_u64(), json["requests"].as_u64()), (Some(2), Some(5)));
        assert_eq!(say(&["replay", "--events", "none.jsonl", "--rules", rules]).0, Exit::Runtime);
    }
}
