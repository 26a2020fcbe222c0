//! Who is let in.

use gateway_kit::config::{AdminToken, Config};
use serde_json::json;

use super::{SECTION, TOKEN, get, send, start, start_with};
use crate::support::{Running, Upstream, nobody, routed};

#[tokio::test]
async fn only_the_right_token_lets_in() {
    // I1.c6
    let gateway = start(&routed(&[nobody().await])).await;
    let other = "another-token-of-16";
    let longer = format!("{TOKEN}x");
    for (token, fields, status, code) in [
        (Some(TOKEN), "", 200, None),
        (None, "", 401, Some("token_missing")),
        (Some(other), "", 401, Some("token_wrong")),
        (Some(&longer), "", 401, Some("token_wrong")),
        (
            Some(&TOKEN[..TOKEN.len() - 1]),
            "",
            401,
            Some("token_wrong"),
        ),
        (
            None,
            "authorization: Basic YTpi\r\n",
            401,
            Some("token_missing"),
        ),
        (
            None,
            "authorization: bearer a-token-of-the-tests\r\n",
            200,
            None,
        ),
        // Two are none.
        (
            Some(TOKEN),
            "authorization: Bearer x\r\n",
            401,
            Some("token_missing"),
        ),
    ] {
        let answer = get("/admin/status")
            .token(token)
            .with(fields)
            .of(&gateway)
            .await;
        assert_eq!(answer.status, status, "{token:?} {fields}: {answer:?}");
        assert_eq!(answer.json()["code"].as_str(), code);
        if status == 401 {
            assert!(
                answer
                    .header("www-authenticate")
                    .unwrap()
                    .starts_with("Bearer")
            );
            assert_eq!(
                answer.header("content-type"),
                Some("application/problem+json")
            );
            assert!(answer.json()["correlation_id"].is_string());
        }
    }
    let metrics = gateway.handle.metrics();
    assert!(metrics.contains("admin_refused_total 6"), "{metrics}");
    // Without a token nothing is told, not even what is there.
    for path in [
        "/admin/nothing",
        "/admin/openapi.json",
        "/",
        "/health",
        "/metrics",
    ] {
        let answer = get(path).token(None).of(&gateway).await;
        assert_eq!(answer.status, 401, "{path}");
    }
    assert_eq!(get("/admin/nothing").of(&gateway).await.status, 404);
}

