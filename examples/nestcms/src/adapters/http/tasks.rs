//! What goes on after the answer: 202, and where to ask.

use axum::{
    Json, Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::{content::forbidden, detached::detached, problem::Problem};
use crate::{
    app::AppState,
    auth::{CurrentUser, Role},
    content::{ContentService, Error},
    domain::{
        content::{Article, Content},
        task::{Priority, Task},
    },
    ports::{QueueError, See},
    tasks::{NewTask, PUBLISH, Publish, TaskService},
};

/// The routes of tasks.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/api/v1/articles/{id}/publish", post(publish))
        .route("/api/v1/tasks/dead", get(dead))
        .route("/api/v1/tasks/{id}", get(show))
        .route("/api/v1/tasks/{id}/requeue", post(requeue))
}

/// `POST /api/v1/articles/{id}/publish`: 202 with the id of a task. The version that is published
/// is the newest of now; the same one is published once, however often it is asked for.
async fn publish(
    State(content): State<ContentService>,
    State(tasks): State<TaskService>,
    user: CurrentUser,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    // As at a change: decided by what is, and not by what a cache or a copy shows.
    let article = content.read::<Article>(&id, See::Newest).await?.value;
    let theirs = article.content.author_id == user.id;
    if user.role == Role::User && !theirs {
        return match article.content.is_public() {
            true => Err(forbidden()),
            false => Err(Error::NotFound(Article::KIND).into()),
        };
    }
    let version = article.version;
    let payload = json!(Publish {
        article: id.clone(),
        version
    });
    let new = NewTask {
        kind: PUBLISH,
        payload,
        priority: Priority::Normal,
        owner: Some(user.id),
        key: Some(format!("{id} {version}")),
    };
    let task = detached::<_, QueueError>(async move { tasks.submit(new).await }).await?;
    let place = format!("/api/v1/tasks/{task}");
    let mut response = (StatusCode::ACCEPTED, Json(json!({ "task_id": task }))).into_response();
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// `GET /api/v1/tasks/{id}`, for who asked for it, and for editors.
async fn show(
    State(tasks): State<TaskService>,
    user: CurrentUser,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let task = tasks.find(&id).await?.ok_or_else(missing)?;
    if user.role == Role::User && task.owner.as_ref() != Some(&user.id) {
        return Err(missing());
    }
    Ok(Json(view(&task)))
}

/// `GET /api/v1/tasks/dead`, for admins.
async fn dead(
    State(tasks): State<TaskService>,
    user: CurrentUser,
) -> Result<Json<Vec<Value>>, Problem> {
    only_admins(&user)?;
    let dead = tasks.dead(LIST).await?;
    Ok(Json(dead.iter().map(view).collect()))
}

/// `POST /api/v1/tasks/{id}/requeue`, for admins: 202; 404 unless it is dead.
async fn requeue(
    State(tasks): State<TaskService>,
    user: CurrentUser,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    only_admins(&user)?;
    let task = detached::<_, QueueError>(async move { tasks.requeue(&id).await }).await?;
    let task = task.ok_or_else(missing)?;
    tracing::info!(
        task = task.id,
        admin = user.id,
        "a dead task is queued again"
    );
    Ok((StatusCode::ACCEPTED, Json(view(&task))).into_response())
}

/// A task without its payload, which may hold what its reader should not see.
fn view(task: &Task) -> Value {
    json!({
        "id": task.id,
        "kind": task.kind,
        "priority": task.priority,
        "status": task.state,
        "runs": task.runs,
        "history": task.history,
        "result": task.result,
        "queued_at": task.queued_at,
        "changed_at": task.changed_at,
    })
}

fn only_admins(user: &CurrentUser) -> Result<(), Problem> {
    match user.role {
        Role::Admin => Ok(()),
        _ => Err(forbidden()),
    }
}

fn missing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such task")
}

/// Tasks of one list.
const LIST: usize = 100;
