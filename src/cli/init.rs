//! `portcullis init`: a configuration with comments, for a preset.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use portcullis::config::resolve::FILE_NAME;
use portcullis::config::{self, Preset};
use portcullis::rules::schema;

use super::{Exit, InitArgs, Streams};

/// The whole file but for what a preset knows.
const TEMPLATE: &str = include_str!("init.toml");
/// Where in the template the preset goes.
const PRESET_MARK: &str = "#: preset\n";
/// What stands there without one.
const NO_PRESET: &str = include_str!("init_no_preset.toml");
/// Where in a preset the other settings of `[session]` go.
const SESSION_MARK: &str = "#: more settings of [session]\n";
/// Those settings.
const SESSION: &str = include_str!("init_session.toml");
/// A first rules file.
const RULES: &str = include_str!("init_rules.toml");
/// What its rules are expected to do.
const SCENARIOS: &str = include_str!("init_scenarios.toml");

pub(super) fn run(args: &InitArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let files = [
        (args.folder.join(FILE_NAME), configuration(args.preset)),
        (args.folder.join("rules/site.toml"), RULES.to_owned()),
        (args.folder.join("scenarios/site.toml"), SCENARIOS.to_owned()),
        // Editors read them: the first line of each file names its own.
        (args.folder.join("schema/portcullis.json"), format!("{:#}\n", config::schema())),
        (args.folder.join("schema/rules.json"), format!("{:#}\n", schema::rules())),
        (args.folder.join("schema/scenarios.json"), format!("{:#}\n", schema::scenarios())),
    ];
    if let Some((there, _)) = files.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
        let there = there.display();
        writeln!(streams.err, "portcullis: {there} is already there, so nothing was written.")?;
        writeln!(streams.err, "Move it away, or name another folder: portcullis init DIR")?;
        return Ok(Exit::Runtime);
    }
    for (path, text) in &files {
        if let Err(error) = write(path, text) {
            writeln!(streams.err, "portcullis: {} can not be written: {error}", path.display())?;
            return Ok(Exit::Runtime);
        }
        writeln!(streams.out, "wrote {}", path.display())?;
    }
    let file = args.folder.join(FILE_NAME);
    writeln!(streams.out, "\nNext: put the address of your app into it, then")?;
    writeln!(streams.out, "  portcullis check {}", file.display())?;
    writeln!(streams.out, "  portcullis test {}", args.folder.join("scenarios").display())?;
    writeln!(streams.out, "  portcullis run --config {}", file.display())?;
    Ok(Exit::Done)
}

fn configuration(preset: Option<Preset>) -> String {
    let known = preset.map_or(NO_PRESET, Preset::text).replace(SESSION_MARK, SESSION);
    TEMPLATE.replace(PRESET_MARK, &known)
}

/// Writes a file that is not there yet.
fn write(path: &PathBuf, text: &str) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    fs::OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use portcullis::clock::Timestamp;
    use portcullis::config::resolve::{Input, Resolved, resolve};

    use super::super::tests::say;
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_257_972);

    fn all() -> impl Iterator<Item = Option<Preset>> {
        Preset::ALL.into_iter().map(Some).chain([None])
    }

    fn resolved(text: &str) -> Resolved {
        let file = Some((Path::new("portcullis.toml"), text));
        resolve(&Input { file, ..Input::default() }, NOW).unwrap_or_else(|faults| panic!("{faults}\n{text}"))
    }

    #[test]
    fn what_init_writes_passes_check() {
        for preset in all() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("new").to_str().unwrap().to_owned();
            let mut words = vec!["init", &path];
            if let Some(preset) = preset {
                words.extend(["--preset", preset.as_str()]);
            }
            let (exit, out, err) = say(&words);
            assert_eq!((exit, err.as_str()), (Exit::Done, ""), "{preset:?}");
            assert!(out.contains("portcullis check"), "{out}");
            let (exit, out, _) = say(&["check", "--deny-warnings", &path]);
            assert_eq!(exit, Exit::Done, "{preset:?}: {out}");
            let (exit, out, err) = say(&["test", "--coverage", "--mutate", &path]);
            assert_eq!(exit, Exit::Done, "{preset:?}: {out} {err}");
            let (exit, out, _) = say(&["fmt", "--check", &format!("{path}/rules")]);
            assert_eq!((exit, out.as_str()), (Exit::Done, ""));
        }
    }

    #[test]
    fn what_it_writes_is_what_the_preset_says() {
        for preset in Preset::ALL {
            let written = resolved(&configuration(Some(preset))).settings;
            let text = format!("{}\n[upstream]\nurl = \"unix:/x\"\n", preset.text());
            let meant = resolved(&text).settings;
            assert_eq!(written.session.shield, meant.session.shield, "{preset}");
            assert_eq!(written.logins, meant.logins, "{preset}");
            assert_eq!(written.routes, meant.routes, "{preset}");
        }
    }

    fn switched_on(text: &str) -> String {
        let on = |line: &str| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with([' ', ':', '#']) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        };
        text.lines().map(on).collect()
    }

    /// `#name = value` is a setting that may be switched on as it stands, `# text` is prose.
    #[test]
    fn every_setting_in_a_comment_is_one_that_could_be_read() {
        for preset in all() {
            let text = configuration(preset);
            let on = switched_on(&text);
            assert!(on.len() + 30 < text.len(), "{preset:?}");
            resolved(&on);
        }
    }

    #[test]
    fn settings_in_comments_show_the_defaults() {
        let written = resolved(&configuration(None)).settings;
        let on = resolved(&format!("[session]\n{}[upstream]\nurl = \"unix:/x\"", switched_on(SESSION))).settings;
        assert_eq!(written.session.deadlines, on.session.deadlines);
        assert_eq!(written.session.cookie, on.session.cookie);
        assert_eq!((written.session.grace, written.session.rotate_every), (on.session.grace, on.session.rotate_every));
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        fs::write(folder.path().join(FILE_NAME), "mine").unwrap();
        let (exit, out, err) = say(&["init", path]);
        assert_eq!((exit, out.as_str()), (Exit::Runtime, ""));
        assert!(err.contains("already there") && err.contains("another folder"), "{err}");
        assert_eq!(fs::read_to_string(folder.path().join(FILE_NAME)).unwrap(), "mine");
        assert!(!folder.path().join("rules").exists());
    }

    #[test]
    fn a_folder_that_can_not_be_written_says_so() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let (exit, _, err) = say(&["init", folder.path().join("file/sub").to_str().unwrap()]);
        assert!(exit == Exit::Runtime && err.contains("can not be written"), "{err}");
    }
}
