//! The program itself: the tour as a check, and its help.

use std::process::{Command, Stdio};
use std::time::Duration;

fn nestcms(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nestcms"));
    command.args(arguments).stdin(Stdio::null());
    command
}

#[tokio::test]
async fn the_tour_plays_every_scene_and_every_check_holds() {
    let run = tokio::process::Command::from(nestcms(&["tour", "--services"]))
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(400), run)
        .await
        .expect("the tour ends")
        .expect("the tour starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let scenes: [(&str, usize); 7] = [
        ("A1", 4),
        ("A2", 4),
        ("A3", 6),
        ("A4", 4),
        ("A5", 3),
        ("A6", 2),
        ("D", 9),
    ];
    for (scene, checks) in scenes {
        for check in 1..=checks {
            let line = format!("ok      {:<6} ", format!("{scene}.c{check}"));
            assert!(text.contains(&line), "{scene}.c{check} is missing:\n{text}");
        }
    }
    // On the embedded store, and again on engines.
    let both = ["F1.c1", "F2.c1", "F2.c3", "F3.c1", "F6.c1"].map(|check| (check, 2));
    let one = ["F2.c4", "F3.c3", "F5.c3", "F7.c1", "F7.c2", "G.c1"].map(|check| (check, 1));
    for (check, times) in both.into_iter().chain(one) {
        let line = format!("ok      {check:<6} ");
        assert_eq!(text.matches(&line).count(), times, "{check}: {text}");
    }
    assert!(text.contains("51 of 51 checks held"), "{text}");
}

#[test]
fn every_command_explains_itself() {
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["app", "--help"],
        &["dead-letters", "--help"],
        &["tour", "--help"],
    ] {
        let output = nestcms(arguments).output().expect("the program starts");
        assert!(output.status.success(), "{arguments:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("Usage"), "{arguments:?}: {text}");
    }
}

#[test]
fn a_command_that_does_not_exist_is_refused() {
    let output = nestcms(&["fly"]).output().expect("the program starts");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("fly"), "{text}");
}
