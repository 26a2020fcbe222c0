//! What it changes, and what that does to traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use resilience_core::clock::ManualClock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use gateway_kit::ReloadTrigger;
use gateway_kit::config::AdminToken;

use super::{SECTION, TOKEN, get, send, start, start_at};
use crate::support::{
    PATIENCE, Running, Upstream, nobody, raw_between, read_head, routed, soon, until,
};

#[tokio::test]
async fn a_changed_limit_holds_from_the_next_request_on_the_same_connection() {
    // I1.c6
    let upstream = Upstream::start().await;
    let limit = "[rate_limit]\nrequests = 1\nwindow = \"1h\"\nburst = 2\n";
    let clock = ManualClock::new();
    let gateway = start_at(&(routed(&[upstream.addr]) + limit), &clock).await;
    let mut client = gateway.connect().await;
    let mut ask = async || {
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
            .await
            .unwrap();
        let (head, mut rest) = read_head(&mut client).await;
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        while rest.len() < length {
            assert_ne!(soon(client.read_buf(&mut rest)).await.unwrap(), 0);
        }
        let wait = head
            .lines()
            .find_map(|line| line.strip_prefix("retry-after: "));
        (head[9..12].parse::<u16>().unwrap(), wait.map(str::to_owned))
    };
    for (status, wait) in [(200, None), (200, None), (429, Some("3600"))] {
        assert_eq!(ask().await, (status, wait.map(str::to_owned)));
    }
    let more = json!({ "limit": "address", "requests": 1000, "window_seconds": 1 });
    let answer = send("PUT", "/admin/limits/rate", more).of(&gateway).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["burst"], 1000);
    assert_eq!(answer.json()["changed"], true);
    // The bucket is as empty as it was, and fills faster.
    assert_eq!(ask().await, (429, Some("1".to_owned())));
    clock.advance(Duration::from_secs(1));
    for _ in 0..100 {
        assert_eq!(ask().await.0, 200);
    }
    let limits = get("/admin/limits").of(&gateway).await.json();
    assert_eq!(limits["rates"][0]["changed"], true);
    for (body, status, field) in [
        (json!({ "limit": "none", "requests": 1 }), 404, None),
        (
            json!({ "limit": "address", "requests": 0 }),
            400,
            Some("requests"),
        ),
        (
            json!({ "limit": "address", "requests": 1, "window_seconds": 90_000 }),
            400,
            Some("window_seconds"),
        ),
        (
            json!({ "limit": "address", "requests": 1, "window_seconds": 86_400, "burst": 1000 }),
            422,
            Some("burst"),
        ),
        (
            json!({ "limit": "address", "requests": "many" }),
            400,
            Some("requests"),
        ),
    ] {
        let answer = send("PUT", "/admin/limits/rate", body.clone())
            .of(&gateway)
            .await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert_eq!(answer.json()["field"].as_str(), field, "{body}");
    }
    assert_eq!(ask().await.0, 200);
}

