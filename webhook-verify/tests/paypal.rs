//! PayPal: two deliveries of its sandbox, and what their signatures do not protect.

use std::time::Duration;

use http::{HeaderMap, HeaderName, Request, request::Parts};
use webhook_verify::{
    KeyFormat, Reason, ReplayBasis, SchemeError, Secret, SignError, Signer, Step, Verified,
    Verifier,
    clock::ManualWallClock,
    presets::{self, PayPalSite, paypal_certificate_url},
    replay::MemoryReplayStore,
};

const ID: &str = "paypal-transmission-id";
const TIME: &str = "paypal-transmission-time";
const SIGNATURE: &str = "paypal-transmission-sig";
const ALGORITHM: &str = "paypal-auth-algo";
const URL: &str = "paypal-cert-url";

/// The key of the sandbox's certificate `CERT-360caa42-fca2a594-a5cafa77`, computed from the
/// two signatures, which it verifies: the certificate itself is not published any more.
const KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAyF4MCY9RPrzzizQO3t5x
bEaUKuxtQhXKAjXkYBSBkX3eIrbdowUT3x139Xnlzg0OlcEzD+q1WKyNxwULuUmU
WSjt4ACz4gVk3M+RYVaL2A8/3fw7WrAOS+5dcZkTPhhjxHvw9xEz3sspuhkwLiM0
dY7tQbkkJVZyK3CCwx6xWaNEcqhR9XjS96GH4M/mQr/lh+ua4UutFaMIiwG9pbAE
XJCdj/MCiKbN2FMQKlRuUifR+PbngQyNNcBMxP/ufSfLPRk4ZmzE6j+seDJ3gHBj
dUz4phnfcGZW8MKwmA7QqKhQ3MTFYLw/N7j6yIpxcEyDl8Ot0Er/P/gDbmsAXDSQ
6wIDAQAB
-----END PUBLIC KEY-----
";

struct Published {
    id: &'static str,
    time: &'static str,
    at: u64,
    webhook_id: &'static str,
    signature: &'static str,
    body: &'static [u8],
}

/// In the tests of PayPal-Python-SDK and PayPal-Ruby-SDK.
const FIRST: Published = Published {
    id: "dfb3be50-fd74-11e4-8bf3-77339302725b",
    time: "2015-05-18T15:45:13Z",
    at: 1_431_963_913,
    webhook_id: "4JH86294D6297924G",
    signature: "thy4/U002quzxFavHPwbfJGcc46E8rc5jzgyeafWm5mICTBdY/8rl7WJpn8JA0GKA+oDTPsSruqusw+XXg5RLAP7ip53Euh9Xu3UbUhQFX7UgwzE2FeYoY6lyRMiiiQLzy9BvHfIzNIVhPad4KnC339dr6y2l+mN8ALgI4GCdIh3/SoJO5wE64Bh/ueWtt8EVuvsvXfda2Le5a2TrOI9vLEzsm9GS79hAR/5oLexNz8UiZr045Mr5ObroH4w4oNfmkTaDk9Rj0G19uvISs5QzgmBpauKr7Nw++JI0pr/v5mFctQkoWJSGfBGzPRXawrvIIVHQ9Wer48GR2g9ZiApWg==",
    body: include_bytes!("vectors/paypal-1.body"),
};

/// In the samples of PayPal-PHP-SDK.
const SECOND: Published = Published {
    id: "d938e770-8046-11e6-8103-6b62a8a99ac4",
    time: "2016-09-21T22:00:46Z",
    at: 1_474_495_246,
    webhook_id: "9XL90610J3647323C",
    signature: "eDOnWUj9FXOnr2naQnrdL7bhgejVSTwRbwbJ0kuk5wAtm2ZYkr7w5BSUDO7e5ZOsqLwN3sPn3RV85Jd9pjHuTlpuXDLYk+l5qiViPbaaC0tLV+8C/zbDjg2WCfvtf2NmFT8CHgPPQAByUqiiTY+RJZPPQC5np7j7WuxcegsJLeWStRAofsDLiSKrzYV3CKZYtNoNnRvYmSFMkYp/5vk4xGcQLeYNV1CC2PyqraZj8HGG6Y+KV4trhreV9VZDn+rPtLDZTbzUohie1LpEy31k2dg+1szpWaGYOz+MRb40U04oD7fD69vghCrDTYs5AsuFM2+WZtsMDmYGI0pxLjn2yw==",
    body: include_bytes!("vectors/paypal-2.body"),
};

