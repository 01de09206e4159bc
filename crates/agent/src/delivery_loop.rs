//! Delivers whenever something is in the journal, and asks for acknowledgements less and less often.

use crate::delivery::{Delivered, Delivery};
use crate::nodes::Links;
use sluice_state_store::StateError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// First wait for an acknowledgement or a node; doubled up to [`WAIT_MOST`].
const WAIT_FIRST: Duration = Duration::from_millis(500);
const WAIT_MOST: Duration = Duration::from_secs(15);

/// Runs until told to stop.
pub async fn run(
    mut delivery: Delivery,
    links: watch::Receiver<Arc<Links>>,
    journaled: Arc<Notify>,
    stop: CancellationToken,
) -> Result<(), StateError> {
    // A way whose time has run out is noticed soon after.
    let wait_most = WAIT_MOST.min(delivery.within() / 2);
    let mut wait = WAIT_FIRST.min(wait_most);
    loop {
        let current = links.borrow().clone();
        let step = tokio::select! {
            step = delivery.step(&current) => step?,
            () = stop.cancelled() => return Ok(()),
        };
        let pause = async {
            match step {
                Delivered::Nothing => std::future::pending().await,
                Delivered::Awaited | Delivered::NoNode | Delivered::Checking => tokio::time::sleep(wait).await,
            }
        };
        tokio::select! {
            () = pause => wait = (wait * 2).min(wait_most),
            () = journaled.notified() => wait = WAIT_FIRST.min(wait_most),
            () = stop.cancelled() => return Ok(()),
        }
    }
}
