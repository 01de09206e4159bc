//! The libp2p behaviours and their bounds, and the mapping between member keys and peer ids.

use crate::OverlayError;
use libp2p::gossipsub::{
    self, IdentTopic, IdentityTransform, MessageAuthenticity, PeerScoreParams, PeerScoreThresholds, TopicScoreParams,
    ValidationMode, WhitelistSubscriptionFilter,
};
use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::swarm::NetworkBehaviour;
use libp2p::{PeerId, Swarm, SwarmBuilder, identify, noise, ping, tcp, yamux};
use libp2p_allow_block_list::{AllowedPeers, Behaviour as AllowList};
use libp2p_connection_limits::{Behaviour as Limits, ConnectionLimits};
use sluice_model::MemberKey;
use std::time::Duration;

/// Largest message on the wire: 48 KiB of payload, topic, key, signature, and room for control messages.
const TRANSMIT_BYTES_MAX: usize = 64 << 10;
/// Connections that are being negotiated, each way: handshakes cost two curve operations and 2 s at most.
const PENDING_MAX: u32 = 64;
/// Connections to one member: both sides may dial at once, and a restarted one may come back before its old connection
/// was noticed to be dead.
const PER_MEMBER_MAX: u32 = 4;
/// Connections in all: a roster of 500 nodes, twice.
const CONNECTIONS_MAX: u32 = 1_024;
/// A connection that carries nothing is kept: members dial because they want to hear of the next retraction at once.
const IDLE_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3_600);
/// A link is found dead within these two together.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Heartbeats (1 s) for which a message waits for its verdict: the program commits to disk before it judges.
const HISTORY_HEARTBEATS: usize = 60;
/// Messages that wait for one peer: 48 KiB each, so 6 MiB for a peer that does not read.
const PEER_QUEUE_MESSAGES_MAX: usize = 128;

/// Peers may subscribe to our topics only, so that a member cannot fill our memory with names.
type Gossip = gossipsub::Behaviour<IdentityTransform, WhitelistSubscriptionFilter>;

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    // First, so that a connection beyond a limit or off the list is refused before another behaviour sees it.
    pub(crate) allowed: AllowList<AllowedPeers>,
    limits: Limits,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(crate) gossip: Gossip,
}

/// The swarm of the key made from `seed`, subscribed to `topics`, not listening yet.
pub(crate) fn swarm(seed: &[u8; 32], topics: &[String]) -> Result<Swarm<Behaviour>, OverlayError> {
    let mut seed = zeroize::Zeroizing::new(*seed);
    let keypair = Keypair::ed25519_from_bytes(&mut seed[..]).map_err(|_| OverlayError::Key)?;
    let gossip = gossip(&keypair, topics)?;
    let identify = identify::Config::new("sluice/1".into(), keypair.public())
        .with_agent_version(concat!("sluice/", env!("CARGO_PKG_VERSION")).into());
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_MAX))
        .with_max_pending_outgoing(Some(PENDING_MAX))
        .with_max_established_per_peer(Some(PER_MEMBER_MAX))
        .with_max_established(Some(CONNECTIONS_MAX));
    let behaviour = Behaviour {
        allowed: AllowList::default(),
        limits: Limits::new(limits),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT)),
        gossip,
    };
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(|_| OverlayError::Key)?
        .with_behaviour(|_| behaviour)
        .map_err(|_| OverlayError::Key)?
        .with_swarm_config(|config| {
            config.with_idle_connection_timeout(IDLE_TIMEOUT).with_max_negotiating_inbound_streams(16)
        })
        .build();
    Ok(swarm)
}

fn gossip(keypair: &Keypair, topics: &[String]) -> Result<Gossip, OverlayError> {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .flood_publish(true)
        .max_transmit_size(TRANSMIT_BYTES_MAX)
        .history_length(HISTORY_HEARTBEATS)
        .heartbeat_initial_delay(Duration::from_millis(500))
        .connection_handler_queue_len(PEER_QUEUE_MESSAGES_MAX)
        .build()
        .map_err(|error| OverlayError::Gossip(error.to_string()))?;
    let topics: Vec<IdentTopic> = topics.iter().map(IdentTopic::new).collect();
    let filter = WhitelistSubscriptionFilter(topics.iter().map(|topic| topic.hash()).collect());
    let author = MessageAuthenticity::Signed(keypair.clone());
    let mut gossip = Gossip::new_with_subscription_filter(author, config, filter)
        .map_err(|error| OverlayError::Gossip(error.into()))?;
    let score = PeerScoreParams {
        topics: topics.iter().map(|topic| (topic.hash(), topic_score())).collect(),
        app_specific_weight: 0.0,
        // All nodes of a site may share one address (and all of a test do).
        ip_colocation_factor_weight: 0.0,
        behaviour_penalty_threshold: 6.0,
        ..PeerScoreParams::default()
    };
    gossip.with_peer_score(score, PeerScoreThresholds::default()).map_err(OverlayError::Gossip)?;
    for topic in &topics {
        gossip.subscribe(topic).map_err(|error| OverlayError::Gossip(error.to_string()))?;
    }
    Ok(gossip)
}

/// Only rejected messages count: a quiet topic is no fault, and nobody earns credit against junk. Three within a minute
/// make -90, below the level at which a peer is no longer listened to (-80).
fn topic_score() -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.0,
        first_message_deliveries_weight: 0.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -10.0,
        invalid_message_deliveries_decay: 0.99,
        ..TopicScoreParams::default()
    }
}

/// The peer id of a member; `None` when the 32 bytes are no point of the curve.
pub(crate) fn peer_of(key: &MemberKey) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(key.as_bytes()).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The member key inside a peer id; `None` when it is not an Ed25519 one.
pub(crate) fn member_of(peer: &PeerId) -> Option<MemberKey> {
    // Keys this short stand in the id itself: an identity multihash over the protobuf form.
    let key = PublicKey::try_decode_protobuf(peer.as_ref().digest()).ok()?;
    Some(MemberKey::from_bytes(key.try_into_ed25519().ok()?.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_key_and_its_peer_id_name_each_other() {
        let swarm = Keypair::ed25519_from_bytes([7u8; 32]).unwrap();
        let key = MemberKey::from_bytes(swarm.public().try_into_ed25519().unwrap().to_bytes());
        let peer = peer_of(&key).unwrap();
        assert_eq!(peer, swarm.public().to_peer_id());
        assert_eq!(member_of(&peer), Some(key));
        assert_eq!(member_of(&PeerId::random()), None);
    }
}
