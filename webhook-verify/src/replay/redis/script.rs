//! The commands, and what a key holds.
//!
//! ```text
//! prefix hex(replay key)  →  "r" token in 16 hex digits    reserved, ends with the lease
//!                            "c"                           committed, ends with the lifetime
//! ```

use std::time::Duration;

use redis::Cmd;

use crate::replay::Token;

const COMMITTED: &str = "c";

/// Who holds a key.
pub(super) enum Holder {
    Nobody,
    Us,
    Other,
    Committed,
}

impl Holder {
    pub(super) fn read(value: &str, token: Token) -> Self {
        match value {
            "" => Self::Nobody,
            COMMITTED => Self::Committed,
            _ if value == reserved(token) => Self::Us,
            _ => Self::Other,
        }
    }
}

pub(super) fn reserve(key: &str, token: Token, lease: Duration) -> Cmd {
    let mut set = redis::cmd("SET");
    set.arg(key).arg(reserved(token)).arg("NX");
    set.arg("PX").arg(whole_ms(lease));
    set
}

/// Who holds the key (empty for nobody), and for how many milliseconds.
pub(super) fn look(key: &str) -> Cmd {
    eval(
        "return {redis.call('GET', KEYS[1]) or '', redis.call('PTTL', KEYS[1])}",
        key,
    )
}

/// Remembers the delivery whoever holds it: the handler has run. Never shortens what is
/// remembered. Answers whether it was still ours, or committed before.
pub(super) fn commit(key: &str, token: Token, lifetime: Duration) -> Cmd {
    let mut commit = eval(
        "local held = redis.call('GET', KEYS[1]) \
         if held ~= 'c' or redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then \
         redis.call('SET', KEYS[1], 'c', 'PX', ARGV[2]) end \
         if held == ARGV[1] or held == 'c' then return 1 end \
         return 0",
        key,
    );
    commit.arg(reserved(token)).arg(whole_ms(lifetime));
    commit
}

/// Deletes the reservation if it is still the one of `token`.
pub(super) fn release(key: &str, token: Token) -> Cmd {
    let mut release = eval(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end \
         return 0",
        key,
    );
    release.arg(reserved(token));
    release
}

/// `EVAL` and not `EVALSHA`: the server knows a script it has seen anyway, the texts are
/// short, and a server that came back empty needs no second try.
fn eval(script: &str, key: &str) -> Cmd {
    let mut eval = redis::cmd("EVAL");
    eval.arg(script).arg(1).arg(key);
    eval
}

fn reserved(token: Token) -> String {
    format!("r{:016x}", token.0)
}

/// Rounded up, at least 1 (Redis refuses 0) and at most a hundred years (it refuses what
/// overflows).
fn whole_ms(lasts: Duration) -> u64 {
    const MOST: u64 = 100 * 365 * 24 * 60 * 60 * 1000;
    u64::try_from(lasts.as_nanos().div_ceil(1_000_000)).map_or(MOST, |ms| ms.clamp(1, MOST))
}
