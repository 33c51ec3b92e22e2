// Moving digests about inside the device: two threads per digest, 16 bytes each.

extern "C" __global__ void __launch_bounds__(256)
    scatter(const uint4 *__restrict__ digests, const u32 *__restrict__ places, u32 count,
            uint4 *__restrict__ out) {
    const u64 i = thread_number();
    if (i / 2 < count) {
        out[2 * (u64)places[i / 2] + i % 2] = digests[i];
    }
}

extern "C" __global__ void __launch_bounds__(256)
    gather(const uint4 *__restrict__ digests, const u32 *__restrict__ places, u32 count,
           uint4 *__restrict__ out) {
    const u64 i = thread_number();
    if (i / 2 < count) {
        out[i] = digests[2 * (u64)places[i / 2] + i % 2];
    }
}

// Bits of a bitmap change: flips[i] = (word, mask), no word twice.
extern "C" __global__ void __launch_bounds__(256)
    flip(const uint2 *__restrict__ flips, u32 count, u32 *__restrict__ out) {
    const u64 i = thread_number();
    if (i < count) {
        out[flips[i].x] ^= flips[i].y;
    }
}
