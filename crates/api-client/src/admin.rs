//! The admin API, a method a route.

use crate::error::ClientError;
use crate::http::{Http, Timeouts, Trust};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_api::ADMIN_PREFIX;
use sluice_api::admin as form;
use sluice_api::bans::{BanList, NewLift};
use sluice_identity::Fingerprint;
use sluice_model::{EndpointId, MemberKey, PatchRef, SiteName};
use std::fmt::Write;

/// Longest answer that is read: 20,000 endpoints of some 400 bytes are 8 MB.
const ANSWER_BYTES_MAX: u64 = 32 << 20;

/// Longest answer of `/healthz`.
const HEALTH_BYTES_MAX: u64 = 1 << 10;

/// An administrator's client of one repo server.
#[derive(Clone)]
pub struct AdminClient {
    pub(crate) http: Http,
}

/// Which compliance table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComplianceBy {
    /// A row a patch and ring.
    Patch,
    /// A row a site.
    Site,
    /// A row an endpoint and patch.
    Endpoint,
}

impl ComplianceBy {
    fn path(self) -> &'static str {
        match self {
            Self::Patch => "/compliance/patches",
            Self::Site => "/compliance/sites",
            Self::Endpoint => "/compliance/endpoints",
        }
    }
}

/// Which outcomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutcomeQuery {
    /// Of one endpoint.
    pub endpoint: Option<EndpointId>,
    /// Of one patch.
    pub patch: Option<PatchRef>,
    /// Of one site.
    pub site: Option<SiteName>,
    /// After this position.
    pub after: Option<u64>,
    /// At most so many.
    pub limit: Option<u64>,
}

impl OutcomeQuery {
    fn text(&self) -> String {
        let mut text = Query::default();
        text.add("endpoint", self.endpoint.as_ref());
        text.add("patch", self.patch.as_ref());
        text.add("site", self.site.as_ref());
        text.add("after", self.after);
        text.add("limit", self.limit);
        text.0
    }
}

/// Builds `?a=1&b=2`.
#[derive(Default)]
struct Query(String);

impl Query {
    fn add(&mut self, name: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            let joint = if self.0.is_empty() { '?' } else { '&' };
            let _ = write!(self.0, "{joint}{name}={}", escape(&value.to_string()));
        }
    }
}

/// Percent-encodes everything but RFC 3986 unreserved characters.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

fn patch_path(patch: &PatchRef, rest: &str) -> String {
    format!("/patches/{}/{}{rest}", escape(patch.name.as_str()), escape(patch.version.as_str()))
}

impl AdminClient {
    /// A client of the repo server at `base_url` with a person's token.
    pub fn new(base_url: &str, token: Option<&str>) -> Result<Self, ClientError> {
        Ok(Self { http: Http::open(base_url, token, Timeouts::default())? })
    }

    /// The same over HTTPS, where the server must show a certificate of the internal CA that is pinned.
    pub fn pinned(base_url: &str, token: Option<&str>, authority: Fingerprint) -> Result<Self, ClientError> {
        let trust = Some(Trust::Authority(authority));
        Ok(Self { http: Http::open_trusting(base_url, token, Timeouts::default(), trust)? })
    }

    /// The internal CA that the HTTPS server at `base_url` shows, unverified; `None` when its chain ends without one.
    /// Nothing is sent but the handshake.
    pub async fn shown_authority(base_url: &str) -> Result<Option<Fingerprint>, ClientError> {
        let http = Http::open_trusting(base_url, None, Timeouts::default(), Some(Trust::Nobody))?;
        match http.get_bytes("/healthz", HEALTH_BYTES_MAX).await {
            Err(ClientError::NotPinned { got, .. }) => Ok(got),
            Err(error) => Err(error),
            Ok(_) => Ok(None),
        }
    }

    /// Whether the server answers at all, without a token: over HTTPS that the system trusts it.
    pub async fn reach(&self) -> Result<(), ClientError> {
        self.http.get_bytes("/healthz", HEALTH_BYTES_MAX).await.map(drop)
    }

    /// The base URL, without a slash at the end.
    pub fn base_url(&self) -> &str {
        self.http.base()
    }

    pub(crate) async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, ClientError> {
        self.http.get_json(&format!("{ADMIN_PREFIX}{path}"), ANSWER_BYTES_MAX).await
    }

