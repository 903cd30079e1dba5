//! Discoveries as people look at them: rows of a list under filters, and everything about one.

use std::cmp::Reverse;

use autoswarm_protocol::{
    Bpb, Budget, Estimate, Knob, Patch,
    experiment::Comparison,
    id::RecordId,
    record::{Attestation, Discovery},
};
use serde::{Deserialize, Serialize};

use super::{
    Attested, Discoveries, KnownDiscovery, Status, Trust,
    lineage::{self, Lineage},
    trust,
};
use crate::base::text;

/// Most rows that one list holds; the command line allows no more.
pub const MAX_ROWS: u32 = 10_000;

/// Most bytes that the rows of one list take as JSON: a reply of the control socket holds 8 MiB.
const MAX_LIST_BYTES: usize = 6 << 20;

/// Most re-runs that are shown of one discovery; reproductions come first.
const MAX_RE_RUNS: usize = 200;

/// Whose discoveries a list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// Everybody's, this node's own included.
    #[default]
    All,
    /// This node's own.
    Mine,
    /// All but this node's own.
    Foreign,
}

/// What a list is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// When they were made, by their authors' clocks; newest last.
    #[default]
    Age,
    /// The claimed gain, largest first.
    Delta,
    /// The claimed gain in standard errors, surest first.
    Surety,
    /// How often they were re-run, most first.
    ReRuns,
}

/// Which discoveries a list holds, and in what order. Of more than `limit` it holds the first of that order;
/// by age, the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscoveryFilter {
    /// Only those whose id begins with these digits.
    pub id: Option<String>,
    /// Only those with this status.
    pub status: Option<Status>,
    /// Only those whose author's key begins with these digits.
    pub author: Option<String>,
    /// Whose discoveries: everybody's, this node's own, or all others.
    pub whose: Whose,
    /// Only those that change the knob of this name.
    pub knob: Option<String>,
    /// Only those measured with this budget.
    pub budget: Option<Budget>,
    /// Only those of the arena whose id begins with these digits.
    pub arena: Option<String>,
    /// Only those made at or after this time, seconds since 1970.
    pub since: Option<u64>,
    /// What the rows are sorted by.
    pub sort: Sort,
    /// Most rows, up to [`MAX_ROWS`].
    pub limit: u32,
}

impl Default for DiscoveryFilter {
    fn default() -> Self {
        Self {
            id: None,
            status: None,
            author: None,
            whose: Whose::All,
            knob: None,
            budget: None,
            arena: None,
            since: None,
            sort: Sort::Age,
            limit: MAX_ROWS,
        }
    }
}

/// The rows that a filter leaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// The rows, in the filter's order.
    pub rows: Vec<DiscoveryRow>,
    /// How many more match, beyond the limit or beyond what one reply holds.
    pub left_out: u32,
}

/// A discovery as one row of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiscoveryRow {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// The first digits of its author's key.
    pub author: String,
    /// Whether this node found it.
    pub own: bool,
    /// The change from its author's incumbent of the time.
    pub patch: Patch,
    /// The claimed difference on validation, bits per byte.
    pub estimate: Estimate,
    /// The same difference on the audit split, where it was measured.
    pub audit: Option<Estimate>,
    /// The child's mean on validation, bits per byte.
    pub level: Bpb,
    /// The first digits of the arena's id.
    pub arena: String,
    /// The budget it was measured with.
    pub budget: Budget,
    /// Training tokens of a run with the change, and of one without.
    pub tokens: (u64, u64),
    /// Training seconds of a run with the change.
    pub seconds: f64,
    /// What re-runs of it say.
    pub status: Status,
    /// Reproductions by others that agree with the claim.
    pub confirmations: u32,
    /// Reproductions of it, whatever they say.
    pub reproductions: u32,
    /// Re-runs under other conditions that show a gain too, by two standard errors.
    pub helps: u32,
    /// Re-runs of it, of any kind.
    pub attestations: u32,
    /// Whether this node has tried it.
    pub tried: bool,
    /// When it was made, by its author's clock, seconds since 1970.
    pub made_at: u64,
}

impl DiscoveryRow {
    /// Returns a bound on the row's JSON, bytes. The name and the values of a knob have at most 64 together,
    /// all else at most 900.
    fn weight(&self) -> usize {
        900 + 64 * self.patch.len()
    }
}

