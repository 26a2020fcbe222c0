//! The one connection: made when it is needed, shared by all calls, replaced when it breaks.

use std::fmt;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisResult};

pub(super) struct Link {
    client: Client,
    config: AsyncConnectionConfig,
    current: Mutex<Current>,
    /// Held by the one call that connects. Dropping that call lets the next one try.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Current {
    /// Of the latest connection; 0 before the first.
    number: u64,
    connection: Option<MultiplexedConnection>,
}

/// How far a call came.
#[derive(Default)]
pub(super) struct Progress {
    /// Whether a command may have reached the server.
    sent: bool,
    /// The connection used last; 0 for none.
    connection: u64,
}

impl Link {
    pub(super) fn new(client: Client) -> Self {
        // No timeouts here: callers bound the whole call, these waits included.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        Self {
            client,
            config,
            current: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// Sends `command`, a second time when the connection turns out to be broken: it may have died
    /// while nothing was sent. A command that ran twice has taken permits twice, which keeps to the
    /// limit. Waits without a bound; see [`give_up`](Self::give_up).
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        command: &Cmd,
        progress: &mut Progress,
    ) -> RedisResult<T> {
        match self.ask_once(command, progress).await {
            Err(error) if error.is_unrecoverable_error() && progress.sent => {
                self.give_up(progress);
                self.ask_once(command, progress).await
            }
            answer => answer,
        }
    }

    /// Sends `command` once. Waits without a bound.
    pub(super) async fn ask_once<T: FromRedisValue>(
        &self,
        command: &Cmd,
        progress: &mut Progress,
    ) -> RedisResult<T> {
        progress.sent = false;
        let (number, mut connection) = self.connection().await?;
        progress.connection = number;
        progress.sent = true;
        command.query_async(&mut connection).await
    }

    /// Forgets the connection of a call that took too long or was told that it is at the wrong
    /// server. Calls that still wait on it keep it.
    pub(super) fn give_up(&self, progress: &Progress) {
        let mut current = self.current.lock();
        if current.number == progress.connection {
            current.connection = None;
        }
    }

    async fn connection(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        if let Some(there) = self.current() {
            return Ok(there);
        }
        let _only_one = self.connecting.lock().await;
        if let Some(there) = self.current() {
            return Ok(there);
        }
        let fresh = self
            .client
            .get_multiplexed_async_connection_with_config(&self.config)
            .await?;
        let mut current = self.current.lock();
        current.number += 1;
        current.connection = Some(fresh.clone());
        Ok((current.number, fresh))
    }

    fn current(&self) -> Option<(u64, MultiplexedConnection)> {
        let current = self.current.lock();
        let connection = current.connection.clone()?;
        Some((current.number, connection))
    }
}

// By hand: the address may hold a password.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}
