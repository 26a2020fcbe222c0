//! The gateway inside another program, and that program's layers inside the gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use gateway_kit::{Body, BoxError, Gateway, Next};
use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use tower::{Layer, Service, ServiceBuilder, layer::layer_fn, util::MapRequestLayer};

use crate::support::{Answer, Running, Upstream, parsed, routed, soon};

/// Writes down that it was passed, in and out.
#[derive(Clone)]
struct Probe(&'static str, Arc<Mutex<Vec<String>>>);

impl<S> Layer<S> for Probe {
    type Service = Probed<S>;

    fn layer(&self, inner: S) -> Probed<S> {
        Probed(self.clone(), inner)
    }
}

#[derive(Clone)]
struct Probed<S>(Probe, S);

impl<S> Service<Request<Body>> for Probed<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Send,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = futures_util::future::BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        self.1.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Probe(name, log) = self.0.clone();
        log.lock()
            .push(format!("> {name} {}", request.uri().path()));
        let answer = self.1.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            log.lock()
                .push(format!("< {name} {}", answer.status().as_u16()));
            Ok(answer)
        })
    }
}

#[tokio::test]
async fn the_three_places_are_passed_from_outside_in() {
    let upstream = Upstream::start().await;
    let log = Arc::default();
    let probe = |name| Probe(name, Arc::clone(&log));
    let config = format!(
        "[[route]]\nprefix = \"/api\"\nupstream = \"shop\"\nstrip_prefix = true\n\
         [upstream.shop]\nendpoints = [\"http://{}\"]\n",
        upstream.addr
    );
    let gateway = Running::start_with(&config, |builder| {
        builder
            .upstream(probe("upstream"))
            .edge(probe("edge"))
            .route(probe("route"))
    })
    .await;
    assert_eq!(gateway.get("/api/a").await.status, 200);
    let passed = std::mem::take(&mut *log.lock());
    let expected = [
        "> edge /api/a",
        "> route /api/a",
        "> upstream /api/a",
        "< upstream 200",
        "< route 200",
        "< edge 200",
    ];
    assert_eq!(passed, expected);
    // A request without a route, and one that the guard refuses.
    assert_eq!(gateway.get("/none").await.status, 404);
    assert_eq!(gateway.get("/api/%00").await.status, 400);
    let passed = std::mem::take(&mut *log.lock());
    assert_eq!(passed, ["> edge /none", "< edge 404"]);
}

