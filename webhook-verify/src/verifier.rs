//! The verifier: settings, checked once, shared by all its clones.

#[cfg(feature = "layer")]
use std::net::IpAddr;
use std::{sync::Arc, time::Duration};

use http::Method;
use sha2::{Digest as _, Sha256};

use crate::{
    clock::{SystemClock, WallClock},
    error::{Error, Reason, Step},
    headers::HeaderPolicy,
    payload::PayloadPolicy,
    replay::{ReplayKey, ReplayStore, Reserve, StoreError, Times, Token},
    scheme::{Form, ReplayBasis, Scheme},
    secret::{Key, KeySet, Secret, SecretError},
    session::Verified,
    source::IpPolicy,
};

/// Verifies deliveries of one scheme; clones share everything.
#[derive(Clone, Debug)]
pub struct Verifier {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) scheme: Scheme,
    pub(crate) keys: KeySet,
    pub(crate) methods: Vec<Method>,
    pub(crate) order: [Step; 5],
    pub(crate) tolerance: (Duration, Duration),
    /// Whether the namespace is part of a name that is a signature: only for a replay store,
    /// since it costs a hash.
    pub(crate) by_namespace: bool,
    pub(crate) source: Option<IpPolicy>,
    pub(crate) headers: HeaderPolicy,
    pub(crate) payload: Option<PayloadPolicy>,
    pub(crate) body_limit: usize,
    pub(crate) clock: Arc<dyn WallClock>,
    /// The hash of the names of deliveries, with the namespace absorbed.
    pub(crate) names: Sha256,
    /// Whether the content names a delivery: some schemes, and only for a replay store.
    pub(crate) by_content: bool,
    replay: Option<Arc<dyn ReplayStore>>,
    replay_lifetime: Duration,
    replay_lease: Duration,
    insecure_accept_on_outage: bool,
}

impl Verifier {
    /// Settings for `scheme`.
    ///
    /// Defaults: method POST; order [`Step::CHEAP_FIRST`]; the scheme's tolerance; body
    /// limit 256 KiB; any source; no payload check; no replay store; the system's clock.
    pub fn builder(scheme: Scheme) -> Builder {
        let inner = Inner {
            keys: KeySet::default(),
            methods: vec![Method::POST],
            order: Step::CHEAP_FIRST,
            tolerance: scheme.tolerance,
            source: None,
            headers: HeaderPolicy::new(),
            payload: None,
            body_limit: 256 * 1024,
            clock: Arc::new(SystemClock),
            names: names_in(scheme.name),
            by_content: false,
            by_namespace: false,
            replay: None,
            replay_lifetime: scheme.replay_lifetime,
            replay_lease: Duration::from_secs(60),
            insecure_accept_on_outage: false,
            scheme,
        };
        Builder {
            inner,
            secrets: Vec::new(),
            keys: None,
            lifetime: None,
            tolerance: None,
        }
    }

    /// The key set, for rotation while deliveries arrive.
    #[must_use]
    pub fn keys(&self) -> &KeySet {
        &self.inner.keys
    }

    /// The scheme.
    #[must_use]
    pub fn scheme(&self) -> &Scheme {
        &self.inner.scheme
    }

    /// The most bytes a body may have.
    #[must_use]
    pub fn body_limit(&self) -> usize {
        self.inner.body_limit
    }

    /// Whom to report: what the IP policy finds, else the peer.
    #[cfg(feature = "layer")]
    pub(crate) fn sender(&self, peer: Option<IpAddr>, headers: &http::HeaderMap) -> Option<IpAddr> {
        let policy = self.inner.source.as_ref();
        policy
            .and_then(|policy| policy.sender(peer, headers))
            .or_else(|| peer.map(crate::source::canonical))
    }

