//! Section `server`: how clients reach the service.

use std::net::SocketAddr;
use std::time::Duration;

use url::{Host, Url};

use super::error::SettingsError;
use super::table;
use super::values::Values;

/// How clients reach the service.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What browsers see; `None` for the address that is listened on.
    pub public_url: Option<Url>,
    /// Further names that requests may ask for, without port, as URLs have them.
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may call, as browsers send them.
    pub allowed_origins: Vec<String>,
    /// The largest body that is relayed, in bytes.
    pub body_limit: usize,
    /// The largest body of any other call, in bytes.
    pub api_body_limit: usize,
    /// How long a client may take to send a body.
    pub body_timeout: Duration,
    /// How long a client may take to send the head of a request.
    pub header_timeout: Duration,
    /// Threads that serve requests; `None` for one a core.
    pub workers: Option<usize>,
    /// Open connections of clients, for each worker.
    pub max_connections: usize,
    /// How long requests under way may take once the service stops.
    pub shutdown_timeout: Duration,
}

impl ServerSettings {
    pub(super) fn take(values: &mut Values) -> Result<Self, SettingsError> {
        Ok(Self {
            listen: values.required_text(&table::SERVER_LISTEN)?.read(|text| text.parse().ok())?,
            public_url: match values.text(&table::SERVER_PUBLIC_URL)? {
                Some(taken) => Some(taken.read(|text| bare_url(text))?),
                None => None,
            },
            allowed_hosts: values
                .required_list(&table::SERVER_ALLOWED_HOSTS)?
                .parse_each(|entry| entry.as_str().and_then(host).ok_or_else(|| "it is no host".to_owned()))?,
            allowed_origins: values.required_list(&table::SERVER_ALLOWED_ORIGINS)?.parse_each(|entry| {
                let origin = entry.as_str().and_then(bare_url).map(|url| url.origin().ascii_serialization());
                origin.ok_or_else(|| "it is no http or https origin".to_owned())
            })?,
            body_limit: values.count(&table::SERVER_BODY_LIMIT)?,
            api_body_limit: values.count(&table::SERVER_API_BODY_LIMIT)?,
            body_timeout: values.seconds(&table::SERVER_BODY_TIMEOUT)?,
            header_timeout: values.seconds(&table::SERVER_HEADER_TIMEOUT)?,
            workers: values.optional_count(&table::SERVER_WORKERS)?,
            max_connections: values.count(&table::SERVER_MAX_CONNECTIONS)?,
            shutdown_timeout: values.seconds(&table::SERVER_SHUTDOWN_TIMEOUT)?,
        })
    }
}

/// A URL of scheme, host and port.
fn bare_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let bare = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    bare.then_some(url)
}

/// A host as URLs have it. A wildcard would never match, and is refused rather than believed to work.
fn host(text: &str) -> Option<String> {
    Host::parse(text).ok().filter(|_| !text.contains('*')).map(|host| host.to_string())
}
