//! From rules files and packs to sets that run, with every fault at once: for start, reload, `check` and `test` alike.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::check::{Checker, Cond, Patterns};
use super::compile::Unknown;
use super::diagnostic::{Fault, Faults, Level, nearest};
use super::expression::Expression;
use super::file::{RULES_MAX, RawRule, RulesFile, Score, Tune, Whose, read};
use super::gathered::Gathered;
use super::pack::Pack;
use super::page::Source;
use super::review;
use super::scheme::{HostFact, Phase};
use super::set::{Hold, Rule, RuleSet, phase};
use super::weaker::Asked;
use crate::clock::Timestamp;
use crate::verdict::{Mode, Sighting, Text};

/// A rules file: as the user named it, and what is in it.
#[derive(Clone, Debug)]
pub struct RulesText {
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// What is to be compiled.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The lists of packs that are in force somewhere; each makes one set.
    pub packs: &'a [Vec<Pack>],
    /// Files with rules of one's own: they are in every set.
    pub files: &'a [RulesText],
    /// Opens a file that a rules file names.
    pub open: &'a dyn Fn(&Path) -> io::Result<String>,
    /// For dates that lie behind.
    pub now: Timestamp,
}

impl std::fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("packs", &self.packs).finish_non_exhaustive()
    }
}

/// Rules that run.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// One for each list of packs.
    pub sets: Vec<Arc<RuleSet>>,
    /// What is weak or odd.
    pub warnings: Vec<Fault>,
    /// Files that rules files name.
    pub files: Vec<PathBuf>,
    /// When something of them expires next.
    pub expires: Option<Timestamp>,
}

/// Compiles rules.
///
/// # Errors
/// When anything is wrong: all faults at once, warnings among them.
pub fn compile(input: &Input<'_>) -> Result<Compiled, Faults> {
    let mut loader = Loader { now: input.now, ..Loader::default() };
    for pack in Pack::ALL {
        let rules = loader.pack(pack);
        loader.packs.insert(pack, rules);
    }
    let files = input.files.iter().map(|file| loader.file(file, input.open)).collect::<Vec<_>>();
    loader.names_twice(&files);
    let mut own: Vec<Rule> = files.into_iter().flat_map(|file| file.rules).collect();
    let in_force: BTreeSet<Pack> = input.packs.iter().flatten().copied().collect();
    loader.tune_all(&mut own, &in_force);
    if own.len() > RULES_MAX {
        loader.faults.push(Fault::new(
            Level::Fault,
            "",
            format!("at most {RULES_MAX} rules are read, and there are {}", own.len()),
        ));
    }
    let host: Arc<[HostFact]> = loader.host.clone().into();
    loader.faults.append(review::rules(&own, input.now));
    let faults = Faults::sorted(std::mem::take(&mut loader.faults).into_told());
    if faults.is_fatal() {
        return Err(faults);
    }
    let sets = input.packs.iter().map(|packs| {
        let mut rules: Vec<Rule> = Vec::new();
        for rule in packs.iter().filter_map(|pack| loader.packs.get(pack)).flatten() {
            match rules.iter_mut().find(|known| known.name == rule.name) {
                // The same rule by two packs: in the higher of both modes.
                Some(known) if known.mode < rule.mode => *known = rule.clone(),
                Some(_) => {}
                None => rules.push(rule.clone()),
            }
        }
        // Names of one's own files are told apart already.
        rules.extend_from_slice(&own);
        Arc::new(RuleSet::new(rules, host.clone()))
    });
    let sets = sets.collect();
    let expires = loader.expires;
    Ok(Compiled { sets, warnings: faults.0, files: loader.named, expires })
}

/// The rules of packs alone, which are without fault.
pub fn packs(packs: &[Pack]) -> Arc<RuleSet> {
    let nothing = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
    let input = Input { packs: &[packs.to_vec()], files: &[], open: &nothing, now: Timestamp::EPOCH };
    compile(&input).ok().and_then(|compiled| compiled.sets.into_iter().next()).unwrap_or_default()
}

