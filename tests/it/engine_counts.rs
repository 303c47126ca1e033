//! What rules count in a store that several guards share.

use portcullis::engine::RefusalKind;
use portcullis::event::Kind;
use portcullis::rules::Pack;

use crate::support::world::{ABROAD, AppAnswer, MOBILE, Rules, World, minutes, rules, seconds};

fn counting(when: &str, more: &str) -> Rules {
    let body = format!("version = 1\nname = \"shop\"\n[[rule]]\nid = \"many\"\nwhen = '{when}'\n{more}\n");
    rules().file(&[Pack::Baseline1], &body)
}

/// Two guards that count together.
fn nodes(when: &str, more: &str) -> [World; 2] {
    let nodes = [1, 2].map(|seed| World::seeded(counting(when, more), seed));
    nodes[1].store().counts_in(nodes[0].store().shares_counts());
    nodes
}

#[test]
fn what_one_node_counts_the_other_knows() {
    let count = "count = { over = 3, within = \"10m\", per = \"client.ip\" }\nthen = \"deny\"";
    // Before the session is loaded, with it, and with the answer.
    for when in [
        r#"request.path == "/account" "#,
        r#"!session.exists && request.path == "/account" "#,
        r#"response.status == 418"#,
    ] {
        let [one, other] = nodes(when, count);
        for world in [&one, &other] {
            world.answers(AppAnswer::status(418));
        }
        let [eve, eve_elsewhere] = [&one, &other].map(|world| world.browser("eve").at(ABROAD));
        eve.fetches("/account").is_stranger();
        eve_elsewhere.fetches("/account").is_stranger();
        eve.fetches("/account").is_stranger();
        let fourth = eve_elsewhere.fetches("/account");
        if when.contains("response") {
            // The fourth answer is one too many: what follows is refused.
            fourth.is_stranger();
            eve_elsewhere.fetches("/account").is_refused(403, RefusalKind::Denied);
        } else {
            fourth.is_refused(403, RefusalKind::Denied);
            eve.fetches("/account").is_refused(403, RefusalKind::Denied);
        }
        one.browser("alice").at(MOBILE).fetches("/account").is_stranger();
        other.after(minutes(11));
        other.browser("eve").at(ABROAD).fetches("/account").is_stranger();
    }
}

#[test]
fn what_does_not_match_asks_the_store_nothing_and_what_matches_asks_once() {
    let count = "count = { over = 2, within = \"10m\", per = \"session.subject\" }\nscore = 40";
    let world = World::new(counting(r#"session.authenticated && request.path == "/account" "#, count));
    world.store().shares_counts();
    let alice = world.browser("alice");
    alice.logs_in("alice").ok();
    world.store().asked();
    for _ in 0..5 {
        alice.fetches("/basket").is("alice");
    }
    assert_eq!(world.store().asked(), 0);
    // Others write the session in between: the request is judged again and again, and counted once.
    world.after(minutes(3));
    world.store().others_write_first(2);
    alice.visits("/account").is("alice").sets_ours();
    assert_eq!(world.store().asked(), 1);
    alice.fetches("/account").is("alice");
    let third = alice.fetches("/account");
    assert_eq!(world.store().asked(), 2);
    third.is("alice");
    let told = world.told_of(Kind::RuleMatched);
    assert!((told.scene.risk.unwrap() - 40.0).abs() < 0.1, "{:?}", told.scene.risk);
}

#[test]
fn a_guard_counts_for_itself_while_the_store_does_not() {
    let count = "count = { over = 1, within = \"10m\", per = \"client.ip\" }\nthen = \"deny\"";
    let [one, other] = nodes(r#"request.path == "/account" "#, count);
    let eve = one.browser("eve").at(ABROAD);
    eve.fetches("/account").is_stranger();
    one.store().counts_fail(true);
    one.told();
    eve.fetches("/account").is_stranger();
    one.told_of(Kind::DependencyFailed);
    eve.fetches("/account").is_refused(403, RefusalKind::Denied);
    one.store().counts_fail(false);
    one.after(seconds(1));
    eve.fetches("/account").is_refused(403, RefusalKind::Denied);
    other.browser("eve").at(ABROAD).fetches("/account").is_refused(403, RefusalKind::Denied);
}

/// Rules for strangers were only looked at for such a client, so that their limits were none.
#[test]
fn a_client_that_is_held_back_is_counted_by_the_rules_for_strangers() {
    let hold = "then = \"quarantine\"\n[[rule]]\nid = \"signup\"\n\
                when = '!session.authenticated && request.path == \"/signup\"'\n\
                count = { over = 2, within = \"10m\", per = \"client.ip\" }\nthen = \"deny\"";
    for is_shared in [false, true] {
        let world = World::new(counting(r#"session.authenticated && client.country == "RU" "#, hold));
        if is_shared {
            world.store().shares_counts();
        }
        let alice = world.browser("alice");
        alice.logs_in("alice").ok();
        let eve = world.browser("eve").at(ABROAD);
        eve.steals_from(&alice);
        eve.fetches("/signup").is_stranger();
        eve.fetches("/signup").is_stranger();
        eve.fetches("/signup").is_refused(403, RefusalKind::Denied);
        alice.fetches("/account").is("alice");
    }
}
