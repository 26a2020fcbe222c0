//! The layer in a bare hyper server: one service for each connection, which knows its peer.
//!
//! ```sh
//! cargo run -p webhook-verify --features layer --example hyper
//! ```

use std::convert::Infallible;
use std::error::Error as StdError;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use webhook_verify::clock::{SystemClock, WallClock};
use webhook_verify::layer::{PeerAddr, VerifiedBody, WebhookLayer};
use webhook_verify::{IpRules, Secret, Signer, Verifier, presets};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    let secret = Secret::whsec("main", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
    let verifier = Verifier::builder(presets::standard_webhooks())
        .secret(secret.clone())
        .source(IpRules::allow(["127.0.0.0/8"])?)
        .build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(serve(listener, WebhookLayer::new(verifier)));

    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let body = br#"{"type":"invoice.paid"}"#.as_slice();
    let signer = Signer::new(presets::standard_webhooks(), secret);
    let headers = signer.sign_with_id("msg_1", SystemClock.now(), body)?;
    for (sent, expected) in [(body, 200), (br#"{"type":"refund"}"#, 401)] {
        let mut request = Request::post(&uri).body(Full::from(sent))?;
        request.headers_mut().extend(headers.clone());
        let status = client.request(request).await?.status();
        println!("{}: {status}", String::from_utf8_lossy(sent));
        assert_eq!(status, expected);
    }
    Ok(())
}

async fn serve(listener: TcpListener, guard: WebhookLayer) {
    while let Ok((connection, peer)) = listener.accept().await {
        let service = ServiceBuilder::new()
            .map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(PeerAddr(peer));
                request
            })
            .layer(guard.clone())
            .service(service_fn(handle));
        let service = TowerToHyperService::new(service);
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
    }
}

async fn handle(request: Request<VerifiedBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().into_bytes();
    println!("  handled {} bytes", body.len());
    Ok(Response::new(Full::from("thank you")))
}