    /// Takes the delivery in the replay store. `None` without a store, or when the store is
    /// out of order and the verifier was told to accept then, which is logged as a warning.
    ///
    /// With a store in memory the future is ready at once.
    ///
    /// # Examples
    /// Without the layer, a handler reserves before it acts and commits when it has:
    ///
    /// ```
    /// # use webhook_verify::{Secret, Signer, Verifier, presets, replay::MemoryReplayStore};
    /// # async fn handle(parts: &http::request::Parts, body: &[u8]) -> Result<(), webhook_verify::Error> {
    /// # let secret = Secret::new("2026-01", "S9JNLK").unwrap();
    /// let verifier = Verifier::builder(presets::github())
    ///     .secret(secret)
    ///     .replay(MemoryReplayStore::new(100_000))
    ///     .build()
    ///     .expect("the settings fit together");
    ///
    /// let verified = verifier.verify(parts, None, body)?;
    /// let reservation = verifier.reserve(&verified).await?;
    /// // ... handle it; if that fails, dropping the reservation lets the sender try again ...
    /// if let Some(reservation) = reservation {
    ///     let _ = reservation.commit().await;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Step::Replay`]: a duplicate, in flight, a full store, or an outage.
    /// [`Step::Timestamp`]: the window has passed since the timestamp was judged.
    ///
    /// # Cancel safety
    /// Dropped while it waits for a store across a network, a reservation may stay until
    /// its lease (60 s unless set) ends.
    pub async fn reserve(&self, verified: &Verified) -> Result<Option<Reservation>, Error> {
        match self.guard(verified).await? {
            Guard::Reserved(reservation) => Ok(Some(reservation)),
            Guard::NoStore => Ok(None),
            Guard::Outage => {
                warn_of_outage(verified);
                Ok(None)
            }
        }
    }

    /// As [`reserve`](Self::reserve), with the reason why there is no reservation.
    pub(crate) async fn guard(&self, verified: &Verified) -> Result<Guard, Error> {
        let Some(store) = &self.inner.replay else {
            return Ok(Guard::NoStore);
        };
        let key = *verified.replay_key();
        let times = self.inner.times();
        if let Some(by_seconds) = self.inner.too_old(verified, times.now) {
            // Its timestamp was judged before a slow body, or long ago: by now the store may
            // have forgotten a delivery of the same time.
            let reason = Reason::TooOld { by_seconds };
            return Err(Error::new(Step::Timestamp, reason, *verified.trace()));
        }
        let refuse = |reason| {
            let mut trace = *verified.trace();
            trace.push(Step::Replay);
            Err(Error::new(Step::Replay, reason, trace))
        };
        match store.reserve(key, times).await {
            Ok(Reserve::Reserved(token)) => Ok(Guard::Reserved(Reservation {
                inner: Arc::clone(&self.inner),
                store: Arc::clone(store),
                key,
                token: Some(token),
            })),
            Ok(Reserve::Duplicate) => refuse(Reason::Duplicate),
            Ok(Reserve::InFlight(left)) => {
                let whole = left.as_secs() + u64::from(left.subsec_nanos() > 0);
                refuse(Reason::InFlight {
                    retry_after_seconds: whole.max(1),
                })
            }
            Err(StoreError::Full) => refuse(Reason::ReplayFull),
            Err(StoreError::Outage) if self.inner.insecure_accept_on_outage => Ok(Guard::Outage),
            Err(StoreError::Outage) => refuse(Reason::ReplayOutage),
        }
    }
}

/// What stands between a verified delivery and its replays.
pub(crate) enum Guard {
    Reserved(Reservation),
    /// There is no replay store.
    NoStore,
    /// The store is out of order, and the verifier was told to accept then.
    Outage,
}

pub(crate) fn warn_of_outage(verified: &Verified) {
    tracing::warn!(
        scheme = verified.scheme(),
        key_id = verified.key_id(),
        "webhook accepted without the replay store, which is out of order"
    );
}

impl Inner {
    /// By how many seconds a verified delivery is too old now.
    fn too_old(&self, verified: &Verified, now: Duration) -> Option<u64> {
        let age = now.as_secs().saturating_sub(verified.timestamp()?);
        let by_seconds = age.saturating_sub(self.tolerance.0.as_secs());
        (by_seconds > 0).then_some(by_seconds)
    }

    fn times(&self) -> Times {
        Times {
            now: self.clock.now(),
            lease: self.replay_lease,
            lifetime: self.replay_lifetime,
        }
    }
}

/// The right to handle one delivery; given back on drop unless committed.
#[must_use = "dropping it gives the delivery back"]
#[derive(Debug)]
pub struct Reservation {
    inner: Arc<Inner>,
    store: Arc<dyn ReplayStore>,
    key: ReplayKey,
    // `None` once committed.
    token: Option<Token>,
}

