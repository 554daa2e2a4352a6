//! Servers that depart from the standards: with the quirk of their preset they can be used, and without it the failure says
//! what is wrong. And the servers that the product offers by itself, as they were found in 2026.

use connectors_application::ports::{AuthorizationServer as _, PrepareError, PrepareRequest};
use connectors_domain::{ClientAuthentication, ClientCredentials, ClientOrigin, Issuer, Quirks, ServerUrl};
use connectors_testkit::authorization_server::{
    AuthMethod, AuthorizationServer, Client, Document, Endpoint, Rotation, parameter, visit,
};
use connectors_testkit::mcp_server::McpServer;
use serde_json::json;

use crate::support::{CALLBACK, PRM, challenged, document, issued, obtain, pair, parameters, request, service};

fn with(mcp: &McpServer, quirks: Quirks) -> PrepareRequest {
    PrepareRequest { quirks, ..request(mcp) }
}

/// A client that somebody registered by hand.
fn by_hand(server: &AuthorizationServer, request: PrepareRequest) -> PrepareRequest {
    server.add_client(Client::confidential("by-hand", "se:cret", AuthMethod::Basic, CALLBACK));
    let client = ClientCredentials::new("by-hand".to_owned(), Some("se:cret".to_owned())).unwrap();
    PrepareRequest { client: Some(client), ..request }
}

/// The error that the browser brings back.
async fn refused(request: PrepareRequest) -> String {
    let prepared = service().prepare(request).await.unwrap();
    let callback = visit(prepared.authorization_url.expose()).await.unwrap();
    assert_eq!(parameter(&callback, "code"), None);
    parameter(&callback, "error").unwrap()
}

#[tokio::test]
async fn an_issuer_with_another_spelling_needs_trust() {
    // As Box: the resource names its authorization server with a slash, which spells itself without.
    let server = AuthorizationServer::builder().with(|settings| {
        settings.registration = false;
        settings.auth_methods = vec![AuthMethod::Basic, AuthMethod::Post];
    });
    let (server, mcp) = pair(server.start().await.unwrap()).await;
    let named = format!("{}/", server.issuer());
    let metadata = json!({ "resource": mcp.url(), "authorization_servers": [named] });
    mcp.route(format!("{PRM}/mcp"), document(&metadata));

    let refused = service().prepare(by_hand(&server, request(&mcp))).await.unwrap_err();
    assert!(matches!(refused, PrepareError::InvalidMetadata(what) if what.contains("issuer")), "{refused}");

    // The quirk that comes with the preset, for this server.
    let known = Quirks::known_of(&ServerUrl::parse("https://mcp.box.com").unwrap());
    assert!(known.trusted_issuer.is_some());
    let quirks = Quirks { trusted_issuer: Some(Issuer::new(server.issuer())), ..known };
    let grant = obtain(&service(), by_hand(&server, with(&mcp, quirks))).await;
    assert_eq!(issued(&grant).authority.issuer.as_str(), server.issuer());
    assert!(issued(&grant).is_renewable());

    // Trust is for one spelling.
    let quirks = Quirks { trusted_issuer: Some(Issuer::new("https://other.example")), ..Quirks::default() };
    assert!(service().prepare(by_hand(&server, with(&mcp, quirks))).await.is_err());
}

#[tokio::test]
async fn a_server_that_is_silent_on_pkce_needs_the_assumption() {
    let server = AuthorizationServer::builder().with(|settings| {
        settings.metadata.insert("code_challenge_methods_supported".to_owned(), None);
    });
    let (_server, mcp) = pair(server.start().await.unwrap()).await;
    let refused = service().prepare(request(&mcp)).await.unwrap_err();
    assert!(matches!(refused, PrepareError::PkceUnsupported), "{refused}");
    obtain(&service(), with(&mcp, Quirks { assume_pkce: true, ..Quirks::default() })).await;
}

#[tokio::test]
async fn a_server_that_refuses_the_resource_is_not_told() {
    let server = AuthorizationServer::builder().with(|settings| {
        settings.resource = false;
        settings.resources = vec!["urn:none".to_owned()];
    });
    let (server, mcp) = pair(server.start().await.unwrap()).await;
    assert_eq!(refused(request(&mcp)).await, "invalid_target");
    let service = service();
    let grant = obtain(&service, with(&mcp, Quirks { omit_resource: true, ..Quirks::default() })).await;
    let renewal = connectors_application::ports::RefreshRequest::of(issued(&grant)).unwrap();
    assert!(service.client.refresh(renewal).await.is_ok());
    assert!(server.requests_to(Endpoint::Token).iter().all(|request| !request.contains("resource=")));
}

