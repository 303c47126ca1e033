//! The token that an operator shows on a loopback port.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroize as _;

use crate::entropy::{Entropy, EntropyError, random};
use crate::secret::{Secret, same, sha256};

/// Fewest characters of a token: those of 128 random bits.
const TOKEN_CHARS_MIN: usize = 22;

/// Most characters of a token.
const TOKEN_CHARS_MAX: usize = 512;

/// A token could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file can not be read or written.
    #[error("the token file {} can not be used: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What it holds can not be a token.
    #[error(
        "the token file {} must hold one line of {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} letters, digits and -._~+/=; \
         delete it and start the guard to have a new one made",
        .0.display()
    )]
    Form(PathBuf),
    /// There is no randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// What lets its bearer end every session.
#[derive(Clone, Debug)]
pub struct Token(Secret<String>);

impl Token {
    /// The token of a file.
    ///
    /// # Errors
    /// When the file can not be read, or holds no token.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::Io { path: path.to_owned(), source };
        let mut text = String::new();
        let most = u64::try_from(TOKEN_CHARS_MAX).unwrap_or(u64::MAX).saturating_add(2);
        let file = File::open(path).map_err(failed)?;
        if file.metadata().is_ok_and(|data| data.permissions().mode() & 0o077 != 0) {
            tracing::warn!(path = %path.display(), "others can read the token file: chmod 600");
        }
        file.take(most).read_to_string(&mut text).map_err(failed)?;
        let token = Self::parse(&text).ok_or_else(|| TokenError::Form(path.to_owned()));
        text.zeroize();
        token
    }

    /// The token of a file, which is made if it is not there, for nobody else to read.
    ///
    /// # Errors
    /// When the file can not be read or written, or holds no token.
    pub fn read_or_make(path: &Path, entropy: &dyn Entropy) -> Result<Self, TokenError> {
        match Self::read(path) {
            Err(TokenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            read => return read,
        }
        let bytes: [u8; 32] = random(entropy)?;
        let token = Self(Secret::new(URL_SAFE_NO_PAD.encode(bytes)));
        match write(path, token.expose()) {
            // Another guard was faster; the one token of the file is the right one.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::read(path),
            Err(source) => Err(TokenError::Io { path: path.to_owned(), source }),
            Ok(()) => Ok(token),
        }
    }

    /// A token from its text, with or without a line's end.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_ascii();
        let fits = (TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
        fits.then(|| Self(Secret::new(text.to_owned())))
    }

    /// The token itself, for the one who shows it.
    pub(super) fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Whether this is it. Digests are compared, so that the time tells nothing, not even of the length.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        same(&sha256(self.expose().as_bytes()), &sha256(shown))
    }
}

fn write(path: &Path, token: &str) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::OsEntropy;

    #[test]
    fn a_token_is_made_once_for_one_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/admin.token");
        let made = Token::read_or_make(&path, &OsEntropy).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.len(), 44);
        let again = Token::read_or_make(&path, &OsEntropy).unwrap();
        assert!(again.is(made.expose().as_bytes()) && made.is(text.trim_end().as_bytes()));
        assert_eq!(fs::read_dir(folder.path().join("data")).unwrap().count(), 1);
        assert!(!format!("{made:?}").contains(made.expose()));
    }

    #[test]
    fn only_the_token_is_the_token() {
        let token = Token::parse("0123456789abcdef0123456789abcdef\n").unwrap();
        assert!(token.is(b"0123456789abcdef0123456789abcdef"));
        for other in [&b""[..], b"0", b"0123456789abcdef0123456789abcdeg", b"0123456789abcdef0123456789abcdef0"] {
            assert!(!token.is(other));
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        for bad in ["", "short", "two words of 22 characters", &"x".repeat(TOKEN_CHARS_MAX + 1)] {
            fs::write(&path, bad).unwrap();
            let refused = Token::read_or_make(&path, &OsEntropy);
            assert!(matches!(refused, Err(TokenError::Form(_))), "{bad:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
    }
}
