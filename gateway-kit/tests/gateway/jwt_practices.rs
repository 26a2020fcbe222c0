//! Keys in PEM, and the rules of RFC 8725 one by one.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gateway_kit::Config;
use jsonwebtoken::{Algorithm, EncodingKey};
use rsa::pkcs1::{EncodeRsaPrivateKey, EncodeRsaPublicKey};
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey};
use serde_json::{Value, json};

use crate::jwt::{NOW, ROOT, Signer, ask, jwt, start};
use crate::perimeter::{code, config};
use crate::support::Upstream;

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines: Vec<_> = lines.collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// A pair, its public key in PEM, and its private key in the forms in which tools write it.
struct Pair {
    signer: Signer,
    public: String,
    private: Vec<String>,
}

impl Pair {
    fn rsa(id: &'static str) -> Self {
        let mut random = rsa::rand_core::OsRng;
        let key = rsa::RsaPrivateKey::new(&mut random, 2048).unwrap();
        let pkcs1 = key.to_pkcs1_der().unwrap();
        let pkcs8 = key.to_pkcs8_der().unwrap();
        Self {
            signer: Signer {
                algorithm: Algorithm::RS256,
                key: EncodingKey::from_rsa_der(pkcs1.as_bytes()),
                id,
                jwk: Value::Null,
            },
            public: pem(
                "PUBLIC KEY",
                key.to_public_key().to_public_key_der().unwrap().as_bytes(),
            ),
            private: vec![
                pem("RSA PRIVATE KEY", pkcs1.as_bytes()),
                pem("PRIVATE KEY", pkcs8.as_bytes()),
                pem("ENCRYPTED PRIVATE KEY", pkcs8.as_bytes()),
            ],
        }
    }

    fn of(id: &'static str, algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::ES256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Algorithm::ES384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            _ => &rcgen::PKCS_ED25519,
        };
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        let der = pair.serialized_der();
        let key = match algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_der(der),
            _ => EncodingKey::from_ec_der(der),
        };
        Self {
            signer: Signer {
                algorithm,
                key,
                id,
                jwk: Value::Null,
            },
            public: pair.public_key_pem(),
            private: vec![
                pair.serialize_pem(),
                pem("EC PRIVATE KEY", der),
                pem("OPENSSH PRIVATE KEY", der),
            ],
        }
    }
}

fn inline(pem: &str, more: &str) -> String {
    format!("{{ pem = '''{pem}''' {more} }}")
}

fn section(algorithms: &str, keys: &str, more: &str) -> String {
    format!("jwt = {{ algorithms = [{algorithms}], keys = [{keys}], {more} }}")
}

fn refused(top: &str) -> String {
    let text = config(([127, 0, 0, 1], 1).into(), top, &ROOT);
    let refused = Config::from_toml(&text).map(drop);
    refused.expect_err(top).to_string()
}

fn claims() -> Value {
    json!({ "sub": "ada", "exp": NOW + 60 })
}

const ALL: &str = "\"RS256\", \"PS256\", \"ES256\", \"ES384\", \"EdDSA\"";

/// A file that is removed again.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let unique = format!("gateway-jwt-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(unique);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn keys_in_pem_are_taken_inline_and_from_a_file() {
    let upstream = Upstream::start().await;
    let pairs = [
        Pair::rsa("rsa"),
        Pair::of("p256", Algorithm::ES256),
        Pair::of("p384", Algorithm::ES384),
        Pair::of("ed", Algorithm::EdDSA),
    ];
    let keys: Vec<_> = pairs
        .iter()
        .map(|pair| inline(&pair.public, &format!(", kid = {:?}", pair.signer.id)))
        .collect();
    let inlined = section(ALL, &keys.join(", "), "");
    // As `cat` makes it, with what tools write around.
    let all: String = pairs
        .iter()
        .map(|pair| format!("# {}\r\n{}\n", pair.signer.id, pair.public))
        .collect();
    let file = File::new("all.pem", &all);
    let filed = format!("jwt = {{ algorithms = [{ALL}], keys_file = {:?} }}", file.0);
    for (top, by_name) in [(&inlined, true), (&filed, false)] {
        let gateway = start(&config(upstream.addr, top, &ROOT)).await;
        for pair in &pairs {
            let answer = ask(&gateway, "/", &pair.signer.token()).await;
            assert_eq!(answer.status, 200, "{top}");
            // A key without a name is tried whatever the token says.
            let algorithm = format!("{:?}", pair.signer.algorithm);
            let header = json!({ "alg": algorithm, "kid": "another" });
            let answer = ask(&gateway, "/", &pair.signer.sign_with(&header, &claims())).await;
            assert_eq!(answer.status, if by_name { 401 } else { 200 }, "{top}");
        }
        let other = Pair::of("ed", Algorithm::EdDSA);
        assert_eq!(ask(&gateway, "/", &other.signer.token()).await.status, 401);
    }
    // The older form of RSA keys, and what is shown of a configuration.
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
    let der = key.to_public_key().to_pkcs1_der().unwrap();
    let older = section(
        "\"RS256\"",
        &inline(&pem("RSA PUBLIC KEY", der.as_bytes()), ""),
        "",
    );
    let text = config(upstream.addr, &older, &ROOT);
    let shown = format!("{:?}", Config::from_toml(&text).unwrap());
    assert!(shown.contains("BEGIN RSA PUBLIC KEY"), "{shown}");
}

