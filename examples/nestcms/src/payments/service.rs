//! The service, its ports, and what all operations share.

use std::{sync::Arc, time::Duration};

use webhook_verify::clock::WallClock;

use super::{Error, PaymentView};
use crate::{
    correlation,
    domain::{
        event::{Event, EventData, Source, Timestamp},
        payment::{Payment, Status},
    },
    flow,
    outbox::Wake,
    ports::{
        Cache, EventSink, JobKind, JobQueue, PaymentProvider, PaymentRepository, ProviderError,
    },
};

/// What the service needs from outside.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Keeps the payments.
    pub repository: Arc<dyn PaymentRepository>,
    /// Keeps the jobs.
    pub jobs: Arc<dyn JobQueue>,
    /// Makes pages and verifies.
    pub provider: Arc<dyn PaymentProvider>,
    /// Shows payments fast.
    pub cache: Arc<dyn Cache>,
    /// Takes the events.
    pub events: Arc<dyn EventSink>,
    /// Hears that there is something in the outbox.
    pub outbox: Wake,
    /// Tells the time.
    pub wall: Arc<dyn WallClock>,
}

/// What an operator may choose.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The time to complete a payment.
    pub expires_after: Duration,
    /// How long a callback has to settle its payment before the verification job, which
    /// is queued with it, runs as well. Longer than a call to the provider can take.
    pub verification_grace: Duration,
}

/// Creates, initiates, verifies and settles payments. Clones share everything.
#[derive(Clone, Debug)]
pub struct PaymentService {
    pub(super) ports: Ports,
    pub(super) rules: Rules,
}

impl PaymentService {
    /// A service over `ports`.
    #[must_use]
    pub fn new(ports: Ports, rules: Rules) -> Self {
        Self { ports, rules }
    }

    /// The payment of that id, from the cache if it is there.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], or [`Error::Store`] when the database does not answer.
    pub async fn get(&self, id: &str) -> Result<PaymentView, Error> {
        if let Ok(Some(text)) = self.ports.cache.get(&payment_key(id)).await
            && let Ok(view) = serde_json::from_str(&text)
        {
            return Ok(view);
        }
        let payment = self.ports.repository.find(id).await?;
        let payment = payment.ok_or(Error::NotFound)?;
        self.remember(&payment).await;
        Ok(PaymentView::from(&payment))
    }

    /// The newest payments, of one user or of all.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the database does not answer.
    pub async fn list(&self, user_id: Option<&str>, limit: u32) -> Result<Vec<PaymentView>, Error> {
        let payments = self.ports.repository.list(user_id, limit).await?;
        Ok(payments.iter().map(PaymentView::from).collect())
    }

    /// How many jobs of a kind are queued.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the database does not answer.
    pub async fn queued(&self, kind: JobKind) -> Result<u64, Error> {
        Ok(self.ports.jobs.queued(kind).await?)
    }

    pub(super) fn now(&self) -> Duration {
        self.ports.wall.now()
    }

    pub(super) fn emit(&self, source: Source, data: EventData) {
        flow::event(data.event_type());
        self.ports
            .events
            .emit(source, &correlation::current(), data);
    }

    /// Puts the payment into the cache; trouble there never fails a payment.
    pub(super) async fn remember(&self, payment: &Payment) {
        let Ok(text) = serde_json::to_string(&PaymentView::from(payment)) else {
            return;
        };
        let key = payment_key(&payment.id);
        if let Err(error) = self.ports.cache.put(&key, payment.version, text).await {
            tracing::debug!(%error, "payment not cached");
        }
    }

    /// Tells the world that a breaker refused us, if that is what happened.
    pub(super) fn report(&self, error: &ProviderError, operation: &str) {
        if let ProviderError::Unavailable {
            breaker,
            retry_after,
        } = error
        {
            let data = EventData::ServiceUnavailable {
                breaker: breaker.clone(),
                service: PROVIDER.to_owned(),
                operation: operation.to_owned(),
                retry_after_ms: u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX),
            };
            self.emit(Source::BreakerCaller, data);
        }
    }

    /// An event that goes into the outbox, and onto the bus by [`told`](Self::told).
    pub(super) fn event(&self, source: Source, data: EventData) -> Event {
        let at = Timestamp::from_unix(self.now());
        Event::new(source, &correlation::current(), at, data)
    }

    /// Puts an event onto the bus whose entry is committed. The bus tells at once and may forget;
    /// the outbox tells later, and does not.
    pub(super) fn told(&self, event: Event) {
        flow::event(event.event_type());
        self.ports.events.forward(event);
        self.ports.outbox.wake();
    }
}

/// The provider's name in events.
pub(super) const PROVIDER: &str = "paytabs";

/// That a payment moved on.
pub(super) fn status_changed(id: &str, from: Status, to: Status, actor: &str) -> EventData {
    EventData::StatusChanged {
        payment_id: id.to_owned(),
        from: from.to_string(),
        to: to.to_string(),
        actor: actor.to_owned(),
    }
}

/// The cache key of a payment.
pub(super) fn payment_key(id: &str) -> String {
    format!("payment:{id}")
}
