//! A warp: 32 lanes that execute together while they can.
//!
//! ```text
//!   lanes 0-31 ── @p bra ─┬─ lanes 7, 9 ──────┐        the group furthest behind runs until it
//!                         └─ the others ──────┴──►     reaches another one, and they are one again
//! ```

use super::{
    Environment, Fault, LANES, POISON,
    alu::{Lanes32, Lanes64, compare32, compare64, compute32, compute64},
    memory::check_alignment,
};
use crate::{
    code,
    ptx::{
        Address, Alu, Guard, Instruction, Kernel, Operation, Place, Predicate, Register, Source,
        Space, Special, StoreSource,
    },
};
use std::array::from_fn;

/// Why a warp stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// All its lanes wait at the barrier before this instruction.
    Barrier(usize),
    Done,
}

/// Lanes at the same instruction; a bit each.
#[derive(Clone, Copy, Debug)]
struct Group {
    at: usize,
    lanes: u32,
}

#[derive(Debug)]
pub(super) struct Warp {
    first_thread: u32,
    /// Lanes that have not returned.
    live: u32,
    groups: Vec<Group>,
    narrow: Vec<Lanes32>,
    wide: Vec<Lanes64>,
    predicates: Vec<u32>,
    /// Branches until the kernel counts as endless.
    patience: u32,
}

const PATIENCE: u32 = 1 << 24;

impl Warp {
    pub(super) fn new(kernel: &Kernel, first_thread: u32) -> Self {
        let [narrow, wide, predicates] = kernel.registers;
        Self {
            first_thread,
            live: 0,
            groups: Vec::new(),
            narrow: vec![[0; LANES]; narrow],
            wide: vec![[0; LANES]; wide],
            predicates: vec![0; predicates],
            patience: PATIENCE,
        }
    }

    /// Ready for a block of this many threads.
    pub(super) fn reset(&mut self, threads: u32) {
        let lanes = (threads - self.first_thread).min(LANES as u32);
        self.live = u32::MAX >> (LANES as u32 - lanes);
        self.groups.clear();
        self.groups.push(Group { at: 0, lanes: self.live });
        self.narrow.fill([u32::from_ne_bytes([POISON; 4]); LANES]);
        self.wide.fill([u64::from_ne_bytes([POISON; 8]); LANES]);
        self.predicates.fill(u32::from_ne_bytes([POISON; 4]));
        self.patience = PATIENCE;
    }

    /// Runs to the next barrier, or to the end.
    pub(super) fn run(&mut self, environment: &mut Environment<'_>) -> Result<Stop, Fault> {
        while let Some((mut group, next)) = self.furthest_behind() {
            while group.at < next {
                let kernel = environment.launch.kernel;
                let Some(instruction) = kernel.code.get(group.at) else {
                    return Err(Fault::new(code::LAUNCH_FAILED, "runs over the end of its code"));
                };
                match self.step(environment, instruction, &mut group) {
                    Ok(Flow::Next) => {}
                    Ok(Flow::Regroup) => break,
                    Ok(Flow::Barrier) => return Ok(Stop::Barrier(group.at)),
                    Err(fault) => {
                        let line = kernel.lines[group.at];
                        let text = format!("PTX line {line}: {}", fault.text);
                        return Err(Fault { text, ..fault });
                    }
                }
            }
            if group.lanes != 0 {
                self.groups.push(group);
            }
        }
        Ok(Stop::Done)
    }

    /// Takes out the group that is furthest behind, merged with those at the same instruction, and
    /// says where the next one is.
    fn furthest_behind(&mut self) -> Option<(Group, usize)> {
        let at = self.groups.iter().map(|group| group.at).min()?;
        let mut lanes = 0;
        self.groups.retain(|group| {
            if group.at == at {
                lanes |= group.lanes;
            }
            group.at != at
        });
        let next = self.groups.iter().map(|group| group.at).min().unwrap_or(usize::MAX);
        Some((Group { at, lanes }, next))
    }

    /// Executes one instruction for a group and moves the group on.
    fn step(
        &mut self,
        environment: &mut Environment<'_>,
        instruction: &Instruction,
        group: &mut Group,
    ) -> Result<Flow, Fault> {
        let lanes = match instruction.guard {
            None => group.lanes,
            Some(Guard { predicate, negated }) => {
                let holds = self.predicates[predicate.0 as usize];
                group.lanes & if negated { !holds } else { holds }
            }
        };
        match &instruction.operation {
            Operation::Branch { to } => return self.branch(group, lanes, *to),
            Operation::Return => {
                self.live &= !lanes;
                group.lanes &= !lanes;
                group.at += 1;
                return Ok(Flow::Regroup);
            }
            Operation::Barrier => {
                if lanes != self.live {
                    return Err(Fault::new(
                        code::LAUNCH_FAILED,
                        format!("divergent barrier: lanes {lanes:#x} of {:#x} reach it", self.live),
                    ));
                }
                group.at += 1;
                self.groups.push(*group);
                return Ok(Flow::Barrier);
            }
            Operation::Load { space, bytes, to, from } => {
                self.load(environment, lanes, (*space, *bytes), to, *from)?;
            }
            Operation::Store { space, bytes, to, from } => {
                self.store(environment, lanes, (*space, *bytes), *to, from)?;
            }
            operation => self.compute(environment, lanes, operation)?,
        }
        group.at += 1;
        Ok(Flow::Next)
    }

