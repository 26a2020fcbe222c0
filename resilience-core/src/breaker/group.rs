//! Breakers that are forced together.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::{CircuitBreaker, handle::Shared, mode::Mode, registry::Registry, snapshot::Snapshot};

/// What a group can force.
pub(super) trait Member {
    fn set_mode(&self, mode: Mode);
    fn reset(&self);
    fn visit(&self, visit: &mut dyn FnMut(&str, Snapshot));
}

pub(super) type AnyMember = dyn Member + Send + Sync;

/// Runs `tell`, and holds back the first panic, so that the others are still told.
pub(super) fn attempt(panic: &mut Option<Box<dyn Any + Send>>, tell: impl FnOnce()) {
    if let Err(caught) = catch_unwind(AssertUnwindSafe(tell)) {
        panic.get_or_insert(caught);
    }
}

/// Many breakers under one switch: all upstreams of a region, all that a feature uses.
///
/// Clones are handles on the same group. A group keeps nothing alive: a breaker or registry whose
/// last handle is gone leaves it by itself. A breaker may be in several groups; whoever speaks last
/// decides, as when a breaker is set by its own handle.
///
/// A group begins in [`Mode::Automatic`] and then remembers the mode last set: in any other mode,
/// whatever is added is put in that mode at once. A registry brings its present breakers and its
/// future ones.
///
/// # Concurrency
///
/// Members are told one after the other, outside any lock, so that a subscriber may use the group.
/// All are told even if one of them panics (a clock of the user; subscribers' panics never come
/// this far); the first panic goes on when all are told. Of two changes at once the later stands
/// for all members.
///
/// # Examples
///
/// ```
/// use resilience_core::breaker::{CircuitBreaker, Group, Mode};
///
/// let region = Group::new();
/// let (cards, refunds) = (CircuitBreaker::new("cards"), CircuitBreaker::new("refunds"));
/// region.add(&cards);
/// region.add(&refunds);
///
/// region.set_mode(Mode::ForcedOpen); // maintenance begins
/// assert!(cards.try_acquire().is_err() && refunds.try_acquire().is_err());
/// region.reset(); // and is over
/// assert!(cards.try_acquire().is_ok());
/// ```
#[derive(Clone, Default)]
pub struct Group {
    members: Arc<Mutex<Members>>,
}

#[derive(Default)]
struct Members {
    all: Vec<Weak<AnyMember>>,
    mode: Mode,
    /// Goes up with each change of mode, so that who acts on an older one sees that it is.
    version: u64,
}

impl Group {
    /// An empty group in [`Mode::Automatic`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a breaker, and puts it in the group's mode unless that is automatic. Adding it twice
    /// is adding it once.
    pub fn add(&self, breaker: &CircuitBreaker) {
        self.join(member(breaker));
    }

    /// Adds a registry: its breakers of now and all that it makes later.
    pub fn add_registry<K>(&self, registry: &Registry<K>)
    where
        K: Send + Sync + 'static,
    {
        self.join(registry.member());
    }

    /// Removes a breaker and says whether it was there. It keeps its mode.
    pub fn remove(&self, breaker: &CircuitBreaker) -> bool {
        self.leave(&member(breaker))
    }

    /// Removes a registry and says whether it was there. It keeps its mode.
    pub fn remove_registry<K>(&self, registry: &Registry<K>) -> bool
    where
        K: Send + Sync + 'static,
    {
        self.leave(&registry.member())
    }

    /// The mode last set; automatic in the beginning and after a reset.
    pub fn mode(&self) -> Mode {
        self.members.lock().mode
    }

    /// Sets the mode of all members, and of those that are added later.
    pub fn set_mode(&self, mode: Mode) {
        self.bring(mode, |member, mode, _| member.set_mode(mode));
    }

    /// [Resets](CircuitBreaker::reset) all members: closed, with empty windows, automatic.
    pub fn reset(&self) {
        self.bring(Mode::Automatic, |member, mode, again| {
            // The second time it is a mode set meanwhile that has to be brought.
            if again {
                member.set_mode(mode);
            } else {
                member.reset();
            }
        });
    }

    /// Name and snapshot of each breaker, those of registries included, in the order of adding.
    pub fn snapshots(&self) -> Vec<(String, Snapshot)> {
        let (members, ..) = self.present();
        let mut all = Vec::new();
        for member in members {
            member.visit(&mut |name, snapshot| all.push((name.to_owned(), snapshot)));
        }
        all
    }

    /// Members that still live; a registry counts as one.
    pub fn len(&self) -> usize {
        let members = self.members.lock();
        members
            .all
            .iter()
            .filter(|one| one.strong_count() > 0)
            .count()
    }

