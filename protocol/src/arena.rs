//! The arena, or comparability key: what must be equal for two absolute values to be compared.
//!
//! Not here: how a machine finds its class and what its seconds buy, which the node's probe measures.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    codec,
    id::{ArenaId, CorpusHash, ObjectiveId, TokenizerHash},
};

/// Training tokens that the reference config sees in class 0; in class k it sees 4^k times as many.
///
/// The classes reach from a Raspberry Pi (class 0: 2^18 tokens in a few minutes) to a rack of GPUs.
pub const CLASS_BASE_TOKENS: u64 = 1 << 18;

/// How long an experiment trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Class k, which scales with the hardware: the seconds in which the reference config sees
    /// `CLASS_BASE_TOKENS · 4^k` tokens on this machine.
    Class(u8),
    /// A fixed number of milliseconds; each number is an arena of its own.
    Milliseconds(u64),
}

impl Budget {
    /// Returns the class whose reference run takes at least 75 s and less than 300 s at `tokens_per_second`,
    /// and its seconds.
    ///
    /// A machine that has a class already (`known`) keeps it while its seconds stay within [60, 375).
    pub fn class_of(tokens_per_second: f64, known: Option<u8>) -> (u8, f64) {
        let seconds =
            |class: u8| (CLASS_BASE_TOKENS as f64) * 4f64.powi(i32::from(class)) / tokens_per_second;
        // Wider than [75, 300): a machine near an edge must not change its arena with every probe.
        if let Some(class) = known
            && (60.0..375.0).contains(&seconds(class))
        {
            return (class, seconds(class));
        }
        // Each class takes four times as long as the one below it, so the first of at least 75 s takes less
        // than 300 s, unless even class 0 takes longer.
        let class = (0..=24).find(|&class| seconds(class) >= 75.0).unwrap_or(24);
        (class, seconds(class))
    }

    /// Parses a duration such as `20s`, `500ms`, `5m`, `1.5m` or `2h`; a number alone is in seconds.
    pub fn parse_duration(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (number, factor) = match text.as_bytes().last() {
            Some(b's') if text.ends_with("ms") => (&text[..text.len() - 2], 1.0),
            Some(b's') => (&text[..text.len() - 1], 1000.0),
            Some(b'm') => (&text[..text.len() - 1], 60_000.0),
            Some(b'h') => (&text[..text.len() - 1], 3_600_000.0),
            _ => (text, 1000.0),
        };
        let milliseconds = number.trim().parse::<f64>().ok().map(|n| n * factor);
        match milliseconds {
            Some(ms) if (100.0..=86_400_000.0).contains(&ms) => Ok(Self::Milliseconds(ms.round() as u64)),
            Some(_) => Err(format!("a budget of `{text}` is out of range: it takes 0.1 s to 24 h")),
            None => Err(format!("`{text}` is not a duration: write `20s`, `5m` or `2h`")),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Class(class) => write!(f, "class {class}"),
            Self::Milliseconds(ms) if ms % 60_000 == 0 => write!(f, "{}m", ms / 60_000),
            Self::Milliseconds(ms) => write!(f, "{}s", ms as f64 / 1000.0),
        }
    }
}

/// The family of number formats whose results may be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// Products in 32 bits.
    F32,
    /// Products in bfloat16, sums and weights in 32 bits.
    Bf16,
}

impl Dtype {
    /// Returns the name used in files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!("`{text}` is not a number format: use f32 or bf16")),
        }
    }
}

/// Everything that must be equal for two absolute values to be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arena {
    /// The id of the objective.
    pub objective: ObjectiveId,
    /// The hash of the corpus: its bytes and how they are split.
    pub corpus: CorpusHash,
    /// The hash of the tokenizer's description.
    pub tokenizer: TokenizerHash,
    /// Length of an evaluation's context, tokens.
    pub context: u32,
    /// Tokens of a held-out split that an evaluation reads.
    pub evaluation_tokens: u64,
    /// How long an experiment trains.
    pub budget: Budget,
    /// The family of number formats.
    pub dtype: Dtype,
    /// The trainer's semantics number; results across two of them are not comparable.
    pub semantics: u16,
}

impl Arena {
    /// Returns the arena's id.
    pub fn id(&self) -> ArenaId {
        ArenaId::of(&codec::encode(self).expect("an arena is far below the codec's limit"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_falls_into_the_class_whose_seconds_fit() {
        for speed in [900.0, 5_000.0, 50_000.0, 104_000.0, 1_510_000.0] {
            let (class, seconds) = Budget::class_of(speed, None);
            assert!((75.0..300.0).contains(&seconds), "{speed} tokens/s: class {class}, {seconds} s");
        }
    }

    #[test]
    fn a_machine_near_an_edge_keeps_its_class() {
        let edge = CLASS_BASE_TOKENS as f64 * 4f64.powi(3) / 75.0;
        assert_eq!(Budget::class_of(edge * 1.05, None).0, 4);
        assert_eq!(Budget::class_of(edge * 1.05, Some(3)).0, 3);
        assert_eq!(Budget::class_of(edge * 1.5, Some(3)).0, 4);
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let printed = Budget::parse_duration(text).map_or_else(|e| e, |budget| budget.to_string());
        assert_eq!(printed, expected);
    }

    #[test]
    fn durations() {
        check("20s", "20s");
        check("90", "90s");
        check("1.5m", "90s");
        check("5m", "5m");
        check("500ms", "0.5s");
        check("0s", "a budget of `0s` is out of range: it takes 0.1 s to 24 h");
        check("soon", "`soon` is not a duration: write `20s`, `5m` or `2h`");
    }
}
