//! What is signed, and what is changed in it.

use serde_json::json;
use webhook_verify::clock::{SystemClock, WallClock};

/// Which bodies a library takes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Takes {
    /// It reads the body and writes it anew, without blanks.
    CompactJson,
    Json,
    /// Text, but not none at all.
    SomeText,
    Text,
    Bytes,
}

/// Bodies of every kind that a library takes: JSON, beyond ASCII, with CR LF, 64 KiB; none at
/// all; text; bytes that are no text.
pub(crate) fn of_kind(takes: Takes) -> Vec<Vec<u8>> {
    let long = format!(
        r#"{{"event":"a","id":"evt_2","text":"{}"}}"#,
        "ä".repeat(32 * 1024)
    );
    let all = [
        (
            Takes::CompactJson,
            r#"{"event":"a","id":"evt_1","amount":1299,"paid":"yes"}"#.as_bytes(),
        ),
        (
            Takes::CompactJson,
            r#"{"event":"a","name":"Zoë Übel 😀 שלום","id":"evt_3"}"#.as_bytes(),
        ),
        (Takes::CompactJson, long.as_bytes()),
        (
            Takes::Json,
            b"{\r\n  \"id\": \"evt_4\",\r\n  \"a\": [1.0, \"b\\/c\"]\r\n}\r\n",
        ),
        (Takes::SomeText, b"a=1&b=two words\r\n\r\n--\r\n"),
        (
            Takes::SomeText,
            "1 — 2, \u{0}, \u{7f}, \u{2028}\n".as_bytes(),
        ),
        (Takes::Text, b""),
        (Takes::Bytes, b"\xff\xfe\x00\x80binary\xc3\x28"),
    ];
    let all = all.into_iter().filter(|(kind, _)| *kind <= takes);
    all.map(|(_, body)| body.to_vec()).collect()
}

/// Linear's library looks at a time in the body.
pub(crate) fn linear() -> Vec<Vec<u8>> {
    let now = u64::try_from(SystemClock.now().as_millis()).unwrap();
    let body = json!({"webhookTimestamp": now, "action": "create", "title": "Zoë"});
    vec![body.to_string().into_bytes()]
}

pub(crate) fn adyen() -> Vec<Vec<u8>> {
    let item = |reference: &str, original: Option<&str>, value: i64| {
        let mut item = json!({
            "pspReference": "7914073381342284",
            "merchantAccountCode": "TestMerchant",
            "merchantReference": reference,
            "amount": {"value": value, "currency": "EUR"},
            "eventCode": "AUTHORISATION",
            "success": "true",
            "eventDate": "2026-11-21T12:00:00+01:00",
            "additionalData": {"cardSummary": "1111"},
        });
        if let Some(original) = original {
            item["originalReference"] = json!(original);
        }
        json!({ "NotificationRequestItem": item })
    };
    let one = item("order-1", None, 1130);
    let two = item("Zoë: 2\\3", Some("8814073381342211"), -5);
    let of = |items: Vec<_>| json!({"live": "false", "notificationItems": items}).to_string();
    let batches = [
        of(vec![one.clone()]),
        of(vec![two.clone()]),
        of(vec![one, two]),
    ];
    batches.map(String::into_bytes).into()
}

pub(crate) fn mailgun() -> Vec<Vec<u8>> {
    let json = json!({"event-data": {"event": "opened", "recipient": "zoë@example.com"}});
    vec![
        json.to_string().into_bytes(),
        b"recipient=a%40example.com&subject=a+b&stripped-text=".to_vec(),
    ]
}

pub(crate) fn twilio_form() -> Vec<Vec<u8>> {
    let plain = "CallSid=CA1234567890ABCDE&From=%2B14158675309&Body=a+b%20c&Digits=1234";
    let many = "Z=1&a=%C3%A9%F0%9F%98%80&a.b=%27%26%3D&A=x&Empty=&Sid=CA1&SidAccount=AC1";
    let repeated = "Digits=5678&Digits=1234&Digits=1234&Address=b&Address=a";
    [plain, many, repeated].map(|form| form.into()).into()
}

/// None of a `0` alone: PayTabs' library leaves that out of what is signed, and here it is kept.
pub(crate) fn paytabs_return() -> Vec<Vec<u8>> {
    let published = "acquirerMessage=&acquirerRRN=&cartId=cart_11111\
         &customerEmail=email%40domain.com&respCode=G84718&respMessage=Authorised&respStatus=A\
         &token=&tranRef=TST2215201242166";
    let odd =
        "tranRef=T%c3%a9*~%27()%21+x%2B-_.&respMessage=a%0D%0Ab&B=1&a=2&_x=00&cartId=%f0%9f%98%80";
    [published, odd].map(|form| form.into()).into()
}

/// The body with its first and with its last letter or digit changed, and with one byte more.
pub(crate) fn changed(body: &[u8]) -> Vec<Vec<u8>> {
    let word = |byte: &u8| byte.is_ascii_alphanumeric();
    let places = [body.iter().position(word), body.iter().rposition(word)];
    let mut all: Vec<_> = places
        .into_iter()
        .flatten()
        .map(|at| replaced(body, at))
        .collect();
    all.push([body, b"x"].concat());
    all
}

/// Another value of a field that is signed.
pub(crate) fn changed_in(body: &[u8], names: &[&str]) -> Vec<Vec<u8>> {
    let find = |name: &&str| {
        let at = body
            .windows(name.len())
            .position(|window| window == name.as_bytes());
        let value = at? + name.len();
        let from = body
            .get(value..)?
            .iter()
            .position(u8::is_ascii_alphanumeric)?;
        Some(replaced(body, value + from))
    };
    let all: Vec<_> = names.iter().filter_map(find).collect();
    assert!(!all.is_empty());
    all
}

fn replaced(body: &[u8], at: usize) -> Vec<u8> {
    let mut body = body.to_vec();
    // A digit that no number of these bodies begins with, so that JSON stays JSON.
    body[at] = if body[at] == b'9' { b'8' } else { b'9' };
    body
}