    pub(crate) async fn send<B: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<A, ClientError> {
        self.http.send_json(method, &format!("{ADMIN_PREFIX}{path}"), body, ANSWER_BYTES_MAX).await
    }

    async fn delete(&self, path: &str) -> Result<(), ClientError> {
        let request = self.http.request(Method::DELETE, &format!("{ADMIN_PREFIX}{path}"))?;
        self.http.send(request).await.map(drop)
    }

    /// Whose token this is.
    pub async fn whoami(&self) -> Result<form::WhoAmI, ClientError> {
        self.get("/whoami").await
    }

    /// The repository at a glance.
    pub async fn status(&self) -> Result<form::Status, ClientError> {
        self.get("/status").await
    }

    /// Creates a patch of finished uploads.
    pub async fn create_patch(&self, patch: &form::NewPatch) -> Result<form::Patch, ClientError> {
        self.send(Method::POST, "/patches", patch).await
    }

    /// Every patch, newest first.
    pub async fn patches(&self) -> Result<form::Patches, ClientError> {
        self.get("/patches").await
    }

    /// One patch.
    pub async fn patch(&self, patch: &PatchRef) -> Result<form::Patch, ClientError> {
        self.get(&patch_path(patch, "")).await
    }

    /// Approves a patch into a ring.
    pub async fn approve(&self, patch: &PatchRef, approval: &form::NewApproval) -> Result<form::Patch, ClientError> {
        self.send(Method::POST, &patch_path(patch, "/approvals"), approval).await
    }

    /// Retracts a patch.
    pub async fn retract(
        &self,
        patch: &PatchRef,
        retraction: &form::NewRetraction,
    ) -> Result<form::Asked<form::Retraction>, ClientError> {
        self.send(Method::POST, &patch_path(patch, "/retraction"), retraction).await
    }

    /// What retracting would do.
    pub async fn retraction_plan(
        &self,
        patch: &PatchRef,
        scope: &form::RetractionScope,
    ) -> Result<form::RetractionPlan, ClientError> {
        self.send(Method::POST, &patch_path(patch, "/retraction-plan"), scope).await
    }

    /// Reinstates a retracted patch in one ring, when this is the second person who asks.
    pub async fn reinstate(
        &self,
        reinstatement: &form::NewReinstatement,
    ) -> Result<form::Asked<form::Patch>, ClientError> {
        self.send(Method::POST, "/reinstatements", reinstatement).await
    }

    /// Every suspension in force.
    pub async fn suspensions(&self) -> Result<form::Suspensions, ClientError> {
        self.get("/suspensions").await
    }

    /// Suspends.
    pub async fn suspend(&self, suspension: &form::NewSuspension) -> Result<form::Suspension, ClientError> {
        self.send(Method::POST, "/suspensions", suspension).await
    }

    /// Lifts a suspension, when this is the second person who asks.
    pub async fn lift_suspension(
        &self,
        id: u64,
        lift: &form::NewLift,
    ) -> Result<form::Asked<form::Suspension>, ClientError> {
        self.send(Method::POST, &format!("/suspensions/{id}/lift"), lift).await
    }

    /// Every retraction, newest first.
    pub async fn retractions(&self) -> Result<form::Retractions, ClientError> {
        self.get("/retractions").await
    }

    /// One retraction and how far it has come.
    pub async fn retraction(&self, serial: u64) -> Result<form::Retraction, ClientError> {
        self.get(&format!("/retractions/{serial}")).await
    }

    /// Every site.
    pub async fn sites(&self) -> Result<form::Sites, ClientError> {
        self.get("/sites").await
    }

    /// Adds a site.
    pub async fn add_site(&self, site: &form::NewSite) -> Result<form::Site, ClientError> {
        self.send(Method::POST, "/sites", site).await
    }

    /// Sets the caps of a site.
    pub async fn set_site_limits(
        &self,
        site: &SiteName,
        limits: &form::NewSiteLimits,
    ) -> Result<form::Site, ClientError> {
        self.send(Method::PUT, &format!("/sites/{site}/limits"), limits).await
    }

    /// Sets when the WAN link of a site may be used otherwise; without windows the cap holds at all times.
    pub async fn set_site_schedule(
        &self,
        site: &SiteName,
        schedule: &form::Schedule,
    ) -> Result<form::Site, ClientError> {
        self.send(Method::PUT, &format!("/sites/{site}/schedule"), schedule).await
    }

