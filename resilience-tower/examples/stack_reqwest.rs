//! A whole stack around a reqwest client, whose requests are no `http::Request`s: how calls are
//! judged and sent again is said by a function each.
//!
//! ```sh
//! cargo run -p resilience-tower --features http,stack --example stack_reqwest
//! ```

use std::error::Error as StdError;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use reqwest::{Client, Method, Request, Response};
use resilience_core::breaker::{Outcome, classify_fn};
use resilience_tower::breaker::{OnResult, http::HttpClassifier};
use resilience_tower::retry::Replay;
use resilience_tower::stack;
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder, ServiceExt};

static CALLS: AtomicU32 = AtomicU32::new(0);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    let stack = stack::outbound("upstream")
        .judge(OnResult(classify_fn(judge)))
        .replay(Gets);
    let handle = stack.handle();
    let mut client = ServiceBuilder::new().layer(stack).service(Client::new());

    let request = Request::new(Method::GET, upstream().await?.parse()?);
    let response = client.ready().await?.call(request).await?;
    let calls = CALLS.load(Ordering::Relaxed);
    println!("{} after {calls} attempts", response.status());
    let breaker = handle.breaker().expect("outbound has one").snapshot();
    println!("{} failures of {} calls", breaker.failures, breaker.calls);
    assert_eq!((calls, breaker.failures), (3, 2));
    Ok(())
}

fn judge(result: Result<&Response, &reqwest::Error>) -> Outcome {
    result.map_or(Outcome::Failure, |response| {
        HttpClassifier::outcome(response.status(), response.headers())
    })
}

/// Sends requests again that only read.
#[derive(Clone, Copy)]
struct Gets;

impl Replay<Request> for Gets {
    type Request = Request;
    type Kept = Request;

    fn first(&self, request: Request, again: bool) -> (Request, Option<Request>) {
        let again = again && request.method() == Method::GET;
        let kept = again.then(|| request.try_clone()).flatten();
        (request, kept)
    }

    fn again(&self, kept: &mut Request) -> Option<Request> {
        kept.try_clone()
    }
}

/// An upstream on a free port, which works from its third call on.
async fn upstream() -> Result<String, std::io::Error> {
    let answer = get(async || match CALLS.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::OK,
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let app = Router::new().route("/", answer);
    tokio::spawn(axum::serve(listener, app).into_future());
    Ok(url)
}
