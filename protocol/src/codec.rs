//! The binary encoding of the wire and the store: bincode with fixed settings and limits.
//!
//! **Size first, then decoding, then belief.** A decoder here refuses input over its limit, trailing bytes,
//! and input that encoding the result would not reproduce (non-canonical lengths and lists).
//!
//! Floats that are not finite are refused by the types that hold them. Lists, bytes and texts from peers have
//! their bounds from [`bounded`], so that decoding takes at most four times the memory of the largest input.

pub mod bounded;

use std::io;

use bincode::{
    config::{Configuration, Fixint, Limit, LittleEndian},
    enc::write::Writer,
    error::EncodeError,
};
use serde::{Serialize, de::DeserializeOwned};

/// Largest encoded value, bytes. Records are a few KB, and sync batches are cut to fit (gossipsub's default
/// message limit is 64 KiB).
pub const MAX_BYTES: usize = 256 * 1024;

/// Why bytes are not a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// It is longer than [`MAX_BYTES`].
    #[error("the message has {0} bytes; at most {MAX_BYTES} are read")]
    TooLarge(usize),
    /// It is not an encoding of the type.
    #[error("the message does not decode: {0}")]
    Malformed(String),
    /// Bytes follow after the value.
    #[error("the message has {0} bytes after its end")]
    Trailing(usize),
    /// It is another encoding of a value than [`encode`] writes.
    #[error("the message is not the canonical encoding of what it says")]
    NotCanonical,
}

const CONFIG: Configuration<LittleEndian, Fixint, Limit<MAX_BYTES>> =
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<MAX_BYTES>();

/// Encodes a value: little-endian, fixed-width integers.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(value, CONFIG)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if bytes.len() > MAX_BYTES { Err(CodecError::TooLarge(bytes.len())) } else { Ok(bytes) }
}

/// Encodes a value into a writer, such as a hasher, without a buffer in between.
pub(crate) fn encode_into<T: Serialize>(value: &T, writer: &mut impl io::Write) -> Result<(), CodecError> {
    bincode::serde::encode_into_std_write(value, writer, CONFIG)
        .map(|_| ())
        .map_err(|error| CodecError::Malformed(error.to_string()))
}

/// Decodes a value and refuses everything that [`encode`] would not have written.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > MAX_BYTES {
        return Err(CodecError::TooLarge(bytes.len()));
    }
    let (value, used) = bincode::serde::decode_from_slice::<T, _>(bytes, CONFIG)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if used < bytes.len() {
        return Err(CodecError::Trailing(bytes.len() - used));
    }
    // One value has one encoding: ids are hashes of bytes, and a second spelling would be a second id.
    let mut expected = Expected(bytes);
    match bincode::serde::encode_into_writer(&value, &mut expected, CONFIG) {
        Ok(()) if expected.0.is_empty() => Ok(value),
        _ => Err(CodecError::NotCanonical),
    }
}

/// A writer that compares what is written with the input and keeps nothing; it holds the input still to come.
struct Expected<'a>(&'a [u8]);

impl Writer for &mut Expected<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0 = self.0.strip_prefix(bytes).ok_or(EncodeError::Other("other bytes were read"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{TrainConfig, train_config::tests::any_config};

    #[test]
    fn trailing_oversized_and_truncated_bytes_are_refused() {
        let bytes = encode(&(7u32, "x".to_owned())).expect("small");
        assert_eq!(decode::<(u32, String)>(&bytes), Ok((7, "x".to_owned())));
        assert_eq!(decode::<(u32, String)>(&[&bytes[..], &[0]].concat()), Err(CodecError::Trailing(1)));
        assert!(matches!(decode::<(u32, String)>(&bytes[..bytes.len() - 1]), Err(CodecError::Malformed(_))));
        assert_eq!(decode::<Vec<u8>>(&vec![0; MAX_BYTES + 1]), Err(CodecError::TooLarge(MAX_BYTES + 1)));
        assert!(encode(&vec![0u8; MAX_BYTES]).is_err());
    }

    #[test]
    fn a_length_that_lies_allocates_nothing() {
        let mut bytes = u64::MAX.to_le_bytes().to_vec();
        bytes.extend([1, 2, 3]);
        assert!(matches!(decode::<Vec<u8>>(&bytes), Err(CodecError::Malformed(_))));
        assert!(matches!(decode::<TrainConfig>(&bytes), Err(CodecError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn configs_round_trip(config in any_config()) {
            prop_assert_eq!(decode::<TrainConfig>(&encode(&config).expect("small")), Ok(config));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(config) = decode::<TrainConfig>(&bytes) {
                prop_assert_eq!(encode(&config).expect("small"), bytes);
            }
        }
    }
}
