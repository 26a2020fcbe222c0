//! The payment endpoints.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{create_request, detached::detached, problem::Problem};
use crate::{
    auth::{CurrentUser, Role},
    domain::payment::Payment,
    payments::{Error, PaymentService, PaymentView},
    ports::Created,
};

/// `POST /api/v2/payments`: 201, or 200 when the idempotency key was used before.
pub(super) async fn create(
    State(payments): State<PaymentService>,
    user: CurrentUser,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let new = create_request::read(&user.id, &headers, &body)?;
    let created = detached(async move { payments.create(new).await }).await?;
    Ok(created_response(&created))
}

/// `GET /api/v2/payments`: the newest of the caller, or of everybody for an admin.
pub(super) async fn list(
    State(payments): State<PaymentService>,
    user: CurrentUser,
) -> Result<Json<Vec<PaymentView>>, Problem> {
    let whose = (!is_admin(&user)).then_some(user.id.as_str());
    Ok(Json(payments.list(whose, LIST).await?))
}

/// `GET /api/v2/payments/{id}`.
pub(super) async fn get(
    State(payments): State<PaymentService>,
    user: CurrentUser,
    Path(id): Path<String>,
) -> Result<Json<PaymentView>, Problem> {
    Ok(Json(owned(&payments, &user, &id).await?))
}

/// `POST /api/v2/payments/{id}/initiate`: 303 to the payment page.
pub(super) async fn initiate(
    State(payments): State<PaymentService>,
    user: CurrentUser,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    owned(&payments, &user, &id).await?;
    let payment = detached(async move { payments.initiate(&id).await }).await?;
    redirect(&payment)
}

/// `POST /api/v1/payments`: create and initiate in one step.
///
/// Repeating the call with the same idempotency key leads to the same page, also when
/// the first one stored the payment and then found the provider down.
pub(super) async fn create_and_initiate(
    State(payments): State<PaymentService>,
    user: CurrentUser,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let new = create_request::read(&user.id, &headers, &body)?;
    let work = async move {
        let created = payments.create(new).await?;
        match created.payment.payment_url {
            Some(_) => Ok(created.payment),
            None => payments.initiate(&created.payment.id).await,
        }
    };
    let payment = detached::<_, Error>(work).await?;
    redirect(&payment)
}

/// The payment, if it is the user's; a stranger's looks like none.
async fn owned(
    payments: &PaymentService,
    user: &CurrentUser,
    id: &str,
) -> Result<PaymentView, Problem> {
    let view = payments.get(id).await?;
    if view.user_id != user.id && !is_admin(user) {
        return Err(Error::NotFound.into());
    }
    Ok(view)
}

fn is_admin(user: &CurrentUser) -> bool {
    user.role == Role::Admin
}

fn created_response(created: &Created) -> Response {
    let status = if created.is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let view = PaymentView::from(&created.payment);
    let mut response = (status, Json(view)).into_response();
    let location = format!("/api/v2/payments/{}", created.payment.id);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn redirect(payment: &Payment) -> Result<Response, Problem> {
    let url = payment.payment_url.as_deref().unwrap_or_default();
    let location = HeaderValue::from_str(url).map_err(|_| {
        let message = "the payment provider gave a page that cannot be shown";
        Problem::new(StatusCode::BAD_GATEWAY, "provider_refused", message)
    })?;
    let view = Json(PaymentView::from(payment));
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, location)], view).into_response())
}

/// Payments of one list.
const LIST: u32 = 100;
