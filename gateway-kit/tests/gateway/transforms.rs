//! Changes of requests and answers, by settings and by a program.

use gateway_kit::{Config, Fields, Gateway, Refusal, RequestHead, Transform};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;

use crate::support::{Answer, Running, Upstream, parsed, routed};

async fn send(gateway: &Running, start: &str, fields: &str, body: &str) -> Answer {
    let length = body.len();
    let raw = format!(
        "{start} HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {length}\r\n{fields}\r\n{body}"
    );
    gateway.raw(&raw).await
}

#[tokio::test]
async fn fields_are_removed_set_and_added_both_ways() {
    // I1.c7
    let upstream = Upstream::answering(|_| {
        Response::builder()
            .header("server", "secret/1.0")
            .header("x-a", "theirs")
            .header("x-b", "theirs")
            .body(Full::from("ok"))
            .unwrap()
    })
    .await;
    let config = routed(&[upstream.addr])
        + "[transform.request]\nremove = [\"X-Debug\"]\nset = { x-a = \"ours\" }\nadd = { x-b = \"ours\" }\n\
           [transform.response]\nremove = [\"server\"]\nset = { x-a = \"ours\" }\nadd = { x-b = \"ours\" }\n";
    let gateway = Running::start(&config).await;
    let fields = "x-debug: 1\r\nx-debug: 2\r\nx-a: mine\r\nx-a: mine too\r\nx-b: mine\r\n";
    let answer = send(&gateway, "POST /", fields, "hi").await;
    let seen = upstream.last();
    assert_eq!(seen.header("x-debug"), None);
    let all = |name: &str| seen.headers.get_all(name).iter().collect::<Vec<_>>();
    assert_eq!(all("x-a"), ["ours"]);
    assert_eq!(all("x-b"), ["mine", "ours"]);
    assert_eq!(seen.body, "hi");
    assert_eq!(answer.header("server"), None);
    assert_eq!(answer.header("x-a"), Some("ours"));
    assert_eq!(answer.head.matches("x-b: ").count(), 2);
}

const RENAMING: &str = "[transform]\nmax_body = 100\n\
    [transform.request]\nrename = { userName = \"user_name\", \"items.itemId\" = \"id\" }\n\
    [transform.response]\nrename = { user_name = \"userName\" }\n";

#[tokio::test]
async fn fields_of_json_bodies_get_other_names_both_ways() {
    // I1.c7
    let upstream = Upstream::answering(|seen| {
        Response::builder()
            .header("content-type", "application/json")
            .header("etag", "\"a\"")
            .header("accept-ranges", "bytes")
            .header("content-digest", "sha-256=:AA==:")
            .header("repr-digest", "sha-256=:AA==:")
            .body(Full::from(seen.body.clone()))
            .unwrap()
    })
    .await;
    let gateway = Running::start(&(routed(&[upstream.addr]) + RENAMING)).await;
    let body = r#"{"userName": "é", "n": 1.50, "items":[{"itemId":1},{"itemId":2}]}"#;
    let fields = "content-type: application/json; charset=utf-8\r\naccept-encoding: gzip\r\n";
    let answer = send(&gateway, "POST /", fields, body).await;
    let there = r#"{"user_name": "é", "n": 1.50, "items":[{"id":1},{"id":2}]}"#;
    let seen = upstream.last();
    assert_eq!(seen.body, there);
    assert_eq!(
        seen.header("content-length").unwrap(),
        there.len().to_string()
    );
    assert_eq!(seen.header("accept-encoding"), None);
    let back = r#"{"userName": "é", "n": 1.50, "items":[{"id":1},{"id":2}]}"#;
    assert_eq!(answer.body, back);
    assert_eq!(
        answer.header("content-length").unwrap(),
        back.len().to_string()
    );
    assert_eq!(answer.header("etag"), Some("W/\"a\""));
    // What was said of the bytes as they came.
    for name in ["accept-ranges", "content-digest", "repr-digest"] {
        assert_eq!(answer.header(name), None, "{name}");
    }

    // A body in chunks has a length then.
    let chunked = "POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\
                   content-type: application/json\r\n\r\n8\r\n{\"userNa\r\n6\r\nme\":1}\r\n0\r\n\r\n";
    assert_eq!(gateway.raw(chunked).await.body, r#"{"userName":1}"#);
    let seen = upstream.last();
    assert_eq!(seen.body, r#"{"user_name":1}"#);
    assert_eq!(seen.header("content-length"), Some("15"));
    assert_eq!(seen.header("transfer-encoding"), None);

    // Other kinds, and nothing, go through as they are.
    let text = send(
        &gateway,
        "POST /",
        "content-type: text/plain\r\n",
        "{\"userName\":",
    )
    .await;
    assert_eq!(text.status, 502, "the answer is said to be JSON and is not");
    assert_eq!(upstream.last().body, "{\"userName\":");
    let answer = gateway.get("/").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
}

#[tokio::test]
async fn bodies_that_cannot_be_renamed_go_nowhere() {
    let upstream = Upstream::start().await;
    let gateway = Running::start(&(routed(&[upstream.addr]) + RENAMING)).await;
    let json = "content-type: application/json\r\n";
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(100));
    let rows = [
        (json, "{\"userName\":1", 400, "bad_json"),
        (json, "{\"userName\":1,\"user_name\":2}", 422, "field_taken"),
        (json, large.as_str(), 413, "body_too_large"),
        (
            "content-type: application/json\r\ncontent-encoding: gzip\r\n",
            "{}",
            415,
            "encoded_body",
        ),
    ];
    for (fields, body, status, code) in rows {
        let answer = send(&gateway, "POST /", fields, body).await;
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (status, Some(code))
        );
    }
    let chunk = "x".repeat(80);
    let chunked = format!(
        "POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: chunked\r\n{json}\r\n\
         50\r\n{chunk}\r\n50\r\n{chunk}\r\n0\r\n\r\n"
    );
    assert_eq!(gateway.raw(&chunked).await.status, 413);
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn an_answer_that_cannot_be_renamed_is_502() {
    let long = format!("\"{}\"", "x".repeat(99));
    for (field, body) in [
        ("x-a", "{"),
        ("x-a", "{\"user_name\":1,\"userName\":2}"),
        ("x-a", &*long),
        ("content-encoding", "{}"),
        ("content-range", "{}"),
    ] {
        let text = body.to_owned();
        let upstream = Upstream::answering(move |_| {
            Response::builder()
                .header("content-type", "application/json")
                .header(field, "gzip")
                .body(Full::from(text.clone()))
                .unwrap()
        })
        .await;
        let gateway = Running::start(&(routed(&[upstream.addr]) + RENAMING)).await;
        let answer = gateway.get("/").await;
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (502, Some("upstream_bad_answer"))
        );
        let head = send(&gateway, "HEAD /", "", "").await;
        let wanted = if field == "x-a" { 200 } else { 502 };
        assert_eq!(head.status, wanted, "{field}");
    }
}

