//! Who the callers of this service are, by what OpenID Connect issuers say: an outbound adapter.
//!
//! [`JwtAuthenticator`] is the port `Authenticator` for access tokens that are JWTs, [`OidcLogin`] the port `Login`.
//!
//! | file | what |
//! | --- | --- |
//! | `token.rs` | reads an access token and says whether it is good: a pure function of token, keys and time |
//! | `keys.rs` | reads a set of keys (RFC 7517), and finds the one that a token was signed with; pure as well |
//! | `algorithm.rs` | the signature algorithms that there are |
//! | `metadata.rs` | reads what an issuer says of itself (OpenID Connect Discovery, RFC 8414) |
//! | `provider.rs` | keeps metadata and keys of one issuer: who fetches when, and who waits for it |
//! | `authenticator.rs` | puts these together for bearer tokens |
//! | `login.rs`, `id_token.rs` | the authorization code flow with PKCE, and what comes of it |
//! | `token_endpoint.rs` | lets the OpenID Connect library out through the guarded client |
//! | `person.rs` | which user of this service a subject of an issuer is |
//!
//! Everybody can send a token, so a token is a stranger's text until its signature is verified. Before that it is used for
//! one thing: to choose, by exact comparison, one of the issuers that the operator has configured. Nothing in it leads to a
//! request to anybody else, and nothing of it stands in an error or in the log.
//!
//! What this crate deliberately is not: it does not judge whether a token is meant for this service, which the use cases do
//! by the audience that it returns; it knows no opaque tokens (RFC 7662), no encrypted ones (RFC 7516) and no sender
//! constraints (RFC 8705, RFC 9449); and it keeps no session.

mod algorithm;
mod authenticator;
mod config;
mod document;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod id_token;
mod json;
mod keys;
mod login;
mod metadata;
mod person;
mod provider;
mod token;
mod token_endpoint;

pub use algorithm::{Algorithm, AlgorithmError};
pub use authenticator::JwtAuthenticator;
pub use config::{ConfigError, JwtConfig, LoginConfig};
pub use login::OidcLogin;
