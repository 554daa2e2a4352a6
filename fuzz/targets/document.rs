//! Bodies that clients send: what a connector is made of, what it is connected with, and JSON-RPC for a server that cannot
//! be reached.
#![no_main]

use connectors_api::fuzz::{document, request_id};
use connectors_api::wire::{ConnectDocument, CreateDocument};
use connectors_fuzz::SECRET;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    // The same in another way, as far as that goes: it gives up on what is nested deep.
    let object: Option<Value> = serde_json::from_slice(body).ok().filter(Value::is_object);
    let said = |name: &str| object.as_ref().map(|object| object[name].as_str().map(str::to_owned));

    match document::<CreateDocument>(body) {
        Ok(create) => {
            for (name, value) in
                [("url", Some(create.url)), ("client_id", create.client_id), ("client_secret", create.client_secret)]
            {
                assert!(said(name).is_none_or(|said| said == value), "{name}");
            }
        }
        Err(told) => assert_discreet(&told),
    }
    match document::<ConnectDocument>(body) {
        Ok(connect) => {
            assert!(said("redirect_url").is_none_or(|said| said == connect.redirect_url));
            assert!(said("access_token").is_none_or(|said| said == connect.access_token));
        }
        Err(told) => assert_discreet(&told),
    }

    if let Some(id) = request_id(body) {
        let read: Value = serde_json::from_str(id).unwrap_or_default();
        assert!(read.is_string() || read.is_number(), "{id} is no id");
        assert!(object.is_none_or(|object| object["id"] == read && object["method"].is_string()));
    }
});

/// What a client is told names the field that is wrong, and quotes no value. The name may be anything: `metadata` has any.
#[track_caller]
fn assert_discreet(told: &str) {
    let message = told.rsplit_once(": ").map_or(told, |(_, message)| message);
    assert!(!message.contains(SECRET), "{told}");
}
