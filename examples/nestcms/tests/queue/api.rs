//! G.c1: what the API queues, and who may ask what became of it.

use engines::nats::Server;
use nestcms::settings::Secret;
use reqwest::StatusCode;
use serde_json::json;

use crate::flows::support::{World, body, eventually, text};

/// G.c1
#[tokio::test]
async fn an_article_is_published_after_the_answer() {
    published(&World::with(|settings| settings.tasks.poll = SOON).await).await;
}

/// G.c1
#[tokio::test]
async fn an_article_is_published_through_nats() {
    let server = Server::launch().await.unwrap();
    let servers = vec![Secret::new(server.url())];
    let world = World::with(|settings| {
        settings.tasks.poll = SOON;
        settings.nats.servers = servers;
    })
    .await;
    published(&world).await;
    let health = world.get("/health/detailed").send().await.unwrap();
    assert!(body(health).await.to_string().contains("nats"));
}

async fn published(world: &World) {
    let article = json!({ "project_id": "project-1", "title": "News", "body": "" });
    let made = world.post("/api/v1/articles").json(&article);
    let made = body(made.send().await.unwrap()).await;
    let path = format!("/api/v1/articles/{}", text(&made, "id"));
    for cache in ["miss", "hit"] {
        let shown = world.get(&path).send().await.unwrap();
        assert_eq!(shown.headers()["x-cache"], cache);
        assert_eq!(text(&body(shown).await, "status"), "draft");
    }
    let queued = world.post(&format!("{path}/publish")).send().await.unwrap();
    assert_eq!(queued.status(), StatusCode::ACCEPTED);
    let place = queued.headers()["location"].to_str().unwrap().to_owned();
    assert!(place.ends_with(&text(&body(queued).await, "task_id")));
    eventually("the task is done", async || {
        let task = body(world.get(&place).send().await.unwrap()).await;
        assert_eq!(task["kind"], "article.publish");
        task["status"] == "done"
    })
    .await;
    let shown = world.get(&path).send().await.unwrap();
    assert_eq!(shown.headers()["x-cache"], "miss");
    let shown = body(shown).await;
    assert_eq!(
        (&shown["status"], &shown["version"]),
        (&json!("published"), &json!(2))
    );
    let ran = "task_runs_total{priority=\"normal\",outcome=\"done\"} 1";
    eventually("the run is counted", async || {
        let page = world.app.metrics().render();
        page.lines().any(|line| line == ran)
    })
    .await;
    strangers_are_refused(world, &place, &path).await;
}

async fn strangers_are_refused(world: &World, place: &str, path: &str) {
    let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status();
    let anonymous = world.http.get(format!("{}{place}", world.url));
    assert_eq!(status(anonymous).await, StatusCode::UNAUTHORIZED);
    let anonymous = world.http.post(format!("{}{path}/publish", world.url));
    assert_eq!(status(anonymous).await, StatusCode::UNAUTHORIZED);
    let nothing = world.get("/api/v1/tasks/nothing");
    assert_eq!(status(nothing).await, StatusCode::NOT_FOUND);
    let nothing = world.post("/api/v1/articles/nothing/publish");
    assert_eq!(status(nothing).await, StatusCode::NOT_FOUND);
    let dead = world.get("/api/v1/tasks/dead");
    assert_eq!(status(dead).await, StatusCode::FORBIDDEN);
    let requeue = world.post(&format!("{place}/requeue"));
    assert_eq!(status(requeue).await, StatusCode::FORBIDDEN);
}

const SOON: std::time::Duration = std::time::Duration::from_millis(10);
