//! `instructions`: a small workload, always the same, whose instructions `.ci/instructions` counts step by step.
//!
//! ```text
//!   creates, updates, deletes ─► a store in memory, pools of one thread ─► gets, proofs, proofs of many keys
//!        every block is durable before the next one begins
//!
//!   valgrind ─► instructions of each function, with all that it calls ─► .ci/instructions ─► baseline, table
//! ```
//!
//! Nothing here measures time. Which function stands for which step is in `.ci/instructions`; what is counted are calls of
//! functions by their names, in whatever thread they run, so those must not be inlined. Waiting of threads for each
//! other, which differs from run to run, is in none of them.
//!
//! All but single keys is hashed by one kernel, `avx2`, because which ones are fastest is measured with a clock. Valgrind pretends to
//! be a CPU with AVX2 at most, which this machine has to have: the counts are those of the program, not of the machine.
#![forbid(unsafe_code)]

use hedgerow::disk::MemDisk;
use hedgerow::{Error, Options, Reader, Store, StoreParams};
use hedgerow_benches::workload::{Generator, KeySet, Mix, Op, Random};
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

/// Keys that are created first.
const KEYS: u32 = 20_000;
/// Operations of a block: few enough that one thread publishes it.
const BLOCK: usize = 1_000;
/// Blocks of 90 % updates, 5 % creates, 5 % deletes after them.
const BLOCKS: usize = 20;
/// Keys that are read, and absent ones.
const GETS: u32 = 4_000;
/// Keys that are proved, one by one.
const PROOFS: u32 = 500;
/// Proofs of many keys, and keys of each.
const PROOFS_OF_MANY: (u32, u32) = (20, 16);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let options = Options::new().disk(Arc::new(MemDisk::new())).threads(1);
    let options = options.hasher_named("cpu:avx2").manifest_blocks(8);
    let mut store = Store::create("/state", StoreParams::default(), options)?;
    let (generator, mut turn) = (Generator::new(7, 32, 100), 0);
    for first in (0..KEYS).step_by(BLOCK) {
        let ids = first..KEYS.min(first + BLOCK as u32);
        let ops: Vec<_> = ids.map(|id| Op { id, delete: false }).collect();
        block(&mut store, &generator, &mut turn, &ops)?;
    }
    let (mut keys, mut random) = (KeySet::new(KEYS), Random::new(7));
    for _ in 0..BLOCKS {
        let ops: Vec<_> = (0..BLOCK).filter_map(|_| keys.draw(Mix::Mixed, &mut random)).collect();
        block(&mut store, &generator, &mut turn, &ops)?;
    }
    store.flush()?;

    let reader = store.reader();
    // Some of these were deleted, and some were never there.
    let chosen = |number: u32| {
        let mut key = Vec::new();
        generator.key(number.wrapping_mul(7_919) % (KEYS + KEYS / 8), &mut key);
        key
    };
    for number in 0..GETS {
        get(&reader, &chosen(number))?;
    }
    for number in 0..PROOFS {
        prove(&reader, &chosen(number))?;
    }
    let (proofs, of) = PROOFS_OF_MANY;
    for number in 0..proofs {
        prove_many(&reader, &(number * of..(number + 1) * of).map(chosen).collect::<Vec<_>>())?;
    }
    // What the counts are divided by.
    let operations = KEYS as usize + BLOCKS * BLOCK;
    println!("operations {operations}");
    println!("manifests {}", store.stats().commits);
    println!("gets {GETS}\nproofs {PROOFS}\nkeys {}", proofs * of);
    store.close()
}

fn block(
    store: &mut Store,
    generator: &Generator,
    turn: &mut u64,
    ops: &[Op],
) -> Result<(), Error> {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let mut block = store.next_block()?;
    for op in ops {
        generator.key(op.id, &mut key);
        if op.delete {
            block.delete(&key)?;
        } else {
            generator.value(op.id, *turn, &mut value);
            block.put(&key, &value)?;
        }
        *turn += 1;
    }
    block.submit()?.durable()?;
    Ok(())
}

#[inline(never)]
fn get(reader: &Reader, key: &[u8]) -> Result<(), Error> {
    black_box(reader.get(key)?);
    Ok(())
}

#[inline(never)]
fn prove(reader: &Reader, key: &[u8]) -> Result<(), Error> {
    black_box(reader.prove(key)?);
    Ok(())
}

#[inline(never)]
fn prove_many(reader: &Reader, keys: &[Vec<u8>]) -> Result<(), Error> {
    black_box(reader.prove_many(keys)?);
    Ok(())
}
