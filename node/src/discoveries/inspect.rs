//! Discoveries as people look at them: rows of a list, and everything about one.

use autoswarm_protocol::{
    Budget, Estimate, Patch,
    record::{Attestation, Discovery},
};
use serde::{Deserialize, Serialize};

use super::{Discoveries, Status};

/// A discovery in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// Its author's first digits.
    pub author: String,
    /// Whether this node found it.
    pub own: bool,
    /// The change.
    pub patch: Patch,
    /// The claim.
    pub estimate: Estimate,
    /// The budget it was measured with.
    pub budget: Budget,
    /// What re-runs say.
    pub status: Status,
    /// Re-runs of it, of any kind.
    pub attestations: u32,
    /// Whether this node has tried it.
    pub tried: bool,
    /// When it was made, by its author's clock.
    pub made_at: u64,
}

impl Discoveries {
    /// Returns all discoveries, newest last.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self
            .found
            .iter()
            .map(|(id, found)| Row {
                id: id.to_string(),
                author: found.author.fmt_short(),
                own: found.author == self.own,
                patch: found.discovery.patch.clone(),
                estimate: found.discovery.estimate,
                budget: found.discovery.budget,
                status: self.status(*id),
                attestations: self.attestations.get(id).map_or(0, Vec::len) as u32,
                tried: self.tried.contains(id),
                made_at: found.made_at,
            })
            .collect();
        rows.sort_by(|a, b| (a.made_at, &a.id).cmp(&(b.made_at, &b.id)));
        rows
    }

    /// Returns a discovery and its re-runs by the first digits of its id; else says why not.
    pub fn find(&self, id: &str) -> Result<Details, String> {
        let prefix = id.trim().to_ascii_lowercase();
        let mut matching = self.found.iter().filter(|(id, _)| id.to_string().starts_with(&prefix));
        match (prefix.len() >= 4, matching.next(), matching.next()) {
            (true, Some((id, found)), None) => Ok(Details {
                id: id.to_string(),
                author: found.author.to_string(),
                made_at: found.made_at,
                status: self.status(*id),
                discovery: found.discovery.clone(),
                attestations: self
                    .attestations
                    .get(id)
                    .into_iter()
                    .flatten()
                    .map(|it| (it.author.fmt_short(), it.attestation.clone()))
                    .collect(),
            }),
            (true, Some(_), Some(_)) => Err(format!("`{prefix}` begins more than one id; give more digits")),
            _ => Err(format!(
                "there is no discovery `{}`; `node discoveries` lists them",
                crate::text::one_line(id, 80)
            )),
        }
    }
}

/// Everything about one discovery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// Its id.
    pub id: String,
    /// Who signed it.
    pub author: String,
    /// When, by the author's clock.
    pub made_at: u64,
    /// What re-runs say.
    pub status: Status,
    /// What it says.
    pub discovery: Discovery,
    /// Who re-ran it, and what came of it.
    pub attestations: Vec<(String, Attestation)>,
}
