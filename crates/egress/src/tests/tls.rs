//! Whom TLS trusts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::fixture::{Names, OK, get, loopback};
use crate::{BuildError, Egress, EgressError, Limits, Policy};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pem: String,
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { pem, issuer: Issuer::new(params, key) }
}

fn leaf(names: &[&str], authority: Option<&Authority>, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = match authority {
        Some(authority) => params.signed_by(&key, &authority.issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    let pem = certificate.pem();
    Leaf { chain: vec![certificate.into()], key: PrivateKeyDer::Pkcs8(key.serialize_der().into()), pem }
}

/// Serves [`OK`] over TLS; counts the requests that arrive inside.
async fn serve(leaf: Leaf, versions: &[&'static SupportedProtocolVersion]) -> (u16, Arc<AtomicUsize>) {
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(leaf.chain, leaf.key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(AtomicUsize::new(0));
    tokio::spawn({
        let requests = Arc::clone(&requests);
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, requests) = (acceptor.clone(), Arc::clone(&requests));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                        requests.fetch_add(1, Ordering::SeqCst);
                        let _ = stream.write_all(OK.as_bytes()).await;
                    }
                });
            }
        }
    });
    (port, requests)
}

fn trusting(pem: Option<&str>) -> Egress {
    Egress::new(&loopback(), &Limits::default(), pem.map(str::as_bytes)).unwrap()
}

async fn status(egress: &Egress, host: &str, port: u16) -> Result<u16, EgressError> {
    egress.send(get(&format!("https://{host}:{port}/"))).await.map(|response| response.status().as_u16())
}

fn tls(reason: &'static str) -> Result<u16, EgressError> {
    Err(EgressError::Tls { reason })
}

const BOTH: &[&SupportedProtocolVersion] = rustls::ALL_VERSIONS;

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused_until_its_authority_is_given() {
    let authority = authority();
    let (port, requests) = serve(leaf(&["127.0.0.1"], Some(&authority), |_| {}), BOTH).await;
    let stranger = status(&trusting(None), "127.0.0.1", port).await;
    assert_eq!(stranger, tls("its certificate is not from a trusted authority"));
    assert!(!stranger.unwrap_err().may_have_been_sent());
    assert_eq!(requests.load(Ordering::SeqCst), 0);

    assert_eq!(status(&trusting(Some(&authority.pem)), "127.0.0.1", port).await, Ok(200));
    let bundle = format!("# a comment\n{}\n{}", self::authority().pem, authority.pem);
    assert_eq!(status(&trusting(Some(&bundle)), "127.0.0.1", port).await, Ok(200));
    let other = status(&trusting(Some(&self::authority().pem)), "127.0.0.1", port).await;
    assert!(matches!(other, Err(EgressError::Tls { .. })), "{other:?}");
}

#[tokio::test]
async fn a_self_signed_certificate_is_refused_until_it_is_given() {
    let leaf = leaf(&["127.0.0.1"], None, |_| {});
    let pem = leaf.pem.clone();
    let (port, requests) = serve(leaf, BOTH).await;
    let stranger = status(&trusting(None), "127.0.0.1", port).await;
    assert_eq!(stranger, tls("its certificate is not from a trusted authority"));
    assert_eq!(requests.load(Ordering::SeqCst), 0);
    assert_eq!(status(&trusting(Some(&pem)), "127.0.0.1", port).await, Ok(200));
}

#[tokio::test]
async fn names_and_dates_are_checked() {
    let authority = authority();
    let egress = trusting(Some(&authority.pem));
    let (port, _) = serve(leaf(&["mcp.example"], Some(&authority), |_| {}), BOTH).await;
    assert_eq!(status(&egress, "127.0.0.1", port).await, tls("its certificate is for another name"));

    let past = leaf(&["127.0.0.1"], Some(&authority), |params| params.not_after = date_time_ymd(2001, 1, 1));
    let (port, _) = serve(past, BOTH).await;
    assert_eq!(status(&egress, "127.0.0.1", port).await, tls("its certificate has expired"));

    let future = leaf(&["127.0.0.1"], Some(&authority), |params| params.not_before = date_time_ymd(2901, 1, 1));
    let (port, _) = serve(future, BOTH).await;
    assert_eq!(status(&egress, "127.0.0.1", port).await, tls("its certificate is not valid yet"));
}

#[tokio::test]
async fn a_name_is_verified_as_the_name_that_was_asked_for() {
    let authority = authority();
    let (port, _) = serve(leaf(&["mcp.test"], Some(&authority), |_| {}), BOTH).await;
    let names = Names::new([("mcp.test", &[&["127.0.0.1"]]), ("other.test", &[&["127.0.0.1"]])]);
    let pem = Some(authority.pem.as_bytes());
    let egress = Egress::with_lookup(&loopback(), &Limits::default(), pem, names.lookup()).unwrap();
    assert_eq!(status(&egress, "mcp.test", port).await, Ok(200));
    assert_eq!(status(&egress, "other.test", port).await, tls("its certificate is for another name"));
    // The connection to the first is alive, at the same address, and its certificate is no licence for another name.
    assert_eq!(names.asked("other.test"), 1);
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken() {
    let authority = authority();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (port, _) = serve(leaf(&["127.0.0.1"], Some(&authority), |_| {}), &[version]).await;
        assert_eq!(status(&trusting(Some(&authority.pem)), "127.0.0.1", port).await, Ok(200), "{version:?}");
    }
}

