//! Proofs of many keys and of one, made and verified by all engines in turn.
//!
//! ```text
//!   seed ─► the same keys and values into a store of each engine, in blocks
//!
//!   for each number n of keys, all present, then half of them absent:
//!     repetition 1   nomt ▓▓▓▓   ours ▓▓   commonware ▓▓▓      the same keys, the engines in an order of its own
//!     repetition 2   ours ▓▓   commonware ▓▓▓   nomt ▓▓▓▓      other keys
//!     ...
//!       ▓  =  make one proof of n keys, verify it; make n proofs of one key, verify them
//! ```
//!
//! Making ends with the proof's bytes and verifying begins with them. Answers are compared with what was written, after
//! the clock was stopped. What disturbs a repetition disturbs all engines: ratios are taken within it. The first
//! repetition is not counted.

use crate::{
    clock::{Cost, Quartiles},
    engine::{Answer, Change, Engine, Failure, OpenStore, Proofs, Prover, Root, Sizing},
};
use hedgerow_benches::workload::{Generator, Random};
use serde::Serialize;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

/// Bytes of a key.
pub const KEY_LEN: usize = 32;
/// Bytes of a value.
pub const VALUE_LEN: usize = 32;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Keys of each store.
    pub keys: u32,
    /// Keys that are created by one block.
    pub block: u32,
    /// How many keys a proof is asked of, each at most half of `keys`.
    pub asked: Vec<usize>,
    /// Repetitions that count, at least 1.
    pub repetitions: usize,
    /// Decides all keys and values.
    pub seed: u64,
}

/// Which keys are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// All are present.
    Present,
    /// Every second one was never written.
    HalfAbsent,
}

/// The figures of one engine for one number of keys.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The engine.
    pub engine: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Keys in the store.
    pub keys: u32,
    /// Keys asked.
    pub asked: usize,
    /// Which.
    pub question: Question,
    /// Repetitions that count.
    pub repetitions: usize,
    /// Bytes of the values that were asked, which are part of every proof's bytes here.
    pub value_bytes: usize,
    /// One proof of all keys.
    pub many: Side,
    /// A proof for each key, all together.
    pub single: Side,
}

/// What proofs of the keys are and cost, all keys together.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Side {
    /// Bytes.
    pub bytes: Figure,
    /// CPU microseconds to make.
    pub make_cpu: Figure,
    /// Microseconds on the wall to make.
    pub make_wall: Figure,
    /// CPU microseconds to verify.
    pub verify_cpu: Figure,
    /// Microseconds on the wall to verify.
    pub verify_wall: Figure,
}

/// A figure over the repetitions.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figure {
    /// Its quartiles.
    #[serde(flatten)]
    pub quartiles: Quartiles,
    /// How many times the figure of the first engine it is: the median of the repetitions' ratios.
    pub ratio: f64,
}

/// The stores of all engines, with the same keys and values.
pub struct Stores {
    plan: Plan,
    generator: Generator,
    opened: Vec<Opened>,
}

struct Opened {
    engine: Engine,
    proofs: Proofs,
    store: Box<dyn OpenStore>,
}

impl Stores {
    /// Makes a store of every engine that has proofs, each in a directory of its own below `dir`, and fills it.
    ///
    /// # Errors
    /// An engine's, or a value that cannot be read back.
    pub fn fill(engines: &[Engine], dir: &Path, plan: Plan) -> Result<Self, Failure> {
        if plan.asked.iter().any(|&asked| asked == 0 || asked > plan.keys as usize / 2) {
            return Err(Failure::Plan("asks for no key, or more than half of all keys"));
        }
        let generator = Generator::new(plan.seed, KEY_LEN, VALUE_LEN);
        let mut opened = vec![];
        for engine in engines {
            let Some(proofs) = engine.proofs else { continue };
            let dir: PathBuf = dir.join(engine.name.replace(' ', "-"));
            std::fs::create_dir_all(&dir)?;
            let mut store = (engine.open)(&dir, Sizing::new(plan.keys.into()))?;
            create(&mut *store, &generator, &plan)?;
            opened.push(Opened { engine: *engine, proofs, store });
        }
        let stores = Self { plan, generator, opened };
        stores.check()?;
        Ok(stores)
    }

    /// Reads some keys back, from every store.
    fn check(&self) -> Result<(), Failure> {
        let set = Set::draw(
            self,
            100.min(self.plan.keys as usize / 2),
            Question::HalfAbsent,
            &mut Random::new(0),
        )?;
        for Opened { engine, store, .. } in &self.opened {
            for (key, expected) in set.keys.iter().zip(&set.expected) {
                if store.get(key)? != *expected {
                    return Err(Failure::WrongAnswer { engine: engine.name, asked: 1 });
                }
            }
        }
        Ok(())
    }

