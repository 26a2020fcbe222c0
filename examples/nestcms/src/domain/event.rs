//! The catalogue of events: what happened, in which words, with which fields.
//!
//! An [`Event`] is an envelope around one [`EventData`]. On the wire it is
//!
//! ```json
//! {"id": "…", "type": "payment.created", "version": 1, "occurred_at": "2026-01-02T03:04:05.678Z",
//!  "source": "payment-service", "correlation_id": "…", "data": {"payment_id": "…"}}
//! ```
//!
//! Amounts travel as decimal strings beside their currency; no field is a float but the
//! breaker's failure rate, and no field ever holds a card number.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use humantime_serde::re::humantime;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One thing that happened, with who said so and for which request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Unique and, within one millisecond, ordered by time (UUID version 7).
    pub id: String,
    /// Version of the shape of `data`; goes up when a field changes its meaning.
    pub version: u16,
    /// When it happened, by the application's wall clock.
    pub occurred_at: Timestamp,
    /// The part of the application that reports it.
    pub source: Source,
    /// Joins everything that one request caused.
    pub correlation_id: String,
    /// Type name and fields; two members (`type`, `data`) of the same JSON object.
    #[serde(flatten)]
    pub data: EventData,
}

impl Event {
    /// The version written into [`Event::version`] today.
    pub const VERSION: u16 = 1;

    /// Wraps `data`, with a fresh id made for the time `occurred_at`.
    #[must_use]
    pub fn new(
        source: Source,
        correlation_id: &str,
        occurred_at: Timestamp,
        data: EventData,
    ) -> Self {
        Self {
            id: occurred_at.new_id(),
            version: Self::VERSION,
            occurred_at,
            source,
            correlation_id: correlation_id.to_owned(),
            data,
        }
    }

    /// The type name, for example `payment.created`.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
        self.data.event_type()
    }
}

/// A moment in wall-clock time, in whole milliseconds; RFC 3339 on the wire.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The latest moment that RFC 3339 can write (end of the year 9999), in milliseconds.
    const MAX_MILLIS: u64 = 253_402_300_799_999;

    /// Milliseconds since the Unix epoch; later than the year 9999 is taken as its end.
    #[must_use]
    pub fn from_millis(millis: u64) -> Self {
        Self(millis.min(Self::MAX_MILLIS))
    }

    /// Time since the Unix epoch, rounded down to milliseconds.
    #[must_use]
    pub fn from_unix(since_epoch: Duration) -> Self {
        Self::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// Time since the Unix epoch.
    #[must_use]
    pub fn since_epoch(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// This moment moved into the future, stopping at the end of the year 9999.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self::from_unix(self.since_epoch().saturating_add(later))
    }

    /// A new UUID (version 7) that sorts at this moment.
    #[must_use]
    pub fn new_id(self) -> String {
        let since = self.since_epoch();
        let at = uuid::Timestamp::from_unix_time(since.as_secs(), since.subsec_nanos(), 0, 0);
        uuid::Uuid::new_v7(at).to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // PANIC-FREE: `MAX_MILLIS` keeps the sum inside what `SystemTime` and RFC 3339 hold.
        let at = SystemTime::UNIX_EPOCH + self.since_epoch();
        write!(f, "{}", humantime::format_rfc3339_millis(at))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let at = humantime::parse_rfc3339(&text)
            .map_err(|_| de::Error::custom(format!("`{text}` is not an RFC 3339 time")))?;
        at.duration_since(SystemTime::UNIX_EPOCH)
            .map(Self::from_unix)
            .map_err(|_| de::Error::custom(format!("`{text}` lies before 1970")))
    }
}

/// The part of the application that reports an event.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Source {
    /// Keeps the payments and their states.
    PaymentService,
    /// Talks to the payment provider.
    PaytabsService,
    /// Checks incoming webhooks.
    WebhookSecurity,
    /// Counts suspicious requests.
    ThreatDetector,
    /// A circuit breaker.
    Breaker,
    /// The caller that a breaker refused.
    BreakerCaller,
    /// Watches the dependencies.
    HealthService,
    /// The gateway in front.
    Gateway,
}

