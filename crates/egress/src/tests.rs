//! The whole crate over real sockets: a server that counts, and canaries that must not be called.

mod documents;
mod environment;
mod fixture;
mod names;
mod rules;
mod spellings;
mod tls;
