//! Who is the primary, as those say who elect it.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::{
    Client, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError, aio::MultiplexedConnection,
};
use parking_lot::Mutex;
use tokio::{task::JoinSet, time::timeout};

use super::{connection, error::Error};

/// How long those who are late are waited for once more than half have answered.
const GRACE: Duration = Duration::from_millis(10);

/// How long all of them are waited for: half of what a look may take by default. A node is looked at without
/// them after that.
const PATIENCE: Duration = Duration::from_millis(125);

/// A node, as sentinels and replicas call it.
#[derive(Clone, Debug)]
pub(super) struct Address {
    host: Box<str>,
    port: u16,
}

impl Address {
    pub(super) fn new(host: &str, port: u16) -> Self {
        let host = host.into();
        Self { host, port }
    }

    pub(super) const fn host(&self) -> &str {
        &self.host
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }
}

impl PartialEq for Address {
    /// Hosts are the same in any case of letters, and addresses in any form.
    fn eq(&self, other: &Self) -> bool {
        let ip = |address: &Self| address.host.parse().map(|ip: IpAddr| ip.to_canonical());
        self.port == other.port
            && match (ip(self), ip(other)) {
                (Ok(this), Ok(that)) => this == that,
                _ => self.host.eq_ignore_ascii_case(&other.host),
            }
    }
}

impl Eq for Address {}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The sentinels of one primary; clones are handles on the same ones.
///
/// All nodes of one cluster take the same handle: it holds what is known of the newest epoch, and
/// looks that are wanted at the same time are one.
#[derive(Clone)]
pub struct Sentinels(Arc<Inner>);

struct Inner {
    name: Box<str>,
    sentinels: Vec<Arc<Sentinel>>,
    known: Mutex<Known>,
    /// Looks that were begun.
    begun: AtomicU64,
    last: tokio::sync::Mutex<Look>,
}

struct Sentinel {
    client: Client,
    /// Taken out while it is in use, so that one whose answer did not come is gone.
    idle: Mutex<Option<MultiplexedConnection>>,
}

/// The last look that ended.
#[derive(Default)]
struct Look {
    number: u64,
    /// How many answered, and whether they agree.
    answered: usize,
    agreed: bool,
}

/// What is known of the newest epoch.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The config epoch, and the primary of it.
    pub(super) named: Option<(u64, Address)>,
    /// The replication id of that primary.
    pub(super) id: Option<Box<str>>,
}

impl Sentinels {
    /// The sentinels at these addresses, asked for the primary that they know by `name`.
    ///
    /// No connection is made yet.
    ///
    /// # Errors
    ///
    /// No sentinels at all, or an address that is none.
    pub fn new<S: IntoConnectionInfo>(
        name: &str,
        sentinels: impl IntoIterator<Item = S>,
    ) -> Result<Self, Error> {
        let sentinel = |address: S| {
            let client = Client::open(address).map_err(Error::Address)?;
            let idle = Mutex::new(None);
            Ok(Arc::new(Sentinel { client, idle }))
        };
        let sentinels: Vec<_> = sentinels
            .into_iter()
            .map(sentinel)
            .collect::<Result<_, Error>>()?;
        if sentinels.is_empty() {
            return Err(Error::NoSentinels);
        }
        Ok(Self(Arc::new(Inner {
            name: name.into(),
            sentinels,
            known: Mutex::default(),
            begun: AtomicU64::new(0),
            last: tokio::sync::Mutex::default(),
        })))
    }

    /// The name by which they know the primary.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Asks them, by a question that is sent after this call. An error if nobody can be named by it;
    /// what was known before stays.
    pub(super) async fn look(&self) -> Result<(), Error> {
        let of = self.0.sentinels.len();
        let asked = timeout(PATIENCE, self.look_together()).await;
        let (answered, agreed) = asked.unwrap_or((0, true));
        match answered * 2 > of {
            true if agreed => Ok(()),
            true => Err(Error::Disagreement),
            false => Err(Error::NoMajority { answered, of }),
        }
    }

    async fn look_together(&self) -> (usize, bool) {
        // ORDERING: SeqCst. A look with a higher number than this began after the load; the lock hands
        // over what it found.
        let before = self.0.begun.load(Ordering::SeqCst);
        let mut last = self.0.last.lock().await;
        if last.number <= before {
            let number = self.0.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let (answered, agreed) = self.ask_all().await;
            *last = Look {
                number,
                answered,
                agreed,
            };
        }
        (last.answered, last.agreed)
    }

