//! A system that has no rings.

#![allow(dead_code, reason = "what a ring would be given")]

use super::ReadAt;
use crate::real::RealFile;
use std::io;

pub(super) const LONGEST: usize = 0;

/// There is none.
#[derive(Debug)]
pub(super) struct Ring;

/// See `ring`.
pub(super) struct Wanted<'w, 'r> {
    pub(super) file: &'w RealFile,
    pub(super) read: &'w mut ReadAt<'r>,
    pub(super) done: bool,
}

/// See `ring`.
pub(super) struct Wave {
    pub(super) taken: usize,
    pub(super) depth: usize,
}

impl Ring {
    pub(super) fn new() -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no io_uring"))
    }

    pub(super) fn read(&mut self, _wanted: &mut [Wanted<'_, '_>]) -> io::Result<Wave> {
        Ok(Wave { taken: 0, depth: 0 })
    }
}
