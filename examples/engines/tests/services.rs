use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::{all_gone, runs};

/// A directory of this test, removed with what runs in it.
struct Place(PathBuf);

impl Place {
    fn make() -> Self {
        let dir = std::env::temp_dir().join(format!("services-test-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn call(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_services"));
        command
            .args(words)
            .env("SERVICES_DIR", &self.0)
            .output()
            .unwrap()
    }

    #[track_caller]
    fn done(&self, words: &[&str]) -> String {
        let output = self.call(words);
        let (out, err) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{words:?}: {err}");
        String::from_utf8_lossy(out).into_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.call(&["stop"]);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The words of the line of one server.
fn line<'a>(status: &'a str, name: &str) -> Vec<&'a str> {
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().collect()
}

#[test]
fn the_program_starts_lists_breaks_and_stops_services() {
    let place = Place::make();
    let env = place.done(&["start", "--redis", "--nats", "--replicas", "1", "--detach"]);
    let names: Vec<_> = env
        .lines()
        .map(|line| line.split_once('=').unwrap().0)
        .collect();
    assert_eq!(names, ["REDIS_URL", "REDIS_REPLICA_URLS", "NATS_URL"]);
    assert_eq!(
        std::fs::read_to_string(place.0.join("services.env")).unwrap(),
        env
    );
    assert_eq!(place.done(&["env"]), env);
    let again = place.call(&["start", "--nats"]);
    assert!(
        String::from_utf8_lossy(&again.stderr).contains("already run"),
        "{again:?}"
    );

    let status = place.done(&["status"]);
    assert_eq!(line(&status, "redis0")[1..3], ["runs", "primary"]);
    assert_eq!(line(&status, "redis1")[1..3], ["runs", "replica"]);
    let pids: Vec<u32> = status
        .lines()
        .map(|line| line.split_whitespace().nth(3).unwrap().parse().unwrap())
        .collect();
    assert_eq!(pids.len(), 3);
    // Where the data is: the working directory of the server.
    let data = std::fs::read_link(format!("/proc/{}/cwd", pids[2])).unwrap();

    place.done(&["fault", "redis0", "freeze"]);
    assert_eq!(
        line(&place.done(&["status"]), "redis0")[1..3],
        ["frozen", "-"]
    );
    place.done(&["fault", "redis0", "thaw"]);
    place.done(&["fault", "redis1", "cut"]);
    place.done(&["fault", "redis1", "promote"]);
    assert_eq!(
        line(&place.done(&["status"]), "redis1")[1..3],
        ["runs", "primary"]
    );
    place.done(&["fault", "nats0", "kill"]);
    assert_eq!(line(&place.done(&["status"]), "nats0")[1], "ended");
    place.done(&["fault", "nats0", "start"]);
    for (words, problem) in [
        (
            ["fault", "nats1", "kill"],
            "no server nats1; there are redis0, redis1, nats0",
        ),
        (["fault", "nats0", "promote"], "nats0 has no such thing"),
        (["fault", "redis0", "start"], "redis0: runs already"),
    ] {
        let refused = place.call(&words);
        let text = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && text.contains(problem),
            "{text}"
        );
    }

    assert!(runs(pids[0]));
    place.done(&["stop"]);
    all_gone(Path::new(&data), &pids);
    assert!(!place.0.join("services.env").exists());
    place.done(&["stop"]);
}
