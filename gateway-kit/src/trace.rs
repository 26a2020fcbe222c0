//! Which trace a request belongs to: `traceparent` and `tracestate` of the W3C recommendation
//! "Trace Context" (level 1). What is not well formed begins a new trace.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::config::{TraceConfig, TraceTrust};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The bit of the flags that is defined.
const SAMPLED: u8 = 1;
/// The most members of `tracestate`, and bytes of it, that are passed on.
const MEMBERS: usize = 32;
const STATE: usize = 512;
/// Members longer than this are the first to go.
const LONG: usize = 128;

/// The place of a request in its trace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Trace {
    pub(crate) id: [u8; 16],
    /// The span of the gateway's own work, which is the parent of what comes behind.
    pub(crate) span: [u8; 8],
    /// The client's span.
    pub(crate) parent: Option<[u8; 8]>,
    pub(crate) sampled: bool,
    state: Option<HeaderValue>,
}

impl Trace {
    /// The trace that a request names, as far as it is believed, or a new one. `fresh` is random.
    pub(crate) fn of(
        headers: &HeaderMap,
        config: &TraceConfig,
        trusted: bool,
        fresh: Uuid,
    ) -> Self {
        let believed = match config.trust {
            TraceTrust::All => true,
            TraceTrust::Proxies => trusted,
            TraceTrust::None => false,
        };
        match believed.then(|| parent(headers)).flatten() {
            Some(Parent {
                id,
                span: of,
                sampled,
            }) => Self {
                id,
                span: half(fresh, 8),
                parent: Some(of),
                sampled,
                state: state(headers),
            },
            // Its last seven bytes are random, which is what samplers go by.
            None => Self {
                id: *fresh.as_bytes(),
                span: half(fresh, 0),
                parent: None,
                sampled: is_sampled(fresh, config.sample),
                state: None,
            },
        }
    }

    /// Tells what comes behind the trace, and that `span` is its parent there.
    pub(crate) fn tell(&self, span: [u8; 8], headers: &mut HeaderMap) {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut text[3..35], &self.id);
        write_hex(&mut text[36..52], &span);
        text[54] = b'0' + u8::from(self.sampled);
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::copy_from_slice(&text)) {
            headers.insert(TRACEPARENT, value);
        }
        match &self.state {
            Some(state) => headers.insert(TRACESTATE, state.clone()),
            None => headers.remove(TRACESTATE),
        };
    }

    /// The span of this trace that a request tells as the parent of what comes behind.
    #[cfg(feature = "otel")]
    pub(crate) fn told(&self, headers: &HeaderMap) -> Option<[u8; 8]> {
        let told = parent(headers).filter(|told| told.id == self.id);
        told.map(|told| told.span)
    }

    #[cfg(feature = "otel")]
    pub(crate) const fn state(&self) -> Option<&HeaderValue> {
        self.state.as_ref()
    }

    /// A number for one more span.
    #[cfg(feature = "otel")]
    pub(crate) fn new_span() -> [u8; 8] {
        half(Uuid::new_v4(), 0)
    }

    /// The id in hexadecimal digits.
    pub(crate) fn hex(&self) -> [u8; 32] {
        let mut text = [0; 32];
        write_hex(&mut text, &self.id);
        text
    }
}

/// A number for a span. Version and variant see to it that no half is 0.
fn half(fresh: Uuid, from: usize) -> [u8; 8] {
    let mut span = [0; 8];
    span.copy_from_slice(&fresh.as_bytes()[from..from + 8]);
    span
}

/// Whether a new trace is one of the share that is sampled.
fn is_sampled(fresh: Uuid, share: f64) -> bool {
    let mut random = [0; 8];
    random[1..].copy_from_slice(&fresh.as_bytes()[9..]);
    // 56 random bits.
    let random = u64::from_be_bytes(random) as f64 / (1_u64 << 56) as f64;
    random < share
}

#[derive(Debug, Eq, PartialEq)]
struct Parent {
    id: [u8; 16],
    span: [u8; 8],
    sampled: bool,
}

