//! How honest people live: the changes of network and browser that a guard must bear.

use super::dice::Dice;
use super::story::{DAY, Event, Loot, Maker, Story, Who, browse, browse_daily, cast, in_order, sorted, turns};
use super::world::{Browser, Device, Engine, Kind, LANDS, Land, Net, Stack, System, Version, city};
use crate::facts::geo::NetworkKind;

macro_rules! lives {
    ($($(#[doc = $doc:literal])+ $life:ident = $name:literal, $weight:literal, $tell:ident;)+) => {
        /// A way in which honest people live.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Life {
            $($(#[doc = $doc])+ $life,)+
        }

        impl Life {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$life,)+];

            /// Its name in tables.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$life => $name,)+
                }
            }

            /// The share of sessions that are lived so. Assumed.
            pub const fn share(self) -> f64 {
                match self {
                    $(Self::$life => $weight,)+
                }
            }

            /// What it is, in words.
            pub fn about(self) -> &'static str {
                match self {
                    $(Self::$life => concat!($($doc,)+).trim_ascii(),)+
                }
            }

            fn events(self, maker: &mut Maker) -> Vec<Event> {
                match self {
                    $(Self::$life => $tell(maker),)+
                }
            }
        }
    };
}

lives! {
    /// At home, an hour or three.
    HomeStable = "home", 0.30, home;
    /// At home, by IPv4 and IPv6 in turn (RFC 8305).
    DualStack = "dual", 0.12, dual_stack;
    /// On a telephone whose operator gives it other addresses every few minutes.
    CellChurn = "cell", 0.13, cell_churn;
    /// A telephone between the house and the street.
    WifiCell = "wifi-cell", 0.13, wifi_cell;
    /// An office behind several addresses at once.
    CorpPool = "corp", 0.06, corp_pool;
    /// A laptop whose gateway inspects TLS, on some of the time.
    Sase = "sase", 0.015, sase;
    /// A VPN that is switched on and off.
    VpnToggle = "vpn", 0.04, vpn_toggle;
    /// A relay with changing exits in the region of its user.
    PrivateRelay = "relay", 0.05, private_relay;
    /// A session of five days, in which the browser updates itself.
    Update = "update", 0.07, update;
    /// A session of a month: the operator renumbers, two updates, a holiday now and then.
    Month = "month", 0.05, month;
    /// Desktop pages on a telephone, or a developer who emulates one.
    DesktopSite = "desktop-site", 0.007, desktop_site;
    /// Home, a flight, and another country.
    Traveller = "traveller", 0.01, traveller;
    /// Another language in the settings.
    Language = "language", 0.003, language;
    /// Tor Browser, with another exit every ten minutes.
    Tor = "tor", 0.003, tor;
    /// Cookies that were moved to a new machine.
    Migrated = "migrated", 0.002, migrated;
    /// An app that shares its cookies between its own requests and a browser inside it.
    HybridApp = "hybrid", 0.0, hybrid;
}

/// A session that somebody lives in one of these ways. One in twenty hands a copy of its cookies to a program that uses it
/// minutes later.
pub(super) fn story(life: Life, seed: u64, number: u32) -> Story {
    let mut maker = Maker::new(seed, number);
    let mut events = life.events(&mut maker);
    if maker.dice.chance(0.05) {
        let like = *maker.dice.pick(&events);
        events.push(Event { t: like.t + maker.dice.between(100.0, 600.0), kind: Kind::Download, ..like });
    }
    Story { events: in_order(events), loot: Loot::Copy(0.0) }
}

fn owner(stream: Vec<(f64, Kind)>, net: impl FnMut(f64) -> Net, device: impl Fn(f64) -> Device) -> Vec<Event> {
    cast(stream, Who::Owner, net, device)
}

fn home(Maker { dice, person, .. }: &mut Maker) -> Vec<Event> {
    let span = dice.between(300.0, 3.0 * 3600.0);
    owner(browse(dice, span), |_| person.home, |_| person.device)
}

fn dual_stack(Maker { dice, person, .. }: &mut Maker) -> Vec<Event> {
    let span = dice.between(300.0, 2.0 * 3600.0);
    let stream = browse(dice, span);
    let mut by_v6 = true;
    let net = |_| {
        by_v6 ^= dice.chance(0.12);
        if by_v6 { person.home_v6 } else { person.home }
    };
    owner(stream, net, |_| person.device)
}

