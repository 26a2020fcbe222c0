//! Racing callers under the model checker.

use loom::thread;

use super::*;

#[test]
fn loom_two_callers_cannot_both_spend_the_last_permit() {
    loom::model(|| {
        let quota = Quota::per_minute(2).unwrap();
        let cell = Arc::new(Cell::new());
        assert!(cell.try_acquire(1, 0, &quota).is_ok());
        let other = Arc::clone(&cell);
        let thread = thread::spawn(move || other.try_acquire(1, 0, &quota).is_ok());
        let mine = cell.try_acquire(1, 0, &quota).is_ok();
        assert!(mine ^ thread.join().unwrap());
    });
}
