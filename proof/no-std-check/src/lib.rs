//! The verifier as a light client without an operating system would link it: see `Cargo.toml`.
#![no_std]

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;
use hedgerow_proof::verify;

/// Refuses every allocation: verifying needs none.
struct NoMemory;

// SAFETY: a null pointer is how an allocator says that it has no memory, so `alloc` never hands out
// any and `dealloc` is never reached with a pointer of ours.
unsafe impl GlobalAlloc for NoMemory {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static NO_MEMORY: NoMemory = NoMemory;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

/// Proof bytes in, verdict out: 1 present, 0 absent, -1 not proved.
///
/// # Safety
/// Each pointer must be readable for its length: 32 bytes, `key_len`, `proof_len`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hedgerow_verify(
    root: *const u8,
    key: *const u8,
    key_len: usize,
    proof: *const u8,
    proof_len: usize,
) -> i32 {
    // SAFETY: the caller's promise, word for word.
    let (root, key, proof) = unsafe {
        (
            *root.cast::<[u8; 32]>(),
            core::slice::from_raw_parts(key, key_len),
            core::slice::from_raw_parts(proof, proof_len),
        )
    };
    match verify(&root.into(), key, proof) {
        Ok(Some(_)) => 1,
        Ok(None) => 0,
        Err(_) => -1,
    }
}
