//! Another configuration while the gateway runs: read → check → build → compare → swap → retire.
//!
//! Whoever wants a reload (a call, a signal, the admin API, a changed file) comes through
//! [`Inner::reload`], one at a time. Up to the swap nothing changes; from there on nothing fails.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use tokio::runtime;
use tokio::sync::watch;

use crate::config::{Config, EndpointConfig, RouteConfig, Source, files};
use crate::server::Inner;
#[cfg(feature = "tls")]
use crate::server::tls::Tls;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::wall::rfc3339;

/// Who asked for a reload.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "admin", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReloadTrigger {
    /// It is the first configuration.
    Start,
    /// [`Handle::reload`](crate::Handle::reload).
    Call,
    /// A file changed.
    File,
    /// SIGHUP.
    Signal,
    /// The admin API.
    Admin,
}

/// What became of a reload.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "admin", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReloadOutcome {
    /// The configuration is in force.
    Applied,
    /// It says what was in force already.
    Unchanged,
    /// It was refused, and the old one stays.
    Refused,
}

/// One reload.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "admin", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ReloadReport {
    /// Counted from the start, which is 0.
    pub number: u64,
    /// When it ended; serialised as RFC 3339 has it.
    #[serde(serialize_with = "rfc3339")]
    #[cfg_attr(feature = "admin", schemars(with = "String", extend("format" = "date-time")))]
    pub at: SystemTime,
    /// The same since the gateway was made; serialised as seconds.
    #[serde(rename = "uptime_seconds", serialize_with = "seconds")]
    #[cfg_attr(feature = "admin", schemars(with = "f64"))]
    pub uptime: Duration,
    /// Who asked for it.
    pub trigger: ReloadTrigger,
    /// What became of it.
    pub outcome: ReloadOutcome,
    /// Why it was refused: for each thing a line with file, line, field, value and what is allowed.
    pub reason: Option<String>,
    /// What it changed; nothing if it was refused.
    pub diff: ConfigDiff,
    /// Settings that were changed and take effect at the next start only.
    pub at_next_start: Vec<&'static str>,
}

/// What is different from the configuration before.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "admin", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ConfigDiff {
    /// Routes, by name, with their methods if they have any.
    pub routes: Changes,
    /// Upstreams, but for their endpoints.
    pub upstreams: Changes,
    /// Configured endpoints, `upstream/host:port`. Those removed are drained.
    pub endpoints: Changes,
    /// Sections and settings of the top level.
    pub settings: Vec<&'static str>,
    /// Files whose content changed: certificates, keys, authorities.
    pub files: Vec<PathBuf>,
}

/// Things of one kind, by name.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "admin", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Changes {
    /// Those that are new.
    pub added: Vec<String>,
    /// Those that are gone.
    pub removed: Vec<String>,
    /// Those that are there still, and not the same.
    pub changed: Vec<String>,
}

/// The most reports that are kept.
const HISTORY: usize = 100;

impl ReloadOutcome {
    pub(crate) const ALL: [Self; 3] = [Self::Applied, Self::Unchanged, Self::Refused];

    /// As metrics call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

impl ReloadTrigger {
    /// As it is serialised.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Call => "call",
            Self::File => "file",
            Self::Signal => "signal",
            Self::Admin => "admin",
        }
    }
}

impl ReloadReport {
    /// Whether the configuration was refused.
    pub fn is_refused(&self) -> bool {
        self.outcome == ReloadOutcome::Refused
    }
}

impl ConfigDiff {
    /// What `after` changes; files are not looked at.
    pub fn between(before: &Config, after: &Config) -> Self {
        let endpoints = |config: &Config| -> BTreeMap<String, EndpointConfig> {
            let upstreams = config.upstreams.iter();
            let named = upstreams.flat_map(|(name, upstream)| {
                let endpoints = upstream.endpoints.iter();
                endpoints.map(move |one| (format!("{name}/{}", one.url.authority()), one.clone()))
            });
            named.collect()
        };
        let upstreams = |config: &Config| {
            let mut upstreams = config.upstreams.clone();
            for upstream in upstreams.values_mut() {
                upstream.endpoints.clear();
            }
            upstreams
        };
        Self {
            routes: Changes::between(&routes(before), &routes(after)),
            upstreams: Changes::between(&upstreams(before), &upstreams(after)),
            endpoints: Changes::between(&endpoints(before), &endpoints(after)),
            settings: settings(before, after),
            files: Vec::new(),
        }
    }

