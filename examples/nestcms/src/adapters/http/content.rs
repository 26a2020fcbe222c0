//! Users, projects and contracts: what goes on while PayTabs is down.

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::problem::Problem;
use crate::{
    adapters::sqlite::{ContentStore, Contract, Project},
    auth::CurrentUser,
};

/// `GET /api/v1/users/me`.
pub(super) async fn me(user: CurrentUser) -> Json<Value> {
    Json(json!({ "id": user.id, "role": user.role }))
}

/// `GET /api/v1/projects`.
pub(super) async fn projects(
    State(content): State<ContentStore>,
    _user: CurrentUser,
) -> Result<Json<Vec<Project>>, Problem> {
    Ok(Json(content.projects().await?))
}

/// `GET /api/v1/contracts`.
pub(super) async fn contracts(
    State(content): State<ContentStore>,
    _user: CurrentUser,
) -> Result<Json<Vec<Contract>>, Problem> {
    Ok(Json(content.contracts().await?))
}
