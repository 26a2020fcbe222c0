//! Publishing within the process.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use webhook_verify::clock::WallClock;

use super::Consumer;
use crate::{
    domain::event::Event,
    ports::{Entry, Inbox, PublishError, Publisher},
};

/// Hands entries to the consumers of this process. An entry is published when each of them has had
/// its effect.
#[derive(Clone)]
pub struct Local {
    inbox: Arc<dyn Inbox>,
    consumers: Arc<[Arc<dyn Consumer>]>,
    wall: Arc<dyn WallClock>,
}

impl Local {
    /// Gives `consumers` their effects through `inbox`.
    #[must_use]
    pub fn new(
        inbox: Arc<dyn Inbox>,
        consumers: Vec<Arc<dyn Consumer>>,
        wall: Arc<dyn WallClock>,
    ) -> Self {
        Self {
            inbox,
            consumers: consumers.into(),
            wall,
        }
    }
}

impl Publisher for Local {
    fn publish<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            let refused = |reason| PublishError::Refused { reason };
            let event: Event = serde_json::from_str(&entry.payload)
                .map_err(|error| refused(format!("not an event: {error}")))?;
            for consumer in self.consumers.iter() {
                let effect = consumer.effect(&event).await;
                let effect =
                    effect.map_err(|error| refused(format!("{}: {error}", consumer.name())))?;
                if let Some(effect) = effect {
                    let effects = [(event.id.clone(), effect)];
                    let now = self.wall.now();
                    self.inbox.apply(consumer.name(), &effects, now).await?;
                }
            }
            Ok(())
        })
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.consumers.iter().map(|consumer| consumer.name());
        f.debug_list().entries(names).finish()
    }
}
