//! `portcullis fmt`: conditions of rules files in one spelling.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use portcullis::rules::format;
use portcullis::scenario::Scenarios;

use super::{Exit, FmtArgs, Streams};

pub(super) fn run(args: &FmtArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let mut exit = Exit::Done;
    for path in &args.paths {
        for file in files(path)? {
            let text = match fs::read_to_string(&file) {
                Ok(text) => text,
                Err(why) => {
                    writeln!(streams.err, "portcullis: {} can not be read: {why}", file.display())?;
                    exit = Exit::BadConfiguration;
                    continue;
                }
            };
            if Scenarios::is_one(&text) {
                continue;
            }
            match format::conditions(&file, &text) {
                Ok(new) if new == text => {}
                Ok(_) if args.check => {
                    writeln!(streams.out, "{} would be written otherwise", file.display())?;
                    exit = exit.worse(Exit::Runtime);
                }
                Ok(new) => {
                    replace(&file, &new)?;
                    writeln!(streams.out, "{} written", file.display())?;
                }
                Err(faults) => {
                    writeln!(streams.err, "{faults}")?;
                    exit = Exit::BadConfiguration;
                }
            }
        }
    }
    Ok(exit)
}

/// The rules files at a path: itself, or those of a folder.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|kind| kind == "toml") && file.is_file());
    files.sort();
    Ok(files)
}

/// Written beside it and renamed, so that a guard that looks at it never sees half of it.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = file.with_file_name(name);
    let mut new = fs::File::create(&beside)?;
    new.write_all(text.as_bytes())?;
    new.sync_all()?;
    if let Ok(data) = fs::metadata(file) {
        fs::set_permissions(&beside, data.permissions())?;
    }
    fs::rename(&beside, file)
}

#[cfg(test)]
mod tests {
    use super::super::tests::say;
    use super::*;

    #[test]
    fn files_are_written_only_if_they_differ() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.toml");
        let text = "version = 1\nname = \"shop\"\n[[rule]]\nid = \"a\" # why\nwhen = 'request.path.endsWith(\"x\")'\nthen = \"deny\"\n";
        fs::write(&file, text).unwrap();
        let path = folder.path().to_str().unwrap();
        let (exit, out, _) = say(&["fmt", "--check", path]);
        assert_eq!((exit, fs::read_to_string(&file).unwrap().as_str()), (Exit::Runtime, text));
        assert!(out.contains("would be written otherwise"));
        assert_eq!(say(&["fmt", path]).0, Exit::Done);
        let written = fs::read_to_string(&file).unwrap();
        assert!(written.contains("request.path ends_with \"x\"") && written.contains("# why"), "{written}");
        assert_eq!(say(&["fmt", "--check", path]).0, Exit::Done);
        fs::write(&file, text.replace("endsWith", "endWith")).unwrap();
        assert_eq!(say(&["fmt", path]).0, Exit::BadConfiguration);
        assert_eq!(say(&["fmt", "none.toml"]).0, Exit::BadConfiguration);
    }
}
