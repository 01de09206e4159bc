//! One HTTP exchange with bounds: send, judge the status, read at most so many bytes, decode.

use crate::error::ClientError;
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_api::problem::Problem;
use sluice_identity::{DeviceKey, Fingerprint, SeenAuthority};
use sluice_model::MemberKey;
use std::sync::Arc;
use std::time::Duration;

/// Called with the number of bytes that were just received or are about to be sent; the exchange goes on when the
/// future is done, so a limiter makes it wait.
pub type Pace = Arc<dyn Fn(u64) -> BoxFuture<'static, ()> + Send + Sync>;

/// Longest problem document that is read.
const PROBLEM_BYTES_MAX: u64 = 64 << 10;

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, its handshake included.
    pub connect: Duration,
    /// For the next byte of an answer.
    pub idle: Duration,
    /// For a whole small exchange; streamed content has no such bound.
    pub whole: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), idle: Duration::from_secs(30), whole: Duration::from_secs(60) }
    }
}

/// Whom an HTTPS client believes, when not the system's authorities.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trust {
    /// The internal CA with this fingerprint.
    Authority(Fingerprint),
    /// None: to learn what the server shows.
    Nobody,
}

/// A client of one server.
#[derive(Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
    base: Url,
    bearer: Option<Arc<str>>,
    expected: Option<MemberKey>,
    authority: Option<SeenAuthority>,
    timeouts: Timeouts,
    pace: Option<Pace>,
}

impl Http {
    /// A client of the server at `base` (`http://` or `https://`), without a device key.
    pub(crate) fn open(base: &str, bearer: Option<&str>, timeouts: Timeouts) -> Result<Self, ClientError> {
        Self::open_trusting(base, bearer, timeouts, None)
    }

    /// The same; over `https://` the server must show a certificate of the internal CA with that fingerprint, and of no
    /// other authority. [`Trust::Nobody`] believes none: what the server shows stands in the error.
    pub(crate) fn open_trusting(
        base: &str,
        bearer: Option<&str>,
        timeouts: Timeouts,
        trust: Option<Trust>,
    ) -> Result<Self, ClientError> {
        sluice_identity::install_provider();
        let wrong = |reason: String| ClientError::BadUrl { text: base.to_owned(), reason };
        let url = Url::parse(base.trim_end_matches('/')).map_err(|error| wrong(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(wrong("it has to begin with http:// or https://".to_owned()));
        }
        if bearer.is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(wrong("the token holds characters that no token has".to_owned()));
        }
        let mut builder = builder(timeouts);
        if url.scheme() == "http" {
            // Nothing here ends up on TLS, so a machine without a certificate store is no obstacle.
            builder = builder.tls_certs_only([]);
        }
        let authority = trust.map(|trust| {
            sluice_identity::pinned_authority_config(match trust {
                Trust::Authority(fingerprint) => Some(fingerprint),
                Trust::Nobody => None,
            })
        });
        let authority = match authority {
            Some((tls, seen)) if url.scheme() == "https" => {
                builder = builder.tls_backend_preconfigured(tls);
                Some(seen)
            }
            _ => None,
        };
        let client = builder.build().map_err(|error| wrong(error.to_string()))?;
        Ok(Self { client, base: url, bearer: bearer.map(Arc::from), expected: None, authority, timeouts, pace: None })
    }

