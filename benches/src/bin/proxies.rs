//! Measures the gateway beside other proxies; `benches/gateway/run.sh` builds and installs what
//! it needs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{env, fs, process};

use benches::machine;
use benches::proxies::{
    BEGIN, END, Figures, LOAD_CORE, Programs, Proxy, Row, Running, Setup, cpu_seconds, latency,
    listen, resident, table, upstream,
};
use benches::ratios::splice_between;

const USAGE: &str = "\
usage: proxies --gateway PROGRAM --peers FOLDER [--rounds N] [--seconds N] [--write FILE]

Measures CPU time per request, latency and memory of the gateway, HAProxy, nginx, Pingora and a
bare hyper proxy in turns, and prints a table of them.

  --gateway PROGRAM  the gateway, built for release
  --peers FOLDER     with the programs `pingora` and `hyper`
  --rounds N         turns of all proxies (default 4)
  --seconds N        load on one proxy in one turn (default 3)
  --write FILE       also puts the table between the two markers in FILE";

struct Options {
    gateway: PathBuf,
    peers: PathBuf,
    rounds: u32,
    seconds: u32,
    write: Option<PathBuf>,
}

/// Connections of the load generator.
const CONNECTIONS: u32 = 32;
/// Requests per second of the latency row.
const PACE: u32 = 400;

