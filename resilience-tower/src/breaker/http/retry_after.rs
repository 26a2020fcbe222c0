use std::time::{Duration, SystemTime};

use ::http::header::{DATE, HeaderName, RETRY_AFTER};
use ::http::{HeaderMap, HeaderValue};

/// How long the `Retry-After` of a response asks to stay away (RFC 9110, section 10.2.3).
///
/// - Delta-seconds: one run of digits. A number too large for 64 bits counts as the largest.
/// - HTTP-date, in the three forms of RFC 9110, section 5.6.7: the time from the response's own
///   `Date` to that date, so that neither clock need be right about the time of day; zero if it
///   has passed. `received_at` is asked for the time of day only if there is no `Date` that can
///   be read.
///
/// `None` if the field is missing, cannot be read, or is there more than once: two of them
/// contradict each other.
pub fn retry_after(
    headers: &HeaderMap,
    received_at: impl FnOnce() -> SystemTime,
) -> Option<Duration> {
    let value = only(headers, &RETRY_AFTER)?;
    if let Some(seconds) = digits(value.as_bytes()) {
        return Some(Duration::from_secs(seconds));
    }
    let until = date(value)?;
    let from = only(headers, &DATE)
        .and_then(date)
        .unwrap_or_else(received_at);
    Some(until.duration_since(from).unwrap_or_default())
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

fn date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// A run of ASCII digits as a number that saturates; `None` for anything else, and for none.
pub(in crate::breaker) fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110.
    fn example() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(784_111_777)
    }

    fn read(fields: &[(HeaderName, &str)]) -> Option<Duration> {
        let headers = fields
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        retry_after(&map, || example() - Duration::from_secs(7))
    }

    fn seconds(n: u64) -> Option<Duration> {
        Some(Duration::from_secs(n))
    }

    #[test]
    fn seconds_are_digits_and_saturate() {
        assert_eq!(read(&[(RETRY_AFTER, "120")]), seconds(120));
        assert_eq!(read(&[(RETRY_AFTER, "0")]), seconds(0));
        assert_eq!(
            read(&[(RETRY_AFTER, "99999999999999999999999")]),
            seconds(u64::MAX)
        );
    }

    #[test]
    fn each_form_of_a_date_is_read() {
        for value in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(read(&[(RETRY_AFTER, value)]), seconds(7), "{value}");
        }
    }

    #[test]
    fn a_date_counts_from_the_responses_own_date() {
        let until = (RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT");
        let sent = |value| [until.clone(), (DATE, value)];
        assert_eq!(read(&sent("Sun, 06 Nov 1994 08:47:37 GMT")), seconds(120));
        assert_eq!(read(&sent("Sun, 06 Nov 1994 09:00:00 GMT")), seconds(0));
        assert_eq!(read(&sent("yesterday")), seconds(7));
    }

    #[test]
    fn anything_else_has_no_duration() {
        for value in [
            "",
            "-1",
            "+1",
            "1.5",
            "1s",
            "1, 2",
            "soon",
            "Sun, 06 Nov 1994",
        ] {
            assert_eq!(read(&[(RETRY_AFTER, value)]), None, "{value:?}");
        }
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[(RETRY_AFTER, "1"), (RETRY_AFTER, "2")]), None);
    }

    #[test]
    fn bytes_that_are_no_text_have_no_duration() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(retry_after(&headers, example), None);
    }
}
