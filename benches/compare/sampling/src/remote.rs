//! A candidate in another process: one that was built differently, and is interleaved all the same.
//!
//! ```text
//!   parent                                     child
//!   number of messages  u32 ─────────────────►
//!   messages            65 bytes each ───────►  hashes them once
//!                       ◄──────────────── u8    1 if built for this CPU
//!                       ◄────── 32 bytes each   digests
//!   calls u32, warm u8  ─────────────────────►  takes a sample
//!                       ◄──────── f64, f64      nanoseconds, cycles      ... and again
//!   end of file         ─────────────────────►  ends
//! ```
//!
//! Over the child's standard input and output; numbers are little-endian.

use crate::{Pace, Sample, sample};
use std::{
    io::{self, Read, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// Bytes of a message: a node's preimage.
pub const MESSAGE_LEN: usize = 65;
/// A message.
pub type Message = [u8; MESSAGE_LEN];
/// A digest.
pub type Digest = [u8; 32];

/// Messages that one process may be given.
const MOST_MESSAGES: u32 = 1 << 20;

/// The other process. Dropping it ends it.
#[derive(Debug)]
pub struct Remote {
    child: Child,
    /// Closed first when dropped: that ends the child.
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    digests: Vec<Digest>,
    built_for_this_cpu: bool,
}

impl Remote {
    /// Starts `program` and gives it `messages`.
    ///
    /// # Errors
    /// The program cannot be started, ends early, or there are more than a million messages.
    pub fn start(program: &Path, messages: &[Message]) -> io::Result<Self> {
        let context = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", program.display()))
        };
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(context)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a child without pipes"));
        };
        let mut remote =
            Self { child, stdin: Some(stdin), stdout, digests: vec![], built_for_this_cpu: false };
        remote.greet(messages).map_err(context)?;
        Ok(remote)
    }

    fn greet(&mut self, messages: &[Message]) -> io::Result<()> {
        let count = u32::try_from(messages.len()).ok().filter(|&count| count <= MOST_MESSAGES);
        let count = count.ok_or_else(|| io::Error::other("too many messages"))?;
        self.send(&count.to_le_bytes())?;
        self.send(messages.as_flattened())?;
        let [built_for_this_cpu] = read(&mut self.stdout)?;
        self.built_for_this_cpu = built_for_this_cpu == 1;
        for _ in 0..count {
            self.digests.push(read(&mut self.stdout)?);
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stdin = self.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        stdin.write_all(bytes)?;
        stdin.flush()
    }

    /// What the other process hashed the messages to.
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// Whether the other process was built with the instructions for SHA-256 that this CPU has.
    pub fn built_for_this_cpu(&self) -> bool {
        self.built_for_this_cpu
    }

    /// Takes a sample there.
    ///
    /// # Errors
    /// The other process ended.
    pub fn sample(&mut self, pace: Pace) -> io::Result<Sample> {
        let [a, b, c, d] = pace.calls.to_le_bytes();
        self.send(&[a, b, c, d, u8::from(pace.warm)])?;
        let nanoseconds = f64::from_le_bytes(read(&mut self.stdout)?);
        Ok(Sample { nanoseconds, cycles: f64::from_le_bytes(read(&mut self.stdout)?) })
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.stdin = None;
        // It has nothing more to do, and whether it ends well changes no figure.
        let _ = self.child.wait();
    }
}

/// The other side: serves one parent over `input` and `output` until the input ends. `hash` hashes
/// all messages, one digest each.
///
/// # Errors
/// Reading or writing failed, or the parent asks for what cannot be.
pub fn serve(
    mut input: impl Read,
    mut output: impl Write,
    built_for_this_cpu: bool,
    mut hash: impl FnMut(&[Message], &mut [Digest]),
) -> io::Result<()> {
    let count = u32::from_le_bytes(read(&mut input)?);
    if count > MOST_MESSAGES {
        return Err(io::Error::other("too many messages"));
    }
    let mut messages = vec![[0; MESSAGE_LEN]; count as usize];
    input.read_exact(messages.as_flattened_mut())?;
    let mut digests = vec![[0; 32]; messages.len()];
    hash(&messages, &mut digests);
    output.write_all(&[u8::from(built_for_this_cpu)])?;
    output.write_all(digests.as_flattened())?;
    output.flush()?;
    loop {
        let [a, b, c, d, warm] = match read(&mut input) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            order => order?,
        };
        let pace = Pace { calls: u32::from_le_bytes([a, b, c, d]), warm: warm == 1 };
        let sample = sample::<io::Error>(pace, || {
            hash(&messages, &mut digests);
            Ok(())
        })?;
        output.write_all(&sample.nanoseconds.to_le_bytes())?;
        output.write_all(&sample.cycles.to_le_bytes())?;
        output.flush()?;
    }
}

fn read<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_digests_first_and_then_every_order() {
        let mut input = 2_u32.to_le_bytes().to_vec();
        input.extend([[7; MESSAGE_LEN], [9; MESSAGE_LEN]].as_flattened());
        input.extend([5, 0, 0, 0, 1]);
        input.extend([1, 0, 0, 0, 0]);
        let (mut output, mut calls) = (vec![], 0);
        serve(&input[..], &mut output, true, |messages, digests| {
            calls += 1;
            for (message, digest) in messages.iter().zip(digests) {
                digest.fill(message[64]);
            }
        })
        .unwrap();
        assert_eq!(calls, 1 + (5 + 1) + 1, "for the digests, warm, cold");
        assert_eq!(output[0], 1);
        assert_eq!(&output[1..65], [[7; 32], [9; 32]].as_flattened());
        assert_eq!(output.len(), 65 + 2 * 16);
    }

    #[test]
    fn refuses_what_cannot_be() {
        let hash = |_: &[Message], _: &mut [Digest]| {};
        let too_many = (MOST_MESSAGES + 1).to_le_bytes();
        assert!(serve(&too_many[..], io::sink(), true, hash).is_err());
        assert!(serve(&[1, 0, 0, 0, 7][..], io::sink(), true, hash).is_err(), "cut short");
    }

    #[test]
    fn a_program_that_is_missing_or_ends_early_is_an_error() {
        let missing = Remote::start(Path::new("/no/such/program"), &[]).unwrap_err();
        assert!(missing.to_string().contains("/no/such/program"), "{missing}");
        assert!(Remote::start(Path::new("true"), &[[0; MESSAGE_LEN]]).is_err());
    }
}
