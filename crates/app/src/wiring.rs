//! Which adapter gets which settings, and where the adapters meet the use cases.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use connectors_api::{ApiConfig, Server};
use connectors_application::ports::{Clock, Entropy, Registrations};
use connectors_application::{ConnectorService, Ports, ServiceConfig};
use connectors_egress::{BuildError, Egress, Limits, OwnEndpoint, Policy};
use connectors_mcp::{McpClient, McpConfig};
use connectors_oauth::{AuthorizationClient, OAuthConfig, client_metadata_document};
use connectors_storage::{Checked, Migrations, OpenError, Store, StoreSettings};
use url::Url;

use crate::application::StartError;
use crate::platform::{SystemClock, SystemEntropy};
use crate::settings::Settings;

/// What a connect may take beyond its parts' own limits: the writing down of what they have found.
const PROBE_MARGIN: Duration = Duration::from_secs(5);

/// A server over freshly made parts.
pub(crate) async fn server(settings: &Settings, listener: TcpListener, public_url: Url) -> Result<Server, StartError> {
    let bound = listener.local_addr().map_err(StartError::Server)?;
    let egress = egress(settings, own_endpoints(settings, bound))?;
    let store = Arc::new(Store::open(store_settings(settings, settings.database.migrations)).await?);
    let oauth = oauth_config(settings, &public_url);
    let ports = Ports {
        authorization: Arc::new(AuthorizationClient::new(
            egress.clone(),
            Arc::clone(&store) as Arc<dyn Registrations>,
            Arc::new(SystemClock),
            Arc::new(SystemEntropy),
            oauth.clone(),
        )),
        connectors: store,
        mcp: Arc::new(mcp_client(settings, egress)),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
    };
    let service = ConnectorService::new(ports, service_config(settings, &oauth));
    Server::new(listener, service, api_config(settings, public_url, &oauth)).map_err(StartError::Server)
}

/// Brings the database up to date, and names what was done.
pub(crate) async fn migrate(settings: &Settings) -> Result<Vec<String>, OpenError> {
    Store::migrate(store_settings(settings, Migrations::Run)).await
}

/// Finds out whether a start could use the database as it is, and changes nothing.
pub(crate) async fn check_database(settings: &Settings) -> Result<Checked, OpenError> {
    Store::check(store_settings(settings, Migrations::Check)).await
}

/// Builds the way out as a start would.
pub(crate) fn check_egress(settings: &Settings) -> Result<(), StartError> {
    egress(settings, Vec::new()).map(|_| ())
}

fn egress(settings: &Settings, own: Vec<OwnEndpoint>) -> Result<Egress, StartError> {
    let configured = &settings.egress;
    let policy = Policy {
        allow: configured.allow.clone(),
        loopback: settings.reaches_loopback(),
        link_local: configured.allow_link_local,
        own,
    };
    let limits = Limits {
        connect: configured.connect_timeout,
        head: settings.relay.first_byte_timeout,
        header_bytes: configured.header_limit,
        lookups: configured.lookups,
        idle_connections: configured.idle_connections,
        idle: configured.idle_timeout,
    };
    let Some(path) = &configured.ca_file else {
        return Egress::new(&policy, &limits, None).map_err(StartError::Egress);
    };
    let unusable = |source| StartError::CaFile { path: path.clone(), source };
    let certificates = std::fs::read(path).map_err(|error| unusable(Box::new(error)))?;
    Egress::new(&policy, &limits, Some(&certificates)).map_err(|error| match error {
        BuildError::Bundle => unusable(Box::new(error)),
        BuildError::Client(_) => StartError::Egress(error),
    })
}

/// What connectors must never reach, whatever is allowed: the service itself and its database.
fn own_endpoints(settings: &Settings, bound: SocketAddr) -> Vec<OwnEndpoint> {
    let mut own = vec![OwnEndpoint::listener(bound)];
    own.extend(settings.server.public_url.as_ref().and_then(OwnEndpoint::public));
    own.extend(settings.database.url.endpoints().iter().map(|(host, port)| OwnEndpoint::backend(host, *port)));
    own
}

fn mcp_client(settings: &Settings, egress: Egress) -> McpClient {
    McpClient::new(
        egress,
        McpConfig {
            probe_timeout: settings.probe_timeout,
            body_idle_timeout: settings.relay.idle_timeout,
            stream_idle_timeout: Some(settings.relay.stream_idle_timeout),
            client_name: "connectors".to_owned(),
            client_version: env!("CARGO_PKG_VERSION").to_owned(),
        },
    )
}

fn store_settings(settings: &Settings, migrations: Migrations) -> StoreSettings {
    let database = &settings.database;
    StoreSettings { url: database.url.clone(), keys: database.keys.clone(), migrations, limits: database.limits }
}

/// Who the service is towards authorization servers. It publishes a document of its own where those can fetch it.
fn oauth_config(settings: &Settings, public_url: &Url) -> OAuthConfig {
    let own = || {
        let base = public_url.as_str().trim_end_matches('/');
        (public_url.scheme() == "https").then(|| format!("{base}/oauth/client.json"))
    };
    let document = settings.oauth.client_metadata_url.as_ref().map(Url::to_string).or_else(own);
    OAuthConfig::new(public_url.clone(), document, settings.oauth.client_name.clone())
}

