//! How a node takes part in the network, and why it may not come about.

use std::{path::PathBuf, time::Duration};

use libp2p::{Multiaddr, identity::Keypair};

use super::private_key::PrivateKey;

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A part refuses its parameters.
    #[error("cannot set up the network: {0}")]
    Setup(String),
    /// An address is taken or does not exist here.
    #[error("cannot listen on `{address}`: {reason}; choose another with `--listen`")]
    Listen {
        /// Which.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// No peer of the ticket answered with the objective.
    #[error("no peer of the ticket sent the swarm config: {0}")]
    NoSwarmConfig(String),
}

/// How a node takes part.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// The node's identity, which also signs its records.
    pub keys: Keypair,
    /// Where it listens.
    pub listen: Vec<Multiaddr>,
    /// Where others reach it, as far as the operator knows that better.
    pub external: Vec<Multiaddr>,
    /// Whom it asks first.
    pub peers: Vec<Multiaddr>,
    /// What is switched on.
    pub switches: Switches,
    /// The file that remembers peers across runs.
    pub known_peers: Option<PathBuf>,
    /// The swarm config as text, for joiners who ask.
    pub swarm_config: String,
    /// Mean time between two reconciliations with somebody.
    pub sync_every: Duration,
    /// The key of a private swarm.
    pub private: Option<PrivateKey>,
}

/// What of it is switched on.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools)] // each is a switch by itself
pub struct Switches {
    /// Finds peers in the local network.
    pub mdns: bool,
    /// Relays for peers behind firewalls.
    pub relay: bool,
    /// Finds out from peers, and for them, which addresses can be reached from outside.
    pub autonat: bool,
    /// Asks the router to let peers in.
    pub upnp: bool,
    /// Counts no connections within this machine: many nodes on one machine are a test, not an attack.
    pub loopback_exempt: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self { mdns: true, relay: false, autonat: true, upnp: false, loopback_exempt: true }
    }
}
