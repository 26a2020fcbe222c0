//! The admin API: who is let in, what it tells, what it changes.

mod access;
mod browser;
mod changes;
mod document;
mod reads;

use gateway_kit::config::AdminToken;
use resilience_core::clock::ManualClock;
use serde_json::Value;

use crate::support::{Answer, Running, raw_between};

const TOKEN: &str = "a-token-of-the-tests";

/// The section that puts the admin on a free port.
const SECTION: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n";

/// A gateway whose admin is on by token.
async fn start(config: &str) -> Running {
    start_with(&(config.to_owned() + SECTION), Some(TOKEN)).await
}

/// A gateway with a token as `ADMIN_TOKEN` would give it.
async fn start_with(config: &str, token: Option<&str>) -> Running {
    Running::of(builder(config, token)).await
}

/// A gateway whose admin is on by token, by a clock that the test moves.
async fn start_at(config: &str, clock: &ManualClock) -> Running {
    let config = config.to_owned() + SECTION;
    Running::of(builder(&config, Some(TOKEN)).clock(clock.clone())).await
}

fn builder(config: &str, token: Option<&str>) -> gateway_kit::Builder {
    let mut config = crate::support::parsed(config);
    if let Some(admin) = &mut config.admin {
        admin.token = token.map(|token| AdminToken::try_from(token).unwrap());
    }
    gateway_kit::Gateway::builder(config)
}

/// One request to the admin's own address.
struct Ask<'a> {
    method: &'a str,
    path: &'a str,
    token: Option<&'a str>,
    fields: &'a str,
    body: Option<Value>,
    from: &'a str,
}

fn get(path: &str) -> Ask<'_> {
    Ask {
        method: "GET",
        path,
        token: Some(TOKEN),
        fields: "",
        body: None,
        from: "127.0.0.1",
    }
}

fn send<'a>(method: &'a str, path: &'a str, body: Value) -> Ask<'a> {
    Ask {
        method,
        body: Some(body),
        ..get(path)
    }
}

impl<'a> Ask<'a> {
    fn token(mut self, token: Option<&'a str>) -> Self {
        self.token = token;
        self
    }

    fn from(mut self, from: &'a str) -> Self {
        self.from = from;
        self
    }

    /// Further fields, each with CR LF.
    fn with(mut self, fields: &'a str) -> Self {
        self.fields = fields;
        self
    }

    async fn of(self, gateway: &Running) -> Answer {
        self.at(gateway.admin_addr.expect("the admin listens"))
            .await
    }

    async fn at(self, address: std::net::SocketAddr) -> Answer {
        let token = self
            .token
            .map(|token| format!("authorization: Bearer {token}\r\n"));
        let mut text = format!(
            "{} {} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{}{}",
            self.method,
            self.path,
            token.unwrap_or_default(),
            self.fields,
        );
        if let Some(body) = self.body {
            let body = body.to_string();
            text += &format!(
                "content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
        } else {
            text += "\r\n";
        }
        raw_between(self.from, address, &text).await
    }
}
