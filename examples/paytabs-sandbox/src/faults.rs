//! What the switches do to API calls before they are served.

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::cut::Cut;
use crate::error::ApiError;
use crate::server::Shared;

/// Counts an API call, then delays, cuts or refuses it as the switches say.
pub(crate) async fn inject(
    State(shared): State<Shared>,
    ConnectInfo(connection): ConnectInfo<Cut>,
    request: Request,
    next: Next,
) -> Response {
    match request.uri().path() {
        "/payment/query" => shared.stats.add(|c| &c.payment_query),
        _ => shared.stats.add(|c| &c.payment_request),
    }
    let _in_flight = shared.stats.in_flight();
    shared.switches.delay().await;
    // Read again: what counts is how the switches stand when the answer is due.
    let switches = shared.switches.get();
    if switches.outage {
        shared.stats.add(|c| &c.api_faults);
        connection.cut();
        // Never reaches the client: the connection writes nothing any more.
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if let Some(status) = switches.error {
        shared.stats.add(|c| &c.api_faults);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return ApiError::new(status, 500, "the sandbox was told to fail").into_response();
    }
    next.run(request).await
}
