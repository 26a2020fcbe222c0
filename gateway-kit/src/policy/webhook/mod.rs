//! Deliveries of webhooks: only genuine ones, in time and each once, reach the service.
//!
//! What is checked and how is webhook-verify's; here are the settings, the answers and the counts.

mod scheme;
mod secrets;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CONTENT_LENGTH};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use webhook_verify::replay::{MemoryReplayStore, ReplayStore};
#[cfg(feature = "webhook-redis")]
use webhook_verify::replay::{RedisOptions, RedisReplayStore};
use webhook_verify::{Error, HeaderPolicy, IpRules, Reason, Reservation, Step, Verified, Verifier};

pub(crate) use self::scheme::{need, providers, scheme};
pub(crate) use self::secrets::public;

use crate::body::Body;
#[cfg(feature = "webhook-redis")]
use crate::config::ReplayRedisConfig;
use crate::config::{Switch, WebhookConfig, WebhookOrder};
use crate::guard::Checked;
use crate::metrics::Metrics;
use crate::policy::transform::{Unread, late, too_large};
use crate::problem::Problem;
use crate::shared::Shared;
use crate::wall::WallClock;

/// The verification of one route.
pub(crate) struct Webhook {
    verifier: Verifier,
    read_timeout: Duration,
    allow: Option<HeaderValue>,
    metrics: Arc<Metrics>,
    /// The route's label and what remembers its deliveries.
    deliveries: Option<(String, Arc<Deliveries>)>,
}

/// A delivery on its way: remembered as handled once the service has said so.
#[must_use = "dropping it lets the delivery come again"]
#[derive(Debug)]
pub(crate) struct Delivery {
    reservation: Option<Reservation>,
}

/// What becomes of a request of the route.
pub(crate) enum Checks {
    /// It goes on.
    Passed(Request<Body>, Delivery),
    /// It was handled before: said to be well, and not passed on.
    Repeated(Response<Body>),
}

impl Webhook {
    /// Reads the keys and builds the verifier of the route of that label.
    pub(crate) fn new(
        config: &WebhookConfig,
        label: &str,
        shared: &Shared,
    ) -> Result<Self, crate::Error> {
        let failed =
            |reason: String| crate::Error::Settings(format!("route {label}: webhook: {reason}"));
        let scheme = scheme(config).map_err(|(field, why)| failed(format!("{field} {why}")))?;
        let mut headers = HeaderPolicy::new();
        if let Some(kind) = &config.content_type {
            headers = headers.content_type(kind);
        }
        let order = match config.order {
            WebhookOrder::CheapFirst => Step::CHEAP_FIRST,
            WebhookOrder::SignatureFirst => Step::SIGNATURE_FIRST,
        };
        let mut builder = Verifier::builder(scheme.clone())
            .methods(config.methods.iter().map(|method| method.method().clone()))
            .headers(headers)
            .order(order)
            .body_limit(config.max_body.bytes() as usize)
            .clock(shared.wall.clone());
        for secret in &config.secrets {
            let read = secrets::read(&scheme, secret).map_err(failed)?;
            builder = match secret.until {
                Some(until) => builder.secret_until(read, Duration::from_secs(until)),
                None => builder.secret(read),
            };
        }
        if let Some(tolerance) = config.tolerance {
            builder = builder.tolerance(tolerance, tolerance);
        }
        if !config.allow.is_empty() {
            let networks = config.allow.iter().map(ToString::to_string);
            let rules = IpRules::allow(networks).map_err(|error| failed(error.to_string()))?;
            builder = builder.source(rules);
        }
        let mut deliveries = None;
        if let Switch::On(replay) = &config.replay {
            let store: Arc<dyn ReplayStore> = match &replay.redis {
                #[cfg(feature = "webhook-redis")]
                Some(redis) => {
                    if redis.insecure_accept_on_outage {
                        builder = builder.insecure_accept_on_replay_outage();
                    }
                    Arc::new(in_redis(redis).map_err(failed)?)
                }
                // `None`: what it is of has no values without the feature.
                _ => {
                    let known = shared.deliveries.get(label);
                    let new = || Arc::new(Deliveries::new(replay.max_deliveries));
                    let store = known.unwrap_or_else(new);
                    deliveries = Some((label.to_owned(), Arc::clone(&store)));
                    store
                }
            };
            builder = builder
                .replay_shared(store)
                .replay_namespace(label)
                .replay_lease(replay.lease);
            if let Some(lifetime) = replay.lifetime {
                builder = builder.replay_lifetime(lifetime);
            }
        }
        let methods: Vec<_> = config
            .methods
            .iter()
            .map(|one| one.method().as_str())
            .collect();
        Ok(Self {
            verifier: builder.build().map_err(|error| failed(error.to_string()))?,
            read_timeout: config.read_timeout,
            allow: HeaderValue::try_from(methods.join(", ")).ok(),
            metrics: Arc::clone(&shared.metrics),
            deliveries,
        })
    }

