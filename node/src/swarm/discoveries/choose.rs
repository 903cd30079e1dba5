//! Which of the peers' discoveries to try here next, and in which form: the patch on this node's incumbent,
//! two patches at once, or the whole config.
//!
//! An idea is drawn at random, weighted by the gain expected of it here. That is the claim, scaled by three
//! chances: that findings of its kind help on this class of hardware, that its author can be trusted, and
//! that this idea is kept ([`super::promise`]). The gain is shared among those who build on the idea, so
//! peers stay islands that try different things.
//!
//! **What an author claims, as a gain or as a level, is capped at [`UNPROVEN_CLAIM`] times the median claim
//! until an idea of that author helped here or was reproduced**. While nobody else's ideas help, their share
//! of the experiments shrinks to that of newcomers.

use std::collections::BTreeMap;

use autoswarm_protocol::{
    EffectiveConfig, Hypothesis, Knob, Patch, Proposer as ProposedBy,
    id::{Author, RecordId},
    record::Discovery,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{Discoveries, KnownDiscovery, LocalContext, SpeedClass, Status};
use crate::research::{Incumbent, Proposal};

/// Largest share of the experiments that try peers' ideas, and how many may come before that is counted.
/// // Wild guess.
const SHARE: f64 = 0.34;
const FIRST: f64 = 2.0;
/// Chance of being kept below which a peer's idea is hardly better than one of this node's own; and the share
/// of the experiments up to which such ideas are tried all the same. Newcomers among liars must be able to
/// show that they are none. // Wild guess.
const UNLIKELY: f64 = 0.15;
const UNLIKELY_SHARE: f64 = 0.02;
/// Exponent of the expected gain in an idea's weight: 1 would try many small gains, a large one always the
/// largest. // Wild guess.
const GREED: f64 = 2.0;
/// Factor on the expected gain where a knob of the patch has another value here than in the author's parent:
/// the gain was found on top of something else. // Wild guess.
const MOVED: f64 = 0.6;
/// What two gains together are expected to bring, as a share of their sum. // Wild guess.
const TOGETHER: f64 = 0.8;
/// What a difference of levels between two machines counts as a gain: they were not measured side by side.
/// // Wild guess.
const LEVELS: f64 = 0.5;
/// Cap on what an unproven author claims, in multiples of the median claim. Fewer than half of the authors
/// are liars, so the median is sane. A claim beyond the cap must be reproduced before it draws more tries
/// than others. // Wild guess.
const UNPROVEN_CLAIM: f64 = 2.0;
/// Most discoveries that are considered for one draw, the most promising first.
const MOST_CONSIDERED: usize = 64;

/// An idea to try, with the discoveries that it comes from.
#[derive(Debug, Clone, Copy)]
enum PeerIdea<'a> {
    /// The discovery's patch on this node's incumbent.
    Transplant(RecordId, &'a KnownDiscovery),
    /// The patches of two discoveries on this node's incumbent.
    Both((RecordId, &'a KnownDiscovery), (RecordId, &'a KnownDiscovery)),
    /// The discovery's whole config.
    Adopt(RecordId, &'a KnownDiscovery),
}

impl Discoveries {
    /// Returns the next of the peers' ideas to try on this incumbent, as a proposal. Returns none while
    /// peers' ideas have had their share, or where none of them would change anything.
    pub fn next_to_try(
        &self,
        incumbent: &Incumbent,
        here: &LocalContext,
        rng: &mut ChaCha8Rng,
    ) -> Option<Proposal> {
        let within = |share: f64| f64::from(self.inspired) < FIRST + share * f64::from(self.experiments);
        if !within(SHARE) {
            return None;
        }
        let mut ideas = self.ideas(incumbent, here, within(UNLIKELY_SHARE));
        // A weighted draw; an idea that gives nothing new is dropped, and another is drawn.
        while !ideas.is_empty() {
            let total: f64 = ideas.iter().map(|(gain, _)| gain.powf(GREED)).sum();
            let mut left = rng.random::<f64>() * total;
            let drawn = ideas.iter().position(|(gain, _)| {
                left -= gain.powf(GREED);
                left <= 0.0
            });
            let (_, idea) = ideas.swap_remove(drawn.unwrap_or(ideas.len() - 1));
            let proposal = proposal(idea, &incumbent.config, here.context);
            if let Some(new) = proposal.filter(|it| !self.settled.contains(&it.child.hash())) {
                return Some(new);
            }
        }
        None
    }

    /// Returns the ideas that can be tried, each with the gain expected of it, bits per byte.
    fn ideas(
        &self,
        incumbent: &Incumbent,
        here: &LocalContext,
        may_be_unlikely: bool,
    ) -> Vec<(f64, PeerIdea<'_>)> {
        let (trust, transfer) = (self.trust(), self.transfer(here));
        let believed =
            |found: &KnownDiscovery| trust.mean(found.author, SpeedClass::of(&found.discovery.hardware));
        let chances = self.promise.chances();
        let chance = |id: &RecordId| chances.get(id).copied().unwrap_or(0.0);
        let is_open = |id: &RecordId| chance(id) >= UNLIKELY || may_be_unlikely;
        let most = UNPROVEN_CLAIM * self.middle_claim();
        let is_proven = |author: Author| trust.is_proven(author) || self.promise.has_helped(author);
        let most_of = |author: Author| if is_proven(author) { f64::INFINITY } else { most };
        let mut open: Vec<(f64, RecordId, &KnownDiscovery)> = self
            .found
            .iter()
            .filter(|(id, found)| found.author != self.own && !self.tried.contains(id) && is_open(id))
            .filter(|(id, found)| {
                !trust.is_distrusted(found.author) && self.status_by(**id, trust) != Status::Refuted
            })
            .map(|(id, found)| {
                let Discovery { patch, hardware, estimate, .. } = &found.discovery;
                let travels = transfer.chance(patch.group(), SpeedClass::of(hardware));
                let moved = patch.iter().any(|(knob, change)| incumbent.config.get(knob) != change.from);
                let children = self.children.get(id).copied().unwrap_or(0);
                let claim = (-estimate.delta).max(0.0);
                let claim = claim.min(most_of(found.author));
                let gain = claim * travels * believed(found) * chance(id) * if moved { MOVED } else { 1.0 }
                    / f64::from(1 + children);
                (gain, *id, found)
            })
            .filter(|(gain, ..)| *gain > 0.0)
            .collect();
        open.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        open.truncate(MOST_CONSIDERED);
        let mut ideas: Vec<_> =
            open.iter().map(|(gain, id, found)| (*gain, PeerIdea::Transplant(*id, found))).collect();
        ideas.extend(best_pair(&open));
        // A whole config is tried for its level, which can only be compared within one arena.
        let level = incumbent.mean().map(|(mean, _)| mean);
        ideas.extend(self.found.iter().filter_map(|(id, found)| {
            let Discovery { arena, level: theirs, .. } = &found.discovery;
            let gain =
                (LEVELS * (level? - theirs.get())).min(most_of(found.author)) * believed(found) * chance(id);
            let is_open = found.author != self.own
                && is_open(id)
                && *arena == here.arena
                && gain > 0.0
                && !trust.is_distrusted(found.author)
                && self.status_by(*id, trust) != Status::Refuted;
            is_open.then_some((gain, PeerIdea::Adopt(*id, found)))
        }));
        ideas
    }

    /// Returns the median over the other authors of what each claims on average, bits per byte: an author
    /// with many claims has one voice.
    fn middle_claim(&self) -> f64 {
        let mut claims: BTreeMap<Author, (f64, f64)> = BTreeMap::new();
        for found in self.found.values().filter(|found| found.author != self.own) {
            let (sum, count) = claims.entry(found.author).or_default();
            *sum -= found.discovery.estimate.delta;
            *count += 1.0;
        }
        let mut claims: Vec<f64> = claims.values().map(|(sum, count)| sum / count).collect();
        claims.sort_by(f64::total_cmp);
        claims.get(claims.len() / 2).copied().unwrap_or(0.0)
    }
}

/// Returns the most promising discovery with the next one that shares no knob with it, and the gain expected
/// of both together.
fn best_pair<'a>(open: &[(f64, RecordId, &'a KnownDiscovery)]) -> Option<(f64, PeerIdea<'a>)> {
    let knobs = |found: &KnownDiscovery| -> Vec<Knob> {
        found.discovery.patch.iter().map(|(knob, _)| knob).collect()
    };
    let (first_gain, first_id, first) = open.first()?;
    let taken = knobs(first);
    let apart = |found: &KnownDiscovery| knobs(found).iter().all(|knob| !taken.contains(knob));
    let (gain, id, second) = open[1..].iter().find(|(_, _, found)| apart(found))?;
    Some((TOGETHER * (first_gain + gain), PeerIdea::Both((*first_id, first), (*id, second))))
}

