//! `inspect`: what a proof says, whoever's it is. Reading proofs, which `verify` does too.
//!
//! ```text
//!   file ─► decode ─► root that it leads to, entries, where they lie
//!                                              │
//!                                              └─ present: the entry's key has its value
//!                                                 absent:  every key whose hash lies between the entry's and
//!                                                          the next one
//! ```

use crate::error::CliError;
use crate::input::name_of;
use crate::outfile::is_dash;
use crate::output::Output;
use crate::text::{Hex, Shown, as_text};
use clap::Args;
use hedgerow::{Digest, KeyHash};
use hedgerow_proof::{ClaimedEntry, MAX_PROOF_LEN, PROOF_VERSION, ProofRef};
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
    #[arg(long, value_name = "N", default_value_t = MAX_PROOF_LEN)]
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

/// `{"version", "proof_bytes", "root"}`, and of one entry its fields beside them, of several `"entries"`.
#[derive(Serialize)]
struct Inspected<'a> {
    version: u8,
    proof_bytes: usize,
    /// The root that it leads to.
    #[serde(serialize_with = "as_text")]
    root: Digest,
    #[serde(flatten)]
    entries: Entries<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entries<'a> {
    One(Entry<'a>),
    Several { entries: Vec<Entry<'a>> },
}

/// `{"active", "key", "value", "key_bytes", "value_bytes", "key_hash", "next_key_hash", "shard", "serial_number",
/// "written_at", "entry_version", "entry_bytes", "upper_levels"}`; key and value are null for a sentry, which is
/// nobody's key.
#[derive(Serialize)]
struct Entry<'a> {
    /// Whether the entry is current; a proof of an outdated one proves nothing, but of the past.
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
    /// Levels of the upper tree of its shard, above the twigs.
    upper_levels: u8,
}

impl<'a> Entry<'a> {
    fn new(proof: &ProofRef<'a>, claimed: &ClaimedEntry<'a>) -> Self {
        let entry = claimed.entry;
        let own = !entry.is_sentry();
        Self {
            active: claimed.active,
            key: own.then(|| Hex(entry.key())),
            value: own.then(|| Hex(entry.value())),
            key_bytes: entry.key().len(),
            value_bytes: entry.value().len(),
            key_hash: claimed.key_hash(),
            next_key_hash: entry.next_key_hash(),
            shard: claimed.shard.index(),
            serial_number: entry.serial_number().0,
            written_at: entry.version().height().0,
            entry_version: entry.version().0,
            entry_bytes: entry.hashed_bytes().len(),
            upper_levels: proof.upper_levels(claimed.shard).unwrap_or_default(),
        }
    }
}

impl<'a> Inspected<'a> {
    fn new(proof: &ProofRef<'a>, proof_bytes: usize) -> Self {
        let mut entries: Vec<_> =
            proof.entries().map(|claimed| Entry::new(proof, &claimed)).collect();
        let entries = match entries.pop() {
            Some(one) if entries.is_empty() => Entries::One(one),
            last => Entries::Several { entries: entries.into_iter().chain(last).collect() },
        };
        Self { version: PROOF_VERSION, proof_bytes, root: proof.root(), entries }
    }
}

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        )
    }
}

impl fmt::Display for Inspected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "proof          version {}, {} bytes", self.version, self.proof_bytes)?;
        writeln!(f, "leads to root  {}", self.root)?;
        let active = match &self.entries {
            Entries::One(entry) => {
                write!(f, "{entry}")?;
                entry.active
            }
            Entries::Several { entries } => {
                for (number, entry) in (1..).zip(entries) {
                    let outdated = if entry.active { "" } else { ", which is outdated" };
                    write!(f, "\nentry {number} of {}{outdated}\n{entry}", entries.len())?;
                }
                writeln!(f)?;
                true
            }
        };
        f.write_str(if active {
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