#[tokio::test]
async fn wrong_tokens_are_limited_per_address() {
    let gateway = start(&routed(&[nobody().await])).await;
    let wrong = || get("/admin/status").token(Some("wrong"));
    for _ in 0..10 {
        assert_eq!(wrong().of(&gateway).await.status, 401);
    }
    let answer = wrong().of(&gateway).await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (429, Some("too_many_wrong_tokens"))
    );
    assert!(answer.header("retry-after").is_some());
    // A right one is not looked at either, or guessing would go on.
    assert_eq!(get("/admin/status").of(&gateway).await.status, 429);
    assert_eq!(
        get("/admin/status")
            .from("127.0.0.2")
            .of(&gateway)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_list_of_addresses_lets_in_without_a_token_and_bounds_those_with_one() {
    let shop = routed(&[nobody().await]);
    let allow = shop.clone() + SECTION + "allow = [\"127.0.0.2\"]\n";
    let gateway = start_with(&allow, None).await;
    let ask = |from| get("/admin/status").token(None).from(from);
    assert_eq!(ask("127.0.0.2").of(&gateway).await.status, 200);
    let answer = ask("127.0.0.1").of(&gateway).await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (403, Some("address_not_allowed"))
    );
    // Nor does what a client says of itself.
    let forwarded = get("/admin/status").with("x-forwarded-for: 127.0.0.2\r\n");
    assert_eq!(forwarded.of(&gateway).await.status, 403);
    assert_eq!(get("/admin/").of(&gateway).await.status, 403);

    let gateway = start_with(&allow, Some(TOKEN)).await;
    assert_eq!(ask("127.0.0.2").of(&gateway).await.status, 401);
    assert_eq!(get("/admin/status").of(&gateway).await.status, 403);
    assert_eq!(
        get("/admin/status")
            .from("127.0.0.2")
            .of(&gateway)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn without_token_and_list_there_is_no_admin() {
    let shop = routed(&[nobody().await]);
    let gateway = start_with(&(shop.clone() + SECTION), None).await;
    assert_eq!(gateway.admin_addr, None);
    let gateway = Running::start(&shop).await;
    assert_eq!(gateway.admin_addr, None);
}

#[tokio::test]
async fn the_public_address_leads_to_the_admin_only_if_it_is_told_to() {
    let upstream = Upstream::start().await;
    let gateway = start(&routed(&[upstream.addr])).await;
    for path in ["/admin", "/admin/", "/admin/status"] {
        let answer = get(path).at(gateway.addr).await;
        // A path like any other.
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{path}");
    }
    assert_eq!(upstream.calls(), 3);

    let public = routed(&[upstream.addr]) + "[admin]\nlisten = false\npublic = true\n";
    let gateway = start_with(&public, Some(TOKEN)).await;
    assert_eq!(gateway.admin_addr, None);
    let answer = get("/admin/status").at(gateway.addr).await;
    assert_eq!(
        (answer.status, answer.json()["services"].as_u64()),
        (200, Some(1))
    );
    assert_eq!(answer.header("x-frame-options"), Some("DENY"));
    assert_eq!(
        get("/admin/status")
            .token(None)
            .at(gateway.addr)
            .await
            .status,
        401
    );
    assert_eq!(get("/%61dmin/./status").at(gateway.addr).await.status, 200);
    assert_eq!(get("/administrator").at(gateway.addr).await.body, "ok");
    assert_eq!(upstream.calls(), 4);
    assert!(
        gateway
            .handle
            .metrics()
            .contains("route=\"/admin\",status=\"401\"")
    );

    let mut config = crate::support::parsed(&public);
    let refused = gateway_kit::Gateway::builder(config.clone()).bind().await;
    // Off, for there is nobody to let in.
    assert!(refused.is_ok());
    let admin = config.admin.as_mut().unwrap();
    admin.allow = vec!["127.0.0.1".to_owned().try_into().unwrap()];
    let refused = gateway_kit::Gateway::builder(config)
        .bind()
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("admin.public"), "{refused}");
}

#[tokio::test]
async fn pages_of_other_origins_get_nothing_done() {
    let gateway = start(&routed(&[nobody().await])).await;
    let own = format!("origin: http://{}\r\n", gateway.admin_addr.unwrap());
    for (fields, status) in [
        (own.as_str(), 200),
        ("sec-fetch-site: same-origin\r\n", 200),
        ("sec-fetch-site: none\r\n", 200),
        ("origin: http://evil.test\r\n", 403),
        ("origin: null\r\n", 403),
        ("sec-fetch-site: cross-site\r\n", 403),
        ("sec-fetch-site: same-site\r\n", 403),
    ] {
        let answer = get("/admin/status").with(fields).of(&gateway).await;
        assert_eq!(answer.status, status, "{fields}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let preflight = get("/admin/status")
        .with("origin: http://evil.test\r\naccess-control-request-method: PUT\r\n");
    let preflight = super::Ask {
        method: "OPTIONS",
        token: None,
        ..preflight
    };
    assert_eq!(preflight.of(&gateway).await.status, 403);

    // Where the address is all that counts, a name may have been made to lead here.
    let allow = routed(&[nobody().await]) + SECTION + "allow = [\"127.0.0.1\"]\n";
    let gateway = start_with(&allow, None).await;
    let address = gateway.admin_addr.unwrap();
    for (host, status) in [("evil.test", 403), ("localhost", 200), ("127.0.0.1:1", 200)] {
        let raw =
            format!("GET /admin/status HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = crate::support::raw_between("127.0.0.1", address, &raw).await;
        assert_eq!(answer.status, status, "{host}");
    }
}

#[tokio::test]
async fn tokens_come_from_a_file_all_of_them_good() {
    let file = std::env::temp_dir().join(format!("gateway-{}-tokens", std::process::id()));
    std::fs::write(&file, "the-first-token-1234\n\n  the-second-token-123  \n").unwrap();
    let section = format!("{SECTION}token_file = {:?}\n", file.display().to_string());
    let config = routed(&[nobody().await]) + &section;
    let gateway = start_with(&config, None).await;
    for (token, status) in [
        ("the-first-token-1234", 200),
        ("the-second-token-123", 200),
        ("the-third-token-1234", 401),
    ] {
        let answer = get("/admin/status").token(Some(token)).of(&gateway).await;
        assert_eq!(answer.status, status, "{token}");
    }
    for (text, reason) in [
        ("", "no token"),
        ("short\n", "16 to 256"),
        ("a b c d e f g h i j\n", "visible"),
    ] {
        std::fs::write(&file, text).unwrap();
        let error = Config::from_toml(&config).unwrap_err();
        let [problem] = error.problems() else {
            panic!("{error}");
        };
        assert_eq!(problem.field, "admin.token_file");
        assert!(problem.reason.contains(reason), "{error}");
        // What is in the file is not shown.
        assert!(!error.to_string().contains("short"), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
    assert!(Config::from_toml(&config).is_err());
    // Who opens a pipe waits for who writes to it.
    let made = std::process::Command::new("mkfifo").arg(&file).status();
    assert!(made.unwrap().success());
    let error = Config::from_toml(&config).unwrap_err().to_string();
    assert!(error.contains("it is no plain file"), "{error}");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn the_token_of_the_environment_is_checked_and_never_shown() {
    let mut config = Config::from_toml("").unwrap();
    let get =
        |value: &'static str| move |name: &str| (name == "ADMIN_TOKEN").then(|| value.to_owned());
    let error = config.apply_env(get("secret")).unwrap_err();
    assert!(
        error.to_string().starts_with("ADMIN_TOKEN: must be 16"),
        "{error}"
    );
    assert!(!error.to_string().contains("secret"));
    assert!(config.admin.is_none());
    config.apply_env(get(TOKEN)).unwrap();
    let admin = config.admin.unwrap();
    assert_eq!(admin.token, AdminToken::try_from(TOKEN).ok());
    assert_eq!(admin.listen.on().unwrap().to_string(), "127.0.0.1:9901");
    assert!(!format!("{admin:?}").contains(TOKEN));
    // Not in the file.
    let error = Config::from_toml("[admin]\ntoken = \"0123456789abcdef\"\n").unwrap_err();
    assert!(error.to_string().contains("token"), "{error}");
}

#[tokio::test]
async fn bodies_are_bounded_and_json() {
    let gateway = start(&routed(&[nobody().await])).await;
    let path = "/admin/circuitbreaker/shop";
    let fields = "content-type: application/json\r\ncontent-length: 70000\r\n";
    let mut big = super::Ask {
        method: "POST",
        ..get(path)
    }
    .with(fields);
    big.body = None;
    let text = format!(
        "POST {path} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n{fields}\r\n{}",
        "x".repeat(70_000)
    );
    let answer = crate::support::raw_between("127.0.0.1", gateway.admin_addr.unwrap(), &text).await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (413, Some("body_too_large"))
    );
    let form = super::Ask {
        method: "POST",
        ..get(path)
    };
    let form = form
        .with("content-type: text/plain\r\ncontent-length: 0\r\n")
        .of(&gateway)
        .await;
    assert_eq!(
        (form.status, form.json()["code"].as_str()),
        (415, Some("not_json"))
    );
    let long = format!("x: {}\r\n", "y".repeat(20_000));
    assert_eq!(
        get("/admin/status").with(&long).of(&gateway).await.status,
        431
    );
    let answer = send("POST", path, json!({ "action": "reset", "more": 1 }))
        .of(&gateway)
        .await;
    assert_eq!(answer.status, 400);
}

/// On its own address the peer, on the public one whoever a trusted proxy says it is.
#[tokio::test]
async fn an_address_is_what_may_be_believed() {
    let config = format!(
        "trusted_proxies = [\"127.0.0.1\"]\n{}{SECTION}public = true\nallow = [\"192.0.2.0/24\"]\n",
        routed(&[nobody().await])
    );
    let gateway = start_with(&config, Some(TOKEN)).await;
    let own = gateway.admin_addr.unwrap();
    let (operator, other) = (
        "x-forwarded-for: 192.0.2.1\r\n",
        "x-forwarded-for: 198.51.100.1\r\n",
    );
    for (address, peer, fields, status) in [
        (gateway.addr, "127.0.0.1", operator, 200),
        (gateway.addr, "127.0.0.1", other, 403),
        (gateway.addr, "127.0.0.1", "", 403),
        (gateway.addr, "127.0.0.2", operator, 403),
        (own, "127.0.0.1", operator, 403),
        (own, "127.0.0.2", operator, 403),
    ] {
        let ask = get("/admin/status").from(peer).with(fields);
        let answer = ask.at(address).await;
        assert_eq!(answer.status, status, "{address} {peer} {fields}");
    }
}