fn service_config(settings: &Settings, oauth: &OAuthConfig) -> ServiceConfig {
    ServiceConfig {
        presets: settings.connector.presets.clone(),
        redirect_origins: settings.connector.redirect_origins.clone(),
        connectors_per_user: settings.connector.per_user,
        probe_deadline: settings.probe_timeout + oauth.prepare_timeout + PROBE_MARGIN,
        attempt_lifetime: settings.oauth.attempt_lifetime,
        alone_since: (!settings.database.url.is_shared()).then(|| SystemClock.now()),
        target_capacity: settings.relay.cache_capacity,
        target_ttl: settings.database.url.is_shared().then_some(settings.relay.cache_ttl),
    }
}

fn api_config(settings: &Settings, public_url: Url, oauth: &OAuthConfig) -> ApiConfig {
    let server = &settings.server;
    let mut instance = [0; 4];
    SystemEntropy.fill(&mut instance);
    ApiConfig {
        public_url,
        client_metadata: client_metadata_document(oauth).map(|document| document.to_string()),
        allowed_hosts: server.allowed_hosts.clone(),
        allowed_origins: server.allowed_origins.clone(),
        allow_loopback_hosts: settings.listens_on_loopback(),
        api_body_limit: server.api_body_limit,
        relay_body_limit: server.body_limit,
        body_timeout: server.body_timeout,
        head_timeout: server.header_timeout,
        event_keep_alive: settings.relay.keep_alive,
        workers: server.workers.unwrap_or_else(cores),
        max_connections_per_worker: server.max_connections,
        shutdown_timeout: whole_seconds(server.shutdown_timeout),
        instance,
    }
}

/// Whole seconds, rounded up: what the HTTP server can count. The time that was set is kept by
/// [`Application::run_until`](crate::Application::run_until).
fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0))
}

/// How many threads serve requests where nobody says.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use crate::settings::SettingsFile;

    use super::*;

    fn settings(environment: &[(&str, &str)]) -> Settings {
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
        Settings::load(&SettingsFile::IfPresent("/nowhere/connectors.toml".into()), environment).unwrap()
    }

    #[test]
    fn times_are_rounded_up() {
        assert_eq!(whole_seconds(Duration::ZERO), Duration::ZERO);
        assert_eq!(whole_seconds(Duration::from_secs(2)), Duration::from_secs(2));
        assert_eq!(whole_seconds(Duration::from_millis(2001)), Duration::from_secs(3));
    }

    #[test]
    fn only_where_there_are_replicas_does_what_the_relay_keeps_grow_old() {
        assert_eq!(
            service_config(&settings(&[]), &oauth_config(&settings(&[]), &"http://127.0.0.1/".parse().unwrap()))
                .target_ttl,
            None
        );
        let keys = r#"[{"id":"1","key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}]"#;
        let shared = settings(&[("DATABASE__URL", "postgres://db.example/c"), ("ENCRYPTION__KEYS", keys)]);
        assert_eq!(
            service_config(&shared, &oauth_config(&shared, &"http://127.0.0.1/".parse().unwrap())).target_ttl,
            Some(Duration::from_secs(1))
        );
    }

    #[test]
    fn a_loopback_listener_answers_to_loopback_names_and_its_own_way_out_does_not_lead_back() {
        let settings = settings(&[("SERVER__PUBLIC_URL", "https://connectors.example.com")]);
        let public: Url = "https://connectors.example.com".parse().unwrap();
        assert!(api_config(&settings, public.clone(), &oauth_config(&settings, &public)).allow_loopback_hosts);
        let bound = "127.0.0.1:8333".parse().unwrap();
        let egress = egress(&settings, own_endpoints(&settings, bound)).unwrap();
        let admits = |url: &str| egress.admit(&url.parse().unwrap()).is_ok();
        assert!(admits("http://127.0.0.1:8334/mcp"));
        assert!(!admits("http://127.0.0.1:8333/mcp"));
        assert!(!admits("https://connectors.example.com/api/v1/connectors"));
    }

    #[test]
    fn the_way_out_does_not_lead_to_the_database() {
        let keys = r#"[{"id":"1","key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}]"#;
        let settings = settings(&[("DATABASE__URL", "postgres://u@127.0.0.1:5433/c"), ("ENCRYPTION__KEYS", keys)]);
        let egress = egress(&settings, own_endpoints(&settings, "127.0.0.1:8333".parse().unwrap())).unwrap();
        let send = |url: &str| egress.send(connectors_egress::Request::new(reqwest::Method::GET, url.parse().unwrap()));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let refused = runtime.block_on(send("http://127.0.0.1:5433/")).unwrap_err();
        assert_eq!(refused, connectors_egress::EgressError::Refused(connectors_egress::Refusal::Own));
        // Nobody listens there, but it may be asked.
        let asked = runtime.block_on(send("http://127.0.0.1:1/")).unwrap_err();
        assert!(matches!(asked, connectors_egress::EgressError::Unreachable { .. }), "{asked:?}");
    }

    #[test]
    fn certificates_that_cannot_be_used_are_told_by_the_setting() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let check = || {
            let settings = settings(&[("EGRESS__CA_FILE", path.to_str().unwrap())]);
            check_egress(&settings).unwrap_err().to_string()
        };
        assert!(check().starts_with("egress.ca_file: "));
        std::fs::write(&path, "no certificate").unwrap();
        assert!(check().starts_with("egress.ca_file: "));
    }
}
