//! The way to the repo server's device API: which addresses, which key, paced and counted.
//!
//! The key that counts is the one of the signed roster. Addresses come from the roster and, behind them, from the
//! bootstrap at join; the one that answered last is tried first.

use crate::counters::Counters;
use sluice_api_client::{ClientError, DeviceClient, Pace, RefreshError, Timeouts};
use sluice_identity::DeviceKey;
use sluice_model::{MemberKey, Roster};
use sluice_transport::Throttle;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Addresses that are kept; each has its own connection pool of two.
const ADDRESSES_MAX: usize = 8;

/// Small exchanges only: a retraction must not wait behind a connection that is dead.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(3), idle: Duration::from_secs(10), whole: Duration::from_secs(30) };

/// Speaks to the repo server.
pub struct Origin {
    key: DeviceKey,
    hints: Vec<SocketAddr>,
    pace: Pace,
    /// Clients in the order in which they are tried.
    clients: Mutex<Vec<DeviceClient>>,
}

/// What [`Origin::ask`] must know of a failure.
pub trait OriginFailure: Send {
    /// Nobody answered there: another address may help.
    fn is_connection(&self) -> bool;
    /// The failure when there is no address at all.
    fn no_address() -> Self;
}

impl OriginFailure for ClientError {
    fn is_connection(&self) -> bool {
        ClientError::is_connection(self)
    }

    fn no_address() -> Self {
        Self::BadUrl { text: "the origin".into(), reason: "the signed roster names no address of it".into() }
    }
}

impl OriginFailure for RefreshError {
    fn is_connection(&self) -> bool {
        matches!(self, Self::Fetch(error) if error.is_connection())
    }

    fn no_address() -> Self {
        Self::Fetch(ClientError::no_address())
    }
}

impl Origin {
    /// `hints` are tried after the roster's addresses. Every body byte passes `wan` and is counted as metadata.
    pub fn new(key: DeviceKey, hints: Vec<SocketAddr>, wan: Throttle, counters: Counters) -> Self {
        let pace: Pace = Arc::new(move |bytes| {
            let (wan, counters) = (wan.clone(), counters.clone());
            Box::pin(async move {
                wan.take(bytes).await;
                counters.add_metadata(bytes);
            })
        });
        Self { key, hints, pace, clients: Mutex::default() }
    }

    /// Takes the origin's key and addresses from a verified roster.
    pub fn follow(&self, roster: &Roster) -> Result<(), ClientError> {
        let mut wanted: Vec<(SocketAddr, MemberKey)> = Vec::new();
        for origin in roster.origins() {
            for address in origin.addresses.device.iter().filter(|address| !address.ip().is_unspecified()) {
                wanted.push((*address, origin.key));
            }
        }
        for origin in roster.origins() {
            wanted.extend(self.hints.iter().map(|hint| (*hint, origin.key)));
        }
        let mut clients = self.lock();
        clients.retain(|client| wanted.contains(&(client.address(), client.peer())));
        for (address, key) in wanted {
            let is_known = clients.iter().any(|client| (client.address(), client.peer()) == (address, key));
            if !is_known && clients.len() < ADDRESSES_MAX {
                let client = DeviceClient::new(address, key, &self.key, TIMEOUTS)?;
                clients.push(client.with_pace(Arc::clone(&self.pace)));
            }
        }
        Ok(())
    }

    /// Asks at one address after the other until somebody answers, if only to refuse.
    pub async fn ask<T, E, F, Fut>(&self, ask: F) -> Result<T, E>
    where
        E: OriginFailure,
        F: Fn(DeviceClient) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let clients = self.lock().clone();
        let mut failure = E::no_address();
        for client in clients {
            match ask(client.clone()).await {
                Err(error) if error.is_connection() => failure = error,
                answer => {
                    self.prefer(&client);
                    return answer;
                }
            }
        }
        Err(failure)
    }

    /// Where it is reached, best first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.lock().iter().map(DeviceClient::address).collect()
    }

    fn prefer(&self, answered: &DeviceClient) {
        let mut clients = self.lock();
        let found = clients
            .iter()
            .position(|client| (client.address(), client.peer()) == (answered.address(), answered.peer()));
        if let Some(position) = found.filter(|position| *position > 0) {
            clients[..=position].rotate_right(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<DeviceClient>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
