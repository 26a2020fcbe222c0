//! Programs that are started, pinned to a core, looked at and ended.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// A program that ends with this.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts `program` on one core, with its output in `log`, and waits until it listens.
    ///
    /// # Errors
    ///
    /// It cannot be started, or does not listen within ten seconds.
    pub fn start<A: AsRef<OsStr>>(
        core: usize,
        program: &Path,
        arguments: &[A],
        log: &Path,
        address: SocketAddr,
    ) -> Result<Self, String> {
        let name = program.display();
        let failed = |error: std::io::Error| format!("{name}: {error}");
        let output = File::create(log).map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        let child = Command::new("taskset")
            .args(["-c", &core.to_string()])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(failed)?;
        // Ended from here on, whatever happens.
        let mut running = Self { child };
        for _ in 0..1000 {
            if TcpStream::connect(address).is_ok() {
                return Ok(running);
            }
            if running.child.try_wait().map_err(failed)?.is_some() {
                break;
            }
            sleep(Duration::from_millis(10));
        }
        let said = fs::read_to_string(log).unwrap_or_default();
        Err(format!("{name} does not listen on {address}: {said}"))
    }

    /// Its process id; `taskset` has made way for the program.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The CPU time that a process has had, all its threads together: `utime` and `stime` of
/// proc(5).
#[must_use]
pub fn cpu_seconds(id: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    ticks(&stat).map(|ticks| ticks as f64 / TICKS)
}

/// Linux counts in hundredths towards programs, whatever its own timer does.
const TICKS: f64 = 100.0;

fn ticks(stat: &str) -> Option<u64> {
    // The name of a program may hold anything, a closing bracket too.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The memory of a process that is in RAM, in bytes.
#[must_use]
pub fn resident(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) 1 2 (b)) S 1 7 7 0 -1 4194304 100 0 0 0 31 11 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a) S 1"), None);
    }
}
