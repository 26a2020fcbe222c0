//! Another configuration while requests run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use gateway_kit::config::Source;
use gateway_kit::{Config, Gateway, ReloadOutcome, ReloadTrigger};
use http::Response;
use http_body_util::Full;
use resilience_core::breaker::{Mode, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Running, Upstream, parsed, read_head, routed, soon, until};

/// A directory that is removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let name = format!("gateway-reload-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Gives a file other content at once: one that is written in place is empty for a moment.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, file).unwrap();
}

const LISTEN: &str = "listen = \"127.0.0.1:0\"\n";
const FAST: &str = "[reload]\ninterval = \"5ms\"\n";

/// A gateway that follows `file`.
async fn following(file: &Path) -> Running {
    let source = Source::file(file);
    let config = source.load().unwrap();
    Running::of(Gateway::builder(config).source(source)).await
}

/// An upstream that answers with its name.
async fn named(name: &'static str) -> Upstream {
    Upstream::answering(move |_| Response::new(Full::from(name))).await
}

/// Sends requests on one connection until told to stop; any answer but 200 fails the test.
async fn client(mut stream: TcpStream, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>) {
    let requests = [
        "GET /a HTTP/1.1\r\nhost: h\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nhi",
    ];
    for request in requests.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, mut body) = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        while body.len() < 2 {
            assert_ne!(soon(stream.read_buf(&mut body)).await.unwrap(), 0);
        }
        assert_eq!(body, b"ok");
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_reloads_under_load_fail_no_request() {
    let [a, b, c] = [
        Upstream::start().await,
        Upstream::start().await,
        Upstream::start().await,
    ];
    // Endpoints come and go, connections are made anew, breakers change, routes come and go.
    let configs = [
        routed(&[a.addr, b.addr]),
        routed(&[b.addr, c.addr]) + "connect_timeout = \"3s\"\n",
        routed(&[a.addr]) + "breaker = { minimum_calls = 7 }\n",
        routed(&[c.addr, a.addr])
            + "[[route]]\nprefix = \"/a\"\nupstream = \"other\"\n"
            + &format!("[upstream.other]\nendpoints = [\"http://{}\"]\n", b.addr),
    ];
    let gateway = Running::start(&configs[0]).await;
    let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
        clients.spawn(client(gateway.connect().await, stop, done));
    }
    for turn in 1..=320 {
        let before = done.load(Ordering::Relaxed);
        until(|| done.load(Ordering::Relaxed) >= before + 6).await;
        let report = gateway
            .handle
            .reload(parsed(&configs[turn % configs.len()]));
        assert_eq!(report.outcome, ReloadOutcome::Applied, "{report:?}");
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = soon(clients.join_next()).await {
        client.unwrap();
    }
    assert!(a.calls() > 100 && b.calls() > 100 && c.calls() > 100);
    assert!(a.calls() + b.calls() + c.calls() == done.load(Ordering::Relaxed));
    assert_eq!(gateway.handle.reloads().len(), 100);
    assert_eq!(gateway.handle.reloads()[0].number, 320);
    let metrics = gateway.handle.metrics();
    assert!(metrics.contains("config_reloads_total{result=\"applied\"} 320"));
}

const ASK: &[u8] = b"GET /chat HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AGREE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
                       upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[tokio::test]
async fn a_websocket_outlives_changes_around_it_and_the_end_of_its_route() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()]);
    let gateway = Running::start(&config).await;
    let mut client = gateway.connect().await;
    client.write_all(ASK).await.unwrap();
    let (mut upstream, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut upstream).await;
    upstream.write_all(AGREE).await.unwrap();
    read_head(&mut client).await;
    let other = "[[route]]\nprefix = \"/b\"\nupstream = \"b\"\n\
                 [upstream.b]\nendpoints = [\"http://127.0.0.1:1\"]\n";
    for next in [
        config.clone() + other,
        config + "connect_timeout = \"3s\"\n",
        other.to_owned(),
    ] {
        let report = gateway.handle.reload(parsed(&next));
        assert_eq!(report.outcome, ReloadOutcome::Applied);
        for _ in 0..3 {
            let mut read = [0; 4];
            client.write_all(b"ping").await.unwrap();
            soon(upstream.read_exact(&mut read)).await.unwrap();
            upstream.write_all(b"pong").await.unwrap();
            soon(client.read_exact(&mut read)).await.unwrap();
            assert_eq!(&read, b"pong");
        }
    }
}

