//! A real Redis of one test.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use engines::redis::{Cluster, Config, Node};

pub(crate) struct Server(Cluster);

impl Server {
    /// A server that answers.
    pub(crate) async fn start() -> Self {
        Self(Cluster::start(Config::lone()).await.unwrap())
    }

    fn node(&self) -> &Node {
        self.0.node(0)
    }

    pub(crate) fn url(&self) -> String {
        self.node().url()
    }

    /// Kills it without warning.
    pub(crate) async fn kill(&self) {
        self.node().kill().await.unwrap();
    }

    /// Starts it again, with what it held.
    pub(crate) async fn start_again(&self) {
        self.node().start().await.unwrap();
    }

    /// Stops the process; the system still accepts connections for it.
    pub(crate) async fn pause(&self) {
        self.node().freeze().await.unwrap();
    }

    pub(crate) fn resume(&self) {
        self.node().thaw().unwrap();
    }
}

/// A server that answers every command by `answer`; with none it reads and stays silent.
pub(crate) fn odd_server(answer: &'static [u8]) -> String {
    recording_server(answer).0
}

/// As [`odd_server`], and what it read.
pub(crate) fn recording_server(answer: &'static [u8]) -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}/", listener.local_addr().unwrap());
    let (read, receiver) = mpsc::channel();
    // Ends with the test program.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let read = read.clone();
            thread::spawn(move || {
                let mut bytes = [0; 65_536];
                while let Ok(count) = stream.read(&mut bytes) {
                    let bytes = &bytes[..count];
                    // Where nobody listens nothing is lost.
                    let _ = read.send(bytes.to_vec());
                    let commands = bytes.iter().filter(|byte| **byte == b'*').count();
                    if count == 0 || stream.write_all(&answer.repeat(commands)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, receiver)
}
