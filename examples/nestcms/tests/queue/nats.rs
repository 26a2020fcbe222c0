//! The connection to a real NATS server that is killed and comes back.

use async_nats::jetstream::stream::{Config, RetentionPolicy};
use engines::nats::Server;
use nestcms::{
    adapters::nats::{Nats, NatsError},
    settings::{NatsSettings, Secret, Settings},
};

use crate::flows::support::eventually;

pub(super) fn settings(url: String) -> NatsSettings {
    let mut settings = Settings::demo().nats;
    settings.servers = vec![Secret::new(url)];
    settings
}

#[tokio::test]
async fn streams_are_made_once_and_a_killed_server_is_found_again() {
    let server = Server::launch().await.unwrap();
    let nats = Nats::connect(&settings(server.url())).await.unwrap();
    let config = |retention, max_messages| Config {
        name: "things".to_owned(),
        subjects: vec!["things.>".to_owned()],
        retention,
        max_messages,
        ..Config::default()
    };
    nats.stream(config(RetentionPolicy::Limits, 10))
        .await
        .unwrap();
    let sent = nats.jetstream().publish("things.a", "1".into()).await;
    sent.unwrap().await.unwrap();
    let again = nats.stream(config(RetentionPolicy::Limits, 20)).await;
    let info = again.unwrap().get_info().await.unwrap();
    assert_eq!((info.config.max_messages, info.state.messages), (20, 1));
    let other = nats.stream(config(RetentionPolicy::WorkQueue, 20)).await;
    let error = other.unwrap_err().to_string();
    assert!(error.starts_with("NATS stream things: "), "{error}");

    server.kill().await.unwrap();
    server.start().await.unwrap();
    eventually("NATS answers again", async || nats.ping().await.is_ok()).await;
    let stream = nats.jetstream().get_stream("things").await.unwrap();
    assert_eq!(stream.get_info().await.unwrap().state.messages, 1);
}

#[tokio::test]
async fn nobody_there_is_told_without_the_password() {
    let nobody = "nats://user:hidden@127.0.0.1:1".to_owned();
    let error = Nats::connect(&settings(nobody)).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, NatsError::Connect { .. }), "{text}");
    assert!(
        text.contains("127.0.0.1:1") && !text.contains("hidden"),
        "{text}"
    );
}
