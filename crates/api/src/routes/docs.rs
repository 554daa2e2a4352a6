//! `/openapi.json` and `/docs`: the OpenAPI document, and a page that shows it.

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use askama::Template;
use bytes::Bytes;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{OpenApi, RefOr, Schema};

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
    /// Of the body.
    fields: Vec<(String, String)>,
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
        let calls_of_path = operations
            .into_iter()
            .filter_map(|(method, operation)| Some(call(document, method, path, operation.as_ref()?)));
        calls.extend(calls_of_path);
    }
    DocsPage { version: document.info.version.clone(), calls }.render().map(Bytes::from)
}

fn call(document: &OpenApi, method: &'static str, path: &str, operation: &Operation) -> Call {
    let parameters = operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
        RefOr::T(one) => Some((one.name.clone(), plain(one.description.as_deref()))),
        RefOr::Ref(_) => None,
    });
    let answers = operation.responses.responses.iter().map(|(status, answer)| match answer {
        RefOr::T(answer) => (status.clone(), plain(Some(&answer.description))),
        RefOr::Ref(_) => (status.clone(), String::new()),
    });
    Call {
        method,
        path: path.to_owned(),
        summary: plain(operation.summary.as_deref()),
        description: plain(operation.description.as_deref()),
        parameters: parameters.collect(),
        fields: fields(document, operation).unwrap_or_default(),
        answers: answers.collect(),
    }
}

/// The fields of the body, if it is one of the document's named objects.
fn fields(document: &OpenApi, operation: &Operation) -> Option<Vec<(String, String)>> {
    let RefOr::T(body) = operation.request_body.as_ref()? else { return None };
    let RefOr::T(content) = body.content.get("application/json")? else { return None };
    // An optional body is one of nothing and the object.
    let name = match content.schema.as_ref()? {
        RefOr::Ref(reference) => &reference.ref_location,
        RefOr::T(Schema::OneOf(choice)) => choice.items.iter().find_map(|item| match item {
            RefOr::Ref(reference) => Some(&reference.ref_location),
            RefOr::T(_) => None,
        })?,
        RefOr::T(_) => return None,
    };
    let schemas = &document.components.as_ref()?.schemas;
    let RefOr::T(Schema::Object(object)) = schemas.get(name.strip_prefix("#/components/schemas/")?)? else {
        return None;
    };
    let described = object.properties.iter().map(|(name, schema)| match schema {
        RefOr::T(Schema::Object(field)) => (name.clone(), plain(field.description.as_deref())),
        RefOr::T(_) | RefOr::Ref(_) => (name.clone(), String::new()),
    });
    Some(described.collect())
}

/// Text without the marks of Markdown that the document has.
fn plain(text: Option<&str>) -> String {
    text.unwrap_or_default().replace('`', "")
}
