//! Where statements go, and what comes of them.

use std::{error, fmt, iter, str::FromStr, sync::Arc, time::Duration};

use resilience_core::{
    balance::Endpoint,
    breaker::{CircuitBreaker, Error as BreakerError, Outcome, classify_fn},
    route::Lsn,
};
use resilience_tower::read_write::{
    Checkout, Cluster, ConfigError, Error, Lease, ReadFreshness, Reason, Signer, SigningKey, Token,
    VerifyError, Why,
    postgres::{self, Node, Transaction},
};
use sha2::{Digest, Sha256};
use tokio_postgres::Config;

use super::{
    figures::{self, Wait},
    migrations,
};
use crate::{
    metrics::Metrics,
    ports::{Mark, See, StoreError},
    settings::Settings,
};

/// The nodes of the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodesError {
    /// A URL that is none; the URL itself may hold a password.
    #[error("database.nodes[{index}] is no postgres:// URL of one host")]
    Url {
        /// Counted from 0.
        index: usize,
    },
    /// The cluster refuses its settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key of the marks.
    #[error("the key of the marks cannot be used")]
    Key,
    /// The tables could not be brought up to date.
    #[error("cannot migrate the database: {0}")]
    Migrate(StoreError),
}

/// A handle to the cluster; clones share the connections.
#[derive(Clone)]
pub struct Postgres {
    cluster: Cluster<Node>,
    signer: Signer,
    breaker: CircuitBreaker,
    metrics: Metrics,
    /// The replicas of the settings, in their order.
    replicas: Arc<[Arc<str>]>,
    /// Whether aggregations may run on the primary when no replica is left.
    reports_on_primary: bool,
    patience: Duration,
}

impl Postgres {
    /// Looks at the nodes of the settings, the first of which is the primary when all is well, and
    /// runs the migrations.
    ///
    /// # Errors
    ///
    /// [`NodesError`].
    pub async fn open(
        settings: &Settings,
        breaker: CircuitBreaker,
        metrics: Metrics,
    ) -> Result<Self, NodesError> {
        let database = &settings.database;
        let mut nodes = Vec::new();
        let mut names: Vec<Arc<str>> = Vec::new();
        for (index, url) in database.nodes.iter().enumerate() {
            let config = Config::from_str(url.expose()).map_err(|_| NodesError::Url { index })?;
            let name = name_of(&config).ok_or(NodesError::Url { index })?;
            let mut node = Node::builder(config).pool_size(database.pool_size as usize);
            if let Some(function) = &database.history_function {
                node = node.history_function(function);
            }
            nodes.push(Endpoint::new(name.clone(), node.build()));
            names.push(name.into());
        }
        let cluster = Cluster::builder(nodes)
            .config(database.route)
            .balance(database.balance)
            .connect_timeout(database.wait_limit)
            .write_wait(database.write_wait)
            .read_wait(database.read_wait)
            .spawn()?;
        figures::show(&cluster, database.pool_size, &metrics);
        let postgres = Self {
            cluster,
            signer: signer(settings).ok_or(NodesError::Key)?,
            breaker,
            metrics,
            replicas: names.into_iter().skip(1).collect(),
            reports_on_primary: database.reports_on_primary,
            patience: database.patience,
        };
        migrations::run(&postgres)
            .await
            .map_err(NodesError::Migrate)?;
        Ok(postgres)
    }

    /// The cluster, for its figures and its settings.
    #[must_use]
    pub fn cluster(&self) -> &Cluster<Node> {
        &self.cluster
    }

    /// The name of the replica of that number, counted from 0.
    #[must_use]
    pub fn replica(&self, index: usize) -> Option<&Arc<str>> {
        self.replicas.get(index)
    }

