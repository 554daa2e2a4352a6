//! Discovery, registration, authorization and tokens: an outbound adapter.
//!
//! [`AuthorizationClient`] is the port `AuthorizationServer` over the guarded way out. Its flow stands in `client.rs`, and
//! each step of it in a file of its own:
//!
//! | file | step |
//! | --- | --- |
//! | `challenge.rs` | reads `WWW-Authenticate` (RFC 9110) |
//! | `resource.rs` | finds who authorizes for a server: protected-resource metadata (RFC 9728) |
//! | `metadata.rs` | reads what an authorization server says of itself (RFC 8414, OpenID Connect Discovery) |
//! | `identity.rs` | decides who the client is there |
//! | `registration.rs` | becomes a client (RFC 7591) |
//! | `authorize.rs` | makes the authorization request (RFC 6749, 7636, 8707) |
//! | `token.rs` | exchanges the code |
//! | `refresh.rs` | renews a grant, and tells what a failure means |
//! | `revoke.rs` | ends a grant (RFC 7009) |
//!
//! All of them fetch through `document.rs` and read addresses through `address.rs`. The last three post through `form.rs`,
//! where the service proves who it is, by an assertion out of `key.rs` if need be, and read what comes back through
//! `answer.rs`.
//!
//! Servers are hostile until shown otherwise: documents are capped, read member by member into bounded values, and nothing
//! that a server wrote stands in an error. Every address is judged when it is read and again when it is dialled.
//!
//! What this crate deliberately is not: it keeps no attempt, grant or registration, follows no redirect, and does not check
//! `state` or `iss` in the callback, which is the use case's.

mod address;
mod answer;
mod authorize;
mod challenge;
mod client;
mod config;
mod document;
mod form;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod identity;
mod key;
mod metadata;
mod refresh;
mod registration;
mod resource;
mod revoke;
mod scope;
mod token;

pub use client::AuthorizationClient;
pub use config::{OAuthConfig, client_metadata_document, issuer_key};
pub use key::{SigningKey, SigningKeyError};
