//! What `[rules] record` keeps of requests, and what a replay makes of it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use portcullis::config::Recorder;
use portcullis::engine::RefusalKind;
use portcullis::event::encode::{Encoder, Format, IpPrivacy, Privacy, SubjectPrivacy};
use portcullis::rules::recorded::Line;
use portcullis::rules::replay::{Replay, Replayed};
use portcullis::rules::scheme::Phase;
use portcullis::rules::{HostFacts, OnOutage};
use portcullis::verdict::Action;

use crate::support::world::browser::OURS;
use crate::support::world::{
    ABROAD, AppAnswer, Ask, HOME, MOBILE, NEIGHBOUR, Rules, World, keys, minutes, rules, seconds,
};

fn rule(id: &str, when: &str, more: &str) -> String {
    format!("[[rule]]\nid = \"{id}\"\nwhen = '''{when}'''\n{more}\n")
}

/// Rules of one's own and no pack.
fn only(body: &str) -> Rules {
    rules().file(&[], &format!("version = 1\nname = \"shop\"\n{body}"))
}

/// Rules that ask for nothing. Where there are none at all, nothing is recorded.
fn quiet() -> Rules {
    only(&(FACTS.to_owned() + &rule("quiet", "request.method == \"TRACE\"", "then = \"observe\"")))
}

/// Plays a story that is recorded, and gives the recording.
fn recorded(rules: Rules, privacy: Privacy, story: impl FnOnce(&World)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("facts.jsonl");
    let recorder = Arc::new(Recorder::start(&path, 1 << 20, privacy, Arc::new(keys())).unwrap());
    let world = World::watched(rules, recorder.clone());
    story(&world);
    drop(world);
    recorder.flush();
    fs::read_to_string(path).unwrap()
}

/// What other rules make of a recording.
fn replayed(recording: &str, body: &str) -> Replayed {
    let (policy, _) = only(body).finish();
    let mut replay = Replay::new(&policy);
    for line in recording.lines() {
        replay.play(&Line::parse(line, policy.rules.host()).unwrap());
    }
    replay.finish()
}

/// Who is hit by which rule.
fn hit(replayed: &Replayed) -> Vec<(&str, Action)> {
    replayed.hits.iter().map(|hit| (hit.rule.as_str(), hit.action)).collect()
}

const HIDDEN: Privacy = Privacy { ip: IpPrivacy::Pseudonym, subject: SubjectPrivacy::Hmac };
const TRUNCATED: Privacy = Privacy { ip: IpPrivacy::Truncate, subject: SubjectPrivacy::Hmac };

/// Alice logs in and comes back, with facts and a path that name her and her address.
fn alices_day(world: &World) {
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    let facts = HostFacts::new().with("account", "alice").with("origin", HOME).with("plan", "trial");
    let mut ask = Ask::page("/users/Alice/from/203.0.113.10");
    ask.facts = Some(facts);
    alice.asks(ask);
    alice.moves_to(NEIGHBOUR).visits("/account");
}

const FACTS: &str = "[facts]\naccount = \"string\"\norigin = \"string\"\nplan = \"string\"\n";

#[test]
fn what_privacy_hides_in_events_is_not_recorded_in_clear() {
    let names = ["alice", "Alice", HOME, NEIGHBOUR];
    let plain = recorded(quiet(), Privacy::default(), alices_day);
    for name in names {
        assert!(plain.contains(name), "{name}: {plain}");
    }
    for privacy in [HIDDEN, TRUNCATED] {
        let mut told = Vec::new();
        let hidden = recorded(quiet(), privacy, |world| {
            alices_day(world);
            let encoder = Encoder::new(Format::Json).with_privacy(privacy, Arc::new(keys()));
            world.events_told().iter().for_each(|event| encoder.encode(event, &mut told));
        });
        for name in names {
            assert!(!hidden.contains(name), "{name}: {hidden}");
        }
        assert_eq!(hidden.lines().count(), plain.lines().count());
        assert!(hidden.contains("\"facts.plan\":\"trial\"") && hidden.contains("/users/"), "{hidden}");
        // The two can be laid side by side.
        let event = String::from_utf8(told).unwrap();
        let event = event.lines().find(|line| line.contains("\"session.authenticated\"")).unwrap();
        let event: serde_json::Value = serde_json::from_str(event).unwrap();
        assert!(hidden.contains(event["subject"].as_str().unwrap()), "{event}");
        assert!(hidden.contains(event["ip"].as_str().unwrap()), "{event}");
    }
}

