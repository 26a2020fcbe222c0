//! One application and one sandbox, joined.

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use nestcms::{
    app::{App, AppState, Deps},
    domain::event::EventData,
    events::Recorder,
    settings::{Secret, Settings},
};
use paytabs_sandbox::{Clock, RetryPolicy, Sandbox, SandboxConfig, Stats, Switches};
use reqwest::{RequestBuilder, Response, StatusCode};
use resilience_core::{
    breaker::{Config, State},
    clock::ManualClock,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use webhook_verify::{Signer, clock::ManualWallClock, presets};

pub(crate) const KEY: &str = "sandbox-server-key-for-tests";
pub(crate) const SECRET: &str = "timestamped-secret-for-tests";
pub(crate) const RESET: Duration = Duration::from_secs(30);
const PAYTABS_PROFILE: u64 = 4242;

/// One application, one sandbox, one signed-in client.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) app: AppState,
    pub(crate) switches: Switches,
    pub(crate) stats: Stats,
    pub(crate) clock: ManualClock,
    pub(crate) wall: ManualWallClock,
    pub(crate) events: Recorder,
    pub(crate) http: reqwest::Client,
    pub(crate) dir: TempDir,
    token: String,
    _stop: DropGuard,
}

impl World {
    /// One that does not wait long for a locked file.
    pub(crate) async fn impatient() -> Self {
        Self::with(|settings| settings.database.busy_timeout = Duration::from_millis(100)).await
    }

    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        super::callback::write_steps_down();
        let stop = CancellationToken::new();
        let wall = ManualWallClock::new(1_800_000_000);
        let sandbox_wall = wall.clone();
        let sandbox = Sandbox::bind(SandboxConfig {
            profile_id: PAYTABS_PROFILE,
            server_key: KEY.to_owned(),
            clock: Clock::new(move || webhook_verify::clock::WallClock::now(&sandbox_wall)),
            retry: RetryPolicy {
                base_delay: Duration::from_millis(20),
                ..RetryPolicy::default()
            },
            ..SandboxConfig::default()
        })
        .await
        .unwrap();
        let (switches, stats) = (sandbox.switches(), sandbox.stats());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let dir = TempDir::new();

        let mut settings = Settings::demo();
        settings.public_url = url.clone();
        settings.database.path = dir.0.join("nestcms.db");
        // Machines may be busy.
        settings.database.busy_timeout = Duration::from_secs(20);
        settings.paytabs.base_url = sandbox.url();
        settings.paytabs.profile_id = PAYTABS_PROFILE;
        settings.paytabs.server_key = Secret::new(KEY);
        settings.webhook.secrets = vec![Secret::new(SECRET), Secret::new(KEY)];
        settings.auth.bcrypt_cost = 4;
        // Jobs run when a test calls them.
        settings.jobs.expiry_scan = Duration::from_secs(3600);
        settings.jobs.verification = Duration::from_secs(3600);
        settings.jobs.refund = Duration::from_secs(3600);
        settings.jobs.invalidation = Duration::from_secs(3600);
        // What is queued here is done at once, and nobody looks for more.
        settings.tasks.poll = Duration::from_secs(3600);
        let breaker = Config::builder()
            .consecutive_failures(5)
            .failure_rate(0.5)
            .minimum_calls(10)
            .probe_failures(0)
            .reset_timeout(RESET)
            .build()
            .unwrap();
        for name in ["paytabs", "cache", "database"] {
            settings.breakers.insert(name.to_owned(), breaker.clone());
        }
        change(&mut settings);

