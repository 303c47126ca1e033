//! A made-up world: countries with their networks, people with their homes, and the programs that they use.
//!
//! How things behave is taken from measurements and papers where there are any; how many people live how is assumed. The manual
//! says which is which.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{HeaderName, HeaderValue};

use super::dice::Dice;
use crate::connection::print::{Http2Print, Print, SynClass, TlsPrint};
use crate::facts::geo::{Country, NetworkKind, Place, Position};
use crate::net::Asn;

/// A country: its letters, its middle, the language of its people, how many of our users live there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Land {
    pub(super) code: &'static str,
    middle: (f64, f64),
    language: &'static str,
    users: f64,
}

const fn land(code: &'static str, north: f64, east: f64, language: &'static str, users: f64) -> Land {
    Land { code, middle: (north, east), language, users }
}

/// All countries. In some nobody of ours lives, and thieves come from there too.
pub(super) const LANDS: [Land; 10] = [
    land("US", 39.0, -98.0, "en-US,en;q=0.9", 0.40),
    land("GB", 52.0, -1.0, "en-GB,en;q=0.9", 0.15),
    land("DE", 51.0, 10.0, "de-DE,de;q=0.9,en;q=0.8", 0.15),
    land("FR", 47.0, 2.0, "fr-FR,fr;q=0.9", 0.10),
    land("BR", -10.0, -52.0, "pt-BR,pt;q=0.9", 0.10),
    land("IN", 22.0, 79.0, "en-IN,en;q=0.9", 0.10),
    land("NG", 9.0, 8.0, "en-NG,en;q=0.9", 0.0),
    land("NL", 52.0, 5.0, "nl-NL,nl;q=0.9", 0.0),
    land("RU", 56.0, 38.0, "ru-RU,ru;q=0.9", 0.0),
    land("CA", 56.0, -106.0, "en-CA,en;q=0.9", 0.0),
];

/// A place in a country, in degrees.
pub(super) type City = (f64, f64);

/// An address, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Net {
    pub(super) ip: IpAddr,
    pub(super) place: Place,
    /// The way from there to whoever is behind it, in milliseconds there and back: 0 unless the connection is passed on.
    pub(super) beyond_ms: f64,
}

impl Net {
    /// The same, with somebody behind it who is so far away.
    pub(super) const fn passing_on(self, beyond_ms: f64) -> Self {
        Self { beyond_ms, ..self }
    }
}

/// Which family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

/// Hands out addresses, each in a prefix of its own.
#[derive(Debug)]
pub(super) struct Addresses(u32);

impl Addresses {
    /// Those of a story: no two stories have one in common.
    pub(super) const fn of(story: u32) -> Self {
        // A story has at most 64 networks.
        Self(story.wrapping_mul(64))
    }

    fn next(&mut self, version: Version) -> IpAddr {
        self.0 = self.0.wrapping_add(1);
        let [a, b, c, d] = self.0.to_be_bytes();
        match version {
            // 16 million prefixes of /24; the first octet is never 0, 10 or 127.
            Version::V4 => IpAddr::V4(Ipv4Addr::new(b | 0x80, c, d, a | 1)),
            Version::V6 => IpAddr::V6(Ipv6Addr::new(
                0x2a00 | u16::from(a),
                u16::from_be_bytes([b, c]),
                u16::from_be_bytes([d, 0]),
                0,
                0,
                0,
                0,
                1,
            )),
        }
    }

    pub(super) fn net(&mut self, kind: NetworkKind, land: &Land, asn: u32, city: City, version: Version) -> Net {
        let radius = match kind {
            NetworkKind::Residential => 20,
            NetworkKind::Corporate => 50,
            NetworkKind::Relay => 100,
            NetworkKind::Tor | NetworkKind::Sase => 500,
            NetworkKind::Mobile | NetworkKind::Hosting | NetworkKind::Vpn | NetworkKind::Unknown => 200,
        };
        let place = Place {
            country: Country::parse(land.code),
            asn: Some(Asn(asn)),
            kind,
            position: Position::new(city.0, city.1, Some(radius)),
        };
        Net { ip: self.next(version), place, beyond_ms: 0.0 }
    }
}

