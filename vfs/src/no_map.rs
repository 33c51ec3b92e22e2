//! A system on which files are not mapped, and are read by calls: all but Linux with 64 bits, since elsewhere nothing says
//! whether the bytes can be had before they are looked at; and Miri, which has no files in memory.

use std::fs::File;

pub(crate) const AVAILABLE: bool = false;

/// There is none.
#[derive(Debug)]
pub(crate) enum Mapping {}

impl Mapping {
    pub(crate) fn new(_file: &File, _len: u64) -> Option<Self> {
        None
    }

    pub(crate) fn len(&self) -> usize {
        match *self {}
    }

    pub(crate) fn read(&self, _file: &File, _buf: &mut [u8], _offset: u64) -> bool {
        match *self {}
    }

    pub(crate) fn fetch(&self, _offset: u64, _len: usize) {
        match *self {}
    }
}