    /// Whether there is no difference.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Changes {
    fn between<T: PartialEq>(before: &BTreeMap<String, T>, after: &BTreeMap<String, T>) -> Self {
        let mut changes = Self::default();
        for (name, now) in after {
            match before.get(name) {
                None => changes.added.push(name.clone()),
                Some(then) if then != now => changes.changed.push(name.clone()),
                Some(_) => {}
            }
        }
        let gone = before.keys().filter(|name| !after.contains_key(*name));
        changes.removed = gone.cloned().collect();
        changes
    }
}

/// Routes by name; several may have the same one.
fn routes(config: &Config) -> BTreeMap<String, Vec<&RouteConfig>> {
    let mut routes = BTreeMap::<_, Vec<_>>::new();
    for route in &config.routes {
        let mut name = route.label();
        for (index, method) in route.methods.iter().enumerate() {
            name.push(if index == 0 { ' ' } else { ',' });
            name.push_str(method.method().as_str());
        }
        routes.entry(name).or_default().push(route);
    }
    routes
}

/// The names of what differs at the top level. Nothing of [`Config`] is left out: a new field does
/// not compile before it is named here.
fn settings(before: &Config, after: &Config) -> Vec<&'static str> {
    macro_rules! differing {
        ($($(#[$on:meta])* $field:ident),* $(,)?) => {{
            let Config { routes: _, upstreams: _, $($(#[$on])* $field),* } = before;
            let mut names = Vec::new();
            $($(#[$on])* if *$field != after.$field {
                names.push(stringify!($field));
            })*
            names
        }};
    }
    differing![
        listen,
        trusted_proxies,
        zone,
        ip_filter,
        cors,
        security_headers,
        size_limits,
        csrf,
        #[cfg(feature = "jwt")]
        jwt,
        #[cfg(feature = "cache")]
        cache,
        #[cfg(feature = "cache")]
        cache_store,
        #[cfg(feature = "compression")]
        compression,
        rate_limit,
        transform,
        server,
        #[cfg(feature = "tls")]
        tls,
        reload,
        #[cfg(feature = "admin")]
        admin,
        trace,
        #[cfg(feature = "otel")]
        otel,
        access_log,
        shutdown,
        log,
    ]
}

/// The configuration in force, and how it came to be.
#[derive(Debug)]
pub(crate) struct Live {
    /// Held from reading a configuration to the swap.
    state: Mutex<State>,
    /// The oldest first. Apart from the rest: who reads it waits for no file.
    history: Mutex<VecDeque<ReloadReport>>,
    config: watch::Sender<Arc<Config>>,
    source: Option<Source>,
    /// `false` inside another program, which listens itself.
    listens: bool,
    /// Where tasks of services run, whoever reloads.
    runtime: Option<runtime::Handle>,
}

#[derive(Debug)]
struct State {
    /// What the files held that the configuration names.
    files: Files,
    /// What was found in the source and tried last, good or bad.
    tried: Option<Look>,
    number: u64,
}

/// What a configuration changes, and what of it has to wait.
type Told = (ConfigDiff, Vec<&'static str>);

/// Content as a number; `None` cannot be read.
type Files = BTreeMap<PathBuf, Option<u64>>;

/// A source at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Look {
    text: Option<u64>,
    files: Files,
}

impl Live {
    pub(crate) fn start(
        config: Config,
        source: Option<Source>,
        listens: bool,
        shared: &Shared,
    ) -> Self {
        let files = contents(config.files());
        // What was loaded before may be older than what the file holds now.
        let tried = source.as_ref().and_then(|source| {
            let text = source.read_again().ok()?;
            let same = source.parse(&text).is_ok_and(|now| now == config);
            same.then(|| Look {
                text: Some(digest(text.as_bytes())),
                files: files.clone(),
            })
        });
        told_open(source.as_ref(), &files);
        let at = shared.wall.now();
        shared.metrics.in_force_since(since_1970(at));
        let start = ReloadReport {
            number: 0,
            at,
            uptime: shared.uptime(),
            trigger: ReloadTrigger::Start,
            outcome: ReloadOutcome::Applied,
            reason: None,
            diff: ConfigDiff::default(),
            at_next_start: Vec::new(),
        };
        Self {
            state: Mutex::new(State {
                files,
                tried,
                number: 0,
            }),
            history: Mutex::new(VecDeque::from([start])),
            config: watch::Sender::new(Arc::new(config)),
            source,
            listens,
            runtime: runtime::Handle::try_current().ok(),
        }
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    pub(crate) fn configs(&self) -> watch::Receiver<Arc<Config>> {
        self.config.subscribe()
    }

    pub(crate) fn history(&self) -> Vec<ReloadReport> {
        self.history.lock().iter().rev().cloned().collect()
    }

    /// What the source holds now, with the files that it names, or that are named now.
    fn look(&self, source: &Source) -> Look {
        let text = source.read_again().ok();
        let named = text.as_deref().and_then(|text| source.parse(text).ok());
        let files = named.map_or_else(|| self.config().files(), |config| config.files());
        Look {
            text: text.map(|text| digest(text.as_bytes())),
            files: contents(files),
        }
    }
}

impl Inner {
    /// Puts `config`, or what the source holds, in force.
    pub(crate) fn reload(&self, trigger: ReloadTrigger, config: Option<Config>) -> ReloadReport {
        let live = &self.live;
        // What the admin changes is meant for one revision; its own reload holds this already.
        #[cfg(feature = "admin")]
        let _writing = (trigger != ReloadTrigger::Admin).then(|| self.shared.admin.writing.lock());
        let _runtime = live.runtime.as_ref().map(runtime::Handle::enter);
        let mut state = live.state.lock();
        let changed = match config {
            Some(config) => config.check().map(|()| config).map_err(|e| e.to_string()),
            None => self.read_source(&mut state),
        };
        let prepared = changed.and_then(|config| self.prepare(&state, config));
        // Whoever finds the new configuration in force finds its report.
        let mut history = live.history.lock();
        let changed = prepared.map(|(told, put_in_force)| {
            put_in_force(&mut state);
            told
        });
        state.number += 1;
        let report = self.report(state.number, trigger, changed);
        history.push_back(report.clone());
        if history.len() > HISTORY {
            history.pop_front();
        }
        report
    }

    fn read_source(&self, state: &mut State) -> Result<Config, String> {
        let Some(source) = &self.live.source else {
            return Err("there is no file to read the configuration from".to_owned());
        };
        let text = source.read_again();
        let parsed = text.as_ref().map_err(Clone::clone);
        let parsed = parsed.and_then(|text| source.parse(text));
        // Remembered before it is judged, so that what is bad is tried once.
        let named = parsed
            .as_ref()
            .map_or_else(|_| self.live.config().files(), Config::files);
        state.tried = Some(Look {
            text: text.ok().map(|text| digest(text.as_bytes())),
            files: contents(named),
        });
        parsed.map_err(|error| error.to_string())
    }

    /// Builds all that a checked configuration needs; what puts it in force cannot fail.
    fn prepare<'g>(
        &'g self,
        state: &State,
        mut config: Config,
    ) -> Result<(Told, impl FnOnce(&mut State) + use<'g>), String> {
        let before = self.live.config();
        let waiting = self.put_back(&before, &mut config);
        let files = contents(config.files());
        let snapshot = Snapshot::compile(&config, &self.shared);
        let snapshot = snapshot.map_err(|error| error.to_string())?;
        #[cfg(feature = "tls")]
        let tls = match (&self.tls, &config.tls) {
            (Some(tls), Some(settings)) => {
                let http2 = cfg!(feature = "http2") && config.server.http2;
                let prepared = Tls::prepare(settings, http2);
                Some((tls, prepared.map_err(|error| format!("tls: {error}"))?))
            }
            _ => None,
        };
        let mut diff = ConfigDiff::between(&before, &config);
        let known = files.iter().filter(|(path, content)| {
            let before = state.files.get(*path);
            before.is_some_and(|before| before != *content)
        });
        diff.files = known.map(|(path, _)| path.clone()).collect();
        let put_in_force = move |state: &mut State| {
            snapshot.attach(&config, &self.shared);
            let old = self.snapshot.swap(Arc::new(snapshot));
            #[cfg(feature = "tls")]
            if let Some((tls, prepared)) = tls {
                tls.replace(prepared);
            }
            told_open(self.live.source.as_ref(), &files);
            state.files = files;
            self.live.config.send_replace(Arc::new(config));
            // Requests that run hold it as long as they need it.
            drop(old);
        };
        Ok(((diff, waiting), put_in_force))
    }

    /// Gives settings that cannot change while the gateway runs their old values; their names.
    fn put_back(&self, before: &Config, config: &mut Config) -> Vec<&'static str> {
        let mut waiting = Vec::new();
        if !self.live.listens {
            return waiting;
        }
        let mut keep = |name, changed: bool| {
            if changed {
                waiting.push(name);
            }
        };
        keep("listen", config.listen != before.listen);
        config.listen = before.listen;
        let most = before.server.max_connections;
        keep(
            "server.max_connections",
            config.server.max_connections != most,
        );
        config.server.max_connections = most;
        keep("log.format", config.log.format != before.log.format);
        config.log.format = before.log.format;
        #[cfg(feature = "tls")]
        match (&mut config.tls, &before.tls) {
            (Some(now), Some(then)) => {
                keep("tls.listen", now.listen != then.listen);
                now.listen = then.listen;
            }
            (now, then) => {
                keep("tls", now.is_some() != then.is_some());
                now.clone_from(then);
            }
        }
        #[cfg(feature = "admin")]
        if let Some(now) = &mut config.admin {
            let then = before.admin.as_ref().filter(|then| then.is_on());
            keep(
                "admin",
                then.is_none() && now.is_on() && now.listen.on().is_some(),
            );
            if let Some(then) = then {
                keep("admin.listen", now.listen != then.listen);
                now.listen = then.listen;
                keep("admin.tls", now.tls != then.tls);
                now.tls = then.tls;
            }
        }
        waiting
    }

    fn report(
        &self,
        number: u64,
        trigger: ReloadTrigger,
        changed: Result<Told, String>,
    ) -> ReloadReport {
        let at = self.shared.wall.now();
        let (outcome, reason, diff, at_next_start) = match changed {
            Err(reason) => (
                ReloadOutcome::Refused,
                Some(reason),
                ConfigDiff::default(),
                Vec::new(),
            ),
            Ok((diff, waiting)) if diff.is_empty() => {
                (ReloadOutcome::Unchanged, None, diff, waiting)
            }
            Ok((diff, waiting)) => (ReloadOutcome::Applied, None, diff, waiting),
        };
        let metrics = &self.shared.metrics;
        metrics.reloaded(outcome);
        let by = trigger.as_str();
        match &reason {
            Some(reason) => {
                tracing::error!(
                    number,
                    by,
                    reason,
                    "configuration refused, the old one stays"
                );
            }
            None => {
                metrics.in_force_since(since_1970(at));
                let result = outcome.as_str();
                tracing::info!(
                    number,
                    by,
                    result,
                    ?diff,
                    ?at_next_start,
                    "configuration reloaded"
                );
            }
        }
        ReloadReport {
            number,
            at,
            uptime: self.shared.uptime(),
            trigger,
            outcome,
            reason,
            diff,
            at_next_start,
        }
    }
}

/// Follows the source, never done. The content is compared and not the time of change: that works
/// for files that are written in place, renamed, or behind links. What two looks in a row have
/// found is tried; a file that is being written differs from one to the next, as a rule.
pub(crate) async fn watch(inner: &Arc<Inner>) {
    let Some(source) = inner.live.source.clone() else {
        return std::future::pending().await;
    };
    let mut configs = inner.live.configs();
    let mut last = None;
    loop {
        let interval = configs
            .borrow_and_update()
            .reload
            .on()
            .map(|on| on.interval);
        let Some(interval) = interval else {
            last = None;
            // The gateway is there, or this would not run.
            let _ = configs.changed().await;
            continue;
        };
        tokio::time::sleep(interval).await;
        let (looking, from) = (Arc::clone(inner), source.clone());
        let before = last.take();
        let looked = tokio::task::spawn_blocking(move || {
            let look = looking.live.look(&from);
            let settled = before.as_ref() == Some(&look);
            let tried = looking.live.state.lock().tried.as_ref() == Some(&look);
            if settled && !tried {
                looking.reload(ReloadTrigger::File, None);
            }
            look
        });
        last = looked.await.ok();
    }
}

fn contents(files: BTreeSet<PathBuf>) -> Files {
    let content = |path: &Path| {
        files::read(path, files::MOST)
            .ok()
            .map(|bytes| digest(&bytes))
    };
    let contents = files.into_iter().map(|path| (content(&path), path));
    contents.map(|(content, path)| (path, content)).collect()
}

/// Tells of files that anybody may write, and with that say what the gateway does.
fn told_open(source: Option<&Source>, files: &Files) {
    let source = source.and_then(Source::path);
    let all = source.into_iter().chain(files.keys().map(PathBuf::as_path));
    for file in all.filter(|file| files::is_open(file)) {
        tracing::warn!(file = %file.display(), "anybody may write this file");
    }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn since_1970(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs_f64()
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
