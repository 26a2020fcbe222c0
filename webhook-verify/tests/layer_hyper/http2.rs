//! The same over HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Body, Frame, Incoming},
    client::conn::http2::SendRequest,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use webhook_verify::layer::WebhookLayer;

use super::support::{
    BODY, PATIENCE, Protocol, STACKS, Server, Stack, headers, memoryless, within,
};

async fn server(stack: Stack) -> Server {
    patient(stack, PATIENCE).await
}

async fn patient(stack: Stack, deadline: Duration) -> Server {
    let layer = WebhookLayer::new(memoryless().build().unwrap());
    Server::start(stack, layer.read_deadline(deadline), Protocol::Http2).await
}

async fn client<B>(server: &Server) -> SendRequest<B>
where
    B: Body<Data = Bytes, Error: Into<tower::BoxError>> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(server.address).await.unwrap();
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (client, connection) = within(handshake).await.unwrap();
    tokio::spawn(connection);
    client
}

fn request<B>(headers: HeaderMap, body: B) -> Request<B> {
    let mut request = Request::post("http://h/hook").body(body).unwrap();
    *request.headers_mut() = headers;
    request
}

async fn send<B>(server: &Server, request: Request<B>) -> hyper::Result<Response<Incoming>>
where
    B: Body<Data = Bytes, Error: Into<tower::BoxError>> + Send + Unpin + 'static,
{
    within(client(server).await.send_request(request)).await
}

/// Never ready, never ended.
struct Silent;

impl Body for Silent {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn deliveries_and_forgeries_on_one_connection_are_told_apart() {
    for stack in STACKS {
        let server = server(stack).await;
        let mut client = client::<Full<Bytes>>(&server).await;
        let answers: Vec<_> = (0..20)
            .map(|index| {
                let signed = if index % 2 == 0 { BODY } else { b"other" };
                client.send_request(request(headers(signed), Full::from(BODY)))
            })
            .collect();
        for (index, answer) in answers.into_iter().enumerate() {
            let answer = within(answer).await.unwrap();
            let expected: (u16, &[u8]) = if index % 2 == 0 {
                (200, BODY)
            } else {
                (401, b"")
            };
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!((status, body.as_ref()), expected, "{stack:?}");
        }
        assert_eq!(server.handled(), 10);
    }
}

/// The same frame again and again.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'a'; 1024])))))
    }
}

#[tokio::test]
async fn endless_and_silent_bodies_end_in_an_answer() {
    for stack in STACKS {
        let server = server(stack).await;
        let endless = send(&server, request(headers(BODY), Endless))
            .await
            .unwrap();
        assert_eq!(endless.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let mut announced = headers(BODY);
        announced.insert("content-length", "70368744177664".parse().unwrap());
        let announced = send(&server, request(announced, Silent)).await.unwrap();
        assert_eq!(announced.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(server.handled(), 0);
        let server = patient(stack, Duration::from_millis(50)).await;
        let silent = send(&server, request(headers(BODY), Silent)).await.unwrap();
        assert_eq!(silent.status(), StatusCode::REQUEST_TIMEOUT);
    }
}

/// A frame of data, then trailers.
struct Trailed(u8);

impl Body for Trailed {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0 += 1;
        std::task::Poll::Ready(match self.0 {
            1 => Some(Ok(Frame::data(Bytes::from_static(BODY)))),
            2 => Some(Ok(Frame::trailers(headers(b"other")))),
            _ => None,
        })
    }
}

#[tokio::test]
async fn trailers_neither_verify_nor_arrive() {
    let server = server(Stack::Plain).await;
    let good = send(&server, request(headers(BODY), Trailed(0)))
        .await
        .unwrap();
    assert_eq!(good.status(), StatusCode::OK);
    assert_eq!(good.into_body().collect().await.unwrap().to_bytes(), BODY);
    let unsigned = send(&server, request(HeaderMap::new(), Trailed(0)))
        .await
        .unwrap();
    assert_eq!(unsigned.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_body_of_another_length_than_announced_never_reaches_the_handler() {
    let mut server = server(Stack::Plain).await;
    for length in ["6", "8"] {
        let mut lying = headers(BODY);
        lying.insert("content-length", length.parse().unwrap());
        // Whether an answer comes as well, or only the end of the stream, is the server's.
        drop(send(&server, request(lying, Trailed(0))).await);
        assert_eq!(
            server.event().await,
            "webhook.rejected body could not be read"
        );
    }
    assert_eq!(server.handled(), 0);
}

#[tokio::test]
async fn large_headers_are_refused_by_the_server() {
    let server = server(Stack::Plain).await;
    for (length, expected) in [
        (12 << 10, Some(200)),
        (20 << 10, Some(431)),
        (64 << 10, None),
    ] {
        let mut large = headers(BODY);
        large.insert("x-large", "a".repeat(length).parse().unwrap());
        let answer = send(&server, request(large, Full::from(BODY))).await;
        let status = answer.ok().map(|answer| answer.status().as_u16());
        assert_eq!(
            status, expected,
            "{length}; the largest ends the connection"
        );
    }
    assert_eq!(server.handled(), 1);
}
