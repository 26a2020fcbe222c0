//! Which nodes there are, as the sentinels say.

use std::{fmt, time::Duration};

use ::redis::IntoConnectionInfo;
use resilience_core::balance::Endpoint;
use tokio::time::{Instant, interval};

use super::{
    error::Error,
    node::{Node, NodeBuilder},
    sentinels::{Address, Sentinels},
};
use crate::read_write::{Builder, Cluster, ConfigError};

/// A cluster of the nodes that sentinels know; made by [`Sentinels::discover`].
///
/// Defaults: nodes by TCP at the address that the sentinels tell, with the settings of [`Node::builder`];
/// the sentinels are asked every second; a node that none of them names any more is kept for 15 s.
///
/// | the sentinels | a node |
/// |---|---|
/// | one of them names it, as the primary or a replica | is in |
/// | more than half answer, and none of them has named it for [`forget_after`](Self::forget_after) | is out; its leases stay good |
/// | no more than half answer | stays what it was |
///
/// Sentinels never forget a replica by themselves: one that is gone for good is looked at, and down,
/// until `SENTINEL RESET`. Reset one sentinel after the other, and none that has a failover to end: it
/// would name the old primary at the epoch of the new one, and a write finds no primary while they
/// disagree. Of more than 32 nodes those that are down are left out first.
///
/// A node that stays keeps its connections. Its name is `host:port`, as the sentinels call it.
///
/// # Examples
///
/// ```no_run
/// use resilience_tower::read_write::redis::{Node, Sentinels};
///
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// let sentinels = ["redis://10.0.0.1:26379", "redis://10.0.0.2:26379", "redis://10.0.0.3:26379"];
/// let cluster = Sentinels::new("orders", sentinels)?.discover().spawn().await?;
///
/// // The same with a password, and in a zone.
/// let cluster = Sentinels::new("orders", sentinels)?
///     .discover()
///     .nodes(|host, port| Node::builder(format!("redis://app:secret@{host}:{port}")))
///     .cluster(|cluster| cluster.zone("eu-1"))
///     .spawn()
///     .await?;
/// # let _ = cluster;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct Discovery {
    sentinels: Sentinels,
    make: Make,
    cluster: Builder<Node>,
    every: Duration,
    forget_after: Duration,
}

type Make = Box<dyn Fn(&Sentinels, &Address) -> Result<Node, Error> + Send>;

/// As many as a router takes.
const MOST: usize = 32;

/// The nodes of now.
struct Nodes {
    sentinels: Sentinels,
    make: Make,
    forget_after: Duration,
    known: Vec<Known>,
}

struct Known {
    address: Address,
    node: Node,
    /// Since when nobody names it.
    missing: Option<Instant>,
}

impl Sentinels {
    /// A cluster of the nodes that they know, found by them and kept up to date.
    pub fn discover(&self) -> Discovery {
        let discovery = Discovery {
            sentinels: self.clone(),
            make: Box::new(|_, _| Err(Error::NoSentinels)),
            cluster: Cluster::builder(Vec::<Endpoint<Node>>::new()),
            every: Duration::from_secs(1),
            // Longer than sentinels that were reset take to find the replicas again (10 s).
            forget_after: Duration::from_secs(15),
        };
        discovery.nodes(|host, port| Node::builder((host, port)))
    }
}

impl Discovery {
    /// How a node at this host and port is reached, and its other settings. Its sentinels, and what
    /// they call it, are set after this.
    pub fn nodes<A: IntoConnectionInfo>(
        mut self,
        builder: impl Fn(String, u16) -> NodeBuilder<A> + Send + 'static,
    ) -> Self {
        self.make = Box::new(move |sentinels, address| {
            let (host, port) = (address.host(), address.port());
            let builder = builder(host.to_owned(), port);
            builder.sentinels(sentinels).announced(host, port).build()
        });
        self
    }

    /// The settings of the cluster. Nodes that it has are replaced.
    pub fn cluster(mut self, settings: impl FnOnce(Builder<Node>) -> Builder<Node>) -> Self {
        self.cluster = settings(self.cluster);
        self
    }

    /// How often the sentinels are asked; 1 ms at least. Which node is the primary the looks at
    /// the nodes tell, however long this is.
    pub fn every(mut self, time: Duration) -> Self {
        self.every = time.max(Duration::from_millis(1));
        self
    }

    /// How long a node is kept that the sentinels do not name any more.
    pub const fn forget_after(mut self, time: Duration) -> Self {
        self.forget_after = time;
        self
    }