    /// A client of the device listener at `address`, which must prove `expected`; this side proves `key`.
    pub(crate) fn open_device(
        address: std::net::SocketAddr,
        expected: MemberKey,
        key: &DeviceKey,
        timeouts: Timeouts,
    ) -> Result<Self, ClientError> {
        let text = format!("https://{address}");
        let wrong = |reason: String| ClientError::BadUrl { text: text.clone(), reason };
        let tls = sluice_identity::client_config(key, expected, &[sluice_api::ALPN_HTTP]);
        let client = builder(timeouts)
            .no_proxy()
            .tls_backend_preconfigured((*tls).clone())
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let base = Url::parse(&text).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { client, base, bearer: None, expected: Some(expected), authority: None, timeouts, pace: None })
    }

    pub(crate) fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = Some(pace);
        self
    }

    pub(crate) fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// `path` below the base, or `path` itself when it is a whole URL of the same server.
    pub(crate) fn url(&self, path: &str) -> Result<Url, ClientError> {
        let wrong = |reason: &str| ClientError::Malformed { url: self.base().to_owned(), reason: reason.to_owned() };
        if path.starts_with('/') {
            return Url::parse(&format!("{}{path}", self.base())).map_err(|_| wrong("a path that is no path"));
        }
        let url = Url::parse(path).map_err(|_| wrong("a location that is no URL"))?;
        // A bearer token must not follow a foreign location.
        if url.origin() == self.base.origin() { Ok(url) } else { Err(wrong("a location on another server")) }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, ClientError> {
        let mut request = self.client.request(method, self.url(path)?);
        if let Some(bearer) = &self.bearer {
            request = request.bearer_auth(bearer);
        }
        Ok(request)
    }

    /// Sends; an error status becomes an error. The answer's body is unread.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let request = request.build().map_err(|error| ClientError::of(self.base(), self.expected, error))?;
        let url = request.url().to_string();
        let answer = self.client.execute(request).await.map_err(|error| self.not_sent(&url, error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(self.refusal(url, answer).await)
    }

    fn not_sent(&self, url: &str, error: reqwest::Error) -> ClientError {
        match self.authority.as_ref().and_then(SeenAuthority::get) {
            Some(wrong) => ClientError::NotPinned { url: url.to_owned(), got: wrong.got, source: error.without_url() },
            None => ClientError::of(url, self.expected, error),
        }
    }

    async fn refusal(&self, url: String, answer: Response) -> ClientError {
        let status = answer.status();
        match self.body(answer, PROBLEM_BYTES_MAX).await.map(|body| serde_json::from_slice::<Problem>(&body)) {
            Ok(Ok(problem)) if problem.status == status.as_u16() => {
                ClientError::Problem { url, problem: Box::new(problem) }
            }
            _ => ClientError::Status { url, status: status.as_u16() },
        }
    }

    /// The body, at most `limit_bytes`.
    pub(crate) async fn body(&self, mut answer: Response, limit_bytes: u64) -> Result<Bytes, ClientError> {
        let url = answer.url().to_string();
        let too_large = || ClientError::TooLarge { url: url.clone(), limit_bytes };
        if answer.content_length().is_some_and(|length| length > limit_bytes) {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        while let Some(part) = self.part(&mut answer).await? {
            if (body.len() + part.len()) as u64 > limit_bytes {
                return Err(too_large());
            }
            body.extend_from_slice(&part);
        }
        Ok(body.freeze())
    }

    /// The next part of a body, paced.
    pub(crate) async fn part(&self, answer: &mut Response) -> Result<Option<Bytes>, ClientError> {
        let part =
            answer.chunk().await.map_err(|error| ClientError::of(answer.url().as_str(), self.expected, error))?;
        if let Some(part) = &part {
            self.paced(part.len() as u64).await;
        }
        Ok(part)
    }

    pub(crate) async fn paced(&self, bytes: u64) {
        if let Some(pace) = &self.pace {
            pace(bytes).await;
        }
    }

    /// GET of a small file; `None` for 404.
    pub(crate) async fn get_bytes(&self, path: &str, limit_bytes: u64) -> Result<Option<Bytes>, ClientError> {
        let request = self.request(Method::GET, path)?.timeout(self.timeouts.whole);
        match self.send(request).await {
            Ok(answer) => self.body(answer, limit_bytes).await.map(Some),
            Err(ClientError::Status { status: 404, .. }) => Ok(None),
            Err(ClientError::Problem { problem, .. }) if problem.status == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn get_json<A: DeserializeOwned>(&self, path: &str, limit_bytes: u64) -> Result<A, ClientError> {
        let request = self.request(Method::GET, path)?.timeout(self.timeouts.whole);
        self.json(request, limit_bytes).await
    }

    pub(crate) async fn send_json<B: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
        limit_bytes: u64,
    ) -> Result<A, ClientError> {
        let request = self.with_json(method, path, body).await?;
        self.json(request, limit_bytes).await
    }

    /// Sends JSON to a route that answers without a body.
    pub(crate) async fn send_json_only<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<(), ClientError> {
        let request = self.with_json(method, path, body).await?;
        self.send(request).await.map(drop)
    }

    async fn with_json<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<RequestBuilder, ClientError> {
        let body = serde_json::to_vec(body).expect("the forms of the API are JSON");
        self.paced(body.len() as u64).await;
        let request = self.request(method, path)?.timeout(self.timeouts.whole);
        Ok(request.header(reqwest::header::CONTENT_TYPE, "application/json").body(body))
    }

    async fn json<A: DeserializeOwned>(&self, request: RequestBuilder, limit_bytes: u64) -> Result<A, ClientError> {
        let answer = self.send(request).await?;
        let url = answer.url().to_string();
        let body = self.body(answer, limit_bytes).await?;
        serde_json::from_slice(&body).map_err(|error| ClientError::Malformed { url, reason: error.to_string() })
    }
}

fn builder(timeouts: Timeouts) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(timeouts.connect)
        .read_timeout(timeouts.idle)
        .pool_max_idle_per_host(2)
        .tcp_nodelay(true)
}

/// Whether the status says that a part was sent.
pub(crate) fn is_partial(status: StatusCode) -> bool {
    status == StatusCode::PARTIAL_CONTENT
}
