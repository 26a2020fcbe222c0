//! Ports that no other harness on this machine takes.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Error;

/// Below the ports that systems give to outgoing connections (from 32768 on
/// Linux), so that a server that was killed finds its port free again.
const FIRST: u32 = 20_000;
const COUNT: u32 = 10_000;

/// A TCP port on loopback, kept for one server as long as this lives.
///
/// The reservation is the UDP port of the same number: bound by one process at a
/// time, given back by the system when that process ends however it ends, and
/// used by none of the servers.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _reserved: UdpSocket,
}

impl Port {
    pub(crate) fn reserve() -> Result<Self, Error> {
        // ORDERING: a counter; which thread gets which number does not matter.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        for _ in 0..COUNT {
            // Processes begin far from one another; a collision costs one more try.
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let offset = std::process::id().wrapping_mul(97).wrapping_add(step) % COUNT;
            let number = (FIRST + offset) as u16;
            let Ok(reserved) = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)) else {
                continue;
            };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self {
                    number,
                    _reserved: reserved,
                });
            }
        }
        Err(Error::State(format!(
            "no free port on loopback from {FIRST} to {}",
            FIRST + COUNT - 1
        )))
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

/// Starts a cluster anew, on other ports, when one was taken by another program
/// between the reservation and the start.
pub(crate) async fn retry_taken_ports<T, F>(start: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut tries = 3;
    loop {
        tries -= 1;
        match start().await {
            Err(Error::Ended { log, .. }) if tries > 0 && taken(&log) => {}
            result => return result,
        }
    }
}

fn taken(log: &str) -> bool {
    log.to_lowercase().contains("address already in use")
}