#[test]
fn one_of_them_can_be_hidden_alone() {
    let subject = Privacy { ip: IpPrivacy::Full, ..HIDDEN };
    let text = recorded(quiet(), subject, alices_day);
    assert!(text.contains(HOME) && !text.to_lowercase().contains("alice"), "{text}");
    let ip = Privacy { subject: SubjectPrivacy::Plain, ..HIDDEN };
    let text = recorded(quiet(), ip, alices_day);
    assert!(!text.contains("203.0.113.") && text.contains("\"session.subject\":\"alice\""), "{text}");
}

/// Comes from two addresses of one network and from one of another.
fn three_clients(world: &World) {
    for (who, ip, visits) in [("one", HOME, 4), ("two", NEIGHBOUR, 1), ("three", MOBILE, 1)] {
        let browser = world.browser(who).at(ip);
        (0..visits).for_each(|_| {
            browser.visits("/").ok();
            world.after(minutes(1));
        });
    }
}

#[test]
fn a_replay_counts_pseudonyms_as_what_they_stand_for() {
    let count = |per: &str| {
        let count = format!("count = {{ over = 3, within = \"1h\", per = \"{per}\" }}\nthen = \"deny\"");
        rule("many", "request.method == \"GET\"", &count)
    };
    for (privacy, per, requests) in [
        (Privacy::default(), "client.ip", 1),
        (HIDDEN, "client.ip", 1),
        (Privacy::default(), "client.prefix", 2),
        (HIDDEN, "client.prefix", 2),
        (TRUNCATED, "client.prefix", 2),
    ] {
        let recording = recorded(quiet(), privacy, three_clients);
        let replayed = replayed(&recording, &count(per));
        assert_eq!(replayed.rules[0].requests, requests, "{privacy:?} {per}: {replayed:?}");
        assert_eq!(replayed.undecided.comparisons, 0, "{privacy:?} {per}");
    }
    // Of a truncated address nobody knows whose it is.
    let replayed = replayed(&recorded(quiet(), TRUNCATED, three_clients), &count("client.ip"));
    assert_eq!((replayed.hits.len(), replayed.undecided.comparisons, replayed.undecided.lines), (0, 6, 6));
}

#[test]
fn what_only_the_hidden_value_could_tell_is_undecided_and_told() {
    let body = rule("office", "client.ip in [\"203.0.113.10\"]", "then = \"deny\"")
        + &rule("others", "client.ip not_in [\"203.0.113.10\", \"2001:db8::/32\"]", "then = \"deny\"");
    let plain = replayed(&recorded(quiet(), Privacy::default(), three_clients), &body);
    assert_eq!(plain.undecided.comparisons, 0);
    assert_eq!(hit(&plain).len(), 3);
    // Both are false or both are true for somebody who takes unknown for one of them.
    let hidden = replayed(&recorded(quiet(), HIDDEN, three_clients), &body);
    assert_eq!((hit(&hidden), hidden.undecided.comparisons, hidden.undecided.lines), (vec![], 12, 6));
    assert!(hidden.rules.iter().all(|rule| (rule.requests, rule.undecided) == (0, 6)), "{hidden:?}");
    // What is left of an address may do: the last client is in another network, whoever it is.
    let truncated = replayed(&recorded(quiet(), TRUNCATED, three_clients), &body);
    assert_eq!((hit(&truncated), truncated.undecided.comparisons), (vec![("shop/others", Action::Deny)], 10));
    let network = rule("home", "client.ip in [\"203.0.113.0/24\"]", "then = \"deny\"");
    let truncated = replayed(&recorded(quiet(), TRUNCATED, three_clients), &network);
    assert_eq!((truncated.rules[0].requests, truncated.undecided.comparisons), (5, 0));
    // What does not matter is not undecided.
    let clear = rule("clear", "request.method == \"PUT\" && client.ip in [\"203.0.113.10\"]", "then = \"deny\"");
    assert_eq!(replayed(&recorded(quiet(), HIDDEN, three_clients), &clear).undecided.comparisons, 0);
}

