//! Which adapter gets which settings, and where the adapters meet the use cases.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use connectors_api::{ApiConfig, Inbound, Server};
use connectors_application::ports::{
    Agenda, ApiTokens, Authenticator, Changes, Clock, Connectors, Entropy, Login, Registrations, Renewals, Revocations,
    Sealer,
};
use connectors_application::{
    Access, AccessConfig, ApiTokenService, ConnectorService, IssuerLimits, Keeper, KeeperConfig, Ports, RenewalConfig,
    ServiceConfig, UserLimits,
};
use connectors_egress::{AllowRule, BuildError, Egress, Limits, OwnEndpoint, Policy};
use connectors_identity::{JwtAuthenticator, JwtConfig, LoginConfig, OidcLogin};
use connectors_mcp::{McpClient, McpConfig};
use connectors_oauth::{AuthorizationClient, OAuthConfig, client_metadata_document};
use connectors_storage::{Checked, KeyInUse, Migrations, OpenError, ResealFrom, Store, StoreSettings};
use url::Url;

use crate::application::StartError;
use crate::platform::{SystemClock, SystemEntropy};
use crate::settings::{AuthMode, Settings};

/// What a connect may take beyond its parts' own limits: the writing down of what they have found.
const PROBE_MARGIN: Duration = Duration::from_secs(5);

/// How many rows are sealed anew at a time, and the pauses between: other work comes first.
const RESEAL_BATCH: u32 = 100;
const RESEAL_PAUSE: Duration = Duration::from_millis(50);
const RESEAL_RETRY: Duration = Duration::from_secs(10);

/// The parts that serve and work until the service stops.
pub(crate) struct Parts {
    pub(crate) server: Server,
    pub(crate) service: ConnectorService,
    pub(crate) keeper: Keeper,
    pub(crate) store: Arc<Store>,
}

/// Freshly made parts.
pub(crate) async fn parts(settings: &Settings, listener: TcpListener, public_url: Url) -> Result<Parts, StartError> {
    let bound = listener.local_addr().map_err(StartError::Server)?;
    let own = own_endpoints(settings, bound);
    let identity = Identity::new(settings, &own)?;
    let egress = egress(settings, settings.egress.allow.clone(), own)?;
    let store = Arc::new(Store::open(store_settings(settings, settings.database.migrations)).await?);
    let oauth = oauth_config(settings, &public_url);
    let sealer: Arc<dyn Sealer> = Arc::new(store.keys().clone());
    let ports = Ports {
        authorization: Arc::new(AuthorizationClient::new(
            egress.clone(),
            Arc::clone(&store) as Arc<dyn Registrations>,
            Arc::new(SystemClock),
            Arc::new(SystemEntropy),
            oauth.clone(),
        )),
        connectors: Arc::clone(&store) as Arc<dyn Connectors>,
        renewals: Arc::clone(&store) as Arc<dyn Renewals>,
        agenda: Arc::clone(&store) as Arc<dyn Agenda>,
        revocations: Arc::clone(&store) as Arc<dyn Revocations>,
        changes: Arc::clone(&store) as Arc<dyn Changes>,
        mcp: Arc::new(mcp_client(settings, egress)),
        sealer: Arc::clone(&sealer),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
    };
    let service = ConnectorService::new(ports, service_config(settings, &oauth));
    let keeper = Keeper::new(service.clone(), KeeperConfig { interval: settings.background.interval });
    identity.warm();
    let authenticator = match settings.auth.mode {
        AuthMode::None => None,
        AuthMode::Tokens => Some(Arc::new(tokens(&store)) as Arc<dyn Authenticator>),
        AuthMode::Oidc => identity.jwt.map(|jwt| jwt as Arc<dyn Authenticator>),
    };
    let inbound = Inbound {
        service: service.clone(),
        access: Access::new(authenticator, Arc::new(SystemClock), access_config(settings, &public_url)),
        sealer,
        login: identity.login.map(|login| login as Arc<dyn Login>),
    };
    let server = Server::new(listener, inbound, api_config(settings, public_url, &oauth));
    Ok(Parts { server: server.map_err(StartError::Server)?, service, keeper, store })
}

