//! What a fuzzed decoder is, whoever runs it: libFuzzer, or the tests `decoders` of `protocol` and `node` on stable.

use crate::meter;

/// A decoder may take this many times the memory of its largest input.
const MEMORY_FACTOR: usize = 4;

/// A decoder of bytes from peers.
#[derive(Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Bytes of the largest input that it reads.
    pub limit: usize,
    /// Inputs that it accepts.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Inputs that somebody thought of and that it refuses, with what is wrong with them.
    pub hostile: fn() -> Vec<(&'static str, Vec<u8>)>,
    /// Makes what travels of a fuzzer's bytes, such as a signed record of a body.
    pub wrap: fn(&[u8]) -> Vec<u8>,
    /// Decodes, and lets the value go; false if there was none.
    pub decode: fn(&[u8]) -> bool,
    /// Panics unless what was decoded has these bytes as its only encoding, and can be used.
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

    /// Holds one input against all that is promised: no panic, one meaning or an error, bounded memory.
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
