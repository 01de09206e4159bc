//! The device API and the signed files over TLS 1.3 with raw keys: node to origin, agent to node.

use crate::content::{ContentRequest, ContentStream};
use crate::error::ClientError;
use crate::http::{Http, Pace, Timeouts};
use crate::refresh::MetadataSource;
use crate::repository::{document_of, metadata_of};
use bytes::Bytes;
use reqwest::Method;
use sluice_api::DEVICE_PREFIX;
use sluice_api::audit::{
    LOG_CONSISTENCY_BYTES_MAX, LOG_CONSISTENCY_PATH, LOG_GAP_BYTES_MAX, LOG_GAP_PATH, LogConsistency, LogGap,
};
use sluice_api::bans::BanReport;
use sluice_api::device::{
    Acknowledgements, Announcement, EnrolAnswer, EnrolRequest, NodeStatus, ReportBatch, ReportReceipt,
};
use sluice_api::restore::{NewerMetadata, NewerReceipt};
use sluice_identity::DeviceKey;
use sluice_metadata::DocumentRef;
use sluice_model::{MemberKey, TargetName};
use std::net::SocketAddr;

/// Longest JSON answer: a hundred acknowledgements or refusals of under 1 KiB.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// A client of one device listener, whose key is pinned. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct DeviceClient {
    http: Http,
    address: SocketAddr,
    peer: MemberKey,
}

impl DeviceClient {
    /// A client of the listener at `address` that must prove the key `expected`. Connects at the first request.
    pub fn new(
        address: SocketAddr,
        expected: MemberKey,
        key: &DeviceKey,
        timeouts: Timeouts,
    ) -> Result<Self, ClientError> {
        Ok(Self { http: Http::open_device(address, expected, key, timeouts)?, address, peer: expected })
    }

    /// The same client, with every body byte in both directions told to `pace` first.
    pub fn with_pace(self, pace: Pace) -> Self {
        Self { http: self.http.with_pace(pace), ..self }
    }

    /// Where it connects.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whom it expects there.
    pub fn peer(&self) -> MemberKey {
        self.peer
    }

    /// Asks the origin to take this device into the fleet.
    pub async fn enrol(&self, request: &EnrolRequest) -> Result<EnrolAnswer, ClientError> {
        self.http.send_json(Method::POST, &path("/enrol"), request, ANSWER_BYTES_MAX).await
    }

    /// Tells the origin where this node listens.
    pub async fn announce(&self, announcement: &Announcement) -> Result<(), ClientError> {
        self.http.send_json_only(Method::POST, &path("/announce"), announcement).await
    }

    /// Tells the origin how this node is.
    pub async fn status(&self, status: &NodeStatus) -> Result<(), ClientError> {
        self.http.send_json_only(Method::POST, &path("/status"), status).await
    }

    /// Brings evidence against a peer to the origin.
    pub async fn report_ban(&self, report: &BanReport) -> Result<(), ClientError> {
        self.http.send_json_only(Method::POST, &path("/bans"), report).await
    }

    /// What shows that the audit log of `to` entries begins with that of `from`. Verify it before believing it.
    pub async fn log_consistency(&self, from: u64, to: u64) -> Result<LogConsistency, ClientError> {
        let path = format!("{LOG_CONSISTENCY_PATH}?from={from}&to={to}");
        self.http.get_json(&path, LOG_CONSISTENCY_BYTES_MAX).await
    }

    /// The entry of the audit log by which the server says that a log of `seen` entries is gone. Verify it with
    /// `sluice_audit::verify_gap`.
    pub async fn log_gap(&self, seen: u64, to: u64) -> Result<LogGap, ClientError> {
        self.http.get_json(&format!("{LOG_GAP_PATH}?seen={seen}&to={to}"), LOG_GAP_BYTES_MAX).await
    }

    /// Shows the origin signed files that are newer than its own.
    pub async fn newer_metadata(&self, newer: &NewerMetadata) -> Result<NewerReceipt, ClientError> {
        self.http.send_json(Method::POST, &path("/newer-metadata"), newer, ANSWER_BYTES_MAX).await
    }

    /// Hands over outcome reports; what the receipt counts as stored is durable at the receiver.
    pub async fn outcomes(&self, batch: &ReportBatch) -> Result<ReportReceipt, ClientError> {
        self.http.send_json(Method::POST, &path("/outcomes"), batch, ANSWER_BYTES_MAX).await
    }

    /// The acknowledgements that a node holds for this endpoint. Verify each before believing it.
    pub async fn acknowledgements(&self) -> Result<Acknowledgements, ClientError> {
        self.http.get_json(&path("/acknowledgements"), ANSWER_BYTES_MAX).await
    }

    /// The bytes of a document; verify them with `sluice_metadata::verify_document`.
    pub async fn document(&self, name: &TargetName, document: &DocumentRef) -> Result<Option<Bytes>, ClientError> {
        document_of(&self.http, name, document).await
    }

    /// Starts to read an artifact.
    pub async fn content(&self, request: &ContentRequest) -> Result<ContentStream, ClientError> {
        ContentStream::open(self.http.clone(), request).await
    }
}

impl MetadataSource for DeviceClient {
    async fn metadata_file(&self, file: &str, length_max: u64) -> Result<Option<Bytes>, ClientError> {
        metadata_of(&self.http, file, length_max).await
    }
}

fn path(rest: &str) -> String {
    format!("{DEVICE_PREFIX}{rest}")
}
