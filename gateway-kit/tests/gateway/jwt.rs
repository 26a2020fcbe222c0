//! JSON Web Tokens: keys that are made here, an issuer that rotates, dies, hangs and lies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use http::Response;
use http_body_util::Full;
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, EncodingKey};
use parking_lot::Mutex;
use resilience_core::clock::ManualClock;
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::traits::PublicKeyParts;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::perimeter::{code, config, head};
use crate::support::{Answer, Running, Upstream, nobody, until};

/// What the gateway takes for now, in seconds.
pub(crate) const NOW: u64 = 2_000_000_000;

fn wall() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// A key of an issuer.
pub(crate) struct Signer {
    pub(crate) algorithm: Algorithm,
    pub(crate) key: EncodingKey,
    pub(crate) id: &'static str,
    /// As an issuer publishes it; a secret for HMAC.
    pub(crate) jwk: Value,
}

impl Signer {
    fn elliptic(id: &'static str, algorithm: Algorithm) -> Self {
        let (kind, curve) = match algorithm {
            Algorithm::ES256 => (&rcgen::PKCS_ECDSA_P256_SHA256, "P-256"),
            _ => (&rcgen::PKCS_ECDSA_P384_SHA384, "P-384"),
        };
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        let point = &pair.public_key_raw()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let jwk = json!({ "kty": "EC", "crv": curve, "kid": id,
            "x": BASE64.encode(x), "y": BASE64.encode(y) });
        let key = EncodingKey::from_ec_der(pair.serialized_der());
        Self {
            algorithm,
            key,
            id,
            jwk,
        }
    }

    pub(crate) fn edwards(id: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig",
            "x": BASE64.encode(pair.public_key_raw()) });
        let key = EncodingKey::from_ed_der(pair.serialized_der());
        Self {
            algorithm: Algorithm::EdDSA,
            key,
            id,
            jwk,
        }
    }

    fn rsa(id: &'static str, bits: usize) -> Self {
        let mut random = rsa::rand_core::OsRng;
        let private = rsa::RsaPrivateKey::new(&mut random, bits).unwrap();
        let jwk = json!({ "kty": "RSA", "kid": id,
            "n": BASE64.encode(private.n().to_bytes_be()),
            "e": BASE64.encode(private.e().to_bytes_be()) });
        let der = private.to_pkcs1_der().unwrap();
        let key = EncodingKey::from_rsa_der(der.as_bytes());
        Self {
            algorithm: Algorithm::RS256,
            key,
            id,
            jwk,
        }
    }

    pub(crate) fn secret(id: &'static str, secret: &[u8]) -> Self {
        let jwk = json!({ "kty": "oct", "kid": id, "k": BASE64.encode(secret) });
        let key = EncodingKey::from_secret(secret);
        Self {
            algorithm: Algorithm::HS256,
            key,
            id,
            jwk,
        }
    }

    /// A token with this header.
    pub(crate) fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signer = (DEFAULT_PROVIDER.signer_factory)(&self.algorithm, &self.key).unwrap();
        let signature = signer.try_sign(message.as_bytes()).unwrap();
        format!("{message}.{}", BASE64.encode(signature))
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let algorithm = format!("{:?}", self.algorithm);
        let header = json!({ "alg": algorithm, "typ": "JWT", "kid": self.id });
        self.sign_with(&header, claims)
    }

    /// A token that is good where nothing is asked of it.
    pub(crate) fn token(&self) -> String {
        self.sign(&json!({ "sub": "ada", "exp": NOW + 60 }))
    }

    pub(crate) fn with(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// As the inline key of a configuration.
    fn inline(&self) -> String {
        let members = self.jwk.as_object().unwrap().iter();
        let members: Vec<_> = members
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        format!("{{ {} }}", members.join(", "))
    }
}

/// `jwt` with these keys and algorithms, and more.
pub(crate) fn jwt(algorithms: &str, keys: &[&Signer], more: &str) -> String {
    let keys: Vec<_> = keys.iter().map(|key| key.inline()).collect();
    format!(
        "jwt = {{ algorithms = [{algorithms}], keys = [{}], {more} }}",
        keys.join(", ")
    )
}

pub(crate) async fn start(text: &str) -> Running {
    Running::start_with(text, |builder| builder.wall_clock(wall)).await
}

pub(crate) async fn ask(gateway: &Running, path: &str, token: &str) -> Answer {
    let fields = format!("authorization: Bearer {token}\r\n");
    gateway.raw(&head(&format!("GET {path}"), &fields)).await
}

pub(crate) const ROOT: [(&str, &str); 1] = [("/", "")];

