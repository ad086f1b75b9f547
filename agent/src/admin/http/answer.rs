//! The answers that endpoints give.

use http_body_util::Full;
use hyper::{Response, StatusCode, body::Bytes, header};

/// An answer of `content_type`.
pub fn of(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

/// Text for people.
pub fn text(status: StatusCode, body: impl Into<String>) -> Response<Full<Bytes>> {
    let mut body = body.into();
    body.push('\n');
    of(status, "text/plain; charset=utf-8", body)
}

/// Nothing is here.
pub fn not_found(offers: &str) -> Response<Full<Bytes>> {
    text(StatusCode::NOT_FOUND, format!("not found; here are: {offers}"))
}

/// Something is here, but not for this method.
pub fn wrong_method(allow: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("the method must be {allow}"));
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allow));
    response
}
