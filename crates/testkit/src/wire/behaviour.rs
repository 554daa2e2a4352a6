//! How the server treats a request: well, as a reply that the test composes, or as bytes that are no HTTP at all.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::reply::{Ending, Framing, ID, Reply, SseStyle};

/// Headers that a relay must not pass on: each would act on the origin of whoever relays it.
pub const HOSTILE_HEADERS: [(&str, &str); 18] = [
    ("set-cookie", "hostile=1; Path=/"),
    ("location", "https://hostile.example/"),
    ("refresh", "0; url=https://hostile.example/"),
    ("clear-site-data", "\"*\""),
    ("content-security-policy", "default-src *"),
    ("access-control-allow-origin", "https://hostile.example"),
    ("access-control-allow-credentials", "true"),
    ("alt-svc", "h2=\"hostile.example:443\"; ma=86400"),
    ("link", "<https://hostile.example/>; rel=preload"),
    ("service-worker-allowed", "/"),
    ("strict-transport-security", "max-age=0"),
    ("www-authenticate", "Bearer resource_metadata=\"https://hostile.example/\""),
    ("proxy-authenticate", "Basic realm=\"hostile\""),
    ("x-accel-redirect", "/etc/passwd"),
    ("x-hostile-hop", "1"),
    ("connection", "x-hostile-hop"),
    ("server", "hostile"),
    ("via", "1.1 hostile"),
];

pub(crate) type Alteration = dyn Fn(Reply) -> Reply + Send + Sync;

/// How the server treats a request.
///
/// Everything but [`serve`](Self::serve) is misbehaviour. Bodies may hold [`ID`], which becomes the id of the JSON-RPC
/// request.
#[derive(Clone)]
pub struct Behaviour(pub(crate) Kind);

#[derive(Clone)]
pub(crate) enum Kind {
    Serve,
    Reply(Box<Reply>),
    Alter(Arc<Alteration>),
    Wire(Vec<Step>),
    /// Serves, and takes these steps instead of writing the reply.
    Lose(Vec<Step>),
    /// Serves, and writes the reply when it is released.
    Hold(Hold),
}

/// Holds replies back until the test releases them; see [`Behaviour::held`]. Clones are one and the same.
#[derive(Clone, Debug)]
pub struct Hold(Arc<watch::Sender<bool>>);

impl Default for Hold {
    fn default() -> Self {
        Self::new()
    }
}

impl Hold {
    /// Holds from the start.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Lets go of every reply that is held, and of those to come.
    pub fn release(&self) {
        self.0.send_replace(true);
    }

    pub(crate) async fn released(&self) {
        // The sender is here, so this cannot fail.
        let _ = self.0.subscribe().wait_for(|released| *released).await;
    }
}

/// A step of [`Behaviour::wire`].
#[derive(Clone, Debug)]
pub enum Step {
    /// Writes these bytes.
    Send(Bytes),
    /// Writes the same bytes so many times, and waits after each.
    Repeat {
        /// What is written.
        bytes: Bytes,
        /// How many times.
        times: u64,
        /// How long to wait after each.
        pace: Duration,
    },
    /// Waits.
    Wait(Duration),
    /// Ends here. Without it the connection closes after the last step.
    End(Ending),
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Serve => formatter.write_str("Serve"),
            Kind::Reply(reply) => write!(formatter, "Reply({})", reply.status),
            Kind::Alter(_) => formatter.write_str("Alter"),
            Kind::Wire(steps) => write!(formatter, "Wire({} steps)", steps.len()),
            Kind::Hold(_) => formatter.write_str("Hold"),
            Kind::Lose(steps) => write!(formatter, "Lose({} steps)", steps.len()),
        }
    }
}

impl From<Reply> for Behaviour {
    fn from(reply: Reply) -> Self {
        Self(Kind::Reply(Box::new(reply)))
    }
}

/// The building blocks.
impl Behaviour {
    /// As the protocol says.
    pub fn serve() -> Self {
        Self(Kind::Serve)
    }

    /// This reply; the request has no other effect.
    pub fn reply(reply: Reply) -> Self {
        reply.into()
    }

    /// The request is served, with all effects, and its reply changed before it is written.
    pub fn alter(change: impl Fn(Reply) -> Reply + Send + Sync + 'static) -> Self {
        Self(Kind::Alter(Arc::new(change)))
    }