    /// What remembers the deliveries in memory, by the name of the route.
    pub(crate) fn deliveries(&self) -> Option<(String, Arc<Deliveries>)> {
        self.deliveries.clone()
    }

    /// Reads the delivery and judges it. Nothing of its body is asked for when its head is
    /// refused.
    pub(crate) async fn check(
        &self,
        request: Request<Body>,
        client: IpAddr,
        checked: &mut Checked,
    ) -> Result<Checks, Problem> {
        let (mut parts, body) = request.into_parts();
        let verified = self.verify(&parts, client, body).await;
        let (verified, body) = match verified {
            Ok(verified) => verified,
            Err(Refused::Unread(problem)) => {
                self.count(Step::Body.as_str(), "refused");
                return Err(problem);
            }
            Err(Refused::Judged(error)) => return Err(self.refused(&error)),
        };
        let reservation = match self.verifier.reserve(&verified).await {
            Ok(reservation) => reservation,
            Err(error) if *error.reason() == Reason::Duplicate => {
                self.count(Step::Replay.as_str(), "repeated");
                tracing::info!(key_id = verified.key_id(), "webhook repeated");
                return Ok(Checks::Repeated(Response::new(Body::empty())));
            }
            Err(error) => return Err(self.refused(&error)),
        };
        self.count("all", "accepted");
        parts.headers.insert(CONTENT_LENGTH, body.len().into());
        // What was read whole has a length.
        checked.chunked = false;
        let request = Request::from_parts(parts, Body::from(body));
        Ok(Checks::Passed(request, Delivery { reservation }))
    }