#[tokio::test]
async fn a_token_of_each_algorithm_lets_in_and_a_changed_one_does_not() {
    let upstream = Upstream::start().await;
    let rsa = Signer::rsa("rsa", 2048);
    let again = |algorithm| Signer {
        algorithm,
        key: rsa.key.clone(),
        id: "rsa",
        jwk: rsa.jwk.clone(),
    };
    let signers = [
        again(Algorithm::RS256),
        again(Algorithm::RS512),
        again(Algorithm::PS256),
        Signer::elliptic("p256", Algorithm::ES256),
        Signer::elliptic("p384", Algorithm::ES384),
        Signer::edwards("ed"),
    ];
    let keys = [&signers[0], &signers[3], &signers[4], &signers[5]];
    let all = "\"RS256\", \"RS512\", \"PS256\", \"ES256\", \"ES384\", \"EdDSA\"";
    let gateway = start(&config(upstream.addr, &jwt(all, &keys, ""), &ROOT)).await;
    for signer in &signers {
        let token = signer.token();
        let answer = ask(&gateway, "/", &token).await;
        assert_eq!(answer.status, 200, "{:?}", signer.algorithm);
        let parts: Vec<&str> = token.split('.').collect();
        let other = BASE64.encode(json!({ "sub": "eve", "exp": NOW + 60 }).to_string());
        let zeros = BASE64.encode(vec![0; BASE64.decode(parts[2]).unwrap().len()]);
        for changed in [
            format!("{}.{other}.{}", parts[0], parts[2]),
            format!("{}.{}.{zeros}", parts[0], parts[1]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}", parts[0], parts[1]),
            format!("{token}.{}", parts[2]),
            format!("{token}="),
        ] {
            let answer = ask(&gateway, "/", &changed).await;
            assert_eq!(
                code(&answer),
                (401, "invalid_token".to_owned()),
                "{changed}"
            );
        }
    }
    assert_eq!(upstream.calls(), signers.len());

    let secret = Signer::secret("hs", &[7; 32]);
    let gateway = start(&config(
        upstream.addr,
        &jwt("\"HS256\"", &[&secret], ""),
        &ROOT,
    ))
    .await;
    assert_eq!(ask(&gateway, "/", &secret.token()).await.status, 200);
    let other = Signer::secret("hs", &[8; 32]);
    assert_eq!(ask(&gateway, "/", &other.token()).await.status, 401);
}

