//! One instance of the application, wired together.

mod background;
mod build;
mod listeners;
mod state;

use std::{future::Future, io, net::SocketAddr, ops::RangeInclusive, sync::Arc, time::Duration};

use axum::Router;
use resilience_core::clock::SharedClock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use webhook_verify::clock::{SystemClock, WallClock};

pub use build::{BuildError, outbox};
pub use state::AppState;

use crate::{
    adapters::http,
    correlation,
    domain::event::{EventData, Source},
    ports::EventSink,
    settings::Settings,
};

/// What comes from outside the settings.
#[derive(Clone, Debug)]
pub struct Deps {
    /// The monotonic clock of breakers and cache.
    pub clock: SharedClock,
    /// The wall clock of payments, events, tokens and webhook timestamps.
    pub wall: Arc<dyn WallClock>,
    /// How much longer reads of the content take than they would; nothing by default.
    pub store_delay: Option<RangeInclusive<Duration>>,
}

impl Default for Deps {
    fn default() -> Self {
        Self {
            clock: SharedClock::std(),
            wall: Arc::new(SystemClock),
            store_delay: None,
        }
    }
}

/// One instance, ready to serve.
#[derive(Debug)]
pub struct App {
    state: AppState,
}

impl App {
    /// Opens the database, runs the migrations and wires everything.
    ///
    /// # Errors
    ///
    /// [`BuildError`] that names what does not work.
    pub async fn build(settings: Settings, deps: Deps) -> Result<Self, BuildError> {
        let state = build::state(settings, deps).await?;
        Ok(Self { state })
    }

    /// The parts, shared with the running instance.
    #[must_use]
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// All routes. Serve it with `ConnectInfo<SocketAddr>`: the webhook checks need the
    /// address of the peer.
    pub fn router(&self) -> Router {
        http::router(self.state.clone())
    }

    /// Serves until `shutdown` is ready, and runs the background jobs meanwhile. Then
    /// requests, jobs and listeners have 5 seconds each to end.
    ///
    /// # Errors
    ///
    /// When the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let stop = CancellationToken::new();
        let jobs = background::start(&self.state, &stop);
        self.announce(|component, status, detail| EventData::SystemStarted {
            component,
            status,
            detail,
        });
        let service = self
            .router()
            .into_make_service_with_connect_info::<SocketAddr>();
        let (stopping, health) = (stop.clone(), self.state.health().clone());
        let server = axum::serve(listener, service).with_graceful_shutdown(async move {
            shutdown.await;
            health.stop();
            stopping.cancel();
        });
        let result = tokio::select! {
            result = server => result,
            // Streams that never end by themselves are cut.
            () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => Ok(()),
        };
        stop.cancel();
        self.announce(|component, status, detail| EventData::SystemStopping {
            component,
            status,
            detail,
        });
        if tokio::time::timeout(GRACE, jobs).await.is_err() {
            tracing::warn!("background jobs were cut");
        }
        let _ = self.state.bus().shutdown(GRACE).await;
        if let Some(nats) = self.state.nats() {
            let _ = tokio::time::timeout(GRACE, nats.close()).await;
        }
        let _ = tokio::time::timeout(GRACE, self.state.database().close()).await;
        result
    }

    fn announce(&self, event: impl FnOnce(String, String, String) -> EventData) {
        let data = event("nestcms".to_owned(), "ok".to_owned(), String::new());
        let id = correlation::generate();
        EventSink::emit(self.state.bus(), Source::HealthService, &id, data);
    }
}

const GRACE: Duration = Duration::from_secs(5);
