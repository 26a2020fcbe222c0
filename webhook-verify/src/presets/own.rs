//! Schemes of no provider, for services of one's own.

use std::time::Duration;

use super::{Encoding, FIVE_MINUTES, Layout, Part, Scheme, Timestamp, body_only};

/// A timestamped signature over the body.
///
/// - Headers: `x-webhook-signature` (64 lower-case hex digits), `x-webhook-timestamp`
///   (Unix seconds).
/// - Signed: `timestamp "." body`.
/// - Key: bytes or text ([`Secret::new`](crate::Secret::new)).
/// - Tolerance: 300 s in the past, 60 s in the future.
/// - Rotation: by the receiver, which takes both keys for a while.
/// - Replay key: the signature.
///
/// Not protected: the other headers, the path, the content type.
#[must_use]
pub fn timestamped() -> Scheme {
    let layout = Layout {
        timestamp: Some(Timestamp::seconds_in("x-webhook-timestamp")),
        before: [Part::Timestamp, Part::fixed(".")].into(),
        ..Layout::body_only("x-webhook-signature", Encoding::Hex)
    };
    Scheme {
        tolerance: (FIVE_MINUTES, Duration::from_secs(60)),
        ..Scheme::of_layout("timestamped", layout)
    }
}

/// The body-only mode of [`timestamped`], for senders that sign the body alone.
///
/// Header `x-webhook-signature` only; a timestamp header is ignored, since it would not be
/// signed. Signed bytes, replay key and what is not protected: as
/// [`paytabs_callback`](super::paytabs_callback).
#[must_use]
pub fn timestamped_body_only() -> Scheme {
    body_only(
        "timestamped_body_only",
        "x-webhook-signature",
        Encoding::Hex,
    )
}
