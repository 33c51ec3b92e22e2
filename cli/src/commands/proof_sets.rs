//! `prove` and `verify` of many keys at once, and of all keys of a range of key hashes.
//!
//! ```text
//!   --keys FILE      a key a line ─► one proof ─► the answer to each
//!   --from KEYHASH   ─► one proof ─► all keys from there on, up to the hash at which the next range begins
//! ```

use super::proofs::Answer;
use crate::error::CliError;
use crate::input::keys_of;
use crate::outfile::{ForceArg, OutFile};
use crate::output::Output;
use crate::text::{Counted, Hex, Shown, as_text};
use clap::Args;
use hedgerow::{Digest, KeyHash, Proven, RangeLimit, View};
use hedgerow_proof::{ProofError, Verified, VerifiedRange, Verifier};
use hedgerow_types::hex;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// What to prove or to verify instead of one key.
#[derive(Debug, Args)]
pub(super) struct SetArgs {
    /// All keys of this file, one a line, as keys are written elsewhere; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "from"])]
    keys: Option<PathBuf>,
    /// All keys whose hashes are this or greater, up to a limit: hex digits, of which those at the end may be
    /// left out if they are 0
    #[arg(long, value_name = "KEYHASH", value_parser = key_hash, conflicts_with = "key")]
    from: Option<KeyHash>,
}

/// How long a proof of a range may become.
#[derive(Debug, Args)]
pub(super) struct LimitArgs {
    /// Most entries of a proof of a range: keys, and the 65,536 sentries that are spread among all keys
    #[arg(long, value_name = "N", conflicts_with_all = ["key", "keys"], default_value_t = RangeLimit::default().entries)]
    limit: usize,
    /// Most bytes of a proof of a range, if it has more than one entry
    #[arg(long, value_name = "N", conflicts_with_all = ["key", "keys"], default_value_t = RangeLimit::default().bytes)]
    limit_bytes: usize,
}

/// Reads a key hash of which zeros at the end are left out.
fn key_hash(text: &str) -> Result<KeyHash, String> {
    let bytes = hex::decode(text).map_err(|error| error.to_string())?;
    let mut hash = KeyHash::default();
    let given = hash.0.get_mut(..bytes.len()).ok_or("a key hash has 64 hex digits at most")?;
    given.copy_from_slice(&bytes);
    Ok(hash)
}

/// `{"height", "root", "durable", "keys", "present", "absent", "proof_bytes"}`
#[derive(Serialize)]
struct ManyProven {
    height: u64,
    #[serde(serialize_with = "as_text")]
    root: Digest,
    durable: bool,
    keys: usize,
    present: usize,
    absent: usize,
    proof_bytes: usize,
}

impl fmt::Display for ManyProven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { height, root, keys, present, absent, proof_bytes, .. } = self;
        let keys = Counted(*keys as u64, "key");
        write!(f, "{keys}, {present} present, {absent} absent\nheight {height}, root {root}\n")?;
        write!(f, "proof of {proof_bytes} bytes")
    }
}

/// `{"height", "root", "durable", "keys", "from", "until", "last", "proof_bytes"}`
#[derive(Serialize)]
struct RangeProven {
    height: u64,
    #[serde(serialize_with = "as_text")]
    root: Digest,
    durable: bool,
    #[serde(flatten)]
    range: Range,
    proof_bytes: usize,
}

impl fmt::Display for RangeProven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { height, root, range, proof_bytes, .. } = self;
        write!(f, "{range}\nheight {height}, root {root}\nproof of {proof_bytes} bytes")
    }
}

/// `{"keys", "from", "until", "last"}`
#[derive(Serialize)]
struct Range {
    /// How many keys the range has.
    keys: usize,
    #[serde(serialize_with = "as_text")]
    from: KeyHash,
    /// Where the next range begins.
    #[serde(serialize_with = "as_text")]
    until: KeyHash,
    /// Whether nothing lies behind it.
    last: bool,
}

impl Range {
    fn new(range: &VerifiedRange<'_>) -> Self {
        let keys = range.items().count();
        Self { keys, from: range.from(), until: range.until(), last: range.is_last() }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, from, until, last } = self;
        writeln!(f, "{}, and no other, with hashes from", Counted(*keys as u64, "key"))?;
        write!(f, "  {from} up to\n  {until}")?;
        f.write_str(if *last { ", the end of all" } else { ", where the next range begins" })
    }
}

/// `{"key", "present", "value"}`
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    answer: Answer<'a>,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}", Shown(self.answer.key.0), self.answer)
    }
}

