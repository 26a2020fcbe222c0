//! Settings of one sandbox, and their checks.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Clock;

/// Settings of one sandbox.
///
/// Default: a free port on 127.0.0.1, profile 4242, a well-known test key.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Where to listen; port 0 picks a free one. Default `127.0.0.1:0`.
    pub listen: SocketAddr,
    /// The merchant profile; requests for another one are refused. Default 4242.
    pub profile_id: u64,
    /// The profile's server key: clients send it in `authorization`, callbacks are
    /// signed with it. Not empty, no white space. Default `sandbox-server-key`.
    pub server_key: String,
    /// How the sandbox is reached from outside, for `redirect_url`;
    /// default `http://` and the address bound.
    pub public_url: Option<String>,
    /// How often and how fast an unacknowledged callback is sent again.
    pub retry: RetryPolicy,
    /// The wall clock of transaction times and timestamps.
    pub clock: Clock,
}

/// How an unacknowledged callback is sent again: after `base_delay`, then twice that,
/// and so on, until `attempts` were made in all.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Sendings in all; 1 to 20. Default 8.
    pub attempts: u32,
    /// Delay before the second sending; at most one minute. Default 1 s.
    pub base_delay: Duration,
    /// Longest delay between two sendings. Default 1 min.
    pub max_delay: Duration,
    /// How long one sending may take. Default 10 s.
    pub timeout: Duration,
}

/// A setting that cannot work.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field} is {value}; allowed: {allowed}")]
#[non_exhaustive]
pub struct ConfigError {
    /// The setting's name.
    pub field: &'static str,
    /// What was given (secrets are described, not shown).
    pub value: String,
    /// What would have been accepted.
    pub allowed: &'static str,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            profile_id: 4242,
            server_key: "sandbox-server-key".to_owned(),
            public_url: None,
            retry: RetryPolicy::default(),
            clock: Clock::system(),
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 8,
            base_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
        }
    }
}

impl RetryPolicy {
    /// The delay after sending number `attempt` (from 1) was not acknowledged.
    pub(crate) fn delay_after(&self, attempt: u32) -> Duration {
        let factor = 2u32.saturating_pow(attempt.saturating_sub(1));
        self.base_delay.saturating_mul(factor).min(self.max_delay)
    }
}

impl SandboxConfig {
    /// Checks every field.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let refuse = |field, value: String, allowed| {
            Err(ConfigError {
                field,
                value,
                allowed,
            })
        };
        if self.profile_id == 0 {
            return refuse("profile_id", "0".into(), "a whole number from 1");
        }
        let key = &self.server_key;
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refuse(
                "server_key",
                format!("a text of {} bytes", key.len()),
                "visible ASCII characters, at least one, no white space",
            );
        }
        if !(1..=20).contains(&self.retry.attempts) {
            return refuse("retry.attempts", self.retry.attempts.to_string(), "1 to 20");
        }
        if self.retry.base_delay > Duration::from_secs(60) {
            return refuse(
                "retry.base_delay",
                format!("{:?}", self.retry.base_delay),
                "at most 60 s",
            );
        }
        if self.retry.timeout.is_zero() {
            return refuse("retry.timeout", "0".into(), "more than 0");
        }
        if let Some(url) = &self.public_url
            && !url.starts_with("http://")
            && !url.starts_with("https://")
        {
            return refuse("public_url", url.clone(), "an http:// or https:// URL");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_one() {
        let retry = RetryPolicy {
            base_delay: Duration::from_secs(2),
            max_delay: Duration::from_secs(10),
            ..RetryPolicy::default()
        };
        let delays = [1, 2, 3, 4, 60].map(|attempt| retry.delay_after(attempt).as_secs());
        assert_eq!(delays, [2, 4, 8, 10, 10]);
    }

    #[test]
    fn a_refused_key_is_described_and_not_shown() {
        let config = SandboxConfig {
            server_key: "two words".into(),
            ..SandboxConfig::default()
        };
        let error = config.check().expect_err("white space in the key");
        assert_eq!(error.field, "server_key");
        assert!(!error.to_string().contains("two words"), "{error}");
    }
}