#[test]
fn what_is_no_public_key_is_refused_and_not_shown() {
    let pairs = [Pair::rsa("rsa"), Pair::of("p256", Algorithm::ES256)];
    for text in pairs.iter().flat_map(|pair| &pair.private) {
        let secret = text.lines().nth(1).unwrap();
        let file = File::new("private.pem", &format!("{}{text}", pairs[0].public));
        let filed = format!("jwt = {{ algorithms = [{ALL}], keys_file = {:?} }}", file.0);
        for (top, field) in [
            (section(ALL, &inline(text, ""), ""), "jwt.keys[0]"),
            (filed, "jwt.keys_file"),
        ] {
            let error = refused(&top);
            assert!(
                error.contains(field)
                    && error.contains("is a private key; only its public part belongs here"),
                "{error}"
            );
            assert!(!error.contains(secret), "{error}");
        }
    }
    let good = &pairs[0].public;
    let cut = good.replace("-----END PUBLIC KEY-----", "");
    let small = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024).unwrap();
    let small = small.to_public_key().to_public_key_der().unwrap();
    let nine = File::new("nine.pem", &good.repeat(9));
    let nine = format!("jwt = {{ algorithms = [{ALL}], keys_file = {:?} }}", nine.0);
    // Ed25519's own public key with a bit less of it.
    let odd = Pair::of("ed", Algorithm::EdDSA).public;
    let odd = odd.lines().nth(1).unwrap();
    let odd = STANDARD.decode(odd).unwrap();
    let unreadable = "is no public key in PEM";
    for (top, why) in [
        (section(ALL, &inline("hello", ""), ""), unreadable),
        (section(ALL, &inline(&cut, ""), ""), unreadable),
        (section(ALL, &inline(&good.repeat(2), ""), ""), unreadable),
        (
            section(
                ALL,
                &inline(&good.replace("PUBLIC KEY", "CERTIFICATE"), ""),
                "",
            ),
            unreadable,
        ),
        (
            section(ALL, &inline(&pem("PUBLIC KEY", &odd[..43]), ""), ""),
            unreadable,
        ),
        (section(ALL, "{ pem = 7 }", ""), unreadable),
        (
            section(ALL, &inline(&pem("PUBLIC KEY", small.as_bytes()), ""), ""),
            "is too short",
        ),
        (
            section(ALL, &inline(good, ", x = \"AAAA\""), ""),
            "has pem beside members",
        ),
        (
            section("\"ES256\"", &inline(good, ""), ""),
            "goes with none of the algorithms",
        ),
        (nine, "has more than 8 keys without names"),
    ] {
        let error = refused(&top);
        assert!(error.contains(why) && error.contains("jwt.keys"), "{error}");
    }
}

