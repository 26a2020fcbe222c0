//! The order of the policies, and why.

use super::DescriptionError;
use crate::admission::Policy;
use Policy::{
    Adaptive, AttemptTimeout, Breaker, Bulkhead, Deadline, Hedge, RateLimit, Retry, UpstreamQuota,
};

/// All policies of a stack, outside in. Of those in one row a stack has one.
pub(super) const ORDER: [&[Policy]; 8] = [
    &[RateLimit],
    &[Deadline],
    &[Retry],
    &[Hedge],
    &[Breaker],
    &[Bulkhead, Adaptive],
    &[UpstreamQuota],
    &[AttemptTimeout],
];

fn place(policy: Policy) -> usize {
    let found = ORDER.iter().position(|row| row.contains(&policy));
    // Those that stand around a stack, or within.
    found.unwrap_or(ORDER.len())
}

/// Whether `order`, outside in, is one that works.
pub(super) fn check(order: &[Policy]) -> Result<(), DescriptionError> {
    for (place_of_inner, &inner) in order.iter().enumerate() {
        if place(inner) == ORDER.len() {
            return Err(DescriptionError::NoPlace { policy: inner });
        }
        for &outer in &order[..place_of_inner] {
            pair(outer, inner)?;
        }
    }
    for &policy in order {
        for &(needed, reason) in needs(policy) {
            if !order.contains(&needed) {
                return Err(DescriptionError::Missing {
                    policy,
                    needed,
                    reason,
                });
            }
        }
    }
    Ok(())
}

fn pair(outer: Policy, inner: Policy) -> Result<(), DescriptionError> {
    let reason = match place(outer).cmp(&place(inner)) {
        std::cmp::Ordering::Less => return Ok(()),
        std::cmp::Ordering::Equal if outer == inner => "it is there twice",
        std::cmp::Ordering::Equal => "both decide how many calls run at once",
        std::cmp::Ordering::Greater => why_not(outer, inner),
    };
    Err(DescriptionError::Order {
        outer,
        inner,
        reason,
    })
}

/// What goes wrong with `outer` outside of `inner`.
fn why_not(outer: Policy, inner: Policy) -> &'static str {
    match (outer, inner) {
        (Retry, RateLimit) => "every attempt would count as a call of the client",
        (_, RateLimit) => "it refuses what clients send too much before anything is spent on it",
        (Retry, Deadline) => "every attempt would have the time of the whole call",
        (_, Deadline) => "what is refused or waited for outside would not be within the time",
        (Breaker, Retry) => "the breaker would see one outcome for several attempts",
        (Bulkhead | Adaptive, Retry) => "a call would keep its place while it waits for a retry",
        (Hedge, Retry) => "a hedge would run beside a whole series of attempts and their waits",
        (UpstreamQuota, Retry) => "retries would reach the upstream uncounted",
        (_, Retry) => "the time of one attempt would have to do for all of them",
        (Breaker, Hedge) => "the breaker would see two attempts as one, and a probe would be two",
        (Bulkhead | Adaptive, Hedge) => "two attempts would run in one place",
        (UpstreamQuota, Hedge) => "hedges would reach the upstream uncounted",
        (_, Hedge) => "an attempt and its hedge would share the time of one",
        (AttemptTimeout, Breaker) => {
            "an attempt that takes too long would be dropped, and never seen as a failure"
        }
        (UpstreamQuota, Breaker) => "calls that the breaker refuses would use up the quota",
        (_, Breaker) => "calls would take a place, or wait for one, only to be refused",
        (AttemptTimeout, Bulkhead | Adaptive) => {
            "the wait for a place would use up the upstream's time"
        }
        (_, Bulkhead | Adaptive) => "calls that find no place would use up the quota",
        _ => "only what reaches the upstream is within its time",
    }
}

/// What must be there as well, and why.
pub(super) fn needs(policy: Policy) -> &'static [(Policy, &'static str)] {
    match policy {
        Retry => &[(
            Deadline,
            "attempts and waits would go on after the caller has given up",
        )],
        Breaker => &[(
            AttemptTimeout,
            "an upstream that hangs would never be seen as failing",
        )],
        Adaptive => &[(
            AttemptTimeout,
            "an upstream that hangs would never be seen as overloaded",
        )],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_has_one_place() {
        let all = [
            RateLimit,
            Deadline,
            Retry,
            Hedge,
            Breaker,
            Bulkhead,
            Adaptive,
            UpstreamQuota,
            AttemptTimeout,
        ];
        for policy in all {
            let rows = ORDER.iter().filter(|row| row.contains(&policy));
            assert_eq!(rows.count(), 1, "{policy}");
        }
        assert_eq!(ORDER.iter().map(|row| row.len()).sum::<usize>(), all.len());
    }
}
