//! Memory: bodies pass through, however long they are and however slowly they are read. A process of its own, since
//! what is measured is the process; the server that sends is in it, too, and keeps nothing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests are tests, too")]
#![cfg(target_os = "linux")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{LONG, client, server, token, url};
use connectors_application::ports::{
    ByteStream, McpServer as _, ProbeError, RelayBody, RelayMethod, RelayRequest, RelayTarget, RequestHeaders,
};
use connectors_mcp::McpClient;
use connectors_testkit::mcp_server::{Behaviour, Eras, McpServer, Reply};
use futures_util::StreamExt as _;

const MIB: u64 = 1 << 20;
const BODY: u64 = 100 * MIB;
const ALLOWED: u64 = 16 * MIB;

fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

async fn open(client: &McpClient, server: &McpServer) -> ByteStream {
    let target = Arc::new(RelayTarget { url: url(server), access_token: Some(token("good")) });
    let request =
        RelayRequest { target, method: RelayMethod::Post, headers: RequestHeaders::default(), body: Bytes::new() };
    match client.relay(request).await.unwrap().body {
        RelayBody::Json { stream, .. } | RelayBody::Events { stream } => stream,
        other => panic!("no stream: {other:?}"),
    }
}

/// One test, since another one at the same time would be measured, too.
#[tokio::test]
async fn no_body_is_collected() {
    let server = server(Eras::Dual).await;
    let client = client();
    server.script(Reply::long("application/json", "", MIB, ""));
    // Warms up what is allocated once.
    let mut body = open(&client, &server).await;
    while body.next().await.is_some() {}

    for media_type in ["application/json", "text/event-stream"] {
        server.script(Reply::long(media_type, "", BODY, ""));
        let before = resident();
        let (mut read, mut most) = (0, 0);
        let mut body = open(&client, &server).await;
        while let Some(chunk) = body.next().await {
            read += chunk.unwrap().len() as u64;
            most = most.max(resident().saturating_sub(before));
        }
        assert_eq!(read, BODY);
        assert!(most < ALLOWED, "{media_type}: {} KiB", most / 1024);
    }

    // Nobody reads: the server waits.
    server.script(Behaviour::endless_json());
    let before = resident();
    let mut unread = Vec::new();
    for _ in 0..10 {
        unread.push(open(&client, &server).await);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let grown = resident().saturating_sub(before);
    assert!(grown < ALLOWED, "ten streams that nobody reads: {} KiB", grown / 1024);
    drop(unread);
    server.wait_until_open_streams(0, LONG).await.unwrap();

    // The probe reads no more than it may keep.
    for behaviour in [Behaviour::endless_json(), Behaviour::huge_sse_event(BODY)] {
        server.script(behaviour);
        let before = resident();
        assert_eq!(client.probe(url(&server), None).await, Err(ProbeError::NotMcp));
        let grown = resident().saturating_sub(before);
        assert!(grown < ALLOWED, "probe: {} KiB", grown / 1024);
    }
}
