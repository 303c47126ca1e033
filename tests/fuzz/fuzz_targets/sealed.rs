//! What is sealed opens again; what was changed, cut or made up never does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::entropy::InsecureSeededEntropy;
use portcullis::secret::{aead_key, open, seal};

fuzz_target!(|input: (u16, &[u8])| {
    let (at, bytes) = input;
    let key = aead_key(&[7; 32]);

    let mut made_up = bytes.to_vec();
    assert!(open(&key, b"context", &mut made_up).is_err());

    let mut sealed = Vec::new();
    seal(&key, &InsecureSeededEntropy::new(u64::from(at)), b"context", bytes, &mut sealed).unwrap();
    assert_eq!(open(&key, b"context", &mut sealed.clone()).unwrap(), bytes);
    assert!(open(&key, b"another", &mut sealed.clone()).is_err());

    let mut changed = sealed.clone();
    let at = usize::from(at) % changed.len();
    changed[at] ^= 1;
    assert!(open(&key, b"context", &mut changed).is_err());
    let mut cut = sealed;
    cut.truncate(at);
    assert!(open(&key, b"context", &mut cut).is_err());
});
