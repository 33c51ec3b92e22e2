//! Statements to instructions: every opcode that we know, and nothing else.

use super::{Kernel, parse};
use std::collections::HashMap;

/// A register of the class that its place in the instruction implies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Register(pub(crate) u16);

/// The three register files, and the class of each operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Class {
    Narrow,
    Wide,
    Predicate,
}

/// What an instruction reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Register(Register),
    Immediate(u64),
    Special(Special),
}

/// Special registers (PTX ISA, 10). Only the first dimension: the others must be 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    ThreadId,
    BlockSize,
    BlockId,
    GridSize,
}

/// `@p` or `@!p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guard {
    pub(crate) predicate: Register,
    pub(crate) negated: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    pub(crate) guard: Option<Guard>,
    pub(crate) operation: Operation,
}

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Alu32 {
        alu: Alu,
        to: Register,
        from: [Source; 4],
    },
    Alu64 {
        alu: Alu,
        to: Register,
        from: [Source; 4],
    },
    /// The 64-bit product of two 32-bit numbers.
    Product {
        to: Register,
        from: [Source; 2],
    },
    Widen {
        to: Register,
        from: Source,
        signed: bool,
    },
    Narrow {
        to: Register,
        from: Source,
    },
    Compare32 {
        compare: Compare,
        signed: bool,
        to: Register,
        from: [Source; 2],
    },
    Compare64 {
        compare: Compare,
        signed: bool,
        to: Register,
        from: [Source; 2],
    },
    Select32 {
        to: Register,
        from: [Source; 2],
        by: Register,
    },
    Select64 {
        to: Register,
        from: [Source; 2],
        by: Register,
    },
    Logic {
        logic: Predicate,
        to: Register,
        from: [Source; 2],
    },
    Load {
        space: Space,
        bytes: u8,
        to: Vec<Place>,
        from: Address,
    },
    Store {
        space: Space,
        bytes: u8,
        to: Address,
        from: Vec<StoreSource>,
    },
    Barrier,
    Branch {
        to: usize,
    },
    Return,
}

/// Integer operations on 32 or 64 bits; how many operands they take, see [`Alu::operands`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alu {
    Move,
    Not,
    Negate,
    Add,
    Subtract,
    MultiplyLow,
    MultiplyAddLow,
    And,
    Or,
    Xor,
    /// Shifts clamp: by the width or more, nothing is left (or the sign).
    ShiftLeft,
    ShiftRight,
    ShiftRightSigned,
    /// `shf.l.wrap` of a register with itself by a constant: most of SHA-256.
    RotateLeft,
    /// `shf.l.wrap`, `shf.r.wrap`: of the pair `b:a` by `c` modulo 32.
    FunnelLeft,
    FunnelRight,
    /// `prmt` in its default mode.
    Permute,
    /// `lop3` by its truth table, the fourth operand.
    Logic3,
    /// `bfi`: low bits of `a` into `b` at `c`, as many as the fourth operand says.
    Insert,
    Min,
    Max,
}

impl Alu {
    const fn operands(self) -> usize {
        match self {
            Self::Move | Self::Not | Self::Negate => 1,
            Self::MultiplyAddLow | Self::FunnelLeft | Self::FunnelRight | Self::Permute => 3,
            Self::Insert | Self::Logic3 => 4,
            _ => 2,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Predicate {
    Move,
    Not,
    And,
    Or,
    Xor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Parameters,
    Global,
    Shared,
}

/// A register of 32 or 64 bits that a load fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Narrow(Register),
    Wide(Register),
}

/// What a store writes: a register, or a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreSource {
    Register(Place),
    Immediate(u64),
}

/// A register plus a constant; without a register the constant alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) base: Option<Register>,
    pub(crate) offset: i64,
}

const NOTHING: Source = Source::Immediate(0);

/// What names mean inside one kernel.
struct Names<'a> {
    registers: HashMap<(Class, &'a str), Register>,
    labels: HashMap<&'a str, usize>,
    parameters: HashMap<&'a str, usize>,
    shared: HashMap<&'a str, usize>,
}

pub(super) fn kernel(parsed: &parse::Kernel) -> Result<Kernel, String> {
    let (parameters, places) = lay_out(&parsed.parameters);
    let (shared_places, shared) = lay_out(&parsed.shared);
    let mut names = Names {
        registers: HashMap::new(),
        labels: parsed.labels.iter().map(|(name, at)| (name.as_str(), *at)).collect(),
        parameters: places,
        shared,
    };
    let mut code = Vec::with_capacity(parsed.statements.len());
    for statement in &parsed.statements {
        let instruction = names.instruction(statement).map_err(|what| {
            let parse::Statement { line, opcode, operands, .. } = statement;
            format!("PTX line {line}: {opcode} {}: {what}", operands.join(", "))
        })?;
        code.push(instruction);
    }
    Ok(Kernel {
        name: parsed.name.clone(),
        parameters,
        max_threads: parsed.max_threads,
        shared_bytes: shared_places.last().map_or(0, |(offset, size)| offset + size),
        lines: parsed.statements.iter().map(|statement| statement.line).collect(),
        code,
        registers: [0; 3],
    })
}

