//! The page of all fields, made from the table of the scheme; and what the table tells of each field, tried.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use portcullis::clock::Timestamp;
use portcullis::rules::load::{Input, RulesText, compile};
use portcullis::rules::scheme::{Described, Field, Type};
use portcullis::scenario::Scenarios;

/// 2026-11-21
const NOW: Timestamp = Timestamp::from_secs(1_795_257_972);

const HEAD: &str = "\
# Fields: what rules may read

Every field of the conditions in rules files, by group. How conditions are written stands in `rules/README.md`;
`portcullis fields` prints them too, and editors show them by the schema of rules. The page is made from the table in
`src/rules/scheme.rs`.

A field is known from its phase on, and a rule runs in the latest phase of the fields that it reads:

| Phase | Known |
|---|---|
| client | from the request alone, before the store is asked |
| session | with the session |
| risk | when the points are added up |
| response | with the answer of the app |

Where a field is unknown, no comparison with it is true, neither `==` nor `!=`; `known(...)` asks for that, and
`unknown = \"fire\"` turns it round for one rule. A duration is written with its unit: `250ms`, `90s`, `5m`, `8h`, `2d`, `1w`. A
string that can only be one of some words is checked when the rule is loaded.
";

/// What stands at the head of a group.
const GROUPS: &[(&str, &str)] = &[
    ("request", "The request itself."),
    ("client", "Who sent it, as far as address, databases and headers tell."),
    ("time", "The clock on the wall, in the zone of the file."),
    ("rate", "Requests within the last minute, counted in memory."),
    ("login", "Attempts to sign in, as `[[login]]` of the configuration knows them."),
    ("session", "The session that the request shows, if it is alive."),
    ("session.bound", "What the session is bound to: the client that logged in, or the first one if nobody did."),
    ("changed", "The client now against the one that the session is bound to."),
    ("risk", "The sum of all points."),
    ("response", "The answer of the app."),
    ("signal", "The points that a detector gives this request."),
];

/// The part of a name that it shares with others of its group.
fn group_of(name: &str) -> &str {
    let group = name.rsplit_once('.').map_or(name, |(group, _)| group);
    if group.starts_with("signal") { "signal" } else { group }
}

fn row(about: &Described) -> String {
    let unit = about.unit.map_or_else(String::new, |unit| format!(", {unit}"));
    let words: Vec<String> = about.words.iter().map(|word| format!("`{word}`")).collect();
    // A meaning that lists its words needs no second list.
    let is_listed = about.words.iter().all(|word| about.doc.contains(&format!("`{word}`")));
    let words = if words.is_empty() || is_listed { String::new() } else { format!(" One of {}.", words.join(", ")) };
    let cells = [
        format!("`{}`", about.name),
        format!("{}{unit}", about.kind.word()),
        about.phase.word().to_owned(),
        format!("{}{words}", about.doc),
        about.unknown.to_owned(),
        format!("`{}`", about.example),
    ];
    assert!(cells.iter().all(|cell| !cell.contains(['|', '\n'])), "{cells:?}");
    format!("| {} |\n", cells.join(" | "))
}

fn written() -> String {
    let mut groups: BTreeMap<String, String> = BTreeMap::new();
    for field in Field::all() {
        let about = field.describe();
        groups.entry(group_of(&about.name).to_owned()).or_default().push_str(&row(&about));
    }
    let mut page = HEAD.to_owned();
    for (group, about) in GROUPS {
        let rows = groups.remove(*group).unwrap_or_else(|| panic!("there is no field of {group}"));
        let names = if *group == "risk" { "risk".to_owned() } else { format!("{group}.*") };
        write!(page, "\n## `{names}`\n\n{about}\n\n| Field | Type | Phase | Meaning | Unknown | Example |\n").unwrap();
        write!(page, "|---|---|---|---|---|---|\n{rows}").unwrap();
    }
    assert_eq!(groups, BTreeMap::new(), "a group that the page does not have");
    page + HOST
}

const HOST: &str = "
## `facts.*`

What a host in Rust tells of its own, declared in `[facts]` of the file with a type: `bool`, `int`, `duration`, `string` or
`ip`. Such a field is known in the phase client, and unknown if the host does not tell it: `facts.plan == \"trial\"`.
";

/// With `PORTCULLIS_BLESS` set, the page is written anew instead.
#[test]
fn the_page_of_fields_is_the_table_of_the_scheme() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/manual/fields.md");
    let written = written();
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        fs::write(&path, written).unwrap();
        return;
    }
    let there = fs::read_to_string(&path).unwrap();
    for (there, written) in there.lines().zip(written.lines()) {
        assert_eq!(there, written);
    }
    assert_eq!(there, written);
}