#[tokio::test]
async fn a_layer_may_answer_by_itself_and_its_error_is_told_as_500() {
    let upstream = Upstream::start().await;
    let answers = layer_fn(|next: Next| {
        tower::service_fn(move |request: Request<Body>| {
            let mut next = next.clone();
            async move {
                match request.uri().path() {
                    "/teapot" => Ok(Response::builder().status(418).body(Body::empty())?),
                    "/error" => Err::<_, BoxError>("secret".into()),
                    _ => Ok(next.call(request).await?),
                }
            }
        })
    });
    let gateway =
        Running::start_with(&routed(&[upstream.addr]), |builder| builder.route(answers)).await;
    assert_eq!(gateway.get("/teapot").await.status, 418);
    let error = gateway.get("/error").await;
    assert_eq!(
        (error.status, error.json()["code"].as_str()),
        (500, Some("internal"))
    );
    assert!(!error.body.contains("secret"));
    assert_eq!(gateway.get("/passed").await.body, "ok");
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn a_layer_may_call_again() {
    let upstream = Upstream::answering(|seen| {
        let status = if seen.header("x-try") == Some("2") {
            200
        } else {
            503
        };
        let mut response = Response::new(http_body_util::Full::from("ok"));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    })
    .await;
    let twice = layer_fn(|next: Next| {
        tower::service_fn(move |request: Request<Body>| {
            let mut next = next.clone();
            async move {
                let (mut parts, _) = request.into_parts();
                let first = next
                    .call(Request::from_parts(parts.clone(), Body::empty()))
                    .await?;
                if first.status().is_success() {
                    return Ok::<_, BoxError>(first);
                }
                drop(first);
                parts.headers.insert("x-try", 2.into());
                Ok(next.call(Request::from_parts(parts, Body::empty())).await?)
            }
        })
    });
    let gateway =
        Running::start_with(&routed(&[upstream.addr]), |builder| builder.upstream(twice)).await;
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn a_layer_that_gives_up_ends_the_call_and_one_that_loses_extensions_is_told() {
    let (entered, mut calls) = tokio::sync::mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    // Takes a request and never answers; tells when the connection ends.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let entered = entered.clone();
            tokio::spawn(async move {
                use tokio::io::AsyncReadExt;
                let mut bytes = [0; 1024];
                let _ = entered.send(stream.read(&mut bytes).await.is_ok());
                while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
                let _ = entered.send(false);
            });
        }
    });
    let (give_up, given_up) = tokio::sync::watch::channel(false);
    let impatient = layer_fn(move |next: Next| {
        let given_up = given_up.clone();
        tower::service_fn(move |mut request: Request<Body>| {
            let (mut next, mut given_up) = (next.clone(), given_up.clone());
            async move {
                if request.uri().path() == "/bare" {
                    request.extensions_mut().clear();
                }
                tokio::select! {
                    answer = next.call(request) => Ok::<_, BoxError>(answer?),
                    _ = given_up.wait_for(|gone| *gone) => {
                        Ok(Response::builder().status(504).body(Body::empty())?)
                    }
                }
            }
        })
    });
    let gateway =
        Running::start_with(&routed(&[addr]), |builder| builder.upstream(impatient)).await;
    assert_eq!(gateway.get("/bare").await.status, 500);
    let asking = gateway.get("/");
    let ending = async {
        assert_eq!(
            calls.recv().await,
            Some(true),
            "the upstream got the request"
        );
        give_up.send_replace(true);
        assert_eq!(calls.recv().await, Some(false), "its connection was closed");
    };
    let (answer, ()) = soon(async { tokio::join!(asking, ending) }).await;
    assert_eq!(answer.status, 504);
}

#[tokio::test]
async fn it_runs_inside_an_axum_program_beside_its_routes() {
    let upstream = Upstream::start().await;
    let proxy = Gateway::builder(parsed(&routed(&[upstream.addr])))
        .edge(
            ServiceBuilder::new().layer(MapRequestLayer::new(|mut request: Request<Body>| {
                request.headers_mut().insert("x-edge", 1.into());
                request
            })),
        )
        .service(|extensions| Some(extensions.get::<ConnectInfo<SocketAddr>>()?.0))
        .unwrap();
    let app = axum::Router::new()
        .route("/own", axum::routing::get(async || "own"))
        .fallback_service(proxy);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let served = app.into_make_service_with_connect_info::<SocketAddr>();
    let server = tokio::spawn(async move { axum::serve(listener, served).await });
    for (path, body) in [("/own", "own"), ("/else", "ok")] {
        assert_eq!(ask(addr, path).await.body, body);
    }
    let seen = upstream.last();
    assert_eq!(seen.header("x-edge"), Some("1"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    // A client that says https over a plain connection is not believed.
    assert_eq!(ask(addr, "https://h/else").await.body, "ok");
    assert_eq!(upstream.last().header("x-forwarded-proto"), Some("http"));
    server.abort();
}

#[tokio::test]
async fn behind_a_server_that_speaks_tls_services_are_told_https() {
    let upstream = Upstream::start().await;
    let proxy = Gateway::builder(parsed(&routed(&[upstream.addr])))
        .service(|_| Some(([127, 0, 0, 1], 1).into()))
        .unwrap()
        .over_tls();
    let request = Request::get("/").header("host", "h");
    let answer = proxy.handle(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(upstream.last().header("x-forwarded-proto"), Some("https"));
}

async fn ask(addr: SocketAddr, path: &str) -> Answer {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let asked = async {
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        Answer::parse(&bytes)
    };
    tokio::time::timeout(Duration::from_secs(10), asked)
        .await
        .expect("an answer")
}
