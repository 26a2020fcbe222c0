//! What a lease holds.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    time::Duration,
};

use deadpool_postgres::ClientWrapper;
use tokio::{runtime::Handle, time::timeout};

use super::{
    error::Error,
    session::{Pooled, Server},
    transaction::Transaction,
};

/// A connection to one run of a server; dereferences to that of `deadpool_postgres`, and so to
/// [`tokio_postgres::Client`].
///
/// # Cancel safety
///
/// A statement whose future is dropped runs on in the server. When the connection is dropped, it
/// waits for it, 5 s at most, before it goes back to its pool.
pub struct Connection {
    /// `None` once it is dropped.
    session: Option<Pooled>,
    pub(super) asynchronous: bool,
}

/// How long the end of a statement that nobody waits for is waited for.
const LEFT_RUNNING: Duration = Duration::from_secs(5);

impl Connection {
    pub(super) const fn new(session: Pooled, asynchronous: bool) -> Self {
        Self {
            session: Some(session),
            asynchronous,
        }
    }

    /// Begins a transaction whose commit gives a token.
    ///
    /// # Errors
    ///
    /// It did not begin.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        self.transaction_by(|builder| builder).await
    }

    /// Begins one with settings: isolation, read-only, deferrable.
    ///
    /// # Errors
    ///
    /// It did not begin.
    pub async fn transaction_by(
        &mut self,
        build: impl FnOnce(
            tokio_postgres::TransactionBuilder<'_>,
        ) -> tokio_postgres::TransactionBuilder<'_>,
    ) -> Result<Transaction<'_>, Error> {
        let (server, asynchronous) = (*self.server(), self.asynchronous);
        let client: &mut tokio_postgres::Client = self;
        let begun = build(client.build_transaction()).start().await?;
        Ok(Transaction::new(begun, server, asynchronous))
    }

    pub(super) fn server(&self) -> &Server {
        &self.held().server
    }

    fn held(&self) -> &Pooled {
        self.session.as_ref().expect("taken when dropped only")
    }
}

impl Deref for Connection {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.held().client
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        let held = self.session.as_mut();
        &mut held.expect("taken when dropped only").client
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        match Handle::try_current() {
            Ok(runtime) if !session.client.is_closed() => {
                // Not in the pool before it is known to be clean, also if the task never runs.
                runtime.spawn(give_back(Guard(Some(session))));
            }
            _ => drop(Pooled::take(session)),
        }
    }
}

/// To its pool, or closed.
async fn give_back(mut guard: Guard) {
    let Some(session) = &guard.0 else { return };
    if timeout(LEFT_RUNNING, session.is_clean()).await == Ok(true) {
        drop(guard.0.take());
    }
}

/// Closes what is left in it.
struct Guard(Option<Pooled>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            drop(Pooled::take(session));
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
