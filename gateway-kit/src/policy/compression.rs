//! Compression of answers, as far as a client accepts it (RFC 9110, section 12.5.3).

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use compression_codecs::core::Level;
use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::{EncodeV2, GzipEncoder};
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};

use crate::body::{Body, BoxError};
use crate::config::{Coding, CompressionConfig, CompressionEffort};
use crate::headers::{is_weak, list, weaken};

/// What is compressed, and how.
#[derive(Debug)]
pub(crate) struct Compression {
    config: CompressionConfig,
}

/// What one client accepts.
#[derive(Debug)]
pub(crate) struct Accepted<'c> {
    config: &'c CompressionConfig,
    coding: Option<Coding>,
    /// The answer must not go out as it is.
    identity_refused: bool,
    head: bool,
    /// `If-None-Match`, where it has tags that may be ours.
    weak: Option<HeaderValue>,
}

/// Fields whose value holds for the bytes as they are.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

impl Compression {
    pub(crate) fn new(config: &CompressionConfig) -> Self {
        Self {
            config: config.clone(),
        }
    }

    /// Reads what the client of `request` accepts.
    pub(crate) fn accepted<B>(&self, request: &Request<B>) -> Accepted<'_> {
        let headers = request.headers();
        let (mut coding, identity_refused) = negotiate(headers, &self.config.codings);
        if is_fixed(headers) {
            coding = None;
        }
        let tags = headers.get(IF_NONE_MATCH);
        let weak = tags.filter(|tags| tags.as_bytes().windows(2).any(|two| two == b"W/"));
        Accepted {
            config: &self.config,
            coding,
            identity_refused,
            head: request.method() == Method::HEAD,
            weak: weak.cloned(),
        }
    }
}

impl Accepted<'_> {
    /// Compresses the answer if that is allowed and worth it.
    pub(crate) fn apply(self, response: Response<Body>) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        if parts.status == StatusCode::NOT_MODIFIED {
            self.weaken_again(&mut parts.headers);
            return Response::from_parts(parts, body);
        }
        if !self.may(parts.status, &parts.headers) {
            return Response::from_parts(parts, body);
        }
        vary(&mut parts.headers);
        let length = match self.head {
            true => announced(&parts.headers),
            false => body.size_hint().exact(),
        };
        // What HEAD does not tell the length of may be too short.
        let long_enough = match length {
            Some(0) => false,
            Some(length) => length >= self.config.min_size.bytes() || self.identity_refused,
            None => !self.head,
        };
        let Some(coding) = self.coding.filter(|_| long_enough) else {
            return Response::from_parts(parts, body);
        };
        let headers = &mut parts.headers;
        headers.remove(CONTENT_LENGTH);
        headers.remove(ACCEPT_RANGES);
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
        weaken(headers);
        let body = match self.head {
            true => body,
            false => Body::new(Compressed::new(body, encoder(coding, self.config.effort))),
        };
        Response::from_parts(parts, body)
    }

    /// Whether the coding of this answer is the gateway's to choose.
    fn may(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let without_body = status.is_informational()
            || [
                StatusCode::NO_CONTENT,
                StatusCode::RESET_CONTENT,
                StatusCode::PARTIAL_CONTENT,
            ]
            .contains(&status);
        if without_body || headers.contains_key(CONTENT_RANGE) {
            return false;
        }
        // Beside a fresh secret, lengths may tell what a client sent (BREACH).
        if headers.contains_key(SET_COOKIE) || DIGESTS.iter().any(|name| headers.contains_key(name))
        {
            return false;
        }
        let encoded = list(headers, &CONTENT_ENCODING).any(|coding| coding != b"identity");
        !encoded && !is_fixed(headers) && self.is_listed(headers)
    }

    fn is_listed(&self, headers: &HeaderMap) -> bool {
        let mut kinds = headers.get_all(CONTENT_TYPE).iter();
        let (Some(kind), None) = (kinds.next(), kinds.next()) else {
            return false;
        };
        let Ok(kind) = kind.to_str() else {
            return false;
        };
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let kind = kind.to_ascii_lowercase();
        // Events and calls must not wait, and are small.
        if kind == "text/event-stream" || kind.starts_with("application/grpc") {
            return false;
        }
        self.config.types.iter().any(|listed| listed.matches(&kind))
    }

    /// A client that has a compressed answer knows it by a weak tag: a 304 about it says so too,
    /// or it would be about another one (RFC 9111, section 4.3.4).
    fn weaken_again(&self, headers: &mut HeaderMap) {
        let Some(tag) = headers.get(ETAG).filter(|tag| !is_weak(tag)) else {
            return;
        };
        let tag = tag.as_bytes();
        let known = self.weak.as_ref().is_some_and(|weak| {
            let mut tags = weak.as_bytes().split(|byte| *byte == b',');
            tags.any(|known| known.trim_ascii().strip_prefix(b"W/") == Some(tag))
        });
        if known {
            weaken(headers);
            vary(headers);
        }
    }
}

