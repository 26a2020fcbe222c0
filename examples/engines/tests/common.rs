//! What all engines are checked for.

use std::path::Path;

/// The state of a process in one letter, as `/proc` gives it.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether a process runs; a zombie does not.
pub(crate) fn runs(pid: u32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Whether a process is stopped by a signal.
pub(crate) fn stopped(pid: u32) -> bool {
    state(pid) == Some('T')
}

/// The processes that a process has started.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    text.split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect()
}

/// Fails while anything of the cluster in `dir` is left.
#[track_caller]
pub(crate) fn all_gone(dir: &Path, pids: &[u32]) {
    assert!(!pids.is_empty(), "nothing was looked at");
    for pid in pids {
        assert!(!runs(*pid), "process {pid} still runs");
    }
    // key, id, mode, size, process that made it, …
    let segments = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
    for segment in segments.lines().skip(1) {
        let maker = segment.split_whitespace().nth(4).unwrap().parse().unwrap();
        assert!(!pids.contains(&maker), "shared memory is left: {segment}");
    }
    assert!(!dir.exists(), "{} still exists", dir.display());
}