type Layout<'a> = (Vec<(usize, usize)>, HashMap<&'a str, usize>);

/// Variables one after the other, aligned: offset and size of each, and the offsets by name.
fn lay_out(variables: &[parse::Variable]) -> Layout<'_> {
    let mut end = 0;
    let mut places = Vec::new();
    let mut names = HashMap::new();
    for variable in variables {
        let offset = usize::next_multiple_of(end, variable.align);
        places.push((offset, variable.size));
        names.insert(variable.name.as_str(), offset);
        end = offset + variable.size;
    }
    (places, names)
}

impl<'a> Names<'a> {
    fn instruction(&mut self, statement: &'a parse::Statement) -> Result<Instruction, String> {
        let guard = match &statement.guard {
            Some((predicate, negated)) => Some(Guard {
                predicate: self.register(Class::Predicate, predicate)?,
                negated: *negated,
            }),
            None => None,
        };
        Ok(Instruction { guard, operation: self.operation(statement)? })
    }

    fn operation(&mut self, statement: &'a parse::Statement) -> Result<Operation, String> {
        let parts: Vec<&str> = statement.opcode.split('.').collect();
        let operands = &statement.operands;
        match parts[..] {
            ["ret"] => Ok(Operation::Return),
            ["bra"] | ["bra", "uni"] => self.branch(operands),
            ["bar", "sync"] | ["barrier", "sync"] if operands[..] == ["0"] => {
                Ok(Operation::Barrier)
            }
            ["ld", space, "nc", width] if space == "global" => self.load(space, 1, width, operands),
            ["ld", space, "nc", lanes, width] if space == "global" => {
                self.load(space, vector(lanes)?, width, operands)
            }
            ["ld", space, width] => self.load(space, 1, width, operands),
            ["ld", space, lanes, width] => self.load(space, vector(lanes)?, width, operands),
            ["st", space, width] => self.store(space, 1, width, operands),
            ["st", space, lanes, width] => self.store(space, vector(lanes)?, width, operands),
            ["setp", compare, kind] => self.compare(compare, kind, operands),
            ["selp", kind] => self.select(kind, operands),
            [logic, "pred"] => self.logic(logic, operands),
            ["mul", "wide", "u32"] => {
                let [to, a, b] = exactly(operands)?;
                Ok(Operation::Product {
                    to: self.register(Class::Wide, to)?,
                    from: [self.source(Class::Narrow, a)?, self.source(Class::Narrow, b)?],
                })
            }
            ["cvt", "u64" | "s64", from @ ("u32" | "s32")] => {
                let [to, a] = exactly(operands)?;
                let from_source = self.source(Class::Narrow, a)?;
                let to = self.register(Class::Wide, to)?;
                Ok(Operation::Widen { to, from: from_source, signed: from == "s32" })
            }
            ["cvt", "u32" | "s32", "u64" | "s64"] => {
                let [to, a] = exactly(operands)?;
                let from = self.source(Class::Wide, a)?;
                Ok(Operation::Narrow { to: self.register(Class::Narrow, to)?, from })
            }
            // Addresses in global space are what they are in general.
            ["cvta", "to", "global", "u64"] => self.arithmetic(Alu::Move, Class::Wide, operands),
            _ => {
                let (alu, class) = alu_of(&parts)?;
                self.arithmetic(alu, class, operands)
            }
        }
    }

    fn arithmetic(
        &mut self,
        alu: Alu,
        class: Class,
        operands: &'a [String],
    ) -> Result<Operation, String> {
        if operands.len() != 1 + alu.operands() {
            return Err("unexpected number of operands".into());
        }
        let mut from = [NOTHING; 4];
        // The position and length of bits are 32 bits wide whatever the class.
        for (i, (slot, operand)) in from.iter_mut().zip(&operands[1..]).enumerate() {
            let shift = matches!(alu, Alu::ShiftLeft | Alu::ShiftRight | Alu::ShiftRightSigned);
            let narrow = (shift && i == 1) || (alu == Alu::Insert && i >= 2);
            if narrow && class == Class::Wide && operand.starts_with('%') {
                return Err("a register as the distance of a 64-bit shift is not built".into());
            }
            *slot = self.source(class, operand)?;
        }
        let to = self.register(class, &operands[0])?;
        let (alu, from) = match (alu, from) {
            (Alu::FunnelLeft, [a, b, by @ Source::Immediate(_), _]) if a == b => {
                (Alu::RotateLeft, [a, by, NOTHING, NOTHING])
            }
            other => other,
        };
        Ok(match class {
            Class::Wide => Operation::Alu64 { alu, to, from },
            _ => Operation::Alu32 { alu, to, from },
        })
    }

