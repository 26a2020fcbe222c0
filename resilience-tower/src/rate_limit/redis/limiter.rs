use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::Client;
use resilience_core::breaker::{self, CircuitBreaker, OnCancel, OwnedPermit};
use resilience_core::clock::{Clock, SharedClock};
use resilience_core::rate_limit::store::{Ask as Next, Asked, Grant, Lease, Spent, Terms};
use resilience_core::rate_limit::{KeyedRateLimiter, Quota, QuotaError};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time;

use super::keys::{Hash, Keys};
use super::link::{Link, Progress};
use super::script::{Question, What};
use super::{Config, ConfigError, Decision, Later, OnOutage, RedisSnapshot};
use crate::rate_limit::{Admission, Ask, Outage, OutageCause, Refusal};

/// A rate limit that several processes keep together, in one Redis server or its like. Clones are
/// handles on the same one; so are, in effect, those of the same name in other processes.
///
/// See the [module](super) for what holds, and what an operator must know.
#[derive(Clone, Debug)]
pub struct RedisLimiter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Prefix and name.
    base: String,
    link: Link,
    config: ArcSwap<Config>,
    /// Of all calls together, and of keys.
    leased: Option<(Arc<Leased>, Keys<Leased>)>,
    breaker: CircuitBreaker,
    /// By the hash of the key; for [`OnOutage::Local`].
    local: Option<KeyedRateLimiter<Hash>>,
    clock: SharedClock,
    counts: Counts,
}

/// A bucket of which this process holds blocks.
#[derive(Debug)]
struct Leased {
    /// What Redis knows it by.
    key: String,
    hash: Hash,
    lease: Lease,
    /// How the last question for a block ended; those who wait for it listen.
    rounds: watch::Sender<Option<Outage>>,
}

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
    no_room: AtomicU64,
    open: AtomicU64,
    closed: AtomicU64,
    local: AtomicU64,
}

/// The most keys that a process limits by itself.
const LOCAL_KEYS: usize = 10_000;
/// Rounds that a call waits for: others may be quicker to spend what came.
const ROUNDS: u32 = 8;

impl RedisLimiter {
    /// A limiter at `redis://[[user]:password@]host[:port][/db]` or `redis+unix:///path`, on the default
    /// clock.
    ///
    /// Limits of the same prefix and `name` (1 to 64 of `A-Z a-z 0-9 . _ -`) are one. Does not
    /// connect yet: a process starts while Redis is down. See [`check`](Self::check). For
    /// `rediss://` (TLS), add the crate `redis` with one of its TLS features to your own
    /// dependencies.
    ///
    /// # Errors
    ///
    /// When the address cannot be read, or the name is not allowed.
    pub fn new(url: &str, name: &str, config: Config) -> Result<Self, ConfigError> {
        Self::with_clock(url, name, config, SharedClock::default())
    }

