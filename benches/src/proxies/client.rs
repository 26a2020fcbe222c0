//! A client of a steady pace, for latency: a client that sends as fast as it can measures queues.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use quanta::Clock;

use crate::results::median;

/// Sends `count` requests for `path` on one connection, one every `pause` after the start of the
/// last, and tells how long half of the answers took at most, in microseconds.
///
/// # Errors
///
/// The connection breaks, or an answer is not 200 with a length.
pub fn latency(address: SocketAddr, path: &str, count: usize, pause: Duration) -> io::Result<f64> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: bench.test\r\n\r\n");
    let clock = Clock::new();
    let mut buffer = Vec::with_capacity(1 << 16);
    let mut taken = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = clock.now();
        stream.write_all(request.as_bytes())?;
        answer(&mut stream, &mut buffer)?;
        let took = begun.elapsed();
        taken.push(took.as_secs_f64() * 1e6);
        sleep(pause.saturating_sub(took));
    }
    Ok(median(&taken).unwrap_or_default())
}

/// Reads one answer to its end.
fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    let mut piece = [0; 1 << 14];
    loop {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.extend_from_slice(&piece[..read]);
        if let Some(whole) = length(buffer)?
            && buffer.len() >= whole
        {
            return Ok(());
        }
    }
}

/// The bytes of an answer, head and body, once its head is there.
fn length(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let bad = || io::Error::other(format!("not 200 with a length: {head}"));
    if !head.starts_with("http/1.1 200") {
        return Err(bad());
    }
    let mut lines = head.lines();
    let body = lines.find_map(|line| line.strip_prefix("content-length:"));
    let body: usize = body.and_then(|n| n.trim().parse().ok()).ok_or_else(bad)?;
    Ok(Some(end + 4 + body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_its_length() {
        assert_eq!(length(b"HTTP/1.1 200 OK\r\n").unwrap(), None);
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(length(head).unwrap(), Some(head.len() + 3));
        assert!(length(b"HTTP/1.1 502 Bad\r\n\r\n").is_err());
    }
}
