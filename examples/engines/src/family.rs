//! Processes with all that they have started.
//!
//! A process group is not enough: every backend of PostgreSQL makes a session of
//! its own.

use std::collections::HashMap;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// One process as `/proc` shows it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    parent: u32,
    state: char,
}

fn seen() -> HashMap<u32, Seen> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let id: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((id, look(id)?))
        })
        .collect()
}

fn look(id: u32) -> Option<Seen> {
    // `id (name) state parent …`; the name may hold anything, also `) `.
    let line = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, rest) = line.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some(Seen {
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
    })
}

/// `leader` and all that descends from it, parents first.
pub(crate) fn of(leader: u32) -> Vec<u32> {
    let all = seen();
    let mut family = vec![leader];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(
            all.iter()
                .filter(|(_, seen)| seen.parent == parent)
                .map(|(id, _)| *id),
        );
        next += 1;
    }
    family
}

/// Whether the process runs (a zombie does not).
pub(crate) fn alive(id: u32) -> bool {
    look(id).is_some_and(|seen| !matches!(seen.state, 'Z' | 'X'))
}

fn stopped(id: u32) -> bool {
    look(id).is_none_or(|seen| matches!(seen.state, 'T' | 't' | 'Z' | 'X'))
}

pub(crate) fn signal(id: u32, signal: Signal) {
    let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) else {
        return;
    };
    // A process that is gone already is what was wanted.
    let _ = kill_process(pid, signal);
}

/// Sends SIGSTOP to the whole family; `true` once every member is stopped.
///
/// To be called until it is: a child may be forked between two looks.
pub(crate) fn freeze(leader: u32) -> bool {
    signal(leader, Signal::STOP);
    let family = of(leader);
    let moving: Vec<_> = family.into_iter().filter(|id| !stopped(*id)).collect();
    for id in &moving {
        signal(*id, Signal::STOP);
    }
    moving.is_empty()
}

/// Sends SIGCONT to the whole family, children first.
pub(crate) fn thaw(leader: u32) {
    for id in of(leader).into_iter().rev() {
        signal(id, Signal::CONT);
    }
}

/// Sends SIGKILL to the whole family; gives it, to see whether it is gone.
pub(crate) fn kill(leader: u32) -> Vec<u32> {
    // Stopped first, so that it forks no more while its children are looked for.
    signal(leader, Signal::STOP);
    let family = of(leader);
    for id in family.iter().rev() {
        signal(*id, Signal::KILL);
    }
    family
}