impl Source {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PaymentService => "payment-service",
            Self::PaytabsService => "paytabs-service",
            Self::WebhookSecurity => "webhook-security",
            Self::ThreatDetector => "threat-detector",
            Self::Breaker => "breaker",
            Self::BreakerCaller => "breaker-caller",
            Self::HealthService => "health-service",
            Self::Gateway => "gateway",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How bad a security finding is, as the detector that raised it judges.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThreatLevel {
    /// Worth a note.
    Low,
    /// Worth a look today.
    Medium,
    /// Somebody must look now.
    High,
}

/// How urgently people must hear of an event.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Normal business.
    Info,
    /// Something is wrong and can wait for working hours.
    Warning,
    /// Somebody must act now.
    Critical,
}

impl Severity {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happened. The wire name of each variant is its `type`, its fields are `data`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
#[non_exhaustive]
pub enum EventData {
    /// A payment was stored in state `created`.
    #[serde(rename = "payment.created")]
    PaymentCreated {
        /// The payment.
        payment_id: String,
        /// The order that it pays, in the client's words.
        order_ref: String,
        /// Who pays.
        user_id: String,
        /// Decimal amount, for example `19.90`.
        amount: String,
        /// ISO 4217 code.
        currency: String,
        /// Means of payment, for example `card`.
        method: String,
    },
    /// The provider gave a payment page.
    #[serde(rename = "payment.initiated")]
    PaymentInitiated {
        /// The payment.
        payment_id: String,
        /// Name of the payment provider.
        provider: String,
        /// The provider's name for the payment.
        provider_ref: String,
        /// Where the client pays.
        payment_url: String,
    },
    /// A callback arrived and the outcome is being verified.
    #[serde(rename = "payment.processing")]
    PaymentProcessing {
        /// The payment.
        payment_id: String,
        /// The provider's name for the payment.
        provider_ref: String,
    },
    /// The provider confirmed the payment.
    #[serde(rename = "payment.success")]
    PaymentSuccess {
        /// The payment.
        payment_id: String,
        /// The provider's name for the payment.
        provider_ref: String,
        /// Decimal amount, for example `19.90`.
        amount: String,
        /// ISO 4217 code.
        currency: String,
        /// When the provider's answer was read.
        verified_at: Timestamp,
    },
    /// The payment will not be paid.
    #[serde(rename = "payment.failed")]
    PaymentFailed {
        /// The payment.
        payment_id: String,
        /// The provider's name for the payment.
        provider_ref: String,
        /// Short code for programs.
        reason_code: String,
        /// The reason for people.
        reason: String,
    },
    /// The payment was not completed before its deadline.
    #[serde(rename = "payment.timeout")]
    PaymentTimeout {
        /// The payment.
        payment_id: String,
        /// The deadline that passed.
        expires_at: Timestamp,
        /// The state in which it waited.
        last_status: String,
    },
    /// A payment moved from one state to another.
    #[serde(rename = "payment.status_changed")]
    StatusChanged {
        /// The payment.
        payment_id: String,
        /// State before.
        from: String,
        /// State after.
        to: String,
        /// Who or what moved it, for example `webhook` or `expiry-scan`.
        actor: String,
    },
    /// A verified webhook reached the payment service.
    #[serde(rename = "webhook.received")]
    WebhookReceived {
        /// The delivery, as the verifier names it.
        delivery_id: String,
        /// Name of the payment provider.
        provider: String,
        /// The provider's name for the payment.
        provider_ref: String,
        /// What the provider reports, for example `sale`.
        kind: String,
        /// Length of the body.
        bytes: u64,
    },
    /// A webhook passed every check.
    #[serde(rename = "webhook.validated")]
    WebhookValidated {
        /// The delivery, as the verifier names it.
        delivery_id: String,
        /// Name of the payment provider.
        provider: String,
        /// Where it came from.
        remote_ip: String,
        /// The secret that matched, by its name or number and never by its value.
        key_id: String,
        /// Age of the signature, in milliseconds; negative when the sender's clock is ahead.
        age_ms: i64,
    },
    /// A webhook was refused.
    #[serde(rename = "webhook.rejected")]
    WebhookRejected {
        /// Name of the payment provider.
        provider: String,
        /// Where it came from.
        remote_ip: String,
        /// The check that refused it.
        step: String,
        /// The reason, for our eyes only.
        reason: String,
    },
    /// Something looks like an attack or a fraud.
    #[serde(rename = "security.alert")]
    SecurityAlert {
        /// Kind of finding, for example `late_payment` or `webhook_rejects`.
        kind: String,
        /// How bad it is.
        severity: ThreatLevel,
        /// Where it came from, when an address is known.
        remote_ip: Option<String>,
        /// What it is about: a payment, an account, an address.
        subject: String,
        /// How many times it was seen.
        count: u64,
        /// Within how many seconds.
        window_s: u64,
    },
    /// A breaker opened.
    #[serde(rename = "circuit.opened")]
    CircuitOpened {
        /// Name of the breaker.
        breaker: String,
        /// Its state before.
        from: String,
        /// What opened it, for example `consecutive` or `rate`.
        cause: String,
        /// Failures that it had counted.
        failures: u64,
        /// Calls that it had counted.
        calls: u64,
        /// Failure rate in 0..=1; none below the minimum of calls.
        rate: Option<f64>,
        /// When it will admit a probe.
        retry_at: Timestamp,
    },
    /// A breaker closed.
    #[serde(rename = "circuit.closed")]
    CircuitClosed {
        /// Name of the breaker.
        breaker: String,
        /// Probes that succeeded.
        probes: u64,
        /// How long it had refused calls, in milliseconds.
        open_for_ms: u64,
    },
    /// A breaker admits probes.
    #[serde(rename = "circuit.half_open")]
    CircuitHalfOpen {
        /// Name of the breaker.
        breaker: String,
        /// How many probes it admits.
        permits: u64,
    },
    /// A caller was told to come back later.
    #[serde(rename = "service.unavailable")]
    ServiceUnavailable {
        /// Name of the breaker.
        breaker: String,
        /// The service behind it.
        service: String,
        /// What the caller wanted.
        operation: String,
        /// The rest of the wait, in milliseconds.
        retry_after_ms: u64,
    },
    /// A service answers again.
    #[serde(rename = "service.recovered")]
    ServiceRecovered {
        /// Name of the breaker.
        breaker: String,
        /// The service behind it.
        service: String,
        /// How long it was down, in milliseconds.
        down_for_ms: u64,
    },
    /// A component started.
    #[serde(rename = "system.started")]
    SystemStarted {
        /// The component.
        component: String,
        /// Its state now.
        status: String,
        /// Anything worth knowing.
        detail: String,
    },
    /// A component is stopping.
    #[serde(rename = "system.stopping")]
    SystemStopping {
        /// The component.
        component: String,
        /// Its state now.
        status: String,
        /// Anything worth knowing.
        detail: String,
    },
    /// Settings changed at run time.
    #[serde(rename = "config.changed")]
    ConfigChanged {
        /// The component.
        component: String,
        /// Its state now.
        status: String,
        /// Anything worth knowing; never a secret.
        detail: String,
    },
    /// The health of a dependency changed.
    #[serde(rename = "health.changed")]
    HealthChanged {
        /// The component.
        component: String,
        /// Its state now.
        status: String,
        /// Anything worth knowing.
        detail: String,
    },
}

impl EventData {
    /// The type name on the wire, for example `payment.created`.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::PaymentCreated { .. } => "payment.created",
            Self::PaymentInitiated { .. } => "payment.initiated",
            Self::PaymentProcessing { .. } => "payment.processing",
            Self::PaymentSuccess { .. } => "payment.success",
            Self::PaymentFailed { .. } => "payment.failed",
            Self::PaymentTimeout { .. } => "payment.timeout",
            Self::StatusChanged { .. } => "payment.status_changed",
            Self::WebhookReceived { .. } => "webhook.received",
            Self::WebhookValidated { .. } => "webhook.validated",
            Self::WebhookRejected { .. } => "webhook.rejected",
            Self::SecurityAlert { .. } => "security.alert",
            Self::CircuitOpened { .. } => "circuit.opened",
            Self::CircuitClosed { .. } => "circuit.closed",
            Self::CircuitHalfOpen { .. } => "circuit.half_open",
            Self::ServiceUnavailable { .. } => "service.unavailable",
            Self::ServiceRecovered { .. } => "service.recovered",
            Self::SystemStarted { .. } => "system.started",
            Self::SystemStopping { .. } => "system.stopping",
            Self::ConfigChanged { .. } => "config.changed",
            Self::HealthChanged { .. } => "health.changed",
        }
    }

    /// How urgently people must hear of it.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::CircuitOpened { .. }
            | Self::SecurityAlert {
                severity: ThreatLevel::High,
                ..
            } => Severity::Critical,
            Self::PaymentFailed { .. }
            | Self::WebhookRejected { .. }
            | Self::SecurityAlert { .. }
            | Self::ServiceUnavailable { .. } => Severity::Warning,
            _ => Severity::Info,
        }
    }

    /// Whether people must act at once (pager, SMS).
    #[must_use]
    pub fn is_critical(&self) -> bool {
        self.severity() == Severity::Critical
    }

    /// The payment it is about, if it is about one.
    #[must_use]
    pub fn payment_id(&self) -> Option<&str> {
        match self {
            Self::PaymentCreated { payment_id, .. }
            | Self::PaymentInitiated { payment_id, .. }
            | Self::PaymentProcessing { payment_id, .. }
            | Self::PaymentSuccess { payment_id, .. }
            | Self::PaymentFailed { payment_id, .. }
            | Self::PaymentTimeout { payment_id, .. }
            | Self::StatusChanged { payment_id, .. } => Some(payment_id),
            _ => None,
        }
    }

    /// The breaker it is about, if it is about one.
    #[must_use]
    pub fn breaker(&self) -> Option<&str> {
        match self {
            Self::CircuitOpened { breaker, .. }
            | Self::CircuitClosed { breaker, .. }
            | Self::CircuitHalfOpen { breaker, .. }
            | Self::ServiceUnavailable { breaker, .. }
            | Self::ServiceRecovered { breaker, .. } => Some(breaker),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_the_wire_with_the_catalogue_names() {
        let event = Event::new(
            Source::PaytabsService,
            "corr-1",
            Timestamp::from_millis(1_767_323_045_678),
            EventData::PaymentSuccess {
                payment_id: "p1".into(),
                provider_ref: "TST1".into(),
                amount: "19.90".into(),
                currency: "SAR".into(),
                verified_at: Timestamp::from_millis(1_767_323_045_000),
            },
        );
        let wire = serde_json::to_value(&event).expect("an event is plain JSON");
        assert_eq!(wire["type"], "payment.success");
        assert_eq!(wire["source"], "paytabs-service");
        assert_eq!(wire["occurred_at"], "2026-01-02T03:04:05.678Z");
        assert_eq!(wire["data"]["amount"], "19.90");
        assert_eq!(wire["data"]["verified_at"], "2026-01-02T03:04:05.000Z");
        let back: Event = serde_json::from_value(wire).expect("reads its own output");
        assert_eq!(back, event);
    }

    #[test]
    fn ids_sort_by_the_time_of_the_event() {
        let early = Timestamp::from_millis(1_000).new_id();
        let late = Timestamp::from_millis(2_000).new_id();
        assert!(early < late, "{early} {late}");
    }

    #[test]
    fn a_time_out_of_range_is_refused_or_clamped_and_never_panics() {
        assert_eq!(
            Timestamp::from_unix(Duration::MAX).to_string(),
            "9999-12-31T23:59:59.999Z"
        );
        assert!(serde_json::from_str::<Timestamp>("\"yesterday\"").is_err());
        assert!(serde_json::from_str::<Timestamp>("\"1969-12-31T23:59:59Z\"").is_err());
    }
}
