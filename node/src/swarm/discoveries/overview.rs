//! The swarm in short: what arrived, the best discovery of each arena, and what is being tried for whom.
//!
//! Pure: the time is an argument.

use std::collections::{BTreeMap, VecDeque};

use autoswarm_protocol::{
    Budget, Patch,
    experiment::Comparison,
    id::{ArenaId, RecordId},
    record::Body,
};
use serde::{Deserialize, Serialize};

use super::{Discoveries, DiscoveryRow, KnownDiscovery, Status};
use crate::research::active::Active;

/// Most arenas whose best is shown: this node's own class and its neighbours.
const MAX_ARENAS: usize = 4;
/// Minutes that the recent counts go back, each counted by itself.
const HOUR: u64 = 60;

/// How many records of one kind came from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Count {
    /// In this session.
    pub session: u32,
    /// In the last hour.
    pub hour: u32,
}

/// How many records came from others, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Arrived {
    /// Discoveries: kept experiments of others.
    pub discoveries: Count,
    /// Re-runs of discoveries by others.
    pub attestations: Count,
    /// Digests: others' results in short.
    pub digests: Count,
    /// Claims: what others are about to try.
    pub claims: Count,
}

/// Counts the records that come from others.
#[derive(Debug, Default)]
pub struct Arrivals {
    session: [u32; 4],
    /// Counts of the last hour by minute, oldest first; at most [`HOUR`].
    minutes: VecDeque<(u64, [u32; 4])>,
}

impl Arrivals {
    /// Counts a record that arrived at `now`, seconds since 1970.
    pub fn count(&mut self, body: &Body, now: u64) {
        let kind = match body {
            Body::Discovery(_) => 0,
            Body::Attestation(_) => 1,
            Body::Digest(_) => 2,
            Body::Claim(_) => 3,
        };
        self.session[kind] = self.session[kind].saturating_add(1);
        let minute = now / 60;
        if self.minutes.back().is_none_or(|(last, _)| *last != minute) {
            self.minutes.push_back((minute, [0; 4]));
        }
        while self.minutes.len() as u64 > HOUR {
            self.minutes.pop_front();
        }
        if let Some((_, counts)) = self.minutes.back_mut() {
            counts[kind] = counts[kind].saturating_add(1);
        }
    }

    /// Returns the counts as of `now`, seconds since 1970.
    pub fn arrived(&self, now: u64) -> Arrived {
        let of = |kind: usize| {
            let recent = self.minutes.iter().filter(|(minute, _)| now / 60 < minute + HOUR);
            Count { session: self.session[kind], hour: recent.map(|(_, counts)| counts[kind]).sum() }
        };
        Arrived { discoveries: of(0), attestations: of(1), digests: of(2), claims: of(3) }
    }
}

/// A discovery of somebody else that is being tried here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trying {
    /// Number of the experiment that tries it.
    pub number: u32,
    /// The discovery's id, 64 hexadecimal digits.
    pub id: String,
    /// The first digits of its author's key.
    pub author: String,
    /// The change from its author's incumbent of the time.
    pub patch: Patch,
    /// What is compared, where it is re-run for its author; none where it is tried as an idea for this node.
    #[serde(rename = "rerun")] // the name in `--json`
    pub reproduction: Option<Comparison>,
}

/// A discovery that came lately.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct News {
    /// Seconds since it came.
    pub seconds_ago: u64,
    /// The discovery as lists show it.
    pub row: DiscoveryRow,
}

/// A connected peer, seen as an author of discoveries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerFacts {
    /// The peer's id in the network.
    pub peer: String,
    /// The first digits of the peer's key, by which lists name it as an author.
    pub author: String,
    /// The budget of its newest discovery, where it has one.
    pub budget: Option<Budget>,
}

/// The swarm as people see it, connections left out: who is there, what came, and what is being tried.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SwarmView {
    /// The connected peers, seen as authors.
    pub peers: Vec<PeerFacts>,
    /// How many records came from others.
    pub arrived: Arrived,
    /// The largest gain of each arena that was not refuted; arenas with most discoveries first.
    pub best: Vec<DiscoveryRow>,
    /// Others' discoveries, newest last.
    pub newest: Vec<News>,
    /// Others' discoveries that experiments in flight try.
    pub trying: Vec<Trying>,
}

/// How many discoveries an arena has, and the best of them.
type Standing<'a> = (usize, Option<(RecordId, &'a KnownDiscovery)>);

impl Discoveries {
    /// Returns the largest gain of each arena that was not refuted, for the few arenas with most discoveries.
    pub fn best(&self) -> Vec<DiscoveryRow> {
        let trust = self.trust();
        let mut arenas: BTreeMap<ArenaId, Standing<'_>> = BTreeMap::new();
        for (id, found) in &self.found {
            let (count, best) = arenas.entry(found.discovery.arena).or_default();
            *count += 1;
            let gain = |found: &KnownDiscovery| found.discovery.estimate.delta;
            if best.is_none_or(|(_, best)| gain(found) < gain(best))
                && self.status_by(*id, trust) != Status::Refuted
            {
                *best = Some((*id, found));
            }
        }
        let mut arenas: Vec<_> = arenas.into_values().collect();
        arenas.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        arenas
            .into_iter()
            .filter_map(|(_, best)| best)
            .take(MAX_ARENAS)
            .map(|(id, found)| self.row(id, found, trust))
            .collect()
    }

