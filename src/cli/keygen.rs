//! `portcullis keygen`: a new current key.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use portcullis::clock::{Clock as _, SystemClock};
use portcullis::config::keys::{KeyFile, KeyFileError, Origin, Turn, load_or_make, turn};
use portcullis::config::resolve::Overrides;
use portcullis::config::{Faults, Location, Request, settings_of};
use portcullis::entropy::OsEntropy;

use super::{Exit, KeygenArgs, Streams};

pub(super) fn run(args: &KeygenArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let path = match path(args) {
        Ok(path) => path,
        Err(faults) => {
            writeln!(streams.err, "{faults}")?;
            return Ok(Exit::BadConfiguration);
        }
    };
    let now = SystemClock::new().now();
    let asked = match (args.stage, args.promote) {
        (true, _) => Turn::Stage,
        (_, true) => Turn::Promote,
        _ => Turn::Replace,
    };
    let done = load_or_make(&path, &OsEntropy, now).and_then(|(file, origin)| match origin {
        Origin::Made => Ok((file, origin)),
        Origin::Read => turn(&path, asked, &OsEntropy, now).map(|file| (file, origin)),
    });
    match done {
        Ok((file, origin)) => tell(&path, &file, origin, streams),
        Err(error) => fail(&error, streams),
    }
}

fn path(args: &KeygenArgs) -> Result<PathBuf, Faults> {
    if let Some(file) = &args.file {
        return Ok(file.clone());
    }
    // Which app is guarded makes no difference to the keys, and may be said to `run` alone.
    let overrides = Overrides { upstream: Some(Location::Unix(PathBuf::from("app.sock"))), ..Overrides::default() };
    let request = Request { file: args.config.clone(), preset: None, overrides };
    settings_of(&request, SystemClock::new().now()).map(|settings| settings.keys_file)
}

fn tell(path: &std::path::Path, file: &KeyFile, origin: Origin, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let path = path.display();
    if origin == Origin::Made {
        writeln!(streams.out, "{path}: made, with key {}", file.current().0)?;
        writeln!(streams.out, "Keep a copy of it in a safe place: without it every session is lost.")?;
        return Ok(Exit::Done);
    }
    let kept: Vec<String> = file.previous().iter().map(|id| id.0.to_string()).collect();
    if let Some(staged) = file.staged() {
        writeln!(streams.out, "{path}: key {} is staged; key {} is still the current one", staged.0, file.current().0)?;
        writeln!(
            streams.out,
            "Put this file where every guard has its keys, let all of them read it (SIGHUP), then `portcullis keygen --promote`."
        )?;
        return Ok(Exit::Done);
    }
    writeln!(streams.out, "{path}: key {} is the current one now; kept: {}", file.current().0, kept.join(", "))?;
    writeln!(
        streams.out,
        "A running guard takes it when it reads its configuration again (SIGHUP, or by itself in seconds)."
    )?;
    Ok(Exit::Done)
}

fn fail(error: &KeyFileError, streams: &mut Streams<'_>) -> io::Result<Exit> {
    write!(streams.err, "portcullis: {error}")?;
    match (error, error.source()) {
        (KeyFileError::Io { .. }, Some(source)) => writeln!(streams.err, ": {source}")?,
        _ => writeln!(streams.err)?,
    }
    Ok(Exit::Runtime)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::say;
    use super::*;

    #[test]
    fn the_first_call_makes_the_file_and_the_next_ones_rotate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let keygen = || say(&["keygen", path.to_str().unwrap()]);
        let (exit, out, _) = keygen();
        assert!(exit == Exit::Done && out.contains("made, with key 1"), "{out}");
        keygen();
        let (_, out, _) = keygen();
        assert!(out.contains("key 3 is the current one now; kept: 2, 1"), "{out}");
        let text = fs::read_to_string(&path).unwrap();
        let secret = text.split('"').nth(1).unwrap();
        assert!(!out.contains(secret));
    }

    #[test]
    fn a_key_is_staged_and_then_promoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let keygen = |more: &[&str]| say(&[&["keygen", path.to_str().unwrap()], more].concat());
        keygen(&[]);
        let (exit, _, err) = keygen(&["--promote"]);
        assert!(exit == Exit::Runtime && err.contains("no key is staged"), "{err}");
        let (exit, out, _) = keygen(&["--stage"]);
        assert!(exit == Exit::Done && out.contains("key 2 is staged; key 1 is still the current one"), "{out}");
        for more in [&["--stage"][..], &[]] {
            let (exit, _, err) = keygen(more);
            assert!(exit == Exit::Runtime && err.contains("key 2 is staged"), "{err}");
        }
        let (exit, out, _) = keygen(&["--promote"]);
        assert!(exit == Exit::Done && out.contains("key 2 is the current one now; kept: 1"), "{out}");
        assert_eq!(keygen(&["--stage", "--promote"]).0, Exit::Usage);
    }

    #[test]
    fn the_configuration_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("p.toml");
        fs::write(&config, "[keys]\nfile = \"other/k.toml\"\n").unwrap();
        let (exit, ..) = say(&["keygen", "--config", config.to_str().unwrap()]);
        assert_eq!(exit, Exit::Done);
        assert!(folder.path().join("other/k.toml").is_file());
        fs::write(&config, "[keys]\nfile = 1\n").unwrap();
        assert_eq!(say(&["keygen", "--config", config.to_str().unwrap()]).0, Exit::BadConfiguration);
    }

    #[test]
    fn a_damaged_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        fs::write(&path, "nothing").unwrap();
        let (exit, _, err) = say(&["keygen", path.to_str().unwrap()]);
        assert!(exit == Exit::Runtime && err.contains("damaged"), "{err}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "nothing");
    }

    #[test]
    fn a_file_that_can_not_be_written_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let under_a_file = folder.path().join("file/keys.toml");
        fs::write(folder.path().join("file"), "").unwrap();
        let (exit, _, err) = say(&["keygen", under_a_file.to_str().unwrap()]);
        assert_eq!(exit, Exit::Runtime);
        assert!(err.starts_with("portcullis: the key file ") && err.trim_end().contains(": "), "{err}");
    }
}
