//! `node discoveries`: what this node has received, from the running node or from its records.

use std::{fmt::Write, io, path::Path};

use anyhow::{anyhow, bail};
use autoswarm_protocol::record::Author;

use super::{hinted, join, now, open_existing, print, stdout_width};
use crate::{
    cli::{DiscoveriesAction, DiscoveriesArgs, DiscoveryArgs, JsonFlag},
    control::{self, ControlError, Reply, Request},
    discoveries::{Details, Discoveries, Row},
    event_loop::unix_now,
    identity,
    network::archive::Archive,
    session,
    view::{json::write_line, words},
};

/// Does what was asked with the discoveries.
pub fn run(home: &Path, args: DiscoveriesArgs) -> anyhow::Result<()> {
    match args.action {
        None => list(home, args.output),
        Some(DiscoveriesAction::List(output)) => list(home, output),
        Some(DiscoveriesAction::Show(args)) => show(home, &args),
        Some(DiscoveriesAction::Export(args)) => export(home, &args),
    }
}

fn list(home: &Path, output: JsonFlag) -> anyhow::Result<()> {
    let rows = match control::ask(home, &Request::Discoveries, &mut |_| {}) {
        Ok(Reply::Discoveries { rows }) => rows,
        Ok(other) => bail!("the running node answered with something else: {other:?}"),
        Err(ControlError::NotRunning) => at_rest(home)?.rows(),
        Err(error) => return Err(error.into()),
    };
    if output.json {
        return rows.iter().try_for_each(|row| Ok(write_line(&mut io::stdout(), row)?));
    }
    print(&table(&rows, now(), stdout_width()))
}

fn show(home: &Path, args: &DiscoveryArgs) -> anyhow::Result<()> {
    let details = one(home, &args.id)?;
    if args.output.json {
        return Ok(write_line(&mut io::stdout(), &details)?);
    }
    print(&text(&details))
}

fn export(home: &Path, args: &DiscoveryArgs) -> anyhow::Result<()> {
    let details = one(home, &args.id)?;
    if args.output.json {
        return Ok(write_line(&mut io::stdout(), &details.discovery.config)?);
    }
    print(&details.discovery.config.to_toml())
}

fn one(home: &Path, id: &str) -> anyhow::Result<Details> {
    match control::ask(home, &Request::Discovery { id: id.to_owned() }, &mut |_| {}) {
        Ok(Reply::Discovery { details }) => Ok(*details),
        Ok(other) => bail!("the running node answered with something else: {other:?}"),
        Err(ControlError::NotRunning) => at_rest(home)?.find(id).map_err(|reason| anyhow!(reason)),
        Err(error) => Err(error.into()),
    }
}

/// Reads the records of a home where no node runs.
fn at_rest(home: &Path) -> anyhow::Result<Discoveries> {
    let held_home = open_existing(home)?;
    let Some((swarm_config, _)) = join::held(&home.join(join::SWARM_CONFIG)) else {
        return Err(hinted("this home never joined a swarm", "`node join` does"));
    };
    let own = Author::of(&identity::load(home)?).ok_or_else(|| anyhow!("the identity is no ed25519 key"))?;
    let (archive, _) = Archive::open(&home.join(session::RECORDS), swarm_config.objective, unix_now())?;
    let mut discoveries = Discoveries::new(own);
    for held in archive.iter() {
        discoveries.hear(&held.record, None, unix_now());
    }
    for found in crate::journal::Journal::open(held_home.path())?.experiments {
        discoveries.observe(&found.experiment);
    }
    Ok(discoveries)
}

/// Prints rows as a table.
fn table(rows: &[Row], now: u64, width: usize) -> String {
    if rows.is_empty() {
        return "no discoveries yet\n".to_owned();
    }
    let mut cells =
        vec![["id", "by", "change", "Δ ± se, bpb", "status", "re-runs", "age"].map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        let by = if row.own { "me".to_owned() } else { row.author.clone() };
        let tried = if row.tried { ", tried here" } else { "" };
        [
            row.id[..8].to_owned(),
            by,
            words::clean(&row.patch.to_string()),
            words::short_estimate(&row.estimate),
            format!("{}{tried}", row.status.name()),
            row.attestations.to_string(),
            words::duration(now.saturating_sub(row.made_at) as f64),
        ]
    }));
    words::columns(&cells, 2, width)
}

/// Writing to a string cannot fail.
fn text(details: &Details) -> String {
    let discovery = &details.discovery;
    let mut out = String::new();
    let mut line = |label: &str, text: &str| {
        let _ = writeln!(out, "{label:<11}{text}");
    };
    line("discovery", &details.id);
    line("by", &details.author);
    line("made", &words::timestamp(details.made_at));
    line("change", &words::clean(&discovery.patch.to_string()));
    line("because", &words::clean(&discovery.because));
    line("claim", &format!("{}, {:.4} bpb", discovery.estimate, discovery.level.get()));
    if let Some(audit) = &discovery.audit {
        line("audit", &audit.to_string());
    }
    line("status", details.status.name());
    let hardware = &discovery.hardware;
    let device = words::clean(&hardware.device);
    let speed = words::count(hardware.tokens_per_second);
    line("on", &format!("{device}, {} × {} threads, {speed} tokens/s", hardware.slots, hardware.threads));
    line("budget", &words::budget(discovery.budget, discovery.seconds));
    line("tokens", &format!("{} with the change, {} without", discovery.tokens.0, discovery.tokens.1));
    for id in &discovery.inspirations {
        line("inspired", &id.to_string());
    }
    for (author, attestation) in &details.attestations {
        let found = match &attestation.found {
            Ok(estimate) => estimate.to_string(),
            Err(class) => class.to_string(),
        };
        let kind = format!("{:?}", attestation.comparison).to_lowercase();
        line("re-run", &format!("by {author}, {kind}: {found}"));
    }
    out.push_str("\nchanged from the defaults:\n");
    for text in discovery.config.to_toml().lines().take_while(|line| !line.is_empty()) {
        let _ = writeln!(out, "  {text}");
    }
    out
}
