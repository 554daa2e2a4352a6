//! `/`: the console, a page on which a person does what the API offers. Its files are embedded as they are.

use actix_web::HttpResponse;
use actix_web::http::header;

/// Only the service's own files, and no frame around them.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

pub(crate) async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .content_type("text/html; charset=utf-8")
        .body(include_str!("../../console/index.html"))
}

pub(crate) async fn style() -> HttpResponse {
    file("text/css; charset=utf-8", include_str!("../../console/console.css"))
}

pub(crate) async fn script() -> HttpResponse {
    file("text/javascript; charset=utf-8", include_str!("../../console/console.js"))
}

fn file(content_type: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-cache")).content_type(content_type).body(text)
}
