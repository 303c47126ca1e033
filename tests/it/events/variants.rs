//! Events as they may be: whole, with less known, and with addresses and names hidden.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use portcullis::event::encode::{Encoder, Format, IpPrivacy, Privacy, SubjectPrivacy};
use portcullis::event::{ClientView, Record, Scene};

use crate::support::stored::ring;

/// Every kind in this format, in each of these ways, a line each.
pub(super) fn lines_in(format: Format) -> String {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/events.jsonl");
    let privacies = [
        (IpPrivacy::Full, SubjectPrivacy::Plain),
        (IpPrivacy::Truncate, SubjectPrivacy::Hmac),
        (IpPrivacy::Pseudonym, SubjectPrivacy::Hmac),
    ];
    let mut lines = Vec::new();
    for line in fs::read_to_string(golden).unwrap().lines() {
        let whole = Record::read(line.as_bytes()).unwrap();
        let scene = |scene: Scene| Record { scene, ..whole.clone() };
        let of = &whole.scene;
        for record in [
            whole.clone(),
            // Of the guard itself.
            scene(Scene { action: of.action, mode: of.mode, ..Scene::default() }),
            // A visitor, a session without a request, a request from a socket.
            scene(Scene { subject: None, session: None, reference: None, ..of.clone() }),
            scene(Scene { client: ClientView::default(), method: None, route: None, status: None, ..of.clone() }),
            scene(Scene { client: ClientView { ip: None, ..of.client.clone() }, reasons: Vec::new(), ..of.clone() }),
        ] {
            for (ip, subject) in privacies {
                let encoder = Encoder::new(format).with_privacy(Privacy { ip, subject }, Arc::new(ring(&[1])));
                encoder.encode(&record, &mut lines);
            }
        }
    }
    String::from_utf8(lines).unwrap()
}
