//! The files that a configuration names.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Config;

impl Config {
    /// All files whose content counts as part of the configuration. Files of endpoints are not:
    /// they are followed by themselves.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        #[cfg(feature = "tls")]
        for pair in self.tls.iter().flat_map(|tls| &tls.certificates) {
            files.insert(pair.certificate.clone());
            files.insert(pair.key.clone());
        }
        #[cfg(feature = "admin")]
        files.extend(self.admin.iter().flat_map(|admin| admin.token_file.clone()));
        #[cfg(feature = "jwt")]
        for jwt in super::tokens(self) {
            files.extend(
                [&jwt.keys_file, &jwt.ca_file]
                    .into_iter()
                    .flatten()
                    .cloned(),
            );
        }
        #[cfg(feature = "otel")]
        files.extend(self.otel.iter().flat_map(|otel| otel.ca_file.clone()));
        #[cfg(feature = "webhook")]
        for webhook in self
            .routes
            .iter()
            .filter_map(|route| route.webhook.as_ref())
        {
            let secrets = webhook.secrets.iter();
            files.extend(secrets.filter_map(|secret| secret.file.clone()));
            let replay = webhook.replay.on();
            let redis = replay.and_then(|replay| replay.redis.as_ref());
            files.extend(redis.and_then(|redis| redis.file.clone()));
        }
        for upstream in self.upstreams.values() {
            let tls = &upstream.tls;
            let named = [&tls.ca_file, &tls.certificate_file, &tls.key_file];
            files.extend(named.into_iter().flatten().cloned());
        }
        files
    }
}

/// The content of a file that a configuration names. A pipe or a device, which may never end, is
/// refused, and so is what is larger than `most`.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Before it is opened: to open a pipe is to wait for who writes to it.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut content = Vec::new();
    let mut file = File::open(path)?.take(most + 1);
    file.read_to_end(&mut content)?;
    if content.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    Ok(content)
}

/// The same of a text.
pub(crate) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?).map_err(io::Error::other)
}

/// The most bytes of a file without a limit of its own.
pub(crate) const MOST: u64 = 16 << 20;

/// Whether anybody who has an account may change a file.
#[cfg(unix)]
pub(crate) fn is_open(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).map(|file| file.permissions().mode());
    mode.is_ok_and(|mode| mode & 0o002 != 0)
}

#[cfg(not(unix))]
pub(crate) fn is_open(_: &Path) -> bool {
    false
}
