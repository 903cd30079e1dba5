//! The kinds of move that the search makes, and their names.

use std::fmt;

/// What kind of move a proposal is. Its name begins the hypothesis, so that the journal remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// What others are known to have found.
    Prior,
    /// Batch, depth, width, context and the main rate.
    Scale,
    /// What the model of all trials expects most of.
    Model,
    /// A kept change moved further, or half-way back.
    Bracket,
    /// One part taken back of a kept change of several knobs.
    Split,
    /// An old change undone, or a part switched off.
    Ablation,
    /// Two near misses together on today's incumbent.
    Recombination,
}

impl Operator {
    /// Every operator, in the order of the variants.
    pub const ALL: [Self; 7] = [
        Self::Prior,
        Self::Scale,
        Self::Model,
        Self::Bracket,
        Self::Split,
        Self::Ablation,
        Self::Recombination,
    ];

    /// Returns the name that begins its hypotheses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prior => "prior art",
            Self::Scale => "scale",
            Self::Model => "model",
            Self::Bracket => "bracket",
            Self::Split => "split",
            Self::Ablation => "ablation",
            Self::Recombination => "recombination",
        }
    }

    /// Finds the operator by whose name a hypothesis begins, if there is one.
    pub fn of(because: &str) -> Option<Self> {
        let (name, _) = because.split_once(": ")?;
        Self::ALL.into_iter().find(|operator| operator.name() == name)
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
