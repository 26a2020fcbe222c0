//! Refusals as PayTabs words them: `{code, message, trace}`, with the field named.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// A refused API or control call.
#[derive(Debug, Serialize)]
pub(crate) struct ApiError {
    #[serde(skip)]
    status: StatusCode,
    code: u32,
    message: String,
    trace: String,
    // Boxed to keep the error small beside the results it travels with.
    #[serde(flatten)]
    field: Option<Box<Field>>,
}

/// The field to blame.
#[derive(Debug, Serialize)]
struct Field {
    field: &'static str,
    value: serde_json::Value,
    allowed: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: u32, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            trace: uuid::Uuid::new_v4().simple().to_string(),
            field: None,
        }
    }

    /// 401: the `authorization` header does not carry the profile's server key.
    pub(crate) fn authentication() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            1,
            "Authentication failed. Check authentication header.",
        )
    }

    /// 400: one field cannot be used.
    pub(crate) fn field(
        field: &'static str,
        value: serde_json::Value,
        allowed: impl Into<String>,
    ) -> Self {
        let allowed = allowed.into();
        let message = format!("Invalid request: {field}; allowed: {allowed}");
        Self {
            field: Some(Box::new(Field {
                field,
                value,
                allowed,
            })),
            ..Self::new(StatusCode::BAD_REQUEST, 206, message)
        }
    }

    /// 400: the transaction is not in a state for this.
    pub(crate) fn transaction(code: u32, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}
