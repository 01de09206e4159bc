//! Who a device is: the Ed25519 public key of a node or of the origin, and an endpoint's key hash.

use crate::hash::{ParseHexError, fixed_bytes};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

fixed_bytes!(
    /// Ed25519 public key of a member of the roster (node or origin).
    MemberKey,
    32
);
fixed_bytes!(
    /// SHA-256 of an endpoint's Ed25519 public key: what signed fleet documents call the endpoint.
    EndpointId,
    32
);
