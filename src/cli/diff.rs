//! `portcullis diff`: what a change of rules means.

use std::io;
use std::path::Path;

use portcullis::clock::{Clock as _, SystemClock, Timestamp};
use portcullis::config::resolve::{self, FILE_NAME, Overrides};
use portcullis::config::{AssembleError, Location, Request, Rulebook, Settings, inspect, read_text};
use portcullis::rules::diagnostic::{Fault, Faults, Level};
use portcullis::rules::diff::{self, Change, Direction};
use portcullis::rules::load::{Input, compile};
use portcullis::rules::{Pack, Policy};

use super::{DiffArgs, Exit, Format, Streams, rules_files};

pub(super) fn run(args: &DiffArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let now = SystemClock::new().now();
    let (old, new) = match (read(&args.old, now), read(&args.new, now)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(faults), _) | (_, Err(faults)) => {
            writeln!(streams.err, "{faults}")?;
            return Ok(Exit::BadConfiguration);
        }
    };
    let changes = diff::policies(&old, &new);
    match args.format {
        Format::Human => tell(&changes, streams)?,
        Format::Json => {
            let each = |change: &Change| serde_json::json!({"what": change.what, "how": change.how, "direction": change.direction.as_str()});
            writeln!(streams.out, "{:#}", changes.iter().map(each).collect::<serde_json::Value>())?;
        }
    }
    Ok(Exit::Done)
}

/// A folder with a configuration is that configuration; another folder, and a file without settings, are rules files.
fn read(path: &Path, now: Timestamp) -> Result<Policy, Faults> {
    let config = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
    let is_config = config.file_name().is_some_and(|name| name == FILE_NAME) && config.is_file();
    if is_config {
        let overrides = Overrides { upstream: "http://127.0.0.1:1".parse::<Location>().ok(), ..Overrides::default() };
        let loaded = inspect(&Request { file: Some(config), preset: None, overrides }, now)?;
        return policy(&loaded.settings, &loaded.rules);
    }
    let unreadable = |why: io::Error| {
        Faults(vec![Fault::new(Level::Fault, "", format!("{} can not be read: {why}", path.display()))])
    };
    let files = rules_files::at(path).map_err(unreadable)?;
    // With the baseline below them, so that tunes of it mean something.
    let compiled = compile(&Input { packs: &[vec![Pack::Baseline1]], files: &files, open: &read_text, now })?;
    // Under the settings that nobody changed.
    let overrides = Overrides { upstream: "http://127.0.0.1:1".parse::<Location>().ok(), ..Overrides::default() };
    let input = resolve::Input { overrides: Some(&overrides), ..resolve::Input::default() };
    let settings = resolve::resolve(&input, now)?.settings;
    let mut policy = policy(&settings, &Rulebook::packs_of(&settings))?;
    policy.rules = compiled.sets.into_iter().next().unwrap_or_default();
    Ok(policy)
}

fn policy(settings: &Settings, rules: &Rulebook) -> Result<Policy, Faults> {
    let wrong = |why: AssembleError| Faults(vec![Fault::new(Level::Fault, "", why.to_string())]);
    settings.policy(1, rules).map_err(wrong)
}

fn tell(changes: &[Change], streams: &mut Streams<'_>) -> io::Result<()> {
    if changes.is_empty() {
        return writeln!(streams.out, "the rules mean the same");
    }
    for (direction, title) in
        [(Direction::Weaker, "Weaker:"), (Direction::Stronger, "Stronger:"), (Direction::Other, "Other:")]
    {
        let mut these = changes.iter().filter(|change| change.direction == direction).peekable();
        if these.peek().is_some() {
            writeln!(streams.out, "{title}")?;
        }
        for Change { what, how, .. } in these {
            writeln!(streams.out, "  {what}: {how}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::say;
    use super::*;

    #[test]
    fn a_change_is_told_by_what_it_weakens() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, rules: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("version = 1\nname = \"shop\"\n{rules}")).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let rule = |id: &str, when: &str, more: &str| format!("[[rule]]\nid = \"{id}\"\nwhen = '{when}'\n{more}\n");
        let old = file(
            "old.toml",
            &(rule("a", "client.is_tor", "score = 40")
                + &rule("b", "client.is_tor", "then = \"deny\"")
                + &rule("c", "session.exists", "then = \"observe\"")),
        );
        let new = file(
            "new.toml",
            &(rule("a", "client.is_tor", "score = 20")
                + &rule("c", "session.exists", "then = \"rotate\"")
                + &rule("d", "client.is_hosting", "then = \"challenge\"\nmode = \"observe\"")),
        );
        let (exit, out, _) = say(&["diff", &old, &new]);
        assert_eq!(exit, Exit::Done);
        let expected = "Weaker:\n  shop/a: score 40 -> 20\n  shop/b: removed; it asked for deny\nStronger:\n  shop/c: then observe -> rotate\n\
                        Other:\n  shop/d: new in mode observe; it would ask for challenge\n";
        assert_eq!(out, expected);
        assert_eq!(say(&["diff", &old, &old]).1, "the rules mean the same\n");
        let (_, json, _) = say(&["diff", &old, &new, "--format", "json"]);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()[0]["direction"], "weaker");
        assert_eq!(say(&["diff", &old, "none.toml"]).0, Exit::BadConfiguration);
    }

    #[test]
    fn what_routes_and_thresholds_lose_is_told_too() {
        let config = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(FILE_NAME), text).unwrap();
            folder
        };
        let old = config(
            "[rules.risk]\nquarantine = 50\n[[route]]\npath = \"/admin/**\"\npacks = [\"strict@1\"]\nfresh = \"15m\"\n[[route]]\npath = \"/pay\"\nsensitive = true\n",
        );
        let new =
            config("[rules.risk]\nquarantine = 60\nhalf_life = \"1m\"\n[[route]]\npath = \"/pay\"\nmode = \"off\"\n");
        let (exit, out, err) = say(&["diff", old.path().to_str().unwrap(), new.path().to_str().unwrap()]);
        assert_eq!((exit, err.as_str()), (Exit::Done, ""));
        for line in [
            "rules.risk.quarantine: 50 -> 60 points",
            "/admin/** strict/little-risk: removed; it asked for quarantine",
            "/admin/**: authentication younger than: 15m -> any age",
            "/pay: mode enforce -> off",
            "/pay: no longer sensitive",
        ] {
            let weaker = out.split("Other:").next().unwrap();
            assert!(weaker.starts_with("Weaker:") && weaker.contains(line), "{line}: {out}");
        }
        assert!(out.contains("rules.risk.half_life"), "{out}");
    }
}
