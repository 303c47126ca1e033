//! Nothing that could be used is told: neither in the journal, nor in a file of any format, nor in what the program says of itself,
//! whatever clients do.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::world::{Guard, LOGGED_IN, WRONG, World};
use crate::support::wire::Wire;

const FORMATS: [&str; 6] = ["json", "human", "ecs", "ocsf", "cef", "syslog"];
const CHROME: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";

/// A client, and what it sends beside.
fn asks(guard: &Guard, target: &str, agent: &str, lines: &[String]) -> u16 {
    let more: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    Wire::connect(guard.address)
        .send(format!("GET {target} HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n{more}\r\n"))
        .reply()
        .status
}

/// Everything that attackers try with what they have, and what they make up.
fn attack(world: &World, guard: &Guard, cookie: &str) -> Vec<String> {
    let (id, tag) = cookie.split_once('.').unwrap();
    let ours = |value: &str| format!("Cookie: portcullis={value}");
    let made_up = |letter: &str| letter.repeat(43);
    let form = "user=alice&user=bob&password=of-the-password&otp=of-the-second-factor";
    let query = "/account?token=of-the-query&next=%2f";
    // A theft, a retired cookie, guesses, a forged tag, cookies that are there twice or look alike, cookies of the app.
    asks(guard, query, "curl/8.5.0", &[ours(cookie)]);
    asks(guard, query, CHROME, &[ours(&format!("{id}.{}", "A".repeat(tag.len())))]);
    for letter in ["A", "E", "I"] {
        asks(guard, query, CHROME, &[ours(&format!("{}.{tag}", made_up(letter)))]);
    }
    asks(guard, query, CHROME, &[format!("Cookie: portcullis={cookie}; portcullis={cookie}")]);
    asks(guard, query, CHROME, &[format!("Cookie: __host-portcullis={cookie}; Portcullis={cookie}")]);
    asks(guard, query, CHROME, &[format!("Cookie: $Version=1; portcullis=\"{cookie}\"")]);
    asks(guard, query, CHROME, &["Cookie: sessionid=of-the-planted; remember=of-the-planted".to_owned(), ours(cookie)]);
    asks(
        guard,
        query,
        CHROME,
        &[ours(&format!("{cookie}of-the-tail")), "Authorization: Bearer of-the-header".to_owned()],
    );
    // Headers of the guard, odd paths and methods, two lengths, a name that is there twice.
    asks(
        guard,
        query,
        CHROME,
        &["Portcullis-Subject: of-the-header".to_owned(), "X_Forwarded-For: of-the-header".to_owned()],
    );
    asks(guard, "/a/%2e%2e/login?of-the-query", CHROME, &[ours(cookie)]);
    for request in [
        format!("TRACE /?of-the-query HTTP/1.1\r\nHost: a\r\nCookie: portcullis={cookie}\r\n\r\n"),
        format!(
            "POST /?of-the-query HTTP/1.1\r\nHost: a\r\nCookie: portcullis={cookie}\r\nContent-Length: 5\r\n\
                 Transfer-Encoding: chunked\r\n\r\nof-the-body"
        ),
        format!("GET /?of-the-query HTTP/1.1\r\nHost: a\r\nHost: b\r\nCookie: portcullis={cookie}\r\n\r\n"),
        format!(
            "POST /login?of-the-query HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{form}",
            form.len()
        ),
    ] {
        Wire::connect(guard.address).send(request).reply();
    }
    for _ in 0..3 {
        world.logs_in(guard, WRONG);
    }
    ["query", "planted", "tail", "header", "body", "second-factor"].map(|word| format!("of-the-{word}")).to_vec()
}

/// Every file in a folder and below it, as far as it was written by the guard for somebody to read.
fn written(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            written(&entry, found);
        } else if entry.file_name().is_none_or(|name| name != "keys.toml" && name != "portcullis.toml") {
            found.push((entry.display().to_string(), String::from_utf8_lossy(&fs::read(&entry).unwrap()).into_owned()));
        }
    }
}

#[test]
fn nothing_that_could_be_used_is_told_in_any_format_whatever_clients_do() {
    let world = World::new();
    let sinks: String = FORMATS
        .iter()
        .map(|format| format!("[[events.sink]]\nname = \"{format}\"\ntype = \"file\"\npath = \"{format}.log\"\nformat = \"{format}\"\n"))
        .collect();
    world.configure(&format!(
        "journal = {{ path = \"data/events.jsonl\", sync = \"0s\" }}\n[[events.sink]]\ntype = \"stdout\"\n{sinks}"
    ));
    world.without_limits();
    let mut guard = world.start_with("PORTCULLIS_LOG", "trace");
    let mut secrets = world.secrets();
    for _ in 0..2 {
        let (status, cookie) = world.tries(&guard, LOGGED_IN);
        assert_eq!(status, 303);
        let cookie = cookie.expect("a cookie of the guard");
        secrets.extend(attack(&world, &guard, &cookie));
        secrets.extend(cookie.split('.').map(str::to_owned));
    }
    assert!(guard.process.terminate().success());
    let mut outputs = Vec::new();
    written(world.folder(), &mut outputs);
    let complaints = guard.process.complaints();
    assert!(complaints.contains("DEBUG"), "it says all that it can: {complaints}");
    outputs.push(("standard output".to_owned(), guard.process.lines().join("\n")));
    // It was an attack, and each output has all of it.
    let kinds: BTreeSet<String> = world.events().into_iter().map(|(_, kind)| kind).collect();
    for kind in [
        "session.hijack_suspected",
        "session.tag_forged",
        "session.unknown_id",
        "cookie.duplicate",
        "cookie.prefix_variant",
        "cookie.legacy_syntax",
        "cookie.shielded",
        "cookie.tampered",
        "header.spoofed",
        "http.smuggling",
        "login.failed",
        "login.subject_unclear",
    ] {
        assert!(kinds.contains(kind), "{kind} in {kinds:?}");
    }
    for format in FORMATS {
        let (_, text) = outputs.iter().find(|(name, _)| name.ends_with(&format!("{format}.log"))).unwrap();
        assert!(text.contains("session.hijack_suspected"), "{format}");
    }
    assert!(outputs.len() > FORMATS.len() + 3, "{:?}", outputs.iter().map(|(name, _)| name).collect::<Vec<_>>());
    for secret in &secrets {
        for (name, text) in &outputs {
            assert!(!text.contains(secret.as_str()), "{secret} in {name}");
        }
    }
}
