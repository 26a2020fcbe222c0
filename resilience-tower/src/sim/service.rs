use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use parking_lot::Mutex;
use pin_project::{pin_project, pinned_drop};
use tokio::time::{Sleep, sleep_until};
use tower_service::Service;

use super::{
    clock::VirtualClock,
    random::{Stream, nanos},
    server::{Fate, Server},
    upstream::Upstream,
};

/// An upstream of a run as a service: the innermost of a stack. Clones are the same upstream.
///
/// It takes requests of any type, does not look at them, and is always ready.
#[derive(Clone)]
pub struct UpstreamService {
    shared: Arc<Mutex<Shared>>,
    name: Arc<str>,
    clock: VirtualClock,
}

/// An upstream's answer.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Response {
    /// Which upstream answered.
    pub upstream: Arc<str>,
}

/// How an upstream fails a call.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Failure {
    /// It is down, and refused the call.
    Down,
    /// Its line is full, and it refused the call.
    Full,
    /// It went down with the call.
    Cut,
    /// It worked on the call and failed.
    Failed,
}

impl Failure {
    /// `down`, `full`, `cut` or `failed`, as used in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Full => "full",
            Self::Cut => "cut",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "the upstream is down",
            Self::Full => "the upstream's line is full",
            Self::Cut => "the upstream went down with the call",
            Self::Failed => "the upstream failed the call",
        })
    }
}

impl std::error::Error for Failure {}

struct Shared {
    server: Server,
    /// Those who wait for an answer, to be told when the upstream dies.
    waiting: BTreeMap<u64, Waker>,
    number: u64,
    seen: Seen,
}

/// What came to an upstream.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Calls, by the time at which they came in buckets.
    pub(super) calls: Vec<u64>,
    /// Calls whose caller was gone before the answer.
    pub(super) abandoned: u64,
    bucket: u64,
}

impl UpstreamService {
    pub(super) fn new(
        name: &str,
        model: Upstream,
        random: Stream,
        clock: VirtualClock,
        bucket: Duration,
    ) -> Self {
        let shared = Shared {
            server: Server::new(model, random),
            waiting: BTreeMap::new(),
            number: 0,
            seen: Seen {
                bucket: nanos(bucket),
                ..Seen::default()
            },
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
            name: name.into(),
            clock,
        }
    }

    /// The upstream's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn seen(&self) -> Seen {
        self.shared.lock().seen.clone()
    }

    pub(super) fn deaths(&self) -> u64 {
        self.shared.lock().server.deaths()
    }
}

impl fmt::Debug for UpstreamService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamService")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<R> Service<R> for UpstreamService {
    type Response = Response;
    type Error = Failure;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: R) -> ResponseFuture {
        let now = self.clock.nanos();
        let mut shared = self.shared.lock();
        let Shared { server, seen, .. } = &mut *shared;
        seen.count(now);
        let before = server.deaths();
        let fate = server.arrive(now);
        let life = server.deaths();
        shared.number += 1;
        let number = shared.number;
        let cut = if life == before {
            BTreeMap::new()
        } else {
            std::mem::take(&mut shared.waiting)
        };
        drop(shared);
        // In the order in which they came.
        cut.into_values().for_each(Waker::wake);
        let (sleep, answer) = match fate {
            Fate::At(time, answer) if time <= now => (None, Some(answer)),
            Fate::At(time, answer) => (Some(sleep_until(self.clock.at(time))), Some(answer)),
            Fate::Never => (None, None),
        };
        ResponseFuture {
            shared: Arc::clone(&self.shared),
            name: Arc::clone(&self.name),
            sleep,
            answer,
            life,
            number,
            ended: false,
        }
    }
}

impl Seen {
    fn count(&mut self, now: u64) {
        let bucket = usize::try_from(now / self.bucket).unwrap_or(usize::MAX);
        if self.calls.len() <= bucket {
            self.calls.resize(bucket + 1, 0);
        }
        self.calls[bucket] += 1;
    }
}

/// The answer of an [`UpstreamService`].
///
/// # Cancel safety
///
/// Dropped before the answer, the call is counted as abandoned; the upstream works on it all the
/// same.
#[pin_project(PinnedDrop)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture {
    shared: Arc<Mutex<Shared>>,
    name: Arc<str>,
    #[pin]
    sleep: Option<Sleep>,
    /// Nothing when none comes.
    answer: Option<Result<(), Failure>>,
    life: u64,
    number: u64,
    ended: bool,
}

impl Future for ResponseFuture {
    type Output = Result<Response, Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut shared = this.shared.lock();
        let answer = if shared.server.deaths() == *this.life || this.sleep.is_none() {
            shared.waiting.insert(*this.number, cx.waker().clone());
            drop(shared);
            if let Some(sleep) = this.sleep.as_pin_mut() {
                ready!(sleep.poll(cx));
            }
            let Some(answer) = *this.answer else {
                return Poll::Pending;
            };
            this.shared.lock().waiting.remove(this.number);
            answer
        } else {
            drop(shared);
            Err(Failure::Cut)
        };
        *this.ended = true;
        Poll::Ready(answer.map(|()| Response {
            upstream: Arc::clone(this.name),
        }))
    }
}

#[pinned_drop]
impl PinnedDrop for ResponseFuture {
    fn drop(self: Pin<&mut Self>) {
        if !self.ended {
            let mut shared = self.shared.lock();
            shared.waiting.remove(&self.number);
            shared.seen.abandoned += 1;
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("upstream", &self.name)
            .finish_non_exhaustive()
    }
}
