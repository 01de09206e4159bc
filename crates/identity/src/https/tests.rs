//! The pinned client against chains of the right and of other authorities, through real handshakes in memory.

use super::*;
use crate::InternalCa;
use rustls::{ClientConnection, ServerConnection};
use sluice_model::Timestamp;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_secs(24 * 3_600);

#[expect(clippy::disallowed_methods, reason = "webpki reads the system's clock, so the certificates must be of now")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap())
}

fn authority(folder: &Path) -> InternalCa {
    InternalCa::load_or_create(folder, now()).unwrap()
}

fn names() -> Vec<String> {
    vec!["repo.example".to_owned(), "127.0.0.1".to_owned()]
}

/// Moves bytes between both ends until both are done or one fails.
fn handshake(server: &Arc<ServerConfig>, client: ClientConfig, name: &str) -> Result<(), rustls::Error> {
    let mut server = ServerConnection::new(server.clone()).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        let _ = server.process_new_packets();
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut bytes = bytes.as_slice();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(())
}

#[test]
fn the_pinned_authority_is_believed_for_its_names_and_no_other_authority_is() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (authority(&folder.path().join("ours")), authority(&folder.path().join("other")));
    let certificates = Certificates::new(ours.issue(&names(), now(), DAY).unwrap());
    let server = https_server_config(certificates.clone());
    let pinned = |ca: &InternalCa| pinned_authority_config(Some(ca.fingerprint())).0;
    handshake(&server, pinned(&ours), "repo.example").unwrap();
    handshake(&server, pinned(&ours), "127.0.0.1").unwrap();
    handshake(&server, pinned(&ours), "evil.example").unwrap_err();

    let (client, seen) = pinned_authority_config(Some(other.fingerprint()));
    handshake(&server, client, "repo.example").unwrap_err();
    assert_eq!(seen.get(), Some(NotPinned { got: Some(ours.fingerprint()) }));
    let (client, seen) = pinned_authority_config(None);
    handshake(&server, client, "repo.example").unwrap_err();
    assert_eq!(seen.get().unwrap().got, Some(ours.fingerprint()));

    // A chain that carries our CA's certificate beside a leaf of somebody else is no chain.
    let mut forged = other.issue(&names(), now(), DAY).unwrap();
    forged.chain[1] = ours.issue(&names(), now(), DAY).unwrap().chain[1].clone();
    certificates.replace(forged);
    handshake(&server, pinned(&ours), "repo.example").unwrap_err();
    certificates.replace(ours.issue(&names(), now(), DAY).unwrap());
    handshake(&server, pinned(&ours), "repo.example").unwrap();
}

#[test]
fn an_expired_leaf_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ours = authority(folder.path());
    let long_ago = Timestamp::from_millis(now().as_millis() - 2 * 24 * 3_600_000);
    let server = https_server_config(Certificates::new(ours.issue(&names(), long_ago, DAY).unwrap()));
    let error = handshake(&server, pinned_authority_config(Some(ours.fingerprint())).0, "repo.example").unwrap_err();
    assert!(matches!(error, rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { .. })), "{error:?}");
}
