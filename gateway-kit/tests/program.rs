//! The `gateway` program: exit codes, what it prints, how it stops.
#![cfg(all(unix, feature = "bin"))]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

const CONFIG: &str = "listen = \"127.0.0.1:0\"\n[shutdown]\ndelay = \"0s\"\n\
    [[route]]\nprefix = \"/\"\nupstream = \"a\"\n[upstream.a]\nendpoints = [\"http://127.0.0.1:1\"]\n";

/// A file that is removed again.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("gateway-{}-{name}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    /// Gives it other content at once: a file that is written in place is empty for a moment.
    fn replace(&self, text: &str) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &self.0).unwrap();
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A child that never outlives the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn gateway() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.env_clear();
    command
}

#[test]
fn check_tells_good_from_bad_by_exit_code_and_a_line_for_each_problem() {
    let good = TempFile::new("good", CONFIG);
    let output = gateway().arg("check").arg(&good.0).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let bad = CONFIG.replace("prefix = \"/\"", "prefix = \"x\"") + "[server]\nmax_headers = 0\n";
    let bad = TempFile::new("bad", &bad);
    let output = gateway().arg("check").arg(&bad.0).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = told.lines().collect();
    let file = bad.0.display();
    assert_eq!(lines.len(), 2, "{told}");
    let first = format!("{file}:5: route[0].prefix = \"x\": must");
    assert!(lines[0].starts_with(&first), "{told}");
    let second = format!("{file}:10: server.max_headers = 0: must be from 1 to 1000");
    assert_eq!(lines[1], second);
    let output = gateway()
        .env("PORT", "x")
        .arg("check")
        .arg(&good.0)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let output = gateway()
        .arg("--config")
        .arg("/no/such/file")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        gateway().arg("--help").output().unwrap().status.code(),
        Some(0)
    );
}

#[test]
fn the_schema_is_written_and_check_reads_the_files_that_are_named() {
    let output = gateway().arg("schema").output().unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(schema["properties"]["listen"]["description"].is_string());
    for (more, wanted) in [
        (
            "[[tls.certificate]]\ncertificate = \"/no/cert\"\nkey = \"/no/key\"\n",
            "/no/cert: cannot be read",
        ),
        (
            "[upstream.b]\nendpoints = [\"https://b:1\"]\ntls = { ca_file = \"/no/ca\" }\n",
            "ca_file cannot be read",
        ),
    ] {
        let file = TempFile::new("files", &format!("{CONFIG}{more}"));
        let output = gateway().arg("check").arg(&file.0).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(wanted) && told.lines().count() == 1, "{told}");
    }
}

#[test]
fn it_serves_logs_json_and_stops_with_0_on_sigterm() {
    // M.c6
    let config = TempFile::new("serve", CONFIG);
    let mut child = gateway();
    child.arg("--config").arg(&config.0).stdout(Stdio::piped());
    let mut child = Running(child.spawn().unwrap());
    let log = Log::of(&mut child);
    let event = log.event("listening");
    let mut client = TcpStream::connect(event["address"].as_str().unwrap()).unwrap();
    let request = b"GET /health/ready HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    client.write_all(request).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let event = log.event("request");
    assert_eq!(event["target"], "gateway_kit::access");
    for (field, value) in [("route", "/health/ready"), ("method", "GET")] {
        assert_eq!(event[field], value);
    }
    assert_eq!(event["status"], 200);
    assert!(event["correlation_id"].is_string() && event["duration_ms"].is_number());
    let pid = child.0.id().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

#[test]
fn without_a_file_the_variables_say_all_and_the_help_names_them() {
    // I4.c1
    let dir = std::env::temp_dir();
    let output = gateway().arg("check").current_dir(&dir).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(told, "variables: good; 3 routes, 3 upstreams\n");
    // I4.c2
    let mut check = gateway();
    check.env("PRODUCT_SERVICE_URLS", "http://u:secret@h:1");
    let output = check.arg("check").current_dir(&dir).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("PRODUCT_SERVICE_URLS = "), "{told}");
    assert!(
        told.lines().count() == 1 && !told.contains("secret"),
        "{told}"
    );
    let mut child = gateway();
    child
        .env("PORT", "0")
        .env("PAYMENT_SERVICE_ENABLED", "false");
    child.current_dir(&dir).stdout(Stdio::piped());
    let mut child = Running(child.spawn().unwrap());
    let log = Log::of(&mut child);
    let address = log.event("listening")["address"].clone();
    let address = address.as_str().unwrap().replace("0.0.0.0", "127.0.0.1");
    assert!(get(&address, "/api/payments/1").contains("route_disabled"));
    let help = gateway().arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    for variable in gateway_kit::config::VARIABLES {
        assert!(help.contains(variable.name), "{}", variable.name);
    }
}

