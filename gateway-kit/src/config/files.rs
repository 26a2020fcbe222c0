//! The files that a configuration names.

use std::collections::BTreeSet;
use std::path::PathBuf;

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
