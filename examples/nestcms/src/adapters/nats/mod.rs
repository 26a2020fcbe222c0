//! NATS with JetStream: one connection for everything that goes through it.
//!
//! A connection that is lost comes back by itself, for as long as the program runs; what was asked
//! meanwhile fails after `nats.request_timeout`. The user needs the JetStream API (`$JS.API.>`),
//! acknowledgements (`$JS.ACK.>`), its own inbox, and the subjects of the streams that are made
//! here.

mod consumer;
mod publisher;
mod tasks;

use std::time::Duration;

use async_nats::{
    Client, ConnectOptions, Event, ServerAddr,
    jetstream::{
        Context, context,
        stream::{Config, Stream},
    },
};
use serde_json::Value;

pub use self::{consumer::Subscription, publisher::JetStream, tasks::NatsTasks};
use crate::settings::NatsSettings;

/// What went wrong between us and NATS. Passwords are never part of it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsError {
    /// A server's address is none.
    #[error("nats.servers: not a nats:// or tls:// address: {reason}")]
    Address {
        /// What is wrong with it.
        reason: String,
    },
    /// The file of credentials cannot be used.
    #[error("nats.credentials {path}: {reason}")]
    Credentials {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// No server let us in.
    #[error("cannot connect to NATS at {servers}: {reason}")]
    Connect {
        /// Hosts and ports.
        servers: String,
        /// Why.
        reason: String,
    },
    /// The stream is not there, and cannot be made or changed.
    #[error("NATS stream {stream}: {reason}")]
    Stream {
        /// Its name.
        stream: String,
        /// Why.
        reason: String,
    },
    /// A request was refused or not answered.
    #[error("NATS: {reason}")]
    Request {
        /// Why.
        reason: String,
    },
}

/// A connection; clones share it.
#[derive(Clone, Debug)]
pub struct Nats {
    client: Client,
    jetstream: Context,
}

impl Nats {
    /// Connects to one of the servers of `settings`, and knows all of them from then on.
    ///
    /// # Errors
    ///
    /// [`NatsError::Address`], [`NatsError::Credentials`], [`NatsError::Connect`] when none answers
    /// in time or lets us in, [`NatsError::Request`] without JetStream.
    pub async fn connect(settings: &NatsSettings) -> Result<Self, NatsError> {
        let servers = addresses(settings)?;
        let shown: Vec<_> = servers
            .iter()
            .map(|server| format!("{}:{}", server.host(), server.port()))
            .collect();
        let options = options(settings).await?;
        let client = options
            .connect(servers)
            .await
            .map_err(|error| NatsError::Connect {
                servers: shown.join(", "),
                reason: error.to_string(),
            })?;
        let jetstream = context::ContextBuilder::new()
            .timeout(settings.request_timeout)
            .ack_timeout(settings.request_timeout)
            .build(client.clone());
        let nats = Self { client, jetstream };
        nats.ping().await?;
        Ok(nats)
    }

    /// Streams, consumers and what is published to them.
    #[must_use]
    pub fn jetstream(&self) -> &Context {
        &self.jetstream
    }

    /// The stream of that configuration: made when it is not there, changed when it is another.
    ///
    /// # Errors
    ///
    /// [`NatsError::Stream`], also for what cannot be changed in a stream (its retention).
    pub async fn stream(&self, config: Config) -> Result<Stream, NatsError> {
        let name = config.name.clone();
        let failed = |error: &dyn std::error::Error| NatsError::Stream {
            stream: name.clone(),
            reason: error.to_string(),
        };
        let made = self.jetstream.create_or_update_stream(config).await;
        made.map_err(|error| failed(&error))?;
        let stream = self.jetstream.get_stream(&name).await;
        stream.map_err(|error| failed(&error))
    }

    /// Whether JetStream answers; for readiness.
    ///
    /// # Errors
    ///
    /// [`NatsError::Request`] when it does not.
    pub async fn ping(&self) -> Result<(), NatsError> {
        // Not the account as a type: servers before 2.10 leave some of it out.
        let answer = self.jetstream.request("INFO", &()).await;
        let answer: Value = answer.map_err(|error| NatsError::Request {
            reason: format!("JetStream does not answer: {error}"),
        })?;
        match answer.get("error") {
            None => Ok(()),
            Some(error) => Err(NatsError::Request {
                reason: format!("JetStream refuses: {error}"),
            }),
        }
    }

    /// Sends what is still to be sent, and closes the connection.
    pub async fn close(&self) {
        // It may be closed already.
        let _ = self.client.drain().await;
    }
}

fn addresses(settings: &NatsSettings) -> Result<Vec<ServerAddr>, NatsError> {
    let servers = settings.servers.iter();
    let parsed = servers.map(|server| server.expose().parse::<ServerAddr>());
    parsed
        .collect::<Result<_, _>>()
        .map_err(|error| NatsError::Address {
            reason: error.to_string(),
        })
}

async fn options(settings: &NatsSettings) -> Result<ConnectOptions, NatsError> {
    let options = ConnectOptions::new()
        .name("nestcms")
        .connection_timeout(settings.connect_timeout)
        .request_timeout(Some(settings.request_timeout))
        // Until it is back, however long that takes.
        .max_reconnects(None)
        .reconnect_delay_callback(delay)
        .event_callback(|event| async move { told(&event) });
    let Some(path) = &settings.credentials else {
        return Ok(options);
    };
    let loaded = options.credentials_file(path).await;
    loaded.map_err(|error| NatsError::Credentials {
        path: path.display().to_string(),
        reason: error.to_string(),
    })
}

/// 100 ms, 200 ms … 3.2 s. The client adds its own pause once it has tried each server.
fn delay(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1).min(5)).unwrap_or(5);
    Duration::from_millis(100) * 2_u32.pow(doublings)
}

fn told(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Draining | Event::Closed => tracing::debug!(%event, "NATS"),
        other => tracing::warn!(event = %other, "NATS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Secret, Settings};

    #[test]
    fn the_delay_grows_and_stays_bounded() {
        let delays: Vec<_> = [0, 1, 2, 6, 7, usize::MAX].map(delay).to_vec();
        let wanted = [100, 100, 200, 3200, 3200, 3200].map(Duration::from_millis);
        assert_eq!(delays, wanted);
    }

    #[test]
    fn an_address_that_is_none_is_refused_without_its_password() {
        let mut settings = Settings::demo().nats;
        settings.servers = vec![Secret::new("http://user:hidden@somewhere")];
        let error = addresses(&settings).unwrap_err().to_string();
        assert!(
            error.contains("nats.servers") && !error.contains("hidden"),
            "{error}"
        );
    }
}