pub(super) fn city(dice: &mut Dice, land: &Land) -> City {
    (land.middle.0 + dice.between(-4.0, 4.0), land.middle.1 + dice.between(-4.0, 4.0))
}

/// A program as it names itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Browser {
    Chrome,
    Edge,
    Safari,
    Firefox,
    OkHttp,
}

/// How a program speaks, whatever it calls itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Blink,
    WebKit,
    Gecko,
    Go,
    OkHttp,
    /// A gateway that inspects TLS.
    Gateway,
    /// Tor Browser: Gecko in TLS of its own.
    Tor,
}

/// A system as a program names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    Windows,
    MacOs,
    Linux,
    Android,
    Ios,
}

/// Who makes the packets, as the first one tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stack {
    Windows,
    Apple,
    Linux,
}

impl Stack {
    const fn of(system: System) -> Self {
        match system {
            System::Windows => Self::Windows,
            System::MacOs | System::Ios => Self::Apple,
            System::Linux | System::Android => Self::Linux,
        }
    }
}

/// A program on a machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Device {
    pub(super) browser: Browser,
    pub(super) system: System,
    pub(super) version: u32,
    /// How it speaks TLS, and in which era of it: an engine changes that once in a dozen versions.
    pub(super) tls: (Engine, u32),
    pub(super) http2: Engine,
    pub(super) order: Engine,
    pub(super) packets: Stack,
    pub(super) language: &'static str,
}

impl Engine {
    pub(super) const fn of(browser: Browser) -> Self {
        match browser {
            Browser::Chrome | Browser::Edge => Self::Blink,
            Browser::Safari => Self::WebKit,
            Browser::Firefox => Self::Gecko,
            Browser::OkHttp => Self::OkHttp,
        }
    }

    /// Measured for Blink and Gecko, as published for the others.
    const fn http2(self) -> &'static str {
        match self {
            Self::Blink => "1:65536;2:0;4:6291456;6:262144|15663105|0|m,a,s,p",
            Self::WebKit => "2:0;3:100;4:2097152|10420225|0|m,s,a,p",
            Self::Gecko | Self::Tor => "1:65536;2:0;4:131072;5:16384|12517377|0|m,p,a,s",
            Self::Go => "2:0;4:4194304;6:10485760|1073741824|0|a,m,p,s",
            Self::OkHttp => "4:16777216|16711681|0|m,p,a,s",
            Self::Gateway => "3:128;4:65536|0|0|m,s,a,p",
        }
    }
}

/// How an engine of a version speaks TLS.
pub(super) const fn tls(engine: Engine, version: u32) -> (Engine, u32) {
    (engine, (version + 7) / 12)
}

impl Device {
    pub(super) fn new(dice: &mut Dice, browser: Browser, system: System, language: &'static str) -> Self {
        let behind = dice.weighted(&[(0, 0.62), (1, 0.2), (2, 0.08), (3, 0.05), (6, 0.05)]);
        let newest: u32 = match browser {
            Browser::Chrome | Browser::Edge => 156,
            // That of a count without gaps: 27.
            Browser::Safari => 20,
            Browser::Firefox => 153,
            Browser::OkHttp => 5,
        };
        Self::of_version(browser, system, newest.saturating_sub(behind), language)
    }

    pub(super) const fn of_version(browser: Browser, system: System, version: u32, language: &'static str) -> Self {
        let engine = Engine::of(browser);
        let (tls, packets) = (tls(engine, version), Stack::of(system));
        Self { browser, system, version, tls, http2: engine, order: engine, packets, language }
    }

    /// Some browser, by how many use it.
    pub(super) fn any(dice: &mut Dice, language: &'static str) -> Self {
        let (browser, system) = dice.weighted(&[
            ((Browser::Chrome, System::Windows), 0.38),
            ((Browser::Chrome, System::MacOs), 0.12),
            ((Browser::Edge, System::Windows), 0.08),
            ((Browser::Safari, System::Ios), 0.18),
            ((Browser::Chrome, System::Android), 0.13),
            ((Browser::Safari, System::MacOs), 0.06),
            ((Browser::Firefox, System::Windows), 0.03),
            ((Browser::Chrome, System::Linux), 0.02),
        ]);
        Self::new(dice, browser, system, language)
    }

