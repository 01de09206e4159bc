//! Handshakes over real sockets: who gets in, who does not, and with which error.

#![allow(clippy::unwrap_used, reason = "a test may unwrap")]

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use sluice_identity::{
    ALPN_EXCHANGE, ALPN_HTTP, DeviceKey, WrongServerKey, client_config, peer_key, server_config, wrong_server_key,
};
use sluice_model::MemberKey;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

struct Side {
    peer: MemberKey,
    alpn: Option<Vec<u8>>,
    said: [u8; 4],
}

/// Shakes hands, exchanges four bytes each way, and says what each side saw.
async fn shake(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> (io::Result<Side>, io::Result<Side>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async {
        let (tcp, _) = listener.accept().await?;
        let mut stream = TlsAcceptor::from(server).accept(tcp).await?;
        stream.write_all(b"serv").await?;
        let mut said = [0; 4];
        stream.read_exact(&mut said).await?;
        let state = stream.get_ref().1;
        let peer = peer_key(state.peer_certificates().unwrap_or_default()).map_err(io::Error::other)?;
        Ok(Side { peer, alpn: state.alpn_protocol().map(<[u8]>::to_vec), said })
    };
    let call = async {
        let tcp = TcpStream::connect(address).await?;
        let mut stream = TlsConnector::from(client).connect(ServerName::from(address.ip()), tcp).await?;
        stream.write_all(b"clnt").await?;
        let mut said = [0; 4];
        stream.read_exact(&mut said).await?;
        let state = stream.get_ref().1;
        let peer = peer_key(state.peer_certificates().unwrap_or_default()).map_err(io::Error::other)?;
        Ok(Side { peer, alpn: state.alpn_protocol().map(<[u8]>::to_vec), said })
    };
    tokio::join!(serve, call)
}

#[tokio::test]
async fn both_sides_learn_the_key_of_the_other() {
    let (a, b) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
    let (server, client) =
        shake(server_config(&a, &[ALPN_HTTP, ALPN_EXCHANGE]), client_config(&b, a.public(), &[ALPN_EXCHANGE])).await;
    let (server, client) = (server.unwrap(), client.unwrap());
    assert_eq!(server.peer, b.public());
    assert_eq!(client.peer, a.public());
    assert_eq!(server.alpn.as_deref(), Some(ALPN_EXCHANGE));
    assert_eq!(client.alpn.as_deref(), Some(ALPN_EXCHANGE));
    assert_eq!((&server.said, &client.said), (b"clnt", b"serv"));
}

#[tokio::test]
async fn a_server_with_another_key_is_refused_with_its_own_error() {
    let (a, b, c) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
    let (server, client) = shake(server_config(&a, &[ALPN_HTTP]), client_config(&b, c.public(), &[ALPN_HTTP])).await;
    let error = client.err().unwrap();
    assert_eq!(wrong_server_key(&error), Some(WrongServerKey { expected: c.public(), got: a.public() }));
    assert!(server.is_err());
}

#[tokio::test]
async fn a_server_that_shows_a_key_it_does_not_own_is_refused() {
    let (a, b, thief) =
        (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
    // A configuration that shows a's raw key but signs with the thief's.
    let shown = {
        let mut der = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        der.extend_from_slice(a.public().as_bytes());
        der
    };
    let pem = thief.signer().to_pkcs8_pem();
    let key =
        <rustls::pki_types::PrivatePkcs8KeyDer as rustls::pki_types::pem::PemObject>::from_pem_slice(pem.as_bytes())
            .unwrap();
    let signing = rustls::crypto::ring::sign::any_eddsa_type(&key).unwrap();
    let certified = Arc::new(rustls::sign::CertifiedKey::new(vec![shown.into()], signing));
    let mut config = ServerConfig::clone(&server_config(&thief, &[ALPN_HTTP]));
    config.cert_resolver = Arc::new(rustls::server::AlwaysResolvesServerRawPublicKeys::new(certified));
    let (_, client) = shake(Arc::new(config), client_config(&b, a.public(), &[ALPN_HTTP])).await;
    let error = client.err().unwrap().to_string();
    assert!(error.contains("BadSignature"), "{error}");
}

#[tokio::test]
async fn a_client_without_a_key_is_refused() {
    let (a, b) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
    let mut config = ClientConfig::clone(&client_config(&b, a.public(), &[ALPN_HTTP]));
    config.client_auth_cert_resolver = Arc::new(NoKey);
    let (server, _) = shake(server_config(&a, &[ALPN_HTTP]), Arc::new(config)).await;
    assert!(server.is_err());
}

#[derive(Debug)]
struct NoKey;

impl rustls::client::ResolvesClientCert for NoKey {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }
    fn only_raw_public_keys(&self) -> bool {
        true
    }
    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let a = DeviceKey::generate().unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let old = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let (server, client) = shake(server_config(&a, &[ALPN_HTTP]), Arc::new(old)).await;
    let error = server.err().unwrap().to_string();
    assert!(error.contains("Tls12NotOffered") || error.contains("peer is incompatible"), "{error}");
    assert!(client.is_err());
}

#[tokio::test]
async fn an_unknown_protocol_is_refused() {
    let (a, b) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
    let (server, client) = shake(server_config(&a, &[ALPN_HTTP]), client_config(&b, a.public(), &[b"other"])).await;
    assert!(server.is_err() && client.is_err());
}
