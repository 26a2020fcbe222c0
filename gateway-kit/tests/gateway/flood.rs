//! One client's flood and another's requests.

use resilience_core::clock::ManualClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Running, Upstream, routed, soon};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";
/// What one address may send.
const RATE: usize = 20;

async fn connect(gateway: &Running, from: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    soon(socket.connect(gateway.addr)).await.unwrap()
}

/// Sends so many requests at once, and counts the answers of each status.
async fn flood(mut stream: TcpStream, requests: usize) -> (usize, usize) {
    let (mut reader, mut writer) = stream.split();
    let all = REQUEST.repeat(requests);
    let mut text = String::new();
    let count = |text: &str, status: &str| text.matches(&format!("HTTP/1.1 {status}")).count();
    let read = async {
        let mut bytes = vec![0; 65_536];
        while count(&text, "200") + count(&text, "429") < requests {
            let read = reader.read(&mut bytes).await.unwrap();
            assert_ne!(read, 0, "closed");
            text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    let (written, ()) = soon(async { tokio::join!(writer.write_all(&all), read) }).await;
    written.unwrap();
    (count(&text, "200"), count(&text, "429"))
}

#[tokio::test]
async fn a_flood_of_one_address_takes_nothing_from_another() {
    // K.c6
    let upstream = Upstream::start().await;
    let text = routed(&[upstream.addr])
        + &format!("[rate_limit]\nrequests = {RATE}\nwindow = \"1h\"\nburst = {RATE}\n");
    // Time stands still: what is admitted depends on nothing else.
    let gateway = Running::start_with_clock(&text, ManualClock::new()).await;
    let mut floods = Vec::new();
    for _ in 0..5 {
        let stream = connect(&gateway, "127.0.0.2").await;
        floods.push(tokio::spawn(flood(stream, 10 * RATE)));
    }
    let other = flood(connect(&gateway, "127.0.0.3").await, RATE);
    assert_eq!(other.await, (RATE, 0));
    let (mut admitted, mut refused) = (0, 0);
    for flood in floods {
        let (some, others) = flood.await.unwrap();
        admitted += some;
        refused += others;
    }
    assert_eq!((admitted, refused), (RATE, 49 * RATE));
    assert_eq!(upstream.calls(), 2 * RATE);
}
