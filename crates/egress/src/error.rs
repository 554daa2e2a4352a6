//! What can go wrong on the way out, by what the caller can do about it.
//!
//! Texts go to users. So none contains an address that a name resolved to, a DNS server, or anything that the other
//! side sent, and the errors of the libraries below, which do contain such things, are not kept.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// Why a request did not yield a response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// The policy forbids it. Another URL or another policy is needed; trying again is useless.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No connection came about. Nothing was sent; trying again later is safe.
    #[error("the server cannot be reached: {reason}")]
    Unreachable {
        /// What failed.
        reason: &'static str,
    },
    /// The time for it was over.
    #[error("the server did not answer in time while {}", .0.doing())]
    TimedOut(Phase),
    /// No trustworthy connection came about. Nothing was sent; the server, or the CA bundle, has to change.
    #[error("no secure connection to the server: {reason}")]
    Tls {
        /// What failed.
        reason: &'static str,
    },
    /// The connection broke, or what came over it was not HTTP.
    #[error("the server did not keep to HTTP or closed the connection")]
    Protocol,
    /// The response is larger than permitted.
    #[error("the response is larger than {limit} bytes")]
    TooLarge {
        /// The limit that was exceeded.
        limit: usize,
    },
    /// The document is compressed although that was ruled out.
    #[error("the response is compressed although it was asked not to be")]
    Encoded,
}

/// What was under way when the time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Name look-up, TCP, TLS: nothing was sent.
    Connect,
    /// Sending, and waiting for the head of the response.
    Head,
    /// Reading the body of the response.
    Body,
}

/// Why the policy forbids a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Neither `https` nor `http`.
    #[error("only https and http URLs can be called")]
    Scheme,
    /// `http` to a host that is not listed.
    #[error("plain http is not permitted to this host: use https, or have an operator list the host in `egress.allow`")]
    PlainHttp,
    /// A user name or password in the URL.
    #[error("the URL must not contain a user name or password")]
    Credentials,
    /// A fragment in the URL.
    #[error("the URL must not contain a fragment")]
    Fragment,
    /// A host that is no destination.
    #[error("the URL has no usable host")]
    Host,
    /// Port 0.
    #[error("port 0 is not a destination")]
    Port,
    /// More than a request line can hold, or characters that it cannot.
    #[error("the URL cannot be used in a request")]
    Url,
    /// A host that is not public or resolves to an address that is not. Which address and of which kind is not said:
    /// that would describe the network inside to those outside.
    #[error(
        "the host is not a public address, or resolves to one that is not: an operator can list it in `egress.allow` \
         (link-local and metadata addresses need `egress.allow_link_local` as well)"
    )]
    NotPublic,
    /// The service itself, or its database.
    #[error("this is an endpoint of the service itself, which `egress.allow` cannot open")]
    Own,
}

/// A failed look-up, as it travels through the libraries. What the resolver said is left out.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the host name cannot be resolved")]
pub(crate) struct Unresolved;

impl EgressError {
    /// Whether the server may have received, and acted upon, the request.
    pub fn may_have_been_sent(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Unreachable { .. } | Self::Tls { .. } | Self::TimedOut(Phase::Connect) => false,
            Self::TimedOut(Phase::Head | Phase::Body) | Self::Protocol | Self::TooLarge { .. } | Self::Encoded => true,
        }
    }
}

/// Sorts an error of the client, also one met while a body is read.
impl From<reqwest::Error> for EgressError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_builder() {
            return Self::Refused(Refusal::Url);
        }
        if let Some(refusal) = cause(&error, |error| error.downcast_ref::<Refusal>().copied()) {
            return Self::Refused(refusal);
        }
        if error.is_timeout() {
            return Self::TimedOut(if error.is_connect() {
                Phase::Connect
            } else if error.is_body() || error.is_decode() {
                Phase::Body
            } else {
                Phase::Head
            });
        }
        if !error.is_connect() {
            return Self::Protocol;
        }
        if let Some(reason) = cause(&error, |error| error.downcast_ref().map(tls_reason)) {
            return Self::Tls { reason };
        }
        Self::Unreachable { reason: connect_reason(&error) }
    }
}

impl Phase {
    fn doing(self) -> &'static str {
        match self {
            Self::Connect => "connecting",
            Self::Head => "answering",
            Self::Body => "sending the response",
        }
    }
}

fn connect_reason(error: &reqwest::Error) -> &'static str {
    if cause(error, |error| error.is::<Unresolved>().then_some(())).is_some() {
        return "its name cannot be resolved";
    }
    match cause(error, |error| error.downcast_ref::<io::Error>().map(io::Error::kind)) {
        Some(io::ErrorKind::ConnectionRefused) => "it refused the connection",
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe) => {
            "it closed the connection"
        }
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => "there is no route to it",
        _ => "connecting failed",
    }
}

fn tls_reason(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer => "its certificate is not from a trusted authority",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name"
            }
            CertificateError::Revoked => "its certificate has been revoked",
            _ => "its certificate is not acceptable",
        },
        rustls::Error::InvalidMessage(_) => "what answers on this port does not speak TLS",
        rustls::Error::PeerIncompatible(_)
        | rustls::Error::AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure) => {
            "it supports no version or cipher that is acceptable; TLS 1.2 and 1.3 are spoken"
        }
        rustls::Error::AlertReceived(_) => "it refused the handshake",
        _ => "the handshake failed",
    }
}

/// The first hit in the chain of causes. Errors inside an `io::Error` are not part of its chain, only *their* causes
/// are, so those are entered as well: the errors of TLS are found nowhere else.
fn cause<T>(error: &(dyn Error + 'static), pick: impl Fn(&(dyn Error + 'static)) -> Option<T> + Copy) -> Option<T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = pick(error) {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
