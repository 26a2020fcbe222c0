//! One node.

use std::{fmt, sync::Arc, time::Duration};

use ::redis::{Client, ConnectionAddr, IntoConnectionInfo, aio::MultiplexedConnection};
use parking_lot::Mutex;
use resilience_core::{
    balance::hash_key,
    route::{Failure, Intent, Observation, Offset, Role},
};

use super::{
    connection::{self, Connection, Idle},
    error::Error,
    info::Info,
    sentinels::{Address, Sentinels},
};

/// One node of Redis, for a [`Cluster`](crate::read_write::Cluster); clones are handles on the same
/// connections.
///
/// # Examples
///
/// ```
/// use resilience_tower::read_write::redis::{Node, Sentinels};
///
/// let sentinels = Sentinels::new("orders", ["redis://10.0.0.1:26379", "redis://10.0.0.2:26379"])?;
/// let node = Node::builder("redis://10.0.0.4:6379").sentinels(&sentinels).build()?;
/// # Ok::<(), resilience_tower::read_write::redis::Error>(())
/// ```
#[derive(Clone)]
pub struct Node {
    client: Client,
    cluster: u64,
    address: Option<Address>,
    elected_by: Option<Sentinels>,
    response_timeout: Option<Duration>,
    /// Taken out while the node is asked, so that one whose answer did not come is gone.
    observer: Arc<Mutex<Option<MultiplexedConnection>>>,
    idle: Arc<Idle>,
    /// The incarnation that was looked at last, and its epoch.
    last: Arc<Mutex<Option<(u64, u64)>>>,
}

/// Settings of a [`Node`].
///
/// Defaults: called by the sentinels as by this process; an answer is waited for 1 s; 16 connections
/// are kept.
#[must_use]
pub struct NodeBuilder<A> {
    address: A,
    cluster: String,
    announced: Option<Address>,
    sentinels: Option<Sentinels>,
    response_timeout: Option<Duration>,
    most_idle: usize,
}

impl<A: IntoConnectionInfo> NodeBuilder<A> {
    /// Who elects the primary; one handle for all nodes of a cluster.
    pub fn sentinels(mut self, sentinels: &Sentinels) -> Self {
        self.sentinels = Some(sentinels.clone());
        self
    }

    /// Nobody elects the primary: it is set by hand. `cluster` is a name that all nodes share.
    ///
    /// See [`redis`](super#what-it-cannot-know) for what is not known then.
    pub fn without_sentinels(mut self, cluster: &str) -> Self {
        self.sentinels = None;
        self.cluster = cluster.into();
        self
    }

    /// What sentinels and replicas call this node, if that is not how this process reaches it
    /// (`replica-announce-ip`, `replica-announce-port`).
    pub fn announced(mut self, host: &str, port: u16) -> Self {
        self.announced = Some(Address::new(host, port));
        self
    }

    /// How long a command's answer is waited for on a lease. `None`: as long as it takes, as commands
    /// that block need it.
    pub fn response_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.response_timeout = timeout.into();
        self
    }

    /// How many connections are kept for later leases. There may be as many leases at once as are asked
    /// for; a bulkhead bounds them.
    pub fn most_idle(mut self, most: usize) -> Self {
        self.most_idle = most;
        self
    }

    /// The node. No connection is made yet.
    ///
    /// # Errors
    ///
    /// [`Error::Address`], and [`Error::NoSentinels`] if neither sentinels nor a name was given.
    pub fn build(self) -> Result<Node, Error> {
        let client = Client::open(self.address).map_err(Error::Address)?;
        let address = self
            .announced
            .or_else(|| match client.get_connection_info().addr() {
                ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                    Some(Address::new(host, *port))
                }
                _ => None,
            });
        let cluster = match &self.sentinels {
            Some(sentinels) => sentinels.name(),
            None if self.cluster.is_empty() => return Err(Error::NoSentinels),
            None => &self.cluster,
        };
        Ok(Node {
            cluster: hash_key(cluster.as_bytes()),
            client,
            address,
            elected_by: self.sentinels,
            response_timeout: self.response_timeout,
            observer: Arc::default(),
            idle: Idle::new(self.most_idle),
            last: Arc::default(),
        })
    }
}

/// The epoch of all nodes that nobody elects.
const UNELECTED: u64 = 1;

/// The epoch of a node that is not of the newest one.
const OUTSIDE: u64 = 0;

impl Node {
    /// Settings, from the defaults on, of the node at `address`.
    pub fn builder<A: IntoConnectionInfo>(address: A) -> NodeBuilder<A> {
        NodeBuilder {
            address,
            cluster: String::new(),
            announced: None,
            sentinels: None,
            response_timeout: Some(Duration::from_secs(1)),
            most_idle: 16,
        }
    }

