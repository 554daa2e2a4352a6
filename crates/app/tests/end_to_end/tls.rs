//! Servers over TLS: whom the program trusts, and who is named by `egress.ca_file`.

use std::net::SocketAddr;
use std::sync::Arc;

use connectors_testkit::mcp_server::McpServer;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::Service;

/// Puts TLS before a server. Returns where it is then, and its certificate, which is signed by nobody else.
async fn over_tls(server: SocketAddr) -> (SocketAddr, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let pem = certificate.pem();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let (Ok(mut inside), Ok(mut outside)) =
                    (TcpStream::connect(server).await, acceptor.accept(stream).await)
                else {
                    return;
                };
                let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
            });
        }
    });
    (address, pem)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_vouches_for_is_refused_until_the_operator_does() {
    let directory = tempfile::tempdir().unwrap();
    let server = McpServer::builder().start().await.unwrap();
    let (address, pem) = over_tls(server.address()).await;
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, pem).unwrap();
    let allow = json!([address.to_string()]).to_string();
    let url = format!("https://{address}/mcp");

    let mut service = Service::start_with(directory.path(), &[("EGRESS__ALLOW", &allow)]);
    let id = service.create(&url).await;
    let (_, problem) = service.connect(&id, json!({})).await;
    assert_eq!(problem["disconnect_code"], "server_unreachable", "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("trusted authority"), "{problem}");
    assert_eq!(server.request_count(), 0);
    service.stop().await;

    let environment = [("EGRESS__ALLOW", allow.as_str()), ("EGRESS__CA_FILE", file.to_str().unwrap())];
    let service = Service::start_with(directory.path(), &environment);
    let (status, connector) = service.connect(&id, json!({})).await;
    assert_eq!((status, connector["state"].as_str()), (200, Some("connected")), "{connector}");
    service.counts(&id).await;
}
