//! What goes wrong, one after another, until enough is checked.

use std::time::Duration;

use engines::postgres::Node;
use resilience_tower::read_write::{Checkout, postgres};
use tokio::time::{Instant, sleep};

use crate::{
    Failed,
    random::Random,
    tally::Tally,
    world::{BOUND, World},
};

/// What can go wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// Replay stands still on one replica, some or all.
    Pause,
    /// Replicas apply each commit up to 2 s late.
    Delay,
    /// A replica is killed and comes back.
    KillReplica,
    /// A replica stands still (SIGSTOP), and goes on.
    FreezeReplica,
    /// All replicas are killed and come back.
    KillReplicas,
    /// The primary stands still, longer than an answer counts, and goes on.
    FreezePrimary,
    /// The primary is killed and comes back as it was.
    Restart,
    /// The primary is killed, another takes over; the old one comes back writable, then as a replica.
    Failover,
    /// The same, after the replicas were cut off while writes went on.
    Cut,
    /// A replica is set back to an older state while it is cut off.
    SetBack,
}

impl Fault {
    const ALL: [Self; 10] = [
        Self::Pause,
        Self::Delay,
        Self::KillReplica,
        Self::FreezeReplica,
        Self::KillReplicas,
        Self::FreezePrimary,
        Self::Restart,
        Self::Failover,
        Self::Cut,
        Self::SetBack,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Delay => "delay",
            Self::KillReplica => "kill-replica",
            Self::FreezeReplica => "freeze-replica",
            Self::KillReplicas => "kill-replicas",
            Self::FreezePrimary => "freeze-primary",
            Self::Restart => "restart",
            Self::Failover => "failover",
            Self::Cut => "cut",
            Self::SetBack => "set-back",
        }
    }

    /// The faults of a list of names.
    pub(crate) fn named(names: &[String]) -> Result<Vec<Self>, Failed> {
        match names {
            [all] if all == "all" => return Ok(Self::ALL.to_vec()),
            [none] if none == "none" => return Ok(Vec::new()),
            _ => {}
        }
        let named = names.iter().map(|name| {
            let mut all = Self::ALL.into_iter();
            let known = || {
                format!(
                    "no fault is named {name}; there are {}",
                    Self::names(&Self::ALL)
                )
            };
            all.find(|fault| fault.name() == name)
                .ok_or_else(|| known().into())
        });
        named.collect()
    }

    /// Their names, with commas.
    pub(crate) fn names(faults: &[Self]) -> String {
        match faults {
            [] => "none".to_owned(),
            _ => faults
                .iter()
                .map(|fault| fault.name())
                .collect::<Vec<_>>()
                .join(","),
        }
    }
}

/// Injects faults until enough is checked; each is over before the next, and the last is as well.
pub(crate) async fn inject(
    world: &World,
    tally: &Tally,
    faults: &[Fault],
    mut random: Random,
) -> Result<(), Failed> {
    let mut left: Vec<Fault> = Vec::new();
    loop {
        wait(tally, 500).await;
        if tally.is_over() {
            return Ok(());
        }
        // Each once before any comes again.
        if left.is_empty() {
            left = faults.to_vec();
        }
        if left.is_empty() {
            continue;
        }
        let fault = left.swap_remove(random.below(left.len()));
        tally.injected(fault.name());
        world.disturb();
        let injected = once(world, tally, fault, &mut random).await;
        injected.map_err(|error| format!("{}: {error}", fault.name()))?;
        world
            .settle()
            .await
            .map_err(|error| format!("after {}: {error}", fault.name()))?;
        world.disturb();
    }
}

/// So many milliseconds, or less if enough is checked.
async fn wait(tally: &Tally, milliseconds: u64) {
    let until = Instant::now() + Duration::from_millis(milliseconds);
    while Instant::now() < until && !tally.is_over() {
        sleep(Duration::from_millis(10)).await;
    }
}

