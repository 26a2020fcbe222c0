//! The admin page: three files in the program, nothing from elsewhere.

use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Response, StatusCode};

use crate::body::Body;

/// Only what comes from here, no script or style inside the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// The file at `path`; there is nothing in it that needs a token.
pub(super) fn find(path: &str) -> Option<Response<Body>> {
    let (text, kind) = match path {
        "/admin" => return Some(moved()),
        "/admin/" => (include_str!("page/index.html"), "text/html; charset=utf-8"),
        "/admin/admin.js" => (
            include_str!("page/admin.js"),
            "text/javascript; charset=utf-8",
        ),
        "/admin/admin.css" => (include_str!("page/admin.css"), "text/css; charset=utf-8"),
        _ => return None,
    };
    let mut response = Response::new(Body::from(text.to_owned()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    Some(response)
}

fn moved() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_static("/admin/"));
    response
}
