//! A million forged proofs, and none of them believed.
//!
//! ```text
//!  stores ──► true proofs ──► attacks (attack.rs) ──► attempts: root, question, bytes
//!  models ──► every node ────────┘                                     │
//!     │                                                                ▼ hedgerow_proof: verify, verify_many,
//!     │                                                                │                 verify_range, verify_past
//!     └──► truth (truth.rs) ◄── accepted: the same answer, ◄───────────┤
//!                               and the one proof of it                └──► refused: which check
//! ```
//!
//! An attempt that is accepted must say what is true, and be, byte for byte, the one proof of it. None panics, and
//! none makes the verifier allocate more than the proof's size allows, whether it is accepted or not.
//!
//! `just forge` makes 1,200,000 attempts; a test run makes a part of them. Everything follows from a seed, which is
//! printed; an attempt that fails prints what makes it first:
//!
//! ```text
//! HEDGEROW_FORGE=1200000 HEDGEROW_FORGE_SEED=7 HEDGEROW_FORGE_AT=12345 cargo test -p hedgerow --test forge -- --nocapture
//! ```
//!
//! With `HEDGEROW_FORGE_VECTORS=FILE` the attempts are written down with what was said of them, as vectors for
//! `proof/vectors/verify.py`: two verifiers that share no line must say the same of each.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod attack;
mod sample;
mod tree;
mod truth;

use attack::{ATTACKS, Attacker, Attempt};
use hedgerow::{Digest, Height};
use hedgerow_proof::{ProofError, Trusted, Verified, Verifier};
use hedgerow_testkit::Limit;
use hedgerow_testkit::recipe::SplitMix64;
use sample::Samples;
use serde_json::{Value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::{env, fs};
use truth::{Answer, FAMILIES, Question};

/// The system's allocator, with a count of the bytes that this thread asked for.
struct Counting;

thread_local! {
    static ASKED_FOR: Cell<usize> = const { Cell::new(0) };
}

fn more(bytes: usize) {
    ASKED_FOR.with(|asked| asked.set(asked.get() + bytes));
}

// SAFETY: every call is handed to `System` as it came; counting touches no memory of the caller's, and the
// thread's count needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same; `ptr` is from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        more(new_size);
        // SAFETY: the caller keeps the contract of `realloc`, which is the same; `ptr` is from `System`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `verify` and says how many bytes it asked for.
fn counted<T>(verify: impl FnOnce() -> T) -> (T, usize) {
    let before = ASKED_FOR.with(Cell::get);
    let result = verify();
    (result, ASKED_FOR.with(Cell::get) - before)
}

/// What the verifier says that trusts a root, or the roots of the shards, and how many bytes it asked for.
fn ask<'t>(
    root: impl Into<Trusted<'t>>,
    question: &Question,
    bytes: &[u8],
) -> (Result<Answer, ProofError>, usize) {
    let (verifier, root) = (Verifier::new(), root.into());
    let value = |verified: &Verified<'_>| verified.value().map(<[u8]>::to_vec);
    match question {
        Question::Single { key } => {
            let (said, asked) = counted(|| verifier.verify(root, key, bytes));
            (said.map(|value| Answer::Values(vec![value.map(<[u8]>::to_vec)])), asked)
        }
        Question::Many { keys } => {
            let (said, asked) = counted(|| verifier.verify_many(root, keys, bytes));
            (said.map(|said| Answer::Values(said.iter().map(value).collect())), asked)
        }
        Question::Range { from } => {
            let (said, asked) = counted(|| verifier.verify_range(root, *from, bytes));
            let answer = said.map(|range| {
                let items = range.items().map(|(key, value)| (key.to_vec(), value.to_vec()));
                Answer::Items { items: items.collect(), until: range.until() }
            });
            (answer, asked)
        }
        Question::Past { key, height } => {
            let (said, asked) = counted(|| verifier.verify_past(root, key, Height(*height), bytes));
            (said.map(|said| Answer::Values(vec![value(&said)])), asked)
        }
    }
}

/// An attempt and what the verifier says of it, in the shape of `proof/vectors`: for a second verifier.
fn vector(
    name: &str,
    root: &Digest,
    attempt: &Attempt,
    said: &Result<Answer, ProofError>,
) -> Value {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let Attempt { question, bytes, .. } = attempt;
    let family = FAMILIES[question.family()];
    let mut vector =
        json!({"name": name, "family": family, "root": hex(&root.0), "proof": hex(bytes)});
    let asked = match question {
        Question::Single { key } => json!({"keys": [hex(key)]}),
        Question::Many { keys } => {
            json!({"keys": keys.iter().map(|key| hex(key)).collect::<Vec<_>>()})
        }
        Question::Range { from } => json!({"from": hex(&from.0)}),
        Question::Past { key, height } => json!({"keys": [hex(key)], "height": height}),
    };
    let expect = match said {
        Ok(Answer::Values(values)) => {
            let values = values.iter().map(|value| value.as_deref().map(hex));
            json!({"answers": values.collect::<Vec<_>>()})
        }
        Ok(Answer::Items { items, until }) => {
            let items = items.iter().map(|(key, value)| [hex(key), hex(value)]);
            json!({"items": items.collect::<Vec<_>>(), "until": hex(&until.0)})
        }
        Err(error) => json!({"error": error.check()}),
    };
    let (Value::Object(fields), Value::Object(more)) = (&mut vector, asked) else {
        panic!("objects")
    };
    fields.extend(more);
    fields.insert("expect".into(), expect);
    vector
}

