//! The bus: bounded, never waiting, each listener on its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use nestcms::{
    domain::event::{Event, EventData, Source},
    events::{EventBus, Listener, ListenerError, bus::DEFAULT_QUEUE, tap::RECENT},
};
use tokio::{sync::Notify, time::timeout};
use webhook_verify::clock::ManualWallClock;

/// No wait in these tests is longer.
const BOUND: Duration = Duration::from_secs(20);

/// What a test listener does with an event.
#[derive(Clone, Copy, Debug)]
enum Does {
    Counts,
    Blocks,
    Fails,
    Panics,
}

#[derive(Clone, Debug)]
struct Probe {
    name: &'static str,
    does: Does,
    seen: Arc<AtomicU64>,
    changed: Arc<Notify>,
}

impl Probe {
    fn new(name: &'static str, does: Does) -> Self {
        Self {
            name,
            does,
            seen: Arc::default(),
            changed: Arc::default(),
        }
    }

    async fn has_seen(&self, count: u64) {
        let wait = async {
            while self.seen.load(Ordering::SeqCst) < count {
                self.changed.notified().await;
            }
        };
        let name = self.name;
        timeout(BOUND, wait)
            .await
            .unwrap_or_else(|_| panic!("{name} did not see {count} events"));
    }
}

impl Listener for Probe {
    fn name(&self) -> &'static str {
        self.name
    }

    fn wants(&self, _data: &EventData) -> bool {
        true
    }

    fn handle<'a>(&'a self, _event: &'a Event) -> BoxFuture<'a, Result<(), ListenerError>> {
        Box::pin(async move {
            self.seen.fetch_add(1, Ordering::SeqCst);
            self.changed.notify_one();
            match self.does {
                Does::Counts => Ok(()),
                Does::Blocks => std::future::pending().await,
                Does::Fails => Err("on purpose".into()),
                Does::Panics => panic!("on purpose"),
            }
        })
    }
}

fn bus() -> EventBus {
    EventBus::new(Arc::new(ManualWallClock::new(1_767_323_045)))
}

fn happened(n: u64) -> EventData {
    EventData::SystemStarted {
        component: "test".into(),
        status: "ok".into(),
        detail: n.to_string(),
    }
}

fn emit(bus: &EventBus, n: u64) {
    bus.emit(Source::HealthService, "c", happened(n));
}

/// B.c2: the blocked listener loses its oldest events, and nobody else notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_listener_holds_up_neither_the_emitter_nor_the_others() {
    let bus = bus();
    let (blocked, healthy) = (
        Probe::new("blocked", Does::Blocks),
        Probe::new("healthy", Does::Counts),
    );
    bus.subscribe(blocked.clone());
    bus.subscribe(healthy.clone());
    for n in 0..10_000 {
        // `emit` is not async: it cannot wait for anyone. The healthy listener is given
        // its turn now and then, so that its own queue does not overflow.
        emit(&bus, n);
        if n % 500 == 499 {
            healthy.has_seen(n + 1).await;
        }
    }
    healthy.has_seen(10_000).await;
    let stats = bus.stats();
    let of = |name| *stats.iter().find(|s| s.name == name).expect("subscribed");
    assert_eq!(of("healthy").dropped, 0);
    assert_eq!(of("blocked").queued, DEFAULT_QUEUE);
    let in_hand = blocked.seen.load(Ordering::SeqCst);
    assert_eq!(
        of("blocked").dropped + DEFAULT_QUEUE as u64 + in_hand,
        10_000
    );
    assert!(of("blocked").dropped > 0);
    let drained = bus.shutdown(Duration::from_millis(10)).await;
    assert_eq!(drained.unfinished, ["blocked"]);
}

#[tokio::test]
async fn a_failing_or_panicking_listener_goes_on_and_is_counted() {
    let bus = bus();
    let probes = [
        Probe::new("fails", Does::Fails),
        Probe::new("panics", Does::Panics),
        Probe::new("counts", Does::Counts),
    ];
    for probe in &probes {
        bus.subscribe(probe.clone());
    }
    for n in 0..3 {
        emit(&bus, n);
    }
    assert_eq!(bus.shutdown(BOUND).await.unfinished, [""; 0]);
    let counts: Vec<_> = bus.stats().iter().map(|s| (s.handled, s.failed)).collect();
    assert_eq!(counts, [(0, 3), (0, 3), (3, 0)]);
}

#[tokio::test]
async fn shutdown_lets_listeners_finish_what_waits() {
    let bus = bus();
    let probe = Probe::new("counts", Does::Counts);
    bus.subscribe(probe.clone());
    for n in 0..1000 {
        emit(&bus, n);
    }
    assert!(bus.shutdown(BOUND).await.unfinished.is_empty());
    assert_eq!(probe.seen.load(Ordering::SeqCst), 1000);
    emit(&bus, 1000);
    assert_eq!(bus.stats()[0].dropped, 1);
}

#[tokio::test]
async fn an_event_nobody_wants_is_counted_and_still_recorded() {
    let bus = bus();
    let recorder = bus.recorder();
    emit(&bus, 0);
    assert_eq!((bus.emitted(), bus.unheard()), (1, 1));
    assert_eq!(recorder.types(), ["system.started"]);
}

#[tokio::test]
async fn a_tap_continues_exactly_where_the_recent_events_end() {
    let bus = bus();
    let total = RECENT as u64 + 50;
    for n in 0..total {
        emit(&bus, n);
    }
    let mut tap = bus.tap();
    assert_eq!(tap.recent.len(), RECENT);
    assert_eq!(tap.recent[0].data, happened(50));
    assert_eq!(tap.recent[RECENT - 1].data, happened(total - 1));
    emit(&bus, total);
    let next = timeout(BOUND, tap.live.recv()).await.expect("in time");
    assert_eq!(next.expect("an event").data, happened(total));
}

#[tokio::test]
async fn the_envelope_carries_source_time_version_and_correlation_id() {
    let event = bus().emit(Source::PaymentService, "corr-7", happened(0));
    assert_eq!(event.source, Source::PaymentService);
    assert_eq!(event.correlation_id, "corr-7");
    assert_eq!(event.version, Event::VERSION);
    assert_eq!(event.occurred_at.to_string(), "2026-01-02T03:04:05.000Z");
    assert_eq!(event.id.len(), 36);
}
