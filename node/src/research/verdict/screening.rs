//! The cache of the incumbent's screening runs: which seed comes next, and when a cached run is too old.
//!
//! Seeds are positions in the arena's fixed list (`screening_seed` of the protocol). Not here: the values of
//! children, which are compared and forgotten.

use std::collections::BTreeMap;

/// How the next screening run of a child is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScreenPlan {
    /// Position in the fixed list of screening seeds.
    pub seed_index: u32,
    /// Whether the incumbent has no usable run on this seed; then make one first, or beside the child's.
    pub incumbent_first: bool,
}

/// The incumbent's cached runs on screening seeds.
///
/// After a keep, the window moves past every seed used so far: the new incumbent was selected on those, so
/// its luck there is in its favour. A cached run that is too old is replaced by a run on the *next* seed,
/// never on the same one. So one lucky run cannot reject a whole night's gains.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScreeningCache {
    /// The seeds in use; the n-th screening run of an experiment takes the n-th of these.
    window: Vec<u32>,
    /// The cached runs, by seed position.
    runs: BTreeMap<u32, CachedRun>,
    /// The first position that nothing used yet.
    next_seed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct CachedRun {
    /// The validation value, bits per byte.
    value: f64,
    /// How many runs the node had finished when this one was made: later counts tell its age.
    finished_runs: u64,
}

impl ScreeningCache {
    /// Plans the `position`-th (from 0) screening run of an experiment, when the node has finished
    /// `finished_runs` runs in all. A cached run is too old after `limit` more of them. The plan stays the
    /// same until [`Self::record`] or [`Self::incumbent_changed`] is called.
    pub fn plan(&mut self, position: usize, finished_runs: u64, limit: u64) -> ScreenPlan {
        while self.window.len() <= position {
            self.window.push(self.next_seed);
            self.next_seed += 1;
        }
        let seed = self.window[position];
        match self.runs.get(&seed) {
            Some(run) if finished_runs.saturating_sub(run.finished_runs) > limit => {
                self.runs.remove(&seed);
                self.window[position] = self.next_seed;
                self.next_seed += 1;
                ScreenPlan { seed_index: self.window[position], incumbent_first: true }
            }
            Some(_) => ScreenPlan { seed_index: seed, incumbent_first: false },
            None => ScreenPlan { seed_index: seed, incumbent_first: true },
        }
    }

    /// Caches the incumbent's value (bpb) on a screening seed.
    pub fn record(&mut self, seed_index: u32, value: f64, finished_runs: u64) {
        self.runs.insert(seed_index, CachedRun { value, finished_runs });
        self.spend(seed_index);
        if !self.window.contains(&seed_index) {
            self.window.push(seed_index);
        }
    }

    /// Marks this seed and those before it as used, so that no new place in the window takes them.
    pub fn spend(&mut self, seed_index: u32) {
        self.next_seed = self.next_seed.max(seed_index + 1);
    }

    /// Returns the incumbent's value on this seed (bpb), if it has one.
    pub fn value(&self, seed_index: u32) -> Option<f64> {
        self.runs.get(&seed_index).map(|run| run.value)
    }

    /// Returns the position of the first seed that nothing used yet.
    pub fn next_seed(&self) -> u32 {
        self.next_seed
    }

    /// Forgets the old incumbent's runs; seeds already used are not used again.
    pub fn incumbent_changed(&mut self) {
        self.window.clear();
        self.runs.clear();
    }
}
