//! The task that owns the swarm.
//!
//! While an event waits for the program, commands are still taken (a verdict may be what the program is about to send),
//! but the swarm is not polled: peers feel it as a slow reader, and nothing that needs a verdict is dropped.

use crate::behaviour::{Behaviour, BehaviourEvent, member_of, peer_of};
use crate::handle::{multiaddr, socket_addr};
use crate::redial::Redial;
use crate::{MessageId, OverlayError, OverlayEvent, Verdict};
use futures::StreamExt;
use libp2p::gossipsub::{self, IdentTopic, MessageAcceptance};
use libp2p::multiaddr::Multiaddr;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{DialError, SwarmEvent};
use libp2p::{PeerId, Swarm, ping};
use sluice_model::MemberKey;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub(crate) enum Command {
    Publish { topic: String, bytes: Vec<u8>, done: oneshot::Sender<Result<(), OverlayError>> },
    Judge { id: MessageId, verdict: Verdict },
    SetAllowed(Vec<MemberKey>),
    Dial { member: MemberKey, addresses: Vec<SocketAddr> },
}

/// Owns the swarm; the program spawns [`OverlayTask::run`].
pub struct OverlayTask {
    swarm: Swarm<Behaviour>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<OverlayEvent>,
    addresses: watch::Sender<Vec<SocketAddr>>,
    redial: Redial,
    entropy: RandomState,
    draws: u64,
}

impl OverlayTask {
    pub(crate) fn new(
        swarm: Swarm<Behaviour>,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<OverlayEvent>,
        addresses: watch::Sender<Vec<SocketAddr>>,
    ) -> Self {
        Self { swarm, commands, events, addresses, redial: Redial::default(), entropy: RandomState::new(), draws: 0 }
    }

    /// Runs until `stop`, or until every handle or the event receiver is gone; then all connections are closed.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), OverlayError> {
        let mut waiting: Option<OverlayEvent> = None;
        let events = self.events.clone();
        loop {
            let due = self.redial.next_due();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                command = self.commands.recv() => match command {
                    Some(command) => self.perform(command),
                    None => return Ok(()),
                },
                permit = events.reserve(), if waiting.is_some() => match (permit, waiting.take()) {
                    (Ok(permit), Some(event)) => permit.send(event),
                    _ => return Ok(()),
                },
                event = self.swarm.select_next_some(), if waiting.is_none() => waiting = self.on_event(event)?,
                () = sleep_until(due), if due.is_some() => self.dial_due(),
            }
        }
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::Publish { topic, bytes, done } => {
                let published = self.swarm.behaviour_mut().gossip.publish(IdentTopic::new(topic), bytes);
                let result = published.map(|_| ()).map_err(|error| OverlayError::Publish(error.to_string()));
                // Whoever asked may have gone; the message is out all the same.
                drop(done.send(result));
            }
            Command::Judge { id, verdict } => self.judge(&id, verdict),
            Command::SetAllowed(members) => self.set_allowed(&members),
            Command::Dial { member, addresses } => {
                if let Some(peer) = peer_of(&member)
                    && peer != *self.swarm.local_peer_id()
                {
                    let is_connected = self.swarm.is_connected(&peer);
                    self.redial.set(peer, addresses, is_connected, Instant::now());
                }
            }
        }
    }

    fn judge(&mut self, id: &MessageId, verdict: Verdict) {
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        if !gossip.report_message_validation_result(&id.id, &id.forwarder, acceptance) {
            tracing::debug!(?verdict, "a verdict came too late: the message is not forwarded");
        }
    }

    fn set_allowed(&mut self, members: &[MemberKey]) {
        let wanted: HashSet<PeerId> = members.iter().filter_map(peer_of).collect();
        let list = &mut self.swarm.behaviour_mut().allowed;
        let gone: Vec<PeerId> = list.allowed_peers().difference(&wanted).copied().collect();
        for peer in gone {
            list.disallow_peer(peer);
        }
        for peer in &wanted {
            list.allow_peer(*peer);
        }
        self.redial.retain(|peer| wanted.contains(peer));
    }

    fn dial_due(&mut self) {
        let now = Instant::now();
        for (peer, addresses) in self.redial.take_due(now) {
            let addresses: Vec<Multiaddr> = addresses.into_iter().map(multiaddr).collect();
            let dial = DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(addresses)
                .allocate_new_port()
                .build();
            match self.swarm.dial(dial) {
                // The condition: connected or being dialled already.
                Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
                Err(error) => {
                    tracing::debug!(%peer, %error, "cannot dial now");
                    let jitter = self.jitter();
                    self.redial.lost(&peer, now, jitter);
                }
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) -> Result<Option<OverlayEvent>, OverlayError> {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            })) => return Ok(self.on_message(propagation_source, message_id, message)),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { connection, result: Err(failure), .. })) => {
                tracing::debug!(%failure, "a link is dead");
                self.swarm.close_connection(connection);
            }
            SwarmEvent::ConnectionEstablished { peer_id, num_established, .. } => {
                self.redial.connected(&peer_id, Instant::now());
                if num_established.get() == 1 {
                    return Ok(member_of(&peer_id).map(OverlayEvent::Up));
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, cause, .. } => {
                tracing::debug!(peer = %peer_id, cause = ?cause, "disconnected");
                let jitter = self.jitter();
                self.redial.lost(&peer_id, Instant::now(), jitter);
                return Ok(member_of(&peer_id).map(OverlayEvent::Down));
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                tracing::debug!(%peer, %error, "dialling failed");
                if !self.swarm.is_connected(&peer) {
                    let jitter = self.jitter();
                    self.redial.lost(&peer, Instant::now(), jitter);
                }
            }
            SwarmEvent::IncomingConnectionError { error, send_back_addr, .. } => {
                tracing::debug!(from = %send_back_addr, %error, "an incoming connection was refused");
            }
            SwarmEvent::NewListenAddr { address, .. } => self.listens_on(&address, true),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.listens_on(&address, false),
            SwarmEvent::ListenerClosed { reason, .. } => return Err(OverlayError::ListenerClosed(reason.err())),
            _ => {}
        }
        Ok(None)
    }

    fn on_message(
        &mut self,
        forwarder: PeerId,
        id: gossipsub::MessageId,
        message: gossipsub::Message,
    ) -> Option<OverlayEvent> {
        let id = MessageId { id, forwarder };
        let author = message.source.filter(|author| self.swarm.behaviour().allowed.allowed_peers().contains(author));
        let Some(from) = author.as_ref().and_then(member_of) else {
            // Perhaps a member that our roster does not name yet: nobody's fault.
            self.judge(&id, Verdict::Ignore);
            return None;
        };
        Some(OverlayEvent::Gossip { topic: message.topic.into_string(), from, id, bytes: message.data })
    }

    fn listens_on(&mut self, address: &Multiaddr, is_new: bool) {
        let Some(address) = socket_addr(address) else { return };
        self.addresses.send_modify(|addresses| {
            addresses.retain(|other| *other != address);
            if is_new {
                addresses.push(address);
            }
        });
    }

    /// 0 to 255, different at each call and in each process.
    fn jitter(&mut self) -> u8 {
        self.draws += 1;
        let mut hasher = self.entropy.build_hasher();
        hasher.write_u64(self.draws);
        hasher.finish() as u8
    }
}

async fn sleep_until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}
