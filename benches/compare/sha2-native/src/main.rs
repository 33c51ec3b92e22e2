//! `sha2` built for the CPU it runs on: what `hash-goals` compares with in the same run.
//!
//! Started by `hash-goals`, which it serves over its standard input and output; see
//! [`hedgerow_sampling::remote`]. Built with `RUSTFLAGS="-C target-cpu=native"` and the profile
//! `one-unit`, into a target directory of its own; `just bench-hash` does.
//!
//! The faster of two loops counts. Inlined, neighbouring messages overlap better. But the compiler
//! then stores digests with AVX between SHA instructions, which are encoded as SSE ones, and some
//! Intel cores take a hundred times as long for that; a function of its own ends with `vzeroupper`.
#![forbid(unsafe_code)]

use hedgerow_sampling::remote::{self, Message, serve};
use sha2::{Digest as _, Sha256};
use std::{
    hint::black_box,
    io,
    process::ExitCode,
    time::{Duration, Instant},
};

/// Hashes all messages.
type Loop = fn(&[Message], &mut [remote::Digest]);

fn main() -> ExitCode {
    let mut fastest: Option<Loop> = None;
    let hash = |messages: &[Message], digests: &mut [remote::Digest]| {
        fastest.get_or_insert_with(|| choose(messages, digests))(messages, digests);
        black_box(digests);
    };
    match serve(io::stdin().lock(), io::stdout().lock(), built_for_this_cpu(), hash) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sha2-native: {error}; it is started by hash-goals");
            ExitCode::FAILURE
        }
    }
}

fn choose(messages: &[Message], digests: &mut [remote::Digest]) -> Loop {
    let mut time = |hash: Loop| -> Duration {
        let times = (0..5).map(|_| {
            let start = Instant::now();
            hash(messages, black_box(digests));
            start.elapsed()
        });
        times.min().unwrap_or(Duration::MAX)
    };
    if time(inlined) < time(called) { inlined } else { called }
}

fn inlined(messages: &[Message], digests: &mut [remote::Digest]) {
    for (message, digest) in messages.iter().zip(digests) {
        *digest = Sha256::digest(message).into();
    }
}

fn called(messages: &[Message], digests: &mut [remote::Digest]) {
    for (message, digest) in messages.iter().zip(digests) {
        *digest = one(message);
    }
}

#[inline(never)]
fn one(message: &Message) -> remote::Digest {
    Sha256::digest(message).into()
}

/// Whether the compiler was allowed the instructions for SHA-256 that this CPU has.
#[cfg(target_arch = "x86_64")]
fn built_for_this_cpu() -> bool {
    cfg!(target_feature = "sha") || !std::arch::is_x86_feature_detected!("sha")
}

/// Whether the compiler was allowed the instructions for SHA-256 that this CPU has.
#[cfg(target_arch = "aarch64")]
fn built_for_this_cpu() -> bool {
    cfg!(target_feature = "sha2") || !std::arch::is_aarch64_feature_detected!("sha2")
}

/// No instructions for SHA-256 are known here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn built_for_this_cpu() -> bool {
    true
}
