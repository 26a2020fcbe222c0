//! The stage: the stack with its clocks, the clients, and the event recorder.

use std::sync::Arc;
use std::time::Duration;

use paytabs_sandbox::{StatsSnapshot, SwitchSet};
use resilience_core::breaker::{CircuitBreaker, State};
use webhook_verify::clock::WallClock;

use super::client::{Client, PARTNERS, PROXY, Played};
use crate::domain::event::{Event, EventData};
use crate::events::Recorder;
use crate::settings::{Settings, SettingsError, WebhookCheck};
use crate::stack::{Stack, StackConfig};

/// Everything the scenes play with.
#[derive(Debug)]
pub(super) struct World {
    pub(super) stack: Stack,
    pub(super) client: Client,
    pub(super) events: Recorder,
}

/// The key of hand-made deliveries at the start.
pub(super) const OLD_KEY: &str = "tour-webhook-secret-number-one";
/// The key they rotate to.
pub(super) const NEW_KEY: &str = "tour-webhook-secret-number-two";
/// How long a call to PayTabs may take in the tour.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_millis(400);

impl World {
    pub(super) async fn open() -> Played<Self> {
        Self::on(settings()?).await
    }

    /// The stage with these settings.
    pub(super) async fn on(settings: Settings) -> Played<Self> {
        Self::of(config(settings)).await
    }

    pub(super) async fn of(config: StackConfig) -> Played<Self> {
        let stack = Stack::start(config).await?;
        let mut client = Client::new(&stack.gateway_url)?;
        log_in(&stack, &mut client).await?;
        Ok(Self {
            events: stack.state.bus().recorder(),
            stack,
            client,
        })
    }

    /// Moves the wall clock of application and sandbox.
    pub(super) async fn jump(&mut self, ahead: Duration) -> Played<()> {
        self.stack.wall.jump(ahead);
        // Old tokens may have run out; the client logs in again, as any client would.
        log_in(&self.stack, &mut self.client).await
    }

    pub(super) fn now(&self) -> Duration {
        self.stack.wall.now()
    }

    /// Sets all switches of the sandbox.
    pub(super) fn paytabs(&self, change: impl FnOnce(&mut SwitchSet)) {
        let mut switches = SwitchSet::default();
        change(&mut switches);
        self.stack.switches.set(switches);
    }

    pub(super) fn stats(&self) -> StatsSnapshot {
        self.stack.stats.snapshot()
    }

    pub(super) fn breaker(&self, name: &str) -> Played<CircuitBreaker> {
        let breaker = self.stack.state.breakers().get(name).cloned();
        breaker.ok_or_else(|| format!("no breaker {name}").into())
    }