    /// Some telephone.
    pub(super) fn phone(dice: &mut Dice, language: &'static str) -> Self {
        let (browser, system) = *dice.pick(&[(Browser::Safari, System::Ios), (Browser::Chrome, System::Android)]);
        Self::new(dice, browser, system, language)
    }

    /// The same, some versions later.
    pub(super) fn updated(self, versions: u32) -> Self {
        let version = self.version + versions;
        Self { version, tls: tls(self.tls.0, version), ..self }
    }

    /// What it calls itself.
    pub(super) fn user_agent(&self) -> String {
        let version = match self.browser {
            // After Safari 18 came 26.
            Browser::Safari if self.version > 18 => self.version + 7,
            _ => self.version,
        };
        let system = match self.system {
            System::Windows => "Windows NT 10.0; Win64; x64",
            System::MacOs => "Macintosh; Intel Mac OS X 10_15_7",
            System::Linux => "X11; Linux x86_64",
            System::Android => "Linux; Android 10; K",
            System::Ios => "iPhone; CPU iPhone OS 18_7 like Mac OS X",
        };
        let mobile = if matches!(self.system, System::Android | System::Ios) { " Mobile" } else { "" };
        let webkit = "AppleWebKit/537.36 (KHTML, like Gecko)";
        match self.browser {
            Browser::Chrome => format!("Mozilla/5.0 ({system}) {webkit} Chrome/{version}.0.0.0{mobile} Safari/537.36"),
            Browser::Edge => {
                format!("Mozilla/5.0 ({system}) {webkit} Chrome/{version}.0.0.0 Safari/537.36 Edg/{version}.0.0.0")
            }
            Browser::Firefox => format!("Mozilla/5.0 ({system}; rv:{version}.0) Gecko/20100101 Firefox/{version}.0"),
            Browser::Safari => {
                let phone = if mobile.is_empty() { "" } else { " Mobile/15E148" };
                format!(
                    "Mozilla/5.0 ({system}) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{version}.0{phone} Safari/605.1.15"
                )
            }
            Browser::OkHttp => format!("okhttp/{version}.1.0"),
        }
    }

    /// How its transport looks on a connection for pages, or for a WebSocket.
    pub(super) fn print(&self, kind: Kind) -> Print {
        let (engine, era) = self.tls;
        let core = (engine as u64) << 32 | u64::from(era) | 1 << 48;
        let tls = Some(TlsPrint { core, soft: 0, ja4: None });
        let http2 = (kind != Kind::Socket).then(|| Http2Print::of_text(self.http2.http2()));
        Print { tls, http2, syn: Some(SynClass(self.packets as u8 + 1)), rtt_gap: None }
    }
}

/// What kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// To a page.
    Page,
    /// To a page that is worth more to a thief.
    Sensitive,
    /// By a script of the page.
    Part,
    /// A piece of a film.
    Media,
    /// The handshake of a WebSocket.
    Socket,
    /// By a service worker.
    Worker,
    /// By a program that was handed a copy of the cookies some minutes ago.
    Download,
}

fn line(name: &'static str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?))
}

