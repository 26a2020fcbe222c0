//! The clusters that were started.

use std::fmt::Write;
use std::time::Duration;

use engines::{Error, mariadb, nats, postgres, redis};
use tokio::time::timeout;

use crate::{Failure, StartArguments};

#[derive(Debug)]
pub(crate) struct Running {
    postgres: Option<postgres::Cluster>,
    mariadb: Option<mariadb::Cluster>,
    redis: Option<redis::Cluster>,
    nats: Option<nats::Server>,
}

/// One server, of whatever engine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Node<'a> {
    Postgres(&'a postgres::Node),
    Mariadb(&'a mariadb::Node),
    Redis(&'a redis::Node),
    Sentinel(&'a redis::Sentinel),
    Nats(&'a nats::Server),
}

/// The same expression for every engine.
macro_rules! each {
    ($node:expr, $name:ident => $result:expr) => {
        match $node {
            $crate::running::Node::Postgres($name) => $result,
            $crate::running::Node::Mariadb($name) => $result,
            $crate::running::Node::Redis($name) => $result,
            $crate::running::Node::Sentinel($name) => $result,
            $crate::running::Node::Nats($name) => $result,
        }
    };
}
pub(crate) use each;

impl Running {
    pub(crate) async fn start(start: &StartArguments) -> Result<Self, Error> {
        let engines = start.engines.or_all();
        let mut postgres_config = postgres::Config::default();
        let mut mariadb_config = mariadb::Config::default();
        let mut redis_config = redis::Config::default().with_sentinels(start.sentinels);
        if let Some(replicas) = start.replicas {
            postgres_config = postgres_config.with_replicas(replicas);
            mariadb_config = mariadb_config.with_replicas(replicas);
            redis_config = redis_config.with_replicas(replicas);
        }
        let (postgres, mariadb, redis, nats) = tokio::try_join!(
            when(engines.postgres, postgres::Cluster::start(postgres_config)),
            when(engines.mariadb, mariadb::Cluster::start(mariadb_config)),
            when(engines.redis, redis::Cluster::start(redis_config)),
            when(engines.nats, nats::Server::launch()),
        )?;
        Ok(Self {
            postgres,
            mariadb,
            redis,
            nats,
        })
    }

    /// The URLs as lines for an environment file.
    pub(crate) fn env(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, urls: &[String]| {
            if !urls.is_empty() {
                let _ = writeln!(text, "{name}={}", urls.join(","));
            }
        };
        let mut nodes = |name: &str, urls: Vec<String>| {
            line(&format!("{name}_URL"), &urls[..1]);
            line(&format!("{name}_REPLICA_URLS"), &urls[1..]);
        };
        if let Some(cluster) = &self.postgres {
            nodes(
                "POSTGRES",
                cluster.nodes().iter().map(postgres::Node::url).collect(),
            );
        }
        if let Some(cluster) = &self.mariadb {
            nodes(
                "MARIADB",
                cluster.nodes().iter().map(mariadb::Node::url).collect(),
            );
        }
        if let Some(cluster) = &self.redis {
            nodes(
                "REDIS",
                cluster.nodes().iter().map(redis::Node::url).collect(),
            );
            let sentinels: Vec<_> = cluster
                .sentinels()
                .iter()
                .map(redis::Sentinel::url)
                .collect();
            line("REDIS_SENTINEL_URLS", &sentinels);
        }
        if let Some(server) = &self.nats {
            line("NATS_URL", &[server.url()]);
        }
        text
    }

    fn nodes(&self) -> Vec<Node<'_>> {
        let postgres = self
            .postgres
            .iter()
            .flat_map(postgres::Cluster::nodes)
            .map(Node::Postgres);
        let mariadb = self
            .mariadb
            .iter()
            .flat_map(mariadb::Cluster::nodes)
            .map(Node::Mariadb);
        let redis = self
            .redis
            .iter()
            .flat_map(redis::Cluster::nodes)
            .map(Node::Redis);
        let sentinels = self
            .redis
            .iter()
            .flat_map(redis::Cluster::sentinels)
            .map(Node::Sentinel);
        let nats = self.nats.iter().map(Node::Nats);
        postgres
            .chain(mariadb)
            .chain(redis)
            .chain(sentinels)
            .chain(nats)
            .collect()
    }

    pub(crate) fn node(&self, name: &str) -> Result<Node<'_>, Failure> {
        let nodes = self.nodes();
        let names = || nodes.iter().map(Node::name).collect::<Vec<_>>().join(", ");
        let found = nodes.iter().find(|node| node.name() == name).copied();
        found.ok_or_else(|| format!("no server {name}; there are {}", names()).into())
    }

    /// One line for each server.
    pub(crate) async fn status(&self) -> String {
        let mut text = String::new();
        for node in self.nodes() {
            let state = node.state();
            let role = if state == "runs" {
                node.role().await
            } else {
                "-"
            };
            let pid =
                each!(node, node => node.pid()).map_or_else(|| "-".into(), |pid| pid.to_string());
            let url = each!(node, node => node.url());
            let _ = writeln!(
                text,
                "{:<10} {state:<7} {role:<8} {pid:<8} {url}",
                node.name()
            );
        }
        text
    }
}

async fn when<T>(
    wanted: bool,
    start: impl Future<Output = Result<T, Error>>,
) -> Result<Option<T>, Error> {
    if !wanted {
        return Ok(None);
    }
    start.await.map(Some)
}

impl<'a> Node<'a> {
    pub(crate) fn name(&self) -> &'a str {
        each!(*self, node => node.name())
    }

    fn state(self) -> &'static str {
        let (runs, pid) = each!(self, node => (node.is_running(), node.pid().unwrap_or_default()));
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        match stat.rsplit_once(") ") {
            _ if !runs => "ended",
            Some((_, rest)) if rest.starts_with('T') => "frozen",
            _ => "runs",
        }
    }

    /// `?` of one that does not answer at once.
    async fn role(self) -> &'static str {
        let primary = timeout(Duration::from_secs(2), async {
            match self {
                Self::Postgres(node) => node.in_recovery().await.map(|replica| !replica),
                Self::Mariadb(node) => node.is_replica().await.map(|replica| !replica),
                Self::Redis(node) => node.is_primary().await,
                Self::Sentinel(_) | Self::Nats(_) => Ok(true),
            }
        });
        match (self, primary.await) {
            (Self::Sentinel(_) | Self::Nats(_), _) => "-",
            (_, Ok(Ok(true))) => "primary",
            (_, Ok(Ok(false))) => "replica",
            _ => "?",
        }
    }
}
