//! The task queue on JetStream.
//!
//! A work-queue stream holds what is to be done, with one consumer per priority: `ack_wait` is the
//! visibility timeout, progress acknowledgements are the heartbeats, a negative one with a delay is
//! the wait before a retry. A key-value bucket holds where each task stands, another one the dead.
//! Whoever begins a task writes its record at the revision that it has read, so that of two who
//! were handed the same task one goes on.

use std::{fmt::Display, sync::Arc, time::Duration};

use async_nats::jetstream::{
    AckKind,
    consumer::{AckPolicy, PullConsumer, pull::Config as PullConfig},
    kv::{Entry, Operation, Store, UpdateErrorKind},
    message::{Acker, Message, PublishMessage},
    stream::{self, DiscardPolicy, RetentionPolicy, Stream},
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, future::BoxFuture};
use webhook_verify::clock::WallClock;

use super::{Nats, NatsError};
use crate::{
    domain::{
        event::Timestamp,
        task::{Priority, State, Task},
    },
    ports::{Backlog, Lease, QueueError, TaskQueue},
};

/// Tasks that instances share.
#[derive(Clone, Debug)]
pub struct NatsTasks {
    nats: Nats,
    consumers: [PullConsumer; 3],
    records: Store,
    dead: Store,
    wall: Arc<dyn WallClock>,
}

impl NatsTasks {
    /// The queue behind `nats`, made when it is not there. A lease lasts `visibility`; the record of
    /// a task is kept for `keep` after its last change, that of a dead one for ever. Each is on
    /// `replicas` servers.
    ///
    /// # Errors
    ///
    /// [`NatsError::Stream`] when streams cannot be made.
    pub async fn open(
        nats: Nats,
        wall: Arc<dyn WallClock>,
        visibility: Duration,
        keep: Duration,
        replicas: usize,
    ) -> Result<Self, NatsError> {
        let config = stream::Config {
            name: STREAM.to_owned(),
            subjects: vec![format!("{SUBJECT}.*")],
            retention: RetentionPolicy::WorkQueue,
            duplicate_window: DUPLICATES,
            num_replicas: replicas,
            ..stream::Config::default()
        };
        let stream = nats.stream(config).await?;
        let [critical, normal, low] = Priority::ALL;
        let consumers = [
            consumer(&stream, critical, visibility).await?,
            consumer(&stream, normal, visibility).await?,
            consumer(&stream, low, visibility).await?,
        ];
        Ok(Self {
            records: bucket(&nats, STREAM, keep, replicas).await?,
            dead: bucket(&nats, DEAD, Duration::ZERO, replicas).await?,
            nats,
            consumers,
            wall,
        })
    }

    async fn publish(&self, task: &Task, once: &str) -> Result<bool, QueueError> {
        let subject = format!("{SUBJECT}.{}", task.priority.as_str());
        let message = PublishMessage::build()
            .payload(body(task)?)
            .message_id(once);
        let sent = self.nats.jetstream().send_publish(subject, message);
        let booked = sent.await.map_err(failed)?.await.map_err(failed)?;
        Ok(!booked.duplicate)
    }

    /// Takes what was delivered; `None` if there is nothing to run.
    async fn begin(&self, message: Message) -> Result<Option<Lease>, QueueError> {
        let reply = message.reply.clone().unwrap_or_else(|| "".into());
        let (message, acker) = message.split();
        let pushed: Task = match serde_json::from_slice(&message.payload) {
            Ok(task) => task,
            Err(error) => {
                tracing::error!(%error, "a message that is no task is dropped");
                acker.ack_with(AckKind::Term).await.map_err(failed)?;
                return Ok(None);
            }
        };
        let (mut task, revision) = match self.record(&pushed.id).await? {
            Some((task, revision)) => (task, revision),
            // Its record is not written yet, or has aged.
            None => (pushed, 0),
        };
        let before = task.state;
        let taken = task.begin(self.now());
        let mut kept = revision;
        if taken || task.state != before {
            match self.keep(&task, revision).await? {
                Some(revision) => kept = revision,
                // Somebody else was handed it too.
                None => return Ok(None),
            }
        }
        if taken {
            let receipt = format!("{kept} {reply}");
            return Ok(Some(Lease { task, receipt }));
        }
        if task.state == State::Dead {
            self.bury(&task).await?;
        }
        acker.double_ack().await.map_err(failed)?;
        Ok(None)
    }

