//! PTX text to instructions that can be executed 32 lanes at a time.
//!
//! ```text
//!  text ──parse──► statements: names of registers, labels      one per line, as NVRTC writes it
//!         decode──► Instruction: classes and numbers            unknown opcodes are refused here
//!         registers──► the same with few registers              PTX uses each register once
//! ```
//!
//! Only what NVRTC made of our kernels is known, and a little more. The instructions are those of
//! the PTX ISA manual, version 8.1.

mod decode;
mod parse;
mod registers;
#[cfg(test)]
mod tests;

pub(crate) use decode::{
    Address, Alu, Compare, Guard, Instruction, Operation, Place, Predicate, Register, Source,
    Space, Special, StoreSource,
};

use std::collections::BTreeMap;

/// A module: its kernels by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Module {
    /// PTX version, 10 times the major number plus the minor.
    pub(crate) version: u32,
    /// The least compute capability it runs on, such as 60.
    pub(crate) target: u32,
    pub(crate) kernels: BTreeMap<String, Kernel>,
}

/// A kernel, ready to be executed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) name: String,
    /// Offset and size of each parameter in the parameter space.
    pub(crate) parameters: Vec<(usize, usize)>,
    /// Most threads per block, if it says so.
    pub(crate) max_threads: Option<u32>,
    /// Bytes of shared memory per block.
    pub(crate) shared_bytes: usize,
    pub(crate) code: Vec<Instruction>,
    /// The line of each instruction in the text, for messages.
    pub(crate) lines: Vec<u32>,
    /// Registers that the code uses, per class: 32 bits, 64 bits, predicates.
    pub(crate) registers: [usize; 3],
}

impl Kernel {
    /// Bytes of the parameter space.
    pub(crate) fn parameter_bytes(&self) -> usize {
        self.parameters.last().map_or(0, |(offset, size)| offset + size)
    }
}

/// Reads a whole module.
///
/// # Errors
/// What is wrong, and in which line.
pub(crate) fn module(text: &str) -> Result<Module, String> {
    let parsed = parse::module(text)?;
    let mut module =
        Module { version: parsed.version, target: parsed.target, kernels: BTreeMap::new() };
    for kernel in &parsed.kernels {
        let mut kernel = decode::kernel(kernel)?;
        registers::allocate(&mut kernel)?;
        module.kernels.insert(kernel.name.clone(), kernel);
    }
    Ok(module)
}
