//! What `[rules] record` keeps of requests, and what a replay makes of it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use portcullis::config::Recorder;
use portcullis::event::encode::{Encoder, Format, IpPrivacy, Privacy, SubjectPrivacy};
use portcullis::rules::HostFacts;
use portcullis::rules::recorded::Line;
use portcullis::rules::replay::{Replay, Replayed};
use portcullis::verdict::Action;

use crate::support::world::{ABROAD, Ask, HOME, MOBILE, NEIGHBOUR, Rules, World, keys, minutes, rules};

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
    Arc::into_inner(recorder).unwrap().finish();
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
