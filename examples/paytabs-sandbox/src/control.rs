//! The sandbox's own endpoints: switches, counts, reset.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::fields::Fields;
use crate::server::Shared;
use crate::stats::Snapshot;
use crate::switches::{CallbackScheme, SwitchSet};

const NAMES: [&str; 9] = [
    "delay_ms",
    "error",
    "outage",
    "wrong_signatures",
    "duplicates",
    "hold_callbacks",
    "decline_verification",
    "wrong_amount",
    "callback_scheme",
];
const LONGEST_DELAY_MS: u64 = 60_000;

/// How the switches stand.
pub(crate) async fn show_switches(State(shared): State<Shared>) -> Json<SwitchSet> {
    Json(shared.switches.get())
}

/// Changes the switches named in the body; the others stay.
pub(crate) async fn change_switches(
    State(shared): State<Shared>,
    body: Bytes,
) -> Result<Json<SwitchSet>, ApiError> {
    let changed = changed(shared.switches.get(), &Fields::parse(&body)?)?;
    shared.switches.set(changed);
    tracing::info!(?changed, "switches changed");
    Ok(Json(changed))
}

/// The counts.
pub(crate) async fn show_stats(State(shared): State<Shared>) -> Json<Snapshot> {
    Json(shared.stats.snapshot())
}

/// Forgets all transactions, clears counts and switches.
pub(crate) async fn reset(State(shared): State<Shared>) -> StatusCode {
    *shared.ledger.lock() = Default::default();
    shared.switches.set(SwitchSet::default());
    shared.stats.reset();
    StatusCode::NO_CONTENT
}

fn changed(now: SwitchSet, fields: &Fields) -> Result<SwitchSet, ApiError> {
    fields.only(&NAMES)?;
    Ok(SwitchSet {
        delay_ms: delay(fields, now.delay_ms)?,
        error: error(fields, now.error)?,
        outage: fields.switch("outage", now.outage)?,
        wrong_signatures: fields.switch("wrong_signatures", now.wrong_signatures)?,
        duplicates: fields.switch("duplicates", now.duplicates)?,
        hold_callbacks: fields.switch("hold_callbacks", now.hold_callbacks)?,
        decline_verification: fields.switch("decline_verification", now.decline_verification)?,
        wrong_amount: fields.switch("wrong_amount", now.wrong_amount)?,
        callback_scheme: scheme(fields, now.callback_scheme)?,
    })
}

fn delay(fields: &Fields, now: u64) -> Result<u64, ApiError> {
    if !fields.has("delay_ms") {
        return Ok(now);
    }
    let value = fields.value("delay_ms");
    match value.as_u64() {
        Some(ms) if ms <= LONGEST_DELAY_MS => Ok(ms),
        _ => Err(ApiError::field(
            "delay_ms",
            value,
            format!("a whole number from 0 to {LONGEST_DELAY_MS}"),
        )),
    }
}

fn error(fields: &Fields, now: Option<u16>) -> Result<Option<u16>, ApiError> {
    if !fields.has("error") {
        return Ok(now);
    }
    let value = fields.value("error");
    match value.as_u64().and_then(|status| u16::try_from(status).ok()) {
        Some(status) if (400..=599).contains(&status) => Ok(Some(status)),
        None if value == Value::Null => Ok(None),
        _ => Err(ApiError::field(
            "error",
            value,
            "null, or a status from 400 to 599",
        )),
    }
}

fn scheme(fields: &Fields, now: CallbackScheme) -> Result<CallbackScheme, ApiError> {
    if !fields.has("callback_scheme") {
        return Ok(now);
    }
    let value = fields.value("callback_scheme");
    serde_json::from_value(value.clone())
        .map_err(|_| ApiError::field("callback_scheme", json!(value), "paytabs, timestamped"))
}
