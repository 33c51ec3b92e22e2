//! `inspect`: what a proof says, whoever's it is. Reading proofs, which `verify` does too.
//!
//! ```text
//!   file ─► decode ─► root that it leads to, entry, where the entry lies
//!                       │
//!                       └─ present: the entry's key has its value
//!                          absent:  every key whose hash lies between the entry's and the next one
//! ```

use crate::error::CliError;
use crate::input::name_of;
use crate::outfile::is_dash;
use crate::output::Output;
use crate::text::{Hex, Shown, as_text};
use clap::Args;
use hedgerow::{Digest, KeyHash};
use hedgerow_proof::{DEFAULT_MAX_PROOF_LEN, PROOF_VERSION, ProofRef};
use serde::Serialize;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

/// A proof as an input.
#[derive(Debug, Args)]
pub(super) struct ProofArgs {
    /// The proof, - for standard input
    #[arg(value_name = "PROOF")]
    file: PathBuf,
    /// Longest proof in bytes that is accepted
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_PROOF_LEN)]
    max_bytes: usize,
}

impl ProofArgs {
    /// What messages call it.
    pub(super) fn name(&self) -> String {
        name_of(&self.file)
    }

    /// The longest proof that is accepted.
    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Its bytes, or one more than are accepted.
    ///
    /// # Errors
    /// [`CliError::File`].
    pub(super) fn read(&self) -> Result<Vec<u8>, CliError> {
        let failed = |source| CliError::File { doing: "reading", path: self.name().into(), source };
        let input: Box<dyn Read> = if is_dash(&self.file) {
            Box::new(io::stdin().lock())
        } else {
            Box::new(File::open(&self.file).map_err(failed)?)
        };
        let mut proof = Vec::new();
        // One byte more than is accepted tells a proof that is too long from one that just fits.
        let most = (self.max_bytes as u64).saturating_add(1);
        input.take(most).read_to_end(&mut proof).map_err(failed)?;
        Ok(proof)
    }
}

/// Print what a proof says, without a store: nothing of it is proved until `verify` has compared the
/// root
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    proof: ProofArgs,
}

/// `{"version", "proof_bytes", "root", "active", "key", "value", "key_bytes", "value_bytes",
/// "key_hash", "next_key_hash", "shard", "serial_number", "written_at", "entry_version",
/// "entry_bytes", "upper_levels"}`; key and value are null for a sentry, which is nobody's key.
#[derive(Serialize)]
struct Inspected<'a> {
    version: u8,
    proof_bytes: usize,
    /// The root that it leads to.
    #[serde(serialize_with = "as_text")]
    root: Digest,
    /// Whether the entry is current; a proof of an outdated one proves nothing.
    active: bool,
    key: Option<Hex<'a>>,
    value: Option<Hex<'a>>,
    key_bytes: usize,
    value_bytes: usize,
    #[serde(serialize_with = "as_text")]
    key_hash: KeyHash,
    #[serde(serialize_with = "as_text")]
    next_key_hash: KeyHash,
    shard: usize,
    serial_number: u64,
    /// Height of the block that wrote the entry; 0 if it came with the store.
    written_at: u64,
    /// The entry's version field.
    entry_version: i64,
    entry_bytes: usize,
    /// Levels of the upper tree, above the twigs.
    upper_levels: usize,
}

impl<'a> Inspected<'a> {
    fn new(proof: &ProofRef<'a>, proof_bytes: usize) -> Self {
        let entry = proof.entry();
        let own = !entry.is_sentry();
        let entry_bytes = entry.hashed_bytes().len();
        Self {
            version: PROOF_VERSION,
            proof_bytes,
            root: proof.root(),
            active: proof.is_active(),
            key: own.then(|| Hex(entry.key())),
            value: own.then(|| Hex(entry.value())),
            key_bytes: entry.key().len(),
            value_bytes: entry.value().len(),
            key_hash: proof.entry_key_hash(),
            next_key_hash: entry.next_key_hash(),
            shard: proof.shard().index(),
            serial_number: entry.serial_number().0,
            written_at: entry.version().height().0,
            entry_version: entry.version().0,
            entry_bytes,
            upper_levels: upper_levels(proof_bytes, entry_bytes),
        }
    }
}

/// What fills the length of a proof: see [`ProofRef`].
fn upper_levels(proof_bytes: usize, entry_bytes: usize) -> usize {
    // A proof of the shortest entry in the lowest tree, and what of it is not the entry.
    let rest = hedgerow_proof::MIN_PROOF_LEN - hedgerow_types::entry::FIXED_LEN - 1;
    proof_bytes.saturating_sub(rest + entry_bytes) / 32
}

impl fmt::Display for Inspected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "proof          version {}, {} bytes", self.version, self.proof_bytes)?;
        writeln!(f, "leads to root  {}", self.root)?;
        let (Self { key_bytes, value_bytes, .. }, own) = (self, self.key.zip(self.value));
        match own {
            Some((Hex(key), Hex(value))) => {
                writeln!(f, "present        {}", Shown(key))?;
                writeln!(f, "value          {}", Shown(value))?;
                writeln!(f, "sizes          key {key_bytes} bytes, value {value_bytes} bytes")?;
            }
            None => writeln!(f, "present        no key: the entry is a sentry")?,
        }
        writeln!(f, "absent         every key whose hash lies between")?;
        writeln!(f, "               {} and", self.key_hash)?;
        writeln!(f, "               {}", self.next_key_hash)?;
        writeln!(f, "written at     height {}", self.written_at)?;
        let Self { shard, serial_number, entry_version, entry_bytes, upper_levels, .. } = self;
        writeln!(
            f,
            "entry          shard {shard}, serial number {serial_number}, version {entry_version}, \
             {entry_bytes} bytes, {upper_levels} upper levels"
        )?;
        f.write_str(if self.active {
            "Nothing of this is proved until `hedgerow verify` finds the root to be one that you trust."
        } else {
            "The entry is outdated: this proves nothing, under whatever root."
        })
    }
}

pub(super) fn run(args: &InspectArgs, out: Output) -> Result<(), CliError> {
    let bytes = args.proof.read()?;
    let decoded = ProofRef::decode(&bytes, args.proof.max_bytes());
    let proof =
        decoded.map_err(|source| CliError::NotAProof { input: args.proof.name(), source })?;
    out.report(&Inspected::new(&proof, bytes.len()))
}