/// The lines that a child writes, read as they come: a pipe that is full would stop it.
struct Log(Receiver<String>);

impl Log {
    fn of(child: &mut Running) -> Self {
        let (lines, read) = std::sync::mpsc::channel();
        let stdout = BufReader::new(child.0.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        Self(read)
    }

    fn line(&self) -> String {
        self.0
            .recv_timeout(Duration::from_secs(20))
            .expect("a log line")
    }

    /// The next event with this message.
    fn event(&self, message: &str) -> serde_json::Value {
        loop {
            let event: serde_json::Value = serde_json::from_str(&self.line()).unwrap();
            if event["message"] == message {
                return event;
            }
        }
    }
}

fn start(config: &TempFile) -> (Running, Log) {
    let mut child = gateway();
    child.arg("--config").arg(&config.0).stdout(Stdio::piped());
    let mut child = Running(child.spawn().unwrap());
    let log = Log::of(&mut child);
    (child, log)
}

/// An upstream that answers `ok` to each connection's first request, and tells its head.
fn upstream() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, seen) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                let mut chunk = [0; 4096];
                match stream.read(&mut chunk) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => head.extend_from_slice(&chunk[..read]),
                }
            }
            let _ = heads.send(String::from_utf8_lossy(&head).into_owned());
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, seen)
}

/// Polls until `condition` holds.
fn eventually(mut condition: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("waited too long");
}

