//! The switches of the PayTabs sandbox, over its HTTP interface.

use std::time::Duration;

use serde_json::{Value, json};

/// Acts on one sandbox; every call is bounded.
#[derive(Clone, Debug)]
pub(crate) struct SandboxControl {
    http: reqwest::Client,
    switches_url: String,
}

impl SandboxControl {
    pub(crate) fn new(paytabs_url: &str) -> Self {
        Self {
            http: reqwest::Client::new(),
            switches_url: format!("{}/sandbox/switches", paytabs_url.trim_end_matches('/')),
        }
    }

    /// Every API call is answered 503 from now on.
    pub(crate) async fn fail(&self) -> Result<(), String> {
        self.put(json!({"error": 503, "delay_ms": 0})).await
    }

    /// PayTabs works again but takes its time, so that a half-open breaker can be seen.
    pub(crate) async fn hold(&self) -> Result<(), String> {
        self.put(json!({"error": null, "delay_ms": SLOW_MS})).await
    }

    /// PayTabs works again.
    pub(crate) async fn recover(&self) -> Result<(), String> {
        self.put(json!({"error": null, "delay_ms": 0, "outage": false}))
            .await
    }

    /// How PayTabs behaves, in words.
    pub(crate) async fn describe(&self) -> String {
        let asked = self.http.get(&self.switches_url).timeout(LIMIT).send();
        let switches: Option<Value> = match asked.await {
            Ok(answer) if answer.status().is_success() => answer.json().await.ok(),
            _ => None,
        };
        let Some(switches) = switches else {
            return "no sandbox answers there".to_owned();
        };
        if switches["outage"] == true {
            return "down: it closes connections".to_owned();
        }
        match (switches["error"].as_u64(), switches["delay_ms"].as_u64()) {
            (Some(status), _) => format!("failing: it answers {status}"),
            (None, Some(ms)) if ms > 0 => format!("slow: it answers after {ms} ms"),
            _ => "healthy".to_owned(),
        }
    }

    async fn put(&self, body: Value) -> Result<(), String> {
        let request = self.http.put(&self.switches_url).timeout(LIMIT).json(&body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("PayTabs is no sandbox: {}", answer.status())),
            Err(_) => Err("no sandbox answers there".to_owned()),
        }
    }
}

const LIMIT: Duration = Duration::from_secs(2);
/// Long enough to see, shorter than the usual call timeout.
const SLOW_MS: u64 = 2_500;
