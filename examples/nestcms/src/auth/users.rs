//! Users and their store.

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;

use crate::ports::StoreError;

/// What a user may do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// Own payments and projects.
    User,
    /// Also contents of others.
    Editor,
    /// Everything.
    Admin,
}

impl Role {
    /// The name in the store and in tokens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Editor => "editor",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::User, Self::Editor, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A user. `Debug` shows neither address nor hash.
#[derive(Clone, Eq, PartialEq)]
pub struct User {
    /// The user's id.
    pub id: String,
    /// Login name, in lower case.
    pub email: String,
    /// bcrypt's text form.
    pub password_hash: String,
    /// What the user may do.
    pub role: Role,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// The user store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// The database failed.
    #[error("user store: {0}")]
    Store(#[from] sqlx::Error),
    /// The database behind a port failed.
    #[error("user store: {0}")]
    Port(#[from] StoreError),
    /// A row holds a role that does not exist.
    #[error("user store: user {user_id} has the unknown role `{role}`")]
    UnknownRole {
        /// The user.
        user_id: String,
        /// The role as stored.
        role: String,
    },
}

/// Where the users of the login are.
pub trait UserStore: fmt::Debug + Send + Sync {
    /// The user with this e-mail address, in any case.
    fn find_by_email<'a>(
        &'a self,
        email: &'a str,
    ) -> BoxFuture<'a, Result<Option<User>, UserError>>;

    /// Stores `user` unless its id or address is taken; tells whether it was stored.
    fn insert<'a>(
        &'a self,
        user: &'a User,
        now: Duration,
    ) -> BoxFuture<'a, Result<bool, UserError>>;
}

/// The table `users`.
#[derive(Clone, Debug)]
pub struct Users {
    pool: SqlitePool,
}

impl Users {
    /// Works on `pool`, whose migrations have run.
    #[must_use]
    pub fn new(pool: SqlitePool) -> Self {
        Self { pool }
    }

    /// The user with this e-mail address, in any case.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn find_by_email(&self, email: &str) -> Result<Option<User>, UserError> {
        let row: Option<(String, String, String, String)> =
            sqlx::query_as("SELECT id, email, password_hash, role FROM users WHERE email = ?1")
                .bind(normal(email))
                .fetch_optional(&self.pool)
                .await?;
        let Some((id, email, password_hash, role)) = row else {
            return Ok(None);
        };
        let Some(known) = Role::from_name(&role) else {
            return Err(UserError::UnknownRole { user_id: id, role });
        };
        Ok(Some(User {
            id,
            email,
            password_hash,
            role: known,
        }))
    }

    /// Stores `user` unless its id or address is taken; tells whether it was stored.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn insert(&self, user: &User, now: Duration) -> Result<bool, UserError> {
        let done = sqlx::query(
            "INSERT INTO users (id, email, password_hash, role, created_at) \
             VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
        )
        .bind(&user.id)
        .bind(normal(&user.email))
        .bind(&user.password_hash)
        .bind(user.role.as_str())
        .bind(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }
}

impl UserStore for Users {
    fn find_by_email<'a>(
        &'a self,
        email: &'a str,
    ) -> BoxFuture<'a, Result<Option<User>, UserError>> {
        Box::pin(self.find_by_email(email))
    }

    fn insert<'a>(
        &'a self,
        user: &'a User,
        now: Duration,
    ) -> BoxFuture<'a, Result<bool, UserError>> {
        Box::pin(self.insert(user, now))
    }
}

/// The form in which addresses are compared.
pub(crate) fn normal(email: &str) -> String {
    email.trim().to_lowercase()
}