/// What a re-run says about the claim of its discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Says {
    /// It reproduces the claim.
    Agrees,
    /// It is a reproduction that excludes the claim.
    Refutes,
    /// Under other conditions the change is a gain too, by two standard errors.
    Gains,
    /// Under other conditions it is a loss, by two standard errors.
    Loses,
    /// Under other conditions it shows neither.
    Unclear,
    /// It crashed, or it is a reproduction by the discovery's own author.
    Nothing,
}

impl Says {
    /// Returns the words that lists print.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agrees => "agrees",
            Self::Refutes => "refutes it",
            Self::Gains => "helps there too",
            Self::Loses => "hurts there",
            Self::Unclear => "neither for sure",
            Self::Nothing => "",
        }
    }

    fn of(found: &KnownDiscovery, re_run: &Attested) -> Self {
        let Attested { author, attestation } = re_run;
        let Ok(shown) = &attestation.found else { return Self::Nothing };
        if attestation.comparison == Comparison::Reproduced {
            return match (*author == found.author, trust::agrees(&found.discovery.estimate, shown)) {
                (true, _) => Self::Nothing,
                (_, Some(true)) => Self::Agrees,
                (_, Some(false)) => Self::Refutes,
                (_, None) => Self::Unclear,
            };
        }
        match shown.delta / shown.standard_error.max(1e-9) {
            sure if sure <= -2.0 => Self::Gains,
            sure if sure >= 2.0 => Self::Loses,
            _ => Self::Unclear,
        }
    }
}

/// A re-run of a discovery as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttestationRow {
    /// The first digits of the key of whoever made it.
    pub author: String,
    /// Whether this node made it.
    pub own: bool,
    /// What it compared, and what came of it.
    pub attestation: Attestation,
    /// What that says about the claim.
    pub says: Says,
}

/// Everything about one discovery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// The discovery's id, 64 hexadecimal digits.
    pub id: String,
    /// The key of the author who signed it, in full.
    pub author: String,
    /// Whether this node signed it.
    pub own: bool,
    /// When it was made, by its author's clock, seconds since 1970.
    pub made_at: u64,
    /// What re-runs of it say.
    pub status: Status,
    /// The discovery itself, as its author published it.
    pub discovery: Discovery,
    /// Who re-ran it, and what came of it: reproductions first, 200 at most.
    pub attestations: Vec<AttestationRow>,
    /// How many re-runs there are in all.
    pub re_runs: u32,
    /// What it builds on, and what builds on it.
    pub lineage: Lineage,
}

impl Discoveries {
    /// Returns the discoveries that a filter leaves, as rows.
    pub fn list(&self, filter: &DiscoveryFilter) -> Listing {
        let trust = self.trust();
        let mut chosen: Vec<(&RecordId, &KnownDiscovery)> =
            self.found.iter().filter(|(id, found)| self.passes(filter, **id, found, trust)).collect();
        let newest = |id: &RecordId, found: &KnownDiscovery| Reverse((found.made_at, *id));
        let claim = |found: &KnownDiscovery| found.discovery.estimate;
        match filter.sort {
            Sort::Age => chosen.sort_by_key(|(id, found)| newest(id, found)),
            Sort::ReRuns => {
                chosen.sort_by_key(|(id, found)| (Reverse(self.re_runs(**id).count()), newest(id, found)));
            }
            Sort::Delta => chosen.sort_by(|a, b| claim(a.1).delta.total_cmp(&claim(b.1).delta)),
            Sort::Surety => {
                let sure = |found| claim(found).delta / claim(found).standard_error.max(1e-9);
                chosen.sort_by(|a, b| sure(a.1).total_cmp(&sure(b.1)));
            }
        }
        let (matching, mut bytes) = (chosen.len(), 0);
        let mut rows: Vec<DiscoveryRow> = chosen
            .into_iter()
            .take(filter.limit.min(MAX_ROWS) as usize)
            .map(|(id, found)| self.row(*id, found, trust))
            .take_while(|row| {
                bytes += row.weight();
                bytes <= MAX_LIST_BYTES
            })
            .collect();
        // By age the newest were taken first; people read them last.
        if filter.sort == Sort::Age {
            rows.reverse();
        }
        Listing { left_out: (matching - rows.len()) as u32, rows }
    }

