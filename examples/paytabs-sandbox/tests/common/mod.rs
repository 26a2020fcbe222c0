//! A started sandbox and a shop that collects callbacks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use paytabs_sandbox::{RetryPolicy, Sandbox, SandboxConfig, Stats, Switches};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const KEY: &str = "test-server-key";
const BOUND: Duration = Duration::from_secs(20);

/// Polls `holds` until it does.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    tokio::time::timeout(BOUND, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

pub(crate) struct Started {
    pub(crate) url: String,
    pub(crate) switches: Switches,
    pub(crate) stats: Stats,
    client: reqwest::Client,
    _stop: DropGuard,
}

impl Started {
    pub(crate) async fn new() -> Self {
        let sandbox = Sandbox::bind(SandboxConfig {
            server_key: KEY.into(),
            retry: RetryPolicy {
                base_delay: Duration::from_millis(5),
                ..RetryPolicy::default()
            },
            ..SandboxConfig::default()
        })
        .await
        .expect("bind");
        let stop = CancellationToken::new();
        let started = Self {
            url: sandbox.url(),
            switches: sandbox.switches(),
            stats: sandbox.stats(),
            client: reqwest::Client::builder()
                .timeout(BOUND)
                .build()
                .expect("client"),
            _stop: stop.clone().drop_guard(),
        };
        tokio::spawn(sandbox.serve(stop.cancelled_owned()));
        started
    }

    pub(crate) async fn post_as(&self, key: &str, path: &str, body: &Value) -> reqwest::Response {
        self.request(key, path, body).await.expect("answer")
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        self.post_as(KEY, path, body).await
    }

    pub(crate) async fn switch(&self, body: Value) -> reqwest::Response {
        let url = format!("{}/sandbox/switches", self.url);
        self.client
            .put(url)
            .json(&body)
            .send()
            .await
            .expect("answer")
    }

    pub(crate) async fn try_open(
        &self,
        shop: &Shop,
        amount: Value,
    ) -> reqwest::Result<reqwest::Response> {
        let body = json!({
            "profile_id": 4242, "tran_type": "sale", "tran_class": "ecom",
            "cart_id": "cart-1", "cart_description": "a book", "cart_currency": "AED",
            "cart_amount": amount, "callback": shop.url("/callback"),
            "return": shop.url("/return"),
        });
        self.request(KEY, "/payment/request", &body).await
    }

    pub(crate) async fn open(&self, shop: &Shop, amount: Value) -> Value {
        let answer = self.try_open(shop, amount).await.expect("answer");
        assert_eq!(answer.status(), 200);
        answer.json().await.expect("JSON")
    }

    /// Presses a button of the hosted page.
    pub(crate) async fn decide(&self, opened: &Value, decision: &str) -> String {
        let url = opened["redirect_url"].as_str().expect("a URL");
        let shown = self.client.get(url).send().await.expect("page");
        assert_eq!(shown.status(), 200);
        let form = [("decision", decision)];
        let answer = self
            .client
            .post(url)
            .form(&form)
            .send()
            .await
            .expect("page");
        assert_eq!(answer.status(), 200);
        answer.text().await.expect("text")
    }

    /// The status letter that a query answers.
    pub(crate) async fn status(&self, tran_ref: &str) -> String {
        let body = json!({"profile_id": 4242, "tran_ref": tran_ref});
        let answer: Value = self
            .post("/payment/query", &body)
            .await
            .json()
            .await
            .expect("JSON");
        let letter = &answer["payment_result"]["response_status"];
        letter.as_str().expect("a status").to_owned()
    }

    async fn request(
        &self,
        key: &str,
        path: &str,
        body: &Value,
    ) -> reqwest::Result<reqwest::Response> {
        self.client
            .post(format!("{}{path}", self.url))
            .header("authorization", key)
            .json(body)
            .send()
            .await
    }
}

pub(crate) struct Received {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A shop that keeps the callbacks it gets.
pub(crate) struct Shop {
    url: String,
    received: Mutex<mpsc::UnboundedReceiver<Received>>,
    refusals: Arc<AtomicU32>,
    _stop: DropGuard,
}

impl Shop {
    pub(crate) async fn start() -> Self {
        let (sender, received) = mpsc::unbounded_channel();
        let refusals = Arc::new(AtomicU32::new(0));
        let left = refusals.clone();
        let callback = move |headers: HeaderMap, body: Bytes| async move {
            let _ = sender.send(Received { headers, body });
            let refuse =
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
            match refuse {
                Ok(_) => StatusCode::SERVICE_UNAVAILABLE,
                Err(_) => StatusCode::OK,
            }
        };
        let router = Router::new().route("/callback", post(callback));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(stopped)
                .await
        });
        Self {
            url,
            received: Mutex::new(received),
            refusals,
            _stop: stop.drop_guard(),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Answers 503 to so many callbacks from now on.
    pub(crate) fn refuse_next(&self, times: u32) {
        self.refusals.store(times, Ordering::Relaxed);
    }

    /// The next callback.
    pub(crate) async fn next(&self) -> Received {
        let mut received = self.received.lock().await;
        tokio::time::timeout(BOUND, received.recv())
            .await
            .expect("a callback in time")
            .expect("the shop runs")
    }
}
