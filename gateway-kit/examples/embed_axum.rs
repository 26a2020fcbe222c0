//! A gateway behind the routes of an axum program, with a layer of the program inside the gateway.
//!
//! ```sh
//! cargo run -p gateway-kit --example embed_axum
//! ```

use std::error::Error;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request};
use axum::routing::get;
use gateway_kit::{Body, Config, Gateway};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tower::util::MapRequestLayer;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // Somebody else's service.
    let shop = TcpListener::bind("127.0.0.1:0").await?;
    let config = Config::from_toml(&format!(
        r#"
        [[route]]
        prefix = "/api"
        upstream = "shop"
        strip_prefix = true
        [upstream.shop]
        endpoints = ["http://{}"]
        [rate_limit]
        requests = 2
        window = "1m"
        "#,
        shop.local_addr()?
    ))?;
    let products = get(|request: Request<axum::body::Body>| async move {
        let shard = request.headers()["x-shard"].to_str().unwrap_or_default();
        format!("products of shard {shard}")
    });
    let shop = axum::serve(shop, Router::new().route("/products", products));
    tokio::spawn(shop.into_future());

    // The program: what it does itself, and the gateway for the rest.
    let shard = MapRequestLayer::new(|mut request: Request<Body>| {
        let seven = HeaderValue::from_static("7");
        request.headers_mut().insert("x-shard", seven);
        request
    });
    let proxy = Gateway::builder(config)
        .upstream(shard)
        .service(|extensions| Some(extensions.get::<ConnectInfo<SocketAddr>>()?.0))?;
    let control = proxy.control();
    let app = Router::new()
        .route("/own", get(async || "mine"))
        .fallback_service(proxy)
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, app).into_future());

    let client = Client::builder(TokioExecutor::new()).build_http::<axum::body::Body>();
    let call = async |path: &str| -> Result<(u16, String), Box<dyn Error>> {
        let answer = client.get(format!("{url}{path}").parse()?).await?;
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(axum::body::Body::new(answer.into_body()), 4096).await?;
        println!("{path}: {status}");
        Ok((status, String::from_utf8(body.into())?))
    };
    assert_eq!(call("/own").await?, (200, "mine".to_owned()));
    let products = (200, "products of shard 7".to_owned());
    assert_eq!(call("/api/products").await?, products);
    assert_eq!(call("/none").await?.0, 404);
    // The limit is the gateway's, and of one client.
    assert_eq!(call("/api/products").await?.0, 429);
    assert_eq!(call("/own").await?.0, 200);
    for endpoint in control.endpoints() {
        let (address, breaker) = (endpoint.address, endpoint.breaker.state);
        println!("{address}: {} calls, breaker {breaker}", endpoint.successes);
    }
    Ok(())
}
