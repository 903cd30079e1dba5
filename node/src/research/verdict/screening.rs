//! Which seed a screening run takes, and when the incumbent's cached run on it is worth no more.
//!
//! Seeds are positions in the arena's fixed list (`screening_seed` of the protocol). Not here: values of
//! children, which are compared and forgotten.

use std::collections::BTreeMap;

/// How a screening run is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScreenPlan {
    /// Position in the fixed list of screening seeds.
    pub seed_index: u32,
    /// The incumbent has no usable run on this seed: make one first (or beside it).
    pub incumbent_first: bool,
}

/// The incumbent's runs on screening seeds.
///
/// After a keep, the window moves behind every seed used so far: the new incumbent was selected on those, so its
/// luck there is in its favour. A cached run that has become too old is replaced by a run on the *next* seed,
/// never the same one, so that one lucky run cannot reject a whole night's gains.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScreeningCache {
    /// The seeds in use, oldest first; the n-th screening of an experiment takes the n-th of these.
    window: Vec<u32>,
    runs: BTreeMap<u32, CachedRun>,
    next_seed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct CachedRun {
    value: f64,
    finished_runs: u64,
}

impl ScreeningCache {
    /// Plans the `position`-th (from 0) screening of an experiment when the node has finished `finished_runs` runs in
    /// all. The plan stays the same until [`Self::record`] or [`Self::incumbent_changed`] is called.
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

    /// Keeps the incumbent's value (bpb) on a screening seed.
    pub fn record(&mut self, seed_index: u32, value: f64, finished_runs: u64) {
        self.runs.insert(seed_index, CachedRun { value, finished_runs });
        self.spend(seed_index);
        if !self.window.contains(&seed_index) {
            self.window.push(seed_index);
        }
    }

    /// Keeps this seed, and those before it, from being taken by what comes.
    pub fn spend(&mut self, seed_index: u32) {
        self.next_seed = self.next_seed.max(seed_index + 1);
    }

    /// The incumbent's value on this seed (bpb), if it has one.
    pub fn value(&self, seed_index: u32) -> Option<f64> {
        self.runs.get(&seed_index).map(|run| run.value)
    }

    /// The place of the first seed that nothing used yet.
    pub fn next_seed(&self) -> u32 {
        self.next_seed
    }

    /// Forgets the old incumbent's runs; seeds already used are not used again.
    pub fn incumbent_changed(&mut self) {
        self.window.clear();
        self.runs.clear();
    }
}
