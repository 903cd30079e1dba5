//! Which of the peers' discoveries to re-run for their authors, so that a claim becomes a finding.
//!
//! At most a tenth of the training time goes to re-runs, in two lanes. One is for authors with a confirmed
//! claim; the other is shared evenly among the connected peers that relay discoveries. **A claimed Δ never
//! buys priority**, so a swarm of liars can waste that tenth and no more.

use std::collections::BTreeSet;

use autoswarm_protocol::{
    Hypothesis, KnobGroup, Proposer as ProposedBy,
    experiment::{Comparison, reproduction_seed},
    id::{Author, RecordId},
    record::Discovery,
};
use libp2p::PeerId;

use super::{Attested, Discoveries, KnownDiscovery, LocalContext, SpeedClass, Trust};
use crate::research::{Reproduction, messages::ReproductionTerms};

/// Largest share of the training time that re-runs for others take. In simulated swarms of 16 nodes a tenth
/// left a fifth more gain than a fifth did, and less changed nothing. That was with 6 seeds, on the surface
/// that node/docs/simulation.md had before its last runs.
const SHARE: f64 = 0.1;
/// Pairs of one re-run: the fewest that have a standard error of their own, and the most that one claim is
/// worth.
const FEWEST_PAIRS: u16 = 2;
const MOST_PAIRS: u16 = 6;
/// How large the claimed Δ should be, in standard errors of the re-run: then a true claim agrees nineteen
/// times in twenty.
const RESOLVED_AT: f64 = 3.0;
/// How large the claimed Δ must be with the most pairs, in standard errors. Below it the re-run would say
/// nothing, so no time is given to it.
const HOPELESS_BELOW: f64 = 1.5;
/// The longest that one run at the author's token counts may be expected to take, in multiples of this node's
/// budget.
const AFFORDABLE_BUDGETS: f64 = 2.0;
/// Reproductions by different nodes after which one more says little. Strangers together count as one: else
/// three of a liar's identities would keep his claim from ever being run again.
const ENOUGH: usize = 3;
/// Confirmed claims of an author from which on the next ones are only sampled, one in as many as were
/// confirmed (BOINC's adaptive replication).
const PROVEN_AT: f64 = 10.0;

impl Discoveries {
    /// Returns the next discovery to re-run, if this node's time allows one. `pair_sd` is the standard
    /// deviation of one pair's difference in a knob group, bits per byte.
    pub fn next_reproduction(
        &mut self,
        here: &LocalContext,
        pair_sd: impl Fn(KnobGroup) -> f64,
    ) -> Option<Reproduction> {
        // The cheapest re-run must fit before anything is looked at: the fewest pairs, at half a budget a
        // run.
        let left = |spent: super::Spent, cost: f64| spent.reproductions + cost <= SHARE * (spent.all + cost);
        if !left(self.spent, 2.0 * f64::from(FEWEST_PAIRS) * here.budget_seconds * 0.5) {
            return None;
        }
        let trust = self.trust();
        let open: Vec<(RecordId, &KnownDiscovery, u16)> = self
            .found
            .iter()
            .filter(|(id, found)| self.is_open(**id, found, trust))
            .filter_map(|(id, found)| {
                let pairs = pairs_for(&found.discovery, pair_sd(found.discovery.patch.group()))?;
                let cost = cost(&found.discovery, here, pairs);
                left(self.spent, cost).then_some((*id, found, pairs))
            })
            .collect();
        // Fewest reproductions first; among equals each node has its own order, so nodes spread out.
        let order = |id: RecordId, found: &KnownDiscovery| {
            (self.known_reproductions(id, found, trust), share_of(self.own, id))
        };
        let first = |wanted: &dyn Fn(&KnownDiscovery) -> bool| {
            let fitting = open.iter().filter(|(_, found, _)| wanted(found));
            fitting.min_by_key(|(id, found, _)| order(*id, found)).copied()
        };
        let of_proven = first(&|found| trust.is_proven(found.author));
        let served = |peer: Option<PeerId>| self.lanes.relayed.get(&peer).copied().unwrap_or(0.0);
        let relays: BTreeSet<Option<PeerId>> = open.iter().map(|(_, found, _)| found.relayed_by).collect();
        // The peer whose discoveries had the least time so far.
        let least = relays.into_iter().min_by(|a, b| served(*a).total_cmp(&served(*b)).then(a.cmp(b)));
        let of_relay = least.and_then(|peer| first(&|found| found.relayed_by == peer));
        // Each lane gets half the time: the one that had less goes first.
        let relayed: f64 = self.lanes.relayed.values().sum();
        let proven_first = self.lanes.proven <= relayed;
        let (chosen, is_proven) = match (of_proven, of_relay) {
            (Some(chosen), other) if proven_first || other.is_none() => (chosen, true),
            (_, Some(chosen)) => (chosen, false),
            _ => return None,
        };
        let (id, found, pairs) = chosen;
        let reproduction = reproduction(self.own, id, found, pairs, here)?;
        if is_proven {
            self.lanes.of_proven.insert(id);
        }
        Some(reproduction)
    }

