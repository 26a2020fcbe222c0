//! The request body on its way to an upstream: tells whether the client keeps sending.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;

use crate::body::{Body, BoxError};
use crate::policy::size_limits::TooLarge;
use crate::server::SlowClient;

/// A request body whose [`Progress`] can be watched.
#[derive(Debug)]
pub(crate) struct Upload {
    body: Body,
    // `None` when there is nothing to send, which is most requests.
    progress: Option<Arc<Progress>>,
    kept: Option<Arc<Mutex<Kept>>>,
}

/// A body for a second try: none, or what has passed of the first.
#[derive(Debug)]
pub(crate) struct Spare(Option<Arc<Mutex<Kept>>>);

/// What has passed of a short body.
#[derive(Debug)]
struct Kept {
    data: Vec<Bytes>,
    /// How many bytes more are kept.
    room: usize,
    state: Keeping,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Keeping {
    Passing,
    Whole,
    /// Too long, cut off, or with trailers.
    Lost,
}

impl Kept {
    fn take(&mut self, frame: Option<&Result<Frame<Bytes>, BoxError>>) {
        if self.state != Keeping::Passing {
            return;
        }
        let Some(frame) = frame else {
            self.state = Keeping::Whole;
            return;
        };
        let data = frame.as_ref().ok().and_then(Frame::data_ref);
        let room = data.and_then(|data| self.room.checked_sub(data.len()));
        match (data, room) {
            (Some(data), Some(room)) => {
                self.room = room;
                self.data.push(data.clone());
            }
            _ => {
                self.state = Keeping::Lost;
                self.data = Vec::new();
            }
        }
    }
}

impl Spare {
    /// The body, if all of it has passed and was kept.
    pub(crate) fn whole(self) -> Option<Body> {
        let Some(kept) = self.0 else {
            return Some(Body::empty());
        };
        let mut kept = kept.lock();
        if kept.state != Keeping::Whole {
            return None;
        }
        let data = std::mem::take(&mut kept.data);
        Some(match <[Bytes; 1]>::try_from(data) {
            Ok([only]) => Body::from(only),
            Err(data) => Body::from(Bytes::from(data.concat())),
        })
    }
}

/// How far an upload has come.
// ORDERING: Relaxed throughout. The values are hints for a timer and publish no other memory.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    frames: AtomicU64,
    bytes: AtomicU64,
    waits_for_client: AtomicBool,
    /// A [`Failure`], or 0.
    failed: AtomicU8,
}

/// Why an upload did not come to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    /// The client broke off.
    Broken,
    /// The client was too slow.
    Slow,
    /// The body is larger than is taken.
    TooLarge,
}

const FAILURES: [Failure; 3] = [Failure::Broken, Failure::Slow, Failure::TooLarge];

impl Failure {
    fn of(error: &BoxError) -> Self {
        if error.is::<SlowClient>() {
            Self::Slow
        } else if error.is::<TooLarge>() {
            Self::TooLarge
        } else {
            Self::Broken
        }
    }
}

impl Progress {
    /// Goes up with each frame passed on.
    pub(crate) fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Bytes passed on.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the next byte has to come from the client, not be taken by the upstream.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.waits_for_client.load(Ordering::Relaxed)
    }

    /// Why the client's side failed, if it did.
    pub(crate) fn failed(&self) -> Option<Failure> {
        let failed = usize::from(self.failed.load(Ordering::Relaxed));
        FAILURES.get(failed.checked_sub(1)?).copied()
    }
}

impl Upload {
    pub(crate) fn new(body: Body) -> Self {
        let progress = (!body.is_end_stream()).then(Arc::default);
        Self {
            body,
            progress,
            kept: None,
        }
    }

    /// Keeps what passes, up to so many bytes; `None` if there is a body that is not kept.
    pub(crate) fn spare(&mut self, most: Option<usize>) -> Option<Spare> {
        if self.is_end_stream() {
            return Some(Spare(None));
        }
        // A length in memory fits in 64 bits.
        let fits = |most: &usize| self.size_hint().lower() <= *most as u64;
        let room = most.filter(fits)?;
        let kept = Arc::new(Mutex::new(Kept {
            data: Vec::new(),
            room,
            state: Keeping::Passing,
        }));
        self.kept = Some(Arc::clone(&kept));
        Some(Spare(Some(kept)))
    }

    pub(crate) fn into_inner(self) -> Body {
        self.body
    }

    pub(crate) fn progress(&self) -> Option<Arc<Progress>> {
        self.progress.clone()
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(progress) = &self.progress {
            let waits = polled.is_pending();
            progress.waits_for_client.store(waits, Ordering::Relaxed);
            match &polled {
                Poll::Ready(Some(Err(error))) => {
                    let failure = Failure::of(error) as u8 + 1;
                    progress.failed.store(failure, Ordering::Relaxed);
                }
                // The end counts too: the upstream's time starts there.
                Poll::Ready(frame) => {
                    progress.frames.fetch_add(1, Ordering::Relaxed);
                    if let Some(Ok(frame)) = frame {
                        let bytes = frame.data_ref().map_or(0, Bytes::len);
                        progress.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                    }
                }
                Poll::Pending => {}
            }
        }
        let frame = ready!(polled);
        if let Some(kept) = &self.kept {
            let mut kept = kept.lock();
            kept.take(frame.as_ref());
            if self.body.is_end_stream() {
                kept.take(None);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    /// `ab`, `cd`, and the end only if it is said.
    fn upload(ends: bool) -> (Upload, Spare) {
        let frames = ["ab", "cd"].map(|text| Ok(Frame::data(Bytes::from(text))));
        let more: stream::BoxStream<'_, Result<Frame<Bytes>, BoxError>> = match ends {
            true => stream::empty().boxed(),
            false => stream::pending().boxed(),
        };
        let body = Body::new(StreamBody::new(stream::iter(frames).chain(more)));
        let mut upload = Upload::new(body);
        let spare = upload.spare(Some(4)).unwrap();
        (upload, spare)
    }

    #[tokio::test]
    async fn what_has_not_passed_whole_is_not_sent_again() {
        for frames in 0..=2 {
            let (mut upload, spare) = upload(false);
            for _ in 0..frames {
                upload.frame().await.unwrap().unwrap();
            }
            assert!(spare.whole().is_none(), "{frames} frames");
        }
        let (upload, spare) = upload(true);
        assert_eq!(upload.collect().await.unwrap().to_bytes(), "abcd");
        let again = spare.whole().unwrap().collect().await.unwrap();
        assert_eq!(again.to_bytes(), "abcd");
    }
}
