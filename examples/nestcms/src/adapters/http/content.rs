//! Users, projects, contracts, earnings and articles: what goes on while PayTabs is down.

use std::collections::HashMap;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::{content_request::Body, detached::detached, fields::Fields, problem::Problem};
use crate::{
    app::AppState,
    auth::{CurrentUser, Role},
    content::{ContentService, Error, Found, Written},
    domain::content::{Article, Contract, Earning, Pipeline, Profile, Project, Record},
    ports::{ContentStore, Mark, Repository, See},
};

/// The routes of all kinds of content, and of the aggregations.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/api/v1/users/me", get(me))
        .merge(of::<Profile>("users"))
        .merge(of::<Project>("projects"))
        .merge(of::<Contract>("contracts"))
        .merge(of::<Earning>("earnings"))
        .merge(of::<Article>("articles"))
        .route("/api/v1/reports/{pipeline}", get(report))
}

fn of<T: Body>(name: &str) -> Router<AppState>
where
    dyn ContentStore: Repository<T>,
{
    let all = format!("/api/v1/{name}");
    let one = format!("{all}/{{id}}");
    Router::new()
        .route(&all, get(list::<T>).post(create::<T>))
        .route(&one, get(read::<T>).put(update::<T>))
}

/// `GET /api/v1/users/me`.
async fn me(user: CurrentUser) -> Json<Value> {
    Json(json!({ "id": user.id, "role": user.role }))
}

/// `GET /api/v1/{kind}/{id}`; `x-cache` says whether the cache had it.
async fn read<T: Body>(
    State(content): State<ContentService>,
    user: CurrentUser,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem>
where
    dyn ContentStore: Repository<T>,
{
    let found = content.read::<T>(&id, see(&headers)?).await?;
    if !may_read(&found.value, &user) {
        return Err(Error::NotFound(T::KIND).into());
    }
    let version = found.value.version;
    let mut response = shown(found);
    tag(&mut response, version);
    Ok(response)
}

/// `GET /api/v1/{kind}`, narrowed down by fields: those of the caller, or of everybody for editors.
async fn list<T: Body>(
    State(content): State<ContentService>,
    user: CurrentUser,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Json<Vec<Record<T>>>, Problem>
where
    dyn ContentStore: Repository<T>,
{
    let mut fields = Vec::new();
    for (name, value) in query {
        let known = T::FILTERS.iter().find(|known| **known == name);
        let known = known.ok_or_else(|| Problem::invalid(name, &value, T::FILTERS.join(", ")))?;
        fields.push((*known, value));
    }
    let public = fields.contains(&("status", "published".to_owned()));
    if user.role == Role::User && !(public && T::KIND == "article") {
        fields.push((T::HOLDER, user.id));
    }
    Ok(Json(content.list(&fields, LIST, &see(&headers)?).await?))
}

/// `POST /api/v1/{kind}`: 201.
async fn create<T: Body>(
    State(content): State<ContentService>,
    user: CurrentUser,
    body: Bytes,
) -> Result<Response, Problem>
where
    dyn ContentStore: Repository<T>,
{
    may_make::<T>(&user)?;
    let new = T::read(&Fields::parse(&body, T::KNOWN)?, &user, None)?;
    let written = detached::<_, Error>(async move { content.create(new).await }).await?;
    Ok(written_response(StatusCode::CREATED, &written))
}

/// `PUT /api/v1/{kind}/{id}`: the whole content; `if-match` names the version that it replaces.
async fn update<T: Body>(
    State(content): State<ContentService>,
    user: CurrentUser,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Problem>
where
    dyn ContentStore: Repository<T>,
{
    let version = if_match(&headers)?;
    // Whose it is, is decided by what is, and not by what a cache or a copy shows.
    let before = content.read::<T>(&id, See::Newest).await?.value;
    if !may_read(&before, &user) {
        return Err(Error::NotFound(T::KIND).into());
    }
    may_make::<T>(&user)?;
    if user.role == Role::User && before.content.holder(&before.id) != user.id {
        return Err(forbidden());
    }
    let new = T::read(&Fields::parse(&body, T::KNOWN)?, &user, Some(&before))?;
    let work = async move { content.update(&id, new, version).await };
    let written = detached::<_, Error>(work).await?;
    Ok(written_response(StatusCode::OK, &written))
}

/// `GET /api/v1/reports/{pipeline}`, for editors.
async fn report(
    State(content): State<ContentService>,
    user: CurrentUser,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    if user.role == Role::User {
        return Err(forbidden());
    }
    let pipeline = Pipeline::from_name(&name).ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is no such report",
        )
    })?;
    Ok(shown(content.report(pipeline).await?))
}

fn may_read<T: Body>(record: &Record<T>, user: &CurrentUser) -> bool {
    let content = &record.content;
    user.role != Role::User || content.is_public() || content.holder(&record.id) == user.id
}

fn may_make<T: Body>(user: &CurrentUser) -> Result<(), Problem> {
    match T::ONLY.is_empty() || T::ONLY.contains(&user.role) {
        true => Ok(()),
        false => Err(forbidden()),
    }
}

pub(super) fn forbidden() -> Problem {
    let text = "your role does not allow it";
    Problem::new(StatusCode::FORBIDDEN, "forbidden", text)
}

fn shown<T: serde::Serialize>(found: Found<T>) -> Response {
    let cache = if found.hit { "hit" } else { "miss" };
    ([(X_CACHE, cache)], Json(found.value)).into_response()
}

fn written_response<T: Body>(status: StatusCode, written: &Written<T>) -> Response {
    let mut response = (status, Json(&written.record)).into_response();
    tag(&mut response, written.record.version);
    if let Some(Mark(mark)) = &written.mark
        && let Ok(value) = HeaderValue::from_str(mark)
    {
        response.headers_mut().insert(READ_AFTER, value);
    }
    response
}

fn tag(response: &mut Response, version: i64) {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
}

/// `if-match: "3"`; none, or `*`, is any version.
fn if_match(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let number = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    match number.and_then(|number| number.parse().ok()) {
        _ if text == "*" => Ok(None),
        Some(version) if version > 0 => Ok(Some(version)),
        _ => Err(Problem::invalid("if-match", text, "the etag of a record")),
    }
}

/// What a read has to see: the write that `x-read-after` was given out for, or `newest`.
fn see(headers: &HeaderMap) -> Result<See, Problem> {
    let Some(value) = headers.get(READ_AFTER) else {
        return Ok(See::Any);
    };
    match value.to_str() {
        Ok("newest") => Ok(See::Newest),
        Ok(mark) => Ok(See::After(Mark(mark.to_owned()))),
        Err(_) => Err(Problem::invalid(
            "x-read-after",
            "bytes",
            "what a write gave",
        )),
    }
}

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
/// On the answer of a write, and then on reads that must see it.
const READ_AFTER: HeaderName = HeaderName::from_static("x-read-after");
/// Records of one list.
const LIST: u32 = 100;
