//! Clients of the HTTP interfaces: the admin API for people, the device API for nodes and agents, TUF files for both.
//!
//! Decides: how long to wait, how much of an answer to read, whose fault a failure is and whether trying again helps.
//! Does not decide: what to believe. Metadata goes to `sluice_metadata::Trusted`, content to the caller's hash.
//!
//! Invariants
//! - Every body is read up to a bound that the caller or this crate names; nothing else is buffered.
//! - A device client talks only to the key it was given; its requests never follow redirects or proxies.
//! - A secret (person's token, enrolment secret) never stands in an error or a log line.

mod admin;
mod bootstrap;
mod ceremony;
mod content;
mod device;
mod error;
mod files;
mod http;
mod oversight;
mod refresh;
mod repository;
mod token;
mod upload;

pub use admin::{AdminClient, ComplianceBy, OutcomeQuery};
pub use bootstrap::{Bootstrap, BootstrapError, bootstrap, enrol_request};
pub use content::{ContentRange, ContentRequest, ContentStream};
pub use device::DeviceClient;
pub use error::{Blame, ClientError, Retry};
pub use files::{FileClient, FileStream};
pub use http::{Pace, Timeouts};
pub use oversight::AuditExport;
pub use refresh::{MetadataSource, RefreshError, Refreshed, Times, refresh};
pub use repository::RepositoryClient;
pub use token::{EnrolmentTokenText, TokenError};
pub use upload::Uploaded;
