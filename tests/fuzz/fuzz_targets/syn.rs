//! The first packet of a connection, as the kernel keeps it: how far away its sender is changes nothing, nor what it says of
//! one connection alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::connection::syn::class;

fuzz_target!(|input: &[u8]| {
    let found = class(input);
    let Some(version) = input.first().map(|octet| octet >> 4) else { return };
    let (hops, options) = match version {
        4 => (8, usize::from(input[0] & 15) * 4 + 20),
        _ => (7, usize::MAX),
    };
    if found.is_some() {
        assert!(matches!(version, 4 | 6));
        let mut other = input.to_vec();
        other[hops] = [32, 64, 128, 255].into_iter().find(|first| other[hops] <= *first).unwrap_or(255);
        assert_eq!(class(&other), found);
    }
    // Padding in front of the options, if there is room for more.
    if found.is_some() && options <= input.len() && input[options - 8] >> 4 < 15 {
        let mut padded = input.to_vec();
        padded.splice(options..options, [1; 4]);
        padded[options - 8] += 1 << 4;
        assert_eq!(class(&padded), found);
    }
});