#[tokio::test]
async fn a_drained_endpoint_gets_no_new_requests_and_comes_back() {
    let upstreams = [Upstream::start().await, Upstream::start().await];
    let gateway = start(&routed(&[upstreams[0].addr, upstreams[1].addr])).await;
    let path = format!("/admin/loadbalancer/shop/endpoints/{}", upstreams[0].addr);
    let answer = send("PATCH", &path, json!({ "weight": 0 }))
        .of(&gateway)
        .await;
    assert_eq!(
        (answer.status, answer.json()["state"].as_str()),
        (200, Some("drained"))
    );
    assert_eq!(answer.json()["configured_weight"], 1);
    for _ in 0..6 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!((upstreams[0].calls(), upstreams[1].calls()), (0, 6));
    // The colon of the address may come as an escape.
    let escaped = path.replace(
        &upstreams[0].addr.to_string(),
        &upstreams[0].addr.to_string().replace(':', "%3A"),
    );
    let answer = send("PATCH", &escaped, json!({ "weight": 1 }))
        .of(&gateway)
        .await;
    assert_eq!(answer.status, 200);
    for _ in 0..6 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!((upstreams[0].calls(), upstreams[1].calls()), (3, 9));
    // To JSON Schema 2.0 is an integer.
    for (weight, status) in [(json!(2.0), 200), (json!(2.5), 400), (json!(1.0), 200)] {
        let answer = send("PATCH", &path, json!({ "weight": weight }))
            .of(&gateway)
            .await;
        assert_eq!(answer.status, status, "{weight}");
    }
    let twice = format!(
        "PATCH {path} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: 25\r\n\r\n{{\"weight\":1,\"weight\":2.0}}"
    );
    let answer = raw_between("127.0.0.1", gateway.admin_addr.unwrap(), &twice).await;
    assert_eq!(answer.status, 400);
    let answer = send("PATCH", &path, json!({ "weight": 1001 }))
        .of(&gateway)
        .await;
    let problem = answer.json();
    assert_eq!(
        (answer.status, problem["field"].as_str()),
        (400, Some("weight"))
    );
    assert_eq!(
        (&problem["value"], &problem["allowed"]),
        (&1001.into(), &"0 to 1000".into())
    );
    for path in [
        "/admin/loadbalancer/shop/endpoints/1.2.3.4:5",
        "/admin/loadbalancer/none/endpoints/1.2.3.4:5",
    ] {
        let answer = send("PATCH", path, json!({ "weight": 1 }))
            .of(&gateway)
            .await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn an_endpoint_is_registered_renewed_taken_out_and_forgotten_in_time() {
    let upstreams = [Upstream::start().await, Upstream::start().await];
    let config = "[[route]]\nprefix = \"/\"\nupstream = \"shop\"\n\
        [upstream.shop]\ndiscovery = { api = true }\n";
    let clock = ManualClock::new();
    let gateway = start_at(config, &clock).await;
    assert_eq!(gateway.get("/").await.status, 503);
    let path = "/admin/loadbalancer/shop/endpoints";
    let body = |index: usize| json!({ "url": format!("http://{}", upstreams[index].addr), "ttl_seconds": 60 });
    for index in [0, 1] {
        let answer = send("POST", path, body(index)).of(&gateway).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let endpoint = answer.json();
        assert_eq!(
            (&endpoint["source"], &endpoint["expires_in_seconds"]),
            (&"registered".into(), &60.0.into())
        );
        assert_eq!(gateway.get("/").await.status, 200);
    }
    clock.advance(Duration::from_secs(50));
    assert_eq!(send("POST", path, body(0)).of(&gateway).await.status, 200);
    clock.advance(Duration::from_secs(20));
    let lb = get("/admin/loadbalancer/shop").of(&gateway).await.json();
    assert_eq!(lb["endpoints"].as_array().map(Vec::len), Some(1));
    let taken = format!("{path}/{}", upstreams[0].addr);
    let delete = || super::Ask {
        method: "DELETE",
        ..get(&taken)
    };
    assert_eq!(delete().of(&gateway).await.status, 200);
    assert_eq!(delete().of(&gateway).await.status, 404);
    assert_eq!(gateway.get("/").await.status, 503);
    for (field, value, status) in [
        ("url", json!("ftp://a:1"), 400),
        ("url", json!("http://a"), 400),
        ("url", json!("http://a:65536"), 400),
        ("url", json!("http://a:1/path"), 400),
        ("url", json!("http://[::::]:1"), 422),
        ("ttl_seconds", json!(0), 400),
        ("ttl_seconds", json!(90_000), 400),
        ("weight", json!(1001), 400),
        ("priority", json!(256), 400),
        ("zone", json!("z".repeat(101)), 400),
    ] {
        let mut body = body(0);
        body[field] = value.clone();
        let answer = send("POST", path, body).of(&gateway).await;
        assert_eq!(
            (answer.status, answer.json()["field"].as_str()),
            (status, Some(field)),
            "{value}"
        );
    }
}

#[tokio::test]
async fn registrations_and_what_is_configured_are_not_mixed_up() {
    let upstream = Upstream::start().await;
    let gateway = start(&routed(&[upstream.addr])).await;
    let path = "/admin/loadbalancer/shop/endpoints";
    let body = json!({ "url": "http://127.0.0.1:9", "ttl_seconds": 60 });
    let answer = send("POST", path, body).of(&gateway).await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (409, Some("not_registered"))
    );
    let path = format!("{path}/{}", upstream.addr);
    let answer = super::Ask {
        method: "DELETE",
        ..get(&path)
    }
    .of(&gateway)
    .await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (409, Some("not_registered"))
    );
    assert_eq!(gateway.get("/").await.status, 200);
}

