//! How much of its CPU this process has left, by the counters of Linux.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use resilience_core::clock::{Clock, SharedClock};

/// The share of the CPU that is used, for
/// [`LoadShed::follow_cpu`](resilience_core::load_shed::LoadShed::follow_cpu): of the quota that this
/// process's control group has (`cpu.max` of cgroup v2, its own or that of the nearest group around
/// it), or else of the whole machine (`/proc/stat`), whoever uses it.
///
/// It is the average since it was asked before. Asked again within 10 ms it says the same again. Not a
/// number (which sheds nobody) when the counters cannot be read any more.
///
/// The files are the kernel's, and no disk is waited for: some ten microseconds, more on a machine with
/// many CPUs, once per interval.
///
/// # Examples
///
/// ```no_run
/// use resilience_core::load_shed::{Config, LoadShed};
/// use resilience_tower::load_shed::CpuUsage;
///
/// let shed = LoadShed::new(Config::builder().cpu(0.9).build()?);
/// let usage = CpuUsage::new()?;
/// shed.follow_cpu(move || usage.share());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CpuUsage {
    source: Source,
    clock: SharedClock,
    last: Mutex<Last>,
}

/// Where the counters are.
#[derive(Debug)]
enum Source {
    /// A group with a quota, by its directory.
    Group(PathBuf),
    /// The file of the machine's counters.
    Machine(PathBuf),
}

/// The counters when they were read last.
#[derive(Clone, Copy, Debug)]
struct Last {
    at: Duration,
    counters: Counters,
    share: f64,
}

/// Time of CPUs that was used, and that there was, in any unit.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Counters {
    used: f64,
    all: f64,
}

/// Shorter spans say little: the kernel counts in ticks.
const SHORTEST: Duration = Duration::from_millis(10);

impl CpuUsage {
    /// Looks for the counters, and reads them for the first time.
    ///
    /// # Errors
    ///
    /// There are none, as on any system but Linux, or they cannot be read.
    pub fn new() -> io::Result<Self> {
        Self::under(Path::new("/"), SharedClock::default())
    }

    /// With the files under `root`.
    fn under(root: &Path, clock: SharedClock) -> io::Result<Self> {
        let source = match group_with_a_quota(root) {
            Some(group) => Source::Group(group),
            None => Source::Machine(root.join("proc/stat")),
        };
        let at = clock.now();
        // What was used since the beginning of all counting says nothing of now.
        let (counters, share) = (source.read(Duration::ZERO, None)?, f64::NAN);
        let last = Mutex::new(Last {
            at,
            counters,
            share,
        });
        Ok(Self {
            source,
            clock,
            last,
        })
    }

    /// The share that was used since this was asked before, from 0 to 1.
    pub fn share(&self) -> f64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let passed = now.saturating_sub(last.at);
        if passed < SHORTEST {
            return last.share;
        }
        let Ok(counters) = self.source.read(passed, Some(last.counters)) else {
            return f64::NAN;
        };
        let used = counters.used - last.counters.used;
        let all = counters.all - last.counters.all;
        // Counters that went back are those of another group or another boot.
        let known = used >= 0.0 && all > 0.0;
        let share = if known {
            (used / all).min(1.0)
        } else {
            f64::NAN
        };
        (last.at, last.counters, last.share) = (now, counters, share);
        share
    }
}

impl Source {
    /// The counters of now, so long after those of `last`.
    fn read(&self, passed: Duration, last: Option<Counters>) -> io::Result<Counters> {
        let counters = match self {
            Self::Machine(stat) => machine(&head(stat)?),
            Self::Group(group) => {
                let cpus = quota(&head(&group.join("cpu.max"))?);
                let used = usage(&head(&group.join("cpu.stat"))?);
                let before = last.map_or(0.0, |last| last.all);
                cpus.zip(used).map(|(cpus, used)| Counters {
                    used,
                    all: before + cpus * passed.as_secs_f64() * 1e6,
                })
            }
        };
        counters.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }
}

/// The directory of the nearest group that has a quota, from that of this process on.
fn group_with_a_quota(root: &Path) -> Option<PathBuf> {
    let groups = head(&root.join("proc/self/cgroup")).ok()?;
    // Version 2 has one hierarchy, 0. A path that leads out of what is mounted here has dots.
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mount = root.join("sys/fs/cgroup");
    let has_a_quota = |group: &&Path| {
        let max = head(&mount.join(group).join("cpu.max"));
        max.is_ok_and(|max| quota(&max).is_some())
    };
    let own = Path::new(own);
    let inside = !own.components().any(|part| part.as_os_str() == "..");
    let group = own.ancestors().filter(|_| inside).find(has_a_quota)?;
    Some(mount.join(group))
}

