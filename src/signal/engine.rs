//! The device speaks in another way: TLS, HTTP/2, the order of headers, the first packet. Whoever copies the headers of a
//! browser with another program is seen here.
//!
//! TLS, HTTP/2 and the order of headers have one cause, the engine, so they count once and a little.

use super::weights::{Weights, shares};
use super::{Scene, Signal, SignalKind};
use crate::fingerprint::drift::{DeviceDrift, Moved};
use crate::history::Points;

/// TLS.
pub(super) fn tls(scene: &Scene<'_>) -> Option<Signal> {
    let device = &scene.drift.device;
    if device.gateway == Moved::Yes {
        let (before, after) = (scene.bound?.place.kind.name(), scene.input.fingerprint.place.kind.name());
        return Signal::worth(SignalKind::DeviceTls, scene.weights.gateway, before, after);
    }
    let [points, ..] = parts(device, scene.weights);
    let key = |tls: u32| format!("{tls:08x}");
    let (before, after) = (scene.bound?.wire.tls, scene.input.fingerprint.wire.tls);
    if points == Points::ZERO { None } else { Signal::worth(SignalKind::DeviceTls, points, key(before), key(after)) }
}

/// HTTP/2.
pub(super) fn http2(scene: &Scene<'_>) -> Option<Signal> {
    let [_, points, ..] = parts(&scene.drift.device, scene.weights);
    let key = |http2: u16| format!("{http2:04x}");
    let (before, after) = (scene.bound?.wire.http2, scene.input.fingerprint.wire.http2);
    if points == Points::ZERO { None } else { Signal::worth(SignalKind::DeviceHttp2, points, key(before), key(after)) }
}

/// The order of headers.
pub(super) fn order(scene: &Scene<'_>) -> Option<Signal> {
    let [_, _, points] = parts(&scene.drift.device, scene.weights);
    Signal::worth(SignalKind::DeviceOrder, points, "", "the order of another engine")
}

/// Weak traits of TLS, beside anything else of the device.
pub(super) fn soft(scene: &Scene<'_>) -> Option<Signal> {
    let points = soft_points(&scene.drift.device, scene.weights);
    let (before, after) = (scene.bound?.wire.soft, scene.input.fingerprint.wire.soft);
    if points == Points::ZERO {
        return None;
    }
    Signal::worth(SignalKind::DeviceTlsSoft, points, format!("{before:04b}"), format!("{after:04b}"))
}

/// The first packet.
pub(super) fn syn(scene: &Scene<'_>) -> Option<Signal> {
    let points = super::drift::if_moved(scene.drift.device.syn, scene.weights.syn);
    let (before, after) = (scene.bound?.wire.syn, scene.input.fingerprint.wire.syn);
    if points == Points::ZERO {
        return None;
    }
    Signal::worth(SignalKind::DeviceSyn, points, before.to_string(), after.to_string())
}

/// TLS, HTTP/2 and the order of headers.
fn parts(device: &DeviceDrift, weights: &Weights) -> [Points; 3] {
    let moved = [(device.tls, weights.tls), (device.http2, weights.http2), (device.order, weights.order)];
    shares(moved.map(|(moved, points)| super::drift::if_moved(moved, points)))
}

fn soft_points(device: &DeviceDrift, weights: &Weights) -> Points {
    let alone = DeviceDrift { soft: Moved::Yes, ..DeviceDrift::default() };
    if *device == alone { Points::ZERO } else { super::drift::if_moved(device.soft, weights.tls_soft) }
}

/// All of it together.
pub(super) fn points(device: &DeviceDrift, weights: &Weights) -> Points {
    let gateway = super::drift::if_moved(device.gateway, weights.gateway);
    let syn = super::drift::if_moved(device.syn, weights.syn);
    let engine: Points = parts(device, weights).into_iter().sum();
    engine.plus(gateway).plus(soft_points(device, weights)).plus(syn)
}
