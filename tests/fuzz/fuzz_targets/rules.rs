//! Rules files: any text is either rules that run, or faults that each point at a place in the text; and a text in the one
//! spelling of `fmt` means what it meant.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portcullis::clock::Timestamp;
use portcullis::rules::count::Windows;
use portcullis::rules::diagnostic::Faults;
use portcullis::rules::load::{Compiled, Input, RulesText, compile};
use portcullis::rules::scheme::{Field, Phase};
use portcullis::rules::{Changed, Facts, Matched, Pack, RuleSet, Scenery, Value, diff, format};
use portcullis::verdict::Mode;
use portcullis_fuzz::points_at_the_text;

const FILE: &str = "rules/r.toml";
const NOW: Timestamp = Timestamp::from_secs(1_795_257_972);

fuzz_target!(|input: &[u8]| {
    let Ok(text) = str::from_utf8(input) else { return };
    match read(text) {
        Ok(compiled) => {
            compiled.warnings.iter().for_each(|fault| points_at_the_text(fault, FILE, text));
            let set = &compiled.sets[0];
            run(set);
            let written = format::conditions(Path::new(FILE), text).expect("what compiles can be formatted");
            let again = read(&written).expect("what is formatted compiles");
            assert_eq!(diff::rules(set, &again.sets[0]), [], "{written}");
            assert_eq!(format::conditions(Path::new(FILE), &written).unwrap(), written);
        }
        Err(faults) => {
            assert!(faults.is_fatal() && !faults.headline().is_empty());
            faults.0.iter().for_each(|fault| points_at_the_text(fault, FILE, text));
        }
    }
});

fn read(text: &str) -> Result<Compiled, Faults> {
    let files = [RulesText { path: FILE.into(), text: text.to_owned() }];
    let open = |_: &Path| Ok("192.0.2.0/24\nword # comment\n7\n".to_owned());
    compile(&Input { packs: &[vec![Pack::Baseline1]], files: &files, open: &open, now: NOW })
}

/// Nothing is known, and then every rule is explained.
fn run(set: &RuleSet) {
    let (windows, mut matched) = (Windows::new(1000), Matched::new());
    for phase in [Phase::Client, Phase::Session, Phase::Risk, Phase::Response] {
        set.run(phase, Scenery::Signals, &Nothing, (&windows, Mode::Enforce), &mut matched);
    }
    for rule in set.rules() {
        drop((rule.explain(&Nothing, set), rule.written(), rule.mutations(Changed::All)));
    }
}

struct Nothing;

impl Facts for Nothing {
    fn value(&self, _: Field) -> Value<'_> {
        Value::Unknown
    }

    fn now(&self) -> Timestamp {
        NOW
    }
}
