//! `root`, `prove`, `verify`: what the state commits to, and how anyone can check it.
//!
//! ```text
//!   prove   store, key ─► file: the bytes of the proof, nothing else
//!   verify  file, root, key ─► present with its value, or absent        no store
//!
//!   many keys, or a range of key hashes, instead of one key: proof_sets.rs
//! ```
//!
//! Root and height are not part of the file: whoever verifies must have the root from somewhere he
//! trusts.

use super::proof_file::ProofArgs;
use super::proof_sets::{self, LimitArgs, SetArgs, Target};
use super::{open_to_read, view_at};
use crate::error::CliError;
use crate::outfile::{ForceArg, OutFile};
use crate::output::Output;
use crate::text::{BytesArg, Hex, Shown, as_text};
use clap::Args;
use hedgerow::{Digest, Height, Options};
use hedgerow_proof::{ProofError, Verifier};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// Print the root of the state, now or at an earlier height
#[derive(Debug, Args)]
pub(crate) struct RootArgs {
    /// Directory of the store
    dir: PathBuf,
    /// Height of the state; the last one if not given. Height 0 is the state before the first block
    #[arg(long, value_name = "H")]
    height: Option<u64>,
}

/// Write a proof of what the state says about a key: its value, or that it is absent
///
/// With --keys one proof of many keys, with --from one of all keys of a range of key hashes. Whoever wants the next
/// range begins it where this one ends.
#[derive(Debug, Args)]
pub(crate) struct ProveArgs {
    /// Directory of the store
    dir: PathBuf,
    /// The key: 0x and hex digits, or plain text
    #[arg(required_unless_present_any = ["keys", "from"])]
    key: Option<BytesArg>,
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    limit: LimitArgs,
    /// Height of the state; the proof is against the root of that height. The last one if not given
    #[arg(long, value_name = "H")]
    at: Option<u64>,
    /// Proves what the key had at this earlier height, against the root of the last height, or that of --at
    #[arg(long, value_name = "H", conflicts_with_all = ["keys", "from"])]
    past: Option<u64>,
    /// File to write the proof to, - for standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    force: ForceArg,
}

/// Check a proof against a root, without a store
///
/// With --keys a proof of exactly these keys, with --from that of a range which begins there: all of its keys and
/// values are printed, and where it ends.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The root, 64 hex digits, from a source that you trust
    #[arg(long, value_name = "HEX")]
    root: Digest,
    /// The key: 0x and hex digits, or plain text
    #[arg(long, required_unless_present_any = ["keys", "from"])]
    key: Option<BytesArg>,
    #[command(flatten)]
    set: SetArgs,
    /// The proof is of what the key had at this height, which is not above that of the root
    #[arg(long, value_name = "H", conflicts_with_all = ["keys", "from"])]
    past: Option<u64>,
    #[command(flatten)]
    proof: ProofArgs,
}

/// `{"height", "root"}`
#[derive(Serialize)]
struct RootReport {
    height: u64,
    #[serde(serialize_with = "as_text")]
    root: Digest,
}

impl fmt::Display for RootReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

/// `{"height", "root", "durable", "past", "key", "present", "value", "proof_bytes"}`; `past` only if it was asked for.
#[derive(Serialize)]
struct ProvenReport<'a> {
    height: u64,
    #[serde(serialize_with = "as_text")]
    root: Digest,
    durable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    past: Option<u64>,
    #[serde(flatten)]
    answer: Answer<'a>,
    proof_bytes: usize,
}

impl fmt::Display for ProvenReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { height, root, past, answer, proof_bytes, .. } = self;
        f.write_str(&past.map(|past| format!("at height {past}: ")).unwrap_or_default())?;
        write!(f, "{answer}\nheight {height}, root {root}\nproof of {proof_bytes} bytes")
    }
}

/// `{"key", "present", "value"}`; the value of an absent key is null.
#[derive(Serialize)]
pub(super) struct Answer<'a> {
    pub(super) key: Hex<'a>,
    present: bool,
    value: Option<Hex<'a>>,
}

impl<'a> Answer<'a> {
    pub(super) fn new(key: &'a [u8], value: Option<&'a [u8]>) -> Self {
        Self { key: Hex(key), present: value.is_some(), value: value.map(Hex) }
    }
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value {
            Some(Hex(value)) => write!(f, "present {}", Shown(value)),
            None => f.write_str("absent"),
        }
    }
}

pub(super) fn root(args: &RootArgs, out: Output) -> Result<(), CliError> {
    let store = open_to_read(&args.dir, Options::new(), out)?;
    let reader = store.reader();
    let (height, root) = match args.height {
        None => reader.root(),
        Some(height) => (Height(height), reader.root_at(Height(height))?),
    };
    out.report(&RootReport { height: height.0, root })
}

pub(super) fn prove(args: &ProveArgs, out: Output) -> Result<(), CliError> {
    let store = open_to_read(&args.dir, Options::new(), out)?;
    let view = view_at(&store, args.at)?;
    let target = Target { output: &args.output, force: args.force };
    if proof_sets::prove(&args.set, &args.limit, &view, &target, out)? {
        return Ok(());
    }
    let Some(BytesArg(key)) = &args.key else { return Ok(()) }; // clap has seen to it
    let proven = match args.past {
        Some(height) => view.prove_past(key, Height(height))?,
        None => view.prove(key)?,
    };
    let proof = proven.proof.as_bytes();
    // What the proof says is taken from the proof itself.
    let value = said(&proven.root, key, args.past, proof, proof.len()).map_err(|source| {
        let (input, key) = ("the proof".to_owned(), Shown(key).to_string());
        CliError::NotProved { input, key, root: proven.root, source }
    })?;
    OutFile::write(&args.output, args.force, proof)?;
    out.report_beside(
        &args.output,
        &ProvenReport {
            height: proven.height.0,
            root: proven.root,
            durable: proven.durable,
            past: args.past,
            answer: Answer::new(key, value),
            proof_bytes: proof.len(),
        },
    )
}

/// What a proof says of a key, now or at an earlier height.
fn said<'p>(
    root: &Digest,
    key: &[u8],
    past: Option<u64>,
    proof: &'p [u8],
    max_bytes: usize,
) -> Result<Option<&'p [u8]>, ProofError> {
    match past {
        Some(height) => {
            // Of two entries.
            let verifier = Verifier::new().with_limit(max_bytes.saturating_mul(2));
            Ok(verifier.verify_past(root, key, Height(height), proof)?.value())
        }
        None => hedgerow_proof::verify_with_limit(root, key, proof, max_bytes),
    }
}

pub(super) fn verify(args: &VerifyArgs, out: Output) -> Result<(), CliError> {
    let VerifyArgs { root, key, set, past, proof } = args;
    let (input, max_bytes) = (proof.name(), proof.max_bytes());
    if proof_sets::verify(set, *root, input.clone(), max_bytes, || proof.read(), out)? {
        return Ok(());
    }
    let Some(BytesArg(key)) = key else { return Ok(()) }; // clap has seen to it
    let proof = proof.read()?;
    let verified = said(root, key, *past, &proof, max_bytes);
    let value = verified.map_err(|source: ProofError| CliError::NotProved {
        input,
        key: Shown(key).to_string(),
        root: *root,
        source,
    })?;
    out.report(&Answer::new(key, value))
}
