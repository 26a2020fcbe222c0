#![doc = include_str!("../README.md")]

mod faults;
mod load;
mod random;
mod tally;
mod world;

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use resilience_tower::read_write::Why;
use tokio::time::{Instant, interval};

use self::{faults::Fault, random::Random, tally::Tally, world::World};

/// Mixed load on a real PostgreSQL cluster while faults are injected.
///
/// Counts stale reads, writes that are lost without a word, and failed reads: all must be 0.
#[derive(Debug, Parser)]
#[command(name = "check-consistency")]
struct Arguments {
    /// Reads that are checked.
    #[arg(long, default_value_t = 100_000)]
    checks: u64,
    /// What the load and the order of the faults are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The faults to inject, by name: `all`, `none`, or a list with commas.
    #[arg(long, default_value = "all", value_delimiter = ',')]
    faults: Vec<String>,
    /// How many tasks write and read.
    #[arg(long, default_value_t = 16)]
    tasks: u64,
    /// How long a task thinks between a write and the first read of it, in ms: one of these, with commas.
    #[arg(long, default_value = "0,1,5,50", value_delimiter = ',')]
    think: Vec<u64>,
    /// The most reads after a write.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
    reads: u64,
    /// Replicas beside the primary.
    #[arg(long, default_value_t = 3)]
    replicas: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let run = async {
        let faults = Fault::named(&arguments.faults)?;
        check(&arguments, &faults).await
    };
    let ended = tokio::select! {
        ended = run => ended,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("check-consistency: {error}");
            ExitCode::from(2)
        }
    }
}

/// Why the check could not be made.
type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn check(arguments: &Arguments, faults: &[Fault]) -> Result<bool, Failed> {
    let began = Instant::now();
    let world = Arc::new(World::start(arguments.replicas).await?);
    println!(
        "{} servers after {:.1} s; seed {}, {} tasks, faults: {}",
        arguments.replicas + 1,
        began.elapsed().as_secs_f64(),
        arguments.seed,
        arguments.tasks,
        Fault::names(faults),
    );
    let tally = Arc::new(Tally::new(arguments.checks, &arguments.think));
    let reads = usize::try_from(arguments.reads)?;
    let seed = |stream| Random::new(arguments.seed, stream);
    let load: Vec<_> = (1..=arguments.tasks)
        .map(|task| {
            tokio::spawn(load::run(
                Arc::clone(&world),
                Arc::clone(&tally),
                seed(task),
                reads,
            ))
        })
        .collect();
    let began = Instant::now();
    let progress = async {
        let mut ticks = interval(Duration::from_secs(5));
        ticks.tick().await;
        loop {
            ticks.tick().await;
            println!("{:4} s  {tally}", began.elapsed().as_secs());
        }
    };
    let faults = faults::inject(&world, &tally, faults, seed(0));
    tokio::select! {
        injected = faults => injected?,
        () = progress => {}
    }
    for task in load {
        task.await?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let told = world.cluster.snapshot().route;
    world.settle().await?;
    tally.compare(&world).await?;
    println!("{tally}");
    println!(
        "{:.0} checks/s and {:.0} writes/s by {} tasks over {seconds:.0} s",
        tally.checks() / seconds,
        tally.writes() / seconds,
        arguments.tasks,
    );
    println!(
        "reads on replicas {}, on the primary {}; told to look at a replica {}, to wait {}, to look at all {}",
        told.routed(Why::Fresh) + told.routed(Why::LastResort),
        told.routed(Why::Spilled),
        told.probes,
        told.waits,
        told.observes,
    );
    tally.print_shares();
    Ok(tally.is_clean())
}
