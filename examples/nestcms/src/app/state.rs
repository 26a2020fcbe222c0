//! The parts of one instance.

use std::sync::Arc;

use axum::extract::FromRef;
use webhook_verify::clock::WallClock;

use crate::{
    adapters::{
        breakers::Breakers,
        http::{status::StatusPage, webhook::WebhookGuard},
        nats::{Nats, Subscription},
        postgres::Postgres,
        sqlite::Database,
    },
    auth::AuthService,
    content::ContentService,
    events::{EventBus, listeners::Analytics},
    health::Health,
    metrics::Metrics,
    outbox::{Dispatcher, Wake},
    payments::PaymentService,
    ports::{EventSink, Outbox, StoreError},
    settings::Settings,
    tasks::{TaskService, Workers},
};

/// The parts of one instance; clones share them.
#[derive(Clone, Debug)]
pub struct AppState {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) settings: Settings,
    pub(super) bus: EventBus,
    pub(super) breakers: Breakers,
    pub(super) database: Database,
    pub(super) postgres: Option<Postgres>,
    pub(super) nats: Option<Nats>,
    pub(super) payments: PaymentService,
    pub(super) webhook: WebhookGuard,
    pub(super) auth: AuthService,
    pub(super) analytics: Analytics,
    pub(super) content: ContentService,
    pub(super) tasks: TaskService,
    pub(super) workers: Workers,
    pub(super) status: StatusPage,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) dispatcher: Dispatcher,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) wake: Wake,
    pub(super) wall: Arc<dyn WallClock>,
}

impl AppState {
    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The event bus.
    #[must_use]
    pub fn bus(&self) -> &EventBus {
        &self.inner.bus
    }

    /// The event bus as a port.
    #[must_use]
    pub fn sink(&self) -> Arc<dyn EventSink> {
        Arc::new(self.inner.bus.clone())
    }

    /// The circuit breakers.
    #[must_use]
    pub fn breakers(&self) -> &Breakers {
        &self.inner.breakers
    }

    /// The embedded database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.inner.database
    }

    /// The cluster that is used in its place, if one is.
    #[must_use]
    pub fn postgres(&self) -> Option<&Postgres> {
        self.inner.postgres.as_ref()
    }

    /// The message broker, if one is used.
    #[must_use]
    pub fn nats(&self) -> Option<&Nats> {
        self.inner.nats.as_ref()
    }

    /// The payment service.
    #[must_use]
    pub fn payments(&self) -> &PaymentService {
        &self.inner.payments
    }

    /// The service of the content.
    #[must_use]
    pub fn content(&self) -> &ContentService {
        &self.inner.content
    }

    /// What is done after the answer.
    #[must_use]
    pub fn tasks(&self) -> &TaskService {
        &self.inner.tasks
    }

    /// Who does it; they work while the instance is served.
    #[must_use]
    pub fn workers(&self) -> &Workers {
        &self.inner.workers
    }

    /// The webhook checks, their keys and addresses.
    #[must_use]
    pub fn webhook(&self) -> &WebhookGuard {
        &self.inner.webhook
    }

    /// Liveness and readiness.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.inner.health
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// The outbox and the dead letters.
    #[must_use]
    pub fn outbox(&self) -> &dyn Outbox {
        &*self.inner.outbox
    }

    /// What publishes the outbox of this instance.
    #[must_use]
    pub fn dispatcher(&self) -> &Dispatcher {
        &self.inner.dispatcher
    }

    /// Puts a dead letter back into the outbox; `false` if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn replay(&self, id: &str) -> Result<bool, StoreError> {
        let found = self.inner.outbox.replay(id, self.inner.wall.now()).await?;
        self.inner.wake.wake();
        Ok(found)
    }

    /// Totals per hour and currency.
    #[must_use]
    pub fn analytics(&self) -> &Analytics {
        &self.inner.analytics
    }
}

impl FromRef<AppState> for PaymentService {
    fn from_ref(state: &AppState) -> Self {
        state.inner.payments.clone()
    }
}

impl FromRef<AppState> for ContentService {
    fn from_ref(state: &AppState) -> Self {
        state.inner.content.clone()
    }
}

impl FromRef<AppState> for TaskService {
    fn from_ref(state: &AppState) -> Self {
        state.inner.tasks.clone()
    }
}

impl FromRef<AppState> for AuthService {
    fn from_ref(state: &AppState) -> Self {
        state.inner.auth.clone()
    }
}

impl FromRef<AppState> for StatusPage {
    fn from_ref(state: &AppState) -> Self {
        state.inner.status.clone()
    }
}

impl FromRef<AppState> for Health {
    fn from_ref(state: &AppState) -> Self {
        state.inner.health.clone()
    }
}

impl FromRef<AppState> for Metrics {
    fn from_ref(state: &AppState) -> Self {
        state.inner.metrics.clone()
    }
}
