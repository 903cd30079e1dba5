//! A fuzz target: a decoder with its inputs and its promises.
//!
//! libFuzzer runs it, or the tests `decoders` of `protocol` and `node` on stable.

use crate::meter;

/// A decoder may take this many times the memory of its largest input.
const MEMORY_FACTOR: usize = 4;

/// A decoder of bytes from peers.
#[derive(Debug)]
pub struct Target {
    /// Its name, in figures and on the command line.
    pub name: &'static str,
    /// Size of the largest input that it reads, bytes.
    pub limit: usize,
    /// Inputs that it accepts.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Inputs that it must refuse, each with what is wrong with it.
    pub hostile: fn() -> Vec<(&'static str, Vec<u8>)>,
    /// Makes a message of the fuzzer's bytes, such as a signed record of a body.
    pub wrap: fn(&[u8]) -> Vec<u8>,
    /// Decodes a message and drops the value; returns whether there was one.
    pub decode: fn(&[u8]) -> bool,
    /// Panics unless these bytes are the only encoding of what they decode to, and the value can be used.
    pub check: fn(&[u8]),
}

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    /// Whether it was decoded.
    pub decoded: bool,
    /// Most memory that decoding held at once, bytes.
    pub peak: usize,
}

impl Target {
    /// Returns how much memory decoding may hold at once, bytes.
    pub fn memory_limit(&self) -> usize {
        MEMORY_FACTOR * self.limit
    }

    /// Checks a decoder's promises on one input: no panic, one meaning or an error, bounded memory.
    pub fn run(&self, data: &[u8]) -> Ran {
        let wire = (self.wrap)(data);
        let (decoded, peak) = meter::peak(|| (self.decode)(&wire));
        let most = self.memory_limit();
        assert!(peak <= most, "{}: decoding {} bytes held {peak} of at most {most}", self.name, wire.len());
        if decoded {
            (self.check)(&wire);
        }
        Ran { decoded, peak }
    }
}
