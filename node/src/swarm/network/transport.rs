//! The transport of a node: tcp and quic in the open, tcp under a shared key, or whatever a test brings.

use std::{fmt, time::Duration};

use autoswarm_protocol::id::ObjectiveId;
use libp2p::{
    PeerId, Swarm, SwarmBuilder, Transport,
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version},
    dns, noise,
    pnet::{PnetConfig, PreSharedKey},
    tcp, yamux,
};

use super::{
    behaviour::Behaviour,
    config::{NetworkConfig, NetworkError},
    private_key::PrivateKey,
};

/// Idle connections are closed after this; gossip is a use.
const IDLE: Duration = Duration::from_mins(1);
/// Most streams of one connection; yamux's own default of 8,192 is for servers.
const MAX_STREAMS: usize = 256;
/// How long setting up a connection may take.
const SETUP: Duration = Duration::from_secs(10);
/// A transport that brings its own security and multiplexing, as tests do.
pub type Other = Boxed<(PeerId, StreamMuxerBox)>;

/// Makes a yamux configuration with the bound of [`MAX_STREAMS`].
fn multiplexer() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(MAX_STREAMS);
    config
}

/// Builds the swarm of a node: over `other`, else over tcp with the shared key, else over tcp and quic.
pub(super) fn build(
    config: &NetworkConfig,
    objective: ObjectiveId,
    other: Option<Other>,
) -> Result<Swarm<Behaviour>, NetworkError> {
    let failed = |error: &dyn fmt::Display| NetworkError::Setup(error.to_string());
    let builder = SwarmBuilder::with_existing_identity(config.keys.clone()).with_tokio();
    // Each step of the builder has a type of its own; the macro spells out once what both branches share.
    macro_rules! finish {
        ($builder:expr) => {
            $builder
                .with_relay_client(noise::Config::new, multiplexer)
                .map_err(|error| failed(&error))?
                .with_behaviour(|keys, relay| {
                    Behaviour::new(keys, relay, objective, config.switches).map_err(Into::into)
                })
                .map_err(|error| failed(&error))?
                .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(IDLE))
                .with_connection_timeout(SETUP)
                .build()
        };
    }
    let other = match (other, config.private) {
        (Some(other), _) => Some(other),
        (None, Some(key)) => Some(private(config, key)?),
        (None, None) => None,
    };
    Ok(match other {
        Some(other) => finish!(builder.with_other_transport(|_| other).map_err(|error| failed(&error))?),
        None => finish!(
            builder
                .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, multiplexer)
                .map_err(|error| failed(&error))?
                .with_quic()
                .with_dns()
                .map_err(|error| failed(&error))?
        ),
    })
}

/// Makes the transport of a private swarm: tcp only, since quic has no place for such a key.
fn private(config: &NetworkConfig, key: PrivateKey) -> Result<Other, NetworkError> {
    let failed = |error: &dyn fmt::Display| NetworkError::Setup(error.to_string());
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let named = dns::tokio::Transport::system(tcp).map_err(|error| failed(&error))?;
    let noise = noise::Config::new(&config.keys).map_err(|error| failed(&error))?;
    let key = PnetConfig::new(PreSharedKey::new(key.0));
    let transport = named
        .and_then(move |stream, _| key.handshake(stream))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(multiplexer())
        .timeout(SETUP);
    Ok(transport.boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_digits_or_a_passphrase_and_never_shown() {
        let digits: PrivateKey = "07".repeat(32).parse().expect("64 digits");
        assert_eq!(digits, PrivateKey([7; 32]));
        let phrase: PrivateKey = "correct horse battery".parse().expect("a passphrase");
        assert_ne!(phrase, digits);
        assert_eq!(format!("{digits:?}"), "PrivateKey(…)");
        assert!("short".parse::<PrivateKey>().expect_err("guessed").contains("at least 12 letters"));
    }
}