/// Whether a request, or an answer, is not to be changed on its way (RFC 9111, sections 5.2.1.6 and
/// 5.2.2.6).
fn is_fixed(headers: &HeaderMap) -> bool {
    let mut directives = list(headers, &CACHE_CONTROL);
    directives.any(|directive| directive.eq_ignore_ascii_case(b"no-transform"))
}

fn vary(headers: &mut HeaderMap) {
    let known = list(headers, &VARY)
        .any(|name| name == b"*" || name.eq_ignore_ascii_case(ACCEPT_ENCODING.as_str().as_bytes()));
    if !known {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The coding that the client likes best, of those alike the first in `codings`; and whether it
/// refuses an answer without one.
fn negotiate(headers: &HeaderMap, codings: &[Coding]) -> (Option<Coding>, bool) {
    let mut weights: Vec<(Option<Coding>, u16)> = Vec::new();
    let (mut any, mut identity) = (None, None);
    for element in list(headers, &ACCEPT_ENCODING) {
        let Some((name, weight)) = weighted(element) else {
            continue;
        };
        match name {
            b"*" => any = Some(weight),
            name if name.eq_ignore_ascii_case(b"identity") => identity = Some(weight),
            name => weights.push((Coding::named(name), weight)),
        }
    }
    let weight = |coding: Coding| {
        let named = weights.iter().find(|(name, _)| *name == Some(coding));
        named.map_or(any, |(_, weight)| Some(*weight)).unwrap_or(0)
    };
    let mut best: Option<(Coding, u16)> = None;
    for coding in codings {
        let weight = weight(*coding);
        if weight > best.map_or(0, |(_, best)| best) {
            best = Some((*coding, weight));
        }
    }
    let refused = identity.or(any) == Some(0);
    // One that likes it better says so.
    let best = best.filter(|(_, best)| identity.is_none_or(|identity| *best >= identity));
    (best.map(|(coding, _)| coding), refused)
}

/// `gzip;q=0.5` as its name and thousandths; `None` if that is not its form.
fn weighted(element: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = element.split(|byte| *byte == b';');
    let name = parts.next()?.trim_ascii();
    let Some(parameter) = parts.next() else {
        return Some((name, 1000));
    };
    let value = parameter.trim_ascii();
    let value = value
        .strip_prefix(b"q=")
        .or_else(|| value.strip_prefix(b"Q="))?;
    let (whole, digits) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', digits @ ..] if digits.len() <= 3 => (whole, digits),
        _ => return None,
    };
    if parts.next().is_some() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut weight = match whole {
        b'0' => 0,
        b'1' => 1,
        _ => return None,
    };
    for place in 0..3 {
        let digit = digits.get(place).map_or(0, |digit| digit - b'0');
        weight = weight * 10 + u16::from(digit);
    }
    (weight <= 1000).then_some((name, weight))
}

type Encoder = Box<dyn EncodeV2 + Send>;

fn encoder(coding: Coding, effort: CompressionEffort) -> Encoder {
    match coding {
        Coding::Gzip => {
            let level = match effort {
                CompressionEffort::Fast => 1,
                CompressionEffort::Balanced => 5,
                CompressionEffort::Small => 9,
            };
            Box::new(GzipEncoder::new(Level::Precise(level).into()))
        }
        #[cfg(feature = "compression-brotli")]
        Coding::Br => {
            let level = match effort {
                CompressionEffort::Fast => 1,
                CompressionEffort::Balanced => 4,
                CompressionEffort::Small => 9,
            };
            // A larger window costs megabytes for each answer at once.
            let params = compression_codecs::brotli::params::EncoderParams::default()
                .quality(Level::Precise(level))
                .window_size(18);
            Box::new(compression_codecs::BrotliEncoder::new(params))
        }
        #[cfg(feature = "compression-zstd")]
        Coding::Zstd => {
            use compression_codecs::zstd::params::CParameter;
            let level = match effort {
                CompressionEffort::Fast => 1,
                CompressionEffort::Balanced => 3,
                CompressionEffort::Small => 12,
            };
            let window = CParameter::window_log(18);
            Box::new(compression_codecs::ZstdEncoder::new_with_params(
                level,
                &[window],
            ))
        }
    }
}

/// A body compressed on its way, frame by frame.
struct Compressed {
    inner: Body,
    encoder: Encoder,
    /// What was read and is not compressed yet.
    input: Bytes,
    scratch: Box<[u8]>,
    /// The encoder may hold something back.
    dirty: bool,
    trailers: Option<HeaderMap>,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Reading,
    Finishing,
    Trailers,
    Done,
}

/// What the encoder is asked for.
#[derive(Clone, Copy)]
enum Ask {
    Piece,
    Flush,
    Finish,
}

/// What is compressed without giving others a turn.
const PIECE: usize = 16 * 1024;

impl Compressed {
    fn new(inner: Body, encoder: Encoder) -> Self {
        Self {
            inner,
            encoder,
            input: Bytes::new(),
            scratch: vec![0; PIECE].into(),
            dirty: false,
            trailers: None,
            state: State::Reading,
        }
    }

    fn run(&mut self, ask: Ask) -> io::Result<Bytes> {
        let piece = self.input.len().min(PIECE);
        let mut input = PartialBuffer::new(&self.input[..piece]);
        let mut out = BytesMut::new();
        loop {
            let before = input.written_len();
            let mut output = WriteBuffer::new_initialized(&mut self.scratch);
            let done = match ask {
                Ask::Piece => {
                    self.encoder.encode(&mut input, &mut output)?;
                    input.unwritten().is_empty()
                }
                Ask::Flush => self.encoder.flush(&mut output)?,
                Ask::Finish => self.encoder.finish(&mut output)?,
            };
            out.extend_from_slice(output.written());
            if done {
                break;
            }
            if output.written_len() == 0 && input.written_len() == before {
                return Err(io::Error::other("the encoder does not go on"));
            }
        }
        if matches!(ask, Ask::Piece) {
            self.input.advance(piece);
        }
        self.dirty = matches!(ask, Ask::Piece);
        Ok(out.freeze())
    }
}

impl HttpBody for Compressed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            let out = match this.state {
                State::Reading if !this.input.is_empty() => this.run(Ask::Piece),
                State::Reading => match Pin::new(&mut this.inner).poll_frame(cx) {
                    Poll::Ready(None) => {
                        this.state = State::Finishing;
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => {
                        this.state = State::Done;
                        return Poll::Ready(Some(Err(error)));
                    }
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => {
                            this.input = data;
                            continue;
                        }
                        Err(frame) => {
                            this.trailers = frame.into_trailers().ok();
                            this.state = State::Finishing;
                            continue;
                        }
                    },
                    // There is nothing more for now: what was compressed goes out.
                    Poll::Pending if this.dirty => {
                        let out = this.run(Ask::Flush);
                        if matches!(&out, Ok(out) if out.is_empty()) {
                            return Poll::Pending;
                        }
                        out
                    }
                    Poll::Pending => return Poll::Pending,
                },
                State::Finishing => {
                    this.state = State::Trailers;
                    this.run(Ask::Finish)
                }
                State::Trailers => {
                    this.state = State::Done;
                    let trailers = this.trailers.take();
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                State::Done => return Poll::Ready(None),
            };
            match out {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out)))),
                Err(error) => {
                    this.state = State::Done;
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Done || (self.state == State::Trailers && self.trailers.is_none())
    }
}

