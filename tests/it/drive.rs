//! `portcullis drive`: any program can play clients against the engine, in virtual time.

use portcullis::config::resolve::{Input, resolve};
use portcullis::config::{Rulebook, Settings};
use portcullis::drive::START;
use portcullis::drive::protocol::Play;
use serde_json::{Value, json};

use crate::support::program::{Ended, program_reads};

fn settings(text: &str) -> (Settings, Rulebook) {
    let text = format!("[upstream]\nurl = \"http://127.0.0.1:9\"\n{text}");
    let input = Input { file: Some((std::path::Path::new("portcullis.toml"), &text)), ..Input::default() };
    let settings = resolve(&input, START).unwrap().settings;
    let rules = Rulebook::load(&settings, START).unwrap();
    (settings, rules)
}

/// A play with the shipped policy.
struct Stage(Play);

impl Stage {
    fn new() -> Self {
        let (settings, rules) = settings("");
        Self(Play::new(&settings, &rules, 1).unwrap())
    }

    fn tell(&mut self, line: &Value) -> Option<Value> {
        let answer = self.0.line(&line.to_string()).unwrap();
        answer.map(|answer| serde_json::from_str(&answer).unwrap())
    }

    fn asks(&mut self, who: &Client, t: f64, jar: &str, more: &[(&str, Value)]) -> Value {
        let mut line = json!({
            "op": "request", "t": t, "jar": jar, "ip": who.ip, "http": "2",
            "geo": { "asn": who.asn, "country": who.country, "kind": "residential" },
            "tls": { "core": who.tls }, "h2": who.h2,
            "headers": [["user-agent", who.agent], ["accept-encoding", "gzip"], ["accept-language", "de"]],
        });
        more.iter().for_each(|(key, value)| line[*key] = value.clone());
        self.tell(&line).unwrap()
    }

    fn logs_in(&mut self, who: &Client, t: f64, jar: &str) -> Value {
        self.asks(who, t, jar, &[("method", json!("POST")), ("response", json!({ "status": 302, "login": "alice" }))])
    }
}

struct Client {
    ip: &'static str,
    asn: u32,
    country: &'static str,
    tls: &'static str,
    h2: &'static str,
    agent: &'static str,
}

const CHROME: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36";
const BLINK: &str = "1:65536;2:0;4:6291456;6:262144|15663105|0|m,a,s,p";
const ALICE: Client =
    Client { ip: "203.0.113.10", asn: 3320, country: "DE", tls: "blink-13", h2: BLINK, agent: CHROME };
/// Her headers, in another program, from a line of another operator.
const THIEF: Client =
    Client { ip: "198.51.100.7", asn: 7922, tls: "go", h2: "2:0;4:4194304;6:10485760|1073741824|0|a,m,p,s", ..ALICE };

#[track_caller]
fn is(answer: &Value, action: &str, status: &str, subject: Option<&str>) {
    assert_eq!((&answer["action"], &answer["status"]), (&json!(action), &json!(status)), "{answer}");
    assert_eq!(answer["subject"].as_str(), subject, "{answer}");
    assert_eq!(answer["authenticated"], subject.is_some(), "{answer}");
}

#[test]
fn an_owner_is_served_through_rotations() {
    let mut stage = Stage::new();
    is(&stage.logs_in(&ALICE, 0.0, "a"), "allow", "none", None);
    let first = stage.asks(&ALICE, 10.0, "a", &[]);
    is(&first, "allow", "head", Some("alice"));
    assert_eq!((&first["n"], &first["risk"], &first["signals"]), (&json!(2), &json!(0.0), &json!([])));
    assert!(first["ref"].as_str().is_some_and(|name| !name.is_empty()) && first["reached_app"] == true);
    is(&stage.asks(&ALICE, 130.0, "a", &[]), "allow", "head", Some("alice"));
    is(&stage.asks(&ALICE, 140.0, "a", &[]), "allow", "successor", Some("alice"));
    assert_eq!(stage.asks(&ALICE, 150.0, "a", &[])["ref"], first["ref"]);
}