    /// As [`new`](Self::new); leases, the breaker, and limits without Redis are measured on a clock of
    /// one's own.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_clock(
        url: &str,
        name: &str,
        config: Config,
        clock: impl Into<SharedClock>,
    ) -> Result<Self, ConfigError> {
        ConfigError::check_name(name)?;
        let allowed = "redis://[[user]:password@]host[:port][/db]";
        let client =
            Client::open(url).map_err(|_| ConfigError::new("url", "not readable", allowed))?;
        let clock = clock.into();
        let base = format!("{}{name}", config.prefix());
        let leased = match config.terms.lease() {
            Some(_) => {
                let all = Leased::new(base.clone(), ALL, config.terms, &clock)?;
                Some((Arc::new(all), Keys::new(config.max_keys())))
            }
            None => None,
        };
        let local = config
            .local
            .map(|quota| KeyedRateLimiter::with_clock(quota, LOCAL_KEYS, clock.clone()));
        Ok(Self {
            inner: Arc::new(Inner {
                base,
                link: Link::new(client),
                leased,
                breaker: CircuitBreaker::with_clock(name, judging(&config)?, clock.clone()),
                local,
                clock,
                counts: Counts::default(),
                config: ArcSwap::from_pointee(config),
            }),
        })
    }

    /// The quota that all processes together keep to.
    pub fn quota(&self) -> Quota {
        self.inner.config.load().quota()
    }

    /// Changes the quota for this process; who decides (leased or not) stays. In Redis the missing
    /// share of the bucket stays, and until all processes have the new quota each takes by its own.
    ///
    /// # Errors
    ///
    /// As [`ConfigBuilder::build`](super::ConfigBuilder::build); nothing is changed then.
    pub fn set_quota(&self, quota: Quota) -> Result<(), ConfigError> {
        let inner = &*self.inner;
        let config = inner.config.load().with_quota(quota)?;
        let (terms, share) = (config.terms, config.local);
        // Before the keys are gone through: one that is new has the new terms.
        inner.config.store(Arc::new(config));
        if let Some((all, keys)) = &inner.leased {
            all.lease.set_terms(terms)?;
            // As leased terms are, and those were just taken.
            keys.for_each(|one| drop(one.lease.set_terms(terms)));
        }
        if let (Some(local), Some(quota)) = (&inner.local, share) {
            local.set_quota(quota);
        }
        Ok(())
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<Config> {
        self.inner.config.load_full()
    }

    /// The breaker in front of Redis: its state says whether Redis answers, its events when that
    /// changes. Opened by hand, it leaves Redis alone.
    pub fn breaker(&self) -> &CircuitBreaker {
        &self.inner.breaker
    }

    /// The figures of now.
    pub fn snapshot(&self) -> RedisSnapshot {
        let inner = &*self.inner;
        let counts = &inner.counts;
        // ORDERING: Relaxed. Statistics that publish nothing.
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RedisSnapshot {
            quota: self.quota(),
            lease: inner.leased.as_ref().map(|(all, _)| all.lease.snapshot()),
            keys: inner.leased.as_ref().map_or(0, |(_, keys)| keys.len()),
            max_keys: inner.leased.as_ref().map_or(0, |(_, keys)| keys.max()),
            evicted: inner.leased.as_ref().map_or(0, |(_, keys)| keys.evicted()),
            no_room: count(&counts.no_room),
            state: inner.breaker.state(),
            answered: count(&counts.answered),
            failed: count(&counts.failed),
            outage_open: count(&counts.open),
            outage_closed: count(&counts.closed),
            outage_local: count(&counts.local),
        }
    }

    /// Asks Redis whether a question would be answered, for a check at start or of readiness; takes
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`Outage`] when it does not answer in time, or refuses us.
    pub async fn check(&self) -> Result<(), Outage> {
        let inner = &*self.inner;
        let common = inner.config.load().terms.common();
        let question = Question {
            key: inner.base.clone(),
            quota: common,
            what: What::Grant(0, 0),
        };
        let permit = inner.permit()?;
        inner.ask(question, permit).await.map(drop)
    }

    /// Admits a call of cost `n` or refuses it; waits for Redis where that has to be asked. Cost 0
    /// is always admitted, a cost above what a bucket holds never.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: by the quota, or because Redis does not answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave taken what the call costs.
    ///
    /// # Panics
    ///
    /// When it has to ask Redis outside of a tokio runtime with time and I/O enabled.
    pub async fn acquire(&self, n: u32) -> Result<Admission, Refusal> {
        match self.decide_one(Ask::new(n)) {
            Decision::Now(answer) => answer,
            Decision::Later(later) => later.await,
        }
    }

    /// As [`acquire`](Self::acquire), counted for `key`; each key has the whole quota, and with leases
    /// blocks of its own.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_for(&self, key: &[u8], n: u32) -> Result<Admission, Refusal> {
        match self.decide_for(key, Ask::new(n)) {
            Decision::Now(answer) => answer,
            Decision::Later(later) => later.await,
        }
    }

    /// Gives back `n` permits of calls that were [admitted](Self::acquire) by Redis: never more than
    /// the burst is there. Nobody waits for it; what does not reach Redis stays taken.
    ///
    /// With leases nothing is given back: see [`store`](resilience_core::rate_limit::store). Nor is
    /// anything outside of a tokio runtime, or while the breaker is open.
    pub fn refund(&self, n: u32) {
        let inner = &self.inner;
        if n == 0 || inner.leased.is_some() {
            return;
        }
        let (Ok(runtime), Ok(permit)) = (Handle::try_current(), inner.permit()) else {
            return;
        };
        let question = Question {
            key: inner.base.clone(),
            quota: inner.config.load().terms.common(),
            what: What::Refund(n),
        };
        let inner = Arc::clone(inner);
        runtime.spawn(async move { inner.ask(question, permit).await });
    }

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.inner);
        move || weak.upgrade().map(|inner| Self { inner })
    }

    #[inline]
    pub(super) fn decide_one(&self, ask: Ask) -> Decision {
        match &self.inner.leased {
            Some((all, _)) => self.decide_leased(all, ask),
            None => self.decide_exactly(self.inner.base.clone(), ALL, ask),
        }
    }

    pub(super) fn decide_for(&self, key: &[u8], ask: Ask) -> Decision {
        let hash = Sha256::digest(key);
        // PANIC-FREE: a digest has 32 bytes.
        let hash: Hash = std::array::from_fn(|place| hash[place]);
        if let Some((_, keys)) = &self.inner.leased {
            match self.inner.leased_of(keys, hash) {
                Some(leased) => return self.decide_leased(&leased, ask),
                None => self.inner.counts.no_room.fetch_add(1, Ordering::Relaxed),
            };
        }
        self.decide_exactly(self.inner.key_of(hash), hash, ask)
    }

    #[inline]
    fn decide_leased(&self, leased: &Arc<Leased>, ask: Ask) -> Decision {
        match leased.lease.spend(ask.cost) {
            Spent::Yes => Decision::Now(Ok(self.inner.spent(ask))),
            Spent::AskSoon => {
                self.ask_ahead(leased);
                Decision::Now(Ok(self.inner.spent(ask)))
            }
            _ => self.decide_with(leased, ask),
        }
    }

    fn decide_exactly(&self, key: String, hash: Hash, ask: Ask) -> Decision {
        let config = self.inner.config.load_full();
        let quota = ask.quota.then(|| config.quota());
        if ask.cost == 0 {
            return Decision::Now(Ok(Admission::new(0, None, quota, 0)));
        }
        // Of leased terms a key without a lease draws on the same bucket as those with one.
        let terms = config.terms;
        if ask.cost > terms.max_cost() {
            let never = terms.limited(ask.cost, 0);
            return Decision::Now(Err(Refusal::limited(0, never, quota)));
        }
        let inner = Arc::clone(&self.inner);
        Decision::Later(Box::pin(async move {
            let question = Question {
                key,
                quota: terms.common(),
                what: What::Grant(ask.cost, ask.cost),
            };
            let answer = match inner.permit() {
                Ok(permit) => inner.ask(question, permit).await,
                Err(outage) => Err(outage),
            };
            match answer {
                Ok(grant) if grant.permits > 0 => {
                    let admitted = terms.admitted(grant.missing);
                    let back = if terms.lease().is_none() { ask.cost } else { 0 };
                    Ok(Admission::new(0, admitted, quota, back))
                }
                Ok(grant) => {
                    let limited = terms.limited(ask.cost, grant.missing);
                    Err(Refusal::limited(0, limited, quota))
                }
                Err(outage) => inner.without_redis(&hash, ask, outage),
            }
        }))
    }

    /// Decides a call that finds too little in the lease.
    #[cold]
    fn decide_with(&self, leased: &Arc<Leased>, ask: Ask) -> Decision {
        if let Some(limited) = leased.lease.refusal(ask.cost) {
            let quota = ask.quota.then(|| self.quota());
            return Decision::Now(Err(Refusal::limited(0, limited, quota)));
        }
        let later: Later = Box::pin(wait(self.clone(), Arc::clone(leased), ask));
        Decision::Later(later)
    }

    /// Asks for the next block, if it is time; nobody waits for it.
    #[cold]
    fn ask_ahead(&self, leased: &Arc<Leased>) {
        if Handle::try_current().is_err() {
            return;
        }
        if let Next::Now(asked) = leased.lease.ask(1, true) {
            // Where it fails the lease is spent to its end first.
            let _ = self.inner.fetch(leased, asked);
        }
    }
}

