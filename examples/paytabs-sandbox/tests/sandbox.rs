//! The sandbox over real HTTP: API, page, callbacks, switches, bad input.

mod common;

use std::time::Duration;

use common::{KEY, Shop, Started, eventually};
use paytabs_sandbox::{CallbackScheme, hex_hmac_sha256, return_signature};
use serde_json::{Value, json};

#[tokio::test]
async fn a_payment_runs_from_request_to_signed_callback_and_query() {
    let shop = Shop::start().await;
    let sandbox = Started::new().await;
    let opened = sandbox.open(&shop, json!("46.17")).await;
    assert_eq!(opened["cart_amount"], "46.17");
    let tran_ref = opened["tran_ref"].as_str().expect("a reference");
    assert_eq!(sandbox.status(tran_ref).await, "P");

    let page = sandbox.decide(&opened, "pay").await;
    assert!(page.contains(&shop.url("/return")), "{page}");

    let callback = shop.next().await;
    let body: Value = serde_json::from_slice(&callback.body).expect("JSON");
    assert_eq!(body["tran_ref"], tran_ref);
    assert_eq!(body["cart_amount"], "46.17");
    assert_eq!(body["payment_result"]["response_status"], "A");
    assert_eq!(
        callback.headers["signature"],
        hex_hmac_sha256(KEY.as_bytes(), &callback.body)
    );
    assert_eq!(sandbox.status(tran_ref).await, "A");
    eventually("the acknowledgement is counted", || {
        sandbox.stats.snapshot().callbacks_acknowledged == 1
    })
    .await;
}

#[tokio::test]
async fn a_declined_payment_says_so_and_cannot_be_paid_afterwards() {
    let shop = Shop::start().await;
    let sandbox = Started::new().await;
    let opened = sandbox.open(&shop, json!("5.00")).await;
    sandbox.decide(&opened, "decline").await;
    sandbox.decide(&opened, "pay").await;
    let body: Value = serde_json::from_slice(&shop.next().await.body).expect("JSON");
    assert_eq!(body["payment_result"]["response_status"], "D");
    let tran_ref = opened["tran_ref"].as_str().expect("a reference");
    assert_eq!(sandbox.status(tran_ref).await, "D");
    assert_eq!(sandbox.stats.snapshot().declined, 1);
}

#[tokio::test]
async fn the_return_form_is_signed_over_its_fields() {
    let shop = Shop::start().await;
    let sandbox = Started::new().await;
    let opened = sandbox.open(&shop, json!("5.00")).await;
    let page = sandbox.decide(&opened, "pay").await;
    let fields: Vec<(&str, &str)> = page
        .split("<input type=\"hidden\" name=\"")
        .skip(1)
        .filter_map(|rest| {
            let (name, rest) = rest.split_once("\" value=\"")?;
            Some((name, rest.split_once('"')?.0))
        })
        .collect();
    let signature = fields.iter().find(|(name, _)| *name == "signature");
    let expected = return_signature(KEY.as_bytes(), &fields);
    assert_eq!(signature.expect("signed").1, expected);
    assert!(fields.contains(&("respStatus", "A")), "{fields:?}");
}

#[tokio::test]
async fn an_unacknowledged_callback_is_sent_again() {
    let shop = Shop::start().await;
    shop.refuse_next(2);
    let sandbox = Started::new().await;
    let opened = sandbox.open(&shop, json!("5.00")).await;
    sandbox.decide(&opened, "pay").await;
    let first = shop.next().await;
    let second = shop.next().await;
    let third = shop.next().await;
    assert_eq!(first.body, second.body);
    assert_eq!(first.body, third.body);
    eventually("the third is acknowledged", || {
        sandbox.stats.snapshot().callbacks_acknowledged == 1
    })
    .await;
    assert_eq!(sandbox.stats.snapshot().callbacks_refused, 2);
}

#[tokio::test]
async fn switches_make_callbacks_wrong_doubled_held_or_timestamped() {
    let shop = Shop::start().await;
    let sandbox = Started::new().await;
    sandbox.switches.update(|s| {
        s.wrong_signatures = true;
        s.wrong_amount = true;
        s.duplicates = true;
        s.hold_callbacks = true;
    });
    let opened = sandbox.open(&shop, json!("5.00")).await;
    sandbox.decide(&opened, "pay").await;
    assert_eq!(sandbox.stats.snapshot().callbacks_sent, 0);
    sandbox.switches.update(|s| s.hold_callbacks = false);
    for _ in 0..2 {
        let callback = shop.next().await;
        let right = hex_hmac_sha256(KEY.as_bytes(), &callback.body);
        assert_ne!(callback.headers["signature"], right);
        let body: Value = serde_json::from_slice(&callback.body).expect("JSON");
        assert_eq!(body["cart_amount"], "6.00");
    }

    sandbox.switches.set(Default::default());
    sandbox
        .switches
        .update(|s| s.callback_scheme = CallbackScheme::Timestamped);
    let opened = sandbox.open(&shop, json!("5.00")).await;
    sandbox.decide(&opened, "pay").await;
    let callback = shop.next().await;
    let timestamp = callback.headers["x-webhook-timestamp"]
        .to_str()
        .expect("text");
    let mut signed = format!("{timestamp}.").into_bytes();
    signed.extend_from_slice(&callback.body);
    let signature = hex_hmac_sha256(KEY.as_bytes(), &signed);
    assert_eq!(callback.headers["x-webhook-signature"], signature);
}

