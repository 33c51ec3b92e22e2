//! The memory of the pretended device.

use super::failed;
use hedgerow_hasher_api::HashError;
use hedgerow_types::Digest;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// Bytes that several own: a buffer may be dropped before the work that uses it.
#[derive(Clone, Debug)]
pub(super) struct Memory(Arc<Mutex<Vec<u8>>>);

/// Bytes that nobody could mean.
pub(super) fn noise(len: u64) -> Vec<u8> {
    static NOISE: AtomicU64 = AtomicU64::new(0x9E37_79B9_7F4A_7C15);
    let mut word = NOISE.fetch_add(0xD129_0D3B_3F1D_A0A5, Ordering::Relaxed) | 1;
    let mut bytes = Vec::with_capacity(len as usize + 8);
    while bytes.len() < len as usize {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(len as usize);
    bytes
}

impl Memory {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(bytes)))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn show(&self, read: &mut dyn FnMut(&[u8])) {
        read(&self.lock());
    }

    /// A kernel's read.
    pub(super) fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>, HashError> {
        let bytes = self.lock();
        let end = offset.saturating_add(len).min(usize::MAX as u64) as usize;
        let part = bytes.get(offset as usize..end);
        part.map(<[u8]>::to_vec).ok_or_else(|| failed("a kernel reads outside its buffer"))
    }

    /// A kernel's write.
    pub(super) fn write(&self, offset: u64, from: &[u8]) -> Result<(), HashError> {
        let mut bytes = self.lock();
        let end = (offset as usize).saturating_add(from.len());
        match bytes.get_mut(offset as usize..end) {
            Some(to) => to.copy_from_slice(from),
            None => return Err(failed("a kernel writes outside its buffer")),
        }
        Ok(())
    }

    pub(super) fn digest(&self, index: u64) -> Result<Digest, HashError> {
        let mut digest = Digest::ZERO;
        digest.0.copy_from_slice(&self.read(32 * index, 32)?);
        Ok(digest)
    }

    pub(super) fn set_digest(&self, index: u64, digest: &Digest) -> Result<(), HashError> {
        self.write(32 * index, &digest.0)
    }

    pub(super) fn word(&self, index: u64) -> Result<u32, HashError> {
        let mut word = [0; 4];
        word.copy_from_slice(&self.read(4 * index, 4)?);
        Ok(u32::from_le_bytes(word))
    }
}