/// The key of a limit without keys, for the limit without Redis.
const ALL: Hash = [0; 16];

/// Waits until a call can be spent, or is refused.
async fn wait(limiter: RedisLimiter, leased: Arc<Leased>, ask: Ask) -> Result<Admission, Refusal> {
    let (inner, lease) = (&limiter.inner, &leased.lease);
    let most = 2 * inner.config.load().timeout();
    let quota = || ask.quota.then(|| limiter.quota());
    for _ in 0..ROUNDS {
        // Before the question: what is answered after this is not missed.
        let mut rounds = leased.rounds.subscribe();
        if matches!(lease.spend(ask.cost), Spent::Yes | Spent::AskSoon) {
            return Ok(inner.spent(ask));
        }
        match lease.ask(ask.cost, false) {
            Next::Refused(limited) => return Err(Refusal::limited(0, limited, quota())),
            Next::Now(asked) => {
                if let Err(outage) = inner.fetch(&leased, asked) {
                    return inner.without_redis(&leased.hash, ask, outage);
                }
            }
            Next::Wait => {}
            // It was granted between the two looks.
            _ => continue,
        }
        let outage = match time::timeout(most, rounds.changed()).await {
            Ok(Ok(())) => *rounds.borrow(),
            // The task that asks ends in time, or with its runtime.
            _ => Some(Outage::new(OutageCause::Timeout, most)),
        };
        if let Some(outage) = outage {
            return inner.without_redis(&leased.hash, ask, outage);
        }
    }
    // Others spent what came, round after round.
    let terms = lease.terms();
    let limited = terms.limited(ask.cost, terms.common().fill_time().as_nanos() as u64);
    Err(Refusal::limited(0, limited, quota()))
}

