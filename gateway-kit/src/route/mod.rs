//! Routes: which upstream a request belongs to, and the path it gets there.

mod split;
mod table;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;

pub(crate) use self::split::Split;
pub(crate) use self::table::{Found, Table};
use crate::config::{HashKey, RouteConfig};
use crate::metrics::Series;
use crate::policy::Policies;
use crate::upstream::{Upstream, balance};

/// One compiled route.
#[derive(Debug)]
pub(crate) struct Route {
    /// What metrics and logs call it.
    pub(crate) label: String,
    /// What its requests are counted by.
    pub(crate) series: Series,
    pub(crate) prefix: String,
    /// 404 otherwise.
    pub(crate) enabled: bool,
    rewriting: Rewriting,
    /// Never empty, but for a test.
    upstreams: Vec<Arc<Upstream>>,
    /// `None` where there is one upstream.
    pub(crate) split: Option<Arc<Split>>,
    split_key: Option<HashKey>,
    pub(crate) policies: Policies,
    /// Takes paths with `%2F` or `%5C`.
    pub(crate) encoded_slash: bool,
}

/// What becomes of the path.
#[derive(Debug)]
enum Rewriting {
    None,
    /// In place of the prefix.
    Prefix(String),
    Whole(String),
}

impl Route {
    /// A route to `upstreams`, more than one only with a `split`.
    pub(crate) fn new(
        config: &RouteConfig,
        upstreams: Vec<Arc<Upstream>>,
        split: Option<Arc<Split>>,
        policies: Policies,
    ) -> Self {
        let is_on = upstreams.iter().any(|upstream| upstream.settings.enabled);
        Self {
            enabled: config.enabled && is_on,
            upstreams,
            split,
            split_key: config.split_key.clone(),
            ..Self::bare(config, policies)
        }
    }

    /// A route to nowhere.
    fn bare(config: &RouteConfig, policies: Policies) -> Self {
        let rewriting = match (&config.rewrite, &config.fixed_path) {
            (_, Some(path)) => Rewriting::Whole(path.as_str().to_owned()),
            (Some(rewrite), _) => {
                Rewriting::Prefix(rewrite.as_str().trim_end_matches('/').to_owned())
            }
            _ if config.strip_prefix => Rewriting::Prefix(String::new()),
            _ => Rewriting::None,
        };
        Self {
            label: config.label(),
            series: Series::default(),
            prefix: config.prefix.as_str().to_owned(),
            enabled: config.enabled,
            rewriting,
            upstreams: Vec::new(),
            split: None,
            split_key: None,
            policies,
            encoded_slash: config.encoded_slash,
        }
    }

    /// All upstreams its requests may go to; the first stands for it where one has to.
    pub(crate) fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// The upstream for a request; `None` if no share of the split has a weight.
    pub(crate) fn choose(
        &self,
        headers: &HeaderMap,
        client: IpAddr,
        path: &str,
    ) -> Option<&Arc<Upstream>> {
        let Some(split) = &self.split else {
            return self.upstreams.first();
        };
        let key = self.split_key.as_ref();
        let key = key.and_then(|key| balance::hash(key, headers, client, path));
        let chosen = split.choose(key, |name| {
            let mut upstreams = self.upstreams.iter();
            upstreams.find(|upstream| upstream.name == name)
        })?;
        // A later configuration may have a share for an upstream that this snapshot lacks.
        chosen.or_else(|| self.upstreams.first())
    }

    /// The path that the upstream gets for a canonical `path` of this route.
    pub(crate) fn rewrite<'p>(&'p self, path: &'p str) -> Cow<'p, str> {
        let replacement = match &self.rewriting {
            Rewriting::None => return Cow::Borrowed(path),
            Rewriting::Whole(path) => return Cow::Borrowed(path),
            Rewriting::Prefix(replacement) => replacement,
        };
        let rest = path
            .strip_prefix(self.prefix.trim_end_matches('/'))
            .unwrap_or(path);
        match (replacement.as_str(), rest) {
            ("", "") => Cow::Borrowed("/"),
            ("", rest) => Cow::Borrowed(rest),
            (replacement, rest) => Cow::Owned(format!("{replacement}{rest}")),
        }
    }
}
