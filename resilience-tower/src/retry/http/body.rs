use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::http::HeaderMap;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use pin_project::pin_project;

/// The body of a request that may be sent again.
///
/// Passes the frames of the caller's body on as they come, and keeps them beside for the next
/// attempt. If an attempt ended before all were sent, the next one sends what was kept and then goes
/// on with the caller's body.
///
/// # Cancel safety
///
/// Dropping it gives what was kept, and the rest of the caller's body, to the next attempt.
#[pin_project]
pub struct ReplayBody<B: Body> {
    #[pin]
    kind: Kind<B>,
}

#[pin_project(project = KindProj)]
enum Kind<B: Body> {
    /// Sent once: nothing is kept.
    Once(#[pin] B),
    Kept(Playing<B>),
    Empty,
}

impl<B: Body> ReplayBody<B> {
    pub(super) const fn once(body: B) -> Self {
        Self {
            kind: Kind::Once(body),
        }
    }

    pub(super) const fn empty() -> Self {
        Self { kind: Kind::Empty }
    }

    /// From the beginning. `None` while another attempt still has the body, or when it cannot be
    /// sent again: it was too long, or broke off.
    pub(super) fn of(recording: &Arc<Recording<B>>) -> Option<Self> {
        let tape = recording.tape.lock().take()?;
        Some(Self {
            kind: Kind::Kept(Playing {
                recording: Arc::clone(recording),
                tape: Some(tape),
                at: 0,
                ended: false,
                given_up: false,
            }),
        })
    }
}

impl<B: Body> Default for ReplayBody<B> {
    /// No body.
    fn default() -> Self {
        Self::empty()
    }
}

/// What was kept of a body, between two attempts.
#[derive(Debug)]
pub(super) struct Recording<B> {
    limit: usize,
    tape: Mutex<Option<Tape<B>>>,
}

struct Tape<B> {
    frames: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// Bytes kept; a frame counts as [`FRAME`] at least, so that many small ones have an end.
    kept: usize,
    /// The rest, until its end was seen.
    rest: Option<Pin<Box<B>>>,
}

/// What a kept frame takes beside its bytes.
const FRAME: usize = size_of::<Bytes>();

impl<B> Recording<B> {
    pub(super) fn new(body: B, limit: usize) -> Self {
        let tape = Tape {
            frames: Vec::new(),
            trailers: None,
            kept: 0,
            rest: Some(Box::pin(body)),
        };
        Self {
            limit,
            tape: Mutex::new(Some(tape)),
        }
    }
}

impl<B> fmt::Debug for Tape<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape")
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

/// One attempt's turn with the tape.
struct Playing<B> {
    recording: Arc<Recording<B>>,
    /// Always there, until it is dropped.
    tape: Option<Tape<B>>,
    /// Frames of the tape that were given out.
    at: usize,
    /// Trailers were given out, or there are none.
    ended: bool,
    /// The body cannot be sent again.
    given_up: bool,
}

impl<B> Drop for Playing<B> {
    fn drop(&mut self) {
        if !self.given_up {
            *self.recording.tape.lock() = self.tape.take();
        }
    }
}

type Polled<E> = Poll<Option<Result<Frame<Bytes>, E>>>;

impl<B: Body<Data = Bytes>> Playing<B> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled<B::Error> {
        let Some(tape) = &mut self.tape else {
            return Poll::Ready(None);
        };
        if let Some(bytes) = tape.frames.get(self.at) {
            self.at += 1;
            return Poll::Ready(Some(Ok(Frame::data(bytes.clone()))));
        }
        if let Some(rest) = &mut tape.rest {
            match ready!(rest.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => {
                    self.keep(&frame);
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Err(error)) => {
                    // Another attempt could only break off as well.
                    self.give_up();
                    return Poll::Ready(Some(Err(error)));
                }
                None => tape.rest = None,
            }
        }
        let trailers = tape.trailers.as_ref().filter(|_| !self.ended).cloned();
        self.ended = true;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(tape) = self.tape.as_mut().filter(|_| !self.given_up) else {
            return;
        };
        if let Some(bytes) = frame.data_ref() {
            let kept = tape.kept.saturating_add(bytes.len().max(FRAME));
            if kept <= self.recording.limit {
                tape.frames.push(bytes.clone());
                (tape.kept, self.at) = (kept, self.at + 1);
                return;
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            tape.trailers = Some(trailers.clone());
            self.ended = true;
            return;
        }
        // Too long, or a kind of frame that is not known.
        self.give_up();
    }

    fn give_up(&mut self) {
        self.given_up = true;
        self.at = 0;
        if let Some(tape) = &mut self.tape {
            (tape.frames, tape.trailers) = (Vec::new(), None);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.tape.as_ref().is_none_or(|tape| {
            let rest = tape.rest.as_ref();
            self.at == tape.frames.len()
                && (self.ended || tape.trailers.is_none())
                && rest.is_none_or(|rest| rest.is_end_stream())
        })
    }

    fn size_hint(&self) -> SizeHint {
        let Some(tape) = &self.tape else {
            return SizeHint::with_exact(0);
        };
        let left = tape.frames.iter().skip(self.at);
        let left: u64 = left.map(|bytes| bytes.len() as u64).sum();
        let rest = tape.rest.as_ref().map(|rest| rest.size_hint());
        let rest = rest.unwrap_or_else(|| SizeHint::with_exact(0));
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(left));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(left)) {
            hint.set_upper(upper);
        }
        hint
    }
}

impl<B: Body<Data = Bytes>> Body for ReplayBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled<B::Error> {
        match self.project().kind.project() {
            KindProj::Once(body) => body.poll_frame(cx),
            KindProj::Kept(playing) => playing.poll_frame(cx),
            KindProj::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Once(body) => body.is_end_stream(),
            Kind::Kept(playing) => playing.is_end_stream(),
            Kind::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Once(body) => body.size_hint(),
            Kind::Kept(playing) => playing.size_hint(),
            Kind::Empty => SizeHint::with_exact(0),
        }
    }
}

impl<B: Body> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Once(_) => "once",
            Kind::Kept(_) => "kept",
            Kind::Empty => "empty",
        };
        f.debug_tuple("ReplayBody").field(&kind).finish()
    }
}
