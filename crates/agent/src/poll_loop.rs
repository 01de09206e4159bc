//! Makes a pass at every poll interval; a failed pass is repeated later and later.

use crate::clock;
use crate::pass::{Agent, PassError, chain};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Longest wait after passes that failed or found nobody.
const WAIT_MOST: Duration = Duration::from_secs(10);

/// Runs until told to stop; a pass that has begun dpkg ends first.
pub async fn run(mut agent: Agent, every: Duration, stop: CancellationToken) -> Result<(), PassError> {
    let mut failures = 0u32;
    let mut complained = String::new();
    while !stop.is_cancelled() {
        match agent.pass().await {
            Ok(done) if done.is_offline => failures += 1,
            Ok(_) => {
                failures = 0;
                complained.clear();
            }
            Err(error) => {
                failures += 1;
                let text = chain(&error);
                if text != complained {
                    tracing::error!(error = %text, "this pass came to nothing; trying again");
                    complained = text;
                }
            }
        }
        let wait = every + jitter(every);
        let wait = if failures > 0 { wait.max((wait * (1 << failures.min(6))).min(WAIT_MOST)) } else { wait };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

/// Up to a tenth, from the clock's last digits: enough to keep endpoints that started together apart.
fn jitter(every: Duration) -> Duration {
    every.mul_f64(f64::from(u32::try_from(clock::timestamp().as_millis() % 100).unwrap_or(0)) / 1_000.0)
}
