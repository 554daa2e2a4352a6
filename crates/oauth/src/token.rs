//! The exchange of a code (RFC 6749, section 4.1.3).

use bytes::Bytes;
use connectors_application::ports::{ExchangeError, ExchangeRequest};
use connectors_domain::Grant;
use http::{Response, StatusCode};

use crate::answer::{Answer, Before, Fault};
use crate::document::SendError;
use crate::form::{FormError, Forms};

/// Exchanges a code.
pub(crate) async fn exchange(forms: &Forms, request: ExchangeRequest) -> Result<Grant, ExchangeError> {
    let asked_at = forms.now();
    let ExchangeRequest { authority, code, verifier, redirect_uri, scopes } = request;
    let mut parameters = vec![
        ("grant_type", "authorization_code"),
        ("code", code.expose()),
        ("redirect_uri", redirect_uri.as_str()),
        ("code_verifier", verifier.expose()),
    ];
    parameters.extend(authority.resource.as_deref().map(|resource| ("resource", resource)));
    let response = forms.post(&authority.token_endpoint, &authority, &parameters).await?;
    read(&response, Before { authority, refresh_token: None, scopes, asked_at })
}

impl From<FormError> for ExchangeError {
    fn from(error: FormError) -> Self {
        match error {
            FormError::Malformed | FormError::Send(SendError::Garbled) => Self::InvalidResponse,
            // It is as if the server had refused it: the client is one that the service cannot be any more.
            FormError::NoKey => Self::ClientRefused,
            FormError::Send(SendError::Refused(refused)) => refused.into(),
            FormError::Send(SendError::Unreachable) => Self::Unreachable,
            FormError::Send(SendError::TimedOut { .. }) => Self::TimedOut,
        }
    }
}

pub(crate) fn read(response: &Response<Bytes>, before: Before) -> Result<Grant, ExchangeError> {
    let status = response.status();
    let answer = Answer::read(response.body());
    match answer.as_ref().and_then(Answer::fault) {
        None => {}
        Some(Fault::Code(code)) => {
            return Err(match code.as_str() {
                "invalid_client" | "unauthorized_client" => ExchangeError::ClientRefused,
                "server_error" | "temporarily_unavailable" => ExchangeError::InvalidResponse,
                _ => ExchangeError::Refused,
            });
        }
        Some(Fault::Unreadable) if status == StatusCode::UNAUTHORIZED => return Err(ExchangeError::ClientRefused),
        Some(Fault::Unreadable) => return Err(ExchangeError::Refused),
    }
    match status {
        StatusCode::UNAUTHORIZED => return Err(ExchangeError::ClientRefused),
        StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => return Err(ExchangeError::Refused),
        status if !status.is_success() => return Err(ExchangeError::InvalidResponse),
        _ => {}
    }
    answer.and_then(|answer| answer.grant(before)).ok_or(ExchangeError::InvalidResponse)
}
