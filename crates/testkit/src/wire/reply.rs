//! A response as data: status, headers, body, framing, pace, and where it breaks off. It is made by the protocol or by a
//! script, and can be changed in between; [`super::play`] writes it.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::hub::Audience;

/// Stands in scripted bodies for the id of the JSON-RPC request that is being answered.
pub const ID: &str = "{{id}}";

/// The piece that long bodies are made of.
const FILLER: &[u8] = &[b'x'; 64 << 10];

/// A response.
#[derive(Clone, Debug)]
#[must_use]
pub struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Body,
    pub(crate) framing: Framing,
    pub(crate) delay: Duration,
    pub(crate) pace: Duration,
    pub(crate) cut: Option<(u64, Ending)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// Written one after the other.
    Pieces(Vec<Bytes>),
    /// `head`, then `unit` so many times, then `tail`; never collected.
    Repeat { head: Bytes, unit: Bytes, times: u64, tail: Bytes },
    /// Events that the test sends, until the client goes.
    Live(Audience),
}

/// How the client is told where the body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// `Content-Length`, and right.
    Length,
    /// `Content-Length` of this many bytes, whatever the body is. The connection closes after the body.
    Declared(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The connection closes.
    Close,
    /// No header says so, as for 204 and 304. For a reply without a body.
    None,
}

/// What happens at the place where a response breaks off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// Nothing more comes, and the connection stays open until the client leaves.
    Hang,
    /// The connection is closed, as if the response were done.
    Close,
    /// The connection is reset.
    Reset,
}

/// Ways to write the same event stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SseStyle {
    /// `event: message`, one `data` line, line feeds.
    Plain,
    /// Only a `data` line, and no space after its colon.
    Bare,
    /// Lines end with CR LF.
    CrLf,
    /// Lines end with CR.
    Cr,
    /// A byte order mark comes first.
    Bom,
    /// Comments before, between and after the fields.
    Comments,
    /// The JSON is spread over several `data` lines.
    MultiLine,
    /// An event with an id and empty `data` comes first, and `retry`, as in the revision of 2025-11-25.
    Primed,
    /// Byte order mark, CR LF, comments and several `data` lines at once.
    Everything,
}

impl Reply {
    /// A response with neither body nor further headers.
    pub fn new(status: u16) -> Self {
        let framing = if matches!(status, 204 | 304) { Framing::None } else { Framing::Length };
        Self {
            status,
            headers: Vec::new(),
            body: Body::Pieces(Vec::new()),
            framing,
            delay: Duration::ZERO,
            pace: Duration::ZERO,
            cut: None,
        }
    }

    /// `application/json` with this text, which need not be JSON.
    pub fn json(text: impl Into<Bytes>) -> Self {
        Self::new(200).content_type("application/json").body(text)
    }

    /// `text/plain`.
    pub fn text(status: u16, text: impl Into<Bytes>) -> Self {
        Self::new(status).content_type("text/plain; charset=utf-8").body(text)
    }

    /// `text/html`.
    pub fn html(text: impl Into<Bytes>) -> Self {
        Self::new(200).content_type("text/html; charset=utf-8").body(text)
    }

