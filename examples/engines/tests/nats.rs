use std::time::Duration;

use engines::nats::Server;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::common::all_gone;

/// The reply to one request, in NATS's own protocol.
async fn ask(server: &Server, subject: &str, body: &str) -> String {
    let stream = TcpStream::connect(("127.0.0.1", server.port()))
        .await
        .unwrap();
    let mut stream = BufReader::new(stream);
    let request = format!(
        "CONNECT {{\"verbose\":false}}\r\nSUB reply 1\r\nPUB {subject} reply {}\r\n{body}\r\n",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let read = async {
        let mut line = String::new();
        while !line.starts_with("MSG ") {
            line.clear();
            assert_ne!(stream.read_line(&mut line).await.unwrap(), 0, "closed");
        }
        line.clear();
        stream.read_line(&mut line).await.unwrap();
        line
    };
    tokio::time::timeout(Duration::from_secs(60), read)
        .await
        .expect("no reply")
}

#[tokio::test]
async fn a_nats_server_keeps_what_it_acknowledged_and_leaves_nothing() {
    let server = Server::launch().await.unwrap();
    let dir = server.dir().to_path_buf();
    let mut pids = vec![server.pid().unwrap()];
    let stream = r#"{"name":"S","subjects":["s.>"],"storage":"file"}"#;
    let made = ask(&server, "$JS.API.STREAM.CREATE.S", stream).await;
    assert!(!made.contains("\"error\""), "{made}");
    let stored = ask(&server, "s.a", "one").await;
    assert!(stored.contains("\"seq\":1"), "{stored}");
    server.freeze().await.unwrap();
    server.thaw().unwrap();
    server.kill().await.unwrap();
    server.start().await.unwrap();
    pids.extend(server.pid());
    let stored = ask(&server, "s.a", "two").await;
    assert!(stored.contains("\"seq\":2"), "{stored}");
    server.restart().await.unwrap();
    pids.extend(server.pid());
    drop(server);
    all_gone(&dir, &pids);
}
