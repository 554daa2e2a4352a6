//! The writing half of HTTP/1.1: puts replies and raw steps on the wire, as they are and where they break off.

use std::{io, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{io::AsyncWriteExt as _, net::tcp::WriteHalf, sync::broadcast::error::RecvError};

use super::{
    behaviour::Step,
    hub::{Audience, Hub, Post},
    reply::{Body, Ending, Framing, Reply},
};

/// Pieces up to this size share a write with what is before them.
const COALESCED: usize = 16 << 10;

/// Whether the connection can carry a further request.
pub(crate) type Reusable = bool;

/// Writes a reply.
pub(crate) async fn reply(out: &mut WriteHalf<'_>, reply: &Reply, hub: &Hub, keep_alive: bool) -> io::Result<Reusable> {
    // Whoever has seen the head of a live stream gets what is sent from then on.
    let posts = hub.subscribe();
    wait(reply.delay).await;
    let keep_alive = keep_alive && !matches!(reply.framing, Framing::Close | Framing::Declared(_));
    let mut body = BodyWriter {
        pending: head(reply, keep_alive),
        chunked: reply.framing == Framing::Chunked,
        left: reply.cut.map_or(u64::MAX, |(bytes, _)| bytes),
        out,
    };
    match &reply.body {
        Body::Pieces(pieces) => body.pieces(pieces.iter(), reply.pace).await?,
        Body::Repeat { head, unit, times, tail } => {
            let units = (0..*times).map(|_| unit);
            let pieces = std::iter::once(head).chain(units).chain(std::iter::once(tail));
            body.pieces(pieces.filter(|piece| !piece.is_empty()), reply.pace).await?;
        }
        Body::Live(audience) => body.live(audience, posts).await?,
    }
    if let Some((_, ending)) = reply.cut {
        body.flush().await?;
        end(body.out, ending).await?;
        return Ok(false);
    }
    if body.chunked {
        body.pending.extend_from_slice(b"0\r\n\r\n");
    }
    body.flush().await?;
    Ok(keep_alive)
}

/// Takes raw steps; afterwards the connection closes.
pub(crate) async fn wire(out: &mut WriteHalf<'_>, steps: &[Step]) -> io::Result<()> {
    for step in steps {
        match step {
            Step::Send(bytes) => out.write_all(bytes).await?,
            Step::Repeat { bytes, times, pace } => {
                for _ in 0..*times {
                    out.write_all(bytes).await?;
                    wait(*pace).await;
                }
            }
            Step::Wait(time) => wait(*time).await,
            Step::End(ending) => return end(out, *ending).await,
        }
    }
    Ok(())
}

async fn end(out: &mut WriteHalf<'_>, ending: Ending) -> io::Result<()> {
    match ending {
        Ending::Hang => std::future::pending().await,
        Ending::Close => Ok(()),
        Ending::Reset => out.as_ref().set_zero_linger(),
    }
}

/// Without a timer, and so without its granularity of a millisecond, where there is nothing to wait for.
async fn wait(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

struct BodyWriter<'a, 'b> {
    out: &'a mut WriteHalf<'b>,
    /// What goes out with the next piece.
    pending: BytesMut,
    chunked: bool,
    /// How many bytes of the body may still be written.
    left: u64,
}

impl BodyWriter<'_, '_> {
    async fn pieces(&mut self, pieces: impl Iterator<Item = &Bytes>, pace: Duration) -> io::Result<()> {
        for (number, piece) in pieces.enumerate() {
            if self.left == 0 {
                break;
            }
            if number > 0 {
                self.flush().await?;
                wait(pace).await;
            }
            self.piece(piece).await?;
        }
        Ok(())
    }

    async fn live(&mut self, audience: &Audience, mut posts: tokio::sync::broadcast::Receiver<Post>) -> io::Result<()> {
        self.piece(&Bytes::from(audience.greeting())).await?;
        self.flush().await?;
        while self.left > 0 {
            let post = match posts.recv().await {
                Ok(post) => post,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return Ok(()),
            };
            if let Some(text) = audience.take(&post) {
                self.piece(&Bytes::from(text)).await?;
                self.flush().await?;
            }
            if matches!(post, Post::End) {
                break;
            }
        }
        Ok(())
    }

    async fn piece(&mut self, piece: &Bytes) -> io::Result<()> {
        let allowed = usize::try_from(self.left).map_or(piece.len(), |left| left.min(piece.len()));
        self.left -= allowed as u64;
        let piece = &piece[..allowed];
        if piece.is_empty() {
            return Ok(());
        }
        if self.chunked {
            self.pending.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        }
        let end: &[u8] = if self.chunked { b"\r\n" } else { b"" };
        if piece.len() <= COALESCED {
            self.pending.extend_from_slice(piece);
            self.pending.extend_from_slice(end);
            return Ok(());
        }
        let mut all = (&self.pending[..]).chain(piece).chain(end);
        self.out.write_all_buf(&mut all).await?;
        self.pending.clear();
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.pending).await?;
        self.pending.clear();
        Ok(())
    }
}

fn head(reply: &Reply, keep_alive: bool) -> BytesMut {
    let mut head = BytesMut::with_capacity(512);
    let mut line = |parts: [&[u8]; 3]| {
        for part in parts {
            head.extend_from_slice(part);
        }
        head.extend_from_slice(b"\r\n");
    };
    line([b"HTTP/1.1 ", reply.status.to_string().as_bytes(), reason(reply.status)]);
    for (name, value) in &reply.headers {
        line([name.as_bytes(), b": ", value]);
    }
    match reply.framing {
        Framing::Length => line([b"content-length", b": ", reply.length().to_string().as_bytes()]),
        Framing::Declared(length) => line([b"content-length", b": ", length.to_string().as_bytes()]),
        Framing::Chunked => line([b"transfer-encoding", b": ", b"chunked"]),
        Framing::Close | Framing::None => {}
    }
    if !keep_alive {
        line([b"connection", b": ", b"close"]);
    }
    line([b"", b"", b""]);
    head
}

fn reason(status: u16) -> &'static [u8] {
    match status {
        200 => b" OK",
        202 => b" Accepted",
        204 => b" No Content",
        301 => b" Moved Permanently",
        302 => b" Found",
        303 => b" See Other",
        307 => b" Temporary Redirect",
        308 => b" Permanent Redirect",
        400 => b" Bad Request",
        401 => b" Unauthorized",
        403 => b" Forbidden",
        404 => b" Not Found",
        405 => b" Method Not Allowed",
        406 => b" Not Acceptable",
        413 => b" Content Too Large",
        415 => b" Unsupported Media Type",
        429 => b" Too Many Requests",
        500 => b" Internal Server Error",
        502 => b" Bad Gateway",
        503 => b" Service Unavailable",
        _ => b" Other",
    }
}
