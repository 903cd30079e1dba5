//! The swarm as a person sees it: its page in `status`, and its lines in the live view. Pure.
//!
//! Lists of discoveries are in `discoveries`.

use std::fmt::Write;

use super::{discoveries, look::Look};
use crate::{
    base::words,
    events::{Snapshot, sentences},
    swarm::{
        discoveries::{Count, DiscoveryRow, News, PeerFacts, SwarmView, Trying},
        network::{NetworkView, PeerView},
    },
};

/// Peers that the live view names; `status` names all.
const PEERS_SHOWN: usize = 3;

/// Returns the page about the swarm. `arena` is the short id of this node's arena; an observer has none.
pub fn page(network: &NetworkView, swarm: &SwarmView, arena: Option<&str>) -> String {
    let mut out = format!(
        "swarm    {} connected, {} held, fingerprint {}\n",
        words::plural(network.peers.len() as u32, "peer"),
        words::plural(network.records as u32, "record"),
        words::clean(&network.fingerprint).chars().take(8).collect::<String>()
    );
    let cells: Vec<[String; 5]> = network.peers.iter().map(|peer| row_of(peer, swarm)).collect();
    for text in words::columns(&cells, 4, usize::MAX).lines() {
        let _ = writeln!(out, "  {text}"); // writing to a string cannot fail
    }
    if let Some(trouble) = &network.trouble {
        let _ = writeln!(out, "  {}", words::clean(trouble));
    }
    let _ = writeln!(out, "arrived  {}", arrived(swarm));
    for (index, best) in swarm.best.iter().enumerate() {
        let label = if index == 0 { "best" } else { "" };
        let here = if arena == Some(best.arena.as_str()) { ", this one" } else { "" };
        let class = discoveries::class(best.budget);
        let _ = writeln!(out, "{label:<9}{}  (arena {}{here}, class {class})", claim(best), best.arena);
    }
    for trying in &swarm.trying {
        let (label, text) = attempt(trying);
        let _ = writeln!(out, "{label:<9}{text}");
    }
    if !network.relays.is_empty() {
        let relays: Vec<String> = network.relays.iter().map(|relay| words::clean(relay)).collect();
        let _ = writeln!(out, "reached  over {}", relays.join(", "));
    }
    if !network.ticket.is_empty() {
        let _ = writeln!(out, "ticket   {}", network.ticket);
    }
    out
}

/// Returns the live view's lines about the swarm: at most `room`, and none wider than the terminal.
pub fn lines(snapshot: &Snapshot, look: Look, room: usize) -> Vec<String> {
    let (Some(network), Some(swarm)) = (&snapshot.network, &snapshot.swarm) else { return Vec::new() };
    let mut lines = vec![match (&network.trouble, network.peers.len()) {
        (Some(trouble), 0) => format!("swarm  {}", words::clean(trouble)),
        (_, peers) => format!("swarm  {}, heard {}", words::plural(peers as u32, "peer"), arrived(swarm)),
    }];
    for trying in &swarm.trying {
        let (label, text) = attempt(trying);
        lines.push(format!("{label:<7}{text}"));
    }
    for News { seconds_ago, row } in swarm.newest.iter().rev() {
        lines.push(format!("heard  {} ago  {}", words::duration(*seconds_ago as f64), claim(row)));
    }
    for peer in network.peers.iter().take(PEERS_SHOWN) {
        let [author, class, latency, ..] = row_of(peer, swarm);
        lines.push(format!("peer   {author}  {class}  {latency}").trim_end().to_owned());
    }
    if network.peers.len() > PEERS_SHOWN {
        lines.push(format!("       … and {} more", network.peers.len() - PEERS_SHOWN));
    }
    lines.truncate(room);
    lines.into_iter().map(|line| words::fit(&line, look.width)).collect()
}

/// Returns a peer's name, class, latency, version and address.
fn row_of(peer: &PeerView, swarm: &SwarmView) -> [String; 5] {
    let facts = swarm.peers.iter().find(|facts| facts.peer == peer.peer);
    let class =
        |facts: &PeerFacts| facts.budget.map(|budget| format!("class {}", discoveries::class(budget)));
    [
        facts.map_or_else(|| "?".to_owned(), |facts| words::clean(&facts.author)),
        facts.and_then(class).unwrap_or_else(|| "class ?".to_owned()),
        peer.latency_ms.map_or_else(|| "? ms".to_owned(), |ms| format!("{ms:.1} ms")),
        words::clean(&peer.agent),
        format!("{}  {}", words::clean(&peer.address), words::clean(&peer.peer)),
    ]
}

