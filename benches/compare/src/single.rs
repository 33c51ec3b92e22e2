//! One message at a time.

use hedgerow_types::Digest;
use sha2::{Digest as _, Sha256};

/// The yardstick: the crate `sha2`, as a dependency builds it.
#[inline]
pub fn sha2(message: &[u8]) -> Digest {
    Digest(Sha256::digest(message).into())
}

/// The crate `ring`.
#[inline]
pub fn ring(message: &[u8]) -> Digest {
    digest_of(ring::digest::digest(&ring::digest::SHA256, message).as_ref())
}

/// The crate `aws-lc-rs`.
#[inline]
pub fn aws_lc(message: &[u8]) -> Digest {
    digest_of(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, message).as_ref())
}

/// A digest from a crate that has it as a slice. Another length would be no SHA-256, and shows as a
/// wrong digest.
#[inline]
fn digest_of(bytes: &[u8]) -> Digest {
    bytes.try_into().map_or(Digest::ZERO, Digest)
}
