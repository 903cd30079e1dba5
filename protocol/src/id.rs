//! Content ids: BLAKE3 hashes, one type for each kind, so that no corpus can stand where a config belongs.

use std::{fmt, str::FromStr};

use libp2p_identity::Keypair;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id: expected 64 hexadecimal digits")]
pub struct ParseIdError {
    text: String,
}

fn parse_hex(text: &str) -> Result<[u8; 32], ParseIdError> {
    blake3::Hash::from_hex(text)
        .map(Into::into)
        .map_err(|_| ParseIdError { text: text.chars().take(80).collect() })
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $domain:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Returns the id of `bytes`. The domain in the hash keeps it apart from every other kind of id.
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::Hasher::new_derive_key($domain).update(bytes).finalize().as_bytes())
            }

            /// Wraps 32 bytes that are already such an id.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Returns the 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Returns the first eight hexadecimal digits, for logs and lists.
            pub fn fmt_short(&self) -> String {
                self.to_string()[..8].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.fmt_short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }

        // Text for people's formats (TOML, JSON), raw bytes for the wire.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
                } else {
                    <[u8; 32]>::deserialize(deserializer).map(Self)
                }
            }
        }
    )*};
}

ids! {
    /// The id of an effective train config: equal ids mean the same model, optimizer and schedule.
    ConfigHash, "autoswarm 1 effective config";
    /// The id of the part of a config that decides how fast a step is; equal ids have one price.
    SpeedHash, "autoswarm 1 speed signature";
    /// The id of a corpus: its canonical bytes with their split.
    CorpusHash, "autoswarm 1 corpus";
    /// The id of a tokenizer's canonical description.
    TokenizerHash, "autoswarm 1 tokenizer";
    /// The id of the objective part of a swarm config.
    ObjectiveId, "autoswarm 1 objective";
    /// The comparability key: absolute values are compared only inside one arena.
    ArenaId, "autoswarm 1 arena";
    /// The id of an experiment: its arena, child, parent and attempt.
    ExperimentId, "autoswarm 1 experiment";
    /// The id of a record: its signed bytes.
    RecordId, "autoswarm 1 record";
}

/// Who signs a record: an ed25519 public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Author([u8; 32]);

impl Author {
    /// Wraps the 32 bytes of a public key.
    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the author that a key pair signs as; none for a key that is not ed25519.
    pub fn of(keys: &Keypair) -> Option<Self> {
        Some(Self(keys.clone().try_into_ed25519().ok()?.public().to_bytes()))
    }

    /// Returns the first eight hexadecimal digits, for logs and lists.
    pub fn fmt_short(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex()[..8].to_owned()
    }

    /// Returns the key's 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_and_parse_are_inverse() {
        let id = ConfigHash::of(b"x");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 64);
        assert!(id.to_string().starts_with(&id.fmt_short()));
    }

    #[test]
    fn the_same_bytes_have_different_ids_per_kind() {
        assert_ne!(ConfigHash::of(b"x").as_bytes(), CorpusHash::of(b"x").as_bytes());
    }

    #[test]
    fn a_bad_id_says_what_was_expected() {
        let error = "xyz".parse::<ArenaId>().expect_err("not hexadecimal");
        assert_eq!(error.to_string(), "`xyz` is not an id: expected 64 hexadecimal digits");
    }
}
