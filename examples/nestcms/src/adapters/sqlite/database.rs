//! Connections, migrations, and the breaker around every statement.

use std::{future::Future, path::PathBuf, time::Duration};

use resilience_core::{
    breaker::{CircuitBreaker, Error as BreakerError, Outcome, classify_fn},
    clock::Clock,
};
use sqlx::{
    Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{metrics::Metrics, ports::StoreError, settings::DatabaseSettings};

/// The database could not be opened or brought up to date.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The file cannot be opened.
    #[error("cannot open database {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// A migration failed.
    #[error("cannot migrate database {}: {source}", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sqlx::migrate::MigrateError,
    },
}

/// A handle to the database; clones share the connections.
#[derive(Clone, Debug)]
pub struct Database {
    write: SqlitePool,
    read: SqlitePool,
    breaker: CircuitBreaker,
    metrics: Option<Metrics>,
}

impl Database {
    /// Opens the file, makes it when missing, and runs the migrations.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`] when the file cannot be opened or migrated.
    pub async fn open(
        settings: &DatabaseSettings,
        breaker: CircuitBreaker,
    ) -> Result<Self, DatabaseError> {
        let options = SqliteConnectOptions::new()
            .filename(&settings.path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An acknowledged payment survives a loss of power, not only a crash.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(settings.busy_timeout);
        let open = |source| DatabaseError::Open {
            path: settings.path.clone(),
            source,
        };
        // The connections live as long as the program: a database in memory is gone
        // with its last connection.
        let pool = SqlitePoolOptions::new()
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(settings.busy_timeout + Duration::from_secs(1));
        let write = pool
            .clone()
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .map_err(open)?;
        sqlx::migrate!()
            .run(&write)
            .await
            .map_err(|source| DatabaseError::Migrate {
                path: settings.path.clone(),
                source,
            })?;
        let read = if settings.path.as_os_str() == ":memory:" {
            // Each connection would get a database of its own.
            write.clone()
        } else {
            pool.max_connections(settings.max_connections)
                .connect_with(options)
                .await
                .map_err(open)?
        };
        Ok(Self {
            write,
            read,
            breaker,
            metrics: None,
        })
    }

    /// Measures the waits for the lock.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        let metrics = Some(metrics);
        Self { metrics, ..self }
    }

    /// The reading connections.
    #[must_use]
    pub fn read(&self) -> &SqlitePool {
        &self.read
    }

    /// The one writing connection.
    #[must_use]
    pub fn write(&self) -> &SqlitePool {
        &self.write
    }

    /// Whether a statement gets an answer; for readiness.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when it gets none.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.guard(async {
            sqlx::query("SELECT 1").execute(&self.read).await?;
            Ok(())
        })
        .await
    }

    /// Runs `work` behind the database breaker.
    pub(super) async fn guard<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, StoreError> {
        let classify = classify_fn(|result: Result<&T, &Failure>| match result {
            Err(Failure::Sql(_)) => Outcome::Failure,
            Ok(_) | Err(Failure::Corrupt(_)) => Outcome::Success,
        });
        match self.breaker.call_with(&classify, work).await {
            Ok(value) => Ok(value),
            Err(BreakerError::Inner(failure)) => Err(failure.into()),
            Err(BreakerError::Rejected(rejected)) => Err(StoreError::Unavailable {
                reason: rejected.to_string(),
                retry_after: rejected.retry_after(),
            }),
            Err(other) => Err(StoreError::Unavailable {
                reason: other.to_string(),
                retry_after: RETRY_AFTER,
            }),
        }
    }

    /// Runs `work` in one writing transaction, behind the database breaker.
    ///
    /// The write lock is taken at the start: a transaction that read first and had to
    /// wait for the lock afterwards would fail without a second chance.
    pub(super) async fn transaction<T>(
        &self,
        work: impl AsyncFnOnce(&mut Transaction<'_, Sqlite>) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        self.guard(async {
            let mut transaction = self.begin().await?;
            let value = work(&mut transaction).await?;
            transaction.commit().await?;
            Ok(value)
        })
        .await
    }

    async fn begin(&self) -> sqlx::Result<Transaction<'_, Sqlite>> {
        let since = self.metrics.as_ref().map(|m| (m, m.clock().now()));
        let transaction = self.write.begin_with("BEGIN IMMEDIATE").await;
        if let Some((metrics, since)) = since {
            metrics.lock_waited(metrics.clock().now().saturating_sub(since));
        }
        transaction
    }

    /// Closes the connections; returns when the last one is closed.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
}

/// What went wrong inside a guarded piece of work.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    #[error("{0}")]
    Corrupt(String),
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Sql(
                e @ (sqlx::Error::Decode(_)
                | sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::ColumnNotFound(_)),
            ) => Self::Corrupt {
                reason: e.to_string(),
            },
            Failure::Sql(e) => Self::Unavailable {
                reason: e.to_string(),
                retry_after: RETRY_AFTER,
            },
            Failure::Corrupt(reason) => Self::Corrupt { reason },
        }
    }
}

/// What a caller is told after a lock or a full disk: soon, for locks are short.
const RETRY_AFTER: Duration = Duration::from_secs(1);