impl fmt::Debug for Compressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressed")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(feature = "compression-brotli", feature = "compression-zstd"))]
    const ALL: [Coding; 3] = [Coding::Br, Coding::Zstd, Coding::Gzip];

    #[test]
    #[cfg(all(feature = "compression-brotli", feature = "compression-zstd"))]
    fn the_best_liked_coding_is_taken() {
        let rows: [(&str, Option<Coding>, bool); 22] = [
            ("", None, false),
            ("gzip", Some(Coding::Gzip), false),
            ("x-gzip", Some(Coding::Gzip), false),
            ("GZip", Some(Coding::Gzip), false),
            ("gzip, br, zstd", Some(Coding::Br), false),
            ("gzip;q=1, br;q=0.5", Some(Coding::Gzip), false),
            ("gzip;q=0.501, br;q=0.5", Some(Coding::Gzip), false),
            ("gzip;q=0", None, false),
            ("gzip ; q=0.000", None, false),
            ("*", Some(Coding::Br), false),
            ("*, br;q=0", Some(Coding::Zstd), false),
            ("*;q=0", None, true),
            ("gzip, *;q=0", Some(Coding::Gzip), true),
            ("gzip, *;q=0, identity", Some(Coding::Gzip), false),
            ("gzip;q=0.4, identity;q=0.5", None, false),
            ("gzip, identity;q=0", Some(Coding::Gzip), true),
            ("deflate", None, false),
            ("deflate, compress;q=0.1", None, false),
            // Malformed weights say nothing.
            ("gzip;q=2", None, false),
            ("gzip;q=0.1234, zstd", Some(Coding::Zstd), false),
            ("gzip;q=1.001", None, false),
            ("gzip;x=1", None, false),
        ];
        for (accept, coding, refused) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(accept));
            assert_eq!(negotiate(&headers, &ALL), (coding, refused), "{accept}");
        }
        assert_eq!(negotiate(&HeaderMap::new(), &ALL), (None, false));
    }

    #[test]
    fn only_whole_thousandths_up_to_one_are_weights() {
        for (text, weight) in [
            ("q=0.5", 500),
            ("q=1", 1000),
            ("q=1.", 1000),
            ("Q=0.05", 50),
        ] {
            let element = format!("a;{text}");
            assert_eq!(weighted(element.as_bytes()), Some((&b"a"[..], weight)));
        }
        for text in ["q=", "q=.5", "q=-1", "q=0.5;x", "q=1e3", "q=0.x", "q=00"] {
            assert_eq!(weighted(format!("a;{text}").as_bytes()), None, "{text}");
        }
    }
}