/// What the rule of a field is called.
fn id_of(name: &str) -> String {
    name.replace('.', "-")
}

fn rules(condition: impl Fn(&Described) -> String) -> String {
    let mut text = "version = 1\nname = \"fields\"\n".to_owned();
    for about in Field::all().map(Field::describe) {
        let (id, when) = (id_of(&about.name), condition(&about));
        write!(text, "[[rule]]\nid = \"{id}\"\nwhen = '{when}'\nthen = \"observe\"\ntags = [\"{id}\"]\n").unwrap();
    }
    text
}

#[test]
fn every_example_of_a_field_is_a_condition_that_reads_it() {
    let text = rules(|about| {
        assert!(about.example.contains(&about.name), "{}: {}", about.name, about.example);
        about.example.clone()
    });
    let files = [RulesText { path: "fields.toml".into(), text }];
    let open = |_: &Path| Err(std::io::Error::other("no files"));
    let compiled = compile(&Input { packs: &[Vec::new()], files: &files, open: &open, now: NOW });
    let warnings = compiled.unwrap_or_else(|faults| panic!("{faults}")).warnings;
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn whole_numbers_have_a_unit_and_nothing_else_has() {
    for about in Field::all().map(Field::describe) {
        assert_eq!(about.unit.is_some(), about.kind == Type::Int, "{}", about.name);
    }
}

/// The fields that were known in some request of these scenarios.
fn known_in(scenarios: &str) -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("fields.toml"), rules(|about| format!("known({})", about.name))).unwrap();
    let path = folder.path().join("scenarios.toml");
    fs::write(&path, format!("version = 1\nrules = [\"fields.toml\"]\n{scenarios}")).unwrap();
    let loaded = Scenarios::load(&path, NOW).unwrap_or_else(|faults| panic!("{faults}"));
    let (played, coverage) = loaded.play().unwrap();
    for one in played {
        assert_eq!(one.failed, None, "{}", one.name);
    }
    let name_of = |id: &str| Field::all().map(|field| field.name(&[])).find(|name| id_of(name) == id).unwrap();
    let seen = coverage.iter().filter(|(_, covered)| covered.matched > 0);
    seen.map(|(rule, _)| name_of(rule.trim_start_matches("fields/"))).collect()
}

#[test]
fn a_field_is_unknown_when_its_row_says_so() {
    let bare = known_in(
        "[client.bare]\nip = \"203.0.113.10\"\nua = \"\"\nlanguages = \"\"\n\
         [[scenario]]\nname = \"bare\"\n[[scenario.step]]\nclient = \"bare\"\nsend = \"GET /\"\n\
         expect = { action = \"observe\" }\n",
    );
    let rich = known_in(
        "[[login]]\nroute = \"POST /login\"\nsubject = \"form:username\"\n[[route]]\npath = \"/account/**\"\n\
         [client.alice]\nip = \"203.0.113.10\"\nasn = 64500\ncountry = \"DE\"\ncity = \"Berlin\"\nnetwork = \"residential\"\n\
         ja4 = \"t13d1516h2_8daaf6152771_02713d6af862\"\n\
         [[scenario]]\nname = \"rich\"\n\
         [[scenario.step]]\nclient = \"alice\"\nsend = \"POST /login\"\nbody = \"username=alice\"\n\
         headers = { content-type = \"application/x-www-form-urlencoded\", content-length = \"14\", sec-fetch-site = \"same-origin\",\
         \x20origin = \"https://shop.example\" }\n\
         app = { status = 302, login = \"alice\" }\n\
         [[scenario.step]]\nafter = \"1m\"\nclient = \"alice\"\nsend = \"GET /account/orders\"\n\
         app = { headers = { content-type = \"text/html\" } }\nexpect = { action = \"observe\" }\n",
    );
    // They come with the connection, and no client of a scenario is without.
    let always_there = ["request.host", "client.http_version"];
    for about in Field::all().map(Field::describe) {
        let name = about.name.as_str();
        let is_always_known = about.unknown == "never" || always_there.contains(&name);
        assert_eq!(bare.contains(name), is_always_known, "{name}, of a client that tells nothing");
        assert_eq!(rich.contains(name), !about.unknown.starts_with("always"), "{name}, of a client that tells all");
    }
}