#[tokio::test]
async fn a_breaker_is_forced_let_go_and_reset() {
    let upstreams = [Upstream::start().await, Upstream::start().await];
    let gateway = start(&routed(&[upstreams[0].addr, upstreams[1].addr])).await;
    let path = "/admin/circuitbreaker/shop";
    let first = upstreams[0].addr.to_string();
    let act = async |action: &str, endpoint: Option<&str>| {
        let body = json!({ "action": action, "endpoint": endpoint });
        send("POST", path, body).of(&gateway).await
    };
    let answer = act("force_open", Some(&first)).await;
    assert_eq!(answer.status, 200);
    let breakers = answer.json();
    assert_eq!(breakers["breakers"][0]["mode"], "forced_open");
    assert_eq!(breakers["breakers"][1]["mode"], "automatic");
    for _ in 0..4 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!((upstreams[0].calls(), upstreams[1].calls()), (0, 4));
    assert_eq!(act("force_open", None).await.status, 200);
    assert_eq!(gateway.get("/").await.json()["code"], "circuit_open");
    assert_eq!(act("automatic", None).await.status, 200);
    assert_eq!(act("reset", None).await.status, 200);
    assert_eq!(gateway.get("/").await.status, 200);
    let answer = act("force_closed", Some(&first)).await.json();
    assert_eq!(answer["breakers"][0]["mode"], "forced_closed");
    assert_eq!(act("reset", Some("1.2.3.4:5")).await.status, 404);
    assert_eq!(act("explode", None).await.status, 400);
}

#[tokio::test]
async fn a_split_is_moved_at_once_and_never_to_nowhere() {
    let upstreams = [Upstream::start().await, Upstream::start().await];
    let config = format!(
        "[[route]]\nname = \"api\"\nprefix = \"/\"\n\
         split = [{{ upstream = \"blue\", weight = 1 }}, {{ upstream = \"green\", weight = 0 }}]\n\
         [upstream.blue]\nendpoints = [\"http://{}\"]\n[upstream.green]\nendpoints = [\"http://{}\"]\n",
        upstreams[0].addr, upstreams[1].addr
    );
    let gateway = start(&config).await;
    assert_eq!(gateway.get("/").await.status, 200);
    let path = "/admin/routes/split";
    let body = json!({ "route": "api", "weights": { "blue": 0, "green": 1 } });
    let answer = send("PATCH", path, body).of(&gateway).await;
    assert_eq!(
        (answer.status, &answer.json()["upstreams"][1]["weight"]),
        (200, &1.into())
    );
    for _ in 0..4 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!((upstreams[0].calls(), upstreams[1].calls()), (1, 4));
    for (body, status) in [
        (json!({ "route": "api", "weights": { "green": 0 } }), 422),
        (json!({ "route": "api", "weights": { "red": 1 } }), 422),
        (json!({ "route": "api", "weights": {} }), 400),
        (json!({ "route": "api", "weights": { "blue": 1001 } }), 400),
        (json!({ "route": "other", "weights": { "blue": 1 } }), 404),
    ] {
        let answer = send("PATCH", path, body.clone()).of(&gateway).await;
        assert_eq!(answer.status, status, "{body}");
    }
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(upstreams[1].calls(), 5);
}