#[tokio::test]
async fn what_a_token_says_of_its_algorithm_and_key_is_not_believed() {
    let upstream = Upstream::start().await;
    let rsa = Signer::rsa("rsa", 2048);
    let ed = Signer::edwards("ed");
    let point = Signer::elliptic("ec", Algorithm::ES256);
    let all = "\"RS256\", \"EdDSA\"";
    let top = jwt(all, &[&rsa, &ed], "");
    let gateway = start(&config(upstream.addr, &top, &ROOT)).await;
    assert_eq!(ask(&gateway, "/", &rsa.token()).await.status, 200);
    let claims = json!({ "sub": "eve", "exp": NOW + 60 });
    let part = |value: &Value| BASE64.encode(value.to_string());
    let mut bad = Vec::new();
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({ "alg": none, "kid": "rsa" });
        bad.push(format!("{}.{}.", part(&header), part(&claims)));
        bad.push(rsa.sign_with(&header, &claims));
    }
    // The public key taken for a secret, in the forms it may have.
    let n = rsa.jwk["n"].as_str().unwrap();
    for public in [
        n.as_bytes().to_vec(),
        BASE64.decode(n).unwrap(),
        rsa.jwk.to_string().into(),
    ] {
        let hmac = Signer::secret("rsa", &public);
        bad.push(hmac.sign(&claims));
        let header = json!({ "alg": "RS256", "kid": "rsa" });
        bad.push(hmac.sign_with(&header, &claims));
    }
    // An algorithm that goes with the key and is not configured.
    let again = Signer {
        algorithm: Algorithm::RS256,
        key: rsa.key.clone(),
        id: "rsa",
        jwk: rsa.jwk.clone(),
    };
    bad.push(again.with(Algorithm::PS256).sign(&claims));
    bad.push(point.sign(&claims));
    // The key of one algorithm under the name of another, and keys that a token brings itself.
    bad.push(ed.sign_with(&json!({ "alg": "EdDSA", "kid": "rsa" }), &claims));
    let own = Signer::edwards("ed");
    bad.push(own.sign(&claims));
    bad.push(own.sign_with(&json!({ "alg": "EdDSA", "jwk": own.jwk }), &claims));
    bad.push(own.sign_with(
        &json!({ "alg": "EdDSA", "jku": "https://evil.test/jwks" }),
        &claims,
    ));
    // Extensions, which would have to be understood; a member that comes twice; no JSON.
    bad.push(ed.sign_with(
        &json!({ "alg": "EdDSA", "kid": "ed", "crit": ["b64"], "b64": false }),
        &claims,
    ));
    bad.push(ed.sign_with(&json!({ "alg": "EdDSA", "kid": "ed", "crit": [] }), &claims));
    bad.push(ed.sign_with(&json!({ "alg": ["EdDSA"], "kid": "ed" }), &claims));
    bad.push(ed.sign_with(&json!("EdDSA"), &claims));
    bad.push(ed.sign(&json!("ada")));
    bad.push("a.b.c".to_owned());
    bad.push("..".to_owned());
    bad.push("x".repeat(17_000));
    for token in bad {
        let answer = ask(&gateway, "/", &token).await;
        assert_eq!(code(&answer), (401, "invalid_token".to_owned()), "{token}");
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn claims_are_held_to_what_is_configured() {
    let upstream = Upstream::start().await;
    let ed = Signer::edwards("ed");
    let more = "issuers = [\"https://id.test\"], audiences = [\"shop\", \"pay\"], leeway = \"30s\", \
        required_claims = [\"sub\"], scopes = [\"read\", \"write\"], realm = \"shop\"";
    let top = jwt("\"EdDSA\"", &[&ed], more);
    let bare = jwt("\"EdDSA\"", &[&ed], "");
    let gateway = start(&config(upstream.addr, &top, &[("/", ""), ("/bare", &bare)])).await;
    let good = json!({ "sub": "ada", "iss": "https://id.test", "aud": "shop", "exp": NOW + 60,
        "scope": "read write" });
    for (claim, value, status) in [
        ("sub", json!("ada"), 200),
        ("sub", Value::Null, 401),
        ("exp", json!(NOW - 29), 200),
        ("exp", json!(NOW - 30), 401),
        ("exp", json!(NOW as f64 + 0.5), 200),
        ("exp", json!("2100-01-01"), 401),
        ("exp", Value::Null, 401),
        ("nbf", json!(NOW + 30), 200),
        ("nbf", json!(NOW + 31), 401),
        ("nbf", json!("now"), 401),
        ("iss", json!("https://id.test/"), 401),
        ("iss", json!(["https://id.test"]), 401),
        ("iss", Value::Null, 401),
        ("aud", json!("pay"), 200),
        ("aud", json!(["other", "pay"]), 200),
        ("aud", json!(["other"]), 401),
        ("aud", json!([]), 401),
        ("aud", json!({ "shop": true }), 401),
        ("aud", Value::Null, 401),
        ("scope", json!("write x read"), 200),
        ("scope", json!(["read", "write"]), 200),
        ("scope", json!("read writes"), 403),
        ("scope", json!("read"), 403),
        ("scope", Value::Null, 403),
    ] {
        let mut claims = good.clone();
        claims[claim] = value.clone();
        let answer = ask(&gateway, "/", &ed.sign(&claims)).await;
        assert_eq!(answer.status, status, "{claim} = {value}");
        if status == 403 {
            assert_eq!(code(&answer).1, "insufficient_scope");
            let wanted =
                "Bearer realm=\"shop\", error=\"insufficient_scope\", scope=\"read write\"";
            assert_eq!(answer.header("www-authenticate"), Some(wanted));
        }
    }
    for (claim, status) in [
        ("exp", 401),
        ("aud", 401),
        ("iss", 401),
        ("sub", 401),
        ("scope", 403),
    ] {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(claim);
        let answer = ask(&gateway, "/", &ed.sign(&claims)).await;
        assert_eq!(answer.status, status, "without {claim}");
    }
    // Where nothing is asked, a token for somebody else is still none.
    assert_eq!(ask(&gateway, "/bare", &ed.token()).await.status, 200);
    assert_eq!(ask(&gateway, "/bare", &ed.sign(&good)).await.status, 401);
    let expired = ed.sign(&json!({ "exp": NOW - 60 }));
    let answer = ask(&gateway, "/bare", &expired).await;
    let wanted = "Bearer realm=\"gateway\", error=\"invalid_token\", \
        error_description=\"the token has expired\"";
    assert_eq!(answer.header("www-authenticate"), Some(wanted));
    let metrics = gateway.handle.metrics();
    for (route, reason, count) in [
        ("/", "audience", 5),
        ("/", "scope", 4),
        ("/bare", "expired", 1),
    ] {
        let wanted =
            format!("auth_failures_total{{route=\"{route}\",reason=\"{reason}\"}} {count}");
        assert!(metrics.contains(&wanted), "{wanted}\n{metrics}");
    }
}

#[tokio::test]
async fn a_token_comes_in_authorization_or_in_a_cookie_that_is_named() {
    let upstream = Upstream::start().await;
    let ed = Signer::edwards("ed");
    let routes = [
        ("/", String::new()),
        ("/off", "jwt = false".to_owned()),
        ("/optional", jwt("\"EdDSA\"", &[&ed], "optional = true")),
        (
            "/cookie",
            jwt(
                "\"EdDSA\"",
                &[&ed],
                "cookie = \"sid\", forward_token = false",
            ),
        ),
    ];
    let routes: Vec<_> = routes
        .iter()
        .map(|(prefix, own)| (*prefix, own.as_str()))
        .collect();
    let top = jwt("\"EdDSA\"", &[&ed], "");
    let gateway = start(&config(upstream.addr, &top, &routes)).await;
    let token = ed.token();
    for (path, fields, status) in [
        ("/", String::new(), 401),
        ("/", format!("authorization: bearer  {token}\r\n"), 200),
        ("/", format!("authorization: Basic {token}\r\n"), 401),
        ("/", format!("authorization: {token}\r\n"), 401),
        ("/", "authorization: Bearer \r\n".to_owned(), 401),
        (
            "/",
            format!("authorization: Bearer {token}\r\nauthorization: Bearer {token}\r\n"),
            400,
        ),
        ("/", format!("cookie: sid={token}\r\n"), 401),
        ("/", format!("x-authorization: Bearer {token}\r\n"), 401),
        ("/off", String::new(), 200),
        ("/off", "authorization: Bearer x\r\n".to_owned(), 200),
        ("/optional", String::new(), 200),
        ("/optional", "authorization: Bearer x\r\n".to_owned(), 401),
        (
            "/optional",
            format!("authorization: Bearer {token}\r\n"),
            200,
        ),
        ("/cookie", format!("cookie: a=b; sid={token}; c=d\r\n"), 200),
        ("/cookie", format!("cookie: sid=x; sid={token}\r\n"), 400),
        ("/cookie", format!("cookie: xsid={token}\r\n"), 401),
        (
            "/cookie",
            format!("authorization: Bearer x\r\ncookie: sid={token}\r\n"),
            401,
        ),
    ] {
        let answer = gateway.raw(&head(&format!("GET {path}"), &fields)).await;
        assert_eq!(answer.status, status, "{path} {fields}");
    }
    let missing = gateway.get("/").await;
    assert_eq!(code(&missing), (401, "unauthenticated".to_owned()));
    assert_eq!(
        missing.header("www-authenticate"),
        Some("Bearer realm=\"gateway\"")
    );
    assert!(missing.json()["correlation_id"].is_string());
    // What the upstream sees of the token.
    let fields = format!("cookie: a=b; sid={token}; c=d\r\n");
    gateway.raw(&head("GET /cookie", &fields)).await;
    assert_eq!(upstream.last().header("cookie"), Some("a=b; c=d"));
    ask(&gateway, "/cookie", &token).await;
    assert_eq!(upstream.last().header("authorization"), None);
    ask(&gateway, "/", &token).await;
    assert!(upstream.last().header("authorization").is_some());
}

#[tokio::test]
async fn the_upstream_is_told_claims_that_no_client_can_forge() {
    let upstream = Upstream::start().await;
    let ed = Signer::edwards("ed");
    let more = "claim_headers = { sub = \"x-user\", roles = \"x-user-roles\", \
        \"/address/country\" = \"x-country\", age = \"x-age\" }, optional = true";
    let top = jwt("\"EdDSA\"", &[&ed], more);
    let gateway = start(&config(
        upstream.addr,
        &top,
        &[("/", ""), ("/off", "jwt = false")],
    ))
    .await;
    let forged =
        "x-user: root\r\nX_User: root\r\nx.user: root\r\nx-user-roles: admin\r\nx_country: x\r\n";
    let names = ["x-user", "x_user", "x.user", "x-user-roles", "x_country"];
    for path in ["/", "/off"] {
        let answer = gateway.raw(&head(&format!("GET {path}"), forged)).await;
        assert_eq!(answer.status, 200);
        for name in names {
            assert_eq!(upstream.last().header(name), None, "{path}");
        }
    }
    let claims = json!({ "sub": "ada", "roles": ["buyer", "seller"], "age": 36, "exp": NOW + 60,
        "address": { "country": "Köln" } });
    // Named in Connection, a field would be taken for one of this connection.
    let fields = format!(
        "authorization: Bearer {}\r\nconnection: x-user, x-country\r\n{forged}",
        ed.sign(&claims)
    );
    let request = format!("GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n{fields}\r\n");
    assert_eq!(gateway.raw(&request).await.status, 200);
    let seen = upstream.last();
    assert_eq!(seen.header("x-user"), Some("ada"));
    assert_eq!(seen.headers.get_all("x-user").iter().count(), 1);
    assert_eq!(seen.header("x-user-roles"), Some("buyer,seller"));
    assert_eq!(seen.header("x-age"), Some("36"));
    assert_eq!(seen.headers["x-country"].as_bytes(), "Köln".as_bytes());
    assert_eq!(seen.header("x_user"), None);
    // What cannot be told makes the token bad.
    for roles in [
        json!(["a,b"]),
        json!([["a"]]),
        json!({ "a": 1 }),
        json!("a\r\nx-user: root"),
        json!(["a", null]),
    ] {
        let claims = json!({ "sub": "ada", "roles": roles, "exp": NOW + 60 });
        let answer = ask(&gateway, "/", &ed.sign(&claims)).await;
        assert_eq!(answer.status, 401, "{roles}");
    }
}

#[tokio::test]
async fn trailers_do_not_tell_who_a_client_is() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let raw = listener.local_addr().unwrap();
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        while !(bytes.ends_with(b"\r\n\r\n") && bytes.windows(5).any(|five| five == b"\r\n0\r\n")) {
            let mut chunk = [0; 1024];
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(read) => bytes.extend_from_slice(&chunk[..read]),
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let ed = Signer::edwards("ed");
    let more = "claim_headers = { sub = \"x-user\" }, optional = true";
    let gateway = start(&config(raw, &jwt("\"EdDSA\"", &[&ed], more), &ROOT)).await;
    let request = head(
        "POST /",
        "transfer-encoding: chunked\r\ntrailer: x-user, x_user, x-sum\r\n",
    ) + "2\r\nhi\r\n0\r\nx-user: root\r\nx_user: root\r\nx-sum: 1\r\n\r\n";
    assert_eq!(gateway.raw(&request).await.status, 204);
    let seen = crate::support::soon(seen).await.unwrap();
    assert!(seen.contains("x-sum: 1"), "{seen}");
    assert!(!seen.contains("root"), "{seen}");
}

#[tokio::test]
async fn a_limit_by_claim_counts_a_consumer_wherever_it_comes_from() {
    let upstream = Upstream::start().await;
    let ed = Signer::edwards("ed");
    let top = jwt("\"EdDSA\"", &[&ed], "optional = true")
        + "\nrate_limit = { requests = 2, window = \"1h\", key = { claim = \"sub\" } }";
    let clock = ManualClock::new();
    let text = config(upstream.addr, &top, &ROOT);
    let gateway = Running::start_with(&text, |builder| builder.clock(clock).wall_clock(wall)).await;
    let token = |sub: Value| ed.sign(&json!({ "sub": sub, "exp": NOW + 60 }));
    let from = async |address: &str, token: &str| {
        let fields = format!("authorization: Bearer {token}\r\n");
        gateway
            .raw_from(address, &head("GET /", &fields))
            .await
            .status
    };
    let (ada, eve) = (token(json!("ada")), token(json!(7)));
    assert_eq!(from("127.0.0.1", &ada).await, 200);
    // A bad token costs nobody anything.
    assert_eq!(from("127.0.0.1", "x").await, 401);
    assert_eq!(from("127.0.0.2", &ada).await, 200);
    assert_eq!(from("127.0.0.3", &ada).await, 429);
    assert_eq!(from("127.0.0.3", &eve).await, 200);
    // Without a token it is the address that counts.
    for (address, status) in [
        ("127.0.0.3", 200),
        ("127.0.0.3", 200),
        ("127.0.0.3", 429),
        ("127.0.0.4", 200),
    ] {
        assert_eq!(
            gateway.raw_from(address, &head("GET /", "")).await.status,
            status
        );
    }
    let metrics = gateway.handle.metrics();
    let wanted = "rate_limit_rejected_total{limit=\"claim:sub\"} 2";
    assert!(metrics.contains(wanted), "{metrics}");
}

/// An issuer that answers what it is told to.
struct Issuer {
    server: Upstream,
    answer: Arc<Mutex<(u16, String)>>,
}

impl Issuer {
    async fn start(keys: &[&Signer]) -> Self {
        let answer = Arc::new(Mutex::new((200, set(keys))));
        let told = Arc::clone(&answer);
        let server = Upstream::answering(move |_| {
            let (status, body) = told.lock().clone();
            let response = Response::builder().status(status);
            response.body(Full::from(body)).unwrap()
        })
        .await;
        Self { server, answer }
    }

    fn tell(&self, status: u16, body: impl Into<String>) {
        *self.answer.lock() = (status, body.into());
    }
}

fn set(keys: &[&Signer]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| &key.jwk).collect();
    json!({ "keys": keys }).to_string()
}

