//! The part of the configuration that touches files: reading them, and looking at those that the settings name.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::counters::Remembered;
use super::places::read_lists;
use super::reading::{Reading, Taken, open};
use super::reload::Watched;
use super::resolve::{FILE_NAME, Input, Overrides, Resolved, resolve};
use super::signed::Signatures;
use super::{Preset, Rulebook, Settings};
use crate::clock::Timestamp;
use crate::rules::diagnostic::{Fault, Faults, Level};

/// What is to be loaded.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `--config`; when unset, `portcullis.toml` here is read if there is one.
    pub file: Option<PathBuf>,
    /// `--preset`
    pub preset: Option<Preset>,
    /// What the command line says over the file.
    pub overrides: Overrides,
}

/// Settings with what was found on the way.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The rules.
    pub rules: Rulebook,
    /// What is weak or odd.
    pub warnings: Vec<Fault>,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
}

/// What came of loading, and what it came of.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What runs, or all faults at once.
    pub loaded: Result<Loaded, Faults>,
    /// Every file that made the outcome what it is: whether it was good or not, a change of one may change it.
    pub watched: Watched,
}

/// Loads what is to be put in force: for start and `check` alike.
pub fn load(request: &Request, now: Timestamp) -> Attempt {
    let reading = Reading::default();
    let loaded = read(request, now, (&reading, Taken::Any), Asked::Signatures(&Remembered::default()));
    Attempt { loaded, watched: reading.into_watched() }
}

/// Loads what is to be put in force by a guard that runs, and remembers what signed rules it had. A configuration that is no
/// plain file can not be read again: a pipe gives what it has only once.
pub fn load_again(request: &Request, now: Timestamp, remembered: &Remembered) -> Attempt {
    let reading = Reading::default();
    let loaded = read(request, now, (&reading, Taken::Plain), Asked::Signatures(remembered));
    Attempt { loaded, watched: reading.into_watched() }
}

/// Whether the settings may ask for signatures.
#[derive(Clone, Copy, Debug)]
enum Asked<'a> {
    Signatures(&'a Remembered),
    Nothing,
}

/// Loads what is only looked at. Rules are looked at before they are signed, so nobody asks for signatures.
///
/// # Errors
/// When a file can not be read or anything in it is wrong: all faults at once.
pub fn inspect(request: &Request, now: Timestamp) -> Result<Loaded, Faults> {
    read(request, now, (&Reading::default(), Taken::Any), Asked::Nothing)
}

/// The settings alone, for who must not be kept from his work by a fault in the rules.
///
/// # Errors
/// When the file can not be read or anything in it is wrong: all faults at once.
pub fn settings_of(request: &Request, now: Timestamp) -> Result<Settings, Faults> {
    settled(request, now, &Reading::default(), Taken::Any).map(|(_, resolved)| resolved.settings)
}

fn settled(
    request: &Request,
    now: Timestamp,
    reading: &Reading,
    taken: Taken,
) -> Result<(Option<PathBuf>, Resolved), Faults> {
    let file = request.file.clone().or_else(|| Some(PathBuf::from(FILE_NAME)).filter(|path| path.is_file()));
    let text = match &file {
        Some(path) => Some(reading.text_of(path, taken).map_err(|why| Faults(vec![unreadable(path, &why)]))?),
        None => None,
    };
    let input = Input {
        file: file.as_deref().zip(text.as_deref()),
        preset: request.preset,
        overrides: Some(&request.overrides),
    };
    let resolved = resolve(&input, now)?;
    Ok((file, resolved))
}

fn read(
    request: &Request,
    now: Timestamp,
    (reading, taken): (&Reading, Taken),
    asked: Asked<'_>,
) -> Result<Loaded, Faults> {
    let (file, Resolved { settings, mut warnings }) = settled(request, now, reading, taken)?;
    // They are read by those who need them.
    settings.files().iter().for_each(|path| reading.before_use(path));
    warnings.append(&mut look(&settings));
    let base = file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let signatures = match asked {
        Asked::Signatures(remembered) => Signatures::asked(&settings, base, reading, remembered),
        Asked::Nothing => None,
    };
    let rules = match Rulebook::read(&settings, now, reading, signatures) {
        Ok(rules) => rules,
        Err(mut more) => {
            warnings.append(&mut more.0);
            return Err(Faults::sorted(warnings));
        }
    };
    warnings.extend_from_slice(rules.warnings());
    let faults = Faults::sorted(warnings);
    if faults.is_fatal() {
        return Err(faults);
    }
    Ok(Loaded { settings, rules, warnings: faults.0, file })
}