#[tokio::test]
async fn breakers_buckets_and_connections_outlive_a_reload() {
    let upstream = Upstream::start().await;
    let limit = "[rate_limit]\nrequests = 1\nwindow = \"1h\"\nburst = 3\n";
    let config = routed(&[upstream.addr]) + limit;
    let gateway = Running::start(&config).await;
    assert_eq!(gateway.get("/").await.status, 200);
    let breaker = gateway.handle.breaker("shop", 0).unwrap();
    let more = "[[route]]\nprefix = \"/b\"\nupstream = \"shop\"\n";
    let report = gateway.handle.reload(parsed(&(config.clone() + more)));
    assert_eq!(report.diff.routes.added, ["/b"]);
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 1);
    breaker.set_mode(Mode::ForcedOpen);
    gateway.handle.reload(parsed(&config));
    let now = gateway.handle.breaker("shop", 0).unwrap();
    assert_eq!(now.state(), State::Open);
    assert_eq!(gateway.get("/").await.status, 503);
    // The third of the burst is gone: the bucket is the one from before.
    gateway.handle.reload(parsed(&(config + more)));
    assert_eq!(gateway.get("/").await.status, 429);
}

#[tokio::test]
async fn a_report_names_what_is_different_and_what_has_to_wait() {
    let before = "\
        [[route]]\nprefix = \"/a\"\nupstream = \"one\"\n\
        [[route]]\nprefix = \"/b\"\nmethods = [\"GET\", \"POST\"]\nupstream = \"one\"\n\
        [[route]]\nprefix = \"/c\"\nupstream = \"one\"\n\
        [upstream.one]\nendpoints = [\"http://127.0.0.1:1\", \"http://127.0.0.1:2\"]\n\
        [upstream.two]\nendpoints = [\"http://127.0.0.1:1\"]\n";
    let after = "zone = \"z\"\n\
        [[route]]\nprefix = \"/a\"\nupstream = \"one\"\nstrip_prefix = true\n\
        [[route]]\nprefix = \"/b\"\nmethods = [\"GET\", \"POST\"]\nupstream = \"one\"\n\
        [[route]]\nprefix = \"/d\"\nupstream = \"three\"\n\
        [upstream.one]\nmax_idle = 1\n\
        endpoints = [{ url = \"http://127.0.0.1:2\", weight = 2 }, \"http://127.0.0.1:3\"]\n\
        [upstream.three]\nendpoints = [\"http://127.0.0.1:4\"]\n\
        [log]\nformat = \"text\"\n[server]\nmax_connections = 7\nmax_headers = 7\n";
    let gateway = Running::start_with(before, |builder| {
        builder.wall_clock(|| UNIX_EPOCH + Duration::from_millis(1500))
    })
    .await;
    let unchanged = gateway.handle.reload(parsed(before));
    assert_eq!(unchanged.outcome, ReloadOutcome::Unchanged);
    let mut config = parsed(after);
    config.listen = "127.0.0.1:1".parse().unwrap();
    let report = gateway.handle.reload(config);
    let diff = &report.diff;
    assert_eq!(report.outcome, ReloadOutcome::Applied);
    assert_eq!((report.number, report.trigger), (2, ReloadTrigger::Call));
    let told = [&diff.routes, &diff.upstreams, &diff.endpoints];
    let told = told.map(|one| {
        let list = |names: &[String]| names.join(" ");
        [list(&one.added), list(&one.removed), list(&one.changed)]
    });
    assert_eq!(told[0], ["/d", "/c", "/a"]);
    assert_eq!(told[1], ["three", "two", "one"]);
    assert_eq!(
        told[2],
        [
            "one/127.0.0.1:3 three/127.0.0.1:4",
            "one/127.0.0.1:1 two/127.0.0.1:1",
            "one/127.0.0.1:2"
        ]
    );
    assert_eq!(diff.settings, ["zone", "server"]);
    let waiting = ["listen", "server.max_connections", "log.format"];
    assert_eq!(report.at_next_start, waiting);
    // What has to wait is not in force, and named again as long as it is different.
    assert_eq!(
        gateway.handle.config().listen,
        "127.0.0.1:0".parse().unwrap()
    );
    let again = gateway.handle.reload(parsed(after));
    assert_eq!(again.outcome, ReloadOutcome::Unchanged);
    assert_eq!(again.at_next_start, waiting[1..]);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["outcome"], "applied");
    assert_eq!(json["at"], "1970-01-01T00:00:01.500Z");
    assert!(json["uptime_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(json["diff"]["routes"]["added"][0], "/d");
    let metrics = gateway.handle.metrics();
    assert!(metrics.contains("config_last_reload_success_timestamp_seconds 1.5"));
    assert!(metrics.contains("config_reloads_total{result=\"unchanged\"} 2"));
}

#[tokio::test]
async fn a_bad_file_keeps_the_old_configuration_and_says_why_in_one_line() {
    // I4.c3
    let dir = Dir::new("bad");
    let file = dir.file("gateway.toml");
    let upstream = Upstream::start().await;
    let good = LISTEN.to_owned() + "[reload]\ninterval = \"1h\"\n" + &routed(&[upstream.addr]);
    std::fs::write(&file, &good).unwrap();
    let source = Source::file(&file);
    let builder = Gateway::builder(source.load().unwrap()).source(source);
    let gateway = Running::of(builder).await;
    let missing = "[[tls.certificate]]\ncertificate = \"/no/cert\"\nkey = \"/no/key\"\n";
    for (text, wanted) in [
        (
            good.replace("\"/\"", "\"x\""),
            "gateway.toml:5: route[0].prefix = \"x\": must be",
        ),
        (good.clone() + "nonsense\n", "gateway.toml:"),
        ("\n".to_owned(), "gateway.toml: (file): is empty"),
        (good.replace("1h", "0s"), "reload.interval"),
    ] {
        std::fs::write(&file, text).unwrap();
        let report = gateway.handle.reload_source(ReloadTrigger::Admin);
        assert!(report.is_refused());
        let reason = report.reason.unwrap();
        assert!(
            reason.contains(wanted) && !reason.contains('\n'),
            "{reason}"
        );
        assert!(report.diff.is_empty());
        assert_eq!(gateway.get("/").await.status, 200);
    }
    std::fs::remove_file(&file).unwrap();
    let gone = gateway.handle.reload_source(ReloadTrigger::Signal);
    assert!(gone.reason.unwrap().contains("cannot be read"));
    // Switched on later, TLS has to wait for the next start, whatever its files are.
    std::fs::write(&file, good.clone() + missing).unwrap();
    let report = gateway.handle.reload_source(ReloadTrigger::Signal);
    assert_eq!(report.outcome, ReloadOutcome::Unchanged);
    assert_eq!(report.at_next_start, ["tls"]);
    // A configuration built by hand is checked as well.
    let mut config = parsed(&routed(&[upstream.addr]));
    config.routes[0].upstream = Some("nobody".to_owned());
    let report = gateway.handle.reload(config);
    assert!(report.reason.unwrap().contains("names no [upstream.NAME]"));
    assert_eq!(gateway.get("/").await.status, 200);
    let metrics = gateway.handle.metrics();
    assert!(metrics.contains("config_reloads_total{result=\"refused\"} 6"));
    let history = gateway.handle.reloads();
    assert_eq!(history.len(), 8);
    assert_eq!(history[7].trigger, ReloadTrigger::Start);
    // Without a source there is nothing to read.
    let gateway = Running::start(&routed(&[upstream.addr])).await;
    assert!(
        gateway
            .handle
            .reload_source(ReloadTrigger::Admin)
            .is_refused()
    );
}

#[tokio::test]
async fn a_changed_file_is_taken_however_it_was_changed() {
    let dir = Dir::new("file");
    let [a, b] = [named("a").await, named("b").await];
    let text = |upstream: &Upstream| LISTEN.to_owned() + FAST + &routed(&[upstream.addr]);
    // As Kubernetes lays out a config map: the file is a link to a link that is swapped.
    for version in ["one", "two"] {
        std::fs::create_dir(dir.file(version)).unwrap();
    }
    std::fs::write(dir.file("one").join("gateway.toml"), text(&a)).unwrap();
    let link = |to: &str| {
        std::os::unix::fs::symlink(to, dir.file("..data_tmp")).unwrap();
        std::fs::rename(dir.file("..data_tmp"), dir.file("..data")).unwrap();
    };
    link("one");
    let file = dir.file("gateway.toml");
    std::os::unix::fs::symlink("..data/gateway.toml", &file).unwrap();
    let gateway = following(&file).await;
    let answers = async |wanted: &str| {
        soon(async { while gateway.get("/").await.body != wanted {} }).await;
    };
    answers("a").await;
    std::fs::write(dir.file("two").join("gateway.toml"), text(&b)).unwrap();
    link("two");
    answers("b").await;
    // In place.
    std::fs::write(&file, text(&a)).unwrap();
    answers("a").await;
    // As editors do: written beside, and renamed over.
    replace(&file, &text(&b));
    answers("b").await;
    // Gone, and back.
    std::fs::remove_file(&file).unwrap();
    until(|| gateway.handle.reloads()[0].is_refused()).await;
    std::fs::write(&file, text(&b)).unwrap();
    until(|| gateway.handle.reloads()[0].outcome == ReloadOutcome::Unchanged).await;
    // Half of a file is refused, once, and the rest makes it good.
    let whole = text(&a);
    replace(&file, &whole[..whole.len() - 9]);
    until(|| gateway.handle.reloads()[0].is_refused()).await;
    answers("b").await;
    let refused = gateway.handle.reloads()[0].number;
    replace(&file, &whole);
    answers("a").await;
    let last = gateway.handle.reloads().remove(0);
    assert_eq!(
        (last.number, last.trigger),
        (refused + 1, ReloadTrigger::File)
    );
}

#[tokio::test]
async fn a_pipe_or_a_huge_file_is_refused_and_not_waited_for() {
    let dir = Dir::new("pipe");
    let file = dir.file("gateway.toml");
    let upstream = named("a").await;
    let text = LISTEN.to_owned() + &routed(&[upstream.addr]);
    std::fs::write(&file, &text).unwrap();
    let gateway = following(&file).await;
    std::fs::remove_file(&file).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&file).status();
    assert!(made.unwrap().success());
    let report = gateway.handle.reload_source(ReloadTrigger::Signal);
    let reason = report.reason.unwrap();
    assert!(reason.contains("it is no plain file"), "{reason}");
    std::fs::remove_file(&file).unwrap();
    let sparse = std::fs::File::create(&file).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let report = gateway.handle.reload_source(ReloadTrigger::Signal);
    let reason = report.reason.unwrap();
    assert!(reason.contains("larger than 16777216 bytes"), "{reason}");
    assert_eq!(gateway.get("/").await.body, "a");
}