fn get(address: &str, path: &str) -> String {
    let mut client = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn it_reloads_on_a_changed_file_and_on_sighup_and_keeps_the_old_on_a_bad_one() {
    // I4.c3
    let config = TempFile::new("reload", &format!("reload = false\n{CONFIG}"));
    let mut child = gateway();
    child.arg("--config").arg(&config.0).stdout(Stdio::piped());
    let mut child = Running(child.spawn().unwrap());
    let log = Log::of(&mut child);
    let address = log.event("listening")["address"].clone();
    let address = address.as_str().unwrap();
    let hangup = || {
        let pid = child.0.id().to_string();
        let kill = Command::new("kill").args(["-HUP", &pid]).status();
        assert!(kill.unwrap().success());
    };
    // 503: there is a route, and nobody behind it.
    assert!(get(address, "/").starts_with("HTTP/1.1 503"));
    let following = "reload = { interval = \"5ms\" }\n".to_owned() + CONFIG;
    let off = following.replace("upstream = \"a\"", "upstream = \"a\"\nenabled = false");
    config.replace(&off);
    hangup();
    let event = log.event("configuration reloaded");
    assert_eq!(
        (&event["by"], &event["result"]),
        (&"signal".into(), &"applied".into())
    );
    assert!(get(address, "/").starts_with("HTTP/1.1 404"));
    // A file that anybody may write says what the gateway does.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o646);
    std::fs::set_permissions(&config.0, open).unwrap();
    hangup();
    let event = log.event("anybody may write this file");
    assert_eq!(event["file"], config.0.display().to_string());
    // It follows the file now, and says less.
    config.replace(&(off + "[log]\nlevel = \"error\"\nx = 1\n"));
    let event = log.event("configuration refused, the old one stays");
    let reason = event["reason"].as_str().unwrap();
    assert!(
        reason.contains("reload.toml:") && reason.contains("log"),
        "{reason}"
    );
    assert_eq!(event["by"], "file");
    assert!(get(address, "/").starts_with("HTTP/1.1 404"));
    let quiet = following + "[log]\nlevel = \"warn\"\n";
    config.replace(&quiet);
    eventually(|| get(address, "/").starts_with("HTTP/1.1 503"));
    // The lines of requests end once the level has changed; a line of a later warning comes.
    config.replace("nonsense");
    log.event("configuration refused, the old one stays");
}

const HOSTILE: &str = "GET /a%20x?secret=hunter2 HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\
    authorization: Bearer hunter2\r\nuser-agent: \u{9b}2J \\ \"}\r\nx-correlation-id: a\u{9b}b\r\n\
    traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
    tracestate: a=1\r\n\r\n";

fn send(address: &str, request: &str) -> String {
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_request_is_one_line_whatever_it_holds_and_belongs_to_a_trace() {
    // L3
    let (address, seen) = upstream();
    let text = CONFIG.replace("127.0.0.1:1\"", &format!("{address}\""))
        + "[access_log]\npath = true\nuser_agent = true\n";
    let config = TempFile::new("access", &text);
    let (_child, log) = start(&config);
    let gateway = log.event("listening")["address"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(send(&gateway, HOSTILE).starts_with("HTTP/1.1 200"));
    let line = loop {
        let line = log.line();
        if line.contains("gateway_kit::access") {
            break line;
        }
    };
    assert!(
        !line.contains("hunter2") && !line.contains(['\u{9b}', '\r']),
        "{line}"
    );
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    for (field, value) in [
        ("level", "INFO"),
        ("client", "127.0.0.1"),
        ("method", "GET"),
        ("service", "a"),
        ("route", "/"),
        ("endpoint", &address.to_string()),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
        ("user_agent", "%C2%9B2J \\ \"}"),
    ] {
        assert_eq!(event[field], value, "{line}");
    }
    let path = event["path"].as_str().unwrap();
    assert_eq!(path, "/a%20x");
    for (field, value) in [
        ("status", 200),
        ("tries", 1),
        ("bytes_in", 0),
        ("bytes_out", 2),
    ] {
        assert_eq!(event[field], value, "{line}");
    }
    assert!(event["timestamp"].is_string() && event["duration_ms"].is_number());
    // One with a control is not taken for a correlation id.
    assert_eq!(event["correlation_id"].as_str().unwrap().len(), 32);
    let head = seen.recv_timeout(Duration::from_secs(20)).unwrap();
    let parent = head
        .lines()
        .find(|line| line.starts_with("traceparent: "))
        .unwrap();
    assert!(
        parent.starts_with("traceparent: 00-0af7651916cd43dd8448eb211c80319c-"),
        "{parent}"
    );
    assert!(
        !parent.contains("b7ad6b7169203331") && parent.ends_with("-01"),
        "{parent}"
    );
    assert!(head.contains("tracestate: a=1\r\n"), "{head}");
    // Refused by the guard: counted and logged all the same, and in JSON.
    let refused = "GET / HTTP/1.1\r\nhost: a\"b\r\nconnection: close\r\n\r\n";
    assert!(send(&gateway, refused).starts_with("HTTP/1.1 400"));
    assert_eq!(log.event("request")["error"], "bad_host");
    let body = "POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";
    send(&gateway, body);
    assert_eq!(log.event("request")["bytes_in"], 5);
}

#[test]
fn the_text_form_has_one_line_per_request_as_well() {
    let (address, _seen) = upstream();
    let text = CONFIG.replace("127.0.0.1:1\"", &format!("{address}\""))
        + "[access_log]\npath = true\nuser_agent = true\n[log]\nformat = \"text\"\n";
    let config = TempFile::new("text", &text);
    let (_child, log) = start(&config);
    let listening = log.line();
    let gateway = listening.split("address=").nth(1).unwrap();
    // With colours, or without.
    let gateway: String = gateway
        .chars()
        .filter(|c| c.is_ascii_digit() || ".:".contains(*c))
        .collect();
    assert!(send(&gateway, HOSTILE).starts_with("HTTP/1.1 200"));
    let line = log.line();
    assert!(
        line.contains("gateway_kit::access") && line.contains("request"),
        "{line}"
    );
    assert!(
        !line.contains("hunter2") && !line.contains('\u{9b}'),
        "{line}"
    );
}

#[test]
fn the_access_log_is_sampled_or_off_and_failures_are_always_in_it() {
    let (address, _seen) = upstream();
    let more = "[[route]]\nprefix = \"/dead\"\nupstream = \"dead\"\n\
                [upstream.dead]\nendpoints = [\"http://127.0.0.1:1\"]\n";
    let text = CONFIG.replace("127.0.0.1:1\"", &format!("{address}\"")) + more;
    let sampled = text.clone() + "[access_log]\nsample = 0.25\nbuilt_in = false\n";
    let config = TempFile::new("sampled", &sampled);
    let (_child, log) = start(&config);
    let gateway = log.event("listening")["address"]
        .as_str()
        .unwrap()
        .to_owned();
    for _ in 0..12 {
        assert!(get(&gateway, "/").starts_with("HTTP/1.1 200"));
        get(&gateway, "/health/live");
    }
    get(&gateway, "/dead");
    let events = (0..4).map(|_| log.event("request"));
    let statuses: Vec<_> = events
        .map(|event| event["status"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses, [200, 200, 200, 503]);
    let config = TempFile::new("silent", &format!("access_log = false\n{text}"));
    let (child, log) = start(&config);
    let gateway = log.event("listening")["address"]
        .as_str()
        .unwrap()
        .to_owned();
    get(&gateway, "/");
    get(&gateway, "/dead");
    drop(child);
    let lines: Vec<_> = log.0.iter().collect();
    assert!(
        !lines
            .iter()
            .any(|line| line.contains("gateway_kit::access")),
        "{lines:?}"
    );
}

/// One request to the admin by token.
fn administer(address: &str, token: &str, method: &str, path: &str, body: &str) -> String {
    let mut client = TcpStream::connect(address).unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn what_a_change_names_cannot_be_a_line_of_the_log() {
    const TOKEN: &str = "the-token-of-the-operator";
    let rest = "[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"text\"\n";
    let config = TempFile::new("forged", &format!("reload = false\n{CONFIG}{rest}"));
    let mut child = gateway();
    child.arg("--config").arg(&config.0).stdout(Stdio::piped());
    let mut child = Running(child.env("ADMIN_TOKEN", TOKEN).spawn().unwrap());
    let log = Log::of(&mut child);
    let first = log.line();
    let address = first.split("address=").nth(1).unwrap();
    let plain = |c: &char| c.is_ascii_digit() || ".:".contains(*c);
    let address: String = address.chars().filter(plain).collect();
    let named = format!("a\\nforged \\u001b[2J{}", "x".repeat(1000));
    let body = format!("{{\"route\":\"{named}\"}}");
    let answer = administer(&address, TOKEN, "POST", "/admin/cache/purge", &body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let line = std::iter::repeat_with(|| log.line()).find(|line| line.contains("forged"));
    let line = line.unwrap();
    assert!(
        line.contains("cache.purge") && line.contains("\\nforged"),
        "{line}"
    );
    assert!(!line.contains('\u{1b}') && line.len() < 1000, "{line}");
    let changes = administer(&address, TOKEN, "GET", "/admin/changes", "");
    assert!(
        changes.contains("\\nforged") && changes.len() < 2000,
        "{changes}"
    );
}

#[test]
fn changes_and_refusals_of_the_admin_are_logged_and_tokens_are_not() {
    const TOKEN: &str = "the-token-of-the-operator";
    const WRONG: &str = "the-token-of-a-stranger";
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"\n";
    let config = TempFile::new("audit", &format!("reload = false\n{CONFIG}{admin}"));
    let mut child = gateway();
    child.arg("--config").arg(&config.0).stdout(Stdio::piped());
    let mut child = Running(child.env("ADMIN_TOKEN", TOKEN).spawn().unwrap());
    let log = Log::of(&mut child);
    let address = log.event("the admin listens")["address"].clone();
    let address = address.as_str().unwrap();
    let path = "/admin/loadbalancer/a/endpoints/127.0.0.1:1";
    let drain = |token: &str| administer(address, token, "PATCH", path, "{\"weight\":0}");
    assert!(drain(WRONG).starts_with("HTTP/1.1 401"));
    assert!(drain(TOKEN).starts_with("HTTP/1.1 200"));
    let mut told = Vec::new();
    while told.len() < 2 {
        let line = log.line();
        assert!(!line.contains(TOKEN) && !line.contains(WRONG), "{line}");
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        if event["target"] == "gateway_kit::admin" {
            told.push(event);
        }
    }
    for (event, name, wanted) in [
        (0, "level", "WARN"),
        (0, "message", "refused"),
        (0, "actor", "127.0.0.1"),
        (0, "code", "token_wrong"),
        (1, "level", "INFO"),
        (1, "message", "changed"),
        (1, "actor", "127.0.0.1"),
        (1, "by", "token"),
        (1, "action", "endpoint.weight"),
        (1, "on", "a/127.0.0.1:1"),
        (1, "before", "1"),
        (1, "after", "0"),
    ] {
        assert_eq!(told[event][name], wanted, "{name}: {told:?}");
    }
}