    /// The JSON-RPC result of the request.
    pub fn rpc_result(result: &Value) -> Self {
        Self::json(format!(r#"{{"jsonrpc":"2.0","id":{ID},"result":{result}}}"#))
    }

    /// A JSON-RPC error for the request. `data` may be null.
    pub fn rpc_error(status: u16, code: i64, message: &str, data: &Value) -> Self {
        let message = Value::from(message);
        let data = if data.is_null() { String::new() } else { format!(r#","data":{data}"#) };
        let error = format!(r#"{{"code":{code},"message":{message}{data}}}"#);
        Self::json(format!(r#"{{"jsonrpc":"2.0","id":{ID},"error":{error}}}"#)).status(status)
    }

    /// `text/event-stream` in chunks, each piece its own write.
    pub fn stream<P: Into<Bytes>>(pieces: impl IntoIterator<Item = P>) -> Self {
        let body = Body::Pieces(pieces.into_iter().map(Into::into).collect());
        Self { body, framing: Framing::Chunked, ..Self::new(200) }
            .content_type("text/event-stream")
            .header("cache-control", "no-cache, no-transform")
            .header("x-accel-buffering", "no")
    }

    /// [`Self::stream`] of one event for each of these JSON-RPC messages.
    pub fn events(messages: &[Value]) -> Self {
        Self::stream(messages.iter().map(|message| event(SseStyle::Plain, message)))
    }

    /// `head`, `bytes` letters, `tail`: in chunks, never collected.
    pub fn long(content_type: &str, head: impl Into<Bytes>, bytes: u64, tail: impl Into<Bytes>) -> Self {
        let unit = Bytes::from_static(FILLER);
        let size = unit.len() as u64;
        let rest = usize::try_from(bytes % size).map_or(0, |rest| rest);
        let tail = Bytes::from([&FILLER[..rest], &tail.into()].concat());
        let body = Body::Repeat { head: head.into(), unit, times: bytes / size, tail };
        Self { body, framing: Framing::Chunked, ..Self::new(200) }.content_type(content_type)
    }

    /// `head`, and then `unit` again and again, in chunks, until the client goes.
    pub fn endless(content_type: &str, head: impl Into<Bytes>, unit: impl Into<Bytes>) -> Self {
        let body = Body::Repeat { head: head.into(), unit: unit.into(), times: u64::MAX, tail: Bytes::new() };
        Self { body, framing: Framing::Chunked, ..Self::new(200) }.content_type(content_type)
    }

    pub(crate) fn live(audience: Audience) -> Self {
        Self { body: Body::Live(audience), ..Self::stream::<Bytes>([]) }
    }

    /// Another status.
    pub fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// One more header; written as it is given, even where that breaks the response.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Leaves out the headers of this name.
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self
    }

    /// Another `Content-Type`.
    pub fn content_type(self, value: &str) -> Self {
        self.without_header("content-type").header("content-type", value)
    }

    /// Another body.
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self { body: Body::Pieces(if body.is_empty() { Vec::new() } else { vec![body] }), ..self }
    }

    /// Another framing.
    pub fn framing(self, framing: Framing) -> Self {
        Self { framing, ..self }
    }

    /// Waits before the first byte.
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Waits between one piece of the body and the next.
    pub fn pace(self, pace: Duration) -> Self {
        Self { pace, ..self }
    }

    /// Splits a body that is in memory into pieces of so many bytes, for [`Self::pace`].
    pub fn in_pieces_of(mut self, bytes: usize) -> Self {
        if let Some(whole) = self.whole_body() {
            let size = bytes.max(1);
            let pieces = (0..whole.len()).step_by(size).map(|at| whole.slice(at..whole.len().min(at + size)));
            self.body = Body::Pieces(pieces.collect());
        }
        self
    }

    /// Breaks off after so many bytes of the body, or at its end where it is shorter: chunks stay without their last.
    pub fn cut_after(self, bytes: u64, ending: Ending) -> Self {
        Self { cut: Some((bytes, ending)), ..self }
    }

    /// Breaks off in the middle of a body that is in memory.
    pub fn cut_in_the_middle(self, ending: Ending) -> Self {
        let middle = self.whole_body().map_or(1, |whole| whole.len() as u64 / 2);
        self.cut_after(middle, ending)
    }

    /// The same JSON message as an event stream; other replies stay as they are.
    pub fn as_sse(self, style: SseStyle) -> Self {
        let Some(message) = self.message() else { return self };
        let stream = Self::stream([event(style, &message)]);
        let kept = self.headers.into_iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
        let headers = stream.headers.into_iter().chain(kept).collect();
        Self { headers, body: stream.body, framing: stream.framing, ..self }
    }

    /// Changes the JSON message in the body; other replies stay as they are.
    pub fn edit_json(self, edit: impl FnOnce(&mut Value)) -> Self {
        let Some(mut message) = self.message() else { return self };
        edit(&mut message);
        self.body(message.to_string())
    }

    /// Puts a member before the others of a JSON object, unread: it may be too deep for a parser.
    pub(crate) fn with_raw_member(self, name: &str, json: &str) -> Self {
        let Some(whole) = self.whole_body() else { return self };
        match whole.strip_prefix(b"{") {
            Some(rest) => self.body([format!("{{\"{name}\":{json},").as_bytes(), rest].concat()),
            None => self,
        }
    }

    /// The body in gzip with the header that says so; for a body that is in memory.
    pub fn gzipped(self) -> Self {
        let Some(whole) = self.whole_body() else { return self };
        self.header("content-encoding", "gzip").body(gzip(&whole))
    }

    /// Puts the request's id where [`ID`] stands.
    pub(crate) fn with_id(mut self, id: &Value) -> Self {
        let fill = |piece: &Bytes| match std::str::from_utf8(piece) {
            Ok(text) if text.contains(ID) => Bytes::from(text.replace(ID, &id.to_string())),
            _ => piece.clone(),
        };
        match &mut self.body {
            Body::Pieces(pieces) => pieces.iter_mut().for_each(|piece| *piece = fill(piece)),
            Body::Repeat { head, tail, .. } => (*head, *tail) = (fill(head), fill(tail)),
            Body::Live(_) => {}
        }
        self
    }

    /// The length of the whole body, where it is known.
    pub(crate) fn length(&self) -> u64 {
        match &self.body {
            Body::Pieces(pieces) => pieces.iter().map(|piece| piece.len() as u64).sum(),
            Body::Repeat { head, unit, times, tail } => {
                (unit.len() as u64).saturating_mul(*times).saturating_add((head.len() + tail.len()) as u64)
            }
            Body::Live(_) => 0,
        }
    }

    fn whole_body(&self) -> Option<Bytes> {
        match &self.body {
            Body::Pieces(pieces) => Some(Bytes::from(pieces.concat())),
            Body::Repeat { .. } | Body::Live(_) => None,
        }
    }

    fn message(&self) -> Option<Value> {
        serde_json::from_slice(&self.whole_body()?).ok()
    }
}

/// One event of this style around a message.
pub(crate) fn event(style: SseStyle, message: &Value) -> String {
    let line = message.to_string();
    let pretty = || format!("data: {}\n", format!("{message:#}").replace('\n', "\ndata: "));
    match style {
        SseStyle::Plain => format!("event: message\ndata: {line}\n\n"),
        SseStyle::Bare => format!("data:{line}\n\n"),
        SseStyle::CrLf => format!("event: message\r\ndata: {line}\r\n\r\n"),
        SseStyle::Cr => format!("event: message\rdata: {line}\r\r"),
        SseStyle::Bom => format!("\u{feff}event: message\ndata: {line}\n\n"),
        SseStyle::Comments => format!(": first\n\n: second\nevent: message\n:\ndata: {line}\n: third\n\n: last\n\n"),
        SseStyle::MultiLine => format!("event: message\n{}\n", pretty()),
        SseStyle::Primed => format!("id: 1\nretry: 100\ndata:\n\nid: 2\nevent: message\ndata: {line}\n\n"),
        SseStyle::Everything => {
            let text = format!(": first\n\nevent: message\n: second\n{}\n: last\n\n", pretty());
            format!("\u{feff}{}", text.replace('\n', "\r\n"))
        }
    }
}

/// RFC 1952 with stored blocks: no compression, but what every decoder reads.
fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = data.chunks(usize::from(u16::MAX)).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).map_or(u16::MAX, |length| length);
        out.push(u8::from(blocks.peek().is_none()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    if data.is_empty() {
        out.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    }
    let crc = !data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    });
    out.extend_from_slice(&crc.to_le_bytes());
    let size = u32::try_from(data.len() & 0xffff_ffff).map_or(0, |size| size);
    out.extend_from_slice(&size.to_le_bytes());
    out
}