    async fn ask(&self) -> Result<Info, Error> {
        let idle = self.observer.lock().take();
        if let Some(mut observer) = idle
            && let Ok(info) = connection::info(&mut observer).await
        {
            *self.observer.lock() = Some(observer);
            return Ok(info);
        }
        // One that broke says nothing about the node: a failover closes all of them.
        let observer = connection::open(&self.client, None).await;
        let mut observer = observer.map_err(Error::Connect)?;
        let info = connection::info(&mut observer).await?;
        *self.observer.lock() = Some(observer);
        Ok(info)
    }

    /// The epoch of the node, and the newest one.
    fn epochs(&self, info: &Info, sentinels: &Sentinels) -> (u64, u64) {
        let known = sentinels.known();
        let Some((named, primary)) = known.named else {
            return (OUTSIDE, OUTSIDE);
        };
        let newest = named + 1;
        let belongs = match &info.follows {
            None => self.address.as_ref() == Some(&primary),
            // It hears of the primary of this epoch, and so has its history.
            Some((follows, true)) if *follows == primary => true,
            // Cut off since. While nobody knows the history of this epoch, it may have it.
            Some((follows, _)) => match &known.id {
                Some(id) => return (if **id == *info.id { newest } else { OUTSIDE }, newest),
                None => return (if *follows == primary { newest } else { OUTSIDE }, newest),
            },
        };
        if belongs {
            sentinels.identified(named, &info.id);
        }
        (if belongs { newest } else { OUTSIDE }, newest)
    }

    /// An idle connection that leads to what was looked at, or a new one.
    async fn checked(&self, incarnation: u64) -> Result<(MultiplexedConnection, Info), Error> {
        while let Some(mut connection) = self.idle.take() {
            // One that broke while it was idle says nothing about the node.
            match connection::info(&mut connection).await {
                Ok(info) if info.incarnation == incarnation => return Ok((connection, info)),
                _ => {}
            }
        }
        let connection = connection::open(&self.client, self.response_timeout).await;
        let mut connection = connection.map_err(Error::Connect)?;
        let info = connection::info(&mut connection)
            .await
            .map_err(|error| match error {
                Error::Redis(error) => Error::Connect(error),
                error => error,
            })?;
        match info.incarnation == incarnation {
            true => Ok((connection, info)),
            false => Err(Error::Changed),
        }
    }
}

impl crate::read_write::Node for Node {
    type Position = Offset;
    type Connection = Connection;
    type Error = Error;

    async fn observe(&self, at: Duration) -> Result<Observation<Offset>, Error> {
        // Those who elect come first: what the node says of itself is then no older than that.
        let elected = match &self.elected_by {
            Some(sentinels) => sentinels.look().await,
            None => Ok(()),
        };
        let info = self.ask().await?;
        let (epoch, newest) = match &self.elected_by {
            None => (UNELECTED, UNELECTED),
            Some(sentinels) => {
                if info.role == Role::Primary {
                    elected?;
                }
                self.epochs(&info, sentinels)
            }
        };
        *self.last.lock() = Some((info.incarnation, epoch));
        let seen = Observation::new(info.role, self.cluster, epoch, info.position, at);
        Ok(seen.incarnation(info.incarnation).newest(newest))
    }

    async fn connect(&self, incarnation: u64, intent: Intent) -> Result<Connection, Error> {
        let (connection, info) = self.checked(incarnation).await?;
        if intent.writes() && info.role != Role::Primary {
            return Err(Error::Changed);
        }
        match *self.last.lock() {
            Some((last, epoch)) if last == incarnation => {
                Ok(Connection::new(connection, &self.idle, epoch, incarnation))
            }
            _ => Err(Error::Changed),
        }
    }

    async fn position(&self, connection: &mut Connection) -> Result<(u64, Offset), Error> {
        let error = match connection.info().await {
            Ok(info) if info.incarnation == connection.incarnation => {
                return Ok((connection.epoch, info.position.without_before()));
            }
            Ok(_) => Error::Changed,
            Err(error) => error,
        };
        // What was written must not run again.
        Err(Error::NoToken(Box::new(error)))
    }

    fn failure(&self, error: &Error) -> Failure {
        error.failure()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("address", &self.address)
            .field("elected_by", &self.elected_by)
            .finish_non_exhaustive()
    }
}

