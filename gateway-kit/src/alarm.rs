//! Timers that are set anew for each request and hardly ever ring.
//!
//! A timer of tokio takes a lock and a place in its wheel whenever it is set, and again when it is
//! dropped. An [`Alarm`] is left as it was set for an earlier wait: it rings too early, if the
//! wait still lasts then, and is set to the end that counts.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

/// One timer for the waits of one task, of which there is one at a time.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Mutex<Option<Pin<Box<Sleep>>>>);

impl Alarm {
    /// Ready at `end`.
    fn poll(&self, cx: &mut Context<'_>, end: Instant) -> Poll<()> {
        let mut slot = self.0.lock();
        let sleep = slot.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if end < sleep.deadline() {
            sleep.as_mut().reset(end);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= end {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(end);
        }
        Poll::Pending
    }

    /// The output of `future`, unless it takes longer than `time`.
    pub(crate) async fn timeout<F: Future>(&self, time: Duration, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut end = None;
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            let end = *end.get_or_insert_with(|| Instant::now() + time);
            self.poll(cx, end).map(|()| None)
        })
        .await
    }
}

/// An alarm as hyper's timer, for a connection that waits for its heads.
#[derive(Debug, Default)]
pub(crate) struct Timer(Arc<Alarm>);

impl rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        self.until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn rt::Sleep>> {
        self.until(deadline.into())
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into()
    }
}

impl Timer {
    fn until(&self, end: Instant) -> Pin<Box<dyn rt::Sleep>> {
        let alarm = Arc::clone(&self.0);
        Box::pin(Wait { alarm, end })
    }
}

#[derive(Debug)]
struct Wait {
    alarm: Arc<Alarm>,
    end: Instant,
}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.poll(cx, self.end)
    }
}

impl rt::Sleep for Wait {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wait_ends_when_it_should_whatever_was_waited_for_before() {
        let alarm = Alarm::default();
        let begin = Instant::now();
        let ready = alarm.timeout(Duration::from_secs(10), tokio::task::yield_now());
        assert!(ready.await.is_some());
        // Set for 10 s: the first wait is shorter, the second longer than that.
        for seconds in [3, 20, 7] {
            let begin = Instant::now();
            let time = Duration::from_secs(seconds);
            let late = alarm.timeout(time, std::future::pending::<()>());
            assert!(late.await.is_none());
            let waited = begin.elapsed();
            assert!(waited >= time && waited < time + Duration::from_millis(5));
        }
        // Something that is over in time is not disturbed by what is set.
        let sleep = tokio::time::sleep(Duration::from_secs(30));
        assert!(
            alarm
                .timeout(Duration::from_secs(31), sleep)
                .await
                .is_some()
        );
        assert!(begin.elapsed() >= Duration::from_secs(60));
    }
}