fn proposal(idea: PeerIdea<'_>, incumbent: &EffectiveConfig, context: usize) -> Option<Proposal> {
    let (child, because, ids) = match idea {
        PeerIdea::Transplant(id, found) => {
            let child = found.discovery.patch.transplant(incumbent).ok()?;
            let Discovery { estimate, because, .. } = &found.discovery;
            let author = found.author.fmt_short();
            let why = format!("a peer's discovery on this incumbent ({author} found {estimate}): {because}");
            (child, why, vec![id])
        }
        PeerIdea::Both((first_id, first), (second_id, second)) => {
            let child = first.discovery.patch.transplant(incumbent).ok()?;
            let child = second.discovery.patch.transplant(&child).ok()?;
            let [one, other] = [first, second].map(|found| found.author.fmt_short());
            let why = format!("two peers' discoveries at once, of {one} and {other}");
            (child, why, vec![first_id, second_id])
        }
        PeerIdea::Adopt(id, found) => {
            let (author, level) = (found.author.fmt_short(), found.discovery.level.get());
            let why = format!("a peer's whole config: {author} reached {level:.4} bpb with it");
            (found.discovery.config.clone(), why, vec![id])
        }
    };
    let child = child.effective(context);
    let patch = Patch::between(incumbent, &child);
    let hypothesis = Hypothesis {
        proposer: ProposedBy::Evolve,
        because: Hypothesis::one_line(&because),
        patch,
        simplifies: false,
        inspired_by: ids.iter().map(ToString::to_string).collect(),
    };
    (!hypothesis.patch.is_empty()).then_some(Proposal { child, hypothesis })
}

/// Returns whether `tried` is the discovery's patch on another incumbent and nothing else. Knobs that had the
/// new value there already are missing from `tried`.
pub(super) fn is_transplant(tried: &Patch, discovery: &Discovery) -> bool {
    let theirs: BTreeMap<Knob, _> = discovery.patch.iter().map(|(knob, change)| (knob, change.to)).collect();
    !tried.is_empty() && tried.iter().all(|(knob, change)| theirs.get(&knob) == Some(&change.to))
}
