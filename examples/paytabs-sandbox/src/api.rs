//! PayTabs' API: `POST /payment/request` and `POST /payment/query`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::fields::Fields;
use crate::ledger::{Kind, Order, Status, Transaction};
use crate::money::Currency;
use crate::server::Shared;

/// Opens a payment page, or captures, refunds or voids an earlier transaction.
pub(crate) async fn request(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let fields = authorised(&shared, &headers, &body)?;
    let order = order(&fields)?;
    let now = shared.config.clock.now();
    match order.kind {
        Kind::Sale | Kind::Auth => {
            let opened = shared.ledger.lock().open(order, now);
            Ok(Json(opened_json(&shared, &opened)))
        }
        Kind::Capture | Kind::Refund | Kind::Void => {
            let on = fields.text("tran_ref", 64)?;
            let booked = shared.ledger.lock().follow_up(order, &on, now)?;
            if booked.order.kind == Kind::Refund {
                shared.stats.add(|c| &c.refunds);
            }
            let profile = shared.config.profile_id;
            Ok(Json(booked.to_json(
                profile,
                booked.status,
                booked.order.amount,
            )))
        }
    }
}

/// Tells how a transaction stands.
pub(crate) async fn query(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let fields = authorised(&shared, &headers, &body)?;
    let tran_ref = fields.text("tran_ref", 64)?;
    let found = shared.ledger.lock().find(&tran_ref)?;
    let shown = match found.status {
        Status::Authorised if shared.switches.get().decline_verification => Status::Declined,
        status => status,
    };
    let profile = shared.config.profile_id;
    Ok(Json(found.to_json(profile, shown, found.order.amount)))
}

fn opened_json(shared: &Shared, opened: &Transaction) -> Value {
    let order = &opened.order;
    let amount = order.currency.format(order.amount);
    json!({
        "tran_ref": opened.tran_ref,
        "tran_type": order.kind.name(),
        "cart_id": order.cart_id,
        "cart_description": order.description,
        "cart_currency": order.currency.code,
        "cart_amount": amount,
        "tran_total": "0",
        "callback": order.callback,
        "return": order.return_url,
        "redirect_url": shared.page_url(opened),
        "profileId": shared.config.profile_id,
        "trace": uuid::Uuid::new_v4().simple().to_string(),
    })
}

/// The body's fields, when key and profile are right.
fn authorised(shared: &Shared, headers: &HeaderMap, body: &[u8]) -> Result<Fields, ApiError> {
    let sent = headers
        .get(header::AUTHORIZATION)
        .map(|value| value.as_bytes());
    if sent != Some(shared.config.server_key.as_bytes()) {
        return Err(ApiError::authentication());
    }
    let fields = Fields::parse(body)?;
    let profile = fields.value("profile_id");
    let as_number = profile.as_u64();
    let number = as_number.or_else(|| profile.as_str().and_then(|text| text.parse().ok()));
    if number != Some(shared.config.profile_id) {
        return Err(ApiError::field(
            "profile_id",
            profile,
            "the profile of the server key",
        ));
    }
    Ok(fields)
}

fn order(fields: &Fields) -> Result<Order, ApiError> {
    let kind = fields.text("tran_type", 16)?;
    let kind = Kind::find(&kind)
        .ok_or_else(|| ApiError::field("tran_type", json!(kind), Kind::ALLOWED))?;
    let class = fields.text("tran_class", 16)?;
    if !["ecom", "moto", "cont"].contains(&class.to_ascii_lowercase().as_str()) {
        return Err(ApiError::field(
            "tran_class",
            json!(class),
            "ecom, moto, cont",
        ));
    }
    let code = fields.text("cart_currency", 3)?;
    let currency = Currency::find(&code)
        .ok_or_else(|| ApiError::field("cart_currency", json!(code), Currency::allowed()))?;
    let amount = fields.value("cart_amount");
    let amount = match currency.parse(&amount) {
        Some(minor) if minor > 0 => minor,
        _ => {
            let smallest = currency.format(1);
            let allowed = format!("an exact decimal number from {smallest}, as text or number");
            return Err(ApiError::field("cart_amount", amount, allowed));
        }
    };
    Ok(Order {
        kind,
        class: class.to_ascii_lowercase(),
        cart_id: fields.text("cart_id", 64)?,
        description: fields.text("cart_description", 128)?,
        currency,
        amount,
        callback: fields.url("callback")?,
        return_url: fields.url("return")?,
    })
}