/// Another body of the same CRC-32 as the first one, made here by choosing four characters.
const FORGED: &[u8] = include_bytes!("vectors/paypal-1-forged-same-crc.body");

impl Published {
    fn parts(&self) -> Parts {
        let mut parts = Request::post("/hook").body(()).unwrap().into_parts().0;
        for (name, value) in [
            (ID, self.id),
            (TIME, self.time),
            (SIGNATURE, self.signature),
            (ALGORITHM, "SHA256withRSA"),
        ] {
            parts.headers.insert(name, value.parse().unwrap());
        }
        parts
    }

    fn verifier(&self) -> Verifier {
        verifier(self.webhook_id, self.at)
    }
}

fn verifier(webhook_id: &str, now: u64) -> Verifier {
    let scheme = presets::paypal(webhook_id).unwrap();
    let secret = scheme.secret("sandbox", KEY).unwrap();
    let builder = Verifier::builder(scheme).clock(ManualWallClock::new(now));
    builder.secret(secret).build().unwrap()
}

/// The answer to the whole body, which chunks must give as well.
fn verify(verifier: &Verifier, parts: &Parts, body: &[u8]) -> Result<Verified, (Step, Reason)> {
    let whole = verifier.verify(parts, None, body);
    let streamed = verifier.begin(parts, None).and_then(|mut session| {
        body.chunks(100)
            .try_for_each(|chunk| session.update(chunk))?;
        session.finish()
    });
    match (&whole, &streamed) {
        (Ok(whole), Ok(streamed)) => assert_eq!(whole.replay_key(), streamed.replay_key()),
        (Err(whole), Err(streamed)) => assert_eq!(whole.reason(), streamed.reason()),
        _ => panic!("{whole:?} but in chunks {streamed:?}"),
    }
    whole.map_err(|error| (error.step(), error.reason().clone()))
}

