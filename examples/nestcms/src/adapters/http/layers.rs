//! What every request passes through.

use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderName, HeaderValue};

use crate::correlation;

/// The header of the correlation id.
const HEADER: HeaderName = HeaderName::from_static("x-correlation-id");

/// Takes the correlation id over, or makes one; the answer carries it.
pub(super) async fn correlate(request: Request, next: Next) -> Response {
    let given = request.headers().get(&HEADER).and_then(|v| v.to_str().ok());
    let id = match given {
        Some(id) if correlation::is_acceptable(id) => id.to_owned(),
        _ => correlation::generate(),
    };
    let mut response = correlation::scope(id.clone(), next.run(request)).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HEADER, value);
    }
    response
}
