//! The table of all keys of `portcullis.toml` and the schema that is made of it, against the reader that does the reading.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis::clock::Timestamp;
use portcullis::config::reference::{Fallback, Key, Kind, TABLES, Table};
use portcullis::config::resolve::{Input, Overrides, Resolved, resolve};
use portcullis::config::{Fault, Faults, Preset, schema};
use serde_json::Value;

use super::support::json_schema::{faults, faults_of_toml};

/// 2026-11-21
const NOW: Timestamp = Timestamp::from_secs(1_795_257_972);

fn read(text: &str) -> Result<Resolved, Faults> {
    // The app may be named on the command line, so no file needs to.
    let overrides = Overrides { upstream: Some("unix:/x".parse().unwrap()), ..Overrides::default() };
    let file = Some((Path::new("portcullis.toml"), text));
    resolve(&Input { file, overrides: Some(&overrides), ..Input::default() }, NOW)
}

/// What the reader has against a text.
fn reader(text: &str) -> Vec<Fault> {
    read(text).err().map(|faults| faults.0).unwrap_or_default()
}

// A file for every key -----------------------------------------------------------------------------------------------

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A good value of some kind, as it is written.
fn good(kind: Kind, path: &str) -> String {
    match kind {
        Kind::Version | Kind::Points | Kind::Factor => "1".to_owned(),
        Kind::Flag => "true".to_owned(),
        Kind::Whole(min, _) => min.to_string(),
        Kind::Size(min, _) => format!("\"{min}B\""),
        Kind::Duration | Kind::Time => "\"30m\"".to_owned(),
        Kind::Rate => "\"10/1m burst 3\"".to_owned(),
        Kind::Word(words) => quoted(words[0]),
        Kind::Text(form) => quoted(form.example),
        Kind::Path => "\"some/where\"".to_owned(),
        Kind::Date => "2027-01-01".to_owned(),
        Kind::List(entry) | Kind::OneOrList(entry) | Kind::OneOrMore(entry) => format!("[{}]", good(*entry, path)),
        Kind::Table | Kind::TableOrOff => format!("{{ {} }}", required(path, "").join(", ")),
        Kind::Tables => format!("[{{ {} }}]", required(path, "").join(", ")),
        Kind::NamesOrTables(name) => format!("[{}]", quoted(name.example)),
        Kind::PathsOrTables => "[\"some/where\"]".to_owned(),
    }
}

/// What a table must have besides a key.
fn required(path: &str, besides: &str) -> Vec<String> {
    let Some(table) = Table::find(path) else { panic!("[{path}] is in no table") };
    let needs = |key: &&Key| key.name != besides && matches!(key.fallback, Fallback::Required);
    let mut all: Vec<String> = table
        .keys
        .iter()
        .filter(needs)
        .map(|key| format!("{} = {}", key.name, good(key.kind, &table.path_of(key))))
        .collect();
    match path {
        // Those that send to other programs read it.
        "events" if besides == "sink" => all.push("journal = { path = \"elsewhere\" }".to_owned()),
        "events.sink" => all.extend(kind_with(besides).iter().map(|key| (*key).to_owned())),
        _ => {}
    }
    if path == "events.sink" && all.iter().filter(|line| line.starts_with("type")).count() > 1 {
        all.remove(0);
    }
    all
}

/// A kind of sink that has a key, with what else it must have.
fn kind_with(key: &str) -> &'static [&'static str] {
    const URL: &str = "url = \"https://logs.example.net/\"";
    const SERVERS: &str = "servers = [\"tls://logs.example.net\"]";
    const TOPIC: &str = "topic = \"portcullis\"";
    const SUBJECT: &str = "subject = \"portcullis\"";
    const PASSWORD: &str = "auth_env = \"PASSWORD\"";
    match key {
        "path" => &["type = \"file\""],
        "address" => &["type = \"syslog\""],
        "facility" => &["type = \"syslog\"", "address = \"tcp://logs.example.net\""],
        "url" => &["type = \"loki\""],
        "servers" => &["type = \"nats\"", SUBJECT],
        "subject" => &["type = \"nats\"", SERVERS],
        "topic" => &["type = \"kafka\"", SERVERS],
        "mechanism" => &["type = \"kafka\"", SERVERS, TOPIC, "user = \"portcullis\"", PASSWORD],
        "user" => &["type = \"nats\"", SERVERS, SUBJECT, PASSWORD],
        "secret_env" | "secret_file" => &["type = \"webhook\"", URL],
        "cert" => &["type = \"loki\"", URL, "key = \"some/where\""],
        "key" => &["type = \"loki\"", URL, "cert = \"some/where\""],
        "auth_env" | "auth_file" | "allow_private" | "labels" | "tenant" | "ca" | "fingerprint" | "batch"
        | "timeout" => &["type = \"loki\"", URL],
        _ => &[],
    }
}

