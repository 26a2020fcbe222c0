//! The paths of the table, their goals, and the benches that stand for them.

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// What is called.
    pub path: &'static str,
    /// What the figures are: `× fetch_add`, ns, bytes.
    pub unit: &'static str,
    /// The most that is allowed, for each of the figures.
    pub goal: &'static [f64],
    /// Ours.
    pub ours: &'static [Measure],
    /// What it is compared with.
    pub peers: &'static [Peer],
}

/// A peer's figures for a path.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// As its crate is called.
    pub name: &'static str,
    /// As many as ours.
    pub figures: &'static [Measure],
}

/// One figure: a bench, divided by another or as it is.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// `[group, what, parameter]`.
    pub of: [&'static str; 3],
    /// What it is divided by.
    pub over: Option<[&'static str; 3]>,
}

/// `what` on one and on two threads, each over the floor of the group.
macro_rules! threads {
    ($group:literal, $what:literal, over $floor:literal) => {
        &[
            Measure {
                of: [$group, $what, "1"],
                over: Some([$group, $floor, "1"]),
            },
            Measure {
                of: [$group, $what, "2"],
                over: Some([$group, $floor, "2"]),
            },
        ]
    };
    ($group:literal, $what:literal) => {
        &[
            Measure {
                of: [$group, $what, "1"],
                over: None,
            },
            Measure {
                of: [$group, $what, "2"],
                over: None,
            },
        ]
    };
}

/// One figure as it is.
macro_rules! one {
    ($group:literal, $what:literal) => {
        &[Measure {
            of: [$group, $what, "1"],
            over: None,
        }]
    };
}

/// `what` among 10 and among 1 000 routes, as it is.
macro_rules! routes {
    ($what:literal) => {
        &[
            Measure {
                of: ["gateway/match", $what, "10"],
                over: None,
            },
            Measure {
                of: ["gateway/match", $what, "1000"],
                over: None,
            },
        ]
    };
}

/// What one parameter costs over what another does.
macro_rules! growth {
    ($group:literal, $what:literal, $small:literal to $large:literal) => {
        &[Measure {
            of: [$group, $what, $large],
            over: Some([$group, $what, $small]),
        }]
    };
}

/// A body of each size over the bare hash of the same size.
macro_rules! sizes {
    ($what:literal) => {
        &[
            Measure {
                of: ["webhook/verify", $what, "256"],
                over: Some(["webhook/verify", "bare_hmac", "256"]),
            },
            Measure {
                of: ["webhook/verify", $what, "4096"],
                over: Some(["webhook/verify", "bare_hmac", "4096"]),
            },
            Measure {
                of: ["webhook/verify", $what, "1048576"],
                over: Some(["webhook/verify", "bare_hmac", "1048576"]),
            },
        ]
    };
}

const fn peer(name: &'static str, figures: &'static [Measure]) -> Peer {
    Peer { name, figures }
}

const FETCH_ADD: &str = "× `fetch_add`";
const GOVERNOR: &str = "× `governor`";
const HMAC: &str = "× bare HMAC";

/// The crate of our name in the registry.
const REGISTRY: &str = "webhook-verify 0.1 of crates.io";

/// The rows, in order.
pub const PATHS: &[Path] = &[
    Path {
        path: "breaker, closed, count window: acquire + success",
        unit: FETCH_ADD,
        goal: &[1.5, 1.7],
        ours: threads!("breaker/closed_count", "ours", over "fetch_add"),
        peers: &[
            peer(
                "recloser",
                threads!("breaker/closed_count", "recloser", over "fetch_add"),
            ),
            peer(
                "throttle-net",
                threads!("breaker/closed_count", "throttle_net", over "fetch_add"),
            ),
        ],
    },
    Path {
        path: "breaker, closed, time window",
        unit: FETCH_ADD,
        goal: &[3.2, 1.2],
        ours: threads!("breaker/closed_time", "ours", over "fetch_add"),
        peers: &[
            peer(
                "failsafe",
                threads!("breaker/closed_time", "failsafe", over "fetch_add"),
            ),
            peer(
                "throttle-net",
                threads!("breaker/closed_time", "throttle_net", over "fetch_add"),
            ),
        ],
    },
    Path {
        path: "breaker, closed, count window and slow calls",
        unit: FETCH_ADD,
        goal: &[5.0, 2.0],
        ours: threads!("breaker/closed_slow", "ours_count", over "fetch_add"),
        peers: &[peer(
            "tower-resilience",
            threads!("breaker/closed_slow", "tower_resilience", over "fetch_add"),
        )],
    },
    Path {
        path: "breaker, closed, time window and slow calls",
        unit: FETCH_ADD,
        goal: &[5.0, 2.0],
        ours: threads!("breaker/closed_slow", "ours_time", over "fetch_add"),
        peers: &[peer(
            "tower-resilience",
            threads!("breaker/closed_slow", "tower_resilience", over "fetch_add"),
        )],
    },
    Path {
        path: "breaker, refusal",
        unit: FETCH_ADD,
        goal: &[2.5, 1.0],
        ours: threads!("breaker/refusal", "ours", over "fetch_add"),
        peers: &[
            peer(
                "recloser",
                threads!("breaker/refusal", "recloser", over "fetch_add"),
            ),
            peer(
                "failsafe",
                threads!("breaker/refusal", "failsafe", over "fetch_add"),
            ),
            peer(
                "throttle-net",
                threads!("breaker/refusal", "throttle_net", over "fetch_add"),
            ),
        ],
    },
    Path {
        path: "breaker layer over a no-op service",
        unit: FETCH_ADD,
        goal: &[6.0, 2.3],
        ours: threads!("layer/breaker", "ours", over "fetch_add"),
        peers: &[peer(
            "tower-resilience",
            threads!("layer/breaker", "tower_resilience", over "fetch_add"),
        )],
    },
    Path {
        path: "the same, 99.9th percentile of one call",
        unit: "ns",
        goal: &[200.0, 200.0],
        ours: threads!("layer/breaker_p999", "ours"),
        peers: &[peer(
            "tower-resilience",
            threads!("layer/breaker_p999", "tower_resilience"),
        )],
    },
    Path {
        path: "the same, allocations per call",
        unit: "",
        goal: &[0.0],
        ours: one!("layer/breaker_allocations", "ours"),
        peers: &[peer(
            "tower-resilience",
            one!("layer/breaker_allocations", "tower_resilience"),
        )],
    },
    Path {
        path: "breaker, count window of 10^7 calls over one of 10, all succeed",
        unit: "×",
        goal: &[1.2],
        ours: growth!("breaker/count_window", "ours_success", "10" to "10000000"),
        peers: &[
            peer(
                "recloser",
                growth!("breaker/count_window", "recloser_success", "10" to "10000000"),
            ),
            peer(
                "throttle-net",
                growth!("breaker/count_window", "throttle_net_success", "10" to "10000000"),
            ),
        ],
    },
    Path {
        path: "the same, every fourth fails",
        unit: "×",
        goal: &[1.2],
        ours: growth!("breaker/count_window", "ours_mixed", "10" to "10000000"),
        peers: &[peer(
            "recloser",
            growth!("breaker/count_window", "recloser_mixed", "10" to "10000000"),
        )],
    },
    Path {
        path: "breaker, time window, 10^4 calls held over 10^2",
        unit: "×",
        goal: &[1.2],
        ours: growth!("breaker/time_window", "ours_mixed", "100" to "10000"),
        peers: &[
            peer(
                "failsafe",
                growth!("breaker/time_window", "failsafe_success", "100" to "10000"),
            ),
            peer(
                "tower-resilience",
                growth!("breaker/time_window", "tower_resilience", "100" to "10000"),
            ),
        ],
    },
    Path {
        path: "direct limiter, admitted",
        unit: GOVERNOR,
        goal: &[1.1],
        ours: threads!("rate_limit/direct", "ours", over "governor"),
        peers: &[
            peer(
                "governor",
                threads!("rate_limit/direct", "governor", over "governor"),
            ),
            peer(
                "rate-net",
                threads!("rate_limit/direct", "rate_net", over "governor"),
            ),
        ],
    },
    Path {
        path: "direct limiter, leased",
        unit: GOVERNOR,
        goal: &[0.6, 0.15],
        ours: threads!("rate_limit/direct", "ours_leased", over "governor"),
        peers: &[
            peer(
                "governor",
                threads!("rate_limit/direct", "governor", over "governor"),
            ),
            peer(
                "rate-net",
                threads!("rate_limit/direct", "rate_net", over "governor"),
            ),
        ],
    },
    Path {
        path: "direct limiter, refused",
        unit: GOVERNOR,
        goal: &[],
        ours: threads!("rate_limit/refused", "ours", over "governor"),
        peers: &[
            peer(
                "governor",
                threads!("rate_limit/refused", "governor", over "governor"),
            ),
            peer(
                "rate-net",
                threads!("rate_limit/refused", "rate_net", over "governor"),
            ),
        ],
    },
    Path {
        path: "keyed limiter, one hot key",
        unit: GOVERNOR,
        goal: &[1.0, 0.5],
        ours: threads!("keyed/hot", "ours", over "governor"),
        peers: &[
            peer(
                "governor",
                threads!("keyed/hot", "governor", over "governor"),
            ),
            peer(
                "rate-net",
                threads!("keyed/hot", "rate_net", over "governor"),
            ),
        ],
    },
    Path {
        path: "keyed limiter, 1 000 keys",
        unit: GOVERNOR,
        goal: &[1.0, 1.0],
        ours: threads!("keyed/thousand", "ours", over "governor"),
        peers: &[
            peer(
                "governor",
                threads!("keyed/thousand", "governor", over "governor"),
            ),
            peer(
                "rate-net",
                threads!("keyed/thousand", "rate_net", over "governor"),
            ),
        ],
    },
    Path {
        path: "keyed limiter, 1 000 000 keys",
        unit: GOVERNOR,
        goal: &[1.0, 1.0],
        ours: threads!("keyed/million", "ours", over "governor"),
        peers: &[
            peer(
                "governor",
                threads!("keyed/million", "governor", over "governor"),
            ),
            peer(
                "rate-net",
                threads!("keyed/million", "rate_net", over "governor"),
            ),
        ],
    },
    Path {
        path: "memory per `u64` key, a million keys under a cap",
        unit: "bytes",
        goal: &[48.0],
        ours: one!("keyed/memory", "ours"),
        peers: &[
            peer("governor, no cap", one!("keyed/memory", "governor")),
            peer("rate-net", one!("keyed/memory", "rate_net")),
        ],
    },
    Path {
        path: "worst call beside the clean-up of a million keys",
        unit: "µs",
        goal: &[100.0],
        ours: one!("keyed/stall", "ours"),
        peers: &[
            peer("governor", one!("keyed/stall", "governor")),
            peer("rate-net", one!("keyed/stall", "rate_net")),
        ],
    },
    Path {
        path: "the same loop with no limiter in it: the machine's own pauses",
        unit: "µs",
        goal: &[],
        ours: one!("keyed/stall", "nothing"),
        peers: &[],
    },
    Path {
        path: "refusal through the limiter's layer, as an answer",
        unit: "× its admission",
        goal: &[1.5],
        ours: threads!("layer/limit", "ours_refused", over "ours_admitted"),
        peers: &[peer(
            "tower_governor",
            threads!("layer/limit", "tower_governor_refused", over "tower_governor_admitted"),
        )],
    },
    Path {
        path: "timeout + bulkhead + rate limit + breaker, one `Clone` stack",
        unit: FETCH_ADD,
        goal: &[30.0, 17.0],
        ours: threads!("layer/stack", "ours", over "fetch_add"),
        peers: &[peer(
            "tower-resilience",
            threads!("layer/stack", "tower_resilience", over "fetch_add"),
        )],
    },
    Path {
        path: "the same, allocations per call",
        unit: "",
        goal: &[0.0],
        ours: one!("layer/stack_allocations", "ours"),
        peers: &[peer(
            "tower-resilience",
            one!("layer/stack_allocations", "tower_resilience"),
        )],
    },
    Path {
        path: "`stack::outbound`: deadline, retry, breaker, bulkhead, attempt timeout",
        unit: FETCH_ADD,
        goal: &[],
        ours: threads!("policies/outbound", "ours", over "fetch_add"),
        peers: &[],
    },
    Path {
        path: "bulkhead layer",
        unit: FETCH_ADD,
        goal: &[],
        ours: threads!("policies/bulkhead", "ours", over "fetch_add"),
        peers: &[
            peer(
                "tower",
                threads!("policies/bulkhead", "tower", over "fetch_add"),
            ),
            peer(
                "tower-resilience",
                threads!("policies/bulkhead", "tower_resilience", over "fetch_add"),
            ),
        ],
    },
    Path {
        path: "retry layer, the first attempt succeeds",
        unit: FETCH_ADD,
        goal: &[],
        ours: threads!("policies/retry", "ours", over "fetch_add"),
        peers: &[
            peer(
                "tower",
                threads!("policies/retry", "tower", over "fetch_add"),
            ),
            peer(
                "tower-resilience",
                threads!("policies/retry", "tower_resilience", over "fetch_add"),
            ),
        ],
    },
    Path {
        path: "adaptive concurrency layer (Vegas)",
        unit: FETCH_ADD,
        goal: &[],
        ours: threads!("policies/adaptive", "ours", over "fetch_add"),
        peers: &[peer(
            "tower-resilience",
            threads!("policies/adaptive", "tower_resilience", over "fetch_add"),
        )],
    },
    Path {
        path: "load shed layer, nobody is shed",
        unit: FETCH_ADD,
        goal: &[],
        ours: threads!("policies/load_shed", "ours", over "fetch_add"),
        peers: &[peer(
            "tower",
            threads!("policies/load_shed", "tower", over "fetch_add"),
        )],
    },
    Path {
        path: "hedge layer, nothing is slow",
        unit: FETCH_ADD,
        goal: &[],
        ours: threads!("policies/hedge", "ours", over "fetch_add"),
        peers: &[peer(
            "tower-resilience",
            threads!("policies/hedge", "tower_resilience", over "fetch_add"),
        )],
    },
    Path {
        path: "fallback layer, the call succeeds",
        unit: FETCH_ADD,
        goal: &[],
        ours: threads!("policies/fallback", "ours", over "fetch_add"),
        peers: &[peer(
            "tower-resilience",
            threads!("policies/fallback", "tower_resilience", over "fetch_add"),
        )],
    },
    Path {
        path: "coalesce layer, a caller alone",
        unit: FETCH_ADD,
        goal: &[],
        ours: threads!("policies/coalesce", "ours", over "fetch_add"),
        peers: &[peer(
            "tower-resilience",
            threads!("policies/coalesce", "tower_resilience", over "fetch_add"),
        )],
    },
    Path {
        path: "cache layer, a hit",
        unit: FETCH_ADD,
        goal: &[],
        ours: threads!("policies/cache_hit", "ours", over "fetch_add"),
        peers: &[peer(
            "tower-resilience",
            threads!("policies/cache_hit", "tower_resilience", over "fetch_add"),
        )],
    },
    Path {
        path: "balance: pick one of three endpoints and end",
        unit: "ns",
        goal: &[40.0],
        ours: one!("policies/balance", "ours_pick"),
        peers: &[],
    },
    Path {
        path: "balance: a call through it",
        unit: "ns",
        goal: &[250.0],
        ours: one!("policies/balance", "ours"),
        peers: &[peer("tower", one!("policies/balance", "tower"))],
    },
    Path {
        path: "read/write split: pick one of three nodes for any read, and end",
        unit: "ns",
        goal: &[40.0],
        ours: one!("policies/read_write", "ours_pick_any"),
        peers: &[],
    },
    Path {
        path: "the same, for a read with a token",
        unit: "ns",
        goal: &[40.0],
        ours: one!("policies/read_write", "ours_pick"),
        peers: &[],
    },
    Path {
        path: "read/write split: a call with a token through it",
        unit: "ns",
        goal: &[250.0],
        ours: one!("policies/read_write", "ours"),
        peers: &[peer(
            "tower's balancer",
            one!("policies/read_write", "tower"),
        )],
    },
    Path {
        path: "the same, allocations per call",
        unit: "",
        goal: &[0.0],
        ours: one!("policies/read_write_allocations", "ours"),
        peers: &[peer(
            "tower's balancer",
            one!("policies/read_write_allocations", "tower"),
        )],
    },
    Path {
        path: "read/write split: a lease with a token, given at once",
        unit: "ns",
        goal: &[],
        ours: one!("policies/read_write", "ours_lease"),
        peers: &[],
    },
    Path {
        path: "the same, allocations per lease",
        unit: "",
        goal: &[0.0],
        ours: one!("policies/read_write_allocations", "ours_lease"),
        peers: &[],
    },
    Path {
        path: "gateway: the route of a request among 10 / 1 000",
        unit: "ns",
        goal: &[200.0, 200.0],
        ours: routes!("ours"),
        peers: &[
            peer("matchit alone", routes!("matchit")),
            peer("axum", routes!("axum")),
        ],
    },
    Path {
        path: "gateway: an endpoint among three, with its breaker and the outcome",
        unit: "ns",
        goal: &[50.0],
        ours: one!("gateway/pick", "ours"),
        peers: &[],
    },
    Path {
        path: "gateway: the guard over the head of a browser",
        unit: "ns",
        goal: &[],
        ours: one!("gateway/guard", "ours"),
        peers: &[],
    },
    Path {
        path: "webhook of 256 B / 4 KiB / 1 MiB, PayTabs callback",
        unit: HMAC,
        goal: &[1.8, 1.1, 1.02],
        ours: sizes!("paytabs_callback"),
        peers: &[],
    },
    Path {
        path: "webhook of the same sizes, timestamp in a header",
        unit: HMAC,
        goal: &[1.8, 1.1, 1.02],
        ours: sizes!("timestamped"),
        peers: &[],
    },
    Path {
        path: "webhook of the same sizes, Standard Webhooks",
        unit: HMAC,
        goal: &[1.8, 1.1, 1.02],
        ours: sizes!("standard_webhooks"),
        peers: &[
            peer("standardwebhooks", sizes!("standardwebhooks")),
            peer(REGISTRY, sizes!("registry_standard_webhooks")),
        ],
    },
    Path {
        path: "webhook of the same sizes, Stripe",
        unit: HMAC,
        goal: &[1.8, 1.1, 1.02],
        ours: sizes!("stripe"),
        peers: &[peer(REGISTRY, sizes!("registry_stripe"))],
    },
    Path {
        path: "webhook of the same sizes, GitHub",
        unit: HMAC,
        goal: &[1.8, 1.1, 1.02],
        ours: sizes!("github"),
        peers: &[peer(REGISTRY, sizes!("registry_github"))],
    },
    Path {
        path: "webhook, Standard Webhooks: heap calls",
        unit: "per delivery",
        goal: &[0.0],
        ours: one!("webhook/heap", "standard_webhooks"),
        peers: &[
            peer("standardwebhooks", one!("webhook/heap", "standardwebhooks")),
            peer(REGISTRY, one!("webhook/heap", "registry_standard_webhooks")),
        ],
    },
    Path {
        path: "webhook, GitHub: heap calls",
        unit: "per delivery",
        goal: &[0.0],
        ours: one!("webhook/heap", "github"),
        peers: &[peer(REGISTRY, one!("webhook/heap", "registry_github"))],
    },
    Path {
        path: "webhook, taken and remembered beside a million others",
        unit: "ns",
        goal: &[300.0],
        ours: threads!("webhook/replay", "ours_new"),
        peers: &[],
    },
    Path {
        path: "webhook, refused as one of a million that are remembered",
        unit: "ns",
        goal: &[300.0],
        ours: threads!("webhook/replay", "ours_duplicate"),
        peers: &[],
    },
    Path {
        path: "webhook, memory per delivery remembered",
        unit: "bytes",
        goal: &[64.0],
        ours: one!("webhook/replay_bytes", "ours"),
        peers: &[],
    },
];
