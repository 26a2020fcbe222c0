//! A plain header: the time left in whole milliseconds.
//!
//! No standard has one. This is the form of Envoy's `x-envoy-expected-rq-timeout-ms`, which it and
//! what is built on it send to upstreams; the name is the caller's choice.

use std::time::Duration;

use super::Text;

/// The time that a number of milliseconds leaves; `None` for anything but ASCII digits, and for
/// none: no signs, points, units or spaces.
///
/// A number beyond 64 bits counts as the largest, 584 million years. Zero is no time at all. (Envoy's
/// route timeout is off at 0: a header by which somebody hands such a setting on must not be read by
/// this function.)
pub fn parse(value: &[u8]) -> Option<Duration> {
    digits(value).map(Duration::from_millis)
}

/// `left` in whole milliseconds, rounded down: whoever reads it gives up at the deadline or before,
/// never after it. Time beyond 64 bits is the largest number.
///
/// Less than a millisecond is `0`, which some read as no limit. Refuse such a call instead: see
/// [`LEAST`].
pub fn write(left: Duration) -> Text {
    Text::new(u64::try_from(left.as_millis()).unwrap_or(u64::MAX), None)
}

/// The least time that this header can say.
pub const LEAST: Duration = Duration::from_millis(1);

/// A run of ASCII digits as a number that saturates; `None` for anything else, and for none.
pub(super) fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}
