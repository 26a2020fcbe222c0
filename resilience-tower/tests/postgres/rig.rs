//! Real servers with the roles that the documentation asks for, and nodes on them.

use std::time::Duration;

use engines::postgres as engine;
use resilience_tower::read_write::postgres::{Node, NodeBuilder};

/// Longer than anything takes on a machine that does other things as well.
pub(super) const BOUND: Duration = Duration::from_secs(60);

const SETUP: &str = "
    CREATE ROLE app LOGIN PASSWORD 'app';
    GRANT ALL ON SCHEMA public TO app;
    CREATE ROLE looks LOGIN PASSWORD 'looks';
    GRANT pg_monitor TO looks;
    CREATE FUNCTION timeline_history(timeline int) RETURNS text
        LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
        RETURN pg_read_file('pg_wal/' || upper(lpad(to_hex(timeline), 8, '0')) || '.history');
    REVOKE ALL ON FUNCTION timeline_history(int) FROM public;
    GRANT EXECUTE ON FUNCTION timeline_history(int) TO looks;
    CREATE TABLE writes (id bigint PRIMARY KEY);
    GRANT ALL ON writes TO app;
";

/// A cluster that has caught up, with a table `writes`.
pub(super) async fn start(config: engine::Config) -> engine::Cluster {
    let servers = engine::Cluster::start(config).await.expect("it starts");
    servers.node(0).sql(SETUP).await.expect("it takes SQL");
    servers.wait_caught_up().await.expect("replicas follow");
    servers
}

/// A node as an application reaches it.
pub(super) fn reached(server: &engine::Node) -> NodeBuilder {
    reached_as(server, "app").looks(config(server, "looks"))
}

/// One that a single role reaches, whose password is its name.
pub(super) fn reached_as(server: &engine::Node, role: &str) -> NodeBuilder {
    Node::builder(config(server, role)).history_function("timeline_history")
}

fn config(server: &engine::Node, role: &str) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(server.port());
    config.user(role).password(role).dbname("postgres");
    config
}
