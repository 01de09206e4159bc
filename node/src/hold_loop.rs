//! Follows the hold that somebody may set at this machine, and tells the metadata loop, which publishes it.

use sluice_state_store::hold::{self, Hold};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Between two looks: what is held stops within two seconds.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Looks at the file until `stop`, and tells when a hold was set or lifted.
pub async fn run(data: PathBuf, known: watch::Sender<Option<Hold>>, stop: CancellationToken) {
    let mut timer = tokio::time::interval(LOOK_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = timer.tick() => {}
        }
        let found = hold::read(&data);
        let is_new = known.send_if_modified(|known| {
            let is_new = *known != found;
            known.clone_from(&found);
            is_new
        });
        if is_new {
            match &found {
                Some(hold) => tracing::warn!(reason = hold.reason, "held: nothing is served until it is lifted here"),
                None => tracing::warn!("the hold was lifted"),
            }
        }
    }
}