impl Reservation {
    /// Remembers the delivery as handled.
    ///
    /// # Errors
    /// When the store cannot; the lease then protects the delivery until it ends.
    ///
    /// # Cancel safety
    /// Once polled, the reservation is not given back any more.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        let Some(token) = self.token.take() else {
            return Ok(());
        };
        self.store.commit(self.key, token, self.inner.times()).await
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            self.store.release(self.key, token);
        }
    }
}

/// Settings of a [`Verifier`]; see [`Verifier::builder`] for the defaults.
#[must_use]
#[derive(Debug)]
pub struct Builder {
    inner: Inner,
    secrets: Vec<(Secret, Option<Duration>)>,
    keys: Option<KeySet>,
    lifetime: Option<Duration>,
    tolerance: Option<(Duration, Duration)>,
}

impl Builder {
    /// Adds a key without end.
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secrets.push((secret, None));
        self
    }

    /// Adds a key that is used until `end` (since the Unix epoch), for rotation.
    pub fn secret_until(mut self, secret: Secret, end: Duration) -> Self {
        self.secrets.push((secret, Some(end)));
        self
    }

    /// Uses a key set that others hold a handle of, in place of single secrets. A key that
    /// comes later and is of a kind that cannot verify the scheme is never tried.
    pub fn keys(mut self, keys: KeySet) -> Self {
        self.keys = Some(keys);
        self
    }

    /// How old and how far ahead a timestamp may be; whole seconds, both ends inclusive. Only
    /// for schemes with a signed timestamp: [`build`](Self::build) refuses it for others, where
    /// it would say of deliveries that they are fresh and check nothing.
    pub const fn tolerance(mut self, past: Duration, future: Duration) -> Self {
        self.tolerance = Some((past, future));
        self
    }

    /// Refuses deliveries seen before.
    pub fn replay(self, store: impl ReplayStore) -> Self {
        self.replay_shared(Arc::new(store))
    }

    /// As [`replay`](Self::replay), with a store that several verifiers share.
    pub fn replay_shared(mut self, store: Arc<dyn ReplayStore>) -> Self {
        self.inner.replay = Some(store);
        self
    }

    /// How long a delivery is remembered; at least past and future tolerance together.
    ///
    /// By default just that long when the scheme has a signed timestamp, since an older delivery
    /// is refused by its time; but 24 hours or more when deliveries are named by an id
    /// ([`ReplayBasis::Id`]), which a sender keeps when it signs a retry anew; and 24 hours
    /// without a timestamp.
    pub const fn replay_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// How long a reservation without commit lasts; 60 s by default. Must be longer than a
    /// handler takes, or a retry runs beside it.
    pub const fn replay_lease(mut self, lease: Duration) -> Self {
        self.inner.replay_lease = lease;
        self
    }

    /// Keeps the ids of two receivers apart that share a store; by default the scheme's name.
    pub fn replay_namespace(mut self, namespace: &str) -> Self {
        self.inner.names = names_in(namespace);
        self
    }

    /// Accepts deliveries while the replay store is out of order, in place of 503. A replay
    /// inside the tolerance then passes.
    pub const fn insecure_accept_on_replay_outage(mut self) -> Self {
        self.inner.insecure_accept_on_outage = true;
        self
    }

    /// Who may send; without it everybody. [`IpRules`](crate::IpRules) work as well.
    pub fn source(mut self, policy: impl Into<IpPolicy>) -> Self {
        self.inner.source = Some(policy.into());
        self
    }

    /// What the headers must be.
    pub fn headers(mut self, policy: HeaderPolicy) -> Self {
        self.inner.headers = policy;
        self
    }

    /// What the body must be.
    pub fn payload(mut self, policy: PayloadPolicy) -> Self {
        self.inner.payload = Some(policy);
        self
    }

    /// The methods accepted; POST by default, any when empty.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.inner.methods = methods.into_iter().collect();
        self
    }

    /// The order of the five steps source, header, timestamp, signature, payload.
    pub const fn order(mut self, order: [Step; 5]) -> Self {
        self.inner.order = order;
        self
    }

    /// The most bytes a body may have.
    pub const fn body_limit(mut self, bytes: usize) -> Self {
        self.inner.body_limit = bytes;
        self
    }

    /// The wall clock.
    pub fn clock(mut self, clock: impl WallClock) -> Self {
        self.inner.clock = Arc::new(clock);
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// No key, two keys with one id, a key of a kind that the scheme has no signatures of,
    /// an order that is not each of the five steps once, a tolerance for a scheme without a
    /// signed timestamp, a replay lifetime below past and future tolerance together, or one or
    /// a lease of zero.
    pub fn build(self) -> Result<Verifier, BuildError> {
        let Self {
            mut inner,
            secrets,
            keys,
            lifetime,
            tolerance,
        } = self;
        for step in Step::CHEAP_FIRST {
            if !inner.order.contains(&step) {
                return Err(BuildError::Order(step));
            }
        }
        match keys {
            Some(_) if !secrets.is_empty() => return Err(BuildError::KeysTwice),
            Some(keys) => inner.keys = keys,
            None if secrets.is_empty() => return Err(BuildError::NoKey),
            None => inner.keys.replace(secrets)?,
        }
        let misfit = |key: &&Key| !key.fits(&inner.scheme);
        if let Some(key) = inner.keys.load().iter().find(misfit) {
            return Err(BuildError::KeyKind(key.id.clone()));
        }
        inner.by_content = inner.replay.is_some() && hashes_content(&inner.scheme);
        inner.by_namespace = inner.replay.is_some();
        if tolerance.is_some() && inner.scheme.tolerance().is_none() {
            return Err(BuildError::Tolerance(inner.scheme.name));
        }
        inner.tolerance = tolerance.unwrap_or(inner.tolerance);
        if inner.scheme.tolerance().is_some() {
            let needed = inner.tolerance.0.saturating_add(inner.tolerance.1);
            let usual = match inner.scheme.replay_basis() {
                ReplayBasis::Id => needed.max(inner.replay_lifetime),
                _ => needed,
            };
            let given = lifetime.unwrap_or(usual);
            if given < needed {
                return Err(BuildError::ReplayLifetime { given, needed });
            }
            // One second more: the window is judged in whole seconds.
            inner.replay_lifetime = given.saturating_add(Duration::from_secs(1));
        } else if let Some(lifetime) = lifetime {
            inner.replay_lifetime = lifetime;
        }
        if inner.replay_lifetime.is_zero() {
            return Err(BuildError::ReplayZero("lifetime"));
        }
        if inner.replay_lease.is_zero() {
            return Err(BuildError::ReplayZero("lease"));
        }
        Ok(Verifier {
            inner: Arc::new(inner),
        })
    }
}

