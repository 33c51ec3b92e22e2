// Parents of chosen nodes of one level, one thread each.
//
//   children   a b c d e f g h ...       p = places[i], or first + i where there is no list
//                      └┬┘               out[stride p + offset] = node(level, children[2p], children[2p + 1])
//   out                 p                stride and offset let a level lie inside wider records
extern "C" __global__ void __launch_bounds__(128)
    nodes(u32 level, const Digest *__restrict__ children, const u32 *__restrict__ places, u32 first,
          u32 count, Digest *__restrict__ out, u32 stride, u32 offset) {
    const u64 i = thread_number();
    if (i >= count) {
        return;
    }
    const u64 p = places ? (u64)places[i] : (u64)first + i;
    out[stride * p + offset] = node(level, children[2 * p], children[2 * p + 1]);
}