/// Seals anew what was sealed under another key than the first, a batch at a time beside all other work, until nothing is
/// left.
pub(crate) async fn reseal(store: &Store) {
    let (mut from, mut sealed, mut unreadable) = (ResealFrom::default(), 0, 0);
    loop {
        match store.reseal(from.clone(), RESEAL_BATCH).await {
            Ok(done) => {
                sealed += done.sealed;
                unreadable += done.unreadable;
                if done.sealed > 0 {
                    tracing::info!(sealed, unreadable, "secrets are being sealed under the first key");
                }
                let Some(next) = done.next else { break };
                from = next;
                tokio::time::sleep(RESEAL_PAUSE).await;
            }
            Err(error) => {
                tracing::warn!(%error, "secrets under other keys cannot be sealed anew now");
                tokio::time::sleep(RESEAL_RETRY).await;
            }
        }
    }
    if sealed > 0 || unreadable > 0 {
        tracing::info!(sealed, unreadable, "every secret that can be read is sealed under the first key");
    }
}

/// The tokens of mode `tokens`, for one command. The database may be in use.
pub(crate) async fn api_tokens(settings: &Settings) -> Result<ApiTokenService, StartError> {
    let store = Store::open_beside(store_settings(settings, settings.database.migrations)).await?;
    Ok(tokens(&Arc::new(store)))
}

fn tokens(store: &Arc<Store>) -> ApiTokenService {
    ApiTokenService::new(Arc::clone(store) as Arc<dyn ApiTokens>, Arc::new(SystemClock), Arc::new(SystemEntropy))
}

/// What is asked of identity providers; nothing in the modes without one.
#[derive(Default)]
struct Identity {
    jwt: Option<Arc<JwtAuthenticator>>,
    login: Option<Arc<OidcLogin>>,
}

impl Identity {
    fn new(settings: &Settings, own: &[OwnEndpoint]) -> Result<Self, StartError> {
        let auth = &settings.auth;
        let Some(issuer) = auth.issuers.first() else { return Ok(Self::default()) };
        // The operator has named the issuers, and thereby what may be reached of them.
        let issuers = auth.issuers.iter().filter_map(|issuer| allow_rule(issuer));
        let egress = egress(settings, settings.egress.allow.iter().cloned().chain(issuers).collect(), own.to_vec())?;
        let config = JwtConfig { issuers: auth.issuers.clone(), algorithms: auth.algorithms.clone() };
        let jwt =
            Arc::new(JwtAuthenticator::new(&egress, Arc::new(SystemClock), config).map_err(StartError::Identity)?);
        let login = auth.client.as_ref().map(|client| {
            let config = LoginConfig {
                issuer: issuer.clone(),
                client_id: client.id.clone(),
                client_secret: client.secret.clone(),
                algorithms: auth.algorithms.clone(),
            };
            let login = OidcLogin::new(&egress, Arc::new(SystemClock), Arc::new(SystemEntropy), config);
            login.map(Arc::new).map_err(StartError::Identity)
        });
        let login = login.transpose()?;
        Ok(Self { jwt: Some(jwt), login })
    }
}

impl Identity {
    /// Begins to fetch what providers publish, so that the first call need not wait for it.
    fn warm(&self) {
        let (jwt, login) = (self.jwt.clone(), self.login.clone());
        tokio::spawn(async move {
            if let Some(jwt) = jwt {
                jwt.warm().await;
            }
            if let Some(login) = login {
                login.warm().await;
            }
        });
    }
}

/// The rule that lets the way out lead to an issuer, at its own port.
fn allow_rule(issuer: &str) -> Option<AllowRule> {
    let url = Url::parse(issuer).ok()?;
    format!("{}://{}:{}", url.scheme(), url.host_str()?, url.port_or_known_default()?).parse().ok()
}