impl Leased {
    fn new(key: String, hash: Hash, terms: Terms, clock: &SharedClock) -> Result<Self, QuotaError> {
        Ok(Self {
            key,
            hash,
            lease: Lease::with_clock(terms, clock.clone())?,
            rounds: watch::Sender::new(None),
        })
    }
}

impl Inner {
    /// It was not taken in Redis by this call, and cannot be given back there.
    #[inline]
    fn spent(&self, ask: Ask) -> Admission {
        let quota = ask.quota.then(|| self.config.load().quota());
        Admission::new(0, None, quota, 0)
    }

    fn key_of(&self, hash: Hash) -> String {
        let hex = u128::from_be_bytes(hash);
        format!("{}:{hex:032x}", self.base)
    }

    /// What is held for a key; `None` if there is no room for it.
    fn leased_of(&self, keys: &Keys<Leased>, hash: Hash) -> Option<Arc<Leased>> {
        let idle = self.config.load().lease().unwrap_or_default();
        keys.get(&hash, self.clock.now(), idle, || {
            // Those of now: see `set_quota`.
            let terms = self.config.load().terms;
            Leased::new(self.key_of(hash), hash, terms, &self.clock).ok()
        })
    }

    /// Leave to ask Redis.
    fn permit(&self) -> Result<OwnedPermit, Outage> {
        let permit = self.breaker.try_acquire_owned();
        permit.map_err(|open| Outage::new(OutageCause::Breaker, open.retry_after()))
    }

    /// Asks in a task of its own, so that a caller that goes does not lose what was granted.
    fn fetch(self: &Arc<Self>, leased: &Arc<Leased>, asked: Asked) -> Result<(), Outage> {
        let permit = self.permit().inspect_err(|outage| {
            leased.lease.failed(&asked);
            leased.rounds.send_replace(Some(*outage));
        })?;
        let question = Question {
            key: leased.key.clone(),
            quota: asked.common(),
            what: What::Grant(asked.least(), asked.want()),
        };
        let fetch = Fetch {
            inner: Arc::clone(self),
            leased: Arc::clone(leased),
            asked: Some(asked),
        };
        tokio::spawn(async move {
            let answer = fetch.inner.ask(question, permit).await;
            fetch.end(answer);
        });
        Ok(())
    }

