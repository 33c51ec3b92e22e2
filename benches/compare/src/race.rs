//! Contenders timed on one input.

use crate::contender::{Contender, Failure};
use hedgerow_sampling::{Candidate, Measured, Pace, Sample, interleaved, sample};
use std::borrow::Cow;

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// For figures.
    Full,
    /// To see that everything runs: the figures mean nothing.
    Quick,
}

/// Messages from which a batch is taken from memory; smaller ones are warmed.
const STREAMING: usize = 100_000;

impl Effort {
    fn repetitions(self, items: usize) -> usize {
        match (self, items) {
            (Self::Quick, _) => 1,
            (Self::Full, 0..=4096) => 201,
            (Self::Full, 4097..=STREAMING) => 61,
            (Self::Full, _) => 15,
        }
    }
}

/// The figures of some contenders on one input.
#[derive(Clone, Debug)]
pub struct Race {
    names: Vec<Entrant>,
    items: usize,
    measured: Measured,
}

/// Name, and the crate if it is a rival.
type Entrant = (Cow<'static, str>, Option<&'static str>);

/// A contender that is not here, such as one in another process, by name.
pub type Guest<'a> = (&'static str, Candidate<'a, Failure>);

impl Race {
    /// Checks the contenders' digests and times them, and `guests` with them, on batches of `items`
    /// messages.
    ///
    /// # Errors
    /// The first of a contender.
    pub fn run<'a>(
        effort: Effort,
        items: usize,
        contenders: Vec<Contender<'a>>,
        guests: Vec<Guest<'a>>,
    ) -> Result<Self, Failure> {
        let mut names: Vec<Entrant> = vec![];
        let mut candidates: Vec<Candidate<'a, Failure>> = vec![];
        for mut contender in contenders {
            contender.check()?;
            names.push((contender.name.clone(), contender.rival));
            candidates.push(Box::new(move |pace| sample(pace, || contender.hash())));
        }
        for (name, candidate) in guests {
            names.push((name.into(), None));
            candidates.push(candidate);
        }
        // About 200 microseconds of `sha2`.
        let calls = (2000 / items.max(1)).max(1) as u32;
        let pace = Pace { calls, warm: items < STREAMING };
        let measured = interleaved(effort.repetitions(items), pace, &mut candidates)?;
        Ok(Self { names, items, measured })
    }

    /// Messages of the batch.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Names of the contenders.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(name, _)| &**name)
    }

    /// The calls of the crate `rival`.
    pub fn calls_of(&self, rival: &str) -> impl Iterator<Item = &str> {
        self.names.iter().filter(move |(_, of)| *of == Some(rival)).map(|(name, _)| &**name)
    }

    /// What one message costs `name`: the median; `None` if it was not there.
    pub fn each(&self, name: &str) -> Option<Sample> {
        let Sample { nanoseconds, cycles } = self.measured.median(self.position(name)?);
        let items = self.items as f64;
        Some(Sample { nanoseconds: nanoseconds / items, cycles: cycles / items })
    }

    /// How many times as long as `name` `other` takes: the median of the repetitions' ratios;
    /// `None` if one of them was not there.
    pub fn ratio(&self, other: &str, name: &str) -> Option<f64> {
        Some(self.measured.ratio(self.position(other)?, self.position(name)?))
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.names().position(|known| known == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        contender::{OURS, SHA2},
        messages::MessageInput,
        nodes::NodeInput,
    };
    use hedgerow_benches::hashing::Messages;
    use hedgerow_hasher_api::ScalarHasher;

    #[test]
    fn every_contender_computes_sha_256() {
        for count in [1, 2, 7, 8, 15, 16, 17, 33, 100, 2048] {
            let input = NodeInput::new(count);
            let contenders = input.contenders(&ScalarHasher);
            let race = Race::run(Effort::Quick, count, contenders, vec![]).unwrap();
            assert!(race.ratio(SHA2, OURS).unwrap() > 0.0);
            assert!(race.names().count() >= 8, "{race:?}");
        }
        let input = MessageInput::new(Messages::entries(100));
        Race::run(Effort::Quick, 100, input.contenders(&ScalarHasher), vec![]).unwrap();
    }

    #[test]
    fn one_that_is_wrong_ends_the_race() {
        let input = NodeInput::new(3);
        let wrong = Contender::new("wrong", input.expected(), vec![[1; 32]; 3], |_| {});
        let failure = Race::run(Effort::Quick, 3, vec![input.sha2(), wrong], vec![]).unwrap_err();
        assert_eq!(failure.to_string(), "WRONG DIGESTS: wrong, batch of 3");
    }

    #[test]
    fn rivals_are_told_by_their_crate() {
        let input = NodeInput::new(1);
        let race = Race::run(Effort::Quick, 1, input.contenders(&ScalarHasher), vec![]).unwrap();
        assert_eq!(race.calls_of("commonware-cryptography").count(), 2);
        assert_eq!(race.calls_of("hashtree-rs").count(), 1);
        assert!(race.each("nobody").is_none() && race.ratio(SHA2, "nobody").is_none());
    }
}
