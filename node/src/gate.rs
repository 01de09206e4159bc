//! Who asks, which rings he has, and what the newest view says to that. The decision itself is `rollout::gate`'s.

use crate::http::caller::Caller;
use crate::http::problem::Refusal;
use crate::view::NodeView;
use sluice_api::problem::{Problem, ProblemType};
use sluice_model::{ReleasedArtifact, RingName, Timestamp};
use sluice_rollout::{Freshness, Purpose, Verdict, WantedContent};

/// A request for content, as far as it matters to the gate. Asked once before a response and again while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateRequest {
    /// Who.
    pub caller: Caller,
    /// What.
    pub wanted: WantedContent,
    /// What for; believed of an enrolled device only.
    pub purpose: Purpose,
}

impl GateRequest {
    /// The released row under which the caller may have the content now, or the problem that says why not.
    pub fn judge<'a>(&self, view: &'a NodeView) -> Result<&'a ReleasedArtifact, Refusal> {
        check_hold(view)?;
        let rings = rings_of(view, &self.caller)?;
        let purpose = match self.caller {
            Caller::Device { .. } => self.purpose,
            Caller::Plain { .. } => Purpose::Ordinary,
        };
        let open = view.view.open_rings(&rings, view.now());
        let mut verdict = view.catalogue.judge(self.wanted, &open, view.freshness(), purpose);
        if let Verdict::RingClosed { rings: listing } = &verdict
            && let Some(lapsed) = listing.iter().find(|ring| rings.contains(ring))
        {
            // As after the lease: nothing but the way back from a retraction.
            let until = view.view.lapses.get(*lapsed).copied().unwrap_or_default();
            let expired = Freshness::Expired { since: view.now().since(until) };
            let detail = ring_lapsed(lapsed, until);
            verdict = view.catalogue.judge(self.wanted, &rings, expired, purpose);
            if matches!(verdict, Verdict::LeaseExpired(_)) {
                return Err(detail);
            }
        }
        match verdict {
            Verdict::Serve(row) => Ok(row),
            Verdict::RingClosed { rings: listing } => Err(ring_closed(&rings, &listing)),
            Verdict::Retracted(tombstone) => Err(Refusal::new(
                ProblemType::Retracted,
                format!("{} was retracted ({}): {}", tombstone.patch, tombstone.serial, tombstone.reason),
            )),
            Verdict::Suspended(suspension) => Err(Refusal::new(
                ProblemType::Suspended,
                format!("suspension {} ({}) stops it until two people lift it", suspension.id, suspension.reason),
            )),
            Verdict::LeaseExpired(freshness) => Err(lease_expired(freshness)),
            Verdict::NotListed => Err(Refusal::new(
                ProblemType::NotFound,
                "no live release lists this content; the node follows the repository within seconds",
            )),
        }
    }

    /// Whether a response that began may send more.
    pub fn may_go_on(&self, view: &NodeView) -> bool {
        self.judge(view).is_ok()
    }
}

/// Metadata and signed documents are served within the lease, like everything else. An enrolled device gets them after it
/// too: what they forbid and where they lead back to holds on, and what they allow it judges by their age itself.
pub fn check_reading(view: &NodeView, caller: &Caller) -> Result<(), Refusal> {
    check_hold(view)?;
    let freshness = view.freshness();
    let is_device = caller.endpoint_id().is_some_and(|id| view.endpoints.active(&id).is_some());
    if freshness.is_within_lease() || is_device { Ok(()) } else { Err(lease_expired(freshness)) }
}

/// Whether the caller may read the indices of a ring: it is one of his, the lease holds, and the ring did not lapse.
pub fn check_ring(view: &NodeView, caller: &Caller, ring: &RingName) -> Result<(), Refusal> {
    check_hold(view)?;
    let rings = rings_of(view, caller)?;
    if !view.view.rings.contains(ring) {
        return Err(Refusal::new(ProblemType::NotFound, format!("the repository has no ring {ring}")));
    }
    if !rings.contains(ring) {
        return Err(ring_closed(&rings, &[ring]));
    }
    let freshness = view.freshness();
    if !freshness.is_within_lease() {
        return Err(lease_expired(freshness));
    }
    match view.view.lapses.get(ring).filter(|_| view.view.has_lapsed(ring, view.now())) {
        Some(until) => Err(ring_lapsed(ring, *until)),
        None => Ok(()),
    }
}

/// A hold at this machine stops everything that it serves, with and without the WAN.
pub fn check_hold(view: &NodeView) -> Result<(), Refusal> {
    let Some(hold) = &view.hold else { return Ok(()) };
    let detail =
        format!("held at this node since {}: {}; only `sluice-node release` lifts it", hold.since, hold.reason);
    Err(Refusal::new(ProblemType::Held, detail))
}

/// The rings of the caller: a device's from the signed row of its endpoint, anybody else's from the policy for his network.
fn rings_of(view: &NodeView, caller: &Caller) -> Result<Vec<RingName>, Refusal> {
    let Some(id) = caller.endpoint_id() else {
        return Ok(view.limits.plain_rings_for(caller.remote().ip()).to_vec());
    };
    match view.endpoints.active(&id) {
        Some(row) => Ok(vec![row.ring.clone()]),
        None => Err(Refusal::new(
            ProblemType::NotEnrolled,
            format!("site {} has no active endpoint {id}; enrol it with: sluice-agent enrol", view.site),
        )),
    }
}

fn ring_closed(rings: &[RingName], listing: &[&RingName]) -> Refusal {
    let yours = rings.iter().map(RingName::as_str).collect::<Vec<_>>().join(", ");
    let detail =
        format!("your rings are: {}; wait until one of them has it", if yours.is_empty() { "none" } else { &yours });
    let blocks = listing.iter().map(|ring| format!("only released in ring {ring}")).collect();
    Problem::new(ProblemType::RingClosed, detail).with_blocks(blocks).into()
}

fn ring_lapsed(ring: &RingName, until: Timestamp) -> Refusal {
    let detail = format!(
        "ring {ring} lapsed at {until}: its approvers did not renew it; other rings go on. An approver signs it with \
         `sluice approve --ring {ring} --key FILE`"
    );
    Refusal::new(ProblemType::LeaseExpired, detail)
}

fn lease_expired(freshness: Freshness) -> Refusal {
    match freshness {
        Freshness::ClockBehind => Refusal::new(
            ProblemType::NotReady,
            format!("the metadata is {freshness}; set the node's clock right, or let it reach the repository"),
        ),
        _ => Refusal::new(
            ProblemType::LeaseExpired,
            format!("the metadata is {freshness}; nothing is served until the node reaches the repository again"),
        ),
    }
}