    async fn ask(&self, question: Question, permit: OwnedPermit) -> Result<Grant, Outage> {
        let timeout = self.config.load().timeout();
        let mut progress = Progress::default();
        let answer = question.ask(&self.link, &mut progress);
        let answer = time::timeout(timeout, answer).await;
        let cause = match answer {
            Ok(Ok(Some(grant))) => {
                permit.success();
                self.counts.answered.fetch_add(1, Ordering::Relaxed);
                return Ok(grant);
            }
            Ok(Ok(None)) => OutageCause::Answer,
            Ok(Err(error)) if error.is_io_error() || error.is_connection_dropped() => {
                OutageCause::Connection
            }
            Ok(Err(_)) => OutageCause::Answer,
            Err(_) => OutageCause::Timeout,
        };
        // Also after an answer by an error: it may be of a server that became a replica.
        self.link.give_up(&progress);
        permit.failure();
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        Err(Outage::new(cause, timeout))
    }

    /// Decides a call that Redis gave no answer to.
    fn without_redis(&self, hash: &Hash, ask: Ask, outage: Outage) -> Result<Admission, Refusal> {
        let config = self.config.load();
        let counts = &self.counts;
        let refused = || {
            counts.closed.fetch_add(1, Ordering::Relaxed);
            Err(Refusal::outage(outage))
        };
        match (config.on_outage(), &self.local) {
            (OnOutage::Open, _) => {
                counts.open.fetch_add(1, Ordering::Relaxed);
                Ok(self.spent(ask))
            }
            (OnOutage::Local(_), Some(local)) => {
                let quota = ask.quota.then(|| local.quota());
                match local.try_acquire_n(hash, ask.cost) {
                    Ok(admitted) => {
                        counts.local.fetch_add(1, Ordering::Relaxed);
                        Ok(Admission::new(0, admitted, quota, 0))
                    }
                    // Above the share's burst, but not above the quota's.
                    Err(limited) if limited.retry_after.is_none() => refused(),
                    Err(limited) => Err(Refusal::limited(0, limited, quota)),
                }
            }
            _ => refused(),
        }
    }
}

/// A question under way; dropped without an answer, it has failed.
struct Fetch {
    inner: Arc<Inner>,
    leased: Arc<Leased>,
    asked: Option<Asked>,
}

impl Fetch {
    fn end(mut self, answer: Result<Grant, Outage>) {
        let Some(asked) = self.asked.take() else {
            return;
        };
        match answer {
            Ok(grant) => self.leased.lease.granted(&asked, grant),
            Err(_) => self.leased.lease.failed(&asked),
        }
        self.leased.rounds.send_replace(answer.err());
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if let Some(asked) = self.asked.take() {
            self.leased.lease.failed(&asked);
            // Its runtime ended.
            let outage = Outage::new(OutageCause::Connection, Duration::from_millis(1));
            self.leased.rounds.send_replace(Some(outage));
        }
    }
}

/// The settings of the breaker in front of Redis.
fn judging(config: &Config) -> Result<breaker::Config, ConfigError> {
    breaker::Config::builder()
        .failure_rate(None)
        .count_window(None)
        .consecutive_failures(config.failures())
        .half_open_permits(1)
        .reset_timeout(config.reset_timeout())
        .max_reset_timeout((10 * config.reset_timeout()).min(Duration::from_secs(86_400)))
        .jitter(0.1)
        // Callers that give up sooner than we do must not hide that Redis hangs.
        .on_cancel(OnCancel::FailureAfter(config.timeout() / 4))
        .build()
        .map_err(|error| ConfigError::new(error.field, error.value, error.allowed))
}