    async fn record(&self, id: &str) -> Result<Option<(Task, u64)>, QueueError> {
        let entry = self.records.entry(id).await.map_err(failed)?;
        entry.filter(is_put).map(|entry| read(&entry)).transpose()
    }

    /// Writes the record of `task` over `revision`; the new one, or `None` if it has another.
    async fn keep(&self, task: &Task, revision: u64) -> Result<Option<u64>, QueueError> {
        match self.records.update(&task.id, body(task)?, revision).await {
            Ok(revision) => Ok(Some(revision)),
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    async fn bury(&self, task: &Task) -> Result<(), QueueError> {
        let put = self.dead.put(&task.id, body(task)?).await;
        put.map(|_| ()).map_err(failed)
    }

    fn acker(&self, reply: &str) -> Acker {
        Acker::new(self.nats.jetstream().clone(), Some(reply.into()))
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix(self.wall.now())
    }
}

impl TaskQueue for NatsTasks {
    fn push<'a>(&'a self, task: &'a Task) -> BoxFuture<'a, Result<bool, QueueError>> {
        Box::pin(async move {
            if self.record(&task.id).await?.is_some() {
                return Ok(false);
            }
            // The message first: without it a record would be a task that nobody takes.
            let is_new = self.publish(task, &task.id).await?;
            self.keep(task, 0).await?;
            Ok(is_new)
        })
    }

    fn take(
        &self,
        priority: Priority,
        most: usize,
    ) -> BoxFuture<'_, Result<Vec<Lease>, QueueError>> {
        Box::pin(async move {
            let consumer = &self.consumers[priority as usize];
            let batch = consumer.fetch().max_messages(most).messages().await;
            let mut batch = batch.map_err(failed)?;
            let mut leases = Vec::new();
            while let Some(message) = batch.next().await {
                leases.extend(self.begin(message.map_err(failed)?).await?);
            }
            Ok(leases)
        })
    }

    fn extend<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<bool, QueueError>> {
        Box::pin(async move {
            let (_, reply) = parts(lease);
            let told = self.acker(reply).ack_with(AckKind::Progress).await;
            told.map(|()| true).map_err(failed)
        })
    }

    fn settle<'a>(
        &'a self,
        lease: &'a Lease,
        task: &'a Task,
        delay: Duration,
    ) -> BoxFuture<'a, Result<bool, QueueError>> {
        Box::pin(async move {
            let (revision, reply) = parts(lease);
            if self.keep(task, revision).await?.is_none() {
                return Ok(false);
            }
            let acker = self.acker(reply);
            if task.state == State::Queued {
                let again = AckKind::Nak((!delay.is_zero()).then_some(delay));
                acker.double_ack_with(again).await.map_err(failed)?;
                return Ok(true);
            }
            if task.state == State::Dead {
                self.bury(task).await?;
            }
            acker.double_ack().await.map_err(failed)?;
            Ok(true)
        })
    }

    fn find<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Task>, QueueError>> {
        Box::pin(async move {
            if let Some((task, _)) = self.record(id).await? {
                return Ok(Some(task));
            }
            let entry = self.dead.entry(id).await.map_err(failed)?.filter(is_put);
            entry.map(|entry| Ok(read(&entry)?.0)).transpose()
        })
    }

    fn dead(&self, most: usize) -> BoxFuture<'_, Result<Vec<Task>, QueueError>> {
        Box::pin(async move {
            let keys = self.dead.keys().await.map_err(failed)?;
            let ids: Vec<String> = keys.take(most).try_collect().await.map_err(failed)?;
            let mut tasks = Vec::new();
            for id in ids {
                let entry = self.dead.entry(id).await.map_err(failed)?.filter(is_put);
                tasks.extend(entry.map(|entry| read(&entry)).transpose()?);
            }
            Ok(tasks.into_iter().map(|(task, _)| task).collect())
        })
    }

    fn requeue<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Task>, QueueError>> {
        Box::pin(async move {
            let entry = self.dead.entry(id).await.map_err(failed)?.filter(is_put);
            let Some((mut task, revision)) = entry.map(|e| read(&e)).transpose()? else {
                return Ok(None);
            };
            if !task.revive(self.now()) {
                return Ok(None);
            }
            // In this order a crash leaves it dead, and it can be queued again.
            let put = self.records.put(id, body(&task)?).await;
            put.map_err(failed)?;
            self.publish(&task, &format!("{id} {revision}")).await?;
            self.dead.delete(id).await.map_err(failed)?;
            Ok(Some(task))
        })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Backlog, QueueError>> {
        Box::pin(async move {
            let mut depth = Backlog::default();
            for (consumer, depth) in self.consumers.iter().zip(&mut depth) {
                let info = consumer.get_info().await.map_err(failed)?;
                *depth = info.num_pending + info.num_ack_pending as u64;
            }
            Ok(depth)
        })
    }

    /// The bucket drops what has aged.
    fn retain(&self) -> BoxFuture<'_, Result<u64, QueueError>> {
        Box::pin(async { Ok(0) })
    }
}

