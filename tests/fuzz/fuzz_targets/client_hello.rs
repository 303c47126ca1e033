//! The `ClientHello`: how it is split into records changes nothing, nor does what follows it, and what is short is none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::connection::client_hello::{ClientHello, RECORDED_BYTES_MAX, message, print};

/// Bytes that are tried to the last. Of a longer input this much is the beginning of something else.
const TRIED: usize = 2048;

fuzz_target!(|input: &[u8]| {
    // As it comes from the network.
    let whole = print(input);
    if let Some(body) = message(input) {
        assert!(body.len() < RECORDED_BYTES_MAX);
        assert_eq!(whole.is_some(), ClientHello::parse(&body).is_some());
    }
    if whole.is_some() && input.len() <= TRIED {
        let needed = (0..input.len()).find(|cut| print(&input[..*cut]).is_some()).unwrap_or(input.len());
        assert!((needed..=input.len()).all(|cut| print(&input[..cut]) == whole), "more never changes an answer");
    }

    // As the body of a message, in records of any size.
    if input.len() > TRIED {
        return;
    }
    let hello = ClientHello::parse(input);
    let expected = print(&records(input, 1 << 14));
    assert_eq!(expected.is_some(), hello.is_some());
    for most in [1, 5, 61] {
        assert_eq!(print(&records(input, most)), expected, "records of {most}");
    }
    if let (Some(hello), Some(print)) = (hello, expected) {
        let ja4 = print.ja4.expect("a hello has a JA4");
        assert_eq!((hello.core(), hello.soft(), hello.ja4()), (print.core, print.soft, Some(ja4)));
        assert_eq!(ja4.as_str().len(), 36);
    }
});

fn records(body: &[u8], most: usize) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    let message = [&[1, a, b, c], body].concat();
    let fragments = message.chunks(most);
    fragments
        .flat_map(|fragment| {
            [&[22, 3, 1], &u16::try_from(fragment.len()).unwrap_or(0).to_be_bytes()[..], fragment].concat()
        })
        .collect()
}
