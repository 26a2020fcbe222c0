//! A replay store in Redis, for several receivers of one sender.

mod link;
mod script;

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{Client, Cmd, ErrorKind, RedisError, RedisResult};
use tokio::{runtime::Handle, sync::Semaphore, time::error::Elapsed};

use self::link::{Link, Progress};
use super::{ReplayKey, ReplayStore, Reserve, StoreError, StoreFuture, Times, Token};

/// A store that all receivers share, in one Redis server (2.6.12 or newer) or its like.
///
/// A delivery is one key: the prefix and the replay key in hex. `SET key token NX PX lease`
/// reserves it; of any number of receivers that do so at once, one gets it. Scripts commit
/// it for its lifetime and release it if it is still held under the token. Redis measures
/// lease and lifetime by its own clock.
///
/// # Outages
/// Every answer comes within the [timeout](RedisOptions::timeout), connecting included; it
/// never hangs, and never waits for a reconnect that takes longer. What happens then:
///
/// | | what the store does | the verifier |
/// |---|---|---|
/// | server killed, refusing or unreachable | `Err(Outage)` | refuses (503), or accepts if told to by [`insecure_accept_on_replay_outage`] |
/// | server paused (stopped process, long script, slow disk) | `Err(Outage)` after the timeout | the same |
/// | server back | connects by itself with the next call | as before |
/// | server back, but empty | what it had seen is forgotten | accepts a delivery again, once, if its timestamp is still in tolerance |
/// | server at `maxmemory` | `Err(Full)` | refuses (503) in any case |
///
/// A command that was sent and not answered may run later. So a reservation that failed or
/// was dropped after that is given back by a task, and an unanswered commit is tried again
/// by a task: five attempts in about ten seconds, at most 1024 such tasks at once. What
/// they cannot do any more, the lease ends.
///
/// # Operation
/// Set `maxmemory-policy noeviction`: any other one forgets deliveries early, and with it
/// the protection, without an error. Persistence (`appendonly yes`) decides what a restart
/// forgets. A failover to a replica loses what was not replicated yet. So this store is a
/// filter; for effects that must happen exactly once, put a unique row in the transaction
/// that has the effect.
///
/// # Runtime
/// Needs a tokio runtime with time and I/O; polled outside of one it panics, as all of tokio
/// does. Releasing outside of one leaves the delivery to its lease.
///
/// [`insecure_accept_on_replay_outage`]: crate::Builder::insecure_accept_on_replay_outage
pub struct RedisReplayStore {
    link: Arc<Link>,
    options: RedisOptions,
    hands: Arc<Semaphore>,
    lost: AtomicU64,
    tokens: RandomState,
    next_token: AtomicU64,
}

/// Settings of a [`RedisReplayStore`].
///
/// Defaults: timeout 500 ms, prefix `webhook-verify:`.
#[derive(Clone, Debug)]
#[must_use]
pub struct RedisOptions {
    timeout: Duration,
    prefix: String,
}

/// A URL that is not one of a Redis server. It is not repeated here: it may hold a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the Redis URL cannot be read; it has the form redis://[[user]:password@]host[:port][/db]")]
#[non_exhaustive]
pub struct RedisUrlError;

/// Tasks that give back or commit after the call that should have.
const MOST_HANDED_OVER: u32 = 1024;

/// Between the attempts of such a task.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1600),
    Duration::from_millis(6400),
];

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(500),
            prefix: "webhook-verify:".to_owned(),
        }
    }
}

impl RedisOptions {
    /// How long one answer may take, connecting included. Below what connecting takes, the
    /// store is never in order.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What every key begins with. Receivers that share deliveries must have the same.
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }
}

