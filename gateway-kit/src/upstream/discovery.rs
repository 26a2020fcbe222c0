//! Endpoints that come and go while the gateway runs: from DNS, from a file, by registration.
//!
//! Each source has a task of its own, which tells the [`Service`] its whole list whenever that
//! changes. A source that fails, or that knows nobody, leaves the list as it was: rather an old
//! address than none.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;

use crate::config::{DiscoveryConfig, EndpointConfig, EndpointList, files};
use crate::upstream::service::{Service, Source, Spec};

/// How often registrations are looked through.
const EXPIRY: Duration = Duration::from_secs(1);
/// The largest file of endpoints.
const MOST: u64 = 1 << 20;

/// Starts what `config` asks for; the tasks end with their handles, or with the service.
pub(crate) fn start(
    service: &Weak<Service>,
    config: &DiscoveryConfig,
    runtime: &tokio::runtime::Handle,
) -> Vec<super::Task> {
    let mut tasks = Vec::new();
    for name in &config.dns {
        let dns = dns(service.clone(), name.clone(), config.interval, lookup);
        tasks.push(super::Task::new(runtime.spawn(dns)));
    }
    if let Some(path) = &config.file {
        let file = file(service.clone(), path.clone(), config.interval);
        tasks.push(super::Task::new(runtime.spawn(file)));
    }
    if config.api {
        tasks.push(super::Task::new(runtime.spawn(expiry(service.clone()))));
    }
    tasks
}

/// All addresses of `host:port`, by the system's resolver.
async fn lookup(authority: String) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host(authority).await?.collect())
}

