//! `nestcms dead-letters`.

use std::{path::Path, process::Command};

use nestcms::{
    domain::event::Timestamp,
    ports::{Attempt, Outbox, PaymentRepository},
};

use super::contract::{at, event, ids, payment, sqlite};

#[tokio::test]
async fn operators_list_show_and_replay_dead_letters() {
    let (dir, store) = sqlite().await;
    let created = [event("p", "e-1")];
    store.create(&payment("p", "p"), &created).await.unwrap();
    let mut entry = store.due(at(1), 1).await.unwrap().remove(0);
    entry.history.push(Attempt {
        at: Timestamp::from_unix(at(1)),
        reason: "no such currency".to_owned(),
    });
    store.bury(&entry, at(1)).await.unwrap();
    let file = dir.0.join("outbox.db");

    let (done, out, err) = run(&file, &["list"]);
    assert!(done && err.contains("1 dead letters"), "{err}");
    for part in [
        "e-1",
        "outbox",
        "payment.success",
        "1 tries",
        "no such currency",
    ] {
        assert!(out.contains(part), "no {part} in {out}");
    }
    let (done, out, _) = run(&file, &["show", "e-1"]);
    let letter: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(
        done && letter["history"][0]["reason"] == "no such currency",
        "{out}"
    );

    let (done, out, _) = run(&file, &["replay", "e-1"]);
    assert!(done && out.contains("in the outbox again"), "{out}");
    assert_eq!(ids(&store.due(at(1), 10).await.unwrap()), ["e-1"]);
    for command in ["show", "replay"] {
        let (done, _, err) = run(&file, &[command, "e-1"]);
        assert!(
            !done && err.contains("there is no dead letter e-1"),
            "{err}"
        );
    }
    let (done, _, err) = run(&dir.0.join("none.db"), &["list"]);
    assert!(!done && err.contains("there is no database"), "{err}");
    assert!(!dir.0.join("none.db").exists());
    let (done, out, _) = run(&file, &["--help"]);
    assert!(done && out.contains("replay"), "{out}");
}

/// Whether it went well, and what it said.
fn run(file: &Path, arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_nestcms"))
        .arg("dead-letters")
        .args(arguments)
        .env("NESTCMS_DATABASE_PATH", file)
        .env("NESTCMS_PAYTABS_SERVER_KEY", "a-server-key-for-tests")
        .env(
            "NESTCMS_AUTH_JWT_SECRET",
            "a-secret-for-tests-of-at-least-32-bytes",
        )
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}
