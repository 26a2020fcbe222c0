//! Each scheme with the libraries that know it.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use webhook_verify::{Scheme, Secret, presets};

use crate::{
    bodies::{self, Takes},
    driver::Language::{self, Node, Php, Python},
    keys::{KeyPair, KeyPairs, hex},
};

#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) scheme: Scheme,
    pub(crate) key: Keys,
    /// Somebody else's.
    pub(crate) stranger: Keys,
    pub(crate) id: &'static str,
    /// The URL that is called for a body.
    pub(crate) url: fn(&[u8]) -> String,
    pub(crate) content_type: fn(&[u8]) -> &'static str,
    /// Bodies of the provider's own form, instead of those that a library takes.
    pub(crate) bodies: Option<fn() -> Vec<Vec<u8>>>,
    /// What of a body is signed, so that a change must be seen.
    pub(crate) changed: fn(&[u8]) -> Vec<Vec<u8>>,
    /// The header that takes several signatures, and what stands between them.
    pub(crate) list: Option<(&'static str, char)>,
    /// Headers that a signer sets and does not sign.
    pub(crate) unsigned: &'static [&'static str],
    /// Further settings of the libraries.
    pub(crate) settings: Value,
    pub(crate) peers: Vec<Peer>,
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) language: Language,
    pub(crate) library: &'static str,
    pub(crate) signs: bool,
    pub(crate) verifies: bool,
    /// Whether it refuses what is an hour old.
    pub(crate) looks_at_time: bool,
    pub(crate) takes: Takes,
}

/// The same key in the forms of either side.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    /// None: keys of this kind do not sign here.
    pub(crate) signs: Option<Secret>,
    pub(crate) verifies: Secret,
    pub(crate) theirs_signs: String,
    pub(crate) theirs_verifies: String,
}

pub(crate) fn all(keys: &KeyPairs) -> Vec<Provider> {
    let mut all = standard();
    all.extend(payments(keys));
    all.extend(platforms(keys));
    all.extend(messages(keys));
    all
}

const HOOK: &str = "https://example.com/hook?a=1&b=x%20y";

fn standard() -> Vec<Provider> {
    let family = |scheme: Scheme, header, node_takes| {
        let whsec = |byte: u8| format!("whsec_{}", STANDARD.encode([byte; 32]));
        let library = if scheme.name() == "svix" {
            "svix"
        } else {
            "standardwebhooks"
        };
        let peers = vec![
            both(Python, library, Takes::Text).in_time(),
            both(Node, library, node_takes).in_time(),
        ];
        Provider {
            list: Some((header, ' ')),
            ..provider(scheme, &whsec(0xfb), &whsec(0x2f), peers)
        }
    };
    vec![
        family(
            presets::standard_webhooks(),
            "webhook-signature",
            Takes::Text,
        ),
        family(presets::svix(), "svix-signature", Takes::Json),
    ]
}

fn payments(keys: &KeyPairs) -> Vec<Provider> {
    let hex_key = |byte: &str| byte.repeat(32);
    vec![
        Provider {
            list: Some(("stripe-signature", ',')),
            ..text(
                presets::stripe(),
                vec![
                    both(Python, "stripe", Takes::Text).in_time(),
                    both(Node, "stripe", Takes::SomeText).in_time(),
                ],
            )
        },
        text(
            presets::square(HOOK),
            vec![verifies(Python, "squareup", Takes::SomeText)],
        ),
        Provider {
            list: Some(("paddle-signature", ';')),
            ..text(
                presets::paddle(),
                vec![
                    both(Python, "paddle-python-sdk", Takes::Text).in_time(),
                    verifies(Node, "@paddle/paddle-node-sdk", Takes::Text).in_time(),
                ],
            )
        },
        text(
            presets::razorpay(),
            vec![
                verifies(Python, "razorpay", Takes::Text),
                verifies(Node, "razorpay", Takes::Text),
            ],
        ),
        Provider {
            bodies: Some(bodies::adyen),
            changed: |body| {
                let names = [
                    "pspReference\"",
                    "merchantReference\"",
                    "value\"",
                    "success\"",
                ];
                bodies::changed_in(body, &names)
            },
            ..provider(
                presets::adyen(),
                &hex_key("5a"),
                &hex_key("a5"),
                vec![
                    both(Python, "Adyen", Takes::Json),
                    both(Node, "@adyen/api-library", Takes::Json),
                ],
            )
        },
        Provider {
            unsigned: &["protocol"],
            ..provider(
                presets::adyen_platform(),
                &hex_key("5a"),
                &hex_key("a5"),
                vec![
                    both(Python, "Adyen", Takes::Bytes),
                    both(Node, "@adyen/api-library", Takes::Text),
                ],
            )
        },
        text(
            presets::paytabs_callback(),
            vec![both(Php, PAYTABS, Takes::Bytes)],
        ),
        Provider {
            content_type: |_| FORM,
            bodies: Some(bodies::paytabs_return),
            changed: |body| bodies::changed_in(body, &["tranRef=", "respMessage=", "signature="]),
            ..text(
                presets::paytabs_return(),
                vec![both(Php, PAYTABS, Takes::Text)],
            )
        },
        Provider {
            id: WEBHOOK,
            unsigned: &["paypal-cert-url"],
            ..pairs(
                presets::paypal(WEBHOOK).unwrap(),
                &keys.rsa,
                vec![signs(Python, "paypalrestsdk", Takes::Text)],
            )
        },
    ]
}

