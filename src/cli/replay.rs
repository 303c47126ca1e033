//! `portcullis replay`: another policy over recorded requests.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use portcullis::rules::recorded::Line;
use portcullis::rules::replay::{Hit, Replay, Replayed, RuleHits, Undecided, met};
use portcullis::verdict::{Action, Mode};

use super::explain::{Chosen, Source, chosen};
use super::{Exit, Format, Label, ReplayArgs, Streams};

/// Bytes of the longest line that is read. A recorded request has a few thousand.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

pub(super) fn run(args: &ReplayArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let chosen = match chosen(&args.choice) {
        Ok(found) => found,
        Err(trouble) => return trouble.tell(streams),
    };
    let (replayed, odd) = match replay(&args.events, &chosen) {
        Ok(found) => found,
        Err(why) => {
            writeln!(streams.err, "portcullis: {} can not be read: {why}", args.events.display())?;
            return Ok(Exit::Runtime);
        }
    };
    let labels = match args.labels.as_deref().map(super::events::sessions).transpose() {
        Ok(labels) => labels,
        Err(why) => {
            writeln!(streams.err, "portcullis: {why}")?;
            return Ok(Exit::Runtime);
        }
    };
    let right = labels.map(|labels| Right::of(&replayed.hits, &labels));
    if odd > 0 {
        writeln!(streams.err, "portcullis: {odd} lines could not be read and were left out")?;
    }
    match args.format {
        Format::Human => {
            tell(&replayed, streams)?;
            if let Some(Right { thefts, honest, unlabelled }) = right {
                writeln!(
                    streams.out,
                    "\nof the sessions held back {thefts} are labelled as stolen, {honest} as honest, {unlabelled} are not labelled"
                )?;
            }
        }
        Format::Json => {
            let mut told = as_json(&replayed);
            if let (Some(right), Some(told)) = (right, told.as_object_mut()) {
                let Right { thefts, honest, unlabelled } = right;
                let labelled = serde_json::json!({ "thefts": thefts, "honest": honest, "unlabelled": unlabelled });
                told.insert("labelled".to_owned(), labelled);
            }
            writeln!(streams.out, "{told:#}")?;
        }
    }
    Ok(Exit::Done)
}

/// Plays a recording, and counts the lines that are none.
fn replay(file: &Path, chosen: &Chosen) -> io::Result<(Replayed, usize)> {
    let policy = &chosen.policy;
    let mut replay = match chosen.source {
        Source::Configuration => Replay::new(policy),
        Source::RulesAlone => Replay::of_rules(&policy.rules, &policy.scoring),
    };
    let mut odd = 0;
    let mut older = file.to_owned().into_os_string();
    older.push(".1");
    for path in [Path::new(&older), file] {
        if path != file && !path.is_file() {
            continue;
        }
        let mut reader = BufReader::new(fs::File::open(path)?);
        let mut bytes = Vec::new();
        while next_line(&mut reader, &mut bytes)? {
            let text = std::str::from_utf8(&bytes).unwrap_or_default();
            match Line::parse(text, policy.rules.host()) {
                Ok(line) => replay.play(&line),
                Err(_) => odd += 1,
            }
        }
    }
    Ok((replay.finish(), odd))
}

/// Reads the next line, if there is one. What is longer than any line of a recording is cut, and then is none.
fn next_line(reader: &mut BufReader<fs::File>, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    if reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if !line.ends_with(b"\n") {
        reader.skip_until(b'\n')?;
    }
    Ok(true)
}

/// What operators have said of the sessions that would have been held back.
#[derive(Clone, Copy, Debug, Default)]
struct Right {
    thefts: usize,
    honest: usize,
    unlabelled: usize,
}

