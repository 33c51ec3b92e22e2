//! Few registers instead of many.
//!
//! ```text
//!  %r1 ├───┤                      PTX gives every value a register of its own, thousands of them;
//!  %r2    ├──────┤                32 lanes of that fit no cache. Registers whose lives do not
//!  %r3         ├───┤              overlap share one: %r1 and %r3 here.
//! ```
//!
//! A life reaches from the first instruction that names the register to the last. What lives when a
//! loop is entered, or is read in it before it is written, lives until the loop ends.

use super::{
    Kernel,
    decode::{Address, Class, Guard, Instruction, Operation, Place, Register, Source, StoreSource},
};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug)]
struct Life {
    first: usize,
    last: usize,
    /// Whether the first instruction that names it reads it.
    read_first: bool,
    written: bool,
}

type Lives = BTreeMap<(Class, Register), Life>;

pub(super) fn allocate(kernel: &mut Kernel) -> Result<(), String> {
    let mut lives = lives_of(&mut kernel.code);
    if let Some(((class, _), life)) = lives.iter().find(|(_, life)| !life.written) {
        let line = kernel.lines[life.first];
        return Err(format!("PTX line {line}: reads a {class:?} register that nothing writes"));
    }
    extend_over_loops(&mut lives, &loops_of(&kernel.code));

    for class in [Class::Narrow, Class::Wide, Class::Predicate] {
        let (slots, count) = share(&lives, class);
        kernel.registers[class as usize] = count;
        for instruction in &mut kernel.code {
            visit(instruction, &mut |of, register, _| {
                if of == class
                    && let Some(slot) = slots.get(register)
                {
                    *register = *slot;
                }
            });
        }
    }
    Ok(())
}

fn lives_of(code: &mut [Instruction]) -> Lives {
    let mut lives = Lives::new();
    for (at, instruction) in code.iter_mut().enumerate() {
        // Reads first, as they happen: `add r, r, 1` reads before it writes.
        for writes in [false, true] {
            visit(instruction, &mut |class, register, is_write| {
                if is_write != writes {
                    return;
                }
                let life = lives.entry((class, *register)).or_insert(Life {
                    first: at,
                    last: at,
                    read_first: !is_write,
                    written: false,
                });
                life.last = at;
                life.written |= is_write;
            });
        }
    }
    lives
}

/// Target and branch of every jump backward.
fn loops_of(code: &[Instruction]) -> Vec<(usize, usize)> {
    let branches = code.iter().enumerate();
    let backward = branches.filter_map(|(at, instruction)| match instruction.operation {
        Operation::Branch { to } if to <= at => Some((to, at)),
        _ => None,
    });
    backward.collect()
}

fn extend_over_loops(lives: &mut Lives, loops: &[(usize, usize)]) {
    let mut changed = true;
    while changed {
        changed = false;
        for life in lives.values_mut() {
            for &(start, end) in loops {
                let touches = life.first <= end && life.last >= start;
                let enters = life.first < start || life.read_first;
                if touches && enters && life.last < end {
                    life.last = end;
                    changed = true;
                }
                if touches && life.read_first && life.first > start {
                    life.first = start;
                    changed = true;
                }
            }
        }
    }
}

/// A slot for each register of a class, and how many slots there are.
fn share(lives: &Lives, class: Class) -> (BTreeMap<Register, Register>, usize) {
    let mut of_class: Vec<_> = lives.iter().filter(|((of, _), _)| *of == class).collect();
    of_class.sort_by_key(|(_, life)| life.first);
    // When each slot is free again.
    let mut ends: Vec<usize> = Vec::new();
    let mut slots = BTreeMap::new();
    for ((_, register), life) in of_class {
        let free = ends.iter().position(|&end| end < life.first);
        let slot = free.unwrap_or(ends.len());
        if slot == ends.len() {
            ends.push(life.last);
        } else {
            ends[slot] = life.last;
        }
        slots.insert(*register, Register(slot as u16));
    }
    (slots, ends.len())
}

/// Shows every register of an instruction, with its class and whether it is written.
fn visit(instruction: &mut Instruction, show: &mut dyn FnMut(Class, &mut Register, bool)) {
    if let Some(Guard { predicate, .. }) = &mut instruction.guard {
        show(Class::Predicate, predicate, false);
    }
    match &mut instruction.operation {
        Operation::Alu32 { to, from, .. } => {
            sources(Class::Narrow, from, show);
            show(Class::Narrow, to, true);
        }
        Operation::Alu64 { to, from, .. } => {
            sources(Class::Wide, from, show);
            show(Class::Wide, to, true);
        }
        Operation::Product { to, from } => {
            sources(Class::Narrow, from, show);
            show(Class::Wide, to, true);
        }
        Operation::Widen { to, from, .. } => {
            sources(Class::Narrow, std::slice::from_mut(from), show);
            show(Class::Wide, to, true);
        }
        Operation::Narrow { to, from } => {
            sources(Class::Wide, std::slice::from_mut(from), show);
            show(Class::Narrow, to, true);
        }
        Operation::Compare32 { to, from, .. } => {
            sources(Class::Narrow, from, show);
            show(Class::Predicate, to, true);
        }
        Operation::Compare64 { to, from, .. } => {
            sources(Class::Wide, from, show);
            show(Class::Predicate, to, true);
        }
        Operation::Select32 { to, from, by } => {
            sources(Class::Narrow, from, show);
            show(Class::Predicate, by, false);
            show(Class::Narrow, to, true);
        }
        Operation::Select64 { to, from, by } => {
            sources(Class::Wide, from, show);
            show(Class::Predicate, by, false);
            show(Class::Wide, to, true);
        }
        Operation::Logic { to, from, .. } => {
            sources(Class::Predicate, from, show);
            show(Class::Predicate, to, true);
        }
        Operation::Load { to, from, .. } => {
            address(from, show);
            to.iter_mut().for_each(|to| place(to, true, show));
        }
        Operation::Store { to, from, .. } => {
            address(to, show);
            for source in from {
                if let StoreSource::Register(from) = source {
                    place(from, false, show);
                }
            }
        }
        Operation::Barrier | Operation::Branch { .. } | Operation::Return => {}
    }
}

fn sources(class: Class, from: &mut [Source], show: &mut dyn FnMut(Class, &mut Register, bool)) {
    for source in from {
        if let Source::Register(register) = source {
            show(class, register, false);
        }
    }
}

fn address(address: &mut Address, show: &mut dyn FnMut(Class, &mut Register, bool)) {
    if let Some(base) = &mut address.base {
        show(Class::Wide, base, false);
    }
}

fn place(place: &mut Place, written: bool, show: &mut dyn FnMut(Class, &mut Register, bool)) {
    match place {
        Place::Narrow(register) => show(Class::Narrow, register, written),
        Place::Wide(register) => show(Class::Wide, register, written),
    }
}
