//! Spans of requests, for a collector of OpenTelemetry.
//!
//! A request gives its spans to a bounded queue when it has ended and waits for nothing; a task
//! sends them in batches. What finds no room, or nobody who takes it, is dropped and counted.

mod http;
mod json;
mod record;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::http::HeaderValue;
use metrics::Counter;
use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::record::{Ended, Recording};
use self::worker::Worker;
use crate::config::OtelConfig;
use crate::metrics::Metrics;
use crate::shared::Shared;

/// One piece of work of a trace.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    trace: [u8; 16],
    id: [u8; 8],
    parent: Option<[u8; 8]>,
    /// The parent is of another process.
    remote: bool,
    state: Option<HeaderValue>,
    kind: Kind,
    name: String,
    /// Nanoseconds after 1970.
    start: u64,
    end: u64,
    attributes: Vec<(&'static str, Value)>,
    failed: bool,
}

/// The kinds of spans that there are here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Server,
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Number(u32),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// What is counted.
pub(crate) struct SpanCounts {
    pub(crate) exported: Counter,
    pub(crate) queue_full: Counter,
    /// Sent as often as it is tried, without success.
    pub(crate) failed: Counter,
    /// Refused by the collector.
    pub(crate) rejected: Counter,
    /// Nobody sends any more.
    pub(crate) stopped: Counter,
}

impl std::fmt::Debug for SpanCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpanCounts").finish_non_exhaustive()
    }
}

/// The way of spans to one collector, by one configuration. It ends, with what is in it sent, when
/// the last request has ended that began by this configuration.
pub(crate) struct Export {
    config: OtelConfig,
    queue: mpsc::Sender<Span>,
    flush: mpsc::Sender<oneshot::Sender<()>>,
    counts: Arc<SpanCounts>,
    // ORDERING: Relaxed; it only spares the lock below, which decides.
    started: AtomicBool,
    worker: Mutex<Option<Worker>>,
}

impl Export {
    fn new(config: &OtelConfig, exporter: impl worker::Exporter, metrics: &Metrics) -> Self {
        let (queue, spans) = mpsc::channel(config.max_queue);
        let (flush, flushes) = mpsc::channel(1);
        let counts = Arc::new(metrics.spans());
        let worker = Worker {
            spans,
            flushes,
            exporter: Box::new(exporter),
            interval: config.interval,
            timeout: config.timeout,
            counts: Arc::clone(&counts),
        };
        Self {
            config: config.clone(),
            queue,
            flush,
            counts,
            started: AtomicBool::new(false),
            worker: Mutex::new(Some(worker)),
        }
    }

    /// What `config` asks for: the way that there is, if it is the same, else a new one.
    pub(crate) fn compile(config: &OtelConfig, shared: &Shared) -> Result<Arc<Self>, crate::Error> {
        let known = shared.otel.lock().clone();
        if let Some(known) = known.filter(|known| known.config == *config) {
            return Ok(known);
        }
        let exporter = http::Collector::new(config, shared)
            .map_err(|why| crate::Error::Settings(format!("otel.headers: {why}")))?;
        Ok(Arc::new(Self::new(config, exporter, &shared.metrics)))
    }

    /// Gives all spans of a request to the queue, or drops all.
    pub(crate) fn take(&self, spans: Vec<Span>) {
        self.start();
        let count = spans.len();
        match self.queue.try_reserve_many(count) {
            Ok(places) => places.zip(spans).for_each(|(place, span)| place.send(span)),
            Err(TrySendError::Full(())) => self.counts.queue_full.increment(count as u64),
            Err(TrySendError::Closed(())) => self.counts.stopped.increment(count as u64),
        }
    }

    /// Begins to send with the first spans, where there is certainly a runtime.
    fn start(&self) {
        if self.started.load(Ordering::Relaxed) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if let Some(worker) = self.worker.lock().take() {
            runtime.spawn(worker.run());
        }
        self.started.store(true, Ordering::Relaxed);
    }

    /// Sends what is in the queue now; done when that has been tried.
    pub(crate) async fn flush(&self) {
        if !self.started.load(Ordering::Relaxed) {
            return;
        }
        let (tell, told) = oneshot::channel();
        if self.flush.send(tell).await.is_ok() {
            let _ = told.await;
        }
    }
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