    /// Every ring in lifecycle order.
    pub async fn rings(&self) -> Result<form::Rings, ClientError> {
        self.get("/rings").await
    }

    /// A token that enrols one device; shown once.
    pub async fn new_enrolment_token(
        &self,
        token: &form::NewEnrolmentToken,
    ) -> Result<form::EnrolmentToken, ClientError> {
        self.send(Method::POST, "/enrolment-tokens", token).await
    }

    /// A person's token; shown once.
    pub async fn new_person_token(&self, token: &form::NewPersonToken) -> Result<form::PersonToken, ClientError> {
        self.send(Method::POST, "/person-tokens", token).await
    }

    /// Every node.
    pub async fn nodes(&self) -> Result<form::Nodes, ClientError> {
        self.get("/nodes").await
    }

    /// Takes a node out of the roster.
    pub async fn remove_node(&self, node: &MemberKey) -> Result<(), ClientError> {
        self.delete(&format!("/nodes/{node}")).await
    }

    /// Every ban in the whole fleet.
    pub async fn bans(&self) -> Result<BanList, ClientError> {
        self.get("/bans").await
    }

    /// Lifts the ban of a member.
    pub async fn lift_ban(&self, member: &MemberKey, lift: &NewLift) -> Result<(), ClientError> {
        self.http.send_json_only(Method::POST, &format!("{ADMIN_PREFIX}/bans/{member}/lift"), lift).await
    }

    /// Every endpoint.
    pub async fn endpoints(&self) -> Result<form::Endpoints, ClientError> {
        self.get("/endpoints").await
    }

    /// Revokes an endpoint.
    pub async fn remove_endpoint(&self, endpoint: &EndpointId) -> Result<(), ClientError> {
        self.delete(&format!("/endpoints/{endpoint}")).await
    }

    /// Why an endpoint has what it has.
    pub async fn explanation(&self, endpoint: &EndpointId) -> Result<form::Explanation, ClientError> {
        self.get(&format!("/endpoints/{endpoint}/explanation")).await
    }

    /// A page of outcomes.
    pub async fn outcomes(&self, query: &OutcomeQuery) -> Result<form::Outcomes, ClientError> {
        self.get(&format!("/outcomes{}", query.text())).await
    }

    /// Compliance by patch and ring.
    pub async fn compliance_by_patch(&self) -> Result<form::ComplianceByPatch, ClientError> {
        self.get(ComplianceBy::Patch.path()).await
    }

    /// Compliance by site.
    pub async fn compliance_by_site(&self) -> Result<form::ComplianceBySite, ClientError> {
        self.get(ComplianceBy::Site.path()).await
    }

    /// Compliance by endpoint and patch.
    pub async fn compliance_by_endpoint(&self) -> Result<form::ComplianceByEndpoint, ClientError> {
        self.get(ComplianceBy::Endpoint.path()).await
    }

    /// A compliance table as CSV.
    pub async fn compliance_csv(&self, by: ComplianceBy) -> Result<String, ClientError> {
        let path = format!("{ADMIN_PREFIX}{}", by.path());
        let request = self.http.request(Method::GET, &path)?.header(reqwest::header::ACCEPT, "text/csv");
        let answer = self.http.send(request).await?;
        let url = answer.url().to_string();
        let body = self.http.body(answer, ANSWER_BYTES_MAX).await?;
        String::from_utf8(body.to_vec())
            .map_err(|_| ClientError::Malformed { url, reason: "it is not UTF-8".to_owned() })
    }

    /// A page of audit lines.
    pub async fn audit(&self, after: Option<u64>, limit: Option<u64>) -> Result<form::AuditEntries, ClientError> {
        let mut query = Query::default();
        query.add("after", after);
        query.add("limit", limit);
        self.get(&format!("/audit{}", query.0)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_only_what_was_asked_for_and_escapes_it() {
        assert_eq!(OutcomeQuery::default().text(), "");
        let query = OutcomeQuery {
            patch: Some("openssl/1:3.0+deb~1".parse().unwrap()),
            limit: Some(5),
            ..OutcomeQuery::default()
        };
        assert_eq!(query.text(), "?patch=openssl%2F1%3A3.0%2Bdeb~1&limit=5");
    }

    #[test]
    fn an_address_without_a_scheme_is_refused_with_an_example() {
        let error = AdminClient::new("repo.example:8470", None).err().unwrap().to_string();
        assert!(error.contains("http://127.0.0.1:8470"), "{error}");
    }
}