    /// Asks the sentinels once, and starts to look at the nodes that they name; they are asked until
    /// the last handle on the cluster is dropped.
    ///
    /// If they do not answer now, the cluster has no nodes until they do: reads are refused, with the
    /// time after which to come again, and writes wait.
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with time and I/O enabled.
    pub async fn spawn(self) -> Result<Cluster<Node>, ConfigError> {
        let cluster = self.cluster.spawn()?;
        let mut nodes = Nodes {
            sentinels: self.sentinels,
            make: self.make,
            forget_after: self.forget_after,
            known: Vec::new(),
        };
        nodes.find().await;
        cluster.set_nodes(nodes.endpoints())?;
        let back = cluster.downgrade();
        let mut turns = interval(self.every);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::spawn(async move {
            loop {
                turns.tick().await;
                let changed = nodes.find().await;
                let Some(cluster) = back() else { return };
                if changed {
                    // Names are told apart, and are not too many.
                    let _ = cluster.set_nodes(nodes.endpoints());
                }
            }
        });
        Ok(cluster)
    }
}

impl Nodes {
    /// Asks the sentinels; whether the nodes are others now.
    async fn find(&mut self) -> bool {
        match self.sentinels.nodes().await {
            Ok(named) => self.note(named, Instant::now()),
            Err(_) => false,
        }
    }

    fn note(&mut self, named: Vec<Address>, now: Instant) -> bool {
        let before = self.known.len();
        for known in &mut self.known {
            known.missing = match named.contains(&known.address) {
                true => None,
                false => known.missing.or(Some(now)),
            };
        }
        self.known.retain(|known| {
            let missing = known.missing;
            missing.is_none_or(|since| now.duration_since(since) < self.forget_after)
        });
        let mut changed = self.known.len() != before;
        let most = named.len().min(MOST);
        for address in &named[..most] {
            if self.known.iter().any(|known| known.address == *address) {
                continue;
            }
            if self.known.len() == MOST {
                let spare = |known: &Known| !named[..most].contains(&known.address);
                let Some(spare) = self.known.iter().position(spare) else {
                    break;
                };
                self.known.swap_remove(spare);
                changed = true;
            }
            // An address that is none: of a node that was announced wrongly.
            if let Ok(node) = (self.make)(&self.sentinels, address) {
                changed = true;
                self.known.push(Known {
                    address: address.clone(),
                    node,
                    missing: None,
                });
            }
        }
        changed
    }

    fn endpoints(&self) -> Vec<Endpoint<Node>> {
        let endpoint = |known: &Known| Endpoint::new(known.address.to_string(), known.node.clone());
        self.known.iter().map(endpoint).collect()
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery")
            .field("sentinels", &self.sentinels)
            .field("every", &self.every)
            .field("forget_after", &self.forget_after)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Nodes {
        let sentinels = Sentinels::new("shop", ["redis://127.0.0.1:1"]).unwrap();
        let discovery = sentinels.discover();
        Nodes {
            sentinels,
            make: discovery.make,
            forget_after: Duration::from_secs(15),
            known: Vec::new(),
        }
    }

    fn named(ports: impl IntoIterator<Item = u16>) -> Vec<Address> {
        let address = |port| Address::new("10.0.0.1", port);
        ports.into_iter().map(address).collect()
    }

    fn ports(nodes: &Nodes) -> Vec<u16> {
        nodes
            .known
            .iter()
            .map(|known| known.address.port())
            .collect()
    }

    #[test]
    fn a_node_is_dropped_when_nobody_has_named_it_for_a_while() {
        let (mut nodes, start) = (nodes(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(nodes.note(named([1, 2]), at(0)));
        assert!(!nodes.note(named([1]), at(1)));
        assert!(!nodes.note(named([1]), at(15)));
        // It is back in time.
        assert!(!nodes.note(named([2, 1]), at(15)));
        assert!(!nodes.note(named([1]), at(17)));
        assert!(!nodes.note(named([1]), at(31)));
        assert_eq!(ports(&nodes), [1, 2]);
        assert!(nodes.note(named([1, 3]), at(32)));
        assert_eq!(ports(&nodes), [1, 3]);
    }

    #[test]
    fn those_beyond_what_a_router_takes_are_left_out() {
        let (mut nodes, now) = (nodes(), Instant::now());
        assert!(nodes.note(named(1..=40), now));
        assert_eq!(ports(&nodes), (1..=32).collect::<Vec<_>>());
        // The primary is one of the others by now.
        assert!(nodes.note(named([40].into_iter().chain(1..=39)), now));
        let mut ports = ports(&nodes);
        ports.sort_unstable();
        assert_eq!(ports, (1..=31).chain([40]).collect::<Vec<_>>());
    }

    #[test]
    fn an_address_of_any_kind_leads_to_its_node() {
        let (mut nodes, now) = (nodes(), Instant::now());
        for host in ["10.0.0.1", "::1", "redis-a.example"] {
            assert!(nodes.note(vec![Address::new(host, 6379)], now), "{host}");
        }
        assert!(!nodes.note(vec![Address::new("REDIS-A.example", 6379)], now));
    }
}
