//! Whom to believe: a Beta posterior per author and class of hardware, moved by reproductions alone.
//!
//! This node's own reproduction counts as one. One by an attester who was found right here before counts
//! half, and all of those together no more than [`MOST_BORROWED`]. An author whom nobody reproduced is
//! neither trusted nor distrusted.

use std::collections::BTreeMap;

use autoswarm_protocol::{
    Estimate,
    id::Author,
    record::{Attestation, Discovery},
};

use super::SpeedClass;

/// How far on the worse side of a claim a reproduction must be to exclude it, in standard errors of their
/// difference.
const EXCLUDED_AT: f64 = 3.0;
/// How far below zero a reproduction must be to agree, in standard errors of its own: the one-sided 95 %
/// point.
const GAIN_AT: f64 = 1.645;

/// Right answers that an attester needs before its word counts, about discoveries that this node reproduced
/// too; and how many right ones it needs for each wrong one.
const CALIBRATED_AT: u32 = 2;
const RIGHT_FOR_A_WRONG: u32 = 3;
/// What the reproduction of such an attester counts; this node's own counts 1.
const BORROWED: f64 = 0.5;
/// Most that all attesters together count for or against an author, in one class of hardware.
const MOST_BORROWED: f64 = 3.0;

/// Posterior mean below which an author's claims are neither tried nor learned from: two refuted and none
/// confirmed.
const DISTRUSTED_BELOW: f64 = 0.3;

/// Returns whether a reproduction agrees with a claim (true), excludes it on the worse side (false), or
/// leaves it open (none).
pub(super) fn agrees(claim: &Estimate, shown: &Estimate) -> Option<bool> {
    let error = claim.standard_error.hypot(shown.standard_error).max(1e-9);
    if shown.delta - claim.delta > EXCLUDED_AT * error {
        return Some(false);
    }
    (shown.delta < -GAIN_AT * shown.standard_error).then_some(true)
}

/// How many claims of an author were confirmed (first) and refuted (second).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Record {
    /// Counted by this node's own reproductions.
    own: [f64; 2],
    /// Counted by those of attesters, before the cap.
    borrowed: [f64; 2],
}

impl Record {
    fn counts(self) -> [f64; 2] {
        let [confirmed, refuted] = self.borrowed;
        let scale = (MOST_BORROWED / (confirmed + refuted).max(MOST_BORROWED)).min(1.0);
        [self.own[0] + scale * confirmed, self.own[1] + scale * refuted]
    }
}

/// Which authors and attesters can be believed.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    authors: BTreeMap<Author, BTreeMap<SpeedClass, Record>>,
    /// Right (first) and wrong answers of attesters, where this node reproduced the same discovery.
    attesters: BTreeMap<Author, [u32; 2]>,
}

impl Trust {
    /// Judges by all known discoveries with their authors and their reproductions by others.
    pub(super) fn judge<'a, R>(
        own: Author,
        known: impl Iterator<Item = (Author, &'a Discovery, R)> + Clone,
    ) -> Self
    where
        R: Iterator<Item = (Author, &'a Attestation)>,
    {
        let mut trust = Self::default();
        let judged = |discovery: &Discovery, attestation: &Attestation| {
            attestation.found.as_ref().ok().and_then(|shown| agrees(&discovery.estimate, shown))
        };
        // First the attesters, since their words about authors count only where they were found right.
        for (_, discovery, reproductions) in known.clone() {
            let answers: Vec<(Author, bool)> = reproductions
                .filter_map(|(attester, attestation)| Some((attester, judged(discovery, attestation)?)))
                .collect();
            let Some((_, right)) = answers.iter().find(|(attester, _)| *attester == own) else { continue };
            for (attester, answer) in answers.iter().filter(|(attester, _)| *attester != own) {
                trust.attesters.entry(*attester).or_default()[usize::from(answer != right)] += 1;
            }
        }
        for (author, discovery, reproductions) in known {
            let class = SpeedClass::of(&discovery.hardware);
            for (attester, attestation) in reproductions {
                let Some(answer) = judged(discovery, attestation) else { continue };
                let place = usize::from(!answer);
                if attester == own {
                    trust.record(author, class).own[place] += 1.0;
                } else if trust.is_calibrated(attester) {
                    trust.record(author, class).borrowed[place] += BORROWED;
                }
            }
        }
        trust
    }

    fn record(&mut self, author: Author, class: SpeedClass) -> &mut Record {
        self.authors.entry(author).or_default().entry(class).or_default()
    }

    /// Returns the mean of the posterior for an author's claims from a class: a half where nothing is known.
    pub fn mean(&self, author: Author, class: SpeedClass) -> f64 {
        let [confirmed, refuted] = self.counts(author, class);
        (confirmed + 1.0) / (confirmed + refuted + 2.0)
    }

    /// Returns how many claims of an author in a class were confirmed and how many refuted, attesters' words
    /// capped.
    pub fn counts(&self, author: Author, class: SpeedClass) -> [f64; 2] {
        self.authors.get(&author).and_then(|of| of.get(&class)).map_or([0.0; 2], |record| record.counts())
    }

    /// Returns whether any claim of the author was confirmed, in any class.
    pub fn is_proven(&self, author: Author) -> bool {
        self.authors.get(&author).is_some_and(|of| of.values().any(|record| record.counts()[0] > 0.0))
    }

    /// Returns whether the author's claims are mostly refuted, all classes together.
    pub fn is_distrusted(&self, author: Author) -> bool {
        self.authors.get(&author).is_some_and(|of| {
            let (confirmed, refuted) = of
                .values()
                .map(|record| record.counts())
                .fold((0.0, 0.0), |sum, it| (sum.0 + it[0], sum.1 + it[1]));
            (confirmed + 1.0) / (confirmed + refuted + 2.0) < DISTRUSTED_BELOW
        })
    }

    /// Returns whether the attester was right often enough about discoveries that this node reproduced too.
    pub fn is_calibrated(&self, attester: Author) -> bool {
        let [right, wrong] = self.attesters.get(&attester).copied().unwrap_or_default();
        right >= CALIBRATED_AT && right >= RIGHT_FOR_A_WRONG * wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(delta: f64, standard_error: f64) -> Estimate {
        Estimate { delta, standard_error, pairs: 3 }
    }

    #[test]
    fn a_reproduction_agrees_excludes_or_leaves_it_open() {
        let claim = estimate(-0.05, 0.01);
        assert_eq!(agrees(&claim, &estimate(-0.04, 0.01)), Some(true));
        assert_eq!(agrees(&claim, &estimate(-0.09, 0.01)), Some(true), "better than claimed is no lie");
        assert_eq!(agrees(&claim, &estimate(0.0, 0.01)), Some(false));
        assert_eq!(agrees(&claim, &estimate(-0.02, 0.03)), None);
    }

    #[test]
    fn borrowed_words_are_capped() {
        let record = Record { own: [1.0, 0.0], borrowed: [30.0, 0.0] };
        let is = |record: Record, expected: [f64; 2]| {
            record.counts().iter().zip(expected).all(|(count, expected)| (count - expected).abs() < 1e-9)
        };
        assert!(is(record, [1.0 + MOST_BORROWED, 0.0]));
        assert!(is(Record { own: [0.0; 2], borrowed: [0.5, 1.0] }, [0.5, 1.0]));
    }
}
