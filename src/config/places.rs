//! What is known of addresses, read from the files that `[geo]` names.

use std::error::Error;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use super::Settings;
use super::geo::{Geo, GeoList};
use super::reading::{Taken, open, read_bytes};
use crate::engine::Places;
use crate::facts::geo::GeoDatabase;
use crate::facts::networks::{NetworkList, Networks};
use crate::rules::diagnostic::{Fault, Faults, Level};
use crate::rules::page::Source;

/// What is known of addresses can not be put in force.
#[derive(Debug, thiserror::Error)]
pub enum PlacesError {
    /// A database.
    #[error("the database {path} can not be used: {why}")]
    Database {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// Lists.
    #[error("{0}")]
    Lists(#[from] Faults),
}

/// Bytes of one list that are read: the longest lines of as many entries as anybody has.
const LIST_BYTES_MAX: u64 = 256 << 20;

/// Reads the databases and lists of the settings. `tell` is told, once for each database, when a lookup in it fails.
///
/// # Errors
/// When a file can not be read, is no database, or is a list with a fault in it.
pub fn places(
    settings: &Settings,
    tell: impl Fn(&str, &dyn Error) + Send + Sync + 'static,
) -> Result<Places, PlacesError> {
    let Geo { databases, lists, built_in, .. } = &settings.geo;
    if databases.is_empty() && lists.is_empty() {
        return Ok(Places::unknown());
    }
    let mut all = GeoDatabase::default().telling(tell);
    for file in databases {
        let path = file.path.display().to_string();
        let failed = |why: &dyn Error| PlacesError::Database { path: path.clone(), why: why.to_string() };
        let bytes = read_bytes(&file.path).map_err(|error| failed(&error))?;
        let database = GeoDatabase::named(&path, bytes, file.fields.clone()).map_err(|error| failed(&error))?;
        all = all.and(database);
    }
    let networks = Networks::new(read_lists(&settings.geo).map_err(Faults::sorted)?, *built_in);
    let databases = Arc::new(all);
    let cities = databases.clone();
    Ok(Places::new(move |ip| networks.refine(ip, databases.lookup(ip))).with_cities(move |ip| cities.city(ip)))
}

/// Reads all lists.
///
/// # Errors
/// All that is wrong with them.
pub(super) fn read_lists(geo: &Geo) -> Result<Vec<NetworkList>, Vec<Fault>> {
    let (mut lists, mut faults) = (Vec::new(), Vec::new());
    for (at, list) in geo.lists.iter().enumerate() {
        match read_list(list, &format!("geo.list[{at}]"), geo.entries_max) {
            Ok(read) => lists.push(read),
            Err(mut more) => faults.append(&mut more),
        }
    }
    if faults.is_empty() { Ok(lists) } else { Err(faults) }
}

fn read_list(list: &GeoList, key: &str, entries_max: usize) -> Result<NetworkList, Vec<Fault>> {
    let text = read_long_text(&list.path).map_err(|why| {
        vec![Fault::new(Level::Fault, key, format!("{} can not be read: {why}", list.path.display()))]
    })?;
    NetworkList::parse(&text, list.kind, list.format, entries_max).map_err(|wrong| {
        let source = Source::new(&list.path.to_string_lossy(), text);
        let told = wrong
            .told
            .into_iter()
            .map(|(place, fault)| Fault::new(Level::Fault, key, fault.to_string()).at(Some(source.spot(place))));
        let more = (wrong.more > 0).then(|| {
            let message = format!("and {} more errors in {}", wrong.more, list.path.display());
            Fault::new(Level::Fault, key, message)
        });
        told.chain(more).collect()
    })
}

/// A list may be larger than what people write themselves.
fn read_long_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let length = open(path, Taken::Plain)?.1.take(LIST_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(length).is_ok_and(|length| length > LIST_BYTES_MAX) {
        return Err(io::Error::other("it is larger than 256 MiB"));
    }
    String::from_utf8(bytes).map_err(|_odd| io::Error::other("it is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::config::resolve::{Input, resolve};

    const NOW: Timestamp = Timestamp::from_secs(1_795_257_972);

    /// What becomes of these lists, each a file by its name.
    fn lists(files: &[(&str, &str)], more: &str) -> Result<usize, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let mut text = format!("[upstream]\nurl = \"unix:/x\"\n[geo]\n{more}\n");
        for (name, list) in files {
            std::fs::write(folder.path().join(name), list).unwrap();
            text += &format!("[[geo.list]]\npath = \"{name}\"\nkind = \"vpn\"\n");
        }
        let file = folder.path().join("p.toml");
        let settings = resolve(&Input { file: Some((&file, &text)), ..Input::default() }, NOW).unwrap().settings;
        let read = read_lists(&settings.geo).map(|lists| lists.iter().map(NetworkList::len).sum());
        let plain = |fault: &Fault| fault.headline().replace(&format!("{}/", folder.path().display()), "");
        read.map_err(|faults| faults.iter().map(plain).collect())
    }

    #[test]
    fn every_bad_line_of_every_list_is_told_with_its_place() {
        assert_eq!(lists(&[("a", "192.0.2.1\n"), ("b", "64496\n64497")], ""), Ok(3));
        let wrong = [("a.txt", "192.0.2.1\n  10.0.0.1/8\n"), ("b.csv", "x,y\n192.0.2.0/24,DE\nnowhere,DE\n")];
        assert_eq!(
            lists(&wrong, ""),
            Err(vec![
                "a.txt:2:3: error: geo.list[0]: `10.0.0.1/8` has bits set beyond its length; expected `10.0.0.0/8` for the network or `10.0.0.1` for the host".to_owned(),
                "b.csv:3:1: error: geo.list[1]: expected a network such as `192.0.2.0/24`, an address, or an AS number such as `AS64496`".to_owned(),
            ])
        );
        let long = lists(&[("a", &"x\n".repeat(1000))], "").unwrap_err();
        assert_eq!((long.len(), long.last().unwrap().as_str()), (21, "error: geo.list[0]: and 980 more errors in a"));
        let many = lists(&[("a", "1\n2\n3\n")], "entries_max = 2").unwrap_err();
        assert_eq!(many, ["a:3:1: error: geo.list[0]: more than 2 entries; `[geo] entries_max` allows more"]);
    }

    #[test]
    fn a_list_that_is_no_text_or_not_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("bytes"), [0xff, 0xfe]).unwrap();
        for (name, why) in [("bytes", "it is no text"), ("gone", "No such file"), (".", "directory")] {
            let error = read_long_text(&folder.path().join(name)).unwrap_err().to_string();
            assert!(error.contains(why), "{name}: {error}");
        }
    }
}
