//! A liar: a simulated node that makes no runs and publishes made-up gains, results and re-runs.

use std::sync::Arc;

use autoswarm_protocol::{
    Bpb, EffectiveConfig, Estimate, Patch,
    experiment::Comparison,
    record::{Attestation, Body, Digest, DigestEnding, DigestLine, Discovery, Verified},
};
use libp2p::{PeerId, identity::Keypair};

use super::node::{Common, hardware, keys_of, sealed};
use crate::{chance::Chance, ground::BUDGET, surrogate::optimum::moved};

/// Seconds between the lies of one liar: about as often as an honest node finds something.
pub(super) const EVERY: f64 = 240.0;
/// Made-up results in one digest.
const FALSE_RESULTS: u64 = 8;
/// Honest discoveries that a liar denies each time.
const DENIALS: usize = 2;

/// What a liar lies about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Lie {
    /// Discoveries with gains that nobody measured.
    Claims,
    /// Results of experiments that nobody made.
    Results,
    /// Re-runs that nobody made: they confirm liars' claims and deny honest ones.
    Verdicts,
}

impl Lie {
    /// Every kind of lie.
    pub const ALL: [Self; 3] = [Self::Claims, Self::Results, Self::Verdicts];
}

/// A liar and what it needs to sign lies.
#[derive(Debug)]
pub(super) struct Liar {
    lies: Vec<Lie>,
    keys: Keypair,
    chance: Chance,
    told: u64,
}

impl Liar {
    pub(super) fn new(identity: u64, lies: &[Lie]) -> Self {
        Self { lies: lies.to_vec(), keys: keys_of(identity), chance: Chance::new(identity).of(&[1]), told: 0 }
    }

    /// Returns its name on the network.
    pub(super) fn peer(&self) -> PeerId {
        PeerId::from_public_key(&self.keys.public())
    }

    /// Returns the next lies: a claim and made-up results on top of `base`, a re-run that confirms a liar's
    /// claim, and re-runs that deny honest ones.
    pub(super) fn lie(
        &mut self,
        base: &EffectiveConfig,
        liars: &[Arc<Verified<Body>>],
        honest: &[Arc<Verified<Body>>],
        common: &Common,
        now: u64,
    ) -> Vec<Arc<Verified<Body>>> {
        self.told += 1;
        let chance = self.chance.of(&[self.told]);
        let mut out = Vec::new();
        let tells = |lie: Lie| self.lies.contains(&lie);
        if let Some(claim) = claim(base, common, chance).filter(|_| tells(Lie::Claims)) {
            out.push(sealed(&claim, common, &self.keys, now));
        }
        let lines: Vec<DigestLine> =
            (0..FALSE_RESULTS).filter_map(|k| result(base, chance.of(&[8, k]))).collect();
        if !lines.is_empty() && tells(Lie::Results) {
            let digest = Body::Digest(Digest { arena: common.arena, lines });
            out.push(sealed(&digest, common, &self.keys, now));
        }
        if !tells(Lie::Verdicts) {
            return out;
        }
        let drawn = |records: &[Arc<Verified<Body>>], key: u64| {
            let count = records.len() as u64;
            (count > 0).then(|| Arc::clone(&records[(chance.bits(&[7, key]) % count) as usize]))
        };
        let praised = drawn(liars, 0).into_iter().map(|record| (record, 1.0));
        let denied = (1..=DENIALS as u64).filter_map(|key| drawn(honest, key)).map(|record| (record, -1.0));
        for (record, factor) in praised.chain(denied) {
            let Some(of) = record.discovery() else { continue };
            let claimed = of.value().estimate;
            let found = Estimate { delta: factor * claimed.delta, standard_error: 0.002, pairs: 8 };
            let body = Body::Attestation(Box::new(Attestation {
                discovery: record.id(),
                comparison: Comparison::Reproduced,
                arena: common.arena,
                hardware: hardware(1.0),
                found: Ok(found),
                tokens: Some(of.value().tokens),
            }));
            out.push(sealed(&body, common, &self.keys, now));
        }
        out
    }
}

/// Makes up a result: a random move with a difference of either sign.
fn result(base: &EffectiveConfig, chance: Chance) -> Option<DigestLine> {
    let config = moved(base, chance);
    let patch = Patch::between(base, &config);
    let estimate = Estimate { delta: 0.1 * chance.normal(&[1]), standard_error: 0.005, pairs: 3 };
    (!patch.is_empty()).then(|| DigestLine {
        config: config.hash(),
        patch,
        ending: DigestEnding::Discarded,
        found: Some(estimate),
    })
}

/// Makes up a discovery: one to three random moves with a large gain; none where the objective forbids the
/// moves.
fn claim(base: &EffectiveConfig, common: &Common, chance: Chance) -> Option<Body> {
    let moves = 1 + chance.bits(&[1]) % 3;
    let config = (0..moves).fold(base.clone(), |config, step| moved(&config, chance.of(&[2, step])));
    let patch = Patch::between(base, &config);
    let searchable = |patch: &Patch| {
        patch.iter().all(|(knob, change)| {
            common.objective.is_searchable(knob) && common.objective.allows(knob, change.to)
        })
    };
    if patch.is_empty() || !searchable(&patch) {
        return None;
    }
    let gain = 0.03 + 0.3 * chance.uniform(&[3]);
    Some(Body::Discovery(Box::new(Discovery {
        arena: common.arena,
        budget: BUDGET,
        hardware: hardware(1.0),
        config: (*config).clone(),
        patch,
        estimate: Estimate { delta: -gain, standard_error: 0.003, pairs: 6 },
        audit: None,
        level: Bpb::new(2.9 - gain).ok()?,
        tokens: (400_000, 400_000),
        seconds: 5.0,
        curve: Vec::new(),
        inspirations: Vec::new(),
        because: "bracket: it won by far".to_owned(),
    })))
}
