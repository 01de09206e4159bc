//! Moves bytes between devices: authenticated connections, the exchange protocol over them, and the pace of both.
//!
//! Decides nothing about trust or content: who may connect is the program's decision from the signed roster, whether a
//! chunk is right is the receiver's from the signed manifest, whom to ask is `exchange::picker`'s. It opens, reads,
//! writes, paces, counts, and gives up in time.
//!
//! Invariants
//! - Every device connection is TLS 1.3 (over TCP, or inside QUIC) with mutual raw keys; there is no plain one. The
//!   HTTPS listener is for clients that are no devices: only the server shows a certificate there.
//! - Nothing is allocated for a frame before its header was found within its bounds.
//! - Every queue, buffer and wait has a maximum; nothing here spawns, except the handshakes of a listener, in its JoinSet.

#![warn(missing_docs)]

mod buffers;
mod client;
mod client_connection;
mod connect;
mod counters;
mod duplex;
mod https_listener;
mod intake;
mod link;
mod listener;
mod quic;
mod reply_writer;
mod serve;
mod socket;
mod source;
mod stream;
mod throttle;
mod unreached;

pub use client::{ClientError, ClientLimits, ExchangeClient, ExchangeEvent, SendRequestError};
pub use client_connection::ExchangeConnection;
pub use connect::{ConnectError, Dialer, connect};
pub use counters::{ReceiveCounters, ServeCounters};
pub use https_listener::{AcceptedHttps, HttpsListener};
pub use link::{Alpn, Carrier, LinkKind, UnknownCarrier};
pub use listener::{Accepted, DeviceListener, ListenLimits};
pub use quic::QuicListener;
pub use serve::{ServeError, ServeLimits, ServeOptions, serve_exchange};
pub use source::{Answer, ChunkSource, ServedChunk, trailer_holds};
pub use stream::DeviceStream;
pub use throttle::{Throttle, pass};
