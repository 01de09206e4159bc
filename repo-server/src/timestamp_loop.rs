//! Signs a new timestamp on a timer, so that the serving lease of whoever hears of it begins anew; looks at the expiry
//! calendar with each.

use crate::authority::Authority;
use crate::http::problem::chain;
use crate::operations::calendar::Reminder;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Longest wait between two timestamps.
const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// A lease holds this many timestamps, so that some may get lost.
const TIMESTAMPS_PER_LEASE: u32 = 6;

/// A minute or a sixth of the lease, whichever is shorter.
pub fn interval(lease: Duration) -> Duration {
    (lease / TIMESTAMPS_PER_LEASE).min(INTERVAL_MAX)
}

/// Runs until `stop`. A failure is logged and tried again with the next tick; meanwhile the lease runs down.
pub async fn run(authority: Authority, lease: Duration, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(interval(lease));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut reminder = Reminder::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(failure) = authority.renew().await {
            tracing::error!(error = chain(&failure), "the timestamp was not renewed; the serving lease runs down");
        }
        reminder.look(&authority).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_lease_is_renewed_six_times_and_a_long_one_every_minute() {
        assert_eq!(interval(Duration::from_secs(24 * 3_600)), Duration::from_secs(60));
        assert_eq!(interval(Duration::from_secs(60)), Duration::from_secs(10));
    }
}