    /// Whether a read gets an answer; for readiness.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when it gets none.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let ping = |client: Client| async move {
            client.simple_query("SELECT 1").await?;
            Ok(())
        };
        self.read(&See::Any, ping).await
    }

    /// Runs `work` on a node that shows what is to be seen; again elsewhere if that one fails.
    pub(super) async fn read<T, R>(
        &self,
        see: &See,
        work: impl Fn(Client) -> R,
    ) -> Result<T, StoreError>
    where
        R: Future<Output = Result<T, Failure>>,
    {
        let checkout = Checkout::read(self.freshness(see)?).deadline(self.patience);
        let wait = Wait::begin(&self.metrics, "read");
        let read = self.cluster.run(&checkout, |client| {
            wait.ended();
            let node = client.node().to_owned();
            self.metrics.store_query(node, "read", told(work(client)))
        });
        self.guard(async { read.await.map_err(refused(false))?.map_err(corrupt) })
            .await
    }

    /// The same for the aggregation `name`, which is meant for the replica `pin`.
    pub(super) async fn report<T, R>(
        &self,
        name: &'static str,
        pin: usize,
        work: impl Fn(Client) -> R,
    ) -> Result<T, StoreError>
    where
        R: Future<Output = Result<T, Failure>>,
    {
        let mut checkout = Checkout::read(ReadFreshness::Any).deadline(self.patience);
        let pinned = self.replica(pin);
        if let Some(pinned) = pinned {
            checkout = checkout.prefer(Arc::clone(pinned));
        }
        let wait = Wait::begin(&self.metrics, "read");
        let read = self.cluster.run(&checkout, |client| {
            wait.ended();
            let node = client.node();
            let spilled = client.why() == Why::Spilled && !self.reports_on_primary;
            if pinned.is_some_and(|pinned| **pinned != *node) {
                self.metrics.pipeline_deviated(name, node);
            }
            let node = node.to_owned();
            let work =
                (!spilled).then(|| self.metrics.store_query(node, "read", told(work(client))));
            async move {
                match work {
                    Some(work) => work.await,
                    None => Ok(Err(Stop::Primary)),
                }
            }
        });
        self.guard(async { read.await.map_err(refused(false))?.map_err(corrupt) })
            .await
    }

    /// Runs `work`, which is one transaction with its [`commit`], on the primary. It may run again
    /// where it did not commit.
    pub(super) async fn write<T, R>(
        &self,
        work: impl Fn(Client) -> R,
    ) -> Result<(T, Mark), StoreError>
    where
        R: Future<Output = Result<Committed<T>, Failure>>,
    {
        let checkout = Checkout::write().deadline(self.patience);
        let wait = Wait::begin(&self.metrics, "write");
        let write = self.cluster.run(&checkout, |client| {
            wait.ended();
            let node = client.node().to_owned();
            self.metrics.store_query(node, "write", told(work(client)))
        });
        self.guard(async {
            let committed = write.await.map_err(refused(true))?.map_err(corrupt)?;
            let mark = committed.token.and_then(|t| self.signer.sign(&t).ok());
            // Committed, and nobody knows how far: only the primary surely has it.
            let mark = mark.unwrap_or_else(|| NEWEST.to_owned());
            Ok((committed.value, Mark(mark)))
        })
        .await
    }

    fn freshness(&self, see: &See) -> Result<ReadFreshness<Lsn>, StoreError> {
        Ok(match see {
            See::Any => ReadFreshness::Any,
            See::Newest => ReadFreshness::Primary,
            See::After(Mark(mark)) if mark == NEWEST => ReadFreshness::Primary,
            See::After(Mark(mark)) => {
                match self.signer.verify(mark) {
                    Ok(token) => ReadFreshness::AtLeast(token),
                    // Whoever may read has had it for long.
                    Err(VerifyError::Expired { .. }) => ReadFreshness::Any,
                    Err(error) => {
                        return Err(StoreError::BadMark {
                            reason: error.to_string(),
                        });
                    }
                }
            }
        })
    }

    /// Behind the database breaker, which is before the split: it opens when nodes are asked and do
    /// not answer.
    async fn guard<T>(
        &self,
        work: impl Future<Output = Result<T, Refused>>,
    ) -> Result<T, StoreError> {
        let classify = classify_fn(|result: Result<&T, &Refused>| match result {
            Ok(_) => Outcome::Success,
            Err(refused) => refused.outcome,
        });
        match self.breaker.call_with(&classify, work).await {
            Ok(value) => Ok(value),
            Err(BreakerError::Inner(refused)) => Err(refused.error),
            Err(BreakerError::Rejected(rejected)) => Err(StoreError::Unavailable {
                reason: rejected.to_string(),
                retry_after: rejected.retry_after(),
            }),
            Err(_) => Err(StoreError::Unavailable {
                reason: "the database breaker refuses".to_owned(),
                retry_after: RETRY_AFTER,
            }),
        }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

/// What a piece of work gets: a connection to its node.
pub(super) type Client = Lease<Node>;

/// What a transaction did.
pub(super) struct Committed<T> {
    value: T,
    /// `None` if it is committed, and the node did not tell where.
    token: Option<Token<Lsn>>,
}

/// Ends a transaction that has done `value`.
pub(super) async fn commit<T>(tx: Transaction<'_>, value: T) -> Result<Committed<T>, Failure> {
    let token = match tx.commit().await {
        Ok(token) => Some(token),
        Err(postgres::Error::NoToken(_)) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Committed { value, token })
}

/// Ends a transaction that has changed nothing, and may have failed in it.
pub(super) async fn roll_back<T>(tx: Transaction<'_>, value: T) -> Result<Committed<T>, Failure> {
    tx.rollback().await?;
    Ok(Committed { value, token: None })
}

/// What went wrong inside a piece of work.
pub(super) enum Failure {
    Node(postgres::Error),
    Corrupt(String),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Node(error.into())
    }
}

