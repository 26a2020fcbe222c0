//! Looks at a node, on a connection of their own.

use std::{fmt, sync::Arc, time::Duration};

use deadpool_postgres::Connect;
use parking_lot::Mutex;
use resilience_core::route::{Fork, Lsn, Observation, Role, parse_history, parse_timeline};
use tokio::{sync, task::JoinHandle, time::timeout};
use tokio_postgres::{Client, Config, SimpleQueryMessage};

use super::{
    builder::GIVEN_UP,
    error::Error,
    session::{Server, rows},
};

/// The role and the position, and *then* the timeline: one that is told later is no older. A receiver
/// that waits is at the end of a timeline, and its replica may be on the next one already.
const FLUSHED: &str = "SELECT r, CASE WHEN r THEN pg_last_wal_replay_lsn() \
     ELSE pg_current_wal_flush_lsn() END FROM pg_is_in_recovery() r; ";
const INSERTED: &str = "SELECT r, CASE WHEN r THEN pg_last_wal_replay_lsn() \
     ELSE pg_current_wal_insert_lsn() END FROM pg_is_in_recovery() r; ";
const TIMELINE: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN NULL \
     ELSE substring(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END; \
     SELECT pid, received_tli FROM pg_stat_wal_receiver WHERE status IS DISTINCT FROM 'waiting'";

/// The bounds of the timeline of a replica that receives nothing; asked after its position.
const BOUNDS: &str = "SELECT greatest(min_recovery_end_timeline, timeline_id) \
     FROM pg_control_recovery(), pg_control_checkpoint(); \
     SELECT max(substring(name, 1, 8)) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'";

/// A connection on which nothing was answered for so long is replaced.
const UNANSWERED: Duration = Duration::from_secs(10);

/// A history that could not be read is asked for again after this time.
const HISTORY_AGAIN: Duration = Duration::from_secs(1);

type Forks = Arc<[Fork<Lsn>]>;

/// What looks share.
pub(super) struct Looks {
    connect: Arc<dyn Connect>,
    config: Config,
    history_function: Option<String>,
    slot: sync::Mutex<Slot>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Slot {
    open: Option<Arc<Open>>,
    /// It goes on when the look that began it is given up: what takes longer than a look may take
    /// would never be connected.
    opening: Option<JoinHandle<Result<Open, Error>>>,
}

struct Open {
    client: Client,
    _task: Ended,
    server: Server,
    /// When the first question was sent that has no answer yet.
    asked: Mutex<Option<Duration>>,
}

/// What is known of one run of the server.
#[derive(Default)]
struct Known {
    run: u64,
    /// The newest timeline that it received.
    received: Option<u64>,
    history: Option<(u64, Forks)>,
    history_asked: Option<(u64, Duration)>,
}

/// The task of a connection, which ends with it.
struct Ended(JoinHandle<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Looks {
    pub(super) fn new(
        connect: Arc<dyn Connect>,
        config: Config,
        history_function: Option<String>,
    ) -> Self {
        Self {
            connect,
            config,
            history_function,
            slot: sync::Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// One look, which was begun at `at`.
    pub(super) async fn look(
        &self,
        at: Duration,
        inserted: bool,
    ) -> Result<Observation<Lsn>, Error> {
        let open = self.open(at).await?;
        let asked = if inserted { INSERTED } else { FLUSHED };
        let asked = format!("{asked}{TIMELINE}");
        loop {
            let answer = open.ask(&asked, at).await?;
            let told = Told::of(&answer).ok_or(Error::answer("a look"))?;
            let epoch = match told {
                Told::Promoted => continue,
                Told::Primary { timeline, .. } => timeline,
                Told::Receiving { timeline, .. } => {
                    self.received(&open.server, timeline);
                    timeline
                }
                Told::Unseen => return Err(Error::Privilege),
                Told::Cut { .. } => self.cut_off(&open, at).await?,
            };
            let (role, position) = match told {
                Told::Primary { position, .. } => (Role::Primary, position),
                Told::Receiving { position, .. } | Told::Cut { position } => {
                    (Role::Replica, position)
                }
                Told::Promoted | Told::Unseen => return Err(Error::answer("a look")),
            };
            let position = position.at_page_border(open.server.segment);
            let seen = Observation::new(role, open.server.cluster, epoch, position, at)
                .incarnation(open.server.run);
            return Ok(match self.history(&open, epoch, at).await {
                Some(forks) => seen.history(forks),
                None => seen,
            });
        }
    }

    /// The connection for looks.
    async fn open(&self, at: Duration) -> Result<Arc<Open>, Error> {
        let mut slot = self.slot.lock().await;
        if let Some(open) = slot.open.as_ref().filter(|open| open.answers(at)) {
            return Ok(Arc::clone(open));
        }
        slot.open = None;
        // One that ended while nobody asked says nothing of now, unless it is there.
        let opening = match slot.opening.take() {
            Some(opening) if opening.is_finished() => match opening.await {
                Ok(Ok(open)) if open.answers(at) => return Ok(slot.put(open)),
                _ => self.begin(),
            },
            Some(opening) => opening,
            None => self.begin(),
        };
        // Kept there while it is awaited: this future may be dropped.
        let opened = slot.opening.insert(opening).await;
        slot.opening = None;
        match opened {
            Ok(opened) => Ok(slot.put(opened?)),
            Err(_) => Err(Error::Closed),
        }
    }

    fn begin(&self) -> JoinHandle<Result<Open, Error>> {
        let (connect, config) = (Arc::clone(&self.connect), self.config.clone());
        tokio::spawn(async move {
            // Also of one that takes connections, and says nothing on them.
            timeout(GIVEN_UP, Open::connect(&*connect, &config)).await?
        })
    }

    /// Those who connect come to another run than `run` of the server: the next look asks anew.
    pub(super) async fn forget(&self, run: u64) {
        let mut slot = self.slot.lock().await;
        if slot
            .open
            .as_ref()
            .is_some_and(|open| open.server.run != run)
        {
            slot.open = None;
        }
    }

    /// The timeline that a replica receives.
    fn received(&self, server: &Server, timeline: u64) {
        let mut known = self.known.lock();
        known.of(server);
        known.received = known.received.max(Some(timeline));
    }

    /// The timeline of a replica that receives nothing.
    async fn cut_off(&self, open: &Open, at: Duration) -> Result<u64, Error> {
        let answer = open.ask(BOUNDS, at).await?;
        let mut told = rows(&answer).map(|row| row.get(0).map(String::from));
        let recovered = told.next().flatten().and_then(|text| text.parse().ok());
        let logged = told.next().flatten();
        let most = logged.and_then(|name| parse_timeline(&name).ok());
        let (Some(recovered), Some(most)) = (recovered, most) else {
            return Err(Error::answer("the timelines of a replica"));
        };
        let mut known = self.known.lock();
        known.of(&open.server);
        match known.received.max(Some(recovered)) {
            Some(least) if least >= most => Ok(least),
            least => Err(Error::Timeline {
                least: least.unwrap_or(recovered),
                most,
            }),
        }
    }

    /// The epochs before a timeline; `None` if nobody tells.
    async fn history(&self, open: &Open, timeline: u64, at: Duration) -> Option<Forks> {
        if timeline == 1 {
            return Some(Forks::default());
        }
        {
            let mut known = self.known.lock();
            known.of(&open.server);
            match &known.history {
                Some((of, forks)) if *of == timeline => return Some(Arc::clone(forks)),
                _ => {}
            }
            let lately = known.history_asked;
            if lately.is_some_and(|(of, asked)| of == timeline && at < asked + HISTORY_AGAIN) {
                return None;
            }
            known.history_asked = Some((timeline, at));
        }
        let question = match &self.history_function {
            Some(function) => format!("SELECT {function}({timeline})"),
            None => format!("SELECT pg_read_file('pg_wal/{timeline:08X}.history')"),
        };
        let answer = open.ask(&question, at).await.ok()?;
        let forks = parse_history(rows(&answer).next()?.get(0)?).ok()?;
        let forks = Forks::from(forks);
        let mut known = self.known.lock();
        known.of(&open.server);
        known.history = Some((timeline, Arc::clone(&forks)));
        Some(forks)
    }
}

impl Slot {
    fn put(&mut self, open: Open) -> Arc<Open> {
        Arc::clone(self.open.insert(Arc::new(open)))
    }
}

impl Open {
    async fn connect(connect: &dyn Connect, config: &Config) -> Result<Self, Error> {
        let connected = connect.connect(config).await;
        let (client, task) = connected.map_err(Error::NotConnected)?;
        let task = Ended(task);
        let server = Server::of(&client).await?;
        Ok(Self {
            client,
            _task: task,
            server,
            asked: Mutex::new(None),
        })
    }

    /// It is worth asking on.
    fn answers(&self, at: Duration) -> bool {
        let asked = *self.asked.lock();
        let waits = asked.is_some_and(|asked| at.saturating_sub(asked) > UNANSWERED);
        !self.client.is_closed() && !waits
    }

    async fn ask(
        &self,
        question: &str,
        at: Duration,
    ) -> Result<Vec<SimpleQueryMessage>, tokio_postgres::Error> {
        self.asked.lock().get_or_insert(at);
        let answer = self.client.simple_query(question).await;
        *self.asked.lock() = None;
        answer
    }
}

impl Known {
    /// Nothing of one run holds for the next.
    fn of(&mut self, server: &Server) {
        if self.run != server.run {
            *self = Self {
                run: server.run,
                ..Self::default()
            };
        }
    }
}

/// What a look says.
#[derive(Clone, Copy)]
enum Told {
    Primary {
        position: Lsn,
        timeline: u64,
    },
    /// A replica that is connected to a primary.
    Receiving {
        position: Lsn,
        timeline: u64,
    },
    /// One that is not.
    Cut {
        position: Lsn,
    },
    /// One whose receiver may not be seen.
    Unseen,
    /// It became the primary between two statements.
    Promoted,
}

impl Told {
    fn of(answer: &[SimpleQueryMessage]) -> Option<Self> {
        let mut rows = rows(answer);
        let (place, timeline, receiver) = (rows.next()?, rows.next()?, rows.next());
        let position = place.get(1)?.parse().ok()?;
        let timeline = timeline.get(0);
        if place.get(0) == Some("f") {
            let timeline = parse_timeline(timeline?).ok()?;
            return Some(Self::Primary { position, timeline });
        }
        if timeline.is_some() {
            return Some(Self::Promoted);
        }
        let received = receiver.map(|row| (row.get(0), row.get(1)));
        Some(match received {
            Some((Some(_), None)) => Self::Unseen,
            Some((Some(_), Some(timeline))) => Self::Receiving {
                position,
                timeline: timeline.parse().ok()?,
            },
            _ => Self::Cut { position },
        })
    }
}

impl fmt::Debug for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Looks")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
