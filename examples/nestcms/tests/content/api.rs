//! The endpoints, on the embedded store.

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use crate::flows::support::{World, body, text};

async fn editors() -> World {
    World::with(|settings| {
        let user = settings.auth.demo_user.as_mut().unwrap();
        user.role = "editor".to_owned();
    })
    .await
}

async fn put(world: &World, path: &str, content: &Value) -> Response {
    let request = world.http.put(format!("{}{path}", world.url));
    let request = world.signed_in(request).json(content);
    request.send().await.unwrap()
}

async fn read(world: &World, path: &str) -> (String, Value) {
    let response = world.get(path).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    let cache = response.headers()["x-cache"].to_str().unwrap().to_owned();
    (cache, body(response).await)
}

async fn made(world: &World, path: &str, content: Value) -> Value {
    let response = world.post(path).json(&content).send().await.unwrap();
    let (status, body) = (response.status(), body(response).await);
    assert_eq!(status, StatusCode::CREATED, "{body}");
    body
}

/// Queries that the store was asked so far.
fn queries(world: &World, intent: &str) -> u64 {
    let line = format!("store_queries_total{{node=\"sqlite\",intent=\"{intent}\"}} ");
    let page = world.app.metrics().render();
    let found = page.lines().find_map(|l| l.strip_prefix(&line));
    found.map_or(0, |count| count.parse().unwrap())
}

/// F1.c1, F2.c1
#[tokio::test]
async fn the_second_read_of_a_project_asks_no_store() {
    let world = World::start().await;
    let (cache, first) = read(&world, "/api/v1/projects/project-1").await;
    assert_eq!((cache.as_str(), queries(&world, "read")), ("miss", 1));
    let (cache, second) = read(&world, "/api/v1/projects/project-1").await;
    assert_eq!((cache.as_str(), queries(&world, "read")), ("hit", 1));
    assert_eq!(first, second);
    assert_eq!(first["name"], "Company site");
}

/// L.c1, as far as the data is concerned.
#[tokio::test]
async fn the_page_of_metrics_tells_of_the_store_and_the_cache() {
    let world = World::start().await;
    let path = "/api/v1/projects/project-1";
    for _ in 0..3 {
        read(&world, path).await;
    }
    made(&world, "/api/v1/projects", json!({ "name": "Shop" })).await;
    let page = world.app.metrics().render();
    for line in [
        "cache_requests_total{tier=\"near\",result=\"miss\"} 1",
        "cache_requests_total{tier=\"near\",result=\"hit\"} 2",
        "cache_entries{tier=\"near\"} 1",
        "cache_evictions_total{tier=\"near\"} 0",
        "store_queries_total{node=\"sqlite\",intent=\"write\"} 1",
        "store_query_seconds_count{node=\"sqlite\",intent=\"read\"} 1",
        "store_query_seconds_count{node=\"sqlite\",intent=\"write\"} 1",
    ] {
        assert!(page.lines().any(|l| l == line), "{line}: {page}");
    }
    assert!(page.contains("cache_bytes{tier=\"near\"} "), "{page}");
    // The file has been written before, too.
    assert!(page.contains("store_lock_wait_seconds_count "), "{page}");
}

/// F2.c2
#[tokio::test]
async fn an_entry_ends_with_its_lifetime() {
    let world = World::start().await;
    let lifetime = world.app.settings().cache.lifetime;
    read(&world, "/api/v1/projects/project-1").await;
    world
        .clock
        .advance(lifetime - std::time::Duration::from_millis(1));
    assert_eq!(read(&world, "/api/v1/projects/project-1").await.0, "hit");
    world.clock.advance(std::time::Duration::from_millis(1));
    assert_eq!(read(&world, "/api/v1/projects/project-1").await.0, "miss");
    assert_eq!(queries(&world, "read"), 2);
}

