/// Which fields responses get, and the names of the limits in them.
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `policies` | `default`; of several `limit-0`, `limit-1` … | one per limit, all different: 1 to 64 of `a-z A-Z 0-9 . _ -` |
/// | `ratelimit` | yes | `RateLimit-Policy` and `RateLimit` |
/// | `x_ratelimit` | no | `X-RateLimit-Limit`, `-Remaining` and `-Reset` |
///
/// A name is told to every client; it should not give away more than its limit does.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use]
pub struct HttpFields {
    pub(super) policies: Option<Vec<String>>,
    pub(super) ratelimit: bool,
    pub(super) x_ratelimit: bool,
}

impl Default for HttpFields {
    fn default() -> Self {
        Self {
            policies: None,
            ratelimit: true,
            x_ratelimit: false,
        }
    }
}

impl HttpFields {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The names of the limits, in the order of their places.
    pub fn policies<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.policies = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Whether responses get `RateLimit-Policy` and `RateLimit`.
    pub fn ratelimit(mut self, send: bool) -> Self {
        self.ratelimit = send;
        self
    }

    /// Whether responses get the older `X-RateLimit-*`, which no document defines. `Reset` is in
    /// seconds from now (some servers send a date instead).
    pub fn x_ratelimit(mut self, send: bool) -> Self {
        self.x_ratelimit = send;
        self
    }

    /// The names of `count` limits, when none are given.
    pub(super) fn default_names(count: usize) -> Vec<String> {
        match count {
            1 => vec!["default".to_owned()],
            _ => (0..count).map(|place| format!("limit-{place}")).collect(),
        }
    }

    /// The names of `count` limits.
    pub(super) fn names(&self, count: usize) -> Result<Vec<String>, FieldsError> {
        let Some(names) = &self.policies else {
            return Ok(Self::default_names(count));
        };
        if names.len() != count {
            let allowed = format!("{count}, one for each limit");
            return Err(FieldsError::new(format!("{} names", names.len()), allowed));
        }
        for (place, name) in names.iter().enumerate() {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
                let allowed = "1 to 64 of a-z A-Z 0-9 . _ -";
                return Err(FieldsError::new(name, allowed));
            }
            if names[..place].contains(name) {
                return Err(FieldsError::new(name, "names that are all different"));
            }
        }
        Ok(names.clone())
    }
}

/// Names of limits that cannot be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field} is {value}, allowed: {allowed}")]
#[non_exhaustive]
pub struct FieldsError {
    /// The setting.
    pub field: &'static str,
    /// The value it was given.
    pub value: String,
    /// The values it may have.
    pub allowed: String,
}

impl FieldsError {
    fn new(value: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self {
            field: "policies",
            value: value.into(),
            allowed: allowed.into(),
        }
    }
}
