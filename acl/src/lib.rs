//! Users and passwords: may this user do this? Knows no server.
//!
//! There is one user so far, `default`, whose password `requirepass` sets. Passwords are kept as SHA-256 digests, as
//! Redis keeps them.

use sha2::{Digest, Sha256};

/// The users there are.
#[derive(Default, Clone, Debug)]
pub struct Users {
    default: User,
}

/// A user.
#[derive(Default, Clone, Debug)]
struct User {
    /// No digest: no password is needed.
    password: Option<[u8; 32]>,
}

/// Why somebody was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// A password was given for the default user, who has none.
    NoPasswordSet,
    /// Unknown user, or another password.
    WrongPassword,
}

impl Users {
    /// Gives the default user a password, or lets anybody in without one.
    pub fn set_default_password(&mut self, password: Option<&[u8]>) {
        self.default.password = password.map(|password| Sha256::digest(password).into());
    }

    /// Whether connections are let in without AUTH.
    pub fn default_needs_no_password(&self) -> bool {
        self.default.password.is_none()
    }

    /// Whether there is a user of this name.
    pub fn contains(&self, name: &[u8]) -> bool {
        name == b"default"
    }

    /// Lets a user in by a password. Without a user name, who means the default user is told if it has no password.
    pub fn authenticate(&self, user: Option<&[u8]>, password: &[u8]) -> Result<(), Denied> {
        let named = user.unwrap_or(b"default");
        match &self.default.password {
            None if user.is_none() => Err(Denied::NoPasswordSet),
            None if named == b"default" => Ok(()),
            Some(digest) => {
                let given: [u8; 32] = Sha256::digest(password).into();
                if same(&given, digest) && named == b"default" { Ok(()) } else { Err(Denied::WrongPassword) }
            }
            None => Err(Denied::WrongPassword),
        }
    }
}

/// Compares in a time that does not depend on where the two differ.
fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_user() {
        let mut users = Users::default();
        assert_eq!(users.authenticate(None, b"x"), Err(Denied::NoPasswordSet));
        assert_eq!(users.authenticate(Some(b"default"), b"x"), Ok(()));
        assert_eq!(users.authenticate(Some(b"ann"), b"x"), Err(Denied::WrongPassword));
        users.set_default_password(Some(b"se\0cret"));
        assert!(!users.default_needs_no_password());
        assert_eq!(users.authenticate(None, b"se\0cret"), Ok(()));
        assert_eq!(users.authenticate(Some(b"default"), b"se\0cret"), Ok(()));
        assert_eq!(users.authenticate(Some(b"ann"), b"se\0cret"), Err(Denied::WrongPassword));
        assert_eq!(users.authenticate(None, b"se"), Err(Denied::WrongPassword));
        users.set_default_password(None);
        assert!(users.default_needs_no_password());
    }
}
