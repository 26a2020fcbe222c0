//! The `services` program: real engines for development, in the foreground or detached.

mod control;
mod fault;
mod running;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::control::Control;
use crate::fault::FaultArguments;
use crate::running::Running;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Starts real PostgreSQL, MariaDB, Redis and NATS on free ports of loopback, with
/// data that lives as long as they do, and makes them fail on demand.
#[derive(Debug, Parser)]
#[command(name = "services", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Start engines and print their URLs as lines for an environment file.
    ///
    /// They are also in `services.env` in the directory (to be read by its owner alone:
    /// they hold passwords). Ends with `services stop`, SIGINT or SIGTERM.
    Start(StartArguments),
    /// End what was started in the directory and remove its data.
    Stop(Place),
    /// List the servers: name, state, role, process, URL.
    Status(Place),
    /// Print the URLs again.
    Env(Place),
    /// Make a server fail, or recover.
    Fault(FaultArguments),
}

#[derive(Args, Debug)]
struct StartArguments {
    #[command(flatten)]
    engines: Engines,
    #[command(flatten)]
    place: Place,
    /// Replicas of PostgreSQL, MariaDB and Redis, each [default: 3, 1 and 2].
    #[arg(long)]
    replicas: Option<usize>,
    /// Sentinels of Redis; without any its streams can be cut.
    #[arg(long, default_value_t = 0)]
    sentinels: usize,
    /// Return once all are up, and leave them running.
    #[arg(long)]
    detach: bool,
}

/// All, when none is named.
#[derive(Args, Clone, Copy, Debug)]
struct Engines {
    /// PostgreSQL: pg0 (the primary), pg1 and so on.
    #[arg(long)]
    postgres: bool,
    /// MariaDB: mariadb0 (the primary), mariadb1 and so on.
    #[arg(long)]
    mariadb: bool,
    /// Redis: redis0 (the primary), redis1 and so on, sentinel0 and so on.
    #[arg(long)]
    redis: bool,
    /// NATS with JetStream: nats0.
    #[arg(long)]
    nats: bool,
    /// All of them, as when none is named.
    #[arg(long)]
    all: bool,
}

impl Engines {
    fn or_all(self) -> Self {
        let named = self.postgres || self.mariadb || self.redis || self.nats;
        let all = self.all || !named;
        Self {
            postgres: all || self.postgres,
            mariadb: all || self.mariadb,
            redis: all || self.redis,
            nats: all || self.nats,
            all,
        }
    }
}

/// Where a set of services is found again.
#[derive(Args, Debug)]
struct Place {
    /// Directory of the URLs, the control socket and the log (the data is in the
    /// system's temporary directory).
    #[arg(long, default_value = "target/services", env = "SERVICES_DIR")]
    dir: PathBuf,
}

impl Place {
    fn env_file(&self) -> PathBuf {
        self.dir.join("services.env")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("services.log")
    }

    /// Locked while services start and run.
    fn lock(&self) -> Option<File> {
        let mut options = File::options();
        options
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.dir.join("lock"))
            .ok()
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("control")
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        What::Start(start) if start.detach => detach(&start.place).await,
        What::Start(start) => foreground(start).await,
        What::Stop(place) => stop(&place).await,
        What::Status(place) => ask(&place, "status").await,
        What::Env(place) => ask(&place, "env").await,
        What::Fault(fault) => ask(&fault.place, &fault::request()).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("services: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn foreground(start: StartArguments) -> Result<(), Failure> {
    let place = &start.place;
    fs::create_dir_all(&place.dir).map_err(in_file("make", &place.dir))?;
    let lock = place
        .lock()
        .ok_or("the lock of the directory cannot be opened")?;
    if lock.try_lock().is_err() {
        return Err(format!("services already run in {}", place.dir.display()).into());
    }
    let mut ended = control::Ended::listen()?;
    let running = tokio::select! {
        running = Running::start(&start) => running?,
        () = ended.wait() => return Ok(()),
    };
    let env = running.env();
    let control = Control::listen(&place.socket())?;
    control::write_private(&place.env_file(), &env)?;
    print!("{env}");
    let stopper = tokio::select! {
        stopper = control.serve(&running, &env) => Some(stopper),
        () = ended.wait() => None,
    };
    drop(running);
    drop(control);
    let _ = fs::remove_file(place.env_file());
    drop(lock);
    // Only now, so that `stop` returns when all is gone.
    if let Some(stopper) = stopper {
        control::answer(stopper, Ok(String::new())).await;
    }
    Ok(())
}

/// Starts this program once more, without `--detach`, in a process group of its own.
async fn detach(place: &Place) -> Result<(), Failure> {
    fs::create_dir_all(&place.dir).map_err(in_file("make", &place.dir))?;
    if control::ask(&place.socket(), "status").await.is_ok() {
        return Err(format!("services already run in {}", place.dir.display()).into());
    }
    let log = place.log();
    // It prints the URLs.
    control::write_private(&log, "")?;
    let out = File::options()
        .append(true)
        .open(&log)
        .map_err(in_file("open", &log))?;
    let err = out.try_clone()?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(
            std::env::args_os()
                .skip(1)
                .filter(|word| word != "--detach"),
        )
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()?;
    loop {
        if let Some(status) = child.try_wait()? {
            let mut text = String::new();
            File::open(&log)?.read_to_string(&mut text)?;
            return Err(format!("did not start ({status})\n{}", text.trim_end()).into());
        }
        // Every wait of the start has a bound, so this one ends.
        if let Ok(env) = control::ask(&place.socket(), "env").await {
            print!("{env}");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn stop(place: &Place) -> Result<(), Failure> {
    // While it starts it holds the lock and does not listen yet.
    while !control::listens(&place.socket()).await {
        if place.lock().is_none_or(|lock| lock.try_lock().is_ok()) {
            eprintln!("services: nothing runs in {}", place.dir.display());
            let _ = fs::remove_file(place.env_file());
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ask(place, "stop").await
}

async fn ask(place: &Place, request: &str) -> Result<(), Failure> {
    print!("{}", control::ask(&place.socket(), request).await?);
    Ok(())
}

fn in_file(verb: &str, path: &Path) -> impl FnOnce(std::io::Error) -> String {
    let what = format!("{verb} {}", path.display());
    move |error| format!("{what}: {error}")
}
