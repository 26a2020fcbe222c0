//! Stacks around a tonic client and a tonic server.

use std::time::Duration;

use resilience_core::breaker::{Mode, State};
use resilience_tower::stack;
use tonic::Code;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::Layer;

use crate::support::{Echo, channel, in_time, listener, unary};

#[tokio::test]
async fn a_stack_goes_around_a_tonic_client_and_another_around_its_server() {
    let (listener, address) = listener().await;
    let inbound = stack::inbound("echo").grpc();
    let server = inbound.handle();
    let guarded = Server::builder().add_service(inbound.into_grpc_response().layer(Echo));
    tokio::spawn(guarded.serve_with_incoming(TcpIncoming::from(listener)));

    let outbound = stack::outbound("echo")
        .configure(|echo| echo.breaker = super::hasty(Duration::from_secs(30)))
        .unwrap()
        .grpc();
    let client = outbound.handle();
    let mut channel = outbound.layer(channel(address));
    let answer = in_time(unary(&mut channel, "hello")).await;
    assert_eq!(answer.unwrap(), "hello");

    // The server's own refusal: its bulkhead is full of calls from elsewhere.
    let mut settings = server.description();
    settings.bulkhead = Some(resilience_core::bulkhead::Config::builder().limit(1));
    server.apply(&settings).unwrap();
    let _place = server.bulkhead().unwrap().try_acquire().unwrap();
    let status = in_time(unary(&mut channel, "hello")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "echo: refused (bulkhead: full)");
    assert_eq!(client.breaker().unwrap().state(), State::Open);

    // The client's: tonic makes a status of the error.
    client.breaker().unwrap().set_mode(Mode::ForcedOpen);
    let status = in_time(unary(&mut channel, "hello")).await.unwrap_err();
    assert!(
        status.to_string().contains("breaker: forced_open"),
        "{status}"
    );
}