    fn branch(&mut self, group: &mut Group, taken: u32, to: usize) -> Result<Flow, Fault> {
        self.patience -= 1;
        if self.patience == 0 {
            return Err(Fault::new(code::LAUNCH_TIMEOUT, "endless loop"));
        }
        if taken != 0 {
            self.groups.push(Group { at: to, lanes: taken });
        }
        group.lanes &= !taken;
        group.at += 1;
        Ok(Flow::Regroup)
    }

    fn compute(
        &mut self,
        environment: &Environment<'_>,
        lanes: u32,
        operation: &Operation,
    ) -> Result<(), Fault> {
        let of32 = |warp: &Self, source: &Source| warp.source32(environment, *source);
        let of64 = |warp: &Self, source: &Source| warp.source64(environment, *source);
        match operation {
            Operation::Alu32 { alu, to, from } => {
                let result = self.alu32(environment, *alu, from);
                self.set32(lanes, *to, &result);
            }
            Operation::Alu64 { alu, to, from } => {
                let [a, b, c, d] = [0, 1, 2, 3].map(|i| of64(self, &from[i]));
                let result = compute64(*alu, [&a, &b, &c, &d])
                    .ok_or_else(|| Fault::new(code::LAUNCH_FAILED, "no such instruction"))?;
                self.set64(lanes, *to, &result);
            }
            Operation::Product { to, from: [a, b] } => {
                let (a, b) = (of32(self, a), of32(self, b));
                let result = from_fn(|i| u64::from(a[i]) * u64::from(b[i]));
                self.set64(lanes, *to, &result);
            }
            Operation::Widen { to, from, signed } => {
                let a = of32(self, from);
                let result = match signed {
                    true => from_fn(|i| a[i] as i32 as i64 as u64),
                    false => from_fn(|i| u64::from(a[i])),
                };
                self.set64(lanes, *to, &result);
            }
            Operation::Narrow { to, from } => {
                let a = of64(self, from);
                self.set32(lanes, *to, &from_fn(|i| a[i] as u32));
            }
            Operation::Compare32 { compare, signed, to, from: [a, b] } => {
                let result = compare32(*compare, *signed, &of32(self, a), &of32(self, b));
                self.set_predicate(lanes, *to, result);
            }
            Operation::Compare64 { compare, signed, to, from: [a, b] } => {
                let result = compare64(*compare, *signed, &of64(self, a), &of64(self, b));
                self.set_predicate(lanes, *to, result);
            }
            Operation::Select32 { to, from: [a, b], by } => {
                let (a, b) = (of32(self, a), of32(self, b));
                let by = self.predicates[by.0 as usize];
                self.set32(lanes, *to, &from_fn(|i| if by >> i & 1 != 0 { a[i] } else { b[i] }));
            }
            Operation::Select64 { to, from: [a, b], by } => {
                let (a, b) = (of64(self, a), of64(self, b));
                let by = self.predicates[by.0 as usize];
                self.set64(lanes, *to, &from_fn(|i| if by >> i & 1 != 0 { a[i] } else { b[i] }));
            }
            Operation::Logic { logic, to, from: [a, b] } => {
                let result = logic_of(*logic, self.predicate(*a), self.predicate(*b));
                self.set_predicate(lanes, *to, result);
            }
            _ => return Err(Fault::new(code::LAUNCH_FAILED, "no arithmetic")),
        }
        Ok(())
    }

    /// The hot path: SHA-256 is nothing else.
    #[inline]
    fn alu32(&self, environment: &Environment<'_>, alu: Alu, from: &[Source; 4]) -> Lanes32 {
        let [a, b, c, d] = from;
        let a = self.source32(environment, *a);
        let b = self.source32(environment, *b);
        if matches!(c, Source::Immediate(0)) && matches!(d, Source::Immediate(0)) {
            return compute32(alu, [&a, &b, &[0; LANES], &[0; LANES]]);
        }
        let c = self.source32(environment, *c);
        let d = self.source32(environment, *d);
        compute32(alu, [&a, &b, &c, &d])
    }

    fn load(
        &mut self,
        environment: &mut Environment<'_>,
        lanes: u32,
        (space, bytes): (Space, u8),
        to: &[Place],
        from: Address,
    ) -> Result<(), Fault> {
        let size = u64::from(bytes) * to.len() as u64;
        for lane in lanes_of(lanes) {
            let address = self.address(from, lane);
            let thread = self.thread(environment, lane);
            check_alignment(address, size)?;
            let read = match space {
                Space::Global => environment.global.read(thread, address, size)?,
                Space::Shared => environment.shared.read(thread, address, size)?,
                Space::Parameters => parameters(environment, address, size)?,
            };
            for (place, value) in to.iter().zip(read.chunks(bytes.into())) {
                let mut word = [0; 8];
                word[..value.len()].copy_from_slice(value);
                self.put(*place, lane, u64::from_le_bytes(word));
            }
        }
        Ok(())
    }