/// `{"key", "value"}`
#[derive(Serialize)]
struct Pair<'a> {
    key: Hex<'a>,
    value: Hex<'a>,
}

impl fmt::Display for Pair<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}", Shown(self.key.0), Shown(self.value.0))
    }
}

/// What is asked about instead of one key.
enum Asked {
    Keys(Vec<Vec<u8>>),
    From(KeyHash),
}

impl Asked {
    fn of(args: &SetArgs) -> Result<Option<Self>, CliError> {
        Ok(match (&args.keys, args.from) {
            (Some(file), _) => Some(Self::Keys(keys_of(file)?)),
            (None, Some(from)) => Some(Self::From(from)),
            (None, None) => None,
        })
    }
}

/// A proof that is checked.
struct Checked<'a> {
    input: String,
    root: Digest,
    proof: &'a [u8],
    max_bytes: usize,
}

impl<'a> Checked<'a> {
    fn verifier(&self) -> Verifier {
        Verifier::new().with_limit(self.max_bytes)
    }

    fn many(&self, keys: &[Vec<u8>]) -> Result<Vec<Verified<'a>>, CliError> {
        let verified = self.verifier().verify_many(self.root, keys, self.proof);
        verified.map_err(|source| self.failed(|| "these keys".into(), source))
    }

    fn range(&self, from: KeyHash) -> Result<VerifiedRange<'a>, CliError> {
        let verified = self.verifier().verify_range(self.root, from, self.proof);
        verified.map_err(|source| self.failed(|| format!("the keys from {from} on"), source))
    }

    fn failed(&self, about: impl FnOnce() -> String, source: ProofError) -> CliError {
        let (input, root) = (self.input.clone(), self.root);
        CliError::NothingProved { input, about: about(), root, source }
    }
}

/// Where the proof goes.
pub(super) struct Target<'a> {
    pub(super) output: &'a Path,
    pub(super) force: ForceArg,
}

/// Proves what the arguments name, if they do not name one key.
///
/// # Errors
/// [`CliError`].
pub(super) fn prove(
    args: &SetArgs,
    limit: &LimitArgs,
    view: &View,
    target: &Target<'_>,
    out: Output,
) -> Result<bool, CliError> {
    let Some(asked) = Asked::of(args)? else { return Ok(false) };
    let limit = RangeLimit { entries: limit.limit, bytes: limit.limit_bytes };
    let Proven { height, root, durable, proof, .. } = match &asked {
        Asked::Keys(keys) => view.prove_many(keys)?,
        Asked::From(from) => view.prove_range(*from, limit)?.proven,
    };
    let (height, proof_bytes) = (height.0, proof.len());
    // What the proof says is taken from the proof itself.
    let input = "the proof".to_owned();
    let checked = Checked { input, root, proof: &proof, max_bytes: proof_bytes };
    match asked {
        Asked::Keys(keys) => {
            let verified = checked.many(&keys)?;
            let present = verified.iter().filter(|verified| verified.value().is_some()).count();
            let (keys, absent) = (keys.len(), keys.len() - present);
            OutFile::write(target.output, target.force, &proof)?;
            let report = ManyProven { height, root, durable, keys, present, absent, proof_bytes };
            out.report_beside(target.output, &report)?;
        }
        Asked::From(from) => {
            let range = Range::new(&checked.range(from)?);
            OutFile::write(target.output, target.force, &proof)?;
            let report = RangeProven { height, root, durable, range, proof_bytes };
            out.report_beside(target.output, &report)?;
        }
    }
    Ok(true)
}

/// Verifies what the arguments name, if they do not name one key. `read` has the bytes of the proof.
///
/// # Errors
/// [`CliError`].
pub(super) fn verify(
    args: &SetArgs,
    root: Digest,
    input: String,
    max_bytes: usize,
    read: impl FnOnce() -> Result<Vec<u8>, CliError>,
    out: Output,
) -> Result<bool, CliError> {
    let Some(asked) = Asked::of(args)? else { return Ok(false) };
    let proof = read()?;
    let checked = Checked { input, root, proof: &proof, max_bytes };
    match asked {
        Asked::Keys(keys) => {
            for (key, verified) in keys.iter().zip(checked.many(&keys)?) {
                out.report(&Line { answer: Answer::new(key, verified.value()) })?;
            }
        }
        Asked::From(from) => {
            let range = checked.range(from)?;
            for (key, value) in range.items() {
                out.report(&Pair { key: Hex(key), value: Hex(value) })?;
            }
            out.report(&Range::new(&range))?;
        }
    }
    Ok(true)
}
