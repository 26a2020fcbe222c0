//! The one script, and how it is run.

use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind};
use resilience_core::rate_limit::{Quota, store::Grant};

use super::link::{Link, Progress};

const GRANT: &str = include_str!("grant.lua");
/// SHA-1 of the text, by which Redis knows a script that it has seen. A test compares them.
const GRANT_SHA1: &str = "171ba252bde958c820bdd96252a4fc64b11cfc60";

/// What the script is asked.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) key: String,
    /// Of the bucket in Redis.
    pub(super) quota: Quota,
    pub(super) least: u32,
    pub(super) want: u32,
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
        let answer = match link.ask::<(i64, i64, i64)>(&known, progress).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                link.ask(&self.command("EVAL", GRANT), progress).await?
            }
            answer => answer?,
        };
        Ok(self.read(answer))
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(1).arg(&self.key);
        command.arg(self.least).arg(self.want);
        command.arg(self.quota.replenish_interval().as_nanos() as u64);
        command.arg(self.quota.fill_time().as_nanos() as u64);
        command
    }

    fn read(&self, (permits, missing, _): (i64, i64, i64)) -> Option<Grant> {
        let permits = u32::try_from(permits).ok()?;
        let missing = u64::try_from(missing).ok()?;
        let granted = (self.least..=self.want).contains(&permits);
        let fits = u128::from(missing) <= self.quota.fill_time().as_nanos();
        ((permits == 0 || granted) && fits).then_some(Grant { permits, missing })
    }
}