fn names_in(namespace: &str) -> Sha256 {
    Sha256::new().chain_update(namespace).chain_update([0])
}

/// Whether the signed bytes must be hashed a second time to name a delivery.
fn hashes_content(scheme: &Scheme) -> bool {
    match &scheme.form {
        // Of ECDSA the hash of the content is at hand anyway.
        Form::Layout(layout) => {
            layout.replay == ReplayBasis::Content && layout.signature.ecdsa.is_none()
        }
        // They do that by themselves: the signed bytes are at hand.
        Form::Document(_) => false,
    }
}

/// Settings that do not make a verifier.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No secret and no key set.
    #[error("no secret is set")]
    NoKey,
    /// Both `keys` and single secrets.
    #[error("secrets are set both one by one and as a key set")]
    KeysTwice,
    /// A key of a kind that cannot verify this scheme, such as an Ed25519 key for HMAC.
    #[error("key `{0}` is of a kind that this scheme has no signatures of")]
    KeyKind(Arc<str>),
    /// Key trouble.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The order lacks a step.
    #[error("order must hold each of the five steps once; `{0}` is absent")]
    Order(Step),
    /// A tolerance for a scheme without a signed timestamp.
    #[error("scheme `{0}` has no signed timestamp, so a tolerance would check nothing")]
    Tolerance(&'static str),
    /// A replay could outlive the memory of it.
    #[error("replay lifetime {given:?} is below past + future tolerance {needed:?}")]
    ReplayLifetime {
        /// The lifetime asked for.
        given: Duration,
        /// The least that is allowed.
        needed: Duration,
    },
    /// Nothing would be remembered.
    #[error("replay {0} is zero")]
    ReplayZero(&'static str),
}