    /// How many answered, and whether those of the highest epoch name the same primary.
    async fn ask_all(&self) -> (usize, bool) {
        let name = self.0.name.clone();
        let ask = move |sentinel: Arc<Sentinel>| {
            let name = name.clone();
            async move { sentinel.ask(&name).await.ok().flatten() }
        };
        let answers = self.ask_each(ask).await;
        let agreed = self.note(&answers);
        (answers.len(), agreed)
    }

    /// The nodes that one of them knows at least, those that are down last; what was known before stays
    /// if this fails.
    pub(super) async fn nodes(&self) -> Result<Vec<Address>, Error> {
        let of = self.0.sentinels.len();
        let name = self.0.name.clone();
        let ask = move |sentinel: Arc<Sentinel>| {
            let name = name.clone();
            async move { sentinel.nodes(&name).await.ok() }
        };
        let answers = self.ask_each(ask).await;
        match answers.len() * 2 > of {
            true => Ok(together(answers)),
            false => Err(Error::NoMajority {
                answered: answers.len(),
                of,
            }),
        }
    }

    /// The answers of more than half of them, and of those who are not much later.
    async fn ask_each<T, F>(&self, ask: impl Fn(Arc<Sentinel>) -> F) -> Vec<T>
    where
        T: Send + 'static,
        F: Future<Output = Option<T>> + Send + 'static,
    {
        let mut asked = JoinSet::new();
        for sentinel in &self.0.sentinels {
            let answer = timeout(PATIENCE, ask(Arc::clone(sentinel)));
            asked.spawn(async move { answer.await.ok().flatten() });
        }
        let mut answers = Vec::new();
        let majority = self.0.sentinels.len() / 2 + 1;
        while let Some(answer) = asked.join_next().await {
            answers.extend(answer.ok().flatten());
            if answers.len() >= majority {
                break;
            }
        }
        let late = async {
            while let Some(answer) = asked.join_next().await {
                answers.extend(answer.ok().flatten());
            }
        };
        // They may know of a newer epoch.
        let _ = timeout(GRACE, late).await;
        // Their connections are good, if they are only slow.
        asked.detach_all();
        answers
    }

    pub(super) fn note(&self, answers: &[(u64, Address)]) -> bool {
        let Some(newest) = answers.iter().max_by_key(|(epoch, _)| *epoch) else {
            return true;
        };
        let mut same = answers.iter().filter(|(epoch, _)| *epoch == newest.0);
        if same.any(|other| other != newest) {
            return false;
        }
        let mut known = self.0.known.lock();
        let older = known
            .named
            .as_ref()
            .is_some_and(|(epoch, _)| *epoch > newest.0);
        if !older && known.named.as_ref() != Some(newest) {
            *known = Known {
                named: Some(newest.clone()),
                id: None,
            };
        }
        true
    }

    pub(super) fn known(&self) -> Known {
        self.0.known.lock().clone()
    }

    /// The primary of the config epoch `epoch` has this replication id.
    pub(super) fn identified(&self, epoch: u64, id: &str) {
        let mut known = self.0.known.lock();
        let current = known
            .named
            .as_ref()
            .is_some_and(|(named, _)| *named == epoch);
        if current && known.id.as_deref() != Some(id) {
            known.id = Some(id.into());
        }
    }
}

/// What one sentinel knows: the nodes, and whether each is down.
type Nodes = Vec<(Address, bool)>;

/// A node is down if all who know it say so.
fn together(answers: Vec<Nodes>) -> Vec<Address> {
    let mut nodes = Nodes::new();
    for (address, down) in answers.into_iter().flatten() {
        match nodes.iter_mut().find(|(known, _)| *known == address) {
            Some((_, all)) => *all &= down,
            None => nodes.push((address, down)),
        }
    }
    nodes.sort_by_key(|(_, down)| *down);
    nodes.into_iter().map(|(address, _)| address).collect()
}

type Fields = HashMap<String, String>;

impl Sentinel {
    /// On the connection that is kept, or a new one.
    async fn answer<T: FromRedisValue>(&self, questions: &Pipeline) -> Result<T, RedisError> {
        let idle = self.idle.lock().take();
        let mut connection = match idle {
            Some(connection) => connection,
            None => connection::open(&self.client, None).await?,
        };
        let answer = questions.query_async(&mut connection).await?;
        *self.idle.lock() = Some(connection);
        Ok(answer)
    }

