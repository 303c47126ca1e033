//! `portcullis diff`: what a change of rules means.

use std::io;
use std::path::Path;

use portcullis::clock::{Clock as _, SystemClock, Timestamp};
use portcullis::config::resolve::{FILE_NAME, Overrides};
use portcullis::config::{Location, Request, Settings, load};
use portcullis::rules::diagnostic::{Fault, Faults, Level};
use portcullis::rules::diff::{self, Change, Direction};
use portcullis::rules::load::{Input, RulesText, compile};
use portcullis::rules::{Pack, RuleSet};

use super::{DiffArgs, Exit, Format, Streams};

pub(super) fn run(args: &DiffArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let now = SystemClock::new().now();
    let (old, new) = match (read(&args.old, now), read(&args.new, now)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(faults), _) | (_, Err(faults)) => {
            writeln!(streams.err, "{faults}")?;
            return Ok(Exit::BadConfiguration);
        }
    };
    let changes = compare(&old, &new);
    match args.format {
        Format::Human => tell(&changes, streams)?,
        Format::Json => {
            let each = |change: &Change| serde_json::json!({"what": change.what, "how": change.how, "direction": change.direction.as_str()});
            writeln!(streams.out, "{:#}", changes.iter().map(each).collect::<serde_json::Value>())?;
        }
    }
    Ok(Exit::Done)
}

/// Rules by where they are in force, with the settings around them if there are any.
struct Side {
    settings: Option<Box<Settings>>,
    sets: Vec<(String, std::sync::Arc<RuleSet>)>,
}

/// A folder with a configuration is that configuration; another folder, and a file without settings, are rules files.
fn read(path: &Path, now: Timestamp) -> Result<Side, Faults> {
    let config = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
    let is_config = config.file_name().is_some_and(|name| name == FILE_NAME) && config.is_file();
    if is_config {
        let overrides = Overrides { upstream: "http://127.0.0.1:1".parse::<Location>().ok(), ..Overrides::default() };
        let loaded = load(&Request { file: Some(config), preset: None, overrides }, now)?;
        let mut sets = vec![(String::new(), loaded.rules.main())];
        for route in loaded.settings.routes.iter() {
            if let Some(packs) = &route.packs {
                sets.push((format!("{} ", route.pattern), loaded.rules.of(packs)));
            }
        }
        return Ok(Side { settings: Some(Box::new(loaded.settings)), sets });
    }
    let unreadable = |why: io::Error| {
        Faults(vec![Fault::new(Level::Fault, "", format!("{} can not be read: {why}", path.display()))])
    };
    let files = if path.is_dir() {
        let mut files = std::fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>())
            .map_err(unreadable)?;
        files.retain(|file| file.extension().is_some_and(|kind| kind == "toml"));
        files.sort();
        files
    } else {
        vec![path.to_owned()]
    };
    let mut texts = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).map_err(unreadable)?;
        if !portcullis::scenario::Scenarios::is_one(&text) {
            texts.push(RulesText { path, text });
        }
    }
    let open = |path: &Path| std::fs::read_to_string(path);
    // With the baseline below them, so that tunes of it mean something.
    let compiled = compile(&Input { packs: &[vec![Pack::Baseline1]], files: &texts, open: &open, now })?;
    Ok(Side { settings: None, sets: compiled.sets.into_iter().map(|set| (String::new(), set)).collect() })
}

fn compare(old: &Side, new: &Side) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for (place, set) in &new.sets {
        // A route that is new, or had no packs of its own, had those of everywhere.
        let before = old.sets.iter().find(|(known, _)| known == place).or(old.sets.first());
        let found = before.map(|(_, before)| diff::rules(before, set)).unwrap_or_default();
        for mut change in found {
            if !changes.contains(&change) {
                change.what = format!("{place}{}", change.what);
                changes.push(change);
            }
        }
    }
    if let (Some(old), Some(new)) = (&old.settings, &new.settings) {
        let (before, now) = (&old.rules.risk, &new.rules.risk);
        let thresholds = [
            ("observe", before.observe, now.observe),
            ("rotate", before.rotate, now.rotate),
            ("quarantine", before.quarantine, now.quarantine),
            ("terminate", before.terminate, now.terminate),
        ];
        for (name, before, now) in thresholds.into_iter().filter(|(_, before, now)| before != now) {
            let direction = if now < before { Direction::Stronger } else { Direction::Weaker };
            changes.push(Change {
                what: format!("rules.risk.{name}"),
                how: format!("{before} -> {now} points"),
                direction,
            });
        }
        if old.rules.mode != new.rules.mode {
            let direction = if new.rules.mode > old.rules.mode { Direction::Stronger } else { Direction::Weaker };
            let how = format!("{} -> {}", old.rules.mode, new.rules.mode);
            changes.push(Change { what: "rules.mode".to_owned(), how, direction });
        }
    }
    changes
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
}
