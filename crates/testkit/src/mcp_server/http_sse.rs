//! HTTP+SSE of 2024-11-05: the GET stream names a path, messages are posted there, and answers come on the stream.

use std::sync::Arc;

use serde_json::Value;

use super::{
    hub::{Audience, Post},
    legacy,
    protocol::{Message, Protocol, read},
    reply::{Body, Reply, SseStyle, event},
    request::Request,
};

/// Where clients of this transport post their messages.
pub(super) const MESSAGES: &str = "/messages";

/// Answers on the URL of the server.
pub(super) fn open(protocol: &Protocol, request: &Request) -> Reply {
    if request.verb != "GET" {
        return Reply::text(405, "Method Not Allowed").header("allow", "GET");
    }
    let number = protocol.next_number();
    Reply::live(Audience::Client { number, endpoint: format!("{MESSAGES}?client={number}") })
}

/// Takes a message, and posts its answer on the stream of its client.
pub(super) fn message(protocol: &Arc<Protocol>, request: &Request, rpc: Option<&Value>) -> Reply {
    if request.verb != "POST" {
        return Reply::text(405, "Method Not Allowed").header("allow", "POST");
    }
    let Some(client) = request.query("client").and_then(|client| client.parse().ok()) else {
        return Reply::text(400, "no client");
    };
    let message = match read(rpc) {
        Ok((_, message)) => message,
        Err(refusal) => return refusal,
    };
    if let Message::Request { id, method, params } = message {
        let reply = legacy::dispatch(protocol, id, method, params);
        tokio::spawn(deliver(Arc::clone(protocol), client, reply));
    }
    Reply::text(202, "Accepted")
}

/// Long results are cut off: this transport cannot carry a result in parts, and the stream is no place to collect one.
async fn deliver(protocol: Arc<Protocol>, client: u64, reply: Reply) {
    let Body::Pieces(pieces) = &reply.body else { return };
    for (number, piece) in pieces.iter().enumerate() {
        if number > 0 {
            tokio::time::sleep(reply.pace).await;
        }
        let text = match serde_json::from_slice::<Value>(piece) {
            Ok(message) => event(SseStyle::Plain, &message),
            Err(_) => String::from_utf8_lossy(piece).into_owned(),
        };
        protocol.hub.post(Post::Client(client, text));
    }
}