#[tokio::test]
async fn a_server_that_lists_scopes_which_it_refuses_gets_others() {
    let server = AuthorizationServer::builder().with(|settings| settings.scopes = vec!["good".to_owned()]);
    let (server, mcp) = pair(server.start().await.unwrap()).await;
    let metadata =
        json!({ "resource": mcp.url(), "authorization_servers": [server.issuer()], "scopes_supported": ["bad"] });
    mcp.route(format!("{PRM}/mcp"), document(&metadata));
    assert_eq!(refused(request(&mcp)).await, "invalid_scope");
    let grant = obtain(&service(), with(&mcp, Quirks { scope: Some("good".to_owned()), ..Quirks::default() })).await;
    assert_eq!(issued(&grant).scopes.to_string(), "good");
}

#[tokio::test]
async fn a_server_that_wants_to_be_asked_for_refresh_tokens_in_its_own_way_is() {
    let pair_of = ("access_type".to_owned(), "offline".to_owned());
    let server = AuthorizationServer::builder().with(|settings| settings.offline_parameter = Some(pair_of.clone()));
    let (_server, mcp) = pair(server.start().await.unwrap()).await;
    assert!(!issued(&obtain(&service(), request(&mcp)).await).is_renewable());
    let quirks = Quirks { authorize_parameters: vec![pair_of], ..Quirks::default() };
    assert!(issued(&obtain(&service(), with(&mcp, quirks)).await).is_renewable());
}

#[tokio::test]
async fn a_server_like_stripes_needs_no_quirk() {
    assert_eq!(Quirks::known_of(&ServerUrl::parse("https://mcp.stripe.com").unwrap()), Quirks::default());
    let server = AuthorizationServer::builder().issuer_path("/mcp").with(|settings| {
        settings.auth_methods = vec![AuthMethod::None];
        settings.documents = vec![Document::OAuth];
        settings.scopes = vec!["mcp".to_owned()];
    });
    let (server, mcp) = pair(server.start().await.unwrap()).await;
    let challenge = format!("Bearer resource_metadata={}{PRM}/mcp", mcp.origin());
    let grant = obtain(&service(), challenged(&mcp, &challenge)).await;
    assert_eq!(issued(&grant).authority.client.origin, ClientOrigin::Registered);
    assert!(issued(&grant).authority.revocation_endpoint.is_some() && issued(&grant).is_renewable());
    assert!(server.requests_to(Endpoint::Registration)[0].json().unwrap()["client_name"].is_string());
}

#[tokio::test]
async fn a_server_like_githubs_needs_a_client_and_no_quirk() {
    let url = ServerUrl::parse("https://api.githubcopilot.com/mcp").unwrap();
    assert_eq!(Quirks::known_of(&url), Quirks::default());
    let server = AuthorizationServer::builder().issuer_path("/login/oauth").with(|settings| {
        settings.documents = vec![Document::OAuth];
        settings.registration = false;
        settings.rotation = Rotation::Never;
        settings.scopes = ["gist", "read:org", "repo"].map(str::to_owned).to_vec();
        for silent in ["token_endpoint_auth_methods_supported", "revocation_endpoint"] {
            settings.metadata.insert(silent.to_owned(), None);
        }
        settings.token_members.insert("scope".to_owned(), Some("gist,read:org,repo".into()));
        settings.token_members.insert("expires_in".to_owned(), None);
    });
    let (server, mcp) = pair(server.start().await.unwrap()).await;
    assert!(matches!(service().prepare(request(&mcp)).await, Err(PrepareError::ClientRequired)));
    let service = service();
    let request = by_hand(&server, request(&mcp));
    assert_eq!(parameters(&service.prepare(request.clone()).await.unwrap())["scope"], "gist read:org repo");
    let grant = obtain(&service, request).await;
    let issued = issued(&grant);
    assert_eq!(issued.authority.client.authentication, ClientAuthentication::SecretBasic);
    assert_eq!(issued.scopes.to_string(), "gist read:org repo");
    assert!(!issued.is_renewable() && issued.expires_at.is_none());
    assert_eq!(service.client.revoke(grant).await, Ok(()));
}
