//! Who is the primary, as those say who elect it.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::{Client, IntoConnectionInfo, RedisError, aio::MultiplexedConnection};
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
        let mut asked = JoinSet::new();
        for sentinel in &self.0.sentinels {
            let (sentinel, name) = (Arc::clone(sentinel), self.0.name.clone());
            asked.spawn(async move {
                let answer = timeout(PATIENCE, sentinel.ask(&name)).await;
                answer.ok()?.ok().flatten()
            });
        }
        let mut answers: Vec<(u64, Address)> = Vec::new();
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
        let agreed = self.note(&answers);
        (answers.len(), agreed)
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

impl Sentinel {
    /// The config epoch and the primary of it; `None`: it was changed between the two questions.
    async fn ask(&self, name: &str) -> Result<Option<(u64, Address)>, RedisError> {
        let idle = self.idle.lock().take();
        let mut connection = match idle {
            Some(connection) => connection,
            None => connection::open(&self.client, None).await?,
        };
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
        type State = std::collections::HashMap<String, String>;
        let (before, (host, port), after): (State, (String, u16), State) =
            questions.query_async(&mut connection).await?;
        *self.idle.lock() = Some(connection);
        let epoch = |state: &State| state.get("config-epoch")?.parse().ok();
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

    #[tokio::test]
    async fn a_minority_elects_nobody() {
        let none = sentinels().look().await.unwrap_err();
        assert!(
            matches!(none, Error::NoMajority { answered: 0, of: 1 }),
            "{none}"
        );
    }
}
