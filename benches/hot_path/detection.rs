//! What detection costs by itself, for each request of a known session in which nothing changed: looking at the client, reading
//! what the session remembers, comparing the two, remembering.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use portcullis::clock::Timestamp;
use portcullis::connection::print::{Http2Print, Print, SynClass, TlsPrint};
use portcullis::facts::geo::{Country, NetworkKind, Place};
use portcullis::facts::order::HeaderOrder;
use portcullis::facts::seen::SeenHeaders;
use portcullis::facts::user_agent::UserAgentCache;
use portcullis::fingerprint::{Fingerprint, Wire};
use portcullis::history::{Change, Contexts, Holding};
use portcullis::net::Asn;
use portcullis::signal::{DetectorInput, Scoring, assess};

use super::opening::nanos;

/// Any moment will do.
const NOW: Timestamp = Timestamp::from_secs(1_795_257_972);

/// A page as Chromium asks for it.
const LINES: [(&str, &str); 14] = [
    ("host", "shop.example"),
    ("sec-ch-ua", r#""Chromium";v="156", "Not)A;Brand";v="24", "Google Chrome";v="156""#),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", r#""Windows""#),
    ("upgrade-insecure-requests", "1"),
    (
        "user-agent",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
    ),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-user", "?1"),
    ("sec-fetch-dest", "document"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
    ("cookie", "portcullis=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA"),
];

/// Prints what each step costs, the best of so many batches and the median.
pub(crate) fn times(batches: usize) {
    let stage = Stage::new();
    println!("| detection for a request, ns | 1 context | 8 contexts |\n|---|---|---|");
    let row = |what: &str, step: &dyn Fn(&[u8])| {
        let cells = [&stage.one, &stage.eight].map(|history| nanos(batches, || step(black_box(history))));
        println!("| {what} | {} | {} |", cells[0], cells[1]);
    };
    let scoring = Scoring::default();
    let read = |history: &[u8]| {
        let mut contexts = Contexts::default();
        contexts.read(history).unwrap();
        contexts
    };
    let judge = |contexts: &mut Contexts, now: &Fingerprint| {
        let input = DetectorInput::new(NOW, now, contexts);
        let assessment = assess(&input, &scoring);
        assert!(assessment.signals.is_empty());
        let visit = assessment.visit(&input, &scoring, Holding::Head);
        assert_eq!(contexts.note(&visit), Change::None);
    };
    row("look at the client", &|_| {
        black_box(stage.look());
    });
    row("read what is remembered", &|history| drop(black_box(read(history))));
    row("all: look, read, compare, remember", &|history| {
        judge(&mut read(history), &stage.look());
    });
    println!();
}

struct Stage {
    headers: HeaderMap,
    print: Print,
    agents: UserAgentCache,
    /// A session whose owner has been in one place.
    one: Vec<u8>,
    /// One that is as full as it gets; the request comes from the last of them.
    eight: Vec<u8>,
}

impl Stage {
    fn new() -> Self {
        let headers = LINES.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let print = Print {
            tls: Some(TlsPrint::named("chromium", 3, None)),
            http2: Some(Http2Print::of_text("1:65536;2:0;4:6291456;6:262144|15663105|0|m,a,s,p")),
            syn: Some(SynClass(7)),
            rtt_gap: None,
        };
        let mut stage = Self {
            headers: headers.into_iter().collect(),
            print,
            agents: UserAgentCache::new([7; 16]),
            one: Vec::new(),
            eight: Vec::new(),
        };
        let scoring = Scoring::default();
        let home = Contexts::bind(stage.look(), NOW);
        home.encode(&mut stage.one);
        let mut all = Contexts::bind(stage.look_from(7), NOW);
        for place in (0..7).rev() {
            let fingerprint = stage.look_from(place);
            let input = DetectorInput::new(NOW, &fingerprint, &all);
            let visit = assess(&input, &scoring).visit(&input, &scoring, Holding::Head);
            all.note(&visit);
        }
        assert_eq!(all.known().len(), 8);
        all.encode(&mut stage.eight);
        stage
    }

    fn look(&self) -> Fingerprint {
        self.look_from(0)
    }

    fn look_from(&self, operator: u8) -> Fingerprint {
        let wire = Wire::of(&self.print, HeaderOrder::of(black_box(&self.headers)));
        let seen = SeenHeaders::of(black_box(&self.headers));
        let ip = IpAddr::V4(Ipv4Addr::new(198, 51, operator, 7));
        let place = Place {
            country: Country::parse("DE"),
            asn: Some(Asn(3320 + u32::from(operator))),
            kind: NetworkKind::Residential,
            ..Place::default()
        };
        Fingerprint::observe(&seen, wire, ip, place, &self.agents)
    }
}