/// A browser has one connection of HTTP/2 at a time. Whoever comes back to one that was left is perhaps two.
#[test]
fn connections_that_take_turns_are_given_new_tags_sooner() {
    let comes = |connections: [Option<u64>; 4], version: &str| {
        let mut stage = Stage::new();
        let over = |connection: Option<u64>| [("connection", json!(connection)), ("http", json!(version))];
        stage.logs_in(&ALICE, 0.0, "a");
        let answers = [10.0, 20.0, 40.0, 50.0].into_iter().zip(connections).map(|(t, connection)| {
            let answer = stage.asks(&ALICE, t, "a", &over(connection));
            assert!(answer["signals"].as_array().unwrap().is_empty(), "it is no evidence: {answer}");
            answer["status"].as_str().unwrap().to_owned()
        });
        answers.last().unwrap()
    };
    assert_eq!(comes([Some(1), Some(2), Some(1), Some(1)], "2"), "successor");
    assert_eq!(comes([Some(1), Some(2), Some(3), Some(3)], "2"), "head", "it goes on to another one");
    assert_eq!(comes([Some(1), Some(1), Some(1), Some(1)], "2"), "head");
    assert_eq!(comes([Some(1), Some(2), Some(1), Some(1)], "1.1"), "head", "of these a browser has six");
    assert_eq!(comes([None; 4], "2"), "head");
}

