//! The reading half of HTTP/1.1: requests with a length or in chunks, on connections that are kept alive. Not a general
//! server: no upgrade, no trailers for the caller, and a pipelined request waits until the one before it is answered.

use std::{io, time::Instant};

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::tcp::{ReadHalf, WriteHalf},
};

use super::request::Request;

const HEAD_LIMIT: usize = 1 << 20;
const BODY_LIMIT: usize = 1 << 30;
const HEADER_COUNT_LIMIT: usize = 256;
/// How much of a pipelined request is read while the one before it is being answered.
const READ_AHEAD_LIMIT: usize = 1 << 20;

pub(crate) struct Reader<'a> {
    half: ReadHalf<'a>,
    buffer: BytesMut,
    connection: u64,
}

/// A request and what its head says about the connection.
pub(crate) struct Incoming {
    pub(crate) request: Request,
    /// The body as JSON, read once for everyone.
    pub(crate) rpc: Option<Value>,
    pub(crate) keep_alive: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(half: ReadHalf<'a>, connection: u64) -> Self {
        Self { half, buffer: BytesMut::with_capacity(8 << 10), connection }
    }

    /// Reads the next request; `None` when the client has closed. `writer` is for `100 Continue`.
    pub(crate) async fn next(&mut self, writer: &mut WriteHalf<'_>) -> io::Result<Option<Incoming>> {
        let Some((mut request, version)) = self.head().await? else { return Ok(None) };
        let says = |name: &str, word: &str| {
            let mut values = request.header_values(name).filter_map(|value| std::str::from_utf8(value).ok());
            values.any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
        };
        let keep_alive = version == 1 && !says("connection", "close");
        let chunked = says("transfer-encoding", "chunked");
        if says("expect", "100-continue") {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        request.body = if chunked {
            self.chunked_body().await?
        } else {
            match request.header("content-length") {
                None => Bytes::new(),
                Some(length) => {
                    let length = length.parse().map_err(|_| malformed("content-length"))?;
                    self.take(length).await?
                }
            }
        };
        let rpc: Option<Value> = serde_json::from_slice(&request.body).ok();
        let method = rpc.as_ref().and_then(|rpc| rpc.get("method"));
        request.rpc_method = method.and_then(Value::as_str).map(str::to_owned);
        Ok(Some(Incoming { request, rpc, keep_alive }))
    }

    /// Ends when the client has closed or broken the connection; what it sends until then is kept for [`Self::next`].
    pub(crate) async fn closed(&mut self) {
        while self.buffer.len() < READ_AHEAD_LIMIT {
            match self.half.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        std::future::pending::<()>().await;
    }

    async fn head(&mut self) -> io::Result<Option<(Request, u8)>> {
        loop {
            if let Some(parsed) = self.parse_head()? {
                return Ok(Some(parsed));
            }
            if self.buffer.len() > HEAD_LIMIT {
                return Err(malformed("head too long"));
            }
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn parse_head(&mut self) -> io::Result<Option<(Request, u8)>> {
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let mut slots = [httparse::EMPTY_HEADER; HEADER_COUNT_LIMIT];
        let mut parsed = httparse::Request::new(&mut slots);
        let length = match parsed.parse(&self.buffer) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(malformed(error)),
        };
        let verb = parsed.method.unwrap_or_default().to_owned();
        let target = parsed.path.unwrap_or_default().to_owned();
        let version = parsed.version.unwrap_or_default();
        let start = self.buffer.as_ptr() as usize;
        // The values become slices of the head, so their places are noted before the head leaves the buffer.
        let places: Vec<_> = parsed
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), header.value.as_ptr() as usize - start, header.value.len()))
            .collect();
        let head = self.buffer.split_to(length).freeze();
        let headers = places
            .into_iter()
            .map(|(name, at, length)| (name, if length == 0 { Bytes::new() } else { head.slice(at..at + length) }))
            .collect();
        let request = Request {
            connection: self.connection,
            verb,
            target,
            headers,
            head,
            body: Bytes::new(),
            rpc_method: None,
            arrived: Instant::now(),
        };
        Ok(Some((request, version)))
    }

    async fn chunked_body(&mut self) -> io::Result<Bytes> {
        let mut body = BytesMut::new();
        loop {
            let line = self.line().await?;
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let size = std::str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
            let size = size.ok_or_else(|| malformed("chunk size"))?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(body.freeze());
            }
            if body.len() + size > BODY_LIMIT {
                return Err(malformed("body too long"));
            }
            body.extend_from_slice(&self.take(size).await?);
            if !self.line().await?.is_empty() {
                return Err(malformed("chunk end"));
            }
        }
    }

    /// Reads one line of chunked framing; without its end.
    async fn line(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.split_to(end + 2).freeze();
                return Ok(line.slice(..end));
            }
            if self.buffer.len() > HEAD_LIMIT {
                return Err(malformed("chunk line too long"));
            }
            self.fill().await?;
        }
    }

    async fn take(&mut self, length: usize) -> io::Result<Bytes> {
        if length > BODY_LIMIT {
            return Err(malformed("body too long"));
        }
        while self.buffer.len() < length {
            self.buffer.reserve((length - self.buffer.len()).min(1 << 20));
            self.fill().await?;
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.half.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn malformed(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
