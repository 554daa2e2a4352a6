//! Setting out: consent ends up where it was begun, whoever else gets hold of an address.

use std::time::Duration;

use connectors_application::ports::MockAuthorizationServer;
use connectors_application::{CallbackOutcome, CallbackRequest, ConnectRequest, CreateRequest, SetOut};
use connectors_domain::{AccountName, ClientState, Connector, ConnectorId, Lifecycle, Secret};
use jiff::Timestamp;

use crate::authorize::{authorization, callback, grant, protected};
use crate::support::{ATTEMPT_LIFETIME, World};

/// A service with users to tell apart, and a connector of one of them that waits for consent.
async fn begun(authorization: MockAuthorizationServer) -> (World, Connector) {
    let world = World::authorized_by(protected(), authorization).configured(|config| config.bind_browsers = true);
    let account = Some(AccountName::new("alice"));
    let request = CreateRequest { url: "https://mcp.example.com/mcp".into(), account, ..CreateRequest::default() };
    let connector = world.service.create(world.owner, request).await.unwrap();
    let waiting = world.service.connect(world.owner, connector.id, ConnectRequest::default()).await.unwrap();
    assert_eq!(waiting.client_state(), ClientState::AuthRequired);
    (world, waiting)
}

fn ticket(connector: &Connector) -> Secret {
    connector.attempt().unwrap().start.as_ref().unwrap().ticket.clone()
}

async fn set_out(world: &World, connector: &Connector, browser: Option<&str>) -> SetOut {
    world.service.set_out(connector.id, &ticket(connector), browser.map(Secret::new)).await.unwrap()
}

fn back_in(browser: Option<&str>) -> CallbackRequest {
    CallbackRequest { browser: browser.map(Secret::new), ..callback("a") }
}

#[tokio::test]
async fn the_browser_that_sets_out_is_the_one_that_comes_back() {
    let mut authorization = authorization(false);
    authorization.expect_exchange().times(1).returning(|_| Ok(grant()));
    let (world, waiting) = begun(authorization).await;
    let page = world.service.start_page(waiting.id, &ticket(&waiting)).await.unwrap().unwrap();
    assert_eq!((page.server.as_str(), page.issuer.as_str()), ("https://mcp.example.com/mcp", "https://as.example.com"));
    assert_eq!((page.owner, page.account), (world.owner, Some(AccountName::new("alice"))));
    assert_eq!(world.stored(&waiting).await, waiting, "to look changes nothing");

    let SetOut::On { authorization_url, browser } = set_out(&world, &waiting, None).await else { panic!("not on") };
    assert_eq!(authorization_url, waiting.attempt().unwrap().authorization_url);
    // A connect meanwhile leads to the same page.
    let again = world.service.connect(world.owner, waiting.id, ConnectRequest::default()).await.unwrap();
    assert_eq!(ticket(&again), ticket(&waiting));

    for other in [None, Some("another"), Some("")] {
        let outcome = world.service.callback(back_in(other)).await.unwrap();
        assert_eq!(outcome, CallbackOutcome::OtherBrowser, "{other:?}");
        assert_eq!(world.stored(&waiting).await.client_state(), ClientState::AuthRequired);
    }
    let outcome = world.service.callback(back_in(Some(browser.expose()))).await.unwrap();
    assert_eq!(outcome, CallbackOutcome::Finished { redirect_url: None, failure: None });
    assert_eq!(world.stored(&waiting).await.lifecycle(), Lifecycle::Connected);
    // Nothing waits any more.
    assert_eq!(world.service.start_page(waiting.id, &ticket(&waiting)).await.unwrap(), None);
    assert_eq!(set_out(&world, &waiting, None).await, SetOut::Unknown);
}

#[tokio::test]
async fn whoever_has_not_set_out_finishes_nothing() {
    let mut authorization = authorization(false);
    authorization.expect_exchange().never();
    let (world, waiting) = begun(authorization).await;
    for browser in [None, Some("made up")] {
        assert_eq!(world.service.callback(back_in(browser)).await.unwrap(), CallbackOutcome::OtherBrowser);
    }
    assert_eq!(world.stored(&waiting).await, waiting);
}

