//! Lists that say what networks are used for, and the gateways that are known without one.
//!
//! Whoever runs a site often knows better than a database: which addresses Tor leaves from, which are his own offices. So
//! what a list says holds against what databases say; of several lists the one that says more counts
//! ([`NetworkKind::rank`]). A list comes from elsewhere and is as long as its maker likes: reading it is one pass, and what is
//! wrong with it is told line by line, up to a number.

use std::net::IpAddr;
use std::ops::Range;

use super::geo::{Country, NetworkKind, Place};
use crate::net::map::PrefixMap;
use crate::net::{Asn, AsnError, IpPrefix, PrefixError};

/// How the lines of a list are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListFormat {
    /// As the first line with something in it looks: with a comma it is `Csv`, else `Plain`.
    #[default]
    Auto,
    /// A network, an address or an AS number on each line; what follows `#` or `;` is a comment.
    Plain,
    /// Columns: the first is a network or an AS number, the second of a network may be its country.
    Csv,
    /// An AS number on each line, with or without `AS`; a name may follow.
    Asn,
}

/// What one list says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkList {
    kind: NetworkKind,
    networks: Vec<(IpPrefix, Option<Country>)>,
    operators: Vec<Asn>,
}

/// What is wrong with lines of a list: the place of each that is told, and how many more there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFaults {
    /// Places in the text, and what is wrong there.
    pub told: Vec<(Range<usize>, LineFault)>,
    /// Those that are not told.
    pub more: usize,
}

/// Faults of one list that are told: a list in the wrong format has one on every line.
const TOLD_MAX: usize = 20;

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// It begins with something else.
    #[error("expected a network such as `192.0.2.0/24`, an address, or an AS number such as `AS64496`")]
    Other,
    /// It is nearly a network.
    #[error(transparent)]
    Network(PrefixError),
    /// It is nearly an AS number.
    #[error(transparent)]
    Operator(AsnError),
    /// The format has AS numbers alone.
    #[error("expected an AS number such as `AS64496`: `format = \"asn\"` has no networks")]
    NotAnOperator,
    /// A typing error would make every client one of Tor, say.
    #[error("a list can not hold all addresses")]
    Everything,
    /// Something follows the network.
    #[error("expected nothing behind the network but a comment, which begins with `#` or `;`")]
    More,
    /// There are too many lines.
    #[error("more than {0} entries; `[geo] entries_max` allows more")]
    TooMany(usize),
}

impl NetworkList {
    /// Reads a list of networks that are all of one kind, no more than `entries_max` of them.
    ///
    /// # Errors
    /// When a line is wrong or there are too many.
    pub fn parse(text: &str, kind: NetworkKind, format: ListFormat, entries_max: usize) -> Result<Self, ListFaults> {
        let text_start = text.len() - text.trim_start_matches('\u{feff}').len();
        let mut list = Self { kind, ..Self::default() };
        let mut faults = ListFaults::default();
        let mut format = format;
        let mut is_first = true;
        let mut start = text_start;
        for line in text.get(text_start..).unwrap_or_default().split('\n') {
            let own = start;
            start += line.len() + 1;
            let Some((at, line)) = content(line) else { continue };
            if format == ListFormat::Auto {
                format = if line.contains(',') { ListFormat::Csv } else { ListFormat::Plain };
            }
            // A heading has no digits, and every entry has.
            let is_heading = std::mem::take(&mut is_first)
                && line.contains(',')
                && !first_column(line).bytes().any(|byte| byte.is_ascii_digit());
            if is_heading {
                continue;
            }
            if list.len() >= entries_max {
                faults.note(own + at, line.len(), LineFault::TooMany(entries_max));
                break;
            }
            if let Err((length, fault)) = list.take(line, format) {
                faults.note(own + at, length, fault);
            }
        }
        if faults.told.is_empty() { Ok(list) } else { Err(faults) }
    }

