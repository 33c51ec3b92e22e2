//! A damaged store is asked everything.

use super::change::Change;
use super::specimen::{Answers, Kind, Specimen, kind_of, options};
use crate::crash::session::dir;
use hedgerow::{Error, Height, Reader, Store};
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_vfs::power_loss::PowerLossDisk;

/// Proofs that are made and verified per case, if no twig is damaged: else every key is proved.
const PROOFS: u64 = 8;

/// What a damage came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every answer is right, and `check` finds nothing.
    Unaffected,
    /// Some call said so, this one first; every other answer is right.
    Reported { by: &'static str, names_a_file: bool, text: String },
    /// The last blocks are gone, as after a crash, and every answer is right for what is left.
    Cut,
    /// A wrong answer.
    Wrong(String),
}

/// The calls that report, in the order in which they are asked.
pub(super) const CALLS: [&str; 7] = ["open", "get", "iter", "history", "prove", "check", "close"];

/// What was reported so far.
#[derive(Default)]
struct Said(Option<(&'static str, String)>);

impl Said {
    fn note(&mut self, by: &'static str, error: &Error) {
        self.0.get_or_insert_with(|| (by, error.to_string()));
    }

    fn verdict(self) -> Verdict {
        let Some((by, text)) = self.0 else { return Verdict::Unaffected };
        let names_a_file =
            [".log", ".twigs", ".idx", "meta.redb", "/meta"].iter().any(|name| text.contains(name));
        Verdict::Reported { by, names_a_file, text }
    }
}

/// Damages a copy of the specimen, before it is opened or just after, and asks it everything.
pub(super) fn probe(
    specimen: &Specimen,
    change: Option<&Change>,
    while_open: bool,
    seed: u64,
) -> Verdict {
    let disk = specimen.disk.settled_copy(seed);
    let damage = || match change.map(|change| change.apply(&disk, &dir())) {
        Some(Err(error)) => Err(Verdict::Wrong(format!("the damage could not be done: {error}"))),
        _ => Ok(()),
    };
    if !while_open && let Err(verdict) = damage() {
        return verdict;
    }
    let twigs = |file: &&str| kind_of(file) == Kind::Twigs;
    let derived = |file: &&str| matches!(kind_of(file), Kind::Twigs | Kind::Index);
    let mut said = Said::default();
    let mut store = match Store::open(dir(), options(&disk, specimen.which)) {
        Ok(store) => store,
        Err(error) => {
            if change.is_some_and(|change| change.files().iter().all(derived)) {
                return Verdict::Wrong(format!("what is derived keeps the store shut: {error}"));
            }
            said.note("open", &error);
            return said.verdict();
        }
    };
    if while_open && let Err(verdict) = damage() {
        return verdict;
    }
    let height = store.height().0;
    if let Err(wrong) = may_be_cut(specimen, change.filter(|_| !while_open), height) {
        return Verdict::Wrong(wrong);
    }
    let mut rng = SplitMix64::new(seed);
    let some: Vec<usize> = if change.is_some_and(|change| change.files().iter().any(twigs)) {
        (0..specimen.last().values.len()).collect()
    } else {
        (0..PROOFS).map(|_| rng.below(specimen.last().values.len() as u64) as usize).collect()
    };
    if let Err(wrong) = ask(specimen, height, &mut store, &mut said, &some) {
        return Verdict::Wrong(wrong);
    }
    if let Err(error) = store.close() {
        said.note("close", &error);
    }
    let index = |file: &&str| kind_of(file) == Kind::Index;
    if change.is_some_and(|change| change.files().iter().all(index))
        && let Err(wrong) = ask_again(specimen, &disk, &some)
    {
        return Verdict::Wrong(wrong);
    }
    let only_twigs = change.is_some_and(|change| change.files().iter().all(twigs));
    match said.verdict() {
        // What opening finds damaged it makes again from the log.
        Verdict::Reported { by, text, .. } if only_twigs && !while_open => {
            Verdict::Wrong(format!("a damaged twig file was not made again: {by}: {text}"))
        }
        Verdict::Unaffected if height < specimen.height => Verdict::Cut,
        verdict => verdict,
    }
}

/// What was noticed of a damaged index is mended by the next opening: every answer is right then, and no call an
/// error. What was not noticed a check finds.
fn ask_again(specimen: &Specimen, disk: &PowerLossDisk, some: &[usize]) -> Result<(), String> {
    let again = |error: Error| format!("opened again: {error}");
    let mut store = Store::open(dir(), options(disk, specimen.which)).map_err(again)?;
    let mut said = Said::default();
    ask(specimen, specimen.height, &mut store, &mut said, some)?;
    store.close().map_err(again)?;
    match said.0 {
        None => Ok(()),
        Some((by, text)) => Err(format!("opened again, {by}: {text}")),
    }
}

/// Whether a store may open at `height`: at the last one, or, if bytes were lost that only the last
/// blocks need and no record that is left says that these were durable, at an earlier one.
fn may_be_cut(specimen: &Specimen, change: Option<&Change>, height: u64) -> Result<(), String> {
    if height == specimen.height {
        return Ok(());
    }
    let last = specimen.height;
    if !specimen.answers.contains_key(&height) || !change.is_some_and(Change::loses) {
        return Err(format!("it opens at height {height}, not {last}"));
    }
    for (file, record) in specimen.records_behind(height).iter().take(1) {
        let range = record.start as u64..record.end as u64;
        if change.is_some_and(|change| change.leaves(&file.name, &range)) {
            return Err(format!("it opens at height {height}, and the next record is whole"));
        }
    }
    // Every block was durable before the next one was made, whose record says so.
    for (file, record) in specimen.records_behind(height + 1) {
        let header = record.header();
        let header = header.start as u64..header.end as u64;
        if change.is_some_and(|change| change.leaves(&file.name, &header)) {
            return Err(format!(
                "it opens at height {height}, and the record of {} says that the next was durable",
                record.height
            ));
        }
    }
    Ok(())
}

fn ask(
    specimen: &Specimen,
    height: u64,
    store: &mut Store,
    said: &mut Said,
    to_prove: &[usize],
) -> Result<(), String> {
    let reader = store.reader();
    let root = specimen.rows.get(&height).map(|(root, _)| *root).unwrap_or_default();
    let answers = &specimen.answers[&height];
    let found = reader.root();
    if found != (Height(height), root) {
        return Err(format!("the state is {found:?}, it should be {root} at {height}"));
    }
    for (key, expected) in &answers.values {
        match reader.get(key) {
            Ok(value) if value == *expected => {}
            Ok(value) => return Err(format!("get of {key:?} is {value:?}, not {expected:?}")),
            Err(error) => said.note("get", &error),
        }
    }
    iterate(answers, &reader, said)?;
    history(specimen, height, &reader, said)?;
    for &number in to_prove {
        let (key, expected) = &answers.values[number];
        match reader.prove(key) {
            Ok(proven) => match hedgerow_proof::verify(&root, key, proven.proof.as_bytes()) {
                Ok(value) if value == expected.as_deref() => {}
                Ok(value) => return Err(format!("{key:?} is proved to be {value:?}")),
                Err(error) => return Err(format!("the proof of {key:?} does not verify: {error}")),
            },
            Err(error) => said.note("prove", &error),
        }
    }
    match store.check() {
        Ok(report) => {
            let found = (report.height.0, report.root, report.keys);
            if found != (height, root, answers.pairs.len() as u64) {
                return Err(format!("check reports {report:?}"));
            }
        }
        Err(error) => said.note("check", &error),
    }
    Ok(())
}

fn iterate(answers: &Answers, reader: &Reader, said: &mut Said) -> Result<(), String> {
    let mut expected = answers.pairs.iter();
    for pair in reader.iter() {
        match pair {
            Ok(pair) if Some(&pair) == expected.next() => {}
            Ok((key, _)) => return Err(format!("the iterator gives {key:?}, which is not next")),
            Err(error) => {
                said.note("iter", &error);
                return Ok(());
            }
        }
    }
    match expected.next() {
        None => Ok(()),
        Some((key, _)) => Err(format!("the iterator ends before {key:?}")),
    }
}

fn history(
    specimen: &Specimen,
    height: u64,
    reader: &Reader,
    said: &mut Said,
) -> Result<(), String> {
    for (&at, (root, extra)) in specimen.rows.range(..=height) {
        let kept = at >= specimen.kept_from;
        match reader.history(Height(at)) {
            Ok(row) if row.root == *root && row.extra == *extra => {}
            Ok(row) => return Err(format!("the history of height {at} is {row:?}")),
            Err(error @ Error::HeightUnavailable { .. }) if kept => {
                return Err(format!("damage taken for absence: {error}"));
            }
            Err(Error::HeightUnavailable { .. }) => {}
            Err(error) => said.note("history", &error),
        }
    }
    match reader.root_at(Height(height + 1)) {
        Ok(root) => Err(format!("height {} does not exist, its root is {root}", height + 1)),
        Err(_) => Ok(()),
    }
}
