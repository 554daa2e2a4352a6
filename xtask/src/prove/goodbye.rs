//! What is disconnected or deleted is revoked at the authorization server.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use connectors_testkit::authorization_server::{Behaviour, Endpoint, Request};
use serde_json::Value;

use super::Context;
use super::fleet::{Launch, Peers, Remote, connect_many, until};
use super::measure::seconds;
use crate::support::peers::{Interpreter, Peers as Published, Server};

/// What a goodbye may take.
const AT_MOST: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(5);
/// Until what failed is tried again: the try itself, and the pause after it.
const RETRIED: Duration = Duration::from_mins(2);

#[derive(Clone, Copy)]
enum Goodbye {
    Disconnect,
    Delete,
}

impl Goodbye {
    /// Says goodbye, and returns how long that took.
    async fn say(self, remote: &Remote, id: &str) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let (status, answer) = match self {
            Self::Disconnect => remote.call("POST", &format!("/api/v1/connectors/{id}/disconnect"), None).await?,
            Self::Delete => remote.call("DELETE", &format!("/api/v1/connectors/{id}"), None).await?,
        };
        let took = start.elapsed();
        ensure!((200..300).contains(&status), "it was answered with {status} {answer}");
        ensure!(took < AT_MOST, "it took {}", seconds(took));
        Ok(took)
    }
}

pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    strict(context).await?;
    if !context.arguments.short {
        killed(context).await?;
        hanging(context).await?;
        oidc_provider(context).await?;
    }
    Ok(())
}

/// The kinds of the tokens that were to be revoked, in their order.
fn kinds(requests: &[Request]) -> Vec<String> {
    let hint = |request: &Request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        body.split('&').find_map(|pair| pair.strip_prefix("token_type_hint=").map(str::to_owned))
    };
    requests.iter().filter_map(hint).collect()
}

async fn strict(context: &Context) -> anyhow::Result<()> {
    let peers = Peers::start(|_| {}).await?;
    let service = Launch::new(context, "strict")?.start()?;
    let ids = connect_many(&[service.remote()], &peers, 0..2, false).await?;
    for (id, goodbye, name) in [(&ids[0], Goodbye::Disconnect, "disconnect"), (&ids[1], Goodbye::Delete, "delete")] {
        peers.authorization.clear();
        let took = goodbye.say(&service.remote(), id).await?;
        let asked = async || peers.authorization.requests_to(Endpoint::Revocation).len() >= 2;
        let revoked = until("two revocations", SOON, asked).await?;
        let kinds = kinds(&peers.authorization.requests_to(Endpoint::Revocation));
        println!(
            "  strict server: {name} answered after {}, revoked {} later: {}",
            seconds(took),
            seconds(revoked),
            kinds.join(", ")
        );
        ensure!(kinds == ["refresh_token", "access_token"], "not the refresh token, then the access token");
        ensure!(peers.authorization.counters().revocations >= 1, "nothing that was good was revoked");
    }
    Ok(())
}

/// kill -9 right after the answer, with the revocation begun for certain, or perhaps. One that a process has begun which then
/// died is begun again after a minute.
async fn killed(context: &Context) -> anyhow::Result<()> {
    for (name, begun) in [("killed-at-once", false), ("killed-while-revoking", true)] {
        let peers = Peers::start(|_| {}).await?;
        let launch = Launch::new(context, name)?;
        let service = launch.start()?;
        let ids = connect_many(&[service.remote()], &peers, 0..1, false).await?;
        peers.authorization.script(peers.authorization.on(Endpoint::Revocation, Behaviour::hang()));
        Goodbye::Delete.say(&service.remote(), &ids[0]).await?;
        if begun {
            let asked = async || !peers.authorization.requests_to(Endpoint::Revocation).is_empty();
            until("a revocation", SOON, asked).await?;
        }
        service.kill()?;
        peers.authorization.behave();
        let _service = launch.start()?;
        let revoked = async || peers.authorization.counters().revocations > 0;
        let after = until("the revocation after the restart", RETRIED, revoked).await?;
        let when = if begun { "while revoking" } else { "at once" };
        println!("  strict server: deleted, killed {when}, revoked {} after the restart", seconds(after));
    }
    Ok(())
}

