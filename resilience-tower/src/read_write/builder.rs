//! Settings of a cluster.

use std::{fmt, time::Duration};

use parking_lot::Mutex;
use resilience_core::{
    balance::{self, Endpoint},
    breaker,
    clock::SharedClock,
    retry::{BudgetConfig, RetryBudget},
    route::Router,
};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};

use super::{Cluster, Config, ConfigError, Node, buffer::Buffer, shared::Shared};

/// Unchecked settings of a [`Cluster`]; [`spawn`](Self::spawn) checks them.
///
/// Defaults: those of the router, the balancer and the breaker; a retry budget of its own; a look may
/// take a quarter of `observation_ttl` (250 ms), a connection 1 s; 1024 writes wait for a primary, each
/// for its deadline or 10 s; a read waits 250 ms for a node; a call is tried 3 times in all.
#[must_use]
pub struct Builder<N> {
    nodes: Vec<Endpoint<N>>,
    config: Config,
    balance: balance::Config,
    breaker: breaker::Config,
    cluster: Option<u64>,
    zone: Option<String>,
    clock: SharedClock,
    seed: Option<u64>,
    budget: Option<RetryBudget>,
    write_buffer: usize,
    write_wait: Duration,
    read_wait: Duration,
    observe_timeout: Option<Duration>,
    connect_timeout: Duration,
    max_attempts: u32,
}

/// The shortest and the longest time that a setting may ask for.
const SPAN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(86_400));

impl<N: Node> Builder<N> {
    pub(super) fn new(nodes: Vec<Endpoint<N>>) -> Self {
        Self {
            nodes,
            config: Config::default(),
            balance: balance::Config::default(),
            breaker: breaker::Config::default(),
            cluster: None,
            zone: None,
            clock: SharedClock::default(),
            seed: None,
            budget: None,
            // Some hundred bytes each: few enough not to matter.
            write_buffer: 1_024,
            // Longer than most failovers take, shorter than most callers wait.
            write_wait: Duration::from_secs(10),
            // Longer than a promotion hides the nodes, too short for callers to pile up.
            read_wait: Duration::from_millis(250),
            observe_timeout: None,
            connect_timeout: Duration::from_secs(1),
            max_attempts: 3,
        }
    }

    /// How calls are routed, and how often nodes are looked at.
    pub const fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// How a read chooses among the replicas that will do.
    pub const fn balance(mut self, config: balance::Config) -> Self {
        self.balance = config;
        self
    }

    /// The settings of the nodes' circuit breakers, of which each has one.
    pub fn breaker(mut self, config: breaker::Config) -> Self {
        self.breaker = config;
        self
    }

    /// The id of the only cluster whose nodes count; unless said, that of the first that answers.
    pub const fn cluster(mut self, id: u64) -> Self {
        self.cluster = Some(id);
        self
    }

    /// The zone of this process, whose replicas reads prefer; see
    /// [`Balancer::set_zone`](resilience_core::balance::Balancer::set_zone).
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// The clock of the router, the breakers and the budget. Waits are tokio's.
    pub fn clock(mut self, clock: impl Into<SharedClock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// The same choices for the same seed and calls.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// A budget that may be shared with other retries.
    pub fn retry_budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// How many writes may wait for a primary; 0: none, each is refused at once.
    pub const fn write_buffer(mut self, writes: usize) -> Self {
        self.write_buffer = writes;
        self
    }

    /// How long a write without a deadline waits for a primary in each attempt, and one with a deadline
    /// at most; 1 ms to 1 day.
    pub const fn write_wait(mut self, time: Duration) -> Self {
        self.write_wait = time;
        self
    }

    /// How long a read waits for a node where none is seen, in each attempt; up to 1 day, 0: not at all.
    pub const fn read_wait(mut self, time: Duration) -> Self {
        self.read_wait = time;
        self
    }

    /// How long a look at a node may take; 1 ms to `observation_ttl`.
    pub const fn observe_timeout(mut self, time: Duration) -> Self {
        self.observe_timeout = Some(time);
        self
    }

    /// How long a connection may take; 1 ms to 1 day.
    pub const fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// How often a call may be tried in all; 1 to 1000.
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Starts to look at the nodes, one task for each.
    ///
    /// # Errors
    ///
    /// The first setting out of its range, with its value and what is allowed: those above, more than
    /// 32 nodes, a name that comes twice, a weight above 1000.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with time enabled.
    pub fn spawn(self) -> Result<Cluster<N>, ConfigError> {
        span("write_wait", self.write_wait, SPAN.0, SPAN.1)?;
        span("read_wait", self.read_wait, Duration::ZERO, SPAN.1)?;
        span("connect_timeout", self.connect_timeout, SPAN.0, SPAN.1)?;
        if let Some(timeout) = self.observe_timeout {
            span(
                "observe_timeout",
                timeout,
                SPAN.0,
                self.config.observation_ttl(),
            )?;
        }
        if !(1..=1_000).contains(&self.max_attempts) {
            return Err(ConfigError::new(
                "max_attempts",
                self.max_attempts,
                "1 to 1000",
            ));
        }
        let clock = self.clock;
        let (config, balance, cluster) = (self.config, self.balance, self.cluster);
        let router = match self.seed {
            Some(seed) => Router::with_seed(config, balance, cluster, clock.clone(), seed),
            None => Router::with_clock(config, balance, cluster, clock.clone()),
        };
        router.balancer().set_zone(self.zone.as_deref());
        let budget = || RetryBudget::with_clock(BudgetConfig::default(), clock.clone());
        let shared = Shared {
            router,
            members: Mutex::default(),
            changes: watch::Sender::new(()),
            buffer: Buffer::new(self.write_buffer),
            budget: self.budget.unwrap_or_else(budget),
            counts: super::stats::Counts::default(),
            connect_timeout: self.connect_timeout,
            write_wait: self.write_wait,
            read_wait: self.read_wait,
            max_attempts: self.max_attempts,
            observe_timeout: self.observe_timeout,
            breaker: self.breaker,
            clock,
            runtime: Handle::current(),
            calls: 0.into(),
            draining: false.into(),
            idle: Notify::new(),
        };
        Cluster::made(shared, self.nodes)
    }
}

fn span(
    field: &'static str,
    value: Duration,
    least: Duration,
    most: Duration,
) -> Result<(), ConfigError> {
    let inside = (least..=most).contains(&value);
    let allowed = || format!("{least:?} to {most:?}");
    match inside {
        true => Ok(()),
        false => Err(ConfigError::new(
            field,
            format_args!("{value:?}"),
            allowed(),
        )),
    }
}

// By hand: an adapter need not have `Debug`.
impl<N> fmt::Debug for Builder<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .field("balance", &self.balance)
            .finish_non_exhaustive()
    }
}
