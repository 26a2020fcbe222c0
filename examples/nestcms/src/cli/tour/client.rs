//! What the tour's cast does over HTTP: the shop's client and hand-made deliveries,
//! everything through the gateway; the payer on the PayTabs page directly.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use paytabs_sandbox::hex_hmac_sha256;
use serde_json::{Value, json};

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Value,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    pub(super) fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or("")
    }
}

pub(super) type Played<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The clients of one gateway.
#[derive(Debug)]
pub(super) struct Client {
    /// The shop's client.
    http: reqwest::Client,
    /// A proxy that the gateway is told to trust; it speaks for any address.
    proxy: reqwest::Client,
    /// Somebody whom nobody trusts.
    stranger: reqwest::Client,
    gateway: String,
    token: String,
    numbers: AtomicU32,
}

/// The address of the trusted proxy in front of the gateway.
pub(super) const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// The address of somebody whom nobody trusts.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
/// The addresses that hand-made deliveries claim; the application allows them.
pub(super) const PARTNERS: &str = "198.18.0.0/15";
/// An address outside of that.
pub(super) const FOREIGNER: &str = "203.0.113.7";

impl Client {
    pub(super) fn new(gateway: &str) -> Played<Self> {
        let client = |from: Option<Ipv4Addr>| {
            reqwest::Client::builder()
                .local_address(from.map(IpAddr::from))
                .redirect(reqwest::redirect::Policy::none())
                .timeout(Duration::from_secs(60))
                .no_proxy()
                .build()
        };
        Ok(Self {
            http: client(None)?,
            proxy: client(Some(PROXY))?,
            stranger: client(Some(STRANGER))?,
            gateway: gateway.to_owned(),
            token: String::new(),
            numbers: AtomicU32::new(0),
        })
    }

    /// The same clients in front of another gateway.
    pub(super) fn beside(&self, gateway: &str) -> Played<Self> {
        Ok(Self {
            token: self.token.clone(),
            ..Self::new(gateway)?
        })
    }

    /// A number never used before in this tour.
    pub(super) fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// An address that is allowed to deliver and has no history.
    pub(super) fn partner(&self) -> String {
        let number = self.number();
        format!("198.18.{}.{}", number / 250, number % 250 + 1)
    }

    pub(super) async fn log_in(&mut self, email: &str, password: &str) -> Played<Answer> {
        let body = json!({"email": email, "password": password});
        let request = self.http.post(self.url("/api/v1/auth/login")).json(&body);
        let answer = read(request).await?;
        self.token = answer.text("access_token").to_owned();
        Ok(answer)
    }

    pub(super) async fn get(&self, path: &str) -> Played<Answer> {
        read(self.http.get(self.url(path)).bearer_auth(&self.token)).await
    }

    /// Posts as the logged-in user; `key` is the idempotency key.
    pub(super) async fn create(&self, path: &str, body: &Value, key: &str) -> Played<Answer> {
        let request = self.http.post(self.url(path)).bearer_auth(&self.token);
        read(request.header("idempotency-key", key).json(body)).await
    }

    pub(super) async fn create_without_token(&self) -> Played<Answer> {
        let request = self.http.post(self.url("/api/v2/payments"));
        read(
            request
                .header("idempotency-key", "none")
                .json(&order("1.00", "SAR")),
        )
        .await
    }

