//! The renewal of a grant (RFC 6749, section 6), and what a failure means.
//!
//! A user loses a connector when this is wrong. So only what the authorization server says in so many words is for good:
//! `invalid_grant` of the refresh token (`bad_refresh_token` at GitHub), `invalid_client` and `unauthorized_client` of the
//! client. Pages, statuses without an OAuth error, time-outs and everything unknown may pass.

use std::time::Duration;

use bytes::Bytes;
use connectors_application::ports::{RefreshError, RefreshRequest, SpentToken};
use connectors_domain::Grant;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Response, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

use crate::answer::{Answer, Before, Fault};
use crate::document::SendError;
use crate::form::{FormError, Forms};

/// The longest time for which a server is left alone because it says so.
const MAX_PAUSE: Duration = Duration::from_hours(24);

/// Spends a refresh token. No scope is named: that asks for those that are held (RFC 6749, section 6), and some servers
/// refuse to be told.
pub(crate) async fn refresh(forms: &Forms, request: RefreshRequest) -> Result<Grant, RefreshError> {
    let asked_at = forms.now();
    let RefreshRequest { authority, refresh_token, scopes } = request;
    let mut parameters = vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
    parameters.extend(authority.resource.as_deref().map(|resource| ("resource", resource)));
    let response = forms.post(&authority.token_endpoint, &authority, &parameters).await?;
    let pause = retry_after(response.headers(), forms.now());
    let before = Before { authority, refresh_token: Some(refresh_token), scopes, asked_at };
    read(&response, before).map_err(|error| match error {
        RefreshError::Passing { what, spent, .. } => RefreshError::Passing { what, spent, retry_after: pause },
        error => error,
    })
}

const fn passing(what: &'static str, spent: SpentToken) -> RefreshError {
    RefreshError::Passing { what, spent, retry_after: None }
}

impl From<FormError> for RefreshError {
    fn from(error: FormError) -> Self {
        match error {
            FormError::Malformed => passing("its token endpoint is no address that can be used", SpentToken::No),
            FormError::NoKey => passing("this service has no key to prove itself with", SpentToken::No),
            FormError::Send(SendError::Refused(_)) => {
                passing("this service may not call its token endpoint", SpentToken::No)
            }
            FormError::Send(SendError::Unreachable) => passing("it cannot be reached", SpentToken::No),
            FormError::Send(SendError::TimedOut { sent }) => {
                passing("it did not answer in time", if sent { SpentToken::Perhaps } else { SpentToken::No })
            }
            FormError::Send(SendError::Garbled) => {
                passing("the connection broke, or its answer cannot be read", SpentToken::Perhaps)
            }
        }
    }
}

pub(crate) fn read(response: &Response<Bytes>, before: Before) -> Result<Grant, RefreshError> {
    let status = response.status();
    let answer = Answer::read(response.body());
    if let Some(answer) = &answer
        && let Some(Fault::Code(code)) = answer.fault()
    {
        return Err(refused(&code, status, answer.has_token()));
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Err(passing(OFTEN, SpentToken::No));
    }
    if !status.is_success() {
        let what = match status {
            status if status.is_server_error() => "it is out of order",
            status if status.is_redirection() => "it answered with a redirect",
            _ => "it answered with an error that says nothing",
        };
        return Err(passing(what, SpentToken::Perhaps));
    }
    // An error of an unknown kind beside a token is as little a success as an answer without a token.
    answer
        .filter(|answer| answer.fault().is_none())
        .and_then(|answer| answer.grant(before))
        .ok_or(passing("its answer is not a usable token response", SpentToken::Perhaps))
}

const OFTEN: &str = "it is asked too often";

/// What an OAuth error means. Whoever refuses a request in the words of the protocol has not granted it, unless a token
/// comes along or the server has failed in the middle.
fn refused(code: &str, status: StatusCode, has_token: bool) -> RefreshError {
    let broken = has_token || code == "server_error" || status.is_server_error();
    match code {
        // The second is GitHub's word for the same (GitHub, "Refreshing user access tokens").
        "invalid_grant" | "bad_refresh_token" => RefreshError::Refused,
        "invalid_client" | "unauthorized_client" => RefreshError::ClientRefused,
        "temporarily_unavailable" if !has_token => passing("it is not available now", SpentToken::No),
        "slow_down" if !has_token => passing(OFTEN, SpentToken::No),
        _ if status == StatusCode::TOO_MANY_REQUESTS && !has_token => passing(OFTEN, SpentToken::No),
        _ if broken => passing("it is out of order", SpentToken::Perhaps),
        _ => passing("it answered with an error", SpentToken::No),
    }
}

/// How long the server wants to be left alone (RFC 9110, section 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_or(MAX_PAUSE, Duration::from_secs)
    } else {
        let until = DateTimeParser::new().parse_timestamp(text).ok()?;
        Duration::try_from(until.duration_since(now)).unwrap_or_default()
    };
    Some(pause.min(MAX_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_is_read_in_both_forms() {
        let now = Timestamp::constant(1_767_225_600, 0);
        let read = |value: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            retry_after(&headers, now).map(|pause| pause.as_secs())
        };
        let day = Some(24 * 60 * 60);
        for (value, expected) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("86401", day),
            ("99999999999999999999999", day),
            ("Thu, 01 Jan 2026 00:02:00 GMT", Some(120)),
            ("Thu, 01 Jan 2026 01:02:00 +0100", Some(120)),
            ("Wed, 31 Dec 2025 23:59:00 GMT", Some(0)),
            ("Fri, 01 Jan 2100 00:00:00 GMT", day),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Thu, 99 Jan 2026 00:02:00 GMT", None),
        ] {
            assert_eq!(read(value), expected, "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