#[tokio::test]
async fn a_bulkhead_is_made_narrower_and_wider() {
    let upstream = Upstream::start().await;
    let line = "bulkhead = { limit = 10, max_queue = 3, max_wait = \"7s\" }\n";
    let gateway = start(&(routed(&[upstream.addr]) + line)).await;
    let path = "/admin/limits/bulkhead";
    // What is not said stays.
    let narrow = json!({ "service": "shop", "limit": 2 });
    assert_eq!(send("PUT", path, narrow).of(&gateway).await.status, 200);
    let now = gateway.handle.bulkheads().remove(0).config;
    let wait = Some(Duration::from_secs(7));
    assert_eq!((now.limit(), now.max_queue(), now.max_wait()), (2, 3, wait));
    let answer = send(
        "PUT",
        path,
        json!({ "service": "shop", "limit": 1, "max_queue": 4 }),
    )
    .of(&gateway)
    .await;
    let bulkhead = answer.json();
    assert_eq!(
        (answer.status, &bulkhead["limit"], &bulkhead["max_queue"]),
        (200, &1.into(), &4.into())
    );
    assert_eq!(bulkhead["changed"], true);
    assert_eq!(gateway.get("/").await.status, 200);
    let answer = send(
        "PUT",
        path,
        json!({ "service": "shop", "limit": 10, "max_queue": 3 }),
    )
    .of(&gateway)
    .await;
    assert_eq!(answer.json()["changed"], false);
    let other = send("PUT", path, json!({ "service": "none", "limit": 1 }))
        .of(&gateway)
        .await;
    assert_eq!(other.status, 404);
    let zero = send("PUT", path, json!({ "service": "shop", "limit": 0 }))
        .of(&gateway)
        .await;
    assert_eq!(
        (zero.status, zero.json()["field"].as_str()),
        (400, Some("limit"))
    );
}

#[tokio::test]
async fn of_two_changes_to_the_same_revision_the_second_is_refused() {
    let gateway = start(&routed(&[nobody().await])).await;
    let status = get("/admin/status").of(&gateway).await;
    let revision = status.json()["revision"].as_u64().unwrap();
    assert_eq!(
        status.header("revision"),
        Some(revision.to_string().as_str())
    );
    let field = format!("if-revision: {revision}\r\n");
    let path = "/admin/circuitbreaker/shop";
    let open = || send("POST", path, json!({ "action": "force_open" })).with(&field);
    let first = open().of(&gateway).await;
    assert_eq!(first.status, 200);
    assert_ne!(
        first.header("revision"),
        Some(revision.to_string().as_str())
    );
    let second = open().of(&gateway).await;
    assert_eq!(
        (second.status, second.json()["code"].as_str()),
        (409, Some("revision_changed"))
    );
    // Whoever only looks cannot be too late.
    let look = get("/admin/status").with(&field).of(&gateway).await;
    assert_eq!(look.status, 200);
    for bad in [
        "if-revision: x\r\n",
        "if-revision: -1\r\n",
        "if-revision: 99999999999999999999\r\n",
    ] {
        let answer = send("POST", path, json!({ "action": "reset" }))
            .with(bad)
            .of(&gateway)
            .await;
        assert_eq!(
            (answer.status, answer.json()["field"].as_str()),
            (400, Some("if-revision")),
            "{bad}"
        );
    }
    // A program that changes something by its handle is seen as well.
    let before = gateway.handle.revision();
    assert!(gateway.handle.reset_breaker("shop", None));
    assert_eq!(gateway.handle.revision(), before + 1);
    assert!(!gateway.handle.reset_breaker("none", None));
    assert_eq!(gateway.handle.revision(), before + 1);
}

