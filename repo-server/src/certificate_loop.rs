//! Keeps the HTTPS listener's certificate fresh: one at the start, the next after two thirds of its life, without a
//! restart and without closing a connection.

use crate::clock;
use crate::http::problem::chain;
use crate::state::Shared;
use anyhow::{Context, ensure};
use sluice_identity::{Certificates, LEAF_LIFETIME_MAX, Leaf};
use sluice_model::Timestamp;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The CA's folder below the data folder.
pub const CA_FOLDER: &str = "https";
/// Shortest life of a certificate: tests use it.
const LEAF_SECS_MIN: u64 = 3;
/// Names that a certificate may carry.
const NAMES_MAX: usize = 64;
/// The system's clock may be set while we wait: it is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// After a failure, until the next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Renews certificates.
pub struct CertificateLoop {
    app: Shared,
    names: Vec<String>,
    certificates: Arc<Certificates>,
    not_before: Timestamp,
    renew_at: Timestamp,
}

/// The first certificate, and the loop that replaces it. `reached_at` is the address of the listener as others dial it.
pub fn begin(app: &Shared, reached_at: IpAddr) -> anyhow::Result<(Arc<Certificates>, CertificateLoop)> {
    let settings = &app.settings.https;
    let most = LEAF_LIFETIME_MAX.as_secs();
    ensure!(
        (LEAF_SECS_MIN..=most).contains(&settings.leaf_secs),
        "https.leaf_secs is {}; at least {LEAF_SECS_MIN}, at most {most}",
        settings.leaf_secs
    );
    ensure!(settings.names.len() <= NAMES_MAX, "https.names has more than {NAMES_MAX} names");
    let mut names = settings.names.clone();
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    names.push(reached_at.to_string());
    names.extend(own_name());
    names.sort_unstable();
    names.dedup();
    let leaf = issue(app, &names).context("making the certificate of the HTTPS listener; see https.names")?;
    let (not_before, renew_at) = (leaf.not_before, leaf.renew_at);
    let certificates = Certificates::new(leaf);
    let renewal = CertificateLoop { app: app.clone(), names, certificates: certificates.clone(), not_before, renew_at };
    Ok((certificates, renewal))
}

impl CertificateLoop {
    /// Runs until `stop`. A failure is logged and tried again; meanwhile the certificate grows old.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = self.look();
        }
    }

    /// Renews when it is time, or when the clock was set back before the certificate. How long to wait then.
    fn look(&mut self) -> Duration {
        let now = clock::timestamp();
        if now >= self.renew_at || now < self.not_before {
            match issue(&self.app, &self.names) {
                Ok(leaf) => {
                    tracing::info!(until = %leaf.not_after, "the HTTPS listener has a new certificate");
                    (self.not_before, self.renew_at) = (leaf.not_before, leaf.renew_at);
                    self.certificates.replace(leaf);
                }
                Err(error) => {
                    tracing::error!(
                        error = chain(error.as_ref()),
                        "the certificate of the HTTPS listener was not renewed; the old one ends after its life"
                    );
                    return RETRY_AFTER;
                }
            }
        }
        let left = self.renew_at.as_millis().saturating_sub(now.as_millis());
        Duration::from_millis(left.max(1)).min(LOOK_EVERY)
    }
}

fn issue(app: &Shared, names: &[String]) -> anyhow::Result<Leaf> {
    Ok(app.ca.issue(names, clock::timestamp(), Duration::from_secs(app.settings.https.leaf_secs))?)
}

/// This machine's name, when it can stand in a certificate.
fn own_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_ascii_lowercase();
    let is_host = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    is_host.then_some(name)
}