fn unreadable(path: &Path, why: &io::Error) -> Fault {
    let message = match why.kind() {
        io::ErrorKind::NotFound => format!("there is no file {}", path.display()),
        _ => format!("{} can not be read: {why}", path.display()),
    };
    let help = (why.kind() == io::ErrorKind::NotFound).then(|| "`portcullis init` writes one".to_owned());
    Fault::new(Level::Fault, "", message).with_help(help)
}

/// Looks at the files that the settings name.
fn look(settings: &Settings) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut note = |level, key: &str, message: String| {
        found.push(Fault::new(level, key, message));
    };
    for (at, tls) in settings.listen.iter().enumerate().filter_map(|(at, listen)| Some((at, listen.tls.as_ref()?))) {
        for (key, path) in [("cert", &tls.cert), ("key", &tls.key)] {
            if let Err(why) = open(path, Taken::Plain) {
                note(Level::Fault, &format!("listen[{at}].tls.{key}"), cannot_read(path, &why));
            }
        }
        if is_open_to_all(&tls.key) {
            note(Level::Warning, &format!("listen[{at}].tls.key"), open_to_all(&tls.key));
        }
    }
    for (at, file) in settings.geo.databases.iter().enumerate() {
        if let Err(why) = open(&file.path, Taken::Plain) {
            note(Level::Fault, &format!("geo.databases[{at}]"), cannot_read(&file.path, &why));
        }
    }
    for (key, path) in [("keys.file", &settings.keys_file), ("admin.token_file", &settings.admin.token_file)] {
        if is_open_to_all(path) {
            note(Level::Warning, key, open_to_all(path));
        }
    }
    // A list is what somebody may have written by hand: what is wrong with it is told like all else.
    found.extend(read_lists(&settings.geo).err().unwrap_or_default());
    found
}

fn cannot_read(path: &Path, why: &io::Error) -> String {
    format!("{} can not be read: {why}", path.display())
}

fn is_open_to_all(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o077 != 0)
}

