//! Checking credentials.

use std::{net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use sqlx::SqlitePool;
use tokio::sync::Semaphore;
use webhook_verify::clock::WallClock;

use super::{
    Claims, Role, TokenError, Tokens, User, UserError, UserStore, Users, attempts::Attempts,
    users::normal,
};
use crate::{
    metrics::Metrics,
    settings::{DemoUser, Settings},
};

/// Login and token checks. Clones share everything.
#[derive(Clone, Debug)]
pub struct AuthService {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn WallClock>,
    users: Arc<dyn UserStore>,
    tokens: Tokens,
    attempts: Attempts,
    metrics: Metrics,
    trusted_proxies: Vec<IpNet>,
    bcrypt_cost: u32,
    /// Compared with when there is no user, so that both cases take the same work.
    decoy: String,
    /// Password hashes at once: each takes a core for a while.
    hashing: Semaphore,
}

/// A successful login.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Login {
    /// Who logged in.
    pub user: User,
    /// The access token.
    pub access_token: String,
    /// How long it is good for.
    pub expires_in: Duration,
}

/// Why a login was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// Unknown e-mail or wrong password; nobody is told which.
    #[error("e-mail or password is wrong")]
    Credentials,
    /// Too many failures of this account or address.
    #[error("too many failed logins")]
    TooMany {
        /// When the next attempt is allowed.
        retry_after: Duration,
    },
    /// The users cannot be read.
    #[error(transparent)]
    Store(#[from] UserError),
    /// Hashing or signing failed.
    #[error("login failed inside: {0}")]
    Internal(String),
}

impl AuthService {
    /// Login over the users in `pool`, whose migrations have run. Computes one password
    /// hash; call it once.
    ///
    /// # Errors
    ///
    /// When no hash can be computed, or the demo user of the settings cannot be stored.
    pub async fn new(
        settings: &Settings,
        pool: SqlitePool,
        clock: Arc<dyn WallClock>,
        metrics: Metrics,
    ) -> Result<Self, LoginError> {
        Self::over(settings, Arc::new(Users::new(pool)), clock, metrics).await
    }

    /// The same over users that are elsewhere.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub async fn over(
        settings: &Settings,
        users: Arc<dyn UserStore>,
        clock: Arc<dyn WallClock>,
        metrics: Metrics,
    ) -> Result<Self, LoginError> {
        let auth = &settings.auth;
        let decoy = hash("no user has this password".to_owned(), auth.bcrypt_cost).await?;
        let service = Self {
            inner: Arc::new(Inner {
                users,
                tokens: Tokens::new(auth, Arc::clone(&clock)),
                attempts: Attempts::new(auth.max_failures, auth.failure_window),
                clock,
                metrics,
                trusted_proxies: settings.webhook.trusted_proxies.clone(),
                bcrypt_cost: auth.bcrypt_cost,
                decoy,
                hashing: Semaphore::new(MAX_HASHES),
            }),
        };
        if let Some(user) = &auth.demo_user {
            service.seed(user).await?;
        }
        Ok(service)
    }

    /// Exchanges credentials for a token. `address` is where the client comes from.
    ///
    /// # Errors
    ///
    /// See [`LoginError`].
    ///
    /// # Cancel safety
    ///
    /// A dropped login counts as a failed one.
    pub async fn login(
        &self,
        email: &str,
        password: String,
        address: Option<IpAddr>,
    ) -> Result<Login, LoginError> {
        let account = normal(email);
        let now = self.inner.clock.now();
        let attempts = &self.inner.attempts;
        if let Err(retry_after) = attempts.begin(&account, address, now) {
            self.inner.metrics.auth_failed("too_many");
            return Err(LoginError::TooMany { retry_after });
        }
        match self.check_password(&account, password).await {
            Ok(Some(user)) => {
                attempts.succeeded(&account, address, now);
                let access_token = self
                    .inner
                    .tokens
                    .issue(&user.id, user.role)
                    .map_err(|error| LoginError::Internal(error.to_string()))?;
                Ok(Login {
                    user,
                    access_token,
                    expires_in: self.inner.tokens.ttl(),
                })
            }
            Ok(None) => {
                self.inner.metrics.auth_failed("credentials");
                Err(LoginError::Credentials)
            }
            Err(error) => {
                // Our trouble is not the client's failure.
                attempts.abandoned(&account, address, now);
                Err(error)
            }
        }
    }

    /// The claims of a valid access token.
    ///
    /// # Errors
    ///
    /// Why it is refused; counted.
    pub fn check_token(&self, token: Option<&str>) -> Result<Claims, TokenError> {
        token
            .ok_or(TokenError::Missing)
            .and_then(|token| self.inner.tokens.check(token))
            .inspect_err(|error| self.inner.metrics.auth_failed(error.as_str()))
    }

    /// The peers whose `x-forwarded-for` is believed.
    #[must_use]
    pub fn trusted_proxies(&self) -> &[IpNet] {
        &self.inner.trusted_proxies
    }

    /// Stores `demo` unless its address or id is taken; an existing user stays as it is.
    async fn seed(&self, demo: &DemoUser) -> Result<(), LoginError> {
        let cost = self.inner.bcrypt_cost;
        let role = Role::from_name(&demo.role)
            .ok_or_else(|| LoginError::Internal(format!("unknown role {}", demo.role)))?;
        let user = User {
            id: DEMO_ID.to_owned(),
            email: demo.email.clone(),
            password_hash: hash(demo.password.expose().to_owned(), cost).await?,
            role,
        };
        self.inner
            .users
            .insert(&user, self.inner.clock.now())
            .await?;
        Ok(())
    }

    /// The user, if the password is theirs. Always computes one hash.
    async fn check_password(
        &self,
        account: &str,
        password: String,
    ) -> Result<Option<User>, LoginError> {
        let user = self.inner.users.find_by_email(account).await?;
        // Who has no password is compared with as one who is not there.
        let user = user.filter(|user| user.password_hash != NO_PASSWORD);
        let against = user
            .as_ref()
            .map_or_else(|| self.inner.decoy.clone(), |u| u.password_hash.clone());
        let Ok(_permit) = self.inner.hashing.acquire().await else {
            return Err(LoginError::Internal("closed".to_owned()));
        };
        // bcrypt looks at 72 bytes; what is longer was never set as a password.
        let too_long = password.len() > 72;
        let matches = tokio::task::spawn_blocking(move || bcrypt::verify(password, &against))
            .await
            .map_err(|error| LoginError::Internal(error.to_string()))?
            .map_err(|error| LoginError::Internal(error.to_string()))?;
        Ok(user.filter(|_| matches && !too_long))
    }
}

async fn hash(password: String, cost: u32) -> Result<String, LoginError> {
    tokio::task::spawn_blocking(move || bcrypt::hash(password, cost))
        .await
        .map_err(|error| LoginError::Internal(error.to_string()))?
        .map_err(|error| LoginError::Internal(error.to_string()))
}

/// The id of the seeded user, which owns the seeded contents.
const DEMO_ID: &str = "demo";

/// The hash of a user without a password.
const NO_PASSWORD: &str = "!";

/// More logins than this wait for their turn.
const MAX_HASHES: usize = 4;
