//! What the overlay tells the program.

use libp2p::PeerId;
use libp2p::gossipsub;
use sluice_model::MemberKey;

/// Names a message whose verdict is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageId {
    pub(crate) id: gossipsub::MessageId,
    pub(crate) forwarder: PeerId,
}

/// What the program says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// New and right: forward it.
    Accept,
    /// Old or not for us to judge: do not forward it, blame nobody.
    Ignore,
    /// Wrong: do not forward it, and count it against whoever sent it.
    Reject,
}

/// An event. [`OverlayEvent::Gossip`] needs a verdict ([`crate::OverlayHandle::judge`]) within a minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverlayEvent {
    /// A message arrived. Its signature is right and its author is on the allow-list; its content is unverified.
    Gossip {
        /// On which topic.
        topic: String,
        /// Who wrote it.
        from: MemberKey,
        /// What to judge it by.
        id: MessageId,
        /// The content.
        bytes: Vec<u8>,
    },
    /// The first connection to a member is up.
    Up(MemberKey),
    /// The last connection to a member is gone.
    Down(MemberKey),
}
