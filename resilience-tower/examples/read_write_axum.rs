//! Posts and their readers over PostgreSQL: each reader sees its own posts at once, read from replicas.
//! What it wrote last travels in a signed cookie.
//!
//! The servers are those of `DATABASE_URLS` (with blanks between), or else a primary and two replicas
//! that the example starts.
//!
//! ```sh
//! cargo run -p resilience-tower --features http,postgres --example read_write_axum
//! ```

use std::error::Error as StdError;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use engines::postgres as engine;
use resilience_core::route::{Lsn, Token};
use resilience_tower::read_write::postgres::{self, Node};
use resilience_tower::read_write::{
    Checkout, Cluster, Error, Lease, ReadFreshness, Signer, SigningKey, TokenCookie, problem,
};
use tokio::net::TcpListener;

#[derive(Clone)]
struct App {
    posts: Cluster<Node>,
    cookie: TokenCookie,
}

async fn write(State(app): State<App>, text: String) -> Result<Response, Response> {
    let text = &text;
    let insert = async |mut lease: Lease<Node>| {
        let transaction = lease.transaction().await?;
        let statement = "INSERT INTO posts (text) VALUES ($1)";
        transaction.execute(statement, &[text]).await?;
        transaction.commit().await
    };
    let token = app.posts.run(&Checkout::write(), insert).await;
    let cookie = app
        .cookie
        .write(&token.map_err(refused)?)
        .expect("a position fits");
    Ok((StatusCode::CREATED, [(SET_COOKIE, cookie)]).into_response())
}

async fn read(State(app): State<App>, headers: HeaderMap) -> Result<Response, Response> {
    // A cookie that is forged or too old is as good as none.
    let token: Option<Token<Lsn>> = app.cookie.read(&headers).unwrap_or_default();
    let freshness = token.map_or(ReadFreshness::Any, ReadFreshness::AtLeast);
    let select = async |lease: Lease<Node>| {
        let rows = lease
            .query("SELECT text FROM posts ORDER BY id", &[])
            .await?;
        let texts: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        Ok((lease.node().to_owned(), lease.why().as_str(), texts))
    };
    let read = app.posts.run(&Checkout::read(freshness), select).await;
    let (node, why, texts) = read.map_err(refused)?;
    let headers = [("x-node", node), ("x-why", why.to_owned())];
    Ok((headers, texts.join("\n")).into_response())
}

/// 503 with `Retry-After` without a primary, 409 for a write that a failover lost, and so on.
fn refused(error: Error<postgres::Error>) -> Response {
    match error.refusal() {
        Some(refusal) => problem(&refusal).map(Body::from),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    // Kept for as long as the example runs.
    let (_servers, urls) = match std::env::var("DATABASE_URLS") {
        Ok(urls) => (None, urls.split_whitespace().map(String::from).collect()),
        Err(_) => {
            let config = engine::Config::default().with_replicas(2);
            let servers = engine::Cluster::start(config).await?;
            let urls: Vec<_> = servers.nodes().iter().map(engine::Node::url).collect();
            (Some(servers), urls)
        }
    };
    let mut nodes = Vec::new();
    for (number, url) in urls.iter().enumerate() {
        nodes.push((format!("pg{number}"), Node::new(url.parse()?)));
    }
    let posts = Cluster::builder(nodes).spawn()?;
    let lease = posts.lease(&Checkout::write()).await?;
    let table = "CREATE TABLE IF NOT EXISTS posts (id bigserial PRIMARY KEY, text text)";
    lease.batch_execute(table).await?;
    lease.succeeded();

    // Of a service: a secret of its own, the same in all its processes.
    let signer = Signer::new([SigningKey::new("2026-11", [7; 32])?])?;
    let cookie = TokenCookie::new(signer);
    let app = Router::new().route("/posts", get(read).post(write));
    let app = app.with_state(App {
        posts: posts.clone(),
        cookie,
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, app).into_future());

    let (client, url) = (reqwest::Client::new(), format!("http://{address}/posts"));
    for number in 1..=5 {
        let text = format!("post {number}");
        let written = client.post(&url).body(text.clone()).send().await?;
        assert_eq!(written.status(), StatusCode::CREATED);
        let cookie = written.headers()[SET_COOKIE].to_str()?;
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        let read = client.get(&url).header(COOKIE, cookie).send().await?;
        let header = |name: &str| read.headers()[name].to_str().map(String::from);
        let (node, why) = (header("x-node")?, header("x-why")?);
        assert!(read.text().await?.lines().any(|line| line == text));
        println!("{text} is there at once, from {node} ({why})");
    }
    posts.drain(std::time::Duration::from_secs(5)).await?;
    Ok(())
}
