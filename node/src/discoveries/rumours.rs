//! What peers say of their own experiments: digests, summed up by change, and claims, as long as they last.
//!
//! An author's reports of one change count as one, and never as surer than [`SUREST`] of them: nobody is louder for
//! repeating himself. What the search makes of it is in [`crate::research::hearsay`].

use std::collections::{BTreeMap, BTreeSet};

use autoswarm_protocol::{
    Patch,
    id::{ArenaId, ConfigHash},
    record::{Author, Claim, Digest, Ending},
};

use crate::research::hearsay::{Hearsay, MOST_RUMOURS, Rumour};

/// Changes that are remembered; one-knob steps are some hundreds. The one with the fewest authors is forgotten first.
const MOST_CHANGES: usize = 8192;
/// Authors of one change whose reports are summed up; later ones add little.
const MOST_AUTHORS: usize = 64;
/// Claims that are remembered: more than slots of a swarm of a thousand nodes.
const MOST_CLAIMS: usize = 4096;
/// Reports of an author that one change's sum may weigh as.
const SUREST: f64 = 4.0;

/// One author's reports of one change in one arena.
#[derive(Debug, Clone, Copy)]
struct Reports {
    weighted: f64,
    weight: f64,
    /// The weight of the surest single report.
    surest: f64,
}

/// The changes of one arena.
type Changes = BTreeMap<String, (Patch, BTreeMap<Author, Reports>)>;

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Rumours {
    arenas: BTreeMap<ArenaId, Changes>,
    changes: usize,
    /// Configs with the second at which the claim ends.
    claims: BTreeMap<ConfigHash, u64>,
    /// Configs that this node has told of.
    told: BTreeSet<(ArenaId, ConfigHash)>,
    is_news: bool,
}

impl Rumours {
    /// Takes a digest.
    pub(super) fn hear(&mut self, author: Author, own: bool, digest: &Digest) {
        if own {
            self.told.extend(digest.lines.iter().map(|line| (digest.arena, line.config)));
            return;
        }
        for line in &digest.lines {
            // A crash says more about a machine than about a change.
            let (Some(found), true) = (&line.found, line.ending != Ending::Crashed) else { continue };
            let changes = self.arenas.entry(digest.arena).or_default();
            let key = line.patch.to_string();
            if !changes.contains_key(&key) {
                if self.changes >= MOST_CHANGES {
                    continue;
                }
                self.changes += 1;
            }
            let (_, authors) = changes.entry(key).or_insert_with(|| (line.patch.clone(), BTreeMap::new()));
            if authors.len() >= MOST_AUTHORS && !authors.contains_key(&author) {
                continue;
            }
            let weight = found.standard_error.max(1e-4).powi(-2);
            let reports =
                authors.entry(author).or_insert(Reports { weighted: 0.0, weight: 0.0, surest: 0.0 });
            reports.weighted += weight * found.delta;
            reports.weight += weight;
            reports.surest = reports.surest.max(weight);
            self.is_news = true;
        }
    }

    /// Takes a claim at `now`, seconds since 1970.
    pub(super) fn claimed(&mut self, claim: &Claim, now: u64) {
        self.claims.retain(|_, until| *until > now);
        if self.claims.len() < MOST_CLAIMS {
            let until = now + u64::from(claim.seconds);
            let ends = self.claims.entry(claim.config).or_insert(until);
            *ends = until.max(*ends);
            self.is_news = true;
        }
    }

    /// Returns whether anything came since the last [`Rumours::take`].
    pub(super) fn is_news(&self) -> bool {
        self.is_news
    }

    /// Returns whether this node told the swarm of a config in an arena.
    pub(super) fn was_told(&self, arena: ArenaId, config: ConfigHash) -> bool {
        self.told.contains(&(arena, config))
    }

    /// Returns the changes that say the most, without what distrusted authors say.
    pub(super) fn take(&mut self, arena: ArenaId, now: u64, distrusted: impl Fn(Author) -> bool) -> Hearsay {
        self.is_news = false;
        self.claims.retain(|_, until| *until > now);
        let all =
            self.arenas.iter().flat_map(|(of, changes)| changes.values().map(move |change| (*of, change)));
        let mut rumours: Vec<Rumour> = all
            .filter_map(|(of, (patch, authors))| {
                let heard = authors.iter().filter(|(author, _)| !distrusted(**author));
                let (mut weighted, mut weight, mut count) = (0.0, 0.0, 0);
                for (_, reports) in heard {
                    let counted = reports.weight.min(SUREST * reports.surest);
                    weighted += counted * reports.weighted / reports.weight;
                    weight += counted;
                    count += 1;
                }
                (count > 0).then(|| Rumour {
                    patch: patch.clone(),
                    delta: weighted / weight,
                    standard_error: weight.sqrt().recip(),
                    authors: count,
                    same_arena: of == arena,
                })
            })
            .collect();
        let telling = |rumour: &Rumour| {
            let far = rumour.delta.abs() / rumour.standard_error;
            if rumour.same_arena { far } else { 0.5 * far }
        };
        rumours.sort_by(|a, b| telling(b).total_cmp(&telling(a)));
        rumours.truncate(MOST_RUMOURS);
        Hearsay { rumours, claimed: self.claims.keys().copied().collect() }
    }
}
