//! Racing callers under the model checker.

use loom::{sync::Arc, thread};

use super::{quota::Quota, word::Bucket};

#[test]
fn loom_two_callers_cannot_both_spend_the_last_permit() {
    loom::model(|| {
        let bucket = Arc::new(Bucket::new(Quota::per_minute(2).unwrap()));
        assert!(bucket.take(1, 0).is_ok());
        let other = Arc::clone(&bucket);
        let thread = thread::spawn(move || other.take(1, 0).is_ok());
        let mine = bucket.take(1, 0).is_ok();
        assert!(mine ^ thread.join().unwrap());
    });
}