    /// Share of a core that the process takes while nothing is asked of any store, in one second: what is left over in
    /// CPU times below.
    ///
    /// # Errors
    /// The clock cannot be read.
    pub fn idle(&self) -> Result<f64, Failure> {
        let second = std::time::Duration::from_secs(1);
        let (cost, ()) = Cost::of(1, || {
            std::thread::sleep(second);
            Ok::<_, Failure>(())
        })?;
        Ok(cost.cpu / cost.wall)
    }

    /// Asks every engine for proofs of `asked` keys: one row each, in the order of the engines. One that cannot answer
    /// the question is left out.
    ///
    /// # Errors
    /// An engine's; a proof that its verifier refuses; [`Failure::WrongAnswer`].
    pub fn measure(&self, asked: usize, question: Question) -> Result<Vec<Row>, Failure> {
        let mut random =
            Random::new(self.plan.seed ^ (asked as u64).rotate_left(32) ^ question as u64);
        let able = |opened: &&Opened| question == Question::Present || opened.proofs.absence;
        let racers: Vec<_> = self.opened.iter().filter(able).collect();
        // About a thousand keys of each engine for a sample, that reading the clocks costs nothing.
        let sets = (1000 / asked).clamp(1, 100);
        let mut samples: Vec<Vec<Sample>> = vec![vec![]; racers.len()];
        let mut order: Vec<_> = (0..racers.len()).collect();
        for repetition in 0..=self.plan.repetitions.max(1) {
            let sets: Result<Vec<_>, _> =
                (0..sets).map(|_| Set::draw(self, asked, question, &mut random)).collect();
            let sets = sets?;
            shuffle(&mut order, &mut random);
            for &racer in &order {
                let (Some(opened), Some(taken)) = (racers.get(racer), samples.get_mut(racer))
                else {
                    continue;
                };
                let sample = opened.sample(&sets)?;
                if repetition > 0 {
                    taken.push(sample);
                }
            }
        }
        let Some(first) = samples.first() else { return Ok(vec![]) };
        let row = |(opened, samples): (&&Opened, &Vec<Sample>)| {
            Some(Row {
                engine: opened.engine.name,
                version: opened.engine.version(),
                keys: self.plan.keys,
                asked,
                question,
                repetitions: samples.len(),
                value_bytes: present(asked, question) * VALUE_LEN,
                many: Side::of(samples, first, |sample| &sample.many)?,
                single: Side::of(samples, first, |sample| &sample.single)?,
            })
        };
        let rows: Option<Vec<_>> = racers.iter().zip(&samples).map(row).collect();
        rows.ok_or(Failure::Plan("no repetition"))
    }
}

/// Keys that are present, of so many asked.
fn present(asked: usize, question: Question) -> usize {
    match question {
        Question::Present => asked,
        Question::HalfAbsent => asked.div_ceil(2),
    }
}

fn create(store: &mut dyn OpenStore, generator: &Generator, plan: &Plan) -> Result<(), Failure> {
    for first in (0..plan.keys).step_by(plan.block.max(1) as usize) {
        let last = plan.keys.min(first.saturating_add(plan.block.max(1)));
        let mut pairs = Vec::with_capacity((last - first) as usize);
        for id in first..last {
            let (mut key, mut value) = (vec![], vec![]);
            generator.key(id, &mut key);
            generator.value(id, 0, &mut value);
            pairs.push((key, value));
        }
        let block: Vec<_> =
            pairs.iter().map(|(key, value)| Change { key, value: Some(value) }).collect();
        store.apply(&block)?;
    }
    Ok(())
}

/// Keys of one question and what is known about them.
struct Set {
    keys: Vec<Vec<u8>>,
    expected: Vec<Answer>,
}

impl Set {
    fn draw(
        stores: &Stores,
        asked: usize,
        question: Question,
        random: &mut Random,
    ) -> Result<Self, Failure> {
        let mut ids = HashSet::with_capacity(asked);
        let mut set = Self { keys: vec![], expected: vec![] };
        while set.keys.len() < asked {
            let id = random.below(stores.plan.keys.into()).ok_or(Failure::Plan("no keys"))?;
            let id = u32::try_from(id).map_err(|_| Failure::Plan("too many keys"))?;
            if !ids.insert(id) {
                continue;
            }
            let absent = question == Question::HalfAbsent && set.keys.len() % 2 == 1;
            let mut key = vec![];
            // Ids above the populated ones were never written.
            stores.generator.key(if absent { u32::MAX - id } else { id }, &mut key);
            let mut value = vec![];
            stores.generator.value(id, 0, &mut value);
            set.keys.push(key);
            set.expected.push((!absent).then_some(value));
        }
        Ok(set)
    }

