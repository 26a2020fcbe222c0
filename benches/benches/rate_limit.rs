//! The direct limiters: admissions and refusals of one limiter that all threads share.

use benches::Contest;
use benches::peers::rate_limit;
use criterion::{Criterion, criterion_group, criterion_main};
use resilience_core::clock::SharedClock;
use resilience_core::rate_limit::RateLimiter;

fn direct(c: &mut Criterion) {
    let governor = rate_limit::governor();
    let ours = rate_limit::direct();
    let ours_std = RateLimiter::with_clock(rate_limit::ample(), SharedClock::std());
    let ours_leased = rate_limit::leased();
    let rate_net = rate_limit::rate_net();
    Contest::new("rate_limit/direct")
        .threads("governor", || || governor.check().is_ok())
        .threads("ours", || || ours.try_acquire().is_ok())
        .threads("ours_std_clock", || || ours_std.try_acquire().is_ok())
        .threads("ours_leased", || || ours_leased.try_acquire().is_ok())
        .threads("rate_net", || || rate_net.check().is_allow())
        .run(c);
}

fn refused(c: &mut Criterion) {
    let governor = rate_limit::governor_used_up();
    let ours = rate_limit::direct_used_up();
    let rate_net = rate_limit::rate_net_used_up();
    Contest::new("rate_limit/refused")
        .threads("governor", || || governor.check().is_err())
        .threads("ours", || || ours.try_acquire().is_err())
        .threads("rate_net", || || rate_net.check().is_deny())
        .run(c);
}

criterion_group! {
    name = benches;
    config = benches::criterion();
    targets = direct, refused
}
criterion_main!(benches);
