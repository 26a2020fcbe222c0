//! Resilience policies as [`tower`](https://docs.rs/tower) layers, one by one or as whole stacks: circuit
//! breaker, rate limit (one quota for all, or one per key), bulkhead, adaptive limit, load shedding, retry
//! and hedge, timeouts under a deadline that goes with the request, fallback, single flight, cache,
//! balancing, the read/write split of a replicated store, and faults on purpose.
//!
//! Every layer is a thin wrapper around a handle of `resilience-core`. Clones of a
//! service share the handle, so the policy counts them together; the same handle can be
//! kept aside to read the state, subscribe to events, or guard calls that are not tower
//! services.
//!
//! # Which order
//!
//! From the outside in, as they are added to a `ServiceBuilder`, each with the reason; nobody needs
//! all of them:
//!
//! ```text
//! load shed    on a server: what matters least is refused first, and costs next to nothing
//! rate limit   so many calls in a time; refused before anything is spent on them
//! fallback     answers for all that follows, whatever fails or refuses there
//! cache        what is known needs nothing of what follows
//! coalesce     calls for one key share one of what follows
//! deadline     of the call in all, known to everything below
//! retry        outside of what judges and limits one attempt
//! hedge        a second attempt beside a slow one, out of the budget of the retries
//! balance      picks the endpoint of an attempt; what follows is then each endpoint's own
//! breaker      sees one outcome per attempt, timeouts included
//! bulkhead     so many attempts at once; or the adaptive limit: as many as the upstream bears
//! timeout      per attempt, so that a slow upstream is a failure to the breaker; as a deadline it
//!              also tells the upstream what is left
//! chaos        stands for the upstream; switched off unless it is tried
//! the client
//! ```
//!
//! Telemetry of calls goes around all of it, and that of attempts inside of the retry. Each module
//! says under "Where it stands" what goes wrong elsewhere.
//!
//! `stack` (feature of that name) has rate limit, deadline, retry, hedge, breaker, bulkhead or adaptive
//! limit, and timeout built in, in this order; the others go around it, balance and chaos within. A
//! breaker outside of balance judges the upstream as a whole, one inside each endpoint.
//!
//! A timeout *outside* the breaker drops the breaker's future, which the breaker sees as
//! an abandoned call; its `on_cancel` says what that means.
//!
//! # Promises
//!
//! - No layer boxes. None allocates in `call` or `poll`, with these exceptions: a refusal that
//!   becomes a response; the fields of a limit that an admitted response is told; a deadline that
//!   goes into a request's extensions or headers; a call that waits in line; a request whose body is
//!   kept for a retry, or whose head is for a hedge; a hedge, and a call that others may wait for,
//!   which are boxed (an answer from the cache is not); an answer of a stack that was told to record
//!   admitted calls; and the first call of a thread on a breaker or a load shedder, which makes a
//!   line of counters.
//! - No layer locks, with these exceptions: a limit, a breaker or a bulkhead per key, for a key that
//!   it does not hold yet, takes a short lock; calls that wait in line or for the same answer share
//!   one; a breaker that changes its state takes that of its subscribers; an adaptive limit takes
//!   one when a call ends that says something, a load shedder at the end of an interval; and a
//!   timer, of a timeout or a hedge whose inner service is pending or of a call in line, takes
//!   tokio's own.
//! - The policies that refuse (breaker, rate limit) take nothing in `poll_ready`: a clone
//!   that became ready and was never called holds nothing.
//!   A call that waits in line is the other way round; see `rate_limit::wait`.
//! - The inner service that is called is the very one that was polled ready, never a fresh
//!   clone of it.
//!
//! # Features
//!
//! | feature | gives | default |
//! |---|---|---|
//! | `breaker` | `breaker` | yes |
//! | `rate-limit` | `rate_limit` | yes |
//! | `adaptive` | `adaptive`: as many calls at once as the upstream bears | no |
//! | `balance` | `balance`: calls over several endpoints, each of which is a service | no |
//! | `bulkhead` | `bulkhead`, on tokio's clock | no |
//! | `cache` | `cache`: answers are kept by a rule of one's own; with `http` also `cache::http` | no |
//! | `chaos` | `chaos`: faults on purpose, on tokio's clock | no |
//! | `coalesce` | `coalesce`: calls for the same key share one call; with `http` also `coalesce::http` | no |
//! | `fallback` | `fallback`: another answer where there is none | no |
//! | `hedge` | `hedge`: a second attempt beside a slow one, on tokio's clock; with `http` also `hedge::http` | no |
//! | `load-shed` | `load_shed`: calls that matter least are refused first, on tokio's clock | no |
//! | `redis` | with `rate-limit` `rate_limit::redis`: one quota for several processes | no |
//! | `wait` | `rate_limit::wait`, on tokio's clock | no |
//! | `client-key` | `client_key`: whom a request counts for, behind trusted proxies | no |
//! | `read-write` | `read_write`: each call goes to the right node of a replicated store, on tokio; with `http` also `read_write::http`, and signed tokens in cookies and headers | no |
//! | `postgres`, `mariadb`, `redis` | engines for `read-write` | no |
//! | `serde` | settings from configuration files | no |
//! | `retry` | `retry`, on tokio's clock; with `http` also `retry::http` | no |
//! | `timeout` | `timeout`, `timeout::deadline`, on tokio's clock; with `http` also `timeout::deadline::http` | no |
//! | `http` | `refusal`; `breaker::http` and `breaker::grpc` with `breaker`, `rate_limit::http` with `rate-limit` | no |
//! | `metrics` | `telemetry`: figures of policies, and durations and outcomes of calls, by the facade of crate `metrics` | no |
//! | `tracing` | `telemetry`: a span per call, and changes of policies as events | no |
//! | `stack` | `stack`: whole stacks as one layer, by presets, policy by policy, or (with `serde`) out of a file; turns on what it needs | no |
//! | `tonic` | `http`, and layered services keep the name that a tonic server routes by | no |
//! | `test-util` | `sim`: a simulator for stacks, on tokio's paused clock | no |
//! | `fast-clock` | breakers and limiters read the CPU's time stamp counter by default | yes |

