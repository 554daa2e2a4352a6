//! What a server answers to the probe: JSON, or a stream of events.
#![no_main]

use bytes::Bytes;
use connectors_mcp::fuzz::{Said, answer};
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;

/// The id in the seeds.
const ID: u64 = 7;

fuzz_target!(|body: &[u8]| {
    let whole = Bytes::copy_from_slice(body);
    let half = whole.len() / 2;
    let bytes = || (0..whole.len()).map(|at| whole.slice(at..=at)).collect();
    for events in [false, true] {
        let said = answer(vec![whole.clone()], events, ID);
        if let Some(Said::Result { text, .. }) = &said {
            assert!(serde_json::from_str::<IgnoredAny>(text).is_ok(), "a result is JSON");
        }
        assert_eq!(answer(vec![whole.slice(..half), whole.slice(half..)], events, ID), said, "how it came in matters");
        assert_eq!(answer(bytes(), events, ID), said, "how it came in matters");
    }

    // What is an answer as JSON is the same answer as an event, and a result answers one request.
    if let Some(said) = answer(vec![whole.clone()], false, ID)
        && !body.contains(&b'\r')
    {
        let lines = body.split(|byte| *byte == b'\n');
        let event: Vec<u8> = lines.flat_map(|line| [b"data: ", line, b"\n"].concat()).chain(*b"\n").collect();
        assert!(matches!(said, Said::Error { .. }) || answer(vec![whole], false, ID + 1).is_none());
        assert_eq!(answer(vec![event.into()], true, ID), Some(said));
    }
});