#[tokio::test]
async fn what_a_call_put_in_force_stays_until_the_file_changes() {
    let dir = Dir::new("call");
    let file = dir.file("gateway.toml");
    let [a, b] = [named("a").await, named("b").await];
    let text = LISTEN.to_owned() + FAST + &routed(&[a.addr]);
    std::fs::write(&file, &text).unwrap();
    let gateway = following(&file).await;
    let other = parsed(&(FAST.to_owned() + &routed(&[b.addr])));
    assert!(!gateway.handle.reload(other).is_refused());
    // Long enough for many looks; what must not happen cannot be waited for.
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(gateway.get("/").await.body, "b");
    replace(&file, &(text + "# changed\n"));
    until(|| gateway.handle.reloads().len() == 3).await;
    assert_eq!(gateway.get("/").await.body, "a");
}

#[tokio::test]
async fn files_are_followed_only_where_that_is_switched_on() {
    let dir = Dir::new("off");
    let file = dir.file("gateway.toml");
    let [a, b] = [named("a").await, named("b").await];
    let text = |upstream: &Upstream| LISTEN.to_owned() + &routed(&[upstream.addr]);
    std::fs::write(&file, "reload = false\n".to_owned() + &text(&a)).unwrap();
    let gateway = following(&file).await;
    std::fs::write(&file, text(&b) + FAST).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(gateway.get("/").await.body, "a");
    // Switched on by the file itself, read for another reason.
    gateway.handle.reload_source(ReloadTrigger::Signal);
    assert_eq!(gateway.get("/").await.body, "b");
    std::fs::write(&file, text(&a) + FAST).unwrap();
    soon(async { while gateway.get("/").await.body != "a" {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reloads_at_the_same_time_come_one_after_the_other() {
    let upstream = Upstream::start().await;
    let gateway = Running::start(&routed(&[upstream.addr])).await;
    let tasks = (0..8).map(|task| {
        let handle = gateway.handle.clone();
        let config = routed(&[upstream.addr]);
        std::thread::spawn(move || {
            for turn in 0..8 {
                let more = format!("max_idle = {}\n", 1 + task * 8 + turn);
                let report = handle.reload(parsed(&(config.clone() + &more)));
                assert_eq!(report.outcome, ReloadOutcome::Applied);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.join().unwrap();
    }
    let history = gateway.handle.reloads();
    let numbers: Vec<_> = history.iter().map(|report| report.number).collect();
    assert_eq!(numbers, (0..=64).rev().collect::<Vec<_>>());
    assert_eq!(gateway.get("/").await.status, 200);
}

#[tokio::test]
async fn a_service_inside_another_program_reloads_by_its_handle() {
    let [a, b] = [named("a").await, named("b").await];
    let config = |upstream: &Upstream| Config::from_toml(&routed(&[upstream.addr])).unwrap();
    let service = Gateway::builder(config(&a))
        .service(|_| Some(([127, 0, 0, 1], 1).into()))
        .unwrap();
    let get = async || {
        let request = http::Request::get("/").header("host", "h");
        let request = request.body(gateway_kit::Body::empty()).unwrap();
        let answer = soon(service.handle(request)).await;
        let body = http_body_util::BodyExt::collect(answer.into_body()).await;
        body.unwrap().to_bytes()
    };
    assert_eq!(get().await, "a");
    let mut next = config(&b);
    // It has no listener, so this means nothing.
    next.listen = "127.0.0.1:1".parse().unwrap();
    let report = service.control().reload(next);
    assert!(report.at_next_start.is_empty());
    assert_eq!(report.outcome, ReloadOutcome::Applied);
    assert_eq!(get().await, "b");
}

/// A file that is different at each look is being written.
#[tokio::test]
async fn a_file_is_taken_when_two_looks_find_the_same() {
    let dir = Dir::new("settles");
    let file = dir.file("gateway.toml");
    let upstream = Upstream::start().await;
    let text = LISTEN.to_owned() + FAST + &routed(&[upstream.addr]);
    std::fs::write(&file, &text).unwrap();
    // Each look finds another line, until there are none left.
    let lines = Arc::new(AtomicUsize::new(0));
    let (left, path, begin) = (Arc::clone(&lines), file.clone(), text.clone());
    let source = Source::file(&file).variables(move |name| {
        let left = (name == "PORT").then(|| {
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            })
        });
        if let Some(Ok(left)) = left {
            std::fs::write(&path, format!("{begin}max_idle = {left}\n")).unwrap();
        }
        None
    });
    let builder = Gateway::builder(source.load().unwrap()).source(source);
    let gateway = Running::of(builder).await;
    lines.store(12, Ordering::SeqCst);
    let idle = || gateway.handle.config().upstreams["shop"].max_idle;
    until(|| lines.load(Ordering::SeqCst) == 0 && idle() == 1).await;
    assert_eq!(gateway.handle.reloads().len(), 2);
}

/// Somebody wrote the file between its reading and the start.
#[tokio::test]
async fn what_the_file_holds_besides_what_was_loaded_is_taken() {
    let dir = Dir::new("between");
    let file = dir.file("gateway.toml");
    let [a, b] = [named("a").await, named("b").await];
    let text = |upstream: &Upstream| LISTEN.to_owned() + FAST + &routed(&[upstream.addr]);
    std::fs::write(&file, text(&a)).unwrap();
    let source = Source::file(&file);
    let config = source.load().unwrap();
    std::fs::write(&file, text(&b)).unwrap();
    let gateway = Running::of(Gateway::builder(config).source(source)).await;
    soon(async { while gateway.get("/").await.body != "b" {} }).await;
}

#[cfg(feature = "jwt")]
#[tokio::test]
async fn files_that_the_configuration_names_count_as_part_of_it() {
    let dir = Dir::new("named");
    let (file, keys) = (dir.file("gateway.toml"), dir.file("keys.json"));
    let key = |bytes: &str| format!(r#"{{"keys":[{{"kty":"oct","alg":"HS256","k":"{bytes}"}}]}}"#);
    let upstream = Upstream::start().await;
    let jwt = format!("[jwt]\nalgorithms = [\"HS256\"]\nkeys_file = {keys:?}\n");
    std::fs::write(&keys, key(&"YWJj".repeat(11))).unwrap();
    let text = LISTEN.to_owned() + FAST + &routed(&[upstream.addr]) + &jwt;
    std::fs::write(&file, text).unwrap();
    let gateway = following(&file).await;
    replace(&keys, &key(&"ZGVm".repeat(11)));
    let last = || gateway.handle.reloads().remove(0);
    until(|| last().number == 1).await;
    assert_eq!(
        (last().trigger, last().outcome),
        (ReloadTrigger::File, ReloadOutcome::Applied)
    );
    assert_eq!(last().diff.files, std::slice::from_ref(&keys));
    // A bad one is refused, once, and the configuration before it stays.
    replace(&keys, "{}");
    until(|| last().number == 2).await;
    assert!(last().is_refused());
    assert_eq!(gateway.get("/").await.status, 401);
}

#[tokio::test]
async fn the_time_of_the_last_good_configuration_is_told() {
    let seconds = Arc::new(AtomicUsize::new(1000));
    let wall = Arc::clone(&seconds);
    let text = routed(&["127.0.0.1:1".parse().unwrap()]);
    let gateway = Running::start_with(&text, |builder| {
        builder.wall_clock(move || {
            UNIX_EPOCH + Duration::from_secs(wall.load(Ordering::SeqCst) as u64)
        })
    })
    .await;
    let told = || {
        let metrics = gateway.handle.metrics();
        let name = "config_last_reload_success_timestamp_seconds ";
        let mut lines = metrics.lines();
        let told = lines.find_map(|line| line.strip_prefix(name));
        told.unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(told(), 1000);
    let mut bad = parsed(&text);
    bad.routes[0].upstream = Some("nobody".to_owned());
    for (at, config, wanted) in [
        (2000, parsed(&(text.clone() + "max_idle = 1\n")), 2000),
        (3000, bad, 2000),
        (4000, parsed(&(text.clone() + "max_idle = 1\n")), 4000),
    ] {
        seconds.store(at, Ordering::SeqCst);
        let report = gateway.handle.reload(config);
        assert_eq!(report.at, UNIX_EPOCH + Duration::from_secs(at as u64));
        assert_eq!(told(), wanted);
    }
}