const WEBHOOK: &str = "4JH86294D6297924G";
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
/// The calls of PayTabs' library, in its order.
const PAYTABS: &str = "the calls of PayTabs' library";

fn platforms(keys: &KeyPairs) -> Vec<Provider> {
    vec![
        text(
            presets::github(),
            vec![
                verifies(Python, "gidgethub", Takes::Bytes),
                both(Node, "@octokit/webhooks-methods", Takes::SomeText),
            ],
        ),
        text(
            presets::slack(),
            vec![
                both(Python, "slack_sdk", Takes::Text).in_time(),
                verifies(Node, "@slack/bolt", Takes::Text).in_time(),
            ],
        ),
        text(
            presets::shopify(),
            vec![verifies(Node, "@shopify/shopify-api", Takes::SomeText)],
        ),
        text(
            presets::zoom(),
            vec![verifies(Node, "@zoom/rivet", Takes::CompactJson)],
        ),
        Provider {
            bodies: Some(bodies::linear),
            ..text(
                presets::linear(),
                vec![verifies(Node, "@linear/sdk", Takes::Json)],
            )
        },
        of_keys(
            presets::discord(),
            keys.ed25519.each_ref().map(raw),
            vec![
                signs(Python, "PyNaCl", Takes::Bytes),
                verifies(Python, "discord-interactions", Takes::Bytes),
                verifies(Node, "discord-interactions", Takes::Bytes),
            ],
        ),
        of_keys(
            presets::standard_webhooks(),
            keys.ed25519.each_ref().map(raw),
            vec![both(Python, "PyNaCl", Takes::Bytes)],
        ),
        Provider {
            content_type: |_| FORM,
            bodies: Some(bodies::twilio_form),
            ..text(presets::twilio(HOOK).unwrap(), twilio())
        },
        Provider {
            content_type: |_| FORM,
            bodies: Some(bodies::twilio_form),
            unsigned: &["x-twilio-webhooks-signature-settings"],
            ..text(
                presets::twilio_shared_key(HOOK).unwrap(),
                vec![both(Python, "twilio", Takes::Text)],
            )
        },
        Provider {
            url: |body| {
                format!(
                    "https://example.com/hook?bodySHA256={}",
                    hex(&Sha256::digest(body))
                )
            },
            ..text(presets::twilio("https://example.com").unwrap(), twilio())
        },
        Provider {
            content_type: |body| if body.starts_with(b"{") { JSON } else { FORM },
            bodies: Some(bodies::mailgun),
            changed: |body| {
                bodies::changed_in(body, &["timestamp", "token", "signature=", "ure\":\""])
            },
            id: "a8ce0edb2dd8301dee6c2405235584e45aa91d1e9f979f3de0",
            ..text(
                presets::mailgun(),
                vec![verifies(Python, "mailgun", Takes::Text).in_time()],
            )
        },
        of_keys(
            presets::sendgrid(),
            keys.p256.each_ref().map(sendgrid),
            vec![
                verifies(Python, "sendgrid", Takes::Text),
                both(Node, "@sendgrid/eventwebhook", Takes::Text),
            ],
        ),
    ]
}

fn twilio() -> Vec<Peer> {
    vec![
        both(Python, "twilio", Takes::Text),
        both(Node, "twilio", Takes::Text),
    ]
}

