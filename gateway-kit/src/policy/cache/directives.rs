//! What messages say about keeping them (RFC 9111, sections 5.2 and 4.2).
//!
//! The rules are `http-cache-semantics`'; it takes names of directives as they are written, the
//! first of several lines of some fields, and ages without a bound, so it gets fields in one plain
//! form.

use std::time::{Duration, SystemTime};

use http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG,
    EXPIRES, LAST_MODIFIED, PRAGMA, SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_cache_semantics::{CacheOptions, CachePolicy};

use crate::headers::list;

/// Longer times are this: more than a cache lives (RFC 9111, section 1.2.2).
const LONGEST: u64 = 1 << 31;

/// The directives of `Cache-Control`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Directives {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) private: bool,
    pub(super) public: bool,
    pub(super) must_revalidate: bool,
    pub(super) proxy_revalidate: bool,
    pub(super) only_if_cached: bool,
    pub(super) max_age: Option<u64>,
    pub(super) s_maxage: Option<u64>,
    pub(super) min_fresh: Option<u64>,
    pub(super) while_revalidate: Option<u64>,
    pub(super) if_error: Option<u64>,
}

impl Directives {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut read = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            match line.to_str() {
                Ok(line) => directives(line, |name, value| read.take(name, value)),
                // Who knows what it says.
                Err(_) => read.no_store = true,
            }
        }
        if !headers.contains_key(CACHE_CONTROL) {
            read.no_cache = list(headers, &PRAGMA).any(|one| one.eq_ignore_ascii_case(b"no-cache"));
        }
        read
    }

    fn take(&mut self, name: &str, value: &str) {
        let flag = match name {
            "no-store" => &mut self.no_store,
            "no-cache" => &mut self.no_cache,
            "private" => &mut self.private,
            "public" => &mut self.public,
            "must-revalidate" => &mut self.must_revalidate,
            "proxy-revalidate" => &mut self.proxy_revalidate,
            "only-if-cached" => &mut self.only_if_cached,
            _ => return self.take_time(name, value),
        };
        *flag = true;
    }

    fn take_time(&mut self, name: &str, value: &str) {
        let time = match name {
            "max-age" => &mut self.max_age,
            "s-maxage" => &mut self.s_maxage,
            "min-fresh" => &mut self.min_fresh,
            "stale-while-revalidate" => &mut self.while_revalidate,
            "stale-if-error" => &mut self.if_error,
            _ => return,
        };
        // What cannot be read, or is said twice and not alike, lasts no time.
        let seconds = seconds(value).unwrap_or(0);
        *time = Some(time.map_or(seconds, |known| match known == seconds {
            true => seconds,
            false => 0,
        }));
    }

    /// The same in the form that the library reads.
    fn plain(&self) -> String {
        let mut text = String::new();
        let flags = [
            (self.no_store, "no-store"),
            (self.no_cache, "no-cache"),
            (self.private, "private"),
            (self.public, "public"),
            (self.must_revalidate, "must-revalidate"),
        ];
        let flags = flags.into_iter().filter(|(set, _)| *set);
        let times = [("max-age", self.max_age), ("s-maxage", self.s_maxage)];
        let times = times
            .into_iter()
            .filter_map(|(name, time)| Some((name, time?)));
        let all = flags.map(|(_, name)| name.to_owned());
        for one in all.chain(times.map(|(name, time)| format!("{name}={time}"))) {
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(&one);
        }
        text
    }
}

/// Digits as seconds, at most the longest there are.
fn seconds(value: &str) -> Option<u64> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(value.parse().unwrap_or(LONGEST).min(LONGEST))
}

/// Hands out `name` in lower case and its value without quotes.
fn directives(line: &str, mut each: impl FnMut(&str, &str)) {
    let mut rest = line;
    while !rest.is_empty() {
        let mut quoted = false;
        let mut escaped = false;
        let end = rest.find(|char: char| {
            let ends = char == ',' && !quoted;
            match char {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                _ => {}
            }
            ends
        });
        let (one, next) = rest.split_at(end.unwrap_or(rest.len()));
        rest = next.strip_prefix(',').unwrap_or(next);
        let (name, value) = one.split_once('=').unwrap_or((one, ""));
        let name = name.trim().to_ascii_lowercase();
        let value = value.trim();
        let inner = value
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        each(&name, inner.unwrap_or(value));
    }
}

