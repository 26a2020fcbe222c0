//! The routes of a snapshot, found by host, path and method.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderValue, Method};
use matchit::Router;

use crate::config::RouteConfig;
use crate::route::Route;

/// All routes.
///
/// An exact host comes before the longest `*.` one, which comes before any; the first of them
/// with a path that matches decides. There the longest prefix that ends at a segment border wins.
#[derive(Debug, Default)]
pub(crate) struct Table {
    exact: HashMap<Box<str>, Tree>,
    /// By the name below which they are.
    below: HashMap<Box<str>, Tree>,
    any: Tree,
}

/// What a request comes to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'t> {
    Route(&'t Arc<Route>),
    /// The path has routes, of which this is one, and none for the method; these there are.
    WrongMethod(&'t Arc<Route>, &'t HeaderValue),
    Nothing,
}

impl<'t> Found<'t> {
    /// The route, or one of those of the path.
    pub(crate) const fn route(&self) -> Option<&'t Arc<Route>> {
        match self {
            Self::Route(route) | Self::WrongMethod(route, _) => Some(route),
            Self::Nothing => None,
        }
    }
}

/// The routes of one host.
#[derive(Default)]
struct Tree(Router<Arc<Node>>);

/// The routes of one prefix; never empty.
#[derive(Clone, Debug)]
struct Node {
    /// Those for certain methods.
    certain: Vec<(Method, Arc<Route>)>,
    /// The one for all others.
    all: Option<Arc<Route>>,
    allow: HeaderValue,
}

impl Table {
    /// The table of routes and what they are compiled from.
    pub(crate) fn new(routes: &[(&RouteConfig, Arc<Route>)]) -> Result<Self, String> {
        // Host (and whether those below it are meant), prefix.
        type Nodes<'c> = HashMap<Option<(&'c str, bool)>, HashMap<&'c str, Node>>;
        let mut hosts: Nodes<'_> = HashMap::new();
        for (config, route) in routes {
            let patterns = config.hosts.iter();
            let patterns = patterns.map(|host| Some((host.name(), host.is_wildcard())));
            let any = config.hosts.is_empty().then_some(None);
            for host in patterns.chain(any) {
                let nodes = hosts.entry(host).or_default();
                let node = nodes.entry(config.prefix.as_str()).or_default();
                node.add(config, route);
            }
        }
        let mut table = Self::default();
        for (host, nodes) in hosts {
            let tree = Tree::new(nodes).map_err(|error| error.to_string())?;
            match host {
                None => table.any = tree,
                Some((name, false)) => drop(table.exact.insert(name.into(), tree)),
                Some((name, true)) => drop(table.below.insert(name.into(), tree)),
            }
        }
        Ok(table)
    }

    /// The route of a request; `host` as it was sent, `path` canonical.
    pub(crate) fn find(&self, host: &[u8], method: &Method, path: &str) -> Found<'_> {
        let mut buffer = [0; LONGEST_HOST];
        let node = match self.exact.is_empty() && self.below.is_empty() {
            true => None,
            false => plain_host(host, &mut buffer).and_then(|host| self.by_host(host, path)),
        };
        match node.or_else(|| self.any.find(path)) {
            Some(node) => node.find(method),
            None => Found::Nothing,
        }
    }

    fn by_host(&self, host: &str, path: &str) -> Option<&Node> {
        let exact = self.exact.get(host);
        if let Some(node) = exact.and_then(|tree| tree.find(path)) {
            return Some(node);
        }
        if self.below.is_empty() {
            return None;
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            let tree = self.below.get(parent);
            if let Some(node) = tree.and_then(|tree| tree.find(path)) {
                return Some(node);
            }
            rest = parent;
        }
        None
    }
}

impl Tree {
    fn new(nodes: HashMap<&str, Node>) -> Result<Self, matchit::InsertError> {
        let mut router = Router::new();
        for (prefix, node) in nodes {
            let node = Arc::new(node);
            let prefix = prefix.trim_end_matches('/');
            if !prefix.is_empty() {
                router.insert(prefix, Arc::clone(&node))?;
            }
            // A catch-all is never empty, so the prefix with its slash is a route of its own.
            router.insert(format!("{prefix}/"), Arc::clone(&node))?;
            router.insert(format!("{prefix}/{{*rest}}"), node)?;
        }
        Ok(Self(router))
    }

    fn find(&self, path: &str) -> Option<&Node> {
        self.0.at(path).ok().map(|found| &**found.value)
    }
}

impl Node {
    fn add(&mut self, config: &RouteConfig, route: &Arc<Route>) {
        if config.methods.is_empty() {
            self.all = Some(Arc::clone(route));
        }
        for method in &config.methods {
            self.certain
                .push((method.method().clone(), Arc::clone(route)));
        }
        let get = |(method, route): &(Method, Arc<Route>)| {
            (*method == Method::GET).then(|| (Method::HEAD, Arc::clone(route)))
        };
        let has_head = self
            .certain
            .iter()
            .any(|(method, _)| *method == Method::HEAD);
        // RFC 9110, section 9.1: whoever takes GET takes HEAD.
        let head = self.certain.iter().find_map(get).filter(|_| !has_head);
        let names = self.certain.iter().chain(&head);
        let names: Vec<&str> = names.map(|(method, _)| method.as_str()).collect();
        // Methods are tokens.
        if let Ok(allow) = HeaderValue::from_str(&names.join(", ")) {
            self.allow = allow;
        }
    }

