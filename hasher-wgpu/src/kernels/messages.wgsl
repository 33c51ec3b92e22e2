// Messages of any length: out[i] = SHA-256 of `spans[i]` of `bytes`. One lane hashes one message;
// neighbours have equally many blocks, so lanes end together.
//
//  words   0 .. full-1   full                          ..   last two of the last block
//          message       rest of the message, 0x80     0    length in bits

struct Parameters {
    count: u32,
}

var<immediate> parameters: Parameters;
@group(0) @binding(0) var<storage, read> bytes: array<u32>;
@group(0) @binding(1) var<storage, read> spans: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<u32>>;

// Four words of a block that lies wholly inside the message.
fn inside(at: u32) -> vec4<u32> {
    return swap(vec4(bytes[at], bytes[at + 1u], bytes[at + 2u], bytes[at + 3u]));
}

// Word `i` of the padded message, without its length.
fn padded(first: u32, len: u32, i: u32) -> u32 {
    let full = len >> 2u;
    if i > full {
        return 0u;
    }
    let rest = 8u * (len & 3u);
    var word = 0u;
    if i < full || rest > 0u {
        word = swap(vec4(bytes[first + i])).x;
    }
    if i == full {
        // What follows the message is nobody's.
        let mark = 0x80000000u >> rest;
        word = (word & ~(mark | (mark - 1u))) | mark;
    }
    return word;
}

// Four words of a block that has some padding.
fn around(first: u32, len: u32, i: u32) -> vec4<u32> {
    return vec4(
        padded(first, len, i),
        padded(first, len, i + 1u),
        padded(first, len, i + 2u),
        padded(first, len, i + 3u),
    );
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i >= parameters.count {
        return;
    }
    let first = spans[i].x;
    let len = spans[i].y;
    // The message, the end mark and 8 bytes of length.
    let blocks = (len >> 6u) + select(1u, 2u, (len & 63u) >= 56u);
    var hash = INITIAL;
    for (var block = 0u; block < blocks; block++) {
        let at = 16u * block;
        var w: array<vec4<u32>, 4>;
        if 64u * (block + 1u) <= len {
            w[0] = inside(first + at);
            w[1] = inside(first + at + 4u);
            w[2] = inside(first + at + 8u);
            w[3] = inside(first + at + 12u);
        } else {
            w[0] = around(first, len, at);
            w[1] = around(first, len, at + 4u);
            w[2] = around(first, len, at + 8u);
            w[3] = around(first, len, at + 12u);
        }
        if block + 1u == blocks {
            w[3].z = len >> 29u;
            w[3].w = len << 3u;
        }
        hash = compress(
            hash,
            w[0].x, w[0].y, w[0].z, w[0].w,
            w[1].x, w[1].y, w[1].z, w[1].w,
            w[2].x, w[2].y, w[2].z, w[2].w,
            w[3].x, w[3].y, w[3].z, w[3].w,
        );
    }
    out[2u * i] = swap(hash.a);
    out[2u * i + 1u] = swap(hash.b);
}
