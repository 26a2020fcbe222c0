//! The request guard: refuses requests that two servers could read in two ways.
//!
//! hyper has parsed the head and settled the framing (a `Content-Length` beside a
//! `Transfer-Encoding` is dropped there; `framing` brings it back in sight). What hyper leaves
//! unchecked is checked here: method, target, `Host`, the transfer coding and `Expect`.

use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Version, uri::Authority};

use crate::path;
use crate::problem::Problem;

/// What the guard found out about a request.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The canonical path.
    pub(crate) path: String,
    /// The body is chunked, so its length is not known beforehand.
    pub(crate) chunked: bool,
}

/// Checks the head and brings target and `Host` into the form that is passed on.
pub(crate) fn check(parts: &mut Parts) -> Result<Checked, Problem> {
    check_method(&parts.method)?;
    let chunked = check_framing(parts)?;
    check_expect(parts)?;
    check_host(parts)?;
    let path = path::canonical(parts.uri.path())
        .map_err(|error| Problem::bad_request("bad_path", error.to_string()))?
        .into_owned();
    Ok(Checked { path, chunked })
}

fn check_method(method: &Method) -> Result<(), Problem> {
    // CONNECT would make us a tunnel; TRACE would echo what we add.
    if *method == Method::CONNECT || *method == Method::TRACE {
        return Err(Problem::method_not_allowed(HeaderValue::from_static(
            "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        )));
    }
    Ok(())
}

fn check_framing(parts: &Parts) -> Result<bool, Problem> {
    let codings: Vec<&HeaderValue> = parts.headers.get_all(TRANSFER_ENCODING).iter().collect();
    let chunked = match codings.as_slice() {
        [] => return Ok(false),
        [only] => only.as_bytes().eq_ignore_ascii_case(b"chunked"),
        _ => false,
    };
    if !chunked {
        return Err(Problem::new(
            StatusCode::NOT_IMPLEMENTED,
            "unknown_transfer_coding",
            "Not implemented",
            "the only transfer coding understood is one \"chunked\"",
        ));
    }
    if parts.version == Version::HTTP_10 || parts.headers.contains_key(CONTENT_LENGTH) {
        return Err(Problem::bad_request(
            "ambiguous_framing",
            "Transfer-Encoding does not go with Content-Length or HTTP/1.0",
        ));
    }
    Ok(true)
}

fn check_expect(parts: &mut Parts) -> Result<(), Problem> {
    match parts.headers.get(EXPECT) {
        None => Ok(()),
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            // hyper answers 100 as soon as the body is asked for.
            parts.headers.remove(EXPECT);
            Ok(())
        }
        Some(_) => Err(Problem::new(
            StatusCode::EXPECTATION_FAILED,
            "unknown_expectation",
            "Expectation failed",
            "the only expectation understood is \"100-continue\"",
        )),
    }
}

fn check_host(parts: &mut Parts) -> Result<(), Problem> {
    let bad = |detail: &'static str| Problem::bad_request("bad_host", detail);
    let mut hosts = parts.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(bad("more than one Host")),
        (None, _) if parts.version != Version::HTTP_10 => return Err(bad("Host is missing")),
        (Some(host), None) if !is_host(host.as_bytes()) => return Err(bad("Host is malformed")),
        _ => {}
    }
    // RFC 9112, section 3.2.2: the authority of an absolute-form target replaces Host.
    if let Some(authority) = parts.uri.authority() {
        let scheme = parts.uri.scheme_str().unwrap_or_default();
        if !matches!(scheme, "http" | "https") || !is_host(authority.as_str().as_bytes()) {
            return Err(bad("the authority of the target is malformed"));
        }
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|_| bad("the authority of the target is malformed"))?;
        parts.headers.insert(HOST, host);
    }
    Ok(())
}

/// `host [":" port]` with nothing that another server may take for a user, path or list.
fn is_host(host: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~[]:".contains(byte);
    host.iter().all(plain)
        && std::str::from_utf8(host)
            .ok()
            .and_then(|host| host.parse::<Authority>().ok())
            .is_some_and(|authority| {
                let port = authority.as_str().strip_prefix(authority.host());
                let numeric = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
                !authority.host().is_empty()
                    && port
                        .is_some_and(|port| port.strip_prefix(':').map_or(port.is_empty(), numeric))
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(request: http::request::Builder) -> Result<(Parts, Checked), StatusCode> {
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let checked = check(&mut parts).map_err(|problem| problem.status)?;
        Ok((parts, checked))
    }

    fn get(uri: &str) -> http::request::Builder {
        http::Request::get(uri).header(HOST, "a.example:80")
    }

    #[test]
    fn one_plain_host_is_required() {
        assert!(checked(get("/")).is_ok());
        assert!(checked(http::Request::get("/").header(HOST, "[::1]:8080")).is_ok());
        for hosts in [
            &[][..],
            &[""],
            &["a", "a"],
            &["a/b"],
            &["u@h"],
            &["a,b"],
            &["a b"],
            &["a:b"],
        ] {
            let request = hosts.iter().fold(http::Request::get("/"), |request, host| {
                request.header(HOST, *host)
            });
            assert_eq!(
                checked(request).err(),
                Some(StatusCode::BAD_REQUEST),
                "{hosts:?}"
            );
        }
        assert!(checked(http::Request::get("/").version(Version::HTTP_10)).is_ok());
    }

    #[test]
    fn an_absolute_target_replaces_the_host() {
        let (parts, checked) = checked(get("http://b.example/x?y")).unwrap();
        assert_eq!(parts.headers[HOST], "b.example");
        assert_eq!(checked.path, "/x");
    }

    #[test]
    fn connect_and_trace_are_refused() {
        for method in [Method::CONNECT, Method::TRACE] {
            let refused = checked(get("/").method(method)).err();
            assert_eq!(refused, Some(StatusCode::METHOD_NOT_ALLOWED));
        }
    }

    #[test]
    fn only_one_chunked_coding_is_understood() {
        let te = |values: &[&str]| {
            values.iter().fold(get("/"), |request, value| {
                request.header(TRANSFER_ENCODING, *value)
            })
        };
        assert!(checked(te(&["chunked"])).unwrap().1.chunked);
        for values in [
            &["gzip"][..],
            &["gzip, chunked"],
            &["chunked", "chunked"],
            &[""],
        ] {
            let refused = checked(te(values)).err();
            assert_eq!(refused, Some(StatusCode::NOT_IMPLEMENTED), "{values:?}");
        }
        for request in [
            te(&["chunked"]).header(CONTENT_LENGTH, "3"),
            te(&["chunked"]).version(Version::HTTP_10),
        ] {
            assert_eq!(checked(request).err(), Some(StatusCode::BAD_REQUEST));
        }
    }

    #[test]
    fn an_unknown_expectation_is_refused_and_a_known_one_is_taken_off() {
        let (parts, _) = checked(get("/").header(EXPECT, "100-Continue")).unwrap();
        assert!(!parts.headers.contains_key(EXPECT));
        let refused = checked(get("/").header(EXPECT, "tea")).err();
        assert_eq!(refused, Some(StatusCode::EXPECTATION_FAILED));
    }
}