/// One of them, and another after a while.
fn roaming<'a>(dice: &'a mut Dice, pool: &'a [Net], mean: f64) -> impl FnMut(f64) -> Net + 'a {
    let (mut now, mut until) = (*dice.pick(pool), 0.0);
    move |t| {
        if t > until {
            now = *dice.pick(pool);
            until = t + dice.exponential(mean);
        }
        now
    }
}

fn cell_churn(Maker { dice, addresses, person }: &mut Maker) -> Vec<Event> {
    person.device = Device::phone(dice, person.language());
    let count = dice.whole(2, 5);
    let pool: Vec<Net> = (0..count)
        .map(|_| {
            let version = dice.weighted(&[(Version::V4, 2.0), (Version::V6, 1.0)]);
            person.cell(dice, addresses, version)
        })
        .collect();
    let span = dice.between(300.0, 3600.0);
    let stream = browse(dice, span);
    owner(stream, roaming(dice, &pool, 600.0), |_| person.device)
}

fn wifi_cell(Maker { dice, addresses, person }: &mut Maker) -> Vec<Event> {
    person.device = Device::phone(dice, person.language());
    let cell = person.cell(dice, addresses, Version::V4);
    let moments = dice.moments(1, 6, 7200.0);
    owner(browse(dice, 7200.0), turns(&moments, (person.home, cell)), |_| person.device)
}

fn corp_pool(Maker { dice, addresses, person }: &mut Maker) -> Vec<Event> {
    let asn = 7000 + dice.whole(0, 50);
    let count = dice.whole(2, 6);
    let pool: Vec<Net> =
        (0..count).map(|_| addresses.net(NetworkKind::Corporate, person.land, asn, person.city, Version::V4)).collect();
    let span = dice.between(1800.0, 6.0 * 3600.0);
    let stream = browse(dice, span);
    owner(stream, |_| *dice.pick(&pool), |_| person.device)
}

fn sase(Maker { dice, addresses, person }: &mut Maker) -> Vec<Event> {
    let asn = 8000 + dice.whole(0, 3);
    let gateway = addresses.net(NetworkKind::Sase, person.land, asn, person.city, Version::V4);
    let inspected =
        Device { tls: (Engine::Gateway, 1), http2: Engine::Gateway, packets: Stack::Linux, ..person.device };
    let moment = [dice.between(600.0, 3000.0)];
    let (nets, devices) = if dice.chance(0.5) {
        ((gateway, person.home), (inspected, person.device))
    } else {
        ((person.home, gateway), (person.device, inspected))
    };
    owner(browse(dice, 2.0 * 3600.0), turns(&moment, nets), turns(&moment, devices))
}

fn vpn_toggle(Maker { dice, addresses, person }: &mut Maker) -> Vec<Event> {
    let land = if dice.chance(0.5) { person.land } else { dice.pick(&LANDS) };
    let (asn, city) = (9000 + dice.whole(0, 5), city(dice, land));
    let vpn = addresses.net(NetworkKind::Vpn, land, asn, city, Version::V4);
    let moments = dice.moments(1, 3, 5400.0);
    owner(browse(dice, 5400.0), turns(&moments, (person.home, vpn)), |_| person.device)
}

fn private_relay(Maker { dice, addresses, person }: &mut Maker) -> Vec<Event> {
    let system = *dice.pick(&[System::Ios, System::MacOs]);
    person.device = Device::new(dice, Browser::Safari, system, person.language());
    let pool: Vec<Net> = (0..6).map(|_| person.relay(dice, addresses)).collect();
    let off = if dice.chance(0.3) { dice.between(0.0, 7200.0) } else { f64::INFINITY };
    let stream = browse(dice, 7200.0);
    let home = person.home;
    let mut exit = roaming(dice, &pool, 300.0);
    let relayed = Device { packets: Stack::Linux, ..person.device };
    owner(stream, |t| if t > off { home } else { exit(t) }, |t| if t > off { person.device } else { relayed })
}

fn update(Maker { dice, person, .. }: &mut Maker) -> Vec<Event> {
    let moment = [dice.between(0.2, 0.8) * 5.0 * DAY];
    let newer = person.device.updated(dice.weighted(&[(1, 0.85), (2, 0.15)]));
    let stream = browse_daily(dice, 0..5, 1500.0);
    owner(stream, |_| person.home, turns(&moment, (person.device, newer)))
}

