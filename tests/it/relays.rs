//! Relay reservations: nodes that nobody can dial know only a relay, and are reached over it.

#![allow(clippy::print_stdout)] // figures, for `--nocapture`

use std::time::Duration;

use autoswarm_node::swarm::network::{Switches, archive::Archive};

use crate::nodes::{Node, Start, converge, keys, objective, record, until};

/// A node on loopback that everybody can dial and that serves as a relay.
fn relay(n: u32) -> Start {
    let start = Start::on_loopback(n, Vec::new());
    Start { switches: Switches { relay: true, ..start.switches }, ..start }
}

/// Starts a node that listens nowhere and knows only these relays.
async fn hidden(n: u32, relays: &[&Node]) -> Node {
    let peers = relays.iter().map(|relay| relay.address.clone()).collect();
    let start = Start { listen: Vec::new(), ..Start::on_loopback(n, peers) };
    start.start(Archive::in_memory(objective())).await
}

async fn is_reached_over(node: &Node, relay: &Node) -> Result<(), Vec<String>> {
    let relays = node.view().await.relays;
    if relays.contains(&relay.peer.to_string()) { Ok(()) } else { Err(relays) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_nobody_can_dial_meet_over_a_relay() {
    let relay = relay(1).start(Archive::in_memory(objective())).await;
    let one = hidden(2, &[&relay]).await;
    let took = until("the first has a slot", || is_reached_over(&one, &relay)).await;
    println!("a slot at the relay after {took:.1?}");
    let ticket = one.view().await.ticket;
    let over = format!("{}/p2p-circuit/p2p/{}", relay.address, one.peer);
    assert!(ticket.ends_with(&format!("@{over}")), "{ticket} has no {over}");

    // The second one knows only the relayed address in the first one's ticket.
    let start =
        Start { listen: Vec::new(), ..Start::on_loopback(3, vec![over.parse().expect("an address")]) };
    let other = start.start(Archive::in_memory(objective())).await;
    let took = until("they are connected over the relay", async || {
        let seen = (one.sees(other.peer).await, other.sees(one.peer).await);
        let is_over = |peer: &Option<autoswarm_node::swarm::network::PeerView>| {
            peer.as_ref().is_some_and(|peer| peer.address.contains("/p2p-circuit"))
        };
        if is_over(&seen.0) && is_over(&seen.1) { Ok(()) } else { Err(seen) }
    })
    .await;
    println!("connected over it after {took:.1?}");
    one.publish(record(&objective(), &keys(2), 1)).await;
    other.publish(record(&objective(), &keys(3), 1)).await;
    let took = converge(&[relay, one, other], 2).await;
    println!("both records at all three after {took:.1?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hidden_joiners_of_one_relay_find_each_other() {
    let relay = relay(1).start(Archive::in_memory(objective())).await;
    let hidden = [hidden(2, &[&relay]).await, hidden(3, &[&relay]).await];
    let took = until("they have met", async || {
        let seen = (hidden[0].sees(hidden[1].peer).await, hidden[1].sees(hidden[0].peer).await);
        if seen.0.is_some() && seen.1.is_some() { Ok(()) } else { Err(seen) }
    })
    .await;
    println!("two who know the relay alone: connected after {took:.1?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_relay_takes_the_place_of_one_that_is_gone() {
    let mut relays = Vec::new();
    for n in 1..4 {
        relays.push(relay(n).start(Archive::in_memory(objective())).await);
    }
    let node = hidden(9, &relays.iter().collect::<Vec<_>>()).await;
    let slots = async || node.view().await.relays;
    until("two slots, not three", async || {
        let slots = slots().await;
        if slots.len() == 2 { Ok(()) } else { Err(slots) }
    })
    .await;
    let first = slots().await[0].clone();
    let place = relays.iter().position(|relay| relay.peer.to_string() == first).expect("one of them");
    let gone = relays.remove(place);
    gone.close().await;
    let took = until("the third relay has it", async || {
        let slots = slots().await;
        let is_other = slots.len() == 2 && !slots.contains(&first);
        if is_other { Ok(()) } else { Err(slots) }
    })
    .await;
    println!("a relay is gone, another has the slot after {took:.1?}");
    assert!(took < Duration::from_mins(1), "{took:?}");
    until("the ticket names it", async || {
        let ticket = node.view().await.ticket;
        if !ticket.contains(&first) && ticket.matches("p2p-circuit").count() == 2 {
            Ok(())
        } else {
            Err(ticket)
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_reached_as_far_as_the_relay_asks_for_no_slot() {
    let relay = relay(1).start(Archive::in_memory(objective())).await;
    let open =
        Start::on_loopback(2, vec![relay.address.clone()]).start(Archive::in_memory(objective())).await;
    let hidden = hidden(3, &[&relay]).await;
    until("the other one has a slot", || is_reached_over(&hidden, &relay)).await;
    assert!(open.sees(relay.peer).await.is_some(), "connected for as long");
    assert_eq!(open.view().await.relays, Vec::<String>::new());
}
