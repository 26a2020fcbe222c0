//! What tasks do.

use std::{fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{MESSAGE, PUBLISH};
use crate::{
    content::{ContentService, Error},
    domain::{content::Article, task::Task},
    events::Channel,
    ports::See,
};

/// Runs tasks. A run may be the second one, after a worker that died behind the effect.
pub trait Work: Debug + Send + Sync {
    /// Runs `task`; what it has to say in the end.
    fn run<'a>(&'a self, task: &'a Task) -> BoxFuture<'a, Result<String, WorkError>>;
}

/// A run that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkError {
    /// Another run may do better.
    #[error("{0}")]
    Again(String),
    /// No run will do better.
    #[error("{0}")]
    Never(String),
}

/// The tasks of the application.
#[derive(Clone, Debug)]
pub struct Jobs {
    content: ContentService,
    channel: Arc<dyn Channel>,
}

/// What [`PUBLISH`] is about.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Publish {
    /// The article.
    pub article: String,
    /// Which is replaced once: by this task, or by somebody else.
    pub version: i64,
}

impl Jobs {
    /// Publishes through `content`, sends through `channel`.
    #[must_use]
    pub fn new(content: ContentService, channel: Arc<dyn Channel>) -> Self {
        Self { content, channel }
    }

    async fn publish(&self, publish: Publish) -> Result<String, WorkError> {
        let Publish { article, version } = publish;
        let found = self.content.read::<Article>(&article, See::Newest).await;
        let mut content = found.map_err(failed)?.value.content;
        content.status = "published".to_owned();
        let written = self.content.update(&article, content, Some(version)).await;
        match written {
            Ok(written) => Ok(format!("published, version {}", written.record.version)),
            Err(Error::Stale(now)) => {
                // Perhaps by a worker that died before it told the cache.
                self.content.forget::<Article>(&article).await;
                Ok(format!("nothing to do, it has version {now}"))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

impl Work for Jobs {
    fn run<'a>(&'a self, task: &'a Task) -> BoxFuture<'a, Result<String, WorkError>> {
        Box::pin(async move {
            match task.kind.as_str() {
                PUBLISH => self.publish(payload(task)?).await,
                MESSAGE => {
                    let sent = self.channel.send(payload(task)?).await;
                    sent.map_err(|error| WorkError::Again(error.to_string()))?;
                    Ok("sent".to_owned())
                }
                other => Err(WorkError::Never(format!("nobody knows how to do {other}"))),
            }
        })
    }
}

fn payload<T: DeserializeOwned>(task: &Task) -> Result<T, WorkError> {
    T::deserialize(&task.payload)
        .map_err(|error| WorkError::Never(format!("the payload is not readable: {error}")))
}

fn failed(error: Error) -> WorkError {
    match error {
        Error::NotFound(_) | Error::Unrelated(_) => WorkError::Never(error.to_string()),
        other => WorkError::Again(other.to_string()),
    }
}
