//! The body of an answer over HTTP/1.1, which tells where it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BoxError};
use crate::server::framing::Framing;

/// Tells when the answer has ended, unless its last bytes could be taken for the end of an answer
/// that hyper gives by itself.
#[derive(Debug)]
pub(super) struct Answered {
    body: Body,
    framing: Arc<Framing>,
    /// The last bytes.
    tail: [u8; 4],
}

impl Answered {
    pub(super) fn new(body: Body, framing: Arc<Framing>, is_head: bool) -> Self {
        if is_head || body.is_end_stream() {
            framing.settle();
        }
        Self {
            body,
            framing,
            tail: [0; 4],
        }
    }
}

/// All that hyper says by itself ends so.
const EMPTY_LINE: &[u8; 4] = b"\r\n\r\n";

impl Answered {
    fn passed(&mut self, data: &[u8]) {
        match data.last_chunk() {
            Some(last) => self.tail = *last,
            None => {
                for byte in data {
                    self.tail.rotate_left(1);
                    self.tail[3] = *byte;
                }
            }
        }
    }
}

impl HttpBody for Answered {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let data = match &frame {
            Some(Ok(frame)) => frame.data_ref(),
            _ => None,
        };
        if let Some(data) = data.filter(|data| !data.is_empty()) {
            self.passed(data);
        }
        let broken = matches!(frame, Some(Err(_)));
        let trailers = matches!(&frame, Some(Ok(frame)) if frame.is_trailers());
        let over = frame.is_none() || trailers || self.body.is_end_stream();
        if over && !broken && self.tail != *EMPTY_LINE {
            self.framing.settle();
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
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    async fn settles(pieces: &[&'static str]) -> bool {
        let framing = Arc::<Framing>::default();
        framing.next_request(&mut http::Extensions::new());
        let pieces = pieces
            .iter()
            .map(|piece| Ok::<_, BoxError>(Frame::data(Bytes::from(*piece))));
        let pieces: Vec<_> = pieces.collect();
        let body = Body::new(StreamBody::new(futures_util::stream::iter(pieces)));
        let answered = Answered::new(body, Arc::clone(&framing), false);
        assert!(!framing.is_settled());
        answered.collect().await.unwrap();
        framing.is_settled()
    }

    #[tokio::test]
    async fn an_answer_that_ends_in_an_empty_line_does_not_settle() {
        for pieces in [
            &["text"][..],
            &["\r\n\r\n", "x"],
            &["\r\n", "", "\r", "x"],
            &["a", "b"],
            &[],
        ] {
            assert!(settles(pieces).await, "{pieces:?}");
        }
        for pieces in [
            &["a\r\n\r\n"][..],
            &["\r\n\r", "\n"],
            &["\r", "\n", "\r", "", "\n"],
        ] {
            assert!(!settles(pieces).await, "{pieces:?}");
        }
    }
}