#[tokio::test]
async fn changes_are_remembered_with_who_what_before_and_after() {
    let upstream = nobody().await;
    let gateway = start(&routed(&[upstream])).await;
    let path = format!("/admin/loadbalancer/shop/endpoints/{upstream}");
    assert_eq!(
        send("PATCH", &path, json!({ "weight": 7 }))
            .of(&gateway)
            .await
            .status,
        200
    );
    // What is refused changes nothing.
    assert_eq!(
        send("PATCH", &path, json!({ "weight": -7 }))
            .of(&gateway)
            .await
            .status,
        400
    );
    let changes = get("/admin/changes").of(&gateway).await.json();
    let changes = changes["changes"].as_array().unwrap();
    let [change] = changes.as_slice() else {
        panic!("{changes:?}")
    };
    let target = format!("shop/{upstream}");
    let wanted: [(&str, Value); 6] = [
        ("actor", "127.0.0.1".into()),
        ("by", "token".into()),
        ("action", "endpoint.weight".into()),
        ("target", target.into()),
        ("before", 1.into()),
        ("after", 7.into()),
    ];
    for (field, value) in wanted {
        assert_eq!(change[field], value, "{field}");
    }
    assert_eq!(change["revision"], gateway.handle.revision());
}

#[tokio::test]
async fn a_reload_is_asked_for_and_a_refused_one_says_why() {
    let upstream = Upstream::start().await;
    let file = std::env::temp_dir().join(format!("gateway-{}-admin.toml", std::process::id()));
    let text = format!(
        "listen = \"127.0.0.1:0\"\nreload = false\n{}{SECTION}",
        routed(&[upstream.addr])
    );
    let other = text.replace("prefix = \"/\"", "prefix = \"/other\"");
    std::fs::write(&file, &text).unwrap();
    let source = gateway_kit::config::Source::file(&file)
        .variables(|name| (name == "ADMIN_TOKEN").then(|| TOKEN.to_owned()));
    let builder = gateway_kit::Gateway::builder(source.load().unwrap()).source(source);
    let gateway = Running::of(builder).await;
    let reload = || super::Ask {
        method: "POST",
        ..get("/admin/reload")
    };
    assert_eq!(reload().of(&gateway).await.json()["outcome"], "unchanged");
    std::fs::write(&file, &other).unwrap();
    let answer = reload().of(&gateway).await;
    assert_eq!(
        (answer.status, answer.json()["outcome"].as_str()),
        (200, Some("applied"))
    );
    assert_eq!(answer.json()["diff"]["routes"]["added"][0], "/other");
    assert_eq!(gateway.get("/").await.status, 404);
    assert_eq!(gateway.get("/other").await.status, 200);

    std::fs::write(&file, text.replace("prefix = \"/\"", "prefix = \"x\"")).unwrap();
    let answer = reload().of(&gateway).await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (422, Some("reload_refused"))
    );
    let reason = answer.json()["allowed"].as_str().unwrap().to_owned();
    assert!(reason.contains("route[0].prefix = \"x\""), "{reason}");
    assert_eq!(gateway.get("/other").await.status, 200);
    let history = get("/admin/reloads").of(&gateway).await.json();
    let outcomes: Vec<_> = history["reloads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["outcome"])
        .collect();
    assert_eq!(outcomes, ["refused", "applied", "unchanged", "applied"]);
    assert_eq!(history["reloads"][0]["reason"], reason);
    assert_eq!(history["reloads"][0]["trigger"], "admin");
    let changes = get("/admin/changes").of(&gateway).await.json();
    assert_eq!(changes["changes"].as_array().map(Vec::len), Some(2));
    std::fs::remove_file(&file).unwrap();
}