#[test]
fn pseudonyms_are_compared_with_each_other() {
    let body = rule("home", "session.bound.prefix == client.prefix", "then = \"throttle\"")
        + &rule("moved", "session.bound.prefix != client.prefix", "then = \"deny\"");
    let story = |world: &World| {
        let alice = world.browser("alice").at(HOME);
        alice.logs_in("alice").ok();
        alice.visits("/account").is("alice");
        alice.moves_to(ABROAD).visits("/account");
    };
    for privacy in [Privacy::default(), HIDDEN, TRUNCATED] {
        let replayed = replayed(&recorded(quiet(), privacy, story), &body);
        let expected = vec![("shop/home", Action::Throttle), ("shop/moved", Action::Deny)];
        assert_eq!((hit(&replayed), replayed.undecided.comparisons), (expected, 0), "{privacy:?}");
    }
}

/// The requests of a recording: what each was judged by, and what came of it.
fn requests(recording: &str) -> Vec<(Phase, Action)> {
    let lines = recording.lines().map(|line| Line::parse(line, &[]).unwrap());
    lines.filter(|line| line.phase != Phase::Response).map(|line| (line.phase, line.action)).collect()
}

/// A session that was held back was recorded a second time, as the stranger that it was served as, and its line said that
/// nothing was done.
#[test]
fn a_client_that_is_held_back_is_recorded_once_with_what_was_done() {
    let counted = rule(
        "many",
        "request.method == \"GET\"",
        "count = { over = 3, within = \"1h\", per = \"client.ip\" }\nthen = \"deny\"",
    );
    for (then, per, phase) in [
        ("quarantine", "", Phase::Risk),
        ("challenge", "", Phase::Risk),
        ("deny", "", Phase::Risk),
        ("quarantine", "client.ip", Phase::Risk),
        ("deny", "client.ip", Phase::Client),
    ] {
        let per = if per.is_empty() { String::new() } else { format!("per = \"{per}\"\n") };
        let body = rule("teapot", "response.status == 418", &format!("{per}then = \"{then}\""));
        let story = |world: &World| {
            let alice = world.browser("alice");
            alice.logs_in("alice").ok();
            world.answers(AppAnswer::status(418));
            alice.fetches("/account");
            world.reopens_the_shop();
            for _ in 0..3 {
                world.after(seconds(10));
                assert_eq!(alice.fetches("/basket").serving(), None);
            }
        };
        let recording = recorded(only(&body), Privacy::default(), story);
        let served = (Phase::Risk, Action::Allow);
        let held = (phase, then.parse().unwrap());
        assert_eq!(requests(&recording), [served, served, held, held, held], "{body}");
        // The rules of then change nothing, and others count what came.
        let same = replayed(&recording, &body);
        assert_eq!((same.requests, hit(&same), same.spared), (5, vec![], 0), "{body}");
        let other = replayed(&recording, &counted);
        assert_eq!((other.rules[0].requests, hit(&other).len()), (1, usize::from(then != "deny")), "{body} {other:?}");
    }
}

/// Each look at a request was a line.
#[test]
fn a_request_that_is_looked_at_again_is_recorded_once() {
    for trouble in [|world: &World| world.store().others_write_first(2), |world: &World| world.store().fails_after(0)] {
        let rules = quiet().with(|policy| policy.on_outage = OnOutage::Anonymous);
        let recording = recorded(rules, Privacy::default(), |world| {
            let alice = world.browser("alice");
            alice.logs_in("alice").ok();
            world.after(minutes(2));
            trouble(world);
            alice.visits("/account");
        });
        assert_eq!(requests(&recording), [(Phase::Risk, Action::Allow); 2]);
    }
}

/// Whoever was judged with his session and, when that could not be written, once more as a stranger was counted twice.
#[test]
fn a_request_is_counted_once_when_the_store_fails_meanwhile() {
    let count = "count = { over = 1, within = \"1h\", per = \"client.ip\" }\nthen = \"deny\"";
    let rules = only(&rule("many", "session.exists || request.path == \"/basket\"", count));
    let world = World::new(rules.with(|policy| policy.on_outage = OnOutage::Anonymous));
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    world.after(minutes(2));
    world.store().fails_after(0);
    alice.visits("/basket").is_stranger().ok();
    alice.visits("/basket").is_refused(403, RefusalKind::Denied);
}

/// The answer had a time of its own alone, so that the answer to a refused request was played all the same.
#[test]
fn an_answer_that_takes_its_time_belongs_to_its_request() {
    let recording = recorded(quiet(), Privacy::default(), |world| {
        let alice = world.browser("alice");
        alice.logs_in("alice").ok();
        world.answers(AppAnswer::status(404));
        for _ in 0..4 {
            let flight = alice.sends(Ask::fetch("/account"));
            world.after(std::time::Duration::from_millis(20));
            flight.lands();
            world.after(minutes(1));
        }
    });
    let count = "count = { over = 1, within = \"1h\", per = \"session.ref\" }\nthen = \"deny\"";
    let replayed = replayed(&recording, &rule("lost", "response.status == 404", count));
    assert_eq!(hit(&replayed), [("shop/lost", Action::Deny)]);
    // The second answer, and the two requests after it, whose answers would not have come.
    assert_eq!(replayed.rules[0].requests, 3);
}

