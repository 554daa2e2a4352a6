//! Bearer tokens and logins against OpenID providers on real sockets.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests are tests, too")]

mod cache;
mod forged;
mod good;
mod leak;
mod login;
mod mutated;
mod published;
mod support;
