//! The layer around a plain tower service, without a server: in tests, or behind a transport
//! of one's own. At most ten deliveries are handled at once.
//!
//! ```sh
//! cargo run -p webhook-verify --features layer --example tower
//! ```

use std::convert::Infallible;
use std::error::Error as StdError;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use webhook_verify::layer::{Event, VerifiedBody, WebhookLayer};
use webhook_verify::{Secret, Signer, Verified, Verifier, presets};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    let secret = Secret::new("github", "It's a Secret to Everybody")?;
    let verifier = Verifier::builder(presets::github())
        .secret(secret.clone())
        .build()?;
    let guard = WebhookLayer::new(verifier).on_event(|event| {
        if let Event::Rejected { error, .. } = event {
            // For us only: the sender gets an empty 401.
            println!("  {}: {}", error.step(), error.reason());
        }
    });
    let service = ServiceBuilder::new()
        .layer(guard)
        .concurrency_limit(10)
        .service(service_fn(handle));

    let signer = Signer::new(presets::github(), secret);
    let headers = signer.sign(b"Hello, World!")?;
    for (body, expected) in [("Hello, World!", 200), ("Hello, world!", 401)] {
        let mut request = Request::post("/").body(Full::<Bytes>::from(body))?;
        request.headers_mut().extend(headers.clone());
        let status = service.clone().oneshot(request).await?.status();
        println!("{body} {status}");
        assert_eq!(status, expected);
    }
    Ok(())
}

async fn handle(request: Request<VerifiedBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    let verified = request.extensions().get::<Verified>();
    println!("  signed by {:?}", verified.map(Verified::key_id));
    Ok(Response::new(Full::default()))
}