/// How many CPUs the quota of `cpu.max` is: `200000 100000` is two of them, `max 100000` no quota.
fn quota(max: &str) -> Option<f64> {
    let mut words = max.split_whitespace().map(str::parse::<f64>);
    let (quota, period) = (words.next()?.ok()?, words.next()?.ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// The microseconds that were used, by `cpu.stat`.
fn usage(stat: &str) -> Option<f64> {
    let mut lines = stat.lines();
    let micros = lines.find_map(|line| line.strip_prefix("usage_usec "))?;
    micros.trim().parse().ok()
}

/// The ticks of all CPUs, by the first line of `/proc/stat`: user, nice, system, idle, waiting for
/// disks, two kinds of interrupts, and stolen by other guests of the host. What guests of one's own
/// used, which follows, is part of the first.
fn machine(stat: &str) -> Option<Counters> {
    let cpu = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks = cpu.split_whitespace().take(8).map(str::parse::<f64>);
    let ticks: Vec<f64> = ticks.collect::<Result<_, _>>().ok()?;
    let [_, _, _, idle, waiting, ..] = ticks[..] else {
        return None;
    };
    let all = ticks.iter().sum();
    let used = all - idle - waiting;
    Some(Counters { used, all })
}

/// The beginning of a file: more than is looked at of any.
fn head(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(1024).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use resilience_core::clock::ManualClock;

    use super::*;

    /// Files as Linux has them, until it is dropped.
    struct Files(PathBuf);

    impl Files {
        fn new(name: &str) -> Self {
            let name = format!("resilience-cpu-{}-{name}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// So much was used and idle.
        fn machine(&self, used: u32, idle: u32) {
            let text = format!("cpu  {used} 0 0 {idle} 0 0 0 0 {used} 0\ncpu0 1 2 3\n");
            self.write("proc/stat", &text);
        }

        fn usage(&self) -> (CpuUsage, ManualClock) {
            let clock = ManualClock::new();
            let usage = CpuUsage::under(&self.0, clock.clone().into()).unwrap();
            (usage, clock)
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn without_a_quota_it_is_the_share_of_the_machine_since_it_was_asked_before() {
        let files = Files::new("machine");
        files.machine(1_000, 9_000);
        files.write("proc/self/cgroup", "0::/a\n");
        files.write("sys/fs/cgroup/a/cpu.max", "max 100000\n");
        let (usage, clock) = files.usage();
        assert!(usage.share().is_nan(), "nothing is known yet");
        files.machine(1_150, 9_050);
        clock.advance(SECOND);
        assert_eq!(usage.share(), 0.75);
        // Asked at once again, it says the same.
        files.machine(1_250, 9_050);
        clock.advance(SHORTEST / 2);
        assert_eq!(usage.share(), 0.75);
        clock.advance(SHORTEST / 2);
        assert_eq!(usage.share(), 1.0);
        clock.advance(SECOND);
        assert!(usage.share().is_nan(), "no tick has passed");
        files.machine(1_000, 0);
        clock.advance(SECOND);
        assert!(usage.share().is_nan(), "the counters went back");
        files.machine(1_000, 100);
        clock.advance(SECOND);
        assert_eq!(usage.share(), 0.0);
        files.write("proc/stat", "intr 0\n");
        clock.advance(SECOND);
        assert!(usage.share().is_nan(), "not what it was");
    }

    #[test]
    fn with_a_quota_it_is_the_share_of_that_of_the_nearest_group() {
        let files = Files::new("group");
        files.machine(0, 100);
        files.write("proc/self/cgroup", "1:cpu:/x\n0::/pod/app\n");
        files.write("sys/fs/cgroup/pod/app/cpu.max", "max 100000\n");
        files.write("sys/fs/cgroup/pod/cpu.max", "50000 100000\n");
        let used = |micros: u64| {
            let text = format!("usage_usec {micros}\nuser_usec 1\n");
            files.write("sys/fs/cgroup/pod/cpu.stat", &text);
        };
        used(7_000_000);
        let (usage, clock) = files.usage();
        // Half a CPU is all there is.
        used(7_400_000);
        clock.advance(SECOND);
        assert_eq!(usage.share(), 0.8);
        used(7_900_000);
        clock.advance(SECOND);
        assert_eq!(usage.share(), 1.0);
        // Another quota counts from then on; a burst is all and not more.
        files.write("sys/fs/cgroup/pod/cpu.max", "200000 100000\n");
        used(8_900_000);
        clock.advance(SECOND);
        assert_eq!(usage.share(), 0.5);
        used(20_000_000);
        clock.advance(SECOND);
        assert_eq!(usage.share(), 1.0);
        fs::remove_file(files.0.join("sys/fs/cgroup/pod/cpu.stat")).unwrap();
        clock.advance(SECOND);
        assert!(usage.share().is_nan());
    }

    #[test]
    fn a_group_that_is_out_of_sight_is_not_looked_for() {
        let files = Files::new("outside");
        files.machine(0, 100);
        files.write("proc/self/cgroup", "0::/../other\n");
        files.write("sys/fs/cgroup/cpu.max", "1000 100000\n");
        let (usage, _) = files.usage();
        assert!(matches!(usage.source, Source::Machine(_)));
    }

    #[test]
    fn a_system_without_the_files_is_an_error() {
        let files = Files::new("none");
        let clock = SharedClock::default();
        assert!(CpuUsage::under(&files.0, clock.clone()).is_err());
        files.write("proc/stat", "cpu  1 2 x 4 5 6 7 8\n");
        assert!(CpuUsage::under(&files.0, clock.clone()).is_err());
        files.write("proc/stat", "cpu  1 2 3\n");
        assert!(CpuUsage::under(&files.0, clock).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_has_them() {
        let usage = CpuUsage::new().unwrap();
        let share = usage.share();
        assert!(share.is_nan() || (0.0..=1.0).contains(&share), "{share}");
    }
}
