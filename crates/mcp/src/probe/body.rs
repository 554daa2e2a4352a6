//! Reads the answer to one request out of a body, whole JSON or an event stream, within a limit of bytes.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::StreamExt as _;
use sse_stream::SseByteStream;

use super::message::Message;

/// The most that is read of a body, the events before the answer included.
const LIMIT: usize = 1024 * 1024;

/// The body broke off, or is larger than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body cannot be used")]
pub(super) struct Spoiled;

/// The answer to the request `id` in a body of JSON.
pub(super) async fn json<S, E>(body: S, id: u64) -> Option<Message>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    let mut body = pin!(limited(body));
    let mut text = BytesMut::new();
    while let Some(chunk) = body.next().await {
        text.extend_from_slice(&chunk.ok()?);
    }
    Message::read(&text, id)
}

/// The answer to the request `id` on an event stream. Notifications and requests of the server before it are passed over.
/// It returns without waiting for the end of the stream.
pub(super) async fn events<S, E>(body: S, id: u64) -> Option<Message>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    let mut messages = pin!(messages(limited(body)));
    while let Some(data) = messages.next().await {
        if let Some(message) = Message::read(data.as_bytes(), id) {
            return Some(message);
        }
    }
    None
}

/// The data of the events that are messages (HTML, "Server-sent events"), until the stream ends or spoils.
fn messages<S>(body: S) -> impl Stream<Item = String>
where
    S: Stream<Item = Result<Bytes, Spoiled>>,
{
    SseByteStream::new(body)
        .take_while(|event| std::future::ready(event.is_ok()))
        .filter_map(|event| std::future::ready(event.ok()))
        .filter(|event| std::future::ready(matches!(event.event.as_deref(), None | Some("" | "message"))))
        .filter_map(|event| std::future::ready(event.data.filter(|data| !data.is_empty())))
}

