//! hashtree-rs: what its crate offers, and one function of its C library that it does not.
//!
//! Left to itself it takes SHA-NI wherever there is SHA-NI. Its kernel for AVX-512, which is faster
//! on large batches, can be had in C only, so it is shown beside and not counted as the crate's.

/// Hashes messages of 64 bytes, as many as there are digests.
pub(crate) type Hash = fn(&[[u8; 64]], &mut [[u8; 32]]);

/// As the crate does by itself.
pub(crate) fn hash(messages: &[[u8; 64]], out: &mut [[u8; 32]]) {
    let count = messages.len().min(out.len());
    hashtree_rs::hash(out.as_flattened_mut(), messages.as_flattened(), count);
}

/// With its kernel of 16 lanes; `None` without AVX-512.
#[cfg(target_arch = "x86_64")]
pub(crate) fn avx512() -> Option<Hash> {
    unsafe extern "C" {
        fn hashtree_sha256_avx512_x16(output: *mut u8, input: *const u8, count: u64);
    }
    let detected = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw");
    detected.then_some(|messages, out| {
        let count = messages.len().min(out.len());
        // SAFETY: the function reads 64 and writes 32 bytes `count` times, and there are as many.
        // It was handed out on a CPU with the instructions that it asks for.
        unsafe {
            hashtree_sha256_avx512_x16(
                out.as_mut_ptr().cast(),
                messages.as_ptr().cast(),
                count as u64,
            );
        }
    })
}

/// With its kernel of 16 lanes; `None` without AVX-512.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn avx512() -> Option<Hash> {
    None
}