fn fetched(issuer: SocketAddr, more: &str) -> String {
    format!(
        "jwt = {{ algorithms = [\"EdDSA\", \"ES256\"], jwks_url = \"http://{issuer}/keys\", \
         refresh = \"10m\", max_age = \"1h\", min_interval = \"10s\", {more} }}"
    )
}

async fn start_at(text: &str, clock: &ManualClock) -> Running {
    let clock = clock.clone();
    Running::start_with(text, |builder| builder.clock(clock).wall_clock(wall)).await
}

#[tokio::test]
async fn keys_are_fetched_once_and_anew_before_they_are_old() {
    let upstream = Upstream::start().await;
    let (old, new) = (
        Signer::edwards("old"),
        Signer::elliptic("new", Algorithm::ES256),
    );
    let issuer = Issuer::start(&[&old]).await;
    let clock = ManualClock::new();
    let text = config(upstream.addr, &fetched(issuer.server.addr, ""), &ROOT);
    let gateway = start_at(&text, &clock).await;
    let tokens: Vec<_> = (0..20).map(|_| old.token()).collect();
    let all = tokens.iter().map(|token| ask(&gateway, "/", token));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(answer.status, 200);
    }
    assert_eq!(issuer.server.calls(), 1);
    assert_eq!(issuer.server.last().target, "/keys");
    clock.advance(Duration::from_secs(599));
    assert_eq!(ask(&gateway, "/", &old.token()).await.status, 200);
    assert_eq!(issuer.server.calls(), 1);
    // Old enough: the request is served by what is known, and new keys are fetched aside.
    issuer.tell(200, set(&[&old, &new]));
    clock.advance(Duration::from_secs(1));
    assert_eq!(ask(&gateway, "/", &old.token()).await.status, 200);
    until(|| issuer.server.calls() == 2).await;
    assert_eq!(ask(&gateway, "/", &new.token()).await.status, 200);
    assert_eq!(issuer.server.calls(), 2);
    // Another configuration finds the keys again.
    let next = crate::support::parsed(&(text + "idle_timeout = \"7s\"\n"));
    let handle = gateway.handle.clone();
    let report = tokio::task::spawn_blocking(move || handle.reload(next))
        .await
        .unwrap();
    assert!(report.reason.is_none(), "{report:?}");
    assert_eq!(ask(&gateway, "/", &new.token()).await.status, 200);
    assert_eq!(issuer.server.calls(), 2);
}