/// How long an answer may be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Freshness {
    /// How old it was when it came.
    pub(super) age: Duration,
    /// How long it is fresh from then on.
    pub(super) time: Duration,
    /// How long after that while a newer one is fetched, and if that fails.
    pub(super) while_revalidate: Duration,
    pub(super) if_error: Duration,
    /// Requests with credentials may have it too.
    pub(super) for_authorized: bool,
}

/// What is known of the request of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// It had credentials.
    pub(super) authorized: bool,
    /// Its client's `Accept-Encoding` was not passed on.
    pub(super) without_encoding: bool,
}

/// How long the answer to a GET may be used; `None` if it must not be kept, or that would be of no
/// use. `now` is Unix time.
pub(super) fn assess(
    asked: Asked,
    status: StatusCode,
    headers: &HeaderMap,
    now: Duration,
) -> Option<Freshness> {
    let directives = Directives::of(headers);
    let forbidden = headers.contains_key(SET_COOKIE)
        || headers.contains_key(CONTENT_RANGE)
        || list(headers, &VARY).any(|name| name == b"*")
        || is_events(headers)
        || is_encoded_for_one(asked, headers);
    if forbidden {
        return None;
    }
    let for_authorized =
        directives.public || directives.must_revalidate || directives.s_maxage.is_some();
    let policy = policy(asked, status, headers, &directives, now);
    if !policy.is_storable() {
        return None;
    }
    let at = SystemTime::UNIX_EPOCH + now;
    let strict = directives.must_revalidate || directives.proxy_revalidate || directives.no_cache;
    let stale = |seconds: Option<u64>| match strict {
        true => Duration::ZERO,
        false => Duration::from_secs(seconds.unwrap_or(0)),
    };
    let freshness = Freshness {
        age: policy.age(at),
        time: policy.time_to_live(at),
        while_revalidate: stale(directives.while_revalidate),
        if_error: stale(directives.if_error),
        for_authorized,
    };
    let can_be_asked_about = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
    let of_use = can_be_asked_about
        || !freshness.time.is_zero()
        || !freshness.while_revalidate.is_zero()
        || !freshness.if_error.is_zero();
    of_use.then_some(freshness)
}

fn policy(
    asked: Asked,
    status: StatusCode,
    headers: &HeaderMap,
    directives: &Directives,
    now: Duration,
) -> CachePolicy {
    let mut request = Request::new(());
    if asked.authorized {
        let fields = request.headers_mut();
        fields.insert(AUTHORIZATION, HeaderValue::from_static("-"));
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    let fields = response.headers_mut();
    if let Ok(plain) = HeaderValue::from_str(&directives.plain()) {
        fields.insert(CACHE_CONTROL, plain);
    }
    let date = one_date(headers, &DATE);
    fields.insert(AGE, age(headers, date, now).into());
    if let Some(date) = date {
        fields.insert(DATE, http_date(date));
    }
    if headers.contains_key(EXPIRES) {
        // What is no date, or more than one, is in the past.
        let expires = one_date(headers, &EXPIRES).unwrap_or_default();
        fields.insert(EXPIRES, http_date(expires));
    }
    let options = CacheOptions {
        shared: true,
        // Only what says how long is fresh.
        cache_heuristic: 0.0,
        immutable_min_time_to_live: Duration::ZERO,
        ignore_cargo_cult: false,
    };
    CachePolicy::new_options(&request, &response, SystemTime::UNIX_EPOCH + now, options)
}

/// The age in seconds when it came (RFC 9111, section 4.2.3).
fn age(headers: &HeaderMap, date: Option<Duration>, now: Duration) -> u64 {
    let mut told = headers.get_all(AGE).iter();
    let told = match (told.next(), told.next()) {
        (None, _) => 0,
        // What cannot be read is old.
        (Some(one), None) => one.to_str().ok().and_then(seconds).unwrap_or(LONGEST),
        _ => LONGEST,
    };
    let apparent = date.map_or(0, |date| now.saturating_sub(date).as_secs());
    told.max(apparent).min(LONGEST)
}

/// The one date of a field, as Unix time.
fn one_date(headers: &HeaderMap, name: &HeaderName) -> Option<Duration> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    date(value)
}

