//! The key that all nodes of a private swarm share.

use std::{fmt, str::FromStr};

/// Fewest letters of a passphrase; shorter ones are guessed.
const MIN_PASSPHRASE: usize = 12;

/// A private swarm's key, from digits or a passphrase. Without it, nobody can set up a connection with a node
/// of the swarm.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PrivateKey(pub(super) [u8; 32]);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

impl FromStr for PrivateKey {
    type Err = String;

    /// Reads 64 hexadecimal digits as the key itself, everything else as a passphrase.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(key) = blake3::Hash::from_hex(text) {
            return Ok(Self(*key.as_bytes()));
        }
        let letters = text.chars().count();
        if letters < MIN_PASSPHRASE {
            return Err(format!(
                "the key is 64 hexadecimal digits or a passphrase of at least {MIN_PASSPHRASE} letters, \
                 not of {letters}"
            ));
        }
        Ok(Self(blake3::derive_key("autoswarm 1 private swarm", text.as_bytes())))
    }
}