async fn hanging(context: &Context) -> anyhow::Result<()> {
    let peers = Peers::start(|_| {}).await?;
    let service = Launch::new(context, "hanging")?.start()?;
    let ids = connect_many(&[service.remote()], &peers, 0..2, false).await?;
    peers.authorization.script(peers.authorization.on(Endpoint::Revocation, Behaviour::hang()));
    let disconnected = Goodbye::Disconnect.say(&service.remote(), &ids[0]).await?;
    let deleted = Goodbye::Delete.say(&service.remote(), &ids[1]).await?;
    let (status, _) = service.remote().call("GET", &format!("/api/v1/connectors/{}", ids[1]), None).await?;
    ensure!(status == 404, "the connector is still there: {status}");
    let asked = async || peers.authorization.requests_to(Endpoint::Revocation).len() >= 2;
    until("revocations", SOON, asked).await?;
    peers.authorization.behave();
    // Each brings its grant to an end with the refresh token.
    let revoked = async || peers.authorization.grants().iter().all(|grant| grant.revoked);
    let after = until("the revocations to be tried again", RETRIED, revoked).await?;
    println!(
        "  revocation endpoint hangs: disconnect answered after {}, delete after {}; tried again and done {} after the first try",
        seconds(disconnected),
        seconds(deleted),
        seconds(after)
    );
    Ok(())
}

async fn oidc_provider(context: &Context) -> anyhow::Result<()> {
    let published = Published::node()?;
    let (_server, url) = published.start(Server::OidcProvider, &context.folder.join("oidc-provider.log"))?;
    let service = Launch::new(context, "oidc-provider")?.start()?;
    let remote = service.remote();
    let stats = url.replace("/mcp", "/stats");
    for (goodbye, name) in [(Goodbye::Disconnect, "disconnect"), (Goodbye::Delete, "delete")] {
        let body = serde_json::json!({ "url": format!("{url}?by={name}"), "match_preset": false });
        let (_, created) = remote.call("POST", "/api/v1/connectors", Some(body)).await?;
        let id = created["id"].as_str().context("a connector has an id")?.to_owned();
        let (_, connector) = remote.call("POST", &format!("/api/v1/connectors/{id}/connect"), None).await?;
        let visit = connector["auth_request"]["authorization_endpoint"].as_str();
        let visit = visit.with_context(|| format!("nobody is asked for consent: {connector}"))?;
        let consent = published.script(Interpreter::Node, "oauth/consent.mjs").arg(visit).output()?;
        if !consent.status.success() {
            bail!("there was no consent: {}", String::from_utf8_lossy(&consent.stderr));
        }
        let took = goodbye.say(&remote, &id).await?;
        // A refresh token takes its grant along, the access token with it.
        let good = |stats: &Value| {
            ["RefreshToken", "AccessToken"].iter().filter_map(|kind| stats["live"][kind].as_u64()).sum::<u64>()
        };
        let start = Instant::now();
        let after = loop {
            let now = read(&service.client, &stats).await?;
            if good(&now) == 0 || start.elapsed() > SOON {
                break now;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        println!(
            "  oidc-provider: {name} answered after {}, revoked {} later: {}; it still has {}",
            seconds(took),
            seconds(start.elapsed()),
            after["revoked"],
            after["live"]
        );
        ensure!(good(&after) == 0, "a token is still good: {after}");
    }
    Ok(())
}

async fn read(client: &reqwest::Client, url: &str) -> anyhow::Result<Value> {
    Ok(client.get(url).send().await?.json().await?)
}
