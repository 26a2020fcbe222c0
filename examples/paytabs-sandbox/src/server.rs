//! Binding, routing, serving and stopping one sandbox.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cut::{Cut, CuttableListener};
use crate::ledger::{Ledger, Transaction};
use crate::{ConfigError, SandboxConfig, Stats, Switches, api, control, faults, page};

/// Largest request body; PayTabs' own requests are far smaller.
const BODY_LIMIT: usize = 64 * 1024;
/// How long running calls may take after the stop.
const GRACE: Duration = Duration::from_secs(2);

/// Why a sandbox does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The HTTP client for callbacks cannot be made.
    #[error("cannot make the callback client: {0}")]
    Client(#[from] reqwest::Error),
}

/// What all handlers of one sandbox share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) config: Arc<SandboxConfig>,
    pub(crate) base_url: Arc<str>,
    pub(crate) ledger: Arc<Mutex<Ledger>>,
    pub(crate) switches: Switches,
    pub(crate) stats: Stats,
    pub(crate) client: reqwest::Client,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Shared {
    pub(crate) fn page_url(&self, transaction: &Transaction) -> String {
        format!("{}/payment/page/{}", self.base_url, transaction.page)
    }

    /// The key that callbacks and return forms are signed with; a wrong one on request.
    pub(crate) fn signing_key(&self) -> String {
        let key = &self.config.server_key;
        match self.switches.get().wrong_signatures {
            true => format!("not-{key}"),
            false => key.clone(),
        }
    }
}

/// One bound sandbox; any number may run in a process.
#[derive(Debug)]
pub struct Sandbox {
    listener: TcpListener,
    address: SocketAddr,
    shared: Shared,
}

impl Sandbox {
    /// Checks the settings and binds the address.
    ///
    /// # Errors
    /// A setting that cannot work, an address in use, no HTTP client.
    pub async fn bind(config: SandboxConfig) -> Result<Self, Error> {
        config.check()?;
        let bound = async {
            let listener = TcpListener::bind(config.listen).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = bound.await.map_err(|source| Error::Bind {
            address: config.listen,
            source,
        })?;
        let base_url = match &config.public_url {
            Some(url) => url.trim_end_matches('/').into(),
            None => format!("http://{address}").into(),
        };
        let shared = Shared {
            config: Arc::new(config),
            base_url,
            ledger: Arc::default(),
            switches: Switches::new(),
            stats: Stats::default(),
            client: reqwest::Client::builder().build()?,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        Ok(Self {
            listener,
            address,
            shared,
        })
    }

    /// The address bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The base URL under which clients reach it.
    #[must_use]
    pub fn url(&self) -> String {
        self.shared.base_url.to_string()
    }

    /// A handle to the switches; works while the sandbox serves.
    #[must_use]
    pub fn switches(&self) -> Switches {
        self.shared.switches.clone()
    }

    /// A handle to the counts.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats.clone()
    }

    /// Serves until `shutdown` resolves; callbacks not yet acknowledged are given up then.
    ///
    /// # Errors
    /// The listener broke.
    pub async fn serve(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let stop = self.shared.stop.clone();
        let tasks = self.shared.tasks.clone();
        let service = router(self.shared).into_make_service_with_connect_info::<Cut>();
        let stopping = stop.clone();
        let serving = axum::serve(CuttableListener(self.listener), service).with_graceful_shutdown(
            async move {
                shutdown.await;
                stopping.cancel();
            },
        );
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = serving.into_future() => served?,
            () = overdue => {}
        }
        tasks.close();
        tasks.wait().await;
        Ok(())
    }
}

fn router(shared: Shared) -> Router {
    let api = Router::new()
        .route("/payment/request", post(api::request))
        .route("/payment/query", post(api::query))
        .layer(from_fn_with_state(shared.clone(), faults::inject));
    Router::new()
        .route("/payment/page/{page}", get(page::show).post(page::decide))
        .route(
            "/sandbox/switches",
            get(control::show_switches).put(control::change_switches),
        )
        .route("/sandbox/stats", get(control::show_stats))
        .route("/sandbox/reset", post(control::reset))
        .merge(api)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(shared)
}
