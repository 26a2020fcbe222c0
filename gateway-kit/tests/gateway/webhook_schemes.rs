//! Deliveries of many schemes on a route: those of one's own, those by public keys, several keys,
//! and what several gateways remember together. The vectors are those of webhook-verify.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use gateway_kit::Config;
use webhook_verify::{Encoding, Hash, Part, Scheme, Secret, Signer, TimeUnit, presets};

use crate::support::{Answer, Running, Upstream};

const NOW: u64 = 1_700_000_000;

/// A file that is removed again.
struct Text(PathBuf);

impl Text {
    fn new(name: &str, text: &str) -> Self {
        let unique = format!("gateway-scheme-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(unique);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    /// As one of `secrets`.
    fn key(&self, id: &str) -> String {
        format!("{{ id = \"{id}\", file = \"{}\" }}", self.0.display())
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn config(upstream: &Upstream, webhook: &str) -> String {
    format!(
        "[upstream.shop]\nendpoints = [\"http://{}\"]\n\
         [[route]]\nname = \"hooks\"\nprefix = \"/hooks\"\nupstream = \"shop\"\n\
         strip_prefix = true\n[route.webhook]\n{webhook}",
        upstream.addr,
    )
}

async fn start_at(config: &str, now: u64) -> Running {
    let now = Arc::new(AtomicU64::new(now));
    start_by(config, &now).await
}

async fn start_by(config: &str, now: &Arc<AtomicU64>) -> Running {
    let now = Arc::clone(now);
    Running::start_with(config, |builder| {
        builder.wall_clock(move || {
            SystemTime::UNIX_EPOCH + Duration::from_secs(now.load(Ordering::SeqCst))
        })
    })
    .await
}

async fn deliver(gateway: &Running, fields: &[(&str, &str)], body: &str) -> Answer {
    let fields = fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    let fields: String = fields.collect();
    let length = body.len();
    let raw = format!(
        "POST /hooks/in?a=1 HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\
         content-length: {length}\r\n{fields}\r\n{body}"
    );
    gateway.raw(&raw).await
}

/// What `signer` says of a delivery to `/hooks/in?a=1`, each field as a pair.
fn signed(signer: &Signer, fields: &[(&str, &str)], body: &str) -> Vec<(String, String)> {
    let mut request = http::Request::post("/hooks/in?a=1").body(()).unwrap();
    for (name, value) in fields {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let (parts, ()) = request.into_parts();
    let at = Duration::from_secs(NOW);
    let signed = signer.sign_request(&parts, None, at, body.as_bytes());
    let signed = signed.unwrap();
    let own = fields
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    let signed = signed
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    own.chain(signed).collect()
}

fn pairs(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    let pairs = fields.iter().map(|(name, value)| (&**name, &**value));
    pairs.collect()
}

const SLACK: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
const SLACK_AT: u64 = 1_531_420_618;

/// The published value of Slack, by a scheme that is written into the configuration.
#[tokio::test]
async fn a_scheme_of_ones_own_takes_a_published_delivery_and_no_other() {
    let upstream = Upstream::start().await;
    let key = Text::new("slack", "8f742231b10e8888abcd99yyyzzz85a5\n");
    let webhook = format!(
        "provider = \"custom\"\nsecrets = [{}]\ntolerance = \"5m\"\n\
         [route.webhook.scheme]\nheader = \"X-Slack-Signature\"\nlabel = \"v0=\"\n\
         signs = \"v0:{{timestamp}}:{{body}}\"\n\
         timestamp = {{ header = \"x-slack-request-timestamp\" }}\n",
        key.key("slack"),
    );
    let now = Arc::new(AtomicU64::new(SLACK_AT + 301));
    let gateway = start_by(&config(&upstream, &webhook), &now).await;
    let at = SLACK_AT.to_string();
    let fields = [
        ("x-slack-request-timestamp", &*at),
        (
            "x-slack-signature",
            "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        ),
    ];
    // Too late, to the second.
    assert_eq!(deliver(&gateway, &fields, SLACK).await.status, 401);
    now.store(SLACK_AT + 300, Ordering::SeqCst);
    assert_eq!(deliver(&gateway, &fields, SLACK).await.status, 200);
    assert_eq!(upstream.last().body, SLACK);
    let other = SLACK.replace("foobar", "foobaz");
    assert_eq!(deliver(&gateway, &fields, &other).await.status, 401);
    let later = (SLACK_AT + 1).to_string();
    let moved = [(fields[0].0, &*later), fields[1]];
    assert_eq!(deliver(&gateway, &moved, SLACK).await.status, 401);
    assert_eq!(deliver(&gateway, &fields[1..], SLACK).await.status, 401);
    let unlabelled = [fields[0], (fields[1].0, &fields[1].1[3..])];
    assert_eq!(deliver(&gateway, &unlabelled, SLACK).await.status, 401);
    assert_eq!(upstream.calls(), 1);
}

/// Each setting of a scheme, against a signer of webhook-verify that was told the same.
#[tokio::test]
async fn each_part_of_a_scheme_is_what_it_says() {
    let shop = http::HeaderName::from_static("x-shop");
    let custom = |hash, encoding| {
        let one = Scheme::custom("own").signature_header("x-own");
        one.hmac(hash, "").encoding(encoding)
    };
    let schemes = [
        (
            "algorithm = \"hmac_sha512\"\n",
            custom(Hash::Sha512, Encoding::Hex),
        ),
        (
            "algorithm = \"hmac_sha1\"\nencoding = \"base64\"\n",
            custom(Hash::Sha1, Encoding::Base64),
        ),
        (
            // The form of HubSpot's third version.
            "encoding = \"base64\"\n\
             signs = \"{method}https://hooks.example{target}{header:x-shop}{body}{timestamp}\"\n\
             timestamp = { header = \"x-time\", unit = \"milliseconds\", digits = 13 }\n",
            custom(Hash::Sha256, Encoding::Base64)
                .timestamp_header("x-time")
                .timestamp_unit(TimeUnit::Milliseconds)
                .signs([
                    Part::Method,
                    Part::literal("https://hooks.example"),
                    Part::Target,
                    Part::Header(shop),
                    Part::Body,
                    Part::Timestamp,
                ]),
        ),
        (
            "separator = \",\"\nlabel = \"v1=\"\nsigns = \"{timestamp}.{body}\"\n\
             timestamp = { label = \"t=\" }\n",
            custom(Hash::Sha256, Encoding::Hex)
                .list(',')
                .label("v1=")
                .timestamp_in_signature("t=")
                .signs([Part::Timestamp, Part::literal("."), Part::Body]),
        ),
    ];
    let key = Text::new("parts", "key");
    let shop = [("x-shop", "one.example")];
    for (settings, scheme) in schemes {
        let upstream = Upstream::start().await;
        let webhook = format!(
            "provider = \"custom\"\nsecrets = [{}]\n\
             [route.webhook.scheme]\nheader = \"x-own\"\n{settings}",
            key.key("k"),
        );
        let gateway = start_at(&config(&upstream, &webhook), NOW).await;
        let signer = Signer::new(scheme.build().unwrap(), Secret::new("k", "key").unwrap());
        let good = signed(&signer, &shop, "{}");
        let mut other = good.clone();
        other[0].1 = "two.example".to_owned();
        let covers_shop = settings.contains("x-shop");
        if covers_shop {
            let refused = deliver(&gateway, &pairs(&other), "{}").await;
            assert_eq!(refused.status, 401, "{settings}");
        }
        let refused = deliver(&gateway, &pairs(&good), "{ }").await;
        assert_eq!(refused.status, 401, "{settings}");
        let taken = deliver(&gateway, &pairs(&good), "{}").await;
        assert_eq!(taken.status, 200, "{settings}: {taken:?}");
        // Once.
        assert_eq!(deliver(&gateway, &pairs(&good), "{}").await.status, 200);
        assert_eq!(upstream.calls(), 1, "{settings}");
    }
}

#[tokio::test]
async fn any_of_several_keys_is_good_until_it_ends() {
    let upstream = Upstream::start().await;
    let (old, new) = (Text::new("old", "old"), Text::new("new", "new"));
    let end = NOW + 100;
    let old_key = old.key("old").replace(" }", &format!(", until = {end} }}"));
    let webhook = format!(
        "provider = \"timestamped_body_only\"\nsecrets = [{}, {old_key}]\nreplay = false\n",
        new.key("new"),
    );
    let now = Arc::new(AtomicU64::new(NOW));
    let gateway = start_by(&config(&upstream, &webhook), &now).await;
    let by = |key: &str| {
        let secret = Secret::new("k", key).unwrap();
        signed(
            &Signer::new(presets::timestamped_body_only(), secret),
            &[],
            "{}",
        )
    };
    let (by_old, by_new, by_other) = (by("old"), by("new"), by("other"));
    for (at, old) in [(NOW, 200), (end - 1, 200), (end, 401), (end + 1000, 401)] {
        now.store(at, Ordering::SeqCst);
        for (fields, status) in [(&by_old, old), (&by_new, 200), (&by_other, 401)] {
            let answer = deliver(&gateway, &pairs(fields), "{}").await;
            assert_eq!(answer.status, status, "{at}");
        }
    }
}

/// The addresses that a provider names count behind a proxy too, by what a believed one says.
#[tokio::test]
async fn the_sender_is_who_a_trusted_proxy_says() {
    let upstream = Upstream::start().await;
    let key = Text::new("sender", "key");
    let webhook = format!(
        "provider = \"timestamped_body_only\"\nsecrets = [{}]\nreplay = false\n\
         allow = [\"192.0.2.0/29\", \"2001:db8::/32\"]\n",
        key.key("k"),
    );
    let config = config(&upstream, &webhook);
    let config = format!("trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n{config}");
    let gateway = start_at(&config, NOW).await;
    let secret = Secret::new("k", "key").unwrap();
    let signer = Signer::new(presets::timestamped_body_only(), secret);
    let mut calls = 0;
    for (forwarded, status) in [
        ("192.0.2.7", 200),
        ("192.0.2.8", 403),
        ("2001:db8::1", 200),
        ("::ffff:192.0.2.1", 200),
        ("192.0.2.7, 198.51.100.1", 403),
        ("198.51.100.1, 192.0.2.7", 200),
        ("192.0.2.7, 10.0.0.1", 200),
        ("", 403),
    ] {
        let mut fields = signed(&signer, &[], "{}");
        if !forwarded.is_empty() {
            fields.push(("x-forwarded-for".to_owned(), forwarded.to_owned()));
        }
        let answer = deliver(&gateway, &pairs(&fields), "{}").await;
        assert_eq!(answer.status, status, "{forwarded}");
        calls += usize::from(status == 200);
        assert_eq!(upstream.calls(), calls, "{forwarded}");
    }
}

#[cfg(feature = "webhook-keys")]
mod keys {
    use super::*;

    const PAYPAL_KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAyF4MCY9RPrzzizQO3t5x
bEaUKuxtQhXKAjXkYBSBkX3eIrbdowUT3x139Xnlzg0OlcEzD+q1WKyNxwULuUmU
WSjt4ACz4gVk3M+RYVaL2A8/3fw7WrAOS+5dcZkTPhhjxHvw9xEz3sspuhkwLiM0
dY7tQbkkJVZyK3CCwx6xWaNEcqhR9XjS96GH4M/mQr/lh+ua4UutFaMIiwG9pbAE
XJCdj/MCiKbN2FMQKlRuUifR+PbngQyNNcBMxP/ufSfLPRk4ZmzE6j+seDJ3gHBj
dUz4phnfcGZW8MKwmA7QqKhQ3MTFYLw/N7j6yIpxcEyDl8Ot0Er/P/gDbmsAXDSQ
6wIDAQAB
-----END PUBLIC KEY-----
";
    const PAYPAL_AT: u64 = 1_431_963_913;
    const PAYPAL_BODY: &str = include_str!("../../../webhook-verify/tests/vectors/paypal-1.body");
    const PAYPAL: [(&str, &str); 4] = [
        (
            "paypal-transmission-id",
            "dfb3be50-fd74-11e4-8bf3-77339302725b",
        ),
        ("paypal-transmission-time", "2015-05-18T15:45:13Z"),
        (
            "paypal-transmission-sig",
            "thy4/U002quzxFavHPwbfJGcc46E8rc5jzgyeafWm5mICTBdY/8rl7WJpn8JA0GKA+oDTPsSruqusw+XXg5RLAP7ip53Euh9Xu3UbUhQFX7UgwzE2FeYoY6lyRMiiiQLzy9BvHfIzNIVhPad4KnC339dr6y2l+mN8ALgI4GCdIh3/SoJO5wE64Bh/ueWtt8EVuvsvXfda2Le5a2TrOI9vLEzsm9GS79hAR/5oLexNz8UiZr045Mr5ObroH4w4oNfmkTaDk9Rj0G19uvISs5QzgmBpauKr7Nw++JI0pr/v5mFctQkoWJSGfBGzPRXawrvIIVHQ9Wer48GR2g9ZiApWg==",
        ),
        ("paypal-auth-algo", "SHA256withRSA"),
    ];

    #[tokio::test]
    async fn a_delivery_of_paypal_passes_by_a_key_in_a_file_and_once() {
        let upstream = Upstream::start().await;
        let key = Text::new("paypal", PAYPAL_KEY);
        let webhook = |id: &str| {
            let key = key.key("sandbox");
            format!("provider = \"paypal\"\nwebhook_id = \"{id}\"\nsecrets = [{key}]\n")
        };
        let config = |id: &str| super::config(&upstream, &webhook(id));
        let gateway = start_at(&config("4JH86294D6297924G"), PAYPAL_AT).await;
        let deliver = |body: &'static str| deliver(&gateway, &PAYPAL, body);
        assert_eq!(deliver("{}").await.status, 401);
        assert_eq!(deliver(PAYPAL_BODY).await.status, 200);
        assert_eq!(upstream.last().body, PAYPAL_BODY);
        // A body with the same checksum, of somebody who has seen the delivery: its id was taken.
        let forged =
            include_str!("../../../webhook-verify/tests/vectors/paypal-1-forged-same-crc.body");
        assert_eq!(deliver(forged).await.status, 200);
        assert_eq!(upstream.calls(), 1);
        // Of another webhook of the same account.
        let other = start_at(&config("9XL90610J3647323C"), PAYPAL_AT).await;
        let answer = super::deliver(&other, &PAYPAL, PAYPAL_BODY).await;
        assert_eq!(answer.status, 401);
        assert_eq!(upstream.calls(), 1);
    }

    const SENDGRID_KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";
    const OTHER_KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqTxd43gyp8IOEto2LdIfjRQrIbsd4SXZkLW6jDutdhXSJCWHw8REntlo7aNDthvj+y7GjUuFDb/R1NGe1OPzpA==";
    const SENDGRID_BODY: &str =
        include_str!("../../../webhook-verify/tests/vectors/sendgrid-single.body");
    const SENDGRID: [(&str, &str); 2] = [
        (
            "x-twilio-email-event-webhook-signature",
            "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=",
        ),
        ("x-twilio-email-event-webhook-timestamp", "1600112502"),
    ];

    #[tokio::test]
    async fn a_delivery_of_sendgrid_passes_by_a_key_in_the_configuration() {
        for (key, status) in [(SENDGRID_KEY, 200), (OTHER_KEY, 401)] {
            let upstream = Upstream::start().await;
            let webhook = format!(
                "provider = \"sendgrid\"\nsecrets = [{{ id = \"k\", public_key = \"{key}\" }}]\n"
            );
            let gateway = start_at(&config(&upstream, &webhook), 1_600_112_502).await;
            let answer = deliver(&gateway, &SENDGRID, SENDGRID_BODY).await;
            assert_eq!(answer.status, status);
            assert_eq!(upstream.calls(), usize::from(status == 200));
            let longer = format!("{SENDGRID_BODY} ");
            assert_eq!(deliver(&gateway, &SENDGRID, &longer).await.status, 401);
        }
    }

    const ED25519: &str = include_str!("../../../webhook-verify/tests/vectors/keys/ed25519.pem");
    const ED25519_PUBLIC: &str =
        include_str!("../../../webhook-verify/tests/vectors/keys/ed25519.pub.pem");
    const P256: &str = include_str!("../../../webhook-verify/tests/vectors/keys/p256.pem");
    const P256_PUBLIC: &str =
        include_str!("../../../webhook-verify/tests/vectors/keys/p256.pub.pem");

    /// Discord, and a scheme of one's own, by the same key in PEM.
    #[tokio::test]
    async fn ed25519_signatures_pass_of_providers_and_of_ones_own() {
        let own = Scheme::custom("own")
            .signature_header("x-own")
            .ed25519("")
            .encoding(Encoding::Base64)
            .timestamp_header("x-time")
            .signs([Part::Timestamp, Part::literal("\n"), Part::Body]);
        let settings = "provider = \"custom\"\nSECRETS\n[route.webhook.scheme]\nheader = \"x-own\"\n\
             algorithm = \"ed25519\"\nkey_format = \"ed25519_hex\"\nencoding = \"base64\"\n\
             timestamp = { header = \"x-time\" }\nsigns = \"{timestamp}\\n{body}\"\n";
        for (settings, scheme) in [
            ("provider = \"discord\"\nSECRETS\n", presets::discord()),
            (settings, own.build().unwrap()),
        ] {
            let upstream = Upstream::start().await;
            let secrets =
                format!("secrets = [{{ id = \"k\", public_key = '''{ED25519_PUBLIC}''' }}]");
            let webhook = settings.replace("SECRETS", &secrets);
            let gateway = start_at(&config(&upstream, &webhook), NOW).await;
            let signer = Signer::new(scheme, Secret::pem("k", ED25519).unwrap());
            let fields = signed(&signer, &[], "{}");
            assert_eq!(deliver(&gateway, &pairs(&fields), "{ }").await.status, 401);
            assert_eq!(deliver(&gateway, &pairs(&fields), "{}").await.status, 200);
            assert_eq!(upstream.calls(), 1);
        }
    }

    /// The route takes its prefix off, and what was signed is the path as it came.
    #[tokio::test]
    async fn http_message_signatures_pass_for_this_receiver_only() {
        let scheme = |origin| presets::http_message(origin).build().unwrap();
        for (secret, key) in [
            (
                Secret::pem("k", P256).unwrap(),
                format!("public_key = '''{P256_PUBLIC}'''"),
            ),
            (
                Secret::pem("k", ED25519).unwrap(),
                format!("public_key = '''{ED25519_PUBLIC}'''"),
            ),
        ] {
            let upstream = Upstream::start().await;
            let webhook = |id: &str, more: &str| {
                format!(
                    "provider = \"http_message\"\nurl = \"https://hooks.example\"\n\
                     secrets = [{{ id = \"{id}\", {key} }}]\n{more}"
                )
            };
            let gateway = start_at(&config(&upstream, &webhook("k", "")), NOW).await;
            let signer = Signer::new(scheme("https://hooks.example"), secret.clone());
            let fields = signed(&signer, &[("x-shop", "one")], "{}");
            assert_eq!(deliver(&gateway, &pairs(&fields), "{ }").await.status, 401);
            assert_eq!(deliver(&gateway, &pairs(&fields), "{}").await.status, 200);
            assert_eq!(upstream.last().target, "/in?a=1");
            // Made for another receiver that has the same key.
            let signer = Signer::new(scheme("https://other.example"), secret);
            let other = signed(&signer, &[], "{}");
            assert_eq!(deliver(&gateway, &pairs(&other), "{}").await.status, 401);
            // By a key of another name, and without a field that has to be signed.
            for webhook in [
                webhook("other", ""),
                webhook("k", "message = { fields = [\"x-shop\"] }\n"),
                webhook("k", "message = { tag = \"shop\" }\n"),
            ] {
                let gateway = start_at(&config(&upstream, &webhook), NOW).await;
                assert_eq!(deliver(&gateway, &pairs(&fields), "{}").await.status, 401);
            }
            assert_eq!(upstream.calls(), 1);
        }
    }

    #[tokio::test]
    async fn a_private_key_is_refused_wherever_it_stands() {
        let upstream = Upstream::start().await;
        let key = Text::new("private", ED25519);
        let webhook = format!("provider = \"discord\"\nsecrets = [{}]\n", key.key("k"));
        let text = format!("listen = \"127.0.0.1:0\"\n{}", config(&upstream, &webhook));
        let error = gateway_kit::Gateway::builder(Config::from_toml(&text).unwrap())
            .check()
            .unwrap_err()
            .to_string();
        assert!(error.contains("secret k: is a private key"), "{error}");
        let inline = format!(
            "provider = \"discord\"\nsecrets = [{{ id = \"k\", public_key = '''{ED25519}''' }}]\n"
        );
        let error = super::refused(&inline);
        assert!(
            error.contains("route[0].webhook.secrets[0]: public_key is a private key"),
            "{error}"
        );
        assert!(!error.contains("BEGIN"), "{error}");
    }
}

#[cfg(feature = "webhook-redis")]
mod redis {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::process::{Child, ChildStdout, Command, Stdio};

    use super::*;

    /// A real one, gone at the end.
    struct Redis {
        url: String,
        process: Child,
        // Kept open: the server writes its log there.
        _log: BufReader<ChildStdout>,
    }

    impl Redis {
        fn start() -> Self {
            // It cannot be asked for any free port; one that was just free is taken by somebody else
            // only now and then.
            let mut tries = 0..20;
            let started = tries.find_map(|_| Self::launch());
            started.expect("redis-server finds no free port")
        }

        fn launch() -> Option<Self> {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = socket.local_addr().unwrap().port();
            drop(socket);
            let mut process = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
                .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("redis-server is missing: run `make deps`");
            let mut log = BufReader::new(process.stdout.take().unwrap());
            let mut line = String::new();
            while log.read_line(&mut line).is_ok_and(|read| read > 0) {
                if line.contains("Ready to accept connections") {
                    return Some(Self {
                        url: format!("redis://127.0.0.1:{port}"),
                        process,
                        _log: log,
                    });
                }
                line.clear();
            }
            let _ = process.kill();
            let _ = process.wait();
            None
        }

        fn kill(&mut self) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }

    impl Drop for Redis {
        fn drop(&mut self) {
            self.kill();
        }
    }

    #[tokio::test]
    async fn what_one_gateway_has_taken_the_other_one_knows() {
        let mut redis = Redis::start();
        let upstream = Upstream::start().await;
        let (key, url) = (Text::new("shared", "key"), Text::new("url", &redis.url));
        let webhook = |redis: &str| {
            let key = key.key("k");
            format!(
                "provider = \"timestamped\"\nsecrets = [{key}]\nreplay = {{ redis = {{ {redis}, timeout = \"10s\" }} }}\n"
            )
        };
        let by_url = config(&upstream, &webhook(&format!("url = \"{}\"", redis.url)));
        let by_file = config(
            &upstream,
            &webhook(&format!("file = \"{}\"", url.0.display())),
        );
        let (first, second) = (start_at(&by_url, NOW).await, start_at(&by_file, NOW).await);
        let signer = Signer::new(presets::timestamped(), Secret::new("k", "key").unwrap());
        let fields = signed(&signer, &[], "{}");
        assert_eq!(deliver(&first, &pairs(&fields), "{}").await.status, 200);
        for gateway in [&second, &first] {
            let again = deliver(gateway, &pairs(&fields), "{}").await;
            assert_eq!((again.status, again.body.as_str()), (200, ""));
        }
        assert_eq!(upstream.calls(), 1);
        // Another prefix is another memory, and so is a route of another name.
        let apart = webhook(&format!("url = \"{}\", prefix = \"b:\"", redis.url));
        let apart = start_at(&config(&upstream, &apart), NOW).await;
        assert_eq!(deliver(&apart, &pairs(&fields), "{}").await.status, 200);
        let other = by_url.replace("name = \"hooks\"", "name = \"other\"");
        let other = start_at(&other, NOW).await;
        assert_eq!(deliver(&other, &pairs(&fields), "{}").await.status, 200);
        assert_eq!(upstream.calls(), 3);

        // Without it nothing passes, unless somebody has said so.
        redis.kill();
        let other = signed(&signer, &[], "{\"a\":1}");
        let answer = deliver(&first, &pairs(&other), "{\"a\":1}").await;
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (503, Some("webhook_unavailable"))
        );
        assert!(answer.header("retry-after").is_some());
        assert_eq!(upstream.calls(), 3);
        let open = format!("url = \"{}\", insecure_accept_on_outage = true", redis.url);
        let open = start_at(&config(&upstream, &webhook(&open)), NOW).await;
        let answer = deliver(&open, &pairs(&other), "{\"a\":1}").await;
        assert_eq!(answer.status, 200);
        assert_eq!(upstream.calls(), 4);
    }

    #[test]
    fn an_address_with_a_password_is_refused_and_not_shown() {
        for (redis, part) in [
            (
                "url = \"redis://:hunter2@h:1\"",
                "replay.redis: url must not have a password",
            ),
            (
                "prefix = \"a\"",
                "replay.redis: needs either url, or env, the name of a variable, or file",
            ),
            ("url = \"redis://h\", env = \"E\"", "needs either url"),
            (
                "url = \"redis://h\", timeout = \"0s\"",
                "replay.redis.timeout = \"0s\": must be from \"1ms\"",
            ),
        ] {
            let error = refused(&format!(
                "provider = \"github\"\nsecrets = [{{ id = \"k\", env = \"K\" }}]\nreplay = {{ redis = {{ {redis} }} }}\n"
            ));
            assert!(error.contains(part), "{redis}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let upstream = "[upstream.a]\nendpoints = [\"http://a:1\"]\n[[route]]\nprefix = \"/\"\nupstream = \"a\"\n";
        let url = Text::new("bad-url", "http://:hunter2@h");
        let text = format!(
            "{upstream}[route.webhook]\nprovider = \"github\"\nsecrets = [{{ id = \"k\", file = \"{0}\" }}]\nreplay = {{ redis = {{ file = \"{0}\" }} }}\n",
            url.0.display()
        );
        let config = Config::from_toml(&text).unwrap();
        assert!(config.files().contains(&url.0));
        let error = gateway_kit::Gateway::builder(config).check();
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("replay.redis: the Redis URL cannot be read")
                && !error.contains("hunter2"),
            "{error}"
        );
    }
}

/// What is said of `[route.webhook]`.
fn refused(webhook: &str) -> String {
    let text = format!(
        "[upstream.a]\nendpoints = [\"http://a:1\"]\n[[route]]\nprefix = \"/\"\nupstream = \"a\"\n\
         [route.webhook]\n{webhook}"
    );
    let refused = Config::from_toml(&text).map(drop);
    refused.expect_err(webhook).to_string()
}

#[test]
fn settings_that_make_no_scheme_are_refused_by_name() {
    let secret = "secrets = [{ id = \"a\", env = \"A\" }]\n";
    let custom = |more: &str| {
        format!("provider = \"custom\"\n{secret}[route.webhook.scheme]\nheader = \"x-a\"\n{more}")
    };
    for (settings, part) in [
        (
            format!("provider = \"custom\"\n{secret}"),
            "route[0].webhook.scheme: is missing; a table",
        ),
        (
            format!("provider = \"github\"\n{secret}scheme = {{ header = \"x-a\" }}\n"),
            "route[0].webhook.scheme: is of no use here",
        ),
        (
            format!("provider = \"github\"\n{secret}message = {{}}\n"),
            "route[0].webhook.message: is of http_message only",
        ),
        (
            format!("provider = \"github\"\n{secret}webhook_id = \"a\"\n"),
            "route[0].webhook.webhook_id = \"a\": is of no use here",
        ),
        (
            format!("provider = \"github\"\n{secret}tolerance = \"5m\"\n"),
            "route[0].webhook.tolerance = \"5m\": is of no use here: no time is signed",
        ),
        (
            format!("provider = \"http_message\"\n{secret}"),
            "route[0].webhook.url: is missing; the origin",
        ),
        (
            format!("provider = \"http_message\"\nurl = \"hooks.example\"\n{secret}"),
            "route[0].webhook.url = \"hooks.example\": the URL cannot be used",
        ),
        (
            custom("algorithm = \"md5\"\n"),
            "route[0].webhook.scheme.algorithm = \"md5\": unknown variant `md5`, expected one of `hmac_sha256`",
        ),
        (
            custom("encoding = \"base32\"\n"),
            "scheme.encoding = \"base32\"",
        ),
        (
            custom("separator = \"=\"\n"),
            "scheme.separator = \"=\": separator '=' is not one of",
        ),
        (custom("separator = \",\"\n"), "scheme.label"),
        (custom("label = \"a b\"\n"), "scheme.label = \"a b\": label"),
        (
            custom("signs = \"{date}.{body}\"\n"),
            "scheme.signs = \"{date}.{body}\": has {date}; there are {body}, {timestamp}",
        ),
        (
            custom("signs = \"{body\"\n"),
            "scheme.signs = \"{body\": has a \"{\" without a \"}\"",
        ),
        (
            custom("signs = \"{header:a b}{body}\"\n"),
            "has {header:a b}",
        ),
        (
            custom("signs = \"\"\n"),
            "scheme.signs = \"\": the signed parts must hold the body exactly once",
        ),
        (
            custom("signs = \"{timestamp}.{body}\"\n"),
            "the timestamp is used but no header holds it",
        ),
        (
            custom("timestamp = { header = \"x-t\" }\n"),
            "the timestamp is read but not signed",
        ),
        (
            custom("timestamp = { header = \"x-t\" }\nsigns = \"{timestamp}{body}\"\n"),
            "has nothing between {timestamp} and another part",
        ),
        (
            custom(
                "timestamp = { header = \"x-t\", digits = 13 }\nsigns = \"{timestamp}{body}\"\n",
            ),
            "scheme.timestamp.digits = 13: a timestamp of exactly 13 digits",
        ),
        (
            custom(
                "timestamp = { header = \"x-t\", label = \"t=\" }\nsigns = \"{timestamp}.{body}\"\n",
            ),
            "scheme.timestamp: needs either header",
        ),
        (
            custom("timestamp = { label = \"t=\" }\nsigns = \"{timestamp}.{body}\"\n"),
            "scheme.timestamp.label = \"t=\": a timestamp in the signature header needs a list",
        ),
        (
            custom("id_header = \"x-a\"\nsigns = \"{id}.{body}\"\n"),
            "scheme.header = \"x-a\": header `x-a` is used twice",
        ),
        (
            custom("id_header = \"x-i\"\n"),
            "the id is read but not signed",
        ),
    ] {
        let error = refused(&settings);
        assert!(error.contains(part), "{settings}: {error}");
    }
}

/// A secret may stand where none belongs; nobody is shown it.
#[test]
fn a_secret_in_the_configuration_is_refused_and_not_shown() {
    for settings in [
        "provider = \"standard_webhooks\"\nsecrets = [{ id = \"a\", public_key = \"whsec_aHVudGVyMg==\" }]\n",
        "provider = \"github\"\nsecrets = [{ id = \"a\", public_key = \"aHVudGVyMg==\" }]\n",
        "provider = \"github\"\nsecrets = [{ id = \"a\", key = \"aHVudGVyMg==\" }]\n",
        "provider = \"github\"\nsecrets = \"aHVudGVyMg==\"\n",
        "provider = \"github\"\nsecret = \"aHVudGVyMg==\"\n",
        "provider = \"github\"\nreplay = { redis = { uri = \"redis://:aHVudGVyMg@h\" } }\n",
        "provider = \"github\"\nreplay = { redis = \"redis://:aHVudGVyMg@h\" }\n",
        "provider = \"github\"\nreplay = \"redis://:aHVudGVyMg@h\"\n",
    ] {
        let error = refused(settings);
        assert!(!error.contains("aHVudGVyMg"), "{error}");
        assert!(error.contains("route[0].webhook"), "{error}");
    }
}