    async fn verify(
        &self,
        parts: &http::request::Parts,
        client: IpAddr,
        mut body: Body,
    ) -> Result<(Verified, Bytes), Refused> {
        let mut session = self.verifier.begin(parts, Some(client))?;
        if body.size_hint().lower() > self.verifier.body_limit() as u64 {
            return Err(Refused::Unread(too_large()));
        }
        let reading = async {
            let mut all = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| Refused::from(Unread::of(&error)))?;
                // Trailers, which no scheme signs, are left out.
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                session.update(&data)?;
                all.extend_from_slice(&data);
            }
            Ok::<_, Refused>(all.freeze())
        };
        let read = tokio::time::timeout(self.read_timeout, reading).await;
        let bytes = read.unwrap_or_else(|_| Err(Unread::Slow.into()))?;
        Ok((session.finish()?, bytes))
    }

    fn count(&self, step: &'static str, result: &'static str) {
        self.metrics.webhook(step, result);
    }

    /// The answer to a refusal. All failures of signature and time look alike, so that a forger
    /// learns nothing.
    fn refused(&self, error: &Error) -> Problem {
        self.count(error.step().as_str(), "refused");
        tracing::warn!(
            step = error.step().as_str(),
            reason = %error.reason(),
            "webhook refused"
        );
        let (code, title, detail) = match error.status() {
            StatusCode::UNAUTHORIZED => (
                "webhook_unverified",
                "Unauthorized",
                "the delivery is not genuine, or not in time",
            ),
            StatusCode::FORBIDDEN => (
                "webhook_source",
                "Forbidden",
                "deliveries are not taken from this address",
            ),
            StatusCode::METHOD_NOT_ALLOWED => (
                "method_not_allowed",
                "Method not allowed",
                "this method is not served here",
            ),
            StatusCode::PAYLOAD_TOO_LARGE => return too_large(),
            StatusCode::REQUEST_TIMEOUT => return late(),
            StatusCode::CONFLICT => (
                "webhook_in_flight",
                "Conflict",
                "the same delivery is being handled",
            ),
            StatusCode::UNPROCESSABLE_ENTITY => (
                "webhook_payload",
                "Unprocessable content",
                "the delivery has not the content it must have",
            ),
            StatusCode::SERVICE_UNAVAILABLE => (
                "webhook_unavailable",
                "Service unavailable",
                "deliveries cannot be remembered at present",
            ),
            _ => (
                "webhook_malformed",
                "Bad request",
                "the delivery lacks a header field, or has one that is malformed",
            ),
        };
        let problem = Problem::new(error.status(), code, title, detail);
        match (error.reason(), error.status(), &self.allow) {
            (
                Reason::InFlight {
                    retry_after_seconds,
                },
                ..,
            ) => problem.retry_after(Duration::from_secs(*retry_after_seconds)),
            (_, StatusCode::SERVICE_UNAVAILABLE, _) => problem.retry_after(Duration::from_secs(1)),
            (_, StatusCode::METHOD_NOT_ALLOWED, Some(allow)) => {
                problem.header(ALLOW, allow.clone())
            }
            _ => problem,
        }
    }
}

/// Deliveries remembered in Redis. It is not asked for a connection before it is needed.
#[cfg(feature = "webhook-redis")]
fn in_redis(config: &ReplayRedisConfig) -> Result<RedisReplayStore, String> {
    let url = match &config.url {
        Some(url) => url.clone(),
        None => secrets::text(
            "replay.redis",
            config.env.as_deref(),
            config.file.as_deref(),
        )?,
    };
    let options = RedisOptions::default()
        .prefix(&config.prefix)
        .timeout(config.timeout);
    let store = RedisReplayStore::new(&url, options);
    store.map_err(|error| format!("replay.redis: {error}"))
}

impl Delivery {
    /// Remembers the delivery if the service has taken it. Any other answer gives it back, as does
    /// dropping this, so that the sender's next try is handled.
    pub(crate) async fn settle(self, status: StatusCode) {
        let Some(reservation) = self.reservation.filter(|_| status.is_success()) else {
            return;
        };
        if let Err(error) = reservation.commit().await {
            // The service has handled it; the lease holds a second one off for a while.
            tracing::error!(%error, "webhook handled but not remembered");
        }
    }
}

/// Why there is no verified delivery.
enum Refused {
    Judged(Error),
    Unread(Problem),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Judged(error)
    }
}

impl From<Unread> for Refused {
    fn from(unread: Unread) -> Self {
        Self::Unread(match unread {
            Unread::TooLarge => too_large(),
            Unread::Slow => late(),
            Unread::Broken => Problem::bad_request("body_broken", "the body ends before its end"),
        })
    }
}

impl webhook_verify::clock::WallClock for WallClock {
    fn now(&self) -> Duration {
        // A clock before 1970 reads as then, when every delivery is too new.
        let now = Self::now(self).duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap_or_default()
    }
}

/// What remembers the deliveries of a route in memory.
pub(crate) type Deliveries = MemoryReplayStore;

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").finish_non_exhaustive()
    }
}
