//! A client's connection, and how long the head of a request may take on it.
//!
//! The framework limits the head of the *first* request of a connection and the silence between requests. What it does not
//! limit is the head of a later one that comes drop by drop: it could hold a connection for ever. So the bytes pass through
//! here on their way from the socket, and a connection on which a later head has begun and does not end is hung up on.
//!
//! Nothing here reads HTTP, and a body has its own limit, where it is read.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// A connection that is hung up on when a head takes too long.
pub(crate) struct Connection {
    stream: TcpStream,
    turns: Turns,
    head_timeout: Duration,
    /// When the head that has begun must have ended.
    deadline: Option<Instant>,
    /// Made when it is first needed: many connections carry one request. It is not wound up anew for each head, but when
    /// it goes off too early.
    alarm: Option<Pin<Box<Sleep>>>,
    /// Whether the client takes nothing now. Its next request waits for that, and is not late.
    blocked: bool,
}

/// Whose turn it is on a connection: the client's, or the service's while it answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns(Rc<Cell<Turn>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    /// The client's, for its first request: the framework counts its time.
    #[default]
    First,
    /// The service's.
    Service,
    /// The client's again.
    Client,
}

/// The service's turn, while this lives.
#[derive(Debug)]
pub(crate) struct Answering(Turns);

impl Turns {
    /// A request is whole, as far as its head goes: it is the service's turn until what this returns is dropped.
    pub(crate) fn answer(&self) -> Answering {
        self.0.set(Turn::Service);
        Answering(self.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.0.set(Turn::Client);
    }
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, head_timeout: Duration) -> Self {
        let turns = Turns::default();
        Self { stream, turns, head_timeout, deadline: None, alarm: None, blocked: false }
    }

    pub(crate) fn turns(&self) -> Turns {
        self.turns.clone()
    }

    /// Whether the time of a head is over. Otherwise the task is woken when that may be so.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if self.turns.0.get() != Turn::Client || self.blocked {
            self.deadline = None;
        }
        let Some(deadline) = self.deadline else { return false };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while alarm.as_mut().poll(cx).is_ready() {
            if alarm.deadline() >= deadline {
                return true;
            }
            alarm.as_mut().reset(deadline);
        }
        false
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        let came = read.is_ready() && buffer.filled().len() > before;
        if came && this.turns.0.get() == Turn::Client && this.deadline.is_none() {
            this.deadline = Instant::now().checked_add(this.head_timeout);
        }
        if this.is_late(cx) {
            // As if the client had hung up: that is the one end for which the framework has no words of its own.
            buffer.set_filled(before);
            return Poll::Ready(Ok(()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.blocked = written.is_pending();
        if written.is_ready() {
            // Whatever is answered here was a whole head, also where nobody said that it was the service's turn.
            this.deadline = None;
            if this.turns.0.get() == Turn::First {
                this.turns.0.set(Turn::Client);
            }
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// A response body, which is the service's turn as long as it streams.
pub(crate) struct Answered {
    body: BoxBody,
    answering: Option<Answering>,
}

impl Answered {
    pub(crate) fn new(body: BoxBody, answering: Option<Answering>) -> Self {
        Self { body, answering }
    }
}

impl MessageBody for Answered {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(cx)
    }

    fn try_into_bytes(self) -> Result<Bytes, Self> {
        let Self { body, answering } = self;
        body.try_into_bytes().map_err(|body| Self { body, answering })
    }
}
