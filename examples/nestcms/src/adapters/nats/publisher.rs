//! The outbox to JetStream.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_ID,
    jetstream::{
        context::{PublishError as AckError, PublishErrorKind},
        stream::Config,
    },
};
use futures_util::future::BoxFuture;

use super::{Nats, NatsError};
use crate::ports::{Entry, PublishError, Publisher};

/// Publishes entries on `nestcms.events.<type>`. An entry is published when the stream has
/// acknowledged it; one that comes again within two minutes is kept once.
#[derive(Clone, Debug)]
pub struct JetStream {
    nats: Nats,
}

impl JetStream {
    /// Publishes through `nats`; makes the stream, which `replicas` servers keep.
    ///
    /// # Errors
    ///
    /// [`NatsError`] when the stream cannot be made.
    pub async fn new(nats: Nats, replicas: usize) -> Result<Self, NatsError> {
        let config = Config {
            name: STREAM.to_owned(),
            subjects: vec![format!("{SUBJECTS}>")],
            num_replicas: replicas,
            max_age: KEPT,
            duplicate_window: DUPLICATES,
            ..Config::default()
        };
        nats.stream(config).await?;
        Ok(Self { nats })
    }
}

impl Publisher for JetStream {
    fn publish<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            // One that was sent and not acknowledged may have arrived: the id makes it one.
            let mut headers = HeaderMap::new();
            headers.insert(NATS_MESSAGE_ID, entry.message_id.as_str());
            let subject = format!("{SUBJECTS}{}", entry.kind);
            let payload = entry.payload.clone().into();
            let sent = self
                .nats
                .jetstream()
                .publish_with_headers(subject, headers, payload);
            sent.await.map_err(told)?.await.map_err(told)?;
            Ok(())
        })
    }
}

/// Only what is wrong with an entry counts against it.
fn told(error: AckError) -> PublishError {
    let reason = error.to_string();
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => PublishError::Refused { reason },
        _ => PublishError::Unavailable { reason },
    }
}

/// The stream of all events.
pub(super) const STREAM: &str = "NESTCMS_EVENTS";
/// What subjects begin with.
const SUBJECTS: &str = "nestcms.events.";
/// For consumers that were away.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// The broker's own memory of message ids; the inbox has no end.
const DUPLICATES: Duration = Duration::from_secs(120);