    /// How many entries there are.
    pub const fn len(&self) -> usize {
        self.networks.len() + self.operators.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a line. On a fault, how many bytes of it are meant.
    fn take(&mut self, line: &str, format: ListFormat) -> Result<(), (usize, LineFault)> {
        let (entry, rest) = match format {
            ListFormat::Csv => (first_column(line), ""),
            ListFormat::Asn => (first_column(line).split_whitespace().next().unwrap_or_default(), ""),
            ListFormat::Auto | ListFormat::Plain => {
                let line = line.split(['#', ';']).next().unwrap_or_default().trim_end();
                line.split_once(char::is_whitespace).unwrap_or((line, ""))
            }
        };
        // What is marked is the entry as it stands there, with its quotes.
        let marked = match format {
            ListFormat::Csv | ListFormat::Asn => line.split(',').next().unwrap_or_default().len(),
            ListFormat::Auto | ListFormat::Plain => entry.len(),
        };
        let of_entry = |fault| (marked, fault);
        match Entry::parse(entry).map_err(of_entry)? {
            // A name may follow.
            Entry::Operator(asn) => self.operators.push(asn),
            Entry::Network(_) if format == ListFormat::Asn => return Err(of_entry(LineFault::NotAnOperator)),
            Entry::Network(_) if !rest.trim().is_empty() => return Err((line.len(), LineFault::More)),
            Entry::Network(prefix) if prefix.length() == 0 => return Err(of_entry(LineFault::Everything)),
            Entry::Network(prefix) => {
                let tells_country = format == ListFormat::Csv && self.kind == NetworkKind::Relay;
                let second = tells_country.then(|| line.split(',').nth(1)).flatten();
                self.networks.push((prefix, second.and_then(|code| Country::parse(unquoted(code)))));
            }
        }
        Ok(())
    }
}

impl ListFaults {
    fn note(&mut self, at: usize, length: usize, fault: LineFault) {
        if self.told.len() < TOLD_MAX {
            self.told.push((at..at.saturating_add(length), fault));
        } else {
            self.more = self.more.saturating_add(1);
        }
    }
}

enum Entry {
    Network(IpPrefix),
    Operator(Asn),
}

impl Entry {
    fn parse(text: &str) -> Result<Self, LineFault> {
        let is_operator = text.bytes().all(|byte| byte.is_ascii_digit())
            || text.get(..2).is_some_and(|letters| letters.eq_ignore_ascii_case("as"));
        if is_operator && !text.is_empty() {
            return text.parse().map(Self::Operator).map_err(LineFault::Operator);
        }
        text.parse().map(Self::Network).map_err(|error| match error {
            PrefixError::Address(_) => LineFault::Other,
            other => LineFault::Network(other),
        })
    }
}

/// What stands on a line, and where it begins; nothing on an empty one and on one that is a comment.
fn content(line: &str) -> Option<(usize, &str)> {
    let begun = line.trim_start();
    let text = begun.trim_end();
    (!text.is_empty() && !text.starts_with(['#', ';'])).then(|| (line.len() - begun.len(), text))
}

fn first_column(line: &str) -> &str {
    unquoted(line.split(',').next().unwrap_or_default())
}

fn unquoted(column: &str) -> &str {
    let column = column.trim();
    column.strip_prefix('"').and_then(|column| column.strip_suffix('"')).unwrap_or(column)
}

/// What is said of some addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    kind: NetworkKind,
    country: Option<Country>,
}

impl Told {
    /// What holds where both are said; of two that say as much the second.
    const fn or_stronger(self, other: Self) -> Self {
        if self.kind.rank() > other.kind.rank() { self } else { other }
    }
}

/// Whether gateways are known without a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BuiltIn {
    /// They are.
    #[default]
    On,
    /// They are not.
    Off,
}

/// Operators of gateways that inspect the TLS of organisations: their networks carry little else. Networks that carry other
/// traffic too are left out, however large the gateway on them is: Cloudflare's (AS13335), and the clouds.
const GATEWAYS: [(Asn, &str); 5] = [
    // Europe, Middle East and Africa are AS62044, the Americas AS22616, Asia and the Pacific AS53813.
    (Asn(22_616), "Zscaler"),
    // Cisco Umbrella, which was OpenDNS.
    (Asn(36_692), "Cisco Umbrella"),
    (Asn(53_813), "Zscaler"),
    (Asn(55_256), "Netskope"),
    (Asn(62_044), "Zscaler"),
];

/// What all lists say together.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    networks: PrefixMap<Told>,
    /// Sorted by their numbers.
    operators: Box<[(Asn, NetworkKind)]>,
    built_in: BuiltIn,
}

impl Networks {
    /// What these lists say.
    pub fn new(lists: impl IntoIterator<Item = NetworkList>, built_in: BuiltIn) -> Self {
        let (mut networks, mut operators) = (Vec::new(), Vec::new());
        for list in lists {
            let kind = list.kind;
            operators.extend(list.operators.into_iter().map(|asn| (asn, kind)));
            networks.extend(list.networks.into_iter().map(|(prefix, country)| (prefix, Told { kind, country })));
        }
        // The kind that says most comes first and stays.
        operators.sort_unstable_by_key(|(asn, kind)| (*asn, std::cmp::Reverse(kind.rank())));
        operators.dedup_by_key(|(asn, _)| *asn);
        Self {
            networks: PrefixMap::new(networks, Told::or_stronger),
            operators: operators.into_boxed_slice(),
            built_in,
        }
    }