#[test]
fn a_thief_with_all_headers_copied_is_told_with_every_sign() {
    let mut stage = Stage::new();
    stage.logs_in(&ALICE, 0.0, "a");
    assert!(stage.tell(&json!({"op": "copy", "t": 60, "from": "a", "to": "thief"})).is_none());
    let thief = stage.asks(&THIEF, 61.0, "thief", &[]);
    is(&thief, "quarantine", "head", None);
    let signals: Vec<(&str, f64)> = thief["signals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|signal| (signal["kind"].as_str().unwrap(), signal["points"].as_f64().unwrap()))
        .collect();
    let expected = [("device.tls", 45.0), ("device.http2", 9.0), ("network.asn", 10.0), ("interaction", 22.0)];
    assert_eq!(signals, expected);
    assert_eq!(thief["signals"][2], json!({"kind": "network.asn", "points": 10.0, "before": "3320", "after": "7922"}));
    assert!(thief["events"].as_array().unwrap().contains(&json!("session.hijack_suspected")));
    is(&stage.asks(&ALICE, 62.0, "a", &[]), "allow", "head", Some("alice"));
}

#[test]
fn two_jars_prove_themselves_and_time_decides_what_each_holds() {
    let mut stage = Stage::new();
    stage.logs_in(&ALICE, 0.0, "a");
    stage.asks(&ALICE, 1.0, "a", &[]);
    // What the jar held before the rotation of the second minute.
    stage.asks(&ALICE, 125.0, "a", &[]);
    is(&stage.asks(&ALICE, 126.0, "a", &[]), "allow", "successor", Some("alice"));
    stage.tell(&json!({"op": "copy", "t": 127, "from": "a", "to": "twin", "as_of": 100}));
    is(&stage.asks(&ALICE, 130.0, "twin", &[]), "allow", "grace", Some("alice"));
    is(&stage.asks(&ALICE, 190.0, "twin", &[]), "allow", "stale", Some("alice"));
    is(&stage.asks(&ALICE, 191.0, "twin", &[]), "allow", "successor", Some("alice"));
    is(&stage.asks(&ALICE, 250.0, "a", &[]), "allow", "grace", Some("alice"));
    let fork = stage.asks(&ALICE, 255.0, "a", &[]);
    is(&fork, "quarantine", "fork", None);
    assert!(fork["events"].as_array().unwrap().contains(&json!("session.tag_fork")));
}

/// They take turns, so that nobody's tag is ever much older than the other's. With a new tag for both at each turn they went on in
/// step for ever.
#[test]
fn an_owner_and_a_thief_elsewhere_who_take_turns_do_not_go_on_in_step() {
    let parrot = Client { tls: ALICE.tls, h2: ALICE.h2, ..THIEF };
    for (gap, within) in [(10.0, 300.0), (30.0, 300.0), (60.0, 600.0)] {
        let mut stage = Stage::new();
        stage.logs_in(&ALICE, 0.0, "a");
        stage.asks(&ALICE, 1.0, "a", &[]);
        stage.tell(&json!({"op": "copy", "t": 2, "from": "a", "to": "thief"}));
        let caught = (1..40).find(|turn| {
            let t = 2.0 + gap * f64::from(*turn);
            let thief = stage.asks(&parrot, t, "thief", &[]);
            let owner = stage.asks(&ALICE, t + gap / 2.0, "a", &[]);
            [thief, owner].iter().any(|answer| answer["action"] != "allow" && answer["action"] != "observe")
        });
        assert!(caught.is_some_and(|turn| f64::from(turn) * gap <= within), "{gap} s: {caught:?}");
    }
}

#[test]
fn cookies_arrive_late_get_lost_and_are_rolled_back() {
    let mut stage = Stage::new();
    stage.logs_in(&ALICE, 0.0, "a");
    let slow = [("latency", json!(5.0))];
    stage.asks(&ALICE, 125.0, "a", &slow);
    is(&stage.asks(&ALICE, 129.0, "a", &[("keep_cookie", json!(false))]), "allow", "head", Some("alice"));
    is(&stage.asks(&ALICE, 131.0, "a", &[]), "allow", "successor", Some("alice"));
    stage.tell(&json!({"op": "rollback", "t": 132, "jar": "a", "as_of": 120}));
    is(&stage.asks(&ALICE, 133.0, "a", &[]), "allow", "grace", Some("alice"));
    stage.tell(&json!({"op": "drop", "t": 134, "jar": "a"}));
    is(&stage.asks(&ALICE, 135.0, "a", &[]), "allow", "none", None);
}

#[test]
fn the_app_sees_its_cookies_and_the_client_does_not() {
    let mut stage = Stage::new();
    let sets = json!({"set_cookie": ["sessionid=abc; Path=/", "theme=dark; Path=/"]});
    stage.asks(&ALICE, 0.0, "a", &[("response", sets)]);
    let page = stage.asks(&ALICE, 1.0, "a", &[]);
    let mut seen: Vec<&str> = page["app_cookies"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    seen.sort_unstable();
    assert_eq!(seen, ["sessionid", "theme"]);
    stage.logs_in(&ALICE, 2.0, "a");
    let out = json!({"status": 302, "logout": true});
    is(&stage.asks(&ALICE, 3.0, "a", &[("response", out)]), "allow", "head", Some("alice"));
    is(&stage.asks(&ALICE, 4.0, "a", &[]), "allow", "none", None);
}

#[test]
fn what_can_not_be_done_is_told_and_changes_nothing() {
    let mut stage = Stage::new();
    stage.logs_in(&ALICE, 10.0, "a");
    let mut wrong = |line: &str, part: &str| {
        let why = stage.0.line(line).unwrap_err().to_string();
        assert!(why.contains(part), "{line}: {why}");
    };
    wrong("", "EOF");
    wrong("[]", "missing field `op`");
    wrong(r#"{"op":"fly"}"#, "unknown variant `fly`");
    wrong(r#"{"op":"request","t":11,"jar":"a","agent":"x"}"#, "unknown field `agent`");
    wrong(r#"{"op":"request","jar":"a"}"#, "missing field `t`");
    wrong(r#"{"op":"request","t":9,"jar":"a"}"#, "before the line above");
    wrong(r#"{"op":"request","t":-1,"jar":"a"}"#, "in seconds from 0");
    wrong(r#"{"op":"request","t":1e300,"jar":"a"}"#, "in seconds from 0");
    wrong(r#"{"op":"request","t":11,"jar":"a","ip":"here"}"#, "invalid IP address");
    wrong(r#"{"op":"request","t":11,"jar":"a","geo":{"country":"DEU"}}"#, "two letters");
    wrong(r#"{"op":"request","t":11,"jar":"a","geo":{"kind":"home"}}"#, "residential, mobile");
    wrong(r#"{"op":"request","t":11,"jar":"a","method":"A B"}"#, "a method");
    wrong(r#"{"op":"request","t":11,"jar":"a","path":"account"}"#, "a path such as");
    wrong(r#"{"op":"request","t":11,"jar":"a","http":"3"}"#, "1.0, 1.1 or 2");
    wrong(r#"{"op":"request","t":11,"jar":"a","headers":[["a b","x"]]}"#, "a header that HTTP can carry");
    wrong(r#"{"op":"request","t":11,"jar":"a","response":{"status":42}}"#, "a status from 100");
    wrong(r#"{"op":"copy","t":11,"from":"b","to":"c"}"#, "no jar \"b\"");
    wrong(r#"{"op":"rollback","t":11,"jar":"b","as_of":1}"#, "no jar \"b\"");
    // The clock did not move either.
    is(&stage.asks(&ALICE, 10.5, "a", &[]), "allow", "head", Some("alice"));
}

/// Sixty users of one browser, some hours each. Nobody of them speaks as the phisher's proxy does, though its HTTP/2 is right.
#[test]
fn a_login_that_speaks_as_nobody_with_that_browser_does() {
    let mut stage = Stage::new();
    let ips: Vec<String> = (0..60).map(|user| format!("203.0.{user}.10")).collect();
    let proxy = |stage: &mut Stage, t: f64, jar: &str, ip| {
        let phisher = Client { tls: "blink-7", ip, ..ALICE };
        stage.logs_in(&phisher, t, jar);
        stage.asks(&phisher, t + 1.0, jar, &[])
    };
    assert_eq!(proxy(&mut stage, 0.0, "early", "198.51.100.7")["signals"], json!([]), "nothing is known yet");
    for step in 0..18 {
        for (user, ip) in ips.iter().enumerate() {
            let ip = [("ip", json!(ip))];
            let at = f64::from(step) * 1500.0 + 10.0 + f64::from(u32::try_from(user).unwrap());
            let jar = format!("user-{user}");
            if step == 0 {
                let login = json!({ "status": 302, "login": jar });
                stage.asks(&ALICE, at, &jar, &[("method", json!("POST")), ("response", login), ip[0].clone()]);
            } else {
                assert_eq!(stage.asks(&ALICE, at, &jar, &ip)["subject"], jar.as_str());
            }
        }
    }
    let late = proxy(&mut stage, 30_000.0, "late", "192.0.2.7");
    let found = json!({"kind": "login.contradiction", "points": 40.0, "before": "chrome", "after": "TLS that no user of it has"});
    assert_eq!(late["signals"], json!([found]), "{late}");
    is(&late, "rotate", "head", Some("alice"));
    // Whoever has logged in so with the right browser before is known by that.
    stage.logs_in(&ALICE, 30_010.0, "home");
    assert_eq!(stage.asks(&ALICE, 30_011.0, "home", &[])["signals"], json!([]));
}

#[test]
fn two_programs_that_share_the_sessions_of_many_are_proposed_as_companions() {
    let mut stage = Stage::new();
    let mut told = Vec::new();
    for user in 0..40_u32 {
        let (t, jar) = (f64::from(user) * 10.0, format!("user-{user}"));
        let login = json!({ "status": 302, "login": jar });
        let ip = [("ip", json!(format!("203.0.{user}.10")))];
        stage.asks(&ALICE, t, &jar, &[("method", json!("POST")), ("response", login), ip[0].clone()]);
        let native = Client { agent: "okhttp/5.1.0", tls: "okhttp", ..ALICE };
        let found = stage.asks(&native, t + 1.0, &jar, &ip);
        assert_eq!(found["action"], "quarantine");
        if found["events"].as_array().unwrap().contains(&json!("config.companions")) {
            told.push(user);
        }
    }
    assert_eq!(told.len(), 1);
    assert!((19..25).contains(&told[0]), "{told:?}");
}

/// The lines of the page about the protocol, as another program would send them.
const LINES: &str = r#"{"op":"request","t":0,"jar":"a","ip":"203.0.113.10","method":"POST","response":{"status":302,"login":"alice"}}
{"op":"request","t":12.5,"jar":"a","ip":"203.0.113.10"}

nonsense
{"op":"request","t":20,"jar":"a","ip":"203.0.113.10"}
"#;

#[test]
fn the_program_answers_line_by_line_and_the_same_each_time() {
    let Ended { code, out, err } = program_reads(&["drive", "--seed", "7"], LINES);
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, err.as_str(), lines.len()), (Some(1), "", 4), "{out}");
    assert_eq!(lines[1]["subject"], "alice");
    assert_eq!((&lines[2]["line"], lines[2]["error"].is_string()), (&json!(4), true));
    assert_eq!(lines[3]["n"], 3);
    assert_eq!(program_reads(&["drive", "--seed", "7"], LINES).out, out);
    assert_ne!(program_reads(&["drive", "--seed", "8"], LINES).out, out, "public names are drawn");
    let Ended { code, err, .. } = program_reads(&["drive", "--policy", "there-is-none.toml"], "");
    assert_eq!(code, Some(64), "{err}");
}
