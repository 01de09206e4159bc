//! Key ceremonies, proposals and the calendar: the admin API's part for people who sign.

use crate::admin::AdminClient;
use crate::error::ClientError;
use crate::refresh::MetadataSource;
use crate::repository::metadata_of;
use bytes::Bytes;
use reqwest::Method;
use sluice_api::ADMIN_PREFIX;
use sluice_api::ceremony as form;
use sluice_model::RingName;

/// Longest answer that is read: a release role of 1 MiB, indented, with its signers.
const ANSWER_BYTES_MAX: u64 = 8 << 20;

impl AdminClient {
    /// What a draft of root or targets begins with.
    pub async fn ceremony_state(&self) -> Result<form::CeremonyState, ClientError> {
        self.http.get_json(&format!("{ADMIN_PREFIX}/ceremonies"), ANSWER_BYTES_MAX).await
    }

    /// Makes a further key of an online role on the server.
    pub async fn new_server_key(&self, new: &form::NewServerKey) -> Result<form::ServerKey, ClientError> {
        self.post("/ceremonies/keys", new).await
    }

    /// Brings files that people signed into force.
    pub async fn publish_ceremony(&self, files: &form::CeremonyFiles) -> Result<form::CeremonyDone, ClientError> {
        self.post("/ceremonies", files).await
    }

    /// What waits for an approver's signature.
    pub async fn proposal(&self, ring: &RingName) -> Result<form::Proposal, ClientError> {
        self.http.get_json(&format!("{ADMIN_PREFIX}/rings/{ring}/proposal"), ANSWER_BYTES_MAX).await
    }

    /// Sends a signed proposal.
    pub async fn sign_proposal(
        &self,
        ring: &RingName,
        signed: &form::SignedProposal,
    ) -> Result<form::ProposalOutcome, ClientError> {
        self.post(&format!("/rings/{ring}/proposal/signatures"), signed).await
    }

    /// Who must sign what until when.
    pub async fn calendar(&self) -> Result<form::Calendar, ClientError> {
        self.http.get_json(&format!("{ADMIN_PREFIX}/calendar"), ANSWER_BYTES_MAX).await
    }

    async fn post<B: serde::Serialize, A: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<A, ClientError> {
        self.http.send_json(Method::POST, &format!("{ADMIN_PREFIX}{path}"), body, ANSWER_BYTES_MAX).await
    }
}

/// The signed files of the same server; nothing is believed before `Trusted` verified it.
impl MetadataSource for AdminClient {
    async fn metadata_file(&self, file: &str, length_max: u64) -> Result<Option<Bytes>, ClientError> {
        metadata_of(&self.http, file, length_max).await
    }
}
