//! Whole stacks, on tokio's paused clock.

mod allocations;
mod calls;
mod cancel;
mod describe;
#[cfg(feature = "chaos")]
mod faults;
#[cfg(feature = "tonic")]
mod grpc;
#[cfg(feature = "http")]
mod http;
mod order;
mod outage;

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use resilience_core::breaker;
use resilience_core::clock::{Clock, SharedClock};
use resilience_core::retry::Jitter;
use resilience_tower::retry::CloneRequest;
use resilience_tower::stack::{Backoff, Description, Retry, Stack, Traffic};
use tokio::time::{Instant, sleep};
use tower::Service;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Tokio's clock for the policies.
#[derive(Debug)]
struct Tokio(Instant);

impl Clock for Tokio {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

pub(crate) fn clock() -> SharedClock {
    SharedClock::new(Tokio(Instant::now()))
}

/// What the upstream does with a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Does {
    Answers,
    AnswersAfter(Duration),
    Fails,
    Hangs,
}

/// A service that does as it is told.
#[derive(Clone, Debug)]
pub(crate) struct Upstream(Arc<State>);

#[derive(Debug)]
struct State {
    does: Mutex<Does>,
    calls: AtomicU32,
    running: AtomicU32,
}

impl Upstream {
    pub(crate) fn new(does: Does) -> Self {
        Self(Arc::new(State {
            does: Mutex::new(does),
            calls: AtomicU32::new(0),
            running: AtomicU32::new(0),
        }))
    }

    pub(crate) fn does(&self, does: Does) {
        *self.0.does.lock().unwrap() = does;
    }

    /// Calls since it was made.
    pub(crate) fn calls(&self) -> u32 {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// Calls that were neither answered nor dropped.
    pub(crate) fn running(&self) -> u32 {
        self.0.running.load(Ordering::Relaxed)
    }
}

struct Running(Arc<State>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service<u32> for Upstream {
    type Response = u32;
    type Error = &'static str;
    type Future = Pin<Box<dyn Future<Output = Result<u32, &'static str>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        self.0.running.fetch_add(1, Ordering::Relaxed);
        let running = Running(Arc::clone(&self.0));
        let does = *self.0.does.lock().unwrap();
        Box::pin(async move {
            let _running = running;
            match does {
                Does::Answers => Ok(request),
                Does::AnswersAfter(time) => {
                    sleep(time).await;
                    Ok(request)
                }
                Does::Fails => Err("failed"),
                Does::Hangs => std::future::pending().await,
            }
        })
    }
}

/// Outbound, without jitter and on tokio's clock, for requests that may be repeated.
pub(crate) fn outbound(
    change: impl FnOnce(&mut Description),
) -> Stack<Traffic<DefaultJudge, CloneRequest>> {
    let stack = resilience_tower::stack::outbound("payments").configure(|stack| {
        stack.retry = Some(Retry {
            backoff: Backoff {
                base: 100 * MS,
                jitter: Jitter::None,
                ..Backoff::default()
            },
            ..Retry::default()
        });
        stack.deadline.as_mut().unwrap().total = 3 * SECOND;
        change(stack);
    });
    stack.unwrap().clock(clock()).repeatable()
}

pub(crate) type DefaultJudge =
    resilience_tower::breaker::OnResult<resilience_core::breaker::ResultClassifier>;

/// Opens at the first failure.
pub(crate) fn hasty(reset: Duration) -> Option<breaker::ConfigBuilder> {
    let settings = breaker::Config::builder()
        .consecutive_failures(1)
        .half_open_permits(1)
        .reset_timeout(reset);
    Some(settings)
}
