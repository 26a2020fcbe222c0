//! The listeners: who hears what, and what comes of it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use nestcms::{
    adapters::sqlite::SqliteAudit,
    domain::{
        event::{EventData, Source, ThreatLevel, Timestamp},
        money::Currency,
    },
    events::{
        Channel, ChannelKind, EventBus,
        channel::{MemoryChannel, SqliteChannel},
        listeners::{
            Alert, Analytics, AnalyticsListener, Audit, AuditLog, CacheInvalidation, Chain,
            Logging, MemoryPayers, Notification, Payer, Payers,
        },
    },
    ports::{AuditStore, Cache, CacheError},
};
use parking_lot::Mutex;
use sqlx::{SqlitePool, sqlite::SqlitePoolOptions};
use webhook_verify::clock::ManualWallClock;

/// No wait in these tests is longer.
const BOUND: Duration = Duration::from_secs(20);

/// A cache that is a map.
#[derive(Debug, Default)]
struct MapCache(Mutex<HashMap<String, String>>);

impl Cache for MapCache {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>, CacheError>> {
        let value = self.0.lock().get(key).cloned();
        Box::pin(std::future::ready(Ok(value)))
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        _version: i64,
        value: String,
    ) -> BoxFuture<'a, Result<(), CacheError>> {
        self.0.lock().insert(key.to_owned(), value);
        Box::pin(std::future::ready(Ok(())))
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), CacheError>> {
        self.0.lock().remove(key);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A bus with every listener.
struct Wired {
    bus: EventBus,
    clock: ManualWallClock,
    channel: MemoryChannel,
    cache: Arc<MapCache>,
    analytics: Analytics,
    audit: AuditLog,
}

async fn database() -> SqlitePool {
    // One connection: each would have a database of its own.
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect("sqlite::memory:")
        .await
        .expect("a database in memory");
    sqlx::migrate!().run(&pool).await.expect("migrations");
    pool
}

async fn wired() -> Wired {
    let clock = ManualWallClock::new(1_767_323_045);
    let bus = EventBus::new(Arc::new(clock.clone()));
    let channel = MemoryChannel::default();
    let port: Arc<dyn Channel> = Arc::new(channel.clone());
    let known = MemoryPayers::default();
    known.insert(
        "p1",
        Payer {
            email: Some("payer@example.test".into()),
            currency: Currency::from_code("SAR").expect("a known currency"),
        },
    );
    let payers: Arc<dyn Payers> = Arc::new(known);
    let cache = Arc::new(MapCache::default());
    let analytics = Analytics::default();
    let audit = AuditLog::new(Arc::new(SqliteAudit::new(database().await)));
    bus.subscribe(Notification::new(
        Arc::clone(&port),
        Arc::clone(&payers),
        "ops@nestcms.test",
    ));
    bus.subscribe(AnalyticsListener::new(analytics.clone(), payers));
    bus.subscribe(Audit::new(audit.clone()));
    bus.subscribe(Alert::new(port, "#alerts", "+10000000000"));
    bus.subscribe(CacheInvalidation::new(cache.clone()));
    bus.subscribe(Logging::new(audit.clone()));
    Wired {
        bus,
        clock,
        channel,
        cache,
        analytics,
        audit,
    }
}

impl Wired {
    async fn drain(&self) {
        let drained = self.bus.shutdown(BOUND).await;
        assert!(drained.unfinished.is_empty(), "{drained:?}");
        let failed: Vec<_> = self
            .bus
            .stats()
            .into_iter()
            .filter(|s| s.failed > 0)
            .collect();
        assert!(failed.is_empty(), "{failed:?}");
    }

    fn emit(&self, data: EventData) {
        self.bus.emit(Source::PaymentService, "corr", data);
    }
}

/// The wiring table: one event of each type, and who must hear it.
fn catalogue() -> Vec<(EventData, &'static [&'static str])> {
    use EventData as E;
    let s = |text: &str| text.to_owned();
    let at = Timestamp::from_millis(1_767_323_045_000);
    let (component, status, detail) = (s("nestcms"), s("up"), s(""));
    vec![
        (
            E::PaymentCreated {
                payment_id: s("p1"),
                order_ref: s("o1"),
                user_id: s("u1"),
                amount: s("10.00"),
                currency: s("SAR"),
                method: s("card"),
            },
            &[],
        ),
        (
            E::PaymentInitiated {
                payment_id: s("p1"),
                provider: s("paytabs"),
                provider_ref: s("TST1"),
                payment_url: s("http://pay.test/1"),
            },
            &[],
        ),
        (
            E::PaymentProcessing {
                payment_id: s("p1"),
                provider_ref: s("TST1"),
            },
            &[],
        ),
        (success("10.00"), &["notification", "analytics"]),
        (failed(), &["alert", "audit"]),
        (
            E::PaymentTimeout {
                payment_id: s("p1"),
                expires_at: at,
                last_status: s("initiated"),
            },
            &[],
        ),
        (status_changed("succeeded"), &["cache", "analytics"]),
        (
            E::WebhookReceived {
                delivery_id: s("d1"),
                provider: s("paytabs"),
                provider_ref: s("TST1"),
                kind: s("sale"),
                bytes: 300,
            },
            &[],
        ),
        (
            E::WebhookValidated {
                delivery_id: s("d1"),
                provider: s("paytabs"),
                remote_ip: s("127.0.0.1"),
                key_id: s("webhook-1"),
                age_ms: 12,
            },
            &["audit"],
        ),
        (
            E::WebhookRejected {
                provider: s("paytabs"),
                remote_ip: s("127.0.0.1"),
                step: s("signature"),
                reason: s("no key matches"),
            },
            &["alert"],
        ),
        (security(ThreatLevel::Medium), &["alert"]),
        (opened(), &["alert", "logging"]),
        (
            E::CircuitClosed {
                breaker: s("paytabs"),
                probes: 1,
                open_for_ms: 30_000,
            },
            &[],
        ),
        (
            E::CircuitHalfOpen {
                breaker: s("paytabs"),
                permits: 10,
            },
            &[],
        ),
        (unavailable("paytabs"), &["alert"]),
        (
            E::ServiceRecovered {
                breaker: s("paytabs"),
                service: s("paytabs"),
                down_for_ms: 30_000,
            },
            &["notification"],
        ),
        (
            E::SystemStarted {
                component: component.clone(),
                status: status.clone(),
                detail: detail.clone(),
            },
            &["logging"],
        ),
        (
            E::SystemStopping {
                component: component.clone(),
                status: status.clone(),
                detail: detail.clone(),
            },
            &["logging"],
        ),
        (
            E::ConfigChanged {
                component: component.clone(),
                status: status.clone(),
                detail: detail.clone(),
            },
            &["logging"],
        ),
        (
            E::HealthChanged {
                component,
                status,
                detail,
            },
            &["logging"],
        ),
    ]
}