/// F2.c3
#[tokio::test]
async fn a_hundred_misses_at_once_are_one_query() {
    let world = World::start().await;
    let reads = (0..100).map(|_| read(&world, "/api/v1/projects/project-1"));
    for (_, project) in futures_util::future::join_all(reads).await {
        assert_eq!(project["id"], "project-1");
    }
    assert_eq!(queries(&world, "read"), 1);
}

/// F2.c4
#[tokio::test]
async fn an_open_cache_breaker_sends_reads_to_the_store() {
    let world = World::start().await;
    read(&world, "/api/v1/projects/project-1").await;
    for _ in 0..5 {
        let cache = world.app.breakers().cache();
        cache.try_acquire().unwrap().failure();
    }
    for _ in 0..2 {
        assert_eq!(read(&world, "/api/v1/projects/project-1").await.0, "miss");
    }
    assert_eq!(queries(&world, "read"), 3);
}

/// F3.c1
#[tokio::test]
async fn the_read_after_a_write_is_a_miss_and_shows_it() {
    let world = World::start().await;
    let path = "/api/v1/projects/project-1";
    read(&world, path).await;
    let changed = put(
        &world,
        path,
        &json!({ "name": "Renamed", "status": "archived" }),
    )
    .await;
    assert_eq!(changed.status(), StatusCode::OK);
    assert_eq!(changed.headers()["etag"], "\"2\"");
    let (cache, project) = read(&world, path).await;
    assert_eq!(
        (cache.as_str(), &project["name"]),
        ("miss", &json!("Renamed"))
    );
    assert_eq!(
        (&project["version"], &project["status"]),
        (&json!(2), &json!("archived"))
    );
    assert_eq!(read(&world, path).await.0, "hit");
}

/// F3.c2
#[tokio::test]
async fn a_write_that_fails_leaves_the_entry() {
    let world = World::impatient().await;
    let path = "/api/v1/projects/project-1";
    read(&world, path).await;
    let file = format!("sqlite://{}", world.dir.0.join("nestcms.db").display());
    let mut other = SqliteConnection::connect(&file).await.unwrap();
    let begun = sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await;
    begun.unwrap();
    let refused = put(&world, path, &json!({ "name": "Renamed" })).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let (cache, project) = read(&world, path).await;
    assert_eq!(
        (cache.as_str(), &project["name"]),
        ("hit", &json!("Company site"))
    );

    // So does one that comes too late.
    let ended = sqlx::query("ROLLBACK").execute(&mut other).await;
    ended.unwrap();
    let request = world.http.put(format!("{}{path}", world.url));
    let request = world.signed_in(request).header("if-match", "\"7\"");
    let stale = request.json(&json!({ "name": "Renamed" })).send().await;
    let stale = stale.unwrap();
    assert_eq!(stale.status(), StatusCode::PRECONDITION_FAILED);
    assert_eq!(body(stale).await["code"], "stale_version");
    assert_eq!(read(&world, path).await.0, "hit");
}

