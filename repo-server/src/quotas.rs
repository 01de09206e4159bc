//! How many requests people and strangers may make of the admin API.
//!
//! Quotas are of people, not of tokens: a second token buys nothing. They bound what one caller's broken script costs
//! everybody else; they are no protection of a token, which is 256 random bits.

use crate::clock;
use crate::operations::Failure;
use sluice_api::problem::ProblemType;
use sluice_model::PersonName;
use sluice_pacing::RequestQuota;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

/// A person's requests: a request costs about a millisecond, so one person takes a tenth of one core at most.
const PERSON_PER_SEC: NonZeroU32 = NonZeroU32::new(100).expect("not zero");
const PERSON_BURST: NonZeroU32 = NonZeroU32::new(1_000).expect("not zero");
/// Persons that are counted at once: as many as there may be tokens.
const PERSONS_MAX: usize = 4_096;
/// Requests with a wrong token, by address.
const STRANGER_PER_SEC: NonZeroU32 = NonZeroU32::new(10).expect("not zero");
const STRANGER_BURST: NonZeroU32 = NonZeroU32::new(600).expect("not zero");
/// Addresses that are counted at once, 64 bytes each.
const STRANGERS_MAX: usize = 16_384;

/// Every quota of the admin API.
#[derive(Debug)]
pub struct Quotas {
    persons: RequestQuota<PersonName>,
    strangers: RequestQuota<IpAddr>,
}

impl Default for Quotas {
    fn default() -> Self {
        let now = clock::now();
        Self {
            persons: RequestQuota::new(PERSON_PER_SEC, PERSON_BURST, PERSONS_MAX, now),
            strangers: RequestQuota::new(STRANGER_PER_SEC, STRANGER_BURST, STRANGERS_MAX, now),
        }
    }
}

/// A refusal, and when asking again makes sense.
pub struct Exhausted {
    /// The problem.
    pub failure: Failure,
    /// Whole seconds, at least one.
    pub retry_after_secs: u64,
}

impl Quotas {
    /// Books one request of a person.
    pub fn take_person(&self, person: &PersonName) -> Result<(), Exhausted> {
        self.persons.take(person, clock::now()).map_err(|wait| {
            let detail = format!(
                "{person} made more than {PERSON_PER_SEC} requests a second; wait as long as the Retry-After header says"
            );
            exhausted(detail, wait)
        })
    }

    /// Books one request with a token that is not taken. One network of an IPv6 customer counts as one address.
    pub fn take_stranger(&self, from: IpAddr) -> Result<(), Exhausted> {
        self.strangers.take(&network_of(from), clock::now()).map_err(|wait| {
            let detail = "too many requests with a wrong token came from your address; wait as long as the Retry-After \
                          header says, and store a valid token with `sluice login`";
            exhausted(detail.to_owned(), wait)
        })
    }
}

fn exhausted(detail: String, wait: Duration) -> Exhausted {
    let retry_after_secs = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Exhausted {
        failure: Failure::refused(ProblemType::QuotaExceeded, detail),
        retry_after_secs: retry_after_secs.max(1),
    }
}

fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_customer_s_ipv6_network_is_one_stranger() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    }
}
