//! A crash between a webhook and its commit loses nothing.

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use paytabs_sandbox::{RetryPolicy, Sandbox, SandboxConfig};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use tokio_util::sync::CancellationToken;

const KEY: &str = "sandbox-server-key-for-tests";

/// The application is killed while it waits for the verification, and started again on
/// the same file. PayTabs' retry completes the payment, exactly once.
#[tokio::test]
async fn a_kill_between_webhook_and_commit_is_made_good_by_the_retry() {
    let dir = TempDir::new();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let sandbox = sandbox().await;
    let (switches, stats, paytabs) = (sandbox.switches(), sandbox.stats(), sandbox.url());
    tokio::spawn(sandbox.serve(stop.cancelled_owned()));
    let address = free_address();
    let config = write_config(&dir.0, address, &paytabs);
    let client = Client::new(address);

    let first = Program::start(&config);
    client.until_up().await;
    let token = client.login().await;
    let (id, page) = client.initiated_payment(&token).await;
    switches.update(|s| s.delay_ms = 60_000);
    client.pay(&page).await;
    eventually("the verification is under way", async || {
        stats.snapshot().payment_query == 1
    })
    .await;
    let file = dir.0.join("nestcms.db");
    assert_eq!(status(&file, &id).await, "processing");
    assert_eq!(count(&file, "webhook_deliveries").await, 0);
    first.kill();
    switches.update(|s| s.delay_ms = 0);
    assert_eq!(stats.snapshot().callbacks_acknowledged, 0);

    let _second = Program::start(&config);
    client.until_up().await;
    eventually("the retry is acknowledged", async || {
        stats.snapshot().callbacks_acknowledged == 1
    })
    .await;
    assert_eq!(status(&file, &id).await, "succeeded");
    assert_eq!(count(&file, "webhook_deliveries").await, 1);
    assert_eq!(count(&file, "jobs").await, 0);
    // created, initiated, processing, succeeded: each change once.
    assert_eq!(version(&file, &id).await, 4);
    eventually("one receipt", async || {
        count(&file, "notifications").await == 1
    })
    .await;
}

/// H8.c1: the payment is committed, nothing of it is published, and the program is killed. The next
/// life publishes it.
#[tokio::test]
async fn a_kill_between_commit_and_publish_is_made_good_by_the_next_start() {
    let dir = TempDir::new();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let sandbox = sandbox().await;
    let paytabs = sandbox.url();
    tokio::spawn(sandbox.serve(stop.cancelled_owned()));
    let address = free_address();
    let config = write_config(&dir.0, address, &paytabs);
    let client = Client::new(address);
    let file = dir.0.join("nestcms.db");

    let first = Program::start(&config);
    client.until_up().await;
    // Another instance says that it publishes, and does not.
    let lease = "INSERT INTO outbox_dispatcher VALUES (1, 'another', 9000000000000)";
    sqlx::query(lease)
        .execute(&mut open(&file).await)
        .await
        .unwrap();
    let token = client.login().await;
    let (id, page) = client.initiated_payment(&token).await;
    client.pay(&page).await;
    eventually("the payment is done", async || {
        status(&file, &id).await == "succeeded"
    })
    .await;
    first.kill();
    assert_eq!(count(&file, "outbox WHERE sent_at IS NULL").await, 3);
    assert_eq!(count(&file, "journal").await, 0);

    sqlx::query("DELETE FROM outbox_dispatcher")
        .execute(&mut open(&file).await)
        .await
        .unwrap();
    let _second = Program::start(&config);
    eventually("all is published", async || {
        count(&file, "outbox WHERE sent_at IS NULL").await == 0
    })
    .await;
    assert_eq!(count(&file, "journal").await, 1);
    assert_eq!(count(&file, "notifications").await, 1);
}

/// PayTabs, which tries a callback again soon.
async fn sandbox() -> Sandbox {
    let bound = Sandbox::bind(SandboxConfig {
        profile_id: 4242,
        server_key: KEY.to_owned(),
        retry: RetryPolicy {
            attempts: 20,
            base_delay: Duration::from_millis(100),
            max_delay: Duration::from_millis(500),
            timeout: Duration::from_secs(10),
        },
        ..SandboxConfig::default()
    });
    bound.await.unwrap()
}

/// The program, killed at the latest when the test ends.
struct Program(Child);

impl Program {
    fn start(config: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_nestcms"))
            .arg("app")
            .arg("--config")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// `kill -9`
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        Self {
            http,
            url: format!("http://{address}"),
        }
    }

    async fn until_up(&self) {
        eventually("the program is up", async || {
            let live = self
                .http
                .get(format!("{}/health/live", self.url))
                .send()
                .await;
            live.is_ok_and(|response| response.status().is_success())
        })
        .await;
    }

    async fn login(&self) -> String {
        let credentials = json!({ "email": "demo@nestcms.test", "password": "demo-password" });
        let login = self.http.post(format!("{}/api/v1/auth/login", self.url));
        let answer: Value = login
            .json(&credentials)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// Id and page of a payment made in one step.
    async fn initiated_payment(&self, token: &str) -> (String, String) {
        let body = json!({ "amount": "12.50", "currency": "SAR", "order_ref": "order-1",
                           "idempotency_key": "crash" });
        let request = self.http.post(format!("{}/api/v1/payments", self.url));
        let response = request.bearer_auth(token).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 303);
        let page = response.headers()["location"].to_str().unwrap().to_owned();
        let payment: Value = response.json().await.unwrap();
        (payment["id"].as_str().unwrap().to_owned(), page)
    }

    async fn pay(&self, page: &str) {
        let form = self.http.post(page).body("decision=pay");
        let form = form.header("content-type", "application/x-www-form-urlencoded");
        assert!(form.send().await.unwrap().status().is_success());
    }
}

/// The same address for both lives of the program: PayTabs calls back where it was told.
fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn write_config(dir: &Path, address: SocketAddr, paytabs: &str) -> PathBuf {
    let file = dir.join("nestcms.toml");
    let text = format!(
        r#"
listen = "{address}"
public_url = "http://{address}"
[database]
path = "{database}"
[paytabs]
base_url = "{paytabs}"
profile_id = 4242
server_key = "{KEY}"
call_timeout = "30s"
[auth]
jwt_secret = "a-secret-for-tests-of-at-least-32-bytes"
bcrypt_cost = 4
[auth.demo_user]
email = "demo@nestcms.test"
password = "demo-password"
role = "user"
"#,
        database = dir.join("nestcms.db").display(),
    );
    std::fs::write(&file, text).unwrap();
    file
}

async fn open(file: &Path) -> SqliteConnection {
    let url = format!("sqlite://{}", file.display());
    SqliteConnection::connect(&url).await.unwrap()
}

async fn status(file: &Path, id: &str) -> String {
    sqlx::query_scalar("SELECT status FROM payments WHERE id = $1")
        .bind(id)
        .fetch_one(&mut open(file).await)
        .await
        .unwrap()
}

async fn version(file: &Path, id: &str) -> i64 {
    sqlx::query_scalar("SELECT version FROM payments WHERE id = $1")
        .bind(id)
        .fetch_one(&mut open(file).await)
        .await
        .unwrap()
}

async fn count(file: &Path, table: &'static str) -> i64 {
    let query = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
    sqlx::query_scalar(query)
        .fetch_one(&mut open(file).await)
        .await
        .unwrap()
}

/// Polls a condition, bounded; the pause only spares the processor.
async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let poll = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let bounded = tokio::time::timeout(Duration::from_secs(30), poll).await;
    assert!(bounded.is_ok(), "waited in vain for: {what}");
}

struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("nestcms-crash-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
