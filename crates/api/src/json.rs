//! Reading request bodies: bounded in size and time, and with errors that name the field.

use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::problem::{Kind, Problem};

/// Reads a body of at most `limit` bytes that arrives within `time`.
pub(crate) async fn read_body(
    request: &HttpRequest,
    mut payload: web::Payload,
    limit: usize,
    time: Duration,
) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(Kind::TooLarge, format!("The body is larger than {limit} bytes."));
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: u64| length > limit as u64) {
        return Err(too_large());
    }
    let read = async {
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk =
                chunk.map_err(|_| Problem::new(Kind::BadRequest, "The body broke off or is not valid HTTP."))?;
            if first.len() + rest.len() + chunk.len() > limit {
                return Err(too_large());
            }
            // A body that comes in one piece is passed on as that piece.
            if first.is_empty() && rest.is_empty() {
                first = chunk;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&std::mem::take(&mut first));
                }
                rest.extend_from_slice(&chunk);
            }
        }
        Ok(if rest.is_empty() { first } else { rest.freeze() })
    };
    tokio::time::timeout(time, read).await.unwrap_or_else(|_| {
        Err(Problem::new(Kind::Timeout, format!("The body did not arrive within {} s.", time.as_secs())))
    })
}

/// Reads `body` as a JSON object of type `T`.
pub(crate) fn parse<T: DeserializeOwned>(request: &HttpRequest, body: &[u8]) -> Result<T, Problem> {
    require_json(request)?;
    // An array would do for serde: it takes the elements for the fields in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        let syntax = serde_json::from_slice::<IgnoredAny>(body);
        return Err(syntax.map_or_else(|error| malformed(&error), |_| Problem::field("body", "expected an object")));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match inner.classify() {
            serde_json::error::Category::Data => {
                let field = if path == "." { "body".to_owned() } else { path };
                Problem::field(&field, expectation(&inner))
            }
            _ => malformed(&inner),
        }
    })?;
    deserializer.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

fn malformed(error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    Problem::new(Kind::BadRequest, format!("The body is not valid JSON (line {line}, column {column})."))
}

/// What was expected, without what was found: that may be a secret which stood in the wrong place.
fn expectation(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if let Some(field) = text.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        return format!("the field {field} is missing");
    }
    if let Some(field) = text.strip_prefix("duplicate field `").and_then(|rest| rest.split('`').next()) {
        return format!("the field {field} stands there twice");
    }
    let expected = text.rsplit_once("expected ").map_or("something else", |(_, expected)| expected);
    let expected = expected.split(" at line ").next().unwrap_or(expected);
    format!("expected {expected}")
}

fn require_json(request: &HttpRequest) -> Result<(), Problem> {
    let essence = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        Ok(())
    } else {
        Err(Problem::new(Kind::MediaType, "The body must be JSON, with `Content-Type: application/json`."))
    }
}
