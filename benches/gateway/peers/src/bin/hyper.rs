//! What hyper alone costs: `hyper LISTEN UPSTREAM...` passes requests on over kept connections and
//! does nothing else. No id, no metrics, no timeout, no check.

use std::convert::Infallible;
use std::env;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};

struct Pool {
    upstreams: Vec<(String, Mutex<Vec<SendRequest<Incoming>>>)>,
    next: AtomicUsize,
}

/// An answer's body; its connection is kept at the end.
struct Leased {
    body: Option<Incoming>,
    sender: Option<SendRequest<Incoming>>,
    pool: Arc<Pool>,
    at: usize,
}

impl Pool {
    async fn send(self: &Arc<Self>, request: Request<Incoming>) -> hyper::Result<Response<Leased>> {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.upstreams.len();
        let kept = self.upstreams[at].1.lock().pop();
        let mut sender = match kept.filter(SendRequest::is_ready) {
            Some(sender) => sender,
            None => self.connect(at).await,
        };
        let response = sender.send_request(request).await?;
        let pool = Arc::clone(self);
        Ok(response.map(|body| Leased {
            body: Some(body),
            sender: Some(sender),
            pool,
            at,
        }))
    }

    async fn connect(&self, at: usize) -> SendRequest<Incoming> {
        let stream = TcpStream::connect(&self.upstreams[at].0).await;
        let stream = stream.expect("the upstream listens");
        stream.set_nodelay(true).expect("an open socket");
        let (sender, driver) = handshake(TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(driver);
        sender
    }
}

impl Leased {
    fn keep(&mut self) {
        if let Some(sender) = self.sender.take() {
            self.pool.upstreams[self.at].1.lock().push(sender);
        }
    }
}

impl Body for Leased {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        let ended = body.is_end_stream() || matches!(polled, Poll::Ready(None));
        if ended {
            self.keep();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, Body::size_hint)
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let Some(listen) = arguments.next() else {
        return Err(io::Error::other("usage: hyper LISTEN UPSTREAM..."));
    };
    let upstreams = arguments.map(|upstream| (upstream, Mutex::default()));
    let pool = Arc::new(Pool {
        upstreams: upstreams.collect(),
        next: AtomicUsize::new(0),
    });
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let pool = Arc::clone(&pool);
        let service = service_fn(move |request| {
            let pool = Arc::clone(&pool);
            async move {
                let answer = pool.send(request).await;
                Ok::<_, Infallible>(answer.unwrap_or_else(|_| {
                    let mut response = Response::new(Leased {
                        body: None,
                        sender: None,
                        pool,
                        at: 0,
                    });
                    *response.status_mut() = StatusCode::BAD_GATEWAY;
                    response
                }))
            }
        });
        tokio::spawn(async move {
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