#[tokio::test]
async fn the_first_browser_has_it() {
    let (world, waiting) = begun(authorization(false)).await;
    let SetOut::On { browser, .. } = set_out(&world, &waiting, Some("first")).await else { panic!("not on") };
    assert_eq!(browser.expose(), "first", "a browser keeps the secret that it has");
    for other in [None, Some("second")] {
        assert_eq!(set_out(&world, &waiting, other).await, SetOut::OtherBrowser);
    }
    assert!(matches!(set_out(&world, &waiting, Some("first")).await, SetOut::On { .. }), "it may look twice");
}

#[tokio::test]
async fn of_many_browsers_at_once_one_sets_out() {
    let (world, waiting) = begun(authorization(false)).await;
    let (service, ticket) = (world.service.clone(), ticket(&waiting));
    let browsers = (0..16).map(|_| {
        let (service, ticket, id) = (service.clone(), ticket.clone(), waiting.id);
        tokio::spawn(async move { service.set_out(id, &ticket, None).await.unwrap() })
    });
    let mut on = 0;
    for browser in browsers.collect::<Vec<_>>() {
        on += usize::from(matches!(browser.await.unwrap(), SetOut::On { .. }));
    }
    assert_eq!(on, 1);
}

#[tokio::test]
async fn a_page_that_nobody_was_given_does_not_exist() {
    let (world, waiting) = begun(authorization(false)).await;
    let good = ticket(&waiting);
    let other = ConnectorId::new(Timestamp::UNIX_EPOCH, [1; 10]);
    for (id, ticket) in [
        (other, good.clone()),
        (waiting.id, Secret::new("")),
        (waiting.id, Secret::new(&good.expose()[1..])),
        (waiting.id, Secret::new(format!("{}0", good.expose()))),
    ] {
        assert_eq!(world.service.start_page(id, &ticket).await.unwrap(), None);
        assert_eq!(world.service.set_out(id, &ticket, None).await.unwrap(), SetOut::Unknown);
    }
    world.clock.advance(ATTEMPT_LIFETIME.saturating_sub(Duration::from_micros(1)));
    assert!(world.service.start_page(waiting.id, &good).await.unwrap().is_some());
    world.clock.advance(Duration::from_micros(1));
    assert_eq!(world.service.start_page(waiting.id, &good).await.unwrap(), None);
    assert_eq!(world.service.set_out(waiting.id, &good, None).await.unwrap(), SetOut::Unknown);
}

#[tokio::test]
async fn an_attempt_from_before_users_were_told_apart_is_finished_by_nobody() {
    let mut authorization = authorization(false);
    authorization.expect_exchange().never();
    let world = World::authorized_by(protected(), authorization);
    let connector = world.create().await;
    let waiting = world.service.connect(world.owner, connector.id, ConnectRequest::default()).await.unwrap();
    assert!(waiting.attempt().unwrap().start.is_none(), "one user needs no such page");
    let world = world.configured(|config| config.bind_browsers = true);
    assert_eq!(world.service.callback(back_in(Some("any"))).await.unwrap(), CallbackOutcome::OtherBrowser);
    assert_eq!(world.stored(&waiting).await, waiting);
}

#[tokio::test]
async fn every_attempt_has_a_ticket_of_its_own() {
    let (world, waiting) = begun(authorization(false)).await;
    world.clock.advance(ATTEMPT_LIFETIME);
    let again = world.service.connect(world.owner, waiting.id, ConnectRequest::default()).await.unwrap();
    assert_ne!(ticket(&again), ticket(&waiting));
    assert_eq!(set_out(&world, &waiting, None).await, SetOut::Unknown);
    assert!(matches!(set_out(&world, &again, None).await, SetOut::On { .. }));
}
