//! Which orders there are.

use std::time::Duration;

use resilience_tower::admission::Policy;
use resilience_tower::stack::{
    AttemptTimeout, Deadline, Description, DescriptionError, Quota, Stack,
};

use super::{MS, SECOND};

/// Outside in.
const ALL: [Policy; 9] = [
    Policy::RateLimit,
    Policy::Deadline,
    Policy::Retry,
    Policy::Hedge,
    Policy::Breaker,
    Policy::Bulkhead,
    Policy::Adaptive,
    Policy::UpstreamQuota,
    Policy::AttemptTimeout,
];

/// With all that must be said.
fn description(order: &[Policy]) -> Description {
    let has = |policy| order.contains(&policy);
    let quota = || Quota {
        permits: 1,
        per: SECOND,
        burst: None,
    };
    let mut description = Description::new("payments", order);
    description.rate_limit = has(Policy::RateLimit).then(quota);
    description.upstream_quota = has(Policy::UpstreamQuota).then(quota);
    description.deadline = has(Policy::Deadline).then_some(Deadline {
        total: SECOND,
        least: Duration::ZERO,
    });
    description.attempt_timeout =
        has(Policy::AttemptTimeout).then(|| AttemptTimeout { after: 500 * MS });
    description
}

fn refused(order: &[Policy]) -> Option<DescriptionError> {
    Stack::from_description(&description(order)).err()
}

#[test]
fn each_two_policies_have_one_order_and_the_other_is_refused_with_a_reason() {
    for (place, &outer) in ALL.iter().enumerate() {
        for &inner in &ALL[place + 1..] {
            // Both need their own kind; what they need beside is told after the order.
            let wrong = refused(&[inner, outer]).expect("it is the wrong way round");
            let DescriptionError::Order { reason, .. } = &wrong else {
                panic!("{wrong}");
            };
            assert_eq!(
                wrong.to_string(),
                format!("order has {inner} outside of {outer}: {reason}")
            );
            let right = refused(&[outer, inner]);
            let both = outer == Policy::Bulkhead && inner == Policy::Adaptive;
            let in_order = !matches!(right, Some(DescriptionError::Order { .. }));
            assert_eq!(in_order, !both, "{right:?}");
        }
    }
}

#[test]
fn the_reason_names_what_goes_wrong() {
    use Policy::{AttemptTimeout, Breaker, Bulkhead, Deadline, Retry, UpstreamQuota};

    for (order, told) in [
        (
            vec![Deadline, Breaker, Retry, AttemptTimeout],
            "order has breaker outside of retry: \
             the breaker would see one outcome for several attempts",
        ),
        (
            vec![Deadline, Bulkhead, Retry],
            "order has bulkhead outside of retry: \
             a call would keep its place while it waits for a retry",
        ),
        (
            vec![AttemptTimeout, Breaker],
            "order has attempt_timeout outside of breaker: \
             an attempt that takes too long would be dropped, and never seen as a failure",
        ),
        (
            vec![Retry, Deadline],
            "order has retry outside of deadline: \
             every attempt would have the time of the whole call",
        ),
        (
            vec![Bulkhead, Breaker, AttemptTimeout],
            "order has bulkhead outside of breaker: \
             calls would take a place, or wait for one, only to be refused",
        ),
        (
            vec![UpstreamQuota, Breaker, AttemptTimeout],
            "order has upstream_quota outside of breaker: \
             calls that the breaker refuses would use up the quota",
        ),
        (
            vec![Breaker, Policy::Hedge, AttemptTimeout],
            "order has breaker outside of hedge: \
             the breaker would see two attempts as one, and a probe would be two",
        ),
        (
            vec![Deadline, Deadline],
            "order has deadline outside of deadline: it is there twice",
        ),
        (
            vec![Bulkhead, Policy::Adaptive, AttemptTimeout],
            "order has bulkhead outside of adaptive: both decide how many calls run at once",
        ),
        (
            vec![Retry, AttemptTimeout],
            "order has retry and no deadline: \
             attempts and waits would go on after the caller has given up",
        ),
        (
            vec![Deadline, Breaker],
            "order has breaker and no attempt_timeout: \
             an upstream that hangs would never be seen as failing",
        ),
        (
            vec![Policy::Adaptive],
            "order has adaptive and no attempt_timeout: \
             an upstream that hangs would never be seen as overloaded",
        ),
    ] {
        assert_eq!(refused(&order).unwrap().to_string(), told);
    }
}

#[test]
fn any_part_of_the_order_will_do_that_has_what_it_needs() {
    use Policy::{Adaptive, AttemptTimeout, Breaker, Bulkhead, Deadline, Retry};

    for chosen in 0..1_u32 << ALL.len() {
        let order: Vec<_> = (0..ALL.len())
            .filter(|place| chosen >> place & 1 == 1)
            .map(|place| ALL[place])
            .collect();
        let has = |policy| order.contains(&policy);
        let works = !(has(Bulkhead) && has(Adaptive))
            && (has(Deadline) || !has(Retry))
            && (has(AttemptTimeout) || !(has(Breaker) || has(Adaptive)));
        assert_eq!(refused(&order).is_none(), works, "{order:?}");
    }
}

#[test]
fn a_policy_that_stands_around_a_stack_is_not_let_into_its_order() {
    for policy in [Policy::LoadShed, Policy::Coalesce, Policy::Balance] {
        let error = refused(&[policy, Policy::Bulkhead]).unwrap();
        assert_eq!(
            error.to_string(),
            format!(
                "order has {policy}, which stands around a stack or within it, as a layer of its own"
            )
        );
    }
}
