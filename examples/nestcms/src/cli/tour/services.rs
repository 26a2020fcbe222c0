//! F3, F5 and F7 on real engines: PostgreSQL with three replicas, and Redis.

use std::time::Duration;

use engines::{postgres, redis};
use resilience_core::route;
use serde_json::json;

use super::client::Played;
use super::data::{self, PROJECT};
use super::story::{Story, fact, same};
use super::world::{World, settings};
use crate::settings::Secret;

/// Starts the engines, plays the scenes, and stops them.
pub(super) async fn play(story: &mut Story) -> Played<()> {
    story.tell("PostgreSQL with three replicas and Redis are started for this.");
    let database = postgres::Cluster::start(postgres::Config::default()).await?;
    let cache = redis::Cluster::start(redis::Config::lone()).await?;
    let mut settings = settings()?;
    settings.database.nodes = database
        .nodes()
        .iter()
        .map(|n| Secret::new(n.url()))
        .collect();
    settings.database.write_wait = Duration::from_secs(3);
    // A machine that is busy is not a node that is down, and not a replica behind.
    settings.database.route = route::Config::builder()
        .observation_ttl(Duration::from_secs(20))
        .max_lag(Duration::from_secs(60))
        .build()?;
    settings.cache.redis = Some(Secret::new(cache.node(0).url()));
    // The counts below are those of the scenes alone.
    settings.jobs.expiry_scan = HOUR;
    settings.jobs.verification = HOUR;
    settings.jobs.refund = HOUR;
    settings.outbox.poll = HOUR;
    settings.jobs.invalidation = Duration::from_millis(50);
    let world = World::on(settings).await?;
    let played = scenes(&world, &database, &cache, story).await;
    world.stack.stop().await;
    played
}

async fn scenes(
    world: &World,
    database: &postgres::Cluster,
    cache: &redis::Cluster,
    story: &mut Story,
) -> Played<()> {
    database.wait_caught_up().await?;
    data::cache(world, story).await?;
    own_writes(world, database, story).await?;
    without_redis(world, cache, story).await?;
    a_replica_dies(world, database, story).await?;
    the_primary_dies(world, database, story).await
}

/// F5.c3
async fn own_writes(world: &World, database: &postgres::Cluster, story: &mut Story) -> Played<()> {
    story.tell("All replicas stop to replay. Who has written sees it nevertheless.");
    for replica in &database.nodes()[1..] {
        replica.pause_replay().await?;
    }
    let name = format!("Renamed {}", world.client.number());
    let changed = world.client.put(PROJECT, &json!({ "name": name })).await?;
    let mark = changed.header("x-read-after");
    let seen = world.client.get_after(PROJECT, mark).await?;
    story.check(
        "F5.c3",
        "a read with the mark of the write shows the write",
        &[
            fact(!mark.is_empty(), "the write gave no mark"),
            same("the status", seen.status, 200),
            same("the name", seen.text("name"), name.as_str()),
        ],
    );
    for replica in &database.nodes()[1..] {
        replica.resume_replay().await?;
    }
    Ok(())
}

/// F3.c3
async fn without_redis(world: &World, cache: &redis::Cluster, story: &mut Story) -> Played<()> {
    story.tell("Redis is killed in the middle of the day.");
    let content = world.stack.state.content();
    cache.node(0).kill().await?;
    let name = format!("Renamed {}", world.client.number());
    let changed = world.client.put(PROJECT, &json!({ "name": name })).await?;
    let waiting = content.waiting_invalidations();
    let seen = world.client.get(PROJECT).await?;
    cache.node(0).start().await?;
    let told = world
        .eventually(|| content.waiting_invalidations() == 0)
        .await;
    story.check(
        "F3.c3",
        "the write succeeds, its key waits on a list, and Redis hears of it later",
        &[
            same("the status", changed.status, 200),
            same("waiting", waiting, 1),
            same("the name", seen.text("name"), name.as_str()),
            fact(told, "Redis was not told"),
        ],
    );
    Ok(())
}

/// F7.c1
async fn a_replica_dies(
    world: &World,
    database: &postgres::Cluster,
    story: &mut Story,
) -> Played<()> {
    story.tell("A replica is killed under reads.");
    let mut failed = 0;
    for read in 0..100 {
        if read == 20 {
            database.node(3).kill().await?;
        }
        let answer = world.client.get("/api/v1/projects").await?;
        failed += usize::from(answer.status != 200);
    }
    story.check("F7.c1", "no read fails", &[same("failed", failed, 0)]);
    Ok(())
}

/// F7.c2
async fn the_primary_dies(
    world: &World,
    database: &postgres::Cluster,
    story: &mut Story,
) -> Played<()> {
    story.tell("The primary is killed. Writes hear when to come again; then one is promoted.");
    database.node(0).kill().await?;
    let mut refused = world
        .client
        .post("/api/v1/projects", &json!({ "name": "New" }))
        .await?;
    for _ in 0..100 {
        if refused.text("code") == "no_primary" {
            break;
        }
        refused = world
            .client
            .post("/api/v1/projects", &json!({ "name": "New" }))
            .await?;
    }
    database.node(1).promote().await?;
    let mut written = world
        .client
        .post("/api/v1/projects", &json!({ "name": "New" }))
        .await?;
    for _ in 0..100 {
        if written.status == 201 {
            break;
        }
        written = world
            .client
            .post("/api/v1/projects", &json!({ "name": "New" }))
            .await?;
    }
    story.check(
        "F7.c2",
        "503 with retry-after meanwhile, and written again without a restart",
        &[
            same("the status", refused.status, 503),
            same("the code", refused.text("code"), "no_primary"),
            fact(!refused.header("retry-after").is_empty(), "no retry-after"),
            same("the status", written.status, 201),
        ],
    );
    Ok(())
}

const HOUR: Duration = Duration::from_secs(3600);
