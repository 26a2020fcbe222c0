//! Entry points for the fuzz targets and benches of this repository; no promise to anyone else.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method};
use resilience_core::breaker::Outcome;
use resilience_core::clock::SharedClock;

use crate::headers::{self, Origin};
use crate::route::Found;
use crate::server::framing::{Follower, Framing};
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;
use crate::{Config, Error};

/// Follows the requests in the pieces of a connection: how many heads were found, and the number
/// of the first with a fault and whether it is a length beside a coding.
pub fn follow<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> (u64, Option<(u64, bool)>) {
    let framing = Framing::default();
    let mut follower = Follower::default();
    for piece in pieces {
        follower.feed(piece, &framing);
    }
    (follower.heads(), framing.fault())
}

/// The client's address, and what an upstream is told of it.
pub fn forward(
    headers: &mut HeaderMap,
    peer: IpAddr,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let origin = Origin {
        peer,
        address: headers::told(peer),
        trusted: is_trusted(peer),
        scheme: "http",
    };
    let client = headers::client_address(headers, &origin, is_trusted);
    headers::set_forwarded(headers, &origin, client);
    client
}

/// What a gateway makes of its configuration, without a listener.
#[derive(Debug)]
pub struct Compiled {
    snapshot: Snapshot,
    _shared: Shared,
}

/// Who gets the next request of one upstream.
#[derive(Debug)]
pub struct Picker(Arc<Upstream>);

impl Compiled {
    /// Compiles a configuration, as a gateway does at its start and on a reload.
    ///
    /// # Errors
    /// The configuration was built by hand and contradicts itself, or names a file that cannot be
    /// used.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let shared = Shared::new(SharedClock::default());
        let snapshot = Snapshot::compile(config, &shared)?;
        snapshot.attach(config, &shared);
        Ok(Self {
            snapshot,
            _shared: shared,
        })
    }

    /// Whether there is a route; `path` is canonical.
    pub fn has_route(&self, host: &[u8], method: &Method, path: &str) -> bool {
        let found = self.snapshot.table.find(host, method, path);
        matches!(found, Found::Route(_))
    }

    /// The upstream of that name.
    pub fn picker(&self, upstream: &str) -> Option<Picker> {
        self.snapshot.upstreams.get(upstream).cloned().map(Picker)
    }
}

impl Picker {
    /// Picks an endpoint, asks its breaker, and tells both of a success.
    pub fn pick(&self) -> bool {
        let picked = self.0.picks(None).next();
        picked.is_ok_and(|mut picked| {
            picked.record(Outcome::Success);
            true
        })
    }
}
