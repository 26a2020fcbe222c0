//! A real Redis of one test.

use engines::redis::{Cluster, Config, Node};

pub(crate) struct Server(Cluster);

impl Server {
    /// A server that answers.
    pub(crate) async fn start() -> Self {
        Self(Cluster::start(Config::lone()).await.unwrap())
    }

    fn node(&self) -> &Node {
        self.0.node(0)
    }

    pub(crate) fn url(&self) -> String {
        self.node().url()
    }

    /// Kills it without warning.
    pub(crate) async fn kill(&self) {
        self.node().kill().await.unwrap();
    }

    /// Starts it again, with what it held.
    pub(crate) async fn start_again(&self) {
        self.node().start().await.unwrap();
    }

    /// Stops the process; the system still accepts connections for it.
    pub(crate) async fn pause(&self) {
        self.node().freeze().await.unwrap();
    }

    pub(crate) fn resume(&self) {
        self.node().thaw().unwrap();
    }
}
