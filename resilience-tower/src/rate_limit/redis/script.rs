//! The one script, and how it is run.

use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind};
use resilience_core::rate_limit::{Quota, store::Grant};

use super::link::{Link, Progress};

const GRANT: &str = include_str!("grant.lua");
/// SHA-1 of the text, by which Redis knows a script that it has seen. A test compares them.
const GRANT_SHA1: &str = "9a305ec2a9bfd4e478d82b0d35b1ea9f07c72964";

/// What the script is asked.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) key: String,
    /// Of the bucket in Redis.
    pub(super) quota: Quota,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// So many permits at least, and up to so many.
    Grant(u32, u32),
    /// So many permits are given back.
    Refund(u32),
}

impl Question {
    /// Asks by the script's hash, and by its text where Redis does not know it: the first time, and
    /// after a restart, a failover or a `SCRIPT FLUSH`.
    ///
    /// `None` when the answer is none that the script gives.
    pub(super) async fn ask(
        &self,
        link: &Link,
        progress: &mut Progress,
    ) -> RedisResult<Option<Grant>> {
        let known = self.command("EVALSHA", GRANT_SHA1);
        let answer = match self.send(&known, link, progress).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let whole = self.command("EVAL", GRANT);
                self.send(&whole, link, progress).await?
            }
            answer => answer?,
        };
        Ok(self.read(answer))
    }

    async fn send(
        &self,
        command: &Cmd,
        link: &Link,
        progress: &mut Progress,
    ) -> RedisResult<(i64, i64, i64)> {
        match self.what {
            What::Grant(..) => link.ask(command, progress).await,
            // Given back twice, more would be there than was taken.
            What::Refund(_) => link.ask_once(command, progress).await,
        }
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(1).arg(&self.key);
        let (least, want) = match self.what {
            What::Grant(least, want) => (least, want.into()),
            What::Refund(n) => (0, -i64::from(n)),
        };
        command.arg::<u32>(least).arg::<i64>(want);
        command.arg(self.quota.replenish_interval().as_nanos() as u64);
        command.arg(self.quota.fill_time().as_nanos() as u64);
        command
    }

    fn read(&self, (permits, missing, _): (i64, i64, i64)) -> Option<Grant> {
        let permits = u32::try_from(permits).ok()?;
        let missing = u64::try_from(missing).ok()?;
        let granted = match self.what {
            What::Grant(least, want) => (least..=want).contains(&permits),
            What::Refund(_) => false,
        };
        let fits = u128::from(missing) <= self.quota.fill_time().as_nanos();
        ((permits == 0 || granted) && fits).then_some(Grant { permits, missing })
    }
}
