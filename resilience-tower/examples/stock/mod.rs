//! What `tonic-build` would generate for `service Stock { rpc Count(string) returns (string); }`, and
//! a store behind it that fails or hangs as the examples say.
#![allow(dead_code)] // Each example needs a part of it.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::NamedService;
use tonic::{IntoRequest, Request, Response, Status, client, server};
use tower::{Service, service_fn};

use crate::upstream::work;

/// The server.
#[derive(Clone)]
pub(crate) struct Stock;

impl NamedService for Stock {
    const NAME: &'static str = "example.Stock";
}

impl Service<http::Request<Body>> for Stock {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let count = service_fn(async |_: Request<String>| match work().await {
            Ok(_) => Ok(Response::new("12".to_owned())),
            Err(_) => Err(Status::unavailable("the store is gone")),
        });
        Box::pin(async move { Ok(server::Grpc::new(Text).unary(count, request).await) })
    }
}

type Cause = Box<dyn StdError + Send + Sync>;

/// The client.
#[derive(Clone)]
pub(crate) struct StockClient<S>(client::Grpc<S>);

impl<S> StockClient<S>
where
    S: GrpcService<Body, Error: Into<Cause>>,
    S::ResponseBody: http_body::Body<Data = Bytes, Error: Into<Cause>> + Send + 'static,
{
    pub(crate) fn new(channel: S) -> Self {
        Self(client::Grpc::new(channel))
    }

    pub(crate) async fn count(&mut self, item: impl IntoRequest<String>) -> Result<String, Status> {
        let ready = self.0.ready().await;
        ready.map_err(|error| Status::unknown(error.into().to_string()))?;
        let path = PathAndQuery::from_static("/example.Stock/Count");
        let answer = self.0.unary(item.into_request(), path, Text).await?;
        Ok(answer.into_inner())
    }
}

/// Messages are texts instead of protocol buffers, so that the examples need no compiler for them.
#[derive(Clone, Copy)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, text: String, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(text.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let text = String::from_utf8(bytes.into());
        text.map(Some).map_err(|_| Status::internal("not a text"))
    }
}
