//! The filter in front of the HTTP/1 parser, which no caller of the library reaches: its file is compiled in here. What
//! it lets through does not depend on how the octets were split, and is read by the parser behind it as the same head.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| proxy::judge(input));

/// Named as in the library, where the file is at home.
#[path = "."]
mod proxy {
    use portcullis::proxy::{Fault, Limits};

    #[expect(dead_code, reason = "the wire around it needs more of it than is tried here")]
    #[path = "../../../src/proxy/wire/scan.rs"]
    mod scan;

    use scan::{Place, Scanner};

    /// Requests on one connection that are looked at.
    const HEADS_MAX: u32 = 8;

    fn scanner() -> Scanner {
        Scanner::new(&limits())
    }

    /// Small enough to be reached.
    fn limits() -> Limits {
        Limits { header_bytes_max: 512, headers_max: 8, uri_bytes_max: 64, ..Limits::default() }
    }

    pub(super) fn judge(input: &[u8]) {
        let mut whole = scanner();
        let expected = whole.feed(input);
        assert!(expected.octets <= input.len());
        assert_eq!(expected.fault.is_none(), expected.octets == input.len());

        let (mut split, mut fault, mut begins) = (scanner(), None, 0);
        for (at, octet) in input.iter().enumerate() {
            let (heads, place) = (split.heads(), split.place());
            if place == Place::Between {
                begins = at;
            }
            fault = split.feed(&[*octet]).fault;
            if fault.is_some() {
                break;
            }
            if split.heads() != heads && heads < HEADS_MAX {
                the_parser_agrees(&input[begins..=at], split.place());
            }
        }
        assert_eq!(fault, expected.fault, "splitting changes nothing");
        assert_eq!(split.heads(), whole.heads());
        if fault.is_none() {
            assert_eq!(split.place(), whole.place());
        }
    }

    /// A head that passed is a head to the parser too, of the same length and with the same framing.
    fn the_parser_agrees(head: &[u8], place: Place) {
        let mut room = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut room);
        let read = request.parse(head);
        assert_eq!(read, Ok(httparse::Status::Complete(head.len())), "{}", head.escape_ascii());
        assert!(request.headers.len() <= limits().headers_max);
        let named =
            |name: &'static str| request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        let lengths: Vec<&[u8]> = named("content-length").map(|header| header.value).collect();
        let coded = named("transfer-encoding").count();
        assert!(coded <= 1 && (coded == 0 || lengths.is_empty()), "one framing");
        assert!(lengths.iter().all(|length| length.iter().all(u8::is_ascii_digit) && !length.is_empty()));
        let has_body = coded == 1 || lengths.iter().any(|length| length.iter().any(|digit| *digit != b'0'));
        assert_eq!(place == Place::Body, has_body, "{}", head.escape_ascii());
    }
}
