//! Where the programs of the engines are, and as whom they run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;

/// The path of `program`, looked for in `PATH` and in `more`.
pub(crate) fn find(
    program: &'static str,
    package: &'static str,
    more: &[PathBuf],
) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers are in sbin on Debian, which the PATH of ordinary users lacks.
    let sbin = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    more.iter()
        .cloned()
        .chain(std::env::split_paths(&path))
        .chain(sbin)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .ok_or(Error::Missing { program, package })
}

/// The folders of `/usr/lib/postgresql/*/bin`, the highest version first.
pub(crate) fn postgres_folders() -> Vec<PathBuf> {
    let mut versions: Vec<u32> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions
        .iter()
        .map(|version| {
            Path::new("/usr/lib/postgresql")
                .join(version.to_string())
                .join("bin")
        })
        .collect()
}

/// A user and its group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct User {
    pub(crate) id: u32,
    pub(crate) group: u32,
}

/// As whom the servers run: `name` or else `nobody` when this process is root,
/// since servers refuse to run as root or should not; otherwise as this process.
pub(crate) fn user(name: &str) -> Option<User> {
    rustix::process::geteuid().is_root().then_some(())?;
    [name, "nobody"].into_iter().find_map(|name| {
        Some(User {
            id: id_of(name, "-u")?,
            group: id_of(name, "-g")?,
        })
    })
}

fn id_of(name: &str, which: &str) -> Option<u32> {
    let output = Command::new("id")
        .args([which, name])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
