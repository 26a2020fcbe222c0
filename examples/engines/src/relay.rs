//! A TCP relay on loopback that can be cut and stalled.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::Error;

/// What a [`Relay`] does with its connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Flow {
    /// Bytes pass both ways.
    Open,
    /// Connections stay, new ones are taken, and no byte passes: a network that
    /// loses everything.
    Stalled,
    /// Connections are closed, new ones are closed as soon as they are made.
    Cut,
    /// Not reversible: the relay has ended.
    Ended,
}

/// A TCP relay on loopback: a network between two processes that can fail.
///
/// It runs on threads of its own, so that it also works while the program's
/// runtime is busy or gone. Dropping it closes its connections.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    port: u16,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    flow: Flow,
    target: SocketAddr,
    /// Both ends of every connection, with a number to forget them by.
    open: Vec<(u64, TcpStream, TcpStream)>,
    next: u64,
}

impl Relay {
    /// Listens on a free port and relays to `target`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when no port or no thread is to be had.
    pub fn start(target: SocketAddr) -> Result<Self, Error> {
        let failed = || Error::io(format!("relay to {target}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed())?;
        let port = listener.local_addr().map_err(failed())?.port();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                flow: Flow::Open,
                target,
                open: Vec::new(),
                next: 0,
            }),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::Builder::new()
            .name("relay".into())
            .spawn(move || accepting.accept(&listener))
            .map_err(failed())?;
        Ok(Self { shared, port })
    }

    /// The port to connect to on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it does with its connections now.
    #[must_use]
    pub fn flow(&self) -> Flow {
        self.shared.state.lock().flow
    }

    /// Lets bytes pass again after [`stall`](Self::stall) or [`cut`](Self::cut).
    pub fn open(&self) {
        self.shared.set(Flow::Open);
    }

    /// Holds every byte back, also those that are on their way, and closes nothing.
    pub fn stall(&self) {
        self.shared.set(Flow::Stalled);
    }

    /// Closes every connection, and each new one at once.
    pub fn cut(&self) {
        self.shared.set(Flow::Cut);
    }

    /// Relays to another address from now on; connections to the old one are closed.
    pub fn retarget(&self, target: SocketAddr) {
        let mut state = self.shared.state.lock();
        state.target = target;
        state.close_all();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.set(Flow::Ended);
        // The thread waits for a connection: here is its last one.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl State {
    fn close_all(&mut self) {
        for (_, here, there) in self.open.drain(..) {
            let _ = here.shutdown(Shutdown::Both);
            let _ = there.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn set(&self, flow: Flow) {
        let mut state = self.state.lock();
        state.flow = flow;
        if matches!(flow, Flow::Cut | Flow::Ended) {
            state.close_all();
        }
        self.changed.notify_all();
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for taken in listener.incoming() {
            if self.state.lock().flow == Flow::Ended {
                return;
            }
            match taken {
                // A connection that cannot be relayed is closed by being dropped.
                Ok(here) => drop(self.relay(here)),
                // As with too many open files: the next try would fail as well.
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn relay(self: &Arc<Self>, here: TcpStream) -> io::Result<()> {
        let target = {
            let state = self.state.lock();
            if state.flow == Flow::Cut {
                return Ok(());
            }
            state.target
        };
        let there = TcpStream::connect(target)?;
        here.set_nodelay(true)?;
        there.set_nodelay(true)?;
        let ends = (here.try_clone()?, there.try_clone()?);
        let number = {
            let mut state = self.state.lock();
            // Cut or sent elsewhere in the meantime.
            if matches!(state.flow, Flow::Cut | Flow::Ended) || state.target != target {
                return Ok(());
            }
            let number = state.next;
            state.next += 1;
            state.open.push((number, ends.0, ends.1));
            number
        };
        let (back_from, back_to) = (there.try_clone()?, here.try_clone()?);
        for (from, to) in [(here, there), (back_from, back_to)] {
            let shared = Arc::clone(self);
            thread::Builder::new().name("relay".into()).spawn(move || {
                let _ = shared.pass(&from, &to);
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
                shared
                    .state
                    .lock()
                    .open
                    .retain(|(other, ..)| *other != number);
            })?;
        }
        Ok(())
    }

    fn pass(&self, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            let mut state = self.state.lock();
            while state.flow == Flow::Stalled {
                self.changed.wait(&mut state);
            }
            drop(state);
            to.write_all(&buffer[..length])?;
        }
    }
}
