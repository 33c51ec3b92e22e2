// SHA-256 (FIPS 180-4) for the kernels beside this file, which are compiled with it as one program.
//
// Everything is unrolled: 16 schedule words and 8 state words in registers, every constant an
// immediate. A digest lies in memory as the bytes of the hash, so its eight words are read
// little-endian and turned around with one byte permutation each.
//
// Compiled by NVRTC, which has no headers: no #include.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

// 32 bytes as they lie in memory: always at a multiple of 32 from the start of a buffer.
struct __align__(16) Digest {
    uint4 a, b;
};

// FIPS 180-4, 4.1.2.
#define ROTATE_RIGHT(x, n) (((x) >> (n)) | ((x) << (32 - (n))))
#define CH(x, y, z) (((x) & (y)) ^ (~(x) & (z)))
#define MAJ(x, y, z) (((x) & (y)) ^ ((x) & (z)) ^ ((y) & (z)))
#define BIG_SIGMA_0(x) (ROTATE_RIGHT(x, 2) ^ ROTATE_RIGHT(x, 13) ^ ROTATE_RIGHT(x, 22))
#define BIG_SIGMA_1(x) (ROTATE_RIGHT(x, 6) ^ ROTATE_RIGHT(x, 11) ^ ROTATE_RIGHT(x, 25))
#define SMALL_SIGMA_0(x) (ROTATE_RIGHT(x, 7) ^ ROTATE_RIGHT(x, 18) ^ ((x) >> 3))
#define SMALL_SIGMA_1(x) (ROTATE_RIGHT(x, 17) ^ ROTATE_RIGHT(x, 19) ^ ((x) >> 10))

// FIPS 180-4, 5.3.3.
__device__ __forceinline__ void initial(u32 (&state)[8]) {
    state[0] = 0x6a09e667;
    state[1] = 0xbb67ae85;
    state[2] = 0x3c6ef372;
    state[3] = 0xa54ff53a;
    state[4] = 0x510e527f;
    state[5] = 0x9b05688c;
    state[6] = 0x1f83d9ab;
    state[7] = 0x5be0cd19;
}

// One block (FIPS 180-4, 6.2.2). `w` holds the block's words and is used up.
__device__ __forceinline__ void compress(u32 (&state)[8], u32 (&w)[16]) {
    // FIPS 180-4, 4.2.2.
    const u32 k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
    };
    u32 a = state[0], b = state[1], c = state[2], d = state[3];
    u32 e = state[4], f = state[5], g = state[6], h = state[7];
#pragma unroll
    for (int t = 0; t < 64; t++) {
        if (t >= 16) {
            w[t % 16] += SMALL_SIGMA_1(w[(t - 2) % 16]) + w[(t - 7) % 16] + SMALL_SIGMA_0(w[(t - 15) % 16]);
        }
        const u32 t1 = h + BIG_SIGMA_1(e) + CH(e, f, g) + k[t] + w[t % 16];
        const u32 t2 = BIG_SIGMA_0(a) + MAJ(a, b, c);
        h = g;
        g = f;
        f = e;
        e = d + t1;
        d = c;
        c = b;
        b = a;
        a = t1 + t2;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
}

__device__ __forceinline__ u32 byte_swap(u32 x) {
    return __byte_perm(x, 0, 0x0123);
}

__device__ __forceinline__ Digest to_digest(const u32 (&s)[8]) {
    Digest d;
    d.a = make_uint4(byte_swap(s[0]), byte_swap(s[1]), byte_swap(s[2]), byte_swap(s[3]));
    d.b = make_uint4(byte_swap(s[4]), byte_swap(s[5]), byte_swap(s[6]), byte_swap(s[7]));
    return d;
}

// The parent of two nodes of level `level`: SHA-256 of level ‖ left ‖ right, 65 bytes, two blocks.
//
//   block 1   level l0 l1 l2 | l3 l4 l5 l6 | ... | r27 r28 r29 r30      every word spans two of the input
//   block 2   r31 80 00 00 | 0 ... 0 | 520                              one word that is not constant
__device__ __forceinline__ Digest node(u32 level, const Digest &left, const Digest &right) {
    const u32 x[16] = {
        left.a.x,  left.a.y,  left.a.z,  left.a.w,  left.b.x,  left.b.y,  left.b.z,  left.b.w,
        right.a.x, right.a.y, right.a.z, right.a.w, right.b.x, right.b.y, right.b.z, right.b.w,
    };
    u32 state[8], w[16];
    initial(state);
    // The last byte of the word before, then the first three of this one.
    w[0] = __byte_perm(x[0], level << 24, 0x7012);
#pragma unroll
    for (int i = 1; i < 16; i++) {
        w[i] = __byte_perm(x[i], x[i - 1], 0x7012);
    }
    compress(state, w);
    w[0] = (x[15] & 0xff000000) | 0x00800000;
#pragma unroll
    for (int i = 1; i < 15; i++) {
        w[i] = 0;
    }
    w[15] = 8 * 65;
    compress(state, w);
    return to_digest(state);
}

// This thread's number among all of the launch.
__device__ __forceinline__ u64 thread_number() {
    return (u64)blockIdx.x * blockDim.x + threadIdx.x;
}
