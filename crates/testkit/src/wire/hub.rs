//! The streams that stay open: GET streams of the legacy era, subscriptions of the modern one, and HTTP+SSE.

use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::reply::{SseStyle, event};

/// The member of `_meta` that says which subscription a message belongs to.
pub(crate) const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

/// How many messages a stream may lag behind before it misses some.
const BACKLOG: usize = 4096;

/// Hands messages to the open streams.
#[derive(Debug)]
pub(crate) struct Hub(broadcast::Sender<Post>);

/// A message for the open streams.
#[derive(Clone, Debug)]
pub(crate) enum Post {
    /// For every stream that takes this message.
    Everyone(Value),
    /// For one HTTP+SSE stream: an event as it is to be written.
    Client(u64, String),
    /// Every stream ends as the protocol has it.
    End,
}

/// Whom a stream serves, and so what it takes.
#[derive(Clone, Debug)]
pub(crate) enum Audience {
    /// A GET stream of the legacy era takes every message.
    Session,
    /// `subscriptions/listen` of the modern era, with the id of its request, takes what was asked for.
    Subscription { id: Value, filter: Value },
    /// An HTTP+SSE stream, and the path for its messages.
    Client { number: u64, endpoint: String },
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Post> {
        self.0.subscribe()
    }

    /// Nobody listening is no error.
    pub(crate) fn post(&self, post: Post) {
        let _ = self.0.send(post);
    }
}

impl Audience {
    /// What is written as soon as the stream is open.
    pub(crate) fn greeting(&self) -> String {
        match self {
            Self::Session => ": open\n\n".to_owned(),
            Self::Client { endpoint, .. } => format!("event: endpoint\ndata: {endpoint}\n\n"),
            Self::Subscription { id, filter } => {
                let params = json!({ "_meta": { SUBSCRIPTION_ID: id }, "notifications": filter });
                let method = "notifications/subscriptions/acknowledged";
                event(SseStyle::Plain, &json!({ "jsonrpc": "2.0", "method": method, "params": params }))
            }
        }
    }

    /// What is written for a message; `None` when it is not for this stream.
    pub(crate) fn take(&self, post: &Post) -> Option<String> {
        match (self, post) {
            (Self::Session | Self::Client { .. }, Post::Everyone(message)) => Some(event(SseStyle::Plain, message)),
            (Self::Client { number, .. }, Post::Client(to, text)) if number == to => Some(text.clone()),
            (Self::Subscription { id, filter }, Post::Everyone(message)) => {
                wants(filter, message).then(|| event(SseStyle::Plain, &marked(message.clone(), "params", id)))
            }
            (Self::Subscription { id, .. }, Post::End) => {
                let closing = json!({ "jsonrpc": "2.0", "id": id, "result": { "resultType": "complete" } });
                Some(event(SseStyle::Plain, &marked(closing, "result", id)))
            }
            _ => None,
        }
    }
}

/// Whether a subscription with this filter asked for the message.
fn wants(filter: &Value, message: &Value) -> bool {
    let flag = |name: &str| filter[name] == true;
    match message["method"].as_str() {
        Some("notifications/tools/list_changed") => flag("toolsListChanged"),
        Some("notifications/prompts/list_changed") => flag("promptsListChanged"),
        Some("notifications/resources/list_changed") => flag("resourcesListChanged"),
        Some("notifications/resources/updated") => filter["resourceSubscriptions"]
            .as_array()
            .is_some_and(|uris| uris.iter().any(|uri| *uri == message["params"]["uri"])),
        _ => false,
    }
}

fn marked(mut message: Value, member: &str, id: &Value) -> Value {
    message[member]["_meta"][SUBSCRIPTION_ID] = id.clone();
    message
}