#[tokio::test]
async fn a_key_that_is_not_known_is_asked_for_and_not_too_often() {
    let upstream = Upstream::start().await;
    let (old, new, never) = (
        Signer::edwards("old"),
        Signer::edwards("new"),
        Signer::edwards("never"),
    );
    let issuer = Issuer::start(&[&old]).await;
    let clock = ManualClock::new();
    let text = config(upstream.addr, &fetched(issuer.server.addr, ""), &ROOT);
    let gateway = start_at(&text, &clock).await;
    assert_eq!(ask(&gateway, "/", &old.token()).await.status, 200);
    // Within the least interval the issuer's last word holds.
    issuer.tell(200, set(&[&new]));
    assert_eq!(ask(&gateway, "/", &new.token()).await.status, 401);
    assert_eq!(issuer.server.calls(), 1);
    clock.advance(Duration::from_secs(10));
    let tokens: Vec<_> = (0..10).map(|_| new.token()).collect();
    let all = tokens.iter().map(|token| ask(&gateway, "/", token));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(answer.status, 200);
    }
    assert_eq!(issuer.server.calls(), 2);
    // The key that was taken back is not believed any more.
    assert_eq!(ask(&gateway, "/", &old.token()).await.status, 401);
    for _ in 0..5 {
        clock.advance(Duration::from_secs(2));
        assert_eq!(ask(&gateway, "/", &never.token()).await.status, 401);
    }
    assert_eq!(issuer.server.calls(), 3);
}

