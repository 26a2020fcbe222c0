//! A transaction whose commit gives a token.

use std::{
    fmt, mem,
    ops::{Deref, DerefMut},
    pin::pin,
};

use futures_util::TryStreamExt;
use resilience_core::route::{Lsn, Token, parse_timeline};
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::{error::Error, session::Server};

/// A transaction; dereferences to that of `tokio_postgres`. Dropped, it rolls back.
pub struct Transaction<'a> {
    begun: tokio_postgres::Transaction<'a>,
    server: Server,
    asynchronous: bool,
}

/// The positions of a primary: flushed, inserted, and its timeline.
pub(super) const POSITIONS: &str = "SELECT pg_current_wal_flush_lsn(), \
     pg_current_wal_insert_lsn(), substring(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";

/// What a token is made of; of the row of [`POSITIONS`].
pub(super) fn place(row: &SimpleQueryRow, inserted: bool, server: &Server) -> Option<(u64, Lsn)> {
    let position: Lsn = row.get(usize::from(inserted))?.parse().ok()?;
    let timeline = parse_timeline(row.get(2)?).ok()?;
    Some((timeline, position.at_page_border(server.segment)))
}

impl<'a> Transaction<'a> {
    pub(super) const fn new(
        begun: tokio_postgres::Transaction<'a>,
        server: Server,
        asynchronous: bool,
    ) -> Self {
        Self {
            begun,
            server,
            asynchronous,
        }
    }

    /// Commits. The token comes with it, in the same message.
    ///
    /// # Errors
    ///
    /// [`Error::NoToken`]: it is committed, and the server did not tell where. Any other: it is rolled
    /// back, or, with [`Failure::Lost`](crate::read_write::Failure::Lost), may be either. A
    /// transaction of which a statement failed is never taken for committed (`COMMIT` alone answers
    /// that it has rolled back, without an error).
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have committed.
    pub async fn commit(self) -> Result<Token<Lsn>, Error> {
        // The setting is asked for before the commit: it may be of this transaction. In one that
        // failed this is what fails.
        let message = format!("SELECT current_setting('synchronous_commit'); COMMIT; {POSITIONS}");
        let (mut completed, mut told) = (0, Vec::new());
        {
            let answer = self.begun.client().simple_query_raw(&message).await?;
            let mut answer = pin!(answer);
            loop {
                match answer.try_next().await {
                    Ok(Some(SimpleQueryMessage::CommandComplete(_))) => completed += 1,
                    Ok(Some(SimpleQueryMessage::Row(row))) => told.push(row),
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) if completed < 2 => return Err(error.into()),
                    Err(error) => {
                        self.end();
                        return Err(Error::NoToken(Box::new(error.into())));
                    }
                }
            }
        }
        let place = match &told[..] {
            [setting, positions] => {
                let inserted = self.asynchronous || setting.get(0) == Some("off");
                place(positions, inserted, &self.server)
            }
            _ => None,
        };
        let cluster = self.server.cluster;
        self.end();
        let unknown = || Error::NoToken(Box::new(Error::answer("the position of a commit")));
        let (epoch, position) = place.ok_or_else(unknown)?;
        Ok(Token {
            cluster,
            epoch,
            position,
        })
    }

    /// Rolls back.
    ///
    /// # Errors
    ///
    /// The server did not answer.
    pub async fn rollback(self) -> Result<(), Error> {
        Ok(self.begun.rollback().await?)
    }

    /// It has ended, which its type does not know: dropped, it would roll back what is not there,
    /// and the server would log a warning. It holds nothing but a reference.
    fn end(self) {
        mem::forget(self.begun);
    }
}

impl<'a> Deref for Transaction<'a> {
    type Target = tokio_postgres::Transaction<'a>;

    fn deref(&self) -> &Self::Target {
        &self.begun
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.begun
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}
