//! What one library and one scheme say of each other's deliveries.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, Request, request::Parts};
use serde_json::{Value, json};
use webhook_verify::{
    Error, Secret, Signer, Step, Verifier,
    clock::{SystemClock, WallClock},
};

use crate::{
    bodies,
    driver::{Driver, Language},
    providers::{Peer, Provider},
};

/// What came of it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) scheme: String,
    pub(crate) language: Language,
    pub(crate) library: &'static str,
    pub(crate) version: String,
    pub(crate) signs: bool,
    pub(crate) verifies: bool,
    pub(crate) checks: usize,
    pub(crate) failures: Vec<String>,
}

/// A delivery on its way.
#[derive(Clone, Debug)]
struct Delivery {
    url: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

pub(crate) fn all(provider: &Provider, peer: &Peer, driver: &mut Driver) -> Row {
    let version = driver.ask(&json!({"op": "version", "library": peer.library}));
    let version = version.unwrap()["version"].as_str().unwrap().to_owned();
    let mut round = Round {
        provider,
        peer,
        driver,
        checks: 0,
        failures: Vec::new(),
    };
    round.warm_up();
    let bodies = provider
        .bodies
        .map_or_else(|| bodies::of_kind(peer.takes), |bodies| bodies());
    for body in bodies {
        if peer.signs {
            round.they_sign(&body);
        }
        if peer.verifies && provider.key.signs.is_some() {
            round.we_sign(&body);
        }
    }
    let (checks, failures) = (round.checks, round.failures);
    Row {
        scheme: provider.scheme.name().to_owned(),
        language: peer.language,
        library: peer.library,
        version,
        signs: peer.signs,
        verifies: peer.verifies && provider.key.signs.is_some(),
        checks,
        failures,
    }
}

struct Round<'a> {
    provider: &'a Provider,
    peer: &'a Peer,
    driver: &'a mut Driver,
    checks: usize,
    failures: Vec<String>,
}

impl Round<'_> {
    /// A library is loaded when it is first asked, which may take longer than the 5 s of Paddle.
    fn warm_up(&mut self) {
        let op = if self.peer.signs { "sign" } else { "verify" };
        let key = &self.provider.key.theirs_verifies;
        let request = self.request(op, key, &unsigned(self.provider, b"{}"));
        // It has nothing to sign or verify: any answer will do.
        let _ = self.driver.ask(&request);
    }

    fn they_sign(&mut self, body: &[u8]) {
        let now = SystemClock.now();
        let key = &self.provider.key;
        let Some(good) = self.theirs(&key.theirs_signs, now, body) else {
            return;
        };
        let verdict = verify(self.provider, &key.verifies, &good);
        self.expect(
            "ours accepts what theirs signed",
            &good,
            verdict.is_ok(),
            &verdict,
        );
        for bad in self.changes(&good) {
            let verdict = verify(self.provider, &key.verifies, &bad);
            self.expect("ours refuses a change", &bad, verdict.is_err(), &verdict);
        }
        let verdict = verify(self.provider, &self.provider.stranger.verifies, &good);
        self.expect(
            "ours refuses another key",
            &good,
            verdict.is_err(),
            &verdict,
        );
        let forged = self.theirs(&self.provider.stranger.theirs_signs, now, body);
        if let Some(both) = forged.and_then(|forged| self.rotated(&forged, &good)) {
            let verdict = verify(self.provider, &key.verifies, &both);
            self.expect("ours accepts two keys", &both, verdict.is_ok(), &verdict);
        }
        let Some((past, _)) = self.provider.scheme.tolerance() else {
            return;
        };
        let at = now - past - Duration::from_secs(3600);
        if let Some(old) = self.theirs(&key.theirs_signs, at, body) {
            let verdict = verify(self.provider, &key.verifies, &old);
            let late = matches!(&verdict, Err(error) if error.step() == Step::Timestamp);
            self.expect("ours refuses what is old", &old, late, &verdict);
        }
    }

    fn we_sign(&mut self, body: &[u8]) {
        let key = self.provider.key.theirs_verifies.clone();
        let now = SystemClock.now();
        let good = self.ours(&self.provider.key.signs, now, body);
        self.they_say(true, "theirs accepts what ours signed", &key, &good);
        for bad in self.changes(&good) {
            self.they_say(false, "theirs refuses a change", &key, &bad);
        }
        let forged = self.ours(&self.provider.stranger.signs, now, body);
        self.they_say(false, "theirs refuses another key", &key, &forged);
        if let Some(both) = self.rotated(&forged, &good) {
            self.they_say(true, "theirs accepts two keys", &key, &both);
        }
        if self.peer.looks_at_time {
            let at = SystemClock.now() - Duration::from_secs(3600);
            let old = self.ours(&self.provider.key.signs, at, body);
            self.they_say(false, "theirs refuses what is old", &key, &old);
        }
    }

    /// Signed by the library.
    fn theirs(&mut self, key: &str, at: Duration, body: &[u8]) -> Option<Delivery> {
        let mut delivery = unsigned(self.provider, body);
        let mut request = self.request("sign", key, &delivery);
        request["id"] = json!(self.provider.id);
        request["at"] = json!(at.as_secs());
        match self.driver.ask(&request) {
            Ok(answer) => {
                for (name, value) in answer["headers"].as_object().unwrap() {
                    let value = value.as_str().unwrap().to_owned();
                    delivery.headers.insert(name.to_lowercase(), value);
                }
                if let Some(body) = answer["body"].as_str() {
                    delivery.body = STANDARD.decode(body).unwrap();
                }
                Some(delivery)
            }
            Err(error) => {
                self.expect("theirs signs", &delivery, false, &error);
                None
            }
        }
    }

    /// Signed by the crate.
    fn ours(&self, key: &Option<Secret>, at: Duration, body: &[u8]) -> Delivery {
        let mut delivery = unsigned(self.provider, body);
        let signer = Signer::new(self.provider.scheme.clone(), key.clone().unwrap());
        let parts = parts(&delivery);
        let signed = signer.sign_delivery(Some(&parts), Some(self.provider.id), at, body);
        let (headers, body) = signed.unwrap().into_parts();
        for (name, value) in &headers {
            let value = value.to_str().unwrap().to_owned();
            delivery.headers.insert(name.to_string(), value);
        }
        delivery.body = body.unwrap_or(delivery.body);
        delivery
    }

    fn they_say(&mut self, genuine: bool, what: &str, key: &str, delivery: &Delivery) {
        let request = self.request("verify", key, delivery);
        let answer = self.driver.ask(&request);
        let holds = matches!(&answer, Ok(answer) if answer["ok"] == genuine);
        self.expect(what, delivery, holds, &answer);
    }

    fn request(&self, op: &str, key: &str, delivery: &Delivery) -> Value {
        let mut request = json!({
            "library": self.peer.library,
            "scheme": self.provider.scheme.name(),
            "op": op,
            "key": key,
            "url": delivery.url,
            "headers": delivery.headers,
            "body": STANDARD.encode(&delivery.body),
        });
        let settings = self.provider.settings.as_object().unwrap();
        request.as_object_mut().unwrap().extend(settings.clone());
        request
    }

    /// The delivery with one change each: of the body, and of every header that was added.
    fn changes(&self, good: &Delivery) -> Vec<Delivery> {
        let mut all: Vec<_> = (self.provider.changed)(&good.body)
            .into_iter()
            .map(|body| Delivery {
                body,
                ..good.clone()
            })
            .collect();
        for (name, value) in &good.headers {
            if name == "content-type" || self.provider.unsigned.contains(&name.as_str()) {
                continue;
            }
            let mut bad = good.clone();
            bad.headers.insert(name.clone(), replaced(value));
            all.push(bad);
        }
        all
    }

    /// Signed by the stranger and by the right key, as a sender does that changes its key.
    fn rotated(&self, old: &Delivery, good: &Delivery) -> Option<Delivery> {
        let (name, separator) = self.provider.list?;
        let [old, new] = [old, good].map(|delivery| delivery.headers[name].as_str());
        let new = match separator {
            ' ' => new,
            // The time stands first, once.
            _ => new.split_once(separator)?.1,
        };
        let mut both = good.clone();
        both.headers
            .insert(name.to_owned(), format!("{old}{separator}{new}"));
        Some(both)
    }

    fn expect(&mut self, what: &str, of: &Delivery, holds: bool, said: &dyn std::fmt::Debug) {
        self.checks += 1;
        if !holds {
            let (scheme, library) = (self.provider.scheme.name(), self.peer.library);
            let language = self.peer.language;
            let body = String::from_utf8_lossy(&of.body);
            let body: String = body.chars().take(300).collect();
            let text = format!(
                "{scheme}, {language} {library}: {what}: {said:?}\n    {} {:?}\n    {body}",
                of.url, of.headers
            );
            self.failures.push(text);
        }
    }
}

