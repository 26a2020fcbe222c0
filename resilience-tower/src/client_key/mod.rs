//! Whom a request counts for: the client's address, as far as it can be believed.
//!
//! A limit per client is worth nothing when a client can choose whom it is counted for.
//! [`ClientKeys`] starts from the address of the connection, which cannot be chosen, and
//! reads a forwarding field only when that address belongs to a proxy that was named as
//! trusted:
//!
//! ```text
//! peer not trusted                  the peer                 (the field is not read)
//! peer trusted, no field            the peer
//! peer trusted, field               from the right: hops that are trusted are passed over;
//!                                   the first that is not is the client
//!   every hop trusted               the left-most one
//!   a hop that cannot be read       the trusted hop to its right, which passed it on
//! no peer address                   no key, or one key for all: see `WithoutPeer`
//! ```
//!
//! So whatever stands to the left of the entry that a trusted proxy wrote is never looked at.
//!
//! # What an operator must know
//!
//! - Trust exactly the proxies that *append* the address of their own peer to the field. One
//!   that passes the field on unchanged hands its clients the choice of their key.
//! - Only one field is read ([`ForwardedBy`]): a proxy that writes one of them usually passes
//!   the other through.
//! - An IPv6 subscriber has a /64 or more, and could take a new address for each request;
//!   so IPv6 addresses count by their /64 unless told otherwise. Shorter prefixes (a /56 or /48
//!   per site) put more hosts into one key.
//! - `::ffff:a.b.c.d` is the IPv4 address it carries, in peers, hops and ranges alike. Other
//!   embeddings (NAT64, 6to4) are IPv6 addresses like any other.
//!
//! # Examples
//!
//! ```
//! use http::HeaderMap;
//! use resilience_tower::client_key::ClientKeys;
//!
//! let clients = ClientKeys::builder().trust_proxies(["10.0.0.0/8"]).build()?;
//! let mut headers = HeaderMap::new();
//! // The client wrote the first address, our proxy the second.
//! headers.insert("x-forwarded-for", "203.0.113.5, 198.51.100.7".parse().unwrap());
//!
//! let through_proxy = clients.key("10.0.0.1".parse().ok(), &headers).unwrap();
//! assert_eq!(through_proxy.to_string(), "198.51.100.7");
//! let directly = clients.key("192.0.2.1".parse().ok(), &headers).unwrap();
//! assert_eq!(directly.to_string(), "192.0.2.1");
//! # Ok::<(), resilience_tower::client_key::ClientKeyError>(())
//! ```

mod config;
mod hops;
mod key;
mod range;

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Request};
use ipnet::IpNet;

pub use self::config::{ClientKeyError, ClientKeysBuilder, ForwardedBy, WithoutPeer};
pub use self::key::ClientKey;

/// The rule by which requests are told apart by client; see the [module](self).
///
/// A clone is a handle on the same, unchangeable rule.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "ClientKeysBuilder"))]
pub struct ClientKeys {
    rule: Arc<Rule>,
}

#[derive(Debug)]
struct Rule {
    trusted: Vec<IpNet>,
    forwarded_by: ForwardedBy,
    ipv4_prefix: u8,
    ipv6_prefix: u8,
    without_peer: WithoutPeer,
}

impl ClientKeys {
    /// Settings to change; as they are they trust no proxy.
    pub fn builder() -> ClientKeysBuilder {
        ClientKeysBuilder::default()
    }

    /// The client's whole address: the peer, or what trusted proxies say of theirs. `None`
    /// without a peer.
    ///
    /// For logs and access lists; a limit counts by [`key`](Self::key). Costs one comparison per
    /// trusted range, and as many again for each hop that is read. No allocation.
    pub fn address(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        let mut client = peer?.to_canonical();
        let mut hops = hops::Hops::new(self.rule.forwarded_by, headers);
        while self.trusts(client) {
            match hops.next() {
                Some(Some(hop)) => client = hop,
                // Unreadable: the proxy that passed it on is the last who is known.
                Some(None) | None => break,
            }
        }
        Some(client)
    }

    /// The key of the client: its address cut to the prefix length of its family.
    ///
    /// `None` only without a peer, and then only under [`WithoutPeer::Refuse`].
    pub fn key(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<ClientKey> {
        match (self.address(peer, headers), self.rule.without_peer) {
            (Some(address), _) => Some(ClientKey::of(
                address,
                self.rule.ipv4_prefix,
                self.rule.ipv6_prefix,
            )),
            (None, WithoutPeer::Shared) => Some(ClientKey::SHARED),
            (None, WithoutPeer::Refuse) => None,
        }
    }

    /// The rule as a function of the request, for a limit per key; `peer` finds the address of
    /// the connection.
    ///
    /// A server puts that address into the request's extensions: axum as
    /// `ConnectInfo<SocketAddr>`, with hyper one does it oneself.
    ///
    /// ```
    /// use std::net::SocketAddr;
    ///
    /// use http::Request;
    /// use resilience_tower::client_key::ClientKeys;
    ///
    /// let by_client = ClientKeys::builder().build()?.of(|request: &Request<()>| {
    ///     request.extensions().get::<SocketAddr>().map(SocketAddr::ip)
    /// });
    /// let mut request = Request::new(());
    /// assert_eq!(by_client.key(&request), None);
    /// request.extensions_mut().insert(SocketAddr::from(([192, 0, 2, 1], 4711)));
    /// assert_eq!(by_client.key(&request).unwrap().to_string(), "192.0.2.1");
    /// # Ok::<(), resilience_tower::client_key::ClientKeyError>(())
    /// ```
    pub fn of<B, P>(self, peer: P) -> ByClient<P>
    where
        P: Fn(&Request<B>) -> Option<IpAddr>,
    {
        ByClient {
            clients: self,
            peer,
        }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.rule
            .trusted
            .iter()
            .any(|range| range.contains(&address))
    }
}

/// [`ClientKeys`] with a function that finds the peer's address in a request; made by
/// [`ClientKeys::of`].
#[derive(Clone)]
pub struct ByClient<P> {
    clients: ClientKeys,
    peer: P,
}

impl<P> ByClient<P> {
    /// The key of the client that sent `request`; see [`ClientKeys::key`].
    pub fn key<B>(&self, request: &Request<B>) -> Option<ClientKey>
    where
        P: Fn(&Request<B>) -> Option<IpAddr>,
    {
        self.clients.key((self.peer)(request), request.headers())
    }
}

// By hand: closures have no `Debug`.
impl<P> std::fmt::Debug for ByClient<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByClient")
            .field("clients", &self.clients)
            .finish_non_exhaustive()
    }
}