    /// Returns the budget of each author's newest discovery; the authors are given by their public keys.
    pub fn budgets(&self, keys: &[[u8; 32]]) -> BTreeMap<[u8; 32], Budget> {
        let mut newest: BTreeMap<[u8; 32], (u64, Budget)> = BTreeMap::new();
        for found in self.found.values() {
            let key = found.author.as_bytes();
            if keys.contains(key) && newest.get(key).is_none_or(|(made_at, _)| *made_at < found.made_at) {
                newest.insert(*key, (found.made_at, found.discovery.budget));
            }
        }
        newest.into_iter().map(|(key, (_, budget))| (key, budget)).collect()
    }

    /// Returns which of the experiments in flight try others' discoveries.
    pub fn trying(&self, pending: &[Active]) -> Vec<Trying> {
        let of = |active: &Active| {
            let id: RecordId = active.hypothesis.inspired_by.first()?.parse().ok()?;
            let found = self.found.get(&id)?;
            Some(Trying {
                number: active.number,
                id: id.to_string(),
                author: found.author.fmt_short(),
                patch: found.discovery.patch.clone(),
                reproduction: active.reproduction.map(|terms| terms.comparison),
            })
        };
        pending.iter().filter_map(of).collect()
    }

    /// Returns the rows of those discoveries that are known, each with the time at which it came.
    pub fn rows_of(&self, came: &[(u64, RecordId)]) -> Vec<(u64, DiscoveryRow)> {
        let trust = self.trust();
        let row = |(at, id): &(u64, RecordId)| Some((*at, self.row(*id, self.found.get(id)?, trust)));
        came.iter().filter_map(row).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use autoswarm_protocol::{
        Hypothesis, Proposer, TrainConfig,
        id::ConfigHash,
        record::{Claim, Digest},
    };

    use super::*;
    use crate::{
        research::{Proposal, messages::ReproductionTerms},
        swarm::discoveries::inspect::tests::sample,
    };

    /// What a status shows of [`sample`].
    pub(crate) fn view() -> SwarmView {
        let (discoveries, ids) = sample();
        let id = ids[0].parse().expect("an id");
        let active = |number: u32, inspired_by: Vec<String>, reproduction: Option<Comparison>| {
            let hypothesis = Hypothesis {
                proposer: Proposer::Evolve,
                because: String::new(),
                patch: Patch::default(),
                simplifies: false,
                inspired_by,
            };
            let proposal = Proposal { child: TrainConfig::new().effective(256), hypothesis };
            let mut active = Active::new(ArenaId::of(b"a"), number, proposal, None, 0, 0);
            active.reproduction =
                reproduction.map(|comparison| ReproductionTerms { comparison, tokens: None });
            active
        };
        let pending = [
            active(11, vec![], None),
            active(12, vec![ids[0].clone()], None),
            active(13, vec![ids[2].clone()], Some(Comparison::Reproduced)),
        ];
        let peer = |peer: &str, author: &str, budget| PeerFacts {
            peer: peer.to_owned(),
            author: author.to_owned(),
            budget,
        };
        let count = |session, hour| Count { session, hour };
        SwarmView {
            peers: vec![
                peer("12D3KooWEyop", "d9320d72", Some(Budget::Class(3))),
                peer("12D3KooWLast", "b92801fb", None),
            ],
            arrived: Arrived {
                discoveries: count(4, 1),
                attestations: count(6, 2),
                digests: count(1, 0),
                claims: count(0, 0),
            },
            best: discoveries.best(),
            newest: discoveries
                .rows_of(&[(200, id)])
                .into_iter()
                .map(|(seconds_ago, row)| News { seconds_ago, row })
                .collect(),
            trying: discoveries.trying(&pending),
        }
    }

    #[test]
    fn arrivals_are_counted_by_kind_and_forgotten_after_an_hour() {
        let claim = Body::Claim(Claim { config: ConfigHash::of(b"c"), seconds: 60 });
        let digest = Body::Digest(Digest { arena: ArenaId::of(b"a"), lines: vec![] });
        let mut arrivals = Arrivals::default();
        arrivals.count(&digest, 0);
        for n in 0..1000 {
            arrivals.count(&claim, n * 60);
        }
        assert!(arrivals.minutes.len() as u64 <= HOUR);
        let arrived = arrivals.arrived(999 * 60);
        assert_eq!(
            (arrived.claims, arrived.digests),
            (Count { session: 1000, hour: 60 }, Count { session: 1, hour: 0 })
        );
        assert_eq!(arrivals.arrived(2000 * 60).claims, Count { session: 1000, hour: 0 });
    }

    #[test]
    fn each_arena_has_its_best_and_a_refuted_one_is_none() {
        let (discoveries, _) = sample();
        let best: Vec<String> = discoveries.best().iter().map(|row| row.patch.to_string()).collect();
        assert_eq!(best, ["depth 4 → 3, matrix_lr 0.04 → 0.03", "batch_tokens 8192 → 2048"]);
    }

    #[test]
    fn an_authors_class_is_that_of_its_newest_discovery() {
        let (discoveries, ids) = sample();
        let author = discoveries.found[&ids[2].parse().expect("an id")].author;
        let stranger = [9; 32];
        let budgets = discoveries.budgets(&[*author.as_bytes(), stranger]);
        assert_eq!(budgets, BTreeMap::from([(*author.as_bytes(), Budget::Class(3))]));
    }

    #[test]
    fn what_is_tried_names_its_author() {
        let view = view();
        let trying: Vec<_> = view.trying.iter().map(|trying| (trying.number, trying.reproduction)).collect();
        assert_eq!(trying, [(12, None), (13, Some(Comparison::Reproduced))]);
        assert!(view.trying.iter().all(|trying| trying.author.len() == 8));
    }
}
