//! The status page: what the breakers, events and payments do, live, with buttons that
//! make PayTabs fail and recover.
//!
//! The page is a demonstration aid, there only when `status.enabled` is set. It is open to
//! everyone who reaches it, and its buttons
//! act on the PayTabs sandbox through the sandbox's own HTTP interface; a PayTabs that is no
//! sandbox answers them with an error and is left as it is.

mod actions;
mod live;
mod page;
mod sandbox;

use axum::Router;
use axum::extract::{FromRef, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use resilience_core::breaker::CircuitBreaker;

use crate::events::EventBus;
use crate::payments::PaymentService;

pub(crate) use sandbox::SandboxControl;

/// What the page shows and acts on; clones share everything.
#[derive(Clone, Debug)]
pub struct StatusPage {
    pub(crate) bus: EventBus,
    pub(crate) breakers: Vec<CircuitBreaker>,
    pub(crate) payments: PaymentService,
    pub(crate) sandbox: SandboxControl,
}

impl StatusPage {
    /// A page over these handles; `paytabs_url` is where the sandbox is reached.
    #[must_use]
    pub fn new(
        bus: EventBus,
        breakers: Vec<CircuitBreaker>,
        payments: PaymentService,
        paytabs_url: &str,
    ) -> Self {
        Self {
            bus,
            breakers,
            payments,
            sandbox: SandboxControl::new(paytabs_url),
        }
    }
}

/// `/status` and what it needs.
pub fn routes<S>() -> Router<S>
where
    StatusPage: FromRef<S>,
    S: Clone + Send + Sync + 'static,
{
    Router::new()
        .route("/status", get(show).post(come_back))
        .route("/status/events", get(live::events))
        .route("/status/style.css", get(style))
        .route("/status/script.js", get(script))
        .route("/status/fail", post(actions::fail))
        .route("/status/hold", post(actions::hold))
        .route("/status/recover", post(actions::recover))
        .route("/status/pay", post(actions::pay))
}

async fn show(State(page): State<StatusPage>) -> Response {
    let recent = page.bus.tap().recent;
    let payments = page.payments.list(None, page::PAYMENTS_SHOWN).await;
    let switches = page.sandbox.describe().await;
    let html = page::full(&page.breakers, &recent, &payments, &switches);
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
             form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
    ];
    (headers, Html(html)).into_response()
}

/// PayTabs sends the payer's browser back with a form. The form decides nothing: the
/// callback and the verification do.
async fn come_back() -> Redirect {
    Redirect::to("/status")
}

async fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("style.css"))
}

async fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("script.js"))
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], text).into_response()
}
