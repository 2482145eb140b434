//! Password files: a line for each user, `NAME:HASH`, with hashes by argon2 as PHC strings.

use std::{collections::HashMap, path::Path};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};

use super::document::Document;
use crate::failure::Failure;

/// Users and the hashes of their passwords.
#[derive(Debug)]
pub(crate) struct Passwords {
    users: HashMap<String, PasswordHash>,
    /// Of nobody: that there is no such user takes as long to find out as that the password is wrong.
    nobody: PasswordHash,
}

impl Passwords {
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let document = Document::read(path)?;
        let mut users = HashMap::new();
        for (number, line) in document.lines() {
            let wrong = |what: &str| Err(document.wrong_line(number, what));
            let Some((name, hash)) = line.split_once(':').filter(|(name, _)| is_name(name)) else {
                return wrong("not NAME:HASH, as `mqtt passwd` writes it");
            };
            let Ok(hash) = PasswordHash::new(hash) else {
                return wrong("the hash is no PHC string: `mqtt passwd` makes one");
            };
            if !hash.algorithm.as_str().starts_with("argon2") {
                return wrong("the hash is not by argon2");
            }
            if users.insert(name.to_owned(), hash).is_some() {
                return wrong("this user has been there before");
            }
        }
        let nobody = hash(b"")?;
        Ok(Self { users, nobody })
    }

    /// Whether that is the user's password. This takes its time.
    pub(crate) fn verify(&self, name: &str, password: &[u8]) -> bool {
        let known = self.users.get(name);
        let hash = known.unwrap_or(&self.nobody);
        Argon2::default().verify_password(password, hash).is_ok() && known.is_some()
    }
}

/// Whether it can stand in a password file.
pub(crate) fn is_name(name: &str) -> bool {
    let odd = |char: char| char == ':' || char.is_control();
    !name.is_empty() && !name.starts_with('#') && name.trim() == name && !name.contains(odd)
}

/// The hash of a password, with random salt.
pub(crate) fn hash(password: &[u8]) -> Result<PasswordHash, Failure> {
    let hash = Argon2::default().hash_password(password);
    hash.map_err(|error| Failure::other(format!("the password cannot be hashed: {error}")))
}