impl Right {
    fn of(hits: &[Hit], labels: &HashMap<String, Label>) -> Self {
        let held = hits.iter().filter(|hit| hit.action >= Action::Quarantine).filter_map(|hit| hit.session.as_deref());
        let mut right = Self::default();
        for session in held.collect::<BTreeSet<_>>() {
            match labels.get(session) {
                Some(Label::True) => right.thefts += 1,
                Some(Label::False) => right.honest += 1,
                None => right.unlabelled += 1,
            }
        }
        right
    }
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
    writeln!(
        streams.out,
        "this change would have ended {} in the last {days}",
        sessions(&replayed.hits, Action::Terminate)
    )?;
    tell_others(&replayed.hits, streams)?;
    if replayed.spared > 0 {
        writeln!(streams.out, "{} held back then would not be", plural(replayed.spared, "request"))?;
    }
    let Undecided { comparisons, lines } = replayed.undecided;
    if comparisons > 0 {
        let (comparisons, lines) = (plural(comparisons, "comparison"), plural(lines, "line"));
        writeln!(
            streams.out,
            "{comparisons} in {lines} could not be decided, because [events.privacy] hid what they compare"
        )?;
    }
    writeln!(streams.out, "({} played)", plural(replayed.requests, "request"))?;
    tell_hits(&replayed.hits, streams)?;
    if replayed.rules.iter().any(|hits| hits.mode == Mode::Observe) {
        let ended = sessions(&replayed.observed, Action::Terminate);
        writeln!(streams.out, "\nif what is only observed were enforced, it would have ended {ended} more")?;
        tell_others(&replayed.observed, streams)?;
        tell_hits(&replayed.observed, streams)?;
    }
    tell_rules(&replayed.rules, streams)
}

