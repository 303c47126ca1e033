//! Nothing that could be used is told: neither in the journal, nor in a file of any format, nor in what the program says of itself,
//! whatever clients do.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::sinks::{Receivers, TOKEN};
use super::world::{Guard, LOGGED_IN, WRONG, World};
use crate::support::stored::free_port;
use crate::support::wire::Wire;

const FORMATS: [&str; 6] = ["json", "human", "ecs", "ocsf", "cef", "syslog"];
const HOOK_SECRET: &str = "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
const CHROME: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";
/// Files of the operator that hold secrets by what they are for.
const HOLD_SECRETS: [&str; 4] = ["keys.toml", "portcullis.toml", "token", "admin.token"];
/// What an attack is told as, and what operators do.
const KINDS: [&str; 16] = [
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
    "http.malformed",
    "method.blocked",
    "config.insecure_transport",
    "login.failed",
    "login.subject_unclear",
    "admin.action",
];

/// What must not be told, as it comes to light.
struct Secrets(BTreeSet<String>);

impl Secrets {
    /// Sends something, and keeps every cookie that the guard gives for it: ids and tags, each by itself.
    fn send(&mut self, guard: &Guard, request: &str) {
        let reply = Wire::connect(guard.address).send(request).reply();
        for line in reply.all("set-cookie") {
            let value = line.split(';').next().unwrap().split_once('=').unwrap().1;
            self.0.extend(value.split('.').filter(|part| part.len() > 20).map(str::to_owned));
        }
    }

    /// A request of a client, and what it sends beside.
    fn ask(&mut self, guard: &Guard, target: &str, agent: &str, lines: &[String]) {
        let more: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        self.send(guard, &format!("GET {target} HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n{more}\r\n"));
    }
}

/// Everything that attackers try with what they have, and what they make up.
fn attack(world: &World, guard: &Guard, cookie: &str, secrets: &mut Secrets) {
    let mut asks =
        |guard: &Guard, target: &str, agent: &str, lines: &[String]| secrets.ask(guard, target, agent, lines);
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
        secrets.send(guard, &request);
    }
    for _ in 0..3 {
        let (_, cookie) = world.tries(guard, WRONG);
        secrets.0.extend(cookie.iter().flat_map(|cookie| cookie.split('.')).map(str::to_owned));
    }
    let words = ["query", "planted", "tail", "header", "body", "second-factor"];
    secrets.0.extend(words.map(|word| format!("of-the-{word}")));
}

/// Every file in a folder and below it, as far as it was written by the guard for somebody to read.
fn written(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            written(&entry, found);
        } else if entry.is_file() && entry.file_name().is_none_or(|name| !HOLD_SECRETS.iter().any(|own| name == *own)) {
            found.push((entry.display().to_string(), String::from_utf8_lossy(&fs::read(&entry).unwrap()).into_owned()));
        }
    }
}

/// An operator at that port, and somebody there who guesses: what both show is secret. Gives what they were told, and
/// what the command line says.
fn operate(world: &World, guard: &Guard, port: u16, secrets: &mut Secrets) -> Vec<(String, String)> {
    // Whatever became of the sessions before, there is one to tell of.
    let (status, cookie) = world.tries(guard, LOGGED_IN);
    assert_eq!(status, 303);
    secrets.0.extend(cookie.expect("a cookie of the guard").split('.').map(str::to_owned));
    let token = fs::read_to_string(world.folder().join("portcullis-data/admin.token")).unwrap().trim_end().to_owned();
    let guess = format!("of-the-guess-{}", "A".repeat(token.len()));
    let ask = |shown: &str, status: u16| {
        let head = format!("Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {shown}\r\n");
        let request = format!("GET /v1/sessions?subject=alice HTTP/1.1\r\n{head}\r\n");
        let reply = Wire::connect(SocketAddr::from(([127, 0, 0, 1], port))).send(request).reply();
        assert_eq!(reply.status, status, "{}", reply.text());
        ("an answer to an operator".to_owned(), format!("{}{}", reply.head, reply.text()))
    };
    let answers = [ask(&token, 200), ask(&guess, 401)];
    assert!(answers[0].1.contains("alice"), "{}", answers[0].1);
    let (code, out, err) = world.runs(&["sessions", "list"]);
    assert!(code == 0 && out.contains("alice"), "{out}{err}");
    secrets.0.extend([token, guess]);
    answers.into_iter().chain([("the command line".to_owned(), out + &err)]).collect()
}

#[test]
fn nothing_that_could_be_used_is_told_in_any_format_whatever_clients_do() {
    let world = World::new();
    let sinks: String = FORMATS
        .iter()
        .map(|format| format!("[[events.sink]]\nname = \"{format}\"\ntype = \"file\"\npath = \"{format}.log\"\nformat = \"{format}\"\n"))
        .collect();
    let (receivers, admin) = (Receivers::listen(world.folder()), free_port());
    let journal = "journal = { path = \"data/events.jsonl\", sync = \"0s\" }\n";
    world.configure_with(&format!("127.0.0.1:{admin}"), &format!("{journal}{}{sinks}", receivers.sinks));
    world.without_limits();
    let mut guard = world.start_with_all(&[("PORTCULLIS_LOG", "trace"), ("HOOK_SECRET", HOOK_SECRET)]);
    // What sinks show or sign with: the key of the webhook is secret without the word before it too.
    let of_sinks = [HOOK_SECRET, HOOK_SECRET.trim_start_matches("whsec_"), TOKEN].map(str::to_owned);
    let mut secrets = Secrets(world.secrets().into_iter().chain(of_sinks).collect());
    for _ in 0..2 {
        let (status, cookie) = world.tries(&guard, LOGGED_IN);
        assert_eq!(status, 303);
        let cookie = cookie.expect("a cookie of the guard");
        attack(&world, &guard, &cookie, &mut secrets);
        secrets.0.extend(cookie.split('.').map(str::to_owned));
    }
    let mut outputs = operate(&world, &guard, admin, &mut secrets);
    assert!(guard.process.terminate().success());
    written(world.folder(), &mut outputs);
    let complaints = guard.process.complaints();
    assert!(complaints.contains("DEBUG"), "it says all that it can: {complaints}");
    outputs.extend(receivers.everything().into_iter().map(|text| ("a receiver".to_owned(), text)));
    outputs.push(("standard output".to_owned(), guard.process.lines().join("\n")));
    // It was an attack, and each output has all of it.
    let kinds: BTreeSet<String> = world.events().into_iter().map(|(_, kind)| kind).collect();
    for kind in KINDS {
        assert!(kinds.contains(kind), "{kind} in {kinds:?}");
    }
    for format in FORMATS {
        let (_, text) = outputs.iter().find(|(name, _)| name.ends_with(&format!("{format}.log"))).unwrap();
        assert!(text.contains("session.hijack_suspected"), "{format}");
    }
    assert!(outputs.len() > FORMATS.len() + 6, "{:?}", outputs.iter().map(|(name, _)| name).collect::<Vec<_>>());
    assert!(secrets.0.len() > 16, "{:?}", secrets.0);
    for secret in &secrets.0 {
        for (name, text) in &outputs {
            assert!(!text.contains(secret.as_str()), "{secret} in {name}");
        }
    }
}
