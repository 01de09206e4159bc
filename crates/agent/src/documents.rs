//! The signed documents that this endpoint needs: kept with their bytes, fetched again when the signed hash is another.

use crate::nodes::Source;
use serde::de::DeserializeOwned;
use sluice_api_client::ClientError;
use sluice_metadata::{DocumentError, DocumentRef, View, read_document, verify_document};
use sluice_model::{EndpointId, EndpointRow, EndpointRows, Roster, SiteName, Suspensions, TargetName};
use sluice_rollout::InForce;
use sluice_state_store::{StateError, StateStore};

/// Why a document is not at hand.
#[derive(Debug, thiserror::Error)]
pub enum DocumentsError {
    /// The metadata names none.
    #[error("the signed metadata has no {0}")]
    NotSigned(String),
    /// No source has it.
    #[error("{name} could not be fetched")]
    Fetch {
        /// Which.
        name: String,
        /// The last source's answer; `None`: it said that it has none.
        source: Option<ClientError>,
    },
    /// Other bytes than signed, or unreadable.
    #[error("{name} was refused")]
    Refused {
        /// Which.
        name: String,
        /// Why.
        source: DocumentError,
    },
    /// The store failed.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What the signed documents say of this endpoint.
pub struct Fleet {
    /// Every member.
    pub roster: Roster,
    /// Our row; `None` when we are not (or no longer) in the list of our site.
    pub row: Option<EndpointRow>,
    /// What is suspended at our site.
    pub suspensions: InForce,
}

/// Where documents come from and where they are kept.
pub struct Documents<'a> {
    /// Keeps them.
    pub store: &'a StateStore,
    /// Signs them.
    pub view: &'a View,
    /// Asked in this order; empty: only what is kept.
    pub sources: &'a [Source],
}

impl Documents<'_> {
    /// Roster, our row, and what is suspended.
    pub async fn fleet(&self, site: &SiteName, endpoint: &EndpointId) -> Result<Fleet, DocumentsError> {
        let roster = self.read::<Roster>("fleet/roster").await?;
        let rows = self.read::<EndpointRows>(&format!("fleet/endpoints-{site}")).await;
        let row = match rows {
            Ok(rows) => rows.active(endpoint).cloned(),
            // A site without endpoints has no list.
            Err(DocumentsError::NotSigned(_)) => None,
            Err(error) => return Err(error),
        };
        let suspensions = match self.read::<Suspensions>("policy/suspensions").await {
            // Before the first suspension there is no list.
            Err(DocumentsError::NotSigned(_)) => Suspensions::default(),
            other => other?,
        };
        Ok(Fleet { roster, row, suspensions: InForce::at(&suspensions, site) })
    }

    async fn read<T: DeserializeOwned>(&self, name: &str) -> Result<T, DocumentsError> {
        let not_signed = || DocumentsError::NotSigned(name.to_owned());
        let refused = |source| DocumentsError::Refused { name: name.to_owned(), source };
        let target: TargetName = name.parse().map_err(|_| not_signed())?;
        let document = self.view.documents.get(&target).ok_or_else(not_signed)?;
        let key = format!("document/{name}");
        let kept = self.store.get(&key)?;
        if let Some(bytes) = kept.filter(|bytes| verify_document(document, bytes).is_ok()) {
            return read_document(document, &bytes).map_err(refused);
        }
        let bytes = self.fetch(&target, document).await?;
        let value = read_document(document, &bytes).map_err(refused)?;
        tokio::task::block_in_place(|| self.store.put(&key, &bytes))?;
        Ok(value)
    }

    async fn fetch(&self, name: &TargetName, document: &DocumentRef) -> Result<Vec<u8>, DocumentsError> {
        let mut last = None;
        for source in self.sources {
            match source.document(name, document).await {
                Ok(Some(bytes)) if verify_document(document, &bytes).is_ok() => return Ok(bytes.to_vec()),
                Ok(Some(_)) => tracing::warn!(source = source.name(), %name, "sent other bytes than are signed"),
                Ok(None) => {}
                Err(error) => last = Some(error),
            }
        }
        Err(DocumentsError::Fetch { name: name.to_string(), source: last })
    }
}