struct Tenants;

impl Transform for Tenants {
    fn request(&self, head: &RequestHead<'_>, fields: &mut Fields<'_>) -> Result<(), Refusal> {
        let tenant = head.path.split('/').nth(1).unwrap_or_default();
        if tenant == "gone" {
            return Err(Refusal::new(
                StatusCode::GONE,
                "tenant_gone",
                "this tenant has left",
            ));
        }
        let value = HeaderValue::from_str(tenant).unwrap();
        fields
            .set(HeaderName::from_static("x-tenant"), value)
            .unwrap();
        for name in RESERVED {
            let value = HeaderValue::from_static("1");
            assert!(
                fields.set(name.parse().unwrap(), value.clone()).is_err(),
                "{name}"
            );
            assert!(fields.add(name.parse().unwrap(), value).is_err(), "{name}");
            assert!(fields.remove(name.parse().unwrap()).is_err(), "{name}");
        }
        Ok(())
    }

    fn response(&self, status: StatusCode, fields: &mut Fields<'_>) {
        fields.remove(HeaderName::from_static("x-tenant")).unwrap();
        let value = HeaderValue::from_str(status.as_str()).unwrap();
        fields.add(HeaderName::from_static("x-was"), value).unwrap();
    }
}

const RESERVED: [&str; 18] = [
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "transfer_encoding",
    "upgrade",
    "x-correlation-id",
    "x-forwarded-for",
    "x-forwarded-host",
    "x_forwarded_proto",
    "x-real-ip",
];

#[tokio::test]
async fn a_program_changes_heads_of_a_route_by_its_name() {
    let upstream = Upstream::answering(|seen| {
        let tenant = seen.header("x-tenant").unwrap_or("none");
        Response::builder()
            .status(if tenant == "none" { 200 } else { 404 })
            .header("x-tenant", tenant)
            .body(Full::from(tenant.to_owned()))
            .unwrap()
    })
    .await;
    let config = routed(&[upstream.addr]).replace("[[route]]", "[[route]]\nname = \"tenants\"");
    let gateway =
        Running::start_with(&config, |builder| builder.transform("tenants", Tenants)).await;
    let answer = send(&gateway, "GET /blue/x", "x-tenant: red\r\n", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (404, "blue"));
    assert_eq!(
        (answer.header("x-was"), answer.header("x-tenant")),
        (Some("404"), None)
    );
    assert_eq!(upstream.last().header("host"), Some("h"));
    let calls = upstream.calls();
    let answer = gateway.get("/gone").await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (410, Some("tenant_gone"))
    );
    assert_eq!(upstream.calls(), calls);
    // It stays through a reload.
    let report = gateway.handle.reload(parsed(
        &(config + "[transform.response]\nset = { x-a = \"1\" }\n"),
    ));
    assert!(report.reason.is_none(), "{report:?}");
    let answer = gateway.get("/green").await;
    assert_eq!(
        (answer.body.as_str(), answer.header("x-a")),
        ("green", Some("1"))
    );

    let builder = Gateway::builder(parsed(&routed(&[upstream.addr]))).transform("nobody", Tenants);
    let error = builder.bind().await.unwrap_err().to_string();
    assert!(
        error.contains("\"nobody\"") && error.contains("there are: /"),
        "{error}"
    );
}