    /// The primary and the replicas.
    async fn nodes(&self, name: &str) -> Result<Nodes, RedisError> {
        let mut questions = ::redis::pipe();
        for question in ["GET-MASTER-ADDR-BY-NAME", "REPLICAS"] {
            questions.cmd("SENTINEL").arg(question).arg(name);
        }
        type Answer = ((String, u16), Vec<Fields>);
        let ((host, port), replicas): Answer = self.answer(&questions).await?;
        let replica = |fields: &Fields| {
            let address = Address::new(fields.get("ip")?, fields.get("port")?.parse().ok()?);
            let flags = fields.get("flags").map_or("", String::as_str);
            let down = flags
                .split(',')
                .any(|flag| matches!(flag, "s_down" | "disconnected"));
            Some((address, down))
        };
        let primary = (Address::new(&host, port), false);
        Ok(std::iter::once(primary)
            .chain(replicas.iter().filter_map(replica))
            .collect())
    }

    /// The config epoch and the primary of it; `None`: it was changed between the two questions.
    async fn ask(&self, name: &str) -> Result<Option<(u64, Address)>, RedisError> {
        // While a failover runs, the epoch is that of the new primary before `MASTER` shows its
        // address, which the second question has. That is of the epoch which is the same before and
        // after it.
        let mut questions = ::redis::pipe();
        let state = || ::redis::cmd("SENTINEL").arg("MASTER").arg(name).to_owned();
        questions.add_command(state());
        questions
            .cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(name);
        questions.add_command(state());
        type Answer = (Fields, (String, u16), Fields);
        let (before, (host, port), after): Answer = self.answer(&questions).await?;
        let epoch = |state: &Fields| state.get("config-epoch")?.parse().ok();
        Ok(match (epoch(&before), epoch(&after)) {
            (Some(before), Some(after)) if before == after => {
                Some((before, Address::new(&host, port)))
            }
            _ => None,
        })
    }
}

impl fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sentinels")
            .field("name", &self.0.name)
            .field("known", &self.known())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentinels() -> Sentinels {
        Sentinels::new("shop", ["redis://127.0.0.1:1"]).unwrap()
    }

    fn named(epoch: u64, port: u16) -> (u64, Address) {
        (epoch, Address::new("10.0.0.1", port))
    }

    #[test]
    fn the_highest_epoch_counts_and_is_never_forgotten() {
        let sentinels = sentinels();
        assert!(sentinels.note(&[named(1, 1), named(2, 2), named(1, 1)]));
        assert_eq!(sentinels.known().named, Some(named(2, 2)));
        // Those who know of it are gone.
        assert!(sentinels.note(&[named(1, 1), named(1, 1)]));
        assert_eq!(sentinels.known().named, Some(named(2, 2)));
    }

    #[test]
    fn two_primaries_of_one_epoch_are_a_disagreement() {
        let sentinels = sentinels();
        assert!(!sentinels.note(&[named(2, 1), named(2, 2), named(1, 3)]));
        assert_eq!(sentinels.known().named, None);
    }

    #[test]
    fn the_history_of_an_epoch_goes_with_it() {
        let sentinels = sentinels();
        sentinels.note(&[named(1, 1)]);
        sentinels.identified(1, "id");
        sentinels.note(&[named(1, 1)]);
        assert_eq!(sentinels.known().id.as_deref(), Some("id"));
        sentinels.note(&[named(2, 2)]);
        assert_eq!(sentinels.known().id, None);
        // One who looked before says nothing of it.
        sentinels.identified(1, "id");
        assert_eq!(sentinels.known().id, None);
    }

    #[test]
    fn an_address_is_the_same_in_every_form() {
        assert_eq!(
            Address::new("::ffff:10.0.0.1", 1),
            Address::new("10.0.0.1", 1)
        );
        assert_eq!(Address::new("Redis-A", 1), Address::new("redis-a", 1));
        assert_ne!(Address::new("redis-a", 1), Address::new("redis-a", 2));
        assert_ne!(Address::new("redis-a", 1), Address::new("10.0.0.1", 1));
    }

    #[test]
    fn nodes_that_are_up_by_one_of_them_come_first() {
        let at = |port, down| (Address::new("10.0.0.1", port), down);
        let one = vec![at(1, false), at(2, true), at(3, true)];
        let other = vec![at(1, false), at(3, false), at(4, false)];
        let nodes = together(vec![one, other]);
        let ports: Vec<_> = nodes.iter().map(Address::port).collect();
        assert_eq!(ports, [1, 3, 4, 2]);
    }

    #[tokio::test]
    async fn a_minority_elects_nobody() {
        let none = sentinels().look().await.unwrap_err();
        assert!(
            matches!(none, Error::NoMajority { answered: 0, of: 1 }),
            "{none}"
        );
    }
}