/// The only `traceparent` of a request, if it is well formed.
fn parent(headers: &HeaderMap) -> Option<Parent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let text = values.next()?.as_bytes();
    if values.next().is_some() {
        return None;
    }
    let (head, rest) = text.split_at_checked(55)?;
    let version: [u8; 1] = hex(head.get(..2)?)?;
    // Later versions may have more, after a dash.
    let more = match version {
        [0xff] => return None,
        [0] => rest.is_empty(),
        _ => rest.is_empty() || rest.starts_with(b"-"),
    };
    let dashes = [2, 35, 52].iter().all(|at| head[*at] == b'-');
    if !more || !dashes {
        return None;
    }
    let id: [u8; 16] = hex(&head[3..35])?;
    let span: [u8; 8] = hex(&head[36..52])?;
    let [flags] = hex(&head[53..55])?;
    let known = id != [0; 16] && span != [0; 8];
    known.then_some(Parent {
        id,
        span,
        sampled: flags & SAMPLED != 0,
    })
}

/// What `tracestate` holds, within its bounds; nothing if any of it is malformed.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut members: Vec<&str> = Vec::new();
    for line in headers.get_all(TRACESTATE) {
        // Bytes that are no text are no member.
        let line = line.to_str().ok()?;
        for member in line.split(',') {
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() {
                continue;
            }
            let key = key(member)?;
            if members.iter().any(|known| self::key(known) == Some(key)) {
                return None;
            }
            members.push(member);
            // A list without end is not read to its end.
            if members.len() > 4 * MEMBERS {
                return None;
            }
        }
    }
    // The first are the latest.
    members.truncate(MEMBERS);
    let length = |members: &[&str]| {
        let commas = members.len().saturating_sub(1);
        members.iter().map(|one| one.len()).sum::<usize>() + commas
    };
    while length(&members) > STATE {
        let long = members.iter().rposition(|one| one.len() > LONG);
        members.remove(long.unwrap_or(members.len() - 1));
    }
    let text = members.join(",");
    (!text.is_empty()).then(|| HeaderValue::try_from(text).ok())?
}

/// The key of a well-formed member.
fn key(member: &str) -> Option<&str> {
    let (key, value) = member.split_once('=')?;
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(&byte);
    let starts = |text: &str, digit: bool| {
        let first = text.bytes().next();
        first.is_some_and(|one| one.is_ascii_lowercase() || digit && one.is_ascii_digit())
    };
    let good = match key.split_once('@') {
        None => key.len() <= 256 && starts(key, false) && key.bytes().all(plain),
        Some((tenant, system)) => {
            tenant.len() <= 241
                && starts(tenant, true)
                && tenant.bytes().all(plain)
                && system.len() <= 14
                && starts(system, false)
                && system.bytes().all(plain)
        }
    };
    let printable = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    let value =
        (1..=256).contains(&value.len()) && value.bytes().all(printable) && !value.ends_with(' ');
    (good && value).then_some(key)
}

/// Lower case only, as the recommendation has it.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    (text.len() == 2 * N).then_some(bytes)
}

