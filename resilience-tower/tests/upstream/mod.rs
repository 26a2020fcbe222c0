//! An upstream that answers when the test says so.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tower::Service;

type Calls<Req, T, E> = Vec<(Req, oneshot::Sender<Result<T, E>>)>;

/// Keeps every request until it is [answered](Self::answer). Clones share them.
pub(crate) struct Upstream<Req, T, E> {
    calls: Arc<Mutex<Calls<Req, T, E>>>,
    total: Arc<Mutex<usize>>,
}

impl<Req, T, E> Upstream<Req, T, E> {
    pub(crate) fn new() -> Self {
        Self {
            calls: Arc::default(),
            total: Arc::default(),
        }
    }

    /// Calls since the beginning.
    pub(crate) fn total(&self) -> usize {
        *self.total.lock()
    }

    /// Calls that nobody has dropped and that have no answer.
    pub(crate) fn running(&self) -> usize {
        let mut calls = self.calls.lock();
        calls.retain(|(_, respond)| !respond.is_closed());
        calls.len()
    }

    /// Answers the oldest call that nobody has dropped.
    pub(crate) fn answer(&self, result: Result<T, E>) -> Req {
        self.answer_at(0, result)
    }

    /// Answers another call, counted from the oldest.
    pub(crate) fn answer_at(&self, at: usize, result: Result<T, E>) -> Req {
        assert!(self.running() > at, "nobody calls");
        let (request, respond) = self.calls.lock().remove(at);
        let _ = respond.send(result);
        request
    }

    /// Panics in the oldest call.
    pub(crate) fn panic(&self) {
        assert!(self.running() > 0, "nobody calls");
        drop(self.calls.lock().remove(0));
    }
}

impl<Req, T, E> Clone for Upstream<Req, T, E> {
    fn clone(&self) -> Self {
        Self {
            calls: Arc::clone(&self.calls),
            total: Arc::clone(&self.total),
        }
    }
}

impl<Req, T, E> Service<Req> for Upstream<Req, T, E> {
    type Response = T;
    type Error = E;
    type Future = Answer<T, E>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let (respond, answer) = oneshot::channel();
        self.calls.lock().push((request, respond));
        *self.total.lock() += 1;
        Answer(answer)
    }
}

pub(crate) struct Answer<T, E>(oneshot::Receiver<Result<T, E>>);

impl<T, E> Future for Answer<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|answer| answer.expect("the upstream panics"))
    }
}
