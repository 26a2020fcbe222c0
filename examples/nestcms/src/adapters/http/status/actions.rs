//! The buttons.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};

use super::StatusPage;
use crate::domain::money::{Currency, Money};
use crate::payments::NewPayment;

/// Makes PayTabs fail.
pub(super) async fn fail(State(page): State<StatusPage>, headers: HeaderMap) -> Response {
    if let Some(refusal) = foreign(&headers) {
        return refusal;
    }
    let done = page.sandbox.fail().await;
    answer(
        &headers,
        done.map(|()| "PayTabs fails from now on.".to_owned()),
    )
}

/// Lets PayTabs recover, slowly.
pub(super) async fn hold(State(page): State<StatusPage>, headers: HeaderMap) -> Response {
    if let Some(refusal) = foreign(&headers) {
        return refusal;
    }
    let done = page.sandbox.hold().await;
    answer(
        &headers,
        done.map(|()| "PayTabs works again, slowly.".to_owned()),
    )
}

/// Lets PayTabs recover.
pub(super) async fn recover(State(page): State<StatusPage>, headers: HeaderMap) -> Response {
    if let Some(refusal) = foreign(&headers) {
        return refusal;
    }
    let done = page.sandbox.recover().await;
    answer(&headers, done.map(|()| "PayTabs works again.".to_owned()))
}

/// Creates and initiates a small payment.
pub(super) async fn pay(State(page): State<StatusPage>, headers: HeaderMap) -> Response {
    if let Some(refusal) = foreign(&headers) {
        return refusal;
    }
    answer(&headers, try_payment(&page).await)
}

async fn try_payment(page: &StatusPage) -> Result<String, String> {
    let id = uuid::Uuid::now_v7().to_string();
    let amount = Currency::from_code("SAR")
        .and_then(|currency| Money::from_minor(4_950, currency))
        .ok_or("49.50 SAR is no amount")?;
    let new = NewPayment {
        user_id: "status-page".to_owned(),
        amount,
        order_ref: format!("try-{}", &id[id.len() - 6..]),
        idempotency_key: id,
        method: "card".to_owned(),
    };
    let order = new.order_ref.clone();
    let created = page.payments.create(new).await;
    let created = created.map_err(|error| format!("Not created: {error}."))?;
    match page.payments.initiate(&created.payment.id).await {
        Ok(_) => Ok(format!(
            "{order}: PayTabs gave a payment page; press its link to pay."
        )),
        Err(error) => Err(format!("{order}: {error}.")),
    }
}

/// Plain words for the script; a redirect for a browser without it.
fn answer(headers: &HeaderMap, done: Result<String, String>) -> Response {
    if !headers.contains_key("x-status-script") {
        return Redirect::to("/status").into_response();
    }
    match done {
        Ok(said) => said.into_response(),
        Err(said) => (StatusCode::BAD_GATEWAY, said).into_response(),
    }
}

/// A refusal when another site's page pressed the button.
fn foreign(headers: &HeaderMap) -> Option<Response> {
    let site = headers.get("sec-fetch-site")?;
    (site != "same-origin" && site != "none").then(|| {
        (
            StatusCode::FORBIDDEN,
            "buttons work from the status page only",
        )
            .into_response()
    })
}
