//! All routes.

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};
use http::StatusCode;

use super::{
    content, dead_letters, drain, layers, payments, problem::Problem, status, tasks, webhook,
};
use crate::{app::AppState, auth, health, logging, metrics};

/// The router of one instance.
pub fn router(state: AppState) -> Router {
    let webhook: Router<()> = Router::new()
        .route("/api/v2/payments/webhook", post(webhook::receive))
        .with_state(webhook::Context {
            guard: state.webhook().clone(),
            payments: state.payments().clone(),
            events: state.sink(),
            metrics: state.metrics().clone(),
        });
    let metrics = state.metrics().clone();
    let clock = metrics.clock().clone();
    let app: Router<AppState> = Router::new();
    let app = if state.settings().status.enabled {
        app.merge(status::routes())
    } else {
        app
    };
    app.route(
        "/api/v2/payments",
        post(payments::create).get(payments::list),
    )
    .route("/api/v2/payments/{id}", get(payments::get))
    .route("/api/v2/payments/{id}/initiate", post(payments::initiate))
    .route("/api/v1/payments", post(payments::create_and_initiate))
    .merge(content::routes())
    .merge(dead_letters::routes())
    .merge(tasks::routes())
    .merge(auth::routes())
    .merge(health::routes())
    .merge(metrics::routes())
    .layer(DefaultBodyLimit::max(MAX_BODY))
    .with_state(state)
    // The webhook has its own limit and its own body reader.
    .merge(webhook)
    .fallback(async || Problem::new(StatusCode::NOT_FOUND, "not_found", "no such path"))
    .method_not_allowed_fallback(async || {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Problem::new(status, "method_not_allowed", "not with this method")
    })
    .layer(middleware::from_fn(drain::unread))
    .layer(middleware::from_fn_with_state(metrics, metrics::track))
    .layer(middleware::from_fn_with_state(clock, logging::log_requests))
    .layer(middleware::from_fn(layers::correlate))
}

/// A create call has a few hundred bytes.
const MAX_BODY: usize = 64 * 1024;
