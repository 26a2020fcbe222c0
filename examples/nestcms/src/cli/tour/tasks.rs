//! G: what goes on after the answer.

use serde_json::json;

use super::client::Played;
use super::story::{Story, fact, same};
use super::world::World;

/// G.c1
pub(super) async fn publish(world: &World, story: &mut Story) -> Played<()> {
    let client = &world.client;
    story.tell("An article is written and read. Then its author has it published.");
    let new = json!({ "project_id": "project-1", "title": "News", "body": "It works." });
    let made = client.post("/api/v1/articles", &new).await?;
    let path = format!("/api/v1/articles/{}", made.text("id"));
    let (cold, warm) = (client.get(&path).await?, client.get(&path).await?);
    let queued = client.post(&format!("{path}/publish"), &json!({})).await?;
    story.tell(format!(
        "The answer is {} with task {}; a worker does it meanwhile.",
        queued.status,
        queued.text("task_id")
    ));
    let idle = world.tasks_done().await?;
    let task = client.get(queued.header("location")).await?;
    let shown = client.get(&path).await?;
    story.check(
        "G.c1",
        "202 at once; then the store shows it and the cached record is gone",
        &[
            same(
                "x-cache before",
                (cold.header("x-cache"), warm.header("x-cache")),
                ("miss", "hit"),
            ),
            same("the status", queued.status, 202),
            fact(idle, "a task is left"),
            same("the task", task.text("status"), "done"),
            same("x-cache", shown.header("x-cache"), "miss"),
            same("the article", shown.text("status"), "published"),
        ],
    );
    Ok(())
}
