//! `portcullis fmt`: conditions of rules files in one spelling.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use portcullis::rules::format;
use portcullis::rules::load::RulesText;

use super::{Exit, FmtArgs, Streams, rules_files};

pub(super) fn run(args: &FmtArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let mut exit = Exit::Done;
    for path in &args.paths {
        let files = match rules_files::at(path) {
            Ok(files) => files,
            Err(why) => {
                writeln!(streams.err, "portcullis: {} can not be read: {why}", path.display())?;
                exit = Exit::BadConfiguration;
                continue;
            }
        };
        for RulesText { path: file, text } in files {
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

/// Written beside it and renamed, so that a guard that looks at it never sees half of it.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    // A link stays one, and what it leads to is written.
    let file = &fs::canonicalize(file)?;
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = file.with_file_name(name);
    let mut new = fs::File::create_new(&beside)?;
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
        // A link stays a link.
        let link = folder.path().join("link.toml");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        fs::write(&file, text).unwrap();
        assert_eq!(say(&["fmt", link.to_str().unwrap()]).0, Exit::Done);
        assert!(link.is_symlink() && fs::read_to_string(&file).unwrap() == written);
        fs::remove_file(&link).unwrap();
        fs::write(&file, text.replace("endsWith", "endWith")).unwrap();
        assert_eq!(say(&["fmt", path]).0, Exit::BadConfiguration);
        assert_eq!(say(&["fmt", "none.toml"]).0, Exit::BadConfiguration);
    }
}
