//! The client: every request is judged, and sent by the client of its class.
//!
//! What goes through the door is a `reqwest::Request`, which is plain data. Clients and request builders, with which a
//! caller could go elsewhere, stay inside.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Request, Response};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::{Instant, timeout, timeout_at};
use url::{Host, Url};

use crate::error::{EgressError, Phase, Refusal};
use crate::gate::{Class, Gate};
use crate::limits::{FetchLimits, Limits};
use crate::policy::Policy;
use crate::resolver::{GuardedResolver, Lookup, refuse_backends, system_lookup};

/// The only way out for requests to addresses that a user or a server named.
///
/// Clones share connections. A change of policy is a new `Egress`, with connections of its own.
#[derive(Clone)]
pub struct Egress(Arc<Inner>);

struct Inner {
    /// Sorted by class; has the two classes without a port.
    doors: Vec<Door>,
    lookup: Lookup,
    head: Duration,
    header_bytes: usize,
}

struct Door {
    class: Class,
    gate: Arc<Gate>,
    client: Client,
}

/// Why an [`Egress`] cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The extra CA bundle contains no certificate, or one that cannot be read.
    #[error("the extra CA bundle is not a list of certificates in PEM")]
    Bundle,
    /// The client cannot be set up. The usual cause is a machine without trusted certificates.
    #[error("the HTTPS client cannot be set up; are the CA certificates of the system (`ca-certificates`) installed?")]
    Client(#[source] reqwest::Error),
}

impl Egress {
    /// Builds the door out for a policy.
    ///
    /// `extra_ca` is a bundle of certificates in PEM that are trusted beside those of the platform.
    pub fn new(policy: &Policy, limits: &Limits, extra_ca: Option<&[u8]>) -> Result<Self, BuildError> {
        Self::with_lookup(policy, limits, extra_ca, system_lookup(limits.lookups))
    }

    pub(crate) fn with_lookup(
        policy: &Policy,
        limits: &Limits,
        extra_ca: Option<&[u8]>,
        lookup: Lookup,
    ) -> Result<Self, BuildError> {
        let extra = extra_ca.map(certificates).transpose()?.unwrap_or_default();
        let doors = Class::all(policy)
            .into_iter()
            .map(|class| {
                let gate = Arc::new(Gate::new(policy, class));
                let resolver = GuardedResolver::new(Arc::clone(&gate), Arc::clone(&lookup));
                let client = client(class, limits, &extra, resolver).map_err(BuildError::Client)?;
                Ok(Door { class, gate, client })
            })
            .collect::<Result<_, BuildError>>()?;
        let header_bytes = usize::try_from(limits.header_bytes).unwrap_or(usize::MAX);
        Ok(Self(Arc::new(Inner { doors, lookup, head: limits.head, header_bytes })))
    }

    /// Decides about a URL as far as that is possible without the network: for an IP literal finally, for a name as far
    /// as the name goes.
    ///
    /// To be asked when a URL is given, so that whoever gives it learns at once what is wrong. It is no permission:
    /// [`send`](Self::send) decides anew.
    pub fn admit(&self, url: &Url) -> Result<(), Refusal> {
        self.door(url).map(|_| ())
    }

    /// Sends a request and returns the head of the response; the body is read from it by the caller, as it comes.
    ///
    /// A redirect is a response like any other. The `Host` header is that of the URL, whatever the request says.
    /// Waiting for the head is limited by [`Limits::head`]; pauses in the body are not. Errors met while reading the
    /// body convert into [`EgressError`].
    pub async fn send(&self, mut request: Request) -> Result<Response, EgressError> {
        let door = self.door(request.url())?;
        // Another name here would be answered by another server behind the same address.
        request.headers_mut().remove(HOST);
        let exchange = async {
            if let Some(ip) = literal(request.url()) {
                refuse_backends(&door.gate, &self.0.lookup, std::iter::once(ip)).await?;
            }
            Ok::<_, EgressError>(door.client.execute(request).await?)
        };
        let response = timeout(self.0.head, exchange).await.map_err(|_| EgressError::TimedOut(Phase::Head))??;
        if header_bytes(response.headers()) > self.0.header_bytes {
            return Err(EgressError::TooLarge { limit: self.0.header_bytes });
        }
        Ok(response)
    }

    /// Sends a request and reads the whole response, whatever its status: for metadata, tokens, and other small
    /// documents.
    ///
    /// Compression is ruled out in the request and refused in the response before a byte of the body is read, so what
    /// is counted is what is kept. A stream of events is no document and may never end: its body counts as empty.
    pub async fn fetch(&self, mut request: Request, limits: FetchLimits) -> Result<http::Response<Bytes>, EgressError> {
        let deadline = Instant::now() + limits.time;
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let mut response =
            timeout_at(deadline, self.send(request)).await.map_err(|_| EgressError::TimedOut(Phase::Head))??;
        if is_encoded(response.headers()) {
            return Err(EgressError::Encoded);
        }
        let body = if is_event_stream(response.headers()) {
            Bytes::new()
        } else {
            timeout_at(deadline, collect(&mut response, limits.bytes))
                .await
                .map_err(|_| EgressError::TimedOut(Phase::Body))??
        };

        let mut document = http::Response::new(body);
        *document.status_mut() = response.status();
        *document.version_mut() = response.version();
        *document.headers_mut() = std::mem::take(response.headers_mut());
        Ok(document)
    }

