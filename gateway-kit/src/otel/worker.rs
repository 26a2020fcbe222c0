//! The task that sends spans.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use resilience_core::retry::{Backoff, Jitter};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Span, SpanCounts};

/// Where spans go.
pub(super) trait Exporter: Send + Sync + 'static {
    /// Sends a batch; how many of it were refused, if it was taken.
    fn export<'s>(&'s self, spans: &'s [Span]) -> BoxFuture<'s, Result<usize, Failed>>;
}

/// Why a batch was not taken.
#[derive(Debug)]
pub(super) enum Failed {
    /// It may be sent again, after that time if one was named.
    ForNow(String, Option<Duration>),
    /// It will not be taken at all.
    ForGood(String),
}

/// The most spans of one call.
pub(super) const BATCH: usize = 512;
/// How often a batch is sent at most.
pub(super) const TRIES: u32 = 5;
/// The shortest and the longest pause before it is sent again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub(super) struct Worker {
    pub(super) spans: mpsc::Receiver<Span>,
    pub(super) flushes: mpsc::Receiver<oneshot::Sender<()>>,
    pub(super) exporter: Box<dyn Exporter>,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) counts: Arc<SpanCounts>,
}

impl Worker {
    /// Sends until nobody is left who gives spans.
    pub(super) async fn run(mut self) {
        let mut batch = Vec::new();
        let mut due = None;
        loop {
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let room = BATCH - batch.len();
            tokio::select! {
                taken = self.spans.recv_many(&mut batch, room) => {
                    if taken == 0 {
                        return self.send(&mut batch).await;
                    }
                    due.get_or_insert_with(|| Instant::now() + self.interval);
                    if batch.len() < BATCH {
                        continue;
                    }
                }
                () = wait => {}
                Some(done) = self.flushes.recv() => {
                    self.drain(&mut batch).await;
                    due = None;
                    let _ = done.send(());
                    continue;
                }
            }
            self.send(&mut batch).await;
            due = None;
        }
    }

    /// Sends all that is there.
    async fn drain(&mut self, batch: &mut Vec<Span>) {
        loop {
            while batch.len() < BATCH
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            self.send(batch).await;
        }
    }

    /// Sends a batch, several times if need be; it is empty then.
    async fn send(&self, batch: &mut Vec<Span>) {
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        let mut tries = 0;
        loop {
            tries += 1;
            let sent = tokio::time::timeout(self.timeout, self.exporter.export(batch)).await;
            let late = || Err(Failed::ForNow("no answer in time".to_owned(), None));
            match sent.unwrap_or_else(|_| late()) {
                Ok(refused) => {
                    let refused = (refused as u64).min(count);
                    self.counts.exported.increment(count - refused);
                    self.counts.rejected.increment(refused);
                    break;
                }
                Err(Failed::ForGood(why)) => {
                    tracing::warn!(spans = count, why, "spans refused");
                    self.counts.rejected.increment(count);
                    break;
                }
                Err(Failed::ForNow(why, _)) if tries == TRIES => {
                    tracing::warn!(spans = count, why, "spans not sent");
                    self.counts.failed.increment(count);
                    break;
                }
                Err(Failed::ForNow(_, after)) => {
                    let asked = after.map(|after| after.min(LONGEST_PAUSE));
                    tokio::time::sleep(asked.unwrap_or_else(|| pause_after(tries))).await;
                }
            }
        }
        batch.clear();
    }
}

/// The pause after so many tries, spread so that many gateways do not come at once.
fn pause_after(tries: u32) -> Duration {
    let random = Uuid::new_v4().as_u64_pair().1;
    Backoff::new(FIRST_PAUSE, LONGEST_PAUSE).map_or(LONGEST_PAUSE, |backoff| {
        let backoff = backoff.jitter(Jitter::Equal);
        backoff.wait(tries, Duration::ZERO, random)
    })
}
