//! Routes: which upstream a path belongs to, and the path it gets there.

use std::borrow::Cow;
use std::sync::Arc;

use matchit::Router;

use crate::config::RouteConfig;
use crate::policy::Policies;
use crate::upstream::Upstream;

/// One compiled route.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) prefix: String,
    replacement: Option<String>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) policies: Policies,
}

impl Route {
    pub(crate) fn new(config: &RouteConfig, upstream: Arc<Upstream>, policies: Policies) -> Self {
        let replacement = match &config.rewrite {
            _ if config.strip_prefix => Some(""),
            Some(rewrite) => Some(rewrite.as_str().trim_end_matches('/')),
            None => None,
        };
        Self {
            prefix: config.prefix.as_str().to_owned(),
            replacement: replacement.map(str::to_owned),
            upstream,
            policies,
        }
    }

    /// The path that the upstream gets for a canonical `path` of this route.
    pub(crate) fn rewrite<'p>(&self, path: &'p str) -> Cow<'p, str> {
        let Some(replacement) = &self.replacement else {
            return Cow::Borrowed(path);
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

/// All routes; the longest prefix that ends at a segment border wins.
pub(crate) struct Table {
    router: Router<Arc<Route>>,
}

impl Table {
    pub(crate) fn new(routes: &[Arc<Route>]) -> Result<Self, matchit::InsertError> {
        let mut router = Router::new();
        for route in routes {
            let prefix = route.prefix.trim_end_matches('/');
            if !prefix.is_empty() {
                router.insert(prefix, Arc::clone(route))?;
            }
            // A catch-all is never empty, so the prefix with its slash is a route of its own.
            router.insert(format!("{prefix}/"), Arc::clone(route))?;
            router.insert(format!("{prefix}/{{*rest}}"), Arc::clone(route))?;
        }
        Ok(Self { router })
    }

    pub(crate) fn find(&self, path: &str) -> Option<&Arc<Route>> {
        self.router.at(path).ok().map(|found| found.value)
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").finish_non_exhaustive()
    }
}
