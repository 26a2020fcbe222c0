//! JetStream to the consumers of the application.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{
    AckKind, Message,
    consumer::{AckPolicy, PullConsumer, pull},
};
use futures_util::StreamExt;
use webhook_verify::clock::WallClock;

use super::{Nats, NatsError, publisher::STREAM};
use crate::{
    domain::event::{Event, Timestamp},
    metrics::Metrics,
    outbox::{Consumer, Rules},
    ports::{Attempt, Effect, Entry, Failed, Inbox, StoreError},
};

/// Gives one consumer its effects. Instances that run the same one share its events.
///
/// Events come at least once, and after a failure out of order: effects must not depend on it.
#[derive(Debug)]
pub struct Subscription {
    nats: Nats,
    consumer: Arc<dyn Consumer>,
    inbox: Arc<dyn Inbox>,
    wall: Arc<dyn WallClock>,
    metrics: Metrics,
    rules: Rules,
}

impl Subscription {
    /// Subscribes `consumer`; it gets all that the stream keeps and that it has not had.
    ///
    /// # Errors
    ///
    /// [`NatsError`] when the stream is not there or does not take it.
    pub async fn new(
        nats: Nats,
        consumer: Arc<dyn Consumer>,
        inbox: Arc<dyn Inbox>,
        wall: Arc<dyn WallClock>,
        metrics: Metrics,
        rules: Rules,
    ) -> Result<Self, NatsError> {
        let subscription = Self {
            nats,
            consumer,
            inbox,
            wall,
            metrics,
            rules,
        };
        subscription.open().await?;
        Ok(subscription)
    }

    /// Takes events until it is dropped. Trouble ends nothing: what was not acknowledged comes
    /// again.
    pub async fn run(&self) {
        let mut failures = 0;
        loop {
            if let Err(reason) = self.consume(&mut failures).await {
                failures += 1;
                let consumer = self.consumer.name();
                tracing::warn!(consumer, reason, "events are not consumed");
            }
            tokio::time::sleep(self.rules.wait(failures.max(1))).await;
        }
    }

    /// Takes what comes, until there is trouble.
    async fn consume(&self, failures: &mut usize) -> Result<(), String> {
        let pull = self.open().await.map_err(|error| error.to_string())?;
        let batch = self.rules.batch as usize;
        let messages = pull.stream().max_messages_per_batch(batch);
        let messages = messages.expires(PATIENCE).heartbeat(PATIENCE / 3);
        let messages = messages.messages().await;
        let messages = messages.map_err(|error| error.to_string())?;
        let mut batches = messages.ready_chunks(batch);
        while let Some(batch) = batches.next().await {
            let trouble = batch.iter().find_map(|message| message.as_ref().err());
            let trouble = trouble.map(ToString::to_string);
            self.round(batch.into_iter().flatten().collect()).await?;
            if let Some(trouble) = trouble {
                return Err(trouble);
            }
            *failures = 0;
        }
        Ok(())
    }

    async fn open(&self) -> Result<PullConsumer, NatsError> {
        let name = self.consumer.name();
        let failed = |reason: String| NatsError::Stream {
            stream: STREAM.to_owned(),
            reason: format!("consumer {name}: {reason}"),
        };
        let stream = self.nats.jetstream().get_stream(STREAM).await;
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        let config = pull::Config {
            durable_name: Some(name.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: i64::from(self.rules.batch) * 4,
            ..pull::Config::default()
        };
        let pull = stream.get_or_create_consumer(name, config).await;
        pull.map_err(|error| failed(error.to_string()))
    }

    /// What has come, in one transaction; it is acknowledged after that.
    async fn round(&self, messages: Vec<Message>) -> Result<(), String> {
        let name = self.consumer.name();
        let mut effects = Vec::new();
        let mut done = Vec::new();
        for message in messages {
            match self.effect(&message).await {
                Ok((event, effect)) => {
                    effects.extend(effect.map(|effect| (event.id.clone(), effect)));
                    done.push((message, event.id));
                }
                Err(reason) => self.failed(&message, reason).await?,
            }
        }
        if !effects.is_empty() {
            let new = match self.inbox.apply(name, &effects, self.wall.now()).await {
                Ok(new) => new,
                Err(error) => {
                    for (message, _) in &done {
                        self.again(message, 1).await?;
                    }
                    return Err(error.to_string());
                }
            };
            self.metrics
                .consumed(name, new, (effects.len() as u64).saturating_sub(new));
        }
        for (message, event_id) in done {
            let info = message.info().map_err(|error| error.to_string())?;
            if info.delivered > 1 {
                let recovered = self.inbox.recovered(name, &event_id).await;
                recovered.map_err(|error| error.to_string())?;
            }
            self.metrics.consumer_waiting(name, info.pending);
            message.ack().await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn effect(&self, message: &Message) -> Result<(Event, Option<Effect>), String> {
        let event: Event = serde_json::from_slice(&message.payload)
            .map_err(|error| format!("not an event: {error}"))?;
        let effect = self.consumer.effect(&event).await;
        Ok((event, effect.map_err(|error| error.to_string())?))
    }

    /// Again later, or a dead letter.
    async fn failed(&self, message: &Message, reason: String) -> Result<(), String> {
        let name = self.consumer.name();
        tracing::warn!(consumer = name, reason, "an event failed");
        let Some(entry) = entry(message) else {
            // Nothing of ours, and nobody could replay it.
            return term(message).await;
        };
        let at = Timestamp::from_unix(self.wall.now());
        let attempt = Attempt { at, reason };
        let failed = self.inbox.failed(name, &entry, attempt, self.rules.tries);
        match failed
            .await
            .map_err(|error: StoreError| error.to_string())?
        {
            Failed::Again(tries) => self.again(message, tries).await,
            Failed::Dead => {
                self.metrics.dead_letter(name);
                term(message).await
            }
        }
    }

    /// Asks for the message once more, after the wait that follows so many failures.
    async fn again(&self, message: &Message, failures: usize) -> Result<(), String> {
        let again = AckKind::Nak(Some(self.rules.wait(failures)));
        let told = message.ack_with(again).await;
        told.map_err(|error| error.to_string())
    }
}

async fn term(message: &Message) -> Result<(), String> {
    let told = message.ack_with(AckKind::Term).await;
    told.map_err(|error| error.to_string())
}

/// What a dead letter of the message holds; its envelope is read, whatever its data say.
fn entry(message: &Message) -> Option<Entry> {
    let payload = String::from_utf8(message.payload.to_vec()).ok()?;
    let envelope: serde_json::Value = serde_json::from_str(&payload).ok()?;
    let text = |name: &str| envelope[name].as_str().map(str::to_owned);
    let event_id = text("id")?;
    let key = envelope["data"]["payment_id"].as_str();
    Some(Entry {
        seq: 0,
        message_id: event_id.clone(),
        kind: text("type")?,
        key: key.unwrap_or(&event_id).to_owned(),
        correlation_id: text("correlation_id").unwrap_or_default(),
        history: Vec::new(),
        payload,
        event_id,
    })
}

/// An event whose consumer died comes again after so long.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// How long one request for events lasts; a third of it without a sign is trouble.
const PATIENCE: Duration = Duration::from_secs(15);
