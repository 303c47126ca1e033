//! `portcullis migrate`: copies the sessions of one store into another.

use std::io::{self, IsTerminal as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use portcullis::clock::{Clock, SystemClock};
use portcullis::config::keys::{self, KeyFile, KeyFileError};
use portcullis::config::resolve::Overrides;
use portcullis::config::{Faults, Location, Request, ServerKind, Settings, StoreKind, TOMBSTONES, settings_of};
use portcullis::limit::Spelled;
use portcullis::store::SESSIONS_MAX_DEFAULT;
use portcullis::store::any::AnyStore;
use portcullis::store::memory::MemoryStore;
use portcullis::store::migrate::{self, Counts, Doing};
use serde_json::json;

use super::run::{RunError, diagnostics, store};
use super::{Exit, Format, MigrateArgs, Streams};

/// How long a server may take for one answer: nobody waits in a browser here.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why not everything was copied.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Config(#[from] Faults),
    #[error("{0}")]
    Refused(String),
    #[error("{what}: {source}")]
    Store {
        what: &'static str,
        #[source]
        source: RunError,
    },
    #[error("{0}")]
    Keys(#[from] KeyFileError),
    #[error("{0}")]
    Halfway(#[source] migrate::Failure),
    #[error("the old store has no sessions: is it the right one? Look at its `path`, `url` and `prefix`")]
    Empty,
    #[error("{0} sessions were changed in the new store as fast as they were looked at: copy once more")]
    Contested(u64),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Failure {
    const fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Refused(_) => Exit::BadConfiguration,
            Self::Store { .. } | Self::Keys(_) | Self::Halfway(_) | Self::Empty | Self::Contested(_) | Self::Io(_) => {
                Exit::Runtime
            }
        }
    }
}

pub(super) fn run(args: &MigrateArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(perform(args, streams));
    // Looking up a name may hang, and must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    let Err(failure) = done else { return Ok(Exit::Done) };
    write!(streams.err, "portcullis: {failure}")?;
    match &failure {
        Failure::Keys(KeyFileError::Io { source, .. }) => writeln!(streams.err, ": {source}")?,
        Failure::Halfway(_) if !args.dry_run => {
            writeln!(streams.err, "; what was copied stays, and can be gone on with by the same command")?;
        }
        _ => writeln!(streams.err)?,
    }
    if let Failure::Halfway(halfway) = &failure {
        tell(&halfway.counts, args, streams)?;
    }
    Ok(failure.exit())
}

async fn perform(args: &MigrateArgs, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let [old, new] = [&args.from, &args.to].map(|file| settings(file, &*clock));
    let (old, new) = (old?, new?);
    check_kinds(&old, &new, args)?;
    let (old_keys, new_keys) = (keys::read(&old.keys_file)?, keys::read(&new.keys_file)?);
    check_keys(&old_keys, &new_keys, &new.keys_file)?;
    let owner = |path: &Path| std::fs::metadata(path).map(|file| file.uid());
    check_user(owner(Path::new("/proc/self"))?, owner(&new.keys_file)?, &new.store.kind)?;
    tell_dangers(&old, &new, streams)?;
    // Records that can not be read are told there.
    let _written = diagnostics();
    let failed = |what| move |source| Failure::Store { what, source };
    let from = store::open(&old, &old_keys, &clock).await.map_err(failed("the old store can not be opened"))?;
    let to = match is_there(&new.store.kind)? {
        // It would be made by opening it.
        Some(false) if args.dry_run => MemoryStore::new(SESSIONS_MAX_DEFAULT).into(),
        _ => store::open(&new, &new_keys, &clock).await.map_err(failed("the new store can not be opened"))?,
    };
    let doing = if args.dry_run { Doing::Count } else { Doing::Copy };
    let settings = migrate::Settings { doing, deadlines: old.session.deadlines, clock };
    let counts = copy(&from, &Arc::new(to), &settings).await?;
    tell(&counts, args, streams)?;
    match counts {
        counts if counts.looked_at() == 0 => Err(Failure::Empty),
        Counts { contested: 0, .. } => Ok(()),
        Counts { contested, .. } => Err(Failure::Contested(contested)),
    }
}

/// What is likely not meant.
fn tell_dangers(old: &Settings, new: &Settings, streams: &mut Streams<'_>) -> io::Result<()> {
    if old.session.cookie.name != new.session.cookie.name {
        let [old, new] = [old, new].map(|settings| &settings.session.cookie.name);
        writeln!(
            streams.err,
            "portcullis: warning: the cookie is `{old}` in the old configuration and `{new}` in the new one: \
             nobody's cookie will be known"
        )?;
    }
    let lasts = |settings: &Settings| settings.session.deadlines.idle.min(settings.session.deadlines.absolute);
    if lasts(old).max(lasts(new)) > TOMBSTONES {
        writeln!(
            streams.err,
            "portcullis: warning: sessions may last longer than it is known that one has ended ({}): make all copies within that \
             time, or who logged out in between may come back",
            Spelled(TOMBSTONES)
        )?;
    }
    Ok(())
}

/// Copies, tells people how far it is, and closes both stores however it ends.
async fn copy(from: &AnyStore, to: &Arc<AnyStore>, settings: &migrate::Settings) -> Result<Counts, Failure> {
    let shown = io::stderr().is_terminal();
    let progress = |counts: &Counts| {
        if shown {
            // Nobody is there to be told that nobody is there.
            drop(io::Write::write_fmt(&mut io::stderr(), format_args!("\r{} records", counts.looked_at())));
        }
    };
    let copied = migrate::migrate(from, to, settings, progress).await;
    if shown {
        drop(io::Write::write_all(&mut io::stderr(), b"\r                              \r"));
    }
    to.close().await;
    from.close().await;
    copied.map_err(Failure::Halfway)
}

fn settings(file: &Path, clock: &dyn Clock) -> Result<Settings, Failure> {
    // Which app is guarded makes no difference to the store, and may be said to `run` alone.
    let overrides = Overrides { upstream: Some(Location::Unix(PathBuf::from("app.sock"))), ..Overrides::default() };
    let request = Request { file: Some(file.to_owned()), preset: None, overrides };
    let mut settings = settings_of(&request, clock.now())?;
    if let StoreKind::Server(server) = &mut settings.store.kind {
        // What is copied is not looked at again.
        server.cache = None;
        server.timeout = server.timeout.max(TIMEOUT);
    }
    Ok(settings)
}

fn check_kinds(old: &Settings, new: &Settings, args: &MigrateArgs) -> Result<(), Failure> {
    let refused = |text: String| Err(Failure::Refused(text));
    for (settings, file) in [(old, &args.from), (new, &args.to)] {
        if matches!(settings.store.kind, StoreKind::Sealed(_)) {
            return refused(format!(
                "{}: the sessions of a store \"sealed\" are in the cookies of their clients: there is nothing to copy",
                file.display()
            ));
        }
        if settings.store.kind == StoreKind::Memory {
            return refused(format!(
                "{}: a store in memory is in the guard's own process, where nobody else can read or write it: \
                 its sessions can not be copied",
                file.display()
            ));
        }
    }
    if old.store.kind == new.store.kind {
        return refused("both configurations name the same store".to_owned());
    }
    if is_there(&old.store.kind)? == Some(false) {
        let folder = old.store.kind.folder().unwrap_or_else(|| Path::new("")).display();
        return refused(format!("{}: there is no such store in {folder}", args.from.display()));
    }
    Ok(())
}

/// Whether a store of this machine is there; none for one elsewhere.
fn is_there(kind: &StoreKind) -> Result<Option<bool>, Failure> {
    let file = match kind {
        StoreKind::Embedded(folder) => folder.join("sessions.redb"),
        StoreKind::File(folder) => folder.join("sessions"),
        StoreKind::Server(server) if server.kind == ServerKind::Sqlite => server.folder.join("sessions.sqlite"),
        StoreKind::Memory | StoreKind::Server(_) | StoreKind::Sealed(_) => return Ok(None),
    };
    // Who may not look does not know.
    let found = file.try_exists();
    found.map(Some).map_err(|error| Failure::Refused(format!("{}: {error}", file.display())))
}

/// What root makes the guard could not open: it runs as the one whose the keys are.
fn check_user(me: u32, owner: u32, new: &StoreKind) -> Result<(), Failure> {
    if me == 0 && owner != 0 && new.folder().is_some() {
        return Err(Failure::Refused(format!(
            "the new store would belong to root, and the guard, which runs as user {owner} (the owner of its keys), could not \
             open it: run this as that user, for a service with `systemd-run` as the manual shows"
        )));
    }
    Ok(())
}

/// What the old keys have sealed and signed the new guard must be able to open and to know.
fn check_keys(old: &KeyFile, new: &KeyFile, file: &Path) -> Result<(), Failure> {
    let missing = new.lacks(old);
    if missing.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = missing.iter().map(|id| id.0.to_string()).collect();
    Err(Failure::Refused(format!(
        "the key file {} does not have every key of the old configuration (key {} is missing or another): cookies and \
         sessions made with it could not be read, and everybody would be logged out. Copy the key file, or add the key",
        file.display(),
        ids.join(", ")
    )))
}

fn tell(counts: &Counts, args: &MigrateArgs, streams: &mut Streams<'_>) -> io::Result<()> {
    let Counts { copied, updated, tombstones, ended, kept, stay_ended, over, unreadable, contested, displaced } =
        *counts;
    if args.format == Format::Json {
        let all = json!({
            "dry_run": args.dry_run, "records": counts.looked_at(), "copied": copied, "updated": updated,
            "tombstones": tombstones, "ended": ended, "kept": kept, "stay_ended": stay_ended, "over": over,
            "unreadable": unreadable, "contested": contested, "displaced": displaced,
        });
        return writeln!(streams.out, "{all}");
    }
    if args.dry_run {
        writeln!(streams.out, "Nothing was changed. This would be done:")?;
    }
    let mut line = |count: u64, what: &str| writeln!(streams.out, "{count:>9}  {what}");
    line(copied, "sessions copied")?;
    line(updated, "sessions brought up to date, which were there in an earlier state")?;
    line(kept, "sessions left as they are there: the same, or in a later state")?;
    line(ended, "sessions ended there, as they ended here since")?;
    line(tombstones, "tombstones of ended sessions and replaced ids copied")?;
    line(stay_ended, "records left that have ended there")?;
    line(over, "records left that are over by time")?;
    if unreadable > 0 {
        line(unreadable, "sessions left that are there and can not be read")?;
    }
    if displaced > 0 {
        line(displaced, "sessions of visitors given up there, since the store is full")?;
    }
    if contested > 0 {
        line(contested, "sessions that are in use there and are to be looked at again")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use portcullis::clock::Timestamp;
    use portcullis::entropy::InsecureSeededEntropy;

    use super::super::tests::say;
    use super::*;

    /// Writes a configuration with this store, and a key file beside it.
    fn write(folder: &Path, name: &str, store: &str, keys: &str) -> String {
        let file = folder.join(name);
        std::fs::write(&file, format!("version = 1\n[store]\n{store}\n[keys]\nfile = \"{keys}\"\n")).unwrap();
        file.to_str().unwrap().to_owned()
    }

    fn write_keys(folder: &Path, name: &str, seed: u64) {
        let keys = KeyFile::generate(&InsecureSeededEntropy::new(seed), Timestamp::from_secs(1)).unwrap();
        std::fs::write(folder.join(name), keys.render().as_bytes()).unwrap();
    }

    #[test]
    fn what_root_would_make_for_somebody_else_is_not_made() {
        let (embedded, memory) = (StoreKind::Embedded("data".into()), StoreKind::Memory);
        for (me, owner, kind, is_fine) in
            [(0, 7, &embedded, false), (0, 0, &embedded, true), (7, 7, &embedded, true), (0, 7, &memory, true)]
        {
            assert_eq!(check_user(me, owner, kind).is_ok(), is_fine, "{me} {owner} {kind:?}");
        }
    }

    #[test]
    fn what_can_not_be_copied_is_refused_before_anything_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, store: &str, keys: &str| write(folder.path(), name, store, keys);
        write_keys(folder.path(), "keys.toml", 1);
        write_keys(folder.path(), "other.toml", 2);
        let memory = file("memory.toml", "kind = \"memory\"", "keys.toml");
        let one = file("one.toml", "path = \"one\"", "keys.toml");
        let two = file("two.toml", "path = \"two\"", "keys.toml");
        let strange = file("strange.toml", "path = \"two\"", "other.toml");
        let faulty = file("faulty.toml", "pth = \"two\"", "keys.toml");
        let check = |from: &str, to: &str, exit: Exit, word: &str| {
            let (found, out, err) = say(&["migrate", "--from", from, "--to", to]);
            assert_eq!((found, out.as_str()), (exit, ""), "{err}");
            assert!(err.contains(word), "{word}: {err}");
        };
        check(&memory, &one, Exit::BadConfiguration, "in memory");
        check(&one, &memory, Exit::BadConfiguration, "in memory");
        let sealed = file("sealed.toml", "kind = \"sealed\"", "keys.toml");
        check(&sealed, &one, Exit::BadConfiguration, "in the cookies of their clients");
        check(&one, &sealed, Exit::BadConfiguration, "in the cookies of their clients");
        check(&one, &one, Exit::BadConfiguration, "the same store");
        check(&one, &two, Exit::BadConfiguration, "there is no such store");
        check(&faulty, &two, Exit::BadConfiguration, "pth");
        check(folder.path().join("none.toml").to_str().unwrap(), &two, Exit::BadConfiguration, "none.toml");
        std::fs::create_dir(folder.path().join("one")).unwrap();
        std::fs::write(folder.path().join("one/sessions.redb"), "").unwrap();
        check(&one, &strange, Exit::BadConfiguration, "(key 1 is missing or another)");
        std::fs::remove_file(folder.path().join("other.toml")).unwrap();
        check(&one, &strange, Exit::Runtime, "other.toml");
        assert!(!folder.path().join("two").exists(), "nothing was made");
        assert_eq!(say(&["migrate", "--from", &one]).0, Exit::Usage);
    }
}