impl From<postgres::Error> for Failure {
    fn from(error: postgres::Error) -> Self {
        Self::Node(error)
    }
}

/// Why work ended without trouble of the node.
enum Stop {
    Corrupt(String),
    /// The primary was all that was left, and is not allowed.
    Primary,
}

/// The result of `work` as the cluster judges it: what cannot be read is no trouble of the node.
async fn told<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<Result<T, Stop>, postgres::Error> {
    match work.await {
        Ok(value) => Ok(Ok(value)),
        Err(Failure::Node(error)) => Err(error),
        Err(Failure::Corrupt(what)) => Ok(Err(Stop::Corrupt(what))),
    }
}

/// Why a caller gets nothing, and what that says of the database.
struct Refused {
    error: StoreError,
    outcome: Outcome,
}

fn corrupt(stop: Stop) -> Refused {
    let error = match stop {
        Stop::Corrupt(reason) => StoreError::Corrupt { reason },
        Stop::Primary => StoreError::Unavailable {
            reason: "no replica for an aggregation".to_owned(),
            retry_after: RETRY_AFTER,
        },
    };
    Refused {
        error,
        outcome: Outcome::Success,
    }
}

/// What a call that got no answer is told.
fn refused(writes: bool) -> impl Fn(Error<postgres::Error>) -> Refused {
    move |error| Refused {
        outcome: match &error {
            Error::Inner(_) => Outcome::Success,
            Error::Unreachable { .. } => Outcome::Failure,
            Error::Deadline if !writes => Outcome::Failure,
            // Nobody was asked: the split knows who may be, and opens nothing for long. That nobody
            // takes writes is no reason to refuse reads.
            _ => Outcome::Ignored,
        },
        error: store_error(&error, writes),
    }
}

fn store_error(error: &Error<postgres::Error>, writes: bool) -> StoreError {
    let retry_after = error.retry_after();
    match error {
        Error::NoRoute(no) => match no.reason {
            Reason::Diverged => StoreError::Lost {
                reason: error.to_string(),
            },
            Reason::Foreign | Reason::Future => StoreError::BadMark {
                reason: error.to_string(),
            },
            Reason::NoPrimary | Reason::Conflict => StoreError::NoPrimary {
                retry_after: retry_after.unwrap_or(RETRY_AFTER),
            },
            _ => unavailable(error, retry_after),
        },
        Error::BufferFull { .. } => StoreError::NoPrimary {
            retry_after: retry_after.unwrap_or(RETRY_AFTER),
        },
        Error::OutcomeUnknown { .. } => StoreError::Unknown {
            reason: error.to_string(),
        },
        // It waited for a primary all the time.
        Error::Deadline if writes => StoreError::NoPrimary {
            retry_after: RETRY_AFTER,
        },
        _ => unavailable(error, retry_after),
    }
}

fn unavailable(error: &(dyn error::Error + 'static), retry_after: Option<Duration>) -> StoreError {
    // What the server says stands behind what the client says.
    let causes = iter::successors(Some(error), |error| error.source());
    let reason: Vec<_> = causes.map(ToString::to_string).collect();
    StoreError::Unavailable {
        reason: reason.join(": "),
        retry_after: retry_after.unwrap_or(RETRY_AFTER),
    }
}

/// `host:port`.
fn name_of(config: &Config) -> Option<String> {
    let ([tokio_postgres::config::Host::Tcp(host)], ports) =
        (config.get_hosts(), config.get_ports())
    else {
        return None;
    };
    Some(format!("{host}:{}", ports.first().copied().unwrap_or(5432)))
}

/// Marks leave the program. Their key is made of that of the access tokens, and is another.
fn signer(settings: &Settings) -> Option<Signer> {
    let mut key = Sha256::new();
    key.update(b"nestcms read-after marks\0");
    key.update(settings.auth.jwt_secret.expose().as_bytes());
    let key = SigningKey::new("jwt", key.finalize()).ok()?;
    Some(Signer::new([key]).ok()?.max_age(MARK_AGE))
}

/// What only the primary surely has, in the place of a mark.
const NEWEST: &str = "newest";
/// A client that comes back with an older mark reads as anybody does.
const MARK_AGE: Duration = Duration::from_secs(3600);
/// What a caller is told when nobody knows: soon, for a failover takes seconds.
const RETRY_AFTER: Duration = Duration::from_secs(1);
