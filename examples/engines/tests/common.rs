//! What all engines are checked for.

use std::path::Path;

/// Whether a process runs; a zombie does not.
pub(crate) fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Fails while anything of the cluster in `dir` is left.
#[track_caller]
pub(crate) fn all_gone(dir: &Path, pids: &[u32]) {
    assert!(!pids.is_empty(), "nothing was looked at");
    for pid in pids {
        assert!(!runs(*pid), "process {pid} still runs");
    }
    assert!(!dir.exists(), "{} still exists", dir.display());
}