async fn once(
    world: &World,
    tally: &Tally,
    fault: Fault,
    random: &mut Random,
) -> Result<(), Failed> {
    let replicas = world.replicas()?;
    let one = *replicas
        .get(random.below(replicas.len().max(1)))
        .ok_or("no replica")?;
    match fault {
        Fault::Pause => {
            let some = &replicas[..=random.below(replicas.len())];
            for replica in some {
                replica.pause_replay().await?;
            }
            wait(tally, 1_000).await;
            for replica in some {
                replica.resume_replay().await?;
            }
        }
        Fault::Delay => {
            for delay in [250, 1_000, 2_000, 0] {
                for replica in &replicas {
                    replica
                        .set_apply_delay(Duration::from_millis(delay))
                        .await?;
                }
                wait(tally, delay.min(1_000)).await;
            }
        }
        Fault::KillReplica => {
            one.kill().await?;
            wait(tally, 500).await;
            one.start().await?;
        }
        Fault::FreezeReplica => {
            one.freeze().await?;
            wait(tally, 2_000).await;
            one.thaw()?;
        }
        Fault::KillReplicas => {
            for replica in &replicas {
                replica.kill().await?;
            }
            wait(tally, 500).await;
            for replica in &replicas {
                replica.start().await?;
            }
        }
        Fault::FreezePrimary => {
            let primary = world.primary()?;
            world.breaks();
            primary.freeze().await?;
            sleep(Duration::from_millis(2_000)).await;
            primary.thaw()?;
            first_write(world).await?;
            world.mended();
        }
        Fault::Restart => {
            let primary = world.primary()?;
            world.breaks();
            primary.kill().await?;
            sleep(Duration::from_millis(300)).await;
            primary.start().await?;
            first_write(world).await?;
            world.mended();
        }
        Fault::Failover => fail_over(world, tally, &replicas).await?,
        Fault::Cut => {
            for replica in &replicas {
                replica.stream().cut();
            }
            wait(tally, 300).await;
            let cut = fail_over(world, tally, &replicas).await;
            cut?;
        }
        Fault::SetBack => {
            let primary = world.primary()?;
            let backup = one.backup().await?;
            wait(tally, 300).await;
            one.stream().cut();
            one.restore(&backup, primary).await?;
            wait(tally, 500).await;
            one.stream().open();
        }
    }
    Ok(())
}

async fn fail_over(world: &World, tally: &Tally, replicas: &[&Node]) -> Result<(), Failed> {
    let old = world.primary()?;
    world.breaks();
    old.kill().await?;
    sleep(Duration::from_millis(200)).await;
    // Whoever has most: the others can follow it.
    let mut most = (0, replicas[0]);
    for replica in replicas {
        let received = match replica.received().await {
            Ok(received) => received.max(replica.position().await?),
            Err(_) => replica.position().await?,
        };
        if received >= most.0 {
            most = (received, *replica);
        }
    }
    let new = most.1;
    for replica in replicas {
        replica.stream().open();
    }
    new.promote().await?;
    let promoted = Instant::now();
    first_write(world).await?;
    tally.promoted(promoted.elapsed());
    for replica in replicas
        .iter()
        .filter(|replica| replica.name() != new.name())
    {
        replica.follow(new).await?;
    }
    world.mended();
    // It comes back writable, and must be given nothing.
    old.start().await?;
    let before = old.sql("SELECT count(*) FROM writes").await?;
    wait(tally, 1_000).await;
    let after = old.sql("SELECT count(*) FROM writes").await?;
    if before != after {
        tally.lost(&format!("{} was replaced, and took writes", old.name()));
    }
    old.rewind(new).await?;
    Ok(old.wait_streaming().await?)
}

/// A write that is acknowledged.
async fn first_write(world: &World) -> Result<(), Failed> {
    let id = -world.next_id();
    let checkout = Checkout::write().deadline(BOUND);
    let insert = async |mut lease: resilience_tower::read_write::Lease<postgres::Node>| {
        let begun = lease.transaction().await?;
        begun
            .execute("INSERT INTO writes VALUES ($1)", &[&id])
            .await?;
        begun.commit().await
    };
    let until = Instant::now() + BOUND;
    loop {
        match world.cluster.run(&checkout, insert).await {
            Ok(_) => return Ok(()),
            // As a service would: the breaker of a node that was killed may still be open.
            Err(error) if error.retry_after().is_some() && Instant::now() < until => {
                sleep(Duration::from_millis(10)).await;
            }
            Err(error) => return Err(format!("no write: {error:?}").into()),
        }
    }
}