/// Returns what came from peers: `4 discoveries, 6 re-runs; in the last hour 1 discovery`.
fn arrived(swarm: &SwarmView) -> String {
    let arrived = &swarm.arrived;
    let kinds = [
        (arrived.discoveries, "discovery", "discoveries"),
        (arrived.attestations, "re-run", "re-runs"),
        (arrived.digests, "digest", "digests"),
        (arrived.claims, "claim", "claims"),
    ];
    let list = |of: fn(&Count) -> u32| {
        let some = kinds.iter().filter(|(count, ..)| of(count) > 0);
        let some = some
            .map(|(count, one, many)| format!("{} {}", of(count), if of(count) == 1 { one } else { many }));
        let text = some.collect::<Vec<_>>().join(", ");
        if text.is_empty() { "nothing".to_owned() } else { text }
    };
    match list(|count| count.session) {
        nothing if nothing == "nothing" => "nothing yet".to_owned(),
        session => format!("{session}; in the last hour {}", list(|count| count.hour)),
    }
}

/// Returns what a discovery claims: id, change, Δ ± se, status and author.
fn claim(row: &DiscoveryRow) -> String {
    let by = if row.own { "me" } else { &row.author };
    format!(
        "{}  {}  {}  {}, by {by}",
        short(&row.id),
        words::clean(&row.patch.to_string()),
        sentences::short_estimate(&row.estimate),
        row.status.name()
    )
}

/// Returns a label and a line for an experiment that tries or re-runs a peer's discovery.
fn attempt(trying: &Trying) -> (&'static str, String) {
    let Trying { number, id, author, patch, reproduction } = trying;
    let of = format!("#{number}: {} of {author}, {}", short(id), words::clean(&patch.to_string()));
    match reproduction {
        Some(comparison) => ("re-run", format!("{of} ({})", comparison.name())),
        None => ("trying", of),
    }
}

/// Returns the first eight digits of an id.
fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::{
        swarm::discoveries::overview::tests::view,
        ui::view::{frame, lists, look::Colour},
    };

    fn network() -> NetworkView {
        let peer = |peer: &str, latency_ms| PeerView {
            peer: peer.to_owned(),
            address: "/ip4/192.168.1.7/tcp/40123".to_owned(),
            latency_ms,
            agent: "autoswarm/0.1.0\u{1b}[2J".to_owned(),
            standing: None,
            meshed: false,
        };
        NetworkView {
            peer: "12D3KooWSelf".to_owned(),
            ticket: "c9d7@/ip4/192.168.1.7/tcp/40123/p2p/12D3KooWSelf".to_owned(),
            peers: vec![
                peer("12D3KooWEyop", Some(1.24)),
                peer("12D3KooWLast", None),
                peer("12D3KooWNew", None),
            ],
            records: 11,
            fingerprint: "1a2b3c4d5e6f".to_owned(),
            ..NetworkView::default()
        }
    }

    fn joined() -> Snapshot {
        Snapshot { network: Some(network()), swarm: Some(view()), ..frame::tests::snapshot() }
    }

    #[test]
    fn a_status_in_a_swarm() {
        let mut joined = joined();
        joined.arena.clone_from(&view().best[0].arena);
        insta::assert_snapshot!(lists::status(&joined, 100));
    }

    #[test]
    fn an_observers_status() {
        insta::assert_snapshot!(page(&network(), &view(), None));
    }

    #[test]
    fn a_live_frame_in_a_swarm() {
        let look = Look { width: 90, height: 40, colour: Colour::Off };
        insta::assert_snapshot!(frame::with_swarm(&joined(), look).join("\n"));
    }

    #[test]
    fn relays_over_which_the_node_is_reached_are_named() {
        let behind = NetworkView { relays: vec!["12D3KooWRelay".to_owned()], ..network() };
        let page = page(&behind, &view(), None);
        assert!(page.contains("\nreached  over 12D3KooWRelay\nticket "), "{page}");
    }

    #[test]
    fn nobody_home_is_said_with_what_to_do() {
        let mut alone = joined();
        let trouble = "nobody of the ticket answers; is the seeder running?";
        alone.network = Some(NetworkView { peers: vec![], trouble: Some(trouble.to_owned()), ..network() });
        let look = Look { width: 90, height: 40, colour: Colour::Off };
        assert_eq!(lines(&alone, look, 1), [format!("swarm  {trouble}")]);
        let nothing = Snapshot { network: None, ..alone };
        assert_eq!(lines(&nothing, look, 9), [""; 0]);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_frame_higher() {
        for width in 1..130 {
            for height in [6, 10, 16, 24, 60] {
                let lines = frame::with_swarm(&joined(), Look { width, height, colour: Colour::Off });
                assert!(lines.len() < height.max(7), "{} lines in {height}", lines.len());
                for line in lines {
                    assert!(line.width() <= width, "{} > {width}: {line}", line.width());
                }
            }
        }
    }
}
