//! F1 to F7: the content, its cache, and its database.

use futures_util::future::join_all;
use serde_json::json;

use super::client::{Answer, Client, Played};
use super::story::{Story, same};
use super::world::World;
use crate::app::AppState;

/// A project of the demonstration.
pub(super) const PROJECT: &str = "/api/v1/projects/project-1";
/// Another one.
const OTHER: &str = "/api/v1/projects/project-2";

/// F1 to F3 and F6 on whatever stands behind the ports.
pub(super) async fn cache(world: &World, story: &mut Story) -> Played<()> {
    let (client, state) = (&world.client, &world.stack.state);
    story.tell("A project is read twice. The second time nobody asks the database.");
    let before = queries(state, "read");
    let first = client.get(PROJECT).await?;
    let asked = queries(state, "read") - before;
    let second = client.get(PROJECT).await?;
    let again = queries(state, "read") - before;
    story.check(
        "F2.c1",
        "the first read is a miss and one query",
        &[
            same("x-cache", first.header("x-cache"), "miss"),
            same("queries", asked, 1),
        ],
    );
    story.check(
        "F1.c1",
        "the second is a hit and no query",
        &[
            same("x-cache", second.header("x-cache"), "hit"),
            same("queries", again, 1),
        ],
    );

    story.tell("A hundred readers come at once for another one.");
    let before = queries(state, "read");
    let answers = join_all((0..100).map(|_| client.get(OTHER))).await;
    let good = answers.iter().flatten().filter(|a| a.status == 200).count();
    story.check(
        "F2.c3",
        "a hundred answers out of one query",
        &[
            same("answers", good, 100),
            same("queries", queries(state, "read") - before, 1),
        ],
    );

    story.tell("Its name is changed. Who reads next sees the new one.");
    let name = format!("Renamed {}", client.number());
    let changed = client.put(PROJECT, &json!({ "name": name })).await?;
    let next = client.get(PROJECT).await?;
    story.check(
        "F3.c1",
        "the read after the write is a miss and shows it",
        &[
            same("the status", changed.status, 200),
            same("x-cache", next.header("x-cache"), "miss"),
            same("the name", next.text("name"), name.as_str()),
        ],
    );
    reports(client, state, story).await
}

/// F6.c1
async fn reports(client: &Client, state: &AppState, story: &mut Story) -> Played<()> {
    story.tell("Five reports are asked for, twice each.");
    let before = queries(state, "read");
    let mut facts = Vec::new();
    for pipeline in crate::domain::content::Pipeline::ALL {
        let path = format!("/api/v1/reports/{}", pipeline.as_str());
        let (cold, warm) = (client.get(&path).await?, client.get(&path).await?);
        facts.push(same(
            pipeline.as_str(),
            caches(&cold, &warm),
            "200 miss 200 hit".to_owned(),
        ));
    }
    facts.push(same("queries", queries(state, "read") - before, 5));
    story.check("F6.c1", "each is computed once, then shown", &facts);
    Ok(())
}

/// F2.c4; leaves the breaker as it was.
pub(super) async fn without_cache(world: &World, story: &mut Story) -> Played<()> {
    story.tell("The cache fails five times in a row, and its breaker opens.");
    let breaker = world.breaker("cache")?;
    for _ in 0..5 {
        breaker.try_acquire()?.failure();
    }
    let answers = [
        world.client.get(PROJECT).await?,
        world.client.get(PROJECT).await?,
    ];
    breaker.reset();
    let facts: Vec<_> = answers
        .iter()
        .flat_map(|answer| {
            [
                same("the status", answer.status, 200),
                same("x-cache", answer.header("x-cache"), "miss"),
            ]
        })
        .collect();
    story.check("F2.c4", "reads go to the database and answer 200", &facts);
    Ok(())
}

fn caches(cold: &Answer, warm: &Answer) -> String {
    let one = |answer: &Answer| format!("{} {}", answer.status, answer.header("x-cache"));
    format!("{} {}", one(cold), one(warm))
}

/// Queries of the content so far, on all nodes.
fn queries(state: &AppState, intent: &str) -> u64 {
    let page = state.metrics().render();
    let wanted = format!("intent=\"{intent}\"");
    page.lines()
        .filter(|line| line.starts_with("store_queries_total") && line.contains(&wanted))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}