#[cfg(feature = "cache")]
#[tokio::test]
async fn the_cache_is_purged_by_address_start_and_route() {
    let upstream = Upstream::answering(|_| {
        let answer = http::Response::builder().header("cache-control", "max-age=60");
        answer.body(http_body_util::Full::from("kept")).unwrap()
    })
    .await;
    let config = routed(&[upstream.addr])
        .replace("upstream = \"shop\"", "upstream = \"shop\"\nname = \"all\"");
    let gateway = start(&(config + "[cache]\n")).await;
    let purge = async |body: Value| {
        let answer = send("POST", "/admin/cache/purge", body).of(&gateway).await;
        (answer.status, answer.json()["addresses"].as_u64())
    };
    let mut asked = 0;
    for (body, forgotten) in [
        (json!({ "address": "gateway.test/a" }), 1),
        (json!({ "address": "gateway.test/none" }), 0),
        (json!({ "below": "gateway.test/" }), 2),
        (json!({ "route": "all" }), 2),
        (json!({ "below": "" }), 2),
    ] {
        for path in ["/a", "/b", "/a", "/b"] {
            assert_eq!(gateway.get(path).await.status, 200);
        }
        // Twice kept, whatever was forgotten before.
        asked = asked.max(2);
        assert_eq!(
            get("/admin/cache").of(&gateway).await.json()["addresses"],
            2
        );
        assert_eq!(upstream.calls(), asked, "{body}");
        assert_eq!(purge(body).await, (200, Some(forgotten)));
        asked += forgotten as usize;
    }
    for bad in [
        json!({}),
        json!({ "all": true }),
        json!({ "route": "a", "below": "b" }),
    ] {
        assert_eq!(purge(bad).await.0, 400);
    }
    let changes = get("/admin/changes").of(&gateway).await.json();
    assert_eq!(changes["changes"][0]["action"], "cache.purge");
}

#[tokio::test]
async fn what_is_set_by_hand_outlives_a_reload_until_its_setting_changes() {
    let upstream = nobody().await;
    let limits = "bulkhead = { limit = 5 }\n[rate_limit]\nrequests = 60\n";
    let text = routed(&[upstream]) + limits;
    let gateway = start(&text).await;
    let endpoint = format!("/admin/loadbalancer/shop/endpoints/{upstream}");
    for (method, path, body) in [
        ("PATCH", endpoint.as_str(), json!({ "weight": 7 })),
        (
            "PUT",
            "/admin/limits/rate",
            json!({ "limit": "address", "requests": 120 }),
        ),
        (
            "PUT",
            "/admin/limits/bulkhead",
            json!({ "service": "shop", "limit": 9 }),
        ),
        (
            "POST",
            "/admin/circuitbreaker/shop",
            json!({ "action": "force_closed" }),
        ),
    ] {
        assert_eq!(
            send(method, path, body).of(&gateway).await.status,
            200,
            "{path}"
        );
    }
    let figures = async || {
        let limits = get("/admin/limits").of(&gateway).await.json();
        let lb = get("/admin/loadbalancer/shop").of(&gateway).await.json();
        let endpoint = &lb["endpoints"][0];
        let mode = endpoint["breaker"]["mode"].as_str().map(str::to_owned);
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        (
            number(&endpoint["weight"]),
            number(&limits["rates"][0]["burst"]),
            number(&limits["bulkheads"][0]["limit"]),
            mode.unwrap_or_default(),
        )
    };
    let by_hand = (7, 120, 9, "forced_closed".to_owned());
    assert_eq!(figures().await, by_hand);
    let reload = |text: &str| {
        let mut config = crate::support::parsed(&(text.to_owned() + SECTION));
        config.admin.as_mut().unwrap().token = AdminToken::try_from(TOKEN).ok();
        config.admin.as_mut().unwrap().listen =
            gateway.handle.config().admin.as_ref().unwrap().listen;
        let report = gateway.handle.reload(config);
        assert!(!report.is_refused(), "{report:?}");
    };
    reload(&text.replace("prefix = \"/\"", "prefix = \"/other\""));
    assert_eq!(figures().await, by_hand);
    let other = text
        .replace("requests = 60", "requests = 30")
        .replace("limit = 5", "limit = 6");
    let url = format!("\"http://{upstream}\"");
    reload(&other.replace(&url, &format!("{{ url = {url}, weight = 2 }}")));
    // A person's word on a breaker is no setting.
    assert_eq!(figures().await, (2, 30, 6, "forced_closed".to_owned()));
}

