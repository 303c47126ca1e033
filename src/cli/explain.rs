//! `portcullis explain`: why rules matched or did not, comparison by comparison.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use portcullis::clock::{Clock as _, SystemClock};
use portcullis::config::resolve::Overrides;
use portcullis::config::{Location, Request, Rulebook, Settings, inspect};
use portcullis::rules::diagnostic::{Fault, Faults, Level};
use portcullis::rules::recorded::Line;
use portcullis::rules::replay::Alone;
use portcullis::rules::scheme::Phase;
use portcullis::rules::{Explained, Judgement, Policy};
use portcullis::verdict::{Action, Mode, Verdict};

use super::{Exit, ExplainArgs, RulesChoice, Streams};

pub(super) fn run(args: &ExplainArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let found = match (&args.request, args.event, &args.events) {
        (Some(file), ..) => explain_request(file, args, streams),
        (None, Some(seq), Some(file)) => explain_event(seq, file, &args.choice, streams),
        _ => return Ok(Exit::Usage),
    };
    found.or_else(|trouble| trouble.tell(streams))
}

/// Why a command can not do what it was asked for.
pub(super) enum Trouble {
    Io(io::Error),
    Rules(Faults),
    Said(String),
}

impl Trouble {
    /// Says it, with what the command ends with.
    pub(super) fn tell(self, streams: &mut Streams<'_>) -> io::Result<Exit> {
        match self {
            Self::Io(error) => Err(error),
            Self::Rules(faults) => {
                writeln!(streams.err, "{faults}")?;
                Ok(Exit::BadConfiguration)
            }
            Self::Said(what) => {
                writeln!(streams.err, "portcullis: {what}")?;
                Ok(Exit::Runtime)
            }
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Faults> for Trouble {
    fn from(faults: Faults) -> Self {
        Self::Rules(faults)
    }
}

/// What is meant: a policy, or rules alone.
pub(super) struct Chosen {
    /// With the rules of `--rules` instead of those that it names.
    pub(super) policy: Policy,
    /// Whether there is a configuration that it comes from.
    pub(super) source: Source,
}

/// Where a policy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// From a configuration, with its routes and modes.
    Configuration,
    /// The baseline and what `--rules` names; all else is as nobody set it.
    RulesAlone,
}

/// The settings and rules of a configuration; without one, what is in force where nobody sets anything.
pub(super) fn settled(file: Option<&Path>) -> Result<(Settings, Rulebook), Trouble> {
    let overrides = Overrides { upstream: "http://127.0.0.1:1".parse::<Location>().ok(), ..Overrides::default() };
    let request = Request { file: file.map(Path::to_owned), preset: None, overrides };
    let loaded = inspect(&request, SystemClock::new().now())?;
    Ok((loaded.settings, loaded.rules))
}

pub(super) fn chosen(choice: &RulesChoice) -> Result<Chosen, Trouble> {
    let overrides = Overrides { upstream: "http://127.0.0.1:1".parse::<Location>().ok(), ..Overrides::default() };
    let now = SystemClock::new().now();
    let request = Request { file: choice.config.clone(), preset: None, overrides };
    let loaded = inspect(&request, now)?;
    let source = if loaded.file.is_some() { Source::Configuration } else { Source::RulesAlone };
    let mut settings: Settings = loaded.settings;
    let rulebook = match &choice.rules {
        None => loaded.rules,
        Some(path) => {
            if !path.exists() {
                let why = format!("there is no {}", path.display());
                return Err(Faults(vec![Fault::new(Level::Fault, "", why)]).into());
            }
            settings.rules.files = if path.is_dir() { vec![path.join("*.toml")] } else { vec![path.clone()] };
            Rulebook::load(&settings, now)?
        }
    };
    let policy = settings.policy(1, &rulebook).map_err(|error| Trouble::Said(error.to_string()))?;
    Ok(Chosen { policy, source })
}

fn explain_request(file: &PathBuf, args: &ExplainArgs, streams: &mut Streams<'_>) -> Result<Exit, Trouble> {
    let policy = chosen(&args.choice)?.policy;
    let unreadable = |why: io::Error| Trouble::Said(format!("{} can not be read: {why}", file.display()));
    let text = fs::read_to_string(file).map_err(unreadable)?;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let at = args.line.unwrap_or(lines.len()).checked_sub(1);
    let Some(line) = at.and_then(|at| lines.get(at)) else {
        return Err(Trouble::Said(format!("{} has {} lines", file.display(), lines.len())));
    };
    let line = Line::parse(line, policy.rules.host()).map_err(|error| Trouble::Said(error.to_string()))?;
    let alone = Alone::new(&policy, &line);
    let set = alone.set;
    if let Some(route) = alone.route {
        writeln!(streams.out, "on the route {}, in mode {}", route.template, alone.mode)?;
    }
    let runs = |phase: Phase| match line.phase {
        Phase::Response => phase == Phase::Response,
        other => phase <= other,
    };
    let mut told = 0;
    for rule in set.rules().iter().filter(|rule| runs(rule.phase)) {
        if args.rule.as_ref().is_some_and(|wanted| rule.name.as_str() != wanted) {
            continue;
        }
        let mode = alone.mode.min(rule.mode);
        let mode = if mode == Mode::Enforce { String::new() } else { format!(", in mode {mode}") };
        tell(&alone.explain(rule), &format!("{}{mode}", rule.asks()), streams)?;
        told += 1;
    }
    if let (0, Some(wanted)) = (told, &args.rule) {
        return Err(Trouble::Said(format!("no rule `{wanted}` runs for this line")));
    }
    if let (Some(judgement), None) = (&alone.judgement, &args.rule) {
        tell_sum(judgement, alone.mode, &line, streams)?;
        if set.counts() {
            writeln!(
                streams.out,
                "of one request alone no rule with `count` knows how many there were: see `portcullis replay`"
            )?;
        }
    }
    writeln!(streams.out, "then: {}", line.action)?;
    Ok(Exit::Done)
}

/// What the points add up to, and what is done at that.
fn tell_sum(judgement: &Judgement, mode: Mode, line: &Line, streams: &mut Streams<'_>) -> io::Result<()> {
    let verdict = &judgement.verdict;
    let would = judgement.would.as_deref();
    // Where nothing is obeyed, rules that would be are as good as observed.
    let (now, would) = if mode == Mode::Enforce { (Some(verdict), would) } else { (None, would.or(Some(verdict))) };
    let points = verdict.reasons.iter().filter(|reason| reason.points > 0.0);
    let points: String = points.map(|reason| format!(" + {} of {}", reason.points, reason.kind)).collect();
    writeln!(streams.out, "risk: {} = {} from before{points}", verdict.risk, line.before)?;
    let by = |verdict: &Verdict| match &verdict.rule {
        Some(rule) => format!("{}, by {rule}", verdict.action),
        None => verdict.action.to_string(),
    };
    writeln!(streams.out, "now: {}", now.map_or_else(|| Action::Allow.to_string(), by))?;
    if let Some(would) = would {
        writeln!(streams.out, "if what is observed were obeyed: {}", by(would))?;
    }
    Ok(())
}

fn tell(explained: &Explained, asks: &str, streams: &mut Streams<'_>) -> io::Result<()> {
    let Explained { rule, place, outcome, compared, excused } = explained;
    let word = |outcome: Option<bool>| outcome.map_or("unknown", |yes| if yes { "true" } else { "false" });
    let place = place.as_deref().map_or_else(String::new, |place| format!(" ({place})"));
    let excused = if *excused { ", and a tune excuses it" } else { "" };
    writeln!(streams.out, "{rule}{place}: {}{excused}; it asks for {asks}", word(*outcome))?;
    for one in compared {
        writeln!(streams.out, "  {:<7} {}  [{} is {}]", word(one.outcome), one.text, one.field, one.value)?;
    }
    Ok(())
}

/// An event tells its reasons itself; the place of its rule comes from the rules as they are now.
fn explain_event(seq: u64, file: &Path, choice: &RulesChoice, streams: &mut Streams<'_>) -> Result<Exit, Trouble> {
    let text =
        fs::read_to_string(file).map_err(|why| Trouble::Said(format!("{} can not be read: {why}", file.display())))?;
    let parsed = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let found = parsed.into_iter().find(|event| event.get("seq").and_then(serde_json::Value::as_u64) == Some(seq));
    let Some(event) = found else {
        return Err(Trouble::Said(format!("{} has no event {seq}", file.display())));
    };
    let text = |key: &str| event.get(key).and_then(serde_json::Value::as_str).unwrap_or("-").to_owned();
    writeln!(streams.out, "{} at {}: {}", text("event"), text("ts"), text("action"))?;
    for key in ["would", "risk", "reasons", "policy"] {
        if let Some(value) = event.get(key).filter(|value| !value.is_null()) {
            writeln!(streams.out, "  {key}: {}", value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned))?;
        }
    }
    if let Some(name) = event.get("rule").and_then(serde_json::Value::as_str) {
        let policy = chosen(choice)?.policy;
        let places = std::iter::once(None).chain(policy.routes.iter().map(Some));
        let mut rules = places.flat_map(|route| policy.rules_on(route).rules());
        match rules.find(|rule| rule.name.as_str() == name) {
            Some(rule) => {
                let place = rule.place().unwrap_or_default();
                writeln!(streams.out, "  rule: {name} ({place})\n    {}\n    when {}", rule.about, rule.written())?;
            }
            None => writeln!(streams.out, "  rule: {name}, which is no longer there")?,
        }
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::super::tests::say;
    use super::*;

    const RULE: &str = "version = 1\nname = \"shop\"\n[[rule]]\nid = \"far\"\nabout = \"Far away.\"\nwhen = 'client.country == \"RU\" && risk >= 20'\nthen = \"deny\"\n";

    #[test]
    fn every_comparison_of_a_recorded_request_is_told_with_its_value() {
        let folder = tempfile::tempdir().unwrap();
        let (rules, facts) = (folder.path().join("shop.toml"), folder.path().join("facts.jsonl"));
        fs::write(&rules, RULE).unwrap();
        let line = r#"{"v":1,"at":1795257972000,"phase":"risk","action":"allow","before":700,"facts":{"client.country":"RU","risk":9}}"#;
        fs::write(&facts, format!("{line}\n{}\n", line.replace("RU", "DE"))).unwrap();
        let (rules, facts) = (rules.to_str().unwrap(), facts.to_str().unwrap());
        let (exit, out, err) =
            say(&["explain", "--request", facts, "--line", "1", "--rules", rules, "--rule", "shop/far"]);
        assert_eq!((exit, err.as_str()), (Exit::Done, ""));
        assert!(out.contains("shop/far (") && out.contains(":4): false; it asks for deny"), "{out}");
        assert!(out.contains("true    client.country == \"RU\"  [client.country is \"RU\"]"), "{out}");
        assert!(out.contains("false   risk >= 20  [risk is 7]"), "{out}");
        let (_, last, _) = say(&["explain", "--request", facts, "--rules", rules]);
        assert!(last.contains("[client.country is \"DE\"]") && last.contains("baseline/fork"), "{last}");
        assert_eq!(say(&["explain", "--request", facts, "--line", "9", "--rules", rules]).0, Exit::Runtime);
        assert_eq!(say(&["explain", "--request", facts, "--rules", "none.toml"]).0, Exit::BadConfiguration);
        assert_eq!(say(&["explain"]).0, Exit::Usage);
    }

    #[test]
    fn a_request_is_explained_by_its_route_with_the_sum_of_its_points() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let many = "[[rule]]\nid = \"many\"\nwhen = 'request.path == \"/pay\"'\nthen = \"deny\"\n\
                    count = { over = 5, within = \"1m\", per = \"client.ip\" }\n";
        fs::write(path("shop.toml"), format!("{}{many}", RULE.replace("risk >= 20", "risk >= 30"))).unwrap();
        let config = "version = 1\n[upstream]\nurl = \"http://127.0.0.1:1\"\n[rules]\nfiles = [\"shop.toml\"]\n\
                      [[route]]\npath = \"/pay\"\nmode = \"observe\"\n\
                      [[route]]\npath = \"/bare\"\npacks = []\n";
        fs::write(path("portcullis.toml"), config).unwrap();
        let explain = |asked: &str| {
            let line = r#"{"v":1,"at":1795257972000,"phase":"risk","action":"allow","before":300,"facts":{"request.method":"GET","request.path":"PATH","client.country":"RU","session.exists":true,"signal.network.asn":10,"signal.network.country":22}}"#;
            fs::write(path("facts.jsonl"), line.replace("PATH", asked)).unwrap();
            let (exit, out, err) =
                say(&["explain", "--request", &path("facts.jsonl"), "--config", &path("portcullis.toml")]);
            assert_eq!(exit, Exit::Done, "{err}");
            out
        };
        let anywhere = explain("/");
        assert!(!anywhere.contains("on the route"), "{anywhere}");
        assert!(anywhere.contains("true    risk >= 30  [risk is 35]"), "{anywhere}");
        let sum = "risk: 35 = 3 from before + 10 of network.asn + 22 of network.country\nnow: deny, by shop/far\n";
        assert!(anywhere.contains(sum), "{anywhere}");
        assert!(anywhere.contains("no rule with `count` knows") && anywhere.ends_with("then: allow\n"), "{anywhere}");
        let observed = explain("/pay");
        assert!(observed.starts_with("on the route /pay, in mode observe\n"), "{observed}");
        assert!(observed.contains(": true; it asks for deny, in mode observe"), "{observed}");
        assert!(observed.contains("if what is observed were obeyed: deny, by shop/far"), "{observed}");
        let bare = explain("/bare");
        assert!(bare.contains("risk: 3 = 3 from before\nnow: allow\n"), "{bare}");
        assert!(!bare.contains("baseline/"), "{bare}");
    }

    #[test]
    fn an_event_is_told_with_the_place_of_its_rule() {
        let folder = tempfile::tempdir().unwrap();
        let (rules, events) = (folder.path().join("shop.toml"), folder.path().join("events.jsonl"));
        fs::write(&rules, RULE).unwrap();
        fs::write(&events, "{\"seq\":7,\"ts\":\"2026-11-21T10:00:00Z\",\"event\":\"authz.denied\",\"action\":\"deny\",\"rule\":\"shop/far\",\"risk\":32}\n").unwrap();
        let (rules, events) = (rules.to_str().unwrap(), events.to_str().unwrap());
        let (exit, out, _) = say(&["explain", "--event", "7", "--events", events, "--rules", rules]);
        assert_eq!(exit, Exit::Done);
        assert!(out.contains("authz.denied") && out.contains("shop.toml:4") && out.contains("Far away."), "{out}");
        assert_eq!(say(&["explain", "--event", "8", "--events", events, "--rules", rules]).0, Exit::Runtime);
    }
}