    fn passes(&self, filter: &DiscoveryFilter, id: RecordId, found: &KnownDiscovery, trust: &Trust) -> bool {
        let discovery = &found.discovery;
        let begins = |wanted: &Option<String>, text: &dyn ToString| {
            wanted.as_ref().is_none_or(|wanted| text.to_string().starts_with(&wanted.to_ascii_lowercase()))
        };
        let knob = filter.knob.as_deref().map(Knob::from_name);
        (match filter.whose {
            Whose::All => true,
            Whose::Mine => found.author == self.own,
            Whose::Foreign => found.author != self.own,
        }) && filter.budget.is_none_or(|budget| budget == discovery.budget)
            && filter.since.is_none_or(|since| found.made_at >= since)
            && knob.is_none_or(|knob| discovery.patch.iter().any(|(changed, _)| Some(changed) == knob))
            && begins(&filter.id, &id)
            && begins(&filter.author, &found.author)
            && begins(&filter.arena, &discovery.arena)
            && filter.status.is_none_or(|status| status == self.status_by(id, trust))
    }

    fn re_runs(&self, id: RecordId) -> impl Iterator<Item = &Attested> {
        self.attestations.get(&id).into_iter().flatten()
    }

    pub(super) fn row(&self, id: RecordId, found: &KnownDiscovery, trust: &Trust) -> DiscoveryRow {
        let discovery = &found.discovery;
        let that_say =
            |says: Says| self.re_runs(id).filter(|re_run| Says::of(found, re_run) == says).count() as u32;
        let is_reproduction = |re_run: &&Attested| re_run.attestation.comparison == Comparison::Reproduced;
        DiscoveryRow {
            id: id.to_string(),
            author: found.author.fmt_short(),
            own: found.author == self.own,
            patch: discovery.patch.clone(),
            estimate: discovery.estimate,
            audit: discovery.audit,
            level: discovery.level,
            arena: discovery.arena.fmt_short(),
            budget: discovery.budget,
            tokens: discovery.tokens,
            seconds: discovery.seconds,
            status: self.status_by(id, trust),
            confirmations: that_say(Says::Agrees),
            reproductions: self.re_runs(id).filter(is_reproduction).count() as u32,
            helps: that_say(Says::Gains),
            attestations: self.re_runs(id).count() as u32,
            tried: self.tried.contains(&id),
            made_at: found.made_at,
        }
    }

    /// Returns a discovery and its re-runs by the first digits of its id, or says why there is none.
    pub fn find(&self, id: &str) -> Result<Details, String> {
        let prefix = id.trim().to_ascii_lowercase();
        let mut matching = self.found.iter().filter(|(id, _)| id.to_string().starts_with(&prefix));
        match (prefix.len() >= 4, matching.next(), matching.next()) {
            (true, Some((id, found)), None) => Ok(self.details(*id, found)),
            (true, Some(_), Some(_)) => Err(format!("`{prefix}` begins more than one id; give more digits")),
            _ => Err(format!(
                "there is no discovery `{}`; `node discoveries` lists them",
                text::one_line(id, 80)
            )),
        }
    }

    fn details(&self, id: RecordId, found: &KnownDiscovery) -> Details {
        let trust = self.trust();
        let mut attestations: Vec<AttestationRow> = self
            .re_runs(id)
            .map(|re_run| AttestationRow {
                author: re_run.author.fmt_short(),
                own: re_run.author == self.own,
                attestation: re_run.attestation.clone(),
                says: Says::of(found, re_run),
            })
            .collect();
        let re_runs = attestations.len() as u32;
        attestations.sort_by_key(|re_run| (re_run.attestation.comparison, !re_run.own));
        attestations.truncate(MAX_RE_RUNS);
        Details {
            id: id.to_string(),
            author: found.author.to_string(),
            own: found.author == self.own,
            made_at: found.made_at,
            status: self.status_by(id, trust),
            discovery: found.discovery.clone(),
            attestations,
            re_runs,
            lineage: lineage::of(self, id, trust),
        }
    }
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
pub(crate) mod tests;
