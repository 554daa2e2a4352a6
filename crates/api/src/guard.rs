//! Who may call from where: the checks of `Host` and `Origin` that keep a web page which the user happens to visit from
//! using the service (DNS rebinding, cross-site requests; MCP 2026-07-28, "Streamable HTTP", security).

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap};
use actix_web::middleware::Next;
use actix_web::{Error, web};
use connectors_application::audit;
use url::Url;

use crate::config::ApiConfig;
use crate::problem::{Kind, Problem};
use crate::routes::Api;

/// The hosts and origins that may stand in a request.
#[derive(Debug)]
pub(crate) struct Guard {
    /// In lower case, without port; IPv6 in brackets.
    hosts: Vec<String>,
    /// As browsers serialise them.
    origins: Vec<String>,
    /// The origin of the public URL.
    own: String,
}

impl Guard {
    pub(crate) fn new(config: &ApiConfig) -> Self {
        let mut hosts: Vec<String> = config.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        hosts.extend(config.public_url.host_str().map(str::to_owned));
        if config.allow_loopback_hosts {
            hosts.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
        }
        let origins = config.allowed_origins.iter().filter_map(|origin| serialized_origin(origin)).collect();
        Self { hosts, origins, own: config.public_url.origin().ascii_serialization() }
    }

    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let mut hosts = headers.get_all(header::HOST);
        let host = hosts.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
        if hosts.next().is_some() || !self.allows_host(host) {
            audit::refused_origin("the host is not one of this service");
            return Err(Problem::new(
                Kind::HostRefused,
                "The service does not answer to the name in `Host`. The operator lists further names in server.allowed_hosts.",
            ));
        }
        let mut origins = headers.get_all(header::ORIGIN);
        let Some(origin) = origins.next() else { return Ok(()) };
        let origin = origin.to_str().unwrap_or_default();
        if origins.next().is_some() || !self.allows_origin(origin, host) {
            audit::refused_origin("the origin is not allowed");
            return Err(Problem::new(
                Kind::OriginRefused,
                "Pages of this origin may not call the service. The operator lists origins in server.allowed_origins.",
            ));
        }
        Ok(())
    }

    /// Whether a page of this service itself sends the request, which is known of what browsers send with every form. Of
    /// requests that have passed [`Guard::check`].
    pub(crate) fn is_of_own_page(&self, headers: &HeaderMap) -> bool {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text("host").unwrap_or_default();
        match text("origin") {
            Some(origin) => origin == self.own || self.is_origin_of(origin, host),
            None => text("sec-fetch-site") == Some("same-origin"),
        }
    }

    fn allows_host(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        self.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    }

    /// Listed, or the very origin of the host that was asked, which has been checked before.
    fn allows_origin(&self, origin: &str, host: &str) -> bool {
        origin == self.own || self.origins.iter().any(|allowed| allowed == origin) || self.is_origin_of(origin, host)
    }

    /// Whether `origin` is that of the pages at `host`. What comes by plain http under the public name, where the service
    /// itself is reached by https, may be anybody's on the way.
    fn is_origin_of(&self, origin: &str, host: &str) -> bool {
        let (plain, secure) = (origin.strip_prefix("http://"), origin.strip_prefix("https://"));
        let forged = plain.zip(self.own.strip_prefix("https://")).is_some_and(|(plain, own)| plain == own);
        !forged && plain.or(secure).is_some_and(|named| named.eq_ignore_ascii_case(host))
    }
}

/// Reads an origin in the form in which browsers send it; `None` if it is none.
pub(crate) fn serialized_origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let origin = url.origin();
    (origin.is_tuple() && matches!(url.scheme(), "http" | "https")).then(|| origin.ascii_serialization())
}

/// Refuses what [`Guard`] refuses.
pub(crate) async fn enforce<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if let Some(api) = request.app_data::<web::Data<Api>>()
        && let Err(problem) = api.guard.check(request.headers())
    {
        return Ok(request.error_response(problem));
    }
    next.call(request).await.map(ServiceResponse::map_into_boxed_body)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn guard() -> Guard {
        Guard {
            hosts: ["connectors.example.com", "localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec(),
            origins: vec!["https://inspector.example.com".to_owned()],
            own: "https://connectors.example.com".to_owned(),
        }
    }

    fn check(host: &[&str], origin: &[&str]) -> bool {
        let mut request = TestRequest::default();
        for host in host {
            request = request.append_header((header::HOST, *host));
        }
        for origin in origin {
            request = request.append_header((header::ORIGIN, *origin));
        }
        guard().check(request.to_srv_request().headers()).is_ok()
    }

    #[test]
    fn only_known_hosts_are_answered() {
        for host in [
            "connectors.example.com",
            "CONNECTORS.example.com:443",
            "127.0.0.1:8333",
            "[::1]:8333",
            "[::1]",
            "localhost",
        ] {
            assert!(check(&[host], &[]), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8333",
            "evil.example:127.0.0.1",
            "[::1].evil",
            "::1",
            "localhost:",
            "localhost:x",
            "a@localhost",
        ] {
            assert!(!check(&[host], &[]), "{host:?}");
        }
        assert!(!check(&[], &[]));
        assert!(!check(&["localhost", "localhost"], &[]));
    }

    #[test]
    fn only_known_origins_may_call() {
        let host = "127.0.0.1:8333";
        for origin in ["http://127.0.0.1:8333", "https://127.0.0.1:8333", "https://inspector.example.com"] {
            assert!(check(&[host], &[origin]), "{origin}");
        }
        for origin in [
            "null",
            "",
            "http://127.0.0.1",
            "http://127.0.0.1:8334",
            "http://localhost:8333",
            "http://[::1].evil.example",
            "http://127.0.0.1:8333/path",
            "http://127.0.0.1:8333.evil.example",
            "https://inspector.example.com.evil.example",
            "https://inspector.example.com:8443",
            "http://inspector.example.com",
            "file://",
            "https://u@inspector.example.com",
        ] {
            assert!(!check(&[host], &[origin]), "{origin:?}");
        }
        assert!(!check(&[host], &["http://127.0.0.1:8333", "http://127.0.0.1:8333"]));
        let public = "connectors.example.com";
        assert!(check(&[public], &["https://connectors.example.com"]));
        assert!(!check(&[public], &["http://connectors.example.com"]), "whoever is on the way may have made it");
    }

    #[test]
    fn a_listed_origin_is_read_as_browsers_send_it() {
        assert_eq!(serialized_origin("HTTPS://A.example:443/"), Some("https://a.example".into()));
        assert_eq!(serialized_origin("http://localhost:6274"), Some("http://localhost:6274".into()));
        assert_eq!(serialized_origin("null"), None);
        assert_eq!(serialized_origin("file:///x"), None);
    }
}