/// The versions that a `ClientHello` offers in its extension for them (RFC 8446, section 4.2.1).
fn offered_versions(hello: &[u8]) -> Vec<[u8; 2]> {
    // Record header, handshake header, legacy version and random; then session id, cipher suites, compression methods.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(hello[at]);
    at += 2 + usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    at += 1 + usize::from(hello[at]) + 2;
    while let [high, low, long, length, rest @ ..] = &hello[at..] {
        let length = usize::from(u16::from_be_bytes([*long, *length]));
        if [*high, *low] == [0, 43] {
            return rest[1..length].chunks(2).map(|version| [version[0], version[1]]).collect();
        }
        at += 4 + length;
    }
    Vec::new()
}

#[tokio::test]
async fn nothing_before_tls_1_2_is_offered_or_taken() {
    // What servers of 1.0 and 1.1 answer: their version, no session, a cipher of their time, no compression.
    for minor in [1, 2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 5];
            stream.read_exact(&mut head).await.unwrap();
            let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
            stream.read_exact(&mut body).await.unwrap();
            let mut hello = vec![0x16, 3, minor, 0, 42, 2, 0, 0, 38, 3, minor];
            hello.extend([7; 32]);
            hello.extend([0, 0, 0x2f, 0]);
            stream.write_all(&hello).await.unwrap();
            // What comes then is no more of the handshake, but its end.
            let mut last = Vec::new();
            let _ = stream.read_to_end(&mut last).await;
            ([&head[..], &body].concat(), last)
        });
        let refused = status(&trusting(None), "127.0.0.1", port).await;
        assert_eq!(refused, tls("it supports no version or cipher that is acceptable; TLS 1.2 and 1.3 are spoken"));
        let (hello, last) = server.await.unwrap();
        let mut offered = offered_versions(&hello);
        offered.sort_unstable();
        assert_eq!(offered, [[3, 3], [3, 4]]);
        assert!(last.is_empty() || last[0] == 0x15, "not an alert: {last:?}");
    }
}

#[tokio::test]
async fn what_does_not_speak_tls_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    });
    let answer = status(&trusting(None), "127.0.0.1", port).await;
    assert_eq!(answer, tls("what answers on this port does not speak TLS"));
}

#[test]
fn a_bundle_without_certificates_is_an_error() {
    let begin_to_end = |middle: &str| format!("-----BEGIN CERTIFICATE-----\n{middle}\n-----END CERTIFICATE-----\n");
    let good = authority().pem;
    for bundle in [
        String::new(),
        "not a certificate".to_owned(),
        begin_to_end("!!!"),
        begin_to_end("AAAA"),
        format!("{good}{}", begin_to_end("AAAA")),
    ] {
        let built = Egress::new(&Policy::default(), &Limits::default(), Some(bundle.as_bytes()));
        assert!(matches!(built, Err(BuildError::Bundle)), "{bundle:?}");
    }
}

/// An HTTP/2 server for `certificate`; counts connections. Its answers have a header of `size` bytes.
async fn serve_http2(leaf: Leaf, size: usize) -> (u16, Arc<AtomicUsize>) {
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(BOTH)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(leaf.chain, leaf.key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    tokio::spawn({
        let connections = Arc::clone(&connections);
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, connections) = (acceptor.clone(), Arc::clone(&connections));
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await.unwrap();
                    connections.fetch_add(1, Ordering::SeqCst);
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        let answer = http::Response::builder().header("x", "v".repeat(size)).body(()).unwrap();
                        let _ = respond.send_response(answer, true);
                    }
                });
            }
        }
    });
    (port, connections)
}

#[tokio::test]
async fn an_http2_connection_is_not_shared_between_names() {
    let authority = authority();
    // The certificate and the address are good for both names, which is all that coalescing would ask for.
    let (port, connections) = serve_http2(leaf(&["one.test", "two.test"], Some(&authority), |_| {}), 1).await;
    let names = Names::new([("one.test", &[&["127.0.0.1"]]), ("two.test", &[&["127.0.0.1"], &["10.0.0.1"]])]);
    let pem = Some(authority.pem.as_bytes());
    let egress = Egress::with_lookup(&loopback(), &Limits::default(), pem, names.lookup()).unwrap();
    for _ in 0..2 {
        let response = egress.send(get(&format!("https://one.test:{port}/"))).await.unwrap();
        assert_eq!(response.version(), http::Version::HTTP_2);
    }
    assert_eq!((connections.load(Ordering::SeqCst), names.asked("two.test")), (1, 0));
    assert_eq!(status(&egress, "two.test", port).await, Ok(200));
    assert_eq!((connections.load(Ordering::SeqCst), names.asked("two.test")), (2, 1));
}

#[tokio::test]
async fn http2_headers_have_the_same_limit() {
    let authority = authority();
    let egress = trusting(Some(&authority.pem));
    let (port, _) = serve_http2(leaf(&["127.0.0.1"], Some(&authority), |_| {}), 31 * 1024).await;
    assert_eq!(status(&egress, "127.0.0.1", port).await, Ok(200));
    let (port, _) = serve_http2(leaf(&["127.0.0.1"], Some(&authority), |_| {}), 33 * 1024).await;
    // The library ends the stream while it decodes the headers, rather than keep them to be measured afterwards.
    assert_eq!(status(&egress, "127.0.0.1", port).await, Err(EgressError::Protocol));
}
