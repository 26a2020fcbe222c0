//! Webhooks: ours and the peers', each with its key made ready as far as its interface allows.

use http::request::Parts;
use http::{HeaderMap, Request};
use webhook_verify::clock::{SystemClock, WallClock};
use webhook_verify::{Scheme, Secret, Signer, Verifier, presets};
use webhook_verify_peer::{Provider, Secret as RegistrySecret, VerifyOptions};

/// The key, as Standard Webhooks writes it and as text elsewhere.
pub const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The presets that are measured.
#[must_use]
pub fn schemes() -> [Scheme; 5] {
    [
        presets::paytabs_callback(),
        presets::timestamped(),
        presets::standard_webhooks(),
        presets::stripe(),
        presets::github(),
    ]
}

/// A delivery of `body` signed now, and our verifier that accepts it.
#[must_use]
pub fn signed(scheme: &Scheme, body: &[u8]) -> (Parts, Verifier) {
    let secret = || -> Secret {
        let secret = scheme.secret("bench", KEY);
        secret.expect("the key is well formed")
    };
    let (mut parts, ()) = Request::post("/")
        .body(())
        .expect("the request is well formed")
        .into_parts();
    let signer = Signer::new(scheme.clone(), secret());
    parts.headers = signer
        .sign_with_id("msg_1", SystemClock.now(), body)
        .expect("id and time are well formed");
    let verifier = Verifier::builder(scheme.clone())
        .secret(secret())
        .body_limit(1 << 20)
        .build()
        .expect("these settings fit together");
    (parts, verifier)
}

/// The crate of the specification's authors.
#[must_use]
pub fn standardwebhooks() -> standardwebhooks::Webhook {
    standardwebhooks::Webhook::new(KEY).expect("the key is well formed")
}

/// The schemes that `webhook-verify` of the registry has as well, by our names.
pub const REGISTRY: [(&str, &str, Provider); 3] = [
    (
        "standard_webhooks",
        "registry_standard_webhooks",
        Provider::StandardWebhooks,
    ),
    ("stripe", "registry_stripe", Provider::Stripe),
    ("github", "registry_github", Provider::GitHub),
];

/// One call of `webhook-verify` of the registry, which absorbs the key each time.
pub fn registry(provider: Provider) -> impl Fn(&HeaderMap, &[u8]) -> bool {
    let secret = RegistrySecret::new(KEY);
    move |headers, body| {
        let options = VerifyOptions::default();
        webhook_verify_peer::verify(provider, headers, body, &secret, options).is_ok()
    }
}
