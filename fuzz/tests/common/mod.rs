//! What the targets share: damage read out of the fuzzer's bytes, and a count of what was tried.
#![allow(dead_code, reason = "every target uses its own part")]

use bolero::TypeGenerator;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is done to a real encoding.
#[derive(Clone, Debug, TypeGenerator)]
pub(crate) struct Damage {
    /// Which of the samples.
    pub(crate) sample: u8,
    /// Bytes replaced: place (modulo the length) and value.
    patches: Vec<(u16, u8)>,
    /// What stays of it, if less than all: its length modulo this.
    cut: Option<u16>,
    /// What follows it.
    tail: Option<Vec<u8>>,
    /// Whether the checksum is mended afterwards, so that decoders look at the fields.
    pub(crate) mended: bool,
}

impl Damage {
    /// The damaged bytes.
    pub(crate) fn apply(&self, samples: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = samples[usize::from(self.sample) % samples.len()].clone();
        // Few changes: with many, no decoder gets further than the first field.
        for (at, value) in self.patches.iter().take(4) {
            let at = usize::from(*at) % bytes.len();
            bytes[at] = *value;
        }
        if let Some(cut) = self.cut.filter(|cut| cut % 4 == 0) {
            bytes.truncate(usize::from(cut) % (bytes.len() + 1));
        }
        if let Some(tail) = self.tail.as_ref().filter(|tail| tail.len() % 4 == 1) {
            bytes.extend(tail);
        }
        bytes
    }
}

/// `bytes` with the CRC32C of what comes before as their last four.
pub(crate) fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len().saturating_sub(4));
    let crc = crc32c::crc32c(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

/// Counts inputs, and those that decoded; says so at the end.
pub(crate) struct Count {
    what: &'static str,
    pub(crate) tried: AtomicU64,
    pub(crate) decoded: AtomicU64,
}

impl Count {
    pub(crate) const fn new(what: &'static str) -> Self {
        Self { what, tried: AtomicU64::new(0), decoded: AtomicU64::new(0) }
    }

    pub(crate) fn note(&self, decoded: bool) {
        self.tried.fetch_add(1, Ordering::Relaxed);
        self.decoded.fetch_add(u64::from(decoded), Ordering::Relaxed);
    }

    /// Prints the figures; inputs of both kinds must have been among them.
    pub(crate) fn finish(&self) {
        let (tried, decoded) =
            (self.tried.load(Ordering::Relaxed), self.decoded.load(Ordering::Relaxed));
        println!("FUZZED {}: {tried} inputs, {decoded} decoded", self.what);
        assert!(tried > decoded && decoded > 0, "{}: {decoded} of {tried}", self.what);
    }
}
