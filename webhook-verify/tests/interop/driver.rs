//! The programs in `interop/` that hold the providers' libraries.

use std::{
    env, fmt,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use serde_json::Value;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Language {
    Python,
    Node,
    Php,
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Python => "Python",
            Self::Node => "Node",
            Self::Php => "PHP",
        })
    }
}

/// One program, asked by one thread.
#[derive(Debug)]
pub(crate) struct Driver {
    language: Language,
    child: Child,
    to: ChildStdin,
    answers: Receiver<String>,
}

impl Driver {
    /// # Panics
    /// When the libraries are not installed: this test must never pass without them.
    pub(crate) fn start(language: Language) -> Self {
        let installed = env::var_os("WEBHOOK_INTEROP").map(PathBuf::from);
        let installed = installed.expect("WEBHOOK_INTEROP is not set: run `make interop`");
        let program = |file: &str| {
            let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "interop", file]
                .iter()
                .collect();
            path
        };
        let mut command = match language {
            Language::Python => {
                let mut python = Command::new(installed.join("py/bin/python"));
                python.arg(program("drive.py"));
                python
            }
            // It finds its libraries beside itself.
            Language::Node => {
                let mut node = Command::new(installed.join("node/run"));
                node.arg("drive.mjs").current_dir(installed.join("node"));
                node
            }
            Language::Php => {
                let mut php = Command::new("php");
                php.arg(program("drive.php"));
                php
            }
        };
        let log = File::create(installed.join(format!("{language}.log"))).unwrap();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{language}: {error}: run `make interop`"));
        let to = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (send, answers) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            language,
            child,
            to,
            answers,
        }
    }

    /// The answer, or the error that it tells of.
    ///
    /// # Panics
    /// When the program is gone or says nothing for a minute.
    pub(crate) fn ask(&mut self, request: &Value) -> Result<Value, String> {
        writeln!(self.to, "{request}").unwrap();
        let answer = self.answers.recv_timeout(Duration::from_secs(60));
        let answer = answer.unwrap_or_else(|error| {
            let Self { language, .. } = self;
            panic!("{language} does not answer ({error}): see {language}.log where it is installed")
        });
        let answer: Value = serde_json::from_str(&answer).unwrap();
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