/// A file in which `line`, which is about `key`, stands in a table, with all that must be around it.
fn file_with(path: &str, key: &str, line: &str) -> String {
    if path.is_empty() {
        return format!("{line}\n");
    }
    let mut inside = required(path, key);
    inside.extend((!line.is_empty()).then(|| line.to_owned()));
    let inside = inside.join(", ");
    let (above, name) = path.rsplit_once('.').unwrap_or(("", path));
    let is_so = |key: &&Key| key.name == name;
    let value = match Table::find(above).unwrap().keys.iter().find(is_so).unwrap().kind {
        Kind::Table | Kind::TableOrOff => format!("{{ {inside} }}"),
        Kind::Tables | Kind::NamesOrTables(_) | Kind::PathsOrTables => format!("[{{ {inside} }}]"),
        other => panic!("{path} is {other:?}"),
    };
    file_with(above, name, &format!("{name} = {value}"))
}

/// The part of the schema that is for a table.
fn part(path: &str) -> Value {
    let mut part = schema();
    for name in path.split('.').filter(|name| !name.is_empty()) {
        part = part["properties"][name].take();
        if part["items"].is_object() {
            part = part["items"].take();
        }
        if let Some(any) = part["anyOf"].as_array() {
            part = any.iter().find(|one| one["type"] == "object").unwrap().clone();
        }
    }
    part
}

fn every_key() -> impl Iterator<Item = (&'static Table, &'static Key)> {
    let all = TABLES.iter().flat_map(|table| table.keys.iter().map(move |key| (table, key)));
    all.filter(|(table, key)| is_built(&table.path_of(key)))
}

/// Whether what a key is for is in this program.
fn is_built(path: &str) -> bool {
    let (has_nats, has_kafka) = (cfg!(feature = "nats"), cfg!(feature = "kafka"));
    match path.strip_prefix("events.sink.") {
        Some("servers" | "subject" | "user") => has_nats,
        Some("topic" | "mechanism") => has_kafka,
        _ => true,
    }
}

// Keys ---------------------------------------------------------------------------------------------------------------