/// Section 3.1: a key is used with its own algorithms, not with what a token says; and 2.1, `none`.
#[tokio::test]
async fn an_algorithm_cannot_be_changed_under_a_public_key() {
    let upstream = Upstream::start().await;
    let pair = Pair::rsa("rsa");
    let top = section("\"RS256\"", &inline(&pair.public, ", kid = \"rsa\""), "");
    let gateway = start(&config(upstream.addr, &top, &ROOT)).await;
    let der = STANDARD
        .decode(
            pair.public
                .lines()
                .filter(|line| !line.starts_with('-'))
                .collect::<String>(),
        )
        .unwrap();
    let trimmed = pair.public.trim_end();
    for secret in [pair.public.as_bytes(), trimmed.as_bytes(), &der] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let forger = Signer::secret("rsa", secret).with(algorithm);
            let answer = ask(&gateway, "/", &forger.sign(&claims())).await;
            assert_eq!(code(&answer), (401, "invalid_token".to_owned()));
            // Named as what is allowed.
            let header = json!({ "alg": "RS256", "kid": "rsa" });
            let answer = ask(&gateway, "/", &forger.sign_with(&header, &claims())).await;
            assert_eq!(answer.status, 401);
        }
    }
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for none in ["none", "None", "NONE", "nOnE", "", " none", "none\u{0}"] {
        let header = part(json!({ "alg": none, "kid": "rsa" }));
        let token = format!("{header}.{}.", part(claims()));
        assert_eq!(ask(&gateway, "/", &token).await.status, 401, "{none:?}");
    }
    // The same key, an algorithm that goes with it and was not allowed.
    let other = Signer {
        algorithm: Algorithm::PS256,
        ..pair.signer
    };
    assert_eq!(ask(&gateway, "/", &other.token()).await.status, 401);
    assert_eq!(upstream.calls(), 0);
}

/// RFC 7515, section 4.1.11: what is not understood is refused, in whatever form it comes.
#[tokio::test]
async fn extensions_are_refused_in_any_form() {
    let upstream = Upstream::start().await;
    let ed = Signer::edwards("ed");
    let gateway = start(&config(upstream.addr, &jwt("\"EdDSA\"", &[&ed], ""), &ROOT)).await;
    let header = json!({ "alg": "EdDSA", "kid": "ed" });
    assert_eq!(
        ask(&gateway, "/", &ed.sign_with(&header, &claims()))
            .await
            .status,
        200
    );
    for crit in [
        Value::Null,
        json!([]),
        json!(["exp"]),
        json!(["b64"]),
        json!(""),
        json!({}),
        json!(false),
    ] {
        let mut header = header.clone();
        header["crit"] = crit.clone();
        let answer = ask(&gateway, "/", &ed.sign_with(&header, &claims())).await;
        assert_eq!(code(&answer), (401, "invalid_token".to_owned()), "{crit}");
    }
    assert_eq!(upstream.calls(), 1);
}

/// Section 3.4: points that are on no curve, or on another one.
#[test]
fn points_that_are_none_are_refused() {
    let good = Pair::of("p256", Algorithm::ES256).public;
    let lines: String = good.lines().filter(|line| !line.starts_with('-')).collect();
    let mut der = STANDARD.decode(lines).unwrap();
    *der.last_mut().unwrap() ^= 1;
    let error = refused(&section(
        "\"ES256\"",
        &inline(&pem("PUBLIC KEY", &der), ""),
        "",
    ));
    assert!(error.contains("jwt.keys[0]"), "{error}");
    let zero = "{ kty = \"EC\", crv = \"P-256\", x = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\", \
                y = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\" }";
    let error = refused(&section("\"ES256\"", zero, ""));
    assert!(error.contains("jwt.keys[0]"), "{error}");
}

/// Sections 3.8 and 3.9: nobody is an issuer, or meant, by an empty name.
#[tokio::test]
async fn empty_issuers_and_audiences_are_none() {
    let upstream = Upstream::start().await;
    let ed = Signer::edwards("ed");
    for (settings, field) in [
        ("issuers = [\"\"]", "jwt.issuers = [\"\"]"),
        ("audiences = [\"shop\", \"\"]", "jwt.audiences"),
        ("types = [\"\"]", "jwt.types = [\"\"]"),
    ] {
        let error = refused(&jwt("\"EdDSA\"", &[&ed], settings));
        assert!(error.contains(field), "{error}");
    }
    let named = jwt("\"EdDSA\"", &[&ed], "audiences = [\"shop\"]");
    let bare = jwt("\"EdDSA\"", &[&ed], "");
    let routes = [("/", ""), ("/bare", &*bare)];
    let gateway = start(&config(upstream.addr, &named, &routes)).await;
    for audience in [
        json!(""),
        json!([]),
        json!([""]),
        json!([[]]),
        json!(["shop "]),
        json!([["shop"]]),
        Value::Null,
    ] {
        let mut claims = claims();
        claims["aud"] = audience.clone();
        for path in ["/", "/bare"] {
            let answer = ask(&gateway, path, &ed.sign(&claims)).await;
            assert_eq!(answer.status, 401, "{path} {audience}");
        }
    }
    assert_eq!(upstream.calls(), 0);
}

