//! Entry points for the fuzz targets of this repository; no promise to anyone else.

use std::net::IpAddr;

use http::HeaderMap;

use crate::headers::{self, Origin};
use crate::server::framing::{Follower, Framing};

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
        trusted: is_trusted(peer),
        scheme: "http",
    };
    let client = headers::client_address(headers, origin, is_trusted);
    headers::set_forwarded(headers, origin, client);
    client
}
