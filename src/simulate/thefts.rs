//! How sessions are stolen.

use super::story::{Event, Loot, Maker, Story, Who, browse, browse_daily, cast, in_order};
use super::world::{Browser, Device, Engine, Kind, LANDS, Land, Net, Stack, System, Version, city};
use crate::facts::geo::NetworkKind;

macro_rules! thefts {
    ($($(#[doc = $doc:literal])+ $theft:ident = $name:literal;)+) => {
        /// A way in which sessions are stolen.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Theft {
            $($(#[doc = $doc])+ $theft,)+
        }

        impl Theft {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$theft,)+];

            /// Its name in tables.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$theft => $name,)+
                }
            }

            /// What it is, in words.
            pub fn about(self) -> &'static str {
                match self {
                    $(Self::$theft => concat!($($doc,)+).trim_ascii(),)+
                }
            }
        }
    };
}

thefts! {
    /// The jar is used from another country, with the thief's own browser.
    Abroad = "abroad";
    /// From a VPN or servers in the same country, with the owner's headers in the thief's own browser.
    SameCountryVpn = "vpn, headers copied";
    /// From a home of the same city, by a script with the owner's headers.
    Script = "script";
    /// From a home of the same city, by a browser just like the owner's, while the owner is active.
    ParrotActive = "parrot, owner active";
    /// The same, and the owner never comes back.
    ParrotGone = "parrot, owner gone";
    /// The same, and the owner comes back after eight hours.
    ParrotReturn = "parrot, owner returns";
    /// The owner logs in through a phisher's proxy; the thief goes on from elsewhere.
    Phished = "phished at login";
    /// A copy of the jar is used half an hour later, by a browser just like the owner's.
    Delayed = "delayed replay";
    /// From behind the owner's own address, with another device.
    Neighbour = "neighbour";
    /// From behind the owner's own address, with a device just like the owner's.
    NeighbourTwin = "neighbour, twin";
    /// Somebody else uses the session from his own home with his own device: shared, or stolen.
    Sharing = "sharing";
    /// One request every six hours, from a VPN in the same country, with the owner's headers.
    SlowLow = "slow and low";
    /// By a program on the owner's machine, with the owner's jar.
    OnHost = "on the host";
}

/// A session that is stolen in one of these ways.
pub(super) fn story(theft: Theft, seed: u64, number: u32) -> Story {
    let mut maker = Maker::new(seed, number);
    let (home, own) = (maker.person.home, maker.person.device);
    let mut owner = cast(browse(&mut maker.dice, 3600.0), Who::Owner, |_| home, |_| own);
    let mut start = maker.dice.between(900.0, 2400.0);
    let (net, device) = tool(theft, &mut maker);
    let mut span = 1200.0;
    let mut loot = Loot::Copy(1.0);
    match theft {
        Theft::ParrotGone => leaves(&mut owner, start),
        Theft::ParrotReturn => {
            leaves(&mut owner, start);
            let back = browse(&mut maker.dice, 900.0).into_iter().map(|(t, kind)| (t + start + 8.0 * 3600.0, kind));
            owner.extend(cast(back.collect(), Who::Owner, |_| home, |_| own));
        }
        Theft::Phished => {
            start = 300.0;
            owner = phished(&mut maker);
        }
        Theft::Delayed => {
            start = maker.dice.between(2400.0, 3500.0);
            loot = Loot::Copy(1800.0);
        }
        Theft::Sharing => span = 2400.0,
        Theft::SlowLow => {
            owner.extend(cast(browse_daily(&mut maker.dice, 1..3, 900.0), Who::Owner, |_| home, |_| own));
        }
        Theft::OnHost => loot = Loot::Jar,
        _ => {}
    }
    let stream = match theft {
        Theft::SlowLow => (0..8).map(|turn| (f64::from(turn) * 6.0 * 3600.0, Kind::Part)).collect(),
        _ => browse(&mut maker.dice, span),
    };
    let mut events = owner;
    for (turn, (t, kind)) in stream.into_iter().enumerate() {
        let kind = match (turn % 6, kind) {
            (4, _) => Kind::Sensitive,
            (_, Kind::Sensitive) => Kind::Page,
            (_, kind) => kind,
        };
        events.push(Event { t: start + t, who: Who::Thief, kind, net, device });
    }
    Story { events: in_order(events), loot }
}

/// The owner leaves five minutes before. The login stays.
fn leaves(owner: &mut Vec<Event>, start: f64) {
    let first = owner.first().copied();
    owner.retain(|event| event.t < start - 300.0);
    if owner.is_empty() {
        owner.extend(first);
    }
}