fn success(amount: &str) -> EventData {
    EventData::PaymentSuccess {
        payment_id: "p1".into(),
        provider_ref: "TST1".into(),
        amount: amount.into(),
        currency: "SAR".into(),
        verified_at: Timestamp::from_millis(1_767_323_045_000),
    }
}

fn failed() -> EventData {
    EventData::PaymentFailed {
        payment_id: "p1".into(),
        provider_ref: "TST1".into(),
        reason_code: "D".into(),
        reason: "declined".into(),
    }
}

fn status_changed(to: &str) -> EventData {
    EventData::StatusChanged {
        payment_id: "p1".into(),
        from: "processing".into(),
        to: to.into(),
        actor: "webhook".into(),
    }
}

fn security(severity: ThreatLevel) -> EventData {
    EventData::SecurityAlert {
        kind: "late_payment".into(),
        severity,
        remote_ip: None,
        subject: "p1".into(),
        count: 1,
        window_s: 0,
    }
}

fn opened() -> EventData {
    EventData::CircuitOpened {
        breaker: "paytabs".into(),
        from: "closed".into(),
        cause: "consecutive".into(),
        failures: 5,
        calls: 5,
        rate: None,
        retry_at: Timestamp::from_millis(1_767_323_075_000),
    }
}

fn unavailable(breaker: &str) -> EventData {
    EventData::ServiceUnavailable {
        breaker: breaker.into(),
        service: breaker.into(),
        operation: "initiate".into(),
        retry_after_ms: 29_000,
    }
}

