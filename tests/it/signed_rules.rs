//! Signed rules: what is refused, what must not come back, and what is kept of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use portcullis::clock::Timestamp;
use portcullis::config::counters::{self, CountersError, Pending, Remembered};
use portcullis::config::{Change, Faults, Loaded, Request, Watcher, inspect, load, load_again};
use portcullis::entropy::OsEntropy;

use crate::support::minisign::Signer;

/// 2026-11-21
const NOW: Timestamp = Timestamp::from_secs(1_795_257_972);

/// A folder with a configuration that asks for signatures of one key.
struct Place {
    folder: tempfile::TempDir,
    signer: Signer,
}

/// Rules of this name with one rule that refuses a path.
fn rules(name: &str, path: &str) -> String {
    format!(
        "version = 1\nname = \"{name}\"\n[[rule]]\nid = \"fence\"\nwhen = 'request.path == \"{path}\"'\nthen = \"deny\"\n"
    )
}

impl Place {
    fn new() -> Self {
        let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new(1));
        let text = format!(
            "[upstream]\nurl = \"http://127.0.0.1:8000\"\n[rules]\nfiles = [\"rules/*.toml\"]\nsigned_by = [\"{}\", \"{}\"]\n",
            Signer::new(2).public(),
            signer.public()
        );
        fs::create_dir(folder.path().join("rules")).unwrap();
        fs::write(folder.path().join("portcullis.toml"), text).unwrap();
        Self { folder, signer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Writes a file and its signature.
    fn sign(&self, name: &str, text: &str, counter: u64) {
        self.write(name, text);
        let signature = self.signer.sign(text.as_bytes(), &format!("portcullis:counter={counter} file={name}"));
        self.write(&format!("{name}.minisig"), &signature);
    }

    fn request(&self) -> Request {
        Request { file: Some(self.path("portcullis.toml")), ..Request::default() }
    }

    fn load(&self) -> Result<Loaded, Faults> {
        load(&self.request(), NOW).loaded
    }

    /// Loads and puts in force, as `run` does. Gives the counters.
    #[track_caller]
    fn put_in_force(&self) -> Vec<(String, u64)> {
        let loaded = self.load().unwrap_or_else(|faults| panic!("{faults}"));
        self.prepare(&loaded).unwrap().keep().unwrap();
        loaded.rules.signed().iter().map(|file| (file.name.clone(), file.counter)).collect()
    }

    fn prepare(&self, loaded: &Loaded) -> Result<Pending, CountersError> {
        counters::prepare(&loaded.settings, &loaded.rules, &Remembered::default(), &OsEntropy)
    }

    /// Loads and puts in force, as a guard does that runs and remembers. Gives the words of the refusal.
    fn reload(&self, remembered: &mut Remembered) -> Result<(), String> {
        let loaded = load_again(&self.request(), NOW, remembered).loaded.map_err(|faults| faults.to_string())?;
        let pending = counters::prepare(&loaded.settings, &loaded.rules, remembered, &OsEntropy);
        *remembered = pending.and_then(Pending::keep).map_err(|error| error.to_string())?.1;
        Ok(())
    }

    /// It is refused, with these words in the one fault and this help.
    #[track_caller]
    fn refused(&self, message: &str, help: &str) {
        let faults = self.load().err().unwrap_or_else(|| panic!("it was taken: {message}"));
        let all = faults.to_string().replace(self.folder.path().to_str().unwrap(), "DIR");
        let [fault] = faults.0.as_slice() else { panic!("{message}: {all}") };
        assert!(all.contains(message), "{message}: {all}");
        assert!(fault.help.as_deref().unwrap().contains(help), "{message}: {all}");
    }

    /// The counters that are kept; none if there is no file of them.
    fn kept(&self) -> Option<String> {
        fs::read_to_string(self.path("portcullis-data/rules.counters")).ok()
    }
}

#[test]
fn what_is_not_signed_as_it_should_be_is_refused_with_the_command_that_mends_it() {
    let place = Place::new();
    let text = rules("shop", "/a");
    place.sign("rules/shop.toml", &text, 7);
    assert_eq!(place.put_in_force(), [("rules/shop.toml".to_owned(), 7)]);
    let good = place.read("rules/shop.toml.minisig");
    let by = |signer: u8, trusted: &str| Signer::new(signer).sign(text.as_bytes(), trusted);
    let command = format!(
        "minisign -Sm {} -t \"portcullis:counter=N file=rules/shop.toml\"",
        place.path("rules/shop.toml").display()
    );
    let sound = "portcullis:counter=7 file=rules/shop.toml";
    for (signature, message) in [
        (String::new(), "DIR/rules/shop.toml.minisig is no signature of minisign"),
        (good.lines().take(2).collect(), "DIR/rules/shop.toml.minisig is no signature of minisign"),
        (by(3, sound), "DIR/rules/shop.toml is signed with a key that is not listed"),
        (good.replace("counter=7", "counter=8"), "DIR/rules/shop.toml is not what was signed"),
        (place.signer.sign(b"other", sound), "DIR/rules/shop.toml is not what was signed"),
        (place.signer.sign_legacy(text.as_bytes(), sound), "is a signature of an old kind (legacy)"),
        (by(1, "timestamp:1763722800\tfile:shop.toml\thashed"), "does not say which state of the file this is"),
        (by(1, "portcullis:counter=7"), "does not say which state of the file this is"),
        (by(1, "portcullis:counter=007 file=rules/shop.toml"), "does not say which state of the file this is"),
        (
            by(1, "portcullis:counter=7 file=rules/bank.toml"),
            "was made for rules/bank.toml, and stands beside rules/shop.toml",
        ),
        (by(1, "portcullis:counter=7 file=shop.toml"), "was made for shop.toml, and stands beside rules/shop.toml"),
    ] {
        place.write("rules/shop.toml.minisig", &signature);
        place.refused(message, &command);
    }
    // The key of a stranger with the number of ours is still a stranger's.
    let forged = Signer::new(3).numbered(1).sign(text.as_bytes(), sound);
    place.write("rules/shop.toml.minisig", &forged);
    place.refused("DIR/rules/shop.toml is not what was signed", &command);
    place.write("rules/shop.toml.minisig", &good);
    place.write("rules/shop.toml", &(text.clone() + "\n"));
    place.refused("DIR/rules/shop.toml is not what was signed", &command);
    place.write("rules/shop.toml", &text);
    fs::remove_file(place.path("rules/shop.toml.minisig")).unwrap();
    place.refused("DIR/rules/shop.toml is not signed: there is no DIR/rules/shop.toml.minisig", &command);
    // Any of the keys will do.
    place.write("rules/shop.toml.minisig", &by(2, sound));
    place.put_in_force();
}

/// Looking for the other end of a pipe never ended.
#[test]
fn a_signature_that_is_a_pipe_is_refused() {
    let place = Place::new();
    place.write("rules/shop.toml", &rules("shop", "/a"));
    assert!(Command::new("mkfifo").arg(place.path("rules/shop.toml.minisig")).status().unwrap().success());
    place.refused("DIR/rules/shop.toml.minisig can not be read: it is no plain file", "minisign -Sm");
}

#[test]
fn what_nobody_has_signed_is_not_even_read_as_rules() {
    let place = Place::new();
    place.write("rules/shop.toml", "[[[ no TOML");
    place.refused("DIR/rules/shop.toml is not signed", "minisign -Sm");
    place.sign("rules/shop.toml", "[[[ no TOML", 1);
    let faults = place.load().unwrap_err().to_string();
    assert!(faults.contains("shop.toml:1"), "signed, it is read: {faults}");
}

#[test]
fn files_of_sets_are_signed_too() {
    let place = Place::new();
    let head = "[set]\noffice = { file = \"office.txt\" }\n[[rule]]";
    let text = rules("shop", "/a").replace("[[rule]]", head).replace("then", "unknown = \"fire\"\nthen");
    let text = text.replace("request.path == \"/a\"", "client.ip not_in @office");
    place.sign("rules/shop.toml", &text, 1);
    place.write("rules/office.txt", "192.0.2.0/24\n");
    let faults = place.load().unwrap_err();
    let told = faults.to_string();
    assert!(
        told.contains("office.txt is not signed: there is no") && told.contains("file=rules/office.txt\""),
        "{told}"
    );
    assert!(told.contains("shop.toml:4:") && told.contains("its signature is missing or wrong"), "{told}");
    place.sign("rules/office.txt", "192.0.2.0/24\n", 4);
    assert_eq!(place.put_in_force(), [("rules/office.txt".to_owned(), 4), ("rules/shop.toml".to_owned(), 1)]);
    // One set in the place of another, both well signed.
    place.sign("rules/tor.txt", "0.0.0.0/0\n", 9);
    for ending in ["", ".minisig"] {
        fs::copy(place.path(&format!("rules/tor.txt{ending}")), place.path(&format!("rules/office.txt{ending}")))
            .unwrap();
    }
    let told = place.load().unwrap_err().to_string();
    assert!(told.contains("was made for rules/tor.txt, and stands beside rules/office.txt"), "{told}");
    place.sign("rules/office.txt", "192.0.2.0/24\n198.51.100.0/24\n", 3);
    let told = place.load().unwrap_err().to_string();
    assert!(told.contains("office.txt is outdated: its counter is 3, and 4 was in force"), "{told}");
}

/// The name alone was compared: a file with its signature was taken in the place of one that is called the same elsewhere.
#[test]
fn a_signed_file_is_not_taken_in_the_place_of_one_in_another_folder() {
    let place = Place::new();
    for region in ["eu", "us"] {
        fs::create_dir_all(place.path(&format!("rules/{region}"))).unwrap();
        let head = format!("[set]\noffice = {{ file = \"{region}/office.txt\" }}\n[[rule]]");
        let text = rules(region, "/a").replace("[[rule]]", &head).replace("then", "unknown = \"fire\"\nthen");
        let text = text.replace("request.path == \"/a\"", "client.ip not_in @office");
        place.sign(&format!("rules/{region}.toml"), &text, 1);
    }
    place.sign("rules/eu/office.txt", "192.0.2.0/24\n", 5);
    place.sign("rules/us/office.txt", "198.51.100.0/24\n", 4);
    assert_eq!(place.put_in_force().len(), 4);
    for ending in ["", ".minisig"] {
        let of = |region: &str| place.path(&format!("rules/{region}/office.txt{ending}"));
        fs::copy(of("eu"), of("us")).unwrap();
    }
    let faults = place.load().unwrap_err();
    let told = faults.to_string();
    assert!(told.contains("was made for rules/eu/office.txt, and stands beside rules/us/office.txt"), "{told}");
    assert!(
        faults.0.iter().any(|fault| fault.help.as_deref().unwrap_or_default().contains("N file=rules/us/office.txt\""))
    );
}

/// A set that two folders name is one file, and has one signature.
#[test]
fn a_set_beside_the_folder_of_its_rules_is_signed_by_its_own_path() {
    let place = Place::new();
    fs::create_dir(place.path("lists")).unwrap();
    let head = "[set]\noffice = { file = \"../lists/office.txt\" }\n[[rule]]";
    let text = rules("shop", "/a").replace("[[rule]]", head).replace("then", "unknown = \"fire\"\nthen");
    place.sign("rules/shop.toml", &text.replace("request.path == \"/a\"", "client.ip not_in @office"), 1);
    place.sign("lists/office.txt", "192.0.2.0/24\n", 2);
    assert_eq!(place.put_in_force(), [("lists/office.txt".to_owned(), 2), ("rules/shop.toml".to_owned(), 1)]);
}

#[test]
fn what_was_in_force_before_does_not_come_back() {
    let place = Place::new();
    place.sign("rules/shop.toml", &rules("shop", "/old"), 5);
    assert_eq!(place.kept(), None);
    place.load().unwrap();
    assert_eq!(place.kept(), None, "loading alone keeps nothing");
    place.put_in_force();
    let first = place.kept().unwrap();
    place.put_in_force();
    assert_eq!(place.kept().unwrap(), first, "again the same is nothing new");
    place.sign("rules/shop.toml", &rules("shop", "/new"), 6);
    place.load().unwrap();
    assert_eq!(place.kept().unwrap(), first, "only what is in force counts");
    place.put_in_force();
    let second = place.kept().unwrap();
    place.sign("rules/shop.toml", &rules("shop", "/old"), 5);
    place.refused("DIR/rules/shop.toml is outdated: its counter is 5, and 6 was in force", "a whole number above 6");
    place.sign("rules/shop.toml", &rules("shop", "/new"), 5);
    place.refused("is outdated: its counter is 5", "a whole number above 6");
    place.sign("rules/shop.toml", &rules("shop", "/other"), 6);
    place.refused("is outdated: another content with the counter 6 was in force", "a whole number above 6");
    assert_eq!(place.kept().unwrap(), second, "what is refused changes nothing");
    place.sign("rules/shop.toml", &rules("shop", "/old"), 7);
    assert_eq!(
        place.put_in_force(),
        [("rules/shop.toml".to_owned(), 7)],
        "the old rules may return by the signer's will"
    );
}

/// An old state of a file in another form: gone, under another name, or passed off as scenarios.
#[test]
fn rules_that_were_in_force_can_not_be_made_to_vanish() {
    let place = Place::new();
    place.sign("rules/shop.toml", &rules("shop", "/a"), 5);
    place.sign("rules/keep.toml", &rules("keep", "/b"), 1);
    place.put_in_force();
    let (text, signature) = (place.read("rules/shop.toml"), place.read("rules/shop.toml.minisig"));
    fs::remove_file(place.path("rules/shop.toml")).unwrap();
    place.refused("DIR/rules/shop.toml was in force with the counter 5, and is gone", "sign one without any");
    place.write("rules/shop.toml", &format!("{text}[[scenario]]\n"));
    place.refused("DIR/rules/shop.toml is not what was signed", "minisign -Sm");
    fs::rename(place.path("rules/shop.toml"), place.path("rules/shop2.toml")).unwrap();
    place.write("rules/shop2.toml", &text);
    place.write("rules/shop2.toml.minisig", &signature);
    let told = place.load().unwrap_err().to_string();
    assert!(told.contains("was made for rules/shop.toml") && told.contains("and is gone"), "{told}");
    fs::remove_file(place.path("rules/shop2.toml")).unwrap();
    // By the signer's will they go.
    place.sign("rules/shop.toml", "version = 1\nname = \"shop\"\n", 6);
    place.put_in_force();
    // So they do by the will of whoever writes the configuration.
    fs::remove_file(place.path("rules/shop.toml")).unwrap();
    place.write("portcullis.toml", &place.read("portcullis.toml").replace("rules/*.toml", "rules/keep.toml"));
    assert_eq!(place.put_in_force(), [("rules/keep.toml".to_owned(), 1)]);
    // Scenarios that lie beside rules are nobody's rules, and need no signature.
    place.write("portcullis.toml", &place.read("portcullis.toml").replace("rules/keep.toml", "rules/k*.toml"));
    place.write("rules/kept.toml", "version = 1\n[[scenario]]\nname = \"x\"\n");
    place.load().unwrap();
}

#[test]
fn counters_are_private_and_never_made_anew_over_damage() {
    let place = Place::new();
    place.sign("rules/shop.toml", &rules("shop", "/a"), 5);
    place.put_in_force();
    let path = place.path("portcullis-data/rules.counters");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(place.path("portcullis-data")).unwrap().count(), 1, "no draft is left behind");
    let good = place.kept().unwrap();
    place.sign("rules/shop.toml", &rules("shop", "/a"), 6);
    let loaded = place.load().unwrap();
    for damaged in ["", "nothing", &good.replace("\n5 ", "\n4 "), good.lines().next().unwrap()] {
        fs::write(&path, damaged).unwrap();
        let faults = place.load().unwrap_err().to_string();
        assert!(faults.contains("rules.counters are damaged; put back a copy, or remove the file"), "{faults}");
        let error = place.prepare(&loaded).unwrap_err().to_string();
        assert!(error.contains("are damaged"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    }
    // Somebody was faster between loading and putting in force.
    place.sign("rules/shop.toml", &rules("shop", "/a"), 9);
    fs::write(&path, &good).unwrap();
    place.put_in_force();
    let error = place.prepare(&loaded).unwrap_err().to_string();
    assert!(error.contains("its counter is 6, and 9 was in force"), "{error}");
    // Where they can not be written, nothing is put in force.
    fs::remove_dir_all(place.path("portcullis-data")).unwrap();
    place.write("portcullis-data", "a file");
    let error = place.prepare(&loaded).unwrap_err().to_string();
    assert!(error.contains("can not be "), "{error}");
}

/// A guard that ran looked into the file alone: without it, every file that was ever signed was taken again.
#[test]
fn a_guard_that_runs_remembers_the_counters_though_their_file_is_removed_or_put_back() {
    let (place, mut remembered) = (Place::new(), Remembered::default());
    let path = place.path("portcullis-data/rules.counters");
    let mut reload = || place.reload(&mut remembered);
    place.sign("rules/shop.toml", &rules("shop", "/old"), 5);
    reload().unwrap();
    let old = place.kept().unwrap();
    place.sign("rules/shop.toml", &rules("shop", "/new"), 6);
    reload().unwrap();
    let new = place.kept().unwrap();

    // Removed, it is not made anew, whatever is signed.
    fs::remove_file(&path).unwrap();
    for (text, counter) in [("/old", 5), ("/new", 6), ("/newer", 7)] {
        place.sign("rules/shop.toml", &rules("shop", text), counter);
        let told = reload().unwrap_err();
        assert!(told.contains("rules.counters are gone; put back a copy, or start the guard anew"), "{told}");
        assert_eq!(place.kept(), None);
    }
    // An older copy of it brings no older rules back.
    fs::write(&path, &old).unwrap();
    place.sign("rules/shop.toml", &rules("shop", "/old"), 5);
    let told = reload().unwrap_err();
    assert!(told.contains("is outdated: its counter is 5, and 6 was in force"), "{told}");
    assert_eq!(place.kept().unwrap(), old);
    place.sign("rules/shop.toml", &rules("shop", "/new"), 6);
    reload().unwrap();
    assert_eq!(place.kept().unwrap(), new, "and is mended");
    // Nor does another place for it, which is new and takes over what is remembered.
    let config = place.read("portcullis.toml");
    place.write("portcullis.toml", &config.replace("signed_by", "counters = \"other.counters\"\nsigned_by"));
    place.sign("rules/shop.toml", &rules("shop", "/old"), 5);
    let told = reload().unwrap_err();
    assert!(told.contains("is outdated: its counter is 5, and 6 was in force"), "{told}");
    place.sign("rules/shop.toml", &rules("shop", "/new"), 6);
    reload().unwrap();
    assert_eq!(place.read("other.counters"), new);
    // Nor does a time without signatures.
    place.write("portcullis.toml", "[upstream]\nurl = \"http://127.0.0.1:8000\"\n");
    reload().unwrap();
    place.write("portcullis.toml", &config);
    fs::remove_file(&path).unwrap();
    place.sign("rules/shop.toml", &rules("shop", "/old"), 5);
    let told = reload().unwrap_err();
    assert!(told.contains("is outdated: its counter is 5, and 6 was in force"), "{told}");
}

#[test]
fn a_new_signature_alone_is_a_change() {
    let place = Place::new();
    place.sign("rules/shop.toml", &rules("shop", "/a"), 5);
    let mut watcher = Watcher::new(load(&place.request(), NOW).watched);
    assert_eq!(watcher.look(), Change::None);
    place.sign("rules/shop.toml", &rules("shop", "/a"), 6);
    assert_eq!([watcher.look(), watcher.look()], [Change::Settling, Change::Changed]);
    // One that is missing may come.
    fs::remove_file(place.path("rules/shop.toml.minisig")).unwrap();
    let mut watcher = Watcher::new(load(&place.request(), NOW).watched);
    place.sign("rules/shop.toml", &rules("shop", "/a"), 6);
    assert_eq!([watcher.look(), watcher.look()], [Change::Settling, Change::Changed]);
}

#[test]
fn who_only_looks_is_not_asked_for_signatures() {
    let place = Place::new();
    place.write("rules/shop.toml", &rules("shop", "/a"));
    assert!(place.load().is_err());
    let loaded = inspect(&place.request(), NOW).unwrap();
    assert!(loaded.rules.main().rules().iter().any(|rule| rule.name.as_str() == "shop/fence"));
    assert!(loaded.rules.signed().is_empty());
}

#[test]
fn check_tells_the_counter_and_keeps_nothing() {
    let place = Place::new();
    let check = || {
        let output =
            Command::new(env!("CARGO_BIN_EXE_portcullis")).arg("check").arg(place.folder.path()).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap().replace(place.folder.path().to_str().unwrap(), "DIR"),
        )
    };
    place.sign("rules/shop.toml", &rules("shop", "/a"), 2_026_112_801);
    let (code, told) = check();
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("DIR/rules/shop.toml: signed, counter 2026112801\n"), "{told}");
    assert_eq!(place.kept(), None);
    place.put_in_force();
    place.sign("rules/shop.toml", &rules("shop", "/a"), 2_026_112_800);
    let (code, told) = check();
    assert_eq!(code, Some(64), "{told}");
    assert!(told.contains("is outdated: its counter is 2026112800, and 2026112801 was in force"), "{told}");
}
