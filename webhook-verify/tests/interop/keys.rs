//! Key pairs, made for each run by a library of others.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::driver::Driver;

/// One pair of each kind, and one of a stranger.
#[derive(Debug)]
pub(crate) struct KeyPairs {
    pub(crate) ed25519: [KeyPair; 2],
    pub(crate) p256: [KeyPair; 2],
    pub(crate) rsa: [KeyPair; 2],
}

/// In PEM.
#[derive(Clone, Debug)]
pub(crate) struct KeyPair {
    /// PKCS#8.
    pub(crate) private: String,
    /// The form of its own that the kind of key has (`EC PRIVATE KEY`).
    pub(crate) traditional: String,
    /// `SubjectPublicKeyInfo`.
    pub(crate) public: String,
}

impl KeyPairs {
    pub(crate) fn ask(python: &mut Driver) -> Self {
        let mut pair = |kind: &str| {
            let answer = python.ask(&json!({"op": "keys", "kind": kind})).unwrap();
            let text = |name: &str| answer[name].as_str().unwrap().to_owned();
            KeyPair {
                private: text("private"),
                traditional: text("traditional"),
                public: text("public"),
            }
        };
        let mut pairs = |kind| [pair(kind), pair(kind)];
        Self {
            ed25519: pairs("ed25519"),
            p256: pairs("p256"),
            rsa: pairs("rsa"),
        }
    }
}

impl KeyPair {
    /// Base64 of the public key's DER on one line.
    pub(crate) fn spki(&self) -> String {
        body(&self.public)
    }

    /// The 32 bytes of an Ed25519 key stand at the end of either form.
    pub(crate) fn ed25519_hex(&self) -> [String; 2] {
        [&self.private, &self.public].map(|pem| {
            let der = STANDARD.decode(body(pem)).unwrap();
            hex(&der[der.len() - 32..])
        })
    }
}

fn body(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with('-')).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
