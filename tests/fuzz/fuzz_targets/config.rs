//! The configuration: any text is either settings that can run, or faults that each point at a place in the text. A
//! first line `# preset NAME` puts a preset under it.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portcullis::clock::Timestamp;
use portcullis::config::Preset;
use portcullis::config::counters::Counters;
use portcullis::config::keys::KeyFile;
use portcullis::config::resolve::{Input, resolve};
use portcullis_fuzz::{first_line, points_at_the_text};

const FILE: &str = "etc/p.toml";
const NOW: Timestamp = Timestamp::from_secs(1_795_257_972);

fuzz_target!(|input: &[u8]| {
    let Ok(text) = str::from_utf8(input) else { return };
    let preset: Option<Preset> = first_line(text).0.strip_prefix("# preset ").and_then(|name| name.parse().ok());
    match resolve(&Input { file: Some((Path::new(FILE), text)), preset, overrides: None }, NOW) {
        Ok(resolved) => {
            resolved.warnings.iter().for_each(|fault| points_at_the_text(fault, FILE, text));
            let settings = resolved.settings;
            assert!(!settings.listen.is_empty() && !settings.upstream.locations.is_empty());
            let policy = settings.policy(1, &portcullis::config::Rulebook::packs_of(&settings)).unwrap();
            drop((policy, settings.limit_settings(), settings.proxy(Vec::new())));
        }
        Err(faults) => {
            assert!(faults.is_fatal());
            assert!(!faults.to_string().is_empty());
            faults.0.iter().for_each(|fault| points_at_the_text(fault, FILE, text));
        }
    }
    if let Some(counters) = Counters::parse(text) {
        assert_eq!(counters.render(), text);
    }
    if let Err(faults) = KeyFile::parse(FILE, text) {
        assert!(!faults.0.is_empty());
    }
});