    fn branch(&self, operands: &[String]) -> Result<Operation, String> {
        let [label] = exactly(operands)?;
        let to = *self.labels.get(label).ok_or("unknown label")?;
        Ok(Operation::Branch { to })
    }

    fn compare(
        &mut self,
        compare: &str,
        kind: &str,
        operands: &'a [String],
    ) -> Result<Operation, String> {
        let compare = match compare {
            "eq" => Compare::Equal,
            "ne" => Compare::NotEqual,
            "lt" => Compare::Less,
            "le" => Compare::LessOrEqual,
            "gt" => Compare::Greater,
            "ge" => Compare::GreaterOrEqual,
            _ => return Err("unknown comparison".into()),
        };
        let [to, a, b] = exactly(operands)?;
        let (class, signed) = (class_of(kind)?, kind.starts_with('s'));
        let from = [self.source(class, a)?, self.source(class, b)?];
        let to = self.register(Class::Predicate, to)?;
        Ok(match class {
            Class::Wide => Operation::Compare64 { compare, signed, to, from },
            _ => Operation::Compare32 { compare, signed, to, from },
        })
    }

    fn select(&mut self, kind: &str, operands: &'a [String]) -> Result<Operation, String> {
        let [to, a, b, by] = exactly(operands)?;
        let class = class_of(kind)?;
        let from = [self.source(class, a)?, self.source(class, b)?];
        let by = self.register(Class::Predicate, by)?;
        let to = self.register(class, to)?;
        Ok(match class {
            Class::Wide => Operation::Select64 { to, from, by },
            _ => Operation::Select32 { to, from, by },
        })
    }

    fn logic(&mut self, logic: &str, operands: &'a [String]) -> Result<Operation, String> {
        let (logic, inputs) = match logic {
            "mov" => (Predicate::Move, 1),
            "not" => (Predicate::Not, 1),
            "and" => (Predicate::And, 2),
            "or" => (Predicate::Or, 2),
            "xor" => (Predicate::Xor, 2),
            _ => return Err("unknown operation on predicates".into()),
        };
        if operands.len() != 1 + inputs {
            return Err("unexpected number of operands".into());
        }
        let mut from = [NOTHING; 2];
        for (slot, operand) in from.iter_mut().zip(&operands[1..]) {
            *slot = self.source(Class::Predicate, operand)?;
        }
        Ok(Operation::Logic { logic, to: self.register(Class::Predicate, &operands[0])?, from })
    }

    fn load(
        &mut self,
        space: &str,
        lanes: usize,
        width: &str,
        operands: &'a [String],
    ) -> Result<Operation, String> {
        let [to, address] = exactly(operands)?;
        let (space, from) = self.address(space, address)?;
        let to = self.places(to, lanes)?;
        Ok(Operation::Load { space, bytes: bytes_of(width)?, to, from })
    }

    fn store(
        &mut self,
        space: &str,
        lanes: usize,
        width: &str,
        operands: &'a [String],
    ) -> Result<Operation, String> {
        let [address, from] = exactly(operands)?;
        let (space, to) = self.address(space, address)?;
        let mut sources = Vec::new();
        for name in elements(from) {
            sources.push(match name.starts_with('%') {
                true => StoreSource::Register(self.place(name)?),
                false => StoreSource::Immediate(immediate(name)?),
            });
        }
        if sources.len() != lanes || space == Space::Parameters {
            return Err("cannot store this there".into());
        }
        Ok(Operation::Store { space, bytes: bytes_of(width)?, to, from: sources })
    }

    fn places(&mut self, text: &'a str, lanes: usize) -> Result<Vec<Place>, String> {
        let places: Result<Vec<_>, _> = elements(text).map(|name| self.place(name)).collect();
        let places = places?;
        if places.len() == lanes { Ok(places) } else { Err("lanes differ".into()) }
    }

    fn place(&mut self, name: &'a str) -> Result<Place, String> {
        Ok(if name.starts_with("%rd") {
            Place::Wide(self.register(Class::Wide, name)?)
        } else {
            Place::Narrow(self.register(Class::Narrow, name)?)
        })
    }

    /// `[%rd1+16]`, `[parameter+4]`, `[shared]`.
    fn address(&mut self, space: &str, text: &'a str) -> Result<(Space, Address), String> {
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let inner = inner.ok_or("an address must be here")?;
        let (base, offset) = inner.split_once('+').unwrap_or((inner, "0"));
        let offset = immediate(offset)? as i64;
        let (space, names) = match space {
            "param" => (Space::Parameters, &self.parameters),
            "shared" => (Space::Shared, &self.shared),
            "global" => (Space::Global, &self.shared),
            _ => return Err("unknown space".into()),
        };
        if base.starts_with('%') {
            let base = Some(self.register(Class::Wide, base)?);
            return Ok((space, Address { base, offset }));
        }
        match names.get(base) {
            Some(&at) if space != Space::Global => {
                Ok((space, Address { base: None, offset: at as i64 + offset }))
            }
            _ => Err("unknown variable".into()),
        }
    }