fn access_config(settings: &Settings, public_url: &Url) -> AccessConfig {
    let url = public_url.as_str();
    let own = || vec![url.trim_end_matches('/').to_owned(), url.to_owned()];
    AccessConfig {
        audiences: settings.auth.audiences.clone().unwrap_or_else(own),
        // The tokens of mode `tokens` are the operator's own word.
        administrators: settings.auth.mode != AuthMode::Oidc || settings.auth.admin_scope,
        requests_per_second: settings.limits.requests,
    }
}

/// How many rows need which key.
pub(crate) async fn keys_in_use(settings: &Settings) -> Result<Vec<KeyInUse>, StartError> {
    let store = Store::open(store_settings(settings, Migrations::Check)).await?;
    store.keys_in_use().await.map_err(|error| StartError::Database(OpenError::Unusable(Box::new(error))))
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
    Identity::new(settings, &[])?;
    egress(settings, settings.egress.allow.clone(), Vec::new()).map(|_| ())
}

fn egress(settings: &Settings, allow: Vec<AllowRule>, own: Vec<OwnEndpoint>) -> Result<Egress, StartError> {
    let configured = &settings.egress;
    let policy = Policy { allow, loopback: settings.reaches_loopback(), link_local: configured.allow_link_local, own };
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
    OAuthConfig {
        signing_key: settings.oauth.signing_key.clone(),
        ..OAuthConfig::new(public_url.clone(), document, settings.oauth.client_name.clone())
    }
}

fn service_config(settings: &Settings, oauth: &OAuthConfig) -> ServiceConfig {
    ServiceConfig {
        presets: settings.connector.presets.clone(),
        redirect_origins: settings.connector.redirect_origins.clone(),
        limits: UserLimits {
            connectors: settings.connector.per_user,
            waiting: settings.limits.waiting,
            connects_per_minute: settings.limits.connects,
            streams: settings.limits.streams,
        },
        bind_browsers: settings.auth.is_closed(),
        probe_deadline: 2 * settings.probe_timeout + oauth.request_timeout + oauth.prepare_timeout + PROBE_MARGIN,
        attempt_lifetime: settings.oauth.attempt_lifetime,
        alone_since: (!settings.database.url.is_shared()).then(|| SystemClock.now()),
        target_capacity: settings.relay.cache_capacity,
        target_ttl: settings.database.url.is_shared().then_some(settings.relay.cache_ttl),
        renewal: RenewalConfig {
            lease: settings.renewal.lease,
            wait: settings.renewal.wait,
            issuers: IssuerLimits { concurrency: settings.renewal.concurrency, per_second: settings.renewal.rate },
        },
        health_interval: settings.background.health_interval,
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
        authorization_servers: settings.auth.issuers.clone(),
        session_lifetime: settings.auth.session_lifetime,
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
            Some(Duration::from_secs(30))
        );
    }

    #[test]
    fn a_loopback_listener_answers_to_loopback_names_and_its_own_way_out_does_not_lead_back() {
        let settings = settings(&[("SERVER__PUBLIC_URL", "https://connectors.example.com")]);
        let public: Url = "https://connectors.example.com".parse().unwrap();
        assert!(api_config(&settings, public.clone(), &oauth_config(&settings, &public)).allow_loopback_hosts);
        let bound = "127.0.0.1:8333".parse().unwrap();
        let egress = egress(&settings, settings.egress.allow.clone(), own_endpoints(&settings, bound)).unwrap();
        let admits = |url: &str| egress.admit(&url.parse().unwrap()).is_ok();
        assert!(admits("http://127.0.0.1:8334/mcp"));
        assert!(!admits("http://127.0.0.1:8333/mcp"));
        assert!(!admits("https://connectors.example.com/api/v1/connectors"));
    }

    #[test]
    fn the_way_out_does_not_lead_to_the_database() {
        let keys = r#"[{"id":"1","key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}]"#;
        let settings = settings(&[("DATABASE__URL", "postgres://u@127.0.0.1:5433/c"), ("ENCRYPTION__KEYS", keys)]);
        let egress = egress(
            &settings,
            settings.egress.allow.clone(),
            own_endpoints(&settings, "127.0.0.1:8333".parse().unwrap()),
        )
        .unwrap();
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