    /// Events of one payment, in order.
    pub(super) fn story_of(&self, payment: &str) -> Vec<&'static str> {
        let events = self
            .events
            .matching(|data| data.payment_id() == Some(payment));
        events.iter().map(|event| event.event_type()).collect()
    }

    /// How many events of a type concern one payment.
    pub(super) fn count_of(&self, payment: &str, event_type: &str) -> usize {
        let types = self.story_of(payment);
        types.iter().filter(|t| **t == event_type).count()
    }

    /// The last event of a type.
    pub(super) fn last(&self, event_type: &str) -> Option<Arc<Event>> {
        let events = self.events.matching(|data| data.event_type() == event_type);
        events.last().cloned()
    }

    /// The correlation id of the callback that brought a payment into processing.
    pub(super) fn callback_correlation(&self, payment: &str) -> Option<String> {
        let events = self.events.matching(|data| {
            data.event_type() == "payment.processing" && data.payment_id() == Some(payment)
        });
        Some(events.first()?.correlation_id.clone())
    }

    /// How many security alerts of a kind there were.
    pub(super) fn alerts(&self, wanted: &str) -> usize {
        let is_it = |data: &EventData| matches!(data, EventData::SecurityAlert { kind, .. } if kind == wanted);
        self.events.matching(is_it).len()
    }

    /// How many chat alerts about the PayTabs breaker were sent, once all are through.
    pub(super) async fn breaker_alerts(&self) -> Played<i64> {
        let bus = self.stack.state.bus();
        self.eventually(|| bus.stats().iter().all(|listener| listener.queued == 0))
            .await;
        self.tasks_done().await?;
        let query = "SELECT COUNT(*) FROM notifications WHERE channel = 'slack' \
                     AND (subject LIKE '%circuit.opened' OR subject LIKE '%service.unavailable') \
                     AND body LIKE '%paytabs%'";
        let pool = self.stack.state.database().read();
        Ok(sqlx::query_scalar(query).fetch_one(pool).await?)
    }

    /// Waits until no task is left, for at most thirty seconds; whether it is so.
    pub(super) async fn tasks_done(&self) -> Played<bool> {
        for _ in 0..1_500 {
            if self.stack.state.tasks().queue().depth().await? == [0; 3] {
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(false)
    }

    pub(super) async fn payment_state(&self, id: &str) -> Played<String> {
        Ok(self.client.payment(id).await?.text("status").to_owned())
    }

    /// Waits until something holds, for at most thirty seconds; whether it did.
    pub(super) async fn eventually(&self, holds: impl Fn() -> bool) -> bool {
        for _ in 0..1_500 {
            if holds() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        holds()
    }

    /// Opens the PayTabs breaker by five calls that fail.
    pub(super) async fn open_paytabs_breaker(&self) -> Played<()> {
        let breaker = self.breaker("paytabs")?;
        self.paytabs(|switches| switches.error = Some(503));
        for _ in 0..10 {
            if breaker.state() == State::Open {
                return Ok(());
            }
            let id = self.client.new_payment().await?;
            self.client.initiate(&id).await?;
        }
        match breaker.state() {
            State::Open => Ok(()),
            state => Err(format!("the breaker is {state} after ten failures").into()),
        }
    }

    /// Moves the clock of the breakers to where this one would admit a probe.
    pub(super) fn jump_to_probe(&self) -> Played<Duration> {
        let wait = self.breaker("paytabs")?.snapshot().retry_after;
        let wait = wait.unwrap_or_default() + Duration::from_millis(5);
        self.stack.clock.jump(wait);
        Ok(wait)
    }

    /// Closes the breaker again by a probe that succeeds.
    pub(super) async fn heal(&self) -> Played<()> {
        self.paytabs(|_| {});
        let breaker = self.breaker("paytabs")?;
        for _ in 0..5 {
            if breaker.state() == State::Closed {
                return Ok(());
            }
            self.jump_to_probe()?;
            let id = self.client.new_payment().await?;
            self.client.initiate(&id).await?;
        }
        Err(format!("the breaker stays {}", breaker.state()).into())
    }
}

async fn log_in(stack: &Stack, client: &mut Client) -> Played<()> {
    let Some(user) = &stack.settings.auth.demo_user else {
        return Err("the demo settings have no user".into());
    };
    let answer = client.log_in(&user.email, user.password.expose()).await?;
    match answer.status {
        200 => Ok(()),
        status => Err(format!("login answered {status}: {}", answer.body).into()),
    }
}

/// Settings of the tour: the demo's, with short waits and deliveries by a partner network.
pub(super) fn settings() -> Result<Settings, SettingsError> {
    let text = format!(
        r#"
        [paytabs]
        server_key = "tour-server-key"
        call_timeout = "{}ms"
        [webhook]
        secrets = ["{OLD_KEY}"]
        allowed_ips = ["127.0.0.1/32", "{PARTNERS}"]
        trusted_proxies = ["127.0.0.1/32", "{PROXY}/32"]
        [auth]
        jwt_secret = "tour-jwt-secret-not-for-production-use"
        bcrypt_cost = 4
        [auth.demo_user]
        email = "demo@nestcms.test"
        password = "demo-password"
        role = "editor"
        [database]
        path = ":memory:"
        busy_timeout = "20s"
        [breakers.paytabs]
        reset_timeout = "5m"
        max_reset_timeout = "5m"
        minimum_calls = 50
        [breakers.cache]
        reset_timeout = "100ms"
        [jobs]
        expiry_scan = "50ms"
        verification = "50ms"
        refund = "50ms"
        [outbox]
        poll = "20ms"
        retry_base = "10ms"
        retry_max = "100ms"
        "#,
        CALL_TIMEOUT.as_millis()
    );
    Settings::from_toml(&text, &[])
}

/// The same with the checks of the webhook in another order.
pub(super) fn reordered(mut settings: Settings) -> Settings {
    settings.webhook.order = [
        WebhookCheck::Signature,
        WebhookCheck::Ip,
        WebhookCheck::Timestamp,
        WebhookCheck::Header,
        WebhookCheck::Payload,
    ];
    settings
}

/// A stack on free ports, behind a proxy that the gateway trusts.
pub(super) fn config(settings: Settings) -> StackConfig {
    StackConfig {
        trusted_proxies: vec![PROXY.into()],
        callback_retry: Duration::from_millis(60),
        ..StackConfig::new(settings)
    }
}