#[test]
fn what_was_done_to_an_answer_and_by_a_state_is_recorded() {
    let ends = rule("ends", "response.status == 418", "then = \"terminate\"");
    let story = |world: &World| {
        let alice = world.browser("alice");
        alice.logs_in("alice").ok();
        world.answers(AppAnswer::status(418));
        alice.fetches("/account");
    };
    let actions = |recording: &str| -> Vec<Action> {
        recording
            .lines()
            .map(|line| Line::parse(line, &[]).unwrap().action)
            .filter(|did| *did != Action::Allow)
            .collect()
    };
    let recording = recorded(only(&ends), Privacy::default(), story);
    assert_eq!(actions(&recording), vec![Action::Terminate]);
    assert_eq!(hit(&replayed(&recording, &ends)), [], "it was done then");
    let tried = recorded(only(&format!("{ends}mode = \"observe\"\n")), Privacy::default(), story);
    assert_eq!(actions(&tried), vec![]);
    assert_eq!(hit(&replayed(&tried, &ends)), [("shop/ends", Action::Terminate)]);
    // A login that is too old for its route.
    let fresh = quiet().route("/bank", |route| route.fresh = Some(minutes(5)));
    let recording = recorded(fresh, Privacy::default(), |world| {
        let alice = world.browser("alice");
        alice.logs_in("alice").ok();
        world.after(minutes(6));
        alice.visits("/account").is("alice");
        alice.visits("/bank").is_stranger();
    });
    assert_eq!(actions(&recording), vec![Action::Quarantine]);
}

/// Fields that no rule in force read were not recorded, and rules on trial that read them never matched.
#[test]
fn what_rules_in_force_do_not_read_is_recorded_too() {
    let recording = recorded(quiet(), Privacy::default(), |world| {
        let alice = world.browser("alice");
        alice.logs_in("alice").ok();
        for _ in 0..5 {
            alice.fetches("/account").is("alice");
        }
        let eve = world.browser("eve").at(ABROAD);
        for _ in 0..12 {
            eve.holds(OURS, "no id at all");
            eve.visits("/");
        }
    });
    let hits = |when: &str| hit(&replayed(&recording, &rule("trial", when, "then = \"deny\""))).len();
    assert_eq!(hits("rate.client > 4 && session.requests > 4"), 1);
    assert!(hits("signal.id.guessing > 0") > 0);
}

/// A path that was hidden in part was compared as if it were whole.
#[test]
fn of_a_masked_path_what_is_clear_decides_what_it_can() {
    const TOKEN: &str = "c8gxkw-9d8f7a6b5c4d3e2f1a0b9c8d7e6f5a4b";
    let recording = recorded(quiet(), Privacy::default(), |world| {
        world.browser("alice").visits(&format!("/reset/{TOKEN}"));
    });
    assert!(!recording.contains(TOKEN) && recording.contains("/reset/"), "{recording}");
    let found = |when: &str| {
        let replayed = replayed(&recording, &rule("trial", when, "then = \"deny\""));
        (replayed.hits.len(), replayed.undecided.comparisons)
    };
    assert_eq!(found("request.path starts_with \"/reset/\""), (1, 0));
    assert_eq!(found("request.path starts_with \"/RESET\""), (1, 0));
    assert_eq!(found("request.path starts_with \"/admin\" || request.path == \"/reset\""), (0, 0));
    assert_eq!(found(&format!("request.path == \"/reset/{TOKEN}\"")), (0, 1));
    assert_eq!(found("request.path ends_with \"/done\""), (0, 1));
    assert_eq!(found("request.path in [\"/reset/a\", \"/b\"]"), (0, 1));
    // It falls on its route all the same.
    let body = rule("trial", "request.route == \"/reset/*\"", "then = \"deny\"");
    let (policy, _) = only(&body).route("/reset/*", |_| {}).finish();
    let mut replay = Replay::new(&policy);
    recording.lines().for_each(|line| replay.play(&Line::parse(line, &[]).unwrap()));
    assert_eq!(hit(&replay.finish()), [("shop/trial", Action::Deny)]);
}
