//! Keys that are fetched from their issuer, and what is done while it is down.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::header::{ACCEPT, HOST, HeaderValue, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::BodyExt;
use metrics::Counter;
use parking_lot::Mutex;
use resilience_core::clock::{Clock, SharedClock};
use tokio::sync::watch;

use super::keys::{Key, read_set};
use crate::body::Body;
use crate::config::{HttpUrl, JwtAlgorithm, JwtConfig};
use crate::shared::Shared;
use crate::upstream::forward::check_answer;
use crate::upstream::pool::{Pool, Settings, Target};
use crate::upstream::upload::Upload;

/// The keys behind one address.
#[derive(Debug)]
pub(crate) struct KeySet {
    /// What it is found again by.
    pub(crate) name: String,
    url: HttpUrl,
    algorithms: Vec<JwtAlgorithm>,
    refresh: Duration,
    max_age: Duration,
    min_interval: Duration,
    timeout: Duration,
    pool: Arc<Pool>,
    clock: SharedClock,
    fetched: ArcSwapOption<Fetched>,
    attempt: Mutex<Attempt>,
    /// Goes up with each fetch that ends.
    ended: watch::Sender<u64>,
    good: Counter,
    bad: Counter,
}

#[derive(Debug)]
struct Fetched {
    keys: Vec<Key>,
    at: Duration,
}

/// The last fetch.
#[derive(Debug, Default)]
struct Attempt {
    running: bool,
    /// When it began.
    at: Option<Duration>,
    failed: bool,
}

/// Why there is no key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NoKey {
    /// The issuer has none like it.
    Unknown,
    /// Whether the issuer has it is not known.
    Unavailable,
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("no answer in time")]
    TimedOut,
    #[error("{0}")]
    Send(String),
    #[error("status {0}")]
    Status(StatusCode),
    #[error("the answer cannot be read: {0}")]
    Answer(String),
    #[error("none of its keys can be used")]
    NoKeys,
}

/// The most of an answer that is read.
const LONGEST: usize = 1 << 20;

impl KeySet {
    /// What tells sets apart: the address and all that fetched keys depend on.
    pub(crate) fn name_of(config: &JwtConfig, url: &HttpUrl) -> String {
        let times = (
            config.refresh,
            config.max_age,
            config.min_interval,
            config.timeout,
        );
        let rest = (&config.algorithms, &config.ca_file, times);
        format!("{} {rest:?}", url.as_str())
    }

    pub(crate) fn new(config: &JwtConfig, url: &HttpUrl, shared: &Shared) -> Self {
        let authority = url.endpoint().authority().to_owned();
        let target = Target {
            address: authority.clone(),
            authority,
            tls: url.endpoint().is_tls(),
        };
        let mut settings = Settings::default();
        settings.set_tls(&config.tls());
        settings.connect_timeout = config.timeout;
        // Keys are fetched too rarely for a connection to be kept.
        settings.max_idle = 0;
        Self {
            name: Self::name_of(config, url),
            url: url.clone(),
            algorithms: config.algorithms.clone(),
            refresh: config.refresh,
            max_age: config.max_age,
            min_interval: config.min_interval,
            timeout: config.timeout,
            pool: Arc::new(Pool::new(target, settings, shared.clock.clone())),
            clock: shared.clock.clone(),
            fetched: ArcSwapOption::empty(),
            attempt: Mutex::default(),
            ended: watch::Sender::new(0),
            good: shared.metrics.key_fetch("ok"),
            bad: shared.metrics.key_fetch("failed"),
        }
    }

    /// Begins to fetch keys if there are none yet, so that the first request finds them.
    pub(crate) fn warm(self: &Arc<Self>) {
        if self.fetched.load().is_none() {
            self.start();
        }
    }

