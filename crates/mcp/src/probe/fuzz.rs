//! A door to the parsers of the probe.

use bytes::Bytes;
use futures_util::{FutureExt as _, stream};

use super::body;
use super::message::{Discovered, Initialized, Message};

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// A result, and what it is as the answer to either question: the versions.
    Result {
        /// As it stands there.
        text: String,
        /// To `server/discover`.
        discovered: Option<Vec<String>>,
        /// To `initialize`.
        initialized: Option<String>,
    },
    /// An error.
    Error {
        /// Its code.
        code: i64,
        /// The versions that it names.
        supported: Vec<String>,
    },
}

/// The answer to the request `id` in a body that comes in these chunks: a stream of events, or else JSON.
pub fn answer(chunks: Vec<Bytes>, events: bool, id: u64) -> Option<Said> {
    let chunks = stream::iter(chunks.into_iter().map(Ok::<_, ()>));
    let message = if events {
        body::events(chunks, id).now_or_never().flatten()
    } else {
        body::json(chunks, id).now_or_never().flatten()
    };
    Some(match message? {
        Message::Result(result) => Said::Result {
            discovered: Discovered::read(&result).map(|discovered| discovered.versions),
            initialized: Initialized::read(&result).map(|initialized| initialized.version),
            text: result.get().to_owned(),
        },
        Message::Error(error) => Said::Error { code: error.code, supported: error.supported },
    })
}
