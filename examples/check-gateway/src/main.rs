//! Load on a gateway while something goes wrong, or is changed: counts the requests that failed.
//!
//! The gateway runs in this program, or as the `gateway` program where its configuration file is
//! replaced; backends are processes of their own. Clients send one request after the other and try
//! nothing again, so that what the gateway does not make good is counted.

mod backend;
mod client;
mod program;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, io};

use clap::{Parser, Subcommand, ValueEnum};
use gateway_kit::{Config, Gateway, Handle};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use self::backend::Backend;
use self::client::Load;
use self::program::{Notice, Program};

/// Load on a gateway while its configuration is replaced, its backends are killed, and traffic is
/// shifted.
///
/// No GET may fail, and no POST may reach a backend twice. Exits with 1 if one does.
#[derive(Debug, Parser)]
#[command(name = "check-gateway", args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Requests of each run.
    #[arg(long, default_value_t = 500_000)]
    requests: u64,
    /// The `gateway` program; for the reloads.
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// Clients at once.
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// What happens meanwhile; all three, one after the other, by default.
    #[arg(long, value_delimiter = ',')]
    runs: Vec<Run>,
    #[command(subcommand)]
    command: Option<Part>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Run {
    /// Another configuration each second, by a changed file and by SIGHUP in turns.
    Reload,
    /// A backend of three is killed (SIGKILL) and started again, one after the other.
    Kill,
    /// All traffic is shifted from one backend to the other and back by weights.
    Shift,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Serves as a backend; for this program's own use.
    #[command(hide = true)]
    Backend {
        address: SocketAddr,
        number: usize,
        log: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Part::Backend {
        address,
        number,
        log,
    }) = &arguments.command
    {
        let served = backend::serve(*address, *number, log).await;
        eprintln!("check-gateway: backend {number}: {served:?}");
        return ExitCode::FAILURE;
    }
    let runs = match arguments.runs.as_slice() {
        [] => vec![Run::Kill, Run::Shift, Run::Reload],
        some => some.to_vec(),
    };
    let mut good = true;
    for run in runs {
        let ended = tokio::select! {
            ended = one(&arguments, run) => ended,
            _ = tokio::signal::ctrl_c() => Err(io::Error::other("interrupted")),
        };
        match ended {
            Ok(held) => good &= held,
            Err(error) => {
                eprintln!("check-gateway: {run:?}: {error}");
                return ExitCode::from(2);
            }
        }
    }
    match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// One run in a folder of its own; whether nothing failed that may not.
async fn one(arguments: &Arguments, run: Run) -> io::Result<bool> {
    let name = format!("check-gateway-{}-{run:?}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder)?;
    let held = under_load(arguments, run, &folder).await;
    let _ = fs::remove_dir_all(&folder);
    held
}

async fn under_load(arguments: &Arguments, run: Run, folder: &Path) -> io::Result<bool> {
    let mut backends = Vec::new();
    for number in 0..if run == Run::Kill { 3 } else { 2 } {
        backends.push(Backend::start(number, folder).await?);
    }
    let (address, served) = serve(arguments, run, &backends, folder).await?;
    let (only, answering) = watch::channel(None);
    // Where endpoints are killed a POST may fail, and is counted; elsewhere none may.
    let load = Load::new(address, arguments.requests, 4, answering);
    let clients = (0..arguments.clients).map(|_| tokio::spawn(Arc::clone(&load).client()));
    let clients: Vec<_> = clients.collect();
    let (stop, stopped) = oneshot::channel();
    let meanwhile = tokio::spawn(meanwhile(run, backends, served, only, stopped));
    let mut acknowledged = Vec::new();
    for client in clients {
        acknowledged.extend(client.await?);
    }
    let _ = stop.send(());
    let (backends, times) = meanwhile.await??;
    report(run, &load, &acknowledged, &backends, times)
}

/// The gateway under load.
enum Served {
    Here(Handle),
    Program(Box<Program>),
}

async fn serve(
    arguments: &Arguments,
    run: Run,
    backends: &[Backend],
    folder: &Path,
) -> io::Result<(SocketAddr, Served)> {
    if run == Run::Reload {
        let program = arguments.gateway.as_deref();
        let program = program.ok_or_else(|| io::Error::other("reload needs --gateway PROGRAM"))?;
        let address = Program::address().await?;
        let config = config(backends, address, 0);
        let program = Program::start(program, address, &config, folder).await?;
        return Ok((address, Served::Program(Box::new(program))));
    }
    let config = config(backends, ([127, 0, 0, 1], 0).into(), 0);
    let config = Config::from_toml(&config).map_err(io::Error::other)?;
    let gateway = Gateway::bind(config).await.map_err(io::Error::other)?;
    let (address, handle) = (gateway.local_addr(), gateway.handle());
    // Ends with this program.
    tokio::spawn(gateway.serve(std::future::pending()));
    Ok((address, Served::Here(handle)))
}

/// What goes on until the clients are done, and how often it did.
async fn meanwhile(
    run: Run,
    mut backends: Vec<Backend>,
    served: Served,
    only: watch::Sender<Option<u64>>,
    mut stopped: oneshot::Receiver<()>,
) -> io::Result<(Vec<Backend>, usize)> {
    let mut times = 0;
    loop {
        let pause = match run {
            Run::Reload => Duration::from_secs(1),
            Run::Kill | Run::Shift => Duration::from_millis(500),
        };
        tokio::select! {
            _ = &mut stopped => return Ok((backends, times)),
            () = sleep(pause) => {}
        }
        times += 1;
        match &served {
            Served::Program(program) => {
                let config = config(&backends, program.address, times);
                program.reload(&config, Notice::of(times)).await?;
            }
            Served::Here(handle) if run == Run::Shift => shift(&backends, handle, &only, times),
            Served::Here(_) => {
                let victim = times % backends.len();
                backends[victim].kill().await?;
                sleep(Duration::from_millis(200)).await;
                backends[victim].restart().await?;
            }
        }
    }
}

/// From 100/0 to 0/100, or back. Until the weights are set either may answer.
fn shift(backends: &[Backend], handle: &Handle, only: &watch::Sender<Option<u64>>, times: usize) {
    only.send_replace(None);
    let (to, from) = (times % 2, 1 - times % 2);
    let set = |which: usize, weight| {
        handle.set_weight("shop", &backends[which].address.to_string(), weight)
    };
    // The new one first, so that there is always one.
    if set(to, 100) && set(from, 0) {
        only.send_replace(Some(to as u64));
    }
}

/// The configuration of that turn: each has other limits of time than the one before, and another
/// route, and each third has only the first endpoint.
fn config(backends: &[Backend], listen: SocketAddr, turn: usize) -> String {
    let some = if turn % 3 == 2 { 1 } else { backends.len() };
    let urls = backends[..some].iter();
    let urls: Vec<String> = urls
        .map(|one| format!("\"http://{}\"", one.address))
        .collect();
    let (urls, seconds) = (urls.join(", "), 10 + turn % 7);
    // Said in this configuration for the next.
    let reload = match Notice::of(turn + 1) {
        Notice::File => "{ interval = \"50ms\" }",
        Notice::Signal => "false",
    };
    format!(
        "listen = \"{listen}\"
        reload = {reload}
        [[route]]
        prefix = \"/\"
        upstream = \"shop\"
        [[route]]
        prefix = \"/turn-{turn}\"
        upstream = \"shop\"
        [upstream.shop]
        endpoints = [{urls}]
        connect_timeout = \"{seconds}s\"
        response_timeout = \"{seconds}s\"
        breaker = {{ consecutive_failures = 5, reset_timeout = \"100ms\" }}
        replay_bytes = 1024
        retry = {{ share = 0.2, floor_per_second = 100 }}
        [log]
        level = \"warn\"
        "
    )
}

fn report(
    run: Run,
    load: &Load,
    acknowledged: &[u64],
    backends: &[Backend],
    times: usize,
) -> io::Result<bool> {
    let mut seen: HashMap<u64, u64> = HashMap::new();
    for backend in backends {
        for id in backend.posts()? {
            *seen.entry(id).or_default() += 1;
        }
    }
    let doubled = seen.values().filter(|times| **times > 1).count();
    let lost = acknowledged.iter().filter(|id| !seen.contains_key(id));
    let lost = lost.count();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (gets, failed_gets) = (count(&load.gets), count(&load.failed_gets));
    let (posts, failed_posts) = (count(&load.posts), count(&load.failed_posts));
    let elsewhere = count(&load.elsewhere);
    println!(
        "{run:?}, {times} times: {gets} GETs, {failed_gets} failed; {posts} POSTs, {failed_posts} \
         failed, {doubled} doubled, {lost} lost; {elsewhere} answered by the wrong backend"
    );
    let posts_hold = failed_posts == 0 || run == Run::Kill;
    Ok(failed_gets == 0 && doubled == 0 && lost == 0 && elsewhere == 0 && posts_hold)
}
