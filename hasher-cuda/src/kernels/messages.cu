// SHA-256 of messages of any length, one thread each; the padding is made here.
//
//   bytes    ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓?? ▓▓▓▓▓▓▓?   spans[i] = (offset in words, length in bytes)
//            └ message i ┘                      ?: what follows a message in its last word means nothing
//
// Neighbours have equally many blocks, so that no thread of a warp waits for another.

// The word of a padded message at byte `at`, which is not wholly inside the message.
__device__ __forceinline__ u32 padding(const u32 *__restrict__ message, u32 len, u64 at) {
    if (at > len) {
        return 0;
    }
    const u32 tail = len - (u32)at;
    if (tail == 0) {
        return 0x80000000;
    }
    // 1 to 3 bytes of the message, then the bit that ends it.
    const u32 word = byte_swap(message[at / 4]) >> (32 - 8 * tail);
    return ((word << 8) | 0x80) << (24 - 8 * tail);
}

extern "C" __global__ void __launch_bounds__(128)
    messages(const u32 *__restrict__ bytes, const uint2 *__restrict__ spans, u32 count,
             Digest *__restrict__ out) {
    const u64 i = thread_number();
    if (i >= count) {
        return;
    }
    const uint2 span = spans[i];
    const u32 *message = bytes + span.x;
    const u32 len = span.y;
    // The message, the bit, and 8 bytes for the length.
    const u32 blocks = len / 64 + (len % 64 >= 56 ? 2 : 1);
    u32 state[8], w[16];
    initial(state);
#pragma unroll 1
    for (u32 block = 0; block < blocks; block++) {
        const u64 start = (u64)block * 64;
        if (start + 64 <= len) {
#pragma unroll
            for (int j = 0; j < 16; j++) {
                w[j] = byte_swap(message[start / 4 + j]);
            }
        } else {
#pragma unroll
            for (int j = 0; j < 16; j++) {
                const u64 at = start + 4 * j;
                w[j] = at + 4 <= len ? byte_swap(message[at / 4]) : padding(message, len, at);
            }
            if (block + 1 == blocks) {
                w[14] = len >> 29;
                w[15] = len << 3;
            }
        }
        compress(state, w);
    }
    out[i] = to_digest(state);
}
