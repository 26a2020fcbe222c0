//! From a text to a checked [`Config`].

use std::path::Path;

use serde_path_to_error::{Error as AtPath, Segment};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Error as TomlError, ValueDeserializer};

use super::check::{self, Place, Wrong};
use super::{Config, ConfigError, ConfigProblem, balance, route, sections};

/// The most problems that are told: with more, the file is another one.
const MOST: usize = 100;

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// All that is wrong, each with its line and field. A text that is no TOML is wrong in one way;
    /// where a field cannot be read, what it and its neighbours must be like together is not looked
    /// at.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let document = DeTable::parse(text).map_err(|error| {
            let mut problem = ConfigProblem::new("(syntax)", error.message());
            problem.line = error.span().map(|span| line_of(text, span.start));
            problem
        })?;
        let span = document.span();
        let document = Spanned::new(span, DeValue::Table(document.into_inner()));
        let mut reading = Reading::new(text, &document);
        let config = reading.config();
        if let Some(config) = &config {
            reading.judge(check::all(|top| config.check_all(top)));
        }
        ConfigError::of(reading.problems)?;
        config.ok_or_else(|| ConfigProblem::new("(top level)", "cannot be read").into())
    }

    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, or all that is wrong in it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let read = std::fs::read_to_string(path).map_err(ConfigProblem::unreadable);
        read.map_err(ConfigError::from)
            .and_then(|text| Self::from_toml(&text))
            .map_err(|error| error.in_file(Some(path)))
    }

    /// What fields of the right form may not be.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check::good(|top| self.check_all(top))
    }

    fn check_all(&self, top: &mut Place<'_>) {
        route::check(self, top);
        for (name, upstream) in &self.upstreams {
            let at = &mut top.at(format_args!("upstream.{name}"));
            if name.is_empty() || !name.bytes().all(is_name_byte) {
                at.refuse("the name must be letters, digits, \"-\" and \"_\"");
            }
            if let Some(discovery) = &upstream.discovery {
                discovery.check(&mut at.at("discovery"));
            } else if upstream.endpoints.is_empty() {
                at.at("endpoints")
                    .refuse("needs at least one endpoint, or discovery");
            }
            balance::check(upstream, at);
            if let Some(health) = &upstream.health {
                health.check(&mut at.at("health"));
            }
            upstream.check(at);
        }
        sections::check(self, top);
        self.server.check(&mut top.at("server"));
        if let Some(trace) = self.trace.on() {
            top.at("trace").bounds(trace);
        }
        #[cfg(feature = "otel")]
        super::otel::check(self, top);
        if let Some(log) = self.access_log.on() {
            top.at("access_log").bounds(log);
        }
        if let Some(reload) = self.reload.on() {
            top.at("reload").bounds(reload);
        }
        #[cfg(feature = "admin")]
        super::admin::check(self, top);
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            tls.check(&mut top.at("tls"));
        }
        top.at("shutdown").bounds(&self.shutdown);
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// A document that is read. What has not the right form is told, and then left out as if it were not
/// there, so that the rest can be looked at.
struct Reading<'d> {
    text: &'d str,
    document: &'d Spanned<DeValue<'d>>,
    /// What is not left out.
    rest: Spanned<DeValue<'d>>,
    /// Whether items of lists are left out, so that those after them have moved up.
    moved: bool,
    problems: Vec<ConfigProblem>,
}

impl<'d> Reading<'d> {
    fn new(text: &'d str, document: &'d Spanned<DeValue<'d>>) -> Self {
        Self {
            text,
            document,
            rest: document.clone(),
            moved: false,
            problems: Vec::new(),
        }
    }

    /// What can be read of it, if anything can.
    fn config(&mut self) -> Option<Config> {
        while self.problems.len() < MOST {
            let deserializer = ValueDeserializer::from(self.rest.clone());
            match serde_path_to_error::deserialize(deserializer) {
                Ok(config) => return Some(config),
                Err(error) => self.leave_out(&error)?,
            }
        }
        None
    }

    /// Tells of an error and leaves out what it is about; `None` if that is everything.
    fn leave_out(&mut self, error: &AtPath<TomlError>) -> Option<()> {
        let mut path: Vec<_> = error.path().iter().filter_map(step).collect();
        path.truncate(self.find(&path).depth);
        let message = error.inner().message();
        let mut problem = match judged(message) {
            Some((field, allowed)) => {
                let whole = path.iter().cloned();
                let path: Vec<_> = whole.chain([field.to_owned()]).collect();
                self.located(&path, format!("must be {allowed}"))
            }
            None => self.located(&path, message.to_owned()),
        };
        let hidden = is_secret(&problem.field) || names_user(message);
        if hidden && message.starts_with("invalid ") {
            // What stands before is the value.
            let expected = message
                .split_once(", expected")
                .map_or("", |(_, rest)| rest);
            problem.reason = format!("invalid, expected{expected}");
        }
        // It may be a secret that was taken for a setting.
        if message.starts_with("unknown field") {
            problem.value = None;
        }
        if path.is_empty() {
            "(top level)".clone_into(&mut problem.field);
            let span = error.inner().span();
            problem.line = span.map(|span| line_of(self.text, span.start));
        }
        if !self.follows(&problem, message) {
            self.problems.push(problem);
        }
        self.moved |= remove(self.rest.get_mut(), &path)?;
        Some(())
    }