async fn consumer(
    stream: &Stream,
    priority: Priority,
    visibility: Duration,
) -> Result<PullConsumer, NatsError> {
    let config = PullConfig {
        durable_name: Some(priority.as_str().to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: visibility,
        // The record counts the runs. A task that was handed back was delivered too, and one that
        // was delivered too often would stay in the stream unseen.
        max_deliver: -1,
        // Those that wait for a retry count here.
        max_ack_pending: -1,
        filter_subject: format!("{SUBJECT}.{}", priority.as_str()),
        ..PullConfig::default()
    };
    let made = stream.create_consumer(config).await;
    made.map_err(|error| NatsError::Stream {
        stream: STREAM.to_owned(),
        reason: error.to_string(),
    })
}

async fn bucket(
    nats: &Nats,
    name: &str,
    keep: Duration,
    replicas: usize,
) -> Result<Store, NatsError> {
    // A bucket is a stream like this (ADR-8). The client makes one only for servers of 2.10 and later.
    let config = stream::Config {
        name: format!("KV_{name}"),
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: 1,
        max_age: keep,
        num_replicas: replicas,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..stream::Config::default()
    };
    nats.stream(config).await?;
    let bucket = nats.jetstream().get_key_value(name).await;
    bucket.map_err(|error| NatsError::Stream {
        stream: name.to_owned(),
        reason: error.to_string(),
    })
}

fn is_put(entry: &Entry) -> bool {
    entry.operation == Operation::Put
}

fn read(entry: &Entry) -> Result<(Task, u64), QueueError> {
    let task = serde_json::from_slice(&entry.value).map_err(failed)?;
    Ok((task, entry.revision))
}

/// The revision of the record, and where to acknowledge.
fn parts(lease: &Lease) -> (u64, &str) {
    let (revision, reply) = lease.receipt.split_once(' ').unwrap_or_default();
    (revision.parse().unwrap_or(u64::MAX), reply)
}

fn body(task: &Task) -> Result<Bytes, QueueError> {
    serde_json::to_vec(task).map(Bytes::from).map_err(failed)
}

fn failed(error: impl Display) -> QueueError {
    QueueError {
        reason: error.to_string(),
    }
}

/// Of the stream, and of the records.
const STREAM: &str = "nestcms_tasks";
/// Of the dead.
const DEAD: &str = "nestcms_dead_tasks";
const SUBJECT: &str = "nestcms.tasks";
/// How long a client that got no answer may queue the same task again without a second message.
const DUPLICATES: Duration = Duration::from_secs(3600);