    /// The keys that `is_meant`, as they are known, or fetched now if it is time or none is.
    pub(crate) async fn find(
        self: &Arc<Self>,
        is_meant: impl Fn(&Key) -> bool,
    ) -> Result<Vec<Key>, NoKey> {
        if let Some(known) = self.usable() {
            if self.clock.now().saturating_sub(known.at) >= self.refresh {
                self.start();
            }
            let found = meant(&known, &is_meant);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let mut ended = self.ended.subscribe();
        if self.start() {
            // The fetch itself is bounded; this is in case that it was lost.
            let most = self.timeout + Duration::from_secs(1);
            let _ = tokio::time::timeout(most, ended.changed()).await;
        }
        let failed = {
            let attempt = self.attempt.lock();
            attempt.failed || attempt.running
        };
        let known = self.usable().ok_or(NoKey::Unavailable)?;
        let found = meant(&known, &is_meant);
        match (found.is_empty(), failed) {
            (false, _) => Ok(found),
            (true, true) => Err(NoKey::Unavailable),
            (true, false) => Err(NoKey::Unknown),
        }
    }

    /// What was fetched, unless it is too old.
    fn usable(&self) -> Option<Arc<Fetched>> {
        let fetched = self.fetched.load_full()?;
        let age = self.clock.now().saturating_sub(fetched.at);
        (age < self.max_age).then_some(fetched)
    }

    /// Begins a fetch unless the last one was a moment ago; whether one runs.
    fn start(self: &Arc<Self>) -> bool {
        let now = self.clock.now();
        let mut attempt = self.attempt.lock();
        if attempt.running {
            return true;
        }
        let since = attempt.at.map(|at| now.saturating_sub(at));
        if since.is_some_and(|since| since < self.min_interval) {
            return false;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return false;
        };
        attempt.running = true;
        attempt.at = Some(now);
        let running = Running(Arc::clone(self));
        // Apart from the request, whose client may leave.
        runtime.spawn(async move { running.run().await });
        true
    }

    async fn fetch(&self) -> Result<Vec<Key>, FetchError> {
        let mut request = Request::new(Upload::new(Body::empty()));
        *request.uri_mut() = Uri::from(self.url.path().clone());
        let headers = request.headers_mut();
        let json = HeaderValue::from_static("application/json, application/jwk-set+json");
        headers.insert(ACCEPT, json);
        headers.insert(USER_AGENT, HeaderValue::from_static("gateway-kit/jwks"));
        let send = |error: String| FetchError::Send(error);
        let host = HeaderValue::from_str(self.pool.authority());
        headers.insert(HOST, host.map_err(|error| send(error.to_string()))?);
        let sent = self.pool.send(&mut Some(request)).await;
        let (mut response, lease) = sent.map_err(|error| send(error.to_string()))?;
        let status = response.status();
        check_answer(status, response.headers_mut(), None)
            .map_err(|why| FetchError::Answer(why.to_owned()))?;
        if status != StatusCode::OK {
            return Err(FetchError::Status(status));
        }
        let mut body = Body::from(response.into_body()).leased(lease);
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| FetchError::Answer(error.to_string()))?;
            if let Some(data) = frame.data_ref() {
                text.extend_from_slice(data);
            }
            if text.len() > LONGEST {
                return Err(FetchError::Answer(format!("longer than {LONGEST} bytes")));
            }
        }
        let set = read_set(&text, &self.algorithms, true);
        let (keys, unusable) = set.map_err(|error| FetchError::Answer(error.to_string()))?;
        for why in unusable {
            tracing::debug!(url = self.url.as_str(), %why, "a key of the issuer is not used");
        }
        match keys.is_empty() {
            true => Err(FetchError::NoKeys),
            false => Ok(keys),
        }
    }
}

fn meant(known: &Fetched, is_meant: &impl Fn(&Key) -> bool) -> Vec<Key> {
    let keys = known.keys.iter().filter(|key| is_meant(key));
    keys.cloned().collect()
}

/// A fetch; when it is dropped it has ended, however.
struct Running(Arc<KeySet>);

impl Running {
    async fn run(self) {
        let set = &self.0;
        let fetched = tokio::time::timeout(set.timeout, set.fetch()).await;
        let fetched = fetched.unwrap_or(Err(FetchError::TimedOut));
        let failed = fetched.is_err();
        match fetched {
            Ok(keys) => {
                let at = set.clock.now();
                set.fetched.store(Some(Arc::new(Fetched { keys, at })));
                set.good.increment(1);
            }
            Err(error) => {
                tracing::warn!(url = set.url.as_str(), %error, "keys of an issuer not fetched");
                set.bad.increment(1);
            }
        }
        set.attempt.lock().failed = failed;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.attempt.lock().running = false;
        self.0
            .ended
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}
