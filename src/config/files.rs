//! The part of the configuration that touches files: reading them, and looking at those that the settings name.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::fault::{Fault, Faults, Level};
use super::raw::FILE_BYTES_MAX;
use super::resolve::{FILE_NAME, Input, Overrides, Resolved, resolve, watched};
use super::{Preset, Settings};
use crate::clock::Timestamp;

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
    /// What is weak or odd.
    pub warnings: Vec<Fault>,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
    /// The files whose change means that the settings are to be loaded again.
    pub watched: Vec<PathBuf>,
}

/// Loads settings: for start, reload and `check` alike.
///
/// # Errors
/// When a file can not be read or anything in it is wrong: all faults at once.
pub fn load(request: &Request, now: Timestamp) -> Result<Loaded, Faults> {
    let file = request.file.clone().or_else(|| Some(PathBuf::from(FILE_NAME)).filter(|path| path.is_file()));
    let text = match &file {
        Some(path) => Some(read_text(path).map_err(|why| Faults(vec![unreadable(path, &why)]))?),
        None => None,
    };
    let input = Input {
        file: file.as_deref().zip(text.as_deref()),
        preset: request.preset,
        overrides: Some(&request.overrides),
    };
    let Resolved { settings, mut warnings } = resolve(&input, now)?;
    warnings.append(&mut look(&settings));
    let faults = Faults::sorted(warnings);
    if faults.is_fatal() {
        return Err(faults);
    }
    let watched = file.iter().cloned().chain(watched(&settings)).collect();
    Ok(Loaded { settings, warnings: faults.0, file, watched })
}

/// Reads a file of text, and no more of it than a configuration can have.
fn read_text(path: &Path) -> io::Result<String> {
    let most = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn unreadable(path: &Path, why: &io::Error) -> Fault {
    let message = match why.kind() {
        io::ErrorKind::NotFound => format!("there is no file {}", path.display()),
        _ => format!("{} can not be read: {why}", path.display()),
    };
    let help = (why.kind() == io::ErrorKind::NotFound).then(|| "`portcullis init` writes one".to_owned());
    Fault { level: Level::Fault, spot: None, key: String::new(), message, help }
}

/// Looks at the files that the settings name.
fn look(settings: &Settings) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut note = |level, key: &str, message: String| {
        found.push(Fault { level, spot: None, key: key.to_owned(), message, help: None });
    };
    for (at, tls) in settings.listen.iter().enumerate().filter_map(|(at, listen)| Some((at, listen.tls.as_ref()?))) {
        for (key, path) in [("cert", &tls.cert), ("key", &tls.key)] {
            if let Err(why) = fs::File::open(path) {
                note(Level::Fault, &format!("listen[{at}].tls.{key}"), cannot_read(path, &why));
            }
        }
        if is_open_to_all(&tls.key) {
            note(Level::Warning, &format!("listen[{at}].tls.key"), open_to_all(&tls.key));
        }
    }
    for (at, path) in settings.geo_databases.iter().enumerate() {
        if let Err(why) = fs::File::open(path) {
            note(Level::Fault, &format!("geo.databases[{at}]"), cannot_read(path, &why));
        }
    }
    for (key, path) in [("keys.file", &settings.keys_file), ("admin.token_file", &settings.admin.token_file)] {
        if is_open_to_all(path) {
            note(Level::Warning, key, open_to_all(path));
        }
    }
    if let Some(file) = settings.rules.files.iter().find_map(|pattern| first_match(pattern)) {
        let message = format!("files with rules are not read by this version yet, and there is {}", file.display());
        note(Level::Fault, "rules.files", message);
    }
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

/// The first file that a path with `*` in its last part matches.
fn first_match(pattern: &Path) -> Option<PathBuf> {
    let name = pattern.file_name()?.to_str()?;
    let Some((head, tail)) = name.split_once('*') else { return pattern.is_file().then(|| pattern.to_owned()) };
    let folder = pattern.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut files: Vec<PathBuf> = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files.into_iter().find(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let long_enough = name.len() >= head.len() + tail.len();
        path.is_file() && long_enough && name.starts_with(head) && name.ends_with(tail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_257_972);
    const APP: &str = "[upstream]\nurl = \"http://127.0.0.1:8000\"\n";

    fn load_text(folder: &Path, text: &str) -> Result<Loaded, Faults> {
        let path = folder.join("p.toml");
        fs::write(&path, text).unwrap();
        load(&Request { file: Some(path), ..Request::default() }, NOW)
    }

    #[test]
    fn a_file_that_is_not_there_is_a_fault_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Request { file: Some(folder.path().join("none.toml")), ..Request::default() };
        let fault = load(&missing, NOW).unwrap_err().to_string();
        assert!(fault.contains("there is no file") && fault.contains("portcullis init"), "{fault}");
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = load_text(folder.path(), APP).unwrap();
        assert_eq!(loaded.settings.keys_file, folder.path().join("portcullis-data/keys.toml"));
        assert_eq!(loaded.watched, [folder.path().join("p.toml"), folder.path().join("portcullis-data/keys.toml")]);
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
    fn rules_files_are_refused_only_if_there_are_any() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{APP}[rules]\nfiles = [\"rules/*.toml\"]\n");
        assert!(load_text(folder.path(), &text).is_ok());
        fs::create_dir(folder.path().join("rules")).unwrap();
        fs::write(folder.path().join("rules/README.md"), "").unwrap();
        assert!(load_text(folder.path(), &text).is_ok());
        fs::write(folder.path().join("rules/shop.toml"), "").unwrap();
        let fault = load_text(folder.path(), &text).unwrap_err().to_string();
        assert!(fault.contains("not read by this version yet") && fault.contains("shop.toml"), "{fault}");
    }

    #[test]
    fn a_file_that_is_not_text_or_too_large_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.toml");
        fs::write(&path, [0xff, 0xfe]).unwrap();
        let request = Request { file: Some(path), ..Request::default() };
        assert!(load(&request, NOW).unwrap_err().to_string().contains("can not be read"));
        let fault = load_text(folder.path(), &"#\n".repeat(FILE_BYTES_MAX)).unwrap_err().to_string();
        assert!(fault.contains("larger than 1 MiB"), "{fault}");
    }
}