impl<A> fmt::Debug for NodeBuilder<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeBuilder")
            .field("announced", &self.announced)
            .field("sentinels", &self.sentinels)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: [&str; 2] = [
        "8087cbf2e8f6209f2862b3da13de48b854fe3e85",
        "5861415524923dca7b0b1f22fded66cd107bfbbc",
    ];

    /// Of the node at 10.0.0.1, where the sentinels name the one at `primary` for the config epoch 4.
    fn node(primary: &str, id: Option<&str>) -> (Node, Sentinels) {
        let sentinels = Sentinels::new("shop", ["redis://10.0.0.9:26379"]).unwrap();
        sentinels.note(&[(4, Address::new(primary, 6379))]);
        if let Some(id) = id {
            sentinels.identified(4, id);
        }
        let node = Node::builder("redis://10.0.0.1").sentinels(&sentinels);
        (node.build().unwrap(), sentinels)
    }

    fn primary(id: &str) -> Info {
        let replication = format!(
            "role:master\r\nmaster_replid:{id}\r\nmaster_repl_offset:7\r\nsecond_repl_offset:-1\r\n"
        );
        Info::parse("run_id:a", &replication).unwrap()
    }

    fn replica(of: &str, link: &str, id: &str) -> Info {
        let replication = format!(
            "role:slave\r\nmaster_host:{of}\r\nmaster_port:6379\r\nmaster_link_status:{link}\r\n\
             slave_repl_offset:7\r\nmaster_replid:{id}\r\nsecond_repl_offset:-1\r\n"
        );
        Info::parse("run_id:a", &replication).unwrap()
    }

    #[test]
    fn the_primary_is_who_the_sentinels_name() {
        let (node, sentinels) = node("10.0.0.1", None);
        assert_eq!(node.epochs(&primary(IDS[0]), &sentinels), (5, 5));
        assert_eq!(sentinels.known().id.as_deref(), Some(IDS[0]));
    }

    #[test]
    fn a_primary_that_the_sentinels_do_not_name_is_of_no_epoch() {
        let (node, sentinels) = node("10.0.0.2", None);
        assert_eq!(node.epochs(&primary(IDS[0]), &sentinels), (OUTSIDE, 5));
        assert_eq!(sentinels.known().id, None);
    }

    #[test]
    fn a_replica_is_of_the_epoch_whose_history_it_has() {
        let (node, sentinels) = node("10.0.0.2", Some(IDS[0]));
        assert_eq!(
            node.epochs(&replica("10.0.0.2", "up", IDS[0]), &sentinels),
            (5, 5)
        );
        // Cut off, or below another replica.
        assert_eq!(
            node.epochs(&replica("10.0.0.2", "down", IDS[0]), &sentinels),
            (5, 5)
        );
        assert_eq!(
            node.epochs(&replica("10.0.0.3", "up", IDS[0]), &sentinels),
            (5, 5)
        );
        // Of the primary before, or not yet of this one.
        assert_eq!(
            node.epochs(&replica("10.0.0.3", "up", IDS[1]), &sentinels),
            (OUTSIDE, 5)
        );
        assert_eq!(
            node.epochs(&replica("10.0.0.2", "down", IDS[1]), &sentinels),
            (OUTSIDE, 5)
        );
        // The primary was restarted, and has another history since.
        assert_eq!(
            node.epochs(&replica("10.0.0.2", "up", IDS[1]), &sentinels),
            (5, 5)
        );
        assert_eq!(
            node.epochs(&replica("10.0.0.2", "down", IDS[0]), &sentinels),
            (OUTSIDE, 5)
        );
    }

    #[test]
    fn a_replica_counts_while_nobody_has_seen_its_primary() {
        let (node, sentinels) = node("10.0.0.2", None);
        assert_eq!(
            node.epochs(&replica("10.0.0.3", "down", IDS[1]), &sentinels),
            (OUTSIDE, 5)
        );
        assert_eq!(
            node.epochs(&replica("10.0.0.2", "down", IDS[0]), &sentinels),
            (5, 5)
        );
        assert_eq!(sentinels.known().id, None, "it may be of another history");
    }

    #[test]
    fn a_node_that_was_filled_anew_is_another() {
        let of = |id| replica("10.0.0.2", "up", id).incarnation;
        assert_eq!(of(IDS[0]), of(IDS[0]));
        assert_ne!(of(IDS[0]), of(IDS[1]));
    }

    #[test]
    fn somebody_must_say_who_the_primary_is() {
        let built = Node::builder("redis://10.0.0.1").build();
        assert!(matches!(built, Err(Error::NoSentinels)));
        assert!(matches!(
            Node::builder("10.0.0.1:x")
                .without_sentinels("shop")
                .build(),
            Err(Error::Address(_))
        ));
    }
}