#[test]
fn settings_that_would_break_a_message_are_refused() {
    let route =
        "[[route]]\nprefix = \"/\"\nupstream = \"a\"\n[upstream.a]\nendpoints = [\"http://a:1\"]\n";
    let refused = |settings: &str| {
        let text = format!("{route}{settings}\n");
        Config::from_toml(&text).map(drop).unwrap_err().to_string()
    };
    for name in RESERVED {
        for way in ["request", "response"] {
            for settings in [
                format!("[transform.{way}]\nremove = [\"{name}\"]"),
                format!("[transform.{way}]\nset = {{ {name} = \"1\" }}"),
                format!("[transform.{way}]\nadd = {{ {name} = \"1\" }}"),
            ] {
                let error = refused(&settings);
                assert!(error.contains("line 7: transform."), "{settings}: {error}");
                assert!(error.contains("any other field"), "{settings}: {error}");
            }
        }
    }
    for (settings, part) in [
        (
            "transform.request.set = { \"x a\" = \"1\" }",
            "name of a header field",
        ),
        (
            "transform.request.set = { x-a = \"a\\nb\" }",
            "value of a header field",
        ),
        (
            "transform.request.add = { x-a = \" a\" }",
            "value of a header field",
        ),
        (
            "transform.request.rename = { \"a..b\" = \"c\" }",
            "names with \".\" between",
        ),
        (
            "transform.request.rename = { \"a.b\" = \"b\" }",
            "another name",
        ),
        (
            "transform.request.rename = { a = \"c\", b = \"c\" }",
            "each name once",
        ),
        (
            "transform.request.rename = { a = \"b\", b = \"c\" }",
            "each name once",
        ),
        ("transform.max_body = 0", "must be from \"1B\" to"),
        ("transform.reqest = {}", "unknown field"),
    ] {
        // A dotted key at the top level comes before all tables.
        let text = format!("{settings}\n{route}");
        let error = Config::from_toml(&text).map(drop).unwrap_err().to_string();
        assert!(error.contains(part), "{settings}: {error}");
    }
    for good in [
        "transform.request.rename = { \"a.b\" = \"c\", \"d.b\" = \"c\", e = \"c\" }",
        "transform.response.set = { strict-transport-security = \"max-age=1; x\" }",
    ] {
        Config::from_toml(&format!("{good}\n{route}")).unwrap();
    }
}

#[cfg(feature = "jwt")]
#[test]
fn what_tells_who_a_client_is_is_not_for_a_transform_to_say() {
    let text = |transform: &str| {
        format!(
            "[[route]]\nprefix = \"/\"\nupstream = \"a\"\n[upstream.a]\nendpoints = [\"http://a:1\"]\n\
             [jwt]\nalgorithms = [\"HS256\"]\nclaim_headers = {{ sub = \"x-user\" }}\n\
             keys = [{{ kty = \"oct\", kid = \"a\", k = \"{}\" }}]\n[transform.request]\n{transform}\n",
            "A".repeat(43)
        )
    };
    Config::from_toml(&text("set = { x-users = \"1\" }")).unwrap();
    for transform in [
        "set = { x-user = \"admin\" }",
        "add = { X_User = \"admin\" }",
        "remove = [\"x-user\"]",
    ] {
        let error = Config::from_toml(&text(transform)).unwrap_err().to_string();
        assert!(error.contains("transform.request."), "{error}");
        assert!(error.contains("tells who the client is"), "{error}");
    }
}

/// Whatever it says of its type: the client knows the changed bytes by a weak tag.
#[tokio::test]
async fn a_304_is_about_the_bytes_that_the_client_has() {
    let upstream = Upstream::answering(|seen| {
        let answer = Response::builder().status(304).header("etag", "\"a\"");
        let answer = match seen.target.as_str() {
            "/json" => answer.header("content-type", "application/json"),
            _ => answer,
        };
        answer.body(Full::default()).unwrap()
    })
    .await;
    for (settings, tag) in [(RENAMING, "W/\"a\""), ("", "\"a\"")] {
        let gateway = Running::start(&(routed(&[upstream.addr]) + settings)).await;
        for path in ["/", "/json"] {
            let answer = gateway.get(path).await;
            assert_eq!(answer.status, 304);
            assert_eq!(answer.header("etag"), Some(tag), "{path}");
        }
    }
}
