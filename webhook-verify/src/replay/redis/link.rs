//! The one connection: made when it is needed, shared by all calls, replaced when it breaks.

use std::time::Duration;

use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisResult, aio::MultiplexedConnection,
};

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
    pub(super) sent: bool,
    /// The connection used last; 0 for none.
    connection: u64,
}

impl Link {
    pub(super) fn new(client: Client, timeout: Duration) -> Self {
        // No timeout for answers here: callers bound the whole call, this wait included.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(None);
        Self {
            client,
            config,
            current: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// Sends `command`, a second time when the connection turns out to be broken: it may
    /// have died while nothing was sent. So `command` must do no harm when it runs twice.
    /// Waits without a bound; see [`give_up`](Self::give_up).
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        command: &Cmd,
        progress: &mut Progress,
    ) -> RedisResult<T> {
        match self.ask_once(command, progress).await {
            Err(error) if error.is_unrecoverable_error() && progress.sent => {
                self.discard(progress.connection);
                self.ask_once(command, progress).await
            }
            answer => answer,
        }
    }

    async fn ask_once<T: FromRedisValue>(
        &self,
        command: &Cmd,
        progress: &mut Progress,
    ) -> RedisResult<T> {
        let (number, mut connection) = self.connection().await?;
        progress.connection = number;
        progress.sent = true;
        command.query_async(&mut connection).await
    }

    /// After a call that took too long: a peer that vanished without a word would otherwise
    /// be noticed by the system only after many minutes. Calls that still wait on this
    /// connection keep it.
    pub(super) fn give_up(&self, progress: &Progress) {
        self.discard(progress.connection);
    }

    fn discard(&self, number: u64) {
        let mut current = self.current.lock();
        if current.number == number {
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
