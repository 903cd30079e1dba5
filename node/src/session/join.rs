//! A session in a swarm: the same research with a network beside it, or an observer that trains nothing.
//!
//! Here it only begins and ends. What becomes of records and requests while it runs is in `swarm` and
//! `observer`.

use std::path::Path;

use anyhow::Context;
use autoswarm_protocol::{
    Budget,
    id::{ArenaId, Author},
    record::Hardware,
};
use libp2p::identity::Keypair;

use super::Session;
use crate::{
    base::clock::unix_now,
    cli::settings::Settings,
    events::NodeEvent,
    objectives::train::{plan::RunPlan, probe::Probe},
    session::swarm::SwarmSession,
    swarm::{
        discoveries::{Discoveries, LocalContext},
        git::{self, GitMirror},
        network::{Network, NetworkConfig, Ticket, archive::Archive},
    },
    ui::view::View,
};

/// Name of the folder in a home that holds the swarm's records.
pub const RECORDS: &str = "records";

/// How `join` and `seed` take part.
#[derive(Debug)]
pub struct JoinOptions {
    /// The node's keys, its addresses and the network's switches.
    pub network: NetworkConfig,
    /// Whether to serve records only and train nothing.
    pub observe: bool,
    /// Whether to show every record that this node sends.
    pub show_sent: bool,
    /// Lines to print before anything else.
    pub greeting: Vec<String>,
}

/// Runs `node join` and `node seed`.
pub async fn join(settings: &Settings, home: &Path, view: View, taking: JoinOptions) -> anyhow::Result<()> {
    let mut session = Session::open(settings, home, view)?;
    settings.text.remember(home)?;
    let result = session.take_part(taking).await;
    // After an error as well: closing waits until what was published is on the disk.
    if let Some(swarm) = session.swarm.take() {
        swarm.network.close().await;
    }
    session.view.finish();
    result
}

impl Session<'_> {
    async fn take_part(&mut self, taking: JoinOptions) -> anyhow::Result<()> {
        let JoinOptions { network, observe, show_sent, greeting } = taking;
        for line in greeting {
            self.note(&line)?;
        }
        let keys: Keypair = network.keys.clone();
        let own = Author::of(&keys).context("the identity is no ed25519 key")?;
        let objective = self.settings.objective.clone();
        let folder = self.memory.home().path().join(RECORDS);
        let (mut archive, mended) = Archive::open(&folder, objective.clone(), unix_now())?;
        if let Some(mended) = mended {
            self.note(&mended)?;
        }
        let home = self.memory.home().path().to_owned();
        // An empty archive is new or was lost; the journal has its records in git as well.
        if archive.is_empty() {
            let restored = git::restore(&home.join("journal"), own, &mut archive, unix_now())?;
            if restored > 0 {
                self.note(&format!("{restored} records came back from the journal"))?;
            }
        }
        let mut discoveries = Discoveries::new(own);
        for held in archive.iter() {
            discoveries.add(&held.record, None, unix_now());
        }
        let network = Network::start(network, archive)?;
        let git = GitMirror::start(&home, own, objective.clone(), network.records())?;
        let mut swarm =
            SwarmSession::new(network, discoveries, keys, objective, show_sent, self.settings.seed);
        swarm.git = Some(git);
        self.swarm = Some(swarm);
        self.say_ticket().await?;
        if observe { self.observe().await } else { self.run().await }
    }

    /// Prints this node's id and the ticket that others join with, once the network listens.
    async fn say_ticket(&mut self) -> anyhow::Result<()> {
        let Some(swarm) = &mut self.swarm else { return Ok(()) };
        let view = swarm.network.listening().await;
        self.tell(&NodeEvent::Swarm { text: format!("this node is {}", view.peer) })?;
        // An event of its own, because other texts are cut at some length and a ticket is there to be copied.
        let limits = view.ticket.parse().ok().and_then(|ticket: Ticket| ticket.limits());
        self.tell(&NodeEvent::Ticket { ticket: view.ticket })?;
        limits.map_or(Ok(()), |limits| self.note(limits))
    }

    /// Sets the arena, budget and hardware that the swarm's part of the session works with from now on.
    pub(super) fn settle(&mut self, plan: &RunPlan, budget: Budget, arena: ArenaId, probe: &Probe) {
        let Some(swarm) = &mut self.swarm else { return };
        let hardware = Hardware {
            device: probe.slot.clone(),
            threads: plan.slots.first().map_or(1, |slot| slot.threads),
            slots: probe.slots,
            tokens_per_second: probe.tokens_per_second(),
        };
        let (context, budget_seconds) = (plan.context as usize, plan.budget_seconds);
        swarm.settle(LocalContext { arena, context, budget, budget_seconds, hardware });
    }
}
