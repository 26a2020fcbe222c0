//! A route of an axum server behind the layer, with the addresses that may send and a memory
//! of what was handled.
//!
//! ```sh
//! cargo run -p webhook-verify --features layer --example axum
//! ```

use std::error::Error as StdError;
use std::net::SocketAddr;

use axum::body::Bytes;
use axum::extract::ConnectInfo;
use axum::routing::post;
use axum::{Extension, Router};
use http::Request;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use webhook_verify::layer::WebhookLayer;
use webhook_verify::replay::MemoryReplayStore;
use webhook_verify::{IpRules, Secret, Signer, Verified, Verifier, presets};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    let secret = Secret::new("2026-01", "S9JNLK")?;
    let verifier = Verifier::builder(presets::paytabs_callback())
        .secret(secret.clone())
        .source(IpRules::allow(["127.0.0.0/8", "::1"])?)
        .replay(MemoryReplayStore::new(100_000))
        .build()?;
    let guard = WebhookLayer::new(verifier)
        .peer(|parts| Some(parts.extensions.get::<ConnectInfo<SocketAddr>>()?.0))
        .on_event(|event| println!("  {}", event.name()));

    let app = Router::new()
        .route("/hook", post(handle).route_layer(guard))
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri = format!("http://{}/hook", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, app).into_future());

    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let body = br#"{"tran_ref":"TST1"}"#.as_slice();
    let forger = Signer::new(presets::paytabs_callback(), Secret::new("?", "guess")?);
    let sender = Signer::new(presets::paytabs_callback(), secret);
    // The third is the second once more: it is acknowledged, and not handled again.
    for (signer, expected) in [(&forger, 401), (&sender, 200), (&sender, 200)] {
        let mut request = Request::post(&uri).body(Full::from(body))?;
        request.headers_mut().extend(signer.sign(body)?);
        let status = client.request(request).await?.status();
        println!("{status}");
        assert_eq!(status, expected);
    }
    Ok(())
}

/// Sees verified deliveries only, and each of them once.
async fn handle(Extension(verified): Extension<Verified>, body: Bytes) {
    println!("  key {} signed {} bytes", verified.key_id(), body.len());
}
