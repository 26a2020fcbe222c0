//! The live part: server-sent events with ready-made HTML.
//!
//! | event | data |
//! |---|---|
//! | `breakers` | the breakers, whenever they look different |
//! | `payments` | the payments, after events about them |
//! | `paytabs` | how the sandbox behaves, whenever that changes |
//! | `log` | one entry of the event list |

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event as Sse, KeepAlive};
use futures_util::stream;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Interval, MissedTickBehavior};

use super::{StatusPage, page};
use crate::domain::event::Event;

/// Streams changes until the browser goes away.
pub(super) async fn events(State(page): State<StatusPage>) -> impl IntoResponse {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let watcher = Watcher {
        live: page.bus.tap().live,
        page,
        ticks,
        ready: VecDeque::new(),
        breakers: String::new(),
        paytabs: String::new(),
        quiet_ticks: 0,
    };
    let stream = stream::unfold(watcher, |mut watcher| async move {
        let next = watcher.next().await?;
        Some((Ok::<_, Infallible>(next), watcher))
    });
    let headers = [("cache-control", "no-store"), ("x-accel-buffering", "no")];
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
    (
        headers,
        axum::response::Sse::new(stream).keep_alive(keep_alive),
    )
}

/// One browser's view of the page.
struct Watcher {
    page: StatusPage,
    live: broadcast::Receiver<Arc<Event>>,
    ticks: Interval,
    ready: VecDeque<Sse>,
    breakers: String,
    paytabs: String,
    quiet_ticks: u32,
}

impl Watcher {
    /// The next message; `None` when the application stops.
    async fn next(&mut self) -> Option<Sse> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            tokio::select! {
                event = self.live.recv() => match event {
                    Ok(event) => self.heard(&event).await,
                    // The page missed some entries of the list; what follows is right.
                    Err(RecvError::Lagged(_)) => self.payments().await,
                    Err(RecvError::Closed) => return None,
                },
                _ = self.ticks.tick() => self.tick().await,
            }
        }
    }

    async fn heard(&mut self, event: &Event) {
        self.push("log", page::entry(event).into_string());
        self.look_at_breakers();
        if event.data.payment_id().is_some() {
            self.payments().await;
        }
    }

    /// Half-open → open by a lease, or the countdown, make no event.
    async fn tick(&mut self) {
        self.look_at_breakers();
        if self.quiet_ticks.is_multiple_of(TICKS_PER_LOOK) {
            let paytabs = self.page.sandbox.describe().await;
            if paytabs != self.paytabs {
                self.push("paytabs", page::paytabs(&paytabs).into_string());
                self.paytabs = paytabs;
            }
        }
        self.quiet_ticks = self.quiet_ticks.wrapping_add(1);
    }

    fn look_at_breakers(&mut self) {
        let now = page::breakers(&self.page.breakers).into_string();
        if now != self.breakers {
            self.breakers.clone_from(&now);
            self.push("breakers", now);
        }
    }

    async fn payments(&mut self) {
        let list = self.page.payments.list(None, page::PAYMENTS_SHOWN).await;
        self.push("payments", page::payments(&list).into_string());
    }

    fn push(&mut self, name: &str, html: String) {
        // maud writes no line breaks of its own, but data may hold some; SSE splits there.
        let html = html.replace(['\r', '\n'], " ");
        self.ready.push_back(Sse::default().event(name).data(html));
    }
}

/// How often the breakers are looked at without an event.
const TICK: Duration = Duration::from_millis(200);
/// The sandbox is asked once in so many ticks.
const TICKS_PER_LOOK: u32 = 5;