/// The keys that the reader knows in a table: it names them when it finds another.
fn known(path: &str) -> BTreeSet<String> {
    let faults = reader(&file_with(path, "unheard_of", "unheard_of = 1"));
    let fault = faults.iter().find(|fault| fault.message.starts_with("`unheard_of`")).unwrap();
    let known = fault.help.as_deref().and_then(|help| help.strip_prefix("known here: ")).unwrap();
    known.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_schema_has_the_keys_that_the_reader_takes_and_no_other() {
    for table in TABLES {
        let listed: BTreeSet<String> = table.keys.iter().map(|key| key.name.to_owned()).collect();
        assert_eq!(listed.len(), table.keys.len(), "[{}] has a key twice", table.path);
        assert_eq!(listed, known(table.path), "[{}]", table.path);
        let part = part(table.path);
        let told: BTreeSet<String> = part["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(told, listed, "[{}] in the schema", table.path);
        assert_eq!(part["additionalProperties"], Value::from(false), "[{}]", table.path);
    }
    // Each inner table is listed, and each that is listed is inside of one.
    let is_table = |key: &Key| {
        matches!(key.kind, Kind::Table | Kind::Tables | Kind::TableOrOff | Kind::NamesOrTables(_) | Kind::PathsOrTables)
    };
    let inner: BTreeSet<String> =
        every_key().filter(|(_, key)| is_table(key)).map(|(table, key)| table.path_of(key)).collect();
    let listed: BTreeSet<String> = TABLES.iter().skip(1).map(|table| table.path.to_owned()).collect();
    assert_eq!(inner, listed);
    assert!(every_key().count() >= 130);
}

#[test]
fn a_key_is_required_where_the_reader_misses_it() {
    for (table, key) in every_key() {
        let empty = file_with(table.path, key.name, "");
        let missing = format!("`{}` is missing", key.name);
        let is_missed = reader(&empty).iter().any(|fault| fault.message == missing);
        let path = table.path_of(key);
        // Of this and `secret_env` one is enough, and that one is asked for.
        if path == "events.sink.secret_file" {
            continue;
        }
        let of_sinks = ["path", "address", "url", "secret_env", "cert", "key", "servers", "topic", "subject"];
        let is_of_sink = path.strip_prefix("events.sink.").is_some_and(|key| of_sinks.contains(&key));
        let is_required = matches!(key.fallback, Fallback::Required) || is_of_sink;
        assert_eq!(is_missed, is_required, "{}: {empty}", table.path_of(key));
        assert_eq!(!faults_of_toml(&schema(), &empty).is_empty(), is_required, "{}", table.path_of(key));
    }
}

// Values -------------------------------------------------------------------------------------------------------------

/// Values of all kinds: right for some keys, wrong for most.
const VALUES: &[&str] = &[
    "true",
    "false",
    "0",
    "1",
    "2",
    "-1",
    "8",
    "100",
    "302",
    "99",
    "599",
    "600",
    "1000",
    "0x10",
    "1000001",
    "0.5",
    "0.001",
    "1.0",
    "1.5",
    "2027-01-01",
    "2027-01-01T08:00:00Z",
    "2027-01-01T08:00:00",
    "08:00:00",
    "\"\"",
    "\"x\"",
    "\"off\"",
    "\"on\"",
    "\"30\"",
    "\"30m\"",
    "\"30 m\"",
    "\"0s\"",
    "\"00ms\"",
    "\"1w\"",
    "\"1.5h\"",
    "\"-1s\"",
    "\"1h30m\"",
    "\"64KiB\"",
    "\"64\"",
    "\"64kib\"",
    "\"1KB\"",
    "\"1000GiB\"",
    "\"10/1m\"",
    "\"10/1m burst 3\"",
    "\" 10/1m  burst 3 \"",
    "\"0/1m\"",
    "\"10/0s\"",
    "\"10/1m burst\"",
    "\"1000000/1s\"",
    "\"1000001/1s\"",
    "\"10 per minute\"",
    "\"10/1m bust 3\"",
    "\"/login\"",
    "\"POST /login\"",
    "\"post /login\"",
    "\"POST  /login\"",
    "\"PSOT /login\"",
    "\"login\"",
    "\"/a/**\"",
    "\"127.0.0.1:80\"",
    "\"[::1]:80\"",
    "\"localhost:80\"",
    "\"127.0.0.1\"",
    "\":80\"",
    "\"10.0.0.0/8\"",
    "\"10.0.0.0/33x\"",
    "\"fd00::/8\"",
    "\"http://app:8000\"",
    "\"https://app/\"",
    "\"HTTP://app\"",
    "\"http://app/x\"",
    "\"http://u@app\"",
    "\"app:8000\"",
    "\"unix:/x\"",
    "\"unix:x\"",
    "\"unix:\"",
    "\"sessionid\"",
    "\"remember_*\"",
    "\"a*b\"",
    "\"a b\"",
    "\"*\"",
    "\"example.com\"",
    "\"form:username\"",
    "\"form:\"",
    "\"json:/name\"",
    "\"json:name\"",
    "\"header:X-Name\"",
    "\"header:a b\"",
    "\"none\"",
    "\"deny\"",
    "\"app\"",
    "\"enforce\"",
    "\"baseline@1\"",
    "\"baseline\"",
    "[]",
    "[1]",
    "[true]",
    "[\"x\"]",
    "[\"\"]",
    "[302]",
    "[302, \"303\"]",
    "[99]",
    "[\"/a\"]",
    "[\"10.0.0.0/8\"]",
    "[\"sessionid\", \"a b\"]",
    "[\"sessionid\"]",
    "[\"baseline@1\"]",
    "[\"baseline@1\", \"basline@1\"]",
    "[\"http://a\", \"http://b\"]",
    "{}",
    "{ x = 1 }",
    "[{}]",
    "[{ x = 1 }]",
    "[{ name = \"a\" }]",
    "[{ name = \"a\", kind = \"state\" }]",
    "[{ name = \"a\", kind = \"stat\" }]",
];

/// Those, and what is right or just no longer right for one key.
fn values(kind: Kind, path: &str) -> Vec<String> {
    let mut all: Vec<String> = VALUES.iter().map(|value| (*value).to_owned()).collect();
    all.push(good(kind, path));
    match kind {
        Kind::Whole(min, max) => {
            all.extend([min, max, max + 1, min.saturating_sub(1)].map(|number| number.to_string()))
        }
        Kind::Points => all.extend(["20", "35", "60", "1000000", "1000001"].map(str::to_owned)),
        Kind::Size(min, max) => all.extend([min, max].map(|size| format!("\"{size}B\""))),
        Kind::Word(words) => all.extend(words.iter().map(|word| quoted(word))),
        Kind::OneOrList(one) | Kind::OneOrMore(one) => all.push(good(*one, path)),
        _ => {}
    }
    all
}

/// What only `check` can tell: the keys whose good values depend on others, or that have more to them than a pattern says.
fn is_for_check(kind: Kind, path: &str) -> bool {
    let depends = [
        "listen.proxy_protocol",
        "store.kind",
        "session.cookie",
        "session.same_site",
        "login.limit.delay_max",
        "admin.address",
    ];
    let is_loose = match kind {
        Kind::List(one) | Kind::OneOrList(one) | Kind::OneOrMore(one) => matches!(one, Kind::Text(_)),
        Kind::Text(_) | Kind::Size(..) | Kind::Rate | Kind::Date | Kind::NamesOrTables(_) => true,
        _ => false,
    };
    is_loose || depends.contains(&path) || path.starts_with("rules.risk.")
}

/// Whether a value is a date, which a schema can not tell from a text.
fn is_date(value: &str) -> bool {
    value.starts_with(|first: char| first.is_ascii_digit()) && value.contains(['-', ':'])
}

#[test]
fn the_schema_refuses_what_the_reader_refuses_and_nothing_else() {
    let schema = schema();
    let mut count = (0, 0);
    for (table, key) in every_key() {
        let path = table.path_of(key);
        let (mut taken, mut refused) = (0, 0);
        for value in values(key.kind, &path) {
            let text = file_with(table.path, key.name, &format!("{} = {value}", key.name));
            let (reader, schema) = (reader(&text), faults_of_toml(&schema, &text));
            match (reader.is_empty(), schema.is_empty()) {
                (true, true) => taken += 1,
                (false, false) => refused += 1,
                (true, false) => panic!("{path} = {value} is good, and the schema says {schema:?}"),
                (false, true) => {
                    let known = is_date(&value) || is_for_check(key.kind, &path);
                    assert!(known, "{path} = {value} passes the schema: {}", reader[0]);
                }
            }
        }
        assert!(refused > 0, "{path}: the schema takes everything");
        assert!(taken > 0, "{path}: nothing is good");
        count = (count.0 + taken, count.1 + refused);
    }
    assert!(count.0 >= 1000 && count.1 >= 10_000, "{count:?}");
}

/// The words in a message of the reader: `expected one of "a", "b"`.
fn words_in(faults: &[Fault]) -> Option<BTreeSet<String>> {
    let words = faults.iter().find_map(|fault| fault.message.strip_prefix("expected one of "))?;
    Some(words.split(", ").map(|word| word.trim_matches('"').to_owned()).collect())
}

#[test]
fn the_words_are_those_that_the_reader_knows() {
    let mut count = 0;
    for (table, key) in every_key() {
        let (words, value) = match key.kind {
            Kind::Word(words) => (words, "\"?\""),
            Kind::List(Kind::Word(words)) => (*words, "[\"?\"]"),
            _ => continue,
        };
        let faults = reader(&file_with(table.path, key.name, &format!("{} = {value}", key.name)));
        let expected: BTreeSet<String> = words.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(words_in(&faults), Some(expected), "{}", table.path_of(key));
        count += 1;
    }
    assert!(count >= 20, "{count}");
}

#[test]
fn writing_a_default_down_changes_nothing() {
    let mut count = 0;
    for (table, key) in every_key() {
        let Fallback::Value(value) = key.fallback else { continue };
        let path = table.path_of(key);
        // In the schema a default is of the type that it has in the file.
        let in_schema = part(table.path)["properties"][key.name]["default"].take();
        let property = part(table.path)["properties"][key.name].take();
        assert_eq!(faults(&property, &in_schema), Vec::<String>::new(), "{path}");
        let written = if in_schema.is_string() { quoted(value) } else { value.to_owned() };
        let with = file_with(table.path, key.name, &format!("{} = {written}", key.name));
        let without = file_with(table.path, key.name, "");
        let settings = |text: &str| format!("{:?}", read(text).unwrap_or_else(|faults| panic!("{faults}")).settings);
        assert_eq!(settings(&with), settings(&without), "{path} = {written}");
        count += 1;
    }
    assert!(count >= 60, "{count}");
}

// Whole files --------------------------------------------------------------------------------------------------------

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Examples of the documents, with the place of each.
fn examples() -> Vec<(String, String)> {
    let mut pages = files("src/manual");
    pages.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    pages.extend(["README.md", "rules/README.md", "contrib/README.md"].map(|page| root().join(page)));
    let mut examples = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for block in text.split("\n```toml\n").skip(1) {
            let block = block.split("\n```").next().unwrap();
            examples.push((format!("{} {block}", page.display()), block.to_owned()));
        }
    }
    assert!(examples.len() >= 12, "{}", examples.len());
    examples
}

/// What `init` writes for a preset, and the same with every setting in a comment switched on.
fn written_by_init(preset: Option<Preset>) -> [(String, String); 2] {
    let folder = tempfile::tempdir().unwrap();
    let mut init = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    init.arg("init").arg(folder.path()).args(preset.map(|preset| format!("--preset={preset}")));
    assert!(init.output().unwrap().status.success());
    let text = fs::read_to_string(folder.path().join("portcullis.toml")).unwrap();
    assert!(text.starts_with("#:schema ./schema/portcullis.json\n"), "{text}");
    let there: Value =
        serde_json::from_slice(&fs::read(folder.path().join("schema/portcullis.json")).unwrap()).unwrap();
    assert_eq!(there, schema());
    let on = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with([' ', ':']) => format!("{setting}\n"),
        _ => format!("{line}\n"),
    };
    let all: String = text.lines().map(on).collect();
    assert!(all.contains("\nheader_timeout = \"10s\""), "{all}");
    [(format!("init {preset:?}"), text), (format!("init {preset:?}, all switched on"), all)]
}