/// F6.c1, as far as one node can show it.
#[tokio::test]
async fn a_report_is_computed_once_and_then_shown() {
    let world = editors().await;
    let earning = json!({ "contract_id": "contract-1", "user_id": "demo",
                          "amount": "12.50", "currency": "SAR" });
    made(&world, "/api/v1/earnings", earning.clone()).await;
    made(&world, "/api/v1/earnings", earning).await;
    for name in [
        "user-lookups",
        "project-relations",
        "contract-employee",
        "earnings",
        "statistics",
    ] {
        let path = format!("/api/v1/reports/{name}");
        let before = queries(&world, "read");
        let (cache, first) = read(&world, &path).await;
        assert_eq!(
            (cache.as_str(), queries(&world, "read")),
            ("miss", before + 1)
        );
        let (cache, again) = read(&world, &path).await;
        assert_eq!(
            (cache.as_str(), queries(&world, "read")),
            ("hit", before + 1)
        );
        assert_eq!(first, again);
    }
    let (_, sums) = read(&world, "/api/v1/reports/earnings").await;
    let value = json!({ "amount": "25.00", "currency": "SAR" });
    assert_eq!(
        sums,
        json!([{ "user_id": "demo", "earnings": 2, "value": value }])
    );
    let unknown = world.get("/api/v1/reports/gossip").send().await.unwrap();
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn every_kind_is_made_read_listed_and_changed() {
    let world = editors().await;
    let project = made(&world, "/api/v1/projects", json!({ "name": "Shop" })).await;
    assert_eq!(project["owner_id"], "demo");
    let project_id = text(&project, "id");
    let contract = json!({ "project_id": project_id, "employee_id": "demo", "title": "Build",
                           "amount": "1.250", "currency": "KWD" });
    let contract = made(&world, "/api/v1/contracts", contract).await;
    let contract_id = text(&contract, "id");
    let earning = json!({ "contract_id": contract_id, "user_id": "demo",
                          "amount": "1", "currency": "KWD" });
    let earning = made(&world, "/api/v1/earnings", earning).await;
    assert_eq!(
        earning["value"],
        json!({ "amount": "1.000", "currency": "KWD" })
    );
    let article = json!({ "project_id": project_id, "title": "News", "body": "One\nTwo" });
    let article = made(&world, "/api/v1/articles", article).await;
    assert_eq!(article["status"], "draft");

    for (kind, made, filter) in [
        ("projects", &project, "status=active".to_owned()),
        ("contracts", &contract, format!("project_id={project_id}")),
        ("earnings", &earning, format!("contract_id={contract_id}")),
        ("articles", &article, format!("project_id={project_id}")),
    ] {
        let id = text(made, "id");
        let (_, found) = read(&world, &format!("/api/v1/{kind}/{id}")).await;
        assert_eq!(&found, made, "{kind}");
        let path = format!("/api/v1/{kind}?{filter}");
        let listed = body(world.get(&path).send().await.unwrap()).await;
        let listed = listed.as_array().unwrap();
        assert!(listed.contains(made), "{kind}: {listed:?}");
        if kind != "projects" {
            assert_eq!(listed.len(), 1, "{kind}");
        }
    }
    let change = json!({ "project_id": project_id, "title": "News", "status": "published" });
    let path = format!("/api/v1/articles/{}", text(&article, "id"));
    let changed = body(put(&world, &path, &change).await).await;
    assert_eq!(
        (&changed["status"], &changed["body"]),
        (&json!("published"), &json!(""))
    );
}

#[tokio::test]
async fn bad_input_is_named() {
    let world = editors().await;
    for (path, content, field) in [
        ("projects", json!({}), "name"),
        (
            "projects",
            json!({ "name": "a", "colour": "red" }),
            "colour",
        ),
        (
            "projects",
            json!({ "name": "a", "status": "lost" }),
            "status",
        ),
        (
            "articles",
            json!({ "project_id": "project-1", "title": "a\u{7}" }),
            "title",
        ),
        (
            "earnings",
            json!({ "contract_id": "contract-1", "user_id": "demo",
                             "amount": "1.234", "currency": "SAR" }),
            "amount",
        ),
    ] {
        let response = world.post(&format!("/api/v1/{path}")).json(&content);
        let response = response.send().await.unwrap();
        assert_eq!(
            response.status(),
            StatusCode::UNPROCESSABLE_ENTITY,
            "{content}"
        );
        assert_eq!(body(response).await["field"], field);
    }
    let orphan = json!({ "project_id": "nowhere", "title": "News" });
    let orphan = world.post("/api/v1/articles").json(&orphan);
    let orphan = orphan.send().await.unwrap();
    assert_eq!(orphan.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(body(orphan).await["code"], "unrelated");
    let wrong = world
        .get("/api/v1/projects?colour=red")
        .send()
        .await
        .unwrap();
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_user_sees_and_changes_what_is_theirs() {
    let world = World::start().await;
    let pool = world.app.database().write();
    for sql in [
        "INSERT INTO projects (id, name, owner_id) VALUES ('foreign', 'Theirs', 'other')",
        "INSERT INTO articles VALUES \
         ('open', 'foreign', 'other', 'News', '', 'published', 0, 0, 1), \
         ('shut', 'foreign', 'other', 'News', '', 'draft', 0, 0, 1)",
    ] {
        sqlx::query(sql).execute(pool).await.unwrap();
    }
    let status = async |path: &str| world.get(path).send().await.unwrap().status();
    // The same after another may have filled the cache.
    for _ in 0..2 {
        assert_eq!(
            status("/api/v1/projects/foreign").await,
            StatusCode::NOT_FOUND
        );
        assert_eq!(status("/api/v1/articles/shut").await, StatusCode::NOT_FOUND);
        assert_eq!(status("/api/v1/articles/open").await, StatusCode::OK);
    }
    let projects = body(world.get("/api/v1/projects").send().await.unwrap()).await;
    assert_eq!(projects.as_array().unwrap().len(), 2, "{projects}");
    let foreign = "/api/v1/projects?owner_id=other";
    let foreign = body(world.get(foreign).send().await.unwrap()).await;
    assert_eq!(foreign, json!([]));
    let published = "/api/v1/articles?status=published";
    let published = body(world.get(published).send().await.unwrap()).await;
    assert_eq!(published.as_array().unwrap().len(), 1);

    let title = json!({ "project_id": "foreign", "title": "Mine now" });
    let taken = put(&world, "/api/v1/articles/open", &title).await;
    assert_eq!(taken.status(), StatusCode::FORBIDDEN);
    let given = json!({ "name": "Gift", "owner_id": "other" });
    let given = world.post("/api/v1/projects").json(&given).send().await;
    assert_eq!(given.unwrap().status(), StatusCode::UNPROCESSABLE_ENTITY);
    let paid = json!({ "contract_id": "contract-1", "user_id": "demo",
                       "amount": "1", "currency": "SAR" });
    let paid = world.post("/api/v1/earnings").json(&paid).send().await;
    assert_eq!(paid.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(
        status("/api/v1/reports/earnings").await,
        StatusCode::FORBIDDEN
    );

    let me = json!({ "email": "demo@nestcms.test", "name": "Demo", "role": "user" });
    let named = put(&world, "/api/v1/users/demo", &me).await;
    assert_eq!(named.status(), StatusCode::OK);
    let king = json!({ "email": "demo@nestcms.test", "name": "Demo", "role": "admin" });
    let king = put(&world, "/api/v1/users/demo", &king).await;
    assert_eq!(king.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_user_without_a_password_cannot_log_in() {
    let world = World::with(|settings| {
        let user = settings.auth.demo_user.as_mut().unwrap();
        user.role = "admin".to_owned();
    })
    .await;
    let guest = json!({ "email": "Guest@nestcms.test", "name": "Guest" });
    let guest = made(&world, "/api/v1/users", guest).await;
    assert_eq!(
        (&guest["email"], &guest["role"]),
        (&json!("guest@nestcms.test"), &json!("user"))
    );
    for password in ["", "!", "no user has this password"] {
        let login = world.http.post(format!("{}/api/v1/auth/login", world.url));
        let login = login
            .json(&json!({ "email": "guest@nestcms.test", "password": password }))
            .send()
            .await;
        assert_eq!(
            login.unwrap().status(),
            StatusCode::UNAUTHORIZED,
            "{password:?}"
        );
    }
    let twice = json!({ "email": "guest@nestcms.test", "name": "Guest" });
    let twice = world.post("/api/v1/users").json(&twice).send().await;
    assert_eq!(twice.unwrap().status(), StatusCode::CONFLICT);
}
