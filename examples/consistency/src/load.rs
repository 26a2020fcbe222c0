//! A service that reads its own writes.

use std::{sync::Arc, time::Duration};

use resilience_core::route::{Lsn, Reason, Token};
use resilience_tower::read_write::{
    Checkout, Error, Lease, ReadFreshness, Why,
    postgres::{self, Node},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    random::Random,
    tally::Tally,
    world::{self, BOUND, World},
};

/// How long a statement of a read may take: shorter than a server is stopped for.
const STATEMENT: Duration = Duration::from_millis(500);

/// Until as many reads are checked as are wanted; up to `reads` after each write.
pub(crate) async fn run(world: Arc<World>, tally: Arc<Tally>, mut random: Random, reads: usize) {
    let mut own: Vec<(i64, Token<Lsn>)> = Vec::new();
    while !tally.is_over() {
        let quiet = world.quiet_mark();
        let Some((id, token)) = write(&world, &tally).await else {
            // It gave up, or nobody knows: a service would not go on at once.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        own.push((id, token));
        let think = random.below(tally.thinks().len());
        sleep(tally.thinks()[think]).await;
        let last = own.len() - 1;
        for nth in 0..=random.below(reads) {
            // Mostly the last write, now and then an older one, or any state.
            let (id, token) = match random.below(8) {
                0 if nth > 0 => {
                    check_any(&world, &tally).await;
                    continue;
                }
                1 if nth > 0 => &own[random.below(own.len())],
                _ => &own[last],
            };
            let why = check(&world, &tally, *id, token).await;
            if let (0, Some(why), true) = (nth, why, world.was_quiet(quiet)) {
                tally.share(think, why);
            }
        }
    }
}

async fn write(world: &World, tally: &Tally) -> Option<(i64, Token<Lsn>)> {
    let id = world.next_id();
    let checkout = Checkout::write().deadline(BOUND);
    let insert = async |mut lease: Lease<Node>| {
        let begun = lease.transaction().await?;
        begun
            .execute("INSERT INTO writes VALUES ($1)", &[&id])
            .await?;
        begun.commit().await
    };
    match world.cluster.run(&checkout, insert).await {
        Ok(token) => {
            tally.acknowledged(id, token.clone());
            Some((id, token))
        }
        Err(Error::OutcomeUnknown { .. }) => {
            tally.unknown(id);
            None
        }
        Err(_) => {
            tally.not_run(id);
            None
        }
    }
}

/// Whether a write is there, by a read that must show it if there is a token.
pub(crate) async fn read(
    world: &World,
    id: i64,
    token: Option<&Token<Lsn>>,
) -> Result<(bool, Why, String), world::Error> {
    let freshness = match token {
        Some(token) => ReadFreshness::AtLeast(token.clone()),
        None => ReadFreshness::Any,
    };
    let select = async |lease: Lease<Node>| {
        let question = "SELECT EXISTS (SELECT FROM writes WHERE id = $1)";
        let row = timeout(STATEMENT, async {
            let question = lease.prepare_cached(question).await?;
            lease.query_one(&question, &[&id]).await
        });
        let row = row.await??;
        Ok::<_, postgres::Error>((row.get(0), lease.why(), lease.node().to_owned()))
    };
    world.cluster.run(&Checkout::read(freshness), select).await
}

async fn check(world: &World, tally: &Tally, id: i64, token: &Token<Lsn>) -> Option<Why> {
    let until = Instant::now() + BOUND;
    loop {
        let mark = world.mark();
        match read(world, id, Some(token)).await {
            Ok((true, why, _)) => {
                tally.checked();
                return Some(why);
            }
            Ok((false, why, node)) => {
                tally.checked();
                tally.stale(&format!("write {id}, {token:?}: on {node}, {why:?}"));
            }
            Err(Error::NoRoute(none)) if none.reason == Reason::Diverged => {
                tally.checked();
                tally.diverged(id);
            }
            // Without a primary the replicas may lack it.
            Err(_) if !world.was_whole(mark) && Instant::now() < until => {
                tally.again();
                sleep(Duration::from_millis(20)).await;
                continue;
            }
            Err(error) if is_late(&error) && Instant::now() < until => {
                tally.late();
                sleep(Duration::from_millis(20)).await;
                continue;
            }
            Err(error) => {
                tally.checked();
                tally.failed(&format!("write {id}, {token:?}: {error:?}"));
            }
        }
        return None;
    }
}

/// No look at any node was answered in time, which is the fault of this machine.
fn is_late(error: &world::Error) -> bool {
    matches!(error, Error::NoRoute(none) if none.reason == Reason::NoNode)
}

/// A read without a token is answered whenever one node is healthy, which is always.
async fn check_any(world: &World, tally: &Tally) {
    let until = Instant::now() + BOUND;
    while let Err(error) = read(world, 0, None).await {
        if is_late(&error) && Instant::now() < until {
            tally.late();
            sleep(Duration::from_millis(20)).await;
            continue;
        }
        tally.failed(&format!("any: {error:?}"));
        break;
    }
    tally.checked();
}
