//! The verifiers.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderMap, request::Parts};
use webhook_verify::{
    BuildError, FieldType, HeaderPolicy, IpPolicy, IpRangeError, IpRules, KeySet, PayloadPolicy,
    Scheme, Secret, SecretError, Step, Verifier, clock::WallClock, presets,
    replay::MemoryReplayStore,
};

use super::Rejects;
use crate::settings::{Settings, WebhookCheck};

/// Verifies webhooks of both schemes; clones share keys, replay memory and counters.
#[derive(Clone, Debug)]
pub struct WebhookGuard {
    paytabs: Verifier,
    timestamped: Verifier,
    source: IpPolicy,
    rejects: Arc<Rejects>,
    wall: Arc<dyn WallClock>,
}

/// The webhook settings do not make a verifier.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// An address range.
    #[error("webhook addresses: {0}")]
    Range(#[from] IpRangeError),
    /// A secret.
    #[error("webhook secret: {0}")]
    Secret(#[from] SecretError),
    /// Anything else.
    #[error("webhook: {0}")]
    Build(#[from] BuildError),
}

impl WebhookGuard {
    /// Verifiers as the settings say.
    ///
    /// # Errors
    ///
    /// [`GuardError`] that names what does not fit.
    pub fn new(settings: &Settings, wall: &Arc<dyn WallClock>) -> Result<Self, GuardError> {
        let webhook = &settings.webhook;
        let text = |range: &ipnet::IpNet| range.to_string();
        let rules = IpRules::allow(webhook.allowed_ips.iter().map(text))?
            .trust_proxies(webhook.trusted_proxies.iter().map(text))?;
        let source = IpPolicy::new(rules);
        let replay = Arc::new(MemoryReplayStore::new(REPLAY_CAPACITY));
        let verifier = |scheme: Scheme, keys: KeySet| {
            let timed = scheme.tolerance().is_some();
            let mut builder = Verifier::builder(scheme);
            if timed {
                builder = builder.tolerance(webhook.tolerance_past, webhook.tolerance_future);
            }
            builder
                .keys(keys)
                .order(webhook.order.map(step))
                .source(source.clone())
                .headers(HeaderPolicy::new().content_type("application/json"))
                .payload(payload())
                .body_limit(webhook.body_limit)
                .replay_shared(replay.clone())
                .clock(Wall(Arc::clone(wall)))
                .build()
        };
        let server_key = Secret::new("paytabs", settings.paytabs.server_key.expose())?;
        let mut secrets = Vec::new();
        for (index, secret) in webhook.secrets.iter().enumerate() {
            secrets.push(Secret::new(
                &format!("webhook-{}", index + 1),
                secret.expose(),
            )?);
        }
        let paytabs = verifier(presets::paytabs_callback(), KeySet::new([server_key])?)?;
        let timestamped = verifier(presets::timestamped(), KeySet::new(secrets)?)?;
        Ok(Self {
            paytabs,
            timestamped,
            source,
            rejects: Arc::new(Rejects::new()),
            wall: Arc::clone(wall),
        })
    }

    /// The keys of the timestamped scheme, for rotation without a restart.
    #[must_use]
    pub fn timestamped_keys(&self) -> &KeySet {
        self.timestamped.keys()
    }

    /// The keys of PayTabs callbacks, for rotation without a restart.
    #[must_use]
    pub fn paytabs_keys(&self) -> &KeySet {
        self.paytabs.keys()
    }

    /// The allowed senders and trusted proxies, for a change without a restart.
    #[must_use]
    pub fn source(&self) -> &IpPolicy {
        &self.source
    }

    /// The verifier of the scheme that the delivery claims.
    pub(super) fn verifier(&self, parts: &Parts) -> &Verifier {
        if parts.headers.contains_key("x-webhook-signature") {
            &self.timestamped
        } else {
            &self.paytabs
        }
    }

    /// Who counts as the sender: the peer, or the hop that a trusted proxy names.
    pub(super) fn sender(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        self.source.sender(Some(peer), headers).unwrap_or(peer)
    }

    pub(super) fn rejects(&self) -> &Rejects {
        &self.rejects
    }

    pub(super) fn now(&self) -> Duration {
        self.wall.now()
    }
}

/// A shared wall clock as a verifier takes it.
#[derive(Debug)]
struct Wall(Arc<dyn WallClock>);

impl WallClock for Wall {
    fn now(&self) -> Duration {
        self.0.now()
    }
}

fn step(check: WebhookCheck) -> Step {
    match check {
        WebhookCheck::Signature => Step::Signature,
        WebhookCheck::Timestamp => Step::Timestamp,
        WebhookCheck::Ip => Step::Source,
        WebhookCheck::Header => Step::Header,
        WebhookCheck::Payload => Step::Payload,
    }
}

fn payload() -> PayloadPolicy {
    PayloadPolicy::json()
        .require("tran_ref", FieldType::String)
        .require("cart_id", FieldType::String)
        .require("cart_currency", FieldType::String)
        .require("payment_result.response_status", FieldType::String)
        .max_depth(8)
        .max_string(4096)
        .max_entries(256)
}

/// A day of callbacks at one per second, and room to spare; 64 bytes each.
const REPLAY_CAPACITY: usize = 100_000;