#[tokio::test]
async fn a_token_is_replaced_by_a_reload_and_the_admin_switched_off() {
    let text = routed(&[nobody().await]) + SECTION;
    let gateway = start(&routed(&[nobody().await])).await;
    let reload = |token: Option<&str>| {
        let mut config = crate::support::parsed(&text);
        config.admin.as_mut().unwrap().token =
            token.and_then(|token| AdminToken::try_from(token).ok());
        assert!(!gateway.handle.reload(config).is_refused());
    };
    let other = "the-token-after-it";
    reload(Some(other));
    assert_eq!(get("/admin/status").of(&gateway).await.status, 401);
    assert_eq!(
        get("/admin/status")
            .token(Some(other))
            .of(&gateway)
            .await
            .status,
        200
    );
    reload(None);
    let answer = get("/admin/status").token(Some(other)).of(&gateway).await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (404, Some("admin_off"))
    );
}

#[tokio::test]
async fn the_admin_answers_while_the_public_address_is_full() {
    let limit = "[server]\nmax_connections = 1\n";
    let gateway = start(&(routed(&[nobody().await]) + limit)).await;
    let mut client = gateway.connect().await;
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    read_head(&mut client).await;
    assert_eq!(get("/admin/status").of(&gateway).await.status, 200);
    drop(client);
}

