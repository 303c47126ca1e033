//! Randomness: the only module that draws it.
//!
//! Drawing can fail (early boot, a seccomp filter), and nothing may then be issued: a session without a random id is
//! worse than none.

use std::fmt;
use std::sync::Arc;

/// The operating system gave no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no randomness")]
pub struct EntropyError;

/// A source of random bytes fit for secrets.
pub trait Entropy: Send + Sync + fmt::Debug {
    /// Fills `bytes` with random bytes.
    ///
    /// # Errors
    /// When the source has none to give; `bytes` is then to be thrown away.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError>;
}

impl<E: Entropy + ?Sized> Entropy for Arc<E> {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        (**self).fill(bytes)
    }
}

/// An array of `N` random bytes.
///
/// # Errors
/// When the source has none to give.
pub fn random<const N: usize>(entropy: &dyn Entropy) -> Result<[u8; N], EntropyError> {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes)?;
    Ok(bytes)
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that draws randomness")]
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        #[expect(clippy::map_err_ignore, reason = "the code of the system says nothing a caller could use")]
        getrandom::fill(bytes).map_err(|_| EntropyError)
    }
}

/// A generator that repeats itself for a seed: for tests and simulations, never for a running guard.
///
/// It is SHA-256 in counter mode, so its bytes look random and never run out.
#[derive(Debug)]
pub struct InsecureSeededEntropy {
    seed: u64,
    drawn: std::sync::atomic::AtomicU64,
}

impl InsecureSeededEntropy {
    /// A generator whose bytes follow from `seed` alone.
    pub const fn new(seed: u64) -> Self {
        Self { seed, drawn: std::sync::atomic::AtomicU64::new(0) }
    }
}

impl Entropy for InsecureSeededEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        for chunk in bytes.chunks_mut(32) {
            let block = self.drawn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut input = [0; 16];
            let (left, right) = input.split_at_mut(8);
            left.copy_from_slice(&self.seed.to_be_bytes());
            right.copy_from_slice(&block.to_be_bytes());
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &input);
            for (byte, random) in chunk.iter_mut().zip(digest.as_ref()) {
                *byte = *random;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_fills_every_byte() {
        // 64 zero bytes in a row have a chance of 2^-512: a failure means bytes were left alone.
        let bytes: [u8; 64] = random(&OsEntropy).unwrap();
        assert_ne!(bytes, [0; 64]);
        let (first, second) = bytes.split_at(32);
        assert_ne!(first, second);
    }

    #[test]
    fn a_seed_repeats_itself_and_no_other() {
        let draw = |seed| random::<40>(&InsecureSeededEntropy::new(seed)).unwrap();
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
