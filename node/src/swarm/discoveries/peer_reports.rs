//! What peers report of their own experiments: digests, summed up by change, and claims until they expire.
//!
//! An author's reports of one change count as one, and never as surer than [`SUREST`] single reports: nobody
//! is louder for repeating a result. **An author is believed as far as the author's earlier numbers, in
//! results and in discoveries, agreed with this node's own of the same changes**; a stranger is hardly
//! believed.
//!
//! Of one change, only those authors count who are believed about as much as the most believed one. So a
//! crowd of strangers drowns nobody. The search gets the outcome as [`crate::research::peer_results`].

use std::collections::{BTreeMap, BTreeSet};

use autoswarm_protocol::{
    Estimate, Patch,
    id::{ArenaId, Author, ConfigHash},
    record::{Claim, Digest, DigestEnding},
};

use crate::research::peer_results::{MAX_PEER_RESULTS, PeerResult, PeerResults};

/// Most changes that are remembered; one-knob steps are some hundreds. Beyond it new changes are left out.
const MOST_CHANGES: usize = 8192;
/// Most authors of one change whose reports are summed up; later ones add little.
const MOST_AUTHORS: usize = 64;
/// Most claims that are remembered: more than a swarm of a thousand nodes has slots.
const MOST_CLAIMS: usize = 4096;
/// The chance that an author's numbers are real while nothing of that author was checked. // Wild guess.
const STRANGERS: f64 = 0.1;
/// Share of the most believed author's chance below which other authors of the same change are left out.
const BESIDE: f64 = 0.5;
/// Distance from zero, in standard errors, beyond which a peers' result is no more telling.
const FAR: f64 = 3.0;
/// Spread between a change's effects on two incumbents, relative to its size: of the same step in two
/// digests, and of a discovery that is put onto another incumbent. // Wild guess.
const ELSEWHERE: f64 = 0.3;
const TRANSPLANTED: f64 = 0.5;
/// Most that one comparison says for or against an author, as a log-likelihood ratio.
const MOST_TELLING: f64 = 3.0;
/// Usual size of a result before there are any, bits per byte, and how many results that guess weighs as much
/// as. // Wild guess.
const FIRST_SIZE: f64 = 0.05;
const FIRST_RESULTS: f64 = 4.0;
/// Most single reports that an author's sum over one change may weigh as much as.
const SUREST: f64 = 4.0;

/// One author's reports of one change in one arena.
#[derive(Debug, Clone, Copy, Default)]
struct Reports {
    weighted: f64,
    weight: f64,
    /// The weight of the surest single report.
    surest: f64,
}

impl Reports {
    fn add(&mut self, found: &Estimate) {
        let weight = found.standard_error.max(1e-4).powi(-2);
        self.weighted += weight * found.delta;
        self.weight += weight;
        self.surest = self.surest.max(weight);
    }

    /// Returns the weight that the reports count with: at most [`SUREST`] times that of the surest one.
    fn counted(self) -> f64 {
        self.weight.min(SUREST * self.surest)
    }

    /// Returns their weighted mean with its standard error.
    fn sum(self) -> Number {
        Number { delta: self.weighted / self.weight, error: self.counted().sqrt().recip() }
    }
}

/// All reports of one change in one arena.
#[derive(Debug, Clone)]
struct ReportedChange {
    patch: Patch,
    /// This node's own results.
    own: Option<Reports>,
    authors: BTreeMap<Author, Reports>,
}

/// The reported changes of one arena, by the text of their patch.
type Changes = BTreeMap<String, ReportedChange>;

/// All that this node and its peers reported of their experiments.
#[derive(Debug, Default)]
pub(super) struct PeerReports {
    arenas: BTreeMap<ArenaId, Changes>,
    changes: usize,
    usual: Usual,
    /// Log-likelihood ratio that an author's numbers are real, by this node's tries and re-runs of that
    /// author's discoveries.
    claims_checked: BTreeMap<Author, f64>,
    /// Claimed configs, each with the time at which its claim ends, seconds since 1970.
    claims: BTreeMap<ConfigHash, u64>,
    /// Configs whose results this node has told the swarm, by arena.
    told: BTreeSet<(ArenaId, ConfigHash)>,
    is_news: bool,
}

impl PeerReports {
    /// Takes a digest; `own` says whether this node wrote it.
    pub(super) fn add(&mut self, author: Author, own: bool, digest: &Digest) {
        if own {
            self.told.extend(digest.lines.iter().map(|line| (digest.arena, line.config)));
        }
        for line in &digest.lines {
            // A crash says more about a machine than about a change.
            let (Some(found), true) = (&line.found, line.ending != DigestEnding::Crashed) else { continue };
            let changes = self.arenas.entry(digest.arena).or_default();
            let key = line.patch.to_string();
            if !changes.contains_key(&key) {
                if self.changes >= MOST_CHANGES {
                    continue;
                }
                self.changes += 1;
            }
            let change = changes.entry(key).or_insert_with(|| ReportedChange {
                patch: line.patch.clone(),
                own: None,
                authors: BTreeMap::new(),
            });
            if own {
                change.own.get_or_insert_default().add(found);
                self.usual.add(found.delta);
            } else if change.authors.len() < MOST_AUTHORS || change.authors.contains_key(&author) {
                change.authors.entry(author).or_default().add(found);
                self.is_news = true;
            }
        }
    }