/// An HTTP date as Unix time.
pub(super) fn date(value: &HeaderValue) -> Option<Duration> {
    let date = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    date.duration_since(SystemTime::UNIX_EPOCH).ok()
}

/// Unix time as an HTTP date.
pub(super) fn http_date(time: Duration) -> HeaderValue {
    // The year 9999 is the last that has one.
    let time = time.min(Duration::from_secs(253_402_300_799));
    let text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + time);
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// A stream of events has no end that could be waited for.
fn is_events(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| {
        let start = kind.get(..17).unwrap_or_default();
        start.eq_ignore_ascii_case(b"text/event-stream")
    })
}

/// Whether another client may be unable to decode it: its coding was chosen without saying that
/// it was a choice, or although the client's own list was left out.
fn is_encoded_for_one(asked: Asked, headers: &HeaderMap) -> bool {
    let mut codings = list(headers, &CONTENT_ENCODING);
    let encoded = codings.any(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    let by_choice = list(headers, &VARY).any(|name| name.eq_ignore_ascii_case(b"accept-encoding"));
    encoded && (asked.without_encoding || !by_choice)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(784_111_777);

    fn fields(rows: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in rows {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(HeaderName::from_static(name), value);
        }
        headers
    }

    type Rows<'r> = &'r [(&'static str, &'r str)];

    fn kept(authorized: bool, status: u16, rows: &[(&'static str, &str)]) -> Option<u64> {
        let asked = Asked {
            authorized,
            without_encoding: false,
        };
        let status = StatusCode::from_u16(status).unwrap();
        let freshness = assess(asked, status, &fields(rows), NOW)?;
        Some(freshness.time.as_secs())
    }

    #[test]
    fn an_answer_is_kept_as_long_as_it_says() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let later = "Sun, 06 Nov 1994 08:50:37 GMT";
        let rows: &[(Option<u64>, Rows<'_>)] = &[
            (None, &[]),
            (Some(60), &[("cache-control", "max-age=60")]),
            (Some(60), &[("cache-control", "MAX-AGE=\"60\"")]),
            (Some(5), &[("cache-control", "max-age=60, s-maxage=5")]),
            (Some(50), &[("cache-control", "max-age=60"), ("age", "10")]),
            (None, &[("cache-control", "max-age=60"), ("age", "60")]),
            (None, &[("cache-control", "max-age=60"), ("age", "x")]),
            (
                None,
                &[("cache-control", "max-age=60"), ("age", "1"), ("age", "1")],
            ),
            (
                Some(1 << 31),
                &[("cache-control", "max-age=99999999999999999999")],
            ),
            (
                None,
                &[
                    ("cache-control", "max-age=60"),
                    ("age", "18446744073709551615"),
                ],
            ),
            (None, &[("cache-control", "max-age=-1")]),
            (None, &[("cache-control", "max-age=60, max-age=61")]),
            (Some(60), &[("cache-control", "max-age=60, max-age=60")]),
            (Some(60), &[("expires", later), ("date", date)]),
            (None, &[("expires", "0"), ("date", date)]),
            (
                None,
                &[("expires", later), ("expires", later), ("date", date)],
            ),
            // The upstream's clock is ahead, or behind.
            (
                Some(60),
                &[("cache-control", "max-age=60"), ("date", later)],
            ),
            (
                Some(30),
                &[
                    ("cache-control", "max-age=60"),
                    ("date", "Sun, 06 Nov 1994 08:49:07 GMT"),
                ],
            ),
            (None, &[("cache-control", "no-store, max-age=60")]),
            (
                None,
                &[
                    ("cache-control", "max-age=60"),
                    ("cache-control", "No-Store"),
                ],
            ),
            (None, &[("cache-control", "Private, max-age=60")]),
            (
                None,
                &[("cache-control", "private=\"x-a, x-b\", max-age=60")],
            ),
            (None, &[("cache-control", "max-age=60, \u{e9}")]),
            (
                Some(0),
                &[("cache-control", "no-cache, max-age=60"), ("etag", "\"a\"")],
            ),
            (None, &[("cache-control", "no-cache, max-age=60")]),
            (Some(0), &[("etag", "\"a\"")]),
            (None, &[("pragma", "no-cache")]),
            // Not taken for fresh by its date alone.
            (
                Some(0),
                &[("last-modified", "Sat, 06 Nov 1993 08:49:37 GMT")],
            ),
            (
                None,
                &[("cache-control", "max-age=60"), ("set-cookie", "a=b")],
            ),
            (
                None,
                &[
                    ("cache-control", "public, max-age=60"),
                    ("set-cookie", "a=b"),
                ],
            ),
            (
                None,
                &[("cache-control", "max-age=60"), ("vary", "accept, *")],
            ),
            (
                None,
                &[
                    ("cache-control", "max-age=60"),
                    ("content-encoding", "gzip"),
                ],
            ),
            (
                Some(60),
                &[
                    ("cache-control", "max-age=60"),
                    ("content-encoding", "gzip"),
                    ("vary", "Accept-Encoding"),
                ],
            ),
            (
                None,
                &[
                    ("cache-control", "max-age=60"),
                    ("content-type", "Text/Event-Stream"),
                ],
            ),
            (
                Some(60),
                &[("cache-control", "x=\"no-store, private\", max-age=60")],
            ),
            (
                Some(60),
                &[("cache-control", "x=\"\\\", no-store\", max-age=60")],
            ),
        ];
        for (time, rows) in rows {
            assert_eq!(kept(false, 200, rows), *time, "{rows:?}");
        }
    }

    #[test]
    fn only_some_statuses_are_kept() {
        let rows = [("cache-control", "max-age=60")];
        for status in [
            200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501,
        ] {
            assert_eq!(kept(false, status, &rows), Some(60), "{status}");
        }
        for status in [
            100, 101, 201, 202, 206, 304, 400, 401, 403, 500, 502, 503, 504,
        ] {
            assert_eq!(kept(false, status, &rows), None, "{status}");
        }
    }

    #[test]
    fn an_answer_to_credentials_is_kept_only_if_it_says_so() {
        let rows = [
            ("max-age=60", false),
            ("max-age=60, max-age=61", false),
            ("max-age=60, immutable", false),
            ("public, max-age=60", true),
            ("s-maxage=60", true),
            ("must-revalidate, max-age=60", true),
            ("private, s-maxage=60", false),
        ];
        for (directives, kept_with) in rows {
            let rows = [("cache-control", directives)];
            assert_eq!(kept(true, 200, &rows).is_some(), kept_with, "{directives}");
        }
    }

    #[test]
    fn what_must_be_asked_about_is_never_stale() {
        let asked = Asked {
            authorized: false,
            without_encoding: false,
        };
        let stale = "stale-while-revalidate=5, stale-if-error=9";
        for (directives, while_revalidate, if_error) in [
            ("", 5, 9),
            (", s-maxage=60", 5, 9),
            (", must-revalidate", 0, 0),
            (", proxy-revalidate", 0, 0),
            (", no-cache", 0, 0),
        ] {
            let text = format!("max-age=60, {stale}{directives}");
            let headers = fields(&[("cache-control", &text), ("etag", "\"a\"")]);
            let found = assess(asked, StatusCode::OK, &headers, NOW).unwrap();
            assert_eq!(
                found.while_revalidate,
                Duration::from_secs(while_revalidate)
            );
            assert_eq!(found.if_error, Duration::from_secs(if_error), "{text}");
        }
    }
}
