//! Events that were given up, for operators.

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, post},
};
use http::StatusCode;
use serde_json::{Value, json};

use super::problem::Problem;
use crate::{
    app::AppState,
    auth::{CurrentUser, Role},
    ports::DeadLetter,
};

/// The routes of the dead letters; for admins.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/api/v1/dead-letters", get(list))
        .route("/api/v1/dead-letters/{id}", get(show))
        .route("/api/v1/dead-letters/{id}/replay", post(replay))
}

/// `GET /api/v1/dead-letters`: the newest.
async fn list(
    State(state): State<AppState>,
    user: CurrentUser,
) -> Result<Json<Vec<DeadLetter>>, Problem> {
    only_admins(&user)?;
    Ok(Json(state.outbox().dead_letters(LIST).await?))
}

/// `GET /api/v1/dead-letters/{id}`.
async fn show(
    State(state): State<AppState>,
    user: CurrentUser,
    Path(id): Path<String>,
) -> Result<Json<DeadLetter>, Problem> {
    only_admins(&user)?;
    let letter = state.outbox().dead_letter(&id).await?;
    letter.map(Json).ok_or_else(missing)
}

/// `POST /api/v1/dead-letters/{id}/replay`: 202, back into the outbox.
async fn replay(
    State(state): State<AppState>,
    user: CurrentUser,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    only_admins(&user)?;
    if !state.replay(&id).await? {
        return Err(missing());
    }
    tracing::info!(id, user = user.id, "a dead letter is replayed");
    Ok((StatusCode::ACCEPTED, Json(json!({ "id": id }))))
}

fn only_admins(user: &CurrentUser) -> Result<(), Problem> {
    if user.role == Role::Admin {
        return Ok(());
    }
    let status = StatusCode::FORBIDDEN;
    Err(Problem::new(
        status,
        "forbidden",
        "your role does not allow it",
    ))
}

fn missing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "no such dead letter")
}

/// Dead letters of one list.
const LIST: u32 = 100;
