//! PayPal: an RSA signature over ids, time and the CRC-32 of the body.

use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};

use super::{Claim, Document, Extract, Head, Outgoing, Sign, Signed};
use crate::{encoding, error::Reason, mac::Algorithm, scheme::Field, signer::SignError};

/// The webhook of one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct PayPal {
    webhook_id: String,
}

/// Signature, time, id, algorithm.
static HEADERS: [HeaderName; 4] = [
    HeaderName::from_static("paypal-transmission-sig"),
    HeaderName::from_static("paypal-transmission-time"),
    HeaderName::from_static("paypal-transmission-id"),
    HeaderName::from_static("paypal-auth-algo"),
];

/// The one algorithm that is taken, however the header names others.
const SHA256_WITH_RSA: &str = "SHA256withRSA";

/// The base64 of a signature by the largest key.
const MOST_SIGNATURE: usize = 1024_usize.div_ceil(3) * 4;

impl PayPal {
    /// `None` unless the id is 1 to 50 letters, digits, `-` or `_`.
    pub(crate) fn new(webhook_id: &str) -> Option<Self> {
        is_name(webhook_id.as_bytes()).then(|| Self {
            webhook_id: webhook_id.to_owned(),
        })
    }

    fn signed(&self, id: &str, time: &str, body: &[u8]) -> Vec<u8> {
        let crc = crc32(body);
        format!("{id}|{time}|{}|{crc}", self.webhook_id).into_bytes()
    }
}

/// The header fields of a delivery, each in its exact form.
struct Read<'a> {
    id: &'a str,
    time: &'a str,
    at: u64,
    signature: Vec<u8>,
}

impl<'a> Read<'a> {
    fn of(headers: &'a HeaderMap) -> Result<Self, Reason> {
        let [signature, time, id, algorithm] = HEADERS.each_ref().map(|name| {
            let value = Field::of(headers, name).get(name)?;
            str::from_utf8(value).map_err(|_| Reason::Malformed(name.clone()))
        });
        let malformed = |at: usize| move || Reason::Malformed(HEADERS[at].clone());
        if algorithm? != SHA256_WITH_RSA {
            return Err(malformed(3)());
        }
        let id = Some(id?).filter(|id| is_name(id.as_bytes()));
        let time = time?;
        let short = Some(signature?).filter(|text| text.len() <= MOST_SIGNATURE);
        let signature = short.and_then(|text| encoding::base64_decode_any(text.as_bytes()));
        Ok(Self {
            id: id.ok_or_else(malformed(2))?,
            time,
            at: seconds(time.as_bytes()).ok_or_else(malformed(1))?,
            signature: signature
                .filter(|bytes| !bytes.is_empty())
                .ok_or_else(malformed(0))?,
        })
    }
}

impl Document for PayPal {
    fn headers(&self) -> &[HeaderName] {
        &HEADERS
    }

    fn algorithms(&self) -> &[Algorithm] {
        &[Algorithm::RsaPkcs1Sha256]
    }

    fn has_timestamp(&self) -> bool {
        true
    }

    fn has_id(&self) -> bool {
        true
    }

    fn head(&self, request: &Parts) -> Result<Head, Reason> {
        let read = Read::of(&request.headers)?;
        Ok(Head {
            timestamp: Some(read.at),
        })
    }

    fn read(&self, request: &Parts, body: &[u8]) -> Result<Extract, Reason> {
        let read = Read::of(&request.headers)?;
        Ok(Extract {
            timestamp: Some(read.at),
            id: Some(read.id.as_bytes().to_vec()),
            claims: vec![Claim {
                signatures: vec![(Algorithm::RsaPkcs1Sha256, read.signature)],
                signed: self.signed(read.id, read.time, body),
                ..Claim::default()
            }],
            ..Extract::default()
        })
    }

    fn write(&self, delivery: &Outgoing<'_>, sign: &mut Sign<'_>) -> Result<Signed, SignError> {
        let id = delivery.id.filter(|id| is_name(id.as_bytes()));
        let id = id.ok_or(SignError::Id)?;
        let time = text_of(delivery.at.as_secs()).ok_or(SignError::Time)?;
        let signed = self.signed(id, &time, delivery.body);
        let signature = sign(Algorithm::RsaPkcs1Sha256, &signed)?;
        let mut headers = HeaderMap::new();
        let signature = encoding::base64_encode(&signature);
        for (name, text) in HEADERS
            .iter()
            .zip([&*signature, &*time, id, SHA256_WITH_RSA])
        {
            let value = HeaderValue::from_str(text).map_err(|_| SignError::Id)?;
            headers.insert(name.clone(), value);
        }
        Ok(Signed {
            headers,
            ..Signed::default()
        })
    }
}

