//! Adyen: each item of a batch is signed by itself, and all of them must be.

use std::{str::from_utf8, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http::{Request, header::CONTENT_TYPE, request::Parts};
use serde_json::{Value, json};
use sha2::Sha256;
use webhook_verify::{
    Error, Reason, Scheme, Secret, SignError, Signer, Verified, Verifier,
    clock::ManualWallClock,
    presets::{self, Adyen},
};

const KEY: &str = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056";
const OTHER: &str = "DFB1EB5485895CFA84146406857104ABB4CBCABDC8AAF103A624C8F6A3EAAB00";

fn post() -> Parts {
    of_type("application/json; charset=utf-8")
}

fn of_type(content_type: &str) -> Parts {
    let request = Request::post("/hook").header("content-type", content_type);
    request.body(()).unwrap().into_parts().0
}

fn verifier(scheme: Scheme, key: &str) -> Verifier {
    let secret = Secret::hex("k", key).unwrap();
    let builder = Verifier::builder(scheme).secret(secret).body_limit(1 << 20);
    builder.clock(ManualWallClock::new(0)).build().unwrap()
}

fn check(scheme: Scheme, body: &str) -> Result<Verified, Error> {
    verifier(scheme, KEY).verify(&post(), None, body.as_bytes())
}

fn reason(body: &str) -> Reason {
    check(presets::adyen(), body).unwrap_err().reason().clone()
}

/// By other means than the crate's.
fn hmac(key: &str, signed: &str) -> String {
    let key: Vec<u8> = (0..32)
        .map(|i| u8::from_str_radix(&key[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(signed.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// The item of the first vector.
fn item() -> Value {
    json!({
        "pspReference": "7914073381342284",
        "merchantAccountCode": "TestMerchant",
        "merchantReference": "TestPayment-1407325143704",
        "amount": { "value": 1130, "currency": "EUR" },
        "eventCode": "AUTHORISATION",
        "success": "true",
        "additionalData": { "hmacSignature": "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0=" },
    })
}

const SIGNED: &str =
    "7914073381342284::TestMerchant:TestPayment-1407325143704:1130:EUR:AUTHORISATION:true";

/// The first item with one field changed, and a signature over `signed`.
fn item_with(name: &str, value: Value, signed: &str) -> Value {
    let mut item = item();
    item[name] = value;
    item["additionalData"]["hmacSignature"] = hmac(KEY, signed).into();
    item
}

fn batch(items: &[Value]) -> String {
    let wrapped: Vec<_> = items
        .iter()
        .map(|item| json!({ "NotificationRequestItem": item }))
        .collect();
    json!({ "live": "false", "notificationItems": wrapped }).to_string()
}

fn second() -> Value {
    let signed = SIGNED.replace("1407325143704:1130", "2:5");
    let mut item = item_with("merchantReference", json!("TestPayment-2"), &signed);
    item["amount"]["value"] = json!(5);
    item
}

/// The example in Adyen's docs, also in the specification of its Ruby library.
#[test]
fn the_example_of_the_docs_passes() {
    assert_eq!(hmac(KEY, SIGNED), item()["additionalData"]["hmacSignature"]);
    let body = batch(&[item()]);
    let verifier = verifier(presets::adyen(), KEY);
    let verified = verifier.verify(&post(), None, body.as_bytes()).unwrap();
    assert_eq!((verified.scheme(), verified.key_id()), ("adyen", "k"));
    assert_eq!(verified.timestamp(), None);
    let request = post();
    let mut session = verifier.begin(&request, None).unwrap();
    body.as_bytes()
        .chunks(7)
        .for_each(|chunk| session.update(chunk).unwrap());
    let streamed = session.finish().unwrap();
    assert_eq!(streamed.replay_key(), verified.replay_key());
}

/// `hmacValidator.spec.ts` of Adyen's library for Node.
#[test]
fn the_example_of_the_node_library_passes() {
    let body = r#"{"notificationItems":[{"NotificationRequestItem":{
        "pspReference":"pspReference","originalReference":"originalReference",
        "merchantAccountCode":"merchantAccount","merchantReference":"reference",
        "amount":{"currency":"EUR","value":1000},"eventCode":"CAPTURE","success":"true",
        "eventDate":"2019-06-25T10:15:30+02:00","operations":["CAPTURE"],
        "additionalData":{"hmacSignature":"xhpHvYq2u2Np0rstbZ6QjLGu7JWhvf7Iwaa6EviJSX0="}}}]}"#;
    let verifier = verifier(presets::adyen(), &OTHER.to_lowercase());
    assert!(verifier.verify(&post(), None, body.as_bytes()).is_ok());
}

#[test]
fn each_flipped_bit_is_refused() {
    let both = batch(&[item(), second()]).replace(r#""live":"false","#, "");
    let verifier = verifier(presets::adyen(), KEY);
    assert!(verifier.verify(&post(), None, both.as_bytes()).is_ok());
    for bit in 0..both.len() * 8 {
        let mut changed = both.clone().into_bytes();
        changed[bit / 8] ^= 1 << (bit % 8);
        let answer = verifier.verify(&post(), None, &changed);
        assert!(answer.is_err(), "{:?}", String::from_utf8_lossy(&changed));
    }
}

/// Adyen's library for Python looks at the first item only, and passes an item without
/// `additionalData` as neither right nor wrong.
#[test]
fn every_item_must_be_signed() {
    let mut forged = second();
    forged["amount"]["value"] = json!(500_000);
    let good = [item(), second()];
    assert!(check(presets::adyen(), &batch(&good)).is_ok());
    for items in [
        vec![item(), forged.clone()],
        vec![forged.clone(), item()],
        vec![item(), forged, second()],
    ] {
        assert_eq!(reason(&batch(&items)), Reason::SignatureMismatch);
    }
    let mut bare = second();
    bare["additionalData"] = json!({});
    let missing = |name: &str| Reason::FieldMissing(name.into());
    assert_eq!(
        reason(&batch(&[item(), bare.clone()])),
        missing("hmacSignature")
    );
    bare.as_object_mut().unwrap().remove("additionalData");
    assert_eq!(reason(&batch(&[item(), bare])), missing("additionalData"));
}

#[test]
fn all_items_must_be_signed_by_one_key() {
    let mut of_other = second();
    let signed = SIGNED.replace("1407325143704:1130", "2:5");
    of_other["additionalData"]["hmacSignature"] = hmac(OTHER, &signed).into();
    let both = Verifier::builder(presets::adyen())
        .secret(Secret::hex("a", KEY).unwrap())
        .secret(Secret::hex("b", OTHER).unwrap())
        .build()
        .unwrap();
    let check = |items: &[Value]| both.verify(&post(), None, batch(items).as_bytes());
    assert_eq!(check(&[item(), second()]).unwrap().key_id(), "a");
    assert_eq!(check(&[of_other.clone()]).unwrap().key_id(), "b");
    let mixed = check(&[item(), of_other]).unwrap_err();
    assert_eq!(mixed.reason(), &Reason::SignatureMismatch);
}

#[test]
fn a_batch_has_items_and_not_too_many() {
    let items = |name: &str| Reason::FieldType(name.into());
    for (body, expected) in [
        (
            batch(&[]),
            Reason::FieldMissing("NotificationRequestItem".into()),
        ),
        (
            "{}".into(),
            Reason::FieldMissing("notificationItems".into()),
        ),
        (
            "[]".into(),
            Reason::FieldMissing("notificationItems".into()),
        ),
        (
            r#"{"notificationItems":{}}"#.into(),
            items("notificationItems"),
        ),
        (
            r#"{"notificationItems":null}"#.into(),
            items("notificationItems"),
        ),
        (
            r#"{"notificationItems":[1]}"#.into(),
            items("notificationItems"),
        ),
        (
            r#"{"notificationItems":[{"NotificationRequestItem":[]}]}"#.into(),
            items("NotificationRequestItem"),
        ),
        (
            item().to_string(),
            Reason::FieldMissing("notificationItems".into()),
        ),
        (String::new(), Reason::NotJson),
        (format!("{} {{}}", batch(&[item()])), Reason::NotJson),
    ] {
        assert_eq!(reason(&body), expected, "{body}");
    }
    let numbered = |count: usize| {
        let items = (0..count).map(|n| {
            let signed = SIGNED.replace("1130", &n.to_string());
            let mut item = item_with("eventCode", json!("AUTHORISATION"), &signed);
            item["amount"]["value"] = json!(n);
            item
        });
        batch(&items.collect::<Vec<_>>())
    };
    assert!(check(presets::adyen(), &numbered(1000)).is_ok());
    assert_eq!(reason(&numbered(1001)), Reason::TooLong);
    let single = || Adyen::new().max_items(1).scheme();
    assert!(check(single(), &numbered(1)).is_ok());
    let error = check(single(), &numbered(2)).unwrap_err();
    assert_eq!(error.reason(), &Reason::TooLong);
}

/// All but eight fields is free text, and Adyen sends forms as well as JSON.
#[test]
fn a_body_is_read_as_what_it_claims_to_be() {
    let hidden = batch(&[item()]).replace(
        r#""live":"false""#,
        r#""live":"&success=true&eventCode=AUTHORISATION&pspReference=1&""#,
    );
    let verifier = verifier(presets::adyen(), KEY);
    assert!(verifier.verify(&post(), None, hidden.as_bytes()).is_ok());
    for content_type in ["application/x-www-form-urlencoded", "text/xml", ""] {
        let parts = of_type(content_type);
        let error = verifier
            .verify(&parts, None, hidden.as_bytes())
            .unwrap_err();
        assert_eq!(error.reason(), &Reason::ContentType, "{content_type}");
    }
    let mut parts = post();
    let form = "application/x-www-form-urlencoded".parse().unwrap();
    parts.headers.append(CONTENT_TYPE, form);
    let error = verifier
        .verify(&parts, None, hidden.as_bytes())
        .unwrap_err();
    assert_eq!(error.reason(), &Reason::Malformed(CONTENT_TYPE));
    parts.headers.remove(CONTENT_TYPE);
    let error = verifier
        .verify(&parts, None, hidden.as_bytes())
        .unwrap_err();
    assert_eq!(error.reason(), &Reason::Missing(CONTENT_TYPE));
}

/// One recorded item, many times in one body, would be handled as often.
#[test]
fn an_item_twice_is_refused() {
    let twice = batch(&[item(), second(), item()]);
    let expected = Reason::FieldRepeated("NotificationRequestItem".into());
    assert_eq!(reason(&twice), expected);
}

#[test]
fn an_original_reference_is_empty_when_absent_or_null() {
    let null = item_with("originalReference", Value::Null, SIGNED);
    let empty = item_with("originalReference", json!(""), SIGNED);
    let signed = SIGNED.replace("::", ":9:");
    let there = item_with("originalReference", json!("9"), &signed);
    for item in [null, empty, there] {
        assert!(check(presets::adyen(), &batch(&[item])).is_ok());
    }
    let number = item_with("originalReference", json!(9), &signed);
    let expected = Reason::FieldType("originalReference".into());
    assert_eq!(reason(&batch(&[number])), expected);
}

/// Libraries differ about a JSON `true`, and about text that is neither of both.
#[test]
fn success_is_one_of_two_texts() {
    let signed = SIGNED.replace(":true", ":false");
    let failed = item_with("success", json!("false"), &signed);
    assert!(check(presets::adyen(), &batch(&[failed])).is_ok());
    let bool = item_with("success", json!(true), SIGNED);
    let expected = Reason::FieldType("success".into());
    assert_eq!(reason(&batch(&[bool])), expected);
    for text in ["True", "", "1", "true "] {
        let signed = SIGNED.replace(":true", &format!(":{text}"));
        let item = item_with("success", json!(text), &signed);
        let expected = Reason::FieldMalformed("success".into());
        assert_eq!(reason(&batch(&[item])), expected, "{text}");
    }
}

#[test]
fn amounts_are_integers_as_they_were_sent() {
    let body = |text: &str| {
        let signed = SIGNED.replace("1130", text);
        let item = item_with("eventCode", json!("AUTHORISATION"), &signed);
        batch(&[item]).replace("\"value\":1130", &format!("\"value\":{text}"))
    };
    for text in [
        "0",
        "1",
        "-1130",
        "9007199254740993",
        "18446744073709551615",
    ] {
        assert!(check(presets::adyen(), &body(text)).is_ok(), "{text}");
    }
    for text in [
        "1130.0",
        "1.13e3",
        "1e3",
        "-0",
        "18446744073709551616",
        "\"1130\"",
        "null",
    ] {
        let expected = Reason::FieldType("value".into());
        assert_eq!(reason(&body(text)), expected, "{text}");
    }
    for text in ["01130", "+1", "0x1", ".5"] {
        assert_eq!(reason(&body(text)), Reason::NotJson, "{text}");
    }
}

#[test]
fn signatures_are_canonical_base64() {
    let good = hmac(KEY, SIGNED);
    for loose in [
        good.replace('=', ""),
        good.replace('/', "_").replace('+', "-"),
        good.replace("0=", "1="),
        format!(" {good}"),
        format!("{good}\n"),
        String::new(),
    ] {
        let mut item = item();
        item["additionalData"]["hmacSignature"] = loose.clone().into();
        let expected = Reason::FieldMalformed("hmacSignature".into());
        assert_eq!(reason(&batch(&[item])), expected, "{loose:?}");
    }
}

/// Nothing is escaped in the signed text: two items could have the same one.
#[test]
fn a_colon_does_not_move_borders() {
    let signed = SIGNED.replace("TestMerchant:TestPayment", "TestMerchant:b:TestPayment");
    let reference = json!("b:TestPayment-1407325143704");
    let genuine = item_with("merchantReference", reference, &signed);
    assert!(check(presets::adyen(), &batch(&[genuine])).is_ok());
    let shifted = item_with("merchantAccountCode", json!("TestMerchant:b"), &signed);
    let malformed = |name: &str| Reason::FieldMalformed(name.into());
    assert_eq!(reason(&batch(&[shifted])), malformed("merchantAccountCode"));
    for (name, value) in [
        ("pspReference", "7914073381342284:"),
        ("originalReference", ":"),
        ("eventCode", "AUTHORISATION:true"),
        ("success", "true:true"),
    ] {
        let item = item_with(name, json!(value), SIGNED);
        assert_eq!(reason(&batch(&[item])), malformed(name));
    }
    let mut currency = item();
    currency["amount"]["currency"] = json!("EUR:");
    assert_eq!(reason(&batch(&[currency])), malformed("currency"));
}

#[test]
fn pinned_accounts_refuse_all_others() {
    let two = || {
        Adyen::new()
            .account("Other")
            .account("TestMerchant")
            .scheme()
    };
    assert!(check(two(), &batch(&[item()])).is_ok());
    let stranger = item_with(
        "merchantAccountCode",
        json!("Stranger"),
        &SIGNED.replace("TestMerchant", "Stranger"),
    );
    let both = batch(&[item(), stranger]);
    assert!(check(presets::adyen(), &both).is_ok());
    let error = check(two(), &both).unwrap_err();
    let expected = Reason::FieldMalformed("merchantAccountCode".into());
    assert_eq!(error.reason(), &expected);
}

#[test]
fn repeated_keys_are_refused() {
    let body = batch(&[item()]);
    for (from, to) in [
        (
            r#""success":"true""#,
            r#""success":"false","success":"true""#,
        ),
        (
            r#""success":"true""#,
            r#""\u0073uccess":"false","success":"true""#,
        ),
        (r#""value":1130"#, r#""value":1130,"value":1"#),
        (
            r#""notificationItems":"#,
            r#""notificationItems":[],"notificationItems":"#,
        ),
    ] {
        let repeated = body.replace(from, to);
        assert_ne!(repeated, body);
        assert_eq!(reason(&repeated), Reason::NotJson, "{repeated}");
    }
}

/// `encoding/json` of Go, for one, takes the last of these for `success` and `amount`.
#[test]
fn keys_that_differ_by_case_alone_are_refused() {
    let body = batch(&[item()]);
    for (name, other) in [
        ("success", "Success"),
        ("success", "\u{17f}ucceſs"),
        ("amount", "AMOUNT"),
        ("value", "Value"),
        ("originalReference", "originalreference"),
        ("NotificationRequestItem", "notificationRequestItem"),
        ("notificationItems", "NotificationItems"),
        ("hmacSignature", "hmacsignature"),
        ("additionalData", "AdditionalData"),
        ("currency", "CURRENCY"),
    ] {
        let of = match name {
            "value" => "currency",
            "originalReference" => "success",
            name => name,
        };
        let beside = body.replace(&format!("\"{of}\":"), &format!("\"{other}\":0,\"{of}\":"));
        assert_ne!(beside, body, "{other}");
        assert_eq!(
            reason(&beside),
            Reason::FieldRepeated(name.into()),
            "{other}"
        );
    }
}

#[test]
fn missing_and_mistyped_fields_are_named() {
    let fields = [
        "pspReference",
        "merchantAccountCode",
        "merchantReference",
        "amount",
        "eventCode",
        "success",
    ];
    for name in fields {
        let mut item = item();
        item.as_object_mut().unwrap().remove(name);
        let missing = Reason::FieldMissing(name.into());
        assert_eq!(reason(&batch(&[item.clone()])), missing);
        for value in [Value::Null, json!(1), json!([])] {
            item[name] = value;
            assert_eq!(
                reason(&batch(&[item.clone()])),
                Reason::FieldType(name.into())
            );
        }
    }
}

#[test]
fn what_is_signed_is_accepted_and_differs_in_the_signatures_only() {
    let signer = Signer::new(presets::adyen(), Secret::hex("k", KEY).unwrap());
    let item = r#" "pspReference" : "p", "merchantAccountCode":"a","merchantReference":"\u00e9\"}",
        "amount":{"currency":"EUR","value":1130},"eventCode":"E","success":"true", "z":1.50"#;
    let wrap = |items: &str| format!("{{ \"live\":\"false\",\"notificationItems\" : [{items}]\n}}");
    let entry = |item: &str| format!("{{\"NotificationRequestItem\":{{{item}}}}}");
    let other = item.replace("\"p\"", "\"q\"");
    let [p, q] = ["p", "q"].map(|psp| hmac(KEY, &format!("{psp}::a:é\"}}:1130:EUR:E:true")));
    for (before, after) in [
        (
            entry(item),
            entry(&format!(
                "\"additionalData\":{{\"hmacSignature\":\"{p}\"}},{item}"
            )),
        ),
        (
            entry(&format!("{item},\"additionalData\": {{ \n}}")),
            entry(&format!(
                "{item},\"additionalData\": {{\"hmacSignature\":\"{p}\" \n}}"
            )),
        ),
        (
            entry(&format!("\"additionalData\":{{\"b\":\"1\"}},{item}")),
            entry(&format!(
                "\"additionalData\":{{\"hmacSignature\":\"{p}\",\"b\":\"1\"}},{item}"
            )),
        ),
        (
            entry(&format!(
                "\"additionalData\":{{\"a\":{{}},\"hmacSignature\" : \"old\" }},{item}"
            )),
            entry(&format!(
                "\"additionalData\":{{\"a\":{{}},\"hmacSignature\" : \"{p}\" }},{item}"
            )),
        ),
        (
            format!("{}, {}", entry(item), entry(&other)),
            format!(
                "{}, {}",
                entry(&format!(
                    "\"additionalData\":{{\"hmacSignature\":\"{p}\"}},{item}"
                )),
                entry(&format!(
                    "\"additionalData\":{{\"hmacSignature\":\"{q}\"}},{other}"
                )),
            ),
        ),
    ] {
        let signed = signer
            .sign_delivery(None, None, Duration::ZERO, wrap(&before).as_bytes())
            .unwrap();
        let body = signed.body().unwrap();
        assert_eq!(from_utf8(body).unwrap(), wrap(&after));
        assert!(signed.headers().is_empty());
        let verifier = verifier(presets::adyen(), KEY);
        assert!(verifier.verify(&post(), None, body).is_ok());
    }
}

#[test]
fn what_cannot_be_verified_is_not_signed() {
    let signer = Signer::new(presets::adyen(), Secret::hex("k", KEY).unwrap());
    let mut odd = item();
    odd["additionalData"] = Value::Null;
    let mut colon = item();
    colon["eventCode"] = json!("a:b");
    let mut null = item();
    null["additionalData"] = json!({ "hmacSignature": null });
    let mut twice = item();
    twice["AdditionalData"] = json!({});
    let mut inside = item();
    inside["additionalData"]["HmacSignature"] = json!("");
    for items in [
        vec![],
        vec![odd],
        vec![colon],
        vec![twice],
        vec![inside],
        vec![item(), item()],
        vec![null],
    ] {
        let body = batch(&items);
        let answer = signer.sign_delivery(None, None, Duration::ZERO, body.as_bytes());
        assert!(matches!(answer, Err(SignError::Delivery(_))), "{body}");
    }
}

/// The value is that of `generate_payload_sig` in Adyen's library for Python, 16.0.0.
#[test]
fn webhooks_of_the_platform_sign_the_body() {
    let scheme = presets::adyen_platform();
    let body = br#"{"type":"balancePlatform.accountHolder.created"}"#;
    let signature = "VS9UBuuLlvIa/EUWFcATyXQOV4Myf4jqvgMKXg+qUqk=";
    let verifier = verifier(scheme.clone(), KEY);
    let mut parts = post();
    let mut put = |name: &'static str, value: &str| {
        parts.headers.insert(name, value.parse().unwrap());
        parts.clone()
    };
    let bare = put("hmacsignature", signature);
    assert!(verifier.verify(&bare, None, body).is_ok());
    assert!(verifier.verify(&bare, None, &body[1..]).is_err());
    let named = put("protocol", "HmacSHA256");
    assert!(verifier.verify(&named, None, body).is_ok());
    for other in ["HmacSHA512", "hmacsha256", "HmacSHA256 ", ""] {
        let error = verifier.verify(&put("protocol", other), None, body);
        let malformed = Reason::Malformed("protocol".parse().unwrap());
        assert_eq!(error.unwrap_err().reason(), &malformed, "{other}");
    }
    let signer = Signer::new(scheme.clone(), scheme.secret("k", KEY).unwrap());
    let headers = signer.sign(body).unwrap();
    assert_eq!(headers["hmacsignature"], signature);
}
