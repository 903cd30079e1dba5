//! `node join` and `node seed`: research together with others.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use autoswarm_protocol::{
    SwarmConfig,
    swarm_config::{CorpusSource, Objective},
};

use super::common::runtime;
use crate::{
    base::{files, hint::hinted, words},
    cli::{
        args::{JoinArgs, NetworkArgs, SeedArgs, SessionArgs},
        settings::{self, SessionSpec, Settings},
    },
    home::{Home, identity},
    session::{self, JoinOptions},
    swarm::network::{self, NetworkConfig, Switches, Ticket},
    ui::view::View,
};

/// The file of a home with the swarm config of the objective that it joined last.
pub const SWARM_CONFIG: &str = "swarm-config.toml";

/// The file of a home that remembers peers across sessions.
const PEERS: &str = "peers.json";

/// Mean time between two reconciliations.
const SYNC_EVERY: Duration = Duration::from_secs(45);

/// Addresses on which a node listens unless it is told otherwise: every interface, free ports.
const LISTEN: [&str; 2] = ["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"];

/// What leaves the machine; printed at a home's first join.
const FIRST_JOIN: [&str; 4] = [
    "what leaves this machine: its network address and this node's public key",
    "its hardware: device, threads, slots, training speed",
    "its hypotheses, configs and results, signed; `--show-sent` prints every record",
    "never files, text, program.md or names",
];

/// Runs `node join`.
pub fn join(home: &Path, args: &JoinArgs) -> anyhow::Result<()> {
    take_part(home, &args.target, &args.network, &args.session, args.observe)
}

/// Runs `node seed`.
pub fn seed(home: &Path, args: &SeedArgs) -> anyhow::Result<()> {
    if args.swarm_config.contains('@') {
        return Err(hinted(
            "a ticket cannot be seeded: it is seeded already",
            "`node join TICKET` takes part",
        ));
    }
    take_part(home, &args.swarm_config, &args.network, &args.session, args.serve_only)
}

/// Takes part in a swarm by a ticket or a swarm config; with `observe` it trains nothing.
fn take_part(
    home: &Path,
    target: &str,
    network: &NetworkArgs,
    session: &SessionArgs,
    observe: bool,
) -> anyhow::Result<()> {
    // Makes and checks the home, then releases its lock, because the session takes the lock again.
    drop(Home::open(home)?);
    let is_first = !home.join("identity").exists();
    let keys = identity::load(home)?;
    let listen = if network.listen.is_empty() {
        // A private swarm has no quic.
        let addresses = if network.private.is_some() { &LISTEN[..1] } else { &LISTEN[..] };
        addresses.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>()?
    } else {
        network.listen.clone()
    };
    let mut config = NetworkConfig {
        keys,
        listen,
        external: network.external.clone(),
        peers: network.peer.clone(),
        switches: Switches {
            mdns: !network.no_mdns,
            relay: observe,
            upnp: network.upnp,
            ..Switches::default()
        },
        known_peers: Some(home.join(PEERS)),
        swarm_config: String::new(),
        sync_every: SYNC_EVERY,
        private: network.private,
    };
    let mut greeting = if is_first { FIRST_JOIN.map(str::to_owned).to_vec() } else { Vec::new() };
    let runtime = runtime()?;
    let file = home.join(SWARM_CONFIG);
    config.swarm_config = if target.contains('@') {
        let ticket: Ticket = target.parse().map_err(anyhow::Error::msg)?;
        greeting.extend(ticket.limits().map(str::to_owned));
        config.peers.extend(ticket.addresses.iter().cloned());
        // Where the home holds this objective's config already, nobody has to be asked for it.
        match held(&file).filter(|(known, _)| known.objective.id() == ticket.objective) {
            Some((_, text)) => text,
            None => runtime.block_on(network::fetch_swarm_config(&config, &ticket))?.1,
        }
    } else {
        settings::swarm_config_text(target)?
    };
    let shared = SwarmConfig::parse(&config.swarm_config)
        .with_context(|| format!("the swarm config `{target}` is wrong"))?;
    let mut session = session.clone();
    if !observe {
        session.data = session.data.or_else(|| known_place(home, &shared.objective));
        check_text(&shared.objective, session.data.as_deref())?;
    }
    files::replace(&file, config.swarm_config.as_bytes())
        .with_context(|| format!("cannot keep the swarm config in `{}`", file.display()))?;
    let settings = Settings::for_session(Some(path_text(&file)?), &session)?;
    let taking = JoinOptions { network: config, observe, show_sent: network.show_sent, greeting };
    let view = View::for_stdout(session.output.json);
    runtime.block_on(session::join(&settings, home, view, taking))
}

/// Returns where a shared objective's pinned text lay on this machine when this home last took part in it.
fn known_place(home: &Path, shared: &Objective) -> Option<PathBuf> {
    if shared.corpus == CorpusSource::Crates || shared.corpus_hash.is_none() {
        return None;
    }
    let file = home.join(SWARM_CONFIG);
    let (before, _) = held(&file)?;
    let last = SessionSpec::default().or_last(home);
    let of_that_file = fs::canonicalize(last.swarm_config?).ok()? == fs::canonicalize(&file).ok()?;
    last.data.filter(|_| of_that_file && before.objective.id() == shared.id())
}

/// Checks that the text of a shared objective can be read here: at its own path, or at `data` if its bytes
/// are pinned.
fn check_text(shared: &Objective, data: Option<&Path>) -> anyhow::Result<()> {
    match (&shared.corpus, shared.corpus_hash, data) {
        (CorpusSource::Crates, _, Some(_)) => bail!(
            "`--data` makes an objective of one's own; this shared one is about the pinned list of crates: \
             leave it out, or work alone with `node solo`"
        ),
        (CorpusSource::Path(path), None, Some(_)) => bail!(
            "this shared objective is about the text at `{}` and does not say which bytes that is, so \
             `--data` could name another: whoever seeds it can pin them with `blake3 = \"…\"` in its \
             `corpus`",
            words::clean(path)
        ),
        (CorpusSource::Path(path), Some(_), None) if !Path::new(path).exists() => bail!(
            "this shared objective is about a text at `{}`, which is not there: `--data PATH` says where \
             it lies here",
            words::clean(path)
        ),
        _ => Ok(()),
    }
}

fn path_text(path: &Path) -> anyhow::Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("the home `{}` is not UTF-8", path.display()))
}

/// Reads the swarm config in a home's file, with its text; none where there is no valid one.
pub fn held(file: &Path) -> Option<(SwarmConfig, String)> {
    let text = fs::read_to_string(file).ok()?;
    Some((SwarmConfig::parse(&text).ok()?, text))
}
