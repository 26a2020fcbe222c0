//! The ring against a queue, one caller at a time.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many of the same outcome; `None` is a success.
    Ended(Option<Mark>, u32),
    /// A new generation: the window begins here.
    Begin,
}

fn step(most: u32) -> impl Strategy<Value = Step> {
    let many = prop_oneof![4 => 1..4_u32, 1 => 1..most];
    let mark = prop_oneof![
        5 => Just(None),
        4 => Just(Some(Mark::Failure)),
        1 => Just(Some(Mark::Hole)),
    ];
    prop_oneof![
        30 => (mark, many).prop_map(|(mark, many)| Step::Ended(mark, many)),
        1 => Just(Step::Begin),
    ]
}

/// The last `size` outcomes, oldest first.
struct Model {
    size: usize,
    places: VecDeque<Option<Mark>>,
}

impl Model {
    fn push(&mut self, mark: Option<Mark>) {
        self.places.push_back(mark);
        if self.places.len() > self.size {
            self.places.pop_front();
        }
    }

    fn count(&self, last: usize, of: Mark) -> u64 {
        let places = self.places.iter().rev().take(last);
        places.filter(|mark| **mark == Some(of)).count() as u64
    }

    /// Failures at the end, not counting holes.
    fn run(&self) -> u32 {
        let calls = self.places.iter().rev().flatten_holes();
        calls.take_while(|failed| *failed).count() as u32
    }
}

trait FlattenHoles {
    fn flatten_holes(self) -> impl Iterator<Item = bool>;
}

impl<'a, I: Iterator<Item = &'a Option<Mark>>> FlattenHoles for I {
    fn flatten_holes(self) -> impl Iterator<Item = bool> {
        self.filter(|mark| **mark != Some(Mark::Hole))
            .map(|mark| *mark == Some(Mark::Failure))
    }
}

fn check(size: u32, steps: &[Step]) -> Result<(), TestCaseError> {
    let window = Marks::new(size, true);
    let mut end = 0;
    let mut model = Model {
        size: size as usize,
        places: VecDeque::new(),
    };
    let mut start = 0;
    for step in steps {
        match *step {
            Step::Begin => {
                start = end;
                model.places.clear();
            }
            Step::Ended(mark, many) => {
                for _ in 0..many {
                    let place = end;
                    end += 1;
                    if let Some(mark) = mark {
                        window.mark(place, mark);
                        // Marking twice is marking once, and slow calls disturb nothing.
                        window.mark(place, mark);
                        window.mark(place, Mark::Slow);
                    }
                    model.push(mark);
                }
            }
        }
        // A narrower window over the same ring, as when failures in a row need more places.
        for narrow in [size, size.div_ceil(3)] {
            let first = window.first(start, end, narrow);
            let places = (narrow as usize).min(model.places.len());
            prop_assert_eq!(end - first, places as u64);
            let count = window.count(first, end);
            prop_assert_eq!(count.failures, model.count(places, Mark::Failure));
            prop_assert_eq!(count.holes, model.count(places, Mark::Hole));
            prop_assert_eq!(count.slow, count.failures + count.holes);
        }
        if end > start {
            let run = model.run();
            prop_assert_eq!(window.run(end - 1, start, end, u32::MAX), run);
            prop_assert_eq!(window.run(end - 1, start, end, 2), run.min(2));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_copy_holds_what_both_sizes_can_hold(
        old in 1..=2000_u32,
        new in 1..=2000_u32,
        marks in prop::collection::vec(prop::option::weighted(0.4, any::<bool>()), 1..3000),
    ) {
        let (from, to) = (Marks::new(old, true), Marks::new(new, true));
        for (place, mark) in marks.iter().enumerate() {
            if let Some(slow) = mark {
                from.mark(place as u64, if *slow { Mark::Slow } else { Mark::Failure });
            }
        }
        let end = marks.len() as u64;
        to.copy(&from, end);
        // A second copy changes nothing.
        to.copy(&from, end);
        let first = end.saturating_sub(old.min(new).into());
        prop_assert_eq!(to.count(first, end), from.count(first, end));
        let all = end.saturating_sub(new.into());
        prop_assert_eq!(to.count(all, end), from.count(first, end));
    }

    #[test]
    fn the_window_equals_a_queue_at_any_small_size(
        size in 1..=300_u32, steps in prop::collection::vec(step(700), 1..150),
    ) {
        check(size, &steps)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn the_window_equals_a_queue_at_a_large_size(
        steps in prop::collection::vec(step(60_000), 1..40),
    ) {
        check(100_000, &steps)?;
    }
}

/// Wide enough for blocks of every level, and twice around the ring.
#[test]
#[cfg_attr(miri, ignore = "too many places")]
fn a_window_of_more_than_half_a_million_places_counts_every_seventh() {
    const SIZE: u32 = 600_000;
    const END: u64 = 1_300_000;
    let window = Marks::new(SIZE, false);
    (0..END)
        .step_by(7)
        .for_each(|place| window.mark(place, Mark::Failure));
    for from in [END - u64::from(SIZE), 786_432, 900_001, END - 8, END] {
        let count = window.count(from, END);
        assert_eq!(count.failures, END.div_ceil(7) - from.div_ceil(7), "{from}");
        assert_eq!(count.holes, 0);
    }
}