#[tokio::test]
async fn an_outage_cuts_the_connection_and_the_control_endpoints_stay() {
    let shop = Shop::start().await;
    let sandbox = Started::new().await;
    let answer = sandbox.switch(json!({"outage": true})).await;
    assert_eq!(answer.status(), 200);
    let error = sandbox.try_open(&shop, json!("5.00")).await;
    let error = error.expect_err("no answer");
    assert!(!error.is_timeout() && error.status().is_none(), "{error:?}");

    let answer = sandbox.switch(json!({"outage": false, "error": 503})).await;
    assert_eq!(answer.status(), 200);
    let refused = sandbox
        .try_open(&shop, json!("5.00"))
        .await
        .expect("answer");
    assert_eq!(refused.status(), 503);

    sandbox.switch(json!({"error": null, "delay_ms": 60})).await;
    let before = tokio::time::Instant::now();
    let opened = sandbox
        .try_open(&shop, json!("5.00"))
        .await
        .expect("answer");
    assert_eq!(opened.status(), 200);
    assert!(before.elapsed() >= Duration::from_millis(60));
    let stats = sandbox.stats.snapshot();
    assert_eq!((stats.payment_request, stats.api_faults), (3, 2));
}

#[tokio::test]
async fn verification_can_contradict_the_callback() {
    let shop = Shop::start().await;
    let sandbox = Started::new().await;
    sandbox.switch(json!({"decline_verification": true})).await;
    let opened = sandbox.open(&shop, json!("5.00")).await;
    sandbox.decide(&opened, "pay").await;
    let body: Value = serde_json::from_slice(&shop.next().await.body).expect("JSON");
    assert_eq!(body["payment_result"]["response_status"], "A");
    let tran_ref = opened["tran_ref"].as_str().expect("a reference");
    assert_eq!(sandbox.status(tran_ref).await, "D");
}

#[tokio::test]
async fn refunds_go_through_payment_request_and_stop_at_the_amount_paid() {
    let shop = Shop::start().await;
    let sandbox = Started::new().await;
    let opened = sandbox.open(&shop, json!("10.00")).await;
    let refund = |amount: &str| {
        json!({
            "profile_id": 4242, "tran_type": "refund", "tran_class": "ecom",
            "cart_id": "cart-1", "cart_description": "back", "cart_currency": "AED",
            "cart_amount": amount, "tran_ref": opened["tran_ref"],
        })
    };
    let early = sandbox.post("/payment/request", &refund("1.00")).await;
    assert_eq!(early.status(), 400);
    sandbox.decide(&opened, "pay").await;
    let part = sandbox.post("/payment/request", &refund("4.00")).await;
    let part: Value = part.json().await.expect("JSON");
    assert_eq!(part["payment_result"]["response_status"], "A");
    assert_eq!(part["previous_tran_ref"], opened["tran_ref"]);
    let over = sandbox.post("/payment/request", &refund("6.01")).await;
    assert_eq!(over.status(), 400);
    let over: Value = over.json().await.expect("JSON");
    assert_eq!(over["field"], "cart_amount");
    assert_eq!(over["allowed"], "at most 6.00");
}

#[tokio::test]
async fn bad_input_is_refused_with_field_value_and_what_is_allowed() {
    let sandbox = Started::new().await;
    let good = json!({
        "profile_id": 4242, "tran_type": "sale", "tran_class": "ecom", "cart_id": "c",
        "cart_description": "d", "cart_currency": "AED", "cart_amount": "1.00",
    });
    for (field, value) in [
        ("profile_id", json!(1)),
        ("tran_type", json!("gift")),
        ("tran_class", json!("")),
        ("cart_id", json!("x".repeat(65))),
        ("cart_description", json!(7)),
        ("cart_currency", json!("XXX")),
        ("cart_amount", json!("0.00")),
        ("cart_amount", json!("1.005")),
        ("cart_amount", json!(-1)),
        ("callback", json!("ftp://example.test")),
        ("return", json!("javascript:alert(1)")),
    ] {
        let mut body = good.clone();
        body[field] = value.clone();
        let answer = sandbox.post("/payment/request", &body).await;
        assert_eq!(answer.status(), 400, "{field} {value}");
        let answer: Value = answer.json().await.expect("JSON");
        assert_eq!(
            (&answer["field"], &answer["value"]),
            (&json!(field), &value)
        );
        assert!(answer["allowed"].is_string() && answer["trace"].is_string());
    }
    for (body, named) in [
        (json!({"delay_ms": 60_001}), "delay_ms"),
        (json!({"error": 200}), "error"),
        (json!({"outage": "yes"}), "outage"),
        (json!({"callback_scheme": "none"}), "callback_scheme"),
        (json!({"delay": 1}), "delay"),
        (json!([]), "object"),
    ] {
        let answer = sandbox.switch(body).await;
        assert_eq!(answer.status(), 400);
        let text = answer.text().await.expect("text");
        assert!(text.contains(named), "{text}");
    }
    let wrong_key = sandbox.post_as("other", "/payment/request", &good).await;
    assert_eq!(wrong_key.status(), 401);
}

#[tokio::test]
async fn two_sandboxes_in_one_process_do_not_share_anything() {
    let shop = Shop::start().await;
    let (one, two) = (Started::new().await, Started::new().await);
    one.switches.update(|s| s.outage = true);
    let opened = two.open(&shop, json!("5.00")).await;
    assert!(
        opened["redirect_url"]
            .as_str()
            .expect("URL")
            .starts_with(&two.url)
    );
    assert_eq!(one.stats.snapshot().payment_request, 0);
}
