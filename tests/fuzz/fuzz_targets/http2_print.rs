//! The beginning of HTTP/2: how its octets are split changes nothing, and the text of a print is read in one meaning.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::connection::Http2Print;
use portcullis::connection::http2::{OPENING_BYTES_MAX, Opening, Seen};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fuzz_target!(|input: &[u8]| {
    judge(input);
    judge(&[PREFACE, input].concat());
    if let Ok(text) = std::str::from_utf8(input) {
        let print = Http2Print::of_text(text);
        assert_eq!(Http2Print::of_text(text.trim()), print);
        if let Some(order) = print.pseudo {
            let mut letters = order.0;
            letters.sort_unstable();
            assert_eq!(&letters, b"amps");
        }
    }
});

fn judge(octets: &[u8]) {
    let whole = Opening::default().feed(octets);
    assert!(whole != Seen::More || octets.len() < OPENING_BYTES_MAX);
    for size in [1, 7, 100] {
        let mut opening = Opening::default();
        let mut pieces = octets.chunks(size);
        let split = pieces.find_map(|piece| Some(opening.feed(piece)).filter(|seen| *seen != Seen::More));
        assert_eq!(split.unwrap_or(Seen::More), whole, "pieces of {size}");
    }
}