    /// Whether no place is changed by them.
    pub const fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.operators.is_empty() && matches!(self.built_in, BuiltIn::Off)
    }

    /// The operators that are known as gateways without a list, by number and name.
    pub const fn gateways() -> &'static [(Asn, &'static str)] {
        &GATEWAYS
    }

    /// The place of an address as databases know it, with what the lists know better.
    ///
    /// Where a list of relays tells a country, that is the one its users are in; a position in another one is not.
    #[must_use]
    pub fn refine(&self, ip: IpAddr, place: Place) -> Place {
        let by_address = self.networks.get(ip);
        let by_operator = place.asn.and_then(|asn| self.operator(asn));
        let told = match (by_address, by_operator.map(|kind| Told { kind, country: None })) {
            (Some(address), Some(operator)) => Some(operator.or_stronger(address)),
            (one, other) => one.or(other),
        };
        let Some(Told { kind, country }) = told else {
            return Place { kind: place.kind.or_stronger(self.gateway(place.asn)), ..place };
        };
        let is_elsewhere = country.is_some() && place.country != country;
        Place { kind, country: country.or(place.country), position: place.position.filter(|_| !is_elsewhere), ..place }
    }

    fn operator(&self, asn: Asn) -> Option<NetworkKind> {
        let at = self.operators.binary_search_by_key(&asn, |(known, _)| *known).ok()?;
        self.operators.get(at).map(|(_, kind)| *kind)
    }

    fn gateway(&self, asn: Option<Asn>) -> NetworkKind {
        let is_known = |asn| GATEWAYS.binary_search_by_key(&asn, |(known, _)| *known).is_ok();
        match self.built_in {
            BuiltIn::On if asn.is_some_and(is_known) => NetworkKind::Sase,
            BuiltIn::On | BuiltIn::Off => NetworkKind::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::geo::Position;

    fn list(text: &str, kind: NetworkKind, format: ListFormat) -> NetworkList {
        NetworkList::parse(text, kind, format, 1000).unwrap()
    }

    fn faults(text: &str, format: ListFormat) -> Vec<String> {
        let faults = NetworkList::parse(text, NetworkKind::Vpn, format, 3).unwrap_err();
        assert_eq!(faults.more, 0);
        faults.told.iter().map(|(place, fault)| format!("{}: {fault}", text.get(place.clone()).unwrap())).collect()
    }

    fn refined(networks: &Networks, ip: &str, place: Place) -> Place {
        networks.refine(ip.parse().unwrap(), place)
    }

    const NOWHERE: Place = Place { country: None, asn: None, kind: NetworkKind::Unknown, position: None };

    #[test]
    fn lists_are_read_as_their_makers_write_them() {
        let check = |text: &str, format, networks: &[&str], operators: &[u32]| {
            let read = list(text, NetworkKind::Vpn, format);
            let found: Vec<String> = read.networks.iter().map(|(prefix, _)| prefix.to_string()).collect();
            assert_eq!(
                (found, read.len()),
                (networks.iter().map(|n| (*n).to_owned()).collect(), networks.len() + operators.len()),
                "{text}"
            );
            assert_eq!(read.operators, operators.iter().map(|number| Asn(*number)).collect::<Vec<_>>(), "{text}");
        };
        use ListFormat::{Asn as Numbers, Auto, Csv, Plain};
        check("", Auto, &[], &[]);
        check(
            "# Tor\n\n192.0.2.1\r\n 2001:db8::/32 # exit\n198.51.100.0/24;SBL1\n",
            Auto,
            &["192.0.2.1/32", "2001:db8::/32", "198.51.100.0/24"],
            &[],
        );
        check("\u{feff}AS64496 Example, Inc.\n64497 ; other\nas64498", Plain, &[], &[64496, 64497, 64498]);
        check("64496\n64497\n", Auto, &[], &[64496, 64497]);
        check("ASN,Entity\n\"64496\",\"Example; Inc.\"\n64497,x # y\n", Auto, &[], &[64496, 64497]);
        check(
            "prefix,country\n192.0.2.0/31,GB,GB-EN,London,\n2001:db8::/64,,,,\n",
            Csv,
            &["192.0.2.0/31", "2001:db8::/64"],
            &[],
        );
        check("AS64496\tExample\n64497,Example\n", Numbers, &[], &[64496, 64497]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        use ListFormat::{Asn as Numbers, Auto, Csv};
        assert_eq!(
            faults("192.0.2.0/24\n10.0.0.1/8\nexample.com\nAS1x", Auto),
            [
                "10.0.0.1/8: `10.0.0.1/8` has bits set beyond its length; expected `10.0.0.0/8` for the network or `10.0.0.1` for the host",
                "example.com: expected a network such as `192.0.2.0/24`, an address, or an AS number such as `AS64496`",
                "AS1x: `AS1x` is not an AS number; expected `AS64496` or `64496`",
            ]
        );
        assert_eq!(faults("0.0.0.0/0\n::/0", Auto).len(), 2);
        assert_eq!(
            faults("192.0.2.1 yesterday # x", Auto),
            [
                "192.0.2.1 yesterday # x: expected nothing behind the network but a comment, which begins with `#` or `;`"
            ]
        );
        assert_eq!(faults("192.0.2.1", Numbers).len(), 1);
        assert_eq!(faults(",GB\n\"\",GB", Csv).len(), 1, "the first may be a heading");
        assert_eq!(faults("1\n2\n3\n4\n5\n", Auto), ["4: more than 3 entries; `[geo] entries_max` allows more"]);
        let many = NetworkList::parse(&"x\n".repeat(50), NetworkKind::Vpn, Auto, 1000).unwrap_err();
        assert_eq!((many.told.len(), many.more), (TOLD_MAX, 30));
    }

    #[test]
    fn a_list_knows_better_than_a_database_and_the_stronger_list_better_than_another() {
        use NetworkKind::{Hosting, Residential, Sase, Tor, Unknown, Vpn};
        let networks = Networks::new(
            [
                list("192.0.2.0/24\nAS64500", Hosting, ListFormat::Auto),
                list("192.0.2.7\nAS64501", Tor, ListFormat::Auto),
                list("192.0.2.0/25\nAS64500", NetworkKind::Corporate, ListFormat::Auto),
            ],
            BuiltIn::On,
        );
        let check = |ip: &str, asn: Option<u32>, database, expected| {
            let place = Place { asn: asn.map(Asn), kind: database, ..NOWHERE };
            assert_eq!(refined(&networks, ip, place), Place { kind: expected, ..place }, "{ip} {asn:?}");
        };
        check("192.0.2.1", None, Vpn, Hosting);
        check("192.0.2.7", None, Unknown, Tor);
        check("::ffff:192.0.2.7", Some(64500), Unknown, Tor);
        check("198.51.100.1", Some(64500), Residential, Hosting);
        check("192.0.2.1", Some(64501), Unknown, Tor);
        check("198.51.100.1", Some(64999), Vpn, Vpn);
        // Gateways that nobody listed; one in a list is what the list says.
        check("198.51.100.1", Some(22616), Hosting, Sase);
        check("198.51.100.1", Some(22616), Tor, Tor);
        check("192.0.2.1", Some(22616), Unknown, Hosting);
        let off = Networks::new([], BuiltIn::Off);
        let place = Place { asn: Some(Asn(22616)), ..NOWHERE };
        assert!(off.is_empty() && !networks.is_empty() && !Networks::default().is_empty());
        assert_eq!(refined(&off, "192.0.2.1", place), place);
        assert!(Networks::gateways().is_sorted());
    }

    #[test]
    fn a_relay_is_where_its_list_says() {
        let apple = "192.0.2.0/31,GB,GB-EN,London,\n192.0.2.2/31,,,,\n";
        let place = Place { country: Country::parse("US"), position: Position::new(40.0, -74.0, None), ..NOWHERE };
        let relays = Networks::new([list(apple, NetworkKind::Relay, ListFormat::Auto)], BuiltIn::On);
        let british = Place { country: Country::parse("GB"), kind: NetworkKind::Relay, ..NOWHERE };
        assert_eq!(refined(&relays, "192.0.2.1", place), british);
        let here = Place { country: Country::parse("GB"), ..place };
        assert_eq!(refined(&relays, "192.0.2.1", here).position, place.position);
        assert_eq!(refined(&relays, "192.0.2.2", place), Place { kind: NetworkKind::Relay, ..place });
        // Of other networks the second column may be anything.
        let servers = Networks::new([list(apple, NetworkKind::Hosting, ListFormat::Auto)], BuiltIn::On);
        assert_eq!(refined(&servers, "192.0.2.1", place).country, place.country);
    }
}