#[cfg(feature = "adaptive")]
pub mod adaptive;
pub mod admission;
#[cfg(feature = "balance")]
pub mod balance;
#[cfg(feature = "breaker")]
pub mod breaker;
#[cfg(feature = "bulkhead")]
pub mod bulkhead;
#[cfg(feature = "cache")]
pub mod cache;
#[cfg(feature = "chaos")]
pub mod chaos;
#[cfg(feature = "client-key")]
pub mod client_key;
#[cfg(feature = "coalesce")]
pub mod coalesce;
#[cfg(feature = "fallback")]
pub mod fallback;
#[cfg(feature = "hedge")]
pub mod hedge;
#[cfg(feature = "load-shed")]
pub mod load_shed;
#[cfg(feature = "rate-limit")]
pub mod rate_limit;
#[cfg(feature = "read-write")]
pub mod read_write;
// What the policies that refuse have in common.
#[cfg(all(
    feature = "http",
    any(
        feature = "adaptive",
        feature = "breaker",
        feature = "bulkhead",
        feature = "coalesce",
        feature = "load-shed",
        feature = "rate-limit",
        feature = "timeout"
    )
))]
pub mod refusal;
#[cfg(feature = "retry")]
pub mod retry;
#[cfg(feature = "test-util")]
pub mod sim;
#[cfg(feature = "stack")]
pub mod stack;
#[cfg(any(feature = "metrics", feature = "tracing"))]
pub mod telemetry;
#[cfg(feature = "timeout")]
pub mod timeout;
#[cfg(all(
    feature = "tonic",
    any(
        feature = "adaptive",
        feature = "breaker",
        feature = "bulkhead",
        feature = "load-shed",
        feature = "rate-limit",
        feature = "timeout"
    )
))]
mod tonic;

/// Compiles the README's programs.
#[cfg(all(
    doctest,
    feature = "breaker",
    feature = "client-key",
    feature = "http",
    feature = "metrics",
    feature = "rate-limit",
    feature = "stack",
    feature = "timeout",
    feature = "tracing",
    feature = "wait"
))]
#[doc = include_str!("../README.md")]
struct Readme;
