//! The server that the examples call, which fails, hangs or is busy as they say.
#![allow(dead_code)] // Each example needs a part of it.

use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

static RUNS: AtomicU32 = AtomicU32::new(0);
static FAILS: AtomicU32 = AtomicU32::new(0);
static HANGS: AtomicU32 = AtomicU32::new(0);
static BUSY: AtomicBool = AtomicBool::new(false);

/// What is done for a call.
pub(crate) async fn work() -> Result<&'static str, StatusCode> {
    RUNS.fetch_add(1, Ordering::Relaxed);
    until(|| !BUSY.load(Ordering::Relaxed)).await;
    if one_of(&HANGS) {
        pending::<()>().await;
    }
    match one_of(&FAILS) {
        true => Err(StatusCode::INTERNAL_SERVER_ERROR),
        false => Ok("done"),
    }
}

fn one_of(calls: &AtomicU32) -> bool {
    let less = |calls: u32| calls.checked_sub(1);
    let order = Ordering::Relaxed;
    calls.fetch_update(order, order, less).is_ok()
}

/// So many of the next calls fail.
pub(crate) fn fail(calls: u32) {
    FAILS.store(calls, Ordering::Relaxed);
}

/// So many of the next calls are never answered.
pub(crate) fn hang(calls: u32) {
    HANGS.store(calls, Ordering::Relaxed);
}

/// Calls since this was asked the last time.
pub(crate) fn runs() -> u32 {
    RUNS.swap(0, Ordering::Relaxed)
}

/// Two calls, the second while the first runs; that one has its answer when the second is seen.
pub(crate) async fn at_once<T>(call: impl AsyncFn() -> T, seen: impl Fn() -> bool) -> (T, T) {
    runs();
    BUSY.store(true, Ordering::Relaxed);
    let second = async {
        until(|| RUNS.load(Ordering::Relaxed) > 0).await;
        call().await
    };
    let release = async {
        until(seen).await;
        BUSY.store(false, Ordering::Relaxed);
    };
    let (first, second, ()) = tokio::join!(call(), second, release);
    (first, second)
}

/// Waits for what must come.
pub(crate) async fn until(seen: impl Fn() -> bool) {
    let look = async {
        while !seen() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let came = timeout(Duration::from_secs(20), look).await;
    came.expect("it comes within 20 s");
}

/// A server on a free port, and its address.
pub(crate) async fn serve(app: Router) -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, app).into_future());
    Ok(url)
}
