//! Answers over HTTP/2 of which a client takes nothing, though it reads from its connection: it
//! grants the stream no window. The body is not asked for more then, so it cannot end itself; the
//! task of the stream does.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::body::BoxError;

tokio::task_local! {
    static PIECES: Cell<Pieces>;
}

/// What the body of a stream tells its task.
#[derive(Clone, Copy, Debug, Default)]
struct Pieces {
    /// Pieces that were handed over.
    given: u64,
    /// The last was, and no further is asked for.
    held: bool,
}

/// The most that is handed over at once: a client that takes so much in `write_timeout` goes on.
pub(super) const PIECE: usize = 16 * 1024;

/// Notes what a body has answered to its stream.
pub(super) fn note(frame: &Poll<Option<Result<Frame<Bytes>, BoxError>>>) {
    let held = match frame {
        Poll::Ready(Some(Ok(frame))) => frame.data_ref().is_some_and(|data| !data.is_empty()),
        _ => false,
    };
    // Outside of a stream nobody asks.
    let _ = PIECES.try_with(|pieces| {
        let given = pieces.get().given + u64::from(held);
        pieces.set(Pieces { given, held });
    });
}

/// Runs the tasks of a connection's streams; one of whose answer nothing is taken for so long is
/// dropped, which resets the stream and lets the upstream go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    pub(super) longest: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(PIECES.scope(Cell::default(), bounded(stream, self.longest)));
    }
}

async fn bounded(stream: impl Future, longest: Duration) {
    let mut stream = pin!(stream);
    let mut stalled = Stalled::default();
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        stalled.poll(PIECES.with(Cell::get), longest, cx)
    })
    .await;
}

/// Since when a piece is held. The timer is made when one first is.
#[derive(Debug, Default)]
struct Stalled {
    piece: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stalled {
    /// Ready when the last piece is held for too long.
    fn poll(&mut self, pieces: Pieces, longest: Duration, cx: &mut Context<'_>) -> Poll<()> {
        if !pieces.held {
            return Poll::Pending;
        }
        let until = Instant::now() + longest;
        let timer = match &mut self.timer {
            Some(timer) => {
                if self.piece != pieces.given {
                    timer.as_mut().reset(until);
                }
                timer
            }
            empty => empty.insert(Box::pin(sleep_until(until))),
        };
        self.piece = pieces.given;
        timer.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece() -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }

    /// How long a stream lasts that hands over a piece, waits and asks on, time after time, and
    /// then does nothing.
    async fn lasts(waits: &[u64], last: Poll<Option<Result<Frame<Bytes>, BoxError>>>) -> u64 {
        let started = Instant::now();
        let stream = async {
            for wait in waits {
                note(&piece());
                tokio::time::sleep(Duration::from_secs(*wait)).await;
            }
            note(&last);
            std::future::pending::<()>().await;
        };
        let bounded = PIECES.scope(Cell::default(), bounded(stream, Duration::from_secs(60)));
        let _ = tokio::time::timeout(Duration::from_secs(1000), bounded).await;
        started.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_a_piece_is_held_too_long_and_not_while_it_moves() {
        assert_eq!(lasts(&[], piece()).await, 60);
        assert_eq!(lasts(&[61], piece()).await, 60);
        assert_eq!(lasts(&[59, 59, 59], piece()).await, 3 * 59 + 60);
        // It is the upstream that is waited for, or the end has been handed over.
        assert_eq!(lasts(&[59], Poll::Pending).await, 1000);
        assert_eq!(lasts(&[59], Poll::Ready(None)).await, 1000);
        assert_eq!(
            lasts(&[], Poll::Ready(Some(Ok(Frame::data(Bytes::new()))))).await,
            1000
        );
    }
}
