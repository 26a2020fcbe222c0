use std::time::Duration;

use http_body::Body as _;

use super::*;

type Fields<'a> = &'a [(&'static str, &'a str)];

fn response(status: u16, fields: Fields<'_>) -> Response<String> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(String::new()).unwrap()
}

fn head(status: u16, fields: Fields<'_>) -> Option<Outcome> {
    GrpcClassifier::new().head(&response(status, fields))
}

fn end(fields: Fields<'_>) -> Outcome {
    let (parts, _) = response(200, fields).into_parts();
    ClassifyBody::<String>::end(&GrpcClassifier::new(), Some(&parts.headers))
}

fn overloaded(millis: impl Into<Option<u64>>) -> Outcome {
    Outcome::Overloaded {
        retry_after: millis.into().map(Duration::from_millis),
    }
}

#[test]
fn each_code_has_its_outcome_in_headers_and_in_trailers() {
    let failures = [2, 4, 13, 14, 15];
    for code in 0..=20_u8 {
        let expected = match code {
            1 => Outcome::Ignored,
            8 => overloaded(None),
            code if failures.contains(&code) || code > 16 => Outcome::Failure,
            _ => Outcome::Success,
        };
        let fields: Fields = &[("grpc-status", &code.to_string())];
        assert_eq!(end(fields), expected, "{code} in the trailers");
        assert_eq!(head(200, fields), Some(expected), "{code} in the headers");
        assert_eq!(head(503, fields), Some(expected), "{code} beside HTTP 503");
    }
}

#[test]
fn a_status_that_is_no_code_is_unknown() {
    for text in ["", "-1", "00", "017", "1 ", "+0", "OK", "160", "4294967296"] {
        assert_eq!(end(&[("grpc-status", text)]), Outcome::Failure, "{text:?}");
    }
    let twice: Fields = &[("grpc-status", "0"), ("grpc-status", "0")];
    assert_eq!(end(twice), Outcome::Failure);
}

#[test]
fn a_body_that_ends_without_a_status_is_unknown() {
    assert_eq!(end(&[]), Outcome::Failure);
    let classifier = GrpcClassifier::new();
    assert_eq!(
        ClassifyBody::<String>::end(&classifier, None),
        Outcome::Failure
    );
}

#[test]
fn the_status_of_an_http_200_is_still_to_come() {
    assert_eq!(head(200, &[]), None);
    let open = response(200, &[]);
    assert!(open.body().is_end_stream());
    assert_eq!(
        GrpcClassifier::new().classify(Ok::<_, &()>(&open)),
        Outcome::Success
    );
}

#[test]
fn an_http_error_without_a_status_is_mapped_as_grpc_says() {
    for (status, expected) in [
        (400, Outcome::Failure),
        (401, Outcome::Success),
        (403, Outcome::Success),
        (404, Outcome::Success),
        (429, Outcome::Failure),
        (500, Outcome::Failure),
        (502, Outcome::Failure),
        (503, Outcome::Failure),
        (504, Outcome::Failure),
        (302, Outcome::Failure),
    ] {
        assert_eq!(head(status, &[]), Some(expected), "{status}");
    }
    let retry: Fields = &[("retry-after", "2")];
    assert_eq!(head(429, retry), Some(overloaded(2_000)));
    assert_eq!(head(503, retry), Some(overloaded(2_000)));
    assert_eq!(head(500, retry), Some(Outcome::Failure));
}

#[test]
fn a_pushback_is_a_number_of_milliseconds_or_no_duration() {
    for (text, expected) in [
        ("1500", Some(1_500)),
        ("0", Some(0)),
        ("-1", None),
        ("soon", None),
    ] {
        let exhausted: Fields = &[("grpc-status", "8"), ("grpc-retry-pushback-ms", text)];
        assert_eq!(end(exhausted), overloaded(expected), "{text}");
    }
    let pushed: Fields = &[("grpc-status", "14"), ("grpc-retry-pushback-ms", "20")];
    assert_eq!(end(pushed), overloaded(20));
    let not_pushed: Fields = &[("grpc-status", "13"), ("grpc-retry-pushback-ms", "20")];
    assert_eq!(end(not_pushed), Outcome::Failure);
}

#[test]
fn no_response_is_a_failure() {
    let outcome = GrpcClassifier::new().classify(Err::<&Response<String>, _>(&"reset"));
    assert_eq!(outcome, Outcome::Failure);
}

#[test]
fn codes_can_be_counted_otherwise() {
    let classifier = GrpcClassifier::new()
        .failure(10)
        .success(tonic::Code::DeadlineExceeded)
        .ignore(2)
        .failure(tonic::Code::Cancelled);
    let outcome = |code| classifier.outcome(code, &HeaderMap::new());
    assert_eq!(outcome(10), Outcome::Failure);
    assert_eq!(outcome(4), Outcome::Success);
    assert_eq!(outcome(2), Outcome::Ignored);
    assert_eq!(outcome(1), Outcome::Failure);
    // Not a code, so it stands for UNKNOWN.
    assert_eq!(
        classifier.failure(-7).outcome(2, &HeaderMap::new()),
        Outcome::Failure
    );
    assert_eq!(classifier.failure(99).success(99).ignored, 0);
}
