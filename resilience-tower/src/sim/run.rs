use std::sync::Arc;
use std::time::Duration;

use resilience_core::clock::SharedClock;
use tokio::{runtime, time::sleep};
use tower_service::Service;

use super::{
    clients::{Clients, Request},
    clock::VirtualClock,
    drive::{Driver, Judge, UPSTREAMS, WORLD, drive},
    log::Log,
    random::{Stream, nanos},
    report::{Report, UpstreamReport},
    service::UpstreamService,
    upstream::Upstream,
};

/// Upstreams, clients, and a seed from which all chance comes.
///
/// The same simulation may run several times, with the same or with other stacks; every run begins
/// afresh.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Simulation {
    seed: u64,
    upstreams: Vec<(String, Upstream)>,
    clients: Clients,
    instances: usize,
    bucket: Duration,
}

/// What a stack is built from: the upstreams, the clock, and seeds.
#[derive(Debug)]
pub struct World {
    clock: VirtualClock,
    upstreams: Vec<UpstreamService>,
    seeds: Stream,
    instance: usize,
}

impl Simulation {
    /// Without upstreams, with one call per second.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            upstreams: Vec::new(),
            clients: Clients::open(1.0),
            instances: 1,
            bucket: Duration::from_secs(1),
        }
    }

    /// Adds an upstream.
    pub fn upstream(mut self, name: &str, upstream: Upstream) -> Self {
        self.upstreams.push((name.to_owned(), upstream));
        self
    }

    /// Who calls.
    pub fn clients(mut self, clients: Clients) -> Self {
        self.clients = clients;
        self
    }

    /// So many processes call, each with a stack of its own. Of [open](Clients::open) arrivals each
    /// goes to one of them at random; users stay with theirs. Default 1.
    ///
    /// # Panics
    ///
    /// With 0.
    pub fn instances(mut self, instances: usize) -> Self {
        assert!(instances > 0, "a run has a stack");
        self.instances = instances;
        self
    }

    /// How long the spans are by which the report tells what happened. Default 1 s.
    ///
    /// # Panics
    ///
    /// With zero.
    pub fn bucket(mut self, width: Duration) -> Self {
        assert!(!width.is_zero(), "a bucket takes time");
        self.bucket = width;
        self
    }

    /// Lets the clients call a stack for as long as `duration`, and waits up to 60 s more for the
    /// last answers. All of it is virtual time.
    ///
    /// `stack` is called once per [instance](Self::instances), in the runtime of the run, so that it
    /// may spawn tasks. An `Err` is called `error` in the report.
    ///
    /// # Panics
    ///
    /// When called in a tokio runtime, which cannot run another; when a call panics.
    pub fn run<S>(&self, duration: Duration, stack: impl FnMut(&mut World) -> S) -> Report
    where
        S: Service<Request> + Clone + Send + 'static,
        S::Future: Send,
        S::Response: Send,
        S::Error: Send,
    {
        let judge = |result: Result<&S::Response, &S::Error>| match result {
            Ok(_) => Ok(()),
            Err(_) => Err("error"),
        };
        self.run_judged(duration, judge, stack)
    }

    /// As [`run`](Self::run), with names for what is not good: `judge` says what was wrong with a
    /// result, if something was.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_judged<S>(
        &self,
        duration: Duration,
        judge: impl Fn(Result<&S::Response, &S::Error>) -> Result<(), &'static str>
        + Send
        + Sync
        + 'static,
        stack: impl FnMut(&mut World) -> S,
    ) -> Report
    where
        S: Service<Request> + Clone + Send + 'static,
        S::Future: Send,
        S::Response: Send,
        S::Error: Send,
    {
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O needs nothing of the system");
        runtime.block_on(self.run_within(duration, judge, stack))
    }

    async fn run_within<S, J>(
        &self,
        duration: Duration,
        judge: J,
        mut stack: impl FnMut(&mut World) -> S,
    ) -> Report
    where
        S: Service<Request> + Clone + Send + 'static,
        S::Future: Send,
        S::Response: Send,
        S::Error: Send,
        J: Judge<S>,
    {
        let mut world = self.world();
        let stacks = (0..self.instances).map(|instance| {
            world.instance = instance;
            stack(&mut world)
        });
        let stacks: Vec<S> = stacks.collect();
        let clock = world.clock.clone();
        let driver = Arc::new(Driver {
            judge,
            clients: self.clients.clone(),
            clock: clock.clone(),
            log: Log::new(self.bucket, duration),
            end: nanos(duration),
        });
        drive(&driver, stacks, self.seed).await;
        let latest = nanos(duration + GRACE);
        while !driver.log.all_ended() && clock.nanos() < latest {
            sleep(STEP).await;
        }
        clock.stop();
        self.report(&driver.log, &world.upstreams)
    }

    fn world(&self) -> World {
        let clock = VirtualClock::new();
        let service = |(number, (name, model)): (u64, &(String, Upstream))| {
            let random = Stream::new(self.seed, UPSTREAMS + number);
            UpstreamService::new(name, model.clone(), random, clock.clone(), self.bucket)
        };
        World {
            upstreams: (0..).zip(&self.upstreams).map(service).collect(),
            clock: clock.clone(),
            seeds: Stream::new(self.seed, WORLD),
            instance: 0,
        }
    }

    fn report(&self, log: &Log, upstreams: &[UpstreamService]) -> Report {
        let mut buckets = log.finish();
        let last = buckets.len().saturating_sub(1);
        let upstream = |upstream: &UpstreamService| {
            let seen = upstream.seen();
            for (index, calls) in seen.calls.iter().enumerate() {
                if let Some(bucket) = buckets.get_mut(index.min(last)) {
                    bucket.upstream_calls += calls;
                }
            }
            UpstreamReport {
                name: upstream.name().to_owned(),
                calls: seen.calls.iter().sum(),
                by_bucket: seen.calls,
                abandoned: seen.abandoned,
                deaths: upstream.deaths(),
            }
        };
        let upstreams = upstreams.iter().map(upstream).collect();
        Report {
            seed: self.seed,
            width: self.bucket,
            buckets,
            upstreams,
        }
    }
}

impl World {
    /// The virtual time, for the policies; tokio's timers go by the same. It begins at zero.
    pub fn clock(&self) -> SharedClock {
        SharedClock::new(self.clock.clone())
    }

    /// The upstream of that name.
    ///
    /// # Panics
    ///
    /// When the simulation has none.
    pub fn upstream(&self, name: &str) -> UpstreamService {
        let mut upstreams = self.upstreams.iter();
        let found = upstreams.find(|upstream| upstream.name() == name);
        found.expect("the simulation has that upstream").clone()
    }

    /// All upstreams, in the order in which they were added.
    pub fn upstreams(&self) -> &[UpstreamService] {
        &self.upstreams
    }

    /// A number for a policy that takes a seed; another at each call, and the same in each run.
    pub fn seed(&mut self) -> u64 {
        self.seeds.bits()
    }

    /// Which of the [instances](Simulation::instances) is built, from 0 on.
    pub const fn instance(&self) -> usize {
        self.instance
    }

    /// Does something when the run has come to `time`: changes a setting, empties a cache.
    pub fn at(&self, time: Duration, action: impl FnOnce() + Send + 'static) {
        let time = self.clock.at(nanos(time));
        tokio::spawn(async move {
            tokio::time::sleep_until(time).await;
            action();
        });
    }
}

/// How long the last calls may take.
const GRACE: Duration = Duration::from_secs(60);

/// How often it is asked whether they have ended.
const STEP: Duration = Duration::from_millis(100);