/// B.c1
#[tokio::test]
async fn every_event_reaches_exactly_its_listeners_once() {
    for (data, expected) in catalogue() {
        let wired = wired().await;
        let event_type = data.event_type();
        wired.emit(data);
        wired.drain().await;
        let stats = wired.bus.stats();
        let heard: BTreeSet<_> = stats
            .iter()
            .filter(|s| s.handled == 1)
            .map(|s| s.name)
            .collect();
        let listed: BTreeSet<_> = expected.iter().copied().collect();
        assert_eq!(heard, listed, "{event_type}");
        assert!(stats.iter().all(|s| s.handled <= 1), "{event_type}");
        assert_eq!(
            wired.bus.unheard(),
            u64::from(expected.is_empty()),
            "{event_type}"
        );
    }
}

#[tokio::test]
async fn the_catalogue_has_one_event_of_each_type() {
    let types: BTreeSet<_> = catalogue().iter().map(|(d, _)| d.event_type()).collect();
    assert_eq!(types.len(), 20);
    for (data, _) in catalogue() {
        let wire = serde_json::to_value(&data).expect("JSON");
        assert_eq!(wire["type"], data.event_type());
        assert_eq!(
            serde_json::from_value::<EventData>(wire).expect("reads"),
            data
        );
    }
}

/// B.c3
#[tokio::test]
async fn sqlite_keeps_the_contract_of_the_audit_log() {
    let pool = database().await;
    audit_contract(
        Arc::new(SqliteAudit::new(pool.clone())),
        async |sql: &'static str| {
            sqlx::query(sql).execute(&pool).await.expect(sql);
        },
    )
    .await;
}

/// What every store of the audit log must do. `change` runs a statement on the store, which is empty.
pub(crate) async fn audit_contract(store: Arc<dyn AuditStore>, change: impl AsyncFn(&'static str)) {
    // As two processes have it.
    let (log, other) = (AuditLog::new(Arc::clone(&store)), AuditLog::new(store));
    let zeros = "0".repeat(64);
    assert_eq!(log.head().await.expect("reads"), (0, zeros));
    assert_eq!(
        log.verify().await.expect("reads"),
        Chain::Intact { entries: 0 }
    );
    let bus = EventBus::new(Arc::new(ManualWallClock::new(1)));
    let append = async |log: &AuditLog| {
        for _ in 0..60 {
            let event = bus.emit(Source::PaymentService, "c", failed());
            log.append(&event).await.expect("appends");
            log.append(&event)
                .await
                .expect("the same event again is fine");
        }
    };
    tokio::join!(append(&log), append(&other));
    let intact = Chain::Intact { entries: 120 };
    assert_eq!(log.verify().await.expect("reads"), intact);
    assert_eq!(log.head().await.expect("reads").0, 120);
    for (damage, repair) in [
        (
            "UPDATE audit_log SET entry = replace(entry, 'declined', 'accepted') WHERE seq = 50",
            "UPDATE audit_log SET entry = replace(entry, 'accepted', 'declined') WHERE seq = 50",
        ),
        (
            "UPDATE audit_log SET seq = 121 WHERE seq = 50",
            "UPDATE audit_log SET seq = 50 WHERE seq = 121",
        ),
        ("DELETE FROM audit_log WHERE seq = 50", ""),
    ] {
        change(damage).await;
        assert_eq!(
            log.verify().await.expect("reads"),
            Chain::Broken { seq: 50 },
            "{damage}"
        );
        if !repair.is_empty() {
            change(repair).await;
            assert_eq!(log.verify().await.expect("reads"), intact, "{repair}");
        }
    }
}

/// B.c4
#[tokio::test]
async fn a_status_change_drops_the_cached_payment() {
    let wired = wired().await;
    let put = |key: &'static str| wired.cache.put(key, 1, "old state".to_owned());
    put("payment:p1").await.expect("puts");
    put("payment:p2").await.expect("puts");
    wired.emit(status_changed("succeeded"));
    wired.drain().await;
    assert_eq!(wired.cache.get("payment:p1").await.expect("gets"), None);
    assert!(wired.cache.get("payment:p2").await.expect("gets").is_some());
}

#[tokio::test]
async fn a_paid_payment_gives_one_receipt_and_counts_once() {
    let wired = wired().await;
    wired.emit(success("10.50"));
    wired.emit(success("0.25"));
    wired.emit(status_changed("succeeded"));
    wired.drain().await;
    let sent = wired.channel.sent();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].channel, ChannelKind::Mail);
    assert_eq!(sent[0].recipient, "payer@example.test");
    assert!(sent[0].subject.contains("10.50 SAR"), "{sent:?}");
    assert_eq!(sent[0].correlation_id, "corr");
    let hours = wired.analytics.hours();
    let [(hour, currency, totals)] = hours.as_slice() else {
        panic!("one hour of one currency: {hours:?}");
    };
    assert_eq!(hour.to_string(), "2026-01-02T03:00:00.000Z");
    assert_eq!(*currency, "SAR");
    assert_eq!((totals.succeeded, totals.minor), (2, 1075));
    assert_eq!(totals.changes["succeeded"], 1);
}

