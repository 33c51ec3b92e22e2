//! Checks of what the store answered, beside the clocks: a fast wrong answer is worth nothing.

use crate::Failure;
use hedgerow::{Digest, Proven, Reader};
use hedgerow_benches::workload::{Generator, Op};
use std::collections::HashMap;

/// Checks what the operations of the last block, the first of them at `first_turn`, left behind:
/// the newest value of a key or its absence, for at most `samples` keys.
pub(crate) fn written(
    reader: &Reader,
    generator: &Generator,
    ops: &[Op],
    first_turn: u64,
    samples: usize,
) -> Result<(), Failure> {
    let last: HashMap<u32, (u64, bool)> =
        (first_turn..).zip(ops).map(|(turn, op)| (op.id, (turn, op.delete))).collect();
    let (mut key, mut expected) = (Vec::new(), Vec::new());
    for (&id, &(turn, deleted)) in last.iter().take(samples) {
        generator.key(id, &mut key);
        generator.value(id, turn, &mut expected);
        let expected = (!deleted).then_some(&expected);
        let found = reader.get(&key)?;
        if found.as_ref() != expected {
            let reason = format!("key {id} has {found:?}, it was left with {expected:?}");
            return Err(Failure::Wrong(reason));
        }
    }
    Ok(())
}

/// Checks that `value` is one that the key got at some time.
pub(crate) fn value(generator: &Generator, id: u32, value: Option<&[u8]>) -> Result<(), Failure> {
    match value {
        None => Err(Failure::Wrong(format!("key {id} is absent"))),
        Some(value) if generator.turn_of(id, value).is_some() => Ok(()),
        Some(value) => Err(Failure::Wrong(format!("key {id} has {value:?}, which it never got"))),
    }
}

/// Verifies a proof of a key that is there, against the root of the state.
pub(crate) fn proof(
    generator: &Generator,
    id: u32,
    proven: &Proven,
    root: &Digest,
) -> Result<(), Failure> {
    value(generator, id, verified(generator, id, proven, root)?)
}

/// What a proof proves against this root.
pub(crate) fn verified<'p>(
    generator: &Generator,
    id: u32,
    proven: &'p Proven,
    root: &Digest,
) -> Result<Option<&'p [u8]>, Failure> {
    let mut key = Vec::new();
    generator.key(id, &mut key);
    hedgerow_proof::verify(root, &key, proven.proof.as_bytes())
        .map_err(|error| Failure::Wrong(format!("the proof of key {id}: {error}")))
}