/// 1 to 50 letters, digits, `-` or `_`; so nothing of it can be read as a separator.
fn is_name(text: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=50).contains(&text.len()) && text.iter().all(fits)
}

/// Seconds since the Unix epoch of `2016-09-21T22:00:46Z`: RFC 3339 in UTC, in upper case, with
/// or without up to nine digits of a fraction, which is dropped; from 1970 on.
fn seconds(text: &[u8]) -> Option<u64> {
    let (whole, rest) = text.split_first_chunk::<19>()?;
    let fraction = rest.strip_suffix(b"Z")?;
    let fraction = fraction.is_empty()
        || fraction.strip_prefix(b".").is_some_and(|digits| {
            (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
        });
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !fraction || !separators.iter().all(|(at, byte)| whole[*at] == *byte) {
        return None;
    }
    let number = |from: usize, to: usize| {
        whole[from..to].iter().try_fold(0, |value, digit| {
            let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
            Some(value * 10 + digit)
        })
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let known = year >= 1970
        && (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    known.then(|| ((days_until(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

const fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to the date.
fn days_until(year: u64, month: u64, day: u64) -> u64 {
    let before = year - 1;
    let leaps = before / 4 - before / 100 + before / 400;
    let leaps = leaps - (1969 / 4 - 1969 / 100 + 1969 / 400);
    let months: u64 = (1..month).map(|month| days_of(year, month)).sum();
    (year - 1970) * 365 + leaps + months + day - 1
}

/// The inverse of [`seconds`]; `None` from the year 10000 on.
fn text_of(seconds: u64) -> Option<String> {
    const LAST: u64 = 253_402_300_799;
    if seconds > LAST {
        return None;
    }
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    while days >= days_of(year, month) {
        days -= days_of(year, month);
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let day = days + 1;
    Some(format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
    ))
}

/// CRC-32 of ISO 3309, as in zlib. No hash: a body of any wanted value is found at once.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        CRC[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8)
    })
}

const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Request;
    use pkcs8::DecodePrivateKey as _;
    use rsa::{Pkcs1v15Sign, RsaPrivateKey, sha2::Sha256};

    use super::*;
    use crate::{mac::sha256, secret::Secret};

    fn endpoint() -> PayPal {
        PayPal::new("4JH86294D6297924G").unwrap()
    }

    #[test]
    fn times_are_read_in_one_form_only() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1972-02-29T23:59:59Z", 68_255_999),
            ("2000-02-29T00:00:00Z", 951_782_400),
            ("2015-05-18T15:45:13Z", 1_431_963_913),
            ("2016-09-21T22:00:46Z", 1_474_495_246),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(seconds(text.as_bytes()), Some(expected), "{text}");
            assert_eq!(text_of(expected).as_deref(), Some(text));
        }
        assert_eq!(
            seconds(b"2016-09-21T22:00:46.999999999Z"),
            Some(1_474_495_246)
        );
        assert_eq!(text_of(253_402_300_800), None);
        for bad in [
            "",
            "2016-09-21T22:00:46",
            "2016-09-21T22:00:46z",
            "2016-09-21t22:00:46Z",
            "2016-09-21 22:00:46Z",
            "2016-09-21T22:00:46+00:00",
            "2016-09-21T22:00:46.Z",
            "2016-09-21T22:00:46.1234567890Z",
            "2016-09-21T22:00:46,5Z",
            "2016-09-21T24:00:00Z",
            "2016-09-21T22:60:46Z",
            "2016-09-21T22:00:60Z",
            "2016-13-01T22:00:46Z",
            "2016-00-01T22:00:46Z",
            "2016-04-31T22:00:46Z",
            "2015-02-29T22:00:46Z",
            "2100-02-29T22:00:46Z",
            "2016-09-00T22:00:46Z",
            "1969-12-31T23:59:59Z",
            "+016-09-21T22:00:46Z",
            "2016-9-21T22:00:46ZZZ",
            " 2016-09-21T22:00:46Z",
            "2016-09-21T22:00:46Z ",
        ] {
            assert_eq!(seconds(bad.as_bytes()), None, "{bad:?}");
        }
    }

    /// Every third day of 800 years.
    #[test]
    fn times_survive_the_way_there_and_back() {
        for day in (0..292_194).step_by(3) {
            let at = day * 86_400 + day % 86_400;
            let text = text_of(at).unwrap();
            assert_eq!(seconds(text.as_bytes()), Some(at), "{text}");
        }
    }

    /// The value of `123456789` is in the catalogue of CRCs; the bodies are those of two
    /// deliveries of the sandbox.
    #[test]
    fn checksums_are_those_of_zlib() {
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let first = include_bytes!("../../tests/vectors/paypal-1.body");
        assert_eq!(crc32(first), 2_771_810_304);
        let second = include_bytes!("../../tests/vectors/paypal-2.body");
        assert_eq!(crc32(second), 1_915_257_671);
        let forged = include_bytes!("../../tests/vectors/paypal-1-forged-same-crc.body");
        assert_eq!(crc32(forged), crc32(first));
    }

    #[test]
    fn the_signed_text_is_the_one_of_the_published_delivery() {
        let body = include_bytes!("../../tests/vectors/paypal-1.body");
        let signed = endpoint().signed(
            "dfb3be50-fd74-11e4-8bf3-77339302725b",
            "2015-05-18T15:45:13Z",
            body,
        );
        assert_eq!(
            signed,
            b"dfb3be50-fd74-11e4-8bf3-77339302725b|2015-05-18T15:45:13Z|4JH86294D6297924G|2771810304"
        );
    }

    /// A key of one's own stands in for PayPal's.
    #[test]
    fn what_is_written_is_read_and_verifies() {
        let pem = include_str!("../../tests/vectors/keys/rsa2048.pem");
        let private = RsaPrivateKey::from_pkcs8_pem(pem).unwrap();
        let public = include_str!("../../tests/vectors/keys/rsa2048.pub.pem");
        let public = Secret::pem("k", public).unwrap().material();
        let mut sign = |algorithm, signed: &[u8]| {
            assert_eq!(algorithm, Algorithm::RsaPkcs1Sha256);
            let scheme = Pkcs1v15Sign::new::<Sha256>();
            Ok(private.sign(scheme, &sha256(&[signed])).unwrap())
        };
        let outgoing = Outgoing {
            request: None,
            id: Some("69cd13f0-d67a-11e5-baa3-778b53f4ae55"),
            at: Duration::from_secs(1_474_495_246),
            key: "k",
            body: b"{}",
        };
        let signed = endpoint().write(&outgoing, &mut sign).unwrap();
        let mut parts = Request::post("/").body(()).unwrap().into_parts().0;
        parts.headers = signed.headers;
        let head = endpoint().head(&parts).unwrap();
        assert_eq!(head.timestamp, Some(1_474_495_246));
        let verifies = |endpoint: &PayPal, body: &[u8]| {
            let read = endpoint.read(&parts, body).unwrap();
            assert_eq!(read.id.as_deref(), outgoing.id.map(str::as_bytes));
            let claim = &read.claims[0];
            let (algorithm, signature) = &claim.signatures[0];
            public.verifies(*algorithm, &claim.signed, signature)
        };
        assert!(verifies(&endpoint(), b"{}"));
        assert!(!verifies(&endpoint(), b"{ }"));
        assert!(!verifies(&PayPal::new("WEBHOOK_ID").unwrap(), b"{}"));

        for id in [None, Some(""), Some("a|b")] {
            let outgoing = Outgoing { id, ..outgoing };
            let error = endpoint().write(&outgoing, &mut sign).unwrap_err();
            assert_eq!(error, SignError::Id);
        }
        let at = Duration::from_secs(253_402_300_800);
        let outgoing = Outgoing { at, ..outgoing };
        let error = endpoint().write(&outgoing, &mut sign).unwrap_err();
        assert_eq!(error, SignError::Time);
    }

    #[test]
    fn a_webhook_id_that_could_hold_a_separator_is_refused() {
        for good in ["4JH86294D6297924G", "WEBHOOK_ID", "a-b", &"a".repeat(50)] {
            assert!(PayPal::new(good).is_some(), "{good}");
        }
        for bad in ["", "a|b", "a b", "é", &"a".repeat(51)] {
            assert!(PayPal::new(bad).is_none(), "{bad}");
        }
    }
}