/// Configurations that others of our tests read, whether they are good or not.
fn tested() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for path in files("tests/fuzz/seeds/config") {
        all.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
    }
    let mistakes = fs::read_to_string(root().join("tests/data/config/mistakes.txt")).unwrap();
    for block in mistakes.split("\n====\n").map(str::trim).filter(|block| !block.is_empty()) {
        let (text, _) = block.split_once("\n--\n").unwrap();
        all.push((text.to_owned(), text.to_owned()));
    }
    all
}

#[test]
fn every_good_configuration_passes_the_schema() {
    let schema = schema();
    let mut all = examples();
    for preset in Preset::ALL {
        all.push((format!("preset {preset}"), preset.text().to_owned()));
        all.extend(written_by_init(Some(preset)));
    }
    all.extend(written_by_init(None));
    all.extend(tested().into_iter().filter(|(_, text)| reader(text).is_empty()));
    for (name, text) in &all {
        assert_eq!(faults_of_toml(&schema, text), Vec::<String>::new(), "{name}");
    }
    assert!(all.len() >= 60, "{}", all.len());
}

/// A fault of the kind that one line shows is shown in the editor; what is left to `check` is what lines mean together.
#[test]
fn most_mistakes_of_the_reader_are_seen_by_the_schema() {
    let schema = schema();
    let is_toml = |text: &str| toml::de::DeTable::parse(text).is_ok();
    let bad = tested().into_iter().filter(|(_, text)| is_toml(text) && !reader(text).is_empty());
    let (seen, unseen): (Vec<_>, Vec<_>) = bad.partition(|(_, text)| !faults_of_toml(&schema, text).is_empty());
    assert!(seen.len() >= 45 && unseen.len() * 3 < seen.len(), "{} {}: {unseen:#?}", seen.len(), unseen.len());
}

