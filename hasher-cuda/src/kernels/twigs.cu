// The left trees of whole twigs: one block of 256 threads reduces the 2048 leaves of a twig.
//
//   step   level   threads   from                      to
//   0-6    0,0,1,0,0,1,2     256       its own 8 leaves, stack   stack: the thread's node of level 3
//   7      3       128       shared, all 256 nodes     the other half of shared
//   ..     ..      ..        ..                        ..
//   14     10      1         shared, 2 nodes           the root
//
// The first three levels need no other thread: a post-order walk over 8 leaves with three digests in
// registers. Above, the levels go back and forth between two regions of shared memory (12 KiB), so
// that one barrier per level is enough. The node function is inlined once: its code is large.
//
// With `inner` every node goes out too: levels 1 to 11 of a twig one after the other, 2047 digests.

#define TWIG_LEAVES 2048
#define TWIG_INNER 2047
#define TWIG_THREADS 256

// Where level `level` begins among the inner nodes of a twig.
__device__ __forceinline__ u32 inner_offset(u32 level) {
    return TWIG_LEAVES - (TWIG_LEAVES >> (level - 1));
}

// Three blocks per processor leave 80 registers per thread; four would make it spill.
extern "C" __global__ void __launch_bounds__(TWIG_THREADS, 3)
    twigs(const Digest *__restrict__ leaves, Digest *__restrict__ roots, Digest *__restrict__ inner) {
    __shared__ Digest even[TWIG_THREADS / 2];
    __shared__ Digest odd[TWIG_THREADS];
    const u32 thread = threadIdx.x;
    const u64 twig = blockIdx.x;
    const Digest *own = leaves + TWIG_LEAVES * twig + 8 * thread;

    Digest left, right;
    // The stack: `top` and two below it.
    Digest top = {}, second = {}, third = {};
    // How many nodes of levels 1, 2 and 3 this thread has made, one byte each.
    u32 made = 0;
#pragma unroll 1
    for (u32 step = 0; step < 15; step++) {
        u32 level, index;
        bool active = true;
        if (step < 7) {
            // Post-order over 8 leaves: two leaves' parents, then theirs.
            level = (0x2100100 >> (4 * step)) & 0xf;
            const u32 nth = (made >> (8 * level)) & 0xff;
            made += 1 << (8 * level);
            index = (4 >> level) * thread + nth;
            if (level == 0) {
                left = own[2 * nth];
                right = own[2 * nth + 1];
            } else {
                left = second;
                right = top;
            }
        } else {
            level = step - 4;
            index = thread;
            active = thread < ((TWIG_LEAVES / 2) >> level);
            __syncthreads();
            if (active) {
                const Digest *below = level % 2 == 0 ? even : odd;
                left = below[2 * thread];
                right = below[2 * thread + 1];
            }
        }
        if (active) {
            const Digest parent = node(level, left, right);
            if (level == 0) {
                third = second;
                second = top;
            } else {
                second = third;
            }
            top = parent;
            if (inner) {
                inner[TWIG_INNER * twig + inner_offset(level + 1) + index] = parent;
            }
            if (step >= 6) {
                Digest *above = level % 2 == 0 ? odd : even;
                above[thread] = parent;
            }
        }
    }
    if (thread == 0) {
        roots[twig] = top;
    }
}