impl RedisReplayStore {
    /// A store at `redis://[[user]:password@]host[:port][/db]` or `redis+unix:///path`.
    ///
    /// Does not connect yet: a receiver starts while Redis is down, and refuses (or accepts)
    /// as its verifier is told to. See [`check`](Self::check). For `rediss://` (TLS), add
    /// the crate `redis` with one of its TLS features to your own dependencies.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub fn new(url: &str, options: RedisOptions) -> Result<Self, RedisUrlError> {
        let client = Client::open(url).map_err(|_| RedisUrlError)?;
        Ok(Self {
            link: Arc::new(Link::new(client, options.timeout)),
            options,
            hands: Arc::new(Semaphore::new(MOST_HANDED_OVER as usize)),
            lost: AtomicU64::new(0),
            tokens: RandomState::new(),
            next_token: AtomicU64::new(0),
        })
    }

    /// Asks the server whether it is there, for a check at start or of readiness.
    ///
    /// # Errors
    /// [`StoreError::Outage`] when it does not answer in time, or refuses us.
    pub async fn check(&self) -> Result<(), StoreError> {
        let mut call = Call::new(self, None);
        let ping = redis::cmd("PING");
        let answer = self.link.ask::<redis::Value>(&ping, &mut call.progress);
        let answer = tokio::time::timeout(self.options.timeout, answer).await;
        call.end(answer).map(drop)
    }

    /// Waits until no release or commit is left that was handed over to a task: call it
    /// before the runtime ends, or the leases have to.
    ///
    /// Takes about ten seconds and five timeouts at most, if nothing new is handed over.
    pub async fn settle(&self) {
        // An error would mean that the semaphore is closed, which nobody does.
        drop(self.hands.acquire_many(MOST_HANDED_OVER).await);
    }

    /// Releases and commits given up so far (no runtime, too many at once, or too long an
    /// outage). A lost release keeps a retry out until the lease ends; a lost commit lets one
    /// in after it.
    #[must_use]
    pub fn lost(&self) -> u64 {
        // ORDERING: Relaxed. A statistic that publishes nothing else.
        self.lost.load(Ordering::Relaxed)
    }

    async fn try_reserve(&self, key: ReplayKey, times: Times) -> Result<Reserve, StoreError> {
        let key = self.key(&key);
        let token = self.token();
        let mut call = Call::new(self, Some(script::release(&key, token)));
        let reserve = reserve(&self.link, &mut call.progress, &key, token, times);
        let answer = tokio::time::timeout(self.options.timeout, reserve).await;
        call.end(answer)
    }

    async fn try_commit(
        &self,
        key: ReplayKey,
        token: Token,
        times: Times,
    ) -> Result<(), StoreError> {
        let commit = script::commit(&self.key(&key), token, times.lifetime);
        let mut call = Call::new(self, Some(commit.clone()));
        // Also when it was not sent: the handler has run, and nobody else will commit.
        call.hand_over_always = true;
        let answer = self.link.ask::<bool>(&commit, &mut call.progress);
        let answer = tokio::time::timeout(self.options.timeout, answer).await;
        if !call.end(answer)? {
            // Remembered all the same, but another handler may have run beside this one.
            tracing::warn!("webhook handled for longer than its lease");
        }
        Ok(())
    }

    /// Runs `command` in a task of its own, if there is a runtime and room.
    fn hand_over(&self, command: Cmd) {
        let task = Handle::try_current()
            .ok()
            .zip(Arc::clone(&self.hands).try_acquire_owned().ok());
        let Some((runtime, permit)) = task else {
            // ORDERING: as in `lost`.
            self.lost.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("webhook replay store: a delivery is left to its lease");
            return;
        };
        let link = Arc::clone(&self.link);
        let timeout = self.options.timeout;
        runtime.spawn(async move {
            let _permit = permit;
            for pause in PAUSES.map(Some).into_iter().chain([None]) {
                let mut progress = Progress::default();
                let answer = link.ask::<redis::Value>(&command, &mut progress);
                match tokio::time::timeout(timeout, answer).await {
                    Ok(Ok(_)) => return,
                    Ok(Err(_)) => {}
                    Err(_) => link.give_up(&progress),
                }
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
            }
            tracing::warn!("webhook replay store: a delivery is left to its lease");
        });
    }

    fn key(&self, key: &ReplayKey) -> String {
        format!(
            "{}{}",
            self.options.prefix,
            crate::encoding::hex_encode(key)
        )
    }

    /// Unlike every other receiver's: a hash under a seed of the system's randomness.
    fn token(&self) -> Token {
        // ORDERING: Relaxed. Only the number is used; it is unique in any order.
        let number = self.next_token.fetch_add(1, Ordering::Relaxed);
        Token(self.tokens.hash_one(number))
    }
}