pub(crate) fn write_hex(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ids;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn of(lines: &[(&'static str, &str)]) -> Trace {
        let config = TraceConfig::default();
        Trace::of(&headers(lines), &config, false, Uuid::new_v4())
    }

    fn state_of(lines: &[&str]) -> Option<String> {
        let mut all = vec![("traceparent", GOOD)];
        all.extend(lines.iter().map(|line| ("tracestate", *line)));
        let state = of(&all).state?;
        Some(state.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_good_traceparent_goes_on_with_another_span() {
        let trace = of(&[("traceparent", GOOD)]);
        assert_eq!(&trace.hex(), b"0af7651916cd43dd8448eb211c80319c");
        assert_eq!(
            trace.parent,
            Some([0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31])
        );
        assert!(trace.sampled && Some(trace.span) != trace.parent);
        let mut told = HeaderMap::new();
        trace.tell(trace.span, &mut told);
        let again = parent(&told).unwrap();
        assert_eq!(
            (again.id, again.span, again.sampled),
            (trace.id, trace.span, true)
        );
        // The flag is kept as it came; other bits are not known and not passed on.
        for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("ff", true)] {
            let text = GOOD.replace("-01", &format!("-{flags}"));
            let trace = of(&[("traceparent", &text)]);
            assert_eq!(trace.sampled, sampled);
            trace.tell([1; 8], &mut told);
            let value = told[TRACEPARENT].to_str().unwrap();
            assert!(
                value.ends_with(if sampled { "-01" } else { "-00" }),
                "{value}"
            );
        }
        // A later version is read as far as it is known.
        for text in [
            GOOD.replacen("00", "cc", 1),
            GOOD.replacen("00", "01", 1) + "-more",
        ] {
            assert!(of(&[("traceparent", &text)]).parent.is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_not_well_formed_begins_a_new_trace() {
        for text in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0A",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
            "\u{e9}0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
        ] {
            let trace = of(&[("traceparent", text), ("tracestate", "a=1")]);
            assert_eq!((trace.parent, trace.state), (None, None), "{text}");
            assert_ne!(trace.id, [0; 16]);
        }
        let twice = [("traceparent", GOOD), ("traceparent", GOOD)];
        assert_eq!(of(&twice).parent, None);
        // A new trace tells nobody of the client's state.
        let mut told = headers(&[("tracestate", "a=1")]);
        of(&[]).tell([1; 8], &mut told);
        assert!(!told.contains_key(TRACESTATE));
    }

    #[test]
    fn tracestate_is_kept_within_its_bounds_or_not_at_all() {
        assert_eq!(
            state_of(&["a=1, b=2\t", ",,", "t1/x@sys=a b;c"]).unwrap(),
            "a=1,b=2,t1/x@sys=a b;c"
        );
        for bad in [
            "a", "=1", "a=", "A=1", "1a=1", "a=1,a=2", "a=b=c", "a@=1", "a=\u{e9}", "a=x\ty",
        ] {
            assert_eq!(state_of(&[bad]), None, "{bad}");
            assert_eq!(state_of(&["good=1", bad]), None, "{bad}");
        }
        let many: Vec<_> = (0..40).map(|n| format!("k{n}=v")).collect();
        let kept = state_of(&[&many.join(",")]).unwrap();
        assert_eq!(kept, many[..32].join(","));
        // The long ones go first, then the oldest.
        let long = format!("long={}", "x".repeat(200));
        let some: Vec<_> = (0..8).map(|n| format!("k{n}={}", "y".repeat(61))).collect();
        let kept = state_of(&[&long, &some.join(",")]).unwrap();
        assert_eq!(kept, some[..7].join(","));
        assert!(kept.len() <= STATE);
        assert_eq!(state_of(&[&vec!["a=1"; 200].join(",")]), None);
    }

    #[test]
    fn who_is_believed_is_a_setting_and_so_is_the_share_of_new_traces() {
        let lines = headers(&[("traceparent", GOOD)]);
        let mut config = TraceConfig::default();
        for (trust, proxy, wanted) in [
            (TraceTrust::All, false, true),
            (TraceTrust::Proxies, false, false),
            (TraceTrust::Proxies, true, true),
            (TraceTrust::None, true, false),
        ] {
            config.trust = trust;
            let trace = Trace::of(&lines, &config, proxy, Uuid::new_v4());
            assert_eq!(trace.parent.is_some(), wanted);
        }
        let ids = Ids::default();
        let sampled = |share: f64| {
            config.sample = share;
            let traces = (0..400).map(|_| {
                let trace = Trace::of(&HeaderMap::new(), &config, false, ids.random());
                usize::from(trace.sampled)
            });
            traces.sum::<usize>()
        };
        let mut sampled = sampled;
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 400));
        // 200 ± 10 standard deviations.
        assert!((100..300).contains(&sampled(0.5)));
    }
}