/// The login goes through a phisher's proxy on some server: the owner's browser to the eye, another program on the wire.
fn phished(Maker { dice, addresses, person }: &mut Maker) -> Vec<Event> {
    let land = dice.pick(&LANDS);
    let there = city(dice, land);
    let proxy = addresses.net(NetworkKind::Hosting, land, 4500, there, Version::V4);
    let proxy = proxy.passing_on(dice.between(10.0, 120.0));
    let tls = *dice.pick(&[(Engine::Go, 1), (Engine::Go, 1), person.device.tls]);
    let order = *dice.pick(&[Engine::Go, person.device.order]);
    let device = Device { tls, http2: Engine::Go, order, packets: Stack::Linux, ..person.device };
    cast(browse(dice, 120.0), Who::Phished, |_| proxy, |_| device)
}

/// From where and with what the thief comes.
fn tool(theft: Theft, maker: &mut Maker) -> (Net, Device) {
    let Maker { dice, addresses, person } = maker;
    let thiefs = |dice: &mut super::dice::Dice| {
        let (browser, system) = *dice.pick(&[
            (Browser::Chrome, System::Windows),
            (Browser::Firefox, System::Windows),
            (Browser::Chrome, System::Linux),
            (Browser::Chrome, System::MacOs),
        ]);
        let language = *dice.pick(&["en-US,en;q=0.9", "ru-RU,ru;q=0.9"]);
        Device::new(dice, browser, system, language)
    };
    // His own browser under the owner's headers: what it does on the wire stays its own.
    let in_disguise =
        |Device { tls, http2, order, packets, .. }| Device { tls, http2, order, packets, ..person.device };
    let mut exit_in_city = |dice: &mut super::dice::Dice| {
        let asn = if dice.chance(0.3) { person.operator } else { person.operator + 7 };
        let exit = addresses.net(NetworkKind::Residential, person.land, asn, person.city, Version::V4);
        exit.passing_on(dice.between(30.0, 200.0))
    };
    // The exit is a machine of somebody, or a box.
    let copy = |dice: &mut super::dice::Dice| {
        let packets = *dice.pick(&[person.device.packets, Stack::Linux]);
        Device { packets, ..person.device }
    };
    match theft {
        Theft::Abroad => {
            let kind = *dice.pick(&[NetworkKind::Residential, NetworkKind::Vpn, NetworkKind::Hosting]);
            let abroad: Vec<&Land> = LANDS.iter().filter(|land| land.code != person.land.code).collect();
            let land = *dice.pick(&abroad);
            let (asn, there) = (4000 + dice.whole(0, 9), city(dice, land));
            (addresses.net(kind, land, asn, there, Version::V4), thiefs(dice))
        }
        Theft::SameCountryVpn | Theft::SlowLow => {
            let kind = match theft {
                Theft::SlowLow => NetworkKind::Vpn,
                _ => *dice.pick(&[NetworkKind::Vpn, NetworkKind::Hosting]),
            };
            let (asn, there) = (9000 + dice.whole(0, 5), city(dice, person.land));
            (addresses.net(kind, person.land, asn, there, Version::V4), in_disguise(thiefs(dice)))
        }
        Theft::Script => {
            let net = exit_in_city(dice);
            let go = (Engine::Go, 1);
            (net, Device { tls: go, http2: Engine::Go, order: Engine::Go, packets: Stack::Linux, ..person.device })
        }
        Theft::ParrotActive | Theft::ParrotGone | Theft::ParrotReturn => (exit_in_city(dice), copy(dice)),
        Theft::Delayed => {
            let asn = person.operator + 7;
            let exit = addresses.net(NetworkKind::Residential, person.land, asn, person.city, Version::V4);
            (exit.passing_on(dice.between(30.0, 200.0)), person.device)
        }
        Theft::Phished => {
            let kind = *dice.pick(&[NetworkKind::Vpn, NetworkKind::Residential, NetworkKind::Hosting]);
            let land = dice.pick(&LANDS);
            let there = city(dice, land);
            (addresses.net(kind, land, 4000, there, Version::V4), thiefs(dice))
        }
        Theft::Neighbour => (person.home, Device::any(dice, person.language())),
        Theft::NeighbourTwin | Theft::OnHost => (person.home, person.device),
        Theft::Sharing => {
            let there = city(dice, person.land);
            let net = addresses.net(NetworkKind::Residential, person.land, person.operator + 7, there, Version::V4);
            (net, Device::any(dice, person.language()))
        }
    }
}
