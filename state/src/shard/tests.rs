#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const SHARD: ShardId = match ShardId::new(3) {
    Some(shard) => shard,
    None => unreachable!(),
};

/// A run to come: how many entries; how many of the oldest active ones it replaces; others that it
/// replaces, as parts of 2^16 of the way to the newest; how far the oldest active entry follows.
type Step = (u64, usize, Vec<u16>, u8);

fn step() -> impl Strategy<Value = Step> {
    (1u64..3000, 0usize..3000, proptest::collection::vec(any::<u16>(), 0..6), any::<u8>())
}

/// A run, and the entries of all shards before it.
struct Run {
    first_sn: SerialNumber,
    entries: u64,
    deactivated: Vec<SerialNumber>,
    oldest_active: SerialNumber,
    entries_before: u64,
}

impl Run {
    fn change(&self) -> RunChange<'_> {
        RunChange {
            first_sn: self.first_sn,
            entries: self.entries,
            deactivated: &self.deactivated,
            oldest_active: self.oldest_active,
            entries_before: self.entries_before,
        }
    }
}

/// What a shard is, said simply: which of its entries are active.
#[derive(Default)]
struct Model {
    active: BTreeSet<u64>,
    next: u64,
    oldest: u64,
}

impl Model {
    /// The run that a step comes to, taken into the model.
    fn run(&mut self, (entries, of_the_oldest, others, follows): Step) -> Run {
        let first = self.next;
        self.next += entries;
        self.active.extend(first..self.next);
        let mut gone: Vec<u64> = self.active.iter().copied().take(of_the_oldest).collect();
        for part in others {
            let from = (self.next * u64::from(part)) >> 16;
            gone.extend(self.active.range(from..).next());
        }
        gone.sort_unstable();
        gone.dedup();
        // The newest entry is there whatever it replaced.
        gone.retain(|&sn| sn + 1 < self.next);
        gone.iter().for_each(|sn| assert!(self.active.remove(sn)));
        let way = self.active.first().unwrap() - self.oldest;
        self.oldest += way * u64::from(follows) / 255;
        Run {
            first_sn: SerialNumber(first),
            entries,
            deactivated: gone.into_iter().map(SerialNumber).collect(),
            oldest_active: SerialNumber(self.oldest),
            entries_before: 16 * first,
        }
    }
}

fn assert_is(state: &ShardState, model: &Model) {
    assert_eq!(state.next_sn().0, model.next);
    assert_eq!(state.oldest_active().0, model.oldest);
    assert_eq!(state.active(), model.active.len() as u64);
    let mut at = SerialNumber(0);
    for &sn in &model.active {
        assert_eq!(state.bits().next_active(at), Some(SerialNumber(sn)));
        at = SerialNumber(sn + 1);
    }
    assert_eq!(state.bits().next_active(at), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// One by one and all of them, past twigs that were forgotten.
    #[test]
    fn take_and_undo_are_the_identity(steps in proptest::collection::vec(step(), 1..10)) {
        let (mut state, mut model) = (ShardState::empty(SHARD), Model::default());
        let mut past = vec![];
        for step in steps {
            let run = model.run(step);
            let before = state.clone();
            let undo = state.take(&run.change()).unwrap();
            assert_is(&state, &model);
            let after = state.clone();
            state.undo(undo, &run.deactivated);
            prop_assert_eq!(&state, &before);
            let undo = state.take(&run.change()).unwrap();
            prop_assert_eq!(&state, &after);
            past.push((before, undo, run));
        }
        for (before, undo, run) in past.into_iter().rev() {
            state.undo(undo, &run.deactivated);
            prop_assert_eq!(&state, &before);
        }
        prop_assert_eq!(state, ShardState::empty(SHARD));
    }

    /// And says why.
    #[test]
    fn a_run_that_does_not_fit_changes_nothing(
        steps in proptest::collection::vec(step(), 2..6),
        which in any::<prop::sample::Index>(),
    ) {
        let (mut state, mut model) = (ShardState::empty(SHARD), Model::default());
        let mut steps = steps.into_iter();
        let last = steps.next_back().unwrap();
        for step in steps {
            state.take(&model.run(step).change()).unwrap();
        }
        let (before, oldest) = (state.clone(), model.oldest);
        let run = model.run(last);
        let (change, next_sn) = (run.change(), run.first_sn);
        for wrong in [next_sn.plus(1), SerialNumber(next_sn.0 - 1)] {
            let refused = state.take(&RunChange { first_sn: wrong, ..change });
            prop_assert_eq!(refused.unwrap_err(), Misfit::OutOfOrder { first_sn: wrong, next_sn });
            prop_assert_eq!(&state, &before);
        }
        let refused = state.take(&RunChange { entries: u64::MAX, ..change });
        prop_assert_eq!(refused.unwrap_err(), Misfit::OutOfOrder { first_sn: next_sn, next_sn });
        // One that is not there yet, one twice.
        let number = which.index(run.deactivated.len() + 1);
        let twice = number.checked_sub(1).map(|before| run.deactivated[before]);
        for sn in [Some(SerialNumber(model.next)), twice].into_iter().flatten() {
            let mut deactivated = run.deactivated.clone();
            deactivated.insert(number, sn);
            let refused = state.take(&RunChange { deactivated: &deactivated, ..change });
            prop_assert_eq!(refused.unwrap_err(), Misfit::NotActive { number, sn });
            prop_assert_eq!(&state, &before);
        }
        let first = SerialNumber(*model.active.first().unwrap());
        let wrong = [
            (Some(first.plus(1)), (first.0 < model.next).then_some(first)),
            (Some(SerialNumber(model.next + 1)), None),
            (oldest.checked_sub(1).map(SerialNumber), None),
        ];
        for (said, active) in wrong {
            let Some(said) = said else { continue };
            let refused = state.take(&RunChange { oldest_active: said, ..change });
            prop_assert_eq!(refused.unwrap_err(), Misfit::OldestActive { said, active });
            prop_assert_eq!(&state, &before);
        }
        state.take(&change).unwrap();
        assert_is(&state, &model);
    }

    /// A store that is opened reads the log from the first entry on that is still needed.
    #[test]
    fn runs_from_the_middle_on_lead_to_the_same_state(
        steps in proptest::collection::vec(step(), 1..10),
        earlier in 0usize..3,
        unneeded in 0u64..3,
    ) {
        let (mut all, mut model) = (ShardState::empty(SHARD), Model::default());
        let runs: Vec<Run> = steps.into_iter().map(|step| model.run(step)).collect();
        for run in &runs {
            all.take(&run.change()).unwrap();
        }
        // Bits may be followed from an earlier twig on, and reading begin earlier still.
        let from = TwigId(all.oldest_active().twig().0.saturating_sub(unneeded));
        let needed = runs.iter().rposition(|run| run.first_sn <= from.first()).unwrap();
        let mut part = ShardState::from_twig(SHARD, from);
        let read = &runs[needed.saturating_sub(earlier)..];
        part.skip_to(read[0].first_sn);
        for run in read {
            part.take(&run.change()).unwrap();
        }
        part.complete();
        prop_assert_eq!(part, all);
    }
}