fn main() -> ExitCode {
    let done = match options() {
        Ok(Some(options)) => run(&options),
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => Err(format!("{error}\n\n{USAGE}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxies: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `None` if only help is wanted.
fn options() -> Result<Option<Options>, String> {
    let mut options = Options {
        gateway: PathBuf::new(),
        peers: PathBuf::new(),
        rounds: 4,
        seconds: 3,
        write: None,
    };
    let mut arguments = env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--help" || name == "-h" {
            return Ok(None);
        }
        let Some(value) = arguments.next() else {
            return Err(format!("{name} needs a value, or is not known"));
        };
        let number = || match value.parse() {
            Ok(0) | Err(_) => Err(format!("{name} {value}: not a number from 1")),
            Ok(number) => Ok(number),
        };
        match name.as_str() {
            "--gateway" => options.gateway = value.into(),
            "--peers" => options.peers = value.into(),
            "--rounds" => options.rounds = number()?,
            "--seconds" => options.seconds = number()?,
            "--write" => options.write = Some(value.into()),
            _ => return Err(format!("unknown option {name}")),
        }
    }
    if !options.gateway.is_file() || !options.peers.is_dir() {
        return Err("--gateway and --peers must be there".to_owned());
    }
    Ok(Some(options))
}

fn run(options: &Options) -> Result<(), String> {
    // Asked before this program has one core only.
    let machine = machine::describe();
    pin()?;
    let folder = env::temp_dir().join(format!("bench-gateway-{}", process::id()));
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(&folder).map_err(failed)?;
    let programs = Programs {
        gateway: options.gateway.clone(),
        peers: options.peers.clone(),
        folder: folder.clone(),
    };
    let measured = measure(&programs, options);
    let _ = fs::remove_dir_all(&folder);
    let rows = measured?;
    let how = format!(
        "CPU time (utime and stime) of a proxy of one core per request, at {CONNECTIONS} \
         connections, in microseconds; the upstream (nginx, two addresses) and wrk have the other \
         core. Medians of {} rounds of {} s; in brackets the ratio to HAProxy, taken within each \
         round. Pingora and bare hyper do less than the others: no routes, no breaker, no check of \
         what is passed on, and Pingora the same in the second row. Figures above their goal are in bold.",
        options.rounds, options.seconds
    );
    let table = table(&rows, &machine, &how);
    print!("{table}");
    match &options.write {
        Some(file) => write(file, &table),
        None => Ok(()),
    }
}

/// Puts this program, and so wrk, onto the core of the load.
fn pin() -> Result<(), String> {
    let (core, id) = (LOAD_CORE.to_string(), process::id().to_string());
    let pinned = Command::new("taskset").args(["-cp", &core, &id]).output();
    match pinned {
        Ok(pinned) if pinned.status.success() => Ok(()),
        Ok(pinned) => Err(String::from_utf8_lossy(&pinned.stderr).into_owned()),
        Err(error) => Err(format!("taskset: {error}")),
    }
}

fn write(file: &Path, table: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", file.display());
    let document = fs::read_to_string(file).map_err(failed)?;
    let document = splice_between(&document, BEGIN, END, table)
        .map_err(|error| format!("{}: {error}", file.display()))?;
    fs::write(file, document).map_err(failed)
}

const BASIC: Row = Row {
    what: "128 B: routing, balancing, breaker, metrics, request id",
    unit: "µs",
    over_haproxy: Some(1.25),
    over_pingora: Some(0.75),
    at_most: None,
};
const FULL: Row = Row {
    what: "the same with rate limit, CORS, security headers, access log",
    unit: "µs",
    over_haproxy: Some(1.45),
    over_pingora: Some(0.9),
    at_most: None,
};
const LARGE: Row = Row {
    what: "100 KiB",
    unit: "µs",
    over_haproxy: Some(1.05),
    over_pingora: None,
    at_most: None,
};
const ADDED: Row = Row {
    what: "p50 added at 400 requests/s",
    unit: "µs",
    over_haproxy: Some(1.15),
    over_pingora: None,
    at_most: None,
};
const RESIDENT: Row = Row {
    what: "resident memory after the first row",
    unit: "MB",
    over_haproxy: None,
    over_pingora: None,
    at_most: Some(20.0),
};

fn measure(programs: &Programs, options: &Options) -> Result<Vec<(Row, Figures)>, String> {
    let _upstream = programs.upstream()?;
    let mut rows = [BASIC, FULL, LARGE, ADDED, RESIDENT].map(|row| (row, Figures::default()));
    let [basic, full, large, added, memory] = &mut rows;
    for round in 0..options.rounds {
        let direct = paced(upstream())?;
        // Each round begins with another.
        let mut turn = Proxy::ALL;
        turn.rotate_left(round as usize % Proxy::ALL.len());
        for proxy in turn {
            if let Some(running) = programs.start(proxy, Setup::Basic)? {
                basic.1.add(proxy, cpu(options, &running, "/small")?);
                let bytes = resident(running.id()).ok_or("no /proc of the proxy")?;
                memory.1.add(proxy, bytes as f64 / 1e6);
                large.1.add(proxy, cpu(options, &running, "/large")?);
                added.1.add(proxy, paced(listen())? - direct);
            }
            if let Some(running) = programs.start(proxy, Setup::Full)? {
                full.1.add(proxy, cpu(options, &running, "/small")?);
            }
        }
        eprintln!("round {} of {}", round + 1, options.rounds);
    }
    Ok(rows.into())
}

/// Microseconds of CPU time per request.
fn cpu(options: &Options, proxy: &Running, path: &str) -> Result<f64, String> {
    // Connections are opened, and caches filled.
    load(1, path)?;
    let time = || cpu_seconds(proxy.id()).ok_or("no /proc of the proxy");
    let before = time()?;
    let requests = load(options.seconds, path)?;
    Ok((time()? - before) * 1e6 / requests)
}

/// Loads the proxy with wrk; how many requests were answered, all with 200.
fn load(seconds: u32, path: &str) -> Result<f64, String> {
    let wrk = Command::new("wrk")
        .args(["-t1", &format!("-c{CONNECTIONS}")])
        .arg(format!("-d{seconds}s"))
        .arg(format!("http://{}{path}", listen()))
        .output()
        .map_err(|error| format!("wrk: {error}"))?;
    let said = String::from_utf8_lossy(&wrk.stdout);
    let line = said.lines().find(|line| line.contains(" requests in "));
    let requests = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    match requests {
        Some(requests) if requests > 0.0 && !said.contains("Non-2xx") => Ok(requests),
        _ => Err(format!("wrk: {said}")),
    }
}

/// The p50 of requests at a steady pace, in microseconds.
fn paced(address: SocketAddr) -> Result<f64, String> {
    let pause = Duration::from_secs(1) / PACE;
    let latency = latency(address, "/small", PACE as usize, pause);
    latency.map_err(|error| format!("{address}: {error}"))
}
