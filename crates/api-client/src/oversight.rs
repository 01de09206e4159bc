//! The part of the admin API that watches over the others: tokens, requests for a second person, the whole audit log.

use crate::admin::AdminClient;
use crate::error::ClientError;
use crate::http::Http;
use bytes::Bytes;
use reqwest::{Method, Response};
use sluice_api::ADMIN_PREFIX;
use sluice_api::admin::PersonToken;
use sluice_api::requests::PendingRequests;
use sluice_api::tokens::{RevokedTokens, Tokens};
use sluice_model::PersonName;

/// The audit log as it comes.
pub struct AuditExport {
    http: Http,
    answer: Response,
}

impl AuditExport {
    /// The next part; `None` at the end, which `sluice_audit` tells from a log that was cut.
    pub async fn part(&mut self) -> Result<Option<Bytes>, ClientError> {
        self.http.part(&mut self.answer).await
    }
}

impl AdminClient {
    /// Every token, without its secret.
    pub async fn tokens(&self) -> Result<Tokens, ClientError> {
        self.get("/tokens").await
    }

    /// Ends a token.
    pub async fn revoke_token(&self, id: &str) -> Result<RevokedTokens, ClientError> {
        let id: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
        self.send(Method::DELETE, &format!("/tokens/{id}"), &()).await
    }

    /// Ends every token of a person.
    pub async fn revoke_tokens_of(&self, person: &PersonName) -> Result<RevokedTokens, ClientError> {
        self.send(Method::DELETE, &format!("/tokens/persons/{person}"), &()).await
    }

    /// Replaces the token that this client uses; shown once.
    pub async fn rotate_token(&self) -> Result<PersonToken, ClientError> {
        self.send(Method::POST, "/tokens/own/rotation", &()).await
    }

    /// What waits for a second person.
    pub async fn requests(&self) -> Result<PendingRequests, ClientError> {
        self.get("/requests").await
    }

    /// Takes a request back.
    pub async fn withdraw_request(&self, id: &str) -> Result<(), ClientError> {
        let id: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
        let request = self.http.request(Method::DELETE, &format!("{ADMIN_PREFIX}/requests/{id}"))?;
        self.http.send(request).await.map(drop)
    }

    /// Starts to read the whole audit log.
    pub async fn audit_export(&self) -> Result<AuditExport, ClientError> {
        let request = self.http.request(Method::GET, &format!("{ADMIN_PREFIX}/audit/export"))?;
        Ok(AuditExport { http: self.http.clone(), answer: self.http.send(request).await? })
    }
}