    fn keys(&self) -> Vec<&[u8]> {
        self.keys.iter().map(Vec::as_slice).collect()
    }
}

/// One engine's costs of one repetition, per set of keys.
#[derive(Clone, Copy)]
struct Sample {
    many: Taken,
    single: Taken,
}

#[derive(Clone, Copy)]
struct Taken {
    bytes: f64,
    make: Cost,
    verify: Cost,
}

impl Opened {
    fn prover(&self) -> Result<(&dyn Prover, Root), Failure> {
        let no_proofs = || Failure::Plan("an engine whose proofs are described and not made");
        let root = self.store.root()?.ok_or_else(no_proofs)?;
        Ok((self.store.prover().ok_or_else(no_proofs)?, root))
    }

    fn sample(&self, sets: &[Set]) -> Result<Sample, Failure> {
        let (prover, root) = self.prover()?;
        let keys: Vec<_> = sets.iter().map(Set::keys).collect();
        let Proofs { verify, verify_many, .. } = self.proofs;
        let many = self.take(
            sets,
            || keys.iter().map(|keys| prover.prove_many(keys)).collect(),
            |proof: &Vec<u8>| proof.len(),
            |proofs| {
                keys.iter()
                    .zip(proofs)
                    .map(|(keys, proof)| verify_many(&root, keys, proof))
                    .collect()
            },
        )?;
        let each = |keys: &Vec<&[u8]>| keys.iter().map(|key| prover.prove(key)).collect();
        let verify_each = |(keys, proofs): (&Vec<&[u8]>, &Vec<Vec<u8>>)| {
            keys.iter().zip(proofs).map(|(key, proof)| verify(&root, key, proof)).collect()
        };
        let single = self.take(
            sets,
            || keys.iter().map(each).collect(),
            |proofs: &Vec<Vec<u8>>| proofs.iter().map(Vec::len).sum(),
            |proofs| keys.iter().zip(proofs).map(verify_each).collect(),
        )?;
        Ok(Sample { many, single })
    }

    fn take<P>(
        &self,
        sets: &[Set],
        make: impl FnOnce() -> Result<Vec<P>, Failure>,
        len: impl Fn(&P) -> usize,
        verify: impl FnOnce(&[P]) -> Result<Vec<Vec<Answer>>, Failure>,
    ) -> Result<Taken, Failure> {
        let (make, proofs) = Cost::of(sets.len(), make)?;
        let (verify, answers) = Cost::of(sets.len(), || verify(&proofs))?;
        if !answers.iter().eq(sets.iter().map(|set| &set.expected)) {
            let asked = sets.first().map_or(0, |set| set.keys.len());
            return Err(Failure::WrongAnswer { engine: self.engine.name, asked });
        }
        let bytes = proofs.iter().map(len).sum::<usize>() as f64 / sets.len() as f64;
        Ok(Taken { bytes, make, verify })
    }
}

impl Side {
    fn of(samples: &[Sample], first: &[Sample], side: fn(&Sample) -> &Taken) -> Option<Self> {
        let figure = |of: fn(&Taken) -> f64| Figure::of(samples, first, |sample| of(side(sample)));
        Some(Self {
            bytes: figure(|taken| taken.bytes)?,
            make_cpu: figure(|taken| taken.make.cpu)?,
            make_wall: figure(|taken| taken.make.wall)?,
            verify_cpu: figure(|taken| taken.verify.cpu)?,
            verify_wall: figure(|taken| taken.verify.wall)?,
        })
    }
}

impl Figure {
    fn of(samples: &[Sample], first: &[Sample], of: impl Fn(&Sample) -> f64) -> Option<Self> {
        let ratios = samples.iter().zip(first).map(|(own, first)| of(own) / of(first));
        Some(Self {
            quartiles: Quartiles::of(samples.iter().map(&of))?,
            ratio: Quartiles::of(ratios)?.mid,
        })
    }
}

/// Fisher and Yates's shuffle.
fn shuffle(order: &mut [usize], random: &mut Random) {
    for end in (2..=order.len()).rev() {
        if let Some(other) = random.below(end as u64) {
            order.swap(end - 1, other as usize);
        }
    }
}