    fn find(&self, method: &Method) -> Found<'_> {
        let of = |wanted: &Method| {
            let mut certain = self.certain.iter();
            certain.find_map(|(method, route)| (method == wanted).then_some(route))
        };
        let get = || of(&Method::GET).filter(|_| *method == Method::HEAD);
        if let Some(route) = of(method).or_else(get).or(self.all.as_ref()) {
            return Found::Route(route);
        }
        match self.certain.first() {
            Some((_, route)) => Found::WrongMethod(route, &self.allow),
            None => Found::Nothing,
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self {
            certain: Vec::new(),
            all: None,
            allow: HeaderValue::from_static(""),
        }
    }
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").finish_non_exhaustive()
    }
}

/// RFC 1035, section 2.3.4, and a dot at the end. A longer one is nobody's.
const LONGEST_HOST: usize = 254;

/// The host in lower case, without a port and a dot at the end.
fn plain_host<'b>(host: &[u8], buffer: &'b mut [u8; LONGEST_HOST]) -> Option<&'b str> {
    // A colon inside of brackets is part of an address.
    let name = match host.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !host[colon..].contains(&b']') => &host[..colon],
        _ => host,
    };
    let name = name.strip_suffix(b".").unwrap_or(name);
    let place = buffer.get_mut(..name.len())?;
    place.copy_from_slice(name);
    place.make_ascii_lowercase();
    std::str::from_utf8(place).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::policy::Policies;

    /// A table of routes `hosts|prefix|methods`, whose names are their places in the list.
    fn table(routes: &[&str]) -> Table {
        let list = |text: &str| {
            let names = text.split(',').filter(|name| !name.is_empty());
            let names: Vec<_> = names.map(|name| format!("{name:?}")).collect();
            names.join(",")
        };
        let mut text = String::new();
        for (index, route) in routes.iter().enumerate() {
            let parts: Vec<_> = route.split('|').collect();
            let (hosts, methods) = (list(parts[0]), list(parts[2]));
            let prefix = parts[1];
            text += &format!(
                "[[route]]\nname = \"{index}\"\nprefix = \"{prefix}\"\nhosts = [{hosts}]\n\
                 methods = [{methods}]\nupstream = \"u\"\n"
            );
        }
        text += "[upstream.u]\nendpoints = [\"http://u:1\"]\n";
        let config = Config::from_toml(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let route = |config| (config, Arc::new(Route::bare(config, Policies::default())));
        let routes: Vec<_> = config.routes.iter().map(route).collect();
        Table::new(&routes).unwrap()
    }

    fn find(table: &Table, host: &str, method: &str, path: &str) -> String {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        match table.find(host.as_bytes(), &method, path) {
            Found::Route(route) => route.label.clone(),
            Found::WrongMethod(_, allow) => allow.to_str().unwrap().to_owned(),
            Found::Nothing => "-".to_owned(),
        }
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        let table = table(&["|/|", "|/api|", "|/api/v2|", "|/api2|"]);
        for (path, wanted) in [
            ("/", "0"),
            ("/a", "0"),
            ("/ap", "0"),
            ("/api", "1"),
            ("/api/", "1"),
            ("/api/v1", "1"),
            ("/api/v22", "1"),
            ("/api/v2", "2"),
            ("/api/v2/x/y", "2"),
            ("/api2/x", "3"),
            ("/apix", "0"),
        ] {
            assert_eq!(find(&table, "h", "GET", path), wanted, "{path}");
        }
    }

    #[test]
    fn an_exact_host_comes_before_a_wildcard_and_that_before_any() {
        let table = table(&[
            "|/|",
            "shop.example.com|/a|",
            "*.example.com|/|",
            "*.eu.example.com,[::1]|/|",
            "example.com|/|",
        ]);
        for (host, path, wanted) in [
            ("shop.example.com", "/a", "1"),
            ("SHOP.example.COM:8080", "/a", "1"),
            ("shop.example.com.", "/a/b", "1"),
            // The host has no such path, so the next one is asked.
            ("shop.example.com", "/b", "2"),
            ("x.y.example.com", "/", "2"),
            ("a.eu.example.com", "/", "3"),
            ("eu.example.com", "/", "2"),
            ("example.com", "/", "4"),
            ("notexample.com", "/", "0"),
            ("[::1]:80", "/", "3"),
            ("[::1]", "/", "3"),
            ("", "/", "0"),
        ] {
            assert_eq!(find(&table, host, "GET", path), wanted, "{host}{path}");
        }
        let long = "a.".repeat(200) + "example.com";
        assert_eq!(find(&table, &long, "GET", "/"), "0");
        let nobody = self::table(&["a.test|/|"]);
        assert_eq!(find(&nobody, "b.test", "GET", "/"), "-");
    }

    #[test]
    fn a_route_for_the_method_comes_before_one_for_all() {
        let table = table(&["|/a|GET,PUT", "|/a|", "|/b|GET,POST", "|/b|DELETE", "|/|"]);
        for (method, path, wanted) in [
            ("GET", "/a", "0"),
            ("HEAD", "/a", "0"),
            ("PUT", "/a/x", "0"),
            ("POST", "/a", "1"),
            ("GET", "/b", "2"),
            ("DELETE", "/b", "3"),
            // A shorter prefix is no way out: the path is there, the method is not.
            ("PATCH", "/b", "GET, POST, DELETE, HEAD"),
            ("PATCH", "/c", "4"),
        ] {
            assert_eq!(find(&table, "h", method, path), wanted, "{method} {path}");
        }
        let head = self::table(&["|/a|GET", "|/a|HEAD"]);
        assert_eq!(find(&head, "h", "HEAD", "/a"), "1");
        assert_eq!(find(&head, "h", "POST", "/a"), "GET, HEAD");
    }

    #[test]
    fn braces_in_a_path_are_plain_characters() {
        let table = table(&["|/a|"]);
        assert_eq!(find(&table, "h", "GET", "/a/{*rest}"), "0");
        assert_eq!(find(&table, "h", "GET", "/{a}"), "-");
    }
}
