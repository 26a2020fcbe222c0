//! Schemes that must be read out of the delivery pass the layer as the others do.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::Full;
use webhook_verify::{
    Scheme, Secret, Signer, Verifier, clock::ManualWallClock, layer::WebhookLayer, presets,
    replay::MemoryReplayStore,
};

use super::support::{List, NOW, Then, answer, frames, inner, request, status};

/// A scheme, where its deliveries go, and one before it is signed.
struct Case {
    scheme: Scheme,
    uri: &'static str,
    content: &'static str,
    body: &'static str,
}

const FORM: &str = "application/x-www-form-urlencoded";
const KEY: &str = "a key of at least thirty-two bytes";

fn cases() -> [Case; 4] {
    let origin = "https://hooks.example";
    let case = |scheme, uri, content, body| Case {
        scheme,
        uri,
        content,
        body,
    };
    [
        case(
            presets::mailgun(),
            "/hook",
            "application/json",
            r#"{"event-data":{"a":1}}"#,
        ),
        case(
            presets::paytabs_return(),
            "/hook",
            FORM,
            "tranRef=TST1&cartId=c&respStatus=A",
        ),
        case(
            presets::twilio("https://hooks.example/hook").unwrap(),
            "/hook",
            FORM,
            "Body=hi&From=%2B1",
        ),
        case(
            presets::http_message(origin).build().unwrap(),
            "/hook",
            "application/json",
            r#"{"a":1}"#,
        ),
    ]
}

impl Case {
    fn layer(&self) -> WebhookLayer {
        let verifier = Verifier::builder(self.scheme.clone())
            .secret(Secret::new("k1", KEY).unwrap())
            .clock(ManualWallClock::new(NOW))
            .replay(MemoryReplayStore::new(64))
            .build();
        WebhookLayer::new(verifier.unwrap())
    }

    fn signed(&self, key: &str) -> (HeaderMap, Bytes) {
        let signer = Signer::new(self.scheme.clone(), Secret::new("k1", key).unwrap());
        let mut request = Request::post(self.uri).body(()).unwrap();
        let content = HeaderValue::from_static(self.content);
        request.headers_mut().insert("content-type", content);
        let (parts, ()) = request.into_parts();
        let token = "5egbgr1vjgqxtrnp65xfznchgdccwh5d6i09vijqi3whgowmn6";
        let at = Duration::from_secs(NOW);
        let signed = signer.sign_delivery(Some(&parts), Some(token), at, self.body.as_bytes());
        let signed = signed.unwrap();
        let mut headers = parts.headers;
        headers.extend(signed.headers().clone());
        let body = signed.body().unwrap_or(self.body.as_bytes());
        (headers, Bytes::copy_from_slice(body))
    }
}

#[tokio::test]
async fn a_document_is_handled_once_with_the_bytes_as_received() {
    for case in cases() {
        let (layer, inner, name) = (case.layer(), inner(), case.scheme.name());
        let (headers, body) = case.signed(KEY);
        let cut = List::of(body.chunks(5).map(Bytes::copy_from_slice));
        let (code, _, echoed) = answer(&layer, &inner, request(headers.clone(), cut)).await;
        assert_eq!((code, echoed), (200, body.clone()), "{name}");
        let again = request(headers, Full::new(body));
        let (code, headers, echoed) = answer(&layer, &inner, again).await;
        assert_eq!(
            (code, headers.len(), echoed.len()),
            (200, 0, 0),
            "{name}: a duplicate"
        );
        assert_eq!(inner.calls(), 1, "{name}");
    }
}

#[tokio::test]
async fn a_document_that_is_forged_or_unreadable_has_the_answer_of_every_forgery() {
    for case in cases() {
        let (layer, inner, name) = (case.layer(), inner(), case.scheme.name());
        let (headers, body) = case.signed("another key of thirty-two bytes!!");
        let (good, _) = case.signed(KEY);
        for (headers, body) in [
            (headers, body),
            (good.clone(), Bytes::from_static(b"{\"a\":")),
            (good, Bytes::from_static(b"\xff=%zz&&&")),
        ] {
            let (code, headers, body) =
                answer(&layer, &inner, request(headers, Full::new(body))).await;
            assert_eq!((code, headers.len(), body.len()), (401, 0, 0), "{name}");
        }
        assert_eq!(inner.calls(), 0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_bounds_of_a_body_are_those_of_every_scheme() {
    for case in cases() {
        let (layer, inner, name) = (case.layer(), inner(), case.scheme.name());
        for (then, expected) in [(Then::Hang, 408), (Then::Fail, 400), (Then::Repeat, 413)] {
            let (headers, _) = case.signed(KEY);
            let body = frames(b"{\"a\":1, ", 2, then);
            assert_eq!(
                status(&layer, &inner, request(headers, body)).await,
                expected,
                "{name}"
            );
        }
        assert_eq!(inner.calls(), 0);
    }
}

#[tokio::test]
async fn no_event_repeats_what_a_forged_document_says() {
    const MARKER: &str = "5ec2e7";
    let told = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    for case in cases() {
        let seen = told.clone();
        let layer = case.layer().on_event(move |event| {
            seen.lock().unwrap().push_str(&format!("{event:?}\n"));
        });
        for body in [
            "{\"5ec2e7\":1,\"5ec2e7\":1}",
            "{\"signature\":{\"5ec2e7\":\"5ec2e7\",\"token\":\"5ec2e7\"}}",
            "5ec2e7=1&5ec2e7=2",
            "5ec2e7[]=1&signature=5ec2e7",
            "5ec2e7%0A=1&signature=5ec2e7",
            "5ec2e7",
        ] {
            let (mut headers, _) = case.signed(KEY);
            for content in ["application/json", FORM, "text/plain; 5ec2e7"] {
                headers.insert("content-type", HeaderValue::from_static(content));
                let forged = request(headers.clone(), Full::from(body));
                assert_eq!(status(&layer, &inner(), forged).await / 100, 4);
            }
            headers.insert("x-twilio-signature", HeaderValue::from_static(MARKER));
            for (name, value) in [
                ("signature", "5ec2e7=:5ec2e7:"),
                ("signature-input", "5ec2e7=(\"5ec2e7\")"),
            ] {
                headers.insert(name, HeaderValue::from_static(value));
                let forged = request(headers.clone(), Full::from(body));
                assert_eq!(status(&layer, &inner(), forged).await / 100, 4);
            }
        }
    }
    let told = told.lock().unwrap();
    let repeated = told.lines().find(|line| line.contains(MARKER));
    assert_eq!(repeated, None);
    assert!(told.contains("Rejected"));
}
