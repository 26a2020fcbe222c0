//! Logins, payers and messages on PostgreSQL.

use std::time::Duration;

use futures_util::future::BoxFuture;
use resilience_tower::read_write::postgres::Transaction;
use tokio_postgres::types::ToSql;

use super::cluster::{Client, Failure, Postgres};
use crate::{
    auth::{Role, User, UserError, UserStore, normal},
    domain::money::Currency,
    events::{
        Channel, ChannelError, ListenerError, Message,
        listeners::{Payer, Payers},
    },
    ports::See,
};

/// Users as the login sees them, payers as receipts do, and messages that wait.
#[derive(Clone, Debug)]
pub struct PostgresUsers {
    postgres: Postgres,
}

impl PostgresUsers {
    /// A store over `postgres`.
    #[must_use]
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }
}

impl UserStore for PostgresUsers {
    fn find_by_email<'a>(
        &'a self,
        email: &'a str,
    ) -> BoxFuture<'a, Result<Option<User>, UserError>> {
        Box::pin(async move {
            let email = normal(email);
            let email = &email;
            // A password that was changed must not let anybody in on a replica.
            let read = self
                .postgres
                .read(&See::Newest, move |client: Client| async move {
                    let sql = "SELECT id, email, password_hash, role FROM users WHERE email = $1";
                    let row = client.query_opt(sql, &[email]).await?;
                    let Some(row) = row else { return Ok(None) };
                    let role: String = row.try_get(3)?;
                    Ok(Some(User {
                        id: row.try_get(0)?,
                        email: row.try_get(1)?,
                        password_hash: row.try_get(2)?,
                        role: Role::from_name(&role)
                            .ok_or_else(|| Failure::Corrupt(format!("unknown role {role}")))?,
                    }))
                });
            Ok(read.await?)
        })
    }

    fn insert<'a>(
        &'a self,
        user: &'a User,
        now: Duration,
    ) -> BoxFuture<'a, Result<bool, UserError>> {
        Box::pin(async move {
            let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
            let written = transaction!(self.postgres, |tx| insert(&tx, user, now));
            Ok(written.await?.0)
        })
    }
}

async fn insert(tx: &Transaction<'_>, user: &User, now: i64) -> Result<bool, Failure> {
    let sql = "INSERT INTO users (id, email, password_hash, role, created_at) \
               VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    let (email, role) = (normal(&user.email), user.role.as_str());
    let values: [&(dyn ToSql + Sync); 5] = [&user.id, &email, &user.password_hash, &role, &now];
    Ok(tx.execute(sql, &values).await? == 1)
}

impl Payers for PostgresUsers {
    fn payer<'a>(
        &'a self,
        payment_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<Payer>, ListenerError>> {
        Box::pin(async move {
            let read = self
                .postgres
                .read(&See::Newest, move |client: Client| async move {
                    let sql = "SELECT p.currency, u.email FROM payments p \
                           LEFT JOIN users u ON u.id = p.user_id WHERE p.id = $1";
                    let row = client.query_opt(sql, &[&payment_id]).await?;
                    let Some(row) = row else { return Ok(None) };
                    let code: String = row.try_get(0)?;
                    let currency = Currency::from_code(&code)
                        .ok_or_else(|| Failure::Corrupt(format!("unknown currency {code}")))?;
                    Ok(Some(Payer {
                        email: row.try_get(1)?,
                        currency,
                    }))
                });
            Ok(read.await?)
        })
    }
}

impl Channel for PostgresUsers {
    fn send(&self, message: Message) -> BoxFuture<'_, Result<(), ChannelError>> {
        Box::pin(async move {
            let message = &message;
            let written = transaction!(self.postgres, |tx| keep(&tx, message));
            written.await.map(|_| ()).map_err(|error| ChannelError {
                reason: error.to_string(),
            })
        })
    }
}

pub(super) async fn keep(tx: &Transaction<'_>, message: &Message) -> Result<(), Failure> {
    let sql = "INSERT INTO notifications \
               (event_id, channel, recipient, subject, body, correlation_id, created_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    let (channel, at) = (message.channel.as_str(), message.at.to_string());
    let values: [&(dyn ToSql + Sync); 7] = [
        &message.event_id,
        &channel,
        &message.recipient,
        &message.subject,
        &message.body,
        &message.correlation_id,
        &at,
    ];
    tx.execute(sql, &values).await?;
    Ok(())
}