    /// These steps instead of HTTP; the request has no other effect.
    pub fn wire(steps: impl IntoIterator<Item = Step>) -> Self {
        Self(Kind::Wire(steps.into_iter().collect()))
    }

    /// The request is served, with all effects, and its reply lost: not a byte of it is written.
    pub fn lost(ending: Ending) -> Self {
        Self(Kind::Lose(vec![Step::End(ending)]))
    }

    /// The request is served, with all effects, and its reply written when it is released: for tests of what happens
    /// meanwhile.
    pub fn held(hold: &Hold) -> Self {
        Self(Kind::Hold(hold.clone()))
    }

    /// These bytes, and then the end of the connection.
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self::wire([Step::Send(bytes.into())])
    }
}

/// Replies that are valid HTTP, and not what was asked for.
impl Behaviour {
    /// A status without a body, such as an empty 200, a 202 or a 204.
    pub fn status(status: u16) -> Self {
        Reply::new(status).into()
    }

    /// A status with a body in `text/plain`.
    pub fn text(status: u16, body: impl Into<Bytes>) -> Self {
        Reply::text(status, body).into()
    }

    /// 200 with a body in `text/html`.
    pub fn html(body: impl Into<Bytes>) -> Self {
        Reply::html(body).into()
    }

    /// A redirect; `status` is 301, 302, 303, 307 or 308.
    pub fn redirect(status: u16, to: &str) -> Self {
        Reply::text(status, "moved").header("location", to).into()
    }

