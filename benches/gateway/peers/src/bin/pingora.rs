//! The smallest proxy on Pingora that does what the bench asks of all: `pingora LISTEN UPSTREAM...`
//!
//! One upstream after the other, a request id, a counter per status class. No routes, no breaker,
//! no check of what is passed on.

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};
use uuid::Uuid;

struct Proxy {
    upstreams: Vec<String>,
    next: AtomicUsize,
    answers: [AtomicU64; 6],
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = String;

    fn new_ctx(&self) -> String {
        Uuid::now_v7().simple().to_string()
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut String) -> Result<Box<HttpPeer>> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let upstream = &self.upstreams[turn % self.upstreams.len()];
        Ok(Box::new(HttpPeer::new(
            upstream.as_str(),
            false,
            String::new(),
        )))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        id: &mut String,
    ) -> Result<()> {
        request.insert_header("x-correlation-id", id.as_str())?;
        if let Some(address) = session.client_addr().and_then(|address| address.as_inet()) {
            request.insert_header("x-forwarded-for", address.ip().to_string())?;
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        id: &mut String,
    ) -> Result<()> {
        response.insert_header("x-correlation-id", id.as_str())?;
        let class = usize::from(response.status.as_u16() / 100).min(5);
        self.answers[class].fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (Some(listen), upstreams) = (arguments.next(), arguments.collect::<Vec<_>>()) else {
        eprintln!("usage: pingora LISTEN UPSTREAM...");
        return ExitCode::FAILURE;
    };
    let settings = ServerConf {
        threads: 1,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, settings);
    server.bootstrap();
    let proxy = Proxy {
        upstreams,
        next: AtomicUsize::new(0),
        answers: Default::default(),
    };
    let mut service = http_proxy_service(&Arc::clone(&server.configuration), proxy);
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever()
}