    /// The judged way to a URL. Nothing is allocated for a URL that is admitted.
    fn door(&self, url: &Url) -> Result<&Door, Refusal> {
        let (class, host) = destination(url)?;
        let find = |class| self.0.doors.binary_search_by_key(&class, |door| door.class).ok();
        let found = find(class).or_else(|| find(Class { port: None, ..class }));
        let door = found.and_then(|at| self.0.doors.get(at)).ok_or(Refusal::Port)?;
        door.gate.admit(&host)?;
        Ok(door)
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.doors.iter().map(|door| (door.class, &door.gate))).finish()
    }
}

/// What a URL leads to, if it is one that may stand in a request at all: the class of its own port, and its host.
pub(crate) fn destination(url: &Url) -> Result<(Class, Host<&str>), Refusal> {
    let plain = match url.scheme() {
        "https" => false,
        "http" => true,
        _ => return Err(Refusal::Scheme),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refusal::Credentials);
    }
    if url.fragment().is_some() {
        return Err(Refusal::Fragment);
    }
    let port = url.port_or_known_default().filter(|port| *port != 0).ok_or(Refusal::Port)?;
    Ok((Class { plain, port: Some(port) }, url.host().ok_or(Refusal::Host)?))
}

#[expect(clippy::disallowed_methods, reason = "this is the one place where a client is built")]
fn client(
    class: Class,
    limits: &Limits,
    extra_ca: &[Certificate],
    resolver: GuardedResolver,
) -> Result<Client, reqwest::Error> {
    let builder = Client::builder()
        .user_agent(concat!("connectors/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(resolver)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        // Otherwise the variables of the environment name a proxy, which would dial in our place.
        .no_proxy()
        // These hold even if another crate in the build switches the features on.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .no_hickory_dns()
        .tls_backend_rustls()
        .tls_version_min(reqwest::tls::Version::TLS_1_2)
        .connect_timeout(limits.connect)
        .pool_idle_timeout(limits.idle)
        .pool_max_idle_per_host(limits.idle_connections)
        .tcp_nodelay(true)
        // A peer that vanished is noticed: between requests, while it answers nothing, and while it takes nothing.
        .tcp_keepalive(Duration::from_secs(30))
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_keep_alive_timeout(Duration::from_secs(10))
        .http2_max_header_list_size(limits.header_bytes)
        // Streams of many users share one HTTP/2 connection. By default three that nobody reads fill its window and
        // stop all the others; with these it takes 64.
        .http2_initial_stream_window_size(256 * 1024)
        .http2_initial_connection_window_size(16 * 1024 * 1024);
    if class.plain {
        // Never speaks TLS, so the trust store of the platform need not be read for it; with none it could trust
        // nobody.
        builder.tls_certs_only([]).build()
    } else {
        builder.tls_certs_merge(extra_ca.iter().cloned()).build()
    }
}

fn certificates(bundle: &[u8]) -> Result<Vec<Certificate>, BuildError> {
    // Tried out here, for the client would report a bad one as it reports a trust store that is missing.
    let mut tried = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(bundle)
        .map(|der| {
            let der = der.map_err(|_| BuildError::Bundle)?;
            tried.add(der.clone()).map_err(|_| BuildError::Bundle)?;
            Certificate::from_der(&der).map_err(|_| BuildError::Bundle)
        })
        .collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() { Err(BuildError::Bundle) } else { Ok(certificates) }
}

fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
        Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
        Host::Domain(_) => None,
    }
}

fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// Whether the body is anything but the bytes of the document. A compressing transfer coding is one way to be that, and
/// one that the HTTP library does not undo.
fn is_encoded(headers: &HeaderMap) -> bool {
    let other_than = |name: HeaderName, plain: &'static str| {
        headers.get_all(name).iter().any(move |value| {
            value.as_bytes().split(|byte| *byte == b',').any(|coding| {
                let coding = coding.trim_ascii();
                !coding.is_empty() && !coding.eq_ignore_ascii_case(plain.as_bytes())
            })
        })
    };
    other_than(CONTENT_ENCODING, "identity") || other_than(TRANSFER_ENCODING, "chunked")
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    })
}

async fn collect(response: &mut Response, limit: usize) -> Result<Bytes, EgressError> {
    let announced = response.content_length().unwrap_or(0);
    if usize::try_from(announced).map_or(true, |announced| announced > limit) {
        return Err(EgressError::TooLarge { limit });
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if chunk.len() > limit - body.len() {
            return Err(EgressError::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}
