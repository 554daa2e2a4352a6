//! `/openapi.json` and `/docs`: the OpenAPI document, and a page that shows it.

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use askama::Template;
use bytes::Bytes;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{OpenApi, RefOr};

use crate::routes::Api;

pub(crate) async fn document(api: web::Data<Api>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(api.openapi.clone())
}

pub(crate) async fn page(api: web::Data<Api>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ))
        .content_type("text/html; charset=utf-8")
        .body(api.docs.clone())
}

#[derive(Template)]
#[template(path = "docs.html")]
struct DocsPage {
    version: String,
    calls: Vec<Call>,
}

struct Call {
    method: &'static str,
    path: String,
    summary: String,
    description: String,
    parameters: Vec<(String, String)>,
    answers: Vec<(String, String)>,
}

/// The page that shows `document`.
pub(crate) fn render(document: &OpenApi) -> Result<Bytes, askama::Error> {
    let mut calls = Vec::new();
    for (path, item) in &document.paths.paths {
        let operations = [
            ("GET", &item.get),
            ("POST", &item.post),
            ("PUT", &item.put),
            ("PATCH", &item.patch),
            ("DELETE", &item.delete),
            ("HEAD", &item.head),
        ];
        calls.extend(
            operations.into_iter().filter_map(|(method, operation)| Some(call(method, path, operation.as_ref()?))),
        );
    }
    DocsPage { version: document.info.version.clone(), calls }.render().map(Bytes::from)
}

fn call(method: &'static str, path: &str, operation: &Operation) -> Call {
    let parameters = operation.parameters.iter().flatten();
    let answers = operation.responses.responses.iter();
    Call {
        method,
        path: path.to_owned(),
        summary: operation.summary.clone().unwrap_or_default(),
        description: operation.description.clone().unwrap_or_default(),
        parameters: parameters
            .filter_map(|parameter| match parameter {
                RefOr::T(one) => Some((one.name.clone(), one.description.clone().unwrap_or_default())),
                RefOr::Ref(_) => None,
            })
            .collect(),
        answers: answers
            .map(|(status, answer)| match answer {
                RefOr::T(answer) => (status.clone(), answer.description.clone()),
                RefOr::Ref(_) => (status.clone(), String::new()),
            })
            .collect(),
    }
}