    /// Learns how far an author's claim was from what this node found.
    pub(super) fn compare(&mut self, author: Author, claim: &Estimate, shown: &Estimate) {
        let number = |it: &Estimate| Number { delta: it.delta, error: it.standard_error };
        let says = self.usual.log_ratio(number(claim), number(shown), TRANSPLANTED);
        *self.claims_checked.entry(author).or_insert(0.0) += says;
        self.is_news = true;
    }

    /// Returns for each author the chance that the author's numbers are real, by this node's own numbers of
    /// the same changes.
    fn candour(&self) -> BTreeMap<Author, f64> {
        let mut odds = self.claims_checked.clone();
        for change in self.arenas.values().flat_map(BTreeMap::values) {
            let Some(own) = change.own else { continue };
            for (author, reports) in &change.authors {
                *odds.entry(*author).or_insert(0.0) +=
                    self.usual.log_ratio(reports.sum(), own.sum(), ELSEWHERE);
            }
        }
        let first = (STRANGERS / (1.0 - STRANGERS)).ln();
        odds.into_iter().map(|(author, odds)| (author, 1.0 / (1.0 + (-first - odds).exp()))).collect()
    }

    /// Takes a claim at `now`, seconds since 1970; one beyond [`MOST_CLAIMS`] is left out.
    pub(super) fn claimed(&mut self, claim: &Claim, now: u64) {
        self.claims.retain(|_, until| *until > now);
        if self.claims.len() < MOST_CLAIMS {
            let until = now + u64::from(claim.seconds);
            let ends = self.claims.entry(claim.config).or_insert(until);
            *ends = until.max(*ends);
            self.is_news = true;
        }
    }

    /// Returns whether anything came since the last [`PeerReports::take`].
    pub(super) fn is_news(&self) -> bool {
        self.is_news
    }

    /// Returns whether this node told the swarm of a config in an arena.
    pub(super) fn was_told(&self, arena: ArenaId, config: ConfigHash) -> bool {
        self.told.contains(&(arena, config))
    }

    /// Returns the most telling changes for a search in `arena`, without what distrusted authors say.
    pub(super) fn take(
        &mut self,
        arena: ArenaId,
        now: u64,
        distrusted: impl Fn(Author) -> bool,
    ) -> PeerResults {
        self.is_news = false;
        self.claims.retain(|_, until| *until > now);
        let candour = self.candour();
        let belief = |author: &Author| candour.get(author).copied().unwrap_or(STRANGERS);
        let all =
            self.arenas.iter().flat_map(|(of, changes)| changes.values().map(move |change| (*of, change)));
        let mut results: Vec<PeerResult> = all
            .filter_map(|(of, ReportedChange { patch, authors, .. })| {
                let heard = authors.iter().filter(|(author, _)| !distrusted(**author));
                let heard: Vec<(f64, Reports)> = heard.map(|(author, it)| (belief(author), *it)).collect();
                let most = heard.iter().map(|(belief, _)| *belief).reduce(f64::max)?;
                let (mut weighted, mut weight, mut count) = (0.0, 0.0, 0);
                for (_, reports) in heard.iter().filter(|(belief, _)| *belief >= BESIDE * most) {
                    weighted += reports.counted() * reports.sum().delta;
                    weight += reports.counted();
                    count += 1;
                }
                Some(PeerResult {
                    patch: patch.clone(),
                    delta: weighted / weight,
                    standard_error: weight.sqrt().recip(),
                    authors: count,
                    belief: most,
                    same_arena: of == arena,
                })
            })
            .collect();
        let telling = |result: &PeerResult| {
            let far = result.belief.powi(2) * (result.delta.abs() / result.standard_error).min(FAR);
            if result.same_arena { far } else { 0.5 * far }
        };
        results.sort_by(|a, b| telling(b).total_cmp(&telling(a)));
        results.truncate(MAX_PEER_RESULTS);
        PeerResults { results, claimed: self.claims.keys().copied().collect() }
    }
}

/// A difference with its standard error, bits per byte.
#[derive(Debug, Clone, Copy)]
struct Number {
    delta: f64,
    error: f64,
}

/// The usual size of this node's own results: what one would be if a peer's number of the same change were
/// made up.
#[derive(Debug, Clone, Copy, Default)]
struct Usual {
    count: f64,
    squares: f64,
}

impl Usual {
    fn add(&mut self, delta: f64) {
        self.count += 1.0;
        self.squares += delta * delta;
    }

    /// Returns how much likelier this node's own result is if somebody's number of the same change is real
    /// than if it is made up, as a log-likelihood ratio. Real effects differ by `strange` of their size
    /// between the two nodes.
    fn log_ratio(self, theirs: Number, own: Number, strange: f64) -> f64 {
        let squares = self.squares + FIRST_RESULTS * FIRST_SIZE * FIRST_SIZE;
        let usual = (squares / (self.count + FIRST_RESULTS)).sqrt();
        let normal = |away: f64, sd: f64| -0.5 * (away / sd).powi(2) - sd.ln();
        let error = own.error.hypot(theirs.error).hypot(strange * theirs.delta);
        let real = normal(own.delta - theirs.delta, error);
        let made_up = normal(own.delta, usual.hypot(own.error));
        (real - made_up).clamp(-MOST_TELLING, MOST_TELLING)
    }
}
