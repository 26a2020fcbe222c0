//! What the sender sees.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt};
use webhook_verify::{
    Reason, Secret, Signer, Verifier,
    clock::ManualWallClock,
    layer::{WebhookLayer, default_response},
    presets,
};

use super::support::{
    BODY, NOW, answer, builder, good, headers, inner, layer, request, secret, signed_at, status,
    timestamped,
};

/// The whole answer as text; two that differ in anything differ in it.
async fn text(verifier: &Verifier, headers: HeaderMap) -> (String, Reason) {
    let request: Request<Full<Bytes>> = request(headers, Full::from(BODY));
    let (parts, ()) = request.clone().map(drop).into_parts();
    let error = verifier.verify(&parts, None, BODY).unwrap_err();
    let layer = WebhookLayer::new(verifier.clone());
    let response = layer.layer(inner()).oneshot(request).await.unwrap();
    assert!(response.extensions().is_empty());
    let (parts, body) = response.into_parts();
    let frames = body.collect().await.unwrap();
    assert!(frames.trailers().is_none());
    let head = format!("{:?} {} {:?}", parts.version, parts.status, parts.headers);
    (
        format!("{head} {:?}", frames.to_bytes()),
        error.reason().clone(),
    )
}

#[tokio::test]
async fn every_reason_of_authentication_has_the_same_empty_answer() {
    let verifier = timestamped().build().unwrap();
    let with = |name: &'static str, value: &str| {
        let mut headers = headers(BODY);
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    };
    let without = |name| {
        let mut headers = headers(BODY);
        headers.remove(name);
        headers
    };
    let wrong = "0".repeat(64);
    let mut all = vec![
        text(&verifier, without("x-webhook-signature")).await,
        text(&verifier, with("x-webhook-signature", "zz")).await,
        text(&verifier, with("x-webhook-signature", &wrong)).await,
        text(&verifier, with("x-webhook-signature", &wrong[2..])).await,
        text(&verifier, without("x-webhook-timestamp")).await,
        text(&verifier, with("x-webhook-timestamp", "soon")).await,
        text(&verifier, signed_at(NOW - 301, BODY)).await,
        text(&verifier, signed_at(NOW + 61, BODY)).await,
        text(&verifier, headers(b"another body")).await,
    ];
    let keyless = timestamped().build().unwrap();
    keyless.keys().replace([]).unwrap();
    all.push(text(&keyless, headers(BODY)).await);

    let standard = builder(presets::standard_webhooks()).build().unwrap();
    let signer = Signer::new(presets::standard_webhooks(), secret());
    let time = Duration::from_secs(NOW);
    let mut seventeen = signer.sign_with_id("msg_1", time, BODY).unwrap();
    let one = seventeen["webhook-signature"].to_str().unwrap().to_owned();
    let many = [one.as_str(); 17].join(" ");
    seventeen.insert("webhook-signature", many.parse().unwrap());
    all.push(text(&standard, seventeen).await);
    let mut nameless = signer.sign_with_id("msg_1", time, BODY).unwrap();
    nameless.remove("webhook-id");
    all.push(text(&standard, nameless).await);

    let texts: HashSet<_> = all.iter().map(|(text, _)| text).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(all[0].0, "HTTP/1.1 401 Unauthorized {} b\"\"");
    let reasons: HashSet<_> = all
        .iter()
        .map(|(_, reason)| format!("{reason:?}"))
        .collect();
    assert_eq!(reasons.len(), 10, "the reasons are many: {reasons:?}");
}

#[tokio::test]
async fn a_refused_method_is_told_which_ones_are_accepted() {
    let methods = [Method::POST, Method::PUT];
    let layer = WebhookLayer::new(timestamped().methods(methods).build().unwrap());
    let mut get = good();
    *get.method_mut() = Method::GET;
    let (status, headers, body) = answer(&layer, &inner(), get).await;
    assert_eq!(
        (status, &headers["allow"]),
        (405, &"POST, PUT".parse().unwrap())
    );
    assert_eq!((headers.len(), body.len()), (1, 0));
}

#[tokio::test]
async fn any_method_is_accepted_when_none_is_named() {
    let layer = WebhookLayer::new(timestamped().methods([]).build().unwrap());
    let mut patch = good();
    *patch.method_mut() = Method::PATCH;
    assert_eq!(status(&layer, &inner(), patch).await, 200);
}

#[tokio::test]
async fn the_answers_can_be_replaced_one_by_one() {
    let layer = layer().respond(|error| match error.reason() {
        Reason::Duplicate => {
            let mut response = Response::new(Bytes::from_static(b"seen"));
            *response.status_mut() = StatusCode::ALREADY_REPORTED;
            response
        }
        _ => default_response(error),
    });
    let inner = inner();
    assert_eq!(status(&layer, &inner, good()).await, 200);
    let (code, _, body) = answer(&layer, &inner, good()).await;
    assert_eq!((code, body.as_ref()), (208, b"seen".as_slice()));
    let forged = request(headers(b"other"), Full::from(BODY));
    assert_eq!(status(&layer, &inner, forged).await, 401);
    assert_eq!(inner.calls(), 1);
}

#[tokio::test]
async fn a_duplicate_is_acknowledged_with_an_empty_200() {
    let (layer, inner) = (layer(), inner());
    let (_, _, first) = answer(&layer, &inner, good()).await;
    assert_eq!(first, BODY, "the handler's answer");
    let (code, headers, body) = answer(&layer, &inner, good()).await;
    assert_eq!((code, headers.len(), body.len()), (200, 0, 0));
}

#[tokio::test]
async fn the_handlers_answer_passes_as_it_is() {
    let (layer, inner) = (layer(), inner());
    for status in [200, 302, 400, 401, 500] {
        inner.answer(status);
        let body = format!("{status}").into_bytes();
        let request: Request<Full<Bytes>> = request(headers(&body), Full::from(body.clone()));
        let (code, _, echoed) = answer(&layer, &inner, request).await;
        assert_eq!((code, echoed.as_ref()), (status, body.as_slice()));
    }
}

/// As where two layers stand one around the other.
#[tokio::test]
async fn the_handler_is_told_of_this_verification_and_of_no_other() {
    let other = Secret::new("other", "key").unwrap();
    let other = Verifier::builder(presets::timestamped())
        .secret(other)
        .clock(ManualWallClock::new(NOW))
        .build()
        .unwrap();
    let mut request = good();
    let (parts, ()) = request.clone().map(drop).into_parts();
    let verified = other.verify(&parts, None, BODY).unwrap();
    request.extensions_mut().insert(verified);
    // The handler asserts that the key is `k1`.
    assert_eq!(status(&layer(), &inner(), request).await, 200);
}
