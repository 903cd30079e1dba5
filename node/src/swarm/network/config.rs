//! The configuration of a node's network, and why setting it up may fail.

use std::{path::PathBuf, time::Duration};

use libp2p::{Multiaddr, identity::Keypair};

use super::private_key::PrivateKey;

/// Why a network, or the swarm config of a ticket, could not be had.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A part of libp2p could not be set up.
    #[error("cannot set up the network: {0}")]
    Setup(String),
    /// An address is taken or does not exist here.
    #[error("cannot listen on `{address}`: {reason}; choose another with `--listen`")]
    Listen {
        /// The address to listen on.
        address: String,
        /// What the system said, in one line.
        reason: String,
    },
    /// No peer of the ticket sent a swarm config with the ticket's objective.
    #[error("no peer of the ticket sent the swarm config: {0}")]
    NoSwarmConfig(String),
}

/// How a node takes part in the network.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// The node's identity, which also signs its records.
    pub keys: Keypair,
    /// Addresses to listen on.
    pub listen: Vec<Multiaddr>,
    /// Addresses at which others reach this node, as far as the operator knows better.
    pub external: Vec<Multiaddr>,
    /// Addresses of the peers that the operator named; they are dialled first.
    pub peers: Vec<Multiaddr>,
    /// Which optional parts are switched on.
    pub switches: Switches,
    /// The file that remembers peers across runs; without one they are forgotten.
    pub known_peers: Option<PathBuf>,
    /// The swarm config as text, for joiners who ask.
    pub swarm_config: String,
    /// Mean time between two reconciliations, while they find something.
    pub sync_every: Duration,
    /// The key of a private swarm; none for an open one.
    pub private: Option<PrivateKey>,
}

/// Which optional parts of the network are switched on.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools)] // each is a switch by itself
pub struct Switches {
    /// Finds peers in the local network (mDNS).
    pub mdns: bool,
    /// Relays for peers that others cannot dial.
    pub relay: bool,
    /// Finds out from peers, and for them, which addresses can be reached from outside (AutoNAT).
    pub autonat: bool,
    /// Asks the router to let peers in (UPnP).
    pub upnp: bool,
    /// Exempts this machine's own addresses from limits per address: many nodes on it are a test, no attack.
    pub loopback_exempt: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self { mdns: true, relay: false, autonat: true, upnp: false, loopback_exempt: true }
    }
}
