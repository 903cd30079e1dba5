//! The proposer that the driver gives to the research: evolve, which follows a person's program.md.
//!
//! The file is read again for each proposal. Not here: what it may say (`program.rs`) and how evolve chooses.

use std::path::{Path, PathBuf};

use anyhow::Context;
use autoswarm_protocol::{EffectiveConfig, Experiment, KnobGroup, id::ConfigHash};

use crate::{
    proposers::{
        evolve::Evolve,
        program::{self, Direction},
    },
    research::{PeerResults, Proposal, Propose, beliefs::Importance},
};

/// Most ruled-out changes that the summary lists: as many as a person reads.
const LISTED: usize = 10;

/// Where program.md is looked for, in this order.
#[derive(Debug, Clone)]
pub struct ProgramPaths {
    /// The file that a person asked for, if any.
    pub asked: Option<PathBuf>,
    /// The folder that the node was started in.
    pub folder: PathBuf,
    /// The node's home folder.
    pub home: PathBuf,
}

impl ProgramPaths {
    /// Reads the program.md that applies now.
    pub fn read(&self) -> anyhow::Result<Direction> {
        let source = program::locate(self.asked.as_deref(), &self.folder, &self.home, Path::exists);
        let text = program::read(&source).with_context(|| format!("cannot read {source}"))?;
        Direction::parse(&text).with_context(|| format!("{source} is wrong"))
    }
}

/// The built-in search, evolve, under a person's direction.
#[derive(Debug)]
pub struct Searcher {
    evolve: Evolve,
    paths: ProgramPaths,
    /// What was wrong with program.md at the last look, so that each fault is noted once.
    trouble: Option<String>,
    note: Option<String>,
}

impl Searcher {
    /// Makes a searcher. A program.md that is wrong now is an error; one that becomes wrong later is noted.
    pub fn new(mut evolve: Evolve, paths: ProgramPaths) -> anyhow::Result<Self> {
        evolve.direct(paths.read()?);
        Ok(Self { evolve, paths, trouble: None, note: None })
    }

    fn read_direction(&mut self) {
        let trouble = match self.paths.read() {
            Ok(direction) => {
                self.evolve.direct(direction);
                None
            }
            Err(error) => Some(format!("{error:#}; going on with the direction before")),
        };
        if trouble != self.trouble {
            self.note.clone_from(&trouble);
            self.trouble = trouble;
        }
    }
}

impl Propose for Searcher {
    fn observe(&mut self, experiment: &Experiment) {
        self.evolve.observe(experiment);
    }

    fn take_peer_results(&mut self, peer_results: PeerResults) {
        self.evolve.take_peer_results(peer_results);
    }

    fn propose(
        &mut self,
        incumbent: &EffectiveConfig,
        pending: &[ConfigHash],
        number: u32,
    ) -> Option<Proposal> {
        self.read_direction();
        let proposal = self.evolve.propose(incumbent, pending, number);
        if let (None, Some(why)) = (&proposal, self.evolve.exhausted()) {
            self.note = Some(why.to_string());
        }
        proposal
    }

    fn take_note(&mut self) -> Option<String> {
        self.note.take()
    }

    fn ruled_out(&self) -> Vec<String> {
        self.evolve.ledger().ruled_out().rev().take(LISTED).map(|trial| trial.patch.to_string()).collect()
    }

    fn importance(&self) -> Option<Importance> {
        self.evolve.importance()
    }

    fn untried(&self) -> Vec<(KnobGroup, u32)> {
        let ledger = self.evolve.ledger();
        KnobGroup::ALL.into_iter().map(|group| (group, ledger.untried(group).count() as u32)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proposers::evolve::{
        Machine,
        tests::{Shown, config, experiment, objective},
    };

    #[test]
    fn the_newest_of_what_was_ruled_out_is_listed_first() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let here = folder.path().to_owned();
        let evolve = Evolve::new(objective(""), Machine::cpu(2, 8 << 30, 257), 10.0, 0);
        let paths = ProgramPaths { asked: None, folder: here.clone(), home: here };
        let mut searcher = Searcher::new(evolve, paths).expect("the built-in direction");
        let base = config("");
        searcher.observe(&experiment(0, None, &base, "", Shown::Discard(0.0)));
        for number in 1..=LISTED as u32 + 2 {
            let child = config(&format!("warmup={}", f64::from(number) / 100.0));
            searcher.observe(&experiment(number, Some(&base), &child, "", Shown::Discard(0.1)));
        }
        let listed = searcher.ruled_out();
        assert_eq!(listed.len(), LISTED);
        assert_eq!((listed[0].as_str(), listed[LISTED - 1].as_str()), ("warmup 0 → 0.12", "warmup 0 → 0.03"));
    }
}
