//! Swarms under virtual time: the real research core, search, verdict and discoveries of 1 to 1,000 nodes, on the surface.
//!
//! ```text
//!  queue ──▶ run ended ──▶ Research::handle ──▶ orders ──▶ the surface says value and seconds ──▶ queue
//!    │                         └─▶ concluded ──▶ sign ─verify─▶ link: latency, loss, partition ──▶ queue
//!    └─────▶ heard ──▶ Discoveries::hear ──▶ what to try next ──▶ Research::handle
//! ```
//!
//! What is real: everything that decides, and the signed records. What is not: the trainer (the surface stands for it; [`simulate_on`] takes another [ground](crate::ground)), the
//! wire (a message is heard after a latency, or at the next reconciliation if it is lost), files and processes. The same
//! seed gives the same trajectory. Not here: which conditions are compared ([`crate::simulator::conditions`]).

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

/// One simulated swarm. Runs train for 5 s, as the runs that the surface is fitted to did.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Honest nodes, one slot each.
    pub nodes: usize,
    /// Nodes that publish lies and make no runs, beside the honest ones.
    pub liars: usize,
    /// What they lie about.
    pub lies: Vec<Lie>,
    /// Whether what is published is heard by anybody.
    pub talking: bool,
    /// Virtual hours.
    pub hours: f64,
    /// Experiments after which a node rests, its baseline apart; none for as many as the hours allow.
    pub experiments: Option<usize>,
    /// Speed of the nodes' cores relative to the surface's, taken in turn.
    pub speeds: Vec<f64>,
    /// Messages on their way.
    pub link: Link,
    /// Whether every node searches with the same seed, as nodes do that are not told one.
    pub one_search_seed: bool,
    /// All that is drawn follows from it.
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
