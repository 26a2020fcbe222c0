//! Interim answers of an upstream (102, 103) on their way to a client of HTTP/1.1.
//!
//! hyper's server cannot send them. They are written where the bytes of the connection go out, at
//! a moment when nothing of hyper's is half written: a request was handed out, its answer has not
//! begun, and hyper asks to flush, which it does with an empty buffer.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::task::AtomicWaker;
use http::header::{CONTENT_LENGTH, TRAILER};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

use crate::headers;

/// Those of one connection.
#[derive(Debug, Default)]
pub(crate) struct Interims {
    /// Whoever writes to the connection.
    connection: AtomicWaker,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The request that is not answered; 0 is none.
    request: u64,
    /// Whether it was passed any.
    passed: bool,
    bytes: Vec<u8>,
    /// Whoever is about to answer.
    answer: Option<Waker>,
}

/// Passes the interim answers to one request on.
#[derive(Clone, Debug)]
pub(crate) struct Interim {
    interims: Arc<Interims>,
    request: u64,
}

impl Interim {
    /// Begins a request.
    pub(super) fn begin(interims: &Arc<Interims>, request: u64) -> Self {
        *interims.waiting.lock() = Waiting {
            request,
            ..Waiting::default()
        };
        Self {
            interims: Arc::clone(interims),
            request,
        }
    }

    /// Passes one on, if it is still in time. 100 answers an expectation that the gateway has
    /// answered itself, and 101 is none of them.
    pub(crate) fn pass(&self, status: StatusCode, fields: &HeaderMap) {
        if matches!(status.as_u16(), 100 | 101) {
            return;
        }
        let mut waiting = self.interims.waiting.lock();
        if waiting.request == self.request {
            waiting.passed = true;
            write(&mut waiting.bytes, status, fields.clone());
            drop(waiting);
            self.interims.connection.wake();
        }
    }

    /// Whether one was passed on: those of a further try would be about another answer.
    pub(crate) fn has_passed(&self) -> bool {
        let waiting = self.interims.waiting.lock();
        waiting.request == self.request && waiting.passed
    }

    /// Before the answer: waits until what has come is on its way, and takes no more.
    pub(super) async fn answered(self) {
        poll_fn(|cx| {
            let mut waiting = self.interims.waiting.lock();
            if waiting.bytes.is_empty() {
                waiting.request = 0;
                return Poll::Ready(());
            }
            waiting.answer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Interims {
    /// What is to be written now; the caller is woken when there is more.
    pub(super) fn take(&self, cx: &Context<'_>) -> Vec<u8> {
        self.connection.register(cx.waker());
        let mut waiting = self.waiting.lock();
        if let Some(answer) = waiting.answer.take() {
            answer.wake();
        }
        std::mem::take(&mut waiting.bytes)
    }
}

fn write(bytes: &mut Vec<u8>, status: StatusCode, mut fields: HeaderMap) {
    headers::remove_hop_by_hop(&mut fields);
    fields.remove(CONTENT_LENGTH);
    fields.remove(TRAILER);
    let reason = status.canonical_reason().unwrap_or("Interim");
    bytes.extend(format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).bytes());
    for (name, value) in &fields {
        for text in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(text);
        }
    }
    bytes.extend_from_slice(b"\r\n");
}
