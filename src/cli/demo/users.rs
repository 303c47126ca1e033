//! Who may log in to the sample app. Passwords are drawn at every start: nobody finds a known one on somebody's machine.

use portcullis::entropy::{Entropy, EntropyError, random};

/// Somebody with an account.
#[derive(Clone, Debug)]
pub(super) struct User {
    /// The login name.
    pub(super) name: &'static str,
    /// The password, in the clear: this app is weak on purpose.
    pub(super) password: String,
    /// What the account page shows.
    pub(super) balance: &'static str,
}

/// Everybody with an account.
#[derive(Clone, Debug)]
pub(super) struct Users(Vec<User>);

/// Letters of passwords: none that looks like another.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

impl Users {
    /// The users of the demo, with new passwords.
    ///
    /// # Errors
    /// When there is no randomness.
    pub(super) fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let user = |name, balance| Ok(User { name, password: password(entropy)?, balance });
        Ok(Self(vec![user("alice", "1,204.17")?, user("bob", "88.40")?]))
    }

    /// All of them.
    pub(super) fn all(&self) -> &[User] {
        &self.0
    }

    /// The user of that name.
    pub(super) fn find(&self, name: &str) -> Option<&User> {
        self.0.iter().find(|user| user.name == name)
    }

    /// Gives a user another password.
    pub(super) fn set_password(&mut self, name: &str, password: &str) {
        if let Some(user) = self.0.iter_mut().find(|user| user.name == name) {
            password.clone_into(&mut user.password);
        }
    }
}

/// Sixteen letters, 80 bits, in fours.
fn password(entropy: &dyn Entropy) -> Result<String, EntropyError> {
    let bytes: [u8; 16] = random(entropy)?;
    let letters: Vec<char> =
        bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte % 32))).map(|letter| char::from(*letter)).collect();
    Ok(letters.chunks(4).map(String::from_iter).collect::<Vec<_>>().join("-"))
}

#[cfg(test)]
mod tests {
    use portcullis::entropy::InsecureSeededEntropy;

    use super::*;

    #[test]
    fn passwords_are_new_each_time_and_can_be_typed() {
        let draw = |seed| Users::generate(&InsecureSeededEntropy::new(seed)).unwrap();
        let (one, other) = (draw(1), draw(2));
        for (user, other) in one.all().iter().zip(other.all()) {
            assert_ne!(user.password, other.password);
            assert_eq!(user.password.len(), 19);
            assert!(user.password.bytes().all(|byte| LETTERS.contains(&byte) || byte == b'-'), "{}", user.password);
        }
        assert_ne!(one.find("alice").unwrap().password, one.find("bob").unwrap().password);
    }
}
