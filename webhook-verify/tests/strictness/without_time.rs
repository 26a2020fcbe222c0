//! Schemes with one value over the body.

use super::*;

const KEY: &str = "a key";

fn base64(parts: &[&[u8]]) -> String {
    STANDARD.encode(hmac(KEY.as_bytes(), parts))
}

/// Shopify's library takes the first of repeated headers, and those of its events before
/// those of its webhooks.
#[test]
fn shopify_reads_one_header_of_one_name() {
    let name = "x-shopify-hmac-sha256";
    let good = base64(&[BODY]);
    let good = good.as_bytes();
    let check = |fields: Fields<'_>| answer(&presets::shopify(), KEY, fields, BODY);
    assert_eq!(check(&[(name, good)]), Ok(()));
    assert_eq!(check(&[(name, good), (name, b"x")]), malformed(name));
    assert_eq!(check(&[(name, good), (name, good)]), malformed(name));
    assert_eq!(check(&[("shopify-hmac-sha256", good)]), missing(name));
    let other = ("shopify-hmac-sha256", &b"x"[..]);
    assert_eq!(check(&[other, (name, good)]), Ok(()));
}

/// Nothing stands between URL and body: what is signed for one URL could be read as
/// another one, with a body to fit. So the URL is never taken from the request.
#[test]
fn square_signs_for_the_configured_url_only() {
    let name = "x-square-hmacsha256-signature";
    let value = base64(&[b"https://e.example/h", b"{}"]);
    let fields: Fields<'_> = &[
        (name, value.as_bytes()),
        ("host", b"e.example"),
        ("x-forwarded-host", b"e.example"),
    ];
    let check = |url, body| answer(&presets::square(url), KEY, fields, body);
    assert_eq!(check("https://e.example/h", b"{}"), Ok(()));
    let mismatch = Err(Reason::SignatureMismatch);
    assert_eq!(check("https://e.example/h", b"h{}"), mismatch);
    assert_eq!(check("https://e.example/", b"{}"), mismatch);
    assert_eq!(check("https://e.example/h/", b"{}"), mismatch);
    assert_eq!(check("https://E.example/h", b"{}"), mismatch);
    assert_eq!(check("https://e.example:443/h", b"{}"), mismatch);
}

/// gidgethub falls back to SHA-1 when the newer header is absent; octokit's build for the
/// web takes upper-case digits and no prefix.
#[test]
fn github_has_no_older_signature_and_no_other_text() {
    let (name, key, body) = (
        "x-hub-signature-256",
        "It's a Secret to Everybody",
        b"Hello, World!",
    );
    let old = b"sha1=01dc10d0c83e72ed246219cdd91669667fe2ca59";
    let check = |fields: Fields<'_>| answer(&presets::github(), key, fields, body);
    assert_eq!(check(&[("x-hub-signature", old)]), missing(name));
    assert_eq!(check(&[(name, old)]), malformed(name));
    let good = hex(&hmac(key.as_bytes(), &[body]));
    assert_eq!(
        check(&[(name, format!("sha256={good}").as_bytes())]),
        Ok(())
    );
    for value in [
        format!("sha256={}", good.to_uppercase()),
        format!("SHA256={good}"),
        good.clone(),
    ] {
        assert_eq!(check(&[(name, value.as_bytes())]), malformed(name));
    }
}

/// Lemon Squeezy's samples compare text; a prefix, another case or another encoding is
/// none of it.
#[test]
fn lemon_squeezy_is_plain_lower_case_hex() {
    let name = "x-signature";
    let good = hex(&hmac(KEY.as_bytes(), &[BODY]));
    let check = |value: &str| {
        let fields: Fields<'_> = &[(name, value.as_bytes())];
        answer(&presets::lemon_squeezy(), KEY, fields, BODY)
    };
    assert_eq!(check(&good), Ok(()));
    for value in [
        good.to_uppercase(),
        format!("sha256={good}"),
        base64(&[BODY]),
        good[..32].to_owned(),
    ] {
        assert_eq!(check(&value), malformed(name));
    }
}