/// The most bytes that the verifier may ask for.
fn allowed(question: &Question, bytes: &[u8]) -> usize {
    match question {
        Question::Single { .. } | Question::Past { .. } => 0,
        // Lists of the entries, which lie in the proof, and one answer for each key.
        Question::Many { keys } => 2 * bytes.len() + size_of::<Verified<'_>>() * keys.len(),
        Question::Range { .. } => 2 * bytes.len(),
    }
}

/// Says what makes an attempt first, if a test ends while it is made.
struct Note {
    seed: u64,
    at: u64,
}

impl Drop for Note {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "HEDGEROW_FORGE_SEED={} HEDGEROW_FORGE_AT={} makes it first",
                self.seed, self.at
            );
        }
    }
}

/// A number from the environment.
fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn no_forged_proof_is_believed() {
    let _limit = Limit::new();
    let attempts = number("HEDGEROW_FORGE", 60_000);
    let seed = number("HEDGEROW_FORGE_SEED", 1);
    let first = number("HEDGEROW_FORGE_AT", 0);
    println!("seed {seed}");
    let samples = Samples::new(seed);
    println!("{}", samples.describe());
    for sample in samples.families.iter().flatten() {
        let world = &samples.worlds[sample.world];
        let bytes = sample.parts.bytes();
        let (said, asked) = ask(world.root, &sample.question, &bytes);
        assert!(world.is_true(&sample.question, &said.unwrap(), &bytes), "{:?}", sample.question);
        assert!(asked <= allowed(&sample.question, &bytes));
    }

    // Of each attack and family: attempts, and those that were a true proof all the same.
    let mut counts = vec![[(0_u64, 0_u64); 4]; ATTACKS.len()];
    let mut checks: BTreeMap<&str, u64> = BTreeMap::new();
    let mut most = [0.0_f64; 4];
    let (mut made, mut at) = (0, first);
    let mut note = Note { seed, at };
    let (vectors_in, mut vectors) = (env::var_os("HEDGEROW_FORGE_VECTORS"), Vec::new());
    while made < attempts {
        note.at = at;
        let number = at as usize % ATTACKS.len();
        let mut attacker = Attacker {
            rng: SplitMix64::new(seed ^ at.wrapping_mul(0x9E37_79B9)),
            samples: &samples,
        };
        at += 1;
        assert!(at - first < 4 * attempts + 1000, "attacks seldom fit");
        let (name, attack) = ATTACKS[number];
        let Some(attempt) = attack(&mut attacker) else { continue };
        made += 1;
        let world = &samples.worlds[attempt.world];
        let Attempt { question, bytes, .. } = &attempt;
        let family = question.family();
        let (said, asked) = ask(world.root, question, bytes);
        if at.is_multiple_of(16) {
            assert_eq!(ask(&world.shard_roots, question, bytes), (said.clone(), asked));
        }
        counts[number][family].0 += 1;
        most[family] = most[family].max(asked as f64 / bytes.len() as f64);
        assert!(asked <= allowed(question, bytes), "{name}: {asked} bytes for {}", bytes.len());
        if vectors_in.is_some() {
            vectors.push(vector(name, &world.root, &attempt, &said));
        }
        match said {
            Ok(answer) => {
                let shown = || format!("{name}: {question:?} got {answer:?}\n{:02x?}", &bytes[..]);
                assert!(world.is_true(question, &answer, bytes), "{}", shown());
                counts[number][family].1 += 1;
            }
            Err(error) => *checks.entry(error.check()).or_default() += 1,
        }
    }

    if let Some(path) = vectors_in {
        fs::write(path, json!({"vectors": vectors}).to_string()).unwrap();
    }
    println!("{:>46}  attempts, and of these true proofs all the same", FAMILIES.join("  "));
    for ((name, _), counts) in ATTACKS.iter().zip(&counts) {
        let cells: Vec<String> =
            counts.iter().map(|(all, kept)| format!("{all} ({kept})")).collect();
        println!("  {name:<45} {}", cells.join("  "));
        assert!(counts.iter().any(|(all, _)| *all > 0), "never tried: {name}");
    }
    for (family, name) in FAMILIES.iter().enumerate() {
        let all: u64 = counts.iter().map(|of| of[family].0).sum();
        println!(
            "  {name}: {all} attempts; asked for {:.2} bytes at most per byte of the proof",
            most[family]
        );
        assert!(all * 8 > made, "{name} was seldom tried");
    }
    println!("refused by check: {checks:?}");
    // Every check of docs/proofs.md but the limit.
    for check in [
        "version",
        "length",
        "no entries",
        "upper levels",
        "entry",
        "order",
        "shards",
        "position",
        "root",
        "entry count",
        "inactive",
        "key",
        "surplus",
        "start",
        "gap",
        "later",
        "not replaced",
    ] {
        assert!(checks.contains_key(check), "nothing was refused by the check {check:?}");
    }
    let kept: u64 = counts.iter().flatten().map(|(_, kept)| kept).sum();
    println!(
        "{made} forged proofs of 4 families by {} attacks: {kept} were true all the same, {} refused, 0 believed",
        ATTACKS.len(),
        made - kept
    );
}
