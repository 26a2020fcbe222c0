//! The header `grpc-timeout`: how much time the caller leaves.
//!
//! Defined by "gRPC over HTTP/2" (`grpc/doc/PROTOCOL-HTTP2.md`): an ASCII number of at most eight
//! digits and one of the units `H` (hours), `M` (minutes), `S` (seconds), `m`, `u` and `n` (milli-,
//! micro- and nanoseconds), with nothing before, between or behind them.

use std::time::Duration;

use super::Text;

/// The time that a `grpc-timeout` leaves; `None` for what is none: no digits or more than eight, no
/// unit or another one, signs, points, spaces.
///
/// The specification has the number positive. A zero is read all the same, as no time at all: that
/// is what clients send whose deadline is over (grpc-go writes `0n`), and they mean it. Leading
/// zeros count as digits. The longest, `99999999H`, is about 11 400 years.
pub fn parse(value: &[u8]) -> Option<Duration> {
    let (&unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) {
        return None;
    }
    // Eight digits and an hour's 3 600 seconds are far from the end of 64 bits.
    let number = super::millis::digits(digits)?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// `left` in the finest unit in which it has at most eight digits, rounded down: whoever reads it
/// gives up at the deadline or before, never after it. Up to 99 999 999 ns nothing is lost, above it
/// less than a part in 100 000.
///
/// No time at all is `0n`; more than can be said is `99999999H`. Other implementations round up.
pub fn write(left: Duration) -> Text {
    const MOST: u64 = 99_999_999;
    const UNITS: [(u128, u8); 6] = [
        (1, b'n'),
        (1_000, b'u'),
        (1_000_000, b'm'),
        (1_000_000_000, b'S'),
        (60 * 1_000_000_000, b'M'),
        (3_600 * 1_000_000_000, b'H'),
    ];
    let nanos = left.as_nanos();
    for (size, unit) in UNITS {
        let number = u64::try_from(nanos / size).unwrap_or(u64::MAX);
        if number <= MOST {
            return Text::new(number, Some(unit));
        }
    }
    Text::new(MOST, Some(b'H'))
}
