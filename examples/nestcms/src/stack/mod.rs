//! Sandbox, application and gateway in one process, joined by real HTTP on loopback.
//!
//! ```text
//! browser, client, PayTabs callback ──▶ gateway ──▶ application ──▶ PayTabs sandbox
//! ```

mod clock;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use gateway_kit::Gateway;
use paytabs_sandbox::{RetryPolicy, Sandbox, SandboxConfig, Stats, Switches};
use resilience_core::clock::SharedClock;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use webhook_verify::clock::WallClock;

pub use self::clock::OffsetClock;
use crate::app::{App, AppState, Deps};
use crate::settings::Settings;

/// Where the three listen, and what they are told.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// The application's settings; addresses and URLs in them are replaced by the real ones.
    pub settings: Settings,
    /// Where the gateway listens; default a free port on 127.0.0.1.
    pub gateway: SocketAddr,
    /// Where the application listens; default a free port on 127.0.0.1.
    pub application: SocketAddr,
    /// Where the sandbox listens; default a free port on 127.0.0.1.
    pub sandbox: SocketAddr,
    /// Peers whose forwarding headers the gateway believes; default none.
    pub trusted_proxies: Vec<IpAddr>,
    /// The sandbox's wait before it repeats a callback, doubled each time; default 1 s.
    pub callback_retry: Duration,
    /// How much longer reads of the application's content take; default nothing.
    pub store_delay: Option<RangeInclusive<Duration>>,
}

/// The running set. Dropping it stops everything at once, [`stop`](Self::stop) in order.
#[derive(Debug)]
pub struct Stack {
    /// Where clients go.
    pub gateway_url: String,
    /// The application itself.
    pub application_url: String,
    /// The PayTabs sandbox.
    pub sandbox_url: String,
    /// The application's handles.
    pub state: AppState,
    /// The sandbox's switches.
    pub switches: Switches,
    /// The sandbox's counts.
    pub stats: Stats,
    /// The monotonic clock of the application's breakers and caches.
    pub clock: OffsetClock,
    /// The wall clock of application and sandbox.
    pub wall: OffsetClock,
    /// The settings in force.
    pub settings: Settings,
    stopping: CancellationToken,
    tasks: JoinSet<()>,
}

/// Why the set does not start.
#[derive(Debug, thiserror::Error)]
#[error("{part} does not start: {reason}")]
#[non_exhaustive]
pub struct StackError {
    /// Which part.
    pub part: &'static str,
    /// Why.
    pub reason: String,
}

impl StackConfig {
    /// Everything on free loopback ports.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            settings,
            gateway: free,
            application: free,
            sandbox: free,
            trusted_proxies: Vec::new(),
            callback_retry: Duration::from_secs(1),
            store_delay: None,
        }
    }
}

impl Stack {
    /// Starts sandbox, gateway and application, in this order.
    ///
    /// # Errors
    ///
    /// [`StackError`] that names the part that does not start.
    pub async fn start(config: StackConfig) -> Result<Self, StackError> {
        let (clock, wall) = (OffsetClock::default(), OffsetClock::default());
        let mut settings = config.settings.clone();
        let sandbox = sandbox(&config, wall.clone()).await?;
        let listener = TcpListener::bind(config.application).await;
        let listener = listener.map_err(failed("the application"))?;
        settings.listen = listener.local_addr().map_err(failed("the application"))?;
        let gateway = gateway(&config, settings.listen).await?;
        let gateway_url = format!("http://{}", gateway.local_addr());
        settings.public_url.clone_from(&gateway_url);
        settings.paytabs.base_url = sandbox.url();
        let deps = Deps {
            wall: Arc::new(wall.clone()),
            clock: SharedClock::new(clock.clone()),
            store_delay: config.store_delay.clone(),
        };
        let app = App::build(settings.clone(), deps).await;
        let app = app.map_err(failed("the application"))?;

        let stopping = CancellationToken::new();
        let mut stack = Self {
            gateway_url,
            application_url: format!("http://{}", settings.listen),
            sandbox_url: sandbox.url(),
            state: app.state().clone(),
            switches: sandbox.switches(),
            stats: sandbox.stats(),
            clock,
            wall,
            settings,
            stopping: stopping.clone(),
            tasks: JoinSet::new(),
        };
        let stop = || stopping.clone().cancelled_owned();
        stack.spawn("the sandbox", sandbox.serve(stop()));
        stack.spawn("the gateway", gateway.serve(stop()));
        stack.spawn("the application", app.serve(listener, stop()));
        Ok(stack)
    }

    /// Resolves when a part has ended by itself, which it should not.
    pub async fn ended(&mut self) {
        self.tasks.join_next().await;
    }

    /// Stops all parts: no new requests, running ones get a moment, then the end.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            // Live status pages never end by themselves.
            tracing::info!("stopping: closing connections that are still open");
        }
        self.tasks.shutdown().await;
    }

    fn spawn<E: std::fmt::Display>(
        &mut self,
        part: &'static str,
        serving: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(part, %error, "ended");
            }
        });
    }
}

async fn sandbox(config: &StackConfig, wall: OffsetClock) -> Result<Sandbox, StackError> {
    let paytabs = &config.settings.paytabs;
    let bound = Sandbox::bind(SandboxConfig {
        listen: config.sandbox,
        profile_id: paytabs.profile_id,
        server_key: paytabs.server_key.expose().to_owned(),
        retry: RetryPolicy {
            base_delay: config.callback_retry,
            ..RetryPolicy::default()
        },
        clock: paytabs_sandbox::Clock::new(move || wall.now()),
        ..SandboxConfig::default()
    });
    bound.await.map_err(failed("the sandbox"))
}

// The application says 502 to 504 about PayTabs and its other dependencies, each behind a
// breaker of its own. The gateway's breaker is for the application itself: if it counted
// those answers, an outage of PayTabs would close the whole house.
async fn gateway(config: &StackConfig, application: SocketAddr) -> Result<Gateway, StackError> {
    let proxies: Vec<String> = config
        .trusted_proxies
        .iter()
        .map(|address| format!("\"{address}\""))
        .collect();
    let text = format!(
        "listen = \"{}\"\ntrusted_proxies = [{}]\n{GATEWAY}\n[upstream.nestcms]\n\
         endpoints = [\"http://{application}\"]\nrequired = true\n\
         ignored_statuses = [502, 503, 504]\n",
        config.gateway,
        proxies.join(", ")
    );
    let parsed = gateway_kit::Config::from_toml(&text).map_err(failed("the gateway"))?;
    Gateway::bind(parsed).await.map_err(failed("the gateway"))
}

fn failed<E: std::fmt::Display>(part: &'static str) -> impl Fn(E) -> StackError {
    move |error| StackError {
        part,
        reason: error.to_string(),
    }
}

/// What the gateway passes on. Health and metrics of its own stay its own.
const GATEWAY: &str = r#"
[[route]]
prefix = "/api"
upstream = "nestcms"
[[route]]
prefix = "/status"
upstream = "nestcms"
[shutdown]
delay = "0s"
timeout = "2s"
[rate_limit]
requests = 6000
window = "1m"
burst = 3000
"#;

/// How long running requests may take at the end.
const GRACE: Duration = Duration::from_secs(3);
