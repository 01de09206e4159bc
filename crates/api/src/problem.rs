//! RFC 9457 problem details: the one form in which every error leaves an HTTP server.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";
/// Every `type` begins with this; the rest is [`ProblemType::as_str`].
pub const TYPE_PREFIX: &str = "urn:sluice:problem:";

/// A problem as sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:sluice:problem:<name>`, stable.
    #[serde(rename = "type")]
    pub kind: String,
    /// The problem type in words, the same each time.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What happened this time and what to do next.
    pub detail: String,
    /// What stands in the way, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<String>,
    /// Id of the request, to be found in the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

macro_rules! problem_types {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:literal, $title:literal;)*) => {
        /// Every problem type with its status and title.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ProblemType { $($(#[$doc])* $variant,)* }

        impl ProblemType {
            /// Every type.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name after [`TYPE_PREFIX`].
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// Title, the same each time.
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

problem_types! {
    /// The request cannot be read.
    Malformed = "malformed", 400, "The request is not well formed";
    /// No or a wrong bearer token.
    Unauthenticated = "unauthenticated", 401, "A valid token is required";
    /// The token's roles do not allow it.
    Forbidden = "forbidden", 403, "Your roles do not allow this";
    /// The publisher may not approve what he published.
    SeparationOfDuties = "separation-of-duties", 403, "A publisher cannot approve what he published";
    /// The token is for other sites or rings.
    OutOfScope = "out-of-scope", 403, "Your token does not reach that far";
    /// Tokens are taken over TLS or on loopback only.
    TlsRequired = "tls-required", 403, "A token may not cross a network in clear";
    /// The device key is not in the roster or the endpoint list.
    NotEnrolled = "not-enrolled", 403, "This device is not enrolled";
    /// The enrolment token is unknown, or its secret is wrong.
    EnrolmentRefused = "enrolment-refused", 403, "The enrolment token was refused";
    /// The enrolment token has run out.
    EnrolmentExpired = "enrolment-expired", 403, "The enrolment token has expired";
    /// The enrolment token was used by another device.
    EnrolmentUsed = "enrolment-used", 403, "The enrolment token was used already";
    /// The enrolment token is for a node and an endpoint shows it, or the other way.
    EnrolmentWrongKind = "enrolment-wrong-kind", 403, "The enrolment token is for another kind of device";
    /// The device wants to be at another site or in another ring than its token says.
    EnrolmentWrongPlace = "enrolment-wrong-place", 403, "The enrolment token is for another place";
    /// The signature is not by the device's key, over this token and this repository.
    EnrolmentUnproven = "enrolment-unproven", 403, "The device did not prove its key for this token and this repository";
    /// The device's key was revoked.
    DeviceRevoked = "device-revoked", 403, "This device was revoked";
    /// The device's key has a place already.
    AlreadyEnrolled = "already-enrolled", 409, "This device is enrolled already";
    /// No ring of this client has the content.
    RingClosed = "ring-closed", 403, "None of your rings has this content";
    /// No such thing.
    NotFound = "not-found", 404, "There is no such thing";
    /// The method is not for this path.
    MethodNotAllowed = "method-not-allowed", 405, "This path does not take that method";
    /// The state does not allow it.
    Conflict = "conflict", 409, "The present state does not allow this";
    /// The content hash is retracted.
    ContentRetracted = "content-retracted", 409, "This content was retracted";
    /// The content existed and was retracted.
    Retracted = "retracted", 410, "This content was retracted and is no longer served";
    /// A condition of the request does not hold.
    PreconditionFailed = "precondition-failed", 412, "A condition of the request does not hold";
    /// Too large.
    TooLarge = "too-large", 413, "This is larger than the limit";
    /// The range cannot be satisfied.
    RangeNotSatisfiable = "range-not-satisfiable", 416, "The range lies outside the content";
    /// The bytes do not have the digest that was promised.
    DigestMismatch = "digest-mismatch", 422, "The bytes do not have the promised digest";
    /// The upload is not whole.
    UploadIncomplete = "upload-incomplete", 409, "The upload is not complete";
    /// The file is not a package that can be published.
    NotAPackage = "not-a-package", 422, "The file is not a valid package";
    /// Evidence against a member convicts nobody.
    EvidenceRefused = "evidence-refused", 422, "The evidence convicts nobody";
    /// A value breaks a rule.
    Invalid = "invalid", 422, "A value breaks a rule";
    /// A suspension stops it until two people lift it.
    Suspended = "suspended", 423, "This is suspended";
    /// Too many requests.
    QuotaExceeded = "quota-exceeded", 429, "Too many requests";
    /// An invariant broke; the log has the chain.
    Internal = "internal", 500, "Something went wrong on the server";
    /// No peer and no origin could deliver it in time.
    Unobtainable = "unobtainable", 502, "The content could not be fetched";
    /// The lease on the metadata has run out.
    LeaseExpired = "lease-expired", 503, "The serving lease has expired";
    /// Somebody at this machine said that nothing moves.
    Held = "held", 503, "This node is held";
    /// The spool or another bounded store is full, or the disk.
    Full = "full", 507, "There is no room";
    /// Not ready yet, or the trusted clock is not established.
    NotReady = "not-ready", 503, "The server is not ready";
}

impl Problem {
    /// A problem of `kind` with what happened and what to do next.
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{TYPE_PREFIX}{}", kind.as_str()),
            title: kind.title().to_owned(),
            status: kind.status(),
            detail: detail.into(),
            blocks: Vec::new(),
            request_id: None,
        }
    }

    /// Adds what stands in the way.
    pub fn with_blocks(mut self, blocks: Vec<String>) -> Self {
        self.blocks = blocks;
        self
    }

    /// Whether it is of type `kind`.
    pub fn is(&self, kind: ProblemType) -> bool {
        self.kind.strip_prefix(TYPE_PREFIX) == Some(kind.as_str())
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)?;
        for block in &self.blocks {
            write!(f, "\n  - {block}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}