#[derive(Default)]
struct Loader {
    faults: Gathered,
    patterns: Patterns,
    packs: BTreeMap<Pack, Vec<Rule>>,
    host: Vec<HostFact>,
    /// Tunes of all files, with their conditions.
    tunes: Vec<Tuned>,
    named: Vec<PathBuf>,
    expires: Option<Timestamp>,
    now: Timestamp,
}

struct Tuned {
    tune: Tune,
    unless: Option<(Cond, Option<TimeZone>)>,
    file: String,
}

struct OwnFile {
    name: String,
    spot: Option<super::diagnostic::Spot>,
    rules: Vec<Rule>,
}

impl Loader {
    fn pack(&mut self, pack: Pack) -> Vec<Rule> {
        let nothing = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
        let (file, faults) = read(&pack.source(), Whose::Pack, Path::new(""), &mut self.host, &nothing);
        self.faults.append(faults);
        let ceiling = file.mode;
        let mut rules: Vec<Rule> = Vec::new();
        for base in &file.include {
            rules.extend(self.packs.get(base).into_iter().flatten().cloned());
        }
        rules.extend(self.check(&file));
        for rule in &mut rules {
            rule.ceiling = ceiling;
            rule.mode = rule.mode.min(ceiling);
        }
        rules
    }

    fn file(&mut self, text: &RulesText, open: &dyn Fn(&Path) -> io::Result<String>) -> OwnFile {
        let source = Source::new(&text.path.to_string_lossy(), text.text.clone());
        let base = text.path.parent().unwrap_or(Path::new(""));
        let (mut file, faults) = read(&source, Whose::User, base, &mut self.host, open);
        self.faults.append(faults);
        self.named.append(&mut file.files);
        let mut rules = self.check(&file);
        for rule in &mut rules {
            rule.ceiling = file.mode;
            rule.mode = rule.mode.min(file.mode);
        }
        let mut checker = Checker::new(&file.scope, &self.patterns);
        let tunes = std::mem::take(&mut file.tunes);
        let tunes: Vec<_> = tunes
            .into_iter()
            .map(|tune| {
                let unless = tune.unless.as_ref().and_then(|unless| checker.condition(unless));
                Tuned { tune, unless: unless.map(|cond| (cond, file.zone.clone())), file: file.name.clone() }
            })
            .collect();
        let more = checker.into_faults();
        // A name that nobody uses may only be misspelt where it is used.
        let is_sound = more.is_empty() && !self.faults.is_fatal();
        self.faults.append(more);
        if is_sound {
            self.faults.extend(review::names(&file));
        }
        self.tunes.extend(tunes);
        OwnFile { name: file.name, spot: file.name_spot, rules }
    }

    /// Checks every condition of a file.
    fn check(&mut self, file: &RulesFile) -> Vec<Rule> {
        let mut checker = Checker::new(&file.scope, &self.patterns);
        checker.check_names();
        let checked: Vec<_> =
            file.rules.iter().map(|raw| (raw, raw.when.as_ref().and_then(|when| checker.condition(when)))).collect();
        self.faults.append(checker.into_faults());
        let rules: Vec<_> =
            checked.into_iter().filter_map(|(raw, cond)| Some(rule(file, raw, raw.when.clone()?, cond?))).collect();
        for rule in &rules {
            self.faults.extend(impossible(rule));
        }
        rules
    }

    /// Two files of one name, or with that of a pack, would have rules that nobody can tell apart.
    fn names_twice(&mut self, files: &[OwnFile]) {
        for (at, file) in files.iter().enumerate() {
            let is_pack = Pack::ALL.iter().any(|pack| pack.as_str().split('@').next() == Some(&file.name));
            let is_twice = files.iter().take(at).any(|earlier| earlier.name == file.name);
            if (is_pack || is_twice) && !file.name.is_empty() {
                let whose = if is_pack { "a pack" } else { "another file" };
                let message = format!("{whose} has the name \"{}\"", file.name);
                let help = Some("rules are told by the name of their file: choose another".to_owned());
                self.faults.push(Fault::new(Level::Fault, "name", message).at(file.spot.clone()).with_help(help));
            }
        }
    }