/// The headers of a request of this device, in the order of its engine.
pub(super) fn headers(device: &Device, kind: Kind) -> Vec<(HeaderName, HeaderValue)> {
    let agent = device.user_agent();
    let platform = match device.system {
        System::Windows => "\"Windows\"",
        System::MacOs => "\"macOS\"",
        System::Linux => "\"Linux\"",
        System::Android => "\"Android\"",
        System::Ios => "\"iOS\"",
    };
    let brands = format!("\"Chromium\";v=\"{0}\", \"Not A(Brand\";v=\"24\"", device.version);
    let (site, mode, dest) = match kind {
        Kind::Page | Kind::Sensitive => ("same-origin", "navigate", "document"),
        Kind::Part | Kind::Worker | Kind::Socket => ("same-origin", "cors", "empty"),
        Kind::Media => ("same-origin", "no-cors", "video"),
        Kind::Download => ("none", "navigate", "document"),
    };
    let accept = if mode == "navigate" { "text/html,application/xhtml+xml,*/*;q=0.8" } else { "*/*" };
    let encoding = if kind == Kind::Media { "identity" } else { "gzip, deflate, br" };
    let mobile = if matches!(device.system, System::Android | System::Ios) { "?1" } else { "?0" };
    let is_blink = matches!(device.browser, Browser::Chrome | Browser::Edge);
    // Neither workers nor WebSockets send hints, and WebSockets of Chromium no `Sec-Fetch-*`.
    let hints = is_blink && !matches!(kind, Kind::Worker | Kind::Socket | Kind::Download);
    let fetch = device.browser != Browser::OkHttp && !matches!(kind, Kind::Socket | Kind::Download);
    let mut all = vec![line("user-agent", &agent), line("accept", accept)];
    if hints {
        all.extend([
            line("sec-ch-ua", &brands),
            line("sec-ch-ua-mobile", mobile),
            line("sec-ch-ua-platform", platform),
        ]);
    }
    let order = match device.order {
        Engine::Blink => ["site", "mode", "dest", "encoding", "language"],
        Engine::Go => ["encoding", "language", "dest", "mode", "site"],
        _ => ["language", "encoding", "dest", "mode", "site"],
    };
    for name in order {
        all.push(match name {
            "encoding" => line("accept-encoding", encoding),
            "language" if device.browser != Browser::OkHttp => line("accept-language", device.language),
            "site" if fetch => line("sec-fetch-site", site),
            "mode" if fetch => line("sec-fetch-mode", mode),
            "dest" if fetch => line("sec-fetch-dest", dest),
            _ => None,
        });
    }
    match kind {
        Kind::Page | Kind::Sensitive if fetch => all.push(line("sec-fetch-user", "?1")),
        Kind::Media => all.push(line("range", "bytes=0-")),
        Kind::Socket => all.extend([line("connection", "upgrade"), line("upgrade", "websocket")]),
        _ => {}
    }
    all.into_iter().flatten().collect()
}

/// Somebody, where he lives, and what he uses.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) land: &'static Land,
    pub(super) city: City,
    pub(super) operator: u32,
    pub(super) mobile_operator: u32,
    pub(super) home: Net,
    pub(super) home_v6: Net,
    pub(super) device: Device,
}

impl Person {
    pub(super) fn new(dice: &mut Dice, addresses: &mut Addresses) -> Self {
        let lands: Vec<(&Land, f64)> = LANDS.iter().map(|land| (land, land.users)).collect();
        let land = dice.weighted(&lands);
        let city = city(dice, land);
        let [a, b, ..] = *land.code.as_bytes() else { return Self::new(dice, addresses) };
        let base = (u32::from(a) * 32 + u32::from(b)) * 10;
        let operator = base + dice.whole(0, 3);
        let mobile_operator = base + 5 + dice.whole(0, 2);
        let home = addresses.net(NetworkKind::Residential, land, operator, city, Version::V4);
        let home_v6 = addresses.net(NetworkKind::Residential, land, operator, city, Version::V6);
        let device = Device::any(dice, land.language);
        Self { land, city, operator, mobile_operator, home, home_v6, device }
    }

    pub(super) const fn language(&self) -> &'static str {
        self.land.language
    }

    /// An exit of the cellular network. Where it is says little of where its user is (Balakrishnan et al., IMC 2009).
    pub(super) fn cell(&self, dice: &mut Dice, addresses: &mut Addresses, version: Version) -> Net {
        let city = (self.city.0 + dice.normal(2.0), self.city.1 + dice.normal(2.0));
        addresses.net(NetworkKind::Mobile, self.land, self.mobile_operator, city, version)
    }

    /// An exit of a relay that keeps the region of its users.
    pub(super) fn relay(&self, dice: &mut Dice, addresses: &mut Addresses) -> Net {
        let city = (self.city.0 + dice.normal(0.5), self.city.1 + dice.normal(0.5));
        let version = *dice.pick(&[Version::V4, Version::V6]);
        let asn = 9900 + dice.whole(0, 2);
        addresses.net(NetworkKind::Relay, self.land, asn, city, version).passing_on(dice.between(8.0, 40.0))
    }
}