#[tokio::test]
async fn known_keys_are_used_while_the_issuer_is_down_and_not_for_ever() {
    let upstream = Upstream::start().await;
    let (ed, other) = (Signer::edwards("ed"), Signer::edwards("other"));
    let issuer = Issuer::start(&[&ed]).await;
    let clock = ManualClock::new();
    let text = config(upstream.addr, &fetched(issuer.server.addr, ""), &ROOT);
    let gateway = start_at(&text, &clock).await;
    assert_eq!(ask(&gateway, "/", &ed.token()).await.status, 200);
    let mut calls = 1;
    let rsa = json!({ "keys": [{ "kty": "RSA", "n": "AQ", "e": "AQAB" }] }).to_string();
    let secret = json!({ "keys": [Signer::secret("ed", &[1; 32]).jwk] }).to_string();
    for (status, body) in [
        (500, set(&[&other])),
        (200, "<html>".to_owned()),
        (200, "{\"keys\": 1}".to_owned()),
        (200, "{\"keys\": []}".to_owned()),
        (200, rsa),
        (200, secret),
        (302, String::new()),
        (
            200,
            format!("{{\"keys\": [], \"x\": \"{}\"}}", "x".repeat(1 << 20)),
        ),
    ] {
        issuer.tell(status, body.clone());
        clock.advance(Duration::from_secs(if calls == 1 { 600 } else { 10 }));
        // Whether it is the issuer's key nobody can say now.
        let answer = ask(&gateway, "/", &other.token()).await;
        assert_eq!(
            code(&answer),
            (503, "auth_unavailable".to_owned()),
            "{status} {body:.40}"
        );
        assert!(answer.header("retry-after").is_some());
        assert_eq!(
            ask(&gateway, "/", &ed.token()).await.status,
            200,
            "{status} {body:.40}"
        );
        calls += 1;
        assert_eq!(issuer.server.calls(), calls);
    }
    // Dead for good.
    drop(issuer);
    clock.advance(Duration::from_secs(3600 - 600 - 71));
    assert_eq!(ask(&gateway, "/", &ed.token()).await.status, 200);
    clock.advance(Duration::from_secs(1));
    let answer = ask(&gateway, "/", &ed.token()).await;
    assert_eq!(code(&answer), (503, "auth_unavailable".to_owned()));
    // Without a token there is nothing to check.
    assert_eq!(gateway.get("/").await.status, 401);
    let metrics = gateway.handle.metrics();
    assert!(
        metrics.contains("jwt_key_fetches_total{result=\"ok\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("auth_failures_total{route=\"/\",reason=\"unavailable\"} 9"),
        "{metrics}"
    );
}

#[tokio::test]
async fn without_keys_nobody_is_let_in_until_the_issuer_answers() {
    let upstream = Upstream::start().await;
    let ed = Signer::edwards("ed");
    let clock = ManualClock::new();
    // Nobody there.
    let text = config(
        upstream.addr,
        &fetched(nobody().await, "optional = true"),
        &ROOT,
    );
    let gateway = start_at(&text, &clock).await;
    for _ in 0..3 {
        let answer = ask(&gateway, "/", &ed.token()).await;
        assert_eq!(code(&answer), (503, "auth_unavailable".to_owned()));
    }
    assert_eq!(upstream.calls(), 0);
    // One that takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = silent.local_addr().unwrap();
    let text = config(upstream.addr, &fetched(addr, "timeout = \"100ms\""), &ROOT);
    let gateway = start_at(&text, &clock).await;
    let answer = ask(&gateway, "/", &ed.token()).await;
    assert_eq!(code(&answer), (503, "auth_unavailable".to_owned()));
    assert_eq!(upstream.calls(), 0);
    // It comes to itself.
    let listening = silent;
    let body = set(&[&ed]);
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listening.accept().await else {
                return;
            };
            let body = body.clone();
            tokio::spawn(async move {
                use tokio::io::AsyncWriteExt;
                let _ = crate::support::read_head(&mut stream).await;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    clock.advance(Duration::from_secs(10));
    let mut answer = ask(&gateway, "/", &ed.token()).await;
    // 100 ms may be too short for a busy machine; then it is asked again.
    for _ in 0..50 {
        if answer.status == 200 {
            break;
        }
        clock.advance(Duration::from_secs(10));
        answer = ask(&gateway, "/", &ed.token()).await;
    }
    assert_eq!(answer.status, 200);
}

#[cfg(all(feature = "http2", feature = "tls"))]
#[tokio::test]
async fn keys_come_over_tls_from_an_issuer_that_is_verified() {
    use crate::upstream_tls::Authority;
    use tokio::io::AsyncWriteExt;

    let upstream = Upstream::start().await;
    let ed = Signer::edwards("ed");
    let (authority, other) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.issue("localhost");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let body = set(&[&ed]);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = [0; 4096];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut head).await;
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    for (authority, status) in [(&authority, 200), (&other, 503)] {
        let file = authority.file();
        let top = format!(
            "jwt = {{ algorithms = [\"EdDSA\"], jwks_url = \"https://localhost:{port}/keys\", ca_file = {:?} }}",
            file.0
        );
        let gateway = start(&config(upstream.addr, &top, &ROOT)).await;
        assert_eq!(ask(&gateway, "/", &ed.token()).await.status, status);
    }
}

#[tokio::test]
async fn keys_come_from_a_file_or_a_variable_and_no_refusal_shows_them() {
    let upstream = Upstream::start().await;
    let secret = Signer::secret("hs", &[7; 32]);
    let name = format!("gateway-jwks-{}.json", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, set(&[&secret])).unwrap();
    let top = format!("jwt = {{ algorithms = [\"HS256\"], keys_file = {file:?} }}");
    let text = config(upstream.addr, &top, &ROOT);
    let gateway = start(&text).await;
    assert_eq!(ask(&gateway, "/", &secret.token()).await.status, 200);
    std::fs::write(&file, set(&[&secret]).replace("oct", "okt")).unwrap();
    let refused = gateway_kit::Config::from_toml(&format!("listen = \"127.0.0.1:0\"\n{text}"));
    let refused = refused.unwrap_err().to_string();
    std::fs::remove_file(&file).unwrap();
    assert!(
        refused.contains("jwt.keys_file") && refused.contains("has a key that"),
        "{refused}"
    );

    let mut plain = crate::support::parsed(&config(upstream.addr, "", &ROOT));
    let ed = Signer::edwards("ed");
    let keys = set(&[&ed]);
    plain
        .apply_env(|name| (name == "AUTH_KEYS").then(|| keys.clone()))
        .unwrap();
    assert_eq!(plain.jwt.as_ref().unwrap().keys.len(), 1);
    for bad in [
        "",
        "{}",
        "{\"keys\": []}",
        "{\"keys\": [{\"kty\": \"oct\", \"k\": \"AAAA\"}]}",
    ] {
        let refused = plain.apply_env(|name| (name == "AUTH_KEYS").then(|| bad.to_owned()));
        let refused = refused.expect_err(bad).to_string();
        assert!(!refused.contains("AAAA"), "{refused}");
    }
    let gateway = gateway_kit::Gateway::builder(plain)
        .wall_clock(wall)
        .bind()
        .await
        .unwrap();
    let addr = gateway.local_addr();
    let task = tokio::spawn(gateway.serve(std::future::pending()));
    for (token, status) in [(ed.token(), "200"), (secret.token(), "401")] {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        let request = head("GET /", &format!("authorization: Bearer {token}\r\n"));
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        crate::support::soon(stream.read_to_string(&mut answer))
            .await
            .unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
    task.abort();
}

#[test]
fn settings_by_which_tokens_could_be_forged_are_refused() {
    let ed = Signer::edwards("ed");
    let key = ed.inline();
    let secret = Signer::secret("hs", &[1; 31]);
    let short = secret.inline();
    let private = key.replace("{ ", "{ d = \"AAAA\", ");
    for (settings, wanted) in [
        (
            format!("algorithms = [], keys = [{key}]"),
            "jwt.algorithms = []: needs",
        ),
        (
            format!("algorithms = [\"none\"], keys = [{key}]"),
            "jwt.algorithms[0] = \"none\": unknown variant",
        ),
        (
            format!("algorithms = [\"HS256\", \"EdDSA\"], keys = [{key}]"),
            "jwt.algorithms = [\"HS256\", \"EdDSA\"]: must not have HS256",
        ),
        (
            "algorithms = [\"HS256\"], jwks_url = \"https://id.test/keys\"".to_owned(),
            "jwt.algorithms = [\"HS256\"]: must not have HS256",
        ),
        (
            "algorithms = [\"EdDSA\"]".to_owned(),
            "jwt.jwks_url: needs exactly one",
        ),
        (
            format!("algorithms = [\"EdDSA\"], keys = [{key}], jwks_url = \"http://id.test/\""),
            "jwt.jwks_url = \"http://id.test/\": needs exactly one",
        ),
        (
            "algorithms = [\"EdDSA\"], jwks_url = \"ftp://id.test/\"".to_owned(),
            "jwt.jwks_url = \"ftp://id.test/\": must be",
        ),
        (
            format!("algorithms = [\"RS256\"], keys = [{key}]"),
            "goes with none of the algorithms",
        ),
        (
            format!("algorithms = [\"HS256\"], keys = [{short}]"),
            "is too short",
        ),
        (
            format!("algorithms = [\"EdDSA\"], keys = [{private}]"),
            "is a private key",
        ),
        (
            "algorithms = [\"EdDSA\"], keys = [{ kty = \"EC\" }]".to_owned(),
            "jwt.keys[0]",
        ),
        (
            "algorithms = [\"EdDSA\"], keys_file = \"/nowhere/keys.json\"".to_owned(),
            "jwt.keys_file = \"/nowhere/keys.json\": cannot be read",
        ),
        (
            format!(
                "algorithms = [\"EdDSA\"], keys = [{key}], claim_headers = {{ sub = \"X-Forwarded-For\" }}"
            ),
            "jwt.claim_headers.sub = \"X-Forwarded-For\": must not be",
        ),
        (
            format!(
                "algorithms = [\"EdDSA\"], keys = [{key}], claim_headers = {{ sub = \"content_length\" }}"
            ),
            "jwt.claim_headers.sub = \"content_length\": must not be",
        ),
        (
            format!("algorithms = [\"EdDSA\"], keys = [{key}], leeway = \"1h\""),
            "jwt.leeway = \"1h\": must",
        ),
        (
            format!("algorithms = [\"EdDSA\"], keys = [{key}], max_age = \"1m\""),
            "jwt.max_age = \"1m\": must",
        ),
        (
            format!("algorithms = [\"EdDSA\"], keys = [{key}], cookie = \"a b\""),
            "jwt.cookie = \"a b\": must",
        ),
        (
            format!("algorithms = [\"EdDSA\"], keys = [{key}], expires = true"),
            "unknown field `expires`",
        ),
    ] {
        let text = config(
            ([127, 0, 0, 1], 1).into(),
            &format!("jwt = {{ {settings} }}"),
            &ROOT,
        );
        let refused = gateway_kit::Config::from_toml(&text)
            .expect_err(wanted)
            .to_string();
        assert!(refused.contains(wanted), "{refused}");
        assert!(
            !refused.contains(secret.jwk["k"].as_str().unwrap()),
            "{refused}"
        );
    }
    let good = jwt("\"EdDSA\"", &[&ed], "");
    let hidden = config(([127, 0, 0, 1], 1).into(), &good, &ROOT);
    let shown = format!("{:?}", gateway_kit::Config::from_toml(&hidden).unwrap());
    assert!(shown.contains("Ed25519"), "{shown}");
    let secret = Signer::secret("hs", &[1; 32]);
    let hidden = config(
        ([127, 0, 0, 1], 1).into(),
        &jwt("\"HS256\"", &[&secret], ""),
        &ROOT,
    );
    let shown = format!("{:?}", gateway_kit::Config::from_toml(&hidden).unwrap());
    assert!(
        !shown.contains(secret.jwk["k"].as_str().unwrap()),
        "{shown}"
    );
}

#[cfg(feature = "cache")]
#[tokio::test]
async fn what_one_user_gets_is_not_kept_for_another() {
    let upstream = Upstream::answering(|seen| {
        let user = seen.header("x-user").unwrap_or("nobody").to_owned();
        let control = match seen.target.as_str() {
            "/open" => "public, max-age=60",
            _ => "max-age=60",
        };
        Response::builder()
            .header("cache-control", control)
            // `NOW`: an answer of another time would be old.
            .header("date", "Wed, 18 May 2033 03:33:20 GMT")
            .body(Full::from(user))
            .unwrap()
    })
    .await;
    let key = Signer::secret("a", &[7; 32]);
    // The upstream sees no `Authorization`: nothing in its request says that it is of one user.
    let more = "claim_headers = { sub = \"x-user\" }, forward_token = false, optional = true";
    let text = format!(
        "{}\n{}[cache]\n",
        jwt("\"HS256\"", &[&key], more),
        crate::support::routed(&[upstream.addr])
    );
    let gateway = start(&text).await;
    let token = |user: &str| key.sign(&json!({ "sub": user, "exp": NOW + 60 }));
    for user in ["ada", "ben", "ada"] {
        assert_eq!(ask(&gateway, "/mine", &token(user)).await.body, user);
    }
    assert_eq!(gateway.raw(&head("GET /mine", "")).await.body, "nobody");
    assert_eq!(ask(&gateway, "/mine", &token("ada")).await.body, "ada");
    assert_eq!(upstream.calls(), 5);
    assert_eq!(upstream.seen.lock()[0].header("authorization"), None);
    // An upstream that says so means all.
    for user in ["ada", "ben"] {
        assert_eq!(ask(&gateway, "/open", &token(user)).await.body, "ada");
    }
}