fn messages(keys: &KeyPairs) -> Vec<Provider> {
    const LIBRARY: &str = "http-message-signatures";
    let origin = || presets::http_message("https://example.com");
    let peers = || {
        vec![
            both(Python, LIBRARY, Takes::Bytes).in_time(),
            both(Node, LIBRARY, Takes::Bytes).in_time(),
        ]
    };
    // The salt of its RSASSA-PSS is longer than the RFC has it.
    let mut not_by_node = peers();
    not_by_node[1].signs = false;
    let [key, stranger] = [[1; 64], [2; 64]].map(|key| STANDARD.encode(key));
    let scheme = || origin().build().unwrap();
    let of = |alg: &str, provider: Provider| Provider {
        settings: json!({"alg": alg, "components": ["@method", "@authority", "@path", "@query"]}),
        ..provider
    };
    vec![
        of("hmac-sha256", provider(scheme(), &key, &stranger, peers())),
        of("ed25519", pairs(scheme(), &keys.ed25519, peers())),
        of("ecdsa-p256-sha256", pairs(scheme(), &keys.p256, peers())),
        of(
            "rsa-v1_5-sha256",
            pairs(origin().rsa_v1_5().build().unwrap(), &keys.rsa, peers()),
        ),
        of("rsa-pss-sha512", pairs(scheme(), &keys.rsa, not_by_node)),
    ]
}

/// Under a key in text.
fn text(scheme: Scheme, peers: Vec<Peer>) -> Provider {
    provider(
        scheme,
        "pdl_ntf_key with blanks, ünicode",
        "another key",
        peers,
    )
}

/// Under a shared key.
fn provider(scheme: Scheme, key: &str, stranger: &str, peers: Vec<Peer>) -> Provider {
    let keys = [key, stranger].map(|text| {
        let secret = scheme.secret("k", text).unwrap();
        Keys {
            signs: Some(secret.clone()),
            verifies: secret,
            theirs_signs: text.to_owned(),
            theirs_verifies: text.to_owned(),
        }
    });
    of_keys(scheme, keys, peers)
}

/// Under a key pair in PEM; RSA keys do not sign here.
fn pairs(scheme: Scheme, pairs: &[KeyPair; 2], peers: Vec<Peer>) -> Provider {
    let keys = pairs.each_ref().map(|pair| Keys {
        signs: Secret::pem("k", &pair.private).ok(),
        verifies: Secret::pem("k", &pair.public).unwrap(),
        theirs_signs: pair.private.clone(),
        theirs_verifies: pair.public.clone(),
    });
    of_keys(scheme, keys, peers)
}

fn sendgrid(pair: &KeyPair) -> Keys {
    Keys {
        signs: Some(Secret::pem("k", &pair.private).unwrap()),
        verifies: Secret::spki("k", &pair.spki()).unwrap(),
        theirs_signs: pair.traditional.clone(),
        theirs_verifies: pair.spki(),
    }
}

/// The bytes of the keys in hex.
fn raw(pair: &KeyPair) -> Keys {
    let [private, public] = pair.ed25519_hex();
    Keys {
        signs: Some(Secret::pem("k", &pair.private).unwrap()),
        verifies: Secret::ed25519_hex("k", &public).unwrap(),
        theirs_signs: private,
        theirs_verifies: public,
    }
}

fn of_keys(scheme: Scheme, [key, stranger]: [Keys; 2], peers: Vec<Peer>) -> Provider {
    Provider {
        scheme,
        key,
        stranger,
        id: "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
        url: |_| HOOK.to_owned(),
        content_type: |_| JSON,
        bodies: None,
        changed: bodies::changed,
        list: None,
        unsigned: &[],
        settings: json!({}),
        peers,
    }
}

const fn peer(language: Language, library: &'static str, takes: Takes) -> Peer {
    Peer {
        language,
        library,
        signs: false,
        verifies: false,
        looks_at_time: false,
        takes,
    }
}

const fn both(language: Language, library: &'static str, takes: Takes) -> Peer {
    Peer {
        signs: true,
        verifies: true,
        ..peer(language, library, takes)
    }
}

const fn signs(language: Language, library: &'static str, takes: Takes) -> Peer {
    Peer {
        signs: true,
        ..peer(language, library, takes)
    }
}

const fn verifies(language: Language, library: &'static str, takes: Takes) -> Peer {
    Peer {
        verifies: true,
        ..peer(language, library, takes)
    }
}

impl Peer {
    const fn in_time(mut self) -> Self {
        self.looks_at_time = true;
        self
    }
}