async fn reserve(
    link: &Link,
    progress: &mut Progress,
    key: &str,
    token: Token,
    times: Times,
) -> RedisResult<Reserve> {
    let set = script::reserve(key, token, times.lease);
    // Twice: whoever held the key may be gone when we ask who it is.
    for _ in 0..2 {
        if link.ask::<Option<String>>(&set, progress).await?.is_some() {
            return Ok(Reserve::Reserved(token));
        }
        let (holder, left_ms) = link
            .ask::<(String, i64)>(&script::look(key), progress)
            .await?;
        match script::Holder::read(&holder, token) {
            script::Holder::Nobody => {}
            // Our own first try, whose answer was lost with its connection.
            script::Holder::Us => return Ok(Reserve::Reserved(token)),
            script::Holder::Committed => return Ok(Reserve::Duplicate),
            script::Holder::Other => {
                // Without an end (somebody else's `SET`): the longest wait we can name.
                let left = u64::try_from(left_ms).map_or(times.lease, Duration::from_millis);
                return Ok(Reserve::InFlight(left));
            }
        }
    }
    Ok(Reserve::InFlight(Duration::from_millis(1)))
}

impl ReplayStore for RedisReplayStore {
    fn reserve(&self, key: ReplayKey, times: Times) -> StoreFuture<'_, Reserve> {
        StoreFuture::waiting(self.try_reserve(key, times))
    }

    fn commit(&self, key: ReplayKey, token: Token, times: Times) -> StoreFuture<'_, ()> {
        StoreFuture::waiting(self.try_commit(key, token, times))
    }

    fn release(&self, key: ReplayKey, token: Token) {
        self.hand_over(script::release(&self.key(&key), token));
    }
}

impl std::fmt::Debug for RedisReplayStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisReplayStore")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// One call. Dropped before its end, it hands over what puts things in order.
struct Call<'a> {
    store: &'a RedisReplayStore,
    progress: Progress,
    /// `None` once nothing has to be put in order.
    afterwards: Option<Cmd>,
    hand_over_always: bool,
}

impl<'a> Call<'a> {
    fn new(store: &'a RedisReplayStore, afterwards: Option<Cmd>) -> Self {
        Self {
            store,
            progress: Progress::default(),
            afterwards,
            hand_over_always: false,
        }
    }

    fn end<T>(mut self, answer: Result<RedisResult<T>, Elapsed>) -> Result<T, StoreError> {
        match answer {
            Ok(Ok(answer)) => {
                self.afterwards = None;
                Ok(answer)
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "webhook replay store is out of order");
                let error = StoreError::from_server(&error);
                if let Some(error) = error
                    && !self.hand_over_always
                {
                    // The server said no, so there is nothing to undo.
                    self.afterwards = None;
                    return Err(error);
                }
                Err(error.unwrap_or(StoreError::Outage))
            }
            Err(_) => {
                tracing::warn!(timeout = ?self.store.options.timeout, "webhook replay store does not answer");
                self.store.link.give_up(&self.progress);
                Err(StoreError::Outage)
            }
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(command) = self.afterwards.take()
            && (self.progress.sent || self.hand_over_always)
        {
            self.store.hand_over(command);
        }
    }
}

impl StoreError {
    /// What the server's own error means; `None` if it is not the server's.
    fn from_server(error: &RedisError) -> Option<Self> {
        match (error.kind(), error.code()) {
            (_, Some("OOM")) => Some(Self::Full),
            (ErrorKind::Server(_) | ErrorKind::Extension, _) => Some(Self::Outage),
            _ => None,
        }
    }
}
