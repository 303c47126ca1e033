//! What a client shows as our cookie, and the public name of a session: each has one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::secret::{KeyId, Keyring, MasterKey};
use portcullis::session::id::{COOKIE_CHARS, Presented, Ref, SessionId, cookie_value};

fuzz_target!(|input: &[u8]| {
    if let Some(read) = Presented::parse(input) {
        assert_eq!(input.len(), COOKIE_CHARS);
        assert_eq!(cookie_value(&read.id, &read.tag).expose().as_bytes(), input, "it has one spelling");
        assert!(SessionId::from_bytes(read.id.digest().0) != read.id, "a digest is no id");
        let keys = Keyring::new(&MasterKey::new(KeyId(1), [7; 32]), &[]);
        assert!(!read.tag.is_authentic(&keys, &read.id), "a tag was forged");
    }
    if let Some((text, read)) = str::from_utf8(input).ok().and_then(|text| Some((text, Ref::parse(text)?))) {
        assert_eq!(read.to_string(), text.to_ascii_lowercase());
    }
});