/// Resolves one name again and again.
async fn dns<F>(
    service: Weak<Service>,
    name: EndpointConfig,
    interval: Duration,
    lookup: impl Fn(String) -> F,
) where
    F: Future<Output = io::Result<Vec<SocketAddr>>>,
{
    let authority = name.url.authority();
    let mut failing = false;
    loop {
        let answer = lookup(authority.to_owned()).await;
        let Some(service) = service.upgrade() else {
            return;
        };
        let problem = match answer {
            Ok(addresses) if addresses.is_empty() => Some("no address".to_owned()),
            Ok(mut addresses) => {
                // Resolvers turn their answers around.
                addresses.sort_unstable();
                addresses.dedup();
                let specs = addresses.iter().map(|address| Spec::at(*address, &name));
                service.update(Source::Dns(authority.to_owned()), specs.collect());
                None
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = &problem
            && !failing
        {
            let service = &service.name;
            tracing::warn!(%service, name = authority, %error, "cannot resolve; endpoints stay");
        }
        failing = problem.is_some();
        drop(service);
        tokio::time::sleep(interval).await;
    }
}

/// Reads a file again and again.
async fn file(service: Weak<Service>, path: PathBuf, interval: Duration) {
    let mut before = None;
    loop {
        let from = path.clone();
        let read = tokio::task::spawn_blocking(move || read(&from)).await;
        let Some(service) = service.upgrade() else {
            return;
        };
        let read = read.unwrap_or_else(|error| Err(error.to_string()));
        // The same text, or the same trouble, is told once.
        if before.as_ref() != Some(&read) {
            let json = path.extension().is_some_and(|ending| ending == "json");
            let list = read
                .clone()
                .and_then(|text| EndpointList::parse(&text, json));
            match list {
                Ok(list) if list.is_empty() => stays(&service, &path, "no endpoints"),
                Ok(list) => {
                    let source = Source::File(path.clone());
                    service.update(source, list.iter().map(Spec::of).collect());
                }
                Err(error) => stays(&service, &path, &error),
            }
            before = Some(read);
        }
        drop(service);
        tokio::time::sleep(interval).await;
    }
}

fn stays(service: &Service, path: &Path, error: &str) {
    let (service, path) = (&service.name, path.display());
    tracing::warn!(%service, %path, error, "file of endpoints not taken; endpoints stay");
}

fn read(path: &Path) -> Result<String, String> {
    files::read_text(path, MOST).map_err(|error| error.to_string())
}

/// Lets registrations end.
async fn expiry(service: Weak<Service>) {
    loop {
        tokio::time::sleep(EXPIRY).await;
        let Some(service) = service.upgrade() else {
            return;
        };
        service.expire();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use resilience_core::breaker::{Mode, Outcome};
    use resilience_core::clock::SharedClock;

    use super::*;
    use crate::config::Config;
    use crate::metrics::Metrics;
    use crate::upstream::Upstream;

    const CONFIG: &str = "[upstream.shop]\ndiscovery = { file = \"/no/such/file\" }\n";

    fn service() -> Arc<Service> {
        let metrics = Arc::new(Metrics::new());
        Arc::new(Service::new("shop", &metrics, &SharedClock::std()))
    }

    fn addresses(service: &Service) -> Vec<String> {
        let endpoints = service.endpoints();
        endpoints.iter().map(|one| one.address.clone()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_resolved_again_and_an_empty_or_failed_answer_changes_nothing() {
        let config = Config::from_toml(CONFIG).unwrap();
        let service = service();
        service.configure(&config, &config.upstreams["shop"]);
        let answer = Arc::new(Mutex::new(Ok(vec![
            "10.0.0.2:80",
            "10.0.0.1:80",
            "10.0.0.2:80",
        ])));
        let told = Arc::clone(&answer);
        let lookup = move |name: String| {
            assert_eq!(name, "shop.test:80");
            let answer = told.lock().clone();
            async move {
                let list: Vec<&str> = answer.map_err(|()| io::Error::other("SERVFAIL"))?;
                Ok(list.into_iter().map(|one| one.parse().unwrap()).collect())
            }
        };
        let url = "http://shop.test:80".to_owned().try_into().unwrap();
        let name = EndpointConfig::new(url);
        let interval = Duration::from_secs(10);
        let task = tokio::spawn(dns(Arc::downgrade(&service), name, interval, lookup));
        let second = Duration::from_secs(1);
        tokio::time::sleep(second).await;
        assert_eq!(addresses(&service), ["10.0.0.1:80", "10.0.0.2:80"]);
        let kept = Arc::clone(&service.endpoints()[1]);
        assert_eq!(kept.authority, "shop.test:80");
        for (next, wanted) in [
            (Ok(vec![]), &["10.0.0.1:80", "10.0.0.2:80"][..]),
            (Err(()), &["10.0.0.1:80", "10.0.0.2:80"]),
            (
                Ok(vec!["10.0.0.3:80", "10.0.0.2:80"]),
                &["10.0.0.2:80", "10.0.0.3:80"],
            ),
        ] {
            *answer.lock() = next;
            tokio::time::sleep(interval).await;
            assert_eq!(addresses(&service), wanted);
        }
        // The one that stayed is the same, with its breaker and pool.
        assert!(Arc::ptr_eq(&kept, &service.endpoints()[0]));
        // What a source found goes when the source is asked no more.
        let other = CONFIG.replace("/no/such", "/nor/this");
        let other = Config::from_toml(&other).unwrap();
        service.configure(&other, &other.upstreams["shop"]);
        assert!(addresses(&service).is_empty());
        drop(service);
        tokio::time::sleep(interval).await;
        assert!(task.is_finished());
    }

    #[tokio::test]
    async fn ten_thousand_endpoints_that_come_and_go_leave_no_series() {
        // L.c6
        let metrics = Arc::new(Metrics::new());
        let service = Arc::new(Service::new("shop", &metrics, &SharedClock::std()));
        let config = Config::from_toml(CONFIG).unwrap();
        let settings = config.upstreams["shop"].clone();
        service.configure(&config, &settings);
        let upstream = Arc::new(Upstream {
            name: "shop".to_owned(),
            settings,
            service: Arc::clone(&service),
        });
        let mut lines = Vec::new();
        for round in 0..100_u8 {
            let specs = (0..100).map(|host| {
                let url = format!("http://10.0.{round}.{host}:80").try_into();
                Spec::of(&EndpointConfig::new(url.unwrap()))
            });
            let source = Source::File("/no/such/file".into());
            service.update(source, specs.collect());
            let mut picked = upstream.picks(None).next().unwrap();
            picked.endpoint().breaker.set_mode(Mode::ForcedOpen);
            picked.endpoint().metrics.requests.increment(1);
            picked.record(Outcome::Success);
            let text = metrics.render(std::iter::once(&upstream));
            assert_eq!(text.matches("backend=\"10.0.").count(), 300);
            assert!(text.contains(&format!("backend=\"10.0.{round}.99:80\"}} ")));
            assert!(text.contains("from=\"closed\",to=\"open\"} 1\n"), "{text}");
            lines.push(text.lines().count());
        }
        assert!(lines.iter().all(|count| *count == lines[0]), "{lines:?}");
    }
}
