use http::Request;
use serde_json::Value as Json;

use super::*;

const VECTORS: &str = include_str!("../../../tests/vectors/rfc9421.json");

/// Accepts whatever is signed.
fn lenient(origin: &str) -> MessagePolicy {
    MessagePolicy {
        minimum: false,
        ..strict(origin)
    }
}

fn strict(origin: &str) -> MessagePolicy {
    MessagePolicy {
        origin: Origin::parse(origin).unwrap(),
        minimum: true,
        fields: Vec::new(),
        tag: None,
        nonce: false,
        lifetime: None,
        algorithms: ALGORITHMS,
    }
}

fn text(value: &Json) -> &str {
    value.as_str().unwrap()
}

/// The request of a published vector with its signature, and the origin it was sent to.
fn published(vector: &Json) -> (Parts, String) {
    let message = &vector["message"];
    let mut request = Request::builder()
        .method(text(&message["method"]))
        .uri(text(&message["target"]))
        .header(SIGNATURE_INPUT, text(&vector["signature_input"]))
        .header(SIGNATURE, text(&vector["signature"]));
    let mut origin = String::new();
    for header in message["headers"].as_array().unwrap() {
        let (name, value) = (text(&header[0]), text(&header[1]));
        request = request.header(name, value);
        if name == "Host" {
            origin = format!("https://{value}");
        }
    }
    (request.body(()).unwrap().into_parts().0, origin)
}

fn vectors() -> Vec<Json> {
    let all: Json = serde_json::from_str(VECTORS).unwrap();
    all["vectors"].as_array().unwrap().clone()
}