    fn tune_all(&mut self, own: &mut [Rule], in_force: &BTreeSet<Pack>) {
        let packs = self.packs.iter().filter(|(pack, _)| in_force.contains(pack)).flat_map(|(_, rules)| rules);
        let mut asked: BTreeMap<String, Asked> = BTreeMap::new();
        for rule in packs.filter(|rule| rule.mode == Mode::Enforce) {
            asked.entry(rule.name.to_string()).or_insert(Asked::of(rule));
        }
        for Tuned { tune, unless, file } in std::mem::take(&mut self.tunes) {
            let fault = |level, message: String| {
                Fault::new(level, format!("{file}: tune"), message).at(Some(tune.spot.clone()))
            };
            if let Some(expires) = tune.expires {
                if expires <= self.now {
                    let help = Some("take it away, or give it another date and reason".to_owned());
                    let message = format!("this tune of `{}` has expired and does nothing", tune.rule);
                    self.faults.push(fault(Level::Warning, message).with_help(help));
                    continue;
                }
                self.expires = Some(self.expires.map_or(expires, |other| other.min(expires)));
            }
            if tune.unless.is_some() && unless.is_none() {
                continue;
            }
            let (mut found, mut wrong, mut lost) = (false, Vec::new(), None);
            for rule in self.packs.values_mut().flatten().chain(own.iter_mut()).filter(|rule| rule.name == *tune.rule) {
                found = true;
                let (before, asked_before) = (rule.phase, Asked::of(rule));
                apply(rule, &tune, unless.as_ref());
                // Less than the pack asks for, and this is the tune that takes it.
                if let Some(less) = asked.get(rule.name.as_str()).and_then(|asked| asked.lost_in(rule)) {
                    lost = lost.or_else(|| asked_before.lost_in(rule).map(|_| less));
                }
                let late = || {
                    let message = "the tune reads the answer, and the rule acts on the request";
                    Fault::new(Level::Fault, rule.name.to_string(), message)
                };
                let is_late = before < Phase::Response && rule.phase == Phase::Response;
                if let Some(fault) = impossible(rule).or_else(|| is_late.then(late)) {
                    let help = Some("the tune reads what is not known yet when this rule runs".to_owned());
                    wrong.push(fault.at(Some(tune.spot.clone())).with_help(help));
                }
            }
            if let Some(lost) = lost.filter(|_| tune.expires.is_none() && wrong.is_empty()) {
                let message = format!("this tune makes `{}` weaker than the pack: {lost}", tune.rule);
                let help = Some("give it an `expires` date, so that it is looked at again".to_owned());
                self.faults.push(fault(Level::Warning, message).with_help(help));
            }
            wrong.dedup();
            // The same rule may stand in several packs.
            self.faults.extend(wrong.into_iter().take(1));
            if matches!(unless, Some((Cond::Const(_), _))) {
                let help = Some("`mode = \"off\"` takes a rule out of force".to_owned());
                let fault =
                    fault(Level::Fault, "`unless` reads no field: it says the same of every request".to_owned());
                self.faults.push(fault.with_help(help));
            }
            if !found {
                let names: Vec<String> =
                    self.packs.values().flatten().chain(&*own).map(|rule| rule.name.to_string()).collect();
                let near = nearest(&tune.rule, names.iter().map(String::as_str)).map(ToOwned::to_owned);
                let last = tune.rule.rsplit('/').next().unwrap_or_default();
                let near = near.or_else(|| names.iter().find(|name| name.rsplit('/').next() == Some(last)).cloned());
                let fix = near.as_ref().map(|near| format!("\"{near}\""));
                let help = Some(match near {
                    Some(_) => "a rule of nearly this name".to_owned(),
                    None => "rules/README.md lists the rules of packs; those of a file are called NAME/ID".to_owned(),
                });
                let fault = fault(Level::Fault, format!("there is no rule `{}`", tune.rule)).with_help(help);
                self.faults.push(Fault { fix, ..fault });
            }
        }
    }
}

