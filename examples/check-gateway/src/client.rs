//! Clients that send one request after the other on a connection of their own, and look at each
//! answer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// What all clients of a run share.
// ORDERING: Relaxed throughout; counts that are read when the clients have ended, or as hints.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) gateway: SocketAddr,
    /// Requests that are still to be sent.
    left: AtomicU64,
    /// One in so many is a POST; 0 is none.
    posts_one_in: u64,
    /// The number of the backend that has to answer what is sent from now on, where there is one.
    pub(crate) only: watch::Receiver<Option<u64>>,
    pub(crate) gets: AtomicU64,
    pub(crate) failed_gets: AtomicU64,
    pub(crate) posts: AtomicU64,
    pub(crate) failed_posts: AtomicU64,
    /// Answered by another backend than had to.
    pub(crate) elsewhere: AtomicU64,
}

impl Load {
    pub(crate) fn new(
        gateway: SocketAddr,
        requests: u64,
        posts_one_in: u64,
        only: watch::Receiver<Option<u64>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            gateway,
            left: AtomicU64::new(requests),
            posts_one_in,
            only,
            gets: AtomicU64::new(0),
            failed_gets: AtomicU64::new(0),
            posts: AtomicU64::new(0),
            failed_posts: AtomicU64::new(0),
            elsewhere: AtomicU64::new(0),
        })
    }

    /// The number of the next request; `None` when all were sent.
    fn next(&self) -> Option<u64> {
        let take = |left: u64| left.checked_sub(1);
        let left = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        left.ok()
    }

    /// Sends until all is sent; the ids of the POSTs that were answered with 200.
    pub(crate) async fn client(self: Arc<Self>) -> Vec<u64> {
        let mut acknowledged = Vec::new();
        let mut connection = None;
        while let Some(number) = self.next() {
            let is_post = self.posts_one_in > 0 && number % self.posts_one_in == 0;
            let only = *self.only.borrow();
            let answer = self.send(&mut connection, number, is_post).await;
            // Whoever could not be asked in time is a failure too: nothing is tried again here.
            let good = matches!(&answer, Ok((200, _)));
            let (all, failed) = match is_post {
                true => (&self.posts, &self.failed_posts),
                false => (&self.gets, &self.failed_gets),
            };
            all.fetch_add(1, Ordering::Relaxed);
            if !good {
                failed.fetch_add(1, Ordering::Relaxed);
                if !is_post {
                    eprintln!("request {number}: {answer:?}");
                }
                connection = None;
                continue;
            }
            if is_post {
                acknowledged.push(number);
            }
            let by = answer.ok().map(|(_, body)| body);
            // Changed in between: either may have answered.
            if only.is_some() && only == *self.only.borrow() && by != only.map(|n| n.to_string()) {
                self.elsewhere.fetch_add(1, Ordering::Relaxed);
            }
        }
        acknowledged
    }

    async fn send(
        &self,
        connection: &mut Option<TcpStream>,
        number: u64,
        is_post: bool,
    ) -> io::Result<(u16, String)> {
        let stream = match connection {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.gateway).await?;
                stream.set_nodelay(true)?;
                connection.insert(stream)
            }
        };
        let request = match is_post {
            true => {
                let body = number.to_string();
                let length = body.len();
                format!(
                    "POST /{number} HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n{body}"
                )
            }
            false => format!("GET /{number} HTTP/1.1\r\nhost: h\r\n\r\n"),
        };
        stream.write_all(request.as_bytes()).await?;
        answer(stream).await
    }
}

/// One GET on a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    answer(&mut stream).await
}

/// The status and the body of one answer with a length.
async fn answer(stream: &mut TcpStream) -> io::Result<(u16, String)> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let bad = || io::Error::other(format!("not an answer with a length: {head}"));
        let status = head.get(9..12).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(bad)?;
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length
            .and_then(|(_, length)| length.parse().ok())
            .ok_or_else(bad)?;
        if body.len() >= length {
            return Ok((status, body.to_owned()));
        }
    }
}
