//! Compatibility: peers of another version, another swarm or another key, with whom nothing can be exchanged.
//!
//! That is no fault of theirs. A person gets one line that says what to do.

use autoswarm_protocol::{id::ObjectiveId, record::WIRE_MAJOR};
use libp2p::{PeerId, identify, swarm::DialError};

use super::exchange;
use crate::base::text;

/// Returns why a peer that introduced itself does not belong to this swarm; none if it does.
pub(super) fn judge(peer: &PeerId, info: &identify::Info, objective: ObjectiveId) -> Option<String> {
    let language = &info.protocol_version;
    if *language == exchange::language(WIRE_MAJOR) {
        let records = exchange::protocol(objective, "records");
        return (!info.protocols.contains(&records))
            .then(|| format!("peer {peer} belongs to another swarm; nothing is exchanged with it"));
    }
    let theirs = language.strip_prefix("/autoswarm/").and_then(|major| major.parse::<u8>().ok());
    Some(match theirs {
        Some(theirs) if theirs > WIRE_MAJOR => format!(
            "peer {peer} speaks version {theirs} of the wire, this node {WIRE_MAJOR}: \
             update this node to talk with it"
        ),
        Some(theirs) => format!(
            "peer {peer} speaks version {theirs} of the wire, this node {WIRE_MAJOR}: \
             that peer needs an update"
        ),
        None => format!("peer {peer} is no Autoswarm node but `{}`", text::one_line(&info.agent_version, 60)),
    })
}

/// Returns in one line why a peer could not be dialled.
pub(super) fn why_not(error: &DialError, is_private: bool) -> String {
    let text = text::one_line(&error.to_string(), 200);
    match (is_not_understood(error), is_private) {
        (true, true) => format!("{OTHER_KEY} ({text})"),
        (true, false) => format!("{text}; if the swarm is private, its `--private KEY` is missing here"),
        (false, _) => text,
    }
}

/// What is said where a connection in a private swarm cannot be understood.
pub(super) const OTHER_KEY: &str =
    "a peer has another `--private` key, or none: it must be the same on every node of a private swarm";

/// Returns whether a peer may be there that cannot be understood, as with another key. Both sides then wait
/// for something that makes sense.
fn is_not_understood(error: &DialError) -> bool {
    match error {
        DialError::Transport(errors) => errors.iter().any(|(_, error)| {
            // The cause is wrapped in an `io::Error`, so it is looked for in the debug text.
            let text = format!("{error:?}");
            ["Select", "Upgrade", "Noise", "Handshake", "Pnet", "Timeout"]
                .iter()
                .any(|word| text.contains(word))
        }),
        _ => false,
    }
}