    /// Whether no member lives.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn join(&self, member: Arc<AnyMember>) {
        let (mut mode, mut version) = {
            let mut members = self.members.lock();
            let known = members.all.iter().any(|one| is(one, &member));
            if !known {
                members.all.push(Arc::downgrade(&member));
            }
            (members.mode, members.version)
        };
        // In automatic mode it is left as it is. A mode set from here on finds it among the members.
        let mut forced = mode != Mode::Automatic;
        while forced {
            member.set_mode(mode);
            let members = self.members.lock();
            forced = members.version != version;
            (mode, version) = (members.mode, members.version);
        }
    }

    fn leave(&self, member: &Arc<AnyMember>) -> bool {
        let mut members = self.members.lock();
        let before = members.all.len();
        members.all.retain(|one| !is(one, member));
        members.all.len() < before
    }

    /// Members that live, the mode, and its version. Forgets those that do not.
    fn present(&self) -> (Vec<Arc<AnyMember>>, Mode, u64) {
        let mut members = self.members.lock();
        members.all.retain(|one| one.strong_count() > 0);
        let present = members.all.iter().filter_map(Weak::upgrade).collect();
        (present, members.mode, members.version)
    }

    /// Sets the mode and tells the members, again as long as the mode changes meanwhile.
    fn bring(&self, mode: Mode, tell: impl Fn(&AnyMember, Mode, bool)) {
        {
            let mut members = self.members.lock();
            members.mode = mode;
            members.version += 1;
        }
        let (mut panic, mut again) = (None, false);
        loop {
            let (members, mode, version) = self.present();
            for member in members {
                attempt(&mut panic, || tell(&*member, mode, again));
            }
            if self.members.lock().version == version {
                break;
            }
            again = true;
        }
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Member for Shared {
    fn set_mode(&self, mode: Mode) {
        self.inner.set_mode(mode);
    }

    fn reset(&self) {
        self.inner.reset();
    }

    fn visit(&self, visit: &mut dyn FnMut(&str, Snapshot)) {
        visit(&self.inner.name, self.inner.snapshot());
    }
}

fn member(breaker: &CircuitBreaker) -> Arc<AnyMember> {
    Arc::clone(&breaker.shared) as Arc<AnyMember>
}

/// Whether both are the same member.
fn is(weak: &Weak<AnyMember>, member: &Arc<AnyMember>) -> bool {
    std::ptr::addr_eq(weak.as_ptr(), Arc::as_ptr(member))
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("len", &self.len())
            .field("mode", &self.mode())
            .finish()
    }
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use super::*;

    /// Runs something of the test just before it takes a mode.
    struct Fake<F> {
        mode: Mutex<Mode>,
        before: F,
    }

    impl<F: Fn(Mode)> Member for Fake<F> {
        fn set_mode(&self, mode: Mode) {
            (self.before)(mode);
            *self.mode.lock() = mode;
        }

        fn reset(&self) {
            self.set_mode(Mode::Automatic);
        }

        fn visit(&self, _: &mut dyn FnMut(&str, Snapshot)) {}
    }

    fn fake<F: Fn(Mode)>(before: F) -> Arc<Fake<F>> {
        let mode = Mutex::new(Mode::Automatic);
        Arc::new(Fake { mode, before })
    }

    #[test]
    fn a_member_that_joins_while_the_mode_changes_ends_in_the_new_one() {
        let group = Group::new();
        group.set_mode(Mode::ForcedOpen);
        let inside = group.clone();
        // It was told the old mode, and is slower than the change.
        let member = fake(move |mode| {
            if mode == Mode::ForcedOpen {
                inside.set_mode(Mode::Automatic);
            }
        });
        group.join(Arc::clone(&member) as Arc<AnyMember>);
        assert_eq!(*member.mode.lock(), Mode::Automatic);
    }

    #[test]
    fn all_members_are_told_though_one_panics_and_the_panic_goes_on() {
        let group = Group::new();
        let (bad, good) = (fake(|_| panic!("on purpose")), fake(|_| ()));
        group.join(Arc::clone(&bad) as Arc<AnyMember>);
        group.join(Arc::clone(&good) as Arc<AnyMember>);
        let told = catch_unwind(AssertUnwindSafe(|| group.set_mode(Mode::Disabled)));
        assert!(told.is_err());
        assert_eq!(*good.mode.lock(), Mode::Disabled);
        let told = catch_unwind(AssertUnwindSafe(|| group.reset()));
        assert!(told.is_err());
        assert_eq!(*good.mode.lock(), Mode::Automatic);
    }

    #[test]
    fn of_a_mode_set_while_a_reset_is_told_the_mode_stands() {
        let group = Group::new();
        let inside = group.clone();
        let first = fake(move |mode| {
            if mode == Mode::Automatic {
                inside.set_mode(Mode::ForcedOpen);
            }
        });
        let second = fake(|_| ());
        group.join(Arc::clone(&first) as Arc<AnyMember>);
        group.join(Arc::clone(&second) as Arc<AnyMember>);
        group.reset();
        assert_eq!(group.mode(), Mode::ForcedOpen);
        let modes = [*first.mode.lock(), *second.mode.lock()];
        assert_eq!(modes, [Mode::ForcedOpen; 2]);
    }
}