#[test]
fn a_mistake_is_shown_where_it_stands() {
    let schema = schema();
    let check = |text: &str, expected: &[&str]| {
        assert!(!reader(text).is_empty(), "{text}");
        assert_eq!(faults_of_toml(&schema, text), expected, "{text}");
    };
    check("[session]\nidle = 30", &["session.idle type"]);
    check("[session]\nidle = \"30\"", &["session.idle pattern"]);
    check("[session]\nidle = \"0m\"", &["session.idle pattern"]);
    check("[session]\nidel = \"30m\"", &["session additionalProperties"]);
    check("[sesion]\nidle = \"30m\"", &[" additionalProperties"]);
    check("version = 2", &["version const"]);
    check("[session]\nsame_site = \"Lax\"", &["session.same_site enum"]);
    check("[session]\nshield = [{ nmae = \"a\" }]", &["session.shield[0] anyOf"]);
    check("[limits]\nclient = \"100/s\"", &["limits.client pattern"]);
    check("[client]\nheader_bytes_max = 32768", &["client.header_bytes_max type"]);
    check("[client]\nheaders_max = 7", &["client.headers_max minimum"]);
    check("listen = { address = \"127.0.0.1:1\" }", &["listen type"]);
    check("[[listen]]\nhttp2 = true", &["listen[0] required"]);
    check("[[listen]]\naddress = \"localhost:80\"", &["listen[0].address pattern"]);
    check("[[route]]\npath = \"/\"\n[[route]]\npath = \"a\"", &["route[1].path pattern"]);
    check("[[login]]\nroute = \"/in\"\nsuccess = { status = [] }", &["login[0].success.status anyOf"]);
    check("[[login]]\nroute = \"/in\"\nlimit = \"of\"", &["login[0].limit anyOf"]);
    check("[rules]\npacks = [\"baseline\"]", &["rules.packs[0] enum"]);
    check("[rules.risk]\nsensitive_factor = 2", &["rules.risk.sensitive_factor maximum"]);
    check("[events]\njournal = { chain = true }", &["events.journal required"]);
    check("[[events.sink]]\ntype = \"file\"", &["events.sink[0] required"]);
    check("[[events.sink]]\ntype = \"stdout\"\npath = \"x\"", &["events.sink[0] not"]);
}

#[test]
fn every_key_tells_what_it_is() {
    for (table, key) in every_key() {
        let property = part(table.path)["properties"][key.name].take();
        let about = property["description"].as_str().unwrap();
        let path = table.path_of(key);
        assert!(about.len() > 10 && about.ends_with('.') && !about.contains(".."), "{path}: {about}");
        assert!(!about.starts_with(|first: char| first.is_ascii_lowercase()), "{path}: {about}");
        // An editor has no page around it, and no table below.
        assert!(!about.contains("see below") && !about.contains("see `["), "{path}: {about}");
    }
}

#[test]
fn the_program_writes_all_three_schemas() {
    for (words, title) in [
        (&["schema"][..], "Rules of Portcullis"),
        (&["schema", "rules"], "Rules of Portcullis"),
        (&["schema", "scenarios"], "Scenarios of Portcullis"),
        (&["schema", "config"], "Configuration of Portcullis"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).args(words).output().unwrap();
        let written: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(written["title"], title, "{words:?}");
    }
}