/// Cuts a body off at [`LIMIT`]: nothing behind this has a limit of its own.
fn limited<S, E>(body: S) -> impl Stream<Item = Result<Bytes, Spoiled>>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    let mut left = LIMIT;
    body.map(move |chunk| {
        let chunk = chunk.map_err(|_| Spoiled)?;
        left = left.checked_sub(chunk.len()).ok_or(Spoiled)?;
        Ok(chunk)
    })
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, stream};
    use proptest::prelude::*;

    use super::*;

    /// The messages in these chunks, which are all there.
    fn read(chunks: Vec<Vec<u8>>) -> Vec<String> {
        let body = stream::iter(chunks).map(|chunk| Ok(Bytes::from(chunk)));
        messages(body).collect().now_or_never().unwrap()
    }

    /// Cuts `text` at places that `cuts` name.
    fn split(text: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        places.extend([0, text.len()]);
        places.sort_unstable();
        places.windows(2).map(|pair| text[pair[0]..pair[1]].to_vec()).collect()
    }

    /// An event as it is written, and the message that it is.
    #[derive(Clone, Debug)]
    struct Written {
        lines: Vec<String>,
        message: Option<String>,
    }

    fn event() -> impl Strategy<Value = Written> {
        let line = "[ -~é\u{1f600}\u{feff}]{0,12}";
        let kinds = prop_oneof![Just(None), Just(Some("message")), Just(Some("endpoint")), Just(Some("ping"))];
        let noise = prop_oneof![
            Just(None),
            "[ -~]{0,8}".prop_map(|text| Some(format!(":{text}"))),
            Just(Some("id: 7".to_owned())),
            Just(Some("retry: 10".to_owned())),
            Just(Some("unknown: field".to_owned())),
        ];
        (kinds, prop::collection::vec((line, any::<bool>()), 0..4), noise.clone(), noise).prop_map(
            |(kind, data, before, after)| {
                let mut lines: Vec<_> = before.into_iter().collect();
                lines.extend(kind.map(|kind| format!("event: {kind}")));
                // A value that begins with a space needs the space that is taken away.
                lines.extend(data.iter().map(|(text, space)| {
                    let space = if *space || text.starts_with(' ') { " " } else { "" };
                    format!("data:{space}{text}")
                }));
                lines.extend(after);
                let data: Vec<_> = data.into_iter().map(|(text, _)| text).collect();
                let data = data.join("\n");
                let message = matches!(kind, None | Some("message")) && !data.is_empty();
                Written { lines, message: message.then_some(data) }
            },
        )
    }

    proptest! {
        /// Against a writer: whatever the line ends, the splits and the noise, what was written is read.
        #[test]
        fn what_was_written_is_read(
            events in prop::collection::vec(event(), 0..6),
            end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
            mark in any::<bool>(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut text = String::from(if mark { "\u{feff}" } else { "" });
            for event in &events {
                for line in &event.lines {
                    text.push_str(line);
                    text.push_str(end);
                }
                text.push_str(end);
            }
            let expected: Vec<_> = events.into_iter().filter_map(|event| event.message).collect();
            prop_assert_eq!(read(split(text.as_bytes(), &cuts)), expected);
        }

        /// Whatever comes, how it is cut into chunks changes nothing, and nothing panics.
        #[test]
        fn splits_do_not_matter(
            pieces in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..6),
                    prop::sample::select(vec![
                        "data", "data:", "data: x", ":", "\n", "\r", "\r\n", "\n\n", "\r\r", "event: message", "event",
                        "id", "retry: 1", "\u{feff}", "é", "\0",
                    ]).prop_map(|text| text.as_bytes().to_vec()),
                ],
                0..40,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let text = pieces.concat();
            let whole = read(vec![text.clone()]);
            prop_assert_eq!(&read(split(&text, &cuts)), &whole);
            prop_assert_eq!(&read(text.iter().map(|byte| vec![*byte]).collect()), &whole);
        }
    }

    fn body(chunks: &[&'static str]) -> impl Stream<Item = Result<Bytes, Spoiled>> + use<> {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect();
        stream::iter(chunks)
    }

    #[test]
    fn an_answer_is_found_among_other_events() {
        let chunks = [
            "\u{feff}: hello\r\n\r\nid: 1\r\ndata:\r\n\r\n",
            "event: endpoint\r\ndata: /messages\r\n\r\n",
            "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\r\n\r\n",
            "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r\n\r\ndata: no json\r\n\r\n",
            "data: {\"jsonrpc\":\"2.0\",\r\ndata: \"id\":1,\"result\":{}}\r\n\r\n",
        ];
        // What comes after the answer is not waited for.
        let endless = body(&chunks).chain(stream::pending());
        let found = events(endless, 1).now_or_never().expect("it does not wait");
        assert!(matches!(found, Some(Message::Result(_))));
        assert!(events(body(&chunks), 2).now_or_never().unwrap().is_none());
    }

    #[test]
    fn the_limit_is_exact() {
        let around = r#"{"jsonrpc":"2.0","id":1,"result":""}"#;
        for (over, fits) in [(0, true), (1, false)] {
            let filler = "x".repeat(LIMIT - around.len() + over);
            let text = around.replace(r#""""#, &format!(r#""{filler}""#)).into_bytes();
            assert_eq!(text.len(), LIMIT + over);
            let chunks = stream::iter(text.chunks(1000).map(|chunk| Ok::<_, Spoiled>(Bytes::copy_from_slice(chunk))));
            assert_eq!(json(chunks, 1).now_or_never().unwrap().is_some(), fits);

            let event = ["data:", &"x".repeat(LIMIT - "data:\n\n".len() + over), "\n\n"].concat().into_bytes();
            assert_eq!(event.len(), LIMIT + over);
            let chunks = stream::iter(event.chunks(1000).map(|chunk| Ok::<_, Spoiled>(Bytes::copy_from_slice(chunk))));
            let count = messages(limited(chunks)).count().now_or_never().unwrap();
            assert_eq!(count == 1, fits);
        }
    }

    #[test]
    fn a_body_that_breaks_off_has_no_answer() {
        let broken = body(&[r#"{"jsonrpc":"2.0","id":1,"result":{}}"#]).chain(stream::iter([Err(Spoiled)]));
        assert!(json(broken, 1).now_or_never().unwrap().is_none());
        let unfinished = body(&["data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n"]);
        assert!(events(unfinished, 1).now_or_never().unwrap().is_none());
    }
}
