//! Connections, each of one lease at a time.

use std::{fmt, sync::Arc, time::Duration};

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use parking_lot::Mutex;

use super::{
    error::{self, Error},
    info::Info,
};

/// A new connection.
pub(super) async fn open(
    client: &Client,
    response_timeout: Option<Duration>,
) -> RedisResult<MultiplexedConnection> {
    // Whoever connects gives it a bound in time.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(response_timeout);
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

pub(super) async fn info(connection: &mut MultiplexedConnection) -> Result<Info, Error> {
    let mut questions = ::redis::pipe();
    questions.cmd("INFO").arg("server");
    questions.cmd("INFO").arg("replication");
    let (server, replication): (String, String) = questions.query_async(connection).await?;
    Info::parse(&server, &replication)
}

/// Connections that wait for a lease, those used last at the end.
pub(super) struct Idle {
    most: usize,
    connections: Mutex<Vec<MultiplexedConnection>>,
}

impl Idle {
    pub(super) fn new(most: usize) -> Arc<Self> {
        let connections = Mutex::default();
        Arc::new(Self { most, connections })
    }

    pub(super) fn take(&self) -> Option<MultiplexedConnection> {
        self.connections.lock().pop()
    }

    fn put(&self, connection: MultiplexedConnection) {
        let mut connections = self.connections.lock();
        if connections.len() < self.most {
            connections.push(connection);
        }
    }
}

/// What a lease gives: a connection of its own, for commands as
/// [`AsyncCommands`](::redis::AsyncCommands) has them.
///
/// Dropped, it is kept for the next lease, unless it was given state other than data, or an answer is
/// missing.
///
/// # Cancel safety
///
/// A command whose future is dropped may have run. The connection is closed at the end of the lease.
pub struct Connection {
    connection: MultiplexedConnection,
    idle: Arc<Idle>,
    /// Of the node, when this was leased.
    pub(super) epoch: u64,
    pub(super) incarnation: u64,
    /// No command runs, and all that ran left no state.
    clean: bool,
    /// A command that may write was answered, or may have run.
    wrote: bool,
}

/// Commands after which a connection is not like a new one.
const STATEFUL: [&[u8]; 18] = [
    b"ASKING",
    b"AUTH",
    b"CLIENT",
    b"DISCARD",
    b"EXEC",
    b"HELLO",
    b"MONITOR",
    b"MULTI",
    b"PSUBSCRIBE",
    b"PSYNC",
    b"QUIT",
    b"READONLY",
    b"RESET",
    b"SELECT",
    b"SSUBSCRIBE",
    b"SUBSCRIBE",
    b"UNWATCH",
    b"WATCH",
];

/// Commands that change nothing, as far as they are used often; others count as writes.
const READS: [&[u8]; 58] = [
    b"BITCOUNT",
    b"BITPOS",
    b"DBSIZE",
    b"ECHO",
    b"EVALSHA_RO",
    b"EVAL_RO",
    b"EXISTS",
    b"EXPIRETIME",
    b"FCALL_RO",
    b"GEODIST",
    b"GEOHASH",
    b"GEOPOS",
    b"GEOSEARCH",
    b"GET",
    b"GETBIT",
    b"GETRANGE",
    b"HEXISTS",
    b"HGET",
    b"HGETALL",
    b"HKEYS",
    b"HLEN",
    b"HMGET",
    b"HSCAN",
    b"HSTRLEN",
    b"HVALS",
    b"INFO",
    b"KEYS",
    b"LINDEX",
    b"LLEN",
    b"LPOS",
    b"LRANGE",
    b"MGET",
    b"MULTI",
    b"PEXPIRETIME",
    b"PING",
    b"PTTL",
    b"SCAN",
    b"SCARD",
    b"SISMEMBER",
    b"SMEMBERS",
    b"SMISMEMBER",
    b"SRANDMEMBER",
    b"SSCAN",
    b"STRLEN",
    b"TIME",
    b"TTL",
    b"TYPE",
    b"UNWATCH",
    b"WATCH",
    b"XLEN",
    b"XRANGE",
    b"XREAD",
    b"ZCARD",
    b"ZCOUNT",
    b"ZRANGE",
    b"ZRANK",
    b"ZSCAN",
    b"ZSCORE",
];

/// `None`: a command without a name.
fn is_of(command: &Cmd, names: &[&[u8]]) -> Option<bool> {
    match command.args_iter().next()? {
        ::redis::Arg::Simple(name) => Some(names.iter().any(|one| name.eq_ignore_ascii_case(one))),
        _ => None,
    }
}

fn leaves_state(command: &Cmd) -> bool {
    is_of(command, &STATEFUL).unwrap_or(true)
}

fn may_write(command: &Cmd) -> bool {
    !is_of(command, &READS).unwrap_or(false)
}

/// What a connection will be if commands that are sent do nothing to it.
struct Before {
    clean: bool,
    wrote: bool,
}

impl Connection {
    pub(super) fn new(
        connection: MultiplexedConnection,
        idle: &Arc<Idle>,
        epoch: u64,
        incarnation: u64,
    ) -> Self {
        Self {
            connection,
            idle: Arc::clone(idle),
            epoch,
            incarnation,
            clean: true,
            wrote: false,
        }
    }

    pub(super) async fn info(&mut self) -> Result<Info, Error> {
        let before = std::mem::replace(&mut self.clean, false);
        let info = info(&mut self.connection).await?;
        self.clean = before;
        Ok(info)
    }

    /// Commands are sent: they may have run until it is known how they ended.
    fn begin<'a>(&mut self, commands: impl Iterator<Item = &'a Cmd>) -> Before {
        let wrote = self.wrote;
        let mut clean = std::mem::replace(&mut self.clean, false);
        for command in commands {
            clean &= !leaves_state(command);
            self.wrote |= may_write(command);
        }
        Before { clean, wrote }
    }

    /// Puts down how commands ended.
    fn ended<T>(&mut self, before: Before, result: RedisResult<T>) -> RedisResult<T> {
        self.clean = before.clean
            && !result
                .as_ref()
                .is_err_and(|error| error.is_io_error() || error.is_unrecoverable_error());
        if before.wrote {
            return result.map_err(error::after_a_write);
        }
        if result.as_ref().is_err_and(error::did_not_run) {
            self.wrote = false;
        }
        result
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let before = self.begin(std::iter::once(cmd));
            let result = self.connection.send_packed_command(cmd).await;
            self.ended(before, result.and_then(Value::extract_error))
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let before = self.begin(pipeline.cmd_iter());
            let sent = self
                .connection
                .send_packed_commands(pipeline, offset, count);
            let result = sent.await;
            self.ended(before, result)
        })
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.clean {
            self.idle.put(self.connection.clone());
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("epoch", &self.epoch)
            .field("clean", &self.clean)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_with_state_of_its_own_is_not_like_a_new_one() {
        for name in ["watch", "MULTI", "Select", "subscribe", "auth"] {
            assert!(leaves_state(::redis::cmd(name).arg("x")), "{name}");
        }
        assert!(leaves_state(&Cmd::new()));
        for name in ["GET", "SET", "WATCHED", "EVAL", "WAIT"] {
            assert!(!leaves_state(::redis::cmd(name).arg("x")), "{name}");
        }
    }

    #[test]
    fn what_is_not_known_to_read_may_write() {
        for name in ["SET", "eval", "WAIT", "EXEC", "NEW.COMMAND"] {
            assert!(may_write(::redis::cmd(name).arg("x")), "{name}");
        }
        assert!(may_write(&Cmd::new()));
        for name in ["get", "HGETALL", "INFO", "WATCH"] {
            assert!(!may_write(::redis::cmd(name).arg("x")), "{name}");
        }
    }
}
