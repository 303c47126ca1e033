//! Signatures as minisign makes them, with keys that are made for a test and forgotten.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Somebody who signs.
pub(crate) struct Signer {
    pair: Ed25519KeyPair,
    id: [u8; 8],
}

impl Signer {
    /// One of 256, each with a key of its own.
    pub(crate) fn new(number: u8) -> Self {
        Self { pair: Ed25519KeyPair::from_seed_unchecked(&[number; 32]).unwrap(), id: [number; 8] }
    }

    /// The same key under the number of another.
    pub(crate) fn numbered(self, number: u8) -> Self {
        Self { id: [number; 8], ..self }
    }

    /// The second line of the `.pub` file.
    pub(crate) fn public(&self) -> String {
        STANDARD.encode([b"Ed", self.id.as_slice(), self.pair.public_key().as_ref()].concat())
    }

    /// The text of a `.minisig` file.
    pub(crate) fn sign(&self, content: &[u8], trusted: &str) -> String {
        self.signature(*b"ED", &blake2b(content), trusted)
    }

    /// As the program made it before version 0.10: of the file itself, and not of its hash.
    pub(crate) fn sign_legacy(&self, content: &[u8], trusted: &str) -> String {
        self.signature(*b"Ed", content, trusted)
    }

    fn signature(&self, kind: [u8; 2], signed: &[u8], trusted: &str) -> String {
        let signature = self.pair.sign(signed);
        let global = self.pair.sign(&[signature.as_ref(), trusted.as_bytes()].concat());
        let signature = STANDARD.encode([kind.as_slice(), &self.id, signature.as_ref()].concat());
        let global = STANDARD.encode(global.as_ref());
        format!("untrusted comment: signature\n{signature}\ntrusted comment: {trusted}\n{global}\n")
    }
}

const IV: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

const SIGMA: [[usize; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

/// BLAKE2b-512 without a key (RFC 7693).
fn blake2b(content: &[u8]) -> [u8; 64] {
    let mut state = IV;
    state[0] ^= 0x0101_0040;
    let blocks = content.len().div_ceil(128).max(1);
    for at in 0..blocks {
        let part = &content[at * 128..content.len().min((at + 1) * 128)];
        let mut block = [0; 128];
        block[..part.len()].copy_from_slice(part);
        let words: Vec<u64> = block.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let mut v = [0; 16];
        v[..8].copy_from_slice(&state);
        v[8..].copy_from_slice(&IV);
        v[12] ^= (at * 128 + part.len()) as u64;
        if at + 1 == blocks {
            v[14] = !v[14];
        }
        for round in 0..12 {
            let order = SIGMA[round % 10];
            let lanes = [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]];
            let diagonals = [[0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]];
            for (step, [a, b, c, d]) in lanes.into_iter().chain(diagonals).enumerate() {
                for (word, [turn_d, turn_b]) in [(order[2 * step], [32, 24]), (order[2 * step + 1], [16, 63])] {
                    v[a] = v[a].wrapping_add(v[b]).wrapping_add(words[word]);
                    v[d] = (v[d] ^ v[a]).rotate_right(turn_d);
                    v[c] = v[c].wrapping_add(v[d]);
                    v[b] = (v[b] ^ v[c]).rotate_right(turn_b);
                }
            }
        }
        for lane in 0..8 {
            state[lane] ^= v[lane] ^ v[lane + 8];
        }
    }
    let mut out = [0; 64];
    for (place, word) in out.as_chunks_mut::<8>().0.iter_mut().zip(state) {
        *place = word.to_le_bytes();
    }
    out
}

#[test]
fn the_hash_is_that_of_the_standard() {
    let hex: String = blake2b(b"abc").iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "ba80a53f981c4d0d6a2797b69f12f6e9");
}