    fn store(
        &mut self,
        environment: &mut Environment<'_>,
        lanes: u32,
        (space, bytes): (Space, u8),
        to: Address,
        from: &[StoreSource],
    ) -> Result<(), Fault> {
        let size = u64::from(bytes) * from.len() as u64;
        for lane in lanes_of(lanes) {
            let address = self.address(to, lane);
            let thread = self.thread(environment, lane);
            check_alignment(address, size)?;
            let written = match space {
                Space::Shared => environment.shared.write(thread, address, size)?,
                _ => environment.global.write(thread, address, size)?,
            };
            for (source, value) in from.iter().zip(written.chunks_mut(bytes.into())) {
                let word = match *source {
                    StoreSource::Immediate(value) => value,
                    StoreSource::Register(Place::Narrow(Register(r))) => {
                        self.narrow[r as usize][lane].into()
                    }
                    StoreSource::Register(Place::Wide(Register(r))) => self.wide[r as usize][lane],
                };
                value.copy_from_slice(&word.to_le_bytes()[..value.len()]);
            }
        }
        Ok(())
    }

    fn address(&self, address: Address, lane: usize) -> u64 {
        let base = address.base.map_or(0, |Register(r)| self.wide[r as usize][lane]);
        base.wrapping_add_signed(address.offset)
    }

    /// Number of a lane's thread among all of the launch, for telling threads apart.
    fn thread(&self, environment: &Environment<'_>, lane: usize) -> u32 {
        let before = environment.block.wrapping_mul(environment.launch.block);
        before.wrapping_add(self.first_thread + lane as u32)
    }

    fn put(&mut self, place: Place, lane: usize, value: u64) {
        match place {
            Place::Narrow(Register(r)) => self.narrow[r as usize][lane] = value as u32,
            Place::Wide(Register(r)) => self.wide[r as usize][lane] = value,
        }
    }

    #[inline]
    fn source32(&self, environment: &Environment<'_>, source: Source) -> Lanes32 {
        match source {
            Source::Register(Register(r)) => self.narrow[r as usize],
            Source::Immediate(value) => [value as u32; LANES],
            Source::Special(special) => self.special(environment, special),
        }
    }

    fn source64(&self, environment: &Environment<'_>, source: Source) -> Lanes64 {
        match source {
            Source::Register(Register(r)) => self.wide[r as usize],
            Source::Immediate(value) => [value; LANES],
            Source::Special(special) => self.special(environment, special).map(u64::from),
        }
    }

    fn special(&self, environment: &Environment<'_>, special: Special) -> Lanes32 {
        match special {
            Special::ThreadId => from_fn(|lane| self.first_thread + lane as u32),
            Special::BlockSize => [environment.launch.block; LANES],
            Special::BlockId => [environment.block; LANES],
            Special::GridSize => [environment.launch.grid; LANES],
        }
    }

    fn predicate(&self, source: Source) -> u32 {
        match source {
            Source::Register(Register(r)) => self.predicates[r as usize],
            Source::Immediate(0) | Source::Special(_) => 0,
            Source::Immediate(_) => u32::MAX,
        }
    }

    #[inline]
    fn set32(&mut self, lanes: u32, Register(to): Register, value: &Lanes32) {
        let register = &mut self.narrow[to as usize];
        if lanes == u32::MAX {
            *register = *value;
            return;
        }
        for lane in lanes_of(lanes) {
            register[lane] = value[lane];
        }
    }

    fn set64(&mut self, lanes: u32, Register(to): Register, value: &Lanes64) {
        let register = &mut self.wide[to as usize];
        for lane in lanes_of(lanes) {
            register[lane] = value[lane];
        }
    }

    fn set_predicate(&mut self, lanes: u32, Register(to): Register, value: u32) {
        let register = &mut self.predicates[to as usize];
        *register = (*register & !lanes) | (value & lanes);
    }
}

/// How a warp goes on after an instruction.
enum Flow {
    Next,
    Regroup,
    Barrier,
}

fn lanes_of(lanes: u32) -> impl Iterator<Item = usize> {
    (0..LANES).filter(move |lane| lanes >> lane & 1 != 0)
}

fn logic_of(logic: Predicate, a: u32, b: u32) -> u32 {
    match logic {
        Predicate::Move => a,
        Predicate::Not => !a,
        Predicate::And => a & b,
        Predicate::Or => a | b,
        Predicate::Xor => a ^ b,
    }
}

fn parameters<'a>(environment: &Environment<'a>, at: u64, size: u64) -> Result<&'a [u8], Fault> {
    let parameters = environment.launch.parameters;
    let range = parameters.get(at as usize..(at + size) as usize);
    range.ok_or_else(|| Fault::new(code::ILLEGAL_ADDRESS, "outside of the parameters"))
}
