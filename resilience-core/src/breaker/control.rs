//! Control by hand: modes, reset and settings.

use std::sync::Arc;

use super::{
    config::Config,
    events::Cause,
    inner::{Inner, Judged, feature, features, is_plain, segment, slow},
    mode::Mode,
    shadow::Shadow,
    state::{GENERATION_MASK, Gear, State, Word},
};
use crate::primitive::{Ordering, fence};

impl Inner {
    pub(super) fn set_mode(&self, mode: Mode) {
        let guard = self.control.lock();
        let changed = self.by_hand(|word| {
            let gear = Gear::of(mode, is_plain(self.features()));
            (word.gear.mode() != mode).then(|| word.set_gear(gear))
        });
        drop(guard);
        self.tell(changed);
    }

    pub(super) fn reset(&self) {
        let guard = self.control.lock();
        let gear = Gear::of(Mode::Automatic, is_plain(self.features()));
        let changed = self.by_hand(|word| Some(word.reset(gear)));
        drop(guard);
        self.tell(changed);
    }

    /// Replaces the word by `step`'s answer, which begins a generation. The caller holds `control`.
    fn by_hand(&self, step: impl Fn(Word) -> Option<Word>) -> Option<(Word, Word)> {
        loop {
            let from = self.word();
            let to = step(from)?;
            // First the present tag, so that the next one is not mistaken for one of 4096
            // generations ago.
            self.begin_window(from.generation, from.generation);
            if to.state == State::Closed {
                self.begin_window(from.generation, to.generation);
            }
            if self.change(from, to) {
                self.set_deadline(to.generation, 0, 0);
                return Some((from, to));
            }
        }
    }

    /// Outside the lock, so that a subscriber may use the breaker as it likes.
    fn tell(&self, changed: Option<(Word, Word)>) {
        if let Some((from, to)) = changed {
            if to.state == State::Open {
                self.counters.opened(Cause::ByHand);
            }
            self.emit(from, to, Judged::new(Cause::ByHand, 0, 0), None);
        }
    }

    pub(super) fn set_config(&self, config: Config) {
        let _guard = self.control.lock();
        self.apply(config);
    }

    /// The caller holds `control`.
    fn apply(&self, config: Config) {
        let old = self.config.load_full();
        let first = self
            .places
            .exchange(config.places(), config.slow_call().is_some());
        // What the old marks have forgotten would be successes in the new ones.
        self.begin_at_least(first);
        let (slow, segment) = (slow(&config), segment(&config));
        let time_changed = config.time_window() != old.time_window();
        // Every judgement reads the settings once: this exchange is the change.
        self.config.store(Arc::new(config));
        // ORDERING: SeqCst fence, pairs with the one of `aim`.
        fence();
        self.words.slow.store(slow, Ordering::Relaxed);
        // What the watch knows is of the old settings: the next success looks.
        self.words.watch.store(u64::MAX, Ordering::Relaxed);
        if time_changed {
            self.words.face.set_length(segment, &self.clock);
        }
        self.aim();
        self.set_features();
    }

    /// Brings features and gear in line with settings and shadow. The caller holds `control`.
    fn set_features(&self) {
        let mut wanted = features(&self.config.load());
        if let Some(shadow) = &*self.shadow.load() {
            wanted |= feature::SHADOW | shadow.features() & feature::STAMP;
        }
        // ORDERING: Relaxed. A call that reads old features is counted as if it came before.
        self.words.features.store(wanted, Ordering::Relaxed);
        loop {
            let from = self.word();
            let gear = Gear::of(from.gear.mode(), is_plain(wanted));
            if gear == from.gear || self.change(from, Word { gear, ..from }) {
                return;
            }
        }
    }

    // ---- the shadow

    pub(super) fn set_shadow(&self, config: Config) {
        let mut next = self.control.lock();
        // Late outcomes of calls that an earlier shadow admitted are of no generation that the
        // new one will soon have.
        let shadow = Shadow::new(Self::shadow_of(self, config, *next));
        *next = next.wrapping_add(1 << 12) & GENERATION_MASK;
        self.shadow.store(Some(Arc::new(shadow)));
        self.set_features();
    }

    pub(super) fn clear_shadow(&self) {
        let _guard = self.control.lock();
        self.shadow.store(None);
        self.set_features();
    }

    /// The settings of the shadow become the live ones; false if there is no shadow.
    pub(super) fn promote_shadow(&self) -> bool {
        let _guard = self.control.lock();
        let Some(shadow) = self.shadow.load_full() else {
            return false;
        };
        self.apply(shadow.config());
        self.shadow.store(None);
        self.set_features();
        true
    }
}