    /// 401 with this challenge.
    pub fn unauthorized(challenge: &str) -> Self {
        Reply::json(r#"{"error":"invalid_token"}"#).status(401).header("www-authenticate", challenge).into()
    }

    /// 429 with `Retry-After` in seconds.
    pub fn too_many_requests(retry_after: u32) -> Self {
        Reply::text(429, "slow down").header("retry-after", retry_after.to_string()).into()
    }

    /// JSON that breaks off.
    pub fn invalid_json() -> Self {
        Reply::json(format!(r#"{{"jsonrpc":"2.0","id":{ID},"result":{{"#)).into()
    }

    /// JSON that is no JSON-RPC.
    pub fn not_json_rpc() -> Self {
        Reply::json(r#"{"status":"ok","items":[1,2,3]}"#).into()
    }

    /// A JSON-RPC result of arrays in arrays, so many deep.
    pub fn deep_json(depth: usize) -> Self {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        Reply::json(format!(r#"{{"jsonrpc":"2.0","id":{ID},"result":{{"deep":{open}{close}}}}}"#)).into()
    }

    /// The JSON-RPC result of the request, whatever was asked.
    pub fn rpc_result(result: &Value) -> Self {
        Reply::rpc_result(result).into()
    }

    /// A JSON-RPC error for the request. `data` may be null.
    pub fn rpc_error(status: u16, code: i64, message: &str, data: &Value) -> Self {
        Reply::rpc_error(status, code, message, data).into()
    }

    /// JSON that never ends.
    pub fn endless_json() -> Self {
        let head = format!(r#"{{"jsonrpc":"2.0","id":{ID},"result":{{"endless":""#);
        Reply::endless("application/json", head, vec![b'x'; 64 << 10]).into()
    }

    /// Notifications on an event stream at this interval, for ever and without a result.
    pub fn endless_sse(interval: Duration) -> Self {
        let message = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"tick"}}"#;
        let unit = format!("event: message\ndata: {message}\n\n");
        Reply::endless("text/event-stream", "", unit).pace(interval).into()
    }

    /// One event of so many bytes on an event stream.
    pub fn huge_sse_event(bytes: u64) -> Self {
        let head = format!(r#"data: {{"jsonrpc":"2.0","id":{ID},"result":{{"huge":""#);
        Reply::long("text/event-stream", head, bytes, "\"}}\n\n").into()
    }
}

/// The right answer, and something wrong with it.
impl Behaviour {
    /// The right answer after this time.
    pub fn delayed(delay: Duration) -> Self {
        Self::alter(move |reply| reply.delay(delay))
    }

    /// The right answer with further headers.
    pub fn with_headers(headers: &'static [(&'static str, &'static str)]) -> Self {
        Self::alter(move |reply| headers.iter().fold(reply, |reply, (name, value)| reply.header(name, value)))
    }

    /// The right answer with [`HOSTILE_HEADERS`].
    pub fn hostile_headers() -> Self {
        Self::with_headers(&HOSTILE_HEADERS)
    }

    /// The right answer with further headers of so many bytes in all, in lines of 4 KiB.
    pub fn huge_headers(bytes: usize) -> Self {
        let value = "x".repeat(4 << 10);
        let lines = bytes.div_ceil(value.len());
        Self::alter(move |reply| {
            (0..lines).fold(reply, |reply, number| reply.header(&format!("x-filler-{number}"), &value))
        })
    }

    /// The right answer with another `Content-Length` before the right one.
    pub fn duplicate_content_length() -> Self {
        Self::alter(|reply| reply.header("content-length", "3"))
    }

    /// The right answer in gzip, which nobody asked for.
    pub fn gzip() -> Self {
        Self::alter(Reply::gzipped)
    }

    /// The right JSON answer with another value for this member; an answer that is no object stays as it is.
    pub fn with_member(name: impl Into<String>, value: impl Into<Value>) -> Self {
        let (name, value) = (name.into(), value.into());
        Self::alter(move |reply| {
            reply.edit_json(|answer| {
                if let Some(members) = answer.as_object_mut() {
                    members.insert(name.clone(), value.clone());
                }
            })
        })
    }

    /// The right JSON answer without this member.
    pub fn without_member(name: impl Into<String>) -> Self {
        let name = name.into();
        Self::alter(move |reply| {
            reply.edit_json(|answer| {
                answer.as_object_mut().and_then(|members| members.remove(&name));
            })
        })
    }

    /// The right JSON answer, and in it a member of so many bytes that nobody asked for.
    pub fn oversized(bytes: usize) -> Self {
        let filler = format!("\"{}\"", "x".repeat(bytes));
        Self::alter(move |reply| reply.with_raw_member("oversized", &filler))
    }

    /// The right JSON answer, and in it a member of arrays in arrays, so many deep.
    pub fn with_deep_member(depth: usize) -> Self {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        Self::alter(move |reply| reply.with_raw_member("deep", &deep))
    }

    /// The right answer with another status.
    pub fn with_status(status: u16) -> Self {
        Self::alter(move |reply| reply.status(status))
    }

    /// The right answer with another id.
    pub fn wrong_id() -> Self {
        Self::alter(|reply| reply.edit_json(|message| message["id"] = "somebody else's".into()))
    }

    /// The right answer on an event stream instead of in JSON.
    pub fn as_sse(style: SseStyle) -> Self {
        Self::alter(move |reply| reply.as_sse(style))
    }

    /// The right answer, one byte at each interval.
    pub fn trickle(interval: Duration) -> Self {
        Self::alter(move |reply| reply.in_pieces_of(1).pace(interval))
    }

    /// Half of the right answer, in chunks; then it breaks off.
    pub fn cut_in_the_middle(ending: Ending) -> Self {
        Self::alter(move |reply| reply.framing(Framing::Chunked).cut_in_the_middle(ending))
    }

    /// The right answer, shorter than its `Content-Length` says.
    pub fn shorter_than_declared() -> Self {
        Self::alter(|reply| {
            let length = reply.length();
            reply.framing(Framing::Declared(length + 100))
        })
    }
}

/// No HTTP response.
impl Behaviour {
    /// Nothing, until the client leaves.
    pub fn hang() -> Self {
        Self::wire([Step::End(Ending::Hang)])
    }

    /// Nothing but the end of the connection.
    pub fn close() -> Self {
        Self::wire([Step::End(Ending::Close)])
    }

    /// Nothing but a reset of the connection.
    pub fn reset() -> Self {
        Self::wire([Step::End(Ending::Reset)])
    }

    /// Bytes that are not HTTP.
    pub fn garbage() -> Self {
        Self::raw(&b"\x16\x03\x01\x00\xff\xfe not http at all\r\n\r\n\x00\x00"[..])
    }

    /// Half of a status line, and then nothing, until the client leaves.
    pub fn hang_in_head() -> Self {
        Self::wire([Step::Send(Bytes::from_static(b"HTTP/1.1 200 OK\r\ncontent-ty")), Step::End(Ending::Hang)])
    }
}