    /// Whether a problem is only that something below it was left out, and was told.
    fn follows(&self, problem: &ConfigProblem, message: &str) -> bool {
        let mut below = self.problems.iter().filter_map(|one| {
            let rest = one.field.strip_prefix(&problem.field)?;
            rest.strip_prefix(['.', '['])
        });
        let missing = message.strip_prefix("missing field `");
        below.any(|below| missing.is_none_or(|missing| missing.trim_end_matches('`') == below))
    }

    /// Tells what a check has found, as far as that is not for what was left out.
    fn judge(&mut self, found: Vec<Wrong>) {
        let unread: Vec<_> = self.problems.iter().map(|one| one.field.clone()).collect();
        let is_whole = |field: &String| section(field) == field;
        let any_whole = self.moved || unread.iter().any(is_whole);
        for Wrong { problem, alone } in found {
            let path: Vec<_> = problem.field.split(['.', '[']).map(str::to_owned).collect();
            let told = self.located(&path, problem.reason);
            let mut unread = unread.iter();
            let apart = !any_whole && unread.all(|one| section(one) != section(&told.field));
            if (alone || apart) && self.problems.len() < MOST {
                self.problems.push(told);
            }
        }
    }

    /// A problem with the line and the value of what stands at `path`, or next above it.
    fn located(&self, path: &[String], reason: String) -> ConfigProblem {
        let found = self.find(path);
        let mut problem = ConfigProblem::new(found.name, reason);
        if let Some(value) = found.value {
            problem.line = Some(line_of(self.text, value.span().start));
            let is_table = matches!(value.get_ref(), DeValue::Table(_));
            let text = self.text.get(value.span()).filter(|_| !is_table);
            let hidden = |text: &str| is_secret(&problem.field) || names_user(text);
            if let Some(text) = text.filter(|text| !hidden(text)) {
                return problem.value(text);
            }
        }
        problem
    }

    /// Follows a path of the rest as far as it goes.
    fn find(&self, path: &[String]) -> Found<'_> {
        let mut found = Found {
            value: None,
            name: String::new(),
            depth: 0,
        };
        let mut here = Some((&self.rest, self.document));
        for step in path {
            here = here.and_then(|(rest, whole)| {
                let next = child(rest.get_ref(), step)?;
                found.value = Some(next);
                found.depth += 1;
                let DeValue::Array(items) = whole.get_ref() else {
                    found.push(step);
                    return Some((next, child(whole.get_ref(), step)?));
                };
                let index = items.iter().position(|one| one.span() == next.span())?;
                found.push(&format!("{index}]"));
                Some((next, items.get(index)?))
            });
            if here.is_none() {
                found.push(step);
            }
        }
        found
    }
}

/// Where a path leads.
struct Found<'v> {
    /// The last value on it.
    value: Option<&'v Spanned<DeValue<'v>>>,
    /// The path in the whole document.
    name: String,
    /// So many steps of it are there.
    depth: usize,
}

impl Found<'_> {
    fn push(&mut self, step: &str) {
        let between = match index(step) {
            Some(_) => "[",
            None if self.name.is_empty() => "",
            None => ".",
        };
        self.name += between;
        self.name += step;
    }
}

/// A step of a path: a key, or `3]`.
fn step(segment: &Segment) -> Option<String> {
    match segment {
        Segment::Seq { index } => Some(format!("{index}]")),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { variant } => Some(variant.clone()),
        Segment::Unknown => None,
    }
}

fn index(step: &str) -> Option<usize> {
    step.strip_suffix(']')?.parse().ok()
}

fn child<'v, 'd>(value: &'v DeValue<'d>, step: &str) -> Option<&'v Spanned<DeValue<'d>>> {
    match value {
        DeValue::Table(table) => table.get(step),
        DeValue::Array(items) => items.get(index(step)?),
        _ => None,
    }
}

/// Takes out what stands at the end of a path; whether others have moved up.
fn remove(value: &mut DeValue<'_>, path: &[String]) -> Option<bool> {
    let (step, below) = path.split_first()?;
    match value {
        DeValue::Table(table) if below.is_empty() => table.remove(step.as_str()).map(|_| false),
        DeValue::Table(table) => remove(table.get_mut(step.as_str())?.get_mut(), below),
        DeValue::Array(items) if below.is_empty() => {
            let place = index(step)?;
            let mut others = DeArray::new();
            let all = items.iter().enumerate();
            all.filter(|(index, _)| *index != place)
                .for_each(|(_, item)| others.push(item.clone()));
            *items = others;
            Some(true)
        }
        DeValue::Array(items) => remove(items.get_mut(index(step)?)?.get_mut(), below),
        _ => None,
    }
}

/// The field and what it may be, as the policies of resilience-core say it.
fn judged(message: &str) -> Option<(&str, &str)> {
    let (field, rest) = message.split_once(" is ")?;
    let (_, allowed) = rest.split_once(", allowed: ")?;
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    field.bytes().all(is_name).then_some((field, allowed))
}

/// `upstream.shop`, `route[3]`, `server`.
fn section(field: &str) -> &str {
    let start = if field.starts_with("upstream.") { 9 } else { 0 };
    let end = field[start..].find('.');
    end.map_or(field, |end| &field[..start + end])
}

/// Whether a secret may stand there, be it by mistake.
fn is_secret(field: &str) -> bool {
    let mut parts = field.split(['.', '[']);
    field.starts_with("otel.headers")
        || parts.any(|part| part.starts_with("secret") || part == "keys")
}

/// `http://user:password@host`.
fn names_user(text: &str) -> bool {
    text.contains("://") && text.contains('@')
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.bytes().take(offset);
    1 + before.filter(|byte| *byte == b'\n').count()
}