        let clock = ManualClock::new();
        let deps = Deps {
            clock: clock.clone().into(),
            wall: Arc::new(wall.clone()),
            ..Deps::default()
        };
        let app = App::build(settings, deps).await.unwrap();
        let state = app.state().clone();
        tokio::spawn(sandbox.serve(stop.clone().cancelled_owned()));
        tokio::spawn(app.serve(listener, stop.clone().cancelled_owned()));

        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        let token = login(&http, &url).await;
        Self {
            events: state.bus().recorder(),
            app: state,
            url,
            switches,
            stats,
            clock,
            wall,
            http,
            dir,
            token,
            _stop: stop.drop_guard(),
        }
    }

    /// A request with the client's token.
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.http
            .get(format!("{}{path}", self.url))
            .bearer_auth(&self.token)
    }

    /// A request with the client's token.
    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.http
            .post(format!("{}{path}", self.url))
            .bearer_auth(&self.token)
    }

    /// The same request with the client's token.
    pub(crate) fn signed_in(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(&self.token)
    }

    /// `POST /api/v2/payments` of 12.50 SAR.
    pub(crate) async fn create_with_key(&self, key: &str) -> Response {
        let body = json!({ "amount": "12.50", "currency": "SAR", "order_ref": "order-1" });
        let request = self.post("/api/v2/payments").header("idempotency-key", key);
        request.json(&body).send().await.unwrap()
    }

    /// The id of a new payment.
    pub(crate) async fn created(&self) -> String {
        let response = self
            .create_with_key(&uuid::Uuid::new_v4().to_string())
            .await;
        assert_eq!(response.status(), StatusCode::CREATED);
        text(&body(response).await, "id")
    }

    pub(crate) async fn initiate(&self, id: &str) -> Response {
        let path = format!("/api/v2/payments/{id}/initiate");
        self.post(&path).send().await.unwrap()
    }

    /// The id and page of a payment that waits for its payer.
    pub(crate) async fn initiated(&self) -> (String, String) {
        let id = self.created().await;
        let response = self.initiate(&id).await;
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        let page = response.headers()["location"].to_str().unwrap().to_owned();
        (id, page)
    }

    /// The payment as the API shows it.
    pub(crate) async fn payment(&self, id: &str) -> Value {
        let response = self
            .get(&format!("/api/v2/payments/{id}"))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        body(response).await
    }

    pub(crate) async fn status(&self, id: &str) -> String {
        text(&self.payment(id).await, "status")
    }

    /// Waits, bounded, until the payment is in that state.
    pub(crate) async fn until_status(&self, id: &str, wanted: &str) {
        eventually(wanted, async || self.status(id).await == wanted).await;
    }

    /// The payer decides on PayTabs' page; the callback follows by itself.
    pub(crate) async fn decide(&self, page: &str, decision: &str) {
        let form = self.http.post(page).body(format!("decision={decision}"));
        let form = form.header("content-type", "application/x-www-form-urlencoded");
        assert_eq!(form.send().await.unwrap().status(), StatusCode::OK);
    }

    /// The body of a callback for a payment, paid.
    pub(crate) async fn callback_body(&self, id: &str) -> String {
        let payment = self.payment(id).await;
        callback_body(&text(&payment, "provider_ref"), id, "12.50")
    }

    /// Posts a body signed in the timestamped scheme.
    pub(crate) async fn deliver(&self, body: &str) -> Response {
        self.signed(body).send().await.unwrap()
    }

    pub(crate) fn signed(&self, body: &str) -> RequestBuilder {
        let now = webhook_verify::clock::WallClock::now(&self.wall);
        self.signed_at(body, now, SECRET)
    }

    pub(crate) fn signed_at(&self, body: &str, at: Duration, secret: &str) -> RequestBuilder {
        let secret = webhook_verify::Secret::new("test", secret).unwrap();
        let signer = Signer::new(presets::timestamped(), secret);
        self.webhook(body)
            .headers(signer.sign_at(at, body.as_bytes()).unwrap())
    }

    /// An unsigned delivery.
    pub(crate) fn webhook(&self, body: &str) -> RequestBuilder {
        self.http
            .post(format!("{}/api/v2/payments/webhook", self.url))
            .header("content-type", "application/json")
            .body(body.to_owned())
    }

    /// Makes PayTabs fail until its breaker opens, and recover without its knowing.
    pub(crate) async fn open_paytabs(&self) {
        self.fail(Some(500));
        for _ in 0..5 {
            let id = self.created().await;
            let response = self.initiate(&id).await;
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        }
        assert_eq!(self.app.breakers().paytabs().state(), State::Open);
        self.fail(None);
        self.events.clear();
    }

    /// Lets PayTabs answer with this error, or well.
    pub(crate) fn fail(&self, error: Option<u16>) {
        self.switches.update(|s| s.error = error);
    }

    pub(crate) fn requests(&self) -> u64 {
        self.stats.snapshot().payment_request
    }

    /// How many SecurityAlerts of a kind there were.
    pub(crate) fn alerts(&self, wanted: &str) -> usize {
        let fits = |data: &EventData| matches!(data, EventData::SecurityAlert { kind, .. } if kind == wanted);
        self.events.matching(fits).len()
    }

    /// What the events of one type say in one field.
    pub(crate) fn field(&self, event_type: &str, field: &str) -> Vec<Value> {
        let events = self.events.events();
        let of_type = events.iter().filter(|e| e.event_type() == event_type);
        of_type
            .map(|e| serde_json::to_value(&**e).unwrap()["data"][field].clone())
            .collect()
    }
}

pub(crate) fn callback_body(provider_ref: &str, id: &str, amount: &str) -> String {
    json!({
        "tran_ref": provider_ref,
        "tran_type": "Sale",
        "cart_id": id,
        "cart_currency": "SAR",
        "cart_amount": amount,
        "payment_result": { "response_status": "A", "response_code": "1", "response_message": "ok" },
    })
    .to_string()
}

pub(crate) async fn body(response: Response) -> Value {
    response.json().await.unwrap()
}

pub(crate) fn text(value: &Value, field: &str) -> String {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field} in {value}"))
        .to_owned()
}

/// Polls a condition, bounded; the pause only spares the processor.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let poll = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let bounded = tokio::time::timeout(Duration::from_secs(60), poll).await;
    assert!(bounded.is_ok(), "waited in vain for: {what}");
}

/// The token of the demonstration's user.
pub(crate) async fn login(http: &reqwest::Client, url: &str) -> String {
    let credentials = json!({ "email": "demo@nestcms.test", "password": "demo-password" });
    let login = http
        .post(format!("{url}/api/v1/auth/login"))
        .json(&credentials);
    text(&body(login.send().await.unwrap()).await, "access_token")
}

/// A directory that goes away with the test.
pub(crate) struct TempDir(pub(crate) PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("nestcms-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