/// Section 3.10: the name of a key is a name, and no path, query or address.
#[tokio::test]
async fn a_key_is_found_by_its_name_alone() {
    let upstream = Upstream::start().await;
    let ed = Signer::edwards("ed");
    let key = File::new("kid", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let gateway = start(&config(upstream.addr, &jwt("\"EdDSA\"", &[&ed], ""), &ROOT)).await;
    for id in [
        &*key.0.display().to_string(),
        "/dev/null",
        "../../../../dev/null",
        "file:///dev/null",
        "' UNION SELECT 'AA",
        "$(id)",
        "http://127.0.0.1/",
        "ed\u{0}",
        "ED",
        "",
        " ed",
    ] {
        let header = json!({ "alg": "EdDSA", "kid": id });
        let answer = ask(&gateway, "/", &ed.sign_with(&header, &claims())).await;
        assert_eq!(code(&answer), (401, "invalid_token".to_owned()), "{id:?}");
    }
    for id in [json!(7), json!(["ed"]), json!({})] {
        let header = json!({ "alg": "EdDSA", "kid": id });
        let answer = ask(&gateway, "/", &ed.sign_with(&header, &claims())).await;
        assert_eq!(answer.status, 401, "{id}");
    }
    assert_eq!(upstream.calls(), 0);
}

/// Sections 3.11 and 3.12: a token made for something else is none for this, though the key is.
#[tokio::test]
async fn a_token_of_another_kind_is_refused() {
    let upstream = Upstream::start().await;
    let ed = Signer::edwards("ed");
    let access = jwt("\"EdDSA\"", &[&ed], "types = [\"at+jwt\"]");
    let own = jwt(
        "\"EdDSA\"",
        &[&ed],
        "types = [\"shop/x\", \"application/ID+jwt\"]",
    );
    let usual = jwt("\"EdDSA\"", &[&ed], "");
    let routes = [("/", &*usual), ("/access", &*access), ("/own", &*own)];
    let gateway = start(&config(upstream.addr, "", &routes)).await;
    for (kind, usual, access, own) in [
        (None, 200, 401, 401),
        (Some(json!("JWT")), 200, 401, 401),
        (Some(json!("jwt")), 200, 401, 401),
        (Some(json!("application/jwt")), 200, 401, 401),
        (Some(json!("at+jwt")), 200, 200, 401),
        (Some(json!("AT+JWT")), 200, 200, 401),
        (Some(json!("application/at+jwt")), 200, 200, 401),
        (Some(json!("Application/AT+jwt")), 200, 200, 401),
        (Some(json!("id+jwt")), 401, 401, 200),
        (Some(json!("shop/x")), 401, 401, 200),
        (Some(json!("application/shop/x")), 401, 401, 401),
        (Some(json!("logout+jwt")), 401, 401, 401),
        (Some(json!("dpop+jwt")), 401, 401, 401),
        (Some(json!("JOSE")), 401, 401, 401),
        (Some(json!("")), 401, 401, 401),
        (Some(json!(["at+jwt"])), 401, 401, 401),
        (Some(json!(7)), 401, 401, 401),
    ] {
        let mut header = json!({ "alg": "EdDSA", "kid": "ed" });
        if let Some(kind) = &kind {
            header["typ"] = kind.clone();
        }
        let token = ed.sign_with(&header, &claims());
        for (path, status) in [("/", usual), ("/access", access), ("/own", own)] {
            let answer = ask(&gateway, path, &token).await;
            assert_eq!(answer.status, status, "{path} {kind:?}");
        }
    }
    let metrics = gateway.handle.metrics();
    assert!(
        metrics.contains("auth_failures_total{route=\"/access\",reason=\"type\"} "),
        "{metrics}"
    );
}

/// A key is used for what it says of itself (RFC 7517, sections 4.2 to 4.4).
#[test]
fn a_key_for_something_else_is_refused() {
    let rsa = Pair::rsa("rsa").public;
    for more in [
        ", use = \"enc\"",
        ", key_ops = [\"sign\"]",
        ", key_ops = []",
        ", alg = \"RS512\"",
        ", alg = \"ES256\"",
        ", alg = \"RSA-OAEP\"",
    ] {
        let error = refused(&section("\"RS256\"", &inline(&rsa, more), ""));
        assert!(
            error.contains("goes with none of the algorithms"),
            "{error}"
        );
    }
    for more in [
        ", use = \"sig\"",
        ", key_ops = [\"verify\"], alg = \"RS256\"",
    ] {
        let top = section("\"RS256\"", &inline(&rsa, more), "");
        let text = config(([127, 0, 0, 1], 1).into(), &top, &ROOT);
        Config::from_toml(&text).unwrap();
    }
}
