//! Lists, bytes and texts with a bound, for `#[serde(deserialize_with = …)]`.
//!
//! **What a length claims is never believed.** When a length says so, serde makes room for up to a mebibyte,
//! and bincode for as much as its limit. Without these bounds, eight bytes of input would buy that memory.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serializer,
    de::{Error, SeqAccess, Visitor},
};

/// Reads a list of at most `MOST` values.
pub fn list<'de, const MOST: usize, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(List::<MOST, T>(PhantomData))
}

struct List<const MOST: usize, T>(PhantomData<T>);

impl<'de, const MOST: usize, T: Deserialize<'de>> Visitor<'de> for List<MOST, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MOST} values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Vec<T>, A::Error> {
        let claimed = values.size_hint().unwrap_or(0);
        if claimed > MOST {
            return Err(A::Error::invalid_length(claimed, &self));
        }
        // Formats without a length, such as JSON, give no hint: there the loop finds the bound.
        let mut list = Vec::with_capacity(claimed);
        while let Some(value) = values.next_element()? {
            if list.len() == MOST {
                return Err(A::Error::invalid_length(MOST + 1, &self));
            }
            list.push(value);
        }
        Ok(list)
    }
}

/// Reads at most `MOST` bytes; the encoding is that of a list of bytes.
pub fn bytes<'de, const MOST: usize, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    deserializer.deserialize_bytes(Bytes::<MOST>)
}

/// Writes bytes in one piece instead of one by one; the encoding is that of a list of bytes.
pub fn write_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

struct Bytes<const MOST: usize>;

impl<const MOST: usize> Visitor<'_> for Bytes<MOST> {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MOST} bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        if bytes.len() > MOST { Err(E::invalid_length(bytes.len(), &self)) } else { Ok(bytes.to_vec()) }
    }
}

/// Reads a list of at most `COUNT` byte strings, each of at most `MOST` bytes.
pub fn list_of_bytes<'de, const COUNT: usize, const MOST: usize, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Vec<u8>>, D::Error> {
    struct One<const MOST: usize>(Vec<u8>);
    impl<'de, const MOST: usize> Deserialize<'de> for One<MOST> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            bytes::<MOST, D>(deserializer).map(Self)
        }
    }
    let list = list::<COUNT, One<MOST>, D>(deserializer)?;
    Ok(list.into_iter().map(|One(bytes)| bytes).collect())
}

/// Reads a text of at most `MOST` bytes.
pub fn text<'de, const MOST: usize, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserializer.deserialize_str(Text::<MOST>)
}

struct Text<const MOST: usize>;

impl<const MOST: usize> Visitor<'_> for Text<MOST> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text of at most {MOST} bytes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        if text.len() > MOST { Err(E::invalid_length(text.len(), &self)) } else { Ok(text.to_owned()) }
    }
}
