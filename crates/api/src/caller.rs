//! Who calls.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use connectors_domain::OwnerId;

/// The user in whose name a request is carried out. Authentication is off: the service listens on loopback only, and
/// everybody there is the one local user.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller(pub(crate) OwnerId);

impl FromRequest for Caller {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(_request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Ok(Self(OwnerId::local())))
    }
}