fn apply(rule: &mut Rule, tune: &Tune, unless: Option<&(Cond, Option<TimeZone>)>) {
    rule.unless.extend(unless.cloned());
    rule.score = match (rule.score, tune.score) {
        // Points of a signal stay such: they stick, fade, and know whether they are the network's.
        (Score::Signal(kind) | Score::SignalAs(kind, _), Some(Score::Fixed(points))) => Score::SignalAs(kind, points),
        (_, Some(score)) => score,
        (score, None) => score,
    };
    rule.then = tune.then.or(rule.then);
    rule.mode = tune.mode.unwrap_or(rule.mode).min(rule.ceiling);
    let conds: Vec<&Cond> = rule.conditions().collect();
    rule.phase = phase(&conds, rule.count.map(|count| count.per));
}

fn rule(file: &RulesFile, raw: &RawRule, when: Arc<Expression>, cond: Cond) -> Rule {
    let name = format!("{}/{}", file.name, raw.id);
    let key = crate::facts::user_agent::stable_hash(name.as_bytes());
    Rule {
        phase: phase(&[&cond], raw.count.map(|count| count.per)),
        name: Text::from(name),
        about: raw.about.as_str().into(),
        then: raw.then,
        mode: raw.mode,
        tags: raw.tags.clone().into(),
        unknown: raw.unknown,
        score: raw.score,
        count: raw.count,
        hold: Hold::new(raw.per, raw.within, raw.count.as_ref()),
        cond: Arc::new(cond),
        when,
        unless: Vec::new(),
        ceiling: Mode::Enforce,
        zone: file.zone.clone(),
        spot: raw.spot.clone(),
        since: raw.since,
        sync: raw.sync,
        event: raw.event,
        key,
    }
}

/// What a rule asks for and can not have in its phase.
fn impossible(rule: &Rule) -> Option<Fault> {
    let (message, help) = match (rule.phase, rule.score) {
        (Phase::Risk, Score::Fixed(_) | Score::Signal(_) | Score::SignalAs(..)) => {
            ("a rule that reads `risk` runs when the points are added up, and can give none", "use then = \"...\"")
        }
        (Phase::Response, Score::Fixed(_) | Score::Signal(_) | Score::SignalAs(..)) => {
            ("a rule that reads the answer runs after the points are added up, and can give none", "use then = \"...\"")
        }
        (Phase::Risk, Score::None) if rule.count.is_some() => {
            ("a rule that reads `risk` can not count", "count in a rule of its own")
        }
        (Phase::Client | Phase::Session | Phase::Risk, _) if rule.hold.is_said => (
            "`per` and `within` say whom a verdict on an answer holds for, and this rule does not read the answer",
            "take them away, or read `response.*` or `login.*`",
        ),
        (Phase::Response, _) if rule.event.is_some_and(Sighting::is_refusal) => (
            "its `event` tells of a request that was refused, and an answer comes too late for that",
            "take `event` away, or read nothing of the answer",
        ),
        _ if rule.unknown == Unknown::Fire && matches!(*rule.cond, Cond::Const(_)) => {
            ("`unknown` says nothing here: the condition reads no field", "take it away")
        }
        _ => return None,
    };
    let fault = Fault::new(Level::Fault, rule.name.to_string(), message).at(rule.spot.clone());
    Some(fault.with_help(Some(help.to_owned())))
}

/// Whether a rule is in force at all.
pub(crate) fn is_in_force(rule: &Rule) -> bool {
    rule.mode > Mode::Off
}