    /// A read that must show the write of this mark.
    pub(super) async fn get_after(&self, path: &str, mark: &str) -> Played<Answer> {
        let request = self.http.get(self.url(path)).bearer_auth(&self.token);
        read(request.header("x-read-after", mark)).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Played<Answer> {
        let request = self.http.post(self.url(path)).bearer_auth(&self.token);
        read(request.json(body)).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Played<Answer> {
        let request = self.http.put(self.url(path)).bearer_auth(&self.token);
        read(request.json(body)).await
    }

    /// A fresh payment; its id.
    pub(super) async fn new_payment(&self) -> Played<String> {
        let key = format!("tour-{}", self.number());
        let created = self
            .create("/api/v2/payments", &order("49.50", "SAR"), &key)
            .await?;
        match created.status {
            201 => Ok(created.text("id").to_owned()),
            status => Err(format!("create answered {status}: {}", created.body).into()),
        }
    }

    pub(super) async fn initiate(&self, id: &str) -> Played<Answer> {
        let url = self.url(&format!("/api/v2/payments/{id}/initiate"));
        read(self.http.post(url).bearer_auth(&self.token)).await
    }

    /// A fresh initiated payment: its id, and the page where it is paid.
    pub(super) async fn initiated_payment(&self) -> Played<(String, String)> {
        let id = self.new_payment().await?;
        let answer = self.initiate(&id).await?;
        match answer.status {
            303 => Ok((id, answer.header("location").to_owned())),
            status => Err(format!("initiate answered {status}: {}", answer.body).into()),
        }
    }

    pub(super) async fn payment(&self, id: &str) -> Played<Answer> {
        self.get(&format!("/api/v2/payments/{id}")).await
    }

    /// Asks for the payment until it is in `state`; the state it was last in.
    pub(super) async fn until(&self, id: &str, state: &str) -> Played<String> {
        let mut last = String::new();
        for _ in 0..1_200 {
            last = self.payment(id).await?.text("status").to_owned();
            if last == state {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Ok(last)
    }

    /// The payer presses a button of the PayTabs page.
    pub(super) async fn press(&self, page: &str, button: &str) -> Played<()> {
        let shown = self.http.get(page).send().await?;
        if !shown.status().is_success() {
            return Err(format!("the payment page answered {}", shown.status()).into());
        }
        let form = format!("decision={button}");
        let request = self.http.post(page);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(form).send().await?.error_for_status()?;
        Ok(())
    }

    /// Posts a hand-made delivery to the webhook, by way of the trusted proxy.
    pub(super) async fn deliver(&self, delivery: &Delivery) -> Played<Answer> {
        read(delivery.on(self.proxy.post(self.url(WEBHOOK)))).await
    }

    /// The same from an address that nobody trusts to speak for others.
    pub(super) async fn deliver_as_stranger(&self, delivery: &Delivery) -> Played<Answer> {
        read(delivery.on(self.stranger.post(self.url(WEBHOOK)))).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.gateway)
    }
}

const WEBHOOK: &str = "/api/v2/payments/webhook";

async fn read(request: reqwest::RequestBuilder) -> Played<Answer> {
    let answer = request.send().await?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = answer.bytes().await?;
    Ok(Answer {
        status,
        headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    })
}

/// The body of a create call.
pub(super) fn order(amount: &str, currency: &str) -> Value {
    json!({"amount": amount, "currency": currency, "order_ref": "tour"})
}

/// A webhook request made by hand, in the timestamped scheme.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) from: String,
    pub(super) body: Vec<u8>,
    pub(super) content_type: &'static str,
    pub(super) timestamp: String,
    pub(super) signature: String,
}

impl Delivery {
    /// A delivery with a right signature.
    pub(super) fn signed(key: &str, now: Duration, from: &str, body: impl Into<Vec<u8>>) -> Self {
        let delivery = Self {
            from: from.to_owned(),
            body: body.into(),
            content_type: "application/json",
            timestamp: now.as_secs().to_string(),
            signature: String::new(),
        };
        delivery.sign(key)
    }

    /// Signs it again as it now is.
    pub(super) fn sign(mut self, key: &str) -> Self {
        let mut signed = format!("{}.", self.timestamp).into_bytes();
        signed.extend_from_slice(&self.body);
        self.signature = hex_hmac_sha256(key.as_bytes(), &signed);
        self
    }

    fn on(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        request
            .header("x-forwarded-for", &self.from)
            .header("content-type", self.content_type)
            .header("x-webhook-timestamp", &self.timestamp)
            .header("x-webhook-signature", &self.signature)
            .body(self.body.clone())
    }
}

/// A callback body as PayTabs writes it.
pub(super) fn callback(tran_ref: &str, status: &str) -> String {
    json!({
        "tran_ref": tran_ref, "profile_id": 1, "cart_id": "tour", "cart_description": "tour",
        "cart_currency": "SAR", "cart_amount": "49.50", "tran_currency": "SAR",
        "tran_total": "49.50", "tran_type": "Sale", "tran_class": "ecom",
        "payment_result": {
            "response_status": status, "response_code": "831000",
            "response_message": "Authorised", "transaction_time": "2026-01-01T00:00:00Z",
        },
    })
    .to_string()
}