/// A4.c4: a hundred refusals in a minute are a hundred events and one alert.
#[tokio::test]
async fn one_breaker_gives_one_alert_in_sixty_seconds() {
    let wired = wired().await;
    for _ in 0..100 {
        wired.emit(unavailable("paytabs"));
        wired.clock.advance(Duration::from_millis(500));
    }
    wired.emit(unavailable("database"));
    wired.clock.advance(Duration::from_secs(10));
    wired.emit(unavailable("paytabs"));
    wired.drain().await;
    assert_eq!(wired.bus.emitted(), 102);
    let bodies: Vec<_> = wired.channel.sent().into_iter().map(|m| m.body).collect();
    let of = |name: &str| bodies.iter().filter(|b| b.contains(name)).count();
    assert_eq!(
        of("breaker paytabs"),
        2,
        "the second a minute after the first: {bodies:?}"
    );
    assert_eq!(of("breaker database"), 1, "{bodies:?}");
}

#[tokio::test]
async fn a_critical_alert_goes_to_the_telephone_and_breaks_through_the_quiet_minute() {
    let wired = wired().await;
    wired.emit(unavailable("paytabs"));
    wired.emit(opened());
    wired.emit(unavailable("paytabs"));
    wired.emit(security(ThreatLevel::Medium));
    wired.emit(security(ThreatLevel::High));
    wired.drain().await;
    let sent = wired.channel.sent();
    let on = |kind| {
        sent.iter()
            .filter(move |m| m.channel == kind)
            .map(|m| m.subject.as_str())
    };
    assert_eq!(
        on(ChannelKind::Slack).collect::<Vec<_>>(),
        [
            "[warning] service.unavailable",
            "[critical] circuit.opened",
            "[warning] security.alert",
            "[critical] security.alert"
        ]
    );
    assert_eq!(
        on(ChannelKind::Sms).collect::<Vec<_>>(),
        ["[critical] circuit.opened", "[critical] security.alert"]
    );
}

#[tokio::test]
async fn logging_leaves_a_copy_in_the_audit_log() {
    let wired = wired().await;
    wired.emit(opened());
    wired.drain().await;
    assert_eq!(
        wired.audit.verify().await.expect("reads"),
        Chain::Intact { entries: 1 }
    );
    assert_eq!(wired.audit.head().await.expect("reads").0, 1);
}

#[tokio::test]
async fn a_message_is_stored_once_per_event_channel_and_recipient() {
    let pool = database().await;
    let channel = SqliteChannel::new(pool.clone());
    let memory = wired().await;
    memory.emit(opened());
    memory.drain().await;
    for message in memory.channel.sent() {
        channel.send(message.clone()).await.expect("stores");
        channel.send(message).await.expect("again is fine");
    }
    let (rows,): (i64,) = sqlx::query_as("SELECT count(*) FROM notifications")
        .fetch_one(&pool)
        .await
        .expect("counts");
    assert_eq!(rows, 2);
}