    fn source(&mut self, class: Class, text: &'a str) -> Result<Source, String> {
        Ok(match text {
            "%tid.x" => Source::Special(Special::ThreadId),
            "%ntid.x" => Source::Special(Special::BlockSize),
            "%ctaid.x" => Source::Special(Special::BlockId),
            "%nctaid.x" => Source::Special(Special::GridSize),
            _ if text.starts_with('%') => Source::Register(self.register(class, text)?),
            _ => match self.shared.get(text) {
                Some(&offset) => Source::Immediate(offset as u64),
                None => Source::Immediate(immediate(text)?),
            },
        })
    }

    fn register(&mut self, class: Class, name: &'a str) -> Result<Register, String> {
        let prefix = match class {
            Class::Narrow => "%r",
            Class::Wide => "%rd",
            Class::Predicate => "%p",
        };
        let number = name.strip_prefix(prefix).unwrap_or_default();
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("{name} is no register of this class"));
        }
        let next = self.registers.len();
        let next = Register(u16::try_from(next).map_err(|_| "too many registers")?);
        Ok(*self.registers.entry((class, name)).or_insert(next))
    }
}

fn exactly<const N: usize>(operands: &[String]) -> Result<[&str; N], String> {
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    operands.try_into().map_err(|_| "unexpected number of operands".into())
}

/// The names in `{a, b}`, or the one that stands alone.
fn elements(text: &str) -> impl Iterator<Item = &str> {
    text.trim_start_matches('{').trim_end_matches('}').split(',').map(str::trim)
}

fn vector(lanes: &str) -> Result<usize, String> {
    match lanes {
        "v2" => Ok(2),
        "v4" => Ok(4),
        _ => Err("unknown vector".into()),
    }
}

fn bytes_of(width: &str) -> Result<u8, String> {
    match width {
        "u8" | "b8" => Ok(1),
        "u32" | "b32" | "s32" => Ok(4),
        "u64" | "b64" | "s64" => Ok(8),
        _ => Err("unknown width".into()),
    }
}

fn class_of(kind: &str) -> Result<Class, String> {
    match kind {
        "u32" | "s32" | "b32" => Ok(Class::Narrow),
        "u64" | "s64" | "b64" => Ok(Class::Wide),
        _ => Err("unknown type".into()),
    }
}

fn immediate(text: &str) -> Result<u64, String> {
    let bad = |_| format!("neither a register nor a number: {text:?}");
    match (text.strip_prefix("0x"), text.strip_prefix('-')) {
        (Some(hex), _) => u64::from_str_radix(hex, 16).map_err(bad),
        (_, Some(_)) => text.parse::<i64>().map(|number| number as u64).map_err(bad),
        _ => text.parse().map_err(bad),
    }
}

fn alu_of(parts: &[&str]) -> Result<(Alu, Class), String> {
    let (alu, kind) = match *parts {
        ["mov", kind] => (Alu::Move, kind),
        ["not", kind] => (Alu::Not, kind),
        ["neg", kind] => (Alu::Negate, kind),
        ["add", kind] => (Alu::Add, kind),
        ["sub", kind] => (Alu::Subtract, kind),
        ["mul", "lo", kind] => (Alu::MultiplyLow, kind),
        ["mad", "lo", kind] => (Alu::MultiplyAddLow, kind),
        ["and", kind] => (Alu::And, kind),
        ["or", kind] => (Alu::Or, kind),
        ["xor", kind] => (Alu::Xor, kind),
        ["shl", kind] => (Alu::ShiftLeft, kind),
        ["shr", kind @ ("s32" | "s64")] => (Alu::ShiftRightSigned, kind),
        ["shr", kind] => (Alu::ShiftRight, kind),
        ["shf", "l", "wrap", "b32"] => (Alu::FunnelLeft, "b32"),
        ["shf", "r", "wrap", "b32"] => (Alu::FunnelRight, "b32"),
        ["prmt", "b32"] => (Alu::Permute, "b32"),
        ["lop3", "b32"] => (Alu::Logic3, "b32"),
        ["bfi", kind] => (Alu::Insert, kind),
        ["min", kind @ ("u32" | "u64")] => (Alu::Min, kind),
        ["max", kind @ ("u32" | "u64")] => (Alu::Max, kind),
        _ => return Err("unknown opcode".into()),
    };
    Ok((alu, class_of(kind)?))
}