fn name(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

#[test]
fn the_published_deliveries_are_accepted() {
    for delivery in [FIRST, SECOND] {
        let verified = verify(&delivery.verifier(), &delivery.parts(), delivery.body).unwrap();
        assert_eq!(verified.scheme(), "paypal");
        assert_eq!(verified.key_id(), "sandbox");
        assert_eq!(verified.timestamp(), Some(delivery.at));
        assert_eq!(verified.age_seconds(), Some(0));
    }
}

#[test]
fn another_body_id_time_or_endpoint_is_refused() {
    let mismatch = (Step::Signature, Reason::SignatureMismatch);
    let own = FIRST.verifier();
    let refused = |verifier: &Verifier, parts: &Parts, body: &[u8]| {
        assert_eq!(verify(verifier, parts, body).unwrap_err(), mismatch);
    };
    refused(&own, &FIRST.parts(), SECOND.body);
    refused(&own, &FIRST.parts(), b"");
    refused(
        &verifier(SECOND.webhook_id, FIRST.at),
        &FIRST.parts(),
        FIRST.body,
    );
    refused(
        &verifier("WEBHOOK_ID", FIRST.at),
        &FIRST.parts(),
        FIRST.body,
    );
    for (header, value) in [
        (ID, SECOND.id),
        (ID, "DFB3BE50-FD74-11E4-8BF3-77339302725B"),
        (TIME, "2015-05-18T15:45:14Z"),
        // The same moment in another text.
        (TIME, "2015-05-18T15:45:13.0Z"),
        (SIGNATURE, SECOND.signature),
    ] {
        let mut parts = FIRST.parts();
        parts.headers.insert(header, value.parse().unwrap());
        refused(&own, &parts, FIRST.body);
    }
}

/// A checksum finds every change of up to 32 bits in a row.
#[test]
fn every_flipped_bit_of_the_body_is_refused() {
    let verifier = FIRST.verifier();
    let parts = FIRST.parts();
    for bit in (0..FIRST.body.len() * 8).step_by(29) {
        let mut body = FIRST.body.to_vec();
        body[bit / 8] ^= 1 << (bit % 8);
        let error = verifier.verify(&parts, None, &body).unwrap_err();
        assert_eq!(error.reason(), &Reason::SignatureMismatch, "bit {bit}");
    }
}

#[test]
fn every_other_form_of_the_headers_is_refused() {
    let own = FIRST.verifier();
    let text = FIRST.signature;
    for (header, bad) in [
        (
            ALGORITHM,
            vec![
                "SHA1withRSA",
                "MD5withRSA",
                "SHA512withRSA",
                "sha256withrsa",
                "none",
                "",
            ],
        ),
        (ID, vec!["", "a|b", "a b", "a.b", &text[..51]]),
        (
            TIME,
            vec![
                "",
                "1431963913",
                "2015-05-18T15:45:13+00:00",
                "2015-05-18 15:45:13Z",
                "2015-05-18T15:45:13",
            ],
        ),
        (
            SIGNATURE,
            vec![
                "",
                "!",
                &text[..text.len() - 2],
                &text[1..],
                "thy4-U00",
                "thy4/U1=",
            ],
        ),
    ] {
        for value in bad {
            let mut parts = FIRST.parts();
            parts.headers.insert(header, value.parse().unwrap());
            let (_, reason) = verify(&own, &parts, FIRST.body).unwrap_err();
            assert_eq!(reason, Reason::Malformed(name(header)), "{header}: {value}");
        }
        let mut parts = FIRST.parts();
        let once = parts.headers[header].clone();
        parts.headers.append(header, once);
        let (step, reason) = verify(&own, &parts, FIRST.body).unwrap_err();
        assert_eq!(reason, Reason::Malformed(name(header)));
        assert_eq!(step, Step::Header);
        parts.headers.remove(header);
        let (_, reason) = verify(&own, &parts, FIRST.body).unwrap_err();
        assert_eq!(reason, Reason::Missing(name(header)));
    }
    // Base64 in order, but no signature of this key.
    for value in ["thy4", &"A".repeat(344), &format!("AAAA{text}")] {
        let mut parts = FIRST.parts();
        parts.headers.insert(SIGNATURE, value.parse().unwrap());
        let (_, reason) = verify(&own, &parts, FIRST.body).unwrap_err();
        assert_eq!(reason, Reason::SignatureMismatch, "{value}");
    }
    let mut parts = FIRST.parts();
    let long = "A".repeat(100_000);
    parts.headers.insert(SIGNATURE, long.parse().unwrap());
    let (_, reason) = verify(&own, &parts, FIRST.body).unwrap_err();
    assert_eq!(reason, Reason::Malformed(name(SIGNATURE)));
}

#[test]
fn nothing_of_the_body_is_needed_to_refuse_a_head() {
    let own = verifier(FIRST.webhook_id, FIRST.at + 5 * 24 * 60 * 60);
    let error = own.begin(&FIRST.parts(), None).unwrap_err();
    assert_eq!(error.step(), Step::Timestamp);
    let mut parts = FIRST.parts();
    parts
        .headers
        .insert(ALGORITHM, "SHA1withRSA".parse().unwrap());
    assert!(FIRST.verifier().begin(&parts, None).is_err());
}

#[test]
fn retries_of_three_days_are_within_the_time() {
    let four_days = 4 * 24 * 60 * 60;
    for (now, accepted) in [
        (-301, false),
        (-300, true),
        (four_days, true),
        (four_days + 1, false),
    ] {
        let now = FIRST.at.checked_add_signed(now).unwrap();
        let answer = verify(&verifier(FIRST.webhook_id, now), &FIRST.parts(), FIRST.body);
        assert_eq!(answer.is_ok(), accepted, "{now}");
    }
    let tolerance = presets::paypal("x").unwrap().tolerance().unwrap();
    assert_eq!(tolerance.0, Duration::from_secs(345_600));
}

/// What the documentation warns of: the body is bound by a checksum. The signature of a
/// delivery that was seen fits another body; only the transmission id, which is taken once,
/// and asking PayPal stop it.
#[tokio::test]
async fn a_body_of_the_same_checksum_passes_the_signature_but_not_the_replay_store() {
    let own = FIRST.verifier();
    assert!(FORGED.starts_with(br#"{"forged":true"#));
    let forged = verify(&own, &FIRST.parts(), FORGED).expect("the scheme cannot tell them apart");
    let genuine = verify(&own, &FIRST.parts(), FIRST.body).unwrap();
    assert_eq!(forged.replay_key(), genuine.replay_key());

    let scheme = presets::paypal(FIRST.webhook_id).unwrap();
    assert_eq!(scheme.replay_basis(), ReplayBasis::Id);
    let secret = scheme.secret("sandbox", KEY).unwrap();
    let clock = ManualWallClock::new(FIRST.at);
    let builder = Verifier::builder(scheme)
        .secret(secret)
        .clock(clock.clone());
    let builder = builder.replay(MemoryReplayStore::new(16));
    let storing = builder.build().unwrap();
    let verified = verify(&storing, &FIRST.parts(), FIRST.body).unwrap();
    let reservation = storing.reserve(&verified).await.unwrap().unwrap();
    reservation.commit().await.unwrap();
    let forged = verify(&storing, &FIRST.parts(), FORGED).unwrap();
    let refused = storing.reserve(&forged).await.unwrap_err();
    assert_eq!(refused.reason(), &Reason::Duplicate);
}

#[test]
fn keys_of_another_kind_are_refused_and_there_is_no_signer() {
    let scheme = presets::paypal("WEBHOOK_ID").unwrap();
    assert_eq!(scheme.key_format(), KeyFormat::Pem);
    let shared = Secret::new("text", "key").unwrap();
    let other = Secret::pem("ec", include_str!("vectors/keys/p256.pub.pem"));
    // The feature of ECDSA may be off.
    for secret in [Ok(shared), other].into_iter().flatten() {
        assert!(
            Verifier::builder(scheme.clone())
                .secret(secret)
                .build()
                .is_err()
        );
    }
    let certificate = include_str!("vectors/keys/rsa2048.cert.pem");
    let secret = scheme.secret("cert", certificate).unwrap();
    let builder = Verifier::builder(scheme.clone()).secret(secret.clone());
    assert!(builder.build().is_ok());
    let signed = Signer::new(scheme, secret).sign_with_id("a", Duration::ZERO, b"{}");
    assert_eq!(signed.unwrap_err(), SignError::Key);
    for bad in ["", "a|b", "4JH86294D6297924G\n"] {
        assert_eq!(
            presets::paypal(bad).unwrap_err(),
            SchemeError::WebhookId,
            "{bad}"
        );
    }
}

#[test]
fn only_certificates_of_paypal_are_fetched() {
    let checked = |url: &str, site| {
        let mut headers = HeaderMap::new();
        headers.insert(URL, url.parse().unwrap());
        paypal_certificate_url(&headers, site).map(str::to_owned)
    };
    let sandbox =
        "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77";
    let live = sandbox.replace("sandbox.", "");
    assert_eq!(
        checked(sandbox, PayPalSite::Sandbox).as_deref(),
        Some(sandbox)
    );
    assert_eq!(checked(&live, PayPalSite::Live), Some(live.clone()));
    assert_eq!(checked(sandbox, PayPalSite::Live), None);
    assert_eq!(checked(&live, PayPalSite::Sandbox), None);
    for bad in [
        "",
        "http://api.paypal.com/v1/notifications/certs/CERT-1",
        "HTTPS://api.paypal.com/v1/notifications/certs/CERT-1",
        "https://API.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com./v1/notifications/certs/CERT-1",
        "https://api.paypal.com:443/v1/notifications/certs/CERT-1",
        "https://user@api.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com@evil.example/v1/notifications/certs/CERT-1",
        "https://api.paypal.com.evil.example/v1/notifications/certs/CERT-1",
        "https://evil.example/v1/notifications/certs/CERT-1",
        "https://evil.example/?https://api.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com/v1/notifications/certs/",
        "https://api.paypal.com/v1/notifications/certs/../../../x",
        "https://api.paypal.com/v1/notifications/certs/a/b",
        "https://api.paypal.com/v1/notifications/certs/a%2Fb",
        "https://api.paypal.com/v1/notifications/certs/CERT-1?x=1",
        "https://api.paypal.com/v1/notifications/certs/CERT-1#x",
        "https://api.paypal.com/v1/notifications/certs/CERT-1 ",
        "https://api.paypal.com//v1/notifications/certs/CERT-1",
        "https://api.paypal.com\\v1/notifications/certs/CERT-1",
        "//api.paypal.com/v1/notifications/certs/CERT-1",
        "file:///etc/passwd",
    ] {
        assert_eq!(checked(bad, PayPalSite::Live), None, "{bad}");
    }
    let long = format!("{live}{}", "a".repeat(100));
    assert_eq!(checked(&long, PayPalSite::Live), None);
    let mut headers = HeaderMap::new();
    assert_eq!(paypal_certificate_url(&headers, PayPalSite::Live), None);
    headers.append(URL, live.parse().unwrap());
    headers.append(URL, live.parse().unwrap());
    assert_eq!(paypal_certificate_url(&headers, PayPalSite::Live), None);
}