fn open_to_all(path: &Path) -> String {
    format!("others on this machine can read {0}; `chmod 600 {0}` stops that", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Change, Watcher};
    use crate::rules::FILE_BYTES_MAX;

    const NOW: Timestamp = Timestamp::from_secs(1_795_257_972);
    const APP: &str = "[upstream]\nurl = \"http://127.0.0.1:8000\"\n";

    fn attempt(folder: &Path, text: &str) -> Attempt {
        let path = folder.join("p.toml");
        fs::write(&path, text).unwrap();
        load(&Request { file: Some(path), ..Request::default() }, NOW)
    }

    fn load_text(folder: &Path, text: &str) -> Result<Loaded, Faults> {
        attempt(folder, text).loaded
    }

    const RULE: &str =
        "version = 1\nname = \"shop\"\n[[rule]]\nid = \"tor\"\nwhen = 'client.is_tor'\nthen = \"observe\"\n";

    #[test]
    fn a_file_that_is_not_there_is_a_fault_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Request { file: Some(folder.path().join("none.toml")), ..Request::default() };
        let fault = load(&missing, NOW).loaded.unwrap_err().to_string();
        assert!(fault.contains("there is no file") && fault.contains("portcullis init"), "{fault}");
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = load_text(folder.path(), APP).unwrap();
        assert_eq!(loaded.settings.keys_file, folder.path().join("portcullis-data/keys.toml"));
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }

    #[test]
    fn a_missing_certificate_and_database_are_faults() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "{APP}[[listen]]\naddress = \"127.0.0.1:1\"\ntls = {{ cert = \"c.pem\", key = \"k.pem\" }}\n[geo]\ndatabases = [\"g.mmdb\"]\n"
        );
        let faults = load_text(folder.path(), &text).unwrap_err();
        let keys: Vec<&str> = faults.0.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["listen[0].tls.cert", "listen[0].tls.key", "geo.databases[0]"]);
    }

    #[test]
    fn a_key_file_that_others_can_read_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        fs::write(&keys, "").unwrap();
        let text = format!("{APP}[keys]\nfile = \"keys\"\n");
        for (mode, warnings) in [(0o644, 1), (0o640, 1), (0o600, 0), (0o400, 0)] {
            fs::set_permissions(&keys, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(load_text(folder.path(), &text).unwrap().warnings.len(), warnings, "{mode:o}");
        }
    }

    #[test]
    fn rules_files_are_read_with_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{APP}[rules]\nfiles = [\"rules/*.toml\"]\n");
        let count = |loaded: &Loaded| loaded.rules.main().rules().len();
        let away = load_text(folder.path(), &text).unwrap_err().to_string();
        assert!(away.contains("rules/*.toml can not be read"), "{away}");
        fs::create_dir(folder.path().join("rules")).unwrap();
        let packs = count(&load_text(folder.path(), &text).unwrap());
        for name in ["README.md", ".#shop.toml"] {
            fs::write(folder.path().join("rules").join(name), "x").unwrap();
        }
        assert_eq!(count(&load_text(folder.path(), &text).unwrap()), packs);
        let shop = folder.path().join("rules/shop.toml");
        fs::write(&shop, RULE).unwrap();
        let loaded = load_text(folder.path(), &text).unwrap();
        assert_eq!(count(&loaded), packs + 1);
        fs::write(&shop, RULE.replace("is_tor", "is_tot")).unwrap();
        let fault = load_text(folder.path(), &text).unwrap_err().to_string();
        assert!(fault.contains("there is no field `client.is_tot`") && fault.contains("shop.toml:5:9"), "{fault}");
        let set = RULE
            .replace("[[rule]]", "[set]\nmany = { file = \"many.txt\" }\n[[rule]]")
            .replace("client.is_tor", "client.asn in @many");
        fs::write(&shop, set).unwrap();
        fs::write(folder.path().join("rules/many.txt"), "64500\n".repeat(FILE_BYTES_MAX / 6 + 1)).unwrap();
        let cut = load_text(folder.path(), &text).unwrap_err().to_string();
        assert!(cut.contains("many.txt can not be read: it is larger than 1 MiB"), "{cut}");
        let missing = load_text(folder.path(), &text.replace('*', "none")).unwrap_err().to_string();
        assert!(missing.contains("none.toml can not be read"), "{missing}");
    }

    #[test]
    fn a_file_that_is_not_text_or_too_large_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.toml");
        fs::write(&path, [0xff, 0xfe]).unwrap();
        let request = Request { file: Some(path), ..Request::default() };
        assert!(load(&request, NOW).loaded.unwrap_err().to_string().contains("can not be read"));
        let fault = load_text(folder.path(), &"#\n".repeat(FILE_BYTES_MAX)).unwrap_err().to_string();
        assert!(fault.contains("larger than 1 MiB"), "{fault}");
    }

    /// `check --config <(make-config)` and the like: somebody stands at the other end.
    #[test]
    fn a_configuration_that_is_named_may_be_a_pipe_but_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.toml");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let request = Request { file: Some(path.clone()), ..Request::default() };
        let writer = std::thread::spawn(move || fs::write(path, APP).unwrap());
        let loaded = load(&request, NOW).loaded.unwrap();
        writer.join().unwrap();
        assert_eq!(loaded.settings.keys_file, folder.path().join("portcullis-data/keys.toml"));
        let again = load_again(&request, NOW, &Remembered::default()).loaded.unwrap_err().to_string();
        assert!(again.contains("p.toml can not be read: it is no plain file"), "{again}");
    }

    /// A file that changed after it was read and before it was watched was noticed only at its next change.
    #[test]
    fn a_change_while_a_configuration_is_loaded_is_noticed() {
        let text = format!(
            "{APP}[rules]\nfiles = [\"rules/*.toml\"]\n[[listen]]\naddress = \"127.0.0.1:1\"\n\
             tls = {{ cert = \"c.pem\", key = \"k.pem\" }}\n[geo]\ndatabases = [\"g.mmdb\"]\n"
        );
        let set = RULE.replace("[[rule]]", "[set]\nmany = { file = \"many.txt\" }\n[[rule]]");
        let set = set.replace("client.is_tor", "client.asn in @many");
        let named = ["p.toml", "rules/shop.toml", "rules/many.txt", "rules/new.toml", "c.pem", "k.pem", "g.mmdb"];
        for changed in named.into_iter().chain(["portcullis-data/keys.toml"]) {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("rules")).unwrap();
            fs::create_dir(folder.path().join("portcullis-data")).unwrap();
            for (name, text) in [("c.pem", ""), ("k.pem", ""), ("g.mmdb", ""), ("rules/many.txt", "64500\n")] {
                fs::write(folder.path().join(name), text).unwrap();
            }
            fs::write(folder.path().join("rules/shop.toml"), &set).unwrap();
            let Attempt { loaded, watched } = attempt(folder.path(), &text);
            assert!(loaded.is_ok(), "{loaded:?}");
            let mut still = Watcher::new(watched.clone());
            assert_eq!([still.look(), still.look(), still.look()], [Change::None; 3]);
            fs::write(folder.path().join(changed), "# other").unwrap();
            let mut watcher = Watcher::new(watched);
            assert_eq!([watcher.look(), watcher.look()], [Change::Settling, Change::Changed], "{changed}");
        }
    }

    /// After a failed load only the files of the last good one were watched: a mended one was not noticed.
    #[test]
    fn what_only_a_faulty_configuration_names_is_watched_too() {
        let text = format!("{APP}[rules]\nfiles = [\"new/*.toml\"]\n");
        let faulty = RULE.replace("is_tor", "is_tot");
        let set = RULE.replace("[[rule]]", "[set]\nmany = { file = \"many.txt\" }\n[[rule]]");
        let set = set.replace("client.is_tor", "client.asn in @many");
        // What is there before, and what mends it.
        let cases = [
            (vec![], ("new/shop.toml", RULE)),
            (vec![("new/shop.toml", faulty.as_str())], ("new/shop.toml", RULE)),
            (vec![("new/shop.toml", &set)], ("new/many.txt", "64500\n")),
            (vec![("new/shop.toml", &set), ("new/many.txt", "x")], ("new/many.txt", "64500\n")),
        ];
        for (before, mended) in cases {
            let folder = tempfile::tempdir().unwrap();
            let write = |files: &[(&str, &str)]| {
                for (name, text) in files {
                    let path = folder.path().join(name);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, text).unwrap();
                }
            };
            write(&before);
            let Attempt { loaded, watched } = attempt(folder.path(), &text);
            assert!(loaded.is_err(), "{before:?}");
            let mut watcher = Watcher::new(watched);
            assert_eq!([watcher.look(), watcher.look(), watcher.look()], [Change::None; 3], "{before:?}");
            write(&[mended]);
            assert_eq!([watcher.look(), watcher.look()], [Change::Settling, Change::Changed], "{mended:?}");
            let request = Request { file: Some(folder.path().join("p.toml")), ..Request::default() };
            assert!(load(&request, NOW).loaded.is_ok(), "{mended:?}");
        }
    }

    #[test]
    fn a_folder_that_comes_to_be_is_a_change_though_it_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{APP}[rules]\nfiles = [\"rules/*.toml\"]\n");
        let Attempt { loaded, watched } = attempt(folder.path(), &text);
        assert!(loaded.is_err());
        fs::create_dir(folder.path().join("rules")).unwrap();
        let mut watcher = Watcher::new(watched);
        assert_eq!([watcher.look(), watcher.look()], [Change::Settling, Change::Changed]);
    }

    #[test]
    fn a_text_that_is_too_large_is_the_same_at_every_look() {
        let folder = tempfile::tempdir().unwrap();
        let Attempt { loaded, watched } = attempt(folder.path(), &"#\n".repeat(FILE_BYTES_MAX));
        assert!(loaded.is_err());
        let mut watcher = Watcher::new(watched);
        assert_eq!([watcher.look(), watcher.look(), watcher.look()], [Change::None; 3]);
    }

    #[test]
    fn faulty_rules_keep_nobody_from_the_settings() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{APP}[rules]\nfiles = [\"none.toml\"]\n");
        assert!(attempt(folder.path(), &text).loaded.is_err());
        let request = Request { file: Some(folder.path().join("p.toml")), ..Request::default() };
        assert_eq!(settings_of(&request, NOW).unwrap().keys_file, folder.path().join("portcullis-data/keys.toml"));
        fs::write(folder.path().join("p.toml"), "x = 1").unwrap();
        assert!(settings_of(&request, NOW).is_err());
    }
}
