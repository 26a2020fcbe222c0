//! The cache that several instances share.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use redis::{
    Client, Cmd, FromRedisValue, RedisError,
    aio::MultiplexedConnection,
    cmd,
    sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType},
};
use tokio::{sync::Mutex, time::timeout};

use crate::ports::{Cache, CacheError};

/// A cache in Redis. One connection carries all calls; after trouble the next call makes a new one,
/// to whom the sentinels name then.
#[derive(Clone)]
pub struct RedisCache {
    client: Client,
    sentinels: Option<Arc<Mutex<SentinelClient>>>,
    lifetime: Duration,
    call_timeout: Duration,
    connection: Arc<Mutex<Option<MultiplexedConnection>>>,
}

impl RedisCache {
    /// A cache in the Redis at `url`, whose entries live for `lifetime`. A call takes
    /// `call_timeout` at most, the connection included. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// When `url` is none.
    pub fn new(url: &str, lifetime: Duration, call_timeout: Duration) -> Result<Self, CacheError> {
        Ok(Self {
            client: Client::open(url).map_err(trouble)?,
            sentinels: None,
            lifetime,
            call_timeout,
            connection: Arc::default(),
        })
    }

    /// Goes to whom these sentinels call the primary of `service`, with what the URL of the cache says
    /// beside its host.
    ///
    /// # Errors
    ///
    /// When one of `sentinels` is no URL.
    pub fn with_sentinels(self, service: &str, sentinels: Vec<&str>) -> Result<Self, CacheError> {
        let login = self.client.get_connection_info().redis_settings().clone();
        let node = SentinelNodeConnectionInfo::default().set_redis_connection_info(login);
        let (service, primary) = (service.to_owned(), SentinelServerType::Master);
        let client = SentinelClient::build(sentinels, service, Some(node), primary);
        let sentinels = Some(Arc::new(Mutex::new(client.map_err(trouble)?)));
        Ok(Self { sentinels, ..self })
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, CacheError> {
        let work = async {
            let mut connection = self.connection().await?;
            command.query_async(&mut connection).await
        };
        let failed = match timeout(self.call_timeout, work).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => trouble(error),
            Err(_) => CacheError {
                reason: "no answer in time".to_owned(),
            },
        };
        self.connection.lock().await.take();
        Err(failed)
    }

    async fn connection(&self) -> Result<MultiplexedConnection, RedisError> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = &*slot {
            return Ok(connection.clone());
        }
        let connection = match &self.sentinels {
            Some(sentinels) => sentinels.lock().await.get_async_connection().await?,
            None => self.client.get_multiplexed_async_connection().await?,
        };
        Ok(slot.insert(connection).clone())
    }
}

impl Cache for RedisCache {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>, CacheError>> {
        Box::pin(async move {
            let mut command = cmd("HGET");
            command.arg(named(key)).arg("value");
            self.ask(&command).await
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        version: i64,
        value: String,
    ) -> BoxFuture<'a, Result<(), CacheError>> {
        Box::pin(async move {
            let lifetime = u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX);
            let mut command = cmd("EVAL");
            command.arg(PUT).arg(1).arg(named(key));
            self.ask(command.arg(version).arg(value).arg(lifetime))
                .await
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), CacheError>> {
        Box::pin(async move {
            let mut command = cmd("DEL");
            command.arg(named(key));
            self.ask(&command).await
        })
    }
}

// By hand: the URL may hold a password.
impl fmt::Debug for RedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCache")
            .field("lifetime", &self.lifetime)
            .field("call_timeout", &self.call_timeout)
            .finish_non_exhaustive()
    }
}

fn named(key: &str) -> String {
    format!("nestcms:{key}")
}

fn trouble(error: RedisError) -> CacheError {
    CacheError {
        reason: error.to_string(),
    }
}

/// A value gives way to one of its own version or a higher one.
const PUT: &str = "\
local there = redis.call('HGET', KEYS[1], 'version')
if there and tonumber(there) > tonumber(ARGV[1]) then return end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'value', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])";