#[tokio::test]
async fn what_the_guard_refuses_is_refused_here_too() {
    let gateway = start(&routed(&[nobody().await])).await;
    let admin = gateway.admin_addr.unwrap();
    for (raw, status) in [
        (
            "GET /admin/status HTTP/1.1\r\nconnection: close\r\n\r\n",
            400,
        ),
        (
            "GET /admin/status HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n",
            400,
        ),
        (
            "TRACE /admin/status HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            405,
        ),
        (
            "POST /admin/status HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
    ] {
        let answer = raw_between("127.0.0.1", admin, raw).await;
        assert_eq!(answer.status, status, "{raw}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
    }
}

#[tokio::test]
async fn a_reload_that_takes_its_time_holds_up_changes_and_nothing_else() {
    for trigger in [ReloadTrigger::Admin, ReloadTrigger::Signal] {
        slow_reload(trigger).await;
    }
}

async fn slow_reload(trigger: ReloadTrigger) {
    let upstream = Upstream::start().await;
    let name = format!(
        "gateway-{}-slow-{}.toml",
        std::process::id(),
        trigger.as_str()
    );
    let file = std::env::temp_dir().join(name);
    let text = format!(
        "listen = \"127.0.0.1:0\"\nreload = false\n{}{SECTION}",
        routed(&[upstream.addr])
    );
    std::fs::write(&file, &text).unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = parking_lot::Mutex::new(Some(held));
    let (hold, reads) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let (holds, reading) = (Arc::clone(&hold), Arc::clone(&reads));
    // As a file system that hangs.
    let source = gateway_kit::config::Source::file(&file).variables(move |name| {
        if holds.load(Ordering::SeqCst)
            && let Some(held) = held.lock().take()
        {
            reading.store(true, Ordering::SeqCst);
            let _ = held.recv_timeout(PATIENCE);
        }
        (name == "ADMIN_TOKEN").then(|| TOKEN.to_owned())
    });
    let builder = gateway_kit::Gateway::builder(source.load().unwrap()).source(source);
    let gateway = Arc::new(Running::of(builder).await);
    let field = format!("if-revision: {}\r\n", gateway.handle.revision());
    std::fs::write(&file, text.replace("prefix = \"/\"", "prefix = \"/a\"")).unwrap();
    hold.store(true, Ordering::SeqCst);
    let handle = gateway.handle.clone();
    let asked = Arc::clone(&gateway);
    let reload = tokio::spawn(async move {
        if trigger != ReloadTrigger::Admin {
            let reload = tokio::task::spawn_blocking(move || handle.reload_source(trigger));
            return serde_json::to_value(reload.await.unwrap()).unwrap();
        }
        let reload = super::Ask {
            method: "POST",
            ..get("/admin/reload")
        };
        reload.of(&asked).await.json()
    });
    until(|| reads.load(Ordering::SeqCst)).await;
    let path = format!("/admin/loadbalancer/shop/endpoints/{}", upstream.addr);
    let drain = send("PATCH", &path, json!({ "weight": 0 })).with(&field);
    let mut drain = std::pin::pin!(drain.of(&gateway));
    let early = tokio::time::timeout(Duration::from_millis(100), drain.as_mut()).await;
    assert!(early.is_err(), "{early:?}");
    for path in [
        "/admin/reloads",
        "/admin/status",
        "/admin/config",
        "/admin/changes",
    ] {
        assert_eq!(get(path).of(&gateway).await.status, 200, "{path}");
    }
    assert_eq!(gateway.get("/").await.status, 200);
    release.send(()).unwrap();
    assert_eq!(soon(reload).await.unwrap()["outcome"], "applied");
    // It was meant for what was in force before.
    assert_eq!(soon(drain).await.status, 409);
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn the_admin_stays_at_its_address_until_the_next_start() {
    let text = routed(&[nobody().await]) + SECTION;
    let gateway = start(&routed(&[nobody().await])).await;
    let mut config = crate::support::parsed(&text.replace("127.0.0.1:0", "127.0.0.1:1"));
    config.admin.as_mut().unwrap().token = AdminToken::try_from(TOKEN).ok();
    config.listen = gateway.handle.config().listen;
    let report = gateway.handle.reload(config);
    assert_eq!(report.at_next_start, ["admin.listen"]);
    let (now, then) = (gateway.handle.config(), crate::support::parsed(&text));
    let listen = |config: &gateway_kit::Config| config.admin.as_ref().map(|admin| admin.listen);
    assert_eq!(listen(&now), listen(&then));
    assert_eq!(get("/admin/status").of(&gateway).await.status, 200);
}

#[tokio::test]
async fn changes_and_reloads_tell_the_time_of_day_beside_that_since_the_start() {
    let config = routed(&[nobody().await]) + SECTION;
    let clock = ManualClock::new();
    let builder = super::builder(&config, Some(TOKEN)).clock(clock.clone());
    let day = || std::time::UNIX_EPOCH + Duration::from_millis(1_770_091_506_789);
    let gateway = Running::of(builder.wall_clock(day)).await;
    clock.advance(Duration::from_secs(3));
    let action = json!({ "action": "reset" });
    let answer = send("POST", "/admin/circuitbreaker/shop", action);
    assert_eq!(answer.of(&gateway).await.status, 200);
    assert!(
        gateway
            .handle
            .reload_source(ReloadTrigger::Call)
            .is_refused()
    );
    let changes = get("/admin/changes").of(&gateway).await.json();
    let reloads = get("/admin/reloads").of(&gateway).await.json();
    for one in [&changes["changes"][0], &reloads["reloads"][0]] {
        assert_eq!(one["at"], "2026-02-03T04:05:06.789Z", "{one}");
        assert_eq!(one["uptime_seconds"], 3.0, "{one}");
    }
    let document = get("/admin/openapi.json").of(&gateway).await.json();
    for name in ["Change", "ReloadReport"] {
        let fields = &document["components"]["schemas"][name]["properties"];
        assert_eq!(fields["at"]["format"], "date-time", "{name}");
        assert_eq!(fields["uptime_seconds"]["type"], "number", "{name}");
    }
}