    fn is_open(&self, id: RecordId, found: &KnownDiscovery, trust: &Trust) -> bool {
        let [confirmed, _] = trust.counts(found.author, SpeedClass::of(&found.discovery.hardware));
        // The draw differs from node to node: what one leaves out, another may run.
        let sampled =
            confirmed < PROVEN_AT || f64::from(share_of(self.own, id)) < f64::from(u32::MAX) / confirmed;
        found.author != self.own
            && sampled
            && !self.lanes.done.contains(&id)
            && self.known_reproductions(id, found, trust) < ENOUGH
    }

    /// Returns how many nodes re-ran a discovery. All attesters that were never found right here count as
    /// one.
    fn known_reproductions(&self, id: RecordId, found: &KnownDiscovery, trust: &Trust) -> usize {
        let is_known = |it: &&Attested| it.author == self.own || trust.is_calibrated(it.author);
        let known = self.reproductions(id, found).filter(is_known).count();
        let strangers = self.reproductions(id, found).any(|it| !is_known(&it));
        known + usize::from(strangers)
    }
}

/// Returns a hash of a node and a discovery, so that each node has its own order of discoveries.
fn share_of(own: Author, id: RecordId) -> u32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(own.as_bytes()).update(id.as_bytes());
    let bytes = hasher.finalize();
    let mut first = [0; 4];
    first.copy_from_slice(&bytes.as_bytes()[..4]);
    u32::from_le_bytes(first)
}

/// Returns how many pairs a re-run needs; none where even the most would say nothing.
fn pairs_for(discovery: &Discovery, pair_sd: f64) -> Option<u16> {
    let claim = discovery.estimate.delta.abs().max(1e-9);
    let most = claim * f64::from(MOST_PAIRS).sqrt() / pair_sd;
    if most < HOPELESS_BELOW {
        return None;
    }
    let wanted = (RESOLVED_AT * pair_sd / claim).powi(2).ceil();
    Some((wanted as u16).clamp(FEWEST_PAIRS, MOST_PAIRS))
}

/// Returns the training seconds that one run at the author's token counts is expected to take here: with the
/// change, and without.
fn seconds(discovery: &Discovery, here: &LocalContext) -> (f64, f64) {
    let child = discovery.seconds * discovery.hardware.tokens_per_second / here.hardware.tokens_per_second;
    let (with, without) = discovery.tokens;
    (child, child * without as f64 / with as f64)
}

fn is_affordable(discovery: &Discovery, here: &LocalContext) -> bool {
    let (with, without) = seconds(discovery, here);
    with.max(without) <= AFFORDABLE_BUDGETS * here.budget_seconds
}

/// Returns the training seconds that a whole re-run is expected to take.
fn cost(discovery: &Discovery, here: &LocalContext, pairs: u16) -> f64 {
    let pair = if is_affordable(discovery, here) {
        let (with, without) = seconds(discovery, here);
        with + without
    } else {
        2.0 * here.budget_seconds
    };
    f64::from(pairs) * pair
}

fn reproduction(
    own: Author,
    id: RecordId,
    found: &KnownDiscovery,
    pairs: u16,
    here: &LocalContext,
) -> Option<Reproduction> {
    let discovery = &found.discovery;
    let parent = discovery.parent()?.effective(here.context);
    let child = discovery.config.effective(here.context);
    let (comparison, tokens, how) = if is_affordable(discovery, here) {
        (Comparison::Reproduced, Some(discovery.tokens), "at its author's token counts")
    } else {
        (Comparison::Transfers, None, "within this node's budget")
    };
    let author = found.author.fmt_short();
    let because = format!("a re-run for {author}, who found {}, {how}", discovery.estimate);
    Some(Reproduction {
        discovery: id,
        child,
        parent,
        terms: ReproductionTerms { comparison, tokens },
        seeds: (0..pairs).map(|index| reproduction_seed(id, own, index)).collect(),
        hypothesis: Hypothesis {
            proposer: ProposedBy::Evolve,
            because: Hypothesis::one_line(&because),
            patch: discovery.patch.clone(),
            simplifies: false,
            inspired_by: vec![id.to_string()],
        },
    })
}