fn plural(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

fn sessions(hits: &[Hit], action: Action) -> String {
    let (sessions, subjects) = met(hits, action);
    format!("{} of {}", plural(sessions, "session"), plural(subjects, "subject"))
}

/// What else than ending sessions would have been done.
fn tell_others(hits: &[Hit], streams: &mut Streams<'_>) -> io::Result<()> {
    for (action, word) in WORDS.into_iter().skip(1) {
        if met(hits, action).0 > 0 {
            writeln!(streams.out, "and {word} {}", sessions(hits, action))?;
        }
        let nameless = hits.iter().filter(|hit| hit.action == action && hit.session.is_none()).count();
        if nameless > 0 {
            writeln!(streams.out, "and {word} {} without a session", plural(nameless, "client"))?;
        }
    }
    Ok(())
}

fn tell_hits(hits: &[Hit], streams: &mut Streams<'_>) -> io::Result<()> {
    for Hit { at, action, rule, session, subject, request, .. } in hits {
        let (session, subject) = (session.as_deref().unwrap_or("-"), subject.as_deref().unwrap_or("-"));
        writeln!(streams.out, "  {at}  {action:<10}  {session}  {subject}  {request}  by {rule}")?;
    }
    Ok(())
}

fn tell_rules(rules: &[RuleHits], streams: &mut Streams<'_>) -> io::Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let width = |of: fn(&RuleHits) -> &str, title: &str| {
        rules.iter().map(|hits| of(hits).chars().count()).chain([title.len()]).max().unwrap_or(0)
    };
    let (name, asks) = (width(|hits| &hits.rule, "rule"), width(|hits| &hits.asks, "asks for"));
    writeln!(
        streams.out,
        "\n{:name$}  {:asks$}  mode     requests  sessions  subjects  undecided",
        "rule", "asks for"
    )?;
    for hits in rules {
        let RuleHits { rule, asks: asked, mode, requests, sessions, subjects, undecided } = hits;
        writeln!(
            streams.out,
            "{rule:name$}  {asked:asks$}  {:7}  {requests:8}  {sessions:8}  {subjects:8}  {undecided:9}",
            mode.as_str()
        )?;
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
    let each = |hit: &Hit| {
        serde_json::json!({
            "at": hit.at.to_string(),
            "action": hit.action.as_str(),
            "then": hit.then.as_str(),
            "rule": hit.rule,
            "session": hit.session,
            "subject": hit.subject,
            "request": hit.request,
        })
    };
    let all = |hits: &[Hit]| hits.iter().map(each).collect::<serde_json::Value>();
    let ended = |hits: &[Hit]| {
        let (sessions, subjects) = met(hits, Action::Terminate);
        serde_json::json!({ "sessions": sessions, "subjects": subjects })
    };
    let rule = |hits: &RuleHits| {
        serde_json::json!({
            "rule": hits.rule,
            "asks": hits.asks,
            "mode": hits.mode.as_str(),
            "requests": hits.requests,
            "sessions": hits.sessions,
            "subjects": hits.subjects,
            "undecided": hits.undecided,
        })
    };
    serde_json::json!({
        "requests": replayed.requests,
        "from": replayed.span.map(|(first, _)| first.to_string()),
        "to": replayed.span.map(|(_, last)| last.to_string()),
        "ended": ended(&replayed.hits),
        "spared": replayed.spared,
        "hits": all(&replayed.hits),
        "observed": { "ended": ended(&replayed.observed), "hits": all(&replayed.observed) },
        "undecided": { "comparisons": replayed.undecided.comparisons, "lines": replayed.undecided.lines },
        "rules": replayed.rules.iter().map(rule).collect::<serde_json::Value>(),
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

    const CONFIG: &str = "[rules]\npacks = []\nfiles = [\"shop.toml\"]\n[rules.risk]\nquarantine = 50\nsensitive_factor = 0.5\n\
                          [[route]]\npath = \"/admin/**\"\npacks = [\"strict@1\"]\n\
                          [[route]]\npath = \"/pay\"\nsensitive = true\n\
                          [[route]]\npath = \"/try/**\"\nmode = \"observe\"\n\
                          [[route]]\npath = \"/static/**\"\nmode = \"off\"\n";

    /// A configuration with these rules of its own, and a recording: JSON as the command tells it.
    fn played(config: &str, rules: &str, lines: &[String]) -> (serde_json::Value, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let config = file("portcullis.toml", config);
        file("shop.toml", &format!("version = 1\nname = \"shop\"\n{rules}"));
        let facts = file("facts.jsonl", &(lines.join("\n") + "\n"));
        let args = ["replay", "--events", &facts, "--config", &config];
        let (exit, out, err) = say(&args);
        assert_eq!((exit, err.as_str()), (Exit::Done, ""));
        let (_, json, _) = say(&[&args[..], &["--format", "json"]].concat());
        (serde_json::from_str(&json).unwrap(), out)
    }

    fn rule(id: &str, when: &str, more: &str) -> String {
        format!("[[rule]]\nid = \"{id}\"\nwhen = '{when}'\n{more}\n")
    }

    /// A request of a session for a path, with more facts.
    fn asked(at: u64, session: &str, path: &str, more: &str) -> String {
        format!(
            "{{\"v\":1,\"at\":{at},\"phase\":\"risk\",\"action\":\"allow\",\"before\":0,\"facts\":{{\"request.method\":\"GET\",\"request.path\":\"{path}\",\"request.route\":\"/old\",\"session.exists\":true,\"session.ref\":\"{session}\",\"session.subject\":\"of {session}\",\"client.ip\":\"192.0.2.9\"{more}}}}}"
        )
    }

    fn answered(at: u64, session: &str, path: &str, status: u16) -> String {
        asked(at, session, path, &format!(",\"response.status\":{status}")).replace("\"risk\"", "\"response\"")
    }

    /// The rules of the hits, with the request that they hit first.
    fn hits(json: &serde_json::Value) -> Vec<String> {
        let each = |hit: &serde_json::Value| {
            let word = |key: &str| hit[key].as_str().unwrap().to_owned();
            format!("{} {} by {}", word("action"), word("request"), word("rule"))
        };
        json.as_array().unwrap().iter().map(each).collect()
    }

    /// `mode rule requests sessions subjects`
    fn table(json: &serde_json::Value) -> Vec<String> {
        let each = |hits: &serde_json::Value| {
            let count = |key: &str| hits[key].as_u64().unwrap();
            let (mode, rule) = (hits["mode"].as_str().unwrap(), hits["rule"].as_str().unwrap());
            format!("{mode} {rule} {} {} {}", count("requests"), count("sessions"), count("subjects"))
        };
        json["rules"].as_array().unwrap().iter().map(each).collect()
    }

    /// The rules of `[rules]` were played for every request, whatever the route.
    #[test]
    fn a_replay_judges_by_the_rules_the_mode_and_the_thresholds_of_the_route() {
        let rules =
            rule("tor", "client.is_tor", "then = \"deny\"") + &rule("points", "client.is_hosting", "score = 30");
        let tor = ",\"client.is_tor\":true";
        let hosting = ",\"client.is_hosting\":true";
        let little = ",\"risk\":30,\"session.authenticated\":true,\"request.is_navigation\":true,\"signal.network.asn\":10,\"signal.network.country\":22";
        let lines = [
            asked(1, "a", "/shop", tor),
            asked(2, "b", "/try/it", tor),
            asked(3, "c", "/static/x.css", tor),
            // Half of 50 points do where the route is sensitive.
            asked(4, "d", "/pay", hosting),
            asked(5, "e", "/shop", hosting),
            // What strict sees in it nobody sees elsewhere: there are no packs.
            asked(6, "f", "/admin/users", little),
            asked(7, "g", "/shop", little),
        ];
        let (json, out) = played(CONFIG, &rules, &lines);
        let enforced = hits(&json["hits"]);
        assert_eq!(enforced[0], "deny GET /shop by shop/tor", "{out}");
        assert_eq!(enforced[1], "quarantine GET /pay by shop/points", "{out}");
        assert!(enforced.len() == 3 && enforced[2].starts_with("quarantine GET /admin/users by strict/"), "{out}");
        assert_eq!(hits(&json["observed"]["hits"]), ["deny GET /try/it by shop/tor"]);
        let table = table(&json);
        for row in
            ["enforce shop/tor 1 1 1", "observe shop/tor 1 1 1", "enforce shop/points 2 2 2", "observe shop/tor 1 1 1"]
        {
            assert!(table.contains(&row.to_owned()), "{row}: {table:?}");
        }
        assert!(out.contains("and refused 1 session of 1 subject\n"), "{out}");
        // A ceiling is one for all.
        let observed = CONFIG.replace("packs = []", "packs = []\nmode = \"observe\"");
        let (json, _) = played(&observed, &rules, &lines);
        assert_eq!((hits(&json["hits"]).len(), hits(&json["observed"]["hits"]).len()), (0, 4));
    }

    #[test]
    fn what_observed_rules_would_do_is_told_apart_with_a_table_of_all_rules() {
        let rules = rule("old", "client.is_tor", "then = \"throttle\"")
            + &rule("trial", "client.is_tor", "then = \"terminate\"\nmode = \"observe\"")
            + &rule("calm", "client.is_hosting", "then = \"deny\"\nmode = \"observe\"");
        let tor = ",\"client.is_tor\":true";
        let lines = [asked(0, "a", "/", tor), asked(1, "a", "/", tor), asked(2, "b", "/", tor), asked(3, "c", "/", "")];
        let (json, out) = played(CONFIG, &rules, &lines);
        assert_eq!(hits(&json["hits"]), ["throttle GET / by shop/old", "throttle GET / by shop/old"]);
        assert_eq!(hits(&json["observed"]["hits"]), ["terminate GET / by shop/trial", "terminate GET / by shop/trial"]);
        assert_eq!((&json["observed"]["ended"]["sessions"], &json["ended"]["sessions"]), (&2.into(), &0.into()));
        let table = table(&json);
        for row in ["observe shop/calm 0 0 0", "enforce shop/old 3 2 2", "observe shop/trial 3 2 2"] {
            assert!(table.contains(&row.to_owned()), "{row}: {table:?}");
        }
        assert!(out.starts_with("this change would have ended 0 sessions of 0 subjects in the last hour\nand slowed down 2 sessions of 2 subjects\n"), "{out}");
        assert!(
            out.contains(
                "\nif what is only observed were enforced, it would have ended 2 sessions of 2 subjects more\n"
            ),
            "{out}"
        );
        let row = out.lines().find(|line| line.starts_with("shop/trial ")).unwrap();
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>(),
            ["shop/trial", "terminate", "observe", "3", "2", "2", "0"]
        );
    }

    #[test]
    fn verdicts_on_answers_hold_where_they_are_obeyed_and_what_they_refuse_has_no_answer() {
        let count = "count = { over = 1, within = \"1h\", per = \"session.ref\" }\nthen = \"deny\"";
        let rules = rule("enforced", "response.status == 404", count)
            + &rule("observed", "response.status == 500", &format!("{count}\nmode = \"observe\""));
        let both = |at, path, status| [asked(at, "a", path, ""), answered(at, "a", path, status)];
        let lines: Vec<String> = [
            both(0, "/", 404),
            both(1, "/", 404),
            // Refused, so its answer is none. On a route that only observes it would have been.
            both(2, "/", 404),
            both(3, "/try/a", 200),
            both(3_600_004, "/", 404),
            both(3_600_005, "/", 200),
            both(7_300_000, "/", 500),
            both(7_300_001, "/", 500),
            both(7_300_002, "/", 200),
        ]
        .concat();
        let (json, out) = played(CONFIG, &rules, &lines);
        assert_eq!(hits(&json["hits"]), ["deny GET / by shop/enforced"], "{out}");
        assert_eq!(
            hits(&json["observed"]["hits"]),
            ["deny GET /try/a by shop/enforced", "deny GET / by shop/observed"]
        );
        let table = table(&json);
        // The answer that went over the limit, and the request after it. The third answer would have begun a new window.
        for row in ["enforce shop/enforced 2 1 1", "observe shop/enforced 1 1 1", "observe shop/observed 2 1 1"] {
            assert!(table.contains(&row.to_owned()), "{row}: {table:?}");
        }
    }

    #[test]
    fn a_route_is_that_of_the_policy_and_a_change_is_told_against_what_was_done() {
        let rules = rule("pay", "request.route == \"/pay\"", "then = \"challenge\"")
            + &rule("old", "request.route == \"/old\"", "then = \"deny\"");
        let denied = |line: String| line.replace("\"allow\"", "\"deny\"");
        let lines = [
            asked(0, "a", "/pay", ""),
            denied(asked(1, "b", "/pay", "")),
            denied(asked(2, "c", "/shop", "")),
            asked(3, "d", "/shop", ""),
        ];
        let (json, out) = played(CONFIG, &rules, &lines);
        assert_eq!(hits(&json["hits"]), ["challenge GET /pay by shop/pay"], "{out}");
        assert_eq!(json["spared"], 1, "what was denied and would be challenged is held back all the same");
    }

    #[test]
    fn a_replay_tells_what_privacy_kept_it_from_deciding() {
        let rules = rule("office", "client.ip in [\"192.0.2.9\"]", "then = \"deny\"")
            + &rule("tor", "client.is_tor", "then = \"deny\"");
        let hide = |line: String| {
            line.replace("\"192.0.2.9\"", "{\"pseudonym\":\"1-0123456789abcdef\"}")
                .replace("\"of a\"", "{\"pseudonym\":\"1-fedcba9876543210\"}")
        };
        let lines =
            [hide(asked(0, "a", "/", "")), hide(asked(1, "a", "/", ",\"client.is_tor\":true")), asked(2, "b", "/", "")];
        let (json, out) = played(CONFIG, &rules, &lines);
        assert_eq!((&json["undecided"]["comparisons"], &json["undecided"]["lines"]), (&2.into(), &2.into()));
        assert!(out.contains("\n2 comparisons in 2 lines could not be decided, because [events.privacy] hid"), "{out}");
        assert_eq!(hits(&json["hits"]), ["deny GET / by shop/tor", "deny GET / by shop/office"]);
        assert_eq!(json["hits"][0]["subject"], "1-fedcba9876543210");
        let office = out.lines().find(|line| line.starts_with("shop/office ")).unwrap();
        assert_eq!(
            office.split_whitespace().collect::<Vec<_>>(),
            ["shop/office", "deny", "enforce", "1", "1", "1", "2"]
        );
    }

    #[test]
    fn a_line_that_never_ends_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (rules, facts) = (folder.path().join("shop.toml"), folder.path().join("facts.jsonl"));
        fs::write(
            &rules,
            format!("version = 1\nname = \"shop\"\n{}", rule("all", "session.exists", "then = \"deny\"")),
        )
        .unwrap();
        let long = vec![b' '; usize::try_from(LINE_BYTES_MAX).unwrap() * 2];
        let good = asked(0, "a", "/", "").into_bytes();
        fs::write(&facts, [&long, &b"\n\xff\n"[..], &good, &b"\n"[..], &long].concat()).unwrap();
        let args = ["replay", "--events", facts.to_str().unwrap(), "--rules", rules.to_str().unwrap()];
        let (exit, out, err) = say(&args);
        assert_eq!(exit, Exit::Done);
        assert!(
            err.contains("3 lines could not be read") && out.contains("refused 1 session of 1 subject"),
            "{out}{err}"
        );
    }
}
