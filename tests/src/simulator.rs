//! Simulated swarms under virtual time: 1 to 1,000 nodes with the real code that decides.
//!
//! ```text
//!  queue ──▶ run ended ──▶ Research::handle ──▶ orders ──▶ the surface gives value and seconds ──▶ queue
//!    │                         └─▶ concluded ──▶ sign ─verify─▶ link: latency, loss, partition ──▶ queue
//!    └─────▶ heard ──▶ Discoveries::hear ──▶ what to try next ──▶ Research::handle
//! ```
//!
//! Real are the research core, search, verdict and discoveries, and the signed records. Simulated is the
//! trainer: the surface stands for it, or another [ground](crate::ground) in [`simulate_on`]. Simulated is
//! the wire: a message is heard after a latency, or at the next reconciliation if gossip loses it. There are
//! no files and no processes. The same seed gives the same trajectory. Not here: which conditions are
//! compared ([`crate::simulator::conditions`]).

pub mod conditions;
mod liar;
mod link;
pub mod measures;
mod node;
mod world;

pub use liar::Lie;
pub use link::{Link, Partition};
pub use measures::{Adoption, Story};
pub use world::{simulate, simulate_on};

/// One simulated swarm. Runs train for 5 s, like the real runs that the surface is fitted to.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Honest nodes, one slot each.
    pub nodes: usize,
    /// Nodes, beside the honest ones, that publish lies and make no runs.
    pub liars: usize,
    /// What the liars lie about.
    pub lies: Vec<Lie>,
    /// Whether nodes hear each other at all.
    pub talking: bool,
    /// Virtual hours to simulate.
    pub hours: f64,
    /// Experiments after which a node rests, its baseline not counted; none for as many as the hours allow.
    pub experiments: Option<usize>,
    /// Speeds of the nodes' cores relative to the surface's; nodes take them in turn.
    pub speeds: Vec<f64>,
    /// How messages travel.
    pub link: Link,
    /// Whether all nodes search with the same seed, as real nodes do when none is given.
    pub one_search_seed: bool,
    /// The seed of everything that is drawn.
    pub seed: u64,
}

impl Spec {
    /// Returns a swarm of equal, honest nodes on a good network.
    pub fn new(nodes: usize, hours: f64, seed: u64) -> Self {
        Self {
            nodes,
            liars: 0,
            lies: Lie::ALL.to_vec(),
            talking: true,
            hours,
            experiments: None,
            speeds: vec![1.0],
            link: Link::default(),
            one_search_seed: false,
            seed,
        }
    }
}