/// A character in the last third changed for another one that is allowed there.
fn replaced(value: &str) -> String {
    let mut value = value.as_bytes().to_vec();
    let at = value.len() * 3 / 4;
    value[at] = if value[at] == b'0' { b'1' } else { b'0' };
    String::from_utf8(value).unwrap()
}

fn unsigned(provider: &Provider, body: &[u8]) -> Delivery {
    let content_type = (
        "content-type".to_owned(),
        (provider.content_type)(body).to_owned(),
    );
    Delivery {
        url: (provider.url)(body),
        headers: [content_type].into(),
        body: body.to_vec(),
    }
}

fn parts(delivery: &Delivery) -> Parts {
    let target = delivery.url.strip_prefix("https://example.com").unwrap();
    let mut parts = Request::post(target).body(()).unwrap().into_parts().0;
    for (name, value) in &delivery.headers {
        let name: HeaderName = name.parse().unwrap();
        parts.headers.insert(name, value.parse().unwrap());
    }
    parts
}

/// Whole and in chunks, which must come to the same.
fn verify(provider: &Provider, key: &Secret, delivery: &Delivery) -> Result<(), Error> {
    let mut builder = Verifier::builder(provider.scheme.clone()).secret(key.clone());
    // A busy machine may need more than the 5 s of Paddle.
    let minutes = Duration::from_secs(300);
    if provider
        .scheme
        .tolerance()
        .is_some_and(|(past, _)| past < minutes)
    {
        builder = builder.tolerance(minutes, minutes);
    }
    let verifier = builder.build().unwrap();
    let parts = parts(delivery);
    let whole = verifier.verify(&parts, None, &delivery.body).map(|_| ());
    let streamed = verifier.begin(&parts, None).and_then(|mut session| {
        for chunk in delivery.body.chunks(1000) {
            session.update(chunk)?;
        }
        session.finish().map(|_| ())
    });
    assert_eq!(whole.is_ok(), streamed.is_ok(), "{delivery:?}");
    whole
}
