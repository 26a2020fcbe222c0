//! The `gateway` program: exit codes, what it prints, how it stops.
#![cfg(all(unix, feature = "bin"))]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

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
fn check_tells_good_from_bad_by_exit_code_and_one_line() {
    let good = TempFile::new("good", CONFIG);
    let output = gateway().arg("check").arg(&good.0).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let bad = TempFile::new("bad", &CONFIG.replace("prefix = \"/\"", "prefix = \"x\""));
    let output = gateway().arg("check").arg(&bad.0).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("bad.toml:5: route[0].prefix = \"x\": "),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
    let output = gateway()
        .env("PORT", "x")
        .arg("check")
        .arg(&good.0)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
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
fn it_serves_logs_json_and_stops_with_0_on_sigterm() {
    // M.c6
    let config = TempFile::new("serve", CONFIG);
    let mut child = gateway();
    child.arg("--config").arg(&config.0).stdout(Stdio::piped());
    let mut child = Running(child.spawn().unwrap());
    let mut log = BufReader::new(child.0.stdout.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["message"], "listening");
    let mut client = TcpStream::connect(event["address"].as_str().unwrap()).unwrap();
    let request = b"GET /health/ready HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    client.write_all(request).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    line.clear();
    log.read_line(&mut line).unwrap();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
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
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.starts_with("gateway: PRODUCT_SERVICE_URLS = "),
        "{told}"
    );
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
    let mut log = BufReader::new(child.0.stdout.take().unwrap());
    let address = logged(&mut log, "listening")["address"].clone();
    let address = address.as_str().unwrap().replace("0.0.0.0", "127.0.0.1");
    assert!(get(&address, "/api/payments/1").contains("route_disabled"));
    let help = gateway().arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    for variable in gateway_kit::config::VARIABLES {
        assert!(help.contains(variable.name), "{}", variable.name);
    }
}

/// Reads log lines until one has this message.
fn logged(log: &mut impl BufRead, message: &str) -> serde_json::Value {
    loop {
        let mut line = String::new();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "no {message}");
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        if event["message"] == message {
            return event;
        }
    }
}

/// Polls until `condition` holds.
fn eventually(mut condition: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
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
    let mut log = BufReader::new(child.0.stdout.take().unwrap());
    let address = logged(&mut log, "listening")["address"].clone();
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
    std::fs::write(&config.0, &off).unwrap();
    hangup();
    let event = logged(&mut log, "configuration reloaded");
    assert_eq!(
        (&event["by"], &event["result"]),
        (&"signal".into(), &"applied".into())
    );
    assert!(get(address, "/").starts_with("HTTP/1.1 404"));
    // It follows the file now, and says less.
    std::fs::write(&config.0, off + "[log]\nlevel = \"error\"\nx = 1\n").unwrap();
    let event = logged(&mut log, "configuration refused, the old one stays");
    let reason = event["reason"].as_str().unwrap();
    assert!(
        reason.contains("reload.toml:") && reason.contains("log"),
        "{reason}"
    );
    assert_eq!(event["by"], "file");
    assert!(get(address, "/").starts_with("HTTP/1.1 404"));
    let quiet = following + "[log]\nlevel = \"warn\"\n";
    std::fs::write(&config.0, quiet).unwrap();
    eventually(|| get(address, "/").starts_with("HTTP/1.1 503"));
    // The lines of requests end once the level has changed; a line of a later warning comes.
    std::fs::write(&config.0, "nonsense").unwrap();
    logged(&mut log, "configuration refused, the old one stays");
}
