//! `portcullis version`.

use std::env::consts::{ARCH, OS};
use std::io;

use super::{Exit, Format, Streams, VersionArgs};

pub(super) fn run(args: &VersionArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let version = env!("CARGO_PKG_VERSION");
    match args.format {
        Format::Human => writeln!(streams.out, "portcullis {version} ({OS}, {ARCH})")?,
        Format::Json => {
            let told = serde_json::json!({ "name": "portcullis", "version": version, "os": OS, "arch": ARCH });
            writeln!(streams.out, "{told}")?;
        }
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::super::tests::say;
    use super::*;

    #[test]
    fn the_version_is_that_of_the_package() {
        let (exit, out, _) = say(&["version"]);
        assert_eq!(exit, Exit::Done);
        assert!(out.starts_with(concat!("portcullis ", env!("CARGO_PKG_VERSION"), " (")), "{out}");
        let json: serde_json::Value = serde_json::from_str(&say(&["version", "--format", "json"]).1).unwrap();
        assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    }
}
