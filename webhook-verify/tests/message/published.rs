//! The requests of RFC 9421, with their own keys.

use super::*;

const VECTORS: &str = include_str!("../vectors/rfc9421.json");

fn key(all: &Json, algorithm: &str, id: &str) -> Option<Secret> {
    let text = all["public_keys"][id].as_str().unwrap();
    match algorithm {
        "hmac-sha256" => Some(Secret::base64(id, text).unwrap()),
        #[cfg(feature = "ed25519")]
        "ed25519" => {
            let der = text.lines().nth(1).unwrap();
            let der = STANDARD.decode(der).unwrap();
            let key = der.last_chunk().unwrap();
            Some(Secret::ed25519_public(id, key).unwrap())
        }
        #[cfg(feature = "ecdsa")]
        "ecdsa-p256-sha256" => Some(Secret::pem(id, text).unwrap()),
        #[cfg(feature = "rsa")]
        "rsa-pss-sha512" => Some(Secret::pem(id, text).unwrap()),
        _ => None,
    }
}

#[test]
fn signatures_of_the_rfc_have_its_answers() {
    let all: Json = serde_json::from_str(VECTORS).unwrap();
    let mut seen = 0;
    for vector in all["vectors"].as_array().unwrap() {
        let get = |name: &str| vector[name].as_str().unwrap();
        let message = &vector["message"];
        let key = key(&all, get("alg"), get("keyid"));
        let (Some(key), Some(method)) = (key, message["method"].as_str()) else {
            continue;
        };
        let target = message["target"].as_str().unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header("signature-input", get("signature_input"))
            .header("signature", get("signature"));
        let mut origin = String::new();
        for header in message["headers"].as_array().unwrap() {
            let [name, value] = [0, 1].map(|at| header[at].as_str().unwrap());
            request = request.header(name, value);
            if name == "Host" {
                origin = format!("https://{value}");
            }
        }
        let parts = request.body(()).unwrap().into_parts().0;
        let body = message["body"].as_str().unwrap().as_bytes();
        let scheme = presets::http_message(&origin).insecure_any_components();
        let verifier = verifier_at(&scheme.build().unwrap(), &[&key], 1_618_884_475);
        let expected = match (get("name"), vector["valid"].as_bool().unwrap()) {
            // Signs nothing: the one rule in which we differ.
            ("B.2.1", _) => Err(Reason::NotCovered("@method".into())),
            (_, true) => Ok(()),
            (_, false) => Err(Reason::SignatureMismatch),
        };
        assert_eq!(verify(&verifier, &parts, body), expected, "{}", get("name"));
        seen += 1;
    }
    let mut expected = 2;
    if cfg!(feature = "ed25519") {
        expected += 8;
    }
    if cfg!(feature = "ecdsa") {
        expected += 2;
    }
    if cfg!(feature = "rsa") {
        expected += 4;
    }
    assert_eq!(seen, expected);
}