#[test]
fn signature_bases_are_those_of_the_rfc() {
    let mut seen = 0;
    for vector in vectors() {
        let name = text(&vector["name"]);
        if vector["message"]["method"].is_null() {
            continue;
        }
        let (request, origin) = published(&vector);
        let origin = Origin::parse(&origin).unwrap();
        let mut all = signatures(&request.headers).unwrap();
        let (input, _) = all.remove(0).expect(name);
        let parameters = input.write();
        let (_, sent) = text(&vector["signature_input"]).split_once('=').unwrap();
        assert_eq!(parameters, sent, "{name}");
        let message = Message::new(&origin, &request, &request.headers);
        let base = message.base(&input.components, &parameters).unwrap();
        assert_eq!(base, text(&vector["signature_base"]), "{name}");
        assert_eq!(input.key_id(), vector["keyid"].as_str(), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 16);
}

#[test]
fn claims_of_the_rfc_are_read_but_for_the_one_that_signs_nothing() {
    for vector in vectors() {
        let name = text(&vector["name"]);
        if vector["message"]["method"].is_null() {
            continue;
        }
        let (request, origin) = published(&vector);
        let body = text(&vector["message"]["body"]).as_bytes();
        let read = lenient(&origin).read(&request, body);
        if name == "B.2.1" {
            assert_eq!(read.unwrap_err(), Reason::NotCovered("@method".into()));
            continue;
        }
        let extract = read.unwrap();
        let [claim] = &*extract.claims else {
            panic!("one claim");
        };
        assert_eq!(claim.signed, text(&vector["signature_base"]).as_bytes());
        assert_eq!(claim.key.as_deref(), vector["keyid"].as_str());
        let algorithm = vector["alg"].as_str();
        let mut names = claim.signatures.iter().map(|(one, _)| name_of(*one));
        assert!(names.any(|known| known == algorithm), "{name}");
    }
}

/// B.2.4.
#[test]
fn a_signature_of_a_response_is_not_read() {
    let all = vectors();
    let vector = all.iter().find(|vector| vector["name"] == "B.2.4").unwrap();
    let request = Request::post("/")
        .header(SIGNATURE_INPUT, text(&vector["signature_input"]))
        .header(SIGNATURE, text(&vector["signature"]));
    let request = request.body(()).unwrap().into_parts().0;
    let read = lenient("https://example.com").head(&request);
    assert_eq!(read, Err(Reason::Malformed(SIGNATURE_INPUT)));
}

const GOOD: &str = r#"("@method" "@authority" "@path" "content-digest");created=5;keyid="k""#;

/// A request that carries these signatures, with no body.
fn signed_by(target: &str, inputs: &[&str]) -> Parts {
    let mut request = Request::post(target).header(CONTENT_DIGEST, digest::write(b""));
    for (i, input) in inputs.iter().enumerate() {
        request = request
            .header(SIGNATURE_INPUT, format!("s{i}={input}"))
            .header(SIGNATURE, format!("s{i}=:AAA{}:", ["A", "E", "I"][i]));
    }
    request.body(()).unwrap().into_parts().0
}

fn read(policy: &MessagePolicy, target: &str, inputs: &[&str]) -> Result<Extract, Reason> {
    let request = signed_by(target, inputs);
    let head = policy.head(&request);
    let read = policy.read(&request, b"");
    match (&head, &read) {
        (Ok(head), Ok(read)) => {
            let one = read.others.is_empty();
            assert_eq!(head.timestamp, read.timestamp.filter(|_| one));
        }
        (head, read) => assert_eq!(head.as_ref().err(), read.as_ref().err()),
    }
    read
}

#[test]
fn the_minimum_must_be_signed() {
    let policy = strict("https://hooks.example");
    let components = |list: &str| format!(r#"({list});created=5;keyid="k""#);
    for (target, list) in [
        ("/", r#""@method" "@authority" "@path" "content-digest""#),
        (
            "/?a",
            r#""@method" "@authority" "@path" "@query" "content-digest""#,
        ),
        ("/?a", r#""content-digest" "@target-uri" "@method""#),
        (
            "/?a",
            r#""@method" "@authority" "@request-target" "content-digest""#,
        ),
        (
            "/",
            r#""@method" "@authority" "@path" "@query" "content-digest""#,
        ),
    ] {
        assert!(
            read(&policy, target, &[&components(list)]).is_ok(),
            "{list}"
        );
    }
    for (target, list, missing) in [
        ("/", r#""@authority" "@path" "content-digest""#, "@method"),
        ("/", r#""@method" "@path" "content-digest""#, "@authority"),
        ("/", r#""@method" "@authority" "content-digest""#, "@path"),
        (
            "/",
            r#""@method" "@authority" "@query" "content-digest""#,
            "@path",
        ),
        ("/", r#""@method" "@authority" "@path""#, "content-digest"),
        ("/", "", "@method"),
        (
            "/?a",
            r#""@method" "@authority" "@path" "content-digest""#,
            "@query",
        ),
        (
            "/?",
            r#""@method" "@authority" "@path" "content-digest""#,
            "@query",
        ),
        (
            "/?a",
            r#""@method" "@authority" "@path" "@query-param";name="a" "content-digest""#,
            "@query",
        ),
    ] {
        assert_eq!(
            read(&policy, target, &[&components(list)]).unwrap_err(),
            Reason::NotCovered(missing.into()),
            "{list}"
        );
    }
    let policy = MessagePolicy {
        fields: vec![http::header::CONTENT_TYPE],
        ..policy
    };
    assert_eq!(
        read(&policy, "/", &[GOOD]).unwrap_err(),
        Reason::NotCovered("content-type".into())
    );
}

#[test]
fn created_and_keyid_are_needed_and_the_rest_must_make_sense() {
    let policy = strict("https://hooks.example");
    let missing = |name: &str| Reason::FieldMissing(name.into());
    let malformed = |name: &str| Reason::FieldMalformed(name.into());
    let with = |parameters: &str| GOOD.replace(";created=5;keyid=\"k\"", parameters);
    for (parameters, reason) in [
        (";keyid=\"k\"", missing("created")),
        (";created=5", missing("keyid")),
        (";created=5;keyid=\"k\";expires=4", malformed("expires")),
        (";created=5;keyid=\"k\";alg=\"none\"", malformed("alg")),
        (";created=5;keyid=\"k\";alg=\"hs2019\"", malformed("alg")),
        (
            ";created=5;keyid=\"k\";alg=\"HMAC-SHA256\"",
            malformed("alg"),
        ),
        (";created=5;keyid=\"k\";alg=\"\"", malformed("alg")),
        (
            ";created=5;keyid=\"k\";alg=\"rsa-v1_5-sha256\"",
            malformed("alg"),
        ),
        (
            ";created=5;keyid=\"k\";unknown=1",
            Reason::Malformed(SIGNATURE_INPUT),
        ),
    ] {
        let input = with(parameters);
        assert_eq!(
            read(&policy, "/", &[&input]).unwrap_err(),
            reason,
            "{input}"
        );
    }
    let input = with(";created=5;keyid=\"k\";expires=5;alg=\"ed25519\"");
    let extract = read(&policy, "/", &[&input]).unwrap();
    assert_eq!((extract.timestamp, extract.expires), (Some(5), Some(5)));
    assert_eq!(
        extract.claims[0].signatures,
        [(Algorithm::Ed25519, vec![0, 0, 0])]
    );
    let any = read(&policy, "/", &[GOOD]).unwrap();
    let tried = any.claims[0].signatures.iter().map(|(one, _)| *one);
    assert!(tried.eq(ALGORITHMS));
}

/// Reasons are labels of metrics: a sender must not choose them.
#[test]
fn a_reason_names_no_header_that_only_the_sender_lists() {
    let input = GOOD.replace("\"content-digest\"", "\"content-digest\" \"x-a\"");
    let mut request = signed_by("/", &[&input]);
    let unknown = strict("https://hooks.example");
    let x_a = HeaderName::from_static("x-a");
    let known = MessagePolicy {
        fields: vec![x_a.clone()],
        ..unknown.clone()
    };
    let hidden = Err(Reason::Malformed(SIGNATURE_INPUT));
    assert_eq!(unknown.head(&request), hidden);
    assert_eq!(known.head(&request), Err(Reason::Missing(x_a.clone())));
    request.headers.insert(&x_a, "é".parse().unwrap());
    assert_eq!(unknown.head(&request), hidden);
    assert_eq!(known.head(&request), Err(Reason::Malformed(x_a.clone())));
    request.headers.insert(x_a, "a".parse().unwrap());
    assert!(unknown.head(&request).is_ok());
}

#[test]
fn one_signature_that_is_not_accepted_does_not_harm_another() {
    let policy = strict("https://hooks.example");
    let other = GOOD.replace("created=5", "created=6");
    for bad in ["()", r#"("@status");created=1"#, r#""x""#] {
        for inputs in [[bad, GOOD], [GOOD, bad]] {
            let extract = read(&policy, "/", &inputs).unwrap();
            assert_eq!((extract.timestamp, extract.others.len()), (Some(5), 0));
        }
    }
    let extract = read(&policy, "/", &[GOOD, "()", &other]).unwrap();
    assert_eq!(extract.timestamp, Some(5));
    let [second] = &*extract.others else {
        panic!("one other reading");
    };
    assert_eq!(second.timestamp, Some(6));
    assert_eq!(second.claims[0].signatures[0].1, [0, 0, 2 << 2]);
    // The first reason is told.
    let none = GOOD.replace(";keyid=\"k\"", "");
    assert_eq!(
        read(&policy, "/", &[&none, "()"]).unwrap_err(),
        Reason::FieldMissing("keyid".into())
    );
}

#[test]
fn a_tag_chooses_among_signatures() {
    let policy = MessagePolicy {
        tag: Some("hook".into()),
        ..strict("https://hooks.example")
    };
    let tagged = |tag: &str| format!("{GOOD};tag=\"{tag}\"");
    let inputs = [GOOD, &tagged("proxy"), &tagged("hook")];
    let extract = read(&policy, "/", &inputs).unwrap();
    assert_eq!(extract.claims[0].signatures[0].1, [0, 0, 2 << 2]);
    assert!(extract.others.is_empty());
    assert_eq!(
        read(&policy, "/", &inputs[..2]).unwrap_err(),
        Reason::FieldMissing("tag".into())
    );
}

#[test]
fn a_nonce_names_the_delivery_under_its_key() {
    let policy = MessagePolicy {
        nonce: true,
        ..strict("https://hooks.example")
    };
    let id = |rest: &str| read(&policy, "/", &[&format!("{GOOD}{rest}")]).map(|read| read.id);
    assert_eq!(id(";nonce=\"n\""), Ok(Some(b"k\0n".into())));
    assert_eq!(id(""), Err(Reason::FieldMissing("nonce".into())));
    let long = |count: usize| format!(";nonce=\"{}\"", "n".repeat(count));
    assert!(id(&long(256)).is_ok());
    for bad in [long(0), long(257)] {
        assert_eq!(id(&bad), Err(Reason::FieldMalformed("nonce".into())));
    }
    let without = strict("https://hooks.example");
    let input = format!("{GOOD};nonce=\"n\"");
    assert_eq!(read(&without, "/", &[&input]).unwrap().id, None);
}

#[test]
fn what_is_written_is_read_and_has_the_form_of_the_rfc() {
    let policy = MessagePolicy {
        fields: vec![http::header::CONTENT_TYPE, CONTENT_DIGEST],
        tag: Some("hook".into()),
        nonce: true,
        lifetime: Some(60),
        ..strict("https://hooks.example:8443")
    };
    let request = Request::put("/hook?a=1").header("content-type", "text/plain");
    let mut request = request.body(()).unwrap().into_parts().0;
    let delivery = Outgoing {
        request: Some(&request),
        id: Some("n 1"),
        at: std::time::Duration::from_millis(5999),
        key: "k",
        body: b"body",
    };
    let mut base = Vec::new();
    // A key of the second kind.
    let mut sign = |algorithm, bytes: &[u8]| {
        if algorithm != Algorithm::Ed25519 {
            return Err(SignError::Key);
        }
        base = bytes.to_vec();
        Ok(vec![7; 64])
    };
    let signed = policy.write(&delivery, &mut sign).unwrap();
    assert_eq!(signed.body, None);
    let digest = digest::write(b"body");
    let parameters = "(\"@method\" \"@authority\" \"@path\" \"@query\" \"content-digest\" \
                      \"content-type\");created=5;keyid=\"k\";alg=\"ed25519\";expires=65;\
                      nonce=\"n 1\";tag=\"hook\"";
    assert_eq!(
        signed.headers[SIGNATURE_INPUT],
        format!("sig1={parameters}")
    );
    assert_eq!(signed.headers[CONTENT_DIGEST], digest);
    assert_eq!(
        String::from_utf8(base.clone()).unwrap(),
        format!(
            "\"@method\": PUT\n\"@authority\": hooks.example:8443\n\"@path\": /hook\n\
             \"@query\": ?a=1\n\"content-digest\": {digest}\n\"content-type\": text/plain\n\
             \"@signature-params\": {parameters}"
        )
    );
    request.headers.extend(signed.headers);
    let read = policy.read(&request, b"body").unwrap();
    assert_eq!((read.timestamp, read.expires), (Some(5), Some(65)));
    assert_eq!(read.claims[0].signed, base);
    assert_eq!(
        read.claims[0].signatures,
        [(Algorithm::Ed25519, vec![7; 64])]
    );
    assert_eq!(policy.read(&request, b"bodY").unwrap_err(), Reason::Digest);
}

#[test]
fn what_cannot_be_signed_is_not() {
    let policy = MessagePolicy {
        fields: vec![http::header::CONTENT_TYPE],
        ..strict("https://hooks.example")
    };
    let plain = signed_by("/", &[]);
    let mut typed = plain.clone();
    typed
        .headers
        .insert("content-type", "text/plain".parse().unwrap());
    let write = |policy: &MessagePolicy, request, id, seconds, key| {
        let delivery = Outgoing {
            request,
            id,
            at: std::time::Duration::from_secs(seconds),
            key,
            body: b"",
        };
        let mut sign = |_, _: &[u8]| Ok(vec![7; 32]);
        policy.write(&delivery, &mut sign).map(drop)
    };
    let typed = Some(&typed);
    assert_eq!(write(&policy, typed, None, 5, "k"), Ok(()));
    assert_eq!(write(&policy, None, None, 5, "k"), Err(SignError::Request));
    assert_eq!(
        write(&policy, Some(&plain), None, 5, "k"),
        Err(SignError::Header(http::header::CONTENT_TYPE))
    );
    assert_eq!(write(&policy, typed, None, 5, "ключ"), Err(SignError::Key));
    assert_eq!(write(&policy, typed, None, TIME_END - 1, "k"), Ok(()));
    assert_eq!(
        write(&policy, typed, None, TIME_END, "k"),
        Err(SignError::Time)
    );
    let named = MessagePolicy {
        nonce: true,
        ..policy
    };
    assert_eq!(write(&named, typed, Some("n"), 5, "k"), Ok(()));
    for bad in [None, Some(""), Some("é"), Some("a\nb")] {
        assert_eq!(write(&named, typed, bad, 5, "k"), Err(SignError::Id));
    }
    let delivery = Outgoing {
        request: typed,
        id: Some("n"),
        at: std::time::Duration::ZERO,
        key: "k",
        body: b"",
    };
    let mut none = |_, _: &[u8]| Err(SignError::Key);
    assert_eq!(
        named.write(&delivery, &mut none).unwrap_err(),
        SignError::Key
    );
}