fn month(Maker { dice, addresses, person }: &mut Maker) -> Vec<Event> {
    let count = *dice.pick(&[1, 3, 30]);
    let homes: Vec<Net> = (0..count)
        .map(|_| addresses.net(NetworkKind::Residential, person.land, person.operator, person.city, Version::V4))
        .collect();
    let (second, third) = (person.device.updated(1), person.device.updated(2));
    let travels = dice.chance(0.15);
    let abroad = dice.pick(&LANDS);
    let there = city(dice, abroad);
    let hotel = addresses.net(NetworkKind::Residential, abroad, 5500, there, Version::V4);
    let stream = browse_daily(dice, (0..30).step_by(2), 600.0);
    let net = |t: f64| {
        let day = (t / DAY).floor();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most thirty")]
        let at = day as usize % homes.len();
        if travels && (12.0..16.0).contains(&day) { hotel } else { homes.get(at).copied().unwrap_or(hotel) }
    };
    owner(stream, net, |t| match t / DAY {
        ..9.0 => person.device,
        9.0..20.0 => second,
        _ => third,
    })
}

fn desktop_site(Maker { dice, addresses, person }: &mut Maker) -> Vec<Event> {
    let language = person.language();
    let (own, other, net) = if dice.chance(0.6) {
        let own = Device::new(dice, Browser::Chrome, System::Android, language);
        (own, Device { system: System::Linux, ..own }, person.cell(dice, addresses, Version::V4))
    } else {
        let own = Device::new(dice, Browser::Chrome, System::Windows, language);
        (own, Device { system: System::Android, ..own }, person.home)
    };
    let moments = dice.moments(1, 3, 1800.0);
    owner(browse(dice, 1800.0), |_| net, turns(&moments, (own, other)))
}

fn traveller(Maker { dice, addresses, person }: &mut Maker) -> Vec<Event> {
    let abroad: Vec<&Land> = LANDS.iter().filter(|land| land.code != person.land.code).collect();
    let land = *dice.pick(&abroad);
    let (asn, there) = (5000 + dice.whole(0, 9), city(dice, land));
    let hotel = addresses.net(NetworkKind::Residential, land, asn, there, Version::V4);
    let way = person.home.place.position.zip(hotel.place.position).map_or(0.0, |(from, to)| from.kilometres_to(to));
    // At 750 km/h, and an hour at either airport.
    let flight = way / 750.0 * 3600.0 + 2.0 * 3600.0;
    let mut stream = browse(dice, 900.0);
    stream.extend(browse(dice, 1200.0).into_iter().map(|(t, kind)| (t + 900.0 + flight, kind)));
    let moment = [900.0 + flight / 2.0];
    owner(sorted(stream), turns(&moment, (person.home, hotel)), |_| person.device)
}

fn language(Maker { dice, person, .. }: &mut Maker) -> Vec<Event> {
    let other = Device { language: "es-ES,es;q=0.9", ..person.device };
    owner(browse(dice, 2400.0), |_| person.home, turns(&[1200.0], (person.device, other)))
}

fn tor(Maker { dice, addresses, person }: &mut Maker) -> Vec<Event> {
    let browser = Device::of_version(Browser::Firefox, System::Windows, 153, "en-US,en;q=0.5");
    person.device = Device { tls: (Engine::Tor, 1), packets: Stack::Linux, ..browser };
    let exits: Vec<Net> = (0..5)
        .map(|number| {
            let land = dice.pick(&LANDS);
            let city = city(dice, land);
            let exit = addresses.net(NetworkKind::Tor, land, 6000 + number, city, Version::V4);
            exit.passing_on(dice.between(60.0, 250.0))
        })
        .collect();
    let stream = browse(dice, 3000.0);
    let net = |t: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most six")]
        let at = (t / 600.0) as usize % exits.len();
        exits.get(at).copied().unwrap_or(person.home)
    };
    owner(stream, net, |_| person.device)
}

fn migrated(Maker { dice, person, .. }: &mut Maker) -> Vec<Event> {
    let next = Device::new(dice, person.device.browser, person.device.system, person.language());
    let stream = browse_daily(dice, 0..2, 900.0);
    owner(stream, |_| person.home, turns(&[DAY / 2.0], (person.device, next)))
}

fn hybrid(Maker { dice, person, .. }: &mut Maker) -> Vec<Event> {
    let language = person.language();
    person.device = Device::new(dice, Browser::Chrome, System::Android, language);
    let native = Device::of_version(Browser::OkHttp, System::Android, 5, language);
    let mut events = owner(browse(dice, 1800.0), |_| person.home, |_| person.device);
    for event in &mut events {
        if dice.chance(0.5) {
            event.device = native;
        }
    }
    events
}
